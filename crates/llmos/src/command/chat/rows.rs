//! Rows of `--batch`: read one at a time, answered, written in their order, whole or not at all.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use llmos_agent::Answer;
use llmos_agent::messages::message;
use llmos_train::conversations::BYTE_ORDER_MARK;
use serde_json::{Map, Value};

use crate::failure::{Explain, failure};
use crate::registry::write_whole;

/// Bytes of a row at most: more than any context holds.
const LONGEST: u64 = 64 << 20;

/// A row of the input.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Row {
    /// Which, from 1; empty lines do not count.
    pub(super) number: usize,
    /// All its fields.
    pub(super) fields: Map<String, Value>,
}

/// A row, or what is wrong with it.
pub(super) type Given = Result<Row, (usize, String)>;

/// Reads rows.
pub(super) struct Rows {
    path: PathBuf,
    reader: BufReader<File>,
    number: usize,
    /// What follows a row's last question is left out.
    again: bool,
}

impl Rows {
    /// Reads rows, `again` without what follows their last questions.
    ///
    /// # Errors
    /// The file cannot be read.
    pub(super) fn open(path: &Path, again: bool) -> anyhow::Result<Rows> {
        let hint = || "--batch names a JSONL file, a row a line".to_string();
        let cannot = || format!("cannot read {}", path.display());
        // Nobody waits for a pipe's other end, which opening it would do.
        check_file(path, "rows are read more than once: write them to a file first")?;
        let file = File::open(path).explain(cannot, hint)?;
        let mut reader = BufReader::with_capacity(1 << 16, file);
        let begins = reader.fill_buf().explain(cannot, hint)?;
        // A list, Parquet, gzip, Zstandard: none of its lines would be a row.
        let others: [&[u8]; 4] = [b"[", b"PAR1", b"\x1f\x8b", b"\x28\xb5\x2f\xfd"];
        if others.iter().any(|other| begins.trim_ascii_start().starts_with(other)) {
            return Err(failure(
                format!("{} is no JSONL", path.display()),
                "--batch names a file with a JSON object a line; `jq -c .[]` makes one of a list",
            ));
        }
        Ok(Rows { path: path.to_path_buf(), reader, number: 0, again })
    }

    /// How many rows there are.
    ///
    /// # Errors
    /// The file cannot be read.
    pub(super) fn count(path: &Path) -> anyhow::Result<usize> {
        let mut rows = Rows::open(path, false)?;
        let mut n = 0;
        while rows.line()?.is_some() {
            n += 1;
        }
        Ok(n)
    }

    /// The next row; none at the end.
    ///
    /// # Errors
    /// The file cannot be read.
    pub(super) fn next(&mut self) -> anyhow::Result<Option<Given>> {
        let Some(line) = self.line()? else { return Ok(None) };
        let number = self.number;
        let given = line.and_then(|line| match serde_json::from_slice(&line) {
            Ok(Value::Object(mut fields)) => {
                if self.again
                    && let Some(Value::Array(messages)) = fields.get_mut("messages")
                {
                    messages.truncate(question(messages));
                }
                Ok(Row { number, fields })
            }
            Ok(_) => Err("is no JSON object".to_string()),
            Err(error) => Err(format!("is not JSON: {error}")),
        });
        Ok(Some(given.map_err(|problem| (number, format!("row {number} {problem}")))))
    }

    /// The next line that is not empty, or what is wrong with it. No more of a long one is held than
    /// the limit.
    fn line(&mut self) -> anyhow::Result<Option<Result<Vec<u8>, String>>> {
        loop {
            let mut line = Vec::new();
            let read = (&mut self.reader).take(LONGEST + 1).read_until(b'\n', &mut line);
            let read = read.explain(
                || format!("cannot read {}", self.path.display()),
                || "check the file, and who may read it".into(),
            )?;
            if read == 0 {
                return Ok(None);
            }
            let is_long = line.len() as u64 > LONGEST;
            if is_long && line.last() != Some(&b'\n') {
                line.clear();
                self.skip_line()?;
            }
            if self.number == 0 && line.starts_with(BYTE_ORDER_MARK) {
                line.drain(..BYTE_ORDER_MARK.len());
            }
            if !is_long && line.trim_ascii().is_empty() {
                continue;
            }
            self.number += 1;
            return Ok(Some(match is_long {
                true => Err(format!("has more than {} MiB", LONGEST >> 20)),
                false => Ok(line),
            }));
        }
    }

    fn skip_line(&mut self) -> anyhow::Result<()> {
        loop {
            let buffer = self.reader.fill_buf()?;
            let (n, is_end) = match buffer.iter().position(|&byte| byte == b'\n') {
                Some(at) => (at + 1, true),
                None => (buffer.len(), buffer.is_empty()),
            };
            self.reader.consume(n);
            if is_end {
                return Ok(());
            }
        }
    }
}

/// The messages of a row: its `messages`, or its `prompt` as a user's; `system` comes first where it
/// has no system's message of its own.
///
/// # Errors
/// It has neither.
pub(super) fn messages(row: &Row, system: Option<&str>) -> Result<Vec<Value>, String> {
    let given = |name: &str| row.fields.get(name).filter(|value| !value.is_null());
    let mut messages = match (given("messages"), given("prompt")) {
        (Some(Value::Array(messages)), _) | (None, Some(Value::Array(messages))) => {
            messages.clone()
        }
        (None, Some(Value::String(text))) if text.trim().is_empty() => {
            return Err(format!("row {}: prompt is empty", row.number));
        }
        (None, Some(Value::String(text))) => vec![message("user", text.as_str())],
        (Some(_), _) => return Err(format!("row {}: messages is no list", row.number)),
        (None, Some(_)) => return Err(format!("row {}: prompt is no text", row.number)),
        (None, None) => {
            return Err(format!("row {} has neither messages nor prompt", row.number));
        }
    };
    if let Some(system) = system
        && messages.first().is_none_or(|first| first.get("role") != Some(&"system".into()))
    {
        messages.insert(0, message("system", system));
    }
    Ok(messages)
}

/// How many messages a conversation has up to its last question.
fn question(messages: &[Value]) -> usize {
    let is_user = |message: &Value| message["role"] == "user";
    messages.iter().rposition(is_user).map_or(messages.len(), |at| at + 1)
}

/// A row with its answer: `answer`, `messages` (the whole conversation), `tool_calls`, and, where
/// there is something to say, `reasoning` and why it did not end by itself, `ending`.
pub(super) fn answered(row: Row, mut messages: Vec<Value>, answer: Answer) -> Map<String, Value> {
    let mut fields = row.fields;
    messages.extend(answer.messages);
    fields.insert("answer".into(), answer.answer.into());
    fields.insert("messages".into(), messages.into());
    let calls: Value = answer.tool_calls.iter().map(|called| called.to_json()).collect();
    fields.insert("tool_calls".into(), calls);
    // What an earlier answer had.
    for name in ["error", "reasoning", "ending"] {
        fields.remove(name);
    }
    if !answer.reasoning.is_empty() {
        fields.insert("reasoning".into(), answer.reasoning.into());
    }
    if answer.ending != llmos_agent::Ending::End {
        fields.insert("ending".into(), answer.ending.name().into());
    }
    fields
}

/// A row that could not be answered: its fields, and `error`.
pub(super) fn refused(
    fields: Map<String, Value>,
    number: usize,
    error: &str,
) -> Map<String, Value> {
    let mut fields = fields;
    fields.entry("row").or_insert_with(|| number.into());
    fields.insert("answer".into(), Value::Null);
    fields.insert("error".into(), error.into());
    fields
}

/// Writes answers in the order of their rows; each is a whole line, or not there.
pub(super) struct Answers {
    path: PathBuf,
    file: File,
    /// Rows in the file.
    written: usize,
    /// Those of them that could not be answered.
    refused: usize,
    /// Rows that wait for those before them.
    waiting: BTreeMap<usize, Vec<u8>>,
}

impl Answers {
    /// Opens the file of answers. What it holds of `rows` is kept, and skipped in them; a line of an
    /// answer that was not finished goes. `origin` says whose answers they are, in a file beside it.
    ///
    /// # Errors
    /// It cannot be written, is the file of rows, holds answers to other rows, or of another model.
    pub(super) fn open(
        path: &Path,
        rows: &mut Rows,
        origin: &str,
        anew: bool,
    ) -> anyhow::Result<Answers> {
        let hint = || "check the folder of --out, and who may write there".to_string();
        check_file(path, "--out names a file, in which answers are found again")?;
        let real = std::fs::canonicalize(path).ok();
        if real.is_some() && real == std::fs::canonicalize(&rows.path).ok() {
            return Err(failure(
                format!("--batch and --out are both {}", path.display()),
                "give another --out",
            ));
        }
        let open =
            || OpenOptions::new().read(true).write(true).create(true).truncate(anew).open(path);
        let mut file = open().explain(|| format!("cannot write {}", path.display()), hint)?;
        let (mut written, mut refused) = (0, 0);
        let mut whole = 0u64;
        let mut is_whole = true;
        let others = "give another --out, or begin it anew with --force";
        let mut reader = BufReader::new(&file);
        loop {
            let mut line = Vec::new();
            reader.read_until(b'\n', &mut line)?;
            let kept = serde_json::from_slice::<Map<String, Value>>(&line).ok();
            let is_ended = line.last() == Some(&b'\n');
            // Nothing, or what was being written; anything else is somebody's.
            if !is_ended && kept.is_none() && (line.is_empty() || line.starts_with(b"{")) {
                break;
            }
            let is_refused = kept.as_ref().is_some_and(|kept| kept.contains_key("error"));
            let is_answer = match (kept, rows.next()?) {
                (Some(kept), Some(Ok(row))) => is_answer(&kept, &row),
                (Some(kept), Some(Err((number, _)))) => kept.get("row") == Some(&number.into()),
                _ => false,
            };
            if !is_answer {
                return Err(failure(
                    format!("line {} of {} answers no row of --batch", written + 1, path.display()),
                    others,
                ));
            }
            written += 1;
            refused += usize::from(is_refused);
            whole += line.len() as u64;
            is_whole = is_ended;
        }
        drop(reader);
        let beside = origin_of(path);
        let before = std::fs::read_to_string(&beside).ok();
        if written > 0 && before.is_some_and(|before| before != origin) {
            return Err(failure(
                format!("{} holds answers of another model, or by other flags", path.display()),
                others,
            ));
        }
        write_whole(&beside, origin.as_bytes())?;
        let cut = file.set_len(whole).and_then(|()| file.seek(SeekFrom::End(0)));
        let cut = cut.and_then(|_| if is_whole { Ok(()) } else { file.write_all(b"\n") });
        cut.explain(|| format!("cannot write {}", path.display()), hint)?;
        Ok(Answers { path: path.to_path_buf(), file, written, refused, waiting: BTreeMap::new() })
    }

    /// Rows that are in the file.
    pub(super) fn written(&self) -> usize {
        self.written
    }

    /// Those of them that could not be answered.
    pub(super) fn refused(&self) -> usize {
        self.refused
    }

    /// Adds the row of that number, from 1.
    ///
    /// # Errors
    /// The file cannot be written.
    pub(super) fn add(&mut self, number: usize, fields: &Map<String, Value>) -> anyhow::Result<()> {
        let mut line = serde_json::to_vec(fields)?;
        line.push(b'\n');
        self.waiting.insert(number, line);
        while let Some(line) = self.waiting.remove(&(self.written + 1)) {
            self.file.write_all(&line).explain(
                || format!("cannot write {}", self.path.display()),
                || "make room and run the command again: rows that are there are kept".into(),
            )?;
            self.written += 1;
        }
        Ok(())
    }

    /// All is written: lets the disk have it.
    ///
    /// # Errors
    /// The system refuses.
    pub(super) fn finish(self) -> anyhow::Result<()> {
        self.file.sync_all().explain(
            || format!("cannot write {}", self.path.display()),
            || "make room and run the command again: rows that are there are kept".into(),
        )
    }
}

/// Refuses what is there and no file: a folder, a pipe, a terminal.
fn check_file(path: &Path, hint: &str) -> anyhow::Result<()> {
    match path.metadata() {
        Ok(found) if !found.is_file() => {
            Err(failure(format!("{} is a folder or a pipe, and no file", path.display()), hint))
        }
        _ => Ok(()),
    }
}

/// The hidden file beside a file of answers that says whose they are.
pub(in crate::command) fn origin_of(answers: &Path) -> PathBuf {
    let name = answers.file_name().unwrap_or_default().to_string_lossy();
    answers.with_file_name(format!(".{name}.origin"))
}

/// Whether a line of answers is that of a row: the row's fields are in it, its messages at the
/// beginning of the whole conversation.
fn is_answer(kept: &Map<String, Value>, row: &Row) -> bool {
    const OURS: [&str; 6] = ["answer", "tool_calls", "reasoning", "ending", "error", "row"];
    let same = |name: &str, value: &Value| match (name, value, kept.get(name)) {
        ("messages", Value::Array(given), Some(Value::Array(all))) => {
            // A system's message may have been put before them.
            all.windows(given.len().max(1)).take(2).any(|part| part == given) || given.is_empty()
        }
        (name, value, kept) => OURS.contains(&name) || kept == Some(value),
    };
    kept.contains_key("answer") && row.fields.iter().all(|(name, value)| same(name, value))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn row(fields: Value) -> Row {
        Row { number: 1, fields: fields.as_object().unwrap().clone() }
    }

    #[test]
    fn rows_hold_messages_or_a_prompt() {
        let check = |fields: Value, system: Option<&str>, expected: Result<Value, &str>| {
            let got = messages(&row(fields), system).map(Value::Array);
            assert_eq!(got, expected.map_err(str::to_string));
        };
        let hi = json!({ "role": "user", "content": "Hi" });
        let be = json!({ "role": "system", "content": "Be." });
        check(json!({ "prompt": "Hi" }), None, Ok(json!([hi])));
        check(json!({ "prompt": [hi] }), None, Ok(json!([hi])));
        check(json!({ "messages": [hi], "prompt": 1 }), None, Ok(json!([hi])));
        check(json!({ "messages": [hi] }), Some("Be."), Ok(json!([be, hi])));
        check(json!({ "messages": [be, hi] }), Some("Not."), Ok(json!([be, hi])));
        check(json!({ "messages": "Hi" }), None, Err("row 1: messages is no list"));
        check(json!({ "messages": null, "prompt": "Hi" }), None, Ok(json!([hi])));
        check(json!({ "prompt": " " }), None, Err("row 1: prompt is empty"));
        check(json!({ "prompt": null }), None, Err("row 1 has neither messages nor prompt"));
        check(json!({ "text": "Hi" }), None, Err("row 1 has neither messages nor prompt"));
    }

    #[test]
    fn an_answer_knows_its_row() {
        let check = |kept: Value, given: Value, expected: bool| {
            let kept = kept.as_object().unwrap();
            assert_eq!(is_answer(kept, &row(given.clone())), expected, "{given}");
        };
        let hi = json!({ "role": "user", "content": "Hi" });
        let be = json!({ "role": "system", "content": "Be." });
        let yo = json!({ "role": "assistant", "content": "Yo" });
        let kept = json!({ "id": 7, "messages": [be, hi, yo], "answer": "Yo" });
        check(kept.clone(), json!({ "id": 7, "messages": [hi] }), true);
        check(kept.clone(), json!({ "id": 7, "messages": [be, hi] }), true);
        check(kept.clone(), json!({ "messages": [yo] }), false);
        check(kept.clone(), json!({ "id": 8, "messages": [hi] }), false);
        check(kept, json!({ "id": 7, "prompt": "Hi" }), false);
        check(json!({ "id": 7 }), json!({ "id": 7 }), false);
        check(json!({ "answer": null, "error": "x", "row": 1 }), json!({}), true);
    }
}
