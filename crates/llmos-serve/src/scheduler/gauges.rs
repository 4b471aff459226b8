//! How a model's thread stands, for whoever watches it from another thread.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// Numbers that the thread writes after each step.
#[derive(Debug, Default)]
pub(crate) struct Gauges {
    waiting: AtomicUsize,
    running: AtomicUsize,
    away: AtomicUsize,
    blocks_free: AtomicUsize,
    blocks: AtomicUsize,
    paged_out: AtomicU64,
}

/// The same at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Readings {
    /// Requests in the queue.
    pub(crate) waiting: usize,
    /// Sequences in the engine.
    pub(crate) running: usize,
    /// Requests that gave their cache memory to others for a while.
    pub(crate) away: usize,
    /// Blocks of the cache that no sequence needs.
    pub(crate) blocks_free: usize,
    /// Blocks of the cache in all.
    pub(crate) blocks: usize,
    /// Times that a request had to give its cache memory away.
    pub(crate) paged_out: u64,
}

impl Gauges {
    pub(super) fn set(
        &self,
        waiting: usize,
        running: usize,
        away: usize,
        (free, all): (usize, usize),
    ) {
        self.waiting.store(waiting, Ordering::Relaxed);
        self.running.store(running, Ordering::Relaxed);
        self.away.store(away, Ordering::Relaxed);
        self.blocks_free.store(free, Ordering::Relaxed);
        self.blocks.store(all, Ordering::Relaxed);
    }

    pub(super) fn paged_out(&self) {
        self.paged_out.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn read(&self) -> Readings {
        Readings {
            waiting: self.waiting.load(Ordering::Relaxed),
            running: self.running.load(Ordering::Relaxed),
            away: self.away.load(Ordering::Relaxed),
            blocks_free: self.blocks_free.load(Ordering::Relaxed),
            blocks: self.blocks.load(Ordering::Relaxed),
            paged_out: self.paged_out.load(Ordering::Relaxed),
        }
    }
}
