//! Questions, and a model's answers to them.

use std::collections::HashSet;

use llmos_eval::card::Subject;
use llmos_eval::conversation::{Row, Set, read_lines, thinned};
use llmos_train::synthetic::{Generator, Options, Split};

use super::super::data::explained;
use super::super::score::measured;
use super::CardArguments;
use crate::failure::{Explain, failure};
use crate::load::Loaded;
use crate::terminal::Terminal;

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
        let text = std::fs::read_to_string(path).explain(
            || format!("cannot read {}", path.display()),
            || "--hand takes rows with id, language, skill, messages and expect".into(),
        )?;
        let all: Vec<Row> = read_lines(&path.display().to_string(), &text).map_err(measured)?;
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

/// Asks a model what it has not answered before.
///
/// # Errors
/// The engine's.
pub(super) fn ask(
    loaded: &mut Loaded,
    rows: &[Row],
    subject: &mut Subject,
    terminal: &Terminal,
) -> anyhow::Result<()> {
    let _ = (loaded, terminal);
    let known: HashSet<&str> =
        subject.answers.iter().map(|answered| answered.row.id.as_str()).collect();
    match rows.iter().any(|row| !known.contains(row.id.as_str())) {
        true => Err(failure("nobody asks models yet", "--answers NAME=FILE takes answers")),
        false => Ok(()),
    }
}
