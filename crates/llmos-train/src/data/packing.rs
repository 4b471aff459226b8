//! Rows that begin with documents: best-fit packing, after arXiv:2404.10830.
//!
//! Documents longer than a row are cut into rows, each of which repeats the last token of the one
//! before as its first, so that every token is predicted once. What is left of them, and shorter
//! documents, go into the fullest row that has room for them, the longest first. The gap at a
//! row's end is filled with beginnings of documents, so that every place of a row has a target.
//!
//! Documents are packed in groups of neighbours, so that a row can be had without packing all.

use std::collections::BTreeMap;

use super::shuffle::{below, hash};

/// Rows of a group, about.
const GROUP: u64 = 256;

/// Documents of a group, at most.
const GROUP_DOCUMENTS: usize = 4096;

/// Tokens that lie side by side in a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stretch {
    pub(super) start: u64,
    pub(super) length: usize,
}

/// A packing of documents.
#[derive(Debug)]
pub(super) struct Packing {
    /// Tokens of a row.
    capacity: usize,
    /// Where documents begin, and where the last ends, (n + 1).
    starts: Vec<u64>,
    /// The first document and the first row of each group.
    groups: Vec<(usize, u64)>,
    n_row: u64,
}

impl Packing {
    /// Packs the documents between `starts`, (n + 1), into rows of `capacity` tokens, 2 or more.
    pub(super) fn new(starts: Vec<u64>, capacity: usize) -> Packing {
        assert!(capacity >= 2, "a row of {capacity} tokens has no target");
        let mut packing = Packing { capacity, starts, groups: Vec::new(), n_row: 0 };
        let n_document = packing.starts.len().saturating_sub(1);
        let mut first = 0;
        while first < n_document {
            let end = packing.group_end(first);
            packing.groups.push((first, packing.n_row));
            packing.n_row += packing.pack(first, end).len() as u64;
            first = end;
        }
        packing
    }

    /// Rows of an epoch.
    pub(super) fn n_row(&self) -> u64 {
        self.n_row
    }

    /// The stretches of a row, which are `capacity` tokens in all.
    pub(super) fn row(&self, row: u64) -> Vec<Stretch> {
        let index = self.groups.partition_point(|&(_, first)| first <= row) - 1;
        let (first, first_row) = self.groups[index];
        let end = self.groups.get(index + 1).map_or(self.starts.len() - 1, |&(end, _)| end);
        let mut stretches = self.pack(first, end).swap_remove((row - first_row) as usize);
        let mut gap = self.capacity - stretches.iter().map(|stretch| stretch.length).sum::<usize>();
        let mut n_filler = 0;
        while gap > 0 {
            let document = below((end - first) as u64, hash(&[row, n_filler])) as usize + first;
            let start = self.starts[document];
            let length = ((self.starts[document + 1] - start) as usize).min(gap);
            stretches.push(Stretch { start, length });
            gap -= length;
            n_filler += 1;
        }
        stretches
    }

    fn group_end(&self, first: usize) -> usize {
        let enough = self.starts[first] + GROUP * self.capacity as u64;
        let end = self.starts.partition_point(|&start| start < enough);
        end.clamp(first + 1, first + GROUP_DOCUMENTS).min(self.starts.len() - 1)
    }

    /// The rows of a group, with gaps.
    fn pack(&self, first: usize, end: usize) -> Vec<Vec<Stretch>> {
        let mut rows: Vec<Vec<Stretch>> = Vec::new();
        let mut rests = Vec::new();
        for document in first..end {
            let (mut start, end) = (self.starts[document], self.starts[document + 1]);
            while end - start > self.capacity as u64 {
                rows.push(vec![Stretch { start, length: self.capacity }]);
                start += self.capacity as u64 - 1;
            }
            let rest = Stretch { start, length: (end - start) as usize };
            match rest.length {
                0 => {}
                n if n == self.capacity => rows.push(vec![rest]),
                _ => rests.push(rest),
            }
        }
        // The order of equals is that of the stream, so that the packing is always the same.
        rests.sort_by_key(|rest| std::cmp::Reverse(rest.length));
        let mut room: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        for rest in rests {
            let fit = room.range(rest.length..).next().map(|(&room, _)| room);
            let (row, before) = match fit {
                Some(before) => {
                    let rows_of = room.entry(before).or_default();
                    let row = rows_of.pop();
                    if rows_of.is_empty() {
                        room.remove(&before);
                    }
                    (row.unwrap_or_default(), before)
                }
                None => {
                    rows.push(Vec::new());
                    (rows.len() - 1, self.capacity)
                }
            };
            rows[row].push(rest);
            if before > rest.length {
                room.entry(before - rest.length).or_default().push(row);
            }
        }
        rows
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn starts(lengths: &[u64]) -> Vec<u64> {
        let mut end = 7;
        let mut starts = vec![end];
        for length in lengths {
            end += length;
            starts.push(end);
        }
        starts
    }

    #[test]
    fn documents_find_the_fullest_row_with_room() {
        let packing = Packing::new(starts(&[5, 4, 9, 3, 6]), 10);
        let rows: Vec<Vec<usize>> = (0..packing.n_row())
            .map(|row| packing.row(row).iter().map(|stretch| stretch.length).collect())
            .collect();
        // Nine alone and a token of another's beginning; six with four; five with three and two.
        assert_eq!(rows[0][..1], [9]);
        assert_eq!(rows[1], [6, 4]);
        assert_eq!(rows[2][..2], [5, 3]);
        assert_eq!(rows.len(), 3);
    }

    proptest! {
        #[test]
        fn every_token_is_predicted_and_rows_are_full(
            lengths in proptest::collection::vec(1u64..60, 1..200), capacity in 2usize..20,
        ) {
            let starts = starts(&lengths);
            let packing = Packing::new(starts.clone(), capacity);
            let mut predicted = std::collections::BTreeSet::new();
            let mut begun = std::collections::BTreeSet::new();
            for row in 0..packing.n_row() {
                let stretches = packing.row(row);
                prop_assert_eq!(stretches.iter().map(|s| s.length).sum::<usize>(), capacity);
                for stretch in stretches {
                    begun.insert(stretch.start);
                    predicted.extend(stretch.start + 1..stretch.start + stretch.length as u64);
                    // No stretch reaches over a document's end.
                    let document = starts.partition_point(|&start| start <= stretch.start);
                    prop_assert!(stretch.start + stretch.length as u64 <= starts[document]);
                }
            }
            for (start, length) in starts.iter().zip(&lengths) {
                prop_assert!(begun.contains(start));
                for token in start + 1..start + length {
                    prop_assert!(predicted.contains(&token));
                }
            }
        }
    }

    #[test]
    fn little_is_wasted() {
        // Lengths like those of stories: 40 to 400 tokens, in rows of 257.
        let lengths: Vec<u64> = (0..20_000).map(|i| 40 + hash(&[i]) % 360).collect();
        let packing = Packing::new(starts(&lengths), 257);
        let total: u64 = lengths.iter().sum();
        let fullness = total as f64 / (packing.n_row() * 257) as f64;
        assert!(fullness > 0.97, "{fullness}");
    }
}
