//! Points in time as RFC 3339 writes them.

use std::time::{Duration, SystemTime};

/// Since 1970.
pub(super) fn since_epoch() -> Duration {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
}

/// `2026-11-27T20:05:09Z`, of seconds since 1970.
pub(super) fn rfc3339(seconds: u64) -> String {
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    let (year, month, day) = civil(days);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

/// The same with nanoseconds, as Ollama writes it.
pub(super) fn precise(since: Duration) -> String {
    let whole = rfc3339(since.as_secs());
    format!("{}.{:09}Z", whole.trim_end_matches('Z'), since.subsec_nanos())
}

/// Year, month and day of a day since 1970 in the Gregorian calendar, whose cycle is 400 years; years
/// are counted from March, so that a leap day is the last of its year (Hinnant, "chrono-Compatible
/// Low-Level Date Algorithms").
fn civil(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let (cycle, of_cycle) = (days / 146_097, days % 146_097);
    let leaps = of_cycle / 1460 - of_cycle / 36_524 + of_cycle / 146_096;
    let year = (of_cycle - leaps) / 365;
    let of_year = of_cycle - (365 * year + year / 4 - year / 100);
    let from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    (cycle * 400 + year + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_those_of_date() {
        // `date -u -d @SECONDS +%FT%TZ`
        for (seconds, expected) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_795_775_940, "2026-11-27T10:39:00Z"),
            (4_107_542_399, "2100-02-28T23:59:59Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
        ] {
            assert_eq!(rfc3339(seconds), expected);
        }
        assert_eq!(precise(Duration::new(0, 5)), "1970-01-01T00:00:00.000000005Z");
    }
}
