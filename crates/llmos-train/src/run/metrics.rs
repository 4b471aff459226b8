//! `metrics.jsonl`: a row a step, in the order of steps, each step once.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::{Error, disk};

/// What is known of a step.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// The step, from 1.
    pub step: u64,
    /// Tokens that the run has learnt from.
    pub tokens: u64,
    /// Mean loss of the step's tokens, in nats a token.
    pub loss: f64,
    /// AdamW's learning rate.
    pub lr: f64,
    /// The gradients' norm before clipping.
    pub grad_norm: f64,
    /// Tokens a second in this step.
    pub tokens_per_s: f64,
    /// Milliseconds of this step.
    #[serde(default)]
    pub step_ms: f64,
    /// Seconds of the run so far, its interruptions left out.
    #[serde(default)]
    pub seconds: f64,
    /// Batches that were left out so far, because the loss was none or leapt.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub skipped: u64,
    /// Mean loss of held-out tokens, where it was measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub val_loss: Option<f64>,
    /// Bits per byte of held-out text, where they were measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub val_bits_per_byte: Option<f64>,
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// A line that belongs to a step.
pub(super) trait OfStep: Serialize + DeserializeOwned {
    fn step(&self) -> u64;
}

impl OfStep for Row {
    fn step(&self) -> u64 {
        self.step
    }
}

/// A file of lines, open for more.
#[derive(Debug)]
pub(super) struct Log {
    path: PathBuf,
    file: File,
}

impl Log {
    /// Opens the file with the lines of steps up to `step` that are in it.
    pub(super) fn open<T: OfStep>(path: &Path, step: u64) -> Result<(Log, Vec<T>), Error> {
        let mut rows: Vec<T> = read_lines(path)?;
        rows.retain(|row| row.step() <= step);
        let mut text = Vec::new();
        for row in &rows {
            line(row, &mut text).map_err(Error::io("write", path))?;
        }
        disk::write_bytes(path, &text)?;
        let file = File::options().append(true).open(path).map_err(Error::io("open", path))?;
        Ok((Log { path: path.to_path_buf(), file }, rows))
    }

    /// Adds a line.
    pub(super) fn push(&mut self, row: &impl OfStep) -> Result<(), Error> {
        let mut text = Vec::new();
        line(row, &mut text)
            .and_then(|()| self.file.write_all(&text))
            .map_err(Error::io("write", &self.path))
    }

    /// Brings the lines to the disk.
    pub(super) fn sync(&self) -> Result<(), Error> {
        self.file.sync_data().map_err(Error::io("write", &self.path))
    }
}

fn line(row: &impl Serialize, text: &mut Vec<u8>) -> std::io::Result<()> {
    serde_json::to_writer(&mut *text, row)?;
    text.push(b'\n');
    Ok(())
}

/// The rows of a file of metrics; none where there is no file. A last line that is being written, or
/// was when its process was killed, is left out.
///
/// # Errors
/// The file cannot be read.
pub fn read_rows(path: &Path) -> Result<Vec<Row>, Error> {
    read_lines(path)
}

/// The values of a file of JSON lines; lines that hold none are left out.
fn read_lines<T: DeserializeOwned>(path: &Path) -> Result<Vec<T>, Error> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(Error::io("read", path)(error)),
    };
    let mut rows = Vec::new();
    for line in BufReader::new(file).split(b'\n') {
        let line = line.map_err(Error::io("read", path))?;
        rows.extend(serde_json::from_slice::<T>(&line).ok());
    }
    Ok(rows)
}
