//! Rows of tokens in the form that the network reads, in arrays that are made once.

use crate::model::{Batch, IGNORE};

/// Up to so many rows: inputs, targets, and where each token's document begins.
#[derive(Debug)]
pub(super) struct Pieces {
    context: usize,
    /// (rows, T)
    inputs: Vec<u32>,
    /// (rows, T)
    targets: Vec<u32>,
    /// (rows, T)
    starts: Vec<u32>,
    /// Whether a token sees its own document alone.
    documents: bool,
    /// (capacity, T)
    losses: Vec<f32>,
}

impl Pieces {
    /// Room for `capacity` rows of `context` tokens.
    pub(super) fn new(capacity: usize, context: usize, documents: bool) -> Pieces {
        let n = capacity * context;
        let room = || Vec::with_capacity(n);
        let (inputs, targets, starts) = (room(), room(), room());
        Pieces { context, inputs, targets, starts, documents, losses: vec![0.0; n] }
    }

    pub(super) fn context(&self) -> usize {
        self.context
    }

    pub(super) fn clear(&mut self) {
        self.inputs.clear();
        self.targets.clear();
        self.starts.clear();
    }

    /// Adds a row of T + 1 ids, in which documents begin at `starts`, sorted, the first of them 0.
    /// The first `n_target` targets are learnt from; where documents count, none is that belongs to
    /// another document than what it would be predicted from.
    pub(super) fn push(&mut self, ids: &[u32], starts: &[u32], n_target: usize) {
        let t = self.context;
        assert_eq!(ids.len(), t + 1, "a row has a token more than targets");
        self.inputs.extend_from_slice(&ids[..t]);
        let first = self.targets.len();
        self.targets.extend_from_slice(&ids[1..=n_target]);
        self.targets.resize(first + t, IGNORE);
        let mut next = starts.iter().copied().filter(|&start| start > 0).peekable();
        let mut start = 0;
        for at in 0..t as u32 {
            start = next.next_if_eq(&at).unwrap_or(start);
            self.starts.push(start);
            if self.documents && next.peek() == Some(&(at + 1)) {
                self.targets[first + at as usize] = IGNORE;
            }
        }
    }

    /// All rows, and room for a loss of each of their tokens.
    pub(super) fn batch_and_losses(&mut self) -> (Batch<'_>, &mut [f32]) {
        let Pieces { inputs, targets, starts, documents, losses, .. } = self;
        let n = inputs.len();
        let starts = documents.then_some(&starts[..]);
        (Batch { inputs, targets, starts, weights: None }, &mut losses[..n])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_does_not_predict_the_next() {
        let mut pieces = Pieces::new(2, 5, true);
        pieces.push(&[1, 2, 3, 4, 5, 6], &[0, 2, 5], 5);
        pieces.push(&[7, 8, 9, 0, 0, 0], &[0], 2);
        let (batch, _) = pieces.batch_and_losses();
        assert_eq!(batch.inputs, [1, 2, 3, 4, 5, 7, 8, 9, 0, 0]);
        // 3 begins at place 2, and 6 at place 5: neither is predicted from what stands before it.
        let x = IGNORE;
        assert_eq!(batch.targets, [2, x, 4, 5, x, 8, 9, x, x, x]);
        assert_eq!(batch.starts.unwrap(), [0, 0, 2, 2, 2, 0, 0, 0, 0, 0]);
        let mut plain = Pieces::new(1, 5, false);
        plain.push(&[1, 2, 3, 4, 5, 6], &[0, 2], 5);
        assert_eq!(plain.batch_and_losses().0.starts, None);
    }
}
