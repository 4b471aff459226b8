//! An answer in Ollama's words: lines of JSON, the last with figures.

use std::sync::Arc;
use std::time::Instant;

use llmos_tokenizer::Tokenizer;
use serde_json::{Value, json};

use crate::api::ask::Ask;
use crate::api::stream::{Dialect, Framing};
use crate::api::words::{self, Usage};
use crate::api::{shape, time};
use crate::refusal::Refusal;
use crate::scheduler::{Event, Finish, Part, Score};
use crate::server::Service;

/// Which of two shapes a line has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// `message`.
    Chat,
    /// `response`, and `thinking` beside it.
    Generate,
}

impl Kind {
    /// Writes what was said and thought into a line.
    pub(super) fn say(self, line: &mut Value, text: &str, thought: &str) {
        match self {
            Kind::Chat => {
                line["message"] = json!({ "role": "assistant", "content": text });
                if !thought.is_empty() {
                    line["message"]["thinking"] = thought.into();
                }
            }
            Kind::Generate => {
                line["response"] = text.into();
                if !thought.is_empty() {
                    line["thinking"] = thought.into();
                }
            }
        }
    }
}

/// Writes an answer down as it comes.
pub(super) struct Writer {
    service: Arc<Service>,
    tokenizer: Arc<Tokenizer>,
    model: String,
    kind: Kind,
    /// The model is to go at the end.
    goes: bool,
    text: String,
    thought: String,
    calls: Vec<Value>,
    scores: Vec<Value>,
    usage: Usage,
    finish: Option<Finish>,
    start: Instant,
    /// When the model was there, and when the prompt was read.
    loaded: Instant,
    read: Instant,
}

impl Writer {
    /// `start` is when the call came.
    pub(super) fn new(ask: &Ask, kind: Kind, start: Instant, goes: bool) -> Writer {
        let now = Instant::now();
        Writer {
            service: ask.service.clone(),
            tokenizer: ask.resident.tokenizer.clone(),
            model: ask.resident.id.clone(),
            kind,
            goes,
            text: String::new(),
            thought: String::new(),
            calls: Vec::new(),
            scores: Vec::new(),
            usage: Usage::default(),
            finish: None,
            start,
            loaded: now,
            read: now,
        }
    }

    fn line(&self, text: &str, thought: &str) -> Value {
        let mut line = json!({
            "model": self.model,
            "created_at": time::precise(time::since_epoch()),
        });
        self.kind.say(&mut line, text, thought);
        line["done"] = false.into();
        line
    }

    /// A line with all that was said.
    pub(super) fn whole(&self) -> Value {
        let mut line = self.line(&self.text, &self.thought);
        if !self.calls.is_empty() {
            line["message"]["tool_calls"] = self.calls.clone().into();
        }
        if !self.scores.is_empty() {
            line["logprobs"] = self.scores.clone().into();
        }
        self.finished(line)
    }

    fn finished(&self, mut line: Value) -> Value {
        let now = Instant::now();
        let nanos = |from: Instant, to: Instant| to.duration_since(from).as_nanos() as u64;
        line["done"] = true.into();
        line["done_reason"] = match self.finish {
            Some(Finish::Length) => "length",
            _ => "stop",
        }
        .into();
        line["total_duration"] = nanos(self.start, now).into();
        line["load_duration"] = nanos(self.start, self.loaded).into();
        line["prompt_eval_count"] = self.usage.prompt.into();
        line["prompt_eval_duration"] = nanos(self.loaded, self.read).into();
        line["eval_count"] = self.usage.completion.into();
        line["eval_duration"] = nanos(self.read, now).into();
        line
    }

    /// The probabilities of tokens; they are kept as well.
    fn score(&mut self, scores: &[Score]) -> Vec<Value> {
        let written = words::of_chat(&self.tokenizer, scores)["content"].take();
        let Value::Array(written) = written else { return Vec::new() };
        self.scores.extend(written.iter().cloned());
        written
    }
}

impl Dialect for Writer {
    const FRAMING: Framing = Framing::Lines;

    fn chunks(&mut self, event: Event) -> Vec<Value> {
        match event {
            Event::Read(read) => {
                self.usage.prompt += read.tokens;
                self.usage.cached += read.cached;
                self.read = Instant::now();
                Vec::new()
            }
            Event::Part { part, scores, .. } => {
                let scores = self.score(&scores);
                let mut line = match part {
                    Part::Text(text) => {
                        self.text += &text;
                        self.line(&text, "")
                    }
                    Part::Reasoning(text) => {
                        self.thought += &text;
                        self.line("", &text)
                    }
                    Part::Call(call) => {
                        let call = json!({
                            "id": self.service.ids.name("call_"),
                            "function": {
                                "index": self.calls.len(),
                                "name": call.name,
                                "arguments": call.arguments,
                            },
                        });
                        self.calls.push(call.clone());
                        let mut line = self.line("", "");
                        line["message"]["tool_calls"] = json!([call]);
                        line
                    }
                };
                if !scores.is_empty() {
                    line["logprobs"] = scores.into();
                }
                vec![line]
            }
            Event::End { finish, tokens, scores, .. } => {
                self.usage.completion += tokens;
                self.finish = Some(finish);
                self.score(&scores);
                Vec::new()
            }
            // The listener says what failed.
            Event::Failed(_) => Vec::new(),
        }
    }

    fn last(&mut self) -> Vec<Value> {
        vec![self.finished(self.line("", ""))]
    }

    fn failed(&mut self, refusal: &Refusal) -> Vec<Value> {
        vec![shape::ollama(refusal)]
    }
}

impl Drop for Writer {
    /// Nobody listens any more, so that the model can go if it is to.
    fn drop(&mut self) {
        if self.goes {
            self.service.models.release(&self.model);
        }
    }
}
