//! Reads a safetensors header.
//!
//! Source: the format's own description: eight bytes of length, a JSON object from names to type,
//! shape and byte range, then data without gaps or overlaps.

use std::path::Path;

use llmos_tensor::DType;
use serde::Deserialize;
use serde::de::{MapAccess, Visitor};

use super::tensor::{Entry, shape_bytes};
use crate::Error;

/// The reference implementation's own limit of a header.
const MAX_HEADER: u64 = 100_000_000;

/// One tensor as the JSON has it.
#[derive(Deserialize)]
struct Described {
    dtype: String,
    shape: Vec<usize>,
    data_offsets: (usize, usize),
}

/// The JSON object in its own order; a name twice is an error (a map would keep the last).
struct Listed(Vec<(String, Described)>);

impl<'de> Deserialize<'de> for Listed {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Listed, D::Error> {
        struct Names;
        impl<'de> Visitor<'de> for Names {
            type Value = Listed;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object of tensors")
            }
            fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Listed, M::Error> {
                let mut list = Vec::new();
                let mut seen = std::collections::HashSet::new();
                while let Some(name) = map.next_key::<String>()? {
                    if !seen.insert(name.clone()) {
                        return Err(serde::de::Error::custom(format!("{name:?} stands twice")));
                    }
                    if name == "__metadata__" {
                        map.next_value::<serde::de::IgnoredAny>()?;
                    } else {
                        list.push((name, map.next_value()?));
                    }
                }
                Ok(Listed(list))
            }
        }
        deserializer.deserialize_map(Names)
    }
}

/// Reads the header of the whole file's `bytes`; `path` is for messages alone.
///
/// Tensors whose type no weight has (integers, bools) are kept out of the list.
///
/// # Errors
/// [`Error::Format`] for anything that does not add up, [`Error::Unsupported`] for a type of float
/// that is not read.
pub fn read(bytes: &[u8], path: &Path) -> Result<Vec<Entry>, Error> {
    let Some((length, rest)) = bytes.split_first_chunk::<8>() else {
        return Err(Error::format(path, "header", "at least 8 bytes", bytes.len()));
    };
    let length = u64::from_le_bytes(*length);
    if length > MAX_HEADER || length > rest.len() as u64 {
        let most = MAX_HEADER.min(rest.len() as u64);
        return Err(Error::format(path, "header length", format!("at most {most}"), length));
    }
    let (header, data) = rest.split_at(length as usize);
    let listed: Listed = serde_json::from_slice(header)
        .map_err(|error| Error::format(path, "header", "JSON of tensors", error))?;

    let start = bytes.len() - data.len();
    let mut order: Vec<(usize, usize)> = Vec::with_capacity(listed.0.len());
    let mut entries = Vec::with_capacity(listed.0.len());
    for (name, described) in listed.0 {
        let (begin, end) = described.data_offsets;
        if begin > end || end > data.len() {
            let expected = format!("a range within {} bytes of data", data.len());
            return Err(Error::format(path, name, expected, format!("{begin}..{end}: truncated?")));
        }
        order.push((begin, end));
        let dtype = match described.dtype.as_str() {
            "F32" => DType::F32,
            "F16" => DType::F16,
            "BF16" => DType::BF16,
            "BOOL" | "U8" | "I8" | "U16" | "I16" | "U32" | "I32" | "U64" | "I64" => continue,
            other => {
                let what = format!("tensor {name}: type {other}");
                return Err(Error::unsupported(path, what, "F32, F16, BF16"));
            }
        };
        // A scalar is one value.
        let shape = if described.shape.is_empty() { vec![1] } else { described.shape };
        let bytes = shape_bytes(dtype, &shape);
        if bytes != Some(end - begin) {
            let expected = bytes.map_or("a shape that fits memory".to_owned(), |bytes| {
                format!("{bytes} bytes for {dtype} {shape:?}")
            });
            return Err(Error::format(path, name, expected, format!("{} bytes", end - begin)));
        }
        entries.push(Entry { name, dtype, shape, range: start + begin..start + end });
    }
    order.sort_unstable();
    let mut at = 0;
    for (begin, end) in order {
        if begin != at {
            let expected = format!("data without gaps or overlaps, next at {at}");
            return Err(Error::format(path, "data_offsets", expected, begin));
        }
        at = end;
    }
    if at != data.len() {
        let expected = format!("{at} bytes of data");
        return Err(Error::format(path, "data", expected, data.len()));
    }
    Ok(entries)
}
