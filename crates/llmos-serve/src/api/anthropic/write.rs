//! An answer in Anthropic's words: blocks of text, thought and tool use.

use std::sync::Arc;

use serde_json::{Value, json};

use crate::api::ask::Ask;
use crate::api::shape;
use crate::api::stream::{Dialect, Framing};
use crate::api::words::Usage;
use crate::refusal::Refusal;
use crate::scheduler::{Event, Finish, Part, Request};
use crate::server::Service;

/// What proves to Anthropic that a thought is its own; here it says whose it is.
const SIGNATURE: &str = "llmos";

/// Writes an answer down as it comes.
pub(super) struct Writer {
    service: Arc<Service>,
    id: String,
    model: String,
    stops: Vec<String>,
    most: Option<usize>,
    content: Vec<Value>,
    /// The last block may still grow.
    is_open: bool,
    usage: Usage,
    finish: Option<Finish>,
}

impl Writer {
    pub(super) fn new(ask: &Ask, request: &Request) -> Writer {
        Writer {
            service: ask.service.clone(),
            id: ask.service.ids.name("msg_"),
            model: ask.resident.id.clone(),
            stops: request.stops.clone(),
            most: request.most,
            content: Vec::new(),
            is_open: false,
            usage: Usage::default(),
            finish: None,
        }
    }

    /// The message as far as it is.
    pub(super) fn message(&self) -> Value {
        json!({
            "id": self.id,
            "type": "message",
            "role": "assistant",
            "model": self.model,
            "content": self.content,
            "stop_reason": self.finish.map(|finish| self.reason(finish)),
            "stop_sequence": self.stop(),
            "usage": self.usage(),
        })
    }

    fn reason(&self, finish: Finish) -> &'static str {
        match finish {
            Finish::Stop => "end_turn",
            Finish::StopText(_) => "stop_sequence",
            Finish::ToolCalls => "tool_use",
            // The context was full before as many tokens as were allowed were written.
            Finish::Length if self.most.is_some_and(|most| self.usage.completion < most) => {
                "model_context_window_exceeded"
            }
            Finish::Length => "max_tokens",
        }
    }

    fn stop(&self) -> Option<&str> {
        match self.finish {
            Some(Finish::StopText(number)) => self.stops.get(number).map(String::as_str),
            _ => None,
        }
    }

    fn usage(&self) -> Value {
        json!({
            "input_tokens": self.usage.prompt - self.usage.cached,
            "output_tokens": self.usage.completion,
            "cache_read_input_tokens": self.usage.cached,
            "cache_creation_input_tokens": 0,
        })
    }

    /// The index of the last block.
    fn at(&self) -> usize {
        self.content.len().saturating_sub(1)
    }

    /// Begins a block, after the one before.
    fn open(&mut self, block: Value, events: &mut Vec<Value>) {
        self.close(events);
        self.content.push(block.clone());
        self.is_open = true;
        let index = self.at();
        events
            .push(json!({ "type": "content_block_start", "index": index, "content_block": block }));
    }

    fn delta(&self, delta: Value) -> Value {
        json!({ "type": "content_block_delta", "index": self.at(), "delta": delta })
    }

    fn close(&mut self, events: &mut Vec<Value>) {
        if !std::mem::take(&mut self.is_open) {
            return;
        }
        let index = self.at();
        if self.content[index]["type"] == "thinking" {
            self.content[index]["signature"] = SIGNATURE.into();
            let delta = json!({ "type": "signature_delta", "signature": SIGNATURE });
            events.push(self.delta(delta));
        }
        events.push(json!({ "type": "content_block_stop", "index": index }));
    }

    /// Adds text to the block that is open, if it is of this kind, or to a new one. The kinds call
    /// their text as they are called.
    fn push(&mut self, kind: &str, key: &str, text: &str, events: &mut Vec<Value>) {
        if text.is_empty() {
            return;
        }
        let goes_on = self.is_open && self.content.last().is_some_and(|last| last["type"] == kind);
        if !goes_on {
            let mut block = json!({ "type": kind, key: "" });
            match kind {
                "thinking" => block["signature"] = "".into(),
                _ => block["citations"] = Value::Null,
            }
            self.open(block, events);
        }
        let last = self.at();
        if let Some(Value::String(all)) = self.content[last].get_mut(key) {
            all.push_str(text);
        }
        events.push(self.delta(json!({ "type": format!("{key}_delta"), key: text })));
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
                events.push(json!({ "type": "message_start", "message": self.message() }));
            }
            Event::Part { part: Part::Text(text), .. } => {
                self.push("text", "text", &text, &mut events);
            }
            Event::Part { part: Part::Reasoning(text), .. } => {
                self.push("thinking", "thinking", &text, &mut events);
            }
            Event::Part { part: Part::Call(call), .. } => {
                let id = self.service.ids.name("toolu_");
                let mut block =
                    json!({ "type": "tool_use", "id": id, "name": call.name, "input": {} });
                self.open(block.clone(), &mut events);
                let text = call.arguments.to_string();
                let delta = json!({ "type": "input_json_delta", "partial_json": text });
                events.push(self.delta(delta));
                block["input"] = call.arguments;
                let last = self.at();
                self.content[last] = block;
                self.close(&mut events);
            }
            Event::End { finish, tokens, .. } => {
                self.usage.completion += tokens;
                self.finish = Some(finish);
                self.close(&mut events);
                let delta = json!({
                    "stop_reason": self.reason(finish),
                    "stop_sequence": self.stop(),
                });
                let usage = self.usage();
                events.push(json!({ "type": "message_delta", "delta": delta, "usage": usage }));
            }
            // The listener says what failed.
            Event::Failed(_) => {}
        }
        events
    }

    fn last(&mut self) -> Vec<Value> {
        vec![json!({ "type": "message_stop" })]
    }

    fn failed(&mut self, refusal: &Refusal) -> Vec<Value> {
        vec![shape::anthropic(refusal, None)]
    }
}
