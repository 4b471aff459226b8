//! GGUF's metadata: a list of keys and typed values.

use std::collections::HashMap;
use std::fmt;
use std::ops::Range;

/// A metadata value.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// An unsigned integer of 8, 16, 32 or 64 bits.
    Unsigned(u64),
    /// A signed integer of 8, 16, 32 or 64 bits.
    Signed(i64),
    /// A 32-bit float.
    F32(f32),
    /// A 64-bit float.
    F64(f64),
    /// A truth value.
    Bool(bool),
    /// Text; bytes that are not UTF-8 became U+FFFD.
    String(String),
    /// A list of one type.
    Array(Array),
}

/// A list of values of one type.
#[derive(Clone, Debug, PartialEq)]
pub enum Array {
    /// Bytes, kept compact: a precompiled character map has a quarter of a million.
    Bytes(Vec<u8>),
    /// Unsigned integers.
    Unsigned(Vec<u64>),
    /// Signed integers.
    Signed(Vec<i64>),
    /// 32-bit floats.
    F32(Vec<f32>),
    /// 64-bit floats.
    F64(Vec<f64>),
    /// Truth values.
    Bool(Vec<bool>),
    /// Texts.
    String(Vec<String>),
    /// Lists of lists.
    Array(Vec<Array>),
}

impl Array {
    /// Number of elements.
    pub fn len(&self) -> usize {
        match self {
            Array::Bytes(list) => list.len(),
            Array::Unsigned(list) => list.len(),
            Array::Signed(list) => list.len(),
            Array::F32(list) => list.len(),
            Array::F64(list) => list.len(),
            Array::Bool(list) => list.len(),
            Array::String(list) => list.len(),
            Array::Array(list) => list.len(),
        }
    }

    /// True without elements.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The elements as whole numbers at least zero, if they all are.
    pub fn as_counts(&self) -> Option<Vec<u64>> {
        match self {
            Array::Bytes(list) => Some(list.iter().map(|&x| u64::from(x)).collect()),
            Array::Unsigned(list) => Some(list.clone()),
            Array::Signed(list) => list.iter().map(|&x| u64::try_from(x).ok()).collect(),
            _ => None,
        }
    }
}

impl Value {
    /// The value as a whole number at least zero.
    pub fn as_count(&self) -> Option<u64> {
        match self {
            Value::Unsigned(x) => Some(*x),
            Value::Signed(x) => u64::try_from(*x).ok(),
            _ => None,
        }
    }

    /// The value as a real number.
    pub fn as_f64(&self) -> Option<f64> {
        match self {
            Value::F32(x) => Some(f64::from(*x)),
            Value::F64(x) => Some(*x),
            Value::Unsigned(x) => Some(*x as f64),
            Value::Signed(x) => Some(*x as f64),
            _ => None,
        }
    }

    /// The value as a truth value.
    pub fn as_bool(&self) -> Option<bool> {
        match self {
            Value::Bool(x) => Some(*x),
            _ => None,
        }
    }

    /// The value as text.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Value::String(x) => Some(x),
            _ => None,
        }
    }

    /// The value as a list.
    pub fn as_array(&self) -> Option<&Array> {
        match self {
            Value::Array(x) => Some(x),
            _ => None,
        }
    }

    /// The value as JSON; a list longer than `limit` becomes a text that says how long it is.
    pub fn to_json(&self, limit: usize) -> serde_json::Value {
        match self {
            Value::Unsigned(x) => (*x).into(),
            Value::Signed(x) => (*x).into(),
            Value::F32(x) => number(f64::from(*x), x.to_string()),
            Value::F64(x) => number(*x, x.to_string()),
            Value::Bool(x) => (*x).into(),
            Value::String(x) => x.as_str().into(),
            Value::Array(x) => x.to_json(limit),
        }
    }
}

/// A float as the JSON number that people wrote (`0.1`, not `0.10000000149011612`).
fn number(exact: f64, shortest: String) -> serde_json::Value {
    let value = shortest.parse().unwrap_or(exact);
    serde_json::Number::from_f64(value).map_or(shortest.into(), serde_json::Value::Number)
}

impl Array {
    fn to_json(&self, limit: usize) -> serde_json::Value {
        if self.len() > limit {
            return format!("({} values)", self.len()).into();
        }
        match self {
            Array::Bytes(list) => list.clone().into(),
            Array::Unsigned(list) => list.clone().into(),
            Array::Signed(list) => list.clone().into(),
            Array::F32(list) => {
                list.iter().map(|x| number(f64::from(*x), x.to_string())).collect::<Vec<_>>().into()
            }
            Array::F64(list) => {
                list.iter().map(|x| number(*x, x.to_string())).collect::<Vec<_>>().into()
            }
            Array::Bool(list) => list.clone().into(),
            Array::String(list) => list.clone().into(),
            Array::Array(list) => list.iter().map(|x| x.to_json(limit)).collect::<Vec<_>>().into(),
        }
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.to_json(16) {
            serde_json::Value::String(text) => f.write_str(&text),
            other => write!(f, "{other}"),
        }
    }
}

/// A key, its value, and where in the file type and value stand.
#[derive(Clone, Debug)]
struct Entry {
    key: String,
    value: Value,
    encoded: Range<usize>,
}

/// Keys and values in the file's order; no key twice.
#[derive(Clone, Debug, Default)]
pub struct Metadata {
    entries: Vec<Entry>,
    index: HashMap<String, usize>,
}

impl Metadata {
    /// The value of a key.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.index.get(key).map(|&i| &self.entries[i].value)
    }

    /// Where the file encodes the type and value of a key.
    pub(crate) fn encoded(&self, key: &str) -> Option<Range<usize>> {
        self.index.get(key).map(|&i| self.entries[i].encoded.clone())
    }

    /// Adds an entry under a new key.
    pub(crate) fn insert(&mut self, key: String, value: Value, encoded: Range<usize>) {
        self.index.insert(key.clone(), self.entries.len());
        self.entries.push(Entry { key, value, encoded });
    }

    /// All entries in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &Value)> {
        self.entries.iter().map(|entry| (entry.key.as_str(), &entry.value))
    }

    /// Number of entries.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// True without entries.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}
