//! Amounts as people write them: 70e9, 70B, 2T, 1.1b, 350M, 2_000_000.

/// What an amount looks like, for messages.
pub const FORMS: &str = "a number of 0 or more, such as 70e9, 70B, 2T or 350M";

/// The number that `text` is: digits, with an exponent or one of K, M, B (or G) and T for thousands,
/// millions, billions (10^9) and trillions (10^12).
///
/// # Errors
/// What was expected, where it is no finite number of zero or more.
pub fn parse(text: &str) -> Result<f64, String> {
    let text = text.trim();
    let (number, factor) = match text.char_indices().next_back() {
        Some((at, 'k' | 'K')) => (&text[..at], 1e3),
        Some((at, 'm' | 'M')) => (&text[..at], 1e6),
        Some((at, 'b' | 'B' | 'g' | 'G')) => (&text[..at], 1e9),
        Some((at, 't' | 'T')) => (&text[..at], 1e12),
        _ => (text, 1.0),
    };
    let plain: String = number.trim().chars().filter(|c| !matches!(c, '_' | ',')).collect();
    let starts_well = plain.starts_with(|c: char| c.is_ascii_digit() || c == '.');
    let number = plain.parse::<f64>().ok().filter(|_| starts_well).map(|number| number * factor);
    number
        .filter(|number| number.is_finite())
        .ok_or_else(|| format!("expected {FORMS}, got {text:?}"))
}

/// An amount for people, with three figures: `70 B`, `1.13 M`, `512`.
pub fn shown(number: f64) -> String {
    let units = [(1e12, " T"), (1e9, " B"), (1e6, " M"), (1e3, " K")];
    // The next unit begins where three figures would round to 1,000.
    let unit = units.into_iter().find(|(size, _)| number >= size * 0.9995);
    let (size, name) = unit.unwrap_or((1.0, ""));
    format!("{}{name}", figures(number / size, 3))
}

/// Bytes for people, in powers of 1000, with three figures: `140 GB`.
pub fn bytes(number: f64) -> String {
    prefixed(number, "B")
}

/// An amount of a unit for people, with three figures and the prefix of a power of 1000:
/// `312 TFLOP/s`.
pub fn prefixed(number: f64, unit: &str) -> String {
    let prefixes = [(1e18, "E"), (1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")];
    let prefix = prefixes.into_iter().find(|(size, _)| number >= size * 0.9995);
    let (size, name) = prefix.unwrap_or((1.0, ""));
    format!("{} {name}{unit}", figures(number / size, 3))
}

/// A number with so many significant figures, without zeros at the end of a fraction and with
/// commas between thousands.
pub fn figures(number: f64, figures: i32) -> String {
    if number == 0.0 || !number.is_finite() {
        return number.to_string();
    }
    let before = number.abs().log10().floor() as i32 + 1;
    let decimals = (figures - before).max(0) as usize;
    let text = format!("{number:.decimals$}");
    let (whole, fraction) = text.split_once('.').unwrap_or((&text, ""));
    let fraction = fraction.trim_end_matches('0');
    let mut grouped = String::new();
    for (at, digit) in whole.char_indices() {
        if at > 0 && (whole.len() - at).is_multiple_of(3) && !grouped.ends_with('-') {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    if fraction.is_empty() { grouped } else { format!("{grouped}.{fraction}") }
}

/// A time for people: `3.2 s`, `12 min`, `5.5 h`, `12 days`.
pub fn duration(seconds: f64) -> String {
    match seconds {
        s if s < 100.0 => format!("{} s", figures(s, 2)),
        s if s < 6000.0 => format!("{} min", figures(s / 60.0, 2)),
        s if s < 48.0 * 3600.0 => format!("{} h", figures(s / 3600.0, 2)),
        s => format!("{} days", figures(s / 86_400.0, 2)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_as_people_write_them() {
        for (text, expected) in [
            ("70e9", Some(70e9)),
            ("70B", Some(70e9)),
            ("1.1b", Some(1.1e9)),
            ("2T", Some(2e12)),
            ("2.0e12", Some(2e12)),
            ("350 M", Some(350e6)),
            ("10k", Some(1e4)),
            ("2_000_000", Some(2e6)),
            ("6,000", Some(6e3)),
            (".5", Some(0.5)),
            ("", None),
            ("B", None),
            ("-3", None),
            ("nan", None),
            ("infinity", None),
            ("1e999", None),
            ("3 apples", None),
            ("€5", None),
        ] {
            assert_eq!(parse(text).ok(), expected, "{text}");
        }
    }

    #[test]
    fn amounts_for_people() {
        for (number, expected) in
            [(70e9, "70 B"), (1.126e6, "1.13 M"), (512.0, "512"), (999_600.0, "1 M"), (0.0, "0")]
        {
            assert_eq!(shown(number), expected);
        }
        for (number, expected) in [(140e9, "140 GB"), (1e13, "10 TB"), (1536.0, "1.54 kB")] {
            assert_eq!(bytes(number), expected);
        }
        assert_eq!(prefixed(312e12, "FLOP/s"), "312 TFLOP/s");
        for (number, expected) in
            [(1_739_487.3, "1,739,487"), (0.4328, "0.433"), (-12_345.0, "-12,345"), (12.08, "12.1")]
        {
            assert_eq!(figures(number, 3), expected);
        }
        for (seconds, expected) in
            [(3.24, "3.2 s"), (770.0, "13 min"), (19_800.0, "5.5 h"), (1_043_700.0, "12 days")]
        {
            assert_eq!(duration(seconds), expected);
        }
    }
}
