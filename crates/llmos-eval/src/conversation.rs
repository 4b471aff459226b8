//! Graded conversations, and what was answered to their last questions.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::Error;

/// A conversation whose last question has a known answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// Unique among rows; what stands before the first hyphen is the set that it belongs to.
    pub id: String,
    /// `en` or `zh`.
    pub language: String,
    /// What its last question is about, such as `arithmetic`.
    pub skill: String,
    /// Turns in OpenAI's shape. What follows the last question, if anything, is a model answer.
    pub messages: Vec<Value>,
    /// What the answer must be like.
    pub expect: Expect,
}

/// What an answer must be like.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Expect {
    /// The tool that must be called; none where no tool may be called.
    pub tool: Option<String>,
    /// What the calculator must give.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub result: Option<String>,
    /// The text says one of these phrases; anything where there are none.
    pub answer_any: Vec<String>,
    /// It says none of these.
    pub answer_none: Vec<String>,
}

/// What a model made of a conversation.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Answer {
    /// The text of its last turn; empty where there is none.
    #[serde(default, deserialize_with = "text")]
    pub answer: String,
    /// The tools that it called since the question, in order.
    #[serde(default)]
    pub tool_calls: Vec<ToolCall>,
    /// Why there is no answer. It counts as a wrong one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// A text, or null for an empty one.
fn text<'de, D: serde::Deserializer<'de>>(from: D) -> Result<String, D::Error> {
    Ok(Option::<String>::deserialize(from)?.unwrap_or_default())
}

/// A tool that was called.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ToolCall {
    /// Its name.
    pub name: String,
    /// What it was given.
    #[serde(default)]
    pub arguments: Value,
    /// What it gave.
    #[serde(default)]
    pub result: Value,
}

/// A row with its answer: a line of an answers file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Answered {
    /// The conversation.
    #[serde(flatten)]
    pub row: Row,
    /// The answer.
    #[serde(flatten)]
    pub answer: Answer,
}

/// Where rows come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Set {
    /// Made by rules, from sentences that training does not use.
    Generated,
    /// Written by hand, without sight of the rules.
    Hand,
}

impl Set {
    /// Both.
    pub const ALL: [Set; 2] = [Set::Generated, Set::Hand];

    /// `generated` or `hand`.
    pub fn name(self) -> &'static str {
        match self {
            Set::Generated => "generated",
            Set::Hand => "hand",
        }
    }
}

impl Row {
    /// The set that it belongs to, by its id.
    pub fn set(&self) -> Set {
        if self.id.starts_with("hand-") { Set::Hand } else { Set::Generated }
    }

    /// The turns up to the last question: what is to be answered.
    pub fn question(&self) -> &[Value] {
        let is_user = |message: &Value| message["role"] == "user";
        let end = self.messages.iter().rposition(is_user).map_or(self.messages.len(), |at| at + 1);
        &self.messages[..end]
    }

    /// Whether it is a sum for the calculator, which is also asked without one.
    pub fn is_sum(&self) -> bool {
        self.skill() == "arithmetic" && self.expect.tool.as_deref() == Some("calculator")
    }

    /// Its skill under the one name that both sets go by.
    pub fn skill(&self) -> &str {
        if self.skill == "story" { "stories" } else { &self.skill }
    }
}

/// Whoever answers conversations: a model behind its loop of turns and tools, or a stand-in.
pub trait Assistant {
    /// Answers the last question of `messages`, with the tools at hand or with none.
    ///
    /// # Errors
    /// What went wrong, for people. A bad answer is no error.
    fn answer(&mut self, messages: &[Value], has_tools: bool) -> Result<Answer, String>;
}

/// Has the questions of rows answered; `progress` is told after each how many are.
///
/// # Errors
/// [`Error::Answer`] with the row that was not.
pub fn ask(
    assistant: &mut dyn Assistant,
    rows: &[Row],
    has_tools: bool,
    progress: &mut dyn FnMut(usize),
) -> Result<Vec<Answered>, Error> {
    let mut answered = Vec::with_capacity(rows.len());
    for row in rows {
        let answer = assistant
            .answer(row.question(), has_tools)
            .map_err(|problem| Error::Answer { id: row.id.clone(), problem })?;
        answered.push(Answered { row: row.clone(), answer });
        progress(answered.len());
    }
    Ok(answered)
}

/// At most `most` of some things, evenly over all of them.
pub fn thinned<T: Clone>(all: &[T], most: usize) -> Vec<T> {
    let n = all.len().min(most);
    (0..n).map(|at| all[at * all.len() / n].clone()).collect()
}

/// Reads rows or answers, a JSON object a line; empty lines are passed over. `name` is the file's.
///
/// # Errors
/// [`Error::Rows`] with the line that is none.
pub fn read_lines<T: serde::de::DeserializeOwned>(name: &str, text: &str) -> Result<Vec<T>, Error> {
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    lines
        .map(|(index, line)| {
            serde_json::from_str(line).map_err(|error| Error::Rows {
                name: name.to_string(),
                line: index + 1,
                problem: error.to_string(),
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_answers_line_is_a_row_with_what_was_said() {
        let line = json!({
            "id": "hand-en-001", "language": "en", "skill": "story",
            "messages": [
                {"role": "user", "content": "a"},
                {"role": "assistant", "content": "b"},
                {"role": "user", "content": "c"},
                {"role": "assistant", "content": "d"},
            ],
            "expect": {"tool": null, "answer_any": ["d"], "answer_none": []},
            "answer": "D!",
            "tool_calls": [{"name": "clock", "arguments": {}, "result": "now"}],
        });
        let read: Vec<Answered> = read_lines("f", &format!("\n{line}\n\n")).unwrap();
        let row = &read[0].row;
        assert_eq!((row.set(), row.skill(), row.question().len()), (Set::Hand, "stories", 3));
        assert_eq!(read[0].answer.tool_calls[0].name, "clock");
        assert_eq!(serde_json::to_value(&read[0]).unwrap(), line);
        let mut refused = line;
        (refused["answer"], refused["error"]) = (Value::Null, "too long".into());
        let read: Vec<Answered> = read_lines("f", &refused.to_string()).unwrap();
        let grade = crate::grade::grade(&read[0].row.expect, &read[0].answer);
        assert_eq!((grade.routing, grade.answer), (false, Some(false)));
        let error = read_lines::<Answered>("f", "\n{}").unwrap_err().to_string();
        assert!(error.starts_with("f, line 2:"), "{error}");
    }

    /// Says how many turns it was given; knows nothing of tools.
    struct Counter;

    impl Assistant for Counter {
        fn answer(&mut self, messages: &[Value], has_tools: bool) -> Result<Answer, String> {
            match has_tools {
                true => Ok(Answer { answer: messages.len().to_string(), ..Answer::default() }),
                false => Err("not without tools".into()),
            }
        }
    }

    #[test]
    fn rows_are_asked_up_to_their_last_question() {
        let turn = |role: &str| json!({"role": role, "content": "a"});
        let row = |turns: &[&str]| Row {
            id: format!("gen-{}", turns.len()),
            language: "en".into(),
            skill: "arithmetic".into(),
            messages: turns.iter().map(|role| turn(role)).collect(),
            expect: Expect { tool: Some("calculator".into()), ..Expect::default() },
        };
        let rows = [row(&["user", "assistant"]), row(&["system", "user", "assistant", "user"])];
        assert!(rows[0].is_sum());
        let mut told = Vec::new();
        let answers = ask(&mut Counter, &rows, true, &mut |done| told.push(done)).unwrap();
        let said: Vec<&str> = answers.iter().map(|a| a.answer.answer.as_str()).collect();
        assert_eq!((said, told), (vec!["1", "4"], vec![1, 2]));
        let error = ask(&mut Counter, &rows, false, &mut |_| ()).unwrap_err().to_string();
        assert_eq!(error, "answer gen-2: not without tools");
        assert_eq!(thinned(&[0, 1, 2, 3, 4, 5, 6], 3), [0, 2, 4]);
        assert_eq!(thinned(&[0, 1], 3), [0, 1]);
        assert!(thinned(&[0, 1], 0).is_empty());
    }
}
