//! # Room card: llmos-model
//!
//! **What it is.** Tokens to logits to tokens: model files (GGUF, safetensors, llama2.c), the one
//! decoder and its config, the paged KV cache, the engine, samplers and grammars.
//!
//! **May touch.** Model files; a memory map, in `file/map.rs` alone.
//!
//! **Never.** Text (the caller tokenises), clocks, the network, the terminal.
//!
//! **Invariants.**
//! - One decoder serves all architectures; an architecture is a function from metadata to [`Config`].
//! - A file is never trusted: each count, offset and size is checked against its length.
//! - Forking, paging out and back, and sharing a prefix leave logits bit-identical.
//! - The same seed, thread count and instruction set give the same tokens.

#![deny(unsafe_code)]

mod architecture;
pub mod config;
pub mod convert;
pub mod decoder;
pub mod engine;
mod error;
pub mod file;
pub mod grammar;
pub mod parameters;
pub mod sampler;

pub use architecture::Dialect;
pub use config::Config;
pub use decoder::{Adapter, Model};
pub use engine::{Engine, EngineOptions};
pub use error::Error;
pub use file::{GgufVocabulary, ModelFiles, SCORE_HEAD, Tensor, TensorInfo, Vocabulary};
/// What an engine runs on, for callers that know no tensors.
pub use llmos_tensor::{Device, Isa};
