//! Generation for one caller: prompt in, tokens out, one at a time.

use std::ops::ControlFlow;

use super::sequence::SequenceId;
use super::speculation::Drafter;
use super::{Engine, SequenceOptions};
use crate::Error;
use crate::grammar::Grammar;
use crate::sampler::Sampler;

/// How to generate, beside the sampler.
#[derive(Default)]
pub struct GenerateOptions<'a> {
    /// Most tokens to draw; none is as many as fit.
    pub tokens: Option<usize>,
    /// A drawn token that ends the text; it is not given to the caller.
    pub end: &'a [u32],
    /// What the text must look like.
    pub grammar: Option<&'a mut Grammar>,
    /// Guesses tokens ahead: fewer passes through the model, the same tokens.
    pub drafter: Option<&'a mut dyn Drafter>,
    /// Most tokens to guess at once; 0 with a drafter is 8.
    pub draft_tokens: usize,
    /// The sequence's owner, salt, priority and flag.
    pub sequence: SequenceOptions,
}

/// Guesses at once, where the caller does not say.
const DRAFT_TOKENS: usize = 8;

/// Why a text ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// An end token was drawn.
    End(u32),
    /// As many tokens as were asked for.
    Tokens,
    /// The context is full.
    Context,
    /// The grammar allows nothing more.
    Grammar,
    /// The caller broke off.
    Caller,
}

/// What a generation was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Generated {
    /// The tokens drawn, without the end token.
    pub tokens: Vec<u32>,
    /// Why it ended.
    pub ending: Ending,
    /// Guesses that were made, and of those the ones that came true.
    pub drafted: usize,
    /// Guesses that came true.
    pub accepted: usize,
}

impl Engine {
    /// Draws tokens after `prompt` until something ends the text. `each` sees every token as it is
    /// drawn. The sequence is removed afterwards; its blocks stay findable.
    ///
    /// # Errors
    /// As [`Engine::add`], [`Engine::step_with`], [`Sampler::sample`] and [`Grammar::mask`].
    pub fn generate(
        &mut self,
        prompt: &[u32],
        sampler: &mut Sampler,
        mut options: GenerateOptions<'_>,
        each: &mut dyn FnMut(u32) -> ControlFlow<()>,
    ) -> Result<Generated, Error> {
        let mut sequence = std::mem::take(&mut options.sequence);
        // What is known to stay short keeps the rotary angles of short contexts.
        let length = options.tokens.map(|tokens| prompt.len().saturating_add(tokens));
        sequence.length = sequence.length.or(length.map(|length| length.min(self.context)));
        let id = self.add(prompt, sequence)?;
        let result = self.go_on(id, sampler, &mut options, each);
        self.remove(id)?;
        result
    }

    /// As [`Engine::generate`], from where a sequence stands; it holds the drawn tokens afterwards,
    /// the last of them perhaps not yet through the model. An end token is not added.
    ///
    /// # Errors
    /// As [`Engine::generate`].
    pub fn go_on(
        &mut self,
        id: SequenceId,
        sampler: &mut Sampler,
        options: &mut GenerateOptions<'_>,
        each: &mut dyn FnMut(u32) -> ControlFlow<()>,
    ) -> Result<Generated, Error> {
        let mut generated =
            Generated { tokens: Vec::new(), ending: Ending::Tokens, drafted: 0, accepted: 0 };
        let most = options.tokens.unwrap_or(usize::MAX);
        if most == 0 {
            return Ok(generated);
        }
        self.keep_rows(id, 1)?;
        let mut scratch = Vec::new();
        // The token after which the next logits come.
        let mut last = self.tokens(id)?.len() - 1;
        loop {
            self.advance(id)?;
            // One round draws after each token that is now known to be right.
            let next = loop {
                scratch.clear();
                scratch.extend_from_slice(self.logits_after(id, last)?);
                let history = &self.tokens(id)?[..=last];
                let token = draw(&mut scratch, history, sampler, options.grammar.as_deref_mut())?;
                let (token, ending) = match token {
                    None => (0, Some(Ending::Grammar)),
                    Some(token) if options.end.contains(&token) => {
                        (token, Some(Ending::End(token)))
                    }
                    Some(token) => (token, None),
                };
                if let Some(ending) = ending {
                    generated.ending = ending;
                    self.truncate(id, last + 1)?;
                    return Ok(generated);
                }
                if let Some(grammar) = options.grammar.as_deref_mut() {
                    grammar.commit(token)?;
                }
                generated.tokens.push(token);
                let full = generated.tokens.len() >= most;
                let broken = each(token).is_break();
                let guessed = self.tokens(id)?.get(last + 1) == Some(&token);
                if broken || full {
                    self.truncate(id, last + 1)?;
                    self.append_if_fits(id, token)?;
                    generated.ending = if broken { Ending::Caller } else { Ending::Tokens };
                    return Ok(generated);
                }
                if !guessed {
                    break token;
                }
                generated.accepted += 1;
                last += 1;
            };
            self.truncate(id, last + 1)?;
            if !self.append_if_fits(id, next)? {
                generated.ending = Ending::Context;
                return Ok(generated);
            }
            last += 1;
            let left = most - generated.tokens.len() - 1;
            generated.drafted += self.draft(id, options, left)?;
        }
    }

    /// Steps until the sequence's logits are there; other sequences wait.
    pub(super) fn advance(&mut self, id: SequenceId) -> Result<(), Error> {
        while !self.is_ready(id)? {
            if self.sequence(id)?.is_cancelled() {
                return Err(Error::Cancelled);
            }
            let batch = self.batch;
            self.step_with(&mut |_: &[super::Waiting], _| vec![(id, batch)])?;
        }
        Ok(())
    }

    fn append_if_fits(&mut self, id: SequenceId, token: u32) -> Result<bool, Error> {
        let sequence = self.sequence_mut(id)?;
        let fits = sequence.tokens.len() < sequence.limit;
        if fits {
            sequence.tokens.push(token);
        }
        Ok(fits)
    }

    /// Appends guesses and asks for the logits after each; returns how many.
    fn draft(
        &mut self,
        id: SequenceId,
        options: &mut GenerateOptions<'_>,
        left: usize,
    ) -> Result<usize, Error> {
        let Some(drafter) = options.drafter.as_deref_mut() else { return Ok(0) };
        let wanted = if options.draft_tokens == 0 { DRAFT_TOKENS } else { options.draft_tokens };
        let sequence = self.sequence(id)?;
        let room = sequence.limit - sequence.tokens.len();
        // The whole round must fit one batch.
        let most = wanted.min(room).min(left).min(self.batch - 1);
        let mut guesses = drafter.propose(&sequence.tokens, most)?;
        let vocab_size = self.config().vocab_size;
        let valid = guesses.iter().position(|&token| token as usize >= vocab_size);
        guesses.truncate(valid.unwrap_or(guesses.len()).min(most));
        let sequence = self.sequence_mut(id)?;
        sequence.tokens.extend_from_slice(&guesses);
        sequence.wanted = guesses.len() + 1;
        Ok(guesses.len())
    }
}

/// The next token, none if the grammar is complete.
fn draw(
    logits: &mut [f32],
    history: &[u32],
    sampler: &mut Sampler,
    grammar: Option<&mut Grammar>,
) -> Result<Option<u32>, Error> {
    if let Some(grammar) = grammar {
        if grammar.is_complete() {
            return Ok(None);
        }
        grammar.mask(logits)?;
    }
    sampler.sample(logits, history).map(Some)
}
