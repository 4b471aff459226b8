//! Random choices that are addressed, not drawn one after another.

use super::words::scramble;

/// A number that depends on all of `words` and looks like none of them.
pub(crate) fn hash(words: &[u64]) -> u64 {
    // The golden ratio's bits part equal words in a row.
    words.iter().fold(0, |hash, &word| {
        scramble(hash ^ word.wrapping_add(0x9e37_79b9_7f4a_7c15)).wrapping_add(hash << 1)
    })
}

/// A number below `n` out of a random one.
pub(super) fn below(n: u64, random: u64) -> u64 {
    ((u128::from(random) * u128::from(n)) >> 64) as u64
}

/// An order of the numbers below `n`, one of many by its key, of which any place can be asked for
/// at once: a Feistel network over the next even power of two, walked until it hits the range
/// (Black and Rogaway 2002).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Permutation {
    n: u64,
    half: u32,
    keys: [u64; 4],
}

impl Permutation {
    pub(crate) fn new(n: u64, key: u64) -> Permutation {
        let bits = 64 - n.saturating_sub(1).leading_zeros();
        let half = bits.div_ceil(2).max(1);
        Permutation { n, half, keys: std::array::from_fn(|round| hash(&[key, round as u64])) }
    }

    /// The number at a place below `n`.
    pub(crate) fn at(&self, place: u64) -> u64 {
        let mask = (1u64 << self.half) - 1;
        let mut x = place;
        loop {
            let (mut left, mut right) = (x >> self.half, x & mask);
            for key in self.keys {
                (left, right) = (right, left ^ scramble(right ^ key) & mask);
            }
            x = left << self.half | right;
            // The place lies on a cycle of its own range, so that the walk comes back to it.
            if x < self.n {
                return x;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_number_comes_once(n in 1u64..3000, key: u64) {
            let order = Permutation::new(n, key);
            let mut seen: Vec<u64> = (0..n).map(|place| order.at(place)).collect();
            seen.sort_unstable();
            prop_assert!(seen.into_iter().eq(0..n));
        }

        #[test]
        fn far_places_stay_in_range(n in 1u64..1 << 40, key: u64, random: u64) {
            prop_assert!(Permutation::new(n, key).at(below(n, random)) < n);
        }
    }

    #[test]
    fn keys_make_different_orders() {
        let order = |key| -> Vec<u64> {
            let order = Permutation::new(100, key);
            (0..100).map(|place| order.at(place)).collect()
        };
        assert_ne!(order(1), order(2));
        let moved = order(1).iter().zip(0..).filter(|&(&number, place)| number != place).count();
        assert!(moved > 90, "{moved}");
    }

    #[test]
    fn hashes_are_even_and_fixed() {
        let counts = (0..10_000u64).fold([0; 10], |mut counts, i| {
            counts[below(10, hash(&[1, i])) as usize] += 1;
            counts
        });
        // Four standard deviations of 10,000 draws among ten.
        assert!(counts.iter().all(|count| (880..1120).contains(count)), "{counts:?}");
        assert_ne!(hash(&[0, 1]), hash(&[1, 0]));
        assert_ne!(hash(&[0]), hash(&[0, 0]));
    }
}
