//! `llmos data trace`: from a token back to the text that it was made of.

use std::path::PathBuf;

use llmos_tokenizer::Tokenizer;
use llmos_train::data::{Dataset, Origin, Split};
use serde::Serialize;

use super::explained;
use crate::failure::failure;
use crate::terminal::{Style, Terminal};
use crate::{Outcome, vocabulary};

/// Say where a token of a prepared folder comes from: its source, licence, file and row, its place in
/// that text, and what stands around it.
#[derive(clap::Args, Debug)]
pub(super) struct Trace {
    /// A folder of `data prepare`, or the `data` of a run.
    data: PathBuf,
    /// The token's number in the training stream, from 0.
    #[arg(long, value_name = "N")]
    token: u64,
    /// The number is one of the held-out stream.
    #[arg(long)]
    validation: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// What `--json` prints.
#[derive(Serialize)]
struct Report {
    stream: &'static str,
    token: u64,
    id: u32,
    source: String,
    licence: Option<String>,
    file: String,
    /// From 0.
    row: u64,
    /// The byte of the file at which the document, its part or the row's line begins.
    offset: u64,
    /// The token's number in the text that begins there, from 0.
    token_of_text: u64,
    /// The token's bytes in that text as it was prepared, the end left out; none where what comes before
    /// lies elsewhere.
    bytes_of_text: Option<[u64; 2]>,
    before: String,
    text: String,
    after: String,
}

/// Tokens that are shown on either side.
const AROUND: usize = 32;

pub(super) fn run(arguments: &Trace, terminal: &Terminal) -> anyhow::Result<Outcome> {
    let Trace { data, token, validation, json } = arguments;
    let (split, stream) = match validation {
        true => (Split::Validation, "validation"),
        false => (Split::Train, "train"),
    };
    let dataset = Dataset::open_unread(data).map_err(explained)?;
    let origin = dataset.origin(split, *token).map_err(explained)?.ok_or_else(|| {
        failure(
            format!("{} has no token {token}", data.display()),
            format!("its {stream} stream has {} of them, numbered from 0", dataset.n_token(split)),
        )
    })?;
    let mut ids = vec![0; (origin.span.end - origin.span.start) as usize];
    dataset.read(split, origin.span.start, &mut ids).map_err(explained)?;
    let tokenizer = vocabulary::of_name(&data.display().to_string(), terminal)?;
    let report = report(&dataset, origin, stream, *token, &ids, &tokenizer);
    if *json {
        terminal.json(&report)?;
        return Ok(Outcome::Success);
    }
    let licence = report.licence.as_deref().unwrap_or("licence unknown");
    let bytes = report.bytes_of_text.map_or(String::new(), |[from, to]| {
        format!(", bytes {from} to {to} of it as it was prepared")
    });
    let marked = terminal.style(Style::Bold, format_args!("⟦{}⟧", report.text));
    terminal.print(format!(
        "token   {token} of {stream}, id {}\n\
         source  {} ({licence})\n\
         file    {}, row {}, from byte {}\n\
         place   token {} of that text{bytes}\n\n\
         {}{marked}{}\n",
        report.id,
        report.source,
        report.file,
        report.row,
        report.offset,
        report.token_of_text,
        report.before,
        report.after,
    ))?;
    Ok(Outcome::Success)
}

/// `ids` are those of the text, (tokens of `origin.span`).
fn report(
    dataset: &Dataset,
    origin: Origin,
    stream: &'static str,
    token: u64,
    ids: &[u32],
    tokenizer: &Tokenizer,
) -> Report {
    let place = (token - origin.span.start) as usize;
    let frame = &dataset.manifest().tokenizer;
    // Tokens around documents are none of their bytes.
    let n_byte = |ids: &[u32]| -> u64 {
        let own = ids.iter().filter(|id| !frame.start.contains(id) && frame.end != Some(**id));
        own.map(|&id| tokenizer.token_bytes(id).len() as u64).sum()
    };
    let from = n_byte(&ids[..place]);
    let text = |ids: &[u32]| tokenizer.decode_text(ids, false);
    Report {
        stream,
        token,
        id: ids[place],
        source: origin.source,
        licence: origin.licence,
        file: origin.file,
        row: origin.row,
        offset: origin.offset,
        token_of_text: origin.token,
        bytes_of_text: (origin.skip == 0).then(|| [from, from + n_byte(&ids[place..=place])]),
        before: text(&ids[place.saturating_sub(AROUND)..place]),
        text: text(&ids[place..=place]),
        after: text(&ids[place + 1..ids.len().min(place + 1 + AROUND)]),
    }
}
