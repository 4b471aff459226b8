//! Numbers in words.

/// A number below a million as one says it: `one hundred and five`.
pub(super) fn english(n: u64) -> String {
    const ONES: [&str; 20] = [
        "zero",
        "one",
        "two",
        "three",
        "four",
        "five",
        "six",
        "seven",
        "eight",
        "nine",
        "ten",
        "eleven",
        "twelve",
        "thirteen",
        "fourteen",
        "fifteen",
        "sixteen",
        "seventeen",
        "eighteen",
        "nineteen",
    ];
    const TENS: [&str; 10] =
        ["", "", "twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"];
    match n {
        0..20 => ONES[n as usize].to_string(),
        20..100 if n.is_multiple_of(10) => TENS[n as usize / 10].to_string(),
        20..100 => format!("{}-{}", TENS[n as usize / 10], ONES[n as usize % 10]),
        100..1000 => match n % 100 {
            0 => format!("{} hundred", ONES[n as usize / 100]),
            rest => format!("{} hundred and {}", ONES[n as usize / 100], english(rest)),
        },
        1000..1_000_000 => match n % 1000 {
            0 => format!("{} thousand", english(n / 1000)),
            rest @ 1..100 => format!("{} thousand and {}", english(n / 1000), english(rest)),
            rest => format!("{} thousand {}", english(n / 1000), english(rest)),
        },
        _ => n.to_string(),
    }
}

/// A number below a hundred million as one says it: `一百零五`, `两千三百`.
pub(super) fn chinese(n: u64) -> String {
    match n {
        0 => "零".to_string(),
        1..10_000 => below_ten_thousand(n),
        10_000..100_000_000 => {
            let (high, low) = (n / 10_000, n % 10_000);
            let high = if high == 2 { "两".to_string() } else { below_ten_thousand(high) };
            match low {
                0 => format!("{high}万"),
                1..1000 => format!("{high}万零{}", below_ten_thousand_inside(low)),
                _ => format!("{high}万{}", below_ten_thousand_inside(low)),
            }
        }
        _ => n.to_string(),
    }
}

/// A number before a measure word: 2 is 两 there.
pub(super) fn chinese_measured(n: u64) -> String {
    if n == 2 { "两".to_string() } else { chinese(n) }
}

const DIGITS: [&str; 10] = ["零", "一", "二", "三", "四", "五", "六", "七", "八", "九"];

/// 10 to 19 begin with 十 where nothing stands before them.
fn below_ten_thousand(n: u64) -> String {
    match n {
        10..20 => below_ten_thousand_inside(n).trim_start_matches('一').to_string(),
        _ => below_ten_thousand_inside(n),
    }
}

fn below_ten_thousand_inside(n: u64) -> String {
    let (mut text, mut is_gap) = (String::new(), false);
    for (unit, name) in [(1000, "千"), (100, "百"), (10, "十"), (1, "")] {
        let digit = (n / unit % 10) as usize;
        if digit == 0 {
            is_gap = !text.is_empty();
            continue;
        }
        if is_gap {
            text.push('零');
            is_gap = false;
        }
        // 两千 and 两百, but 二十 and 二.
        text.push_str(if digit == 2 && unit >= 100 { "两" } else { DIGITS[digit] });
        text.push_str(name);
    }
    text
}

/// A plain number with commas between groups of three digits before the point.
pub(super) fn grouped(text: &str) -> String {
    let (sign, digits) = text.strip_prefix('-').map_or(("", text), |digits| ("-", digits));
    let (whole, part) = digits.split_at(digits.find('.').unwrap_or(digits.len()));
    let mut grouped = String::from(sign);
    for (at, digit) in whole.char_indices() {
        if at > 0 && (whole.len() - at).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped + part
}

/// A plain number as a price: two decimals, or none where it is whole.
pub(super) fn price(text: &str) -> String {
    match text.split_once('.') {
        Some((_, decimals)) if decimals.len() == 1 => format!("{text}0"),
        Some((whole, "00")) => whole.to_string(),
        _ => text.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn english_words() {
        let check = |n, expected: &str| assert_eq!(english(n), expected);
        check(0, "zero");
        check(12, "twelve");
        check(40, "forty");
        check(99, "ninety-nine");
        check(100, "one hundred");
        check(105, "one hundred and five");
        check(2340, "two thousand three hundred and forty");
        check(7001, "seven thousand and one");
        check(120_000, "one hundred and twenty thousand");
    }

    #[test]
    fn chinese_words() {
        let check = |n, expected: &str| assert_eq!(chinese(n), expected);
        check(0, "零");
        check(2, "二");
        check(10, "十");
        check(12, "十二");
        check(20, "二十");
        check(105, "一百零五");
        check(112, "一百一十二");
        check(200, "两百");
        check(222, "两百二十二");
        check(1000, "一千");
        check(1005, "一千零五");
        check(1050, "一千零五十");
        check(2020, "两千零二十");
        check(10_000, "一万");
        check(20_012, "两万零一十二");
        check(120_000, "十二万");
        check(12_345_678, "一千两百三十四万五千六百七十八");
        assert_eq!(chinese_measured(2), "两");
        assert_eq!(chinese_measured(12), "十二");
    }

    #[test]
    fn groups_and_prices() {
        let check = |text, expected: &str| assert_eq!(grouped(text), expected);
        check("1", "1");
        check("999", "999");
        check("1692", "1,692");
        check("-1234567.25", "-1,234,567.25");
        assert_eq!(price("3.5"), "3.50");
        assert_eq!(price("3"), "3");
        assert_eq!(price("12.25"), "12.25");
        assert_eq!(price("4.00"), "4");
    }
}
