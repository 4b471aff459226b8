//! Documents that were there before: letter by letter, or but for a few words.
//!
//! Near-duplicates are found by MinHash (Broder 1997) with locality-sensitive hashing: a document
//! is the set of its runs of [`SHINGLE`] words; [`N_HASH`] minima of hashes over the set agree
//! between two documents as often as their sets overlap (Jaccard similarity). Documents are
//! compared if all [`N_ROW`] minima of one of [`N_BAND`] bands agree, so with probability
//! 1 − (1 − s⁸)¹⁴ at similarity s: 0.05 at 0.5, 0.77 at 0.75, 0.92 at 0.8, 0.9996 at 0.9. A pair
//! that is compared counts as near-duplicates if the share of minima that agree reaches the
//! threshold. These are the figures of FineWeb (arXiv:2406.17557), which does not compare.

use std::collections::HashMap;

use foldhash::fast::FixedState;
use twox_hash::XxHash3_128;

use super::read::Location;
use super::words::{runs, scramble};

/// Words of a run.
pub const SHINGLE: usize = 5;
/// Minima of a document.
pub const N_HASH: usize = N_BAND * N_ROW;
/// Bands.
pub const N_BAND: usize = 14;
/// Minima of a band.
pub const N_ROW: usize = 8;

/// The minima of a document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Signature([u32; N_HASH]);

impl Signature {
    /// The signature of a text with these words; none for one without words.
    pub(super) fn of(words: &[u64]) -> Option<Box<Signature>> {
        if words.is_empty() {
            return None;
        }
        let mut minima = [u32::MAX; N_HASH];
        let factors: [(u32, u32); N_HASH] = std::array::from_fn(|index| {
            let random = scramble(index as u64 + 1);
            (random as u32 | 1, (random >> 32) as u32)
        });
        let mut take = |run: u64| {
            let x = (run >> 32) as u32;
            for (minimum, (factor, term)) in minima.iter_mut().zip(&factors) {
                *minimum = (*minimum).min(x.wrapping_mul(*factor).wrapping_add(*term));
            }
        };
        // A text of fewer words is one run.
        runs(words, SHINGLE.min(words.len())).for_each(&mut take);
        Some(Box::new(Signature(minima)))
    }

    /// A key for each band; different bands have different keys.
    fn keys(&self) -> impl Iterator<Item = u64> {
        self.0
            .chunks_exact(N_ROW)
            .zip(1u64..)
            .map(|(rows, band)| rows.iter().fold(band, |key, &row| scramble(key ^ u64::from(row))))
    }

    /// The low byte of each minimum: enough to compare by.
    fn sketch(&self) -> [u8; N_HASH] {
        self.0.map(|minimum| minimum as u8)
    }
}

/// The similarity of two documents, as their sketches tell. Low bytes of different minima agree
/// once in 256 (b-bit minwise hashing, arXiv:0910.3349).
fn similarity(one: &[u8; N_HASH], other: &[u8; N_HASH]) -> f64 {
    let n = one.iter().zip(other).filter(|(one, other)| one == other).count();
    let chance = 1.0 / 256.0;
    ((n as f64 / N_HASH as f64 - chance) / (1.0 - chance)).max(0.0)
}

/// The hash by which documents are the same.
pub(super) fn identity(text: &str, part: u32) -> u128 {
    // Equal parts of one long text are no duplicates of each other.
    XxHash3_128::oneshot_with_seed(u64::from(part), text.as_bytes())
}

/// What was there before.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Seen {
    /// The same letters, there.
    Same(Location),
    /// Nearly the same words there, to this degree.
    Near(Location, f64),
}

/// The documents that were kept, in bounded memory: beyond it, those of long ago are forgotten.
pub(super) struct Memory {
    threshold: Option<f64>,
    /// Documents of a generation.
    limit: usize,
    now: Generation,
    before: Generation,
    /// Whether documents were forgotten.
    has_forgotten: bool,
}

#[derive(Default)]
struct Generation {
    same: HashMap<u128, Location, FixedState>,
    /// From a band's key to the place in `near` of the first document that had it.
    bands: HashMap<u64, u32, FixedState>,
    near: Vec<(Location, [u8; N_HASH])>,
}

/// Bytes that a document costs: 1.15 to 2.3 entries' room in tables that double.
const COST: usize = 2 * (48 + N_BAND * 17) + N_HASH + 24;

impl Memory {
    /// Near-duplicates count from the similarity `threshold` on, or not at all.
    pub(super) fn new(threshold: Option<f64>, n_byte: usize) -> Memory {
        // Both generations are held.
        let limit = (n_byte / COST / 2).max(1024);
        let (now, before) = Default::default();
        Memory { threshold, limit, now, before, has_forgotten: false }
    }

    pub(super) fn has_forgotten(&self) -> bool {
        self.has_forgotten
    }

    /// Whether a document was there before; if not, it is remembered.
    pub(super) fn add(
        &mut self,
        identity: u128,
        signature: Option<&Signature>,
        at: Location,
    ) -> Option<Seen> {
        let generations = [&self.now, &self.before];
        let same = generations.iter().find_map(|generation| generation.same.get(&identity));
        if let Some(&location) = same {
            return Some(Seen::Same(location));
        }
        let signature = signature.zip(self.threshold);
        if let Some((signature, threshold)) = signature {
            let sketch = signature.sketch();
            for (generation, key) in
                generations.iter().flat_map(|g| signature.keys().map(move |key| (g, key)))
            {
                let Some(&place) = generation.bands.get(&key) else { continue };
                let (location, other) = &generation.near[place as usize];
                let similarity = similarity(&sketch, other);
                if similarity >= threshold {
                    return Some(Seen::Near(*location, similarity));
                }
            }
        }
        if self.now.same.len() >= self.limit {
            self.has_forgotten |= !self.before.same.is_empty();
            self.before = std::mem::take(&mut self.now);
        }
        self.now.same.insert(identity, at);
        if let Some((signature, _)) = signature {
            let place = self.now.near.len() as u32;
            self.now.near.push((at, signature.sketch()));
            for key in signature.keys() {
                self.now.bands.entry(key).or_insert(place);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::words::words;

    fn at(row: u64) -> Location {
        Location { file: 0, row, offset: 0 }
    }

    fn add(memory: &mut Memory, text: &str, row: u64) -> Option<Seen> {
        memory.add(identity(text, 0), Signature::of(&words(text)).as_deref(), at(row))
    }

    /// A text of `n` words out of many, by a seed.
    fn text(seed: u64, n: u64) -> Vec<String> {
        (0..n).map(|i| format!("w{}", scramble(seed * 1_000_003 + i) % 5000)).collect()
    }

    #[test]
    fn the_same_and_nearly_the_same_are_found() {
        let mut memory = Memory::new(Some(0.8), 1 << 20);
        let words = text(1, 300);
        let whole = words.join(" ");
        let mut changed = words.clone();
        changed[150] = "changed".into();
        let mut other = words.clone();
        other.truncate(150);
        other.extend(text(2, 150));
        assert_eq!(add(&mut memory, &whole, 0), None);
        assert_eq!(add(&mut memory, &whole, 1), Some(Seen::Same(at(0))));
        let near = add(&mut memory, &changed.join(" "), 2);
        assert!(
            matches!(near, Some(Seen::Near(place, s)) if place == at(0) && s > 0.9),
            "{near:?}"
        );
        let shouted = whole.to_uppercase().replace(' ', ", ");
        assert_eq!(add(&mut memory, &shouted, 3), Some(Seen::Near(at(0), 1.0)));
        assert_eq!(add(&mut memory, &other.join(" "), 4), None);
        let mut exact = Memory::new(None, 1 << 20);
        assert_eq!(add(&mut exact, &whole, 0), None);
        assert_eq!(add(&mut exact, &changed.join(" "), 1), None);
    }

    #[test]
    fn sketches_estimate_the_overlap() {
        for shared in [50, 100, 150, 180] {
            let common = text(7, shared);
            let one = [&common[..], &text(8, 200 - shared)].concat();
            let two = [&common[..], &text(9, 200 - shared)].concat();
            let (one, two) = (words(&one.join(" ")), words(&two.join(" ")));
            let set =
                |words: &[u64]| runs(words, SHINGLE).collect::<std::collections::HashSet<_>>();
            let (a, b) = (set(&one), set(&two));
            let exact = a.intersection(&b).count() as f64 / a.union(&b).count() as f64;
            let (one, two) = (Signature::of(&one).unwrap(), Signature::of(&two).unwrap());
            let estimate = similarity(&one.sketch(), &two.sketch());
            // Three standard deviations of 112 draws are at most 0.14.
            assert!((estimate - exact).abs() < 0.14, "{shared}: {estimate} for {exact}");
        }
    }

    #[test]
    fn what_was_long_ago_is_forgotten() {
        let mut memory = Memory::new(Some(0.8), 0);
        for row in 0..2048 {
            assert_eq!(add(&mut memory, &text(row, 30).join(" "), row), None);
        }
        assert!(!memory.has_forgotten());
        assert_eq!(add(&mut memory, &text(0, 30).join(" "), 0), Some(Seen::Same(at(0))));
        for row in 2048..2060 {
            assert_eq!(add(&mut memory, &text(row, 30).join(" "), row), None);
        }
        assert!(memory.has_forgotten());
        assert_eq!(add(&mut memory, &text(0, 30).join(" "), 0), None);
        assert_eq!(add(&mut memory, &text(2000, 30).join(" "), 0), Some(Seen::Same(at(2000))));
    }

    #[test]
    fn parts_of_a_text_are_not_its_duplicates() {
        assert_eq!(identity("a", 0), identity("a", 0));
        assert_ne!(identity("a", 0), identity("a", 1));
    }
}
