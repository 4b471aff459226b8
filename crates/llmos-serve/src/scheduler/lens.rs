//! Looking inside of a model between the steps of those who are written for.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use llmos_model::decoder::Part;
use llmos_model::engine::{Likely, SequenceOptions, Sight, View};
use llmos_model::sampler::most_likely;
use llmos_model::{Engine, Error};
use tokio::sync::oneshot;

use super::task::Task;
use crate::flights::Ticket;
use crate::refusal::Refusal;

/// Rows that are read out at a time: of a vocabulary of 150,000 they take 20 MB.
const ROWS: usize = 32;

/// What is to be looked at.
pub(crate) struct Glance {
    /// At least one token.
    pub(crate) tokens: Vec<u32>,
    /// So many of the likeliest tokens each time.
    pub(crate) top: usize,
    /// What is switched off.
    pub(crate) off: Vec<Part>,
    /// Layers whose attention is wanted.
    pub(crate) attention: Vec<usize>,
}

/// What was found.
pub(crate) struct Found {
    /// (L * T): what each layer would say after each token, layer after layer.
    pub(crate) rows: Vec<Vec<Likely>>,
    /// The attention.
    pub(crate) sight: Sight,
    /// What may come next without what is off.
    pub(crate) next: Vec<Likely>,
    /// What may come next with all of it.
    pub(crate) next_unchanged: Vec<Likely>,
}

/// Looks, in slices: the pass without what is off, the pass with all of it, then the layers.
pub(crate) struct Lens {
    pub(crate) glance: Glance,
    /// Raised when nobody waits any more.
    pub(crate) cancel: Arc<AtomicBool>,
    /// Its place among those in flight.
    pub(crate) _ticket: Arc<Ticket>,
    /// Who is told.
    pub(crate) reply: Option<oneshot::Sender<Result<Found, Refusal>>>,
    pub(crate) progress: Progress,
}

/// How far a lens is.
#[derive(Default)]
pub(crate) enum Progress {
    /// Not begun.
    #[default]
    Ahead,
    /// The pass without what is off is done, in an engine of its own.
    Seen(Engine, Sight),
    /// All that is left is to read out rows.
    Reading(Engine, Found),
    /// Told.
    Over,
}

impl Task for Lens {
    fn go_on(&mut self, engine: &mut Engine) -> bool {
        if self.reply.as_ref().is_none_or(oneshot::Sender::is_closed) {
            return true;
        }
        match self.slice(engine) {
            Ok(None) => false,
            Ok(Some(found)) => self.tell(Ok(found)),
            // Its client has gone.
            Err(Error::Cancelled) => true,
            Err(error) => self.tell(Err(Refusal::of_model(&error))),
        }
    }
}

impl Lens {
    /// The end; true.
    fn tell(&mut self, result: Result<Found, Refusal>) -> bool {
        if let Some(reply) = self.reply.take() {
            // Who has gone needs no answer.
            let _ = reply.send(result);
        }
        true
    }

    fn slice(&mut self, engine: &mut Engine) -> Result<Option<Found>, Error> {
        self.progress = match std::mem::take(&mut self.progress) {
            Progress::Ahead => {
                let mut own = engine.beside(self.glance.tokens.len())?;
                let view = View {
                    off: self.glance.off.clone(),
                    states: self.glance.tokens.len(),
                    attention: self.glance.attention.clone(),
                };
                let sight = own.look(&self.glance.tokens, self.options(), &view)?;
                Progress::Seen(own, sight)
            }
            Progress::Seen(mut own, sight) => {
                let top = self.glance.top;
                let next = most_likely(sight.logits(), top);
                let next_unchanged = match self.glance.off.is_empty() {
                    true => next.clone(),
                    false => {
                        let tokens = &self.glance.tokens;
                        let whole = own.look(tokens, self.options(), &View::default())?;
                        most_likely(whole.logits(), top)
                    }
                };
                let rows = Vec::with_capacity(sight.rows());
                Progress::Reading(own, Found { rows, sight, next, next_unchanged })
            }
            Progress::Reading(mut own, mut found) => {
                let rows = slice(found.rows.len(), found.sight.rows());
                found.rows.extend(own.read_out(&found.sight, rows, self.glance.top));
                if found.rows.len() == found.sight.rows() {
                    self.progress = Progress::Over;
                    return Ok(Some(found));
                }
                Progress::Reading(own, found)
            }
            Progress::Over => Progress::Over,
        };
        Ok(None)
    }

    fn options(&self) -> SequenceOptions {
        SequenceOptions {
            length: Some(self.glance.tokens.len()),
            cancel: Some(self.cancel.clone()),
            ..SequenceOptions::default()
        }
    }
}

/// The next rows of `all`.
fn slice(done: usize, all: usize) -> Range<usize> {
    done..(done + ROWS).min(all)
}

/// Raises a flag when it is dropped.
pub(crate) struct Raise(pub(crate) Arc<AtomicBool>);

impl Drop for Raise {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
