//! The one error type of this crate.

use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What can go wrong with a model and its file.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The operating system refused.
    #[error("{operation} {}: {source}", path.display())]
    Io {
        /// What was being done: `open`, `map`, `write`.
        operation: &'static str,
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// A file is not what its format says it must be: truncated, lying or damaged.
    #[error("{}: {field}: expected {expected}, got {got}", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// The part of the file: a key, a tensor's name, a header field.
        field: String,
        /// What the format asks for.
        expected: String,
        /// What the file holds.
        got: String,
    },
    /// A sound file that asks for something which is not implemented.
    #[error("{}: {what} is not supported; supported: {supported}", path.display())]
    Unsupported {
        /// The file.
        path: PathBuf,
        /// What it asks for.
        what: String,
        /// What would work.
        supported: String,
    },
    /// A tensor that the model cannot run without.
    #[error("{}: no tensor {name:?}", path.display())]
    MissingTensor {
        /// The file.
        path: PathBuf,
        /// Its name, as GGUF spells it.
        name: String,
    },
    /// The file was opened, but it does not describe a model that can run.
    #[error("{0}")]
    NoModel(Arc<Error>),
    /// A caller asked for what cannot be given.
    #[error("{operation}: expected {expected}, got {got}")]
    Request {
        /// What was asked for.
        operation: &'static str,
        /// What can be given.
        expected: String,
        /// What was asked.
        got: String,
    },
    /// The stated budget of the KV cache is used up.
    #[error(
        "the KV cache is full: {needed} more blocks of {block_bytes} bytes needed, {free} of {total} free"
    )]
    CacheFull {
        /// Blocks that the step needs.
        needed: usize,
        /// Blocks that it could have.
        free: usize,
        /// Blocks within the budget.
        total: usize,
        /// Bytes of a block, the pages of all layers together.
        block_bytes: usize,
    },
    /// A flag asked the work to stop.
    #[error("cancelled")]
    Cancelled,
    /// A sequence's image could not be written or read.
    #[error("{operation}: {source}")]
    Stream {
        /// What was being done: `page out`, `page in`.
        operation: &'static str,
        /// The stream's reason.
        source: std::io::Error,
    },
    /// A grammar that cannot be compiled, or that went beyond its limits.
    #[error("grammar: {0}")]
    Grammar(String),
    /// Numbers of the wrong length or shape.
    #[error(transparent)]
    Numbers(#[from] llmos_tensor::Error),
}

impl Error {
    /// An [`Error::Request`].
    pub(crate) fn request(
        operation: &'static str,
        expected: impl Into<String>,
        got: impl ToString,
    ) -> Error {
        Error::Request { operation, expected: expected.into(), got: got.to_string() }
    }

    /// An [`Error::Io`].
    pub(crate) fn io(operation: &'static str, path: &Path, source: std::io::Error) -> Error {
        Error::Io { operation, path: path.to_owned(), source }
    }

    /// An [`Error::Format`].
    pub(crate) fn format(
        path: &Path,
        field: impl Into<String>,
        expected: impl Into<String>,
        got: impl ToString,
    ) -> Error {
        Error::Format {
            path: path.to_owned(),
            field: field.into(),
            expected: expected.into(),
            got: got.to_string(),
        }
    }

    /// An [`Error::Unsupported`].
    pub(crate) fn unsupported(
        path: &Path,
        what: impl Into<String>,
        supported: impl Into<String>,
    ) -> Error {
        Error::Unsupported { path: path.to_owned(), what: what.into(), supported: supported.into() }
    }
}
