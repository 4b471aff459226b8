//! How Hugging Face's files of an architecture differ from GGUF's, for whoever writes or trains one.

use super::Architecture;
use crate::Config;
use crate::file::{from_hugging_face, to_hugging_face};

/// An architecture's way of writing a model down in a Hugging Face folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dialect(Architecture);

impl Dialect {
    /// The way of a decoder that runs; that of Llama for a name that is none.
    pub fn of(config: &Config) -> Dialect {
        let named =
            |architecture: &&Architecture| architecture.name() == config.architecture.as_str();
        Dialect(Architecture::ALL.iter().find(named).copied().unwrap_or(Architecture::Llama))
    }

    /// The Hugging Face name of a tensor that GGUF calls `name`; none for what has none there.
    pub fn name(self, name: &str) -> Option<String> {
        to_hugging_face(self.0, false, name)
    }

    /// GGUF's name of a tensor that Hugging Face's files call `name`; none for what is not one
    /// tensor of a text model.
    pub fn gguf_name(self, name: &str) -> Option<String> {
        from_hugging_face(self.0, name).and_then(|meaning| meaning.whole())
    }

    /// A folder holds norm weights less one; GGUF's files, and [`crate::ModelFiles`], have them whole.
    pub fn norms_are_offsets(self) -> bool {
        self.0.norms_are_offsets()
    }

    /// Query, key and value are one matrix, gate and up another.
    pub fn is_fused(self) -> bool {
        self.0.fused()
    }
}
