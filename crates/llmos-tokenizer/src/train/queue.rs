//! The pairs that wait to be merged, the most frequent first.

use crate::symbols::Symbols;

/// A pair of tokens with the count that it had when it was queued.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Waiting {
    pub(super) count: u64,
    pub(super) left: u32,
    pub(super) right: u32,
}

/// A heap whose order needs the tokens' bytes, which lie elsewhere: of pairs that are equally
/// frequent the one whose left bytes, then whose right bytes, are the greatest comes first.
///
/// That is the rule of the reference vocabularies of Stanford's CS336. It looks at bytes alone, so
/// a vocabulary does not depend on how ids are numbered, on the threads, or on any hash.
#[derive(Debug, Default)]
pub(super) struct Queue {
    heap: Vec<Waiting>,
}

impl Queue {
    pub(super) fn push(&mut self, pair: Waiting, tokens: &Symbols) {
        let mut at = self.heap.len();
        self.heap.push(pair);
        while at > 0 {
            let above = (at - 1) / 2;
            if !is_before(pair, self.heap[above], tokens) {
                break;
            }
            self.heap[at] = self.heap[above];
            at = above;
        }
        self.heap[at] = pair;
    }

    pub(super) fn pop(&mut self, tokens: &Symbols) -> Option<Waiting> {
        let last = self.heap.pop()?;
        let Some(&first) = self.heap.first() else { return Some(last) };
        let mut at = 0;
        loop {
            let mut below = 2 * at + 1;
            let Some(&left) = self.heap.get(below) else { break };
            let mut next = left;
            if let Some(&right) = self.heap.get(below + 1)
                && is_before(right, left, tokens)
            {
                below += 1;
                next = right;
            }
            if !is_before(next, last, tokens) {
                break;
            }
            self.heap[at] = next;
            at = below;
        }
        self.heap[at] = last;
        Some(first)
    }
}

fn is_before(one: Waiting, other: Waiting, tokens: &Symbols) -> bool {
    if one.count != other.count {
        return one.count > other.count;
    }
    let bytes = |pair: Waiting| (tokens.bytes(pair.left), tokens.bytes(pair.right));
    bytes(one) > bytes(other)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn pairs_come_out_in_order(pairs in prop::collection::vec((0u64..9, 0u32..9, 0u32..9), 0..200)) {
            let mut tokens = Symbols::default();
            ["b", "", "a", "ab", "ba", "abc", "\u{ff}", "c", "a\0"]
                .iter().for_each(|token| tokens.push(Some(token.as_bytes())));
            let mut queue = Queue::default();
            let mut expected = Vec::new();
            for (count, left, right) in pairs {
                queue.push(Waiting { count, left, right }, &tokens);
                expected.push((count, tokens.bytes(left), tokens.bytes(right)));
            }
            expected.sort();
            let mut found = Vec::new();
            while let Some(pair) = queue.pop(&tokens) {
                found.push((pair.count, tokens.bytes(pair.left), tokens.bytes(pair.right)));
            }
            found.reverse();
            prop_assert_eq!(found, expected);
        }
    }
}
