//! Files as batches of rows, read ahead by a thread of their own.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::SyncSender;

use super::evaluation::Evaluation;
use super::files::{self, Format, RawFile};
use super::licence;
use super::preparation::Preparation;
use super::read::{self, ALL_FIELDS, Reading, Row};
use super::source::{self, Source};
use crate::Error;

/// A source whose files are known.
pub(super) struct Listed {
    pub(super) source: Source,
    pub(super) licence: Option<String>,
    /// The file that says the licence.
    pub(super) licence_from: Option<PathBuf>,
    pub(super) files: Vec<RawFile>,
    /// Files that are of no kind that is read, by ending.
    pub(super) skipped: BTreeMap<String, u64>,
    /// The number of its first file over all sources.
    pub(super) first_file: u32,
    reading: Reading,
}

impl Listed {
    /// Bytes of its files.
    pub(super) fn n_byte(&self) -> u64 {
        self.files.iter().map(|file| file.n_byte).sum()
    }
}

/// Finds all files, measures texts that are named, and gives the bytes that are to be read, those
/// that were read already included. `done` counts them; `tick` is called with their number now and
/// then.
pub(super) fn list(
    preparation: &Preparation,
    done: &Arc<AtomicU64>,
    tick: &mut dyn FnMut(u64),
) -> Result<(Vec<Listed>, u64), Error> {
    source::check(&preparation.sources)?;
    let mut listed = Vec::new();
    let mut n_file = 0u32;
    for source in &preparation.sources {
        let (files, skipped) = files::list(source, &preparation.endings)?;
        let found = licence::find(&source.path);
        let (licence, licence_from) = match (&source.licence, found, &preparation.licence) {
            (Some(own), ..) => (Some(own.clone()), None),
            (None, Some((name, path)), _) => (Some(name), Some(path)),
            (None, None, all) => (all.clone(), None),
        };
        let first_file = n_file;
        n_file += u32::try_from(files.len()).unwrap_or(u32::MAX >> 2);
        if n_file >= 1 << 31 {
            let problem = "there are more than 2 billion files".into();
            return Err(Error::Setting { key: "source".into(), problem });
        }
        let reading = Reading {
            field: source.field.clone().unwrap_or_else(|| preparation.field.clone()),
            separator: preparation.separator.clone().filter(|separator| !separator.is_empty()),
            lossy: preparation.lossy,
            longest_row: preparation.longest_row,
            chosen: None,
        };
        let source = source.clone();
        listed.push(Listed { source, licence, licence_from, files, skipped, first_file, reading });
    }
    let all: u64 = listed.iter().map(Listed::n_byte).sum();
    let is_text = |source: &Listed| match &source.files[..] {
        [file] if file.is_named && file.format == Format::Text => {
            Ok(!read::is_parquet(&file.path)?)
        }
        _ => Ok(false),
    };
    let texts: Vec<bool> = listed.iter().map(is_text).collect::<Result<_, Error>>()?;
    let texts: Vec<&mut Listed> =
        listed.iter_mut().zip(texts).filter_map(|(source, is)| is.then_some(source)).collect();
    let total = all + texts.iter().map(|source| source.n_byte()).sum::<u64>();
    let mut measured_bytes = 0;
    for source in texts {
        let file = &source.files[0];
        let measured = read::measure(file, &source.reading, done, &mut || tick(total))?;
        // It is not measured to its end where separators stand in it.
        measured_bytes += file.n_byte;
        done.store(measured_bytes, Ordering::Relaxed);
        let Some(measure) = measured else { continue };
        let share = file.n_byte as f64 / (all as f64).max(1.0);
        let wanted = preparation.held_out.of_text(measure.n_byte, share);
        let part = wanted as f64 / (measure.n_byte as f64).max(1.0);
        let n_held = (measure.n_char as f64 * part).ceil() as u64;
        source.reading.chosen = Some(measure.n_char - n_held.min(measure.n_char));
    }
    Ok((listed, total))
}

/// What the reading thread sends.
pub(super) enum Event {
    /// The next rows of a file.
    Rows(Vec<Row>),
    /// The end of a file, and its SHA-256.
    FileEnd(String),
}

/// Bytes of text, and rows, of a batch.
const BATCH: (usize, usize) = (4 << 20, 4096);

/// Reads all files of all sources in order. An error is the last that is sent.
pub(super) fn feed(
    sources: &[Listed],
    done: &Arc<AtomicU64>,
    sender: &SyncSender<Result<Event, Error>>,
) {
    for source in sources {
        for (file, number) in source.files.iter().zip(source.first_file..) {
            match feed_file(file, number, &source.reading, done, sender) {
                Ok(true) => {}
                // Nobody listens any more.
                Ok(false) => return,
                Err(error) => {
                    let _ = sender.send(Err(error));
                    return;
                }
            }
        }
    }
}

fn feed_file(
    file: &RawFile,
    number: u32,
    reading: &Reading,
    done: &Arc<AtomicU64>,
    sender: &SyncSender<Result<Event, Error>>,
) -> Result<bool, Error> {
    let mut opened = read::open(file, number, reading, done)?;
    let (mut rows, mut n_byte) = (Vec::new(), 0);
    while let Some(row) = opened.rows.next()? {
        n_byte += match &row {
            Row::Document(document) => document.text.len(),
            Row::Refused { .. } => 0,
        };
        rows.push(row);
        if n_byte >= BATCH.0 || rows.len() >= BATCH.1 {
            n_byte = 0;
            if sender.send(Ok(Event::Rows(std::mem::take(&mut rows)))).is_err() {
                return Ok(false);
            }
        }
    }
    let sent = rows.is_empty() || sender.send(Ok(Event::Rows(rows))).is_ok();
    Ok(sent && sender.send(Ok(Event::FileEnd(opened.finish()?))).is_ok())
}

/// Adds an evaluation set: each document of a text file, all texts of each row of others.
pub(super) fn read_evaluation(
    path: &Path,
    preparation: &Preparation,
    evaluation: &mut Evaluation,
) -> Result<(), Error> {
    let refuse = |what: &str| Error::Setting {
        key: "decontaminate".into(),
        problem: format!("{} {what}", path.display()),
    };
    let before = evaluation.n_item();
    let (files, _) = files::list(&Source::new(path), &preparation.endings)?;
    for file in &files {
        let columns = match file.format {
            Format::Parquet => read::text_columns(&file.path)?,
            _ => vec![ALL_FIELDS.to_string()],
        };
        for field in columns {
            let reading = Reading {
                field,
                separator: preparation.separator.clone().filter(|text| !text.is_empty()),
                lossy: preparation.lossy,
                longest_row: preparation.longest_row,
                chosen: None,
            };
            let mut opened = read::open(file, 0, &reading, &Arc::default())?;
            while let Some(row) = opened.rows.next()? {
                let Row::Document(document) = row else { continue };
                if !evaluation.add(&super::normalize::normalize(&document.text)) {
                    return Err(refuse("is too large to be held in memory"));
                }
            }
        }
    }
    match evaluation.n_item() == before {
        true => Err(refuse("holds no text to look for")),
        false => Ok(()),
    }
}
