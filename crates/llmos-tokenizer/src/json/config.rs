//! `tokenizer_config.json`: the chat template and the names of special tokens.

use serde::Deserialize;
use serde_json::Value;

use super::file::parse;
use crate::Error;
use crate::vocabulary::GgufVocab;

/// What is read of the config.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Config {
    chat_template: Value,
    bos_token: Value,
    eos_token: Value,
    unk_token: Value,
    pad_token: Value,
    sep_token: Value,
    cls_token: Value,
    mask_token: Value,
    add_bos_token: Option<bool>,
    tokenizer_class: Option<String>,
}

/// A token given by its text or as `{"content": …}`.
fn token_text(value: &Value) -> Option<&str> {
    value.as_str().or_else(|| value.get("content")?.as_str())
}

impl Config {
    pub(super) fn read(json: &[u8]) -> Result<Config, Error> {
        parse("tokenizer_config.json", json)
    }

    /// Fills in what the config says; `by_text` finds a token.
    pub(super) fn fill(&self, meta: &mut GgufVocab, by_text: impl Fn(&str) -> Option<u32>) {
        let id = |value: &Value| token_text(value).and_then(&by_text);
        meta.bos = id(&self.bos_token);
        meta.eos = id(&self.eos_token);
        meta.unk = meta.unk.or_else(|| id(&self.unk_token));
        meta.pad = id(&self.pad_token);
        meta.sep = id(&self.sep_token);
        meta.cls = id(&self.cls_token);
        meta.mask = id(&self.mask_token);
        meta.chat_template = match &self.chat_template {
            Value::String(template) => Some(template.clone()),
            Value::Array(named) => named
                .iter()
                .find(|entry| entry["name"] == "default")
                .or(named.first())
                .and_then(|entry| Some(entry["template"].as_str()?.to_owned())),
            _ => None,
        };
    }

    /// The Llama and Gemma classes make their own post-processor out of `add_bos_token`; it also
    /// speaks where the file has no post-processor.
    pub(super) fn adjust_start(
        &self,
        meta: &GgufVocab,
        no_post_processor: bool,
        before: &mut Vec<u32>,
    ) {
        let class = self.tokenizer_class.as_deref().unwrap_or("");
        let own_rule = ["Llama", "CodeLlama", "Gemma"].iter().any(|name| class.starts_with(name));
        match (self.add_bos_token, meta.bos) {
            (Some(false), Some(bos)) if own_rule && *before == [bos] => before.clear(),
            (Some(true), Some(bos)) if no_post_processor && before.is_empty() => before.push(bos),
            _ => {}
        }
    }
}
