//! Final states in place of logits: what a text as a whole is to the model, as an embedding.

use super::{Engine, SequenceId};
use crate::Error;

/// What is kept of the final states of a sequence's tokens: normed, as the head reads them.
#[derive(Clone, Debug)]
pub struct States {
    /// Their sum in order of the tokens, (C), in double precision.
    sum: Vec<f64>,
    /// The state of the last token, (C).
    last: Vec<f32>,
    count: usize,
}

impl States {
    fn new(d_model: usize) -> States {
        States { sum: vec![0.0; d_model], last: vec![0.0; d_model], count: 0 }
    }

    /// Adds the states (T, C) of the next tokens.
    pub(super) fn add(&mut self, states: &[f32]) {
        for state in states.chunks_exact(self.last.len()) {
            self.sum.iter_mut().zip(state).for_each(|(sum, &x)| *sum += f64::from(x));
            self.last.copy_from_slice(state);
            self.count += 1;
        }
    }

    /// Tokens whose states were added.
    pub fn count(&self) -> usize {
        self.count
    }

    /// The mean of all states, (C).
    pub fn mean(&self) -> Vec<f32> {
        let count = self.count.max(1) as f64;
        self.sum.iter().map(|sum| (sum / count) as f32).collect()
    }

    /// The state of the last token, (C).
    pub fn last(&self) -> &[f32] {
        &self.last
    }
}

impl Engine {
    /// Keeps the final states of a sequence's tokens in place of its logits. It is ready once all of
    /// its tokens have gone through the model; none is taken over from others, since what lies in the
    /// cache are keys and values alone.
    ///
    /// # Errors
    /// [`Error::Request`] for an unknown sequence, or one that has gone through the model in part.
    pub fn keep_states(&mut self, id: SequenceId) -> Result<(), Error> {
        let (d_model, context) = (self.config().d_model, self.context());
        let sequence = self.sequence_mut(id)?;
        if sequence.computed > 0 {
            let got = format!("{} tokens in", sequence.computed);
            return Err(Error::request("keep states", "a sequence at its beginning", got));
        }
        sequence.wanted = context;
        sequence.states = Some(States::new(d_model));
        Ok(())
    }

    /// The final states of a sequence that is ready.
    ///
    /// # Errors
    /// [`Error::Request`] for an unknown sequence, one whose states are not kept, or one with tokens
    /// still to go through the model.
    pub fn states(&self, id: SequenceId) -> Result<&States, Error> {
        let sequence = self.sequence(id)?;
        let whole = |states: &&States| states.count == sequence.tokens.len();
        sequence.states.as_ref().filter(whole).ok_or_else(|| {
            let expected = "a sequence whose states are kept, and that is ready";
            Error::request("states", expected, format!("{} tokens in", sequence.computed))
        })
    }
}
