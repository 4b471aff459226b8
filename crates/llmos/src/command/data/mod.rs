//! `llmos data`: texts to token shards, and conversations of our own making.

mod generate;
mod learn;
mod pairs;
mod report;
mod tell;
mod trace;

use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::time::Instant;

use clap::Subcommand;
use indicatif::ProgressBar;
use llmos_tokenizer::Tokenizer;
use llmos_train::data::{
    HeldOut, Language, Manifest, Place, Preparation, Prepared, Progress, Quality, READING_THREAD,
    Source, TokenizerFiles, prepare, read_mix,
};

use crate::Outcome;
use crate::failure::{failure, is_damaged, is_full};
use crate::interrupt::Unfinished;
use crate::load::parse_size;
use crate::terminal::{Terminal, count};
use crate::{model_name, processors, vocabulary};

/// Make texts ready for training, and conversations to finetune on.
#[derive(clap::Args, Debug)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand, Debug)]
enum Action {
    Prepare(Box<Prepare>),
    Generate(generate::Generate),
    Tell(tell::Tell),
    Pairs(pairs::Pairs),
    Trace(trace::Trace),
}

/// Turn texts into a folder of token shards that `pretrain` reads.
///
/// RAW are text and markdown files, JSON Lines, JSON arrays, Parquet, and folders of these, in .gz
/// or .zst too; runs and prepared folders inside them are passed over. Texts are brought into one form (NFC, line feeds, no control characters); exact and
/// near duplicates, rubbish and evaluation sets are taken out, and it is said what was and why. A
/// text file that is named, and is one document, is kept as it is. The folder is the same to the
/// byte whatever --threads; it appears whole or not at all.
#[derive(clap::Args, Debug)]
struct Prepare {
    /// Text files, JSON Lines, JSON, Parquet, and folders of them. Beside --mix each ends in its weight:
    /// notes.jsonl:0.2.
    #[arg(required_unless_present = "mix", value_name = "RAW")]
    raw: Vec<PathBuf>,
    /// The folder to write.
    #[arg(long, value_name = "DATA")]
    out: PathBuf,
    /// Sources with weights, epochs, caps and licences: `[[source]]` tables with path, weight, epochs,
    /// cap_tokens, cap_bytes, licence, field.
    #[arg(long, value_name = "FILE")]
    mix: Option<PathBuf>,
    #[command(flatten)]
    tokens: Tokens,
    #[command(flatten)]
    rows: Rows,
    #[command(flatten)]
    kept: Kept,
    /// Threads.
    #[arg(long, short, value_name = "N")]
    threads: Option<NonZero<usize>>,
    /// Most memory for what duplicates are found by; a document costs some 700 bytes.
    #[arg(long, value_name = "SIZE", default_value = "1G", value_parser = parse_size)]
    memory: usize,
    /// Replace a data set that is there.
    #[arg(long)]
    force: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// What makes tokens.
#[derive(clap::Args, Debug)]
#[command(next_help_heading = "Tokens")]
struct Tokens {
    /// A tokenizer or a model whose tokenizer it is; one is learnt from the texts where left out.
    #[arg(long, value_name = "T|MODEL", conflicts_with_all = ["vocab", "characters"])]
    tokenizer: Option<String>,
    /// Ids of the tokenizer that is learnt; by the size of the texts where left out.
    #[arg(long, value_name = "N")]
    vocab: Option<usize>,
    /// Learn a tokenizer of single characters.
    #[arg(long = "char")]
    characters: bool,
    /// The token after each document; the vocabulary's own where left out.
    #[arg(long, value_name = "TOKEN")]
    end: Option<String>,
}

/// How files become documents.
#[derive(clap::Args, Debug)]
#[command(next_help_heading = "Documents")]
struct Rows {
    /// The field of a row, or the Parquet column, that holds its text; a.b for b within a.
    #[arg(long, value_name = "NAME", default_value = "text")]
    field: String,
    /// What stands between the documents of a text file (\n is a line's end); empty for nothing.
    #[arg(long, value_name = "TEXT", default_value = "<|endoftext|>")]
    separator: String,
    /// Endings of further text files in folders, such as rs,py.
    #[arg(long, value_name = "ENDING", value_delimiter = ',')]
    endings: Vec<String>,
    /// Leave out bytes that are no UTF-8, and rows that are broken or too long.
    #[arg(long)]
    lossy: bool,
    /// Leave texts in the form that they have.
    #[arg(long)]
    verbatim: bool,
    /// The licence of sources that have none beside them.
    #[arg(long, value_name = "NAME")]
    licence: Option<String>,
    /// Held out to measure by: a share (0.01, 1%), a size in all (64K), 0 for nothing. Where left
    /// out, the last 10 % of a single text (2 MiB or 1 % where that is less), else 1 % of the
    /// documents, at least 16 KiB.
    #[arg(long, value_name = "SHARE|SIZE", value_parser = parse_held_out)]
    validation: Option<HeldOut>,
}

/// Which documents are kept.
#[derive(clap::Args, Debug)]
#[command(next_help_heading = "Filters")]
struct Kept {
    /// Languages that are kept, of en, zh and other; all where left out.
    #[arg(long, value_name = "LANGUAGE", value_delimiter = ',', value_parser = parse_language)]
    language: Vec<Language>,
    /// Bytes of a document, at least.
    #[arg(long, value_name = "N", default_value_t = Quality::default().min_bytes)]
    min_bytes: usize,
    /// Share of the visible characters that are letters, at least.
    #[arg(long, value_name = "SHARE", default_value_t = Quality::default().min_letters,
        value_parser = parse_share)]
    min_letters: f64,
    /// Mean letters of a word, at most.
    #[arg(long, value_name = "N", default_value_t = Quality::default().max_word)]
    max_word: f64,
    /// Share of a document in lines, or runs of ten words, that were there before, at most.
    #[arg(long, value_name = "SHARE", default_value_t = Quality::default().max_repeat,
        value_parser = parse_share)]
    max_repeat: f64,
    /// Similarity from which on documents are duplicates (MinHash: runs of 5 words, 14 bands of 8),
    /// or off for equal ones alone.
    #[arg(long, value_name = "SHARE|off", default_value = "0.8", value_parser = parse_near)]
    near_duplicates: Near,
    /// Evaluation sets: documents that share 13 words, or Chinese characters, in a row are left out.
    #[arg(long, value_name = "FILE", num_args = 1..)]
    decontaminate: Vec<PathBuf>,
}

/// [`Preparation::near_duplicates`] on the command line.
#[derive(Clone, Copy, Debug)]
struct Near(Option<f64>);

fn parse_near(text: &str) -> Result<Near, String> {
    if text == "off" {
        return Ok(Near(None));
    }
    let share = text.parse().ok().filter(|share| (0.3..=1.0).contains(share));
    share.map(|share| Near(Some(share))).ok_or_else(|| "0.3 to 1, or off".into())
}

fn parse_share(text: &str) -> Result<f64, String> {
    let share = text.parse().ok().filter(|share| (0.0..=1.0).contains(share));
    share.ok_or_else(|| "0 to 1".into())
}

fn parse_language(text: &str) -> Result<Language, String> {
    Language::from_name(text).ok_or_else(|| "en, zh or other".into())
}

fn parse_held_out(text: &str) -> Result<HeldOut, String> {
    let share = match text.strip_suffix('%') {
        Some(percent) => percent.trim().parse().ok().map(|percent: f64| percent / 100.0),
        None => text.parse().ok().filter(|&share: &f64| share < 1.0),
    };
    match share {
        Some(share) if (0.0..=0.5).contains(&share) => Ok(HeldOut::Share(share)),
        Some(_) => Err("a share is 0 to 0.5, or 50 %".into()),
        None => parse_size(text).map(|bytes| HeldOut::Bytes(bytes as u64)),
    }
}

pub(crate) fn run(arguments: Arguments, terminal: &Terminal) -> anyhow::Result<Outcome> {
    match arguments.action {
        Action::Prepare(arguments) => run_prepare(&arguments, terminal),
        Action::Generate(arguments) => generate::run(&arguments, terminal),
        Action::Tell(arguments) => tell::run(&arguments, terminal),
        Action::Pairs(arguments) => pairs::run(&arguments, terminal),
        Action::Trace(arguments) => trace::run(&arguments, terminal),
    }
}

fn run_prepare(arguments: &Prepare, terminal: &Terminal) -> anyhow::Result<Outcome> {
    let start = Instant::now();
    let preparation = preparation_of(arguments)?;
    let place = Place::new(&arguments.out, arguments.force).map_err(explained)?;
    let prepared = make(arguments, &preparation, place, terminal)?;
    let report = report::Report::new(&arguments.out, &prepared.manifest, start.elapsed());
    if arguments.json {
        terminal.json(&report)?;
    } else {
        report.say(terminal);
    }
    Ok(Outcome::Success)
}

fn make(
    arguments: &Prepare,
    preparation: &Preparation,
    place: Place,
    terminal: &Terminal,
) -> anyhow::Result<Prepared> {
    let Tokens { tokenizer, vocab, characters, .. } = &arguments.tokens;
    let choice = match tokenizer {
        Some(name) => TokenizerChoice::Given(name.clone()),
        None if *characters => TokenizerChoice::Characters(*vocab),
        None => TokenizerChoice::Bpe(*vocab),
    };
    let prepared = prepare_with(preparation, &choice, place, terminal)?;
    if let TokenizerChoice::Bpe(Some(asked)) = choice {
        warn_of_fewer(asked, &prepared.manifest, terminal);
    }
    Ok(prepared)
}

/// Says that a vocabulary has fewer ids than somebody asked for.
pub(crate) fn warn_of_fewer(asked: usize, manifest: &Manifest, terminal: &Terminal) {
    let ids = manifest.tokenizer.vocab_size;
    if ids < asked as u64 {
        terminal.warn(format_args!(
            "the texts give {ids} ids, not {asked}: no other pair occurs twice"
        ));
    }
}

/// What makes tokens of texts.
pub(crate) enum TokenizerChoice {
    /// A tokenizer, or a model whose tokenizer it is.
    Given(String),
    /// Pieces of words, learnt from the texts, with so many ids.
    Bpe(Option<usize>),
    /// The characters of the texts, with so many ids at most.
    Characters(Option<usize>),
}

/// Prepares texts with a tokenizer that is given, or learnt from them first.
///
/// # Errors
/// The texts cannot be read, nothing of them is left, or the tokenizer does not fit.
pub(crate) fn prepare_with(
    preparation: &Preparation,
    choice: &TokenizerChoice,
    place: Place,
    terminal: &Terminal,
) -> anyhow::Result<Prepared> {
    quieten_reader();
    let unfinished = Unfinished::new(place.aside());
    let made = (|| {
        let (tokenizer, files) = match choice {
            TokenizerChoice::Given(name) => given_tokenizer(name, terminal)?,
            TokenizerChoice::Bpe(vocab) => learn::learn(preparation, *vocab, false, terminal)?,
            TokenizerChoice::Characters(vocab) => {
                learn::learn(preparation, *vocab, true, terminal)?
            }
        };
        let bar = terminal.byte_bar(Some(1), "preparing");
        let prepared = prepare(preparation, &tokenizer, files, place, &mut |progress| {
            show(&bar, progress);
        });
        bar.finish_and_clear();
        prepared.map_err(explained)
    })();
    // The place has removed itself, or become the data set.
    unfinished.keep();
    let prepared = made?;
    for warning in &prepared.warnings {
        terminal.warn(warning);
    }
    Ok(prepared)
}

fn show(bar: &ProgressBar, progress: Progress) {
    bar.set_length(progress.total);
    bar.set_position(progress.done);
    if progress.tokens > 0 {
        bar.set_message(format!("{} tokens", count(progress.tokens)));
    }
}

/// A source beside those of a mix: PATH:WEIGHT.
fn weighted(raw: &Path) -> anyhow::Result<Source> {
    let text = raw.to_string_lossy();
    let parts = text.rsplit_once(':').and_then(|(path, weight)| Some((path, weight.parse().ok()?)));
    let (path, weight) = parts.ok_or_else(|| {
        failure(
            format!("{text} has no weight, and the sources of --mix have"),
            "write PATH:WEIGHT, or add it to the mix",
        )
    })?;
    Ok(Source { weight: Some(weight), ..Source::new(path) })
}

fn preparation_of(arguments: &Prepare) -> anyhow::Result<Preparation> {
    let sources = match &arguments.mix {
        Some(path) => {
            let mut sources = read_mix(path).map_err(explained)?;
            for raw in &arguments.raw {
                sources.push(weighted(raw)?);
            }
            sources
        }
        None => arguments.raw.iter().map(Source::new).collect(),
    };
    let threads = arguments.threads.or(NonZero::new(processors::physical_cores()));
    let Prepare { rows, kept, .. } = arguments;
    let separator = rows.separator.replace("\\n", "\n").replace("\\t", "\t");
    Ok(Preparation {
        field: rows.field.clone(),
        separator: Some(separator).filter(|separator| !separator.is_empty()),
        endings: rows.endings.iter().map(|e| e.trim_start_matches('.').to_lowercase()).collect(),
        lossy: rows.lossy,
        normalize: !rows.verbatim,
        languages: kept.language.clone(),
        quality: Quality {
            min_bytes: kept.min_bytes,
            min_letters: kept.min_letters,
            max_word: kept.max_word,
            max_repeat: kept.max_repeat,
        },
        near_duplicates: kept.near_duplicates.0,
        evaluations: kept.decontaminate.clone(),
        held_out: rows.validation.unwrap_or_default(),
        licence: rows.licence.clone(),
        end: arguments.tokens.end.clone(),
        threads: threads.unwrap_or(NonZero::<usize>::MIN),
        memory: arguments.memory,
        ..Preparation::new(sources)
    })
}

/// The tokenizer of that name, with the files that it is copied from.
fn given_tokenizer(name: &str, terminal: &Terminal) -> anyhow::Result<(Tokenizer, TokenizerFiles)> {
    let tokenizer = vocabulary::of_name(name, terminal)?;
    let path = model_name::resolve(name, terminal)?;
    let json = if path.is_dir() { path.join("tokenizer.json") } else { path };
    let mut files = TokenizerFiles::new();
    if json.extension().is_some_and(|ending| ending == "json") {
        let names = ["tokenizer.json", "tokenizer_config.json"];
        for (name, path) in names.into_iter().zip([json.clone(), json.with_file_name(names[1])]) {
            if let Ok(bytes) = std::fs::read(path) {
                files.push((name.into(), bytes));
            }
        }
    }
    Ok((tokenizer, files))
}

/// The thread that reads files turns panics of the Parquet library into errors: they are not
/// printed as well.
pub(super) fn quieten_reader() {
    let print = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if std::thread::current().name() != Some(READING_THREAD) {
            print(panic);
        }
    }));
}

/// A file to write may be there already only if it may be replaced.
///
/// # Errors
/// It may not, or is a folder.
fn refuse_existing(out: &Path, force: bool) -> anyhow::Result<()> {
    match out.is_dir() || (out.exists() && !force) {
        true => Err(failure(
            format!("{} exists", out.display()),
            "--force replaces a file; or give another path",
        )),
        false => Ok(()),
    }
}

/// An error of the data crate with a hint for its kind.
pub(crate) fn explained(error: llmos_train::Error) -> anyhow::Error {
    use llmos_train::Error;
    let hint = match &error {
        Error::Io { source, .. } if is_full(source) => {
            "the disk is full, or a limit on files is reached: make room or write elsewhere; nothing \
             was left behind"
        }
        Error::Io { source, .. } if is_damaged(source) => {
            "the file is damaged or cut off: fetch it again"
        }
        Error::Io { .. } => "check the path, and who may read or write there",
        Error::Text { problem, .. } if problem.contains("longer than") => {
            "cut the row into several: it is held in memory as a whole; `llmos data prepare --lossy` \
             leaves it out"
        }
        Error::Text { .. } => {
            "mend the file or leave it out (iconv -t UTF-8 -f GB18030 turns old Chinese encodings \
             into UTF-8); `llmos data prepare --lossy` leaves out what cannot be read"
        }
        Error::Format { what, .. } if what == "columns" => {
            "`llmos data prepare --field NAME` takes another column"
        }
        Error::Format { what, .. } if what == "folder" => {
            "`llmos data prepare --endings ENDING` takes further kinds of text files"
        }
        Error::Format { what, .. } if what == "mix" => {
            "`llmos help data prepare` says what a source has"
        }
        Error::Format { .. } => "the file is damaged or of another kind: fetch it again",
        Error::Locked { .. } => "wait until it has ended, or write elsewhere",
        Error::Setting { key, .. } => match key.as_str() {
            "out" => "--force replaces a data set; or give another path",
            "data" => {
                "`llmos data prepare --field NAME` takes another field; there, without --language, and \
                 with --min-bytes 0 --min-letters 0 --max-word inf --max-repeat 1 --near-duplicates \
                 off, all but equal documents are kept"
            }
            "tokenizer" => {
                "leave --tokenizer out (of a recipe data.tokenizer), and one is learnt from the texts"
            }
            "field" => "`llmos data prepare --field NAME` takes another field",
            "decontaminate" => {
                "an evaluation set has texts, or rows with texts: check the file, or leave it out"
            }
            "end" => "--end takes a token as the vocabulary writes it",
            _ => "check the mix: `llmos help data prepare` says what a source has",
        },
        _ => "`llmos help data prepare` shows what can be asked",
    };
    failure(error, hint)
}

/// The error of texts in which there is none.
pub(crate) fn no_text<'a>(paths: impl Iterator<Item = &'a Path>) -> anyhow::Error {
    let names: Vec<String> = paths.map(|path| path.display().to_string()).collect();
    failure(
        format!("{} holds no text", names.join(", ")),
        "give text files, JSON Lines, Parquet, or folders of them",
    )
}

/// The path for people, of a folder without its parents.
fn short(path: &str) -> &str {
    Path::new(path).file_name().and_then(|name| name.to_str()).unwrap_or(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_and_sizes() {
        let check = |text: &str, expected: Option<HeldOut>| {
            assert_eq!(parse_held_out(text).ok(), expected, "{text}");
        };
        check("0", Some(HeldOut::Share(0.0)));
        check("0.05", Some(HeldOut::Share(0.05)));
        check("5%", Some(HeldOut::Share(0.05)));
        check("64K", Some(HeldOut::Bytes(65_536)));
        check("1000", Some(HeldOut::Bytes(1000)));
        check("0.7", None);
        check("80%", None);
        check("-1", None);
        check("some", None);
        assert!(matches!(parse_near("off"), Ok(Near(None))));
        assert!(matches!(parse_near("0.9"), Ok(Near(Some(_)))));
        assert!(parse_near("0").is_err() && parse_near("nan").is_err());
    }
}
