//! `llmos tokenizer`: vocabularies out of texts.

use std::ffi::OsString;
use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::Context;
use clap::Subcommand;
use indicatif::ProgressBar;
use llmos_tokenizer::train::{BpeOptions, CharOptions, Trained};
use llmos_train::data::{Preparation, Source, plain_texts};
use serde::Serialize;

use super::data::{no_text, quieten_reader};
use crate::Outcome;
use crate::failure::{Explain, failure, is_damaged};
use crate::interrupt::Unfinished;
use crate::load::parse_size;
use crate::processors;
use crate::registry::write_whole;
use crate::terminal::{Terminal, size};
use crate::trainer::Trainer;

/// Make tokenizers.
#[derive(clap::Args, Debug)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand, Debug)]
enum Action {
    Train(Train),
}

/// Learn a vocabulary from texts: byte-level BPE, or one id a character.
///
/// The same texts and flags give the same vocabulary, whatever --threads. A pair of tokens is
/// merged if it occurs twice or more, the most frequent first, and never if it would join a part of
/// a character with another character: what Chinese text is full of, and what means nothing.
#[derive(clap::Args, Debug)]
struct Train {
    /// Text and markdown files, JSON Lines, JSON arrays, Parquet, in .gz or .zst too, and folders.
    #[arg(required = true, value_name = "RAW")]
    raw: Vec<PathBuf>,
    /// The field of a row, or the Parquet column, that holds its text; a.b for b within a.
    #[arg(long, value_name = "NAME", default_value = "text")]
    field: String,
    /// Ids in all, special tokens and the 256 bytes included; with --char, ids at most.
    #[arg(long, value_name = "N", required_unless_present = "characters")]
    vocab: Option<usize>,
    /// A tokenizer.json to write where it ends in .json, else a folder that transformers loads.
    #[arg(long, value_name = "T")]
    out: PathBuf,
    /// What words are: qwen2, gpt2, llama3 or another of GGUF's names, or a regular expression.
    #[arg(long, value_name = "NAME|REGEX", default_value = "qwen2")]
    pattern: String,
    /// Special tokens; <|endoftext|> where this is left out, none with --char or without a value.
    #[arg(long, value_name = "TOKEN", num_args = 0..)]
    special: Option<Vec<String>>,
    /// One id a character, in the order of code points, special tokens after them. Characters that
    /// the texts lack are left out later, or become `<unk>` if that is a special token.
    #[arg(long = "char", conflicts_with = "pattern")]
    characters: bool,
    /// Threads that count words.
    #[arg(long, short, value_name = "N")]
    threads: Option<NonZero<usize>>,
    /// Most memory to use; where distinct words need more, rare ones are counted in parts, or half
    /// of them for all. Too little is refused.
    #[arg(long, value_name = "SIZE", default_value = "1G", value_parser = parse_size)]
    memory: usize,
    /// Replace a tokenizer that is there.
    #[arg(long)]
    force: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// What `--json` prints.
#[derive(Serialize)]
struct Report<'a> {
    out: &'a Path,
    vocab_size: usize,
    special: &'a [String],
    /// None for characters.
    pattern: Option<&'a str>,
    texts: usize,
    text_bytes: u64,
    bytes_per_token: f64,
    /// Whether rare words were counted in parts or left out.
    words_cut: bool,
    threads: usize,
    seconds: f64,
    peak_memory_bytes: Option<u64>,
}

pub(crate) fn run(arguments: Arguments, terminal: &Terminal) -> anyhow::Result<Outcome> {
    let Action::Train(arguments) = arguments.action;
    train(&arguments, terminal)
}

fn train(arguments: &Train, terminal: &Terminal) -> anyhow::Result<Outcome> {
    let start = Instant::now();
    let files = plain_texts(&arguments.raw).map_err(explained)?;
    let threads = arguments.threads.or(NonZero::new(processors::physical_cores()));
    let threads = threads.unwrap_or(NonZero::<usize>::MIN);
    let special = arguments.special.clone().unwrap_or_else(|| match arguments.characters {
        true => Vec::new(),
        false => vec!["<|endoftext|>".into()],
    });
    let mut trainer = trainer_of(arguments, &special, threads, files.is_none())?;
    let place = Place::new(&arguments.out, arguments.force)?;
    let (mut texts, mut text_bytes) = (0, 0);
    let mut take = |part: Option<&str>| {
        match part {
            Some(text) => text_bytes += text.len() as u64,
            None => texts += 1,
        }
        trainer.take(part);
    };
    let bar = terminal.byte_bar(Some(1), "counting");
    match &files {
        Some(files) => read_plain(files, &bar, &mut take)?,
        None => read_rows(arguments, threads, &bar, &mut take)?,
    }
    bar.finish_and_clear();
    if text_bytes == 0 {
        return Err(no_text(arguments.raw.iter().map(PathBuf::as_path)));
    }
    let trained = trainer.train(terminal).explain(
        || "these texts make no tokenizer".into(),
        || "with --char, give --vocab more, or leave it out".into(),
    )?;
    place.write(&trained)?;
    let report = Report {
        out: &arguments.out,
        vocab_size: trained.tokenizer.vocab_size(),
        special: &special,
        pattern: (!arguments.characters).then_some(&arguments.pattern),
        texts,
        text_bytes,
        bytes_per_token: trained.bytes_per_token,
        words_cut: trained.is_cut,
        threads: threads.get(),
        seconds: start.elapsed().as_secs_f64(),
        peak_memory_bytes: processors::peak_memory(),
    };
    warn(arguments, &trained, &report, terminal);
    if arguments.json {
        terminal.json(&report)?;
    } else {
        terminal.say(format_args!(
            "{}: {} ids, {:.2} bytes a token, {} of text, {:.1} s",
            arguments.out.display(),
            report.vocab_size,
            report.bytes_per_token,
            size(text_bytes),
            report.seconds
        ));
    }
    Ok(Outcome::Success)
}

fn warn(arguments: &Train, trained: &Trained, report: &Report<'_>, terminal: &Terminal) {
    if let Some(wanted) = arguments.vocab.filter(|&wanted| wanted > report.vocab_size)
        && !arguments.characters
    {
        terminal.warn(format_args!(
            "the texts give {} ids, not {wanted}: no other pair occurs twice",
            report.vocab_size
        ));
    }
    if trained.is_cut {
        terminal.warn(format_args!(
            "rare words were counted in parts, or half of them, since --memory {} holds no more",
            size(arguments.memory as u64)
        ));
    }
    if !arguments.characters && trained.tokenizer.metadata().pre.is_none() {
        terminal
            .warn("llama.cpp has no name for this pattern: a GGUF would be cut otherwise there");
    }
}

/// The share of --memory that is left for reading rows: some of the longest, as JSON and as text.
const READING: usize = 4;

/// The memory that characters are counted in, and some more.
const CHARACTERS: usize = 32 << 20;

/// The trainer that was asked for; `rows` are read ahead.
fn trainer_of(
    arguments: &Train,
    special: &[String],
    threads: NonZero<usize>,
    rows: bool,
) -> anyhow::Result<Trainer> {
    let vocab_size = arguments.vocab.unwrap_or(0);
    let least = match arguments.characters {
        true => CHARACTERS,
        false => BpeOptions::least_memory(vocab_size),
    };
    let least = if rows { least.div_ceil(READING - 1) * READING } else { least };
    if arguments.memory < least {
        let least = least.div_ceil(1 << 20);
        let asked = match arguments.memory {
            whole if whole.is_multiple_of(1 << 20) => format!("{}M", whole >> 20),
            bytes => size(bytes as u64),
        };
        return Err(failure(
            format!("--memory {asked} is too little: this takes {least}M at least"),
            format!("--memory {least}M, or a smaller --vocab"),
        ));
    }
    let special = special.to_vec();
    let trainer = if arguments.characters {
        Trainer::characters(CharOptions { vocab_size: arguments.vocab, special })
    } else {
        let reading = if rows { arguments.memory / READING } else { 0 };
        Trainer::bpe(BpeOptions {
            vocab_size,
            pattern: arguments.pattern.clone(),
            special,
            threads,
            memory: arguments.memory - reading,
        })
    };
    trainer.explain(
        || "there can be no such tokenizer".into(),
        || "check --vocab, --pattern and --special".into(),
    )
}

/// Hands on every text of RAW in parts, and after each text a none.
fn read_rows(
    arguments: &Train,
    threads: NonZero<usize>,
    bar: &ProgressBar,
    take: &mut dyn FnMut(Option<&str>),
) -> anyhow::Result<()> {
    quieten_reader();
    let sources = arguments.raw.iter().map(Source::new).collect();
    let preparation = Preparation {
        field: arguments.field.clone(),
        separator: None,
        normalize: false,
        // The longest is held as JSON and as text, and the one before it still as text.
        longest_row: (arguments.memory / 32).min(64 << 20),
        threads,
        ..Preparation::new(sources)
    };
    let read = llmos_train::data::read_texts(&preparation, false, take, &mut |progress| {
        bar.set_length(progress.total);
        bar.set_position(progress.done);
    });
    read.map_err(explained)
}

/// An error of reading RAW with what can be done about it.
fn explained(error: llmos_train::Error) -> anyhow::Error {
    let hint = match &error {
        llmos_train::Error::Text { problem, .. } if problem.contains("longer than") => {
            "more --memory takes longer rows; or cut it into several"
        }
        llmos_train::Error::Text { .. } => NO_TEXT,
        llmos_train::Error::Format { what, .. } if what == "columns" => {
            "--field NAME takes another column"
        }
        llmos_train::Error::Setting { key, .. } if key == "field" => {
            "--field NAME takes another field"
        }
        llmos_train::Error::Io { source, .. } if is_damaged(source) => {
            "the file is damaged or cut off: fetch it again"
        }
        _ => "RAW are files of text, JSON Lines, JSON or Parquet, or folders",
    };
    failure(error, hint)
}

const NO_TEXT: &str = "convert it first (iconv -t UTF-8 -f GB18030, or -f UTF-16), or leave it out";

/// As [`read_rows`], of plain files, in less memory: a megabyte at a time.
fn read_plain(
    files: &[PathBuf],
    bar: &ProgressBar,
    take: &mut dyn FnMut(Option<&str>),
) -> anyhow::Result<()> {
    bar.set_length(files.iter().filter_map(|path| Some(path.metadata().ok()?.len())).sum());
    let mut buffer = vec![0; 1 << 20];
    for path in files {
        let cannot = || format!("cannot read {}", path.display());
        let mut file = File::open(path).with_context(cannot)?;
        // Bytes in the buffer that begin a character, and where in the file they are.
        let (mut kept, mut offset) = (0, 0);
        loop {
            let read = match file.read(&mut buffer[kept..]) {
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                read => read.with_context(cannot)?,
            };
            let bytes = &buffer[..kept + read];
            if offset == 0 && (bytes.starts_with(b"\xff\xfe") || bytes.starts_with(b"\xfe\xff")) {
                let message = format!("{} is UTF-16, where UTF-8 was expected", path.display());
                return Err(failure(message, NO_TEXT));
            }
            let (text, rest) = match std::str::from_utf8(bytes) {
                Ok(text) => (text, 0),
                Err(error) if error.error_len().is_none() && read > 0 => {
                    let (valid, rest) = bytes.split_at(error.valid_up_to());
                    (std::str::from_utf8(valid).unwrap_or_default(), rest.len())
                }
                Err(error) => {
                    let at = offset + error.valid_up_to() as u64;
                    let message = format!("{} is not UTF-8 at byte {at}", path.display());
                    return Err(failure(message, NO_TEXT));
                }
            };
            if let Some(at) = text.find('\0') {
                let (at, path) = (offset + at as u64, path.display());
                return Err(failure(
                    format!("{path} has a zero byte at byte {at}: this is no text"),
                    NO_TEXT,
                ));
            }
            // A byte order mark is no part of the text.
            let mark = if offset == 0 { "\u{feff}" } else { "" };
            take(Some(text.strip_prefix(mark).unwrap_or(text)));
            offset += text.len() as u64;
            bar.inc(read as u64);
            let end = kept + read;
            buffer.copy_within(end - rest..end, 0);
            kept = rest;
            if read == 0 {
                break;
            }
        }
        take(None);
    }
    Ok(())
}

/// Where a tokenizer is going to be.
struct Place<'a> {
    out: &'a Path,
    /// A folder that becomes `out`, which is not there yet or empty.
    aside: Option<Unfinished>,
}

impl<'a> Place<'a> {
    /// Looks before the work begins whether the tokenizer can be written.
    fn new(out: &'a Path, force: bool) -> anyhow::Result<Place<'a>> {
        let is_json = out.extension().is_some_and(|ending| ending == "json");
        let file = if is_json { out.to_path_buf() } else { out.join("tokenizer.json") };
        if file.is_dir() || !is_json && out.is_file() {
            let wanted = if is_json { "a folder, not a file" } else { "a file, not a folder" };
            return Err(failure(
                format!("{} is {wanted}", out.display()),
                "--out T.json writes a file, --out T a folder",
            ));
        }
        if !force && file.metadata().is_ok_and(|metadata| metadata.len() > 0) {
            return Err(failure(
                format!("{} exists", file.display()),
                "--force replaces it; or give another path",
            ));
        }
        let parent = out.parent().filter(|parent| !parent.as_os_str().is_empty());
        if let Some(parent) = parent {
            std::fs::create_dir_all(parent)
                .with_context(|| format!("cannot make the folder {}", parent.display()))?;
        }
        let is_new = std::fs::read_dir(out).map_or(true, |mut entries| entries.next().is_none());
        if is_json || !is_new {
            return Ok(Place { out, aside: None });
        }
        let mut name = OsString::from(".");
        name.push(out.file_name().unwrap_or_default());
        name.push(format!(".partial-{}", std::process::id()));
        let aside = Unfinished::new(out.with_file_name(name));
        std::fs::create_dir_all(aside.path())
            .with_context(|| format!("cannot make the folder {}", out.display()))?;
        Ok(Place { out, aside: Some(aside) })
    }

    /// Writes a new folder as a whole, or each file.
    fn write(self, trained: &Trained) -> anyhow::Result<()> {
        if self.out.extension().is_some_and(|ending| ending == "json") {
            return write_whole(self.out, trained.json.as_bytes());
        }
        let config = trained.tokenizer.to_json_config();
        let files = [
            ("tokenizer_config.json", config.as_bytes()),
            ("tokenizer.json", trained.json.as_bytes()),
        ];
        let Some(aside) = self.aside else {
            return files
                .iter()
                .try_for_each(|(name, text)| write_whole(&self.out.join(name), text));
        };
        let write = || -> std::io::Result<()> {
            for (name, text) in files {
                let mut file = File::create(aside.path().join(name))?;
                file.write_all(text)?;
                file.sync_all()?;
            }
            std::fs::rename(aside.path(), self.out)
        };
        write().with_context(|| format!("cannot write {}", self.out.display()))?;
        aside.keep();
        Ok(())
    }
}
