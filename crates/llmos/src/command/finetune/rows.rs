//! Rows of conversations: read from files, each of which has a form of its own.

use std::path::PathBuf;

use llmos_train::conversations::{self, Fault, Form, Rows};
use serde_json::Value;

use crate::failure::{failure, is_damaged};
use crate::processors;
use crate::terminal::size;

/// The rows of some files, and what form those of each file have.
pub(in crate::command) struct Read {
    rows: Rows,
    /// Of each file.
    forms: Vec<Form>,
}

/// Reads rows, and finds out what form those of each file have where `format` does not say.
///
/// # Errors
/// A file cannot be read, holds more than memory does, or rows of no form that is known.
pub(in crate::command) fn read(data: &[PathBuf], format: Option<&str>) -> anyhow::Result<Read> {
    check_room(data)?;
    let rows = conversations::read(data).map_err(explained)?;
    let names = Form::ALL.map(Form::name).join(", ");
    let forms = match format {
        Some(name) => {
            let form = Form::from_name(name).ok_or_else(|| {
                failure(format!("there is no format `{name}`"), format!("formats are {names}"))
            })?;
            vec![form; rows.files.len()]
        }
        None => {
            // A file of which no row tells has the form of the others, or is refused row by row.
            let any = rows.rows.iter().find_map(Form::of).ok_or_else(|| {
                let sound = (0..rows.rows.len()).find(|row| !rows.broken.contains_key(row));
                failure(
                    match sound {
                        Some(row) => {
                            let row = shortened(&rows.rows[row]);
                            format!("no format is known of rows such as {row}")
                        }
                        None => "the files hold no rows".to_string(),
                    },
                    format!("formats are {names}; --format names one"),
                )
            })?;
            let starts = rows.files.iter().map(|(_, start)| *start);
            let ends = starts.clone().skip(1).chain([rows.rows.len()]);
            let own = starts
                .zip(ends)
                .map(|(start, end)| rows.rows[start..end].iter().find_map(Form::of).unwrap_or(any));
            own.collect()
        }
    };
    Ok(Read { rows, forms })
}

fn explained(error: llmos_train::Error) -> anyhow::Error {
    use llmos_train::Error;
    let hint = match &error {
        Error::Io { source, .. } if source.kind() == std::io::ErrorKind::NotFound => {
            "check the path: --data names files of rows"
        }
        Error::Io { source, .. } if is_damaged(source) => {
            "the file is damaged or cut off: fetch it again"
        }
        Error::Io { .. } => "check the path, and who may read there",
        Error::Format { got, .. } if got.contains("Disabled feature") => {
            "its columns are compressed in a way that llmos does not read: write them with snappy, gzip \
             or lz4"
        }
        Error::Format { got, .. } if got.contains("compressed") => {
            "unpack it first: `gzip -d` or `zstd -d`"
        }
        _ => {
            "rows are JSONL or a JSON array, plain or compressed, or Parquet; --format says what they \
             hold"
        }
    };
    failure(error, hint)
}

impl Read {
    /// How many rows there are.
    pub(in crate::command) fn len(&self) -> usize {
        self.rows.rows.len()
    }

    /// A row by its number from 0, and its form.
    ///
    /// # Errors
    /// The row is broken.
    pub(in crate::command) fn row(&self, number: usize) -> Result<(&Value, Form), Fault> {
        match self.rows.broken.get(&number) {
            Some(problem) => Err(Fault::Broken(problem.clone())),
            None => Ok((&self.rows.rows[number], self.forms[self.file(number)])),
        }
    }

    /// A row's place, by its number from 0 in all files.
    pub(in crate::command) fn place(&self, number: usize) -> String {
        match &self.rows.files[..] {
            files @ [_, _, ..] => {
                let (path, before) = &files[self.file(number)];
                format!("{} row {}", path.display(), number + 1 - before)
            }
            _ => format!("row {}", number + 1),
        }
    }

    /// The forms that there are, each once.
    pub(in crate::command) fn forms(&self) -> Vec<Form> {
        let mut forms: Vec<Form> = Vec::new();
        for &form in &self.forms {
            if !forms.contains(&form) {
                forms.push(form);
            }
        }
        forms
    }

    /// The names of the forms that there are.
    pub(in crate::command) fn names(&self) -> String {
        self.forms().into_iter().map(Form::name).collect::<Vec<_>>().join(" and ")
    }

    /// The hash of all files' bytes.
    pub(in crate::command) fn sha256(&self) -> &str {
        &self.rows.sha256
    }

    /// The file of a row. Empty ones begin where the next one does.
    fn file(&self, number: usize) -> usize {
        self.rows.files.partition_point(|(_, before)| *before <= number).saturating_sub(1)
    }
}

/// Bytes of memory that a byte of a file of rows takes while rows become tokens, about: 9.5 and 10.7
/// were measured on 25 MB of short conversations and stories.
const HELD: u64 = 10;

/// Refuses files of rows that this machine's memory does not hold.
fn check_room(data: &[PathBuf]) -> anyhow::Result<()> {
    let Some(memory) = processors::memory() else { return Ok(()) };
    let bytes = conversations::n_byte(data, memory.available / HELD);
    let held = bytes.saturating_mul(HELD);
    if held <= memory.available {
        return Ok(());
    }
    Err(failure(
        format!(
            "memory: {} of rows take about {} while they are read, {} can be had",
            size(bytes),
            size(held),
            size(memory.available)
        ),
        "learn from parts of the rows, one run after the other",
    ))
}

fn shortened(row: &Value) -> String {
    let text = row.to_string();
    match text.char_indices().nth(120) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text,
    }
}
