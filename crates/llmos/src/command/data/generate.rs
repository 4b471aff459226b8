//! `llmos data generate`: graded conversations of our own making.

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::Context;
use llmos_train::data::Language;
use llmos_train::synthetic::{Generator, Layout, Options, Skill, Split, Summary, partial, write};
use serde::Serialize;

use super::{explained, refuse_existing};
use crate::Outcome;
use crate::interrupt::Unfinished;
use crate::terminal::{Terminal, size};

/// Write conversations to finetune an assistant on, or to measure it by.
///
/// Each row of the JSON Lines file is a conversation in English or Chinese whose last question has a
/// known answer: stories, arithmetic that calls the calculator, which tool to call, spelling,
/// translation, who llmos is, what it does not know, what it refuses, small talk. `expect` says what
/// the answer must be like. Rows of --split test are made from other sentences, names, things and
/// numbers than those of --split train. The same flags give the same bytes on any machine; all
/// sentences are llmos' own, under its licence.
#[derive(clap::Args, Debug)]
pub(super) struct Generate {
    /// The file to write.
    #[arg(long, value_name = "CHATS")]
    out: PathBuf,
    /// Rows.
    #[arg(long, value_name = "N", default_value_t = 100_000)]
    count: u64,
    /// Seed of all random choices.
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    /// train, or test for what is never trained on.
    #[arg(long, value_name = "SPLIT", default_value = "train", value_parser = parse_split)]
    split: Split,
    /// en or zh; both where left out.
    #[arg(long, value_name = "LANGUAGE", value_delimiter = ',', value_parser = parse_language)]
    language: Vec<Language>,
    /// stories, arithmetic, routing, spelling, translation, identity, limits, refusal, small-talk;
    /// all where left out.
    #[arg(long, value_name = "NAME", value_delimiter = ',', value_parser = parse_skill)]
    skill: Vec<Skill>,
    /// messages, or text: what is said alone, to learn a tokenizer from or to pretrain on.
    #[arg(long, value_name = "LAYOUT", default_value = "messages", value_parser = parse_layout)]
    layout: Layout,
    /// Replace a file that is there.
    #[arg(long)]
    force: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

fn parse_split(text: &str) -> Result<Split, String> {
    Split::from_name(text).ok_or_else(|| "train or test".into())
}

fn parse_layout(text: &str) -> Result<Layout, String> {
    match text {
        "messages" => Ok(Layout::Messages),
        "text" => Ok(Layout::Text),
        _ => Err("messages or text".into()),
    }
}

fn parse_language(text: &str) -> Result<Language, String> {
    let language = Language::from_name(text).filter(|&language| language != Language::Other);
    language.ok_or_else(|| "en or zh".into())
}

fn parse_skill(text: &str) -> Result<Skill, String> {
    Skill::from_name(text).ok_or_else(|| Skill::ALL.map(Skill::name).join(", "))
}

/// What `--json` prints.
#[derive(Serialize)]
struct Report<'a> {
    out: &'a Path,
    split: Split,
    seed: u64,
    #[serde(flatten)]
    summary: &'a Summary,
    seconds: f64,
}

pub(super) fn run(arguments: &Generate, terminal: &Terminal) -> anyhow::Result<Outcome> {
    let start = Instant::now();
    let Generate { out, count, seed, split, .. } = arguments;
    refuse_existing(out, arguments.force)?;
    let mut options = Options { split: *split, seed: *seed, ..Options::default() };
    if !arguments.language.is_empty() {
        options.languages.clone_from(&arguments.language);
    }
    if !arguments.skill.is_empty() {
        options.skills.clone_from(&arguments.skill);
    }
    let mut generator = Generator::new(options).map_err(explained)?;
    let unfinished = Unfinished::new(partial(out));
    let bar = terminal.step_bar(Some(*count), "generating");
    let written =
        write(out, &mut generator, *count, arguments.layout, &mut |done| bar.set_position(done));
    bar.finish_and_clear();
    unfinished.keep();
    let summary = written.map_err(explained).context("cannot write the conversations")?;
    let seconds = start.elapsed().as_secs_f64();
    if arguments.json {
        terminal.json(&Report { out, split: *split, seed: *seed, summary: &summary, seconds })?;
        return Ok(Outcome::Success);
    }
    for (skill, languages) in &summary.skills {
        let counts: Vec<String> =
            languages.iter().map(|(language, rows)| format!("{language} {rows:>7}")).collect();
        terminal.say(format_args!("{skill:<12} {}", counts.join("  ")));
    }
    terminal.say(format_args!(
        "{}: {} rows of {}, {} messages, {}, {seconds:.1} s",
        out.display(),
        summary.rows,
        split.name(),
        summary.messages,
        size(summary.bytes)
    ));
    Ok(Outcome::Success)
}
