//! What is known of a model without loading it.

use std::sync::{Arc, OnceLock};

use serde_json::{Value, json};

/// What is known of a model before it is loaded, from its files.
#[derive(Clone, Debug, Default)]
pub struct About {
    /// Bytes of its files.
    pub size: u64,
    /// What kind of decoder it is, such as `llama`.
    pub architecture: String,
    /// In which mixture of formats its numbers are, such as `q8_0`.
    pub quantization: String,
    /// Its parameters, all tensors together.
    pub parameters: u64,
    /// Tokens of its longest context, as it was trained.
    pub context: u64,
    /// The licence that its files name.
    pub license: Option<String>,
    /// Its card, in Markdown.
    pub card: Option<String>,
    /// The SHA-256 of its files in 64 digits, once it is known. Whoever offers the model may find it
    /// out later: clones share it.
    pub digest: Arc<OnceLock<String>>,
}

impl About {
    /// The digest as it is written in APIs, `sha256:…`.
    pub(crate) fn digest(&self) -> Option<String> {
        self.digest.get().map(|digits| format!("sha256:{digits}"))
    }

    /// As a model's entry says it.
    pub(crate) fn to_json(&self) -> Value {
        json!({
            "size": self.size,
            "digest": self.digest(),
            "license": self.license,
            "card": self.card,
            "architecture": self.architecture,
            "quantization": self.quantization,
            "parameters": self.parameters,
            "context": self.context,
        })
    }
}
