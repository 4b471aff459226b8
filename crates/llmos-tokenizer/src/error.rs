//! What can be wrong with a vocabulary, a tokenizer file or a chat template.

/// The crate's one error.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A file or its metadata breaks its own format.
    #[error("{operation}: expected {expected}, got {got}")]
    Malformed {
        /// What was being read.
        operation: &'static str,
        /// What the format asks for.
        expected: String,
        /// What was found.
        got: String,
    },
    /// The file is well formed and names something that this crate does not implement.
    #[error("{operation}: {what} is not supported")]
    Unsupported {
        /// What was being read.
        operation: &'static str,
        /// The name found in the file.
        what: String,
    },
    /// A chat template does not parse, raised an exception, or ran over a limit.
    #[error("chat template: {message}")]
    Template {
        /// The template engine's message, or the template's own.
        message: String,
    },
}

impl Error {
    pub(crate) fn malformed(
        operation: &'static str,
        expected: impl Into<String>,
        got: impl Into<String>,
    ) -> Self {
        Error::Malformed { operation, expected: expected.into(), got: got.into() }
    }

    pub(crate) fn unsupported(operation: &'static str, what: impl Into<String>) -> Self {
        Error::Unsupported { operation, what: what.into() }
    }
}
