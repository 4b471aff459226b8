//! Files of rows: JSONL, a JSON array, or Parquet, found out by looking.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use parquet::file::reader::{FileReader, SerializedFileReader};
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::Error;
use crate::data::hex;

/// Longest row in bytes; what is longer is no row of a conversation.
const LONGEST_ROW: usize = 16 << 20;

/// Lines at the beginning of a file that may all be no JSON.
const MOST_BROKEN: usize = 100;

/// What some editors put before UTF-8.
pub const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// What gzip (RFC 1952) and Zstandard (RFC 8878) begin with.
const COMPRESSED: [&[u8]; 2] = [b"\x1f\x8b", b"\x28\xb5\x2f\xfd"];

/// What a Parquet file begins with.
const PARQUET: &[u8] = b"PAR1";

/// The rows of some files.
#[derive(Debug, Default)]
pub struct Rows {
    /// In the files' order.
    pub rows: Vec<Value>,
    /// What is wrong with lines that are no JSON, by their rows, which are null.
    pub broken: BTreeMap<usize, String>,
    /// The files, and how many rows come before each.
    pub files: Vec<(PathBuf, usize)>,
    /// The SHA-256 of all files' bytes, one after another.
    pub sha256: String,
}

/// Reads all rows of `paths`.
///
/// # Errors
/// A file cannot be read, is compressed, is neither JSONL, JSON nor Parquet, or a row is longer than
/// 16 MiB; the error names the byte.
pub fn read(paths: &[impl AsRef<Path>]) -> Result<Rows, Error> {
    let mut hash = Sha256::new();
    let (mut rows, mut files, mut broken) = (Vec::new(), Vec::new(), BTreeMap::new());
    for path in paths {
        let path = path.as_ref();
        files.push((path.to_path_buf(), rows.len()));
        let file = File::open(path).map_err(Error::io("read", path))?;
        let mut reader = BufReader::with_capacity(1 << 18, Tap { file, hash: &mut hash });
        let first = reader.fill_buf().map_err(Error::io("read", path))?;
        if first.starts_with(PARQUET) {
            std::io::copy(&mut reader, &mut std::io::sink()).map_err(Error::io("read", path))?;
            parquet(path, &mut rows)?;
            continue;
        }
        if COMPRESSED.iter().any(|magic| first.starts_with(magic)) {
            return Err(Error::Format {
                path: path.to_path_buf(),
                what: "rows".into(),
                expected: "JSONL, JSON or Parquet".into(),
                got: "a compressed file".into(),
            });
        }
        if first.starts_with(BYTE_ORDER_MARK) {
            reader.consume(BYTE_ORDER_MARK.len());
        }
        let first = reader.fill_buf().map_err(Error::io("read", path))?;
        match first.iter().find(|byte| !byte.is_ascii_whitespace()) {
            Some(b'[') => array(path, reader, &mut rows)?,
            _ => lines(path, reader, &mut rows, &mut broken)?,
        }
    }
    Ok(Rows { rows, broken, files, sha256: hex(&hash.finalize()) })
}

/// A file that is hashed by whoever reads it.
struct Tap<'a> {
    file: File,
    hash: &'a mut Sha256,
}

impl Read for Tap<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let n = self.file.read(buffer)?;
        self.hash.update(&buffer[..n]);
        Ok(n)
    }
}

/// One value a line; empty lines are passed over. A file that begins with many lines none of which is
/// one, or has no others, is no file of rows.
fn lines(
    path: &Path,
    mut reader: impl BufRead,
    rows: &mut Vec<Value>,
    broken: &mut BTreeMap<usize, String>,
) -> Result<(), Error> {
    let text = |offset: u64, problem: String| Error::Text { path: path.into(), offset, problem };
    let other = |problem: &str| text(0, format!("no line of it is JSON: {problem}"));
    let (mut line, mut offset) = (Vec::new(), 0);
    let (mut n_sound, mut first_problem) = (0, None);
    loop {
        line.clear();
        let mut within = (&mut reader).take(LONGEST_ROW as u64 + 1);
        let n = within.read_until(b'\n', &mut line).map_err(Error::io("read", path))?;
        if n == 0 {
            let problem: Option<String> = first_problem.filter(|_| n_sound == 0);
            return problem.map_or(Ok(()), |problem| Err(other(&problem)));
        }
        if n > LONGEST_ROW {
            return Err(text(offset, format!("a row of more than {LONGEST_ROW} bytes")));
        }
        if !line.trim_ascii().is_empty() {
            match serde_json::from_slice(line.trim_ascii()) {
                Ok(row) => {
                    rows.push(row);
                    n_sound += 1;
                }
                Err(error) => {
                    // It counts lines within the row, of which there is one.
                    let problem = error.to_string().replace(" at line 1 column ", " at its byte ");
                    if n_sound == 0 && broken.len() >= MOST_BROKEN {
                        return Err(other(&problem));
                    }
                    first_problem.get_or_insert_with(|| problem.clone());
                    broken.insert(rows.len(), format!("no JSON: {problem}"));
                    rows.push(Value::Null);
                }
            }
        }
        offset += n as u64;
    }
}

/// One array of objects.
fn array(path: &Path, mut reader: impl BufRead, rows: &mut Vec<Value>) -> Result<(), Error> {
    let mut bytes = Vec::new();
    reader.read_to_end(&mut bytes).map_err(Error::io("read", path))?;
    let read: Vec<Value> = serde_json::from_slice(&bytes).map_err(|error| Error::Text {
        path: path.to_path_buf(),
        offset: 0,
        problem: format!("no array of JSON objects: {error}"),
    })?;
    rows.extend(read);
    Ok(())
}

fn parquet(path: &Path, rows: &mut Vec<Value>) -> Result<(), Error> {
    let format = |got: String| Error::Format {
        path: path.to_path_buf(),
        what: "Parquet".into(),
        expected: "rows that can be read".into(),
        got,
    };
    let file = File::open(path).map_err(Error::io("read", path))?;
    // The crate panics on some damaged files.
    let read = std::panic::catch_unwind(|| -> parquet::errors::Result<Vec<Value>> {
        let reader = SerializedFileReader::new(file)?;
        reader.get_row_iter(None)?.map(|row| Ok(row?.to_json_value())).collect()
    });
    match read {
        Ok(read) => rows.extend(read.map_err(|error| format(error.to_string()))?),
        Err(_) => return Err(format("a damaged file".into())),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::scratch::Scratch;

    #[test]
    fn a_line_that_is_no_json_is_one_row_that_is_broken() {
        let scratch = Scratch::new();
        let rows = read(&[scratch.write("rows", b"{\"a\": 1}\n\n{\"b\": \n{\"c\": 3}\n")]).unwrap();
        assert_eq!(rows.rows.len(), 3);
        assert_eq!(rows.rows[2]["c"], 3);
        let problem = "no JSON: EOF while parsing a value at its byte 5".to_string();
        assert_eq!(rows.broken, BTreeMap::from([(1, problem)]));
        let refused = |bytes: &[u8], expected: &str| {
            let error = read(&[scratch.write("other", bytes)]).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        };
        refused(b"a text\nof two lines\n", "no line of it is JSON: expected value at its byte 1");
        refused(&b"a\n".repeat(1000), "no line of it is JSON");
        refused(b"\x1f\x8b\x08\x00", "got a compressed file");
    }
}
