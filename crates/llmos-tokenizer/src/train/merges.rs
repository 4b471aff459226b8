//! Learning merges: again and again the most frequent pair of neighbours becomes one token.
//!
//! Each pair has the places where it stood when it was made; a merge visits those that still hold
//! it, and what it changes is summed up by neighbour before the table of pairs is touched.

use super::cells::{Counts, GAP, INSIDE, Words};
use super::pairs::{Pair, Pairs, Room};
use super::tokens::Tokens;

/// Merges that were learnt from words.
#[derive(Debug)]
pub(super) struct Learnt {
    pub(super) tokens: Tokens,
    /// What each merge joins, as numbers in `tokens`.
    pub(super) merges: Vec<(u32, u32)>,
    /// Tokens that the words become, each as often as its word.
    pub(super) n_token: u64,
}

/// Learns at most `n_merge` merges from distinct words with counts.
///
/// A pair must occur `least` times. A pair whose text is a token already is passed over, so that
/// a token is made by one merge alone. Ties: see [`order`](super::queue::order). Neither the words'
/// order nor the room for pairs matters to what is learnt.
pub(super) fn learn(
    words: Words,
    n_merge: usize,
    least: u64,
    room: Room,
    progress: &mut dyn FnMut(usize, usize),
) -> Learnt {
    let mut learning = Learning::new(words, n_merge, least, room);
    for done in 0..n_merge {
        if done % 64 == 0 {
            progress(done, n_merge);
        }
        if !learning.step() {
            break;
        }
    }
    progress(learning.merges.len(), learning.merges.len());
    let Learning { words, tokens, merges, .. } = learning;
    let n_token = words.n_token(&tokens);
    Learnt { tokens, merges, n_token }
}

#[derive(Debug)]
struct Learning {
    words: Words,
    tokens: Tokens,
    merges: Vec<(u32, u32)>,
    pairs: Pairs,
    before: Neighbours,
    after: Neighbours,
    /// The places of the pair that is merged.
    live: Vec<u32>,
}

impl Learning {
    fn new(words: Words, n_merge: usize, least: u64, room: Room) -> Learning {
        let tokens = Tokens::new(n_merge);
        let mut pairs = Pairs::new(least, room);
        pairs.count(&words, &tokens);
        Learning {
            words,
            tokens,
            merges: Vec::with_capacity(n_merge),
            pairs,
            before: Neighbours::default(),
            after: Neighbours::default(),
            live: Vec::new(),
        }
    }

    /// Makes the next merge; false if no pair is left.
    fn step(&mut self) -> bool {
        loop {
            while let Some(pair) = self.pairs.pop(&self.tokens) {
                if let Some(merged) = self.tokens.join(pair.left, pair.right) {
                    self.merges.push((pair.left, pair.right));
                    self.merge(pair, merged);
                    return true;
                }
            }
            if !self.pairs.is_cut() {
                return false;
            }
            self.pairs.count(&self.words, &self.tokens);
        }
    }

    /// Replaces a pair by one token wherever it stands.
    fn merge(&mut self, pair: Pair, merged: u32) {
        let Pair { left, right, .. } = pair;
        self.before.clear(merged);
        self.after.clear(merged);
        let undone = self.replace(pair, merged);
        for &token in &self.before.met {
            if token != merged {
                self.pairs.lose(token, left, self.before.sums[token as usize].count);
            }
        }
        for &token in &self.after.met {
            self.pairs.lose(right, token, self.after.sums[token as usize].count);
        }
        if let Some(sum) = self.after.sums.get_mut(left as usize) {
            sum.count -= undone.count;
            sum.n_place -= undone.n_place;
        }
        let before = self.before.pairs(|token| (token, merged));
        let after = self.after.pairs(|token| (merged, token));
        let may_meet = |pair: &Pair| self.tokens.may_meet(pair.left, pair.right);
        let mut new: Vec<Pair> = before.chain(after).filter(may_meet).collect();
        let Learning { words, tokens, live, .. } = self;
        self.pairs.add(&mut new, live.len(), tokens, |pair, at| words.has(pair, at, tokens));
        for pair in new {
            let sum = match pair.right == merged {
                true => &mut self.before.sums[pair.left as usize],
                false => &mut self.after.sums[pair.right as usize],
            };
            sum.next = pair.start;
        }
        self.place(merged);
    }

    /// Writes the token into the cells, and sums up what it meets. Returns how much of that is
    /// pairs of `merged` and `left` that were made on the way and are no more.
    fn replace(&mut self, pair: Pair, merged: u32) -> Sum {
        let Learning { words, tokens, pairs, before, after, live, .. } = self;
        let (left_len, len) = (tokens.len_of(pair.left), tokens.len_of(merged));
        let mut counts = Counts::new(&words.groups);
        let mut undone = Sum::default();
        live.clear();
        for places in pairs.places(pair).chunks(AHEAD) {
            // Most places are cache misses. Looked at in a row they are waited for together.
            let mut standing = [0; AHEAD];
            let mut n_standing = 0;
            for &at in places {
                standing[n_standing] = at;
                n_standing += usize::from(words.has(pair, at, tokens));
            }
            for &at in &standing[..n_standing] {
                // In `aaa` the second pair has gone with the first.
                if pair.left == pair.right && !words.has(pair, at, tokens) {
                    continue;
                }
                let count = counts.at(at);
                let (start, middle) = (at as usize, (at + left_len) as usize);
                let end = start + len as usize;
                let (token_before, token_after) = (words.cells[start - 1], words.cells[end]);
                if token_before != GAP {
                    if token_before == merged {
                        undone.count += count;
                        undone.n_place += 1;
                    }
                    before.meet(token_before, count);
                }
                if token_after != GAP {
                    after.meet(token_after, count);
                }
                words.cells[middle - 1] = INSIDE;
                words.cells[middle] = INSIDE;
                words.cells[start] = merged;
                words.cells[end - 1] = merged;
                live.push(at);
            }
        }
        undone
    }

    /// Writes down where the pairs of a new token stand.
    fn place(&mut self, merged: u32) {
        let len = self.tokens.len_of(merged);
        for &at in &self.live {
            let cells = &self.words.cells;
            let (before, after) = (cells[at as usize - 1], cells[(at + len) as usize]);
            if before != GAP
                && let Some(next) = self.before.next_place(before)
            {
                self.pairs.set_place(next, at - self.tokens.len_of(before));
            }
            // Two such tokens in a row are a pair of the second with what is before it.
            if after != GAP
                && after != merged
                && let Some(next) = self.after.next_place(after)
            {
                self.pairs.set_place(next, at);
            }
        }
        if self.live.len() > MOST_KEPT {
            self.live = Vec::new();
        }
    }
}

/// Places that are looked at together.
const AHEAD: usize = 64;

/// Room for places that a merge leaves to the next.
const MOST_KEPT: usize = 1 << 20;

/// Where no place is to be written.
const NOWHERE: u32 = u32::MAX;

/// What a merge met on one side.
#[derive(Debug, Default)]
struct Neighbours {
    /// By token.
    sums: Vec<Sum>,
    /// The tokens that were met.
    met: Vec<u32>,
}

#[derive(Debug, Clone, Copy)]
struct Sum {
    count: u64,
    n_place: u32,
    /// Where the pair's next place is to be written.
    next: u32,
}

impl Default for Sum {
    fn default() -> Sum {
        Sum { count: 0, n_place: 0, next: NOWHERE }
    }
}

impl Neighbours {
    /// Forgets all, and makes room for tokens up to `last`.
    fn clear(&mut self, last: u32) {
        for token in self.met.drain(..) {
            self.sums[token as usize] = Sum::default();
        }
        self.sums.resize(last as usize + 1, Sum::default());
    }

    #[inline]
    fn meet(&mut self, token: u32, count: u64) {
        let sum = &mut self.sums[token as usize];
        if sum.n_place == 0 {
            self.met.push(token);
        }
        sum.count += count;
        sum.n_place += 1;
    }

    /// The pairs with what was met.
    fn pairs(&self, pair: impl Fn(u32) -> (u32, u32)) -> impl Iterator<Item = Pair> {
        self.met.iter().map(move |&token| {
            let ((left, right), sum) = (pair(token), self.sums[token as usize]);
            Pair::new(left, right, sum.count, sum.n_place)
        })
    }

    #[inline]
    fn next_place(&mut self, token: u32) -> Option<u32> {
        let next = &mut self.sums[token as usize].next;
        let place = *next;
        *next = next.wrapping_add(u32::from(place != NOWHERE));
        (place != NOWHERE).then_some(place)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::super::tokens::Part;
    use super::super::words::WordTable;
    use super::*;

    const AMPLE: Room = Room { pairs: 1 << 20, places: 1 << 20 };

    /// The definition, word by word: what the fast way must give.
    fn slowly(words: &[(String, u64)], n_merge: usize, least: u64) -> (Vec<[Vec<u8>; 2]>, u64) {
        let mut words: Vec<(Vec<Vec<u8>>, u64)> = words
            .iter()
            .map(|(word, count)| (word.bytes().map(|byte| vec![byte]).collect(), *count))
            .collect();
        let mut tokens: std::collections::HashSet<Vec<u8>> = (0..=255).map(|b| vec![b]).collect();
        let mut merges = Vec::new();
        while merges.len() < n_merge {
            let mut pairs: HashMap<[&Vec<u8>; 2], u64> = HashMap::new();
            for (word, count) in &words {
                for pair in word.windows(2) {
                    *pairs.entry([&pair[0], &pair[1]]).or_default() += count;
                }
            }
            let allowed = pairs.into_iter().filter(|([left, right], count)| {
                *count >= least
                    && !tokens.contains(&[left.as_slice(), right].concat())
                    && Part::of(left).may_meet(Part::of(right))
            });
            let Some(([left, right], _)) = allowed.max_by_key(|&(pair, count)| (count, pair))
            else {
                break;
            };
            let pair = [left.clone(), right.clone()];
            tokens.insert(pair.concat());
            for (word, _) in &mut words {
                let mut at = 0;
                while at + 1 < word.len() {
                    if word[at..at + 2] == pair {
                        word.splice(at..at + 2, [pair.concat()]);
                    }
                    at += 1;
                }
            }
            merges.push(pair);
        }
        let n_token = words.iter().map(|(word, count)| word.len() as u64 * count).sum();
        (merges, n_token)
    }

    proptest! {
        #[test]
        fn the_fast_way_equals_the_definition(
            words in prop::collection::hash_map("[ab]{1,12}|[a-d]{1,9}|[ a你好吗😀]{1,7}", 1u64..20, 1..25),
            n_merge in 1usize..60,
            least in 1u64..5,
            most_pairs in 2usize..200,
            more_places in 0usize..100,
        ) {
            let words: Vec<(String, u64)> = words.into_iter().collect();
            let mut table = WordTable::new();
            words.iter().for_each(|(word, count)| table.add(word.as_bytes(), *count));
            let cells = Words::new(&table);
            let places = cells.cells.len() + more_places;
            let room = Room { pairs: most_pairs, places };
            let learnt = learn(cells, n_merge, least, room, &mut |_, _| {});
            let bytes = |token| learnt.tokens.bytes(token).to_vec();
            let merges: Vec<_> =
                learnt.merges.iter().map(|&(left, right)| [bytes(left), bytes(right)]).collect();
            prop_assert_eq!((merges, learnt.n_token), slowly(&words, n_merge, least));
        }
    }

    #[test]
    fn progress_ends_at_the_end() {
        let mut table = WordTable::new();
        table.add("abcabcabc".as_bytes(), 3);
        let mut told = Vec::new();
        learn(Words::new(&table), 100, 2, AMPLE, &mut |done, all| told.push((done, all)));
        assert_eq!(told.first(), Some(&(0, 100)));
        assert!(told.last().is_some_and(|&(done, all)| done == all), "{told:?}");
    }
}
