//! `llmos finetune --show-mask`: what is learnt, before a second is spent.

use std::path::Path;

use llmos_train::conversations::Example;
use serde::Serialize;

use super::lesson::{Read, Speech, read};
use crate::terminal::{Style, Terminal};
use crate::{Outcome, load};

/// A row as JSON.
#[derive(Serialize)]
struct Shown<'a> {
    /// From 1.
    row: usize,
    ids: &'a [u32],
    learnt: Vec<u8>,
    tokens: Vec<String>,
}

/// Shows the first `most` rows of `data`: what is learnt bright, what is only read dim.
pub(super) fn show(
    data: &Path,
    model: &str,
    format: Option<&str>,
    template: Option<&Path>,
    most: usize,
    json: bool,
    terminal: &Terminal,
) -> anyhow::Result<Outcome> {
    let files = load::open(model, terminal)?;
    let context = files.config().map_err(load::explained)?.context_length;
    let speech = Speech::of(&files, template)?;
    let Read { form, rows, .. } = read(&[data.to_path_buf()], format)?;
    let learner = speech.learner(context);
    let (mut faulty, n_row) = (false, rows.len());
    for (i, row) in rows.iter().enumerate().take(most) {
        match form.conversation(row).and_then(|conversation| learner.example(&conversation)) {
            Ok(example) if json => terminal.json(&shown(&speech, i + 1, &example))?,
            Ok(example) => {
                let n_learnt = example.n_learnt();
                let n = example.ids.len();
                let text = painted(&speech, &example, terminal);
                let head = format!("row {}: {n_learnt} of {n} tokens are learnt", i + 1);
                terminal.print(format!("{head}\n{}\n", text.trim_end_matches('\n')))?;
            }
            Err(fault) => {
                faulty = true;
                terminal.warn(format_args!("row {}: {fault}", i + 1));
            }
        }
    }
    terminal.say(format_args!("{}: the first {} of {n_row} rows", form.name(), most.min(n_row)));
    Ok(if faulty { Outcome::Negative } else { Outcome::Success })
}

fn shown<'a>(speech: &Speech, row: usize, example: &'a Example) -> Shown<'a> {
    Shown {
        row,
        ids: &example.ids,
        learnt: example.learnt.iter().map(|&learnt| u8::from(learnt)).collect(),
        tokens: example.ids.iter().map(|&id| text(speech, id)).collect(),
    }
}

/// A token's text; control tokens by their names.
fn text(speech: &Speech, id: u32) -> String {
    let tokenizer = &speech.tokenizer;
    let text = tokenizer.token_text(id);
    if text.is_empty() { tokenizer.token_name(id) } else { text }
}

/// The row's text, in stretches of one kind. Without colour, what is learnt stands in brackets.
fn painted(speech: &Speech, example: &Example, terminal: &Terminal) -> String {
    let mut out = String::new();
    let tokens = example.ids.iter().zip(&example.learnt).enumerate();
    let kinds: Vec<(bool, String)> =
        tokens.map(|(i, (&id, &learnt))| (learnt && i > 0, text(speech, id))).collect();
    for stretch in kinds.chunk_by(|a, b| a.0 == b.0) {
        let learnt = stretch[0].0;
        let text: String = stretch.iter().map(|(_, text)| text.as_str()).collect();
        if !terminal.has_colour() {
            out.push_str(&if learnt { format!("⟦{text}⟧") } else { text });
            continue;
        }
        let style = if learnt { Style::Green } else { Style::Dim };
        out.push_str(&terminal.style(style, text));
    }
    out
}
