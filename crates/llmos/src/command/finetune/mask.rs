//! `llmos finetune --show-mask`: what is learnt, before a second is spent.

use std::path::Path;

use llmos_train::conversations::{Example, Fault, Form, Learner, liked};
use serde::Serialize;

use super::lesson::{Speech, check_template};
use super::rows::read;
use crate::terminal::{Style, Terminal, plain};
use crate::{Outcome, load};

/// A row as JSON.
#[derive(Serialize)]
struct Row<'a> {
    /// From 1.
    row: usize,
    /// Of a pair: `chosen` or `rejected`; of an answer with a tag: `liked` or `disliked`.
    #[serde(skip_serializing_if = "Option::is_none")]
    answer: Option<&'static str>,
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
    let rows = read(&[data.to_path_buf()], format)?;
    let learner = speech.learner(context);
    let (mut faulty, n_row) = (false, rows.len());
    for i in 0..n_row.min(most) {
        let answers = match rows.row(i).and_then(|(row, form)| answers(row, form, &learner)) {
            Ok(answers) => answers,
            Err(fault) => {
                faulty = true;
                let faults = [(rows.place(i), fault)];
                check_template(&faults, false)?;
                let [(row, fault)] = faults;
                terminal.warn(format_args!("{row}: {fault}"));
                continue;
            }
        };
        for (name, example) in &answers {
            if json {
                terminal.json(&shown(&speech, i + 1, *name, example))?;
                continue;
            }
            let (n_learnt, n) = (example.n_learnt(), example.ids.len());
            let text = painted(&speech, example, terminal);
            let name = name.map_or(String::new(), |name| format!(", {name}"));
            let head = format!("row {}{name}: {n_learnt} of {n} tokens are learnt", i + 1);
            terminal.print(format!("{head}\n{}\n", text.trim_end_matches('\n')))?;
        }
    }
    terminal.say(format_args!("{}: the first {} of {n_row} rows", rows.names(), most.min(n_row)));
    Ok(if faulty { Outcome::Negative } else { Outcome::Success })
}

/// What is learnt of a row, and which answer each is where they are judged.
fn answers(
    row: &serde_json::Value,
    form: Form,
    learner: &Learner<'_>,
) -> Result<Vec<(Option<&'static str>, Example)>, Fault> {
    if form == Form::Preference {
        let [chosen, rejected] = learner.pair(row)?;
        return Ok(vec![(Some("chosen"), chosen), (Some("rejected"), rejected)]);
    }
    let example = learner.example(&form.conversation(row)?)?;
    let name = match form {
        Form::Tagged if liked(row)? => Some("liked"),
        Form::Tagged => Some("disliked"),
        _ => None,
    };
    Ok(vec![(name, example)])
}

fn shown<'a>(
    speech: &Speech,
    row: usize,
    answer: Option<&'static str>,
    example: &'a Example,
) -> Row<'a> {
    Row {
        row,
        answer,
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
    let tokenizer = &speech.tokenizer;
    let tokens = example.ids.iter().zip(&example.learnt).enumerate();
    let kinds: Vec<(bool, u32)> = tokens.map(|(i, (&id, &learnt))| (learnt && i > 0, id)).collect();
    for stretch in kinds.chunk_by(|a, b| a.0 == b.0) {
        let learnt = stretch[0].0;
        // A character may be several tokens.
        let mut bytes = Vec::new();
        for &(_, id) in stretch {
            match tokenizer.token_bytes(id) {
                [] => bytes.extend(tokenizer.token_name(id).into_bytes()),
                token => bytes.extend_from_slice(token),
            }
        }
        let text = plain(&String::from_utf8_lossy(&bytes));
        if !terminal.has_colour() {
            out.push_str(&if learnt { format!("⟦{text}⟧") } else { text });
            continue;
        }
        let style = if learnt { Style::Green } else { Style::Dim };
        out.push_str(&terminal.style(style, text));
    }
    out
}
