//! The keys of a recipe: what each may hold, and which is meant by one that does not exist.

use strsim::levenshtein;
use toml::Value;

use super::write::literal;
use crate::Error;
use crate::plan::amount;

/// A key and what it may hold.
pub(super) struct Key {
    /// With its section: `model.d_model`.
    pub(super) name: &'static str,
    pub(super) kind: Kind,
}

/// What a key may hold.
#[derive(Clone, Copy)]
pub(super) enum Kind {
    /// A whole number from the first to the second.
    Count(i64, i64),
    /// A number from the first to the second, both included.
    Real(f64, f64),
    Flag,
    Choice(&'static [&'static str]),
    Text,
    /// One text, or several.
    Texts,
}

const fn key(name: &'static str, kind: Kind) -> Key {
    Key { name, kind }
}

/// No run has more steps or tokens than fit the mantissa of an f64.
const MOST: i64 = 1 << 53;

/// Beyond this a norm divides by rounding errors, or by nothing.
const LEAST_EPS: f64 = 1e-12;

/// All keys, in the order in which they are written. The three lengths of a run stand for one
/// another: a recipe gives one of them, and a resolved one has steps.
pub(super) const KEYS: [Key; 43] = [
    key("save_every", Kind::Count(0, MOST)),
    key("eval_every", Kind::Count(0, MOST)),
    key("eval_tokens", Kind::Count(1, MOST)),
    key("keep", Kind::Count(1, 1000)),
    key("model.n_layer", Kind::Count(1, 1024)),
    key("model.n_head", Kind::Count(1, 4096)),
    key("model.n_kv_head", Kind::Count(1, 4096)),
    key("model.head_dim", Kind::Count(2, 1024)),
    key("model.d_model", Kind::Count(2, 1 << 17)),
    key("model.d_ff", Kind::Count(1, 1 << 20)),
    key("model.vocab_size", Kind::Count(1, 1 << 24)),
    key("model.tied_head", Kind::Flag),
    key("model.qk_norm", Kind::Flag),
    key("model.rope_base", Kind::Real(1.0, 1e12)),
    key("model.norm_eps", Kind::Real(LEAST_EPS, 0.1)),
    key("train.context", Kind::Count(2, 1 << 20)),
    key("train.batch", Kind::Count(1, 1 << 24)),
    key("train.accumulation", Kind::Count(1, 1 << 24)),
    key("train.steps", Kind::Count(1, MOST)),
    key(TOKENS, Kind::Count(1, MOST)),
    key(MINUTES, Kind::Real(0.01, 1e7)),
    key("train.seed", Kind::Count(0, i64::MAX)),
    key("train.dtype", Kind::Choice(&["f32", "bf16"])),
    key("train.document_attention", Kind::Flag),
    key("optimizer.name", Kind::Choice(&["muon", "adamw"])),
    key("optimizer.lr", Kind::Real(0.0, 10.0)),
    key("optimizer.beta1", Kind::Real(0.0, 0.9999)),
    key("optimizer.beta2", Kind::Real(0.0, 0.99999)),
    key("optimizer.eps", Kind::Real(1e-20, 0.1)),
    key("optimizer.muon_lr", Kind::Real(0.0, 10.0)),
    key("optimizer.muon_momentum", Kind::Real(0.0, 0.9999)),
    key("optimizer.weight_decay", Kind::Real(0.0, 10.0)),
    key("optimizer.final_weight_decay", Kind::Real(0.0, 10.0)),
    key("optimizer.clip", Kind::Real(0.0, 1e6)),
    key("optimizer.z_loss", Kind::Real(0.0, 1.0)),
    key("schedule.name", Kind::Choice(&["constant", "linear", "cosine"])),
    // Below 1 a share of the steps.
    key("schedule.warmup", Kind::Real(0.0, MOST as f64)),
    key("schedule.cooldown", Kind::Real(0.0, 1.0)),
    key("schedule.floor", Kind::Real(0.0, 1.0)),
    key("data.path", Kind::Texts),
    key("data.tokenizer", Kind::Text),
    key("data.held_out", Kind::Real(0.0, 0.9)),
    key("data.order", Kind::Choice(&["epochs", "random", "packed"])),
];

pub(super) const STEPS: &str = "train.steps";
pub(super) const TOKENS: &str = "train.tokens";
pub(super) const MINUTES: &str = "train.minutes";

/// The keys of which one says how long a run is.
pub(super) const LENGTHS: [&str; 3] = [STEPS, TOKENS, MINUTES];

/// The key of that name. `data` alone stands for `data.path`.
///
/// # Errors
/// [`Error::Setting`] with the nearest key.
pub(super) fn find(name: &str) -> Result<&'static Key, Error> {
    let name = name.trim();
    let wanted = if name == "data" { "data.path" } else { name };
    KEYS.iter().find(|key| key.name == wanted).ok_or_else(|| {
        let nearest = nearest(name, KEYS.iter().map(|key| key.name));
        setting(name, format!("no such key; the nearest is {nearest}"))
    })
}

pub(super) fn setting(key: &str, problem: String) -> Error {
    Error::Setting { key: key.to_string(), problem }
}

impl Key {
    /// The value as this key holds it: a whole number may be written as 2e6 or "2M".
    ///
    /// # Errors
    /// [`Error::Setting`] with the nearest value that can be.
    pub(super) fn accept(&self, value: Value) -> Result<Value, Error> {
        let fail = |problem: String| setting(self.name, problem);
        let shown = match &value {
            Value::Float(number) => plain(*number),
            value => literal(value),
        };
        match self.kind {
            Kind::Count(least, most) => {
                let number = match &value {
                    Value::Integer(number) => Some(*number as f64),
                    Value::Float(number) => Some(*number),
                    Value::String(text) => amount::parse(text).ok(),
                    _ => None,
                };
                let number = number
                    .filter(|number| number.is_finite())
                    .ok_or_else(|| fail(format!("expected a whole number, got {shown}")))?;
                let whole = match value {
                    Value::Integer(whole) => whole,
                    // Saturates where i64 ends.
                    _ => number.round() as i64,
                };
                let nearest = whole.clamp(least, most);
                if number.fract() != 0.0 || nearest != whole {
                    let range = format!("a whole number from {least} to {most}");
                    return Err(fail(format!("{shown} is not {range}; the nearest is {nearest}")));
                }
                Ok(Value::Integer(whole))
            }
            Kind::Real(least, most) => {
                let number = match &value {
                    Value::Integer(number) => *number as f64,
                    Value::Float(number) if number.is_finite() => *number,
                    _ => return Err(fail(format!("expected a number, got {shown}"))),
                };
                let nearest = number.clamp(least, most);
                if nearest != number {
                    let [least, most, nearest] = [least, most, nearest].map(plain);
                    let range = format!("a number from {least} to {most}");
                    return Err(fail(format!("{shown} is not {range}; the nearest is {nearest}")));
                }
                Ok(Value::Float(number))
            }
            Kind::Flag => match value {
                Value::Boolean(_) => Ok(value),
                _ => Err(fail(format!("expected true or false, got {shown}"))),
            },
            Kind::Choice(names) => {
                let Value::String(text) = &value else {
                    return Err(fail(format!("expected {}, got {shown}", names.join(" or "))));
                };
                let name = names.iter().find(|name| name.eq_ignore_ascii_case(text));
                let name = name.ok_or_else(|| {
                    let nearest = nearest(text, names.iter().copied());
                    let names = names.join(", ");
                    fail(format!("{text:?} is none of {names}; the nearest is {nearest}"))
                })?;
                Ok(Value::String(name.to_string()))
            }
            Kind::Text => match value {
                Value::String(_) => Ok(value),
                _ => Err(fail(format!("expected a text, got {shown}"))),
            },
            Kind::Texts => match value {
                Value::String(_) => Ok(Value::Array(vec![value])),
                Value::Array(items) if items.iter().all(Value::is_str) => Ok(Value::Array(items)),
                _ => Err(fail(format!("expected a path or a list of paths, got {shown}"))),
            },
        }
    }
}

/// A number for people: 0, 0.9999, 1e-20, 1e12.
fn plain(number: f64) -> String {
    match number.fract() == 0.0 {
        true if number.abs() < 1e6 => format!("{number:.0}"),
        true => format!("{number:e}"),
        false => format!("{number:?}"),
    }
}

/// The name that is the fewest edits away from `text`, its section left out if that is nearer.
pub(super) fn nearest<'a>(text: &str, names: impl Iterator<Item = &'a str>) -> &'a str {
    // Only the beginning of something endless is looked at.
    let text: String = text.chars().take(64).collect::<String>().to_lowercase();
    let distance = |name: &str| {
        let last = |name: &str| name.rsplit('.').next().unwrap_or_default().to_string();
        let alone = levenshtein(&last(&text), &last(name));
        // Two sections may have a key of the same name: then the section decides.
        (levenshtein(&text, name).min(alone), levenshtein(&text, name))
    };
    names.min_by_key(|name| distance(name)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_that_does_not_exist_names_the_nearest() {
        let check = |name: &str, expected: &str| {
            let error = find(name).err().map(|error| error.to_string()).unwrap_or_default();
            assert!(error.starts_with(&format!("{name}: ")), "{error}");
            assert!(error.ends_with(&format!("the nearest is {expected}")), "{error}");
        };
        check("optimizer.l_r", "optimizer.lr");
        check("optimiser.lr", "optimizer.lr");
        check("lr", "optimizer.lr");
        check("warmup", "schedule.warmup");
        check("model.n_layers", "model.n_layer");
        check("model.dmodel", "model.d_model");
        check("schedul.name", "schedule.name");
        check("train.max_steps", "train.steps");
        assert_eq!(find("data").map(|key| key.name).ok(), Some("data.path"));
    }

    #[test]
    fn values_are_held_to_their_range() {
        let check = |key: &str, value: &str, expected: Result<Value, &str>| {
            let table: toml::Table = format!("x = {value}").parse().unwrap();
            let got = find(key).unwrap().accept(table["x"].clone());
            match (got, expected) {
                (Ok(got), Ok(expected)) => assert_eq!(got, expected, "{key} = {value}"),
                (Err(got), Err(expected)) => {
                    assert!(got.to_string().contains(expected), "{key} = {value}: {got}");
                }
                (got, expected) => panic!("{key} = {value}: {got:?}, not {expected:?}"),
            }
        };
        check("model.vocab_size", "0", Err("the nearest is 1"));
        check("model.vocab_size", "-5", Err("the nearest is 1"));
        check("model.n_layer", "9223372036854775807", Err("the nearest is 1024"));
        check("model.n_layer", "4.5", Err("the nearest is 5"));
        check("model.n_layer", "'four'", Err("expected a whole number"));
        check("train.tokens", "2e6", Ok(Value::Integer(2_000_000)));
        check("train.tokens", "'10M'", Ok(Value::Integer(10_000_000)));
        check("train.tokens", "inf", Err("expected a whole number"));
        check("optimizer.lr", "3e-4", Ok(Value::Float(3e-4)));
        check("optimizer.lr", "1", Ok(Value::Float(1.0)));
        check("optimizer.lr", "-1", Err("the nearest is 0"));
        check("optimizer.lr", "nan", Err("expected a number"));
        check(
            "optimizer.eps",
            "0",
            Err("0 is not a number from 1e-20 to 0.1; the nearest is 1e-20"),
        );
        check(
            "train.minutes",
            "2e7",
            Err("2e7 is not a number from 0.01 to 1e7; the nearest is 1e7"),
        );
        check("train.steps", "0.0", Err("0 is not a whole number"));
        check("optimizer.name", "'AdamW'", Ok(Value::String("adamw".into())));
        check("optimizer.name", "'adam'", Err("the nearest is adamw"));
        check("model.tied_head", "1", Err("expected true or false"));
        check("data.path", "'a'", Ok(Value::Array(vec!["a".into()])));
        check("data.path", "['a', 1]", Err("list of paths"));
    }
}
