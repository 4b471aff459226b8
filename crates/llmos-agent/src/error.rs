//! What can be wrong with a conversation.

/// The crate's one error.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A message is not one, or stands where it cannot.
    #[error("message {number} {problem}")]
    Message {
        /// From 1.
        number: usize,
        /// What is wrong with it.
        problem: String,
    },
    /// There is nothing to answer.
    #[error("there is no message to answer")]
    NoMessage,
    /// The template refuses the conversation, or cannot be run.
    #[error(transparent)]
    Template(#[from] llmos_tokenizer::Error),
    /// The conversation leaves no room for an answer.
    #[error("the conversation has {tokens} tokens, and the context holds {context}")]
    TooLong {
        /// Tokens of the prompt.
        tokens: usize,
        /// Those of the context.
        context: usize,
    },
    /// The engine's.
    #[error(transparent)]
    Model(#[from] llmos_model::Error),
}
