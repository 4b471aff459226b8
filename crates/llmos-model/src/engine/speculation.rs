//! Guessing tokens ahead, so that one pass through the model can confirm several (arXiv 2211.17192).
//!
//! A guess never changes what is drawn: the sampler draws from the model's logits after each token
//! in order, with the same random numbers as without guesses, and a guess is kept where it is what
//! was drawn.

use super::{Engine, EngineOptions, SequenceId, SequenceOptions};
use crate::Error;
use crate::sampler::argmax;

/// Guesses what a sequence goes on with.
pub trait Drafter {
    /// At most `most` tokens that may follow `tokens`.
    ///
    /// # Errors
    /// Those of a drafter's own model.
    fn propose(&mut self, tokens: &[u32], most: usize) -> Result<Vec<u32>, Error>;
}

/// What followed the last time that the sequence ended in the same tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NgramDrafter {
    /// Longest ending to look for.
    pub longest: usize,
    /// Shortest ending to look for.
    pub shortest: usize,
}

impl Default for NgramDrafter {
    fn default() -> NgramDrafter {
        NgramDrafter { longest: 4, shortest: 2 }
    }
}

impl Drafter for NgramDrafter {
    fn propose(&mut self, tokens: &[u32], most: usize) -> Result<Vec<u32>, Error> {
        for length in (self.shortest.max(1)..=self.longest).rev() {
            let Some(start) = tokens.len().checked_sub(length) else { continue };
            let (past, ending) = (&tokens[..tokens.len() - 1], &tokens[start..]);
            if let Some(found) = past.windows(length).rposition(|window| window == ending) {
                let next = &tokens[found + length..];
                return Ok(next[..next.len().min(most)].to_vec());
            }
        }
        Ok(Vec::new())
    }
}

/// A smaller model of the same vocabulary.
pub struct ModelDrafter {
    engine: Engine,
    sequence: Option<SequenceId>,
}

impl ModelDrafter {
    /// Guesses with `engine`'s model, greedily.
    ///
    /// # Errors
    /// [`Error::Request`] if its vocabulary is not of `vocab_size` tokens.
    pub fn new(engine: Engine, vocab_size: usize) -> Result<ModelDrafter, Error> {
        let own = engine.config().vocab_size;
        if own != vocab_size {
            let expected = format!("a vocabulary of {vocab_size} tokens, the model's own");
            return Err(Error::request("draft model", expected, own));
        }
        Ok(ModelDrafter { engine, sequence: None })
    }

    /// As [`ModelDrafter::new`], with an engine made for it.
    ///
    /// # Errors
    /// As [`Engine::new`] and [`ModelDrafter::new`].
    pub fn with_model(
        model: std::sync::Arc<crate::decoder::Model>,
        device: std::sync::Arc<llmos_tensor::Device>,
        context: usize,
        vocab_size: usize,
    ) -> Result<ModelDrafter, Error> {
        let context = context.min(model.config().context_length);
        let options = EngineOptions { context: Some(context), ..EngineOptions::default() };
        ModelDrafter::new(Engine::new(model, device, options)?, vocab_size)
    }
}

impl Drafter for ModelDrafter {
    fn propose(&mut self, tokens: &[u32], most: usize) -> Result<Vec<u32>, Error> {
        let room = self.engine.context().saturating_sub(tokens.len());
        let most = most.min(room);
        if most == 0 {
            return Ok(Vec::new());
        }
        let id = match self.sequence {
            Some(id) => {
                let own = self.engine.tokens(id)?;
                let common = own.iter().zip(tokens).take_while(|(a, b)| a == b).count();
                if common > 0 {
                    self.engine.truncate(id, common)?;
                    self.engine.force(id, &tokens[common..])?;
                    id
                } else {
                    self.engine.remove(id)?;
                    self.engine.add(tokens, SequenceOptions::default())?
                }
            }
            None => self.engine.add(tokens, SequenceOptions::default())?,
        };
        self.sequence = Some(id);
        let mut guesses = Vec::with_capacity(most);
        while guesses.len() < most {
            self.engine.advance(id)?;
            let Some(token) = argmax(self.engine.logits(id)?) else { break };
            guesses.push(token);
            if guesses.len() < most {
                self.engine.force(id, &[token])?;
            }
        }
        Ok(guesses)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_and_latest_ending_is_taken() {
        let check = |tokens: &[u32], most: usize, expected: &[u32]| {
            let guesses = NgramDrafter::default().propose(tokens, most).unwrap();
            assert_eq!(guesses, expected, "{tokens:?}");
        };
        check(&[1, 2, 3, 4, 1, 2], 3, &[3, 4, 1]);
        check(&[1, 2, 3, 1, 2, 4, 1, 2], 2, &[4, 1]);
        // Three tokens tell more than two.
        check(&[9, 1, 2, 5, 1, 2, 6, 9, 1, 2], 1, &[5]);
        check(&[1, 2, 3], 4, &[]);
        check(&[7, 7, 7], 4, &[7]);
    }
}
