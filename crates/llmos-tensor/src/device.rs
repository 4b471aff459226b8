//! Where numbers are worked on: an instruction set, its threads and its memory.

use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::buffer::Arena;
use crate::matrix::Workspace;
use crate::{Isa, Threads};

/// A CPU: the kernels' instruction set and a pool of threads.
pub struct Device {
    isa: Isa,
    bf16: bool,
    threads: Threads,
    arena: Arena,
    workspace: Mutex<Workspace>,
}

impl Device {
    /// A device that uses `isa` on `threads` threads. Weights that are not quantised are multiplied
    /// in single precision.
    pub fn new(isa: Isa, threads: usize) -> Device {
        Device {
            isa,
            bf16: false,
            threads: Threads::new(threads),
            arena: Arena::default(),
            workspace: Mutex::default(),
        }
    }

    /// The same device, which multiplies large matrices of halves and bfloat16 in bfloat16 where the
    /// CPU has instructions for it: twice as fast, with activations (and halves) rounded to 8 bits
    /// of mantissa and sums in single precision.
    pub fn with_bf16(self) -> Device {
        Device { bf16: self.isa.has_bf16(), ..self }
    }

    /// Whether large matrices of halves and bfloat16 that are packed here are multiplied in bfloat16.
    pub fn bf16(&self) -> bool {
        self.bf16
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
