//! The engine: sequences that share one model, one cache and one batch.
//!
//! A sequence is a process's memory: it has an owner, a priority and a page table; it can be forked,
//! paused between two tokens, cut back, written out and read in again, with the same logits to the
//! bit. Tokens enter by [`Engine::force`], drawn or given. A [`Policy`] decides step by step who
//! advances.

mod generate;
mod image;
mod lens;
mod observe;
mod pages;
mod policy;
mod score;
mod sequence;
mod speculation;
mod states;
mod step;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use llmos_tensor::{CacheType, Device};

use crate::decoder::{Adapter, CacheLayout, Hook, Model, Workspace};
use crate::{Config, Error};
pub use generate::{Ending, GenerateOptions, Generated};
pub use lens::{Likely, Sight, View};
use pages::{BLOCK, Pages, Root};
pub use policy::{Capacity, DecodeFirst, Policy, Waiting};
pub use sequence::{Label, SequenceId, SequenceOptions};
use sequence::{Rows, Sequence};
pub use speculation::{Drafter, ModelDrafter, NgramDrafter};
pub use states::States;
pub use step::Event;

/// What an engine may use.
#[derive(Clone, Debug)]
pub struct EngineOptions {
    /// The longest context of a sequence; none is the model's.
    pub context: Option<usize>,
    /// Bytes for keys and values; none is enough for one sequence of the longest context.
    pub cache_bytes: Option<usize>,
    /// How keys and values are stored.
    pub cache_type: CacheType,
    /// Rows of a batch: a longer prompt goes in several steps.
    pub prefill_chunk: usize,
}

impl Default for EngineOptions {
    fn default() -> EngineOptions {
        EngineOptions {
            context: None,
            cache_bytes: None,
            cache_type: CacheType::F16,
            prefill_chunk: 256,
        }
    }
}

/// Most rows of a batch: what a workspace may hold.
const MAX_BATCH: usize = 8192;

/// Runs sequences of one model.
pub struct Engine {
    model: Arc<Model>,
    device: Arc<Device>,
    context: usize,
    batch: usize,
    pages: Pages,
    sequences: BTreeMap<SequenceId, Sequence>,
    next_id: u64,
    workspace: Workspace,
    hook: Option<Box<dyn Hook + Send>>,
    /// What sequences that do not say have.
    adapter: Option<Arc<Adapter>>,
    /// Those that sequences which are read in again may have.
    known: Vec<Arc<Adapter>>,
    stop: Arc<AtomicBool>,
}

impl Engine {
    /// An engine without sequences. Cache memory is taken from the system as it is first needed.
    ///
    /// # Errors
    /// [`Error::Request`] for a context longer than the model's, or a budget below one block.
    pub fn new(
        model: Arc<Model>,
        device: Arc<Device>,
        options: EngineOptions,
    ) -> Result<Engine, Error> {
        let most = model.config().context_length;
        let context = options.context.unwrap_or(most);
        if context == 0 || context > most {
            let expected = format!("a context of 1 to {most} tokens, what the model was made for");
            return Err(Error::request("engine", expected, context));
        }
        if options.prefill_chunk == 0 || options.prefill_chunk > MAX_BATCH {
            let expected = format!("1 to {MAX_BATCH} rows a batch");
            return Err(Error::request("batch", expected, options.prefill_chunk));
        }
        let layout = CacheLayout::new(model.config(), options.cache_type);
        let limit = match options.cache_bytes {
            Some(bytes) => bytes / layout.block_bytes(),
            // One more, so that a sequence at its longest can still be written after a fork.
            None => context.div_ceil(BLOCK) + 1,
        };
        if limit == 0 {
            return Err(Error::request(
                "cache",
                format!("a cache of at least {} bytes, one block", layout.block_bytes()),
                options.cache_bytes.unwrap_or(0),
            ));
        }
        // Block ids are 32 bits wide.
        let limit = limit.min(u32::MAX as usize - 1);
        Ok(Engine {
            model,
            device,
            context,
            batch: options.prefill_chunk,
            pages: Pages::new(layout, limit),
            sequences: BTreeMap::new(),
            next_id: 0,
            workspace: Workspace::default(),
            hook: None,
            adapter: None,
            known: Vec::new(),
            stop: Arc::new(AtomicBool::new(false)),
        })
    }

    /// The model.
    pub fn model(&self) -> &Arc<Model> {
        &self.model
    }

    /// The model's description.
    pub fn config(&self) -> &Config {
        self.model.config()
    }

    /// The longest context of a sequence.
    pub fn context(&self) -> usize {
        self.context
    }

    /// Bytes that the keys and values of `tokens` tokens take, in whole blocks.
    pub fn cache_bytes(&self, tokens: usize) -> usize {
        tokens.div_ceil(BLOCK) * self.pages.blocks().layout().block_bytes()
    }

    /// Cache blocks: those that can be had now, and those of the budget.
    pub fn blocks(&self) -> (usize, usize) {
        (self.pages.available(), self.pages.limit())
    }

    /// A flag that stops all work at the next layer; the step then fails with
    /// [`Error::Cancelled`], and everything is as it was before it. Lower it to go on.
    pub fn stop_flag(&self) -> Arc<AtomicBool> {
        self.stop.clone()
    }

    /// Sees, and may change, what flows through the layers from now on. Blocks computed under a hook
    /// are not shared.
    pub fn set_hook(&mut self, hook: Option<Box<dyn Hook + Send>>) -> Option<Box<dyn Hook + Send>> {
        std::mem::replace(&mut self.hook, hook)
    }

    /// The adapter that sequences have which are added from now on without one of their own.
    ///
    /// # Errors
    /// [`Error::Request`] for another model's.
    pub fn set_adapter(&mut self, adapter: Option<Arc<Adapter>>) -> Result<(), Error> {
        adapter.iter().try_for_each(|adapter| self.check_adapter(adapter))?;
        self.adapter = adapter;
        Ok(())
    }

    /// An adapter that a sequence may have: one that was written out with it can be read in again
    /// whoever else has it.
    ///
    /// # Errors
    /// [`Error::Request`] for another model's.
    pub fn introduce(&mut self, adapter: Arc<Adapter>) -> Result<(), Error> {
        self.check_adapter(&adapter)?;
        self.known.push(adapter);
        Ok(())
    }

    fn check_adapter(&self, adapter: &Adapter) -> Result<(), Error> {
        let (expected, got) = (self.model.fingerprint(), adapter.model());
        if expected == got {
            return Ok(());
        }
        let expected = format!("one that was opened for this model, {expected:08x}");
        Err(Error::request("adapter", expected, format!("one for {got:08x}")))
    }

    /// A new sequence that begins with `tokens`.
    ///
    /// # Errors
    /// [`Error::Request`] without a token, for a token outside the vocabulary, for more tokens than the
    /// context, or for another model's adapter.
    pub fn add(
        &mut self,
        tokens: &[u32],
        mut options: SequenceOptions,
    ) -> Result<SequenceId, Error> {
        options.adapter = options.adapter.or_else(|| self.adapter.clone());
        if let Some(adapter) = &options.adapter {
            self.check_adapter(adapter)?;
        }
        let limit = options.length.unwrap_or(self.context);
        if limit > self.context {
            let expected = format!("a length of at most the context, {} tokens", self.context);
            return Err(Error::request("add sequence", expected, limit));
        }
        if tokens.is_empty() {
            return Err(Error::request("add sequence", "at least one token", "none"));
        }
        self.check_tokens("add sequence", tokens, 0, limit)?;
        let root = Root {
            salt: options.salt,
            adapter: options.adapter.as_ref().map_or(0, |adapter| adapter.fingerprint()),
            long: crate::decoder::is_long(self.config(), limit),
        };
        let shares = !options.is_private;
        let sequence = Sequence {
            options,
            tokens: tokens.to_vec(),
            computed: 0,
            adopted: 0,
            blocks: Vec::new(),
            nodes: Vec::new(),
            labels: Vec::new(),
            wanted: 1,
            rows: Rows::default(),
            states: None,
            paused: false,
            shares,
            root,
            limit,
        };
        Ok(self.insert(sequence))
    }

    fn insert(&mut self, sequence: Sequence) -> SequenceId {
        let id = SequenceId(self.next_id);
        self.next_id += 1;
        self.sequences.insert(id, sequence);
        id
    }

    fn check_tokens(
        &self,
        operation: &'static str,
        tokens: &[u32],
        before: usize,
        limit: usize,
    ) -> Result<(), Error> {
        let vocab_size = self.config().vocab_size;
        if let Some(token) = tokens.iter().find(|&&token| token as usize >= vocab_size) {
            let expected = format!("token ids below {vocab_size}");
            return Err(Error::request("vocabulary", expected, token));
        }
        if tokens.len() > limit.saturating_sub(before) {
            let expected = format!("at most {limit} tokens of context");
            return Err(Error::request(operation, expected, before + tokens.len()));
        }
        Ok(())
    }

    fn sequence(&self, id: SequenceId) -> Result<&Sequence, Error> {
        self.sequences.get(&id).ok_or_else(|| unknown(id))
    }

    fn sequence_mut(&mut self, id: SequenceId) -> Result<&mut Sequence, Error> {
        self.sequences.get_mut(&id).ok_or_else(|| unknown(id))
    }

    /// All sequences, in order of arrival.
    pub fn sequences(&self) -> impl Iterator<Item = SequenceId> {
        self.sequences.keys().copied()
    }

    /// Appends tokens, drawn or given; they go through the model in the next steps.
    ///
    /// # Errors
    /// [`Error::Request`] for an unknown sequence, a token outside the vocabulary, or more tokens
    /// than its length.
    pub fn force(&mut self, id: SequenceId, tokens: &[u32]) -> Result<(), Error> {
        let sequence = self.sequence(id)?;
        self.check_tokens("force tokens", tokens, sequence.tokens.len(), sequence.limit)?;
        self.sequence_mut(id)?.tokens.extend_from_slice(tokens);
        Ok(())
    }

    /// Cuts a sequence back to its first `length` tokens.
    ///
    /// # Errors
    /// [`Error::Request`] for an unknown sequence, or a length of 0 or beyond its tokens.
    pub fn truncate(&mut self, id: SequenceId, length: usize) -> Result<(), Error> {
        let vocab_size = self.config().vocab_size;
        let sequence = self.sequence_mut(id)?;
        let tokens = sequence.tokens.len();
        if length == 0 || length > tokens {
            let expected = format!("a length of 1 to {tokens}");
            return Err(Error::request("truncate sequence", expected, length));
        }
        let blocks = sequence.truncate(length, vocab_size);
        blocks.into_iter().for_each(|block| self.pages.release(block));
        Ok(())
    }

    /// A second sequence with the same past; no memory is copied before one of them writes.
    ///
    /// # Errors
    /// [`Error::Request`] for an unknown sequence.
    pub fn fork(&mut self, id: SequenceId) -> Result<SequenceId, Error> {
        let copy = self.sequence(id)?.clone();
        copy.blocks.iter().for_each(|&block| self.pages.retain(block));
        Ok(self.insert(copy))
    }

    /// Ends a sequence. Its full blocks can still be found by others until their memory is needed.
    ///
    /// # Errors
    /// [`Error::Request`] for an unknown sequence.
    pub fn remove(&mut self, id: SequenceId) -> Result<(), Error> {
        let sequence = self.sequences.remove(&id).ok_or_else(|| unknown(id))?;
        sequence.blocks.into_iter().rev().for_each(|block| self.pages.release(block));
        Ok(())
    }

    /// Forgets the blocks of sequences that ended.
    pub fn forget_prefixes(&mut self) {
        self.pages.forget_idle();
    }

    /// Forgets the blocks of all sequences of a salt. Those that still run go on, share nothing any
    /// more, and leave nothing to be found.
    pub fn forget_salt(&mut self, salt: u64) {
        for sequence in self.sequences.values_mut().filter(|one| one.root.salt == salt) {
            sequence.shares = false;
        }
        self.pages.forget_salt(salt);
    }

    /// While paused a sequence is not offered to the policy.
    ///
    /// # Errors
    /// [`Error::Request`] for an unknown sequence.
    pub fn set_paused(&mut self, id: SequenceId, paused: bool) -> Result<(), Error> {
        self.sequence_mut(id)?.paused = paused;
        Ok(())
    }

    /// Changes what the policy goes by.
    ///
    /// # Errors
    /// [`Error::Request`] for an unknown sequence.
    pub fn set_priority(&mut self, id: SequenceId, priority: i32) -> Result<(), Error> {
        self.sequence_mut(id)?.options.priority = priority;
        Ok(())
    }

    /// Notes something about a span of a sequence's tokens.
    ///
    /// # Errors
    /// [`Error::Request`] for an unknown sequence or a span outside of it.
    pub fn label(&mut self, id: SequenceId, label: Label) -> Result<(), Error> {
        let sequence = self.sequence_mut(id)?;
        if label.span.is_empty() || label.span.end > sequence.tokens.len() {
            let expected = format!("a span within {} tokens", sequence.tokens.len());
            return Err(Error::request("label", expected, format!("{:?}", label.span)));
        }
        sequence.labels.push(label);
        Ok(())
    }

    /// The notes on a sequence, in the order that they were made.
    ///
    /// # Errors
    /// [`Error::Request`] for an unknown sequence.
    pub fn labels(&self, id: SequenceId) -> Result<&[Label], Error> {
        Ok(&self.sequence(id)?.labels)
    }

    /// The tokens of a sequence.
    ///
    /// # Errors
    /// [`Error::Request`] for an unknown sequence.
    pub fn tokens(&self, id: SequenceId) -> Result<&[u32], Error> {
        Ok(&self.sequence(id)?.tokens)
    }

    /// Tokens of a sequence whose keys and values were found in the cache, computed by others.
    ///
    /// # Errors
    /// [`Error::Request`] for an unknown sequence.
    pub fn adopted(&self, id: SequenceId) -> Result<usize, Error> {
        Ok(self.sequence(id)?.adopted)
    }

    /// Asks for the logits after each of the last `rows` tokens, from the next step on; 1 at first.
    ///
    /// # Errors
    /// [`Error::Request`] for an unknown sequence, or no rows.
    pub fn keep_rows(&mut self, id: SequenceId, rows: usize) -> Result<(), Error> {
        if rows == 0 {
            return Err(Error::request("keep rows", "at least one", rows));
        }
        self.sequence_mut(id)?.wanted = rows;
        Ok(())
    }

    /// True if the logits after the last token are there.
    ///
    /// # Errors
    /// [`Error::Request`] for an unknown sequence.
    pub fn is_ready(&self, id: SequenceId) -> Result<bool, Error> {
        Ok(self.sequence(id)?.is_ready(self.config().vocab_size))
    }

    /// The logits (V) after the last token.
    ///
    /// # Errors
    /// [`Error::Request`] for an unknown sequence, or one with tokens still to go through the model.
    pub fn logits(&self, id: SequenceId) -> Result<&[f32], Error> {
        self.logits_after(id, self.sequence(id)?.tokens.len() - 1)
    }

    /// The logits (V) after token `index`, if it is among those that were kept.
    ///
    /// # Errors
    /// [`Error::Request`] if it is not.
    pub fn logits_after(&self, id: SequenceId, index: usize) -> Result<&[f32], Error> {
        let row = self.sequence(id)?.row(index, self.config().vocab_size);
        row.ok_or_else(|| {
            Error::request("logits", "a token that has gone through the model", index)
        })
    }
}

fn unknown(id: SequenceId) -> Error {
    Error::request("sequence", "a sequence of this engine", id.0)
}

#[cfg(test)]
mod tests;
