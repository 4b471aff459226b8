//! Raw files as rows: text, JSON and Parquet, compressed or not, in bounded memory.

mod input;
mod json;
mod lines;
mod parquet;
mod text;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use super::files::{Format, RawFile};
use super::removal::{Reason, beginning};
use crate::Error;
use input::Input;
pub(crate) use input::{Compression, hex};
pub(super) use parquet::text_columns;
pub(super) use text::measure;

/// Where a text comes from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Location {
    /// The file, by its number over all sources.
    pub(super) file: u32,
    /// The row of the file, from 0.
    pub(super) row: u64,
    /// The byte at which the text begins, or its row where it is written in JSON; in Parquet, 0.
    pub(super) offset: u64,
}

/// A document, or a part of one that is too long to hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Document {
    pub(super) text: String,
    pub(super) at: Location,
    /// The number of the part, 0 for the first.
    pub(super) part: u32,
    pub(super) is_last_part: bool,
    /// A person named this very text, so no rule of thumb throws it away.
    pub(super) is_chosen: bool,
    /// Whether it is held out for validation, where that is known beforehand.
    pub(super) held_out: Option<bool>,
    /// Bytes that could not be read and were left out.
    pub(super) lost: u64,
}

impl Document {
    /// The text of a row, whole.
    fn row(text: String, at: Location) -> Document {
        Document {
            text,
            at,
            part: 0,
            is_last_part: true,
            is_chosen: false,
            held_out: None,
            lost: 0,
        }
    }
}

/// What a row gives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Row {
    /// A text.
    Document(Document),
    /// No text, and why; what the row has instead, where that says more than the reason.
    Refused { at: Location, n_byte: u64, reason: Reason, because: String },
}

impl Row {
    /// No text, for a reason that says enough.
    pub(super) fn refused(at: Location, n_byte: u64, reason: Reason) -> Row {
        Row::Refused { at, n_byte, reason, because: String::new() }
    }
}

/// The rows of a file, in order.
pub(super) trait Rows {
    /// The next row; none at the end.
    fn next(&mut self) -> Result<Option<Row>, Error>;
}

/// How files are read.
#[derive(Clone, Debug)]
pub(super) struct Reading {
    /// The field of a row that holds its text; parts of a path stand between dots.
    pub(super) field: String,
    /// What stands between the documents of a text file.
    pub(super) separator: Option<String>,
    /// Leave out what cannot be read, rather than stop.
    pub(super) lossy: bool,
    /// Longest row of JSON, in bytes.
    pub(super) longest_row: usize,
    /// Of a file that is one text, which a person named: the character at which the held-out rest
    /// begins.
    pub(super) chosen: Option<u64>,
}

/// Longest part of a document, in bytes: what is longer is cut, at a line's end where there is one.
pub(super) const LONGEST_PART: usize = 4 << 20;

/// A file's rows, and its bytes for the hash.
pub(super) struct Opened {
    pub(super) rows: Box<dyn Rows + Send>,
    input: Input,
}

impl Opened {
    /// The SHA-256 of the whole file, whatever was read of it.
    ///
    /// # Errors
    /// The file cannot be read.
    pub(super) fn finish(self) -> Result<String, Error> {
        drop(self.rows);
        self.input.sha256()
    }
}

/// Opens a file; `done` counts its bytes as they are read.
///
/// # Errors
/// The file cannot be read, or is not what its name says.
pub(super) fn open(
    file: &RawFile,
    number: u32,
    reading: &Reading,
    done: &Arc<AtomicU64>,
) -> Result<Opened, Error> {
    let mut input = Input::open(&file.path, done)?;
    let format = match file.format {
        Format::Text if file.is_named && input.starts_with(parquet::MAGIC) => Format::Parquet,
        format => format,
    };
    let rows: Box<dyn Rows + Send> = match format {
        Format::Text => Box::new(text::Texts::new(input.stream(), file, number, reading)),
        Format::Lines => Box::new(lines::Lines::new(input.stream(), file, number, reading)),
        Format::Json => Box::new(json::Values::new(input.stream(), file, number, reading)),
        Format::Parquet => {
            input.count_elsewhere();
            Box::new(parquet::Columns::open(file, number, reading, done)?)
        }
    };
    Ok(Opened { rows, input })
}

/// Whether a file begins as Parquet does.
///
/// # Errors
/// It cannot be read.
pub(super) fn is_parquet(path: &Path) -> Result<bool, Error> {
    Ok(Input::open(path, &Arc::default())?.starts_with(parquet::MAGIC))
}

/// Whether a file begins as Parquet or compressed files do, whatever its name.
///
/// # Errors
/// It cannot be read.
pub(super) fn is_packed(path: &Path) -> Result<bool, Error> {
    let input = Input::open(path, &Arc::default())?;
    Ok(input.starts_with(parquet::MAGIC) || input.is_compressed())
}

/// The field that stands for all texts of a row.
pub(super) const ALL_FIELDS: &str = "*";

/// A row of JSON, of `n_byte` bytes.
fn row_of(value: serde_json::Value, field: &str, at: Location, n_byte: u64) -> Row {
    match text_of(value, field) {
        Ok(text) => Row::Document(Document::row(text, at)),
        Err(because) => Row::Refused { at, n_byte, reason: Reason::NoText, because },
    }
}

/// The text of a JSON row: a string itself, or the field's string, or its strings line by line. Of a
/// row without one, what it has.
fn text_of(value: serde_json::Value, field: &str) -> Result<String, String> {
    use serde_json::Value;
    if field == ALL_FIELDS {
        let mut lines = Vec::new();
        collect(&value, &mut lines);
        return Ok(lines.join("\n"));
    }
    let found = match value {
        Value::String(text) => return Ok(text),
        Value::Object(mut object) => match object.remove(field) {
            Some(found) => found,
            None => {
                let mut found = Value::Object(object);
                for part in field.split('.') {
                    match found.get_mut(part) {
                        Some(inner) => found = inner.take(),
                        None => return Err(fields_of(&found)),
                    }
                }
                found
            }
        },
        other => return Err(fields_of(&other)),
    };
    let no_text = || format!("has no text in {field}");
    match found {
        Value::String(text) => Ok(text),
        Value::Array(list) => {
            let lines: Option<Vec<&str>> = list.iter().map(Value::as_str).collect();
            lines.map(|lines| lines.join("\n")).ok_or_else(no_text)
        }
        _ => Err(no_text()),
    }
}

/// Fields of a row that are named at most.
const N_NAMED: usize = 8;

/// What a row has, in words.
fn fields_of(value: &serde_json::Value) -> String {
    let Some(object) = value.as_object().filter(|object| !object.is_empty()) else {
        return "has no fields".into();
    };
    let names: Vec<String> = object.keys().take(N_NAMED).map(|name| beginning(name)).collect();
    let more = if object.len() > N_NAMED { " …" } else { "" };
    format!("has {}{more}", names.join(", "))
}

/// All strings in a value. JSON that was parsed is not deep.
fn collect<'a>(value: &'a serde_json::Value, lines: &mut Vec<&'a str>) {
    use serde_json::Value;
    match value {
        Value::String(text) => lines.push(text),
        Value::Array(list) => list.iter().for_each(|value| collect(value, lines)),
        Value::Object(object) => object.values().for_each(|value| collect(value, lines)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_text_is_found_in_a_row() {
        let text = |value, field: &str| text_of(value, field);
        assert_eq!(text(json!("a"), "text"), Ok("a".into()));
        assert_eq!(text(json!({"text": "a"}), "text"), Ok("a".into()));
        assert_eq!(text(json!({"text": ["a", "b"]}), "text"), Ok("a\nb".into()));
        assert_eq!(text(json!({"a": {"b": "c"}}), "a.b"), Ok("c".into()));
        assert_eq!(text(json!({"a.b": "d", "a": {"b": "c"}}), "a.b"), Ok("d".into()));
        assert_eq!(text(json!({"a": {"b": ["c", 1]}, "d": "e"}), "*"), Ok("c\ne".into()));
        for (value, has) in [
            (json!({"text": null}), "has no text in text"),
            (json!({"text": [1]}), "has no text in text"),
            (json!({"txt": "a"}), "has txt"),
            (json!([]), "has no fields"),
            (json!({}), "has no fields"),
        ] {
            assert_eq!(text(value, "text"), Err(has.into()));
        }
        assert_eq!(text(json!({"a": {"c": "d"}}), "a.b"), Err("has c".into()));
    }
}

/// What the readers' tests read with.
#[cfg(test)]
mod testing {
    use super::*;
    use crate::data::files;
    use crate::data::scratch::Scratch;
    use crate::data::source::Source;

    pub(super) fn reading() -> Reading {
        Reading {
            field: "text".into(),
            separator: Some("<|endoftext|>".into()),
            lossy: false,
            longest_row: 64 << 20,
            chosen: None,
        }
    }

    /// All rows of a file of these bytes.
    pub(super) fn read(name: &str, bytes: &[u8], reading: &Reading) -> Result<Vec<Row>, Error> {
        let scratch = Scratch::new();
        let source = Source::new(scratch.write(name, bytes));
        let (files, _) = files::list(&source, &[])?;
        let mut opened = open(&files[0], 7, reading, &Arc::default())?;
        let mut rows = Vec::new();
        while let Some(row) = opened.rows.next()? {
            rows.push(row);
        }
        opened.finish()?;
        Ok(rows)
    }

    /// All documents of a file that has nothing else.
    pub(super) fn texts(name: &str, bytes: &[u8], reading: &Reading) -> Vec<Document> {
        let rows = read(name, bytes, reading).unwrap().into_iter();
        rows.map(|row| match row {
            Row::Document(document) => document,
            Row::Refused { .. } => panic!("{row:?}"),
        })
        .collect()
    }
}
