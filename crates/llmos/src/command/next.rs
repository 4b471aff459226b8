//! `llmos next`: the distribution of what comes next.

use std::path::PathBuf;

use llmos_model::engine::SequenceOptions;
use llmos_model::sampler::most_likely;
use llmos_model::{Engine, EngineOptions};
use llmos_tokenizer::Tokenizer;
use serde::Serialize;

use crate::Outcome;
use crate::generation;
use crate::load::{self, Adapting, Cache, Compute, Loaded};
use crate::next_words::{self, Words};
use crate::terminal::{Style, Terminal, bar};

/// Show what may come next, and how likely it is.
#[derive(clap::Args, Debug)]
pub(crate) struct Arguments {
    /// A model: a path or a name.
    model: String,
    /// The text so far; standard input where it and -f are left out.
    #[arg(long, short, value_name = "TEXT", conflicts_with = "file", allow_hyphen_values = true)]
    prompt: Option<String>,
    /// A file with the text so far; - is standard input.
    #[arg(long, short, value_name = "FILE")]
    file: Option<PathBuf>,
    /// How many.
    #[arg(long, value_name = "N", default_value_t = 20)]
    top: usize,
    /// Whole words instead of tokens.
    #[arg(long)]
    words: bool,
    /// Most batches that go through the model to find whole words.
    #[arg(long, value_name = "N", default_value_t = 64)]
    passes: usize,
    /// Print JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    adapting: Adapting,
    #[command(flatten)]
    cache: Cache,
    #[command(flatten)]
    compute: Compute,
}

#[derive(Serialize)]
struct Report {
    prompt_tokens: usize,
    next: Vec<Next>,
    /// Of whole words alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    unexplored: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    exact: Option<bool>,
}

#[derive(Serialize)]
struct Next {
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ids: Option<Vec<u32>>,
    text: String,
    probability: f64,
}

pub(crate) fn run(arguments: Arguments, terminal: &Terminal) -> anyhow::Result<Outcome> {
    let prompt = generation::input(arguments.prompt.as_deref(), arguments.file.as_deref())?
        .unwrap_or_default();
    let options = arguments.cache.options();
    let mut loaded = load::load(
        &arguments.model,
        &arguments.compute.exact_by_default(),
        options.clone(),
        terminal,
    )?;
    let tokenizer = loaded.tokenizer()?.clone();
    let mut tokens = tokenizer.encode_prompt(&prompt);
    if tokens.is_empty() {
        tokens = load::start_tokens(&tokenizer);
    }
    if arguments.words {
        widen(&mut loaded, options, tokens.len())?;
    }
    arguments.adapting.give(&mut loaded.engine, &loaded.device)?;
    let id = loaded.engine.add(&tokens, SequenceOptions::default()).map_err(load::explained)?;
    generation::prefill(&mut loaded, id, terminal)?;
    let engine = &mut loaded.engine;
    let report = if arguments.words {
        let top = arguments.top.max(1);
        let found = next_words::search(engine, id, &tokenizer, top, arguments.passes)?;
        of_words(tokens.len(), found, top)
    } else {
        let logits = engine.logits(id).map_err(load::explained)?;
        of_tokens(tokens.len(), most_likely(logits, arguments.top), &tokenizer)
    };
    if arguments.json {
        terminal.json(&report)?;
    } else {
        terminal.print(table(&report, terminal))?;
    }
    Ok(Outcome::Success)
}

/// An engine whose cache has room for the branches of a search; without a stated budget it holds
/// one sequence alone.
fn widen(loaded: &mut Loaded, mut options: EngineOptions, tokens: usize) -> anyhow::Result<()> {
    if options.cache_bytes.is_some() {
        return Ok(());
    }
    let engine = &loaded.engine;
    let block = engine.cache_bytes(1);
    let branch = engine.cache_bytes(next_words::DEPTH) + block;
    options.cache_bytes = Some(engine.cache_bytes(tokens) + block + next_words::BATCH * branch);
    let (model, device) = (engine.model().clone(), loaded.device.clone());
    loaded.engine = Engine::new(model, device, options).map_err(load::explained)?;
    Ok(())
}

fn of_tokens(prompt_tokens: usize, likely: Vec<(u32, f64)>, tokenizer: &Tokenizer) -> Report {
    let next = |(id, probability)| Next {
        id: Some(id),
        ids: None,
        text: tokenizer.token_text(id),
        probability,
    };
    Report {
        prompt_tokens,
        next: likely.into_iter().map(next).collect(),
        unexplored: None,
        exact: None,
    }
}

fn of_words(prompt_tokens: usize, found: Words, top: usize) -> Report {
    let mut next: Vec<Next> = found
        .words
        .into_iter()
        .map(|word| Next {
            id: None,
            ids: Some(word.ids),
            text: word.text,
            probability: word.probability,
        })
        .collect();
    // The end of the text stands among the words, with the empty text, if it is likely enough.
    let at = next.partition_point(|word| word.probability >= found.end);
    if found.end > 0.0 && at < top {
        let end =
            Next { id: None, ids: Some(Vec::new()), text: String::new(), probability: found.end };
        next.insert(at, end);
        next.truncate(top);
    }
    Report { prompt_tokens, next, unexplored: Some(found.unexplored), exact: Some(found.exact) }
}

fn table(report: &Report, terminal: &Terminal) -> String {
    let columns = terminal.width().clamp(40, 120);
    let widest = columns / 3;
    let most = report.next.first().map_or(1.0, |next| next.probability).max(f64::MIN_POSITIVE);
    let mut lines = String::new();
    for next in &report.next {
        let text = match next.text.as_str() {
            "" if next.ids.is_some() => "(end)".to_string(),
            text => visible(text),
        };
        // Bars are relative to the likeliest, so that a flat distribution has a shape too.
        let bar = format!("{:widest$}", bar(next.probability / most, widest));
        let id = next.id.map_or(String::new(), |id| format!("  {id}"));
        lines += &format!(
            "{:>7.2} %  {}  {}{}\n",
            100.0 * next.probability,
            terminal.style(Style::Cyan, bar),
            terminal.style(Style::Bold, text),
            terminal.style(Style::Dim, id),
        );
    }
    let shown: f64 = report.next.iter().map(|next| next.probability).sum();
    let rest = format!("{:>7.2} %  everything else", 100.0 * (1.0 - shown).max(0.0));
    lines + &terminal.style(Style::Dim, rest) + "\n"
}

/// Spaces and line ends as signs that can be seen.
pub(crate) fn visible(text: &str) -> String {
    text.chars()
        .map(|c| match c {
            ' ' => '·'.to_string(),
            '\n' => '⏎'.to_string(),
            c if c.is_control() => c.escape_default().to_string(),
            c => c.to_string(),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blanks_can_be_seen() {
        assert_eq!(visible(" the\n\t"), "·the⏎\\t");
    }
}
