//! A calculator for models: one line of arithmetic in, one plain number out.
//!
//! Numbers are exact fractions as long as they fit 128 bits on both sides of the line, so that
//! `0.1 + 0.2` is `0.3`; what does not fit, and roots, are computed with doubles. The grammar and
//! the values are those of Python's, with `^` for its `**`: powers bind to the right and before a
//! sign, and `%` is the remainder with the sign of the divisor.

/// Bytes of an expression, at most.
pub const LONGEST: usize = 256;

/// Signs, powers and parentheses within each other, at most.
pub const DEEPEST: usize = 64;

/// Decimals of a result, at most; what is behind them is rounded, halves away from zero.
pub const DECIMALS: u32 = 6;

/// From here on doubles are no longer exact on whole numbers, and digits would be made up.
const LARGEST_NEAR: f64 = 9_007_199_254_740_992.0;

/// Why there is no result.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CalculatorError {
    /// The expression has more than [`LONGEST`] bytes.
    #[error("the expression is longer than {LONGEST} characters")]
    TooLong,
    /// It is nested more than [`DEEPEST`] deep.
    #[error("the expression is nested too deep")]
    TooDeep,
    /// A divisor is zero.
    #[error("division by zero")]
    DivisionByZero,
    /// A number has too many digits to be known exactly.
    #[error("the number is too large")]
    TooLarge,
    /// The root of a negative number.
    #[error("the root of a negative number is not a real number")]
    NotReal,
    /// Something else stands where a part of the expression belongs.
    #[error("expected {expected} at character {at}")]
    Unexpected {
        /// What belongs there.
        expected: &'static str,
        /// Where, counted in bytes from 1.
        at: usize,
    },
}

/// The value of an expression of digits, `+ - * / ( ) . ^ %` and spaces, as a plain decimal number:
/// whole numbers without a point, others with at most [`DECIMALS`] decimals and no zeros at their
/// end.
///
/// # Errors
/// See [`CalculatorError`].
pub fn calculate(expression: &str) -> Result<String, CalculatorError> {
    if expression.len() > LONGEST {
        return Err(CalculatorError::TooLong);
    }
    let mut reader = Reader { bytes: expression.as_bytes(), at: 0, depth: 0 };
    let number = reader.sum()?;
    match reader.peek() {
        None => number.to_text(),
        Some(_) => Err(reader.unexpected("an operator")),
    }
}

/// What the tool answers: the value, or `error: ` and the reason.
pub fn reply(expression: &str) -> String {
    calculate(expression).unwrap_or_else(|error| format!("error: {error}"))
}

/// A number: a fraction in lowest terms with a positive denominator, or a double near it.
#[derive(Clone, Copy, Debug)]
enum Number {
    Exact { over: i128, under: i128 },
    Near(f64),
}

use Number::{Exact, Near};

impl Number {
    const ONE: Number = Exact { over: 1, under: 1 };

    /// A fraction in lowest terms; `under` is not zero.
    fn fraction(over: i128, under: i128) -> Option<Number> {
        let divisor = i128::try_from(common_divisor(over.unsigned_abs(), under.unsigned_abs()));
        let divisor = divisor.ok()?.checked_mul(under.signum())?;
        // The lowest number has no opposite, so that it would be one that cannot be read back.
        if over == i128::MIN {
            return None;
        }
        Some(Exact { over: over.checked_div(divisor)?, under: under.checked_div(divisor)? })
    }

    fn near(self) -> f64 {
        match self {
            Exact { over, under } => over as f64 / under as f64,
            Near(value) => value,
        }
    }

    fn is_zero(self) -> bool {
        matches!(self, Exact { over: 0, .. } | Near(0.0))
    }

    fn negate(self) -> Number {
        match self {
            Exact { over, under } => {
                over.checked_neg().map_or(Near(-self.near()), |over| Exact { over, under })
            }
            Near(value) => Near(-value),
        }
    }

    fn plus(self, other: Number) -> Number {
        let exact = || {
            let (Exact { over: a, under: b }, Exact { over: c, under: d }) = (self, other) else {
                return None;
            };
            let over = a.checked_mul(d)?.checked_add(c.checked_mul(b)?)?;
            Number::fraction(over, b.checked_mul(d)?)
        };
        exact().unwrap_or_else(|| Near(self.near() + other.near()))
    }

    fn times(self, other: Number) -> Number {
        self.exact_times(other).unwrap_or_else(|| Near(self.near() * other.near()))
    }

    fn exact_times(self, other: Number) -> Option<Number> {
        let (Exact { over: a, under: b }, Exact { over: c, under: d }) = (self, other) else {
            return None;
        };
        Number::fraction(a.checked_mul(c)?, b.checked_mul(d)?)
    }

    fn divided(self, other: Number) -> Result<Number, CalculatorError> {
        if other.is_zero() {
            return Err(CalculatorError::DivisionByZero);
        }
        let exact = || {
            let (Exact { over: a, under: b }, Exact { over: c, under: d }) = (self, other) else {
                return None;
            };
            Number::fraction(a.checked_mul(d)?, b.checked_mul(c)?)
        };
        Ok(exact().unwrap_or_else(|| Near(self.near() / other.near())))
    }

    /// The remainder with the sign of the divisor.
    fn modulo(self, other: Number) -> Result<Number, CalculatorError> {
        let quotient = self.divided(other)?;
        let floor = match quotient {
            Exact { over, under } => Exact { over: over.div_euclid(under), under: 1 },
            Near(value) => Near(value.floor()),
        };
        Ok(self.plus(floor.times(other).negate()))
    }

    fn power(self, exponent: Number) -> Result<Number, CalculatorError> {
        if let Exact { over, under: 1 } = exponent {
            if over < 0 && self.is_zero() {
                return Err(CalculatorError::DivisionByZero);
            }
            let base = if over < 0 { Number::ONE.divided(self)? } else { self };
            let exact = base.exact_power(over.unsigned_abs());
            return Ok(exact.unwrap_or_else(|| Near(self.near().powf(exponent.near()))));
        }
        let (base, exponent) = (self.near(), exponent.near());
        if base < 0.0 {
            return Err(CalculatorError::NotReal);
        }
        if base == 0.0 && exponent < 0.0 {
            return Err(CalculatorError::DivisionByZero);
        }
        // A square root is the same on every machine; other roots are the mathematics library's.
        Ok(Near(if exponent == 0.5 { base.sqrt() } else { base.powf(exponent) }))
    }

    /// By repeated squaring; none where it does not fit.
    fn exact_power(self, mut exponent: u128) -> Option<Number> {
        let (mut result, mut square) = (Number::ONE, self);
        loop {
            if exponent & 1 == 1 {
                result = result.exact_times(square)?;
            }
            exponent >>= 1;
            if exponent == 0 {
                return Some(result);
            }
            square = square.exact_times(square)?;
        }
    }

    fn to_text(self) -> Result<String, CalculatorError> {
        // Ten to the power of the decimals.
        let mut scale = 10u128.pow(DECIMALS);
        let parts = match self {
            Exact { over, under } => {
                let (whole, rest) =
                    (over.unsigned_abs() / under as u128, over.unsigned_abs() % under as u128);
                // As many as leave a number that can be read back.
                while scale > 1 && (whole + 1).saturating_mul(scale) > i128::MAX as u128 {
                    scale /= 10;
                }
                // Twice the digits that are shown plus the denominator, by twice the denominator.
                let doubled = rest.checked_mul(2 * scale).zip((under as u128).checked_mul(2));
                let rounded = doubled.and_then(|(doubled, under)| {
                    doubled.checked_add(under / 2).map(|sum| sum / under)
                });
                rounded.map(|part| (over < 0, whole + part / scale, part % scale))
            }
            Near(_) => None,
        };
        let (is_negative, whole, part) = match parts {
            Some(parts) => parts,
            None => {
                let value = self.near();
                if value.abs().partial_cmp(&LARGEST_NEAR) != Some(std::cmp::Ordering::Less) {
                    return Err(CalculatorError::TooLarge);
                }
                let part = (value.abs().fract() * scale as f64).round() as u128;
                (value < 0.0, value.abs() as u128 + part / scale, part % scale)
            }
        };
        let sign = if is_negative && (whole, part) != (0, 0) { "-" } else { "" };
        let decimals = format!("{part:0width$}", width = scale.ilog10() as usize);
        Ok(match decimals.trim_end_matches('0') {
            "" => format!("{sign}{whole}"),
            decimals => format!("{sign}{whole}.{decimals}"),
        })
    }
}

/// The greatest common divisor (Euclid); 1 where both are 0.
fn common_divisor(mut a: u128, mut b: u128) -> u128 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a.max(1)
}

/// Reads an expression by recursive descent.
struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
    depth: usize,
}

impl Reader<'_> {
    /// The next byte that is no space.
    fn peek(&mut self) -> Option<u8> {
        while self.bytes.get(self.at).is_some_and(u8::is_ascii_whitespace) {
            self.at += 1;
        }
        self.bytes.get(self.at).copied()
    }

    fn take(&mut self, byte: u8) -> bool {
        let is_there = self.peek() == Some(byte);
        self.at += usize::from(is_there);
        is_there
    }

    fn unexpected(&self, expected: &'static str) -> CalculatorError {
        CalculatorError::Unexpected { expected, at: self.at + 1 }
    }

    fn sum(&mut self) -> Result<Number, CalculatorError> {
        let mut sum = self.product()?;
        loop {
            if self.take(b'+') {
                sum = sum.plus(self.product()?);
            } else if self.take(b'-') {
                sum = sum.plus(self.product()?.negate());
            } else {
                return Ok(sum);
            }
        }
    }

    fn product(&mut self) -> Result<Number, CalculatorError> {
        let mut product = self.signed()?;
        loop {
            if self.take(b'*') {
                product = product.times(self.signed()?);
            } else if self.take(b'/') {
                product = product.divided(self.signed()?)?;
            } else if self.take(b'%') {
                product = product.modulo(self.signed()?)?;
            } else {
                return Ok(product);
            }
        }
    }

    fn signed(&mut self) -> Result<Number, CalculatorError> {
        if self.depth == DEEPEST {
            return Err(CalculatorError::TooDeep);
        }
        self.depth += 1;
        let number = if self.take(b'-') {
            self.signed()?.negate()
        } else if self.take(b'+') {
            self.signed()?
        } else {
            let number = self.atom()?;
            if self.take(b'^') { number.power(self.signed()?)? } else { number }
        };
        self.depth -= 1;
        Ok(number)
    }

    fn atom(&mut self) -> Result<Number, CalculatorError> {
        if self.take(b'(') {
            let number = self.sum()?;
            return if self.take(b')') { Ok(number) } else { Err(self.unexpected("`)`")) };
        }
        match self.peek() {
            Some(b'0'..=b'9' | b'.') => self.literal(),
            _ => Err(self.unexpected("a number")),
        }
    }

    /// Digits with at most one point among them, and at least one digit.
    fn literal(&mut self) -> Result<Number, CalculatorError> {
        let (mut over, mut under, mut n_digit, mut is_fraction) = (0i128, 1i128, 0, false);
        while let Some(&byte) = self.bytes.get(self.at) {
            match byte {
                b'0'..=b'9' => {
                    let digit = i128::from(byte - b'0');
                    let longer = over.checked_mul(10).and_then(|over| over.checked_add(digit));
                    over = longer.ok_or(CalculatorError::TooLarge)?;
                    if is_fraction {
                        under = under.checked_mul(10).ok_or(CalculatorError::TooLarge)?;
                    }
                    n_digit += 1;
                }
                b'.' if !is_fraction => is_fraction = true,
                _ => break,
            }
            self.at += 1;
        }
        if n_digit == 0 {
            return Err(self.unexpected("a digit"));
        }
        Number::fraction(over, under).ok_or(CalculatorError::TooLarge)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check(expression: &str, expected: &str) {
        assert_eq!(reply(expression), expected, "{expression}");
    }

    /// Values computed by Python with exact fractions: testdata/calculator/make.py.
    #[test]
    fn values_are_pythons() {
        let golden = include_str!("../../../testdata/calculator/golden.tsv");
        let mut n_case = 0;
        for line in golden.lines().filter(|line| !line.starts_with('#')) {
            let (expression, expected) = line.split_once('\t').expect("two columns");
            check(expression, expected);
            n_case += 1;
        }
        assert!(n_case > 2000, "{n_case}");
    }

    #[test]
    fn what_python_would_not_take_is_said() {
        check("", "error: expected a number at character 1");
        check("  ", "error: expected a number at character 3");
        check("2 +", "error: expected a number at character 4");
        check("2 3", "error: expected an operator at character 3");
        check("(2 + 3", "error: expected `)` at character 7");
        check("2)", "error: expected an operator at character 2");
        check(".", "error: expected a digit at character 2");
        check("1.2.3", "error: expected an operator at character 4");
        check("1,692 * 2", "error: expected an operator at character 2");
        check("two", "error: expected a number at character 1");
        check("2 ** 3", "error: expected a number at character 4");
        check("(0 - 8) ^ 0.5", "error: the root of a negative number is not a real number");
        check("0 ^ -1", "error: division by zero");
        check("5 % 0", "error: division by zero");
        check("9 ^ 9 ^ 9", "error: the number is too large");
        check("(0 - 2) ^ 127", "error: the number is too large");
        check("2 ^ 126", "85070591730234615865843651857942052864");
        check(&"9".repeat(60), "error: the number is too large");
        // With six decimals it could not be read back.
        let long = "10001200239947987598319563912782557.5116";
        check("99991999999999999999999/9998 * 999999999989999", long);
        check(long, long);
        check(&"(".repeat(200), "error: the expression is nested too deep");
        check(&"-".repeat(200), "error: the expression is nested too deep");
        check(&"1+".repeat(200), "error: the expression is longer than 256 characters");
    }

    #[test]
    fn what_is_no_fraction_is_near() {
        check("2 ^ 0.5", "1.414214");
        check("27 ^ (1/3)", "3");
        check("(1/3) ^ 90", "0");
        check("1.1 ^ 100", "13780.61234");
        check("0 - (1/7) ^ 80", "0");
    }

    proptest! {
        #[test]
        fn nothing_panics(expression in "[-0-9+*/().^% a]{0,80}") {
            let _ = reply(&expression);
        }

        #[test]
        fn whole_numbers_are_exact(a in -1_000_000_000_000i64..1_000_000_000_000, b: i32) {
            prop_assert_eq!(reply(&format!("({a}) * ({b})")), (i128::from(a) * i128::from(b)).to_string());
            prop_assert_eq!(reply(&format!("{a} - {b}")), (i128::from(a) - i128::from(b)).to_string());
        }
    }
}
