//! Memory that models take, counted from before one is loaded until its engine is gone.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

/// How much may be taken, and is.
pub(crate) struct Memory {
    budget: Option<u64>,
    taken: Mutex<u64>,
    freed: Notify,
}

/// Bytes that a model has; given back when it is dropped.
pub(crate) struct Share {
    memory: Arc<Memory>,
    bytes: u64,
}

impl Memory {
    /// All of it is free; without a budget there is no end to it.
    pub(crate) fn new(budget: Option<u64>) -> Arc<Memory> {
        Arc::new(Memory { budget, taken: Mutex::new(0), freed: Notify::new() })
    }

    /// So many bytes, if they are free.
    pub(crate) fn take(self: &Arc<Memory>, bytes: u64) -> Option<Share> {
        let mut taken = self.lock();
        let sum = taken.saturating_add(bytes);
        if self.budget.is_some_and(|budget| sum > budget) {
            return None;
        }
        *taken = sum;
        Some(Share { memory: self.clone(), bytes })
    }

    /// Bytes that models may take.
    pub(crate) fn budget(&self) -> Option<u64> {
        self.budget
    }

    /// Bytes that they take.
    pub(crate) fn taken(&self) -> u64 {
        *self.lock()
    }

    /// Waits until some were given back, since it was last asked.
    pub(crate) async fn freed(&self) {
        self.freed.notified().await;
    }

    fn lock(&self) -> MutexGuard<'_, u64> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut taken = self.memory.lock();
        *taken = taken.saturating_sub(self.bytes);
        drop(taken);
        self.memory.freed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_is_taken_than_there_is_and_what_is_dropped_comes_back() {
        let memory = Memory::new(Some(100));
        let first = memory.take(60).unwrap();
        assert!(memory.take(41).is_none());
        let second = memory.take(40).unwrap();
        assert_eq!(memory.taken(), 100);
        drop(first);
        assert_eq!(memory.taken(), 40);
        assert!(memory.take(61).is_none() && memory.take(u64::MAX).is_none());
        drop(second);
        assert_eq!((memory.taken(), memory.budget()), (0, Some(100)));
        assert!(Memory::new(None).take(u64::MAX).is_some());
    }
}
