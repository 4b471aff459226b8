//! The middle of a preparation: rows come in, decisions are made in their order, pieces go out.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::mpsc::Receiver;

use llmos_tokenizer::{Special, Tokenizer};
use sha2::{Digest, Sha256};

use super::duplicates::{Memory, Seen};
use super::examine::{Examined, Examiner, Findings};
use super::feed::{Event, Listed};
use super::held_out::Piece;
use super::manifest::{FileEntry, SourceEntry};
use super::parallel;
use super::preparation::Preparation;
use super::read::{Document, Location, Row, hex};
use super::removal::{Example, Reason, Tally, beginning};
use super::write::{Frame, Sink};
use crate::Error;

/// Bytes of text that a vocabulary could not express.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Lost {
    n_byte: u64,
    n_lost: u64,
}

impl Lost {
    pub(super) fn share(self) -> f64 {
        self.n_lost as f64 / (self.n_byte as f64).max(1.0)
    }
}

/// A preparation that is under way.
pub(super) struct Work<'a> {
    pub(super) preparation: &'a Preparation,
    pub(super) tokenizer: &'a Tokenizer,
    pub(super) frame: Frame,
    pub(super) examiner: Examiner,
    pub(super) memory: Memory,
    pub(super) sources: &'a [Listed],
    pub(super) sink: Sink<'a>,
    pub(super) tally: Tally,
    pub(super) lost: Lost,
    pub(super) n_kept: u64,
}

impl Work<'_> {
    /// Takes all events, and gives what became of each source. `report` is called with the
    /// documents that are kept and the tokens that they have.
    pub(super) fn run(
        &mut self,
        folder: &Path,
        events: Receiver<Result<Event, Error>>,
        report: &mut dyn FnMut(u64, u64),
    ) -> Result<Vec<SourceEntry>, Error> {
        let all: u64 = self.sources.iter().map(Listed::n_byte).sum();
        let mut entries = Vec::new();
        for source in self.sources {
            let n_byte = source.n_byte();
            let share = n_byte as f64 / (all as f64).max(1.0);
            self.sink.begin_source(folder, &source.source, n_byte, share)?;
            let mut entry = entry_of(source);
            let mut tally = Tally::default();
            for file in &source.files {
                let sha256 = self.file(source, &events, &mut entry, &mut tally, report)?;
                let (name, bytes) = (file.name.clone(), file.n_byte);
                entry.files.push(FileEntry { name, sha256, bytes });
            }
            let written = self.sink.end_source()?;
            (entry.train, entry.validation) = (written.train, written.validation);
            entry.is_capped = written.is_capped;
            entry.removed = tally.removed;
            entry.sha256 = source_hash(source, &entry.files);
            entries.push(entry);
        }
        Ok(entries)
    }

    /// Takes the events of a file, and gives its hash.
    fn file(
        &mut self,
        source: &Listed,
        events: &Receiver<Result<Event, Error>>,
        entry: &mut SourceEntry,
        tally: &mut Tally,
        report: &mut dyn FnMut(u64, u64),
    ) -> Result<String, Error> {
        loop {
            // The feed ends before its time only after an error, which it has sent.
            let ended =
                || Error::Setting { key: "data".into(), problem: "reading broke off".into() };
            match events.recv().map_err(|_| ended())?? {
                Event::FileEnd(sha256) => return Ok(sha256),
                // What a full source still has may be held out, if the reader says so.
                Event::Rows(rows) if self.sink.is_full() && !rows.iter().any(is_held_out) => {}
                Event::Rows(rows) => self.rows(rows, source, entry, tally)?,
            }
            report(self.n_kept, self.sink.n_token());
        }
    }

    fn rows(
        &mut self,
        rows: Vec<Row>,
        source: &Listed,
        entry: &mut SourceEntry,
        tally: &mut Tally,
    ) -> Result<(), Error> {
        let threads = self.preparation.threads;
        let examiner = &self.examiner;
        let examined = parallel::map(threads, rows, |row| examiner.examine(row));
        let mut kept = Vec::new();
        for row in examined {
            match row {
                Examined::Refused(row) => {
                    entry.rows += 1;
                    if let Row::Refused { at, n_byte, reason, because } = row {
                        self.remove(source, tally, at, reason, n_byte, "", because);
                    }
                }
                Examined::Document(findings) => {
                    entry.rows += u64::from(findings.document.part == 0);
                    *entry.languages.entry(findings.language).or_default() += 1;
                    kept.extend(self.decide(*findings, source, tally));
                }
            }
        }
        let (tokenizer, frame) = (self.tokenizer, &self.frame);
        let pieces = parallel::map(threads, kept, |(document, identity)| {
            let held_out = document.held_out;
            (tokenize(tokenizer, frame, document, identity), held_out)
        });
        for ((piece, lost), held_out) in pieces {
            self.lost.n_byte += lost.n_byte;
            self.lost.n_lost += lost.n_lost;
            self.n_kept += u64::from(piece.is_start);
            self.sink.take(piece, held_out)?;
        }
        Ok(())
    }

    /// Keeps a document, with the hash that it is known by, or counts why not.
    fn decide(
        &mut self,
        findings: Findings,
        source: &Listed,
        tally: &mut Tally,
    ) -> Option<(Document, u128)> {
        let Findings { document, identity, signature, fault, cuts, .. } = findings;
        if document.lost > 0 {
            let because = "bytes that are no text".to_string();
            self.remove(
                source,
                tally,
                document.at,
                Reason::Unreadable,
                document.lost,
                &document.text,
                because,
            );
        }
        for cut in &cuts {
            let (n_byte, because) = (cut.len() as u64, "cut out".to_string());
            self.remove(source, tally, document.at, Reason::Contaminated, n_byte, cut, because);
        }
        let fault = fault.or_else(|| {
            let seen = self.memory.add(identity, signature.as_deref(), document.at)?;
            Some(match seen {
                Seen::Same(at) => (Reason::Duplicate, format!("as {}", self.name_of(at))),
                Seen::Near(at, similarity) => {
                    let percent = similarity * 100.0;
                    (Reason::NearDuplicate, format!("{percent:.0} % as {}", self.name_of(at)))
                }
            })
        });
        let Some((reason, because)) = fault else { return Some((document, identity)) };
        let n_byte = document.text.len() as u64;
        self.remove(source, tally, document.at, reason, n_byte, &document.text, because);
        None
    }

    fn remove(
        &mut self,
        source: &Listed,
        tally: &mut Tally,
        at: Location,
        reason: Reason,
        n_byte: u64,
        text: &str,
        because: String,
    ) {
        let file = source.files.get((at.file - source.first_file) as usize);
        let example = || Example {
            reason,
            file: file.map(|file| file.path.display().to_string()).unwrap_or_default(),
            row: at.row,
            text: beginning(text),
            because: because.clone(),
        };
        tally.add(reason, n_byte, example);
        self.tally.add(reason, n_byte, example);
    }

    /// A place in words.
    fn name_of(&self, at: Location) -> String {
        let index = self.sources.partition_point(|source| source.first_file <= at.file);
        let source = index.checked_sub(1).and_then(|index| self.sources.get(index));
        let file = source
            .and_then(|source| source.files.get((at.file - source.first_file) as usize))
            .map_or("", |file| &file.name);
        format!("{file} row {}", at.row)
    }
}

fn is_held_out(row: &Row) -> bool {
    matches!(row, Row::Document(document) if document.held_out == Some(true))
}

/// The tokens of a document, and how much of it they do not express.
fn tokenize(
    tokenizer: &Tokenizer,
    frame: &Frame,
    document: Document,
    identity: u128,
) -> (Piece, Lost) {
    let mut text = document.text;
    // Where no token ends a document, the end of a line does; a text that was named stays as it is.
    let needs_end = frame.end.is_none() && document.is_last_part && !document.is_chosen;
    if needs_end && !text.ends_with('\n') {
        text.push('\n');
    }
    let ids = tokenizer.encode(&text, Special::None);
    let (n_byte, n_lost) = (text.len() as u64, tokenizer.n_lost(&text, &ids) as u64);
    let piece = Piece {
        at: document.at,
        hash: (identity >> 64) as u64,
        ids,
        n_byte,
        is_start: document.part == 0,
        is_end: document.is_last_part,
        skip: 0,
    };
    (piece, Lost { n_byte, n_lost })
}

/// The entry of a source before it is read.
fn entry_of(source: &Listed) -> SourceEntry {
    SourceEntry {
        path: source.source.path.display().to_string(),
        licence: source.licence.clone(),
        licence_from: source.licence_from.as_ref().map(|path| path.display().to_string()),
        weight: source.source.weight,
        epochs: source.source.epochs,
        languages: BTreeMap::new(),
        first_file: source.first_file,
        skipped: source.skipped.clone(),
        ..SourceEntry::default()
    }
}

/// The hash of a file, or of the list of a folder's files, in the form of `sha256sum`.
fn source_hash(source: &Listed, files: &[FileEntry]) -> String {
    match (files, &source.files[..]) {
        ([file], [raw]) if raw.is_named => file.sha256.clone(),
        _ => {
            let mut hash = Sha256::new();
            for file in files {
                hash.update(format!("{}  {}\n", file.sha256, file.name));
            }
            hex(&hash.finalize())
        }
    }
}
