//! Distinct words end to end, in groups of equal counts.

use super::pairs::Pair;
use super::tokens::Tokens;
use super::words::WordTable;

/// A cell between two words.
pub(super) const GAP: u32 = u32::MAX;
/// A cell inside of a token.
pub(super) const INSIDE: u32 = u32::MAX - 1;

/// Most cells: the numbers of places have 32 bits, of which two are no places.
pub(super) const MOST_CELLS: usize = INSIDE as usize - 1;

/// Distinct words as cells, one for each byte.
///
/// A token stands in its first and its last cell, so that from any place both neighbours are found
/// without links.
#[derive(Debug)]
pub(super) struct Words {
    /// Words of one byte value a cell, with a [`GAP`] before the first and after each.
    pub(super) cells: Vec<u32>,
    /// First cell and count of each group; ascending.
    pub(super) groups: Vec<(u32, u64)>,
}

impl Words {
    pub(super) fn new(table: &WordTable) -> Words {
        let mut words: Vec<_> = table.iter().collect();
        words.sort_unstable_by_key(|&(_, count)| std::cmp::Reverse(count));
        let n_cell = words.iter().map(|(word, _)| word.len() + 1).sum::<usize>() + 1;
        assert!(n_cell <= MOST_CELLS, "the table of words is bounded");
        let mut cells = Vec::with_capacity(n_cell);
        let mut groups: Vec<(u32, u64)> = Vec::new();
        cells.push(GAP);
        for (word, count) in words {
            if groups.last().is_none_or(|group| group.1 != count) {
                groups.push((cells.len() as u32, count));
            }
            cells.extend(word.iter().map(|&byte| u32::from(byte)));
            cells.push(GAP);
        }
        Words { cells, groups }
    }

    /// Calls `each` with every place where two tokens of a word meet that may be merged: the place
    /// of the left one, both tokens, and the word's count. Places ascend.
    pub(super) fn for_each_pair(&self, tokens: &Tokens, mut each: impl FnMut(u32, u32, u32, u64)) {
        let mut counts = Counts::new(&self.groups);
        let mut at = 0;
        while let Some(&left) = self.cells.get(at as usize) {
            let next = at + if left == GAP { 1 } else { tokens.len_of(left) };
            if left != GAP {
                let right = self.cells[next as usize];
                if right != GAP && tokens.may_meet(left, right) {
                    each(at, left, right, counts.at(at));
                }
            }
            at = next;
        }
    }

    /// Whether a pair stands at a place where one of its tokens was made.
    #[inline]
    pub(super) fn has(&self, pair: Pair, at: u32, tokens: &Tokens) -> bool {
        let middle = at + tokens.len_of(pair.left);
        (self.cells[at as usize] == pair.left) & (self.cells[middle as usize] == pair.right)
    }

    /// Tokens that the words are now, each as often as its word.
    pub(super) fn n_token(&self, tokens: &Tokens) -> u64 {
        let mut counts = Counts::new(&self.groups);
        let (mut n_token, mut at) = (0, 0);
        while let Some(&token) = self.cells.get(at as usize) {
            if token == GAP {
                at += 1;
            } else {
                n_token += counts.at(at);
                at += tokens.len_of(token);
            }
        }
        n_token
    }
}

/// Finds the counts of words by places, asked for in ascending order.
pub(super) struct Counts<'g> {
    groups: &'g [(u32, u64)],
    /// First place of the group after the current one.
    end: u32,
}

impl<'g> Counts<'g> {
    pub(super) fn new(groups: &'g [(u32, u64)]) -> Counts<'g> {
        Counts { groups, end: groups.get(1).map_or(u32::MAX, |group| group.0) }
    }

    #[inline]
    pub(super) fn at(&mut self, place: u32) -> u64 {
        if place >= self.end {
            let next = self.groups.partition_point(|&(start, _)| start <= place);
            self.groups = &self.groups[next - 1..];
            self.end = self.groups.get(1).map_or(u32::MAX, |group| group.0);
        }
        self.groups[0].1
    }
}
