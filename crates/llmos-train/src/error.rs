//! What can go wrong, with the operation, the path, what was expected and what was found.

use std::path::{Path, PathBuf};

/// An error of this crate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file or folder could not be read or written.
    #[error("{operation} {}: {source}", path.display())]
    Io {
        /// What was being done: "read", "write", "list".
        operation: &'static str,
        /// Where.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// A file does not hold what it should.
    #[error("{}: {what}: expected {expected}, got {got}", path.display())]
    Format {
        /// Which file.
        path: PathBuf,
        /// Which part of it.
        what: String,
        /// What belongs there.
        expected: String,
        /// What was there.
        got: String,
    },
    /// A setting that cannot be.
    #[error("{key}: {problem}")]
    Setting {
        /// The recipe's key, such as `model.d_model`.
        key: String,
        /// What is wrong with it, and the nearest value that is not.
        problem: String,
    },
    /// A text that cannot be read as one.
    #[error("{}: {problem}, at byte {offset}", path.display())]
    Text {
        /// Which file.
        path: PathBuf,
        /// Where in it, after decompression.
        offset: u64,
        /// What is wrong there.
        problem: String,
    },
    /// Training does not get anywhere.
    #[error("step {step}: {problem}, after {skipped} batches were left out for the like")]
    Diverged {
        /// Where it was given up.
        step: u64,
        /// What is wrong.
        problem: String,
        /// Batches that were left out before.
        skipped: usize,
    },
    /// A picture could not be drawn.
    #[error("draw a picture: {0}")]
    Drawing(String),
    /// Another process is writing the same folder.
    #[error("{} is being written by another process", path.display())]
    Locked {
        /// Which folder.
        path: PathBuf,
    },
}

impl Error {
    /// Turns the system's reason into an error of this operation on this path.
    pub(crate) fn io(
        operation: &'static str,
        path: impl AsRef<Path>,
    ) -> impl FnOnce(std::io::Error) -> Error {
        move |source| Error::Io { operation, path: path.as_ref().to_path_buf(), source }
    }
}
