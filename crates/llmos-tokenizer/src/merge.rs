//! The merging loop that all BPE models share, and the memory of words already merged.
//!
//! A word of n symbols is merged by the lowest rank first, the leftmost of equals first. Short
//! words take a linear scan over an array; long ones a heap, so that a megabyte of one letter
//! costs n log n.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// A symbol that is in no vocabulary and never merges.
pub(crate) const ABSENT: u32 = u32::MAX;

/// Which symbols merge into which.
pub(crate) trait Merges {
    /// The rank of joining `left` and `right`, and the symbol that they make. `text` is the bytes
    /// of both.
    fn pair(&self, left: u32, right: u32, text: &[u8]) -> Option<(u32, u32)>;
}

/// A symbol and the place in the word where it begins.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Symbol {
    pub(crate) id: u32,
    pub(crate) start: u32,
}

/// Above this many symbols the heap wins over the scan (measured on English and on runs of one
/// letter: they cross between 60 and 100).
const SCAN_LIMIT: usize = 72;

#[derive(Debug, Clone, Copy)]
struct Pair {
    rank: u32,
    merged: u32,
}

const NO_PAIR: Pair = Pair { rank: u32::MAX, merged: ABSENT };

/// Buffers that one encoding reuses from word to word.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    pub(crate) symbols: Vec<Symbol>,
    pairs: Vec<Pair>,
    next: Vec<u32>,
    previous: Vec<u32>,
    heap: BinaryHeap<Reverse<u64>>,
}

impl Scratch {
    /// Merges `self.symbols`, which cut `word`, until no pair is left.
    pub(crate) fn merge(&mut self, word: &[u8], rule: &impl Merges) {
        if self.symbols.len() <= SCAN_LIMIT {
            self.merge_by_scan(word, rule);
        } else {
            self.merge_by_heap(word, rule);
        }
    }

    fn merge_by_scan(&mut self, word: &[u8], rule: &impl Merges) {
        let Scratch { symbols, pairs, .. } = self;
        let pair_at = |symbols: &[Symbol], at: usize| -> Pair {
            let Some(right) = symbols.get(at + 1) else { return NO_PAIR };
            let end = symbols.get(at + 2).map_or(word.len(), |after| after.start as usize);
            let left = symbols[at];
            rule.pair(left.id, right.id, &word[left.start as usize..end])
                .map_or(NO_PAIR, |(rank, merged)| Pair { rank, merged })
        };
        pairs.clear();
        pairs.extend((0..symbols.len()).map(|at| pair_at(symbols, at)));
        loop {
            let mut best = (u32::MAX, 0);
            for (at, pair) in pairs.iter().enumerate() {
                if pair.rank < best.0 {
                    best = (pair.rank, at);
                }
            }
            let (rank, at) = best;
            if rank == u32::MAX {
                return;
            }
            symbols[at].id = pairs[at].merged;
            symbols.remove(at + 1);
            pairs.remove(at + 1);
            pairs[at] = pair_at(symbols, at);
            if at > 0 {
                pairs[at - 1] = pair_at(symbols, at - 1);
            }
        }
    }

    fn merge_by_heap(&mut self, word: &[u8], rule: &impl Merges) {
        const NONE: u32 = u32::MAX;
        let Scratch { symbols, next, previous, heap, .. } = self;
        let count = symbols.len() as u32;
        next.clear();
        next.extend((1..count).chain([NONE]));
        previous.clear();
        previous.extend([NONE].into_iter().chain(0..count - 1));
        heap.clear();
        let pair_at = |symbols: &[Symbol], next: &[u32], at: u32| -> Option<(u32, u32)> {
            let right = next[at as usize];
            let right_symbol = symbols.get(right as usize)?;
            let end = match next[right as usize] {
                NONE => word.len(),
                after => symbols[after as usize].start as usize,
            };
            let left = symbols[at as usize];
            rule.pair(left.id, right_symbol.id, &word[left.start as usize..end])
        };
        let key = |rank: u32, at: u32| Reverse(u64::from(rank) << 32 | u64::from(at));
        for at in 0..count - 1 {
            if let Some((rank, _)) = pair_at(symbols, next, at) {
                heap.push(key(rank, at));
            }
        }
        // A symbol that was merged into its left neighbour points at itself.
        while let Some(Reverse(entry)) = heap.pop() {
            let (rank, at) = ((entry >> 32) as u32, entry as u32);
            if next[at as usize] == at {
                continue;
            }
            match pair_at(symbols, next, at) {
                Some((now, merged)) if now == rank => {
                    let right = next[at as usize];
                    let after = next[right as usize];
                    symbols[at as usize].id = merged;
                    next[at as usize] = after;
                    next[right as usize] = right;
                    if after != NONE {
                        previous[after as usize] = at;
                        if let Some((rank, _)) = pair_at(symbols, next, at) {
                            heap.push(key(rank, at));
                        }
                    }
                    let before = previous[at as usize];
                    if before != NONE
                        && let Some((rank, _)) = pair_at(symbols, next, before)
                    {
                        heap.push(key(rank, before));
                    }
                }
                // The pair that was meant has changed since.
                _ => {}
            }
        }
        let (mut at, mut kept) = (0u32, 0);
        while at != NONE {
            symbols[kept] = symbols[at as usize];
            kept += 1;
            at = next[at as usize];
        }
        symbols.truncate(kept);
    }
}

/// Words already merged: a table of one entry a slot, by hash.
#[derive(Debug)]
pub(crate) struct WordCache {
    slots: Vec<Slot>,
}

const SLOTS: usize = 1 << 13;
const WORD_BYTES: usize = 22;
const WORD_IDS: usize = 8;

#[derive(Debug, Clone, Copy, Default)]
struct Slot {
    word: [u8; WORD_BYTES],
    len: u8,
    n_ids: u8,
    ids: [u32; WORD_IDS],
}

impl Default for WordCache {
    fn default() -> Self {
        WordCache { slots: vec![Slot::default(); SLOTS] }
    }
}

impl WordCache {
    /// The ids of a word that was merged before. `hash` is the word's.
    #[inline]
    pub(crate) fn get(&self, word: &[u8], hash: u64) -> Option<&[u32]> {
        let slot = &self.slots[hash as usize % SLOTS];
        (word.len() == slot.len as usize && slot.word[..word.len()] == *word && slot.n_ids > 0)
            .then(|| &slot.ids[..slot.n_ids as usize])
    }

    /// Remembers a word, if it and its ids fit.
    #[inline]
    pub(crate) fn put(&mut self, word: &[u8], hash: u64, ids: &[u32]) {
        if word.len() <= WORD_BYTES && ids.len() <= WORD_IDS {
            let slot = &mut self.slots[hash as usize % SLOTS];
            slot.word[..word.len()].copy_from_slice(word);
            slot.len = word.len() as u8;
            slot.n_ids = ids.len() as u8;
            slot.ids[..ids.len()].copy_from_slice(ids);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Merges by the length and first byte of the joined text, out of a small made-up table.
    struct ByText;

    impl Merges for ByText {
        fn pair(&self, left: u32, right: u32, text: &[u8]) -> Option<(u32, u32)> {
            let sum = left.wrapping_mul(31).wrapping_add(right);
            (!sum.is_multiple_of(3) && text.len() < 9).then_some((sum % 17, sum % 64))
        }
    }

    proptest! {
        #[test]
        fn scan_and_heap_agree(ids in prop::collection::vec(0u32..64, 1..200)) {
            let word = vec![0u8; ids.len()];
            let symbols = |ids: &[u32]| -> Vec<Symbol> {
                ids.iter().enumerate().map(|(at, &id)| Symbol { id, start: at as u32 }).collect()
            };
            let mut scan = Scratch { symbols: symbols(&ids), ..Scratch::default() };
            let mut heap = Scratch { symbols: symbols(&ids), ..Scratch::default() };
            scan.merge_by_scan(&word, &ByText);
            heap.merge_by_heap(&word, &ByText);
            let list = |scratch: &Scratch| {
                scratch.symbols.iter().map(|s| (s.id, s.start)).collect::<Vec<_>>()
            };
            prop_assert_eq!(list(&scan), list(&heap));
        }
    }

    #[test]
    fn the_cache_gives_back_what_it_was_given() {
        let mut cache = WordCache::default();
        cache.put(b"hello", 7, &[1, 2]);
        assert_eq!(cache.get(b"hello", 7), Some(&[1, 2][..]));
        assert_eq!(cache.get(b"hellp", 7), None);
        cache.put(b"other", 7 + SLOTS as u64, &[3]);
        assert_eq!(cache.get(b"hello", 7), None);
        cache.put(&[b'x'; 100], 9, &[1]);
        assert_eq!(cache.get(&[b'x'; 100], 9), None);
    }
}
