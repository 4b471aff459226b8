//! A byte trie: which tokens are prefixes of a text.

/// Longer tokens are not entered, which bounds the time of a step over a hostile vocabulary; the
/// longest of a real one are a few hundred bytes.
const LONGEST: usize = 1024;

const NO_TOKEN: u32 = u32::MAX;

#[derive(Debug, Clone, Copy)]
struct Node {
    /// The children are the nodes `first..first + count`, with rising labels.
    first: u32,
    count: u16,
    token: u32,
}

/// Tokens by their bytes, in breadth-first order.
#[derive(Debug)]
pub(crate) struct Trie {
    nodes: Vec<Node>,
    /// The byte that leads to each node.
    labels: Vec<u8>,
}

impl Trie {
    /// Of two equal tokens the first holds; empty ones are left out.
    pub(crate) fn new<'a>(tokens: impl Iterator<Item = (&'a [u8], u32)>) -> Trie {
        let mut sorted: Vec<(&[u8], u32)> =
            tokens.filter(|(text, _)| !text.is_empty() && text.len() <= LONGEST).collect();
        sorted.sort();
        sorted.dedup_by(|later, first| later.0 == first.0);
        let mut trie =
            Trie { nodes: vec![Node { first: 0, count: 0, token: NO_TOKEN }], labels: vec![0] };
        // For each node in order: the range of `sorted` below it, and its depth.
        let mut ranges = vec![(0, sorted.len(), 0)];
        let mut node = 0;
        while node < ranges.len() {
            let (mut from, to, depth) = ranges[node];
            if let Some((text, id)) = sorted[from..to].first()
                && text.len() == depth
            {
                trie.nodes[node].token = *id;
                from += 1;
            }
            trie.nodes[node].first = trie.nodes.len() as u32;
            while from < to {
                let label = sorted[from].0[depth];
                let len = sorted[from..to].partition_point(|(text, _)| text[depth] == label);
                trie.nodes[node].count += 1;
                trie.nodes.push(Node { first: 0, count: 0, token: NO_TOKEN });
                trie.labels.push(label);
                ranges.push((from, from + len, depth + 1));
                from += len;
            }
            node += 1;
        }
        trie
    }

    /// Calls `each` with the length and id of every token that `text` starts with, shortest first.
    #[inline]
    pub(crate) fn prefixes(&self, text: &[u8], mut each: impl FnMut(usize, u32)) {
        let mut node = self.nodes[0];
        for (depth, byte) in text.iter().enumerate() {
            let first = node.first as usize;
            let labels = &self.labels[first..first + node.count as usize];
            let child = if labels.len() <= 8 {
                labels.iter().position(|label| label == byte)
            } else {
                labels.binary_search(byte).ok()
            };
            let Some(child) = child else { return };
            node = self.nodes[first + child];
            if node.token != NO_TOKEN {
                each(depth + 1, node.token);
            }
        }
    }

    /// The longest token that `text` starts with: its length and id.
    pub(crate) fn longest(&self, text: &[u8]) -> Option<(usize, u32)> {
        let mut longest = None;
        self.prefixes(text, |len, id| longest = Some((len, id)));
        longest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_from_short_to_long() {
        let tokens = ["a", "ab", "abcd", "b", "", "ab"];
        let trie = Trie::new(tokens.iter().zip(0..).map(|(token, id)| (token.as_bytes(), id)));
        let mut found = Vec::new();
        trie.prefixes(b"abcdx", |len, id| found.push((len, id)));
        assert_eq!(found, [(1, 0), (2, 1), (4, 2)]);
        assert_eq!(trie.longest(b"abc"), Some((2, 1)));
        assert_eq!(trie.longest(b"x"), None);
        assert_eq!(trie.longest(b""), None);
    }

    #[test]
    fn all_bytes_and_none() {
        let bytes: Vec<u8> = (0..=255).collect();
        let trie = Trie::new(bytes.chunks(1).zip(0..));
        assert_eq!(trie.longest(&[200, 1]), Some((1, 200)));
        assert_eq!(Trie::new(std::iter::empty()).longest(b"a"), None);
    }
}
