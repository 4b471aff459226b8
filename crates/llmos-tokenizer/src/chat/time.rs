//! `strftime` in the C locale, over seconds since 1970-01-01 00:00 local time.

const DAYS: [&str; 7] =
    ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];
const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];

/// The calendar date of a day counted from 1970-01-01: year, month 1–12, day 1–31 (the algorithm of
/// Howard Hinnant's `civil_from_days`).
fn date(days: i64) -> (i64, usize, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month as usize, day_of_year - (153 * shifted + 2) / 5 + 1)
}

/// The time by a format of C's `strftime`, in the C locale; an unknown directive is written as it
/// stands. `seconds` is the local time as seconds since 1970-01-01 00:00.
pub fn strftime(format: &str, seconds: i64) -> String {
    // Some ten thousand years either way.
    let seconds = seconds.clamp(-300_000_000_000, 300_000_000_000);
    let (day, time) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    let (year, month, day_of_month) = date(day);
    let (hour, minute, second) = (time / 3600, time / 60 % 60, time % 60);
    let weekday = (day + 4).rem_euclid(7);
    let hour12 = (hour + 11) % 12 + 1;
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let before = [0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334][month - 1];
    let day_of_year = before + day_of_month + i64::from(leap && month > 2);
    let mut out = String::new();
    let mut rest = format.chars();
    while let Some(c) = rest.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        let (pad, directive) = match rest.next() {
            Some('-') => (false, rest.next()),
            directive => (true, directive),
        };
        let number = |value: i64, width: usize| {
            if pad { format!("{value:0width$}") } else { value.to_string() }
        };
        let recursive = |format: &str| strftime(format, seconds);
        let weekday_name = DAYS[weekday as usize];
        let month_name = MONTHS[month - 1];
        out.push_str(&match directive {
            Some('Y') => year.to_string(),
            Some('y') => number(year.rem_euclid(100), 2),
            Some('C') => number(year.div_euclid(100), 2),
            Some('m') => number(month as i64, 2),
            Some('d') => number(day_of_month, 2),
            Some('e') if pad => format!("{day_of_month:2}"),
            Some('e') => day_of_month.to_string(),
            Some('j') => number(day_of_year, 3),
            Some('H') => number(hour, 2),
            Some('I') => number(hour12, 2),
            Some('M') => number(minute, 2),
            Some('S') => number(second, 2),
            Some('p') => if hour < 12 { "AM" } else { "PM" }.to_owned(),
            Some('A') => weekday_name.to_owned(),
            Some('a') => weekday_name[..3].to_owned(),
            Some('B') => month_name.to_owned(),
            Some('b' | 'h') => month_name[..3].to_owned(),
            Some('w') => weekday.to_string(),
            Some('u') => (if weekday == 0 { 7 } else { weekday }).to_string(),
            Some('s') => seconds.to_string(),
            Some('F') => recursive("%Y-%m-%d"),
            Some('D' | 'x') => recursive("%m/%d/%y"),
            Some('T' | 'X') => recursive("%H:%M:%S"),
            Some('R') => recursive("%H:%M"),
            Some('r') => recursive("%I:%M:%S %p"),
            Some('c') => recursive("%a %b %e %H:%M:%S %Y"),
            Some('n') => "\n".to_owned(),
            Some('t') => "\t".to_owned(),
            Some('%') => "%".to_owned(),
            Some(other) => format!("%{other}"),
            None => "%".to_owned(),
        });
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each expected text is what GNU `date -u -d @SECONDS +FORMAT` prints.
    #[test]
    fn as_date_prints() {
        for (seconds, format, expected) in [
            (0, "%Y-%m-%d %H:%M:%S %a %j", "1970-01-01 00:00:00 Thu 001"),
            (1_700_000_000, "%A, %d %B %Y %I:%M %p", "Tuesday, 14 November 2023 10:13 PM"),
            (951_782_400, "%F %j %u", "2000-02-29 060 2"),
            (-86_400, "%c", "Wed Dec 31 00:00:00 1969"),
            (4_107_542_399, "%D %T %-d/%-m", "02/28/00 23:59:59 28/2"),
            (1_735_689_599, "%j%%%Q", "366%%Q"),
        ] {
            assert_eq!(strftime(format, seconds), expected, "{seconds}");
        }
    }
}
