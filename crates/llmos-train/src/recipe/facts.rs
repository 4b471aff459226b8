//! What a recipe is resolved against: the text, the machine, its memory.

use super::ladder;
use crate::data::{Dataset, Split};
use crate::plan::Pilot;

/// What is known about the text and the machine; whatever is not stays a gap that is filled by habit.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// What is learnt from.
    pub text: Option<Text>,
    /// What the machine does.
    pub speed: Option<Speed>,
    /// Memory that the run may take, in bytes.
    pub memory_bytes: Option<u64>,
}

/// A text, the held-out part aside.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Text {
    /// Its bytes.
    pub bytes: u64,
    /// Its tokens; none before it is tokenised.
    pub tokens: Option<u64>,
    /// Tokens of the part that is held out.
    pub held_out_tokens: Option<u64>,
    /// Ids of its tokenizer; none before there is one.
    pub vocab_size: Option<usize>,
    /// How hard it is; none before that is tried.
    pub pilot: Option<Pilot>,
}

impl From<&Dataset> for Text {
    fn from(dataset: &Dataset) -> Text {
        Text {
            bytes: dataset.n_byte(Split::Train),
            tokens: Some(dataset.n_token(Split::Train)),
            held_out_tokens: Some(dataset.n_token(Split::Validation)),
            vocab_size: Some(dataset.vocab_size()),
            pilot: None,
        }
    }
}

impl Text {
    /// Its tokens, or how many there are likely to be with a vocabulary of this size.
    pub fn likely_tokens(&self, vocab_size: usize) -> u64 {
        let likely = || (self.bytes as f64 / ladder::bytes_per_token(vocab_size)) as u64;
        self.tokens.unwrap_or_else(likely)
    }
}

/// What the machine does in a run.
#[derive(Clone, Debug, PartialEq)]
pub struct Speed {
    /// Model FLOPs a second in whole training steps (see [`crate::plan::Flops::training`]).
    pub flops_per_s: f64,
    /// Seconds before the first step.
    pub startup_seconds: f64,
    /// Where this comes from, for people: what was measured, or that it is a guess.
    pub source: String,
}
