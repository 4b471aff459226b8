//! How a client wants tokens drawn.

use llmos_model::sampler::SamplerOptions;
use serde_json::Value;

use crate::fields::{Fields, whole};
use crate::refusal::Refusal;
use crate::server::Service;

/// Most stop texts, and the longest of them in bytes. OpenAI allows four.
const STOPS: usize = 32;
const STOP_BYTES: usize = 512;

/// Most tokens with a bias of their own.
const BIASES: usize = 1024;

/// Most choices of a prompt.
const CHOICES: u64 = 128;

/// The sampler's options. Where a client says nothing of how tokens are drawn, they are drawn as
/// `llmos chat` does; where it says something, all else is as in OpenAI's API: the model's own
/// distribution.
pub(crate) fn options(fields: Fields<'_>, vocab_size: usize) -> Result<SamplerOptions, Refusal> {
    let temperature = fields.number("temperature", 0.0..=5.0)?;
    let top_p = fields.number("top_p", 0.0..=1.0)?;
    let top_k = match fields.get("top_k").and_then(Value::as_i64) {
        // vLLM's way to say none.
        Some(-1) => Some(0),
        _ => fields.integer("top_k", 0..=1 << 20)?,
    };
    let min_p = fields.number("min_p", 0.0..=1.0)?;
    let typical_p = fields.number("typical_p", 0.0..=1.0)?;
    let shaped = [temperature, top_p, min_p, typical_p].iter().any(Option::is_some);
    let mut options = match shaped || top_k.is_some() {
        true => SamplerOptions::plain(),
        false => SamplerOptions::default(),
    };
    let set = |place: &mut f32, value: Option<f64>| {
        if let Some(value) = value {
            *place = value as f32;
        }
    };
    set(&mut options.temperature, temperature);
    set(&mut options.top_p, top_p);
    set(&mut options.min_p, min_p);
    set(&mut options.typical_p, typical_p);
    options.top_k = top_k.map_or(options.top_k, |k| k as usize);
    set(&mut options.frequency_penalty, fields.number("frequency_penalty", -2.0..=2.0)?);
    set(&mut options.presence_penalty, fields.number("presence_penalty", -2.0..=2.0)?);
    let repetition = match fields.number("repetition_penalty", 0.01..=10.0)? {
        None => fields.number("repeat_penalty", 0.01..=10.0)?,
        given => given,
    };
    set(&mut options.repetition_penalty, repetition);
    let window = fields.integer("repeat_last_n", 0..=1 << 30)?;
    options.penalty_window = match (window, options.repetition_penalty == 1.0) {
        (Some(window), _) => window as usize,
        // All that was drawn, as in OpenAI's API.
        (None, true) => usize::MAX,
        (None, false) => options.penalty_window,
    };
    options.logit_bias = biases(fields, vocab_size)?;
    Ok(options)
}

fn biases(fields: Fields<'_>, vocab_size: usize) -> Result<Vec<(u32, f32)>, Refusal> {
    let Some(value) = fields.get("logit_bias") else { return Ok(Vec::new()) };
    let wrong = |got: &Value| {
        Refusal::field(
            "logit_bias",
            format!(
                "an object of at most {BIASES} token ids below {vocab_size}, each with a number from -100 to 100"
            ),
            got,
            "POST /tokenize gives the ids of a text",
        )
    };
    let object = value.as_object().filter(|object| object.len() <= BIASES);
    let object = object.ok_or_else(|| wrong(value))?;
    let mut biases = Vec::with_capacity(object.len());
    for (key, bias) in object {
        let id = key.parse().ok().filter(|&id: &u32| (id as usize) < vocab_size);
        let id = id.ok_or_else(|| wrong(&Value::from(key.as_str())))?;
        let number = bias.as_f64().filter(|bias| (-100.0..=100.0).contains(bias));
        let number = number.ok_or_else(|| wrong(bias))?;
        // A token at -100 is not to come at all.
        biases.push((id, if number <= -100.0 { f32::NEG_INFINITY } else { number as f32 }));
    }
    Ok(biases)
}

/// What `ignore_eos` adds to the biases: an answer goes on until it has all its tokens, since what would
/// end it cannot be drawn.
pub(crate) fn ignored_ends(fields: Fields<'_>, ends: &[u32]) -> Result<Vec<(u32, f32)>, Refusal> {
    let ignored = if fields.flag("ignore_eos")? { ends } else { &[] };
    Ok(ignored.iter().map(|&id| (id, f32::NEG_INFINITY)).collect())
}

/// The seed: the client's, or one that nobody knows.
pub(crate) fn seed(fields: Fields<'_>, service: &Service) -> Result<u64, Refusal> {
    let Some(value) = fields.get("seed") else { return Ok(service.ids.number()) };
    let seed = value.as_i64().map(|seed| seed as u64).or_else(|| whole(value));
    seed.ok_or_else(|| Refusal::field("seed", "a whole number", value, "leave it out for any"))
}

/// Texts that end an answer.
pub(crate) fn stops(fields: Fields<'_>) -> Result<Vec<String>, Refusal> {
    let Some(stops) = fields.texts("stop")? else { return Ok(Vec::new()) };
    if stops.len() > STOPS {
        return Err(Refusal::field(
            "stop",
            format!("at most {STOPS} texts"),
            &stops.len().into(),
            "leave some out",
        ));
    }
    if let Some(long) = stops.iter().find(|stop| stop.len() > STOP_BYTES) {
        let expected = format!("texts of at most {STOP_BYTES} bytes");
        return Err(Refusal::field("stop", expected, &(*long).into(), "shorten it"));
    }
    Ok(stops.into_iter().map(str::to_string).collect())
}

/// How many answers, each of which takes a slot.
pub(crate) fn choices(fields: Fields<'_>, service: &Service) -> Result<usize, Refusal> {
    let n = fields.integer("n", 1..=CHOICES.min(service.options.slots as u64))?;
    Ok(n.unwrap_or(1) as usize)
}

/// Whether the answer is streamed, and whether usage comes with it.
pub(crate) fn streaming(fields: Fields<'_>) -> Result<(bool, bool), Refusal> {
    let stream = fields.flag("stream")?;
    let usage = match fields.object("stream_options")? {
        Some(_) if !stream => {
            return Err(Refusal::field(
                "stream_options",
                "nothing where stream is not true",
                &Value::from("an object"),
                "set stream, or leave it out",
            ));
        }
        Some(options) => options.flag("include_usage")?,
        None => false,
    };
    Ok((stream, usage))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(value: Value) -> Result<SamplerOptions, Refusal> {
        options(Fields::new(value.as_object().unwrap()), 100)
    }

    #[test]
    fn who_says_nothing_gets_the_house_s_manner_and_who_says_something_the_model_s_own() {
        let house = SamplerOptions { penalty_window: usize::MAX, ..SamplerOptions::default() };
        assert_eq!(read(json!({})).unwrap(), house);
        let plain = SamplerOptions { penalty_window: usize::MAX, ..SamplerOptions::plain() };
        assert_eq!(read(json!({ "temperature": 1 })).unwrap(), plain);
        let greedy = read(json!({ "temperature": 0 })).unwrap();
        assert_eq!(greedy, SamplerOptions { temperature: 0.0, ..plain.clone() });
        let some =
            read(json!({ "top_p": 0.5, "top_k": -1, "logit_bias": { "3": -100, "4": 2.5 } }));
        let expected = SamplerOptions {
            top_p: 0.5,
            logit_bias: vec![(3, f32::NEG_INFINITY), (4, 2.5)],
            ..plain
        };
        assert_eq!(some.unwrap(), expected);
        let repeated = read(json!({ "repetition_penalty": 1.1 })).unwrap();
        assert_eq!((repeated.penalty_window, repeated.repetition_penalty), (64, 1.1));
    }

    #[test]
    fn absurd_numbers_are_refused_by_name() {
        for (name, value) in [
            ("temperature", json!(-0.1)),
            ("temperature", json!("hot")),
            ("temperature", json!(1e300)),
            ("top_p", json!(1.1)),
            ("top_k", json!(-2)),
            ("top_k", json!(1.5)),
            ("min_p", json!([])),
            ("presence_penalty", json!(3)),
            ("repetition_penalty", json!(0)),
            ("logit_bias", json!([1])),
            ("logit_bias", json!({ "100": 1 })),
            ("logit_bias", json!({ "x": 1 })),
            ("logit_bias", json!({ "1": 101 })),
        ] {
            let refusal = read(json!({ name: value })).unwrap_err();
            assert_eq!(refusal.param.as_deref(), Some(name), "{value}");
        }
        let many = vec!["x"; 1000];
        for stop in [json!(3), json!([1]), json!(many), json!("x".repeat(10_000))] {
            let object = json!({ "stop": stop });
            assert!(stops(Fields::new(object.as_object().unwrap())).is_err());
        }
    }
}
