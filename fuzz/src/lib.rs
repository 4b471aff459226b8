//! What each fuzz target does with its bytes, and the seeds that it starts from.
//!
//! A body returns whether the parser took them; what must not happen is a panic, a hang, or memory
//! without bound. The test `damaged` of the `llmos` crate includes this file and runs the same
//! bodies over mutated seeds on the stable toolchain.

mod answer;
mod calculator;
mod conversation;
mod data;
mod files;
mod metrics;
mod name;
mod recipe;
mod request;
mod scratch;
mod store;
mod text;

pub use answer::answer;
pub use calculator::calculator;
pub use conversation::conversation_rows;
pub use data::{prepared, raw_text};
pub use files::{config_json, dequantize, gguf, llama2c, page_image, peft, safetensors};
pub use metrics::metrics_text;
pub use name::model_name;
pub use recipe::recipe;
pub use request::{chat_body, completions_body, host_header, http_request};
pub use store::stored_rows;
pub use text::{chat_template, grammar, sentencepiece, tokenizer_json};

/// A fuzz target.
pub struct Target {
    /// The file's name in `fuzz_targets/`.
    pub name: &'static str,
    /// What it does with its bytes: true if the parser took them.
    pub body: fn(&[u8]) -> bool,
    /// Inputs to start from; the parser takes the first.
    pub seeds: fn() -> Vec<Vec<u8>>,
}

/// All targets, by name.
pub const TARGETS: [Target; 24] = [
    Target { name: "answer", body: answer, seeds: answer::seeds },
    Target { name: "calculator", body: calculator, seeds: calculator::seeds },
    Target { name: "chat_body", body: chat_body, seeds: request::chat_body_seeds },
    Target { name: "chat_template", body: chat_template, seeds: text::chat_template_seeds },
    Target {
        name: "completions_body",
        body: completions_body,
        seeds: request::completions_body_seeds,
    },
    Target { name: "config_json", body: config_json, seeds: files::config_json_seeds },
    Target {
        name: "conversation_rows",
        body: conversation_rows,
        seeds: conversation::conversation_rows_seeds,
    },
    Target { name: "dequantize", body: dequantize, seeds: files::dequantize_seeds },
    Target { name: "gguf", body: gguf, seeds: files::gguf_seeds },
    Target { name: "grammar", body: grammar, seeds: text::grammar_seeds },
    Target { name: "host_header", body: host_header, seeds: request::host_header_seeds },
    Target { name: "http_request", body: http_request, seeds: request::http_request_seeds },
    Target { name: "llama2c", body: llama2c, seeds: files::llama2c_seeds },
    Target { name: "metrics_text", body: metrics_text, seeds: metrics::seeds },
    Target { name: "model_name", body: model_name, seeds: name::seeds },
    Target { name: "page_image", body: page_image, seeds: files::page_image_seeds },
    Target { name: "peft", body: peft, seeds: files::peft_seeds },
    Target { name: "prepared", body: prepared, seeds: data::prepared_seeds },
    Target { name: "raw_text", body: raw_text, seeds: data::raw_text_seeds },
    Target { name: "recipe", body: recipe, seeds: recipe::seeds },
    Target { name: "safetensors", body: safetensors, seeds: files::safetensors_seeds },
    Target { name: "sentencepiece", body: sentencepiece, seeds: text::sentencepiece_seeds },
    Target { name: "stored_rows", body: stored_rows, seeds: store::stored_rows_seeds },
    Target { name: "tokenizer_json", body: tokenizer_json, seeds: text::tokenizer_json_seeds },
];
