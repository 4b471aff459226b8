//! Texts that models and baselines predict.

use std::num::NonZero;
use std::path::PathBuf;

use llmos_eval::bits::{self, Part};
use llmos_eval::ngram::Ngram;
use llmos_train::data::{Preparation, Source, read_texts};

use super::super::data::{explained, no_text, quieten_reader};
use super::super::score::measured;
use crate::load::{Loaded, start_tokens};
use crate::terminal::Terminal;

/// The documents of files and folders, in the form that training gives them, until there are `most`
/// characters; the last is cut.
///
/// # Errors
/// A file cannot be read, or there is no text.
pub(super) fn documents(
    paths: &[PathBuf],
    field: &str,
    most: usize,
    terminal: &Terminal,
) -> anyhow::Result<Vec<String>> {
    quieten_reader();
    let preparation = Preparation {
        field: field.to_string(),
        threads: NonZero::<usize>::MIN,
        ..Preparation::new(paths.iter().map(Source::new).collect())
    };
    let bar = terminal.byte_bar(Some(1), "reading");
    let (mut documents, mut open, mut left) = (Vec::new(), String::new(), most);
    let mut take = |part: Option<&str>| match part {
        Some(part) if left > 0 => {
            let end = part.char_indices().nth(left).map_or(part.len(), |(at, _)| at);
            open.push_str(&part[..end]);
            left -= if end < part.len() { left } else { part.chars().count() };
        }
        Some(_) => {}
        None if open.trim().is_empty() => open.clear(),
        None => documents.push(std::mem::take(&mut open)),
    };
    let read = read_texts(&preparation, false, &mut take, &mut |progress| {
        bar.set_length(progress.total);
        bar.set_position(progress.done);
    });
    bar.finish_and_clear();
    read.map_err(explained)?;
    if documents.is_empty() {
        return Err(no_text(paths.iter().map(PathBuf::as_path)));
    }
    Ok(documents)
}

/// What a model makes of the documents, each read from its beginning.
///
/// # Errors
/// The engine's; the model has no tokenizer.
pub(super) fn predict(
    loaded: &mut Loaded,
    documents: &[String],
    what: &str,
    terminal: &Terminal,
) -> anyhow::Result<Vec<Part>> {
    let tokenizer = loaded.tokenizer()?.clone();
    let start = start_tokens(&tokenizer);
    let total: usize = documents.iter().map(String::len).sum();
    let bar = terminal.byte_bar(Some(total as u64), what);
    let (mut parts, mut done) = (Vec::new(), 0.0);
    for document in documents {
        let bytes = document.len() as f64;
        let mut progress = |share: f64| bar.set_position((done + share * bytes) as u64);
        let engine = &mut loaded.engine;
        let found = bits::text_parts(engine, &tokenizer, &start, document, &mut progress);
        parts.extend(found.map_err(measured)?);
        done += bytes;
    }
    bar.finish_and_clear();
    Ok(parts)
}

/// What characters before each one make of the documents, with the characters that were learnt from.
pub(super) fn baseline(order: usize, learnt: &[String], documents: &[String]) -> (Vec<Part>, u64) {
    let model = Ngram::learn(order, learnt.iter().map(String::as_str));
    let of = |document: &String| {
        let found = model.log_probabilities(document);
        let bits = found.iter().map(|nats| -nats / std::f64::consts::LN_2);
        bits::parts(document, document.chars().map(char::len_utf8).zip(bits))
    };
    (documents.iter().flat_map(of).collect(), model.n_character())
}
