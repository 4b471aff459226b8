//! Ollama's API: `/api/chat`, `/api/generate`, `/api/embed`, and what is here.
//!
//! Where a client says nothing, tokens are drawn by Ollama's defaults. Models stay until their memory
//! is needed; of `keep_alive` only 0 is acted on, which lets go of the model at once.

mod answer;
mod embed;
mod here;
mod manner;
mod write;

pub(super) use answer::{chat, generate};
pub(super) use embed::{embed, embedding};
pub(super) use here::{running, show, tags, version};

use serde_json::{Map, Value};

use crate::fields::Fields;
use crate::refusal::Refusal;
use crate::server::Service;

/// Names the model of a body as the other routes know it: `model`, or `name` as older clients say,
/// without the tag `latest`, which is no part of our ids.
fn name_model(service: &Service, body: &mut Map<String, Value>) -> Result<(), Refusal> {
    let fields = Fields::new(body);
    let name = match fields.text("model")? {
        Some(name) => name,
        None => fields.text("name")?.unwrap_or_default(),
    };
    if name.is_empty() {
        let hint = "GET /api/tags lists the models";
        return Err(Refusal::bad("model is required", hint).about("model"));
    }
    let bare = name.strip_suffix(":latest").filter(|_| !service.models.has(name));
    let name = bare.unwrap_or(name).to_string();
    body.insert("model".to_string(), name.into());
    Ok(())
}

/// What a client wants of the model's stay in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stay {
    /// As long as there is room.
    AsLong,
    /// It is to go at once.
    Go,
}

/// `keep_alive`: seconds, or a duration of Go's such as `1h30m`; negative is for ever.
fn stay(fields: Fields<'_>) -> Result<Stay, Refusal> {
    let Some(value) = fields.get("keep_alive") else { return Ok(Stay::AsLong) };
    let seconds = match value {
        Value::Number(number) => number.as_f64(),
        Value::String(text) => duration(text),
        _ => None,
    };
    match seconds {
        Some(0.0) => Ok(Stay::Go),
        Some(_) => Ok(Stay::AsLong),
        None => {
            let hint = "leave it out: a model stays while there is room for it";
            Err(Refusal::field("keep_alive", "seconds, or a duration such as 5m", value, hint))
        }
    }
}

/// Seconds of a duration as Go writes it: `-1m`, `1h30m`, `1.5s`, `0`.
fn duration(text: &str) -> Option<f64> {
    let (sign, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (-1.0, rest),
        None => (1.0, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Some(0.0);
    }
    let mut seconds = 0.0;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = rest[..end].parse().ok()?;
        rest = &rest[end..];
        // The longer of two that begin alike comes first.
        let units = [
            ("ns", 1e-9),
            ("us", 1e-6),
            ("µs", 1e-6),
            ("ms", 1e-3),
            ("s", 1.0),
            ("m", 60.0),
            ("h", 3600.0),
        ];
        let (unit, factor) = units.into_iter().find(|(unit, _)| rest.starts_with(unit))?;
        rest = &rest[unit.len()..];
        seconds += number * factor;
    }
    (!text.is_empty()).then_some(sign * seconds)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn durations_are_go_s() {
        for (text, expected) in [
            ("5m", Some(300.0)),
            ("1h30m", Some(5400.0)),
            ("-1m", Some(-60.0)),
            ("1.5s", Some(1.5)),
            ("0", Some(0.0)),
            ("0s", Some(0.0)),
            ("250ms", Some(0.25)),
            ("", None),
            ("5", None),
            ("m", None),
            ("5 m", None),
            ("5x", None),
            ("1.2.3s", None),
        ] {
            assert_eq!(duration(text), expected, "{text:?}");
        }
        for (value, expected) in [
            (json!(null), Some(Stay::AsLong)),
            (json!(0), Some(Stay::Go)),
            (json!("0s"), Some(Stay::Go)),
            (json!(-1), Some(Stay::AsLong)),
            (json!("5m"), Some(Stay::AsLong)),
            (json!("long"), None),
            (json!([]), None),
        ] {
            let object = json!({ "keep_alive": value });
            let found = stay(Fields::new(object.as_object().unwrap()));
            assert_eq!(found.ok(), expected, "{value}");
        }
    }
}
