//! A response as it is written: items of reasoning, text and calls, and the events that tell of them.

use std::sync::Arc;

use llmos_agent::Call;
use serde_json::{Map, Value, json};

use super::items;
use crate::api::ask::{self, Ask};
use crate::api::stream::{Dialect, Framing};
use crate::api::words::{self, Usage};
use crate::keys::Caller;
use crate::refusal::Refusal;
use crate::scheduler::{Event, Finish, Part, Score};
use crate::server::Service;
use llmos_tokenizer::Tokenizer;

/// How far a response is.
enum State {
    /// Its prompt is not read yet, and it was answered already.
    Queued,
    /// It is written.
    InProgress,
    Ended(Finish),
    Cancelled,
    Failed(Refusal),
}

impl State {
    fn name(&self) -> &'static str {
        match self {
            State::Queued => "queued",
            State::InProgress => "in_progress",
            State::Ended(Finish::Length) => "incomplete",
            State::Ended(_) => "completed",
            State::Cancelled => "cancelled",
            State::Failed(_) => "failed",
        }
    }
}

/// Writes a response down as it comes, and lets it be kept at its end.
pub(super) struct Writer {
    service: Arc<Service>,
    tokenizer: Arc<Tokenizer>,
    owner: u64,
    id: String,
    created: u64,
    model: String,
    /// What was asked for, as it is told back.
    told: Map<String, Value>,
    /// The items of this step's input, and all messages up to it; none if nothing is to be kept.
    kept: Option<(Vec<Value>, Vec<Value>)>,
    with_scores: bool,
    output: Vec<Value>,
    /// The last item may still grow.
    is_open: bool,
    usage: Usage,
    state: State,
    /// Events told so far.
    n_event: usize,
}

impl Writer {
    pub(super) fn new(
        ask: &Ask,
        caller: Caller,
        told: Map<String, Value>,
        kept: Option<(Vec<Value>, Vec<Value>)>,
        with_scores: bool,
        is_background: bool,
    ) -> Writer {
        Writer {
            service: ask.service.clone(),
            tokenizer: ask.resident.tokenizer.clone(),
            owner: caller.owner,
            id: ask.service.ids.name("resp_"),
            created: ask::now(),
            model: ask.resident.id.clone(),
            told,
            kept,
            with_scores,
            output: Vec::new(),
            is_open: false,
            usage: Usage::default(),
            state: if is_background { State::Queued } else { State::InProgress },
            n_event: 0,
        }
    }

    /// Its id.
    pub(super) fn id(&self) -> &str {
        &self.id
    }

    /// Whose it is.
    pub(super) fn owner(&self) -> u64 {
        self.owner
    }

    /// The response as far as it is.
    pub(super) fn response(&self) -> Value {
        let status = self.state.name();
        let incomplete = (status == "incomplete").then(|| json!({ "reason": "max_output_tokens" }));
        let error = match &self.state {
            State::Failed(refusal) => {
                json!({ "code": "server_error", "message": refusal.sentence() })
            }
            _ => Value::Null,
        };
        let mut response = json!({
            "id": self.id,
            "object": "response",
            "created_at": self.created,
            "status": status,
            "completed_at": (status == "completed").then(ask::now),
            "error": error,
            "incomplete_details": incomplete,
            "model": self.model,
            "output": self.output,
            "usage": matches!(self.state, State::Ended(_)).then(|| self.usage()),
        });
        if let Value::Object(response) = &mut response {
            response.extend(self.told.clone());
        }
        response
    }

    fn usage(&self) -> Value {
        json!({
            "input_tokens": self.usage.prompt,
            "input_tokens_details": {
                "cached_tokens": self.usage.cached,
                "cache_write_tokens": 0,
            },
            "output_tokens": self.usage.completion,
            "output_tokens_details": { "reasoning_tokens": self.usage.thoughts },
            "total_tokens": self.usage.prompt + self.usage.completion,
        })
    }

    /// The response as far as it is, with the items of its own input, and all messages up to it and
    /// with it; none if it is not to be kept.
    pub(super) fn record(&self) -> Option<Value> {
        let (input, messages) = self.kept.as_ref()?;
        let mut messages = messages.clone();
        // What was written here can be read here.
        let _ = items::read(&self.output, &mut messages);
        Some(json!({ "response": self.response(), "input": input, "messages": messages }))
    }

    /// Ends a response that nobody wants any more.
    pub(super) fn cancel(&mut self) {
        self.close("incomplete", &mut Vec::new());
        self.state = State::Cancelled;
    }

    /// Keeps the response, if it is to be kept.
    pub(super) fn keep(&self) {
        let Some(record) = self.record() else { return };
        let kept = self.service.options.responses.keep(self.owner, &self.id, record.to_string());
        if let Err(reason) = kept {
            tracing::error!(reason, "a response was not kept");
        }
    }

    fn event(&mut self, kind: &str, mut event: Value) -> Value {
        let number = self.n_event;
        self.n_event += 1;
        event["type"] = kind.into();
        event["sequence_number"] = number.into();
        event
    }

    /// An event about the item that is written.
    fn of_item(&mut self, kind: &str, mut event: Value) -> Value {
        let index = self.output.len().saturating_sub(1);
        event["output_index"] = index.into();
        if !kind.starts_with("response.output_item") {
            event["item_id"] = self.output[index]["id"].clone();
        }
        if !kind.starts_with("response.function_call") && !kind.starts_with("response.output_item")
        {
            event["content_index"] = 0.into();
        }
        self.event(kind, event)
    }

    fn begin(&mut self, item: Value, events: &mut Vec<Value>) {
        self.close("completed", events);
        self.output.push(item.clone());
        self.is_open = true;
        events.push(self.of_item("response.output_item.added", json!({ "item": item })));
    }

    /// Ends the item that is open.
    fn close(&mut self, status: &str, events: &mut Vec<Value>) {
        if !std::mem::take(&mut self.is_open) {
            return;
        }
        let at = self.output.len() - 1;
        self.output[at]["status"] = status.into();
        let item = self.output[at].clone();
        match item["type"].as_str() {
            Some("function_call") => {
                let done = json!({ "arguments": item["arguments"], "name": item["name"] });
                events.push(self.of_item("response.function_call_arguments.done", done));
            }
            Some("message") => {
                let part = &item["content"][0];
                let done = json!({ "text": part["text"], "logprobs": part["logprobs"] });
                events.push(self.of_item("response.output_text.done", done));
                let done = json!({ "part": part });
                events.push(self.of_item("response.content_part.done", done));
            }
            _ => {
                let part = &item["content"][0];
                let done = json!({ "text": part["text"] });
                events.push(self.of_item("response.reasoning_text.done", done));
                let done = json!({ "part": part });
                events.push(self.of_item("response.content_part.done", done));
            }
        }
        events.push(self.of_item("response.output_item.done", json!({ "item": item })));
    }

    /// Adds text to the item that is open, if it is of this kind, or to a new one.
    fn push(&mut self, is_said: bool, text: &str, scores: &[Score], events: &mut Vec<Value>) {
        if text.is_empty() && scores.is_empty() {
            return;
        }
        let kind = if is_said { "message" } else { "reasoning" };
        let goes_on = self.is_open && self.output.last().is_some_and(|last| last["type"] == kind);
        if !goes_on {
            let item = match is_said {
                true => json!({
                    "id": self.service.ids.name("msg_"), "type": "message", "role": "assistant",
                    "status": "in_progress", "content": [],
                }),
                false => json!({
                    "id": self.service.ids.name("rs_"), "type": "reasoning", "summary": [],
                    "status": "in_progress", "content": [],
                }),
            };
            self.begin(item, events);
            let part = match is_said {
                true => json!({
                    "type": "output_text", "text": "", "annotations": [], "logprobs": [],
                }),
                false => json!({ "type": "reasoning_text", "text": "" }),
            };
            let at = self.output.len() - 1;
            self.output[at]["content"] = json!([part]);
            events.push(self.of_item("response.content_part.added", json!({ "part": part })));
        }
        let logprobs = match self.with_scores {
            true => words::of_chat(&self.tokenizer, scores)["content"].take(),
            false => json!([]),
        };
        let at = self.output.len() - 1;
        let part = &mut self.output[at]["content"][0];
        if let Some(Value::String(all)) = part.get_mut("text") {
            all.push_str(text);
        }
        if let (Some(Value::Array(all)), Value::Array(more)) = (part.get_mut("logprobs"), &logprobs)
        {
            all.extend(more.iter().cloned());
        }
        let event = match is_said {
            true => {
                let delta = json!({ "delta": text, "logprobs": logprobs });
                self.of_item("response.output_text.delta", delta)
            }
            false => self.of_item("response.reasoning_text.delta", json!({ "delta": text })),
        };
        events.push(event);
    }

    fn call(&mut self, call: &Call, events: &mut Vec<Value>) {
        let item = json!({
            "id": self.service.ids.name("fc_"), "type": "function_call", "status": "in_progress",
            "call_id": self.service.ids.name("call_"), "name": call.name, "arguments": "",
        });
        self.begin(item, events);
        let text = call.arguments.to_string();
        let at = self.output.len() - 1;
        self.output[at]["arguments"] = text.as_str().into();
        let delta = json!({ "delta": text });
        events.push(self.of_item("response.function_call_arguments.delta", delta));
        self.close("completed", events);
    }
}

impl Dialect for Writer {
    const FRAMING: Framing = Framing::Named;

    fn chunks(&mut self, event: Event) -> Vec<Value> {
        let mut events = Vec::new();
        match event {
            Event::Read(read) => {
                self.usage.prompt += read.tokens;
                self.usage.cached += read.cached;
                self.state = State::InProgress;
                for kind in ["response.created", "response.in_progress"] {
                    let response = json!({ "response": self.response() });
                    events.push(self.event(kind, response));
                }
            }
            Event::Part { part, scores, .. } => match part {
                Part::Text(text) => self.push(true, &text, &scores, &mut events),
                Part::Reasoning(text) => self.push(false, &text, &[], &mut events),
                Part::Call(call) => self.call(&call, &mut events),
            },
            Event::End { finish, tokens, thoughts, scores, .. } => {
                self.usage.completion += tokens;
                self.usage.thoughts += thoughts;
                let is_said = self.output.last().is_some_and(|last| last["type"] == "message");
                if self.is_open && is_said {
                    self.push(true, "", &scores, &mut events);
                }
                let is_cut = finish == Finish::Length;
                self.close(if is_cut { "incomplete" } else { "completed" }, &mut events);
                self.state = State::Ended(finish);
            }
            // The listener says what failed.
            Event::Failed(_) => {}
        }
        events
    }

    fn last(&mut self) -> Vec<Value> {
        self.keep();
        let response = self.response();
        let kind = match self.state {
            State::Ended(Finish::Length) => "response.incomplete",
            _ => "response.completed",
        };
        vec![self.event(kind, json!({ "response": response }))]
    }

    fn failed(&mut self, refusal: &Refusal) -> Vec<Value> {
        self.close("incomplete", &mut Vec::new());
        self.state = State::Failed(refusal.clone());
        let response = self.response();
        vec![self.event("response.failed", json!({ "response": response }))]
    }
}
