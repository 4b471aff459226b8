//! Reads an answer as it is written: what is said, what is thought, and what is called.
//!
//! Nothing of a tag is ever shown: what could still become one is held back until it is known.

use llmos_tokenizer::{StreamDecoder, Tokenizer};

use crate::call::{CLOSE, Call, CallFormat, LIST, OPEN, PYTHON, TAGS, THINK, THOUGHT, calls_in};

/// A part of an answer.
#[derive(Clone, Debug, PartialEq)]
pub enum Piece {
    /// Something that is said.
    Text(String),
    /// Something that the model thinks to itself.
    Reasoning(String),
    /// A call begins; it follows when it is whole.
    Begun,
    /// A call.
    Call(Call),
}

/// What is being read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Nothing but white space so far.
    Start,
    /// What is said.
    Text,
    /// What is thought.
    Reasoning,
    /// A call, after what opens it.
    Call,
}

/// Reads one answer.
#[derive(Clone, Debug)]
pub struct Reader {
    format: Option<CallFormat>,
    /// What tools are called.
    names: Vec<String>,
    state: State,
    /// What was not decided on yet.
    held: String,
    /// Nothing was thought yet.
    is_fresh: bool,
}

impl Reader {
    /// A reader of calls in this format, of the tools with these names. `is_thinking` where the
    /// prompt ended in `<think>`.
    pub fn new(format: Option<CallFormat>, names: Vec<String>, is_thinking: bool) -> Reader {
        let state = if is_thinking { State::Reasoning } else { State::Start };
        Reader { format, names, state, held: String::new(), is_fresh: true }
    }

    /// The text of a token that was drawn, to be pushed next: that of a control token only where it
    /// says what kind of text follows.
    pub fn text_of(
        &self,
        tokenizer: &Tokenizer,
        decoder: &mut StreamDecoder,
        token: u32,
    ) -> String {
        if tokenizer.is_special(token) {
            let name = tokenizer.token_name(token);
            // One that closes nothing is nothing.
            let is_stray = name == CLOSE && self.open_call().is_none();
            if TAGS.contains(&name.as_str()) && !is_stray {
                return decoder.flush() + &name;
            }
        }
        decoder.push(token)
    }

    /// The pieces that `text` completes.
    pub fn push(&mut self, text: &str) -> Vec<Piece> {
        self.held.push_str(text);
        let mut pieces = Vec::new();
        while self.advance(&mut pieces) {}
        pieces
    }

    /// The answer is over: what was held back. Blanks at its end are dropped.
    pub fn finish(&mut self) -> Vec<Piece> {
        let held = std::mem::take(&mut self.held);
        let state = std::mem::replace(&mut self.state, State::Start);
        match state {
            State::Reasoning => {
                let text = held.trim_end();
                (!text.is_empty()).then(|| Piece::Reasoning(text.into())).into_iter().collect()
            }
            State::Call => self.calls(&held),
            State::Start | State::Text => {
                let text = match state {
                    State::Start => held.trim(),
                    _ => held.trim_end(),
                };
                if self.format == Some(CallFormat::Bare) && state == State::Start {
                    return self.calls(text);
                }
                (!text.is_empty()).then(|| Piece::Text(text.into())).into_iter().collect()
            }
        }
    }

    /// The text of the call that is being written, after what opens it; none outside of calls.
    pub fn open_call(&self) -> Option<&str> {
        if self.state == State::Call {
            return Some(&self.held);
        }
        if self.state != State::Start || self.format != Some(CallFormat::Bare) {
            return None;
        }
        let text = self.held.trim_start();
        let name = text.strip_prefix(r#"{"name": ""#)?;
        self.names
            .iter()
            .any(|known| known.starts_with(name) || name.starts_with(known))
            .then_some(text)
    }

    /// True while what is written is thought, not said.
    pub fn is_thinking(&self) -> bool {
        self.state == State::Reasoning
    }

    /// True where nothing can follow the call that is being written but the answer's end.
    pub fn ends_with_call(&self) -> bool {
        matches!(self.format, Some(CallFormat::Bare | CallFormat::List))
    }

    /// Decides on what can be decided; true if there may be more to decide.
    fn advance(&mut self, pieces: &mut Vec<Piece>) -> bool {
        match self.state {
            State::Start => self.start(pieces),
            State::Text => self.text(pieces),
            State::Reasoning => self.reasoning(pieces),
            State::Call => self.call(pieces),
        }
    }

    fn start(&mut self, pieces: &mut Vec<Piece>) -> bool {
        let text = self.held.trim_start();
        if let Some(rest) = text.strip_prefix(THINK) {
            self.held = rest.to_string();
            self.state = State::Reasoning;
            self.is_fresh = true;
            return true;
        }
        if let (Some(CallFormat::Bare), Some(rest)) = (self.format, text.strip_prefix(PYTHON)) {
            self.held = rest.to_string();
            self.state = State::Call;
            pieces.push(Piece::Begun);
            return true;
        }
        let bare = self.format == Some(CallFormat::Bare);
        let undecided = text.is_empty()
            || THINK.starts_with(text)
            || (bare && (PYTHON.starts_with(text) || may_be_call(text)));
        if undecided {
            return false;
        }
        self.held = text.to_string();
        self.state = State::Text;
        true
    }

    fn text(&mut self, pieces: &mut Vec<Piece>) -> bool {
        let tag = match self.format {
            Some(CallFormat::Tags) => OPEN,
            Some(CallFormat::List) => LIST,
            Some(CallFormat::Bare) | None => "",
        };
        if let Some(at) = self.held.find(tag).filter(|_| !tag.is_empty()) {
            let said = self.held[..at].trim_end();
            if !said.is_empty() {
                pieces.push(Piece::Text(said.to_string()));
            }
            self.held.drain(..at + tag.len());
            self.state = State::Call;
            pieces.push(Piece::Begun);
            return true;
        }
        // Blanks wait as well: a call may follow, or the end.
        let decided = self.held.len() - partial(&self.held, tag);
        let decided = self.held[..decided].trim_end().len();
        if decided > 0 {
            pieces.push(Piece::Text(self.held.drain(..decided).collect()));
        }
        false
    }

    fn reasoning(&mut self, pieces: &mut Vec<Piece>) -> bool {
        if self.is_fresh {
            self.held.drain(..self.held.len() - self.held.trim_start().len());
            self.is_fresh = self.held.is_empty();
        }
        if let Some(at) = self.held.find(THOUGHT) {
            let thought = self.held[..at].trim_end();
            if !thought.is_empty() {
                pieces.push(Piece::Reasoning(thought.to_string()));
            }
            self.held.drain(..at + THOUGHT.len());
            self.state = State::Start;
            return true;
        }
        let decided = self.held.len() - partial(&self.held, THOUGHT);
        let decided = self.held[..decided].trim_end().len();
        if decided > 0 {
            pieces.push(Piece::Reasoning(self.held.drain(..decided).collect()));
        }
        false
    }

    fn call(&mut self, pieces: &mut Vec<Piece>) -> bool {
        if self.format != Some(CallFormat::Tags) {
            return false;
        }
        let Some(at) = self.held.find(CLOSE) else { return false };
        let written: String = self.held.drain(..at + CLOSE.len()).collect();
        match calls_in(&written[..at]) {
            Some(calls) => pieces.extend(calls.into_iter().map(Piece::Call)),
            None => pieces.push(Piece::Text(format!("{OPEN}{written}"))),
        }
        // The blanks after a call are nobody's words.
        self.state = State::Start;
        true
    }

    /// The calls of a text that is whole, or the text itself where it has none.
    fn calls(&self, text: &str) -> Vec<Piece> {
        let known = |calls: &Vec<Call>| {
            // Without a tag only a known name tells a call from JSON that was asked for.
            self.format != Some(CallFormat::Bare)
                || calls.iter().all(|call| self.names.contains(&call.name))
        };
        if let Some(calls) = calls_in(text).filter(known) {
            return calls.into_iter().map(Piece::Call).collect();
        }
        let tag = match self.format {
            Some(CallFormat::Tags) => OPEN,
            Some(CallFormat::List) => LIST,
            Some(CallFormat::Bare) | None => "",
        };
        let text = format!("{tag}{}", text.trim_end());
        (!text.is_empty()).then_some(Piece::Text(text)).into_iter().collect()
    }
}

/// Whether a text could be the beginning of `{"name": …}`, or is one.
fn may_be_call(text: &str) -> bool {
    const BEGINNING: &str = "{\"name\":";
    let mut signs = text.chars().filter(|c| !c.is_whitespace());
    BEGINNING.chars().all(|expected| signs.next().is_none_or(|sign| sign == expected))
}

/// Bytes at the end of `text` that could be the beginning of `tag`.
fn partial(text: &str, tag: &str) -> usize {
    (1..tag.len())
        .rev()
        .find(|&n| tag.is_char_boundary(n) && text.ends_with(&tag[..n]))
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// What an answer is read as, joined, whatever pieces it comes in.
    fn read(
        format: Option<CallFormat>,
        thinking: bool,
        parts: &[&str],
    ) -> (String, String, Vec<Call>) {
        let names = vec!["calculator".to_string(), "clock".to_string()];
        let mut reader = Reader::new(format, names, thinking);
        let mut pieces: Vec<Piece> = parts.iter().flat_map(|part| reader.push(part)).collect();
        pieces.extend(reader.finish());
        let (mut text, mut reasoning, mut calls) = (String::new(), String::new(), Vec::new());
        for piece in pieces {
            match piece {
                Piece::Text(part) => text += &part,
                Piece::Reasoning(part) => reasoning += &part,
                Piece::Begun => {}
                Piece::Call(call) => calls.push(call),
            }
        }
        (text, reasoning, calls)
    }

    fn check(
        format: Option<CallFormat>,
        answer: &str,
        text: &str,
        reasoning: &str,
        calls: &[&str],
    ) {
        let whole = read(format, false, &[answer]);
        let names: Vec<&str> = whole.2.iter().map(|call| call.name.as_str()).collect();
        assert_eq!(
            (whole.0.as_str(), whole.1.as_str(), &names[..]),
            (text, reasoning, calls),
            "{answer}"
        );
        // Character by character, and cut at every place.
        let letters: Vec<String> = answer.chars().map(String::from).collect();
        let letters: Vec<&str> = letters.iter().map(String::as_str).collect();
        assert_eq!(read(format, false, &letters), whole, "{answer}");
        for (at, _) in answer.char_indices() {
            assert_eq!(read(format, false, &[&answer[..at], &answer[at..]]), whole, "{answer}");
        }
    }

    #[test]
    fn what_is_said_thought_and_called_is_told_apart() {
        use CallFormat::{Bare, List, Tags};
        let clock = r#"{"name": "clock", "arguments": {}}"#;
        let tagged = format!("<tool_call>\n{clock}\n</tool_call>");
        check(None, "\n Hello, 世界 < 3. \n", "Hello, 世界 < 3.", "", &[]);
        check(None, "a <tool_call>b</tool_call>", "a <tool_call>b</tool_call>", "", &[]);
        check(Some(Tags), "<think>\nHm.\n</think>\n\nYes.", "Yes.", "Hm.", &[]);
        check(Some(Tags), "The tag <think> opens it.", "The tag <think> opens it.", "", &[]);
        check(Some(Tags), "<think>never ends", "", "never ends", &[]);
        check(Some(Tags), &tagged, "", "", &["clock"]);
        check(
            Some(Tags),
            &format!("Let me see.\n{tagged}\n{tagged}"),
            "Let me see.",
            "",
            &["clock", "clock"],
        );
        check(Some(Tags), &format!("<tool_call>{clock}"), "", "", &["clock"]);
        check(
            Some(Tags),
            "<tool_call>what?</tool_call> ok",
            "<tool_call>what?</tool_call>ok",
            "",
            &[],
        );
        check(Some(Tags), "1 <tool 2 < 3 <", "1 <tool 2 < 3 <", "", &[]);
        let bare = r#"{"name": "clock", "parameters": {}}"#;
        check(Some(Bare), bare, "", "", &["clock"]);
        check(Some(Bare), &format!("<|python_tag|>{bare}; {bare}"), "", "", &["clock", "clock"]);
        check(
            Some(Bare),
            r#"{"name": "Ann", "parameters": {}}"#,
            r#"{"name": "Ann", "parameters": {}}"#,
            "",
            &[],
        );
        check(Some(Bare), r#"{"nam": 1}"#, r#"{"nam": 1}"#, "", &[]);
        check(Some(Bare), &format!("So: {bare}"), &format!("So: {bare}"), "", &[]);
        check(Some(List), &format!("[TOOL_CALLS][{clock}, {clock}]"), "", "", &["clock", "clock"]);
        check(Some(List), "[TOOL_CALLS]none", "[TOOL_CALLS]none", "", &[]);
    }

    #[test]
    fn a_prompt_may_have_opened_the_thought() {
        let (text, reasoning, _) = read(None, true, &["It is", " late.</th", "ink>\n\nYes."]);
        assert_eq!((text.as_str(), reasoning.as_str()), ("Yes.", "It is late."));
    }

    #[test]
    fn what_could_become_a_tag_is_not_shown() {
        let mut reader = Reader::new(Some(CallFormat::Tags), Vec::new(), false);
        assert_eq!(reader.push("So <tool"), [Piece::Text("So".into())]);
        assert_eq!(reader.open_call(), None);
        assert_eq!(reader.push("_call>\n{\"na"), [Piece::Begun]);
        assert_eq!(reader.open_call(), Some("\n{\"na"));
        assert_eq!(
            reader.push("me\": \"f\"}\n</tool_call>"),
            [Piece::Call(Call { name: "f".into(), arguments: json!({}) })]
        );
        assert_eq!(reader.push("\n"), []);
        assert_eq!(reader.finish(), []);
    }
}
