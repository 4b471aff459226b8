//! `llmos eval`: the report card.

mod answers;
mod texts;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use clap::Subcommand;
use llmos_eval::card::{Baseline, Card, Subject, Text};
use llmos_eval::conversation::Row;
use llmos_eval::report;

use crate::failure::failure;
use crate::load::{self, Cache, Compute};
use crate::terminal::{Terminal, number_of};
use crate::{Outcome, model_name, registry, vocabulary};

/// Measure models side by side.
#[derive(clap::Args, Debug)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand, Debug)]
enum Action {
    Card(Box<CardArguments>),
}

/// Write a report card: how well models predict text and answer questions, with error bars.
///
/// The models are those of one assistant, each made of the one before: base, finetuned, preferred.
/// They predict the texts of --stories and --chinese, and answer the questions of --generated and
/// --hand with tools at hand, the sums among them also without. FOLDER gets card.md, card.json,
/// card.html, card.svg, and every answer in answers/; --answers takes such files again, so that
/// nothing need be asked twice. What was not measured is left out of the card.
#[derive(clap::Args, Debug)]
struct CardArguments {
    /// Models: names or paths, with what to call each where its own name says too little.
    #[arg(value_name = "MODEL[=NAME]")]
    models: Vec<String>,
    /// Texts of English stories that no model was trained on: files or folders.
    #[arg(long, value_name = "TEXT", num_args = 1..)]
    stories: Vec<PathBuf>,
    /// Chinese texts that no model was trained on.
    #[arg(long, value_name = "TEXT", num_args = 1..)]
    chinese: Vec<PathBuf>,
    /// What the baselines for --stories learn from: the text that the models were trained on.
    #[arg(long, value_name = "TEXT", num_args = 1.., requires = "stories")]
    stories_train: Vec<PathBuf>,
    /// What the baselines for --chinese learn from.
    #[arg(long, value_name = "TEXT", num_args = 1.., requires = "chinese")]
    chinese_train: Vec<PathBuf>,
    /// The field of a row that holds its text, in JSON Lines and Parquet.
    #[arg(long, value_name = "NAME", default_value = "text")]
    field: String,
    /// Characters that a baseline learns from at most, the first of its texts.
    #[arg(long, value_name = "N", default_value_t = 20_000_000)]
    baseline_characters: usize,
    /// Generated questions to ask, of the test split.
    #[arg(long, value_name = "N", default_value_t = 0)]
    generated: usize,
    /// A file of rows to ask, such as testdata/assistant/hand.jsonl.
    #[arg(long, value_name = "FILE")]
    hand: Option<PathBuf>,
    /// Answers of a model that were written before: it is not asked again what is in them.
    #[arg(long, value_name = "NAME=FILE", value_parser = parse_named)]
    answers: Vec<(String, PathBuf)>,
    /// The same, of questions that were asked without tools.
    #[arg(long, value_name = "NAME=FILE", value_parser = parse_named)]
    answers_alone: Vec<(String, PathBuf)>,
    /// Most new tokens of an answer.
    #[arg(long = "tokens", short = 'n', value_name = "N", default_value_t = 512)]
    tokens: usize,
    /// Questions that are answered at once.
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..=256))]
    parallel: u16,
    /// The folder to write.
    #[arg(long, value_name = "FOLDER")]
    out: PathBuf,
    /// Replace a card there that measures more.
    #[arg(long)]
    force: bool,
    /// A quick look: at most N texts of each kind, and N rows of each set.
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
    /// Seed of the generated questions and of the error bars.
    #[arg(long, value_name = "SEED", default_value_t = 1)]
    seed: u32,
    /// Print the card as JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    cache: Cache,
    #[command(flatten)]
    compute: Compute,
}

fn parse_named(text: &str) -> Result<(String, PathBuf), String> {
    match text.split_once('=') {
        Some((name, path)) if !name.is_empty() && !path.is_empty() => {
            Ok((name.to_string(), path.into()))
        }
        _ => Err("say NAME=FILE".to_string()),
    }
}

pub(crate) fn run(arguments: Arguments, terminal: &Terminal) -> anyhow::Result<Outcome> {
    match arguments.action {
        Action::Card(arguments) => card(&arguments, terminal),
    }
}

fn card(arguments: &CardArguments, terminal: &Terminal) -> anyhow::Result<Outcome> {
    let models = named(arguments)?;
    if arguments.out.is_file() {
        let out = arguments.out.display();
        return Err(failure(format!("{out} is a file"), "--out names a folder"));
    }
    if !arguments.force {
        check_fuller(arguments, &models)?;
    }
    let limit = arguments.limit.unwrap_or(usize::MAX);
    let rows = answers::rows(arguments, limit)?;
    let documents = documents(arguments, limit, terminal)?;
    let mut subjects = Vec::new();
    for (name, model) in &models {
        let mut subject = Subject { name: name.clone(), ..Subject::default() };
        subject.answers = answers::read(&arguments.answers, name)?;
        subject.without_tools = answers::read(&arguments.answers_alone, name)?;
        if let Some(model) = model {
            measure(arguments, model, &documents, &rows, &mut subject, terminal)?;
        }
        answers::write(arguments, &subject)?;
        subjects.push(subject);
    }
    let baselines = baselines(arguments, &documents, terminal)?;
    let card = Card::new(&subjects, &baselines, u64::from(arguments.seed));
    if card.measures.is_empty() {
        return Err(failure(
            "nothing was measured",
            "--stories and --chinese name texts, --generated and --hand questions, --answers files",
        ));
    }
    let markdown = report::markdown(&card, Some("card.svg"));
    let json = serde_json::to_string_pretty(&card)? + "\n";
    for (name, contents) in [
        ("card.md", &markdown),
        ("card.json", &json),
        ("card.html", &report::html(&card)),
        ("card.svg", &report::svg(&card)),
    ] {
        registry::write_whole(&arguments.out.join(name), contents.as_bytes())?;
    }
    match arguments.json {
        true => terminal.json(&card)?,
        false => terminal.print(report::markdown(&card, None))?,
    }
    terminal.say(format_args!("{} has the card", arguments.out.join("card.html").display()));
    Ok(Outcome::Success)
}

/// Refuses to replace a card of more models or sets than this one will have.
fn check_fuller(
    arguments: &CardArguments,
    models: &[(String, Option<String>)],
) -> anyhow::Result<()> {
    let path = arguments.out.join("card.json");
    let Ok(bytes) = std::fs::read(&path) else { return Ok(()) };
    let Ok(card) = serde_json::from_slice::<Card>(&bytes) else { return Ok(()) };
    // Which sets files of answers are about is known when they are read.
    let is_answered = !arguments.answers.is_empty() || !arguments.answers_alone.is_empty();
    let has = |set: &str| match set {
        "stories" => !arguments.stories.is_empty(),
        "chinese" => !arguments.chinese.is_empty(),
        "generated" => arguments.generated > 0 || is_answered,
        "hand" => arguments.hand.is_some() || is_answered,
        _ => true,
    };
    let model = card.models.iter().find(|model| !models.iter().any(|(name, _)| name == *model));
    let set = card.sets.iter().map(|set| &set.name).find(|set| !has(set));
    match model.or(set) {
        None => Ok(()),
        Some(more) => Err(failure(
            format!("{} is there, and measures {more} as well", path.display()),
            "name another folder with --out, or replace the card with --force",
        )),
    }
}

/// What each model is called, and what it is where it is to be run; in the order in which they were
/// named.
fn named(arguments: &CardArguments) -> anyhow::Result<Vec<(String, Option<String>)>> {
    let mut named: Vec<(String, Option<String>)> = Vec::new();
    for text in &arguments.models {
        let (model, name) = match text.rsplit_once('=') {
            // A path may have the sign in it.
            Some((model, name)) if !Path::new(text).exists() => (model, name.to_string()),
            _ => (text.as_str(), model_name::short_name(text)),
        };
        if name.is_empty() || named.iter().any(|(other, _)| *other == name) {
            return Err(failure(
                format!("two models are called `{name}`, or one is called nothing"),
                "MODEL=NAME says what a model is called on the card",
            ));
        }
        named.push((name, Some(model.to_string())));
    }
    for (name, _) in arguments.answers.iter().chain(&arguments.answers_alone) {
        if !named.iter().any(|(other, _)| other == name) {
            named.push((name.clone(), None));
        }
    }
    if named.is_empty() {
        return Err(failure(
            "there is no model to measure",
            "llmos eval card BASE=base TUNED=finetuned --hand FILE --out FOLDER",
        ));
    }
    Ok(named)
}

/// The texts that are predicted, each in its documents.
type Documents = BTreeMap<Text, Vec<String>>;

fn documents(
    arguments: &CardArguments,
    limit: usize,
    terminal: &Terminal,
) -> anyhow::Result<Documents> {
    let mut documents = Documents::new();
    for (text, paths) in [(Text::Stories, &arguments.stories), (Text::Chinese, &arguments.chinese)]
    {
        // Without a model that predicts them they are of no use.
        if !paths.is_empty() && !arguments.models.is_empty() {
            let all = texts::documents(paths, &arguments.field, usize::MAX, terminal)?;
            documents.insert(text, llmos_eval::conversation::thinned(&all, limit));
        }
    }
    Ok(documents)
}

fn measure(
    arguments: &CardArguments,
    model: &str,
    documents: &Documents,
    rows: &[Row],
    subject: &mut Subject,
    terminal: &Terminal,
) -> anyhow::Result<()> {
    let compute = arguments.compute.exact_by_default();
    let mut loaded = load::load(model, &compute, arguments.cache.options(), terminal)?;
    for (text, documents) in documents {
        let what = format!("{}: predicting {}", subject.name, text.name());
        let parts = texts::predict(&mut loaded, documents, &what, terminal)?;
        subject.texts.insert(*text, parts);
    }
    if rows.is_empty() {
        return Ok(());
    }
    let tokenizer = loaded.tokenizer()?.clone();
    let files = loaded.engine.model().files();
    let template = files.map(|files| vocabulary::template(files, &tokenizer)).transpose()?;
    if template.flatten().is_none() {
        let name = &subject.name;
        terminal
            .warn(format_args!("{name} has no chat template: what it would answer is left out"));
        return Ok(());
    }
    // It is loaded again, with room for many conversations at once.
    drop(loaded);
    answers::ask(arguments, model, rows, subject, terminal)
}

/// Characters predicted from the few before them, of the texts whose training text is known.
fn baselines(
    arguments: &CardArguments,
    documents: &Documents,
    terminal: &Terminal,
) -> anyhow::Result<Vec<Baseline>> {
    let mut baselines = Vec::new();
    for (text, paths) in
        [(Text::Stories, &arguments.stories_train), (Text::Chinese, &arguments.chinese_train)]
    {
        let Some(documents) = documents.get(&text).filter(|_| !paths.is_empty()) else { continue };
        let most = arguments.baseline_characters;
        let learnt = texts::documents(paths, &arguments.field, most, terminal)?;
        terminal.detail(format_args!(
            "baselines of {} learn from {}",
            text.name(),
            number_of(learnt.len(), "text")
        ));
        for (name, order) in [("unigram", 1), ("5-gram", 5)] {
            let spinner = terminal.spinner(&format!("{name} of {}", text.name()));
            let (parts, learnt) = texts::baseline(order, &learnt, documents);
            spinner.finish_and_clear();
            baselines.push(Baseline { name: name.into(), text, parts, learnt });
        }
    }
    Ok(baselines)
}
