//! What can go wrong, with what was expected and what was found.

/// An error of this crate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The model refused what it was given.
    #[error(transparent)]
    Model(#[from] llmos_model::Error),
    /// A file of rows does not hold any.
    #[error("{name}, line {line}: {problem}")]
    Rows {
        /// Which file.
        name: String,
        /// From 1.
        line: usize,
        /// What is wrong with the line.
        problem: String,
    },
    /// A setting that cannot be.
    #[error("{key}: expected {expected}, got {got}")]
    Setting {
        /// What it is called.
        key: &'static str,
        /// What it may be.
        expected: String,
        /// What it is.
        got: String,
    },
    /// A probability that is none: the weights are damaged.
    #[error("a probability is not a number")]
    NotANumber,
    /// Whoever answers could not.
    #[error("answer {id}: {problem}")]
    Answer {
        /// Which row.
        id: String,
        /// What happened.
        problem: String,
    },
}
