//! One batch through the model.

use std::sync::atomic::Ordering;

use super::pages::{BLOCK, Link, Pages};
use super::policy::{Capacity, DecodeFirst, Policy, Waiting};
use super::sequence::{Sequence, SequenceId};
use super::{Engine, unknown};
use crate::Error;
use crate::decoder::{Chunk, Hook, Pass};

/// What happened to a sequence in a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// Its logits are there.
    Ready(SequenceId),
    /// It came nearer to its logits.
    Advanced {
        /// Which.
        sequence: SequenceId,
        /// Tokens in the cache.
        computed: usize,
        /// Tokens in all.
        tokens: usize,
    },
    /// The policy chose it, but the cache has no block for it.
    Stalled(SequenceId),
    /// Its flag asks it to stop; told in each step until it is removed.
    Cancelled(SequenceId),
}

/// A sequence's part of a batch.
pub(super) struct Advance {
    pub(super) id: SequenceId,
    pub(super) rows: usize,
    /// Of those rows, the last for which logits are kept.
    pub(super) wanted: usize,
}

impl Engine {
    /// Advances sequences by one batch, decoding first ([`DecodeFirst`]).
    ///
    /// # Errors
    /// As [`Engine::step_with`].
    pub fn step(&mut self) -> Result<Vec<Event>, Error> {
        self.step_with(&mut DecodeFirst)
    }

    /// Advances the sequences that `policy` chooses by one batch. Without any to advance, nothing
    /// happens.
    ///
    /// # Errors
    /// [`Error::CacheFull`] if no chosen sequence could advance for want of memory;
    /// [`Error::Cancelled`] if the stop flag was raised, or all sequences of the batch were
    /// cancelled. Either way all sequences are as they were.
    pub fn step_with(&mut self, policy: &mut dyn Policy) -> Result<Vec<Event>, Error> {
        let mut events = Vec::new();
        let waiting = self.waiting(&mut events);
        if waiting.is_empty() {
            return Ok(events);
        }
        let capacity = Capacity { rows: self.batch, blocks: self.pages.available() };
        let plan = policy.plan(&waiting, capacity);
        let batch = self.admit(&plan, &waiting, &mut events)?;
        if batch.is_empty() {
            return Ok(events);
        }
        self.run(&batch)?;
        self.keep(&batch)?;
        for advance in &batch {
            let hooked = self.hook.is_some();
            let sequence = self.sequences.get_mut(&advance.id).ok_or(unknown(advance.id))?;
            sequence.computed += advance.rows;
            sequence.shares &= !hooked;
            publish(sequence, &mut self.pages);
            let (computed, tokens) = (sequence.computed, sequence.tokens.len());
            events.push(if computed == tokens {
                Event::Ready(advance.id)
            } else {
                Event::Advanced { sequence: advance.id, computed, tokens }
            });
        }
        Ok(events)
    }

    /// The sequences that could advance.
    fn waiting(&self, events: &mut Vec<Event>) -> Vec<Waiting> {
        let vocab_size = self.config().vocab_size;
        let mut waiting = Vec::new();
        for (&id, sequence) in &self.sequences {
            if sequence.is_cancelled() {
                events.push(Event::Cancelled(id));
                continue;
            }
            let pending = sequence.pending(vocab_size);
            if pending > 0 && !sequence.paused {
                waiting.push(Waiting {
                    sequence: id,
                    owner: sequence.options.owner,
                    priority: sequence.options.priority,
                    computed: sequence.computed,
                    pending,
                    begun: !sequence.rows.values.is_empty(),
                });
            }
        }
        waiting
    }

    /// Gives each chosen sequence its blocks.
    fn admit(
        &mut self,
        plan: &[(SequenceId, usize)],
        waiting: &[Waiting],
        events: &mut Vec<Event>,
    ) -> Result<Vec<Advance>, Error> {
        let mut batch: Vec<Advance> = Vec::new();
        let mut rows_left = self.batch;
        let mut stalled = 0;
        let share = self.hook.is_none();
        for &(id, rows) in plan {
            let chosen = batch.iter().any(|advance| advance.id == id);
            if chosen || rows_left == 0 || !waiting.iter().any(|w| w.sequence == id) {
                continue;
            }
            let sequence = self.sequences.get_mut(&id).ok_or(unknown(id))?;
            if sequence.computed == sequence.tokens.len() {
                // Only the logits are missing: the last token goes through once more.
                sequence.computed -= 1;
                sequence.nodes.truncate(sequence.computed / BLOCK);
            }
            if share {
                adopt(sequence, &mut self.pages);
            }
            let pending = sequence.tokens.len() - sequence.computed;
            let rows = reserve(sequence, &mut self.pages, rows.min(rows_left).min(pending));
            if rows == 0 {
                events.push(Event::Stalled(id));
                stalled += 1;
                continue;
            }
            let unwanted = sequence.tokens.len().saturating_sub(sequence.wanted);
            let end = sequence.computed + rows;
            let wanted = end.saturating_sub(unwanted).min(rows);
            rows_left -= rows;
            batch.push(Advance { id, rows, wanted });
        }
        if batch.is_empty() && stalled > 0 {
            return Err(self.pages.full(stalled));
        }
        Ok(batch)
    }

    /// Takes the batch through the layers, under the engine's own hook.
    pub(super) fn run(&mut self, batch: &[Advance]) -> Result<(), Error> {
        let mut own = self.hook.take();
        let hook = own.as_mut().map(|hook| &mut **hook as &mut dyn Hook);
        let result = self.run_under(batch, hook);
        self.hook = own;
        result
    }

    /// As [`Engine::run`], under `hook` alone.
    pub(super) fn run_under(
        &mut self,
        batch: &[Advance],
        hook: Option<&mut dyn Hook>,
    ) -> Result<(), Error> {
        let sequences: Vec<&Sequence> =
            batch.iter().filter_map(|advance| self.sequences.get(&advance.id)).collect();
        let chunks: Vec<Chunk<'_>> = sequences
            .iter()
            .zip(batch)
            .map(|(sequence, advance)| Chunk {
                sequence: advance.id.0,
                tokens: &sequence.tokens[sequence.computed..][..advance.rows],
                position: sequence.computed,
                blocks: &sequence.blocks,
                long: sequence.root.long,
                wanted: advance.wanted,
                adapter: sequence.options.adapter.as_deref(),
            })
            .collect();
        let stop = &self.stop;
        let cancelled = || {
            stop.load(Ordering::Relaxed) || sequences.iter().all(|sequence| sequence.is_cancelled())
        };
        self.model.forward(
            &self.device,
            &mut self.workspace,
            self.pages.blocks_mut(),
            &chunks,
            Pass { hook: hook.map(|hook| hook as &mut dyn Hook), cancelled: &cancelled },
        )
    }

    /// Computes the logits that the batch's sequences want.
    fn keep(&mut self, batch: &[Advance]) -> Result<(), Error> {
        let vocab_size = self.config().vocab_size;
        let mut row = 0;
        let mut parts = Vec::new();
        for advance in batch.iter().filter(|advance| advance.wanted > 0) {
            let range = row..row + advance.wanted;
            row = range.end;
            let sequence = self.sequences.get_mut(&advance.id).ok_or(unknown(advance.id))?;
            if let Some(states) = &mut sequence.states {
                states.add(self.model.states(&self.workspace, range));
                continue;
            }
            parts.push((advance.id, range));
            let first = sequence.computed + advance.rows - advance.wanted;
            let rows = &mut sequence.rows;
            let oldest = sequence.tokens.len().saturating_sub(sequence.wanted);
            if rows.start < oldest || rows.start + rows.values.len() / vocab_size != first {
                rows.values.clear();
                rows.start = first;
            }
        }
        // One product for all rows reads the head once; the rows then go to their sequences.
        if let [(id, range)] = &parts[..] {
            let sequence = self.sequences.get_mut(id).ok_or(unknown(*id))?;
            let values = &mut sequence.rows.values;
            let kept = values.len();
            values.resize(kept + range.len() * vocab_size, 0.0);
            let out = &mut values[kept..];
            self.model.logits(&self.device, &mut self.workspace, range.clone(), out);
            return Ok(());
        }
        let sequences = &mut self.sequences;
        // Rows of which only the states are kept may lie between.
        for run in parts.chunk_by(|a, b| a.1.end == b.1.start) {
            let rows = run[0].1.start..run[run.len() - 1].1.end;
            let mut owners = run.iter().flat_map(|(id, range)| range.clone().map(|_| *id));
            let each = &mut |_, block: &mut [f32]| {
                for row in block.chunks_exact(vocab_size) {
                    if let Some(sequence) = owners.next().and_then(|id| sequences.get_mut(&id)) {
                        sequence.rows.values.extend_from_slice(row);
                    }
                }
            };
            self.model.logits_by_blocks(&self.device, &mut self.workspace, rows, each);
        }
        Ok(())
    }
}

/// Takes over blocks that others have computed for the same tokens, as long as the logits that are
/// wanted come from later ones.
fn adopt(sequence: &mut Sequence, pages: &mut Pages) {
    while sequence.shares {
        let full = sequence.blocks.len();
        let end = (full + 1) * BLOCK;
        let at_edge = sequence.computed == full * BLOCK && sequence.nodes.len() == full;
        if !at_edge || end + sequence.wanted > sequence.tokens.len() {
            return;
        }
        let tokens = &sequence.tokens[end - BLOCK..end];
        let link = Link::new(sequence.root, sequence.nodes.last().copied(), tokens);
        let Some((block, node)) = link.and_then(|link| pages.find(&link)) else { return };
        sequence.blocks.push(block);
        sequence.nodes.push(node);
        sequence.computed = end;
        sequence.adopted += BLOCK;
    }
}

/// Makes the next `rows` positions writable; returns for how many of them there was memory.
pub(super) fn reserve(sequence: &mut Sequence, pages: &mut Pages, rows: usize) -> usize {
    let end = sequence.computed + rows;
    for index in sequence.computed / BLOCK..end.div_ceil(BLOCK) {
        let block = match sequence.blocks.get(index) {
            Some(&block) => pages.writable(block),
            None => pages.take(),
        };
        match block {
            Ok(block) if index < sequence.blocks.len() => sequence.blocks[index] = block,
            Ok(block) => sequence.blocks.push(block),
            Err(_) => return (index * BLOCK).saturating_sub(sequence.computed),
        }
    }
    rows
}

/// Makes blocks that are full now findable.
fn publish(sequence: &mut Sequence, pages: &mut Pages) {
    while sequence.shares && sequence.nodes.len() < sequence.computed / BLOCK {
        let index = sequence.nodes.len();
        let tokens = &sequence.tokens[index * BLOCK..][..BLOCK];
        let Some(link) = Link::new(sequence.root, sequence.nodes.last().copied(), tokens) else {
            return;
        };
        sequence.nodes.push(pages.publish(sequence.blocks[index], link));
    }
}
