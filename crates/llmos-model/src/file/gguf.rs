//! Reads a GGUF header: versions 2 and 3, little endian.
//!
//! Source: ggml's `docs/gguf.md`. Every count is checked against the bytes that are left before
//! anything is allocated for it.

use std::collections::HashSet;
use std::path::Path;

use llmos_tensor::DType;

use super::metadata::{Array, Metadata, Value};
use super::tensor::{Entry, shape_bytes};
use crate::Error;

/// The header of one GGUF file.
#[derive(Clone, Debug)]
pub struct Header {
    /// 2 or 3.
    pub version: u32,
    /// Keys and values.
    pub metadata: Metadata,
    /// The tensors, in the file's order.
    pub tensors: Vec<Entry>,
}

/// Arrays of arrays go no deeper than this; no known file has even two.
const MAX_DEPTH: usize = 4;
/// ggml's own limit of dimensions.
const MAX_DIMS: u32 = 4;
/// ggml cuts names at 64 bytes; nothing real comes near this.
const MAX_NAME: usize = 1024;
const DEFAULT_ALIGNMENT: usize = 32;

impl Header {
    /// Reads the header of the whole file's `bytes`; `path` is for messages alone.
    ///
    /// # Errors
    /// [`Error::Format`] where a field is impossible, [`Error::Unsupported`] for versions, byte
    /// orders and tensor formats that are not read.
    pub fn read(bytes: &[u8], path: &Path) -> Result<Header, Error> {
        let mut cursor = Cursor { bytes, at: 0, path };
        let magic = cursor.take(4, "magic")?;
        if magic != b"GGUF" {
            return Err(Error::format(path, "magic", "GGUF", format!("{magic:02x?}")));
        }
        let version = cursor.u32("version")?;
        if !matches!(version, 2 | 3) {
            let what = if matches!(version.swap_bytes(), 1..=3) {
                "a big-endian GGUF file".to_owned()
            } else {
                format!("GGUF version {version}")
            };
            return Err(Error::unsupported(path, what, "GGUF versions 2 and 3, little endian"));
        }
        let n_tensor = cursor.u64("tensor count")?;
        let n_entry = cursor.u64("metadata count")?;

        // An entry takes a key's length, a type and a value of at least one byte.
        let n_entry = cursor.count(n_entry, 8 + 4 + 1, "metadata count")?;
        let mut metadata = Metadata::default();
        for _ in 0..n_entry {
            let key = cursor.name("metadata key")?;
            let start = cursor.at;
            let value_type = cursor.u32(&key)?;
            let value = cursor.value(value_type, &key)?;
            if metadata.get(&key).is_some() {
                return Err(Error::format(path, key, "a key once", "twice"));
            }
            metadata.insert(key, value, start..cursor.at);
        }
        let alignment = match metadata.get("general.alignment") {
            None => DEFAULT_ALIGNMENT,
            Some(value) => value
                .as_count()
                .and_then(|n| usize::try_from(n).ok())
                .filter(|n| n.is_power_of_two() && *n <= 1 << 30)
                .ok_or_else(|| Error::format(path, "general.alignment", "a power of two", value))?,
        };

        // A tensor takes a name's length, a number of dimensions, one dimension, a type, an offset.
        let n_tensor = cursor.count(n_tensor, 8 + 4 + 8 + 4 + 8, "tensor count")?;
        let mut tensors = Vec::with_capacity(n_tensor);
        let mut names = HashSet::with_capacity(n_tensor);
        for _ in 0..n_tensor {
            let tensor = cursor.tensor()?;
            if !names.insert(tensor.name.clone()) {
                return Err(Error::format(path, tensor.name, "a tensor once", "twice"));
            }
            tensors.push(tensor);
        }
        let start = cursor
            .at
            .checked_next_multiple_of(alignment)
            .ok_or_else(|| Error::format(path, "tensor data", "a start that fits", "overflow"))?;
        place(&mut tensors, start, alignment, bytes.len(), path)?;
        Ok(Header { version, metadata, tensors })
    }
}

/// Turns ranges relative to `start` into ranges of the file, and checks them.
fn place(
    tensors: &mut [Entry],
    start: usize,
    alignment: usize,
    file_len: usize,
    path: &Path,
) -> Result<(), Error> {
    for tensor in tensors.iter_mut() {
        if !tensor.range.start.is_multiple_of(alignment) {
            let expected = format!("an offset that is a multiple of {alignment}");
            return Err(Error::format(path, &tensor.name, expected, tensor.range.start));
        }
        let begin = start.checked_add(tensor.range.start);
        let end = begin.and_then(|begin| begin.checked_add(tensor.range.len()));
        let inside = begin.zip(end).filter(|&(_, end)| end <= file_len);
        let Some((begin, end)) = inside else {
            let need = end.map_or("more than can be addressed".to_owned(), |end| end.to_string());
            let got = format!("a file of {file_len} bytes: truncated?");
            return Err(Error::format(path, &tensor.name, format!("{need} bytes"), got));
        };
        tensor.range = begin..end;
    }
    let mut order: Vec<&Entry> = tensors.iter().collect();
    order.sort_by_key(|tensor| tensor.range.start);
    for pair in order.windows(2) {
        if pair[1].range.start < pair[0].range.end {
            let got = format!("shared bytes with {}", pair[0].name);
            return Err(Error::format(path, &pair[1].name, "bytes of its own", got));
        }
    }
    Ok(())
}

/// A place in the header.
struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
    path: &'a Path,
}

impl<'a> Cursor<'a> {
    fn remaining(&self) -> usize {
        self.bytes.len() - self.at
    }

    fn take(&mut self, n: usize, field: &str) -> Result<&'a [u8], Error> {
        if n > self.remaining() {
            let got = format!("{} to the end of the file", self.remaining());
            return Err(Error::format(self.path, field, format!("{n} bytes"), got));
        }
        let taken = &self.bytes[self.at..self.at + n];
        self.at += n;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self, field: &str) -> Result<[u8; N], Error> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N, field)?);
        Ok(array)
    }

    fn u32(&mut self, field: &str) -> Result<u32, Error> {
        Ok(u32::from_le_bytes(self.array(field)?))
    }

    fn u64(&mut self, field: &str) -> Result<u64, Error> {
        Ok(u64::from_le_bytes(self.array(field)?))
    }

    /// A number of things that take at least `least` bytes each: proved possible, so that memory
    /// set aside for them is bounded by the file.
    fn count(&self, n: u64, least: usize, field: &str) -> Result<usize, Error> {
        let most = self.remaining() / least;
        match usize::try_from(n) {
            Ok(n) if n <= most => Ok(n),
            _ => Err(Error::format(self.path, field, format!("at most {most}"), n)),
        }
    }

    fn string(&mut self, field: &str) -> Result<&'a [u8], Error> {
        let len = self.u64(field)?;
        let len = self.count(len, 1, field)?;
        self.take(len, field)
    }

    /// A key or a tensor's name.
    fn name(&mut self, field: &str) -> Result<String, Error> {
        let bytes = self.string(field)?;
        match std::str::from_utf8(bytes) {
            Ok(name) if name.len() <= MAX_NAME => Ok(name.to_owned()),
            Ok(name) => Err(Error::format(
                self.path,
                field,
                format!("at most {MAX_NAME} bytes"),
                name.len(),
            )),
            Err(_) => Err(Error::format(self.path, field, "UTF-8", String::from_utf8_lossy(bytes))),
        }
    }

    fn value(&mut self, value_type: u32, key: &str) -> Result<Value, Error> {
        Ok(match value_type {
            0 => Value::Unsigned(u64::from(self.take(1, key)?[0])),
            1 => Value::Signed(i64::from(i8::from_le_bytes(self.array(key)?))),
            2 => Value::Unsigned(u64::from(u16::from_le_bytes(self.array(key)?))),
            3 => Value::Signed(i64::from(i16::from_le_bytes(self.array(key)?))),
            4 => Value::Unsigned(u64::from(self.u32(key)?)),
            5 => Value::Signed(i64::from(i32::from_le_bytes(self.array(key)?))),
            6 => Value::F32(f32::from_le_bytes(self.array(key)?)),
            7 => match self.take(1, key)?[0] {
                0 => Value::Bool(false),
                1 => Value::Bool(true),
                other => return Err(Error::format(self.path, key, "a bool, 0 or 1", other)),
            },
            8 => Value::String(String::from_utf8_lossy(self.string(key)?).into_owned()),
            9 => Value::Array(self.list(key, MAX_DEPTH)?),
            10 => Value::Unsigned(self.u64(key)?),
            11 => Value::Signed(i64::from_le_bytes(self.array(key)?)),
            12 => Value::F64(f64::from_le_bytes(self.array(key)?)),
            other => {
                return Err(Error::format(self.path, key, "a value type from 0 to 12", other));
            }
        })
    }

    /// `n` numbers of `N` bytes.
    fn numbers<const N: usize, T>(
        &mut self,
        n: u64,
        key: &str,
        read: impl Fn([u8; N]) -> T,
    ) -> Result<Vec<T>, Error> {
        let n = self.count(n, N, key)?;
        let bytes = self.take(n * N, key)?;
        Ok(bytes.as_chunks::<N>().0.iter().map(|&chunk| read(chunk)).collect())
    }

    fn list(&mut self, key: &str, depth: usize) -> Result<Array, Error> {
        let element = self.u32(key)?;
        let n = self.u64(key)?;
        Ok(match element {
            0 => {
                let n = self.count(n, 1, key)?;
                Array::Bytes(self.take(n, key)?.to_vec())
            }
            1 => Array::Signed(self.numbers(n, key, |b| i64::from(i8::from_le_bytes(b)))?),
            2 => Array::Unsigned(self.numbers(n, key, |b| u64::from(u16::from_le_bytes(b)))?),
            3 => Array::Signed(self.numbers(n, key, |b| i64::from(i16::from_le_bytes(b)))?),
            4 => Array::Unsigned(self.numbers(n, key, |b| u64::from(u32::from_le_bytes(b)))?),
            5 => Array::Signed(self.numbers(n, key, |b| i64::from(i32::from_le_bytes(b)))?),
            6 => Array::F32(self.numbers(n, key, f32::from_le_bytes)?),
            7 => {
                let n = self.count(n, 1, key)?;
                let bytes = self.take(n, key)?;
                if let Some(other) = bytes.iter().find(|&&byte| byte > 1) {
                    return Err(Error::format(self.path, key, "bools, 0 or 1", other));
                }
                Array::Bool(bytes.iter().map(|&byte| byte == 1).collect())
            }
            8 => {
                let n = self.count(n, 8, key)?;
                let mut strings = Vec::with_capacity(n);
                for _ in 0..n {
                    strings.push(String::from_utf8_lossy(self.string(key)?).into_owned());
                }
                Array::String(strings)
            }
            9 if depth == 0 => {
                let expected = format!("arrays nested at most {MAX_DEPTH} deep");
                return Err(Error::format(self.path, key, expected, "more"));
            }
            9 => {
                let n = self.count(n, 4 + 8, key)?;
                let mut lists = Vec::with_capacity(n);
                for _ in 0..n {
                    lists.push(self.list(key, depth - 1)?);
                }
                Array::Array(lists)
            }
            10 => Array::Unsigned(self.numbers(n, key, u64::from_le_bytes)?),
            11 => Array::Signed(self.numbers(n, key, i64::from_le_bytes)?),
            12 => Array::F64(self.numbers(n, key, f64::from_le_bytes)?),
            other => {
                return Err(Error::format(self.path, key, "an element type from 0 to 12", other));
            }
        })
    }

    /// A tensor's entry; its range is relative to the data's start.
    fn tensor(&mut self) -> Result<Entry, Error> {
        let name = self.name("tensor name")?;
        let n_dims = self.u32(&name)?;
        if !(1..=MAX_DIMS).contains(&n_dims) {
            let expected = format!("1 to {MAX_DIMS} dimensions");
            return Err(Error::format(self.path, name, expected, n_dims));
        }
        // GGUF writes the innermost dimension first.
        let mut shape = Vec::with_capacity(n_dims as usize);
        for _ in 0..n_dims {
            let n = self.u64(&name)?;
            shape.insert(0, usize::try_from(n).unwrap_or(usize::MAX));
        }
        let code = self.u32(&name)?;
        let offset = self.u64(&name)?;
        let Some(dtype) = dtype_of(code) else {
            let what = match type_name(code) {
                Some(type_name) => format!("tensor {name}: type {type_name}"),
                None => format!("tensor {name}: type number {code}"),
            };
            return Err(Error::unsupported(self.path, what, supported_types()));
        };
        let Some(len) = shape_bytes(dtype, &shape) else {
            let expected = format!("a shape of whole {dtype} blocks that fits memory");
            return Err(Error::format(self.path, name, expected, format!("{shape:?}")));
        };
        let end = usize::try_from(offset).ok().and_then(|start| start.checked_add(len));
        let Some(end) = end else {
            return Err(Error::format(self.path, name, "an offset within the file", offset));
        };
        Ok(Entry { name, dtype, shape, range: end - len..end })
    }
}

/// GGUF's number of a format (`enum ggml_type`).
pub(crate) fn code_of(dtype: DType) -> u32 {
    match dtype {
        DType::F32 => 0,
        DType::F16 => 1,
        DType::Q4_0 => 2,
        DType::Q4_1 => 3,
        DType::Q5_0 => 6,
        DType::Q5_1 => 7,
        DType::Q8_0 => 8,
        DType::Q2_K => 10,
        DType::Q3_K => 11,
        DType::Q4_K => 12,
        DType::Q5_K => 13,
        DType::Q6_K => 14,
        DType::IQ4_NL => 20,
        DType::IQ4_XS => 23,
        DType::BF16 => 30,
        DType::MXFP4 => 39,
    }
}

fn dtype_of(code: u32) -> Option<DType> {
    DType::ALL.into_iter().find(|&dtype| code_of(dtype) == code)
}

/// Names of the formats that exist but are not read, for the message.
fn type_name(code: u32) -> Option<&'static str> {
    Some(match code {
        9 => "Q8_1",
        15 => "Q8_K",
        16 => "IQ2_XXS",
        17 => "IQ2_XS",
        18 => "IQ3_XXS",
        19 => "IQ1_S",
        21 => "IQ3_S",
        22 => "IQ2_S",
        24 => "I8",
        25 => "I16",
        26 => "I32",
        27 => "I64",
        28 => "F64",
        29 => "IQ1_M",
        31..=33 => "Q4_0 repacked for one CPU",
        34 => "TQ1_0",
        35 => "TQ2_0",
        36..=38 => "IQ4_NL repacked for one CPU",
        40 => "NVFP4",
        41 => "Q1_0",
        42 => "Q2_0",
        _ => return None,
    })
}

fn supported_types() -> String {
    DType::ALL.map(|dtype| dtype.name()).join(", ")
}
