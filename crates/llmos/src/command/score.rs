//! `llmos score`: how well a model predicts a text.

use std::path::PathBuf;

use serde::Serialize;

use crate::Outcome;
use crate::failure::{Explain, failure};
use crate::generation;
use crate::load::{self, Adapting, Cache, Compute};
use crate::terminal::{Terminal, number_of, size};
use llmos_eval::bits;
use llmos_tokenizer::Special;

/// Measure how well a model predicts a text.
///
/// The score is the mean over the tokens that have a past: all but the first. A text longer than the
/// context goes through it in overlapping pieces, in which each token has a past of at least the
/// context less the stride, as far as the text reaches.
#[derive(clap::Args, Debug)]
pub(crate) struct Arguments {
    /// A model: a path or a name.
    model: String,
    /// A file with the text; - is standard input, which is also read where this is left out.
    #[arg(long, value_name = "FILE", conflicts_with = "ids")]
    text: Option<PathBuf>,
    /// Token ids instead of a text: nothing is added to them.
    #[arg(long, value_name = "IDS", allow_hyphen_values = true)]
    ids: Option<String>,
    /// List each token with its log-probability.
    #[arg(long)]
    each: bool,
    /// Take the decoding path, token by token, instead of prefill: the same numbers, slowly.
    #[arg(long)]
    stepwise: bool,
    /// How far apart the pieces of a text longer than the context are; half of the context where this
    /// is left out. Less is slower, and kinder to the model.
    #[arg(long, value_name = "TOKENS")]
    stride: Option<usize>,
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

/// What `--json` prints.
#[derive(Serialize)]
struct Report {
    tokens: usize,
    /// Of the file as it was read, or of the text that ids stand for; none for ids of a model without
    /// text.
    bytes: Option<usize>,
    nats_per_token: f64,
    bits_per_byte: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    each: Option<Vec<Each>>,
}

#[derive(Serialize)]
struct Each {
    id: u32,
    text: Option<String>,
    logprob: Option<f64>,
}

pub(crate) fn run(arguments: Arguments, terminal: &Terminal) -> anyhow::Result<Outcome> {
    let ids = arguments.ids.as_deref().map(parse_ids).transpose()?;
    let text = match &ids {
        Some(_) => None,
        None => Some(generation::input(None, arguments.text.as_deref())?.ok_or_else(|| {
            failure("there is no text", "give a file with --text, or ids with --ids")
        })?),
    };
    let mut loaded = load::load(
        &arguments.model,
        &arguments.compute.exact_by_default(),
        arguments.cache.options(),
        terminal,
    )?;
    arguments.adapting.give(&mut loaded.engine, &loaded.device)?;
    let (tokens, bytes) = match (ids, text) {
        (Some(ids), _) => {
            // A control token stands for no text.
            let bytes = loaded.tokenizer.as_ref().map(|tokenizer| {
                let ids = ids.iter().copied().filter(|&id| !tokenizer.is_special(id));
                tokenizer.decode(&ids.collect::<Vec<_>>()).len()
            });
            (ids, bytes)
        }
        (None, text) => {
            let text = text.unwrap_or_default();
            let tokenizer = loaded.tokenizer()?;
            let ids = tokenizer.encode(&text, Special::None);
            check_lost(tokenizer.n_lost(&text, &ids), text.len(), terminal)?;
            let mut tokens = tokenizer.start_ids().to_vec();
            tokens.extend(ids);
            (tokens, Some(text.len()))
        }
    };
    if tokens.len() < 2 {
        return Err(failure(
            format!("{}: none has a past", number_of(tokens.len(), "token")),
            "give a longer text",
        ));
    }
    let bar = terminal.step_bar(Some(tokens.len() as u64 - 1), "scoring");
    let logprobs = bits::log_probabilities(
        &mut loaded.engine,
        &tokens,
        arguments.stride,
        arguments.stepwise,
        &mut |token| bar.set_position(token as u64),
    )
    .map_err(measured)?;
    bar.finish_and_clear();
    let nats: f64 = -logprobs.iter().flatten().sum::<f64>();
    if !nats.is_finite() {
        return Err(failure(
            "a probability is not a number",
            "the weights are damaged: fetch or convert the model again",
        ));
    }
    let bits_per_byte =
        bytes.filter(|&bytes| bytes > 0).map(|bytes| nats / std::f64::consts::LN_2 / bytes as f64);
    let each = |&id: &u32, logprob: &Option<f64>| Each {
        id,
        text: loaded.tokenizer.as_ref().map(|tokenizer| tokenizer.token_text(id)),
        logprob: *logprob,
    };
    let report = Report {
        tokens: tokens.len(),
        bytes,
        nats_per_token: nats / (tokens.len() - 1) as f64,
        bits_per_byte,
        each: arguments
            .each
            .then(|| tokens.iter().zip(&logprobs).map(|(id, logprob)| each(id, logprob)).collect()),
    };
    if arguments.json {
        terminal.json(&report)?;
    } else {
        terminal.print(table(&report))?;
    }
    Ok(Outcome::Success)
}

/// Share of a text that a vocabulary may lack: a measure of what is left says little of more.
const MOST_LOST: f64 = 0.2;

/// Says how much of a text has no token, and refuses one that is of another kind.
fn check_lost(n_lost: usize, n_byte: usize, terminal: &Terminal) -> anyhow::Result<()> {
    let share = n_lost as f64 / n_byte.max(1) as f64;
    let problem = format!("{:.2} % of the text's bytes have no token", 100.0 * share);
    if share > MOST_LOST {
        return Err(failure(problem, "a model whose vocabulary has these characters can be asked"));
    }
    if n_lost > 0 {
        terminal.warn(format_args!("{problem}: what they cost is not in the score"));
    }
    Ok(())
}

fn table(report: &Report) -> String {
    let mut lines = String::new();
    for each in report.each.iter().flatten() {
        let logprob = each.logprob.map_or("-".to_string(), |logprob| format!("{logprob:.4}"));
        let text = each.text.as_ref().map_or(String::new(), |text| format!("{text:?}"));
        lines += &format!("{:>8} {logprob:>10}  {text}\n", each.id);
    }
    lines += &format!(
        "{} tokens, {:.4} nats a token (perplexity {:.2})",
        report.tokens,
        report.nats_per_token,
        report.nats_per_token.exp()
    );
    if let (Some(bytes), Some(bits)) = (report.bytes, report.bits_per_byte) {
        lines += &format!(", {}, {bits:.4} bits a byte", size(bytes as u64));
    }
    lines + "\n"
}

/// An error of measuring with a hint for its kind.
pub(crate) fn measured(error: llmos_eval::Error) -> anyhow::Error {
    use llmos_eval::Error;
    match error {
        Error::Model(error) => load::explained(error),
        Error::NotANumber => {
            failure(error, "the weights are damaged: fetch or convert the model again")
        }
        Error::Rows { .. } => failure(error, "rows are JSON objects, one a line"),
        Error::Setting { key: "--stride", .. } => {
            failure(error, "--context N, or a shorter stride; half of the context is usual")
        }
        error => failure(error, "`llmos help COMMAND` shows what a command takes"),
    }
}

/// Ids between spaces or commas.
fn parse_ids(text: &str) -> anyhow::Result<Vec<u32>> {
    text.split([' ', ',', '\n', '\t', '\r', '[', ']'])
        .filter(|word| !word.is_empty())
        .map(|word| {
            word.parse().explain(
                || format!("{word:?} is not a token id"),
                || "write ids as in --ids \"1 5 9\"".into(),
            )
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids() {
        assert_eq!(parse_ids("1 5,9\n[3]").unwrap(), [1, 5, 9, 3]);
        assert!(parse_ids("1 x").is_err());
        assert!(parse_ids("-1").is_err());
    }
}
