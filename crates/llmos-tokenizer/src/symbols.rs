//! Byte strings stored end to end, and the table that finds them again.

use std::hash::{BuildHasher, Hasher};

use foldhash::fast::RandomState;
use hashbrown::HashTable;

/// Byte strings in one buffer, numbered from 0.
#[derive(Debug, Default, Clone)]
pub(crate) struct Strings {
    bytes: Vec<u8>,
    /// The end of each string in `bytes`.
    ends: Vec<usize>,
}

impl Strings {
    pub(crate) fn with_capacity(count: usize, bytes: usize) -> Self {
        Strings { bytes: Vec::with_capacity(bytes), ends: Vec::with_capacity(count) }
    }

    pub(crate) fn push(&mut self, string: &[u8]) {
        self.bytes.extend_from_slice(string);
        self.ends.push(self.bytes.len());
    }

    pub(crate) fn len(&self) -> usize {
        self.ends.len()
    }

    /// The string of a number; empty where there is none.
    #[inline]
    pub(crate) fn get(&self, index: u32) -> &[u8] {
        let index = index as usize;
        let Some(&end) = self.ends.get(index) else { return &[] };
        let start = if index == 0 { 0 } else { self.ends[index - 1] };
        &self.bytes[start..end]
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &[u8]> {
        (0..self.len() as u32).map(|index| self.get(index))
    }
}

/// Strings, each findable by its bytes.
#[derive(Debug, Default)]
pub(crate) struct Symbols {
    strings: Strings,
    table: HashTable<u32>,
    state: RandomState,
    longest: usize,
}

impl Symbols {
    pub(crate) fn with_capacity(count: usize) -> Self {
        Symbols {
            strings: Strings::with_capacity(count, count * 8),
            table: HashTable::with_capacity(count),
            ..Symbols::default()
        }
    }

    #[inline]
    pub(crate) fn hash(&self, bytes: &[u8]) -> u64 {
        let mut hasher = self.state.build_hasher();
        hasher.write(bytes);
        hasher.finish()
    }

    /// Takes the next number for a string that can be found, or, if `bytes` is `None` or there
    /// already is such a string, for a place that nothing finds.
    pub(crate) fn push(&mut self, bytes: Option<&[u8]>) {
        let index = self.strings.len() as u32;
        let Some(bytes) = bytes.filter(|bytes| self.get(bytes).is_none()) else {
            return self.strings.push(b"");
        };
        self.strings.push(bytes);
        self.longest = self.longest.max(bytes.len());
        let hash = self.hash(bytes);
        let (state, strings) = (&self.state, &self.strings);
        self.table.insert_unique(hash, index, |&other| {
            let mut hasher = state.build_hasher();
            hasher.write(strings.get(other));
            hasher.finish()
        });
    }

    /// The number of `bytes`, given one if it has none.
    pub(crate) fn intern(&mut self, bytes: &[u8]) -> u32 {
        self.get(bytes).unwrap_or_else(|| {
            self.push(Some(bytes));
            self.strings.len() as u32 - 1
        })
    }

    #[inline]
    pub(crate) fn get(&self, bytes: &[u8]) -> Option<u32> {
        self.get_hashed(bytes, self.hash(bytes))
    }

    /// As [`Symbols::get`], with the hash at hand.
    #[inline]
    pub(crate) fn get_hashed(&self, bytes: &[u8], hash: u64) -> Option<u32> {
        self.table.find(hash, |&index| self.strings.get(index) == bytes).copied()
    }

    #[inline]
    pub(crate) fn bytes(&self, index: u32) -> &[u8] {
        self.strings.get(index)
    }

    pub(crate) fn len(&self) -> usize {
        self.strings.len()
    }

    /// Length of the longest string in bytes.
    pub(crate) fn longest(&self) -> usize {
        self.longest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_are_found_by_their_bytes_and_the_first_of_two_equals_wins() {
        let mut symbols = Symbols::default();
        for token in [Some(&b"a"[..]), None, Some(b"bc"), Some(b"a")] {
            symbols.push(token);
        }
        assert_eq!(symbols.get(b"a"), Some(0));
        assert_eq!(symbols.get(b"bc"), Some(2));
        assert_eq!(symbols.get(b""), None);
        assert_eq!(symbols.intern(b"d"), 4);
        assert_eq!(symbols.intern(b"bc"), 2);
        assert_eq!((symbols.len(), symbols.longest()), (5, 2));
        assert_eq!(symbols.bytes(2), b"bc");
        assert_eq!(symbols.bytes(99), b"");
    }
}
