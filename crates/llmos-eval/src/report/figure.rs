//! Figures as people read them.

use crate::card::Unit;
use crate::interval::Estimate;

/// A figure alone: `96.2 %`, `0.812`.
pub(super) fn value(unit: Unit, value: f64) -> String {
    match unit {
        Unit::Share => format!("{:.1} %", 100.0 * value),
        Unit::BitsPerCharacter | Unit::BitsPerByte => format!("{value:.3}"),
    }
}

/// A figure with its error bar: `96.2 % (94.8 to 97.3)`.
pub(super) fn estimate(unit: Unit, estimate: &Estimate) -> String {
    let end = |end: f64| value(unit, end).trim_end_matches(" %").to_string();
    format!("{} ({} to {})", value(unit, estimate.value), end(estimate.low), end(estimate.high))
}

/// A change: `+3.1 points (+1.0 to +5.2)`, `−0.120 (−0.131 to −0.109)`.
pub(super) fn change(unit: Unit, estimate: &Estimate) -> String {
    let signed = |value: f64| {
        let text = match unit {
            Unit::Share => format!("{:.1}", 100.0 * value.abs()),
            _ => format!("{:.3}", value.abs()),
        };
        let is_zero = text.chars().all(|c| c == '0' || c == '.');
        let sign = if is_zero {
            ""
        } else if value < 0.0 {
            "−"
        } else {
            "+"
        };
        format!("{sign}{text}")
    };
    let points = if unit == Unit::Share { " points" } else { "" };
    let Estimate { value, low, high } = *estimate;
    format!("{}{points} ({} to {})", signed(value), signed(low), signed(high))
}

/// A probability: `0.04`, `below 0.001`.
pub(super) fn probability(p: f64) -> String {
    match p {
        p if p < 0.001 => "below 0.001".to_string(),
        p if p < 0.1 => format!("{p:.3}"),
        p => format!("{p:.2}"),
    }
}

/// A count with commas.
pub(super) fn count(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}
