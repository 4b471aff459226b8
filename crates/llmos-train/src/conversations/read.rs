//! Files of rows: JSONL, a JSON array, or Parquet, found out by looking.

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

/// What some editors put before UTF-8.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// What a Parquet file begins with.
const PARQUET: &[u8] = b"PAR1";

/// The rows of some files.
#[derive(Debug, Default)]
pub struct Rows {
    /// In the files' order.
    pub rows: Vec<Value>,
    /// The files, and how many rows come before each.
    pub files: Vec<(PathBuf, usize)>,
    /// The SHA-256 of all files' bytes, one after another.
    pub sha256: String,
}

/// Reads all rows of `paths`.
///
/// # Errors
/// A file cannot be read, is neither JSONL, JSON nor Parquet, or a row is longer than 16 MiB; the
/// error names the byte.
pub fn read(paths: &[impl AsRef<Path>]) -> Result<Rows, Error> {
    let mut hash = Sha256::new();
    let (mut rows, mut files) = (Vec::new(), Vec::new());
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
        if first.starts_with(BYTE_ORDER_MARK) {
            reader.consume(BYTE_ORDER_MARK.len());
        }
        let first = reader.fill_buf().map_err(Error::io("read", path))?;
        match first.iter().find(|byte| !byte.is_ascii_whitespace()) {
            Some(b'[') => array(path, reader, &mut rows)?,
            _ => lines(path, reader, &mut rows)?,
        }
    }
    Ok(Rows { rows, files, sha256: hex(&hash.finalize()) })
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

/// One object a line; empty lines are passed over.
fn lines(path: &Path, mut reader: impl BufRead, rows: &mut Vec<Value>) -> Result<(), Error> {
    let (mut line, mut offset) = (Vec::new(), 0);
    loop {
        line.clear();
        let mut within = (&mut reader).take(LONGEST_ROW as u64 + 1);
        let n = within.read_until(b'\n', &mut line).map_err(Error::io("read", path))?;
        if n == 0 {
            return Ok(());
        }
        let text = |problem: String| Error::Text { path: path.to_path_buf(), offset, problem };
        if n > LONGEST_ROW {
            return Err(text(format!("a row of more than {LONGEST_ROW} bytes")));
        }
        if !line.trim_ascii().is_empty() {
            let row = serde_json::from_slice(&line)
                .map_err(|error| text(format!("no JSON object: {error}")))?;
            rows.push(row);
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
