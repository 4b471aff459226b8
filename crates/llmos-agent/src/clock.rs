//! A clock for models: the local time in words.

use llmos_tokenizer::chat::strftime;

/// What the tool answers: `Friday, 27 November 2026, 10:39`. `seconds` is the local time as seconds
/// since 1970-01-01 00:00: this crate has no clock.
pub fn reply(seconds: i64) -> String {
    strftime("%A, %-d %B %Y, %H:%M", seconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each expected text is what GNU `date -u -d @SECONDS '+%A, %-d %B %Y, %H:%M'` prints.
    #[test]
    fn as_date_prints() {
        for (seconds, expected) in [
            (0, "Thursday, 1 January 1970, 00:00"),
            (951_782_399, "Monday, 28 February 2000, 23:59"),
            (1_795_775_940, "Friday, 27 November 2026, 10:39"),
            (-1, "Wednesday, 31 December 1969, 23:59"),
        ] {
            assert_eq!(reply(seconds), expected, "{seconds}");
        }
    }
}
