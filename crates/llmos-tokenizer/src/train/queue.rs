//! The pairs that wait to be merged, the most frequent first.

use std::cmp::Ordering;

use super::tokens::Tokens;

/// A pair of tokens with the count that it had when it was queued.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Waiting {
    pub(super) count: u64,
    pub(super) left: u32,
    pub(super) right: u32,
}

impl Waiting {
    /// What comes after all pairs of a count: no token has no bytes.
    pub(super) fn last_of(count: u64) -> Waiting {
        Waiting { count, left: u32::MAX, right: u32::MAX }
    }
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
    pub(super) fn push(&mut self, pair: Waiting, tokens: &Tokens) {
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

    pub(super) fn pop(&mut self, tokens: &Tokens) -> Option<Waiting> {
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

/// Which of two pairs comes first.
pub(super) fn order(one: Waiting, other: Waiting, tokens: &Tokens) -> Ordering {
    let bytes = |pair: Waiting| (tokens.bytes(pair.left), tokens.bytes(pair.right));
    other.count.cmp(&one.count).then_with(|| bytes(other).cmp(&bytes(one)))
}

pub(super) fn is_before(one: Waiting, other: Waiting, tokens: &Tokens) -> bool {
    order(one, other, tokens).is_lt()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn pairs_come_out_in_order(pairs in prop::collection::vec((0u64..9, 0u32..8, 0u32..8), 0..200)) {
            let mut tokens = Tokens::new(6);
            for (left, right) in [(b'a', b'b'), (b'b', b'a'), (b'b', b'b'), (b'c', b'a')] {
                tokens.join(left.into(), right.into());
            }
            let number = |number: u32| number + 252;
            let mut queue = Queue::default();
            let mut expected = Vec::new();
            for (count, left, right) in pairs {
                let (left, right) = (number(left), number(right));
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
