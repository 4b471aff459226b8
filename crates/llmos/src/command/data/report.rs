//! What came out of a preparation: for people and as JSON.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use llmos_train::data::{Example, Manifest, Part, Reason, Removed, SourceEntry};
use serde::Serialize;

use super::short;
use crate::processors;
use crate::terminal::{Terminal, count, plain, size};

/// What `--json` prints.
#[derive(Serialize)]
pub(super) struct Report<'a> {
    out: &'a Path,
    vocab_size: u64,
    train: Total,
    validation: Total,
    bytes_per_token: f64,
    sources: Vec<SourceReport<'a>>,
    removed: &'a BTreeMap<Reason, Removed>,
    examples: &'a [Example],
    seconds: f64,
    peak_memory_bytes: Option<u64>,
}

#[derive(Serialize)]
struct Total {
    tokens: u64,
    documents: u64,
    bytes: u64,
}

impl From<&Part> for Total {
    fn from(part: &Part) -> Total {
        Total { tokens: part.tokens, documents: part.documents, bytes: part.bytes }
    }
}

#[derive(Serialize)]
struct SourceReport<'a> {
    path: &'a str,
    sha256: &'a str,
    licence: Option<&'a str>,
    files: usize,
    rows: u64,
    tokens: u64,
    validation_tokens: u64,
    bytes: u64,
    share: f64,
    is_capped: bool,
    removed: &'a BTreeMap<Reason, Removed>,
}

impl<'a> SourceReport<'a> {
    fn new(source: &'a SourceEntry) -> SourceReport<'a> {
        SourceReport {
            path: &source.path,
            sha256: &source.sha256,
            licence: source.licence.as_deref(),
            files: source.files.len(),
            rows: source.rows,
            tokens: source.train.tokens,
            validation_tokens: source.validation.tokens,
            bytes: source.train.bytes,
            share: source.share,
            is_capped: source.is_capped,
            removed: &source.removed,
        }
    }
}

impl<'a> Report<'a> {
    pub(super) fn new(out: &'a Path, manifest: &'a Manifest, took: Duration) -> Report<'a> {
        let Manifest { train, validation, .. } = manifest;
        let n_token = (train.tokens + validation.tokens).max(1) as f64;
        Report {
            out,
            vocab_size: manifest.tokenizer.vocab_size,
            train: train.into(),
            validation: validation.into(),
            bytes_per_token: (train.bytes + validation.bytes) as f64 / n_token,
            sources: manifest.sources.iter().map(SourceReport::new).collect(),
            removed: &manifest.removed,
            examples: &manifest.examples,
            seconds: took.as_secs_f64(),
            peak_memory_bytes: processors::peak_memory(),
        }
    }

    /// Says what was taken out and why, then what there is.
    pub(super) fn say(&self, terminal: &Terminal) {
        for (&reason, removed) in self.removed {
            terminal.say(format_args!(
                "left out  {:<26} {:>9}  {:>9}",
                reason.name(),
                removed.documents,
                size(removed.bytes)
            ));
            for example in self.examples.iter().filter(|example| example.reason == reason) {
                let because = match example.because.as_str() {
                    "" => String::new(),
                    because => format!(" ({})", plain(because)),
                };
                let text = match example.text.as_str() {
                    "" => String::new(),
                    text => format!(": {}", plain(text)),
                };
                let (file, row) = (short(&example.file), example.row);
                terminal.say(format_args!("          {file} row {row}{because}{text}"));
            }
        }
        if self.sources.len() > 1 {
            for source in &self.sources {
                let licence = source.licence.unwrap_or("licence unknown");
                let capped = if source.is_capped { ", capped" } else { "" };
                terminal.say(format_args!(
                    "source    {:<26} {:>9}  {:>9}  {:>5.1} % of the mix  {licence}{capped}",
                    short(source.path),
                    count(source.tokens),
                    size(source.bytes),
                    source.share * 100.0
                ));
            }
        }
        terminal.say(format_args!(
            "{}: {} tokens to train on ({} of text), {} held out ({}), {} ids, {:.2} bytes a token, \
             {:.1} s",
            self.out.display(),
            count(self.train.tokens),
            size(self.train.bytes),
            count(self.validation.tokens),
            size(self.validation.bytes),
            self.vocab_size,
            self.bytes_per_token,
            self.seconds
        ));
    }
}
