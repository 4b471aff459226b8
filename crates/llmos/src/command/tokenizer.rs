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
use llmos_tokenizer::train::{BpeOptions, BpeTrainer, CharOptions, CharTrainer, Trained};
use serde::Serialize;

use crate::Outcome;
use crate::failure::{Explain, failure};
use crate::interrupt::Unfinished;
use crate::load::parse_size;
use crate::processors;
use crate::registry::write_whole;
use crate::terminal::{Terminal, size};

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
    /// UTF-8 text files, and folders whose .txt and .md files are read.
    #[arg(required = true, value_name = "RAW")]
    raw: Vec<PathBuf>,
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
    #[arg(long = "char")]
    characters: bool,
    /// Threads that count words.
    #[arg(long, short, value_name = "N")]
    threads: Option<NonZero<usize>>,
    /// Most memory to use; where distinct words need more, rare ones are counted in parts.
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
    /// Whether rare words were counted in parts.
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
    let files = text_files(&arguments.raw)?;
    let threads = arguments.threads.or(NonZero::new(processors::physical_cores()));
    let threads = threads.unwrap_or(NonZero::<usize>::MIN);
    let special = arguments.special.clone().unwrap_or_else(|| match arguments.characters {
        true => Vec::new(),
        false => vec!["<|endoftext|>".into()],
    });
    let mut trainer = Trainer::new(arguments, &special, threads)?;
    let place = Place::new(&arguments.out, arguments.force)?;
    let total = files.iter().filter_map(|path| Some(path.metadata().ok()?.len())).sum();
    let bar = terminal.byte_bar(Some(total), "counting");
    let mut text_bytes = 0;
    read_texts(&files, &mut |part| match part {
        Some(text) => {
            text_bytes += text.len() as u64;
            bar.set_position(text_bytes);
            trainer.push(text);
        }
        None => trainer.end_text(),
    })?;
    bar.finish_and_clear();
    let bar = terminal.step_bar(Some(0), "merging");
    let trained = trainer.train(&bar)?;
    bar.finish_and_clear();
    place.write(&trained)?;
    let report = Report {
        out: &arguments.out,
        vocab_size: trained.tokenizer.vocab_size(),
        special: &special,
        pattern: (!arguments.characters).then_some(&arguments.pattern),
        texts: files.len(),
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
            "rare words were counted in parts, since --memory {} holds no more",
            size(arguments.memory as u64)
        ));
    }
    if !arguments.characters && trained.tokenizer.metadata().pre.is_none() {
        terminal
            .warn("llama.cpp has no name for this pattern: a GGUF would be cut otherwise there");
    }
}

enum Trainer {
    Bpe(BpeTrainer),
    Characters(CharTrainer),
}

impl Trainer {
    fn new(
        arguments: &Train,
        special: &[String],
        threads: NonZero<usize>,
    ) -> anyhow::Result<Trainer> {
        let special = special.to_vec();
        let trainer = if arguments.characters {
            let options = CharOptions { vocab_size: arguments.vocab, special };
            CharTrainer::new(options).map(Trainer::Characters)
        } else {
            let options = BpeOptions {
                vocab_size: arguments.vocab.unwrap_or(0),
                pattern: arguments.pattern.clone(),
                special,
                threads,
                memory: arguments.memory,
            };
            BpeTrainer::new(options).map(Trainer::Bpe)
        };
        trainer.explain(
            || "there can be no such tokenizer".into(),
            || "check --vocab, --pattern and --special".into(),
        )
    }

    fn push(&mut self, text: &str) {
        match self {
            Trainer::Bpe(trainer) => trainer.push(text),
            Trainer::Characters(trainer) => trainer.push(text),
        }
    }

    fn end_text(&mut self) {
        match self {
            Trainer::Bpe(trainer) => trainer.end_text(),
            Trainer::Characters(trainer) => trainer.end_text(),
        }
    }

    fn train(self, bar: &ProgressBar) -> anyhow::Result<Trained> {
        let trained = match self {
            Trainer::Bpe(trainer) => trainer.train(&mut |done, total| {
                bar.set_length(total as u64);
                bar.set_position(done as u64);
            }),
            Trainer::Characters(trainer) => trainer.train(),
        };
        trained.explain(
            || "these texts make no tokenizer".into(),
            || "check RAW; with --char, give --vocab more, or leave it out".into(),
        )
    }
}

/// The files that RAW stands for, in order: a folder's by name.
fn text_files(raw: &[PathBuf]) -> anyhow::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for path in raw {
        let hint = || "RAW are text files, and folders of .txt and .md files".to_string();
        let what = || format!("cannot read {}", path.display());
        if !path.metadata().explain(what, hint)?.is_dir() {
            files.push(path.clone());
            continue;
        }
        let before = files.len();
        add_folder(path, &mut files).explain(what, hint)?;
        if files.len() == before {
            return Err(failure(format!("{} has no .txt or .md file", path.display()), hint()));
        }
    }
    Ok(files)
}

fn add_folder(folder: &Path, files: &mut Vec<PathBuf>) -> std::io::Result<()> {
    let mut entries = std::fs::read_dir(folder)?.collect::<Result<Vec<_>, _>>()?;
    entries.sort_by_key(std::fs::DirEntry::file_name);
    for entry in entries {
        let path = entry.path();
        let is_text = path.extension().is_some_and(|ending| ending == "txt" || ending == "md");
        // A link to a folder may lead in a circle; a link to a file does not.
        if entry.file_type()?.is_dir() {
            add_folder(&path, files)?;
        } else if is_text && path.is_file() {
            files.push(path);
        }
    }
    Ok(())
}

/// Hands on every text in parts, and after each text a none.
fn read_texts(files: &[PathBuf], take: &mut dyn FnMut(Option<&str>)) -> anyhow::Result<()> {
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
            let (text, rest) = match std::str::from_utf8(bytes) {
                Ok(text) => (text, 0),
                Err(error) if error.error_len().is_none() && read > 0 => {
                    let (valid, rest) = bytes.split_at(error.valid_up_to());
                    (std::str::from_utf8(valid).unwrap_or_default(), rest.len())
                }
                Err(error) => {
                    let at = offset + error.valid_up_to() as u64;
                    return Err(failure(
                        format!("{} is not UTF-8 at byte {at}", path.display()),
                        "convert it first (iconv -t UTF-8 -f GB18030, for one), or leave it out",
                    ));
                }
            };
            // A byte order mark is no part of the text.
            let mark = if offset == 0 { "\u{feff}" } else { "" };
            take(Some(text.strip_prefix(mark).unwrap_or(text)));
            offset += text.len() as u64;
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
