//! `llmos inspect --lens`: what each layer would say if the model ended with it.

use std::sync::Arc;

use llmos_model::decoder::Part;
use llmos_model::engine::{Likely, SequenceOptions, Sight, View};
use llmos_model::sampler::{log_probability, most_likely};
use llmos_tokenizer::Tokenizer;
use serde::Serialize;

use super::Arguments;
use crate::Outcome;
use crate::command::next::visible;
use crate::failure::failure;
use crate::load::{self, Loaded};
use crate::terminal::{Style, Terminal};

/// Rows that are read out between two signs of life.
const ROWS: usize = 32;

/// Most tokens of which all are reported, as of the server's `/v1/lens`: the states of 32 layers of
/// width 4096 take 128 MiB.
const MOST_REPORTED: usize = 256;

/// Columns of a token in the table, and of its probability behind it.
const WORD: usize = 11;
const CELL: usize = WORD + 10;

/// What `--json` prints: what `/v1/lens` answers.
#[derive(Serialize)]
struct Report {
    model: String,
    tokens: Vec<Token>,
    layers: Vec<Layer>,
    next: Vec<Next>,
    next_unchanged: Vec<Next>,
}

#[derive(Serialize)]
struct Token {
    token: u32,
    text: String,
}

#[derive(Serialize)]
struct Layer {
    layer: usize,
    positions: Vec<Vec<Next>>,
}

#[derive(Serialize)]
struct Next {
    token: u32,
    text: String,
    probability: f64,
}

/// A layer, or a head as `LAYER:HEAD`.
pub(super) fn parse_part(text: &str) -> Result<Part, String> {
    let number = |text: &str| {
        text.trim()
            .parse()
            .map_err(|_| "a layer is 3, a head of it 3:0; the first is 0".to_string())
    };
    match text.split_once(':') {
        None => Ok(Part::Layer(number(text)?)),
        Some((layer, head)) => Ok(Part::Head { layer: number(layer)?, head: number(head)? }),
    }
}

pub(super) fn run(
    arguments: &Arguments,
    text: &str,
    terminal: &Terminal,
) -> anyhow::Result<Outcome> {
    let compute = arguments.compute.exact_by_default();
    let options = arguments.cache.options();
    let mut loaded = load::load(&arguments.model, &compute, options, terminal)?;
    let tokenizer = loaded.tokenizer()?.clone();
    let mut tokens = tokenizer.encode_prompt(text);
    if tokens.is_empty() {
        tokens = load::start_tokens(&tokenizer);
    }
    if arguments.json && tokens.len() > MOST_REPORTED {
        return Err(failure(
            format!("{} tokens are too many to report on each", tokens.len()),
            format!("--json takes {MOST_REPORTED}; the table is of the last token alone"),
        ));
    }
    let states = if arguments.json { tokens.len() } else { 1 };
    let view = View { off: arguments.off.clone(), states, ..View::default() };
    let sight = look(&mut loaded, &tokens, &view)?;
    let whole = match arguments.off.is_empty() {
        true => None,
        false => Some(look(&mut loaded, &tokens, &View::default())?),
    };
    let rows = read_out(&mut loaded, &sight, arguments.top, terminal);
    if !rows.iter().flatten().all(|(_, probability)| probability.is_finite()) {
        return Err(failure(
            "a probability is not a number",
            "the weights are damaged: fetch or convert the model again",
        ));
    }
    if !arguments.json {
        let page = Page { arguments, tokenizer: &tokenizer, terminal };
        terminal.print(page.text(&tokens, &rows, &sight, whole.as_ref()))?;
        return Ok(Outcome::Success);
    }
    let named = |row: &[Likely]| named(row, &tokenizer);
    let next = named(&most_likely(sight.logits(), arguments.top));
    let unchanged = whole.as_ref().unwrap_or(&sight).logits();
    let layers = rows.chunks(states).enumerate();
    terminal.json(&Report {
        model: loaded.name.clone(),
        tokens: tokens.iter().map(|&id| token(id, &tokenizer)).collect(),
        layers: layers
            .map(|(layer, rows)| Layer {
                layer,
                positions: rows.iter().map(|row| named(row)).collect(),
            })
            .collect(),
        next,
        next_unchanged: named(&most_likely(unchanged, arguments.top)),
    })?;
    Ok(Outcome::Success)
}

fn look(loaded: &mut Loaded, tokens: &[u32], view: &View) -> anyhow::Result<Sight> {
    let length = Some(tokens.len());
    let options = SequenceOptions { length, ..SequenceOptions::default() };
    loaded.engine.look(tokens, options, view).map_err(|error| match error {
        llmos_model::Error::Request { operation: "switch off", .. } => {
            failure(error, "--off takes LAYER or LAYER:HEAD; `llmos inspect MODEL` counts them")
        }
        // The context, which is the sequence's length here, is too short.
        llmos_model::Error::Request { operation: "add sequence", .. } => {
            failure(error, "shorten the text, or change --context")
        }
        error => load::explained(error),
    })
}

/// What each layer would say, with a bar where it takes long.
fn read_out(
    loaded: &mut Loaded,
    sight: &Sight,
    top: usize,
    terminal: &Terminal,
) -> Vec<Vec<Likely>> {
    let all = sight.rows();
    let bar = terminal.step_bar(Some(all as u64), "reading out");
    let mut rows = Vec::with_capacity(all);
    while rows.len() < all {
        let some = rows.len()..(rows.len() + ROWS).min(all);
        rows.extend(loaded.engine.read_out(sight, some, top));
        bar.set_position(rows.len() as u64);
    }
    bar.finish_and_clear();
    rows
}

fn token(token: u32, tokenizer: &Tokenizer) -> Token {
    Token { token, text: tokenizer.token_text(token) }
}

fn named(row: &[Likely], tokenizer: &Tokenizer) -> Vec<Next> {
    let next = |&(token, probability): &Likely| {
        let text = tokenizer.token_text(token);
        Next { token, text, probability }
    };
    row.iter().map(next).collect()
}

/// The table for people.
struct Page<'a> {
    arguments: &'a Arguments,
    tokenizer: &'a Arc<Tokenizer>,
    terminal: &'a Terminal,
}

impl Page<'_> {
    fn text(
        &self,
        tokens: &[u32],
        rows: &[Vec<Likely>],
        sight: &Sight,
        whole: Option<&Sight>,
    ) -> String {
        let last = tokens.last().map_or(String::new(), |&id| self.word(id));
        let without = if whole.is_some() { ", without what is off," } else { "" };
        let heading =
            format!("what would follow \"{last}\"{without} if the model ended with layer");
        let mut text = self.terminal.style(Style::Bold, heading) + "\n";
        // As many columns as the terminal has room for, one at least.
        let columns = (self.terminal.width().saturating_sub(6) / CELL).max(1);
        for (layer, row) in rows.iter().enumerate() {
            text += &format!("{layer:>4}  ");
            for (at, &(id, probability)) in row.iter().take(columns).enumerate() {
                let cell = format!("{}{:>6.2} %  ", padded(&self.word(id)), 100.0 * probability);
                let style = if at == 0 { Style::Cyan } else { Style::Dim };
                text += &self.terminal.style(style, cell);
            }
            text.truncate(text.trim_end().len());
            text.push('\n');
        }
        match whole {
            Some(whole) => text + &self.change(whole.logits(), sight.logits()),
            None => text,
        }
    }

    /// What becomes of the likeliest tokens, before and after.
    fn change(&self, whole: &[f32], changed: &[f32]) -> String {
        let top = self.arguments.top;
        let mut ids: Vec<u32> = most_likely(whole, top).into_iter().map(|(id, _)| id).collect();
        for (id, _) in most_likely(changed, top) {
            if !ids.contains(&id) {
                ids.push(id);
            }
        }
        let mut text = format!("\n{:<WORD$}  {:>10} {:>10}\n", "next", "as it is", "off");
        for id in ids {
            let [whole, changed] =
                [whole, changed].map(|logits| 100.0 * log_probability(logits, id).exp());
            let difference = format!("{:>+8.2}", changed - whole);
            text += &format!(
                "{}  {whole:>8.2} % {changed:>8.2} %  {}\n",
                padded(&self.word(id)),
                self.terminal.style(Style::Bold, difference)
            );
        }
        text
    }

    fn word(&self, id: u32) -> String {
        visible(&self.tokenizer.token_text(id))
    }
}

/// A word in its column.
fn padded(word: &str) -> String {
    match word.char_indices().nth(WORD) {
        None => format!("{word:<WORD$}"),
        Some(_) => word.chars().take(WORD - 1).chain(['…']).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_layers_and_heads() {
        assert_eq!(parse_part("3"), Ok(Part::Layer(3)));
        assert_eq!(parse_part("3:0"), Ok(Part::Head { layer: 3, head: 0 }));
        for text in ["", "x", "-1", "3:", ":0", "1:2:3", "99999999999999999999999"] {
            assert!(parse_part(text).is_err(), "{text}");
        }
    }

    #[test]
    fn words_keep_to_their_column() {
        for word in
            ["", "·mat", "elevenchars", "a word that is long", "语言模型的语言模型的语言模型"]
        {
            assert_eq!(padded(word).chars().count(), WORD, "{word}");
        }
    }
}
