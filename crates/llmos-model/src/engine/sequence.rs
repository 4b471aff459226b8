//! A sequence: the memory of one process.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::pages::{BLOCK, Root};
use super::states::States;
use crate::decoder::{Adapter, BlockId};

/// Names a sequence of one engine; never used again for another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SequenceId(pub(super) u64);

impl SequenceId {
    /// The number by which a hook is told of the sequence ([`crate::decoder::Rows`]).
    pub fn number(self) -> u64 {
        self.0
    }
}

/// What a caller says about a sequence. Owner and priority are for the policy alone.
#[derive(Clone, Debug, Default)]
pub struct SequenceOptions {
    /// Whose it is.
    pub owner: u64,
    /// More is sooner.
    pub priority: i32,
    /// Blocks are shared only between sequences of equal salt: give each tenant its own.
    pub salt: u64,
    /// It shares no blocks at all: it finds none, and leaves none to be found.
    pub is_private: bool,
    /// The longest that it may become; none is the engine's context. A model with a second set of
    /// rotary angles for long contexts chooses by this, once.
    pub length: Option<usize>,
    /// What is added to the model's weights for this sequence; none is the engine's own
    /// ([`super::Engine::set_adapter`]). Blocks are shared only between sequences of one adapter.
    pub adapter: Option<Arc<Adapter>>,
    /// Once true, the sequence is not advanced any further.
    pub cancel: Option<Arc<AtomicBool>>,
}

/// What someone noted about a span of tokens. The engine keeps it and never looks at its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Label {
    /// The tokens.
    pub span: Range<usize>,
    /// The note.
    pub value: u64,
}

/// Rows of logits, (rows, V): those of the last tokens.
#[derive(Clone, Default)]
pub(super) struct Rows {
    pub(super) values: Vec<f32>,
    /// The token after which the first row comes.
    pub(super) start: usize,
}

#[derive(Clone)]
pub(super) struct Sequence {
    pub(super) options: SequenceOptions,
    pub(super) tokens: Vec<u32>,
    /// Tokens whose keys and values are in the cache.
    pub(super) computed: usize,
    /// Tokens whose keys and values others had computed.
    pub(super) adopted: usize,
    /// At least the blocks of the computed tokens.
    pub(super) blocks: Vec<BlockId>,
    /// The nodes of the full blocks that are published, from the first on.
    pub(super) nodes: Vec<u64>,
    pub(super) labels: Vec<Label>,
    /// Rows of logits to keep, counted from the end.
    pub(super) wanted: usize,
    pub(super) rows: Rows,
    /// What is kept of the final states in place of logits.
    pub(super) states: Option<States>,
    pub(super) paused: bool,
    /// May publish its blocks: they are a function of the tokens alone.
    pub(super) shares: bool,
    pub(super) root: Root,
    pub(super) limit: usize,
}

impl Sequence {
    pub(super) fn is_cancelled(&self) -> bool {
        self.options.cancel.as_ref().is_some_and(|flag| flag.load(Ordering::Relaxed))
    }

    /// Tokens that have to go through the model before logits can be had; one where only the logits
    /// are missing.
    pub(super) fn pending(&self, vocab_size: usize) -> usize {
        let pending = self.tokens.len() - self.computed;
        if pending == 0 && !self.is_ready(vocab_size) { 1 } else { pending }
    }

    /// True if the logits after the last token are there.
    pub(super) fn is_ready(&self, vocab_size: usize) -> bool {
        if let Some(states) = &self.states {
            return states.count() == self.tokens.len();
        }
        self.computed == self.tokens.len()
            && self.rows.start + self.rows.values.len() / vocab_size == self.tokens.len()
            && !self.rows.values.is_empty()
    }

    /// The rows of logits after token `index`, if kept.
    pub(super) fn row(&self, index: usize, vocab_size: usize) -> Option<&[f32]> {
        let row = index.checked_sub(self.rows.start)?;
        self.rows.values.chunks_exact(vocab_size).nth(row)
    }

    /// Forgets all after `length` tokens; returns the blocks that it no longer needs, last first.
    pub(super) fn truncate(&mut self, length: usize, vocab_size: usize) -> Vec<BlockId> {
        self.tokens.truncate(length);
        self.computed = self.computed.min(length);
        self.adopted = self.adopted.min(length);
        self.nodes.truncate(self.computed / BLOCK);
        let rows = length.saturating_sub(self.rows.start);
        self.rows.values.truncate(rows * vocab_size);
        self.states = None;
        self.labels.retain_mut(|label| {
            label.span.end = label.span.end.min(length);
            !label.span.is_empty()
        });
        let kept = self.computed.div_ceil(BLOCK).min(self.blocks.len());
        self.blocks.drain(kept..).rev().collect()
    }
}
