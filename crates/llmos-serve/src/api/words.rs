//! Tokens and their probabilities as OpenAI's API writes them.

use llmos_tokenizer::Tokenizer;
use serde_json::{Map, Value, json};

use crate::scheduler::Score;

/// What stands for a probability of nothing, which JSON has no number for; vLLM writes the same.
const NEVER: f64 = -9999.0;

/// A logarithm that JSON can hold.
pub(crate) fn finite(logprob: f64) -> f64 {
    if logprob.is_finite() { logprob } else { NEVER }
}

/// `logprobs` of a chat's answer.
pub(crate) fn of_chat(tokenizer: &Tokenizer, scores: &[Score]) -> Value {
    let entry = |id: u32, logprob: f64| {
        json!({
            "token": text(tokenizer, id),
            "logprob": finite(logprob),
            "bytes": tokenizer.token_bytes(id),
        })
    };
    let content = scores.iter().map(|score| {
        let mut one = entry(score.id, score.logprob);
        let top: Vec<Value> = score.top.iter().map(|&(id, logprob)| entry(id, logprob)).collect();
        one["top_logprobs"] = top.into();
        one
    });
    json!({ "content": content.collect::<Vec<Value>>(), "refusal": null })
}

/// `logprobs` of a completion: four lists side by side.
#[derive(Default)]
pub(crate) struct Lists {
    tokens: Vec<Value>,
    token_logprobs: Vec<Value>,
    top_logprobs: Vec<Value>,
    text_offset: Vec<Value>,
    /// Characters so far.
    offset: usize,
}

impl Lists {
    /// Adds a token whose probability nobody knows: a text's first.
    pub(crate) fn push_first(&mut self, tokenizer: &Tokenizer, id: u32) {
        self.push_text(tokenizer, id);
        self.token_logprobs.push(Value::Null);
        self.top_logprobs.push(Value::Null);
    }

    /// Adds a token. The alternatives hold the token itself as well.
    pub(crate) fn push(&mut self, tokenizer: &Tokenizer, score: &Score) {
        self.push_text(tokenizer, score.id);
        self.token_logprobs.push(finite(score.logprob).into());
        let mut top = Map::new();
        let own = (score.id, score.logprob);
        for &(id, logprob) in score.top.iter().chain([&own]) {
            let logprob = finite(logprob);
            let entry = top.entry(text(tokenizer, id)).or_insert_with(|| logprob.into());
            // Two tokens may have one text; the likelier one stands for it.
            if entry.as_f64().is_some_and(|other| other < logprob) {
                *entry = logprob.into();
            }
        }
        self.top_logprobs.push(Value::Object(top));
    }

    fn push_text(&mut self, tokenizer: &Tokenizer, id: u32) {
        let text = text(tokenizer, id);
        self.text_offset.push(self.offset.into());
        self.offset += text.chars().count();
        self.tokens.push(text.into());
    }

    /// What was added since it was last taken.
    pub(crate) fn take(&mut self) -> Value {
        json!({
            "tokens": std::mem::take(&mut self.tokens),
            "token_logprobs": std::mem::take(&mut self.token_logprobs),
            "top_logprobs": std::mem::take(&mut self.top_logprobs),
            "text_offset": std::mem::take(&mut self.text_offset),
        })
    }
}

/// A token's text; one that is no text by itself is written as OpenAI does, `bytes:\xe4`, so that two
/// such tokens do not look the same. A control token has its name.
fn text(tokenizer: &Tokenizer, id: u32) -> String {
    if tokenizer.is_special(id) {
        return tokenizer.token_name(id);
    }
    let bytes = tokenizer.token_bytes(id);
    match std::str::from_utf8(bytes) {
        Ok(text) => text.to_string(),
        Err(_) => {
            let bytes = bytes.iter().map(|byte| format!("\\x{byte:02x}"));
            format!("bytes:{}", bytes.collect::<String>())
        }
    }
}

/// What a call took.
#[derive(Clone, Copy, Default)]
pub(crate) struct Usage {
    pub(crate) prompt: usize,
    pub(crate) cached: usize,
    pub(crate) completion: usize,
    /// Of the completion, what is thought.
    pub(crate) thoughts: usize,
}

impl Usage {
    pub(crate) fn to_json(self) -> Value {
        json!({
            "prompt_tokens": self.prompt,
            "completion_tokens": self.completion,
            "total_tokens": self.prompt + self.completion,
            "prompt_tokens_details": { "cached_tokens": self.cached },
            "completion_tokens_details": { "reasoning_tokens": self.thoughts },
        })
    }
}
