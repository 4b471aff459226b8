//! What the clock tool answers, at a time that is drawn.

use llmos_tokenizer::chat::strftime;

use super::draw::Draw;

const CHINESE_WEEKDAYS: [&str; 7] = ["一", "二", "三", "四", "五", "六", "日"];

/// A minute of a day.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Moment {
    /// Days since Monday, 1 January 2024.
    day: u32,
    hour: u32,
    minute: u32,
}

/// The beginning of the first day, in seconds since 1970-01-01 00:00.
const FIRST_DAY: i64 = 1_704_067_200;

/// Years that are drawn from, the first of which begins on a Monday.
const YEARS: std::ops::Range<u32> = 2024..2036;

impl Moment {
    /// A moment whose hour is one of these.
    pub(super) fn draw(hours: (u32, u32), draw: &mut Draw) -> Moment {
        let days: u32 = YEARS.map(days_in_year).sum();
        let hour = hours.0 + draw.below((hours.1 - hours.0 + 1) as usize) as u32;
        Moment { day: draw.below(days as usize) as u32, hour, minute: draw.below(60) as u32 }
    }

    fn after(self, days: u32) -> Moment {
        Moment { day: self.day + days, ..self }
    }

    /// By a format of `strftime`.
    fn said(self, format: &str) -> String {
        strftime(format, self.seconds())
    }

    /// Year, month from 1, day from 1.
    fn date(self) -> (u32, u32, u32) {
        let number = |format| self.said(format).parse().unwrap_or_default();
        (number("%Y"), number("%-m"), number("%-d"))
    }

    /// From Monday, 0.
    fn weekday(self) -> usize {
        (self.day % 7) as usize
    }

    /// Since 1970-01-01 00:00.
    fn seconds(self) -> i64 {
        let minutes = (i64::from(self.day) * 24 + i64::from(self.hour)) * 60;
        FIRST_DAY + (minutes + i64::from(self.minute)) * 60
    }

    /// What the tool answers: `Friday, 27 November 2026, 10:39`.
    pub(super) fn reply(self) -> String {
        llmos_agent::clock::reply(self.seconds())
    }

    /// Names and texts that sentences about this moment are made of.
    pub(super) fn words(self, is_chinese: bool) -> Vec<(&'static str, String)> {
        let (year, month, day) = self.date();
        let weekday = |days: u32| {
            let day = self.after(days);
            match is_chinese {
                true => format!("星期{}", CHINESE_WEEKDAYS[day.weekday()]),
                false => day.said("%A"),
            }
        };
        let month_name = match is_chinese {
            true => format!("{month}月"),
            false => self.said("%B"),
        };
        let date = match is_chinese {
            true => format!("{year}年{month}月{day}日"),
            false => format!("{day} {month_name} {year}"),
        };
        let is_free = self.weekday() >= 5;
        let part = match (self.hour, is_chinese) {
            (5..=11, false) => "morning",
            (12..=17, false) => "afternoon",
            (18..=21, false) => "evening",
            (_, false) => "night",
            (5..=11, true) => "上午",
            (12..=17, true) => "下午",
            (18..=21, true) => "晚上",
            (_, true) => "深夜",
        };
        let yes_or_no = match (is_free, is_chinese) {
            (true, false) => "Yes",
            (false, false) => "No",
            (true, true) => "是周末",
            (false, true) => "不是周末",
        };
        vec![
            ("time", self.said("%H:%M")),
            ("hour", self.hour.to_string()),
            ("minute", self.minute.to_string()),
            ("minutes", format!("{:02}", self.minute)),
            ("weekday", weekday(0)),
            ("tomorrow", weekday(1)),
            ("day_after", weekday(2)),
            ("yesterday", weekday(6)),
            ("day", day.to_string()),
            ("month", month_name),
            ("year", year.to_string()),
            ("date", date),
            ("month_days", days_in_month(year, month).to_string()),
            ("part", part.to_string()),
            ("weekend", yes_or_no.to_string()),
        ]
    }
}

fn is_leap(year: u32) -> bool {
    (year.is_multiple_of(4) && !year.is_multiple_of(100)) || year.is_multiple_of(400)
}

fn days_in_year(year: u32) -> u32 {
    365 + u32::from(is_leap(year))
}

fn days_in_month(year: u32, month: u32) -> u32 {
    match month {
        2 => 28 + u32::from(is_leap(year)),
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_have_their_dates() {
        let check = |day, expected: &str| {
            let moment = Moment { day, hour: 9, minute: 5 };
            assert_eq!(moment.reply(), expected);
        };
        check(0, "Monday, 1 January 2024, 09:05");
        check(59, "Thursday, 29 February 2024, 09:05");
        check(366, "Wednesday, 1 January 2025, 09:05");
        // The day of the example in the documentation of the tool, by a calendar.
        check(1061, "Friday, 27 November 2026, 09:05");
        check(4382, "Monday, 31 December 2035, 09:05");
    }

    #[test]
    fn drawn_moments_lie_in_the_years() {
        let mut draw = Draw::new(5, 5);
        for _ in 0..2000 {
            let moment = Moment::draw((6, 19), &mut draw);
            let (year, month, day) = moment.date();
            assert!(YEARS.contains(&year) && (1..=12).contains(&month), "{moment:?}");
            assert!((1..=days_in_month(year, month)).contains(&day), "{moment:?}");
            assert!((6..=19).contains(&moment.hour) && moment.minute < 60, "{moment:?}");
        }
    }
}
