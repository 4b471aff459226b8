//! The fields of a request, each checked against what it may hold. `null` counts as left out.

use std::ops::RangeInclusive;

use serde_json::{Map, Value};

use crate::refusal::Refusal;

/// The fields of an object.
#[derive(Clone, Copy)]
pub(crate) struct Fields<'a> {
    object: &'a Map<String, Value>,
}

impl<'a> Fields<'a> {
    pub(crate) fn new(object: &'a Map<String, Value>) -> Fields<'a> {
        Fields { object }
    }

    /// What a field holds.
    pub(crate) fn get(&self, name: &str) -> Option<&'a Value> {
        self.object.get(name).filter(|value| !value.is_null())
    }

    /// A text.
    pub(crate) fn text(&self, name: &str) -> Result<Option<&'a str>, Refusal> {
        self.kind(name, "a text", Value::as_str)
    }

    /// True or false; false where it is left out.
    pub(crate) fn flag(&self, name: &str) -> Result<bool, Refusal> {
        self.flag_or(name, false)
    }

    /// True or false; `otherwise` where it is left out.
    pub(crate) fn flag_or(&self, name: &str, otherwise: bool) -> Result<bool, Refusal> {
        Ok(self.kind(name, "true or false", Value::as_bool)?.unwrap_or(otherwise))
    }

    /// A list.
    pub(crate) fn list(&self, name: &str) -> Result<Option<&'a [Value]>, Refusal> {
        self.kind(name, "a list", |value| value.as_array().map(Vec::as_slice))
    }

    /// An object.
    pub(crate) fn object(&self, name: &str) -> Result<Option<Fields<'a>>, Refusal> {
        self.kind(name, "an object", |value| value.as_object().map(Fields::new))
    }

    /// A number in a range.
    pub(crate) fn number(
        &self,
        name: &str,
        range: RangeInclusive<f64>,
    ) -> Result<Option<f64>, Refusal> {
        let expected = format!("a number from {} to {}", range.start(), range.end());
        self.kind(name, &expected, |value| value.as_f64().filter(|x| range.contains(x)))
    }

    /// A whole number in a range; `3.0` is one as well.
    pub(crate) fn integer(
        &self,
        name: &str,
        range: RangeInclusive<u64>,
    ) -> Result<Option<u64>, Refusal> {
        let expected = format!("a whole number from {} to {}", range.start(), range.end());
        self.kind(name, &expected, |value| whole(value).filter(|x| range.contains(x)))
    }

    /// A text, or a list of texts; those that are null are left out.
    pub(crate) fn texts(&self, name: &str) -> Result<Option<Vec<&'a str>>, Refusal> {
        self.kind(name, "a text or a list of texts", |value| match value {
            Value::String(text) => Some(vec![text.as_str()]),
            Value::Array(items) => {
                items.iter().filter(|item| !item.is_null()).map(Value::as_str).collect()
            }
            _ => None,
        })
    }

    fn kind<T>(
        &self,
        name: &str,
        expected: &str,
        read: impl Fn(&'a Value) -> Option<T>,
    ) -> Result<Option<T>, Refusal> {
        let Some(value) = self.get(name) else { return Ok(None) };
        match read(value) {
            Some(found) => Ok(Some(found)),
            None => Err(Refusal::field(name, expected, value, "change it or leave it out")),
        }
    }
}

/// A number that is whole and not negative.
pub(crate) fn whole(value: &Value) -> Option<u64> {
    /// Beyond this not every whole number is an f64.
    const MOST: f64 = (1u64 << 53) as f64;
    let of_float = |x: f64| (x.fract() == 0.0 && (0.0..=MOST).contains(&x)).then_some(x as u64);
    value.as_u64().or_else(|| of_float(value.as_f64()?))
}

/// Token ids of a list, each below `vocab_size`; none where it is a list of something else.
pub(crate) fn ids(
    name: &str,
    items: &[Value],
    vocab_size: usize,
) -> Result<Option<Vec<u32>>, Refusal> {
    if !items.iter().all(Value::is_number) {
        return Ok(None);
    }
    let id = |item: &Value| {
        let id = whole(item).and_then(|id| u32::try_from(id).ok());
        id.filter(|&id| (id as usize) < vocab_size).ok_or_else(|| {
            let expected = format!("token ids below {vocab_size}");
            Refusal::field(name, expected, item, "POST /tokenize gives the ids of a text")
        })
    };
    items.iter().map(id).collect::<Result<Vec<u32>, Refusal>>().map(Some)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn numbers_are_held_to_their_ranges() {
        let check = |value: Value, number: bool, integer: bool| {
            let object = json!({ "x": value });
            let fields = Fields::new(object.as_object().unwrap());
            assert_eq!(fields.number("x", 0.0..=2.0).is_ok(), number, "{value}");
            assert_eq!(fields.integer("x", 0..=2).is_ok(), integer, "{value}");
        };
        check(json!(null), true, true);
        check(json!(1), true, true);
        check(json!(2.0), true, true);
        check(json!(1.5), true, false);
        check(json!(-1), false, false);
        check(json!(-0.0), true, true);
        check(json!(3), false, false);
        check(json!(1e308), false, false);
        check(json!(u64::MAX), false, false);
        check(json!("1"), false, false);
        check(json!(true), false, false);
        check(json!([1]), false, false);
    }

    #[test]
    fn flags_are_true_or_false_and_nothing_else() {
        let check = |value: Value, expected: Option<(bool, bool)>| {
            let object = json!({ "x": value });
            let fields = Fields::new(object.as_object().unwrap());
            let found = fields.flag("x").ok().zip(fields.flag_or("x", true).ok());
            assert_eq!(found, expected, "{value}");
        };
        check(json!(true), Some((true, true)));
        check(json!(false), Some((false, false)));
        check(json!(null), Some((false, true)));
        check(json!("true"), None);
        check(json!(1), None);
    }

    #[test]
    fn texts_come_alone_or_in_a_list() {
        let check = |value: Value, expected: Option<Vec<&str>>| {
            let object = json!({ "x": value });
            let fields = Fields::new(object.as_object().unwrap());
            assert_eq!(fields.texts("x").ok().flatten(), expected, "{value}");
        };
        check(json!("a"), Some(vec!["a"]));
        check(json!(["a", "b"]), Some(vec!["a", "b"]));
        check(json!(["a", null]), Some(vec!["a"]));
        check(json!(["a", 1]), None);
        check(json!(3), None);
    }

    #[test]
    fn ids_are_below_the_vocabulary() {
        let check = |value: Value, expected: Option<Option<Vec<u32>>>| {
            assert_eq!(ids("x", value.as_array().unwrap(), 10).ok(), expected, "{value}");
        };
        check(json!([1, 9]), Some(Some(vec![1, 9])));
        check(json!([]), Some(Some(vec![])));
        check(json!(["a"]), Some(None));
        check(json!([10]), None);
        check(json!([-1]), None);
        check(json!([1.5]), None);
        check(json!([4294967296u64]), None);
    }
}
