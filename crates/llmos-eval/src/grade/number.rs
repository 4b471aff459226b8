//! Decimal numbers of any length, compared exactly.

/// A decimal number: digits without a point, of which the last `scale` stand behind it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Decimal {
    is_negative: bool,
    /// 0 to 9 each, the most significant first, without zeros before them.
    digits: Vec<u8>,
    /// Digits behind the point; the last of them is no zero.
    scale: usize,
}

impl Decimal {
    /// Reads `12`, `-1,692.50`, `.5`: whatever stands there besides a sign, digits, commas and one
    /// point makes it none.
    pub(super) fn read(text: &str) -> Option<Decimal> {
        let text = text.replace(',', "");
        let (is_negative, text) = match text.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, text.strip_prefix('+').unwrap_or(&text)),
        };
        let (whole, part) = text.split_once('.').unwrap_or((text, ""));
        let is_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        if !is_digits(whole) || !is_digits(part) || whole.len() + part.len() == 0 {
            return None;
        }
        let part = part.trim_end_matches('0');
        let whole = whole.trim_start_matches('0');
        let digits: Vec<u8> = whole.bytes().chain(part.bytes()).map(|byte| byte - b'0').collect();
        let zeros = digits.iter().take_while(|&&digit| digit == 0).count();
        let digits = digits[zeros..].to_vec();
        // There is one zero.
        Some(Decimal { is_negative: is_negative && !digits.is_empty(), digits, scale: part.len() })
    }

    /// Whether both are within a millionth of each other.
    pub(super) fn is_near(&self, other: &Decimal) -> bool {
        let scale = self.scale.max(other.scale).max(6);
        let (a, b) = (self.at_scale(scale), other.at_scale(scale));
        let apart = match self.is_negative == other.is_negative {
            true => difference(&a, &b),
            false => sum(&a, &b),
        };
        let zeros = apart.iter().take_while(|&&digit| digit == 0).count();
        // A millionth is a one with so many zeros.
        let (apart, places) = (&apart[zeros..], scale - 6 + 1);
        apart.len() < places
            || apart.len() == places && apart[0] == 1 && apart[1..].iter().all(|&digit| digit == 0)
    }

    /// The digits with `scale` of them behind the point.
    fn at_scale(&self, scale: usize) -> Vec<u8> {
        let mut digits = self.digits.clone();
        digits.resize(digits.len() + scale - self.scale, 0);
        digits
    }
}

/// Both with as many digits.
fn aligned(a: &[u8], b: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let n = a.len().max(b.len()) + 1;
    let padded = |digits: &[u8]| [vec![0; n - digits.len()], digits.to_vec()].concat();
    (padded(a), padded(b))
}

fn sum(a: &[u8], b: &[u8]) -> Vec<u8> {
    let (mut a, b) = aligned(a, b);
    let mut carry = 0;
    for (a, b) in a.iter_mut().zip(&b).rev() {
        let digit = *a + b + carry;
        (*a, carry) = (digit % 10, digit / 10);
    }
    a
}

/// Without its sign.
fn difference(a: &[u8], b: &[u8]) -> Vec<u8> {
    let (a, b) = aligned(a, b);
    let (mut large, small) = if a >= b { (a, b) } else { (b, a) };
    let mut borrow = 0;
    for (a, b) in large.iter_mut().zip(&small).rev() {
        let digit = 10 + *a - b - borrow;
        (*a, borrow) = (digit % 10, 1 - digit / 10);
    }
    large
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_equal_by_value_and_near_within_a_millionth() {
        let read = |text: &str| Decimal::read(text).unwrap();
        for (a, b) in
            [("12", "12.00"), ("0.5", ".50"), ("-0", "0"), ("1,692", "01692"), ("+3", "3")]
        {
            assert_eq!(read(a), read(b));
        }
        for (a, b) in [("0.05", "0.5"), ("10", "1"), ("-3", "3"), ("100", "1.00")] {
            assert_ne!(read(a), read(b));
        }
        for (a, b, near) in [
            ("84", "84.000001", true),
            ("84", "84.0000010000000000000000001", false),
            ("83.999999", "84", true),
            ("-0.0000005", "0.0000005", true),
            ("-0.0000006", "0.0000005", false),
            (
                "100000000000000000000000000000000000000",
                "99999999999999999999999999999999999999",
                false,
            ),
        ] {
            assert_eq!(read(a).is_near(&read(b)), near, "{a} {b}");
        }
        for text in ["", ".", "-", "1.2.3", "1e5", "1/2", "５", "--1"] {
            assert_eq!(Decimal::read(text), None, "{text}");
        }
    }
}
