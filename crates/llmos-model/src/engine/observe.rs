//! One text through the model while somebody looks.

use super::step::{Advance, reserve};
use super::{Engine, EngineOptions, SequenceId, SequenceOptions, unknown};
use crate::Error;
use crate::decoder::{Both, Hook};

impl Engine {
    /// An engine without sequences beside this one: the same model and adapter on the same device, and
    /// a cache of its own that holds one sequence of `context` tokens. What is looked at in it takes
    /// no memory from the sequences here.
    ///
    /// # Errors
    /// [`Error::Request`] for a context longer than the model's.
    pub fn beside(&self, context: usize) -> Result<Engine, Error> {
        let options = EngineOptions {
            context: Some(context),
            cache_bytes: None,
            cache_type: self.pages.blocks().layout().kind(),
            prefill_chunk: self.batch,
        };
        let mut engine = Engine::new(self.model.clone(), self.device.clone(), options)?;
        engine.adapter = self.adapter.clone();
        Ok(engine)
    }

    /// Takes `tokens` through the model as a sequence of its own, which is gone afterwards, while
    /// `hook` sees and may change what flows, behind the engine's own hook if it has one. Returns the
    /// logits (V) after the last token. Nothing that was computed so is found by others.
    ///
    /// # Errors
    /// As [`Engine::add`]; [`Error::CacheFull`], and [`Error::Cancelled`] once the sequence's flag or
    /// the engine's is raised.
    pub fn observe(
        &mut self,
        tokens: &[u32],
        options: SequenceOptions,
        hook: &mut dyn Hook,
    ) -> Result<Vec<f32>, Error> {
        let id = self.add(tokens, options)?;
        let mut own = self.hook.take();
        let result = match &mut own {
            Some(own) => self.take_through(id, &mut Both(&mut **own, hook)),
            None => self.take_through(id, hook),
        };
        self.hook = own;
        self.remove(id)?;
        result
    }

    fn take_through(&mut self, id: SequenceId, hook: &mut dyn Hook) -> Result<Vec<f32>, Error> {
        loop {
            let sequence = self.sequences.get_mut(&id).ok_or_else(|| unknown(id))?;
            sequence.shares = false;
            let left = sequence.tokens.len() - sequence.computed;
            let rows = left.min(self.batch);
            if reserve(sequence, &mut self.pages, rows) < rows {
                return Err(self.pages.full(1));
            }
            let wanted = usize::from(rows == left);
            self.run_under(&[Advance { id, rows, wanted }], Some(&mut *hook))?;
            self.sequence_mut(id)?.computed += rows;
            if rows == left {
                let mut logits = vec![0.0; self.config().vocab_size];
                self.model.logits(&self.device, &mut self.workspace, 0..1, &mut logits);
                return Ok(logits);
            }
        }
    }
}
