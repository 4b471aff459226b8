//! From raw files to a folder that training reads.
//!
//! One pass: a thread reads, all threads look at documents and tokenise them, and one thread in
//! between decides, in the order of the files. So the folder is the same to the byte whatever the
//! number of threads, and memory is bounded whatever the size of the files.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::sync_channel;

use llmos_tokenizer::Tokenizer;
use sha2::{Digest, Sha256};

use super::duplicates::Memory;
use super::evaluation::{self, Evaluation};
use super::examine::Examiner;
use super::feed::{Event, feed, list, read_evaluation};
use super::files;
use super::held_out::HeldOut;
use super::manifest::{MANIFEST, Manifest, TOKENIZER, TOKENIZER_CONFIG, TokenizerEntry};
use super::normalize::normalize;
use super::place::Place;
use super::preparation::Preparation;
use super::read::{Row, hex};
use super::removal::{Reason, Tally};
use super::work::{Lost, Work};
use super::write::{Frame, Sink};
use crate::Error;
use crate::plan::amount;

/// How far a preparation has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Bytes of files that are read.
    pub done: u64,
    /// Bytes of files that are to be read.
    pub total: u64,
    /// Documents that are kept.
    pub documents: u64,
    /// Tokens that are written.
    pub tokens: u64,
}

/// What a preparation gave beside the folder.
#[derive(Clone, Debug)]
pub struct Prepared {
    /// What is in the folder.
    pub manifest: Manifest,
    /// What a person should know, in sentences.
    pub warnings: Vec<String>,
}

/// The tokenizer's files, by name, as they are copied into the folder.
pub type TokenizerFiles = Vec<(String, Vec<u8>)>;

/// Prepares texts: reads, normalises and filters them, tokenises what is left, and puts a folder
/// of shards, lists of documents, tokenizer and manifest into its place.
///
/// `files` are the tokenizer's; without a `tokenizer.json` among them it is written anew.
/// `progress` is called now and then.
///
/// # Errors
/// A file cannot be read ([`Error::Text`] names the byte); nothing is left to train on; the
/// tokenizer does not fit the texts; the disk is full. In each case nothing is written.
pub fn prepare(
    preparation: &Preparation,
    tokenizer: &Tokenizer,
    files: TokenizerFiles,
    place: Place,
    progress: &mut dyn FnMut(Progress),
) -> Result<Prepared, Error> {
    let done = Arc::new(AtomicU64::new(0));
    let mut tick = |total| {
        let done = done.load(Ordering::Relaxed).min(total);
        progress(Progress { done, total, ..Progress::default() });
    };
    let (sources, total) = list(preparation, &done, &mut tick)?;
    let evaluation = read_evaluations(preparation)?;
    let n_short = evaluation.n_short();
    let frame = frame_of(preparation, tokenizer)?;
    let folder = place.aside().to_path_buf();
    let mut manifest = Manifest::new(write_tokenizer(&folder, tokenizer, files, &frame)?);
    manifest.options = preparation.options();
    let n_byte_of = |id: u32| tokenizer.token_bytes(id).len() as u64;
    let n_file = sources.iter().map(|source| source.files.len()).sum();
    let vocab_size = tokenizer.vocab_size() as u64;
    let held_out = preparation.held_out;
    let sink = Sink::create(&folder, vocab_size, n_file, frame.clone(), held_out, &n_byte_of)?;
    let examiner = Examiner {
        normalize: preparation.normalize,
        languages: preparation.languages.clone(),
        quality: preparation.quality,
        near_duplicates: preparation.near_duplicates.is_some(),
        evaluation,
    };
    let mut work = Work {
        preparation,
        tokenizer,
        frame,
        examiner,
        memory: Memory::new(preparation.near_duplicates, preparation.memory),
        sources: &sources,
        sink,
        tally: Tally::default(),
        lost: Lost::default(),
        n_kept: 0,
    };
    let (sender, events) = sync_channel(2);
    let entries = std::thread::scope(|scope| {
        let (sources, done) = (&sources, &done);
        spawn_reader(scope, move || feed(sources, done, &sender))?;
        let mut report = |documents: u64, tokens: u64| {
            let done = done.load(Ordering::Relaxed).min(total);
            progress(Progress { done, total, documents, tokens });
        };
        work.run(&folder, events, &mut report)
    })?;
    let Work { sink, tally, lost, memory, .. } = work;
    (manifest.train, manifest.validation) = sink.finish()?;
    manifest.sources = entries;
    manifest.tokenizer.lost = lost.share();
    for source in &manifest.sources {
        for (&reason, removed) in &source.removed {
            let all = manifest.removed.entry(reason).or_default();
            all.documents += removed.documents;
            all.bytes += removed.bytes;
        }
    }
    manifest.examples = tally.examples;
    manifest.examples.sort_by_key(|example| example.reason);
    set_shares(&mut manifest)?;
    check(&manifest)?;
    let mut json = serde_json::to_vec_pretty(&manifest).unwrap_or_default();
    json.push(b'\n');
    write_file(&folder, MANIFEST, &json)?;
    place.finish()?;
    let mut warnings = warnings_of(&manifest, held_out);
    if memory.has_forgotten() {
        warnings.push(
            "duplicates of documents far before them were not looked for: the memory for them is \
             full"
                .into(),
        );
    }
    if n_short > 0 {
        warnings.push(format!(
            "{n_short} items of the evaluation sets have fewer than {} words and were not looked \
             for",
            evaluation::RUN
        ));
    }
    Ok(Prepared { manifest, warnings })
}

/// Reads the texts of a preparation, brought into one form but not filtered, for whoever learns a
/// vocabulary from them: `take` is called with each part of a text, and after each text with none.
/// `line_ends` is for vocabularies without an end token: documents end with a line's end, as they
/// do when they are prepared.
///
/// # Errors
/// A file cannot be read; rows were read, and none of them has a text.
pub fn read_texts(
    preparation: &Preparation,
    line_ends: bool,
    take: &mut dyn FnMut(Option<&str>),
    progress: &mut dyn FnMut(Progress),
) -> Result<(), Error> {
    let done = Arc::new(AtomicU64::new(0));
    let mut tick = |total| {
        let done = done.load(Ordering::Relaxed).min(total);
        progress(Progress { done, total, ..Progress::default() });
    };
    let (sources, total) = list(preparation, &done, &mut tick)?;
    // No row waits but the one that is read ahead: memory is counted by whoever learns.
    let (sender, events) = sync_channel(0);
    std::thread::scope(|scope| {
        let (sources, done) = (&sources, &done);
        spawn_reader(scope, move || feed(sources, done, &sender))?;
        let mut documents = 0;
        // Rows without a text, and what the first of them has.
        let (mut without, mut first) = (0_u64, None);
        for event in events {
            let Event::Rows(rows) = event? else { continue };
            for row in rows {
                let document = match row {
                    Row::Document(document) => document,
                    Row::Refused { reason: Reason::NoText, because, .. } => {
                        without += 1;
                        first.get_or_insert(because);
                        continue;
                    }
                    Row::Refused { .. } => continue,
                };
                if preparation.normalize {
                    take(Some(&normalize(&document.text)));
                } else {
                    take(Some(&document.text));
                }
                if document.is_last_part {
                    if line_ends && !document.is_chosen && !document.text.ends_with('\n') {
                        take(Some("\n"));
                    }
                    take(None);
                    documents += 1;
                }
            }
            let done = done.load(Ordering::Relaxed).min(total);
            progress(Progress { done, total, documents, tokens: 0 });
        }
        match first {
            Some(has) if documents == 0 => Err(Error::Setting {
                key: FIELD.into(),
                problem: format!(
                    "none of {without} rows has a text in {}; the first {has}",
                    preparation.field
                ),
            }),
            _ => Ok(()),
        }
    })
}

/// The key of an error about the field that holds a row's text.
const FIELD: &str = "field";

/// Bytes of all files of a preparation, as they lie on the disk.
///
/// # Errors
/// A source does not exist, or has nothing to read.
pub fn n_byte(preparation: &Preparation) -> Result<u64, Error> {
    let files = preparation.sources.iter().map(|source| files::list(source, &preparation.endings));
    let files = files.collect::<Result<Vec<_>, Error>>()?;
    Ok(files.iter().flat_map(|(files, _)| files).map(|file| file.n_byte).sum())
}

/// The name of the thread that reads files. The Parquet library panics on some damaged files;
/// that is caught there and becomes an error, so a program need not print such a panic.
pub const READING_THREAD: &str = "reading";

fn spawn_reader<'scope>(
    scope: &'scope std::thread::Scope<'scope, '_>,
    read: impl FnOnce() + Send + 'scope,
) -> Result<(), Error> {
    let spawned = std::thread::Builder::new().name(READING_THREAD.into()).spawn_scoped(scope, read);
    spawned.map(drop).map_err(Error::io("start a thread for", "reading"))
}

fn read_evaluations(preparation: &Preparation) -> Result<Evaluation, Error> {
    let mut evaluation = Evaluation::default();
    let mut result = Ok(());
    std::thread::scope(|scope| {
        spawn_reader(scope, || {
            let mut paths = preparation.evaluations.iter();
            result = paths.try_for_each(|path| read_evaluation(path, preparation, &mut evaluation));
        })
    })?;
    result.map(|()| evaluation)
}

/// The tokens around documents.
fn frame_of(preparation: &Preparation, tokenizer: &Tokenizer) -> Result<Frame, Error> {
    /// What ends a text in vocabularies whose configuration does not say.
    const ENDS: [&str; 4] = ["<|endoftext|>", "<|end_of_text|>", "</s>", "<eos>"];
    let end = match &preparation.end {
        Some(name) => Some(tokenizer.token_id(name).ok_or_else(|| Error::Setting {
            key: "end".into(),
            problem: format!("the vocabulary has no token {name}"),
        })?),
        // A chat model's own end is that of a turn.
        None => ENDS[..2]
            .iter()
            .find_map(|name| tokenizer.token_id(name))
            .or(tokenizer.eos())
            .or_else(|| ENDS.iter().find_map(|name| tokenizer.token_id(name))),
    };
    Ok(Frame { start: tokenizer.start_ids().to_vec(), end })
}

/// Writes the tokenizer's files, and says what is in them.
fn write_tokenizer(
    folder: &Path,
    tokenizer: &Tokenizer,
    mut files: TokenizerFiles,
    frame: &Frame,
) -> Result<TokenizerEntry, Error> {
    if !files.iter().any(|(name, _)| name == TOKENIZER) {
        files.push((TOKENIZER.into(), tokenizer.to_json().into_bytes()));
        files.retain(|(name, _)| name != TOKENIZER_CONFIG);
        files.push((TOKENIZER_CONFIG.into(), tokenizer.to_json_config().into_bytes()));
    }
    let mut sha256 = String::new();
    for (name, bytes) in &files {
        write_file(folder, name, bytes)?;
        if name == TOKENIZER {
            sha256 = hex(&Sha256::digest(bytes));
        }
    }
    Ok(TokenizerEntry {
        vocab_size: tokenizer.vocab_size() as u64,
        sha256,
        start: frame.start.clone(),
        end: frame.end,
        lost: 0.0,
    })
}

fn write_file(folder: &Path, name: &str, bytes: &[u8]) -> Result<(), Error> {
    use std::io::Write;
    let path = folder.join(name);
    let write = || -> std::io::Result<()> {
        let mut file = std::fs::File::create(&path)?;
        file.write_all(bytes)?;
        file.sync_all()
    };
    write().map_err(Error::io("write", &path))
}

/// Sets what share of the rows training draws from each source.
fn set_shares(manifest: &mut Manifest) -> Result<(), Error> {
    let weights: Vec<f64> = manifest
        .sources
        .iter()
        .map(|source| {
            let by_tokens = source.train.tokens as f64 * source.epochs.unwrap_or(1.0);
            source.weight.unwrap_or(by_tokens)
        })
        .collect();
    let total: f64 = weights.iter().sum();
    for (source, weight) in manifest.sources.iter_mut().zip(weights) {
        if source.weight.is_some() && source.train.tokens == 0 {
            return Err(Error::Setting {
                key: "weight".into(),
                problem: format!("nothing is left of {} to give weight to", source.path),
            });
        }
        source.share = weight / total.max(f64::MIN_POSITIVE);
    }
    Ok(())
}

/// Share of the text that a vocabulary may leave out: more means that it was made for other texts.
const MOST_LOST: f64 = 0.2;

/// Refuses what nobody could train on.
fn check(manifest: &Manifest) -> Result<(), Error> {
    if manifest.train.tokens == 0 {
        let rows: u64 = manifest.sources.iter().map(|source| source.rows).sum();
        let reasons: Vec<String> = manifest
            .removed
            .iter()
            .map(|(reason, removed)| format!("{} {}", removed.documents, reason.name()))
            .collect();
        let reasons = if reasons.is_empty() { "no text".into() } else { reasons.join(", ") };
        return Err(Error::Setting {
            key: "data".into(),
            problem: format!("nothing is left to train on: {rows} read, {reasons}"),
        });
    }
    if manifest.tokenizer.lost > MOST_LOST {
        return Err(Error::Setting {
            key: "tokenizer".into(),
            problem: format!(
                "it does not fit the texts: {:.0} % of their bytes have no token",
                manifest.tokenizer.lost * 100.0
            ),
        });
    }
    Ok(())
}

/// What a person should know about what was prepared.
fn warnings_of(manifest: &Manifest, held_out: HeldOut) -> Vec<String> {
    let mut warnings = Vec::new();
    if manifest.tokenizer.lost > 0.0 {
        let percent = manifest.tokenizer.lost * 100.0;
        warnings.push(format!("{percent:.3} % of the texts' bytes have no token and are left out"));
    }
    let unknown: Vec<&str> = manifest
        .sources
        .iter()
        .filter(|source| source.licence.is_none())
        .map(|source| source.path.as_str())
        .collect();
    if !unknown.is_empty() {
        warnings.push(format!("nothing says the licence of {}", unknown.join(", ")));
    }
    for source in &manifest.sources {
        if !source.skipped.is_empty() {
            let kinds: Vec<String> =
                source.skipped.iter().map(|(ending, n)| format!("{n} {ending}")).collect();
            let kinds = kinds.join(", ");
            warnings.push(format!("{}: files of other kinds were left out: {kinds}", source.path));
        }
    }
    let n_byte = manifest.train.bytes + manifest.validation.bytes;
    if let HeldOut::Bytes(asked) = held_out
        && asked > n_byte / 2
    {
        warnings.push(format!(
            "{} are not held out of {}: it is half of each source at most",
            amount::bytes(asked as f64),
            amount::bytes(n_byte as f64)
        ));
    }
    if manifest.validation.tokens == 0 {
        warnings.push("nothing is held out: training cannot tell how well it goes".into());
    }
    warnings
}
