//! Deletions of conversations, by this server or by a program beside it (`llmos chats delete`). What is
//! cached for their owner goes as well, since nobody knows which texts a cached prefix was read for.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

/// How often something of each owner's was deleted, as far as it was heeded here.
#[derive(Default)]
pub(crate) struct Deletions {
    heeded: Mutex<BTreeMap<String, u64>>,
}

impl Deletions {
    /// The owners of whom more was deleted than was heeded; it counts as heeded from now on. What was
    /// found may come later than what was found after it.
    pub(crate) fn news(&self, found: BTreeMap<String, u64>) -> Vec<String> {
        let mut heeded = self.heeded.lock().unwrap_or_else(PoisonError::into_inner);
        let mut news = Vec::new();
        for (owner, times) in found {
            let known = heeded.entry(owner.clone()).or_default();
            if times > *known {
                *known = times;
                news.push(owner);
            }
        }
        news
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_deletion_is_heeded_once_and_in_any_order() {
        let deletions = Deletions::default();
        let check = |found: &[(&str, u64)], expected: &[&str]| {
            let found = found.iter().map(|&(owner, times)| (owner.to_string(), times)).collect();
            assert_eq!(deletions.news(found), expected);
        };
        check(&[], &[]);
        check(&[("ann", 1), ("bob", 2)], &["ann", "bob"]);
        check(&[("ann", 1), ("bob", 2)], &[]);
        check(&[("", 1), ("ann", 3), ("bob", 2)], &["", "ann"]);
        check(&[("ann", 2), ("bob", 2)], &[]);
    }
}
