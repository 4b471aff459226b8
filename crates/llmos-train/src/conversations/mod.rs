//! Conversations to learn from: rows of many forms become token ids, of which some are learnt.
//!
//! [`read`](read::read) brings rows of JSONL, JSON and Parquet together, [`Form`] says what they are,
//! [`Learner`] turns each into ids with the model's own template and marks what the assistant wrote,
//! and [`Examples`] deals them out by seed and step. A row that cannot be learnt from is never
//! dropped in silence: it is counted, named and refused, unless whoever asks says otherwise.

mod deal;
mod form;
mod learn;
mod read;
mod turns;

pub use deal::{Deal, Examples};
pub(crate) use deal::{Sequences, lay};
pub use form::{Conversation, Form, liked, pair};
pub use learn::{Example, Learner};
pub use read::{BYTE_ORDER_MARK, Rows, n_byte, read};

/// What is wrong with a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// No token of it would be learnt.
    NothingLearnt,
    /// More tokens than go through the model at once.
    TooLong {
        /// Its tokens.
        tokens: usize,
        /// The most that go.
        most: usize,
    },
    /// Turns that do not make a conversation.
    Broken(String),
    /// There is no template that could write them.
    NoTemplate,
    /// The template refuses them.
    Template(String),
    /// Another form than it was taken to have.
    OtherForm,
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Fault::NothingLearnt => f.write_str("no token of it would be learnt"),
            Fault::TooLong { tokens, most } => {
                write!(f, "{tokens} tokens are too many: the model's context holds {most}")
            }
            Fault::Broken(problem) | Fault::Template(problem) => f.write_str(problem),
            Fault::NoTemplate => f.write_str("the model has no chat template to write it with"),
            Fault::OtherForm => {
                f.write_str("it has another form than --format says, or than the file's first row")
            }
        }
    }
}
