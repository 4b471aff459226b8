//! Questions, and a model's answers to them.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use llmos_eval::card::Subject;
use llmos_eval::conversation::{Answered, Row, Set, read_lines, thinned};
use llmos_train::synthetic::{Generator, Options, Split};
use serde::Serialize;

use super::super::chat;
use super::super::data::explained;
use super::super::score::measured;
use super::CardArguments;
use crate::failure::{Explain, failure};
use crate::registry;
use crate::terminal::{Terminal, number_of};

/// The rows that are asked: generated ones of the test split, then those of the file.
///
/// # Errors
/// The file cannot be read, or holds no rows.
pub(super) fn rows(arguments: &CardArguments, limit: usize) -> anyhow::Result<Vec<Row>> {
    let seed = u64::from(arguments.seed);
    let options = Options { split: Split::Test, seed, ..Options::default() };
    let mut rows = Vec::new();
    for row in Generator::new(options).map_err(explained)?.take(arguments.generated.min(limit)) {
        rows.push(serde_json::from_value(serde_json::to_value(&row)?)?);
    }
    if let Some(path) = &arguments.hand {
        let all: Vec<Row> =
            lines(path, "--hand takes rows with id, language, skill, messages and expect")?;
        if let Some(other) = all.iter().find(|row| row.set() != Set::Hand) {
            return Err(failure(
                format!("{}: the row `{}` is none written by hand", path.display(), other.id),
                "ids of rows written by hand begin with hand-",
            ));
        }
        rows.extend(thinned(&all, limit));
    }
    Ok(rows)
}

/// A model's answers that were written before.
///
/// # Errors
/// A file cannot be read, or holds something else.
pub(super) fn read(files: &[(String, PathBuf)], name: &str) -> anyhow::Result<Vec<Answered>> {
    let mut answers = Vec::new();
    for (_, path) in files.iter().filter(|(of, _)| of == name) {
        let hint = "--answers NAME=FILE takes what `llmos chat --batch` or an earlier card wrote";
        answers.extend(lines::<Answered>(path, hint)?);
    }
    Ok(answers)
}

fn lines<T: serde::de::DeserializeOwned>(path: &Path, hint: &str) -> anyhow::Result<Vec<T>> {
    let text = std::fs::read_to_string(path)
        .explain(|| format!("cannot read {}", path.display()), || hint.into())?;
    read_lines(&path.display().to_string(), &text).map_err(measured)
}

/// Has a model answer what it has not answered before: all with tools at hand, sums also without.
///
/// # Errors
/// As `llmos chat --batch`.
pub(super) fn ask(
    arguments: &CardArguments,
    model: &str,
    rows: &[Row],
    subject: &mut Subject,
    terminal: &Terminal,
) -> anyhow::Result<()> {
    let name = subject.name.clone();
    for has_tools in [true, false] {
        let answers = if has_tools { &mut subject.answers } else { &mut subject.without_tools };
        let known: HashSet<&str> = answers.iter().map(|known| known.row.id.as_str()).collect();
        let rows = rows.iter().filter(|row| has_tools || row.is_sum());
        let rows: Vec<Row> = rows
            .filter(|row| !known.contains(row.id.as_str()))
            .map(|row| Row { messages: row.question().to_vec(), ..row.clone() })
            .collect();
        if rows.is_empty() {
            continue;
        }
        let what = if has_tools { "" } else { " without tools" };
        terminal.say(format_args!("{name} answers {}{what}", number_of(rows.len(), "question")));
        // They are there while it answers: what was interrupted is gone on with.
        let asked = file(arguments, &name, has_tools, ".questions.jsonl");
        let said = file(arguments, &name, has_tools, ".partial.jsonl");
        write_lines(&asked, &rows)?;
        chat::answer_file(model, &asked, &said, &flags(arguments, has_tools), terminal)?;
        answers.extend(lines::<Answered>(&said, "the file was changed: begin anew")?);
        for path in [&asked, &said, &chat::origin_of(&said)] {
            std::fs::remove_file(path).explain(
                || format!("cannot remove {}", path.display()),
                || "check who may write there".into(),
            )?;
        }
    }
    Ok(())
}

/// What `llmos chat` is told besides.
fn flags(arguments: &CardArguments, has_tools: bool) -> Vec<String> {
    let CardArguments { tokens, parallel, compute, cache, .. } = arguments;
    let mut flags = vec![format!("--tokens={tokens}"), format!("--parallel={parallel}")];
    flags.extend(compute.threads.map(|threads| format!("--threads={threads}")));
    flags.extend(compute.isa.as_ref().map(|isa| format!("--isa={isa}")));
    flags.extend(cache.memory.context.map(|context| format!("--context={context}")));
    flags.extend((!has_tools).then(|| "--no-tools".to_string()));
    flags
}

/// Keeps what was answered, so that another card can be made of it.
///
/// # Errors
/// The system refuses.
pub(super) fn write(arguments: &CardArguments, subject: &Subject) -> anyhow::Result<()> {
    for (answers, has_tools) in [(&subject.answers, true), (&subject.without_tools, false)] {
        if !answers.is_empty() {
            write_lines(&file(arguments, &subject.name, has_tools, ".jsonl"), answers)?;
        }
    }
    Ok(())
}

fn write_lines(path: &Path, rows: &[impl Serialize]) -> anyhow::Result<()> {
    let mut lines = Vec::new();
    for row in rows {
        serde_json::to_writer(&mut lines, row)?;
        lines.push(b'\n');
    }
    registry::write_whole(path, &lines)
}

/// A file of a model's in the folder of answers. A model's name may be a path.
fn file(arguments: &CardArguments, name: &str, has_tools: bool, ending: &str) -> PathBuf {
    let plain = |c: char| if c.is_alphanumeric() || c == '-' { c } else { '_' };
    let name: String = name.chars().map(plain).collect();
    let kind = if has_tools { "" } else { "-alone" };
    arguments.out.join("answers").join(format!("{name}{kind}{ending}"))
}
