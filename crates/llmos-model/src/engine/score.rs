//! How likely given tokens are.

use std::sync::Mutex;

use super::sequence::SequenceId;
use super::step::{Advance, publish};
use super::{Engine, SequenceOptions, unknown};
use crate::Error;
use crate::sampler::log_probability;

impl Engine {
    /// The natural logarithm of the probability of each token after the first, given all before it,
    /// passed to `each` as `(index, log probability)` in order. However long the text, only some rows
    /// of logits exist at a time.
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
        let Some((last, given)) = tokens.split_last() else {
            return Err(Error::request("score", "at least one token", "none"));
        };
        // The last token is only predicted, so a text may be one longer than the context.
        self.check_tokens("score", &[*last], 0, 1)?;
        if given.is_empty() {
            return Ok(());
        }
        let id = self.add(given, SequenceOptions::default())?;
        let rows = if stepwise { 1 } else { self.batch };
        let mut result = Ok(());
        for start in (0..given.len()).step_by(rows) {
            let end = (start + rows).min(given.len());
            result = self.score_rows(id, &tokens[start + 1..=end], start, each);
            if result.is_err() {
                break;
            }
        }
        self.remove(id)?;
        result
    }

    /// Advances a sequence by one row a target, each target the token that follows the row's.
    fn score_rows(
        &mut self,
        id: SequenceId,
        targets: &[u32],
        start: usize,
        each: &mut dyn FnMut(usize, f64),
    ) -> Result<(), Error> {
        let vocab_size = self.config().vocab_size;
        let sequence = self.sequence_mut(id)?;
        // All rows are wanted, so none may be taken over from others.
        sequence.wanted = sequence.tokens.len();
        let rows = targets.len();
        let granted = super::step::reserve(sequence_of(&mut self.sequences, id)?, &mut self.pages, rows);
        if granted < rows {
            return Err(self.pages.full(1));
        }
        self.run(&[Advance { id, rows, wanted: rows }])?;
        let device = self.device.clone();
        let mut scores = Vec::with_capacity(rows);
        self.model.logits_by_blocks(&device, &mut self.workspace, 0..rows, &mut |first, block| {
            let block = &*block;
            let count = block.len() / vocab_size;
            let results: Vec<Mutex<f64>> = (0..count).map(|_| Mutex::new(f64::NAN)).collect();
            device.threads().for_each(count, &|row| {
                let logits = &block[row * vocab_size..][..vocab_size];
                if let Ok(mut result) = results[row].lock() {
                    *result = log_probability(logits, targets[first + row]);
                }
            });
            scores.extend(results.into_iter().filter_map(|result| result.into_inner().ok()));
        });
        let sequence = sequence_of(&mut self.sequences, id)?;
        sequence.computed += rows;
        sequence.shares &= self.hook.is_none();
        publish(sequence, &mut self.pages);
        for (row, score) in scores.into_iter().enumerate() {
            each(start + row + 1, score);
        }
        Ok(())
    }
}

fn sequence_of(
    sequences: &mut std::collections::BTreeMap<SequenceId, super::Sequence>,
    id: SequenceId,
) -> Result<&mut super::Sequence, Error> {
    sequences.get_mut(&id).ok_or_else(|| unknown(id))
}
