//! `llmos data pairs`: ideal answers beside a model's own wrong ones.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use llmos_eval::conversation::{Answer, Answered, Row, read_lines};
use llmos_eval::grade::{Grade, grade};
use serde::Serialize;
use serde_json::{Value, json};

use super::refuse_existing;
use crate::failure::{Explain, failure};
use crate::terminal::Terminal;
use crate::{Outcome, registry};

/// Write pairs of answers to prefer by: the ideal one of a graded conversation, and a model's own
/// where that is wrong.
///
/// CHATS are rows of `data generate`, ANSWERS what `chat --batch --again` made of them. A row is a pair where
/// the model called another tool than it should have, got another result, or said something else.
#[derive(clap::Args, Debug)]
pub(super) struct Pairs {
    /// Graded conversations with their ideal answers.
    chats: PathBuf,
    /// The same rows with a model's answers.
    answers: PathBuf,
    /// The file to write.
    #[arg(long, value_name = "PAIRS")]
    out: PathBuf,
    /// Replace a file that is there.
    #[arg(long)]
    force: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// A row of the file, in TRL's shape.
#[derive(Serialize)]
struct Pair<'a> {
    id: &'a str,
    skill: &'a str,
    prompt: &'a [Value],
    chosen: &'a [Value],
    rejected: Vec<Value>,
}

/// What `--json` prints.
#[derive(Serialize)]
struct Report<'a> {
    out: &'a Path,
    rows: usize,
    pairs: usize,
    /// Rows that the model could not answer, which make no pair.
    unanswered: usize,
    /// By skill: rows, and those of them that were answered wrongly.
    skills: BTreeMap<&'a str, [usize; 2]>,
}

pub(super) fn run(arguments: &Pairs, terminal: &Terminal) -> anyhow::Result<Outcome> {
    let Pairs { chats, answers, out, .. } = arguments;
    refuse_existing(out, arguments.force)?;
    let rows: Vec<Row> = read(chats)?;
    let answered: Vec<Answered> = read(answers)?;
    let by_id: HashMap<&str, &Answer> =
        answered.iter().map(|answered| (answered.row.id.as_str(), &answered.answer)).collect();
    let mut report = Report { out, rows: 0, pairs: 0, unanswered: 0, skills: BTreeMap::new() };
    let mut lines = Vec::new();
    for row in &rows {
        let Some(answer) = by_id.get(row.id.as_str()) else { continue };
        let prompt = row.question();
        let chosen = &row.messages[prompt.len()..];
        if chosen.is_empty() {
            return Err(failure(
                format!("{}: row {} has no ideal answer", chats.display(), row.id),
                "rows of `llmos data generate` end with one",
            ));
        }
        report.rows += 1;
        if answer.error.is_some() {
            report.unanswered += 1;
            continue;
        }
        let counts = report.skills.entry(row.skill()).or_default();
        counts[0] += 1;
        if is_right(row, grade(&row.expect, answer)) {
            continue;
        }
        counts[1] += 1;
        report.pairs += 1;
        let rejected = turns(answer);
        let pair = Pair { id: &row.id, skill: row.skill(), prompt, chosen, rejected };
        serde_json::to_writer(&mut lines, &pair)?;
        lines.push(b'\n');
    }
    if report.rows == 0 {
        return Err(failure(
            format!("{} answers none of the rows of {}", answers.display(), chats.display()),
            "`llmos chat MODEL --batch CHATS --again --out ANSWERS` answers them",
        ));
    }
    registry::write_whole(out, &lines)?;
    if arguments.json {
        terminal.json(&report)?;
        return Ok(Outcome::Success);
    }
    for (skill, [rows, wrong]) in &report.skills {
        terminal.say(format_args!("{skill:<12} {wrong:>6} of {rows} answered wrongly"));
    }
    if report.unanswered > 0 {
        terminal.warn(format_args!("{} rows have no answer, and make no pair", report.unanswered));
    }
    terminal.say(format_args!("{}: {} pairs of {} rows", out.display(), report.pairs, report.rows));
    Ok(Outcome::Success)
}

fn read<T: serde::de::DeserializeOwned>(path: &Path) -> anyhow::Result<Vec<T>> {
    let name = path.display().to_string();
    let text = std::fs::read_to_string(path)
        .explain(|| format!("cannot read {name}"), || "check the path".into())?;
    read_lines(&name, &text).explain(
        || format!("{name} cannot be used"),
        || {
            "CHATS are rows of `llmos data generate`, ANSWERS of `llmos chat --batch --again`"
                .into()
        },
    )
}

/// Nothing of what was asked for is missing. What the clock says now is not what it said in the row.
fn is_right(row: &Row, grade: Grade) -> bool {
    let is_said = row.expect.tool.as_deref() == Some("clock") || grade.answer.unwrap_or(true);
    grade.routing && grade.result.unwrap_or(true) && is_said
}

/// An answer as the turns that it was made in.
fn turns(answer: &Answer) -> Vec<Value> {
    let mut turns = Vec::new();
    for call in &answer.tool_calls {
        let function = json!({ "name": call.name, "arguments": call.arguments });
        let calls = json!([{ "type": "function", "function": function }]);
        turns.push(json!({ "role": "assistant", "content": "", "tool_calls": calls }));
        let result = call.result.as_str().map_or_else(|| call.result.to_string(), str::to_string);
        turns.push(json!({ "role": "tool", "name": call.name, "content": result }));
    }
    turns.push(json!({ "role": "assistant", "content": answer.answer }));
    turns
}
