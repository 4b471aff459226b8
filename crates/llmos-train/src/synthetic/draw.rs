//! Random choices of one row, which depend on the seed and the row's number alone.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use super::Split;

/// Numbers below this are in both splits: there are too few of them to share out.
const SMALL: i64 = 13;

/// Of wider ranges hardly a short number would come if all numbers were as likely.
const WIDE: i64 = 100;

/// Of the others each test number is one of this many.
const PARTS: i64 = 7;

/// A row's generator.
pub(super) struct Draw {
    random: ChaCha8Rng,
}

impl Draw {
    /// The generator of a stream of a seed.
    pub(super) fn new(seed: u64, stream: u64) -> Draw {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        random.set_stream(stream);
        Draw { random }
    }

    /// A number below `n`, which is not 0.
    pub(super) fn below(&mut self, n: usize) -> usize {
        ((u64::from(self.random.next_u32()) * n as u64) >> 32) as usize
    }

    /// True in so many of a hundred cases.
    pub(super) fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }

    /// One of them.
    pub(super) fn pick<T: Copy>(&mut self, items: &[T]) -> T {
        assert!(!items.is_empty(), "there is something to pick from");
        items[self.below(items.len())]
    }

    /// A number of a range that is asked about in this split. In wide ranges numbers of each length
    /// come, longer ones more often.
    pub(super) fn number(&mut self, low: i64, high: i64, split: Split) -> i64 {
        // A short range may hold no number of the split: then it is any.
        let mut number = 0;
        for _ in 0..12 {
            number = self.of_any_length(low, high);
            let test = number - number % PARTS + 3;
            match split {
                _ if number < SMALL => break,
                Split::Train if number != test => break,
                Split::Test if (low.max(SMALL)..=high).contains(&test) => return test,
                _ => {}
            }
        }
        number
    }

    fn of_any_length(&mut self, low: i64, high: i64) -> i64 {
        if high - low < WIDE {
            return low + self.below((high - low + 1) as usize) as i64;
        }
        let length = |n: i64| n.max(1).ilog10();
        let (shortest, longest) = (length(low), length(high));
        // The longer of two draws: there are few short numbers, which would come again and again.
        let n_length = (longest - shortest + 1) as usize;
        let chosen = shortest + self.below(n_length).max(self.below(n_length)) as u32;
        let (low, high) = (low.max(if chosen == 0 { 0 } else { 10i64.pow(chosen) }), high);
        let high = high.min(10i64.pow(chosen + 1) - 1).max(low);
        low + self.below((high - low + 1) as usize) as i64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_stay_in_their_range_and_split() {
        let mut draw = Draw::new(1, 2);
        for (low, high) in [(0, 1), (2, 9), (3, 9999), (12, 14), (5, 2000), (100, 100)] {
            for split in Split::ALL {
                for _ in 0..500 {
                    let number = draw.number(low, high, split);
                    assert!((low..=high).contains(&number), "{number} of {low}-{high}");
                    if high == 9999 && number >= SMALL {
                        assert_eq!(number % PARTS == 3, split == Split::Test, "{number}");
                    }
                }
            }
        }
    }

    #[test]
    fn streams_differ_and_repeat() {
        let of = |seed, stream| {
            let mut draw = Draw::new(seed, stream);
            (0..8).map(|_| draw.below(1 << 20)).collect::<Vec<_>>()
        };
        assert_eq!(of(1, 2), of(1, 2));
        assert_ne!(of(1, 2), of(1, 3));
        assert_ne!(of(1, 2), of(2, 2));
    }
}
