//! What other APIs ask for, as the fields of `/v1/chat/completions`: there is one way to an answer.

use llmos_tokenizer::Special;
use serde_json::{Map, Value, json};

use super::ask::Ask;
use super::chat;
use crate::fields::Fields;
use crate::refusal::Refusal;
use crate::scheduler::Request;

/// A call of another API.
#[derive(Debug, Default)]
pub(super) struct Asked {
    /// The fields of `/v1/chat/completions`.
    pub(super) body: Map<String, Value>,
    /// What the answer begins with.
    pub(super) begun: String,
    /// The oldest messages are left out where all of them do not fit.
    pub(super) truncates: bool,
}

impl Asked {
    /// Sets a field, if there is something to set.
    pub(super) fn set(&mut self, name: &str, value: Option<impl Into<Value>>) {
        if let Some(value) = value {
            self.body.insert(name.to_string(), value.into());
        }
    }

    /// The request for it. What is wrong with a field is said by the name that it has in the other
    /// API: `names` are pairs of ours and theirs.
    ///
    /// # Errors
    /// As [`chat::prepare`]; a beginning where a call or a format is demanded.
    pub(super) fn request(self, ask: &Ask, names: &[(&str, &str)]) -> Result<Request, Refusal> {
        let mut request = self.fitting(ask).map_err(|refusal| refusal.renamed(names))?;
        self.begin(ask, &mut request)?;
        Ok(request)
    }

    /// The request, with as few of the oldest turns left out as make it fit, if that may be.
    fn fitting(&self, ask: &Ask) -> Result<Request, Refusal> {
        let refusal = match prepared(ask, &self.body) {
            Err(refusal) if self.truncates && refusal.is_too_long() => refusal,
            other => return other,
        };
        // By halves: a conversation may have very many turns.
        let turns = self.turns();
        let mut fitting = Err(refusal);
        let (mut least, mut most) = (0, turns.len());
        while least < most {
            let middle = (least + most) / 2;
            match prepared(ask, &self.since(turns[middle])) {
                Ok(request) => {
                    fitting = Ok(request);
                    most = middle;
                }
                Err(refusal) if refusal.is_too_long() => least = middle + 1,
                Err(refusal) => return Err(refusal),
            }
        }
        fitting
    }

    /// Puts the beginning of the answer behind the prompt.
    fn begin(&self, ask: &Ask, request: &mut Request) -> Result<(), Refusal> {
        if self.begun.is_empty() {
            return Ok(());
        }
        let tokenizer = &ask.resident.tokenizer;
        let Some(dialogue) = &mut request.dialogue else { return Ok(()) };
        if dialogue.is_required || request.grammar.is_some() {
            return Err(Refusal::bad(
                "an answer that must be a call or of a format cannot begin with a text",
                "leave out the assistant's last message",
            )
            .about("messages"));
        }
        if std::mem::take(&mut dialogue.is_thinking) {
            let thought = format!("{}\n\n", llmos_agent::THOUGHT);
            request.tokens.extend(tokenizer.encode(thought, Special::Parse));
        }
        request.tokens.extend(tokenizer.encode(&self.begun, Special::None));
        dialogue.begun.clone_from(&self.begun);
        let longest = ask.resident.longest_prompt();
        if request.tokens.len() > longest {
            return Err(Refusal::too_long(request.tokens.len(), longest + 1));
        }
        Ok(())
    }

    fn messages(&self) -> &[Value] {
        self.body.get("messages").and_then(Value::as_array).map_or(&[], Vec::as_slice)
    }

    /// Where the conversation may begin instead of at its first message: its later questions.
    fn turns(&self) -> Vec<usize> {
        let numbered = self.messages().iter().enumerate();
        let asked = numbered.filter(|(_, message)| message["role"] == "user").map(|(at, _)| at);
        let first = self.messages().iter().position(|message| !is_system(message));
        asked.filter(|&at| first.is_some_and(|first| at > first)).collect()
    }

    /// The fields with the messages from `start` on, and what the system said before them.
    fn since(&self, start: usize) -> Map<String, Value> {
        let numbered = self.messages().iter().enumerate();
        let kept = numbered.filter(|(at, message)| *at >= start || is_system(message));
        let kept: Vec<Value> = kept.map(|(_, message)| message.clone()).collect();
        let mut body = self.body.clone();
        body.insert("messages".to_string(), kept.into());
        body
    }
}

fn is_system(message: &Value) -> bool {
    message["role"] == "system" || message["role"] == "developer"
}

fn prepared(ask: &Ask, body: &Map<String, Value>) -> Result<Request, Refusal> {
    let (mut requests, _) = chat::prepare(ask, Fields::new(body))?;
    requests.pop().ok_or_else(|| Refusal::broken("there is no request"))
}

/// A tool of OpenAI's chats.
pub(super) fn function(
    name: &Value,
    description: Option<&Value>,
    parameters: Option<&Value>,
) -> Value {
    let mut function = json!({ "name": name });
    for (key, value) in [("description", description), ("parameters", parameters)] {
        if let Some(value) = value.filter(|value| !value.is_null()) {
            function[key] = value.clone();
        }
    }
    json!({ "type": "function", "function": function })
}

/// A call of a tool in a message of OpenAI's chats; `arguments` is an object or its text.
pub(super) fn call(id: &Value, name: &Value, arguments: &Value) -> Value {
    json!({ "id": id, "type": "function", "function": { "name": name, "arguments": arguments } })
}

/// The name of the tool that the call with this id called, in the messages shortly before.
pub(super) fn name_of_call(messages: &[Value], id: &Value) -> Option<Value> {
    /// A result follows its call; a list of many without one is not to be looked through for each.
    const RECENT: usize = 256;
    let recent = messages.iter().rev().take(RECENT);
    let calls = recent.filter_map(|message| message["tool_calls"].as_array());
    let mut calls = calls.flatten().filter(|call| call["id"] == *id);
    calls.next().map(|call| call["function"]["name"].clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(text: &str) -> Value {
        json!({ "role": "user", "content": text })
    }

    #[test]
    fn the_oldest_turns_go_first_and_the_system_s_words_stay() {
        let system = json!({ "role": "system", "content": "Be brief." });
        let said = json!({ "role": "assistant", "content": "Hello" });
        let mut asked = Asked::default();
        assert!(asked.turns().is_empty());
        let messages = json!([system, user("a"), said, user("b"), said, user("c")]);
        asked.set("messages", Some(messages));
        assert_eq!(asked.turns(), [3, 5]);
        assert_eq!(asked.since(3)["messages"], json!([system, user("b"), said, user("c")]));
        assert_eq!(asked.since(5)["messages"], json!([system, user("c")]));
    }

    #[test]
    fn a_result_is_of_the_tool_that_was_called() {
        let called = json!({ "role": "assistant", "tool_calls": [
            call(&json!("1"), &json!("f"), &json!({})), call(&json!("2"), &json!("g"), &json!({})),
        ] });
        let messages = [user("a"), called];
        assert_eq!(name_of_call(&messages, &json!("2")), Some(json!("g")));
        assert_eq!(name_of_call(&messages, &json!("3")), None);
    }
}
