//! Tensors of single precision in a safetensors file, in the order in which they lie in memory, so
//! that a file is a header and one row of numbers.

use std::io::{Read, Write};
use std::path::Path;

use serde_json::{Map, Value, json};

use crate::Error;

/// The header of tensors with these names and shapes, padded to eight bytes.
pub(super) fn header<'a>(tensors: impl Iterator<Item = (&'a str, Vec<usize>)>) -> Vec<u8> {
    let mut entries = Map::new();
    entries.insert("__metadata__".to_string(), json!({ "format": "pt" }));
    let mut at = 0;
    for (name, shape) in tensors {
        let end = at + size_of::<f32>() * shape.iter().product::<usize>();
        let entry = json!({ "dtype": "F32", "shape": shape, "data_offsets": [at, end] });
        entries.insert(name.to_string(), entry);
        at = end;
    }
    let mut text = Value::Object(entries).to_string().into_bytes();
    text.resize(text.len().next_multiple_of(8), b' ');
    [(text.len() as u64).to_le_bytes().to_vec(), text].concat()
}

/// Writes a header and the numbers that it describes, (n) in all.
pub(super) fn write(
    out: &mut impl Write,
    header: &[u8],
    numbers: &[&[f32]],
) -> std::io::Result<()> {
    out.write_all(header)?;
    numbers.iter().try_for_each(|numbers| out.write_all(bytemuck::cast_slice(numbers)))
}

/// Reads the file that [`write`] wrote with this header into `numbers`.
///
/// # Errors
/// [`Error::Format`] where it has another header or length; [`Error::Io`].
pub(super) fn read(path: &Path, header: &[u8], numbers: &mut [&mut [f32]]) -> Result<(), Error> {
    let io = |error| Error::io("read", path)(error);
    let mut file = std::fs::File::open(path).map_err(io)?;
    let count: usize = numbers.iter().map(|numbers| numbers.len()).sum();
    let bytes = size_of::<f32>() * count;
    let expected = (header.len() + bytes) as u64;
    let got = file.metadata().map_err(io)?.len();
    let format = |what: &str, expected: String, got: String| Error::Format {
        path: path.to_path_buf(),
        what: what.to_string(),
        expected,
        got,
    };
    if expected != got {
        return Err(format("bytes of this model", expected.to_string(), got.to_string()));
    }
    let mut found = vec![0; header.len()];
    file.read_exact(&mut found).map_err(io)?;
    if found != header {
        let got = "those of another one".to_string();
        return Err(format("tensors", "those of the recipe's model".to_string(), got));
    }
    for numbers in numbers {
        file.read_exact(bytemuck::cast_slice_mut(numbers)).map_err(io)?;
    }
    Ok(())
}
