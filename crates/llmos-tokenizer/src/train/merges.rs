//! Learning merges: again and again the most frequent pair of neighbours becomes one token.
//!
//! All distinct words lie end to end in one array of cells, one for each byte. A token stands in
//! its first and its last cell, so that from any place both neighbours are found without links.
//! Each pair keeps the places where it stood when it was made; a merge visits those that still
//! hold it, and what it changes is summed up by neighbour before the table of pairs is touched.

use std::collections::HashMap;
use std::mem::take;

use foldhash::fast::RandomState;

use super::queue::{Queue, Waiting};
use super::words::WordTable;
use crate::symbols::Symbols;

/// A cell between two words.
const GAP: u32 = u32::MAX;
/// A cell inside of a token.
const INSIDE: u32 = u32::MAX - 1;

/// Merges that were learnt from words.
#[derive(Debug)]
pub(super) struct Learnt {
    /// The bytes of each token: the 256 bytes by their value, then one token a merge.
    pub(super) tokens: Symbols,
    /// What each merge joins, as numbers in `tokens`.
    pub(super) merges: Vec<(u32, u32)>,
    /// Tokens that the words become, each as often as its word.
    pub(super) n_token: u64,
}

/// Learns at most `n_merge` merges from distinct words with counts.
///
/// A pair must occur `least` times. A pair whose text is a token already is passed over, so that
/// a token is made by one merge alone. Ties: see [`Queue`]. The words' order does not matter.
pub(super) fn learn(
    words: Words,
    n_merge: usize,
    least: u64,
    progress: &mut dyn FnMut(usize, usize),
) -> Learnt {
    let mut learning = Learning::new(words, n_merge, least);
    for done in 0..n_merge {
        if done % 64 == 0 {
            progress(done, n_merge);
        }
        if !learning.step() {
            break;
        }
    }
    progress(learning.merges.len(), learning.merges.len());
    learning.finish()
}

/// Distinct words as cells, in groups of equal counts.
#[derive(Debug)]
pub(super) struct Words {
    /// Words of one byte value a cell, with a [`GAP`] before the first and after each.
    cells: Vec<u32>,
    /// First cell and count of each group; ascending.
    groups: Vec<(u32, u64)>,
}

impl Words {
    pub(super) fn new(table: &WordTable) -> Words {
        let mut words: Vec<_> = table.iter().collect();
        words.sort_unstable_by_key(|&(_, count)| std::cmp::Reverse(count));
        let n_cell = words.iter().map(|(word, _)| word.len() + 1).sum::<usize>() + 1;
        // Two numbers are no places, and two no tokens.
        assert!(n_cell < INSIDE as usize, "the table of words is bounded");
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
}

/// A pair: how often it occurs, and where it stood when its younger token was made.
#[derive(Debug)]
struct Pair {
    count: u64,
    places: Box<[u32]>,
}

/// What a token is to characters. A merge never joins a part of one character with another: such
/// tokens are frequent where all characters have three bytes, and mean nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    /// Whole characters.
    Whole,
    /// The beginning of a character.
    Head,
    /// Bytes from the middle or the end of one.
    Tail,
}

impl Part {
    fn of(bytes: &[u8]) -> Part {
        match bytes.first() {
            Some(0x80..=0xbf) => Part::Tail,
            _ if std::str::from_utf8(bytes).is_ok() => Part::Whole,
            _ => Part::Head,
        }
    }

    fn may_meet(self, right: Part) -> bool {
        matches!((self, right), (Part::Whole, Part::Whole) | (Part::Head | Part::Tail, Part::Tail))
    }
}

#[derive(Debug)]
struct Learning {
    cells: Vec<u32>,
    groups: Vec<(u32, u64)>,
    tokens: Symbols,
    /// Bytes of each token.
    lens: Vec<u32>,
    parts: Vec<Part>,
    merges: Vec<(u32, u32)>,
    pairs: HashMap<u64, Pair, RandomState>,
    queue: Queue,
    least: u64,
    before: Neighbours,
    after: Neighbours,
}

fn key(left: u32, right: u32) -> u64 {
    u64::from(left) << 32 | u64::from(right)
}

impl Learning {
    fn new(words: Words, n_merge: usize, least: u64) -> Learning {
        let mut tokens = Symbols::with_capacity(256 + n_merge);
        let bytes: Vec<u8> = (0..=255).collect();
        bytes.chunks(1).for_each(|byte| tokens.push(Some(byte)));
        let mut learning = Learning {
            cells: words.cells,
            groups: words.groups,
            tokens,
            lens: vec![1; 256],
            parts: bytes.chunks(1).map(Part::of).collect(),
            merges: Vec::with_capacity(n_merge),
            pairs: HashMap::default(),
            queue: Queue::default(),
            least: least.max(1),
            before: Neighbours::default(),
            after: Neighbours::default(),
        };
        learning.count_bytes();
        learning
    }

    /// The pairs of bytes.
    fn count_bytes(&mut self) {
        let mut counts = vec![0u64; 1 << 16];
        let mut n_place = vec![0u32; 1 << 16];
        let visit = |each: &mut dyn FnMut(usize, u32, u64)| {
            let mut counts = Counts::new(&self.groups);
            for (at, pair) in self.cells.windows(2).enumerate() {
                if pair[0] != GAP && pair[1] != GAP {
                    let pair = (pair[0] << 8 | pair[1]) as usize;
                    each(pair, at as u32, counts.at(at as u32));
                }
            }
        };
        visit(&mut |pair, _, count| {
            counts[pair] += count;
            n_place[pair] += 1;
        });
        let mut places: Vec<Vec<u32>> = vec![Vec::new(); 1 << 16];
        let is_kept = |pair: usize| {
            let (left, right) = (self.parts[pair >> 8], self.parts[pair & 0xff]);
            counts[pair] >= self.least && left.may_meet(right)
        };
        for pair in (0..1 << 16).filter(|&pair| is_kept(pair)) {
            places[pair].reserve_exact(n_place[pair] as usize);
        }
        visit(&mut |pair, place, _| {
            if places[pair].capacity() > 0 {
                places[pair].push(place);
            }
        });
        for (pair, places) in places.into_iter().enumerate().filter(|(_, list)| !list.is_empty()) {
            let (left, right, count) = ((pair >> 8) as u32, (pair & 0xff) as u32, counts[pair]);
            self.pairs.insert(key(left, right), Pair { count, places: places.into() });
            self.queue.push(Waiting { count, left, right }, &self.tokens);
        }
    }

    /// Makes the next merge; false if no pair is left.
    fn step(&mut self) -> bool {
        while let Some(top) = self.queue.pop(&self.tokens) {
            let Waiting { count, left, right } = top;
            let Some(pair) = self.pairs.get(&key(left, right)) else { continue };
            if pair.count < count {
                self.queue.push(Waiting { count: pair.count, ..top }, &self.tokens);
                continue;
            }
            let Some(pair) = self.pairs.remove(&key(left, right)) else { continue };
            let text = [self.tokens.bytes(left), self.tokens.bytes(right)].concat();
            if self.tokens.get(&text).is_some() {
                continue;
            }
            let merged = self.tokens.len() as u32;
            self.tokens.push(Some(&text));
            self.lens.push(text.len() as u32);
            self.parts.push(Part::of(&text));
            self.merges.push((left, right));
            self.merge(left, right, merged, &pair.places);
            return true;
        }
        false
    }

    /// Replaces a pair by one token wherever it stands.
    fn merge(&mut self, left: u32, right: u32, merged: u32, places: &[u32]) {
        let (left_len, len) = (self.lens[left as usize], self.lens[merged as usize]);
        self.before.clear(merged);
        self.after.clear(merged);
        let mut counts = Counts::new(&self.groups);
        // Pairs of `merged` and `left` that were made on the way and are no more.
        let mut undone = 0;
        for places in places.chunks(AHEAD) {
            // Most places are cache misses. Looked at in a row they are waited for together.
            let mut live = [0; AHEAD];
            let mut n_live = 0;
            for &at in places {
                live[n_live] = at;
                n_live += usize::from(self.stands(left, right, at));
            }
            for &at in &live[..n_live] {
                // In `aaa` the second pair has gone with the first.
                if left == right && !self.stands(left, right, at) {
                    continue;
                }
                let count = counts.at(at);
                let (start, middle) = (at as usize, (at + left_len) as usize);
                let end = start + len as usize;
                let before = self.cells[start - 1];
                if before != GAP {
                    undone += if before == merged { count } else { 0 };
                    self.before.meet(before, at - self.lens[before as usize], count);
                }
                let after = self.cells[end];
                if after != GAP {
                    self.after.meet(after, at, count);
                }
                self.cells[middle - 1] = INSIDE;
                self.cells[middle] = INSIDE;
                self.cells[start] = merged;
                self.cells[end - 1] = merged;
            }
        }
        let (mut before, mut after) = (take(&mut self.before), take(&mut self.after));
        for &token in &before.met {
            if token != merged {
                self.lose(token, left, before.sums[token as usize].count);
            }
        }
        for &token in &after.met {
            self.lose(right, token, after.sums[token as usize].count);
        }
        if let Some(sum) = after.sums.get_mut(left as usize) {
            sum.count -= undone;
        }
        self.gain(&mut before, |token| (token, merged));
        self.gain(&mut after, |token| (merged, token));
        (self.before, self.after) = (before, after);
    }

    /// Whether the pair stands at a place where one of its tokens was made.
    #[inline]
    fn stands(&self, left: u32, right: u32, at: u32) -> bool {
        let middle = (at + self.lens[left as usize]) as usize;
        (self.cells[at as usize] == left) & (self.cells[middle] == right)
    }

    fn lose(&mut self, left: u32, right: u32, count: u64) {
        if let std::collections::hash_map::Entry::Occupied(mut entry) =
            self.pairs.entry(key(left, right))
        {
            entry.get_mut().count -= count;
            if entry.get().count < self.least {
                entry.remove();
            }
        }
    }

    /// Adds the pairs of a new token and what it has met.
    fn gain(&mut self, neighbours: &mut Neighbours, pair: impl Fn(u32) -> (u32, u32)) {
        let mut lists = Vec::new();
        for &token in &neighbours.met {
            let (left, right) = pair(token);
            let sum = &mut neighbours.sums[token as usize];
            let may_meet = self.parts[left as usize].may_meet(self.parts[right as usize]);
            sum.list = NO_LIST;
            if may_meet && sum.count >= self.least {
                sum.list = lists.len() as u32;
                lists.push((token, sum.count, Vec::with_capacity(sum.n_place as usize)));
            }
        }
        for &(token, place) in &neighbours.places {
            if let Some((_, _, list)) = lists.get_mut(neighbours.sums[token as usize].list as usize)
            {
                list.push(place);
            }
        }
        for (token, count, places) in lists {
            let (left, right) = pair(token);
            self.pairs.insert(key(left, right), Pair { count, places: places.into() });
            self.queue.push(Waiting { count, left, right }, &self.tokens);
        }
    }

    fn finish(self) -> Learnt {
        let mut n_token = 0;
        let mut counts = Counts::new(&self.groups);
        let mut at = 0;
        while at < self.cells.len() {
            if self.cells[at] == GAP {
                at += 1;
            } else {
                n_token += counts.at(at as u32);
                at += self.lens[self.cells[at] as usize] as usize;
            }
        }
        Learnt { tokens: self.tokens, merges: self.merges, n_token }
    }
}

/// Finds the counts of words by places, asked for in ascending order.
struct Counts<'g> {
    groups: &'g [(u32, u64)],
    /// First place of the group after the current one.
    end: u32,
}

impl<'g> Counts<'g> {
    fn new(groups: &'g [(u32, u64)]) -> Counts<'g> {
        Counts { groups, end: groups.get(1).map_or(u32::MAX, |group| group.0) }
    }

    #[inline]
    fn at(&mut self, place: u32) -> u64 {
        if place >= self.end {
            let next = self.groups.partition_point(|&(start, _)| start <= place);
            self.groups = &self.groups[next - 1..];
            self.end = self.groups.get(1).map_or(u32::MAX, |group| group.0);
        }
        self.groups[0].1
    }
}

/// Places that are looked at together.
const AHEAD: usize = 64;

const NO_LIST: u32 = u32::MAX;

/// What a merge met on one side.
#[derive(Debug, Default)]
struct Neighbours {
    /// By token.
    sums: Vec<Sum>,
    /// The tokens that were met.
    met: Vec<u32>,
    /// Each meeting: the token, and where the pair with it starts.
    places: Vec<(u32, u32)>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Sum {
    count: u64,
    n_place: u32,
    list: u32,
}

impl Neighbours {
    /// Forgets all, and makes room for tokens up to `last`.
    fn clear(&mut self, last: u32) {
        for token in self.met.drain(..) {
            self.sums[token as usize] = Sum::default();
        }
        self.places.clear();
        self.sums.resize(last as usize + 1, Sum::default());
    }

    #[inline]
    fn meet(&mut self, token: u32, place: u32, count: u64) {
        let sum = &mut self.sums[token as usize];
        if sum.n_place == 0 {
            self.met.push(token);
        }
        sum.count += count;
        sum.n_place += 1;
        self.places.push((token, place));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

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
        ) {
            let words: Vec<(String, u64)> = words.into_iter().collect();
            let mut table = WordTable::new();
            words.iter().for_each(|(word, count)| table.add(word.as_bytes(), *count));
            let learnt = learn(Words::new(&table), n_merge, least, &mut |_, _| {});
            let bytes = |token| learnt.tokens.bytes(token).to_vec();
            let merges: Vec<_> =
                learnt.merges.iter().map(|&(left, right)| [bytes(left), bytes(right)]).collect();
            prop_assert_eq!((merges, learnt.n_token), slowly(&words, n_merge, least));
        }
    }

    #[test]
    fn merges_keep_characters_whole() {
        let of = |bytes: &[u8]| Part::of(bytes);
        assert_eq!(of("a你".as_bytes()), Part::Whole);
        assert_eq!(
            (of(b"\xe4"), of(b"\xe4\xbd"), of(b"\xf0\x9f")),
            (Part::Head, Part::Head, Part::Head)
        );
        assert_eq!((of(b"\x80"), of(b"\xbd\xa0")), (Part::Tail, Part::Tail));
        assert!(Part::Head.may_meet(Part::Tail) && Part::Tail.may_meet(Part::Tail));
        assert!(!Part::Tail.may_meet(Part::Head) && !Part::Whole.may_meet(Part::Head));
    }

    #[test]
    fn progress_ends_at_the_end() {
        let mut table = WordTable::new();
        table.add("abcabcabc".as_bytes(), 3);
        let mut told = Vec::new();
        learn(Words::new(&table), 100, 2, &mut |done, all| told.push((done, all)));
        assert_eq!(told.first(), Some(&(0, 100)));
        assert!(told.last().is_some_and(|&(done, all)| done == all), "{told:?}");
    }
}
