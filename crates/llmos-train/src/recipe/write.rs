//! A recipe as TOML, each value with its reason.

use std::fmt::Write as _;

use toml::{Table, Value};

use super::keys::KEYS;
use super::resolve::Resolved;

impl Resolved {
    /// The recipe as TOML in which every value is written, with the reason for it as a comment.
    pub fn to_toml(&self) -> String {
        // A recipe is tables of plain values, which TOML always has a form for.
        let table = Table::try_from(&self.recipe).unwrap_or_default();
        let mut text = String::new();
        let mut section = "";
        for key in &KEYS {
            let (within, name) = key.name.split_once('.').unwrap_or(("", key.name));
            let values = match within {
                "" => Some(&table),
                within => table.get(within).and_then(Value::as_table),
            };
            let Some(value) = values.and_then(|values| values.get(name)) else { continue };
            if within != section {
                section = within;
                let _ = write!(text, "\n[{section}]\n");
            }
            let line = format!("{name} = {}", literal(value));
            let _ = match self.reason(key.name) {
                "" => writeln!(text, "{line}"),
                reason => writeln!(text, "{line:<28} # {}", one_line(reason)),
            };
        }
        text
    }
}

/// The reasons that stand in a text of [`Resolved::to_toml`], by keys.
pub(super) fn reasons(text: &str) -> Vec<(String, String)> {
    let (mut section, mut reasons) = (String::new(), Vec::new());
    for line in text.lines().map(str::trim) {
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            section = format!("{name}.");
        }
        // A `#` within a text is no comment: what stands before one is TOML.
        let found = line.match_indices(" # ").find_map(|(at, mark)| {
            let table = line[..at].parse::<Table>().ok()?;
            let key = format!("{section}{}", table.keys().next()?);
            Some((key, line[at + mark.len()..].to_string()))
        });
        reasons.extend(found);
    }
    reasons
}

/// A comment ends with its line.
fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// A value as it is written in TOML.
pub(super) fn literal(value: &Value) -> String {
    match value {
        Value::String(text) => quoted(text),
        Value::Integer(number) => number.to_string(),
        Value::Float(number) if number.is_nan() => "nan".to_string(),
        Value::Float(number) if number.is_infinite() => {
            if *number > 0.0 { "inf" } else { "-inf" }.to_string()
        }
        // Rust's shortest form that reads back to the same bits: 0.0003, 1.0, 1e-12.
        Value::Float(number) => format!("{number:?}"),
        Value::Boolean(flag) => flag.to_string(),
        Value::Datetime(time) => time.to_string(),
        Value::Array(items) => {
            format!("[{}]", items.iter().map(literal).collect::<Vec<_>>().join(", "))
        }
        Value::Table(table) => {
            let pairs =
                table.iter().map(|(key, value)| format!("{} = {}", quoted(key), literal(value)));
            format!("{{ {} }}", pairs.collect::<Vec<_>>().join(", "))
        }
    }
}

/// A basic string of TOML.
fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            c if c.is_control() => {
                let _ = write!(quoted, "\\u{:04X}", u32::from(c));
            }
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_again() {
        for value in [
            Value::String("a \"b\" \\ \n \u{7f} 中".into()),
            Value::Float(3e-4),
            Value::Float(1e-12),
            Value::Float(1e12),
            Value::Float(f64::INFINITY),
            Value::Integer(-7),
            Value::Boolean(true),
            Value::Array(vec!["a".into(), "b".into()]),
            Value::Table(Table::from_iter([("a b".to_string(), Value::Integer(1))])),
        ] {
            let text = format!("x = {}", literal(&value));
            assert_eq!(text.parse::<Table>().unwrap()["x"], value, "{text}");
        }
    }
}
