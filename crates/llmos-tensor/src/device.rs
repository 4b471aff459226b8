//! Where numbers are worked on: an instruction set, its threads and its memory.

use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::buffer::Arena;
use crate::matrix::Workspace;
use crate::{Isa, Threads};

/// A CPU: the kernels' instruction set and a pool of threads.
pub struct Device {
    isa: Isa,
    threads: Threads,
    arena: Arena,
    workspace: Mutex<Workspace>,
}

impl Device {
    /// A device that uses `isa` on `threads` threads.
    pub fn new(isa: Isa, threads: usize) -> Device {
        Device {
            isa,
            threads: Threads::new(threads),
            arena: Arena::default(),
            workspace: Mutex::default(),
        }
    }

    /// The kernels' instruction set.
    pub fn isa(&self) -> Isa {
        self.isa
    }

    /// The pool.
    pub fn threads(&self) -> &Threads {
        &self.threads
    }

    /// Memory for packed weights.
    pub(crate) fn arena(&self) -> &Arena {
        &self.arena
    }

    /// Activations in the kernels' forms; one product at a time.
    pub(crate) fn workspace(&self) -> MutexGuard<'_, Workspace> {
        self.workspace.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
