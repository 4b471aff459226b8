//! Where responses are kept, so that the next can go on from them.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, PoisonError};

/// Keeps the records of responses, each for its owner alone. It is asked on the thread of sockets, so
/// whatever takes long should happen elsewhere; a text says why something could not be done.
pub trait ResponseStore: Send + Sync {
    /// Keeps the record of a response by its id, which nobody can guess.
    ///
    /// # Errors
    /// It cannot be kept.
    fn keep(&self, owner: u64, id: &str, record: String) -> Result<(), String>;

    /// The record of a response of that owner; none for those of others as for unknown ones.
    ///
    /// # Errors
    /// The store cannot be read.
    fn find(&self, owner: u64, id: &str) -> Result<Option<String>, String>;

    /// Deletes a response of that owner; true if there was one.
    ///
    /// # Errors
    /// It cannot be deleted.
    fn delete(&self, owner: u64, id: &str) -> Result<bool, String>;
}

/// Responses in memory, as long as the server runs; the oldest of an owner make room for the newest.
#[derive(Debug)]
pub struct ResponseMemory {
    /// Most bytes of an owner's records.
    bytes: usize,
    owners: Mutex<HashMap<u64, VecDeque<(String, String)>>>,
}

impl ResponseMemory {
    /// Keeps at most so many bytes for each owner.
    pub fn new(bytes: usize) -> ResponseMemory {
        ResponseMemory { bytes, owners: Mutex::default() }
    }

    fn with<T>(&self, owner: u64, act: impl FnOnce(&mut VecDeque<(String, String)>) -> T) -> T {
        let mut owners = self.owners.lock().unwrap_or_else(PoisonError::into_inner);
        act(owners.entry(owner).or_default())
    }
}

impl Default for ResponseMemory {
    /// 32 MiB an owner.
    fn default() -> ResponseMemory {
        ResponseMemory::new(32 << 20)
    }
}

impl ResponseStore for ResponseMemory {
    fn keep(&self, owner: u64, id: &str, record: String) -> Result<(), String> {
        self.with(owner, |records| {
            let size = |(id, record): &(String, String)| id.len() + record.len();
            records.push_back((id.to_string(), record));
            let mut bytes: usize = records.iter().map(size).sum();
            while bytes > self.bytes {
                let Some(oldest) = records.pop_front() else { break };
                bytes -= size(&oldest);
            }
        });
        Ok(())
    }

    fn find(&self, owner: u64, id: &str) -> Result<Option<String>, String> {
        Ok(self.with(owner, |records| {
            let found = records.iter().find(|(known, _)| known == id);
            found.map(|(_, record)| record.clone())
        }))
    }

    fn delete(&self, owner: u64, id: &str) -> Result<bool, String> {
        Ok(self.with(owner, |records| {
            let at = records.iter().position(|(known, _)| known == id);
            at.and_then(|at| records.remove(at)).is_some()
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_owner_has_its_own_and_the_oldest_go_first() {
        let store = ResponseMemory::new(20);
        store.keep(1, "a", "12345678".into()).unwrap();
        store.keep(1, "b", "12345678".into()).unwrap();
        store.keep(2, "c", "x".into()).unwrap();
        assert_eq!(store.find(1, "a").unwrap().as_deref(), Some("12345678"));
        assert_eq!(store.find(2, "a").unwrap(), None);
        store.keep(1, "d", "1234".into()).unwrap();
        assert_eq!(store.find(1, "a").unwrap(), None);
        assert!(store.find(1, "b").unwrap().is_some() && store.find(1, "d").unwrap().is_some());
        assert!(!store.delete(2, "b").unwrap() && store.delete(1, "b").unwrap());
        assert_eq!(store.find(1, "b").unwrap(), None);
        // More than all that may be kept is not kept.
        store.keep(1, "e", "x".repeat(30)).unwrap();
        assert_eq!(store.find(1, "e").unwrap(), None);
    }
}
