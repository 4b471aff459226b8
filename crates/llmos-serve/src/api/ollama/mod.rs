//! Ollama's API: `/api/chat`, `/api/generate`, `/api/embed`, and what is here.
//!
//! Where a client says nothing, tokens are drawn by Ollama's defaults, and a model stays as long as the
//! server keeps all of them. What `keep_alive` says of a model holds until something else is said or the
//! model is let go of; memory that another needs is given up in any case.

mod answer;
mod embed;
mod here;
mod manage;
mod manner;
mod write;

pub(super) use answer::{chat, generate};
pub(super) use embed::{embed, embedding};
pub(super) use here::{running, show, tags, version};
pub(super) use manage::{copy, create, delete, pull};

use std::time::Duration;

use serde_json::{Map, Value};

use crate::fields::Fields;
use crate::models::Stay;
use crate::refusal::Refusal;
use crate::server::Service;

/// The model that a body names: `model`, or `name` as older clients say.
fn named(body: &Map<String, Value>) -> Result<&str, Refusal> {
    let fields = Fields::new(body);
    let name = match fields.text("model")? {
        Some(name) => name,
        None => fields.text("name")?.unwrap_or_default(),
    };
    if name.is_empty() {
        let hint = "GET /api/tags lists the models";
        return Err(Refusal::bad("model is required", hint).about("model"));
    }
    Ok(name)
}

/// The id of a model as the other routes know it: without the tag `latest`, which is no part of ours.
fn id_of<'a>(service: &Service, name: &'a str) -> &'a str {
    name.strip_suffix(":latest").filter(|_| !service.models.has(name)).unwrap_or(name)
}

/// Names the model of a body as the other routes know it.
fn name_model(service: &Service, body: &mut Map<String, Value>) -> Result<(), Refusal> {
    let id = id_of(service, named(body)?).to_string();
    body.insert("model".to_string(), id.into());
    Ok(())
}

/// `keep_alive`: seconds, or a duration of Go's such as `1h30m`; negative is until the memory is needed.
/// None where nothing is said.
fn stay(fields: Fields<'_>) -> Result<Option<Stay>, Refusal> {
    let Some(value) = fields.get("keep_alive") else { return Ok(None) };
    let seconds = match value {
        Value::Number(number) => number.as_f64(),
        Value::String(text) => duration(text),
        _ => None,
    };
    match seconds {
        Some(seconds) if seconds < 0.0 => Ok(Some(Stay::Ever)),
        // What no duration can hold is as good as for ever.
        Some(seconds) => {
            Ok(Some(Duration::try_from_secs_f64(seconds).map_or(Stay::Ever, Stay::For)))
        }
        None => {
            let hint = "leave it out: a model stays as long as the server keeps it";
            Err(Refusal::field("keep_alive", "seconds, or a duration such as 5m", value, hint))
        }
    }
}

/// The model is to go as soon as nobody uses it.
const AT_ONCE: Stay = Stay::For(Duration::ZERO);

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
            (json!(null), Some(None)),
            (json!(0), Some(Some(AT_ONCE))),
            (json!("0s"), Some(Some(AT_ONCE))),
            (json!(-1), Some(Some(Stay::Ever))),
            (json!("-1m"), Some(Some(Stay::Ever))),
            (json!("5m"), Some(Some(Stay::For(Duration::from_secs(300))))),
            (json!(1.5), Some(Some(Stay::For(Duration::from_millis(1500))))),
            (json!(1e300), Some(Some(Stay::Ever))),
            (json!("long"), None),
            (json!([]), None),
        ] {
            let object = json!({ "keep_alive": value });
            let found = stay(Fields::new(object.as_object().unwrap()));
            assert_eq!(found.ok(), expected, "{value}");
        }
    }
}
