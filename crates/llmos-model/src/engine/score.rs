//! How likely given tokens are.

use super::sequence::SequenceId;
use super::{Engine, SequenceOptions};
use crate::Error;
use crate::sampler::log_probability;

impl Engine {
    /// The natural logarithm of the probability of each token after the first, given all before it,
    /// passed to `each` as `(index, log probability)` in order. At most some rows of logits exist at
    /// a time, however long the text.
    ///
    /// With `stepwise` the tokens go through the model one by one, as in decoding.
    ///
    /// # Errors
    /// As [`Engine::add`] and [`Engine::step_with`].
    pub fn score(
        &mut self,
        tokens: &[u32],
        stepwise: bool,
        each: &mut dyn FnMut(usize, f64),
    ) -> Result<(), Error> {
        let Some((&last, given)) = tokens.split_last().filter(|(_, given)| !given.is_empty()) else {
            return if tokens.is_empty() {
                Err(Error::request("score", "at least one token", "none"))
            } else {
                self.check_tokens("score", tokens, 0, self.context)
            };
        };
        self.check_tokens("score", &[last], given.len(), usize::MAX)?;
        // The last token is only predicted, so a text may be one longer than the context.
        let id = self.add(given, SequenceOptions::default())?;
        let result = self.score_sequence(id, tokens, stepwise, each);
        self.remove(id)?;
        result
    }

    fn score_sequence(
        &mut self,
        id: SequenceId,
        tokens: &[u32],
        stepwise: bool,
        each: &mut dyn FnMut(usize, f64),
    ) -> Result<(), Error> {
        let given = tokens.len() - 1;
        let rows = if stepwise { 1 } else { self.batch };
        for start in (0..given).step_by(rows) {
            let end = (start + rows).min(given);
            self.score_rows(id, start..end, &mut |index, logits| {
                (log_probability(logits, tokens[index + 1]), index + 1)
            }, each)?;
        }
        Ok(())
    }
}
