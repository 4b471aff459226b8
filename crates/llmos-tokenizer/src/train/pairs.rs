//! The pairs that may be merged, the most frequent first, in bounded memory.
//!
//! A pair's count and places are known when its younger token is made; from then on both become
//! fewer. So pairs that are left out for want of room stay behind the best of them, which is
//! remembered: merges go on exactly until they come down to it, and then pairs are counted anew.

use std::hash::BuildHasher;

use foldhash::fast::RandomState;
use hashbrown::HashTable;

use super::cells::Words;
use super::queue::{Queue, Waiting, is_before, order};
use super::tokens::Tokens;

/// A pair: how often it occurs, and where it stood when its younger token was made.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pair {
    /// Zero when it is no longer held.
    count: u64,
    pub(super) left: u32,
    pub(super) right: u32,
    /// Where in the array of places its first one is.
    pub(super) start: u32,
    n_place: u32,
}

impl Pair {
    /// A pair without places, which [`Pairs::add`] makes room for.
    pub(super) fn new(left: u32, right: u32, count: u64, n_place: u32) -> Pair {
        Pair { count, left, right, start: 0, n_place }
    }

    fn waiting(self) -> Waiting {
        Waiting { count: self.count, left: self.left, right: self.right }
    }
}

/// How much is held at most.
#[derive(Debug, Clone, Copy)]
pub(super) struct Room {
    /// At least two.
    pub(super) pairs: usize,
    /// No fewer than there are cells, so that one pair always has room.
    pub(super) places: usize,
}

impl Room {
    /// Bytes for each pair: 24 itself, up to 17 in the index while it grows, and 16 in the queue or
    /// 24 while the best are found.
    pub(super) const PAIR: usize = 72;
}

/// The pairs that are held.
#[derive(Debug)]
pub(super) struct Pairs {
    /// In the order of their places.
    list: Vec<Pair>,
    /// Finds a pair's number in the list.
    index: HashTable<u32>,
    state: RandomState,
    /// The places of all pairs; those where a merge has changed what stands there too, until room
    /// is needed.
    places: Vec<u32>,
    queue: Queue,
    /// The best pair that is left out.
    floor: Option<Waiting>,
    /// How often a pair must occur.
    least: u64,
    room: Room,
}

fn key(left: u32, right: u32) -> u64 {
    u64::from(left) << 32 | u64::from(right)
}

impl Pairs {
    pub(super) fn new(least: u64, room: Room) -> Pairs {
        Pairs {
            list: Vec::new(),
            index: HashTable::new(),
            state: RandomState::default(),
            places: Vec::new(),
            queue: Queue::default(),
            floor: None,
            least: least.max(1),
            room,
        }
    }

    /// Takes out the pair that is to be merged next; none where no pair is held.
    pub(super) fn pop(&mut self, tokens: &Tokens) -> Option<Pair> {
        while let Some(top) = self.queue.pop(tokens) {
            let Some(number) = self.find(top.left, top.right) else { continue };
            let pair = self.list[number];
            if !self.is_held(pair, tokens) {
                self.remove(number);
            } else if pair.count < top.count {
                self.queue.push(pair.waiting(), tokens);
            } else {
                self.remove(number);
                return Some(pair);
            }
        }
        None
    }

    /// Whether pairs are left out.
    pub(super) fn is_cut(&self) -> bool {
        self.floor.is_some()
    }

    /// The places of a pair, ascending.
    pub(super) fn places(&self, pair: Pair) -> &[u32] {
        &self.places[pair.start as usize..][..pair.n_place as usize]
    }

    /// A pair occurs `count` times less.
    pub(super) fn lose(&mut self, left: u32, right: u32, count: u64) {
        if let Some(number) = self.find(left, right) {
            let pair = &mut self.list[number];
            pair.count -= count;
            if pair.count < self.least {
                self.remove(number);
            }
        }
    }

    /// Adds what there is room for of new pairs, and leaves those in `new`, in the same order.
    ///
    /// `n_other` places are in memory beside those of pairs. `stands` says whether a pair is still
    /// at a place.
    pub(super) fn add(
        &mut self,
        new: &mut Vec<Pair>,
        n_other: usize,
        tokens: &Tokens,
        stands: impl Fn(Pair, u32) -> bool,
    ) {
        new.retain(|&pair| pair.count >= self.least && self.is_held(pair, tokens));
        let n_place =
            |new: &[Pair]| new.iter().map(|pair| pair.n_place as usize).sum::<usize>() + n_other;
        let Room { pairs: most_pairs, places: most_places } = self.room;
        if self.list.len() + new.len() > most_pairs {
            let room = Room { pairs: most_pairs / 2, places: usize::MAX };
            self.raise_floor(new, room, tokens);
            new.retain(|&pair| self.is_held(pair, tokens));
        }
        if self.places.len() + n_place(new) > most_places {
            self.keep_places(&stands);
            // With hardly any room won there would soon be none again.
            if self.places.len() + n_place(new) > most_places / 8 * 7 {
                let places = most_places.saturating_sub(n_other) / 2;
                self.raise_floor(new, Room { pairs: most_pairs, places }, tokens);
                self.keep_places(|_, _| true);
                new.retain(|&pair| self.is_held(pair, tokens));
            }
        }
        for pair in new {
            self.insert(pair);
            self.queue.push(pair.waiting(), tokens);
        }
    }

    /// Writes a place of a pair that was added.
    pub(super) fn set_place(&mut self, at: u32, place: u32) {
        self.places[at as usize] = place;
    }

    /// Holds the best of all pairs that `words` have now, and no others.
    pub(super) fn count(&mut self, words: &Words, tokens: &Tokens) {
        self.queue = Queue::default();
        // Sums of counts by hash: most pairs that are too rare to be held are known by them.
        let mut sums = std::mem::take(&mut self.places);
        sums.clear();
        sums.resize(words.cells.len(), 0);
        words.for_each_pair(tokens, |_, left, right, count| {
            let sum = &mut sums[place_of_sum(self.hash(left, right), words.cells.len())];
            *sum = sum.saturating_add(count.try_into().unwrap_or(u32::MAX));
        });
        let mut least = self.least_worth(&sums);
        // Sums may be of several pairs, and pairs may make tokens that are there already.
        while !self.list_best(words, tokens, &sums, least) {
            least /= 2;
        }
        self.index.clear();
        sums.clear();
        self.places = sums;
        let mut best = std::mem::take(&mut self.list);
        for pair in &mut best {
            self.insert(pair);
            self.queue.push(pair.waiting(), tokens);
            pair.n_place = 0;
        }
        words.for_each_pair(tokens, |at, left, right, _| {
            if let Some(number) = self.find(left, right) {
                let pair = &mut best[number];
                self.places[(pair.start + pair.n_place) as usize] = at;
                pair.n_place += 1;
            }
        });
    }

    /// The least count with which there is room for all pairs, as far as their sums tell.
    fn least_worth(&self, sums: &[u32]) -> u32 {
        let most = self.room.pairs / 2;
        let n_above = |least: u32| sums.iter().filter(|&&sum| sum >= least).count();
        let (mut low, mut high) = (u32::try_from(self.least).unwrap_or(u32::MAX), u32::MAX);
        if n_above(low) <= most {
            return low;
        }
        while low < high {
            let middle = low + (high - low) / 2;
            if n_above(middle) <= most { high = middle } else { low = middle + 1 }
        }
        // Pairs that are equally frequent may be more than there is room for.
        if n_above(low) < most / 4 { low - 1 } else { low }
    }

    /// Lists the best of all pairs whose sum is `least` or more; false if it were better to look
    /// at more pairs.
    fn list_best(&mut self, words: &Words, tokens: &Tokens, sums: &[u32], least: u32) -> bool {
        let is_cut = u64::from(least) > self.least;
        self.floor = is_cut.then_some(Waiting::last_of(least.into()));
        self.list.clear();
        let mut parts = vec![(0, 1)];
        while let Some((part, n_part)) = parts.pop() {
            let is_counted = |hash: u64| {
                hash >> 32 & (n_part - 1) == part && sums[place_of_sum(hash, sums.len())] >= least
            };
            if !self.count_part(words, tokens, is_counted) {
                parts.extend([(part, 2 * n_part), (part + n_part, 2 * n_part)]);
            }
        }
        !is_cut || self.list.len() > self.room.pairs / 16
    }

    /// Lists some pairs of those that are to be counted, if they are among the best; false where
    /// they are more than there is room for.
    fn count_part(
        &mut self,
        words: &Words,
        tokens: &Tokens,
        is_counted: impl Fn(u64) -> bool,
    ) -> bool {
        let (n_best, most) = (self.list.len(), self.room.pairs / 2);
        self.index.clear();
        words.for_each_pair(tokens, |_, left, right, count| {
            if self.list.len() > n_best + most || !is_counted(self.hash(left, right)) {
                return;
            }
            if let Some(number) = self.find(left, right) {
                self.list[number].count += count;
                self.list[number].n_place += 1;
            } else {
                self.list.push(Pair::new(left, right, count, 1));
                self.index_from(self.list.len() - 1);
            }
        });
        if self.list.len() > n_best + most {
            self.list.truncate(n_best);
            return false;
        }
        let Pairs { list, floor, least, .. } = self;
        list.retain(|&pair| {
            pair.count >= *least
                && is_above(*floor, pair, tokens)
                && tokens.is_new(pair.left, pair.right)
        });
        if list.len() > most {
            let by_order = |one: &Pair, other: &Pair| order(one.waiting(), other.waiting(), tokens);
            let (_, first_out, _) = list.select_nth_unstable_by(most, by_order);
            *floor = Some(first_out.waiting());
            list.truncate(most);
        }
        true
    }

    /// Decides how many of all pairs are held, new ones included: the best of them.
    fn raise_floor(&mut self, new: &[Pair], room: Room, tokens: &Tokens) {
        self.queue = Queue::default();
        // Counts of pairs that are held may have come down to the floor.
        let is_held = |pair: &&Pair| pair.count > 0 && self.is_held(**pair, tokens);
        let all = self.list.iter().filter(is_held).chain(new);
        let mut all: Vec<_> = all.map(|pair| (pair.waiting(), pair.n_place)).collect();
        all.sort_unstable_by(|(one, _), (other, _)| order(*one, *other, tokens));
        let mut n_place = 0;
        let first_out = all.iter().enumerate().position(|(number, &(_, places))| {
            n_place += places as usize;
            number > 0 && (number >= room.pairs || n_place > room.places)
        });
        self.floor = first_out.map(|number| all[number].0).or(self.floor);
        drop(all);
        let Pairs { list, floor, .. } = self;
        list.retain(|&pair| pair.count > 0 && is_above(*floor, pair, tokens));
        self.index.clear();
        self.index_from(0);
        self.list.iter().for_each(|pair| self.queue.push(pair.waiting(), tokens));
    }

    /// Forgets the places where a pair does not stand.
    fn keep_places(&mut self, stands: impl Fn(Pair, u32) -> bool) {
        let mut end = 0;
        for pair in &mut self.list {
            let start = end;
            let places = pair.start as usize..(pair.start + pair.n_place) as usize;
            for at in places.filter(|_| pair.count > 0) {
                let place = self.places[at];
                self.places[end] = place;
                end += usize::from(stands(*pair, place));
            }
            (pair.start, pair.n_place) = (start as u32, (end - start) as u32);
        }
        self.places.truncate(end);
    }

    fn is_held(&self, pair: Pair, tokens: &Tokens) -> bool {
        is_above(self.floor, pair, tokens)
    }

    fn hash(&self, left: u32, right: u32) -> u64 {
        self.state.hash_one(key(left, right))
    }

    #[inline]
    fn find(&self, left: u32, right: u32) -> Option<usize> {
        let is_it = |&number: &u32| {
            let pair = &self.list[number as usize];
            (pair.left, pair.right) == (left, right)
        };
        self.index.find(self.hash(left, right), is_it).map(|&number| number as usize)
    }

    /// Lists a pair, with room for its places.
    fn insert(&mut self, pair: &mut Pair) {
        pair.start = self.places.len() as u32;
        self.places.resize(self.places.len() + pair.n_place as usize, 0);
        self.list.push(*pair);
        self.index_from(self.list.len() - 1);
    }

    /// Makes the pairs from a number on findable.
    fn index_from(&mut self, first: usize) {
        let Pairs { index, list, state, .. } = self;
        let hash = |&number: &u32| {
            let pair: Pair = list[number as usize];
            state.hash_one(key(pair.left, pair.right))
        };
        for number in first as u32..list.len() as u32 {
            index.insert_unique(hash(&number), number, hash);
        }
    }

    fn remove(&mut self, number: usize) {
        let Pair { left, right, .. } = self.list[number];
        self.list[number].count = 0;
        let hash = self.hash(left, right);
        if let Ok(entry) = self.index.find_entry(hash, |&other| other as usize == number) {
            entry.remove();
        }
    }
}

/// Where the sum of a hash is among `n`: its high half, as a fraction.
fn place_of_sum(hash: u64, n: usize) -> usize {
    (((hash >> 32) * n as u64) >> 32) as usize
}

fn is_above(floor: Option<Waiting>, pair: Pair, tokens: &Tokens) -> bool {
    floor.is_none_or(|floor| is_before(pair.waiting(), floor, tokens))
}
