//! Which rows a step learns from, and how they lie in the sequences that go through the model.

use std::ops::Range;

use super::Example;
use crate::data::shuffle::{Permutation, hash};
use crate::model::{Batch, IGNORE};

/// Rows as tokens, all in memory.
#[derive(Debug)]
pub struct Examples {
    examples: Vec<Example>,
    /// Rows that go together: two of a pair.
    group: usize,
    /// Of answers with tags: whether each was liked.
    liked: Vec<bool>,
    sha256: String,
}

/// How rows are dealt out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deal {
    /// Rows of a step.
    pub batch: usize,
    /// Several rows lie in a sequence, each seeing itself alone.
    pub pack: bool,
    /// Each reading of the rows has an order of its own; else that of the file.
    pub shuffle: bool,
    /// Seed of the orders.
    pub seed: u64,
}

/// Sequences of a step: (rows, T).
#[derive(Clone, Debug, Default)]
pub(crate) struct Sequences {
    pub(crate) time: usize,
    pub(crate) inputs: Vec<u32>,
    pub(crate) targets: Vec<u32>,
    /// Where each token's row begins.
    pub(crate) starts: Vec<u32>,
    /// What each token's gradient counts for; all the same where there are none.
    pub(crate) weights: Vec<f32>,
    /// Where the tokens of each row lie that was laid.
    pub(crate) spans: Vec<Range<usize>>,
    /// Tokens without padding.
    pub(crate) tokens: u64,
}

impl Sequences {
    /// As the network takes it.
    pub(crate) fn batch(&self) -> Batch<'_> {
        let weights = Some(&self.weights[..]).filter(|weights| !weights.is_empty());
        let starts = Some(&self.starts[..]);
        Batch { inputs: &self.inputs, targets: &self.targets, starts, weights }
    }
}

impl Examples {
    /// Some rows; `sha256` is that of the files which they come from.
    pub fn new(examples: Vec<Example>, sha256: String) -> Examples {
        Examples { examples, group: 1, liked: Vec::new(), sha256 }
    }

    /// Pairs of rows, each better answer before its worse one.
    pub fn pairs(examples: Vec<Example>, sha256: String) -> Examples {
        Examples { examples, group: 2, liked: Vec::new(), sha256 }
    }

    /// Answers that were liked or not, in blocks of `block`. Beside each lies what KTO measures its
    /// drift by: the same prompt with the answer before it in its block, cut to `most` tokens.
    pub fn tagged(
        answers: Vec<(Example, bool)>,
        block: usize,
        most: usize,
        sha256: String,
    ) -> Examples {
        let mut examples = Vec::with_capacity(2 * answers.len());
        for block in answers.chunks(block.max(1)) {
            let before = block.iter().cycle().skip(block.len() - 1);
            for ((example, _), (other, _)) in block.iter().zip(before) {
                examples.push(example.clone());
                examples.push(example.answered_as(other, most));
            }
        }
        let liked = answers.into_iter().map(|(_, liked)| liked).collect();
        Examples { examples, group: 2, liked, sha256 }
    }

    /// Of answers with tags: whether the answer of the row at `place` was liked.
    pub(crate) fn liked(&self, place: usize) -> bool {
        self.liked.get(place / self.group).copied().unwrap_or(false)
    }

    /// Rows, or pairs of them.
    pub fn n_group(&self) -> usize {
        self.examples.len() / self.group
    }

    /// The rows.
    pub fn rows(&self) -> &[Example] {
        &self.examples
    }

    /// The hash of the files.
    pub fn sha256(&self) -> &str {
        &self.sha256
    }

    /// Tokens of the longest row.
    pub fn longest(&self) -> usize {
        self.examples.iter().map(|example| example.ids.len()).max().unwrap_or(0)
    }

    /// The rows of batch `number`, from 0, by their places; those of a pair side by side.
    pub(crate) fn batch(&self, deal: Deal, number: u64) -> Vec<usize> {
        let n = self.n_group() as u64;
        let mut order: Option<(u64, Permutation)> = None;
        let mut places = Vec::with_capacity(deal.batch * self.group);
        for i in 0..deal.batch as u64 {
            let at = number * deal.batch as u64 + i;
            let (epoch, mut place) = (at / n, at % n);
            if deal.shuffle {
                if order.is_none_or(|(of, _)| of != epoch) {
                    order = Some((epoch, Permutation::new(n, hash(&[deal.seed, epoch]))));
                }
                place = order.map_or(place, |(_, order)| order.at(place));
            }
            places.extend((0..self.group).map(|row| place as usize * self.group + row));
        }
        places
    }
}

/// Lays rows into sequences of at most `most` tokens: packed by best fit from the longest row on, or
/// each in a sequence of its own. A sequence is as long as the longest needs, in steps of 16.
pub(crate) fn lay(rows: &[&Example], pack: bool, most: usize) -> Sequences {
    // A row of n ids is n - 1 inputs and targets.
    let need = |row: &Example| row.ids.len() - 1;
    let longest = rows.iter().map(|row| need(row)).max().unwrap_or(0);
    let room = if pack { most.max(longest) } else { longest };
    let mut order: Vec<usize> = (0..rows.len()).collect();
    if pack {
        order.sort_by_key(|&i| std::cmp::Reverse(need(rows[i])));
    }
    let mut sequences: Vec<(usize, Vec<usize>)> = Vec::new();
    for i in order {
        let fits = sequences.iter_mut().filter(|(used, _)| pack && used + need(rows[i]) <= room);
        match fits.max_by_key(|(used, _)| *used) {
            Some((used, rows_of)) => {
                *used += need(rows[i]);
                rows_of.push(i);
            }
            None => sequences.push((need(rows[i]), vec![i])),
        }
    }
    let time = sequences.iter().map(|(used, _)| *used).max().unwrap_or(0);
    let time = time.next_multiple_of(16);
    let n = sequences.len() * time;
    let mut laid = Sequences {
        time,
        inputs: Vec::with_capacity(n),
        targets: Vec::with_capacity(n),
        starts: Vec::with_capacity(n),
        weights: Vec::new(),
        spans: vec![0..0; rows.len()],
        tokens: 0,
    };
    for (s, (_, rows_of)) in sequences.iter().enumerate() {
        for &i in rows_of {
            let row = rows[i];
            let start = (laid.inputs.len() - s * time) as u32;
            laid.tokens += row.ids.len() as u64;
            laid.spans[i] = laid.inputs.len()..laid.inputs.len() + need(row);
            laid.inputs.extend(&row.ids[..need(row)]);
            let targets = row.ids[1..].iter().zip(&row.learnt[1..]);
            laid.targets.extend(targets.map(|(&id, &learnt)| if learnt { id } else { IGNORE }));
            laid.starts.resize(laid.inputs.len(), start);
        }
        // What is left of a sequence is seen by nobody and learns nothing.
        let start = (laid.inputs.len() - s * time) as u32;
        laid.inputs.resize((s + 1) * time, 0);
        laid.targets.resize((s + 1) * time, IGNORE);
        laid.starts.resize((s + 1) * time, start);
    }
    laid
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example(ids: &[u32]) -> Example {
        Example { ids: ids.to_vec(), learnt: ids.iter().map(|&id| id > 4).collect() }
    }

    #[test]
    fn rows_lie_side_by_side() {
        let rows = [example(&[1, 5, 6]), example(&[2, 3, 7, 8]), example(&[4, 9])];
        let rows: Vec<&Example> = rows.iter().collect();
        let x = IGNORE;
        let packed = lay(&rows, true, 16);
        assert_eq!((packed.time, packed.tokens), (16, 9));
        assert_eq!(packed.inputs[..6], [2, 3, 7, 1, 5, 4]);
        assert_eq!(packed.targets[..7], [x, 7, 8, 5, 6, 9, x]);
        assert_eq!(packed.starts[..7], [0, 0, 0, 3, 3, 5, 6]);
        let alone = lay(&rows, false, 16);
        assert_eq!((alone.time, alone.inputs.len(), alone.tokens), (16, 48, 9));
        assert_eq!(alone.inputs[16..20], [2, 3, 7, 0]);
    }

    #[test]
    fn an_answer_lies_beside_the_prompt_of_its_neighbour() {
        let rows = [&[1, 2, 5, 6][..], &[3, 7], &[4, 8, 9]];
        let rows = rows.map(example).into_iter().zip([true, false, true]).collect::<Vec<_>>();
        let ids = |most: usize| -> Vec<Vec<u32>> {
            let tagged = Examples::tagged(rows.clone(), 2, most, String::new());
            tagged.rows().iter().map(|row| row.ids.clone()).collect()
        };
        // The third is alone in its block.
        let all = [&[1, 2, 5, 6][..], &[1, 2, 7], &[3, 7], &[3, 5, 6], &[4, 8, 9], &[4, 8, 9]];
        assert_eq!(ids(9), all);
        assert_eq!(ids(2)[3], [3, 5]);
        let tagged = Examples::tagged(rows.clone(), 2, 9, String::new());
        assert_eq!((tagged.n_group(), tagged.liked(0), tagged.liked(2)), (3, true, false));
        assert_eq!(tagged.rows()[3].learnt, [false, true, true]);
    }

    #[test]
    fn every_reading_has_every_row_once() {
        let rows: Vec<Example> = (0..10).map(|id| example(&[id, id + 5])).collect();
        let examples = Examples::new(rows, String::new());
        let deal = Deal { batch: 4, pack: true, shuffle: true, seed: 3 };
        let mut seen: Vec<u32> =
            (0..5).flat_map(|n| examples.batch(deal, n)).map(|i| i as u32).collect();
        assert_ne!(seen[..10], seen[10..]);
        seen[..10].sort_unstable();
        seen[10..].sort_unstable();
        let all: Vec<u32> = (0..10).chain(0..10).collect();
        assert_eq!(seen, all);
        let plain = Deal { shuffle: false, ..deal };
        assert_eq!(examples.batch(plain, 2), [8, 9, 0, 1]);
        let pairs = (0..4).flat_map(|id| [example(&[id, 5]), example(&[id, 6])]).collect();
        let pairs = Examples::pairs(pairs, String::new());
        let plain = Deal { batch: 2, ..plain };
        assert_eq!((pairs.n_group(), pairs.batch(plain, 1)), (4, vec![4, 5, 6, 7]));
    }
}
