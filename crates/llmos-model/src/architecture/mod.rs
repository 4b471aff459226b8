//! From a file's metadata to a [`Config`]: what each family of models is.
//!
//! To add an architecture: a variant here, its name and traits, its keys in `gguf.rs` and
//! `hugging_face.rs`, its tensors' names in `file/names.rs`. The forward pass stays as it is.

mod check;
mod dialect;
mod gguf;
mod hugging_face;
mod hyperparameters;
mod rope;

use std::path::Path;

use serde_json::Value as Json;

use crate::config::Pairing;
use crate::file::{ModelFiles, Source};
use crate::{Config, Error};

pub use dialect::Dialect;
pub(crate) use gguf::gemma_27b_layers;
pub(crate) use hugging_face::says_tied;
pub(crate) use hyperparameters::{Experts, Hyperparameters};
pub(crate) use rope::{Scaling, llama3_factors, yarn_magnitude};

/// A family of models, named as GGUF names them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Architecture {
    /// Llama 1 to 3, Mistral, Mixtral, SmolLM, llama2.c.
    Llama,
    Qwen2,
    Qwen3,
    Qwen3Moe,
    Gemma2,
    Gemma3,
    Phi3,
    SmolLm3,
    Olmo2,
}

impl Architecture {
    const ALL: [Architecture; 9] = [
        Architecture::Llama,
        Architecture::Qwen2,
        Architecture::Qwen3,
        Architecture::Qwen3Moe,
        Architecture::Gemma2,
        Architecture::Gemma3,
        Architecture::Phi3,
        Architecture::SmolLm3,
        Architecture::Olmo2,
    ];

    /// GGUF's `general.architecture`.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Architecture::Llama => "llama",
            Architecture::Qwen2 => "qwen2",
            Architecture::Qwen3 => "qwen3",
            Architecture::Qwen3Moe => "qwen3moe",
            Architecture::Gemma2 => "gemma2",
            Architecture::Gemma3 => "gemma3",
            Architecture::Phi3 => "phi3",
            Architecture::SmolLm3 => "smollm3",
            Architecture::Olmo2 => "olmo2",
        }
    }

    /// The architecture of GGUF's name for it.
    fn of_gguf(name: &str, path: &Path) -> Result<Architecture, Error> {
        Architecture::ALL.into_iter().find(|architecture| architecture.name() == name).ok_or_else(
            || {
                let names = Architecture::ALL.map(Architecture::name).join(", ");
                Error::unsupported(path, format!("architecture {name:?}"), names)
            },
        )
    }

    /// The architecture of a `config.json`, by its `model_type`.
    pub(crate) fn of_hugging_face(config: &Json, path: &Path) -> Result<Architecture, Error> {
        let model_type = config.get("model_type").and_then(Json::as_str).unwrap_or("");
        Ok(match model_type {
            "llama" | "mistral" | "mixtral" => Architecture::Llama,
            "qwen2" => Architecture::Qwen2,
            "qwen3" => Architecture::Qwen3,
            "qwen3_moe" => Architecture::Qwen3Moe,
            "gemma2" => Architecture::Gemma2,
            "gemma3" | "gemma3_text" => Architecture::Gemma3,
            "phi3" => Architecture::Phi3,
            "smollm3" => Architecture::SmolLm3,
            "olmo2" => Architecture::Olmo2,
            other => {
                let what = format!("model_type {other:?}");
                let supported = "llama, mistral, mixtral, qwen2, qwen3, qwen3_moe, gemma2, gemma3, \
                                 phi3, smollm3, olmo2";
                return Err(Error::unsupported(path, what, supported));
            }
        })
    }

    /// How GGUF files of this architecture pair the dimensions that rotate together
    /// (llama.cpp's `llama_model_rope_type`). Where it is adjacent, rows of the query and key
    /// matrices stand in another order than in Hugging Face's files.
    pub(crate) const fn gguf_pairing(self) -> Pairing {
        match self {
            Architecture::Llama | Architecture::SmolLm3 => Pairing::Adjacent,
            _ => Pairing::Halves,
        }
    }

    /// The residual branch is normed on its way in.
    pub(crate) const fn pre_norm(self) -> bool {
        !matches!(self, Architecture::Olmo2)
    }

    /// The residual branch is normed on its way out.
    pub(crate) const fn post_norm(self) -> bool {
        matches!(self, Architecture::Olmo2 | Architecture::Gemma2 | Architecture::Gemma3)
    }

    /// Hugging Face's files hold norm weights less one; GGUF's hold them whole.
    pub(crate) const fn norms_are_offsets(self) -> bool {
        matches!(self, Architecture::Gemma2 | Architecture::Gemma3)
    }

    /// Query, key and value in one matrix, gate and up in another.
    pub(crate) const fn fused(self) -> bool {
        matches!(self, Architecture::Phi3)
    }
}

/// Reads what the opened files say, and checks their tensors against it.
pub(crate) fn read(files: &ModelFiles) -> Result<(Hyperparameters, Config), Error> {
    let hyperparameters = match files.source() {
        Source::Gguf { metadata, .. } => gguf::read(files, metadata)?,
        Source::HuggingFace { config } => hugging_face::read(files, config)?,
        Source::Llama2c { header } => Hyperparameters::of_llama2c(header),
    };
    hyperparameters.check(files.path())?;
    let config = hyperparameters.config();
    check::tensors(files, &config, hyperparameters.architecture)?;
    Ok((hyperparameters, config))
}
