//! Files of rows: JSONL, a JSON array, or Parquet, and the first two compressed, found out by looking.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use parquet::file::reader::{FileReader, SerializedFileReader};
use serde::de::{Deserializer as _, SeqAccess, Visitor};
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::Error;
use crate::data::{Compression, hex};

/// Longest row in bytes; what is longer is no row of a conversation.
const LONGEST_ROW: usize = 16 << 20;

/// Lines at the beginning of a file that may all be no JSON.
const MOST_BROKEN: usize = 100;

/// What some editors put before UTF-8.
pub const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

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
/// A file cannot be read or unpacked, is neither JSONL, JSON nor Parquet, or a row is longer than
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
        let compression = Compression::of(first);
        let mut reader: Box<dyn BufRead + '_> = match compression {
            Some(compression) => Box::new(BufReader::new(compression.unpack(reader))),
            None => Box::new(reader),
        };
        let first = reader.fill_buf().map_err(Error::io("read", path))?;
        // Its columns are found from its end.
        if compression.is_some() && first.starts_with(PARQUET) {
            return Err(Error::Format {
                path: path.to_path_buf(),
                what: "rows".into(),
                expected: "JSONL, JSON or Parquet".into(),
                got: "a compressed Parquet file".into(),
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
            return Err(text(offset, too_long()));
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

/// One array of objects, each taken as it comes: what it is unpacked to need not fit into memory as
/// text too.
fn array(path: &Path, reader: impl Read, rows: &mut Vec<Value>) -> Result<(), Error> {
    let (read, element) = (Cell::new(0), Cell::new(0));
    let reader = Limited { reader, read: &read, element: &element };
    let mut json = serde_json::Deserializer::from_reader(reader);
    let elements = Elements { rows, read: &read, element: &element };
    let result = json.deserialize_seq(elements).and_then(|()| json.end());
    result.map_err(|error| {
        let path = path.to_path_buf();
        let offset = element.get();
        match error.is_io() {
            true if read.get() - offset > LONGEST_ROW as u64 => {
                Error::Text { path, offset, problem: too_long() }
            }
            true => Error::io("read", path)(error.into()),
            false => {
                let problem = format!("no array of JSON objects: {error}");
                Error::Text { path, offset: 0, problem }
            }
        }
    })
}

fn too_long() -> String {
    format!("a row of more than {LONGEST_ROW} bytes")
}

/// Reads no further than an element may be long.
struct Limited<'a, R> {
    reader: R,
    /// Bytes that were read.
    read: &'a Cell<u64>,
    /// How many of them come before this element.
    element: &'a Cell<u64>,
}

impl<R: Read> Read for Limited<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let n = self.reader.read(buffer)?;
        self.read.set(self.read.get() + n as u64);
        match self.read.get() - self.element.get() > LONGEST_ROW as u64 {
            true => Err(std::io::Error::other(too_long())),
            false => Ok(n),
        }
    }
}

/// Puts the elements of an array behind those that are there.
struct Elements<'a> {
    rows: &'a mut Vec<Value>,
    read: &'a Cell<u64>,
    element: &'a Cell<u64>,
}

impl<'de> Visitor<'de> for Elements<'_> {
    type Value = ();

    fn expecting(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str("an array")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<(), A::Error> {
        while let Some(row) = elements.next_element()? {
            self.rows.push(row);
            self.element.set(self.read.get());
        }
        Ok(())
    }
}

/// Bytes of files of rows as they lie on the disk, or unpacked where they are compressed: of one that
/// is, more than `most` are not counted. What cannot be read counts as far as it can; what can be read
/// once alone, such as a pipe, is left to its reader and counts for nothing.
pub fn n_byte(paths: &[impl AsRef<Path>], most: u64) -> u64 {
    let of = |path: &Path| -> Option<u64> {
        if !path.metadata().ok()?.is_file() {
            return None;
        }
        let file = File::open(path).ok()?;
        let length = file.metadata().ok()?.len();
        let mut reader = BufReader::with_capacity(1 << 18, file);
        let Some(compression) = Compression::of(reader.fill_buf().ok()?) else {
            return Some(length);
        };
        let mut counted = 0;
        let mut unpacked = compression.unpack(reader).take(most.saturating_add(1));
        let mut piece = vec![0; 1 << 16];
        while let Ok(n @ 1..) = unpacked.read(&mut piece) {
            counted += n as u64;
        }
        Some(counted)
    };
    paths.iter().filter_map(|path| of(path.as_ref())).fold(0, u64::saturating_add)
}

fn parquet(path: &Path, rows: &mut Vec<Value>) -> Result<(), Error> {
    let format = |got: String| Error::Format {
        path: path.to_path_buf(),
        what: "Parquet".into(),
        expected: "rows that can be read".into(),
        got,
    };
    if !path.is_file() {
        return Err(format("a pipe, and columns are found from a file's end".into()));
    }
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
    use std::io::Write;

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
    }

    fn gzip(text: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        encoder.write_all(text).unwrap();
        encoder.finish().unwrap()
    }

    fn zstandard(text: &[u8]) -> Vec<u8> {
        ruzstd::encoding::compress_to_vec(text, ruzstd::encoding::CompressionLevel::Fastest)
    }

    #[test]
    fn an_endless_row_is_not_read_to_its_end() {
        let scratch = Scratch::new();
        let endless = "x".repeat(LONGEST_ROW);
        for (text, at) in [
            (format!("{{\"a\": 1}}\n{{\"b\": \"{endless}\"}}\n"), 9),
            (format!("[{{\"a\": 1}}, {{\"b\": \"{endless}\"}}]"), 9),
        ] {
            let error = read(&[scratch.write("rows", text.as_bytes())]).unwrap_err().to_string();
            let expected = format!("a row of more than 16777216 bytes, at byte {at}");
            assert!(error.ends_with(&expected), "{error}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn a_pipe_is_read_once() {
        let scratch = Scratch::new();
        let pipe = scratch.write("gone", b"").with_file_name("pipe");
        let made = std::process::Command::new("mkfifo").arg(&pipe).status();
        if !made.is_ok_and(|status| status.success()) {
            return;
        }
        let writer = std::thread::spawn({
            let pipe = pipe.clone();
            move || std::fs::write(pipe, "{\"a\": 1}\n").unwrap()
        });
        assert_eq!(n_byte(&[&pipe], 1000), 0);
        assert_eq!(read(&[&pipe]).unwrap().rows.len(), 1);
        writer.join().unwrap();
    }

    #[test]
    fn compressed_rows_are_those_that_were_compressed() {
        let scratch = Scratch::new();
        let lines = (0..3000).map(|n| format!("{{\"a\": {n}}}\n")).collect::<String>();
        let list = format!("\u{feff} [{}]", lines.trim_end().replace('\n', ","));
        for text in [lines.as_bytes(), list.as_bytes()] {
            let plain = read(&[scratch.write("plain", text)]).unwrap();
            assert_eq!((plain.rows.len(), &plain.rows[2999]["a"]), (3000, &2999.into()));
            for packed in [gzip(text), zstandard(text)] {
                let path = scratch.write("packed", &packed);
                let unpacked = read(&[&path]).unwrap();
                assert_eq!(unpacked.rows, plain.rows);
                // A file is known by its own bytes.
                assert_eq!(unpacked.sha256, hex(&Sha256::digest(&packed)));
                assert_eq!(n_byte(&[&path], u64::MAX), text.len() as u64);
                assert_eq!(n_byte(&[&path], 1000), 1001);
                // What is damaged or cut off is an error of its reading.
                let mut damaged = packed.clone();
                *damaged.last_mut().unwrap() ^= 1;
                for bytes in [&damaged[..], &packed[..packed.len() - 5]] {
                    let error = read(&[scratch.write("damaged", bytes)]).unwrap_err();
                    assert!(matches!(error, Error::Io { .. }), "{error}");
                }
            }
        }
        let error = read(&[scratch.write("columns", &gzip(b"PAR1 and so on"))]).unwrap_err();
        assert!(error.to_string().contains("a compressed Parquet file"), "{error}");
        assert_eq!(n_byte(&[scratch.write("text", b"abc"), "nowhere".into()], 1), 3);
    }
}
