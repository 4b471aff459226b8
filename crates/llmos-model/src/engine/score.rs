//! How likely given tokens are.

use std::sync::Mutex;

use super::sequence::SequenceId;
use super::step::{Advance, reserve};
use super::{Engine, SequenceOptions, unknown};
use crate::Error;
use crate::sampler::log_probability;

/// The next tokens of a sequence to go through the model, each with the token that follows it.
struct Part<'a> {
    id: SequenceId,
    /// One a row.
    targets: &'a [u32],
}

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
        let length = Some(tokens.len().min(self.context));
        let id = self.add(given, SequenceOptions { length, ..SequenceOptions::default() })?;
        // Whose text this is, nobody said.
        self.sequence_mut(id)?.shares = false;
        let rows = if stepwise { 1 } else { self.batch };
        let mut index = 0;
        let mut result = Ok(());
        for targets in tokens[1..].chunks(rows) {
            result = self.score_rows(&[Part { id, targets }], &mut |_, score| {
                index += 1;
                each(index, score);
            });
            if result.is_err() {
                break;
            }
        }
        self.remove(id)?;
        result
    }

    /// The natural logarithms of the probabilities of the tokens of each continuation of a sequence,
    /// given all before them. The continuations share the sequence's memory and go through the model
    /// side by side; the sequence stays as it is.
    ///
    /// # Errors
    /// As [`Engine::force`] and [`Engine::step_with`]; [`Error::Cancelled`] if the sequence is
    /// cancelled before its own logits are there.
    pub fn score_continuations(
        &mut self,
        id: SequenceId,
        continuations: &[&[u32]],
    ) -> Result<Vec<Vec<f64>>, Error> {
        let sequence = self.sequence(id)?;
        for continuation in continuations {
            // The last token of each is only predicted.
            let limit = sequence.limit + 1;
            self.check_tokens("score", continuation, sequence.tokens.len(), limit)?;
        }
        self.advance(id)?;
        let logits = self.logits(id)?;
        let first = |continuation: &&[u32]| {
            continuation.first().map(|&token| log_probability(logits, token)).into_iter().collect()
        };
        let mut scores: Vec<Vec<f64>> = continuations.iter().map(first).collect();
        let mut forks: Vec<SequenceId> = Vec::with_capacity(continuations.len());
        let result = self.score_forks(id, continuations, &mut forks, &mut scores);
        for fork in forks {
            self.remove(fork)?;
        }
        result.map(|()| scores)
    }

    /// Goes on with the second and later tokens of each continuation.
    fn score_forks(
        &mut self,
        id: SequenceId,
        continuations: &[&[u32]],
        forks: &mut Vec<SequenceId>,
        scores: &mut [Vec<f64>],
    ) -> Result<(), Error> {
        for continuation in continuations {
            let fork = self.fork(id)?;
            forks.push(fork);
            let given = &continuation[..continuation.len().saturating_sub(1)];
            let sequence = self.sequence_mut(fork)?;
            sequence.tokens.extend_from_slice(given);
            sequence.shares = false;
        }
        loop {
            let mut rows_left = self.batch;
            let mut parts = Vec::new();
            let mut owners = Vec::new();
            for (index, (continuation, &id)) in continuations.iter().zip(forks.iter()).enumerate() {
                // As many as have a score are done.
                let targets = continuation.get(scores[index].len()..).unwrap_or_default();
                let targets = &targets[..targets.len().min(rows_left)];
                if !targets.is_empty() {
                    rows_left -= targets.len();
                    owners.extend(std::iter::repeat_n(index, targets.len()));
                    parts.push(Part { id, targets });
                }
            }
            if parts.is_empty() {
                return Ok(());
            }
            self.score_rows(&parts, &mut |row, score| scores[owners[row]].push(score))?;
        }
    }

    /// Advances each part's sequence by one row a target, and passes each row's score to `each` with
    /// the row's index, in order.
    fn score_rows(
        &mut self,
        parts: &[Part<'_>],
        each: &mut dyn FnMut(usize, f64),
    ) -> Result<(), Error> {
        let mut batch = Vec::with_capacity(parts.len());
        for &Part { id, targets } in parts {
            let rows = targets.len();
            let sequence = self.sequences.get_mut(&id).ok_or(unknown(id))?;
            if reserve(sequence, &mut self.pages, rows) < rows {
                return Err(self.pages.full(1));
            }
            batch.push(Advance { id, rows, wanted: rows });
        }
        self.run(&batch)?;
        let targets: Vec<u32> = parts.iter().flat_map(|part| part.targets).copied().collect();
        let vocab_size = self.config().vocab_size;
        let device = self.device.clone();
        let workspace = &mut self.workspace;
        self.model.logits_by_blocks(&device, workspace, 0..targets.len(), &mut |first, block| {
            let block = &*block;
            let count = block.len() / vocab_size;
            let scores: Vec<Mutex<f64>> = (0..count).map(|_| Mutex::new(f64::NAN)).collect();
            device.threads().for_each(count, &|row| {
                let logits = &block[row * vocab_size..][..vocab_size];
                if let Ok(mut score) = scores[row].lock() {
                    *score = log_probability(logits, targets[first + row]);
                }
            });
            for (row, score) in scores.into_iter().enumerate() {
                each(first + row, score.into_inner().unwrap_or(f64::NAN));
            }
        });
        for part in parts {
            let sequence = self.sequences.get_mut(&part.id).ok_or(unknown(part.id))?;
            sequence.computed += part.targets.len();
        }
        Ok(())
    }
}
