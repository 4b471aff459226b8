//! What a model has to beat: characters predicted from the few before them.
//!
//! Interpolated Kneser-Ney smoothing (Kneser and Ney, 1995; Chen and Goodman, 1998, section 2.7) over
//! characters, with one discount an order, n1 / (n1 + 2 n2), and below the first order every Unicode
//! character as likely. The first characters of a text have blanks before them.

use std::collections::HashMap;

/// Characters that Unicode can have: what an unseen one is one of.
const ALPHABET: f64 = 1_112_064.0;

/// What stands before a text's first character.
const BLANK: u16 = 0;

/// A character that was not there in training.
const UNSEEN: u16 = 1;

/// Context and character: at most so many.
pub const LONGEST: usize = 5;

/// Grams of one order, sorted, and how often they were there: in the text where the order is the
/// highest, after different characters where it is not.
struct Level {
    /// Of which the first `order` are used.
    grams: Vec<[u16; LONGEST]>,
    /// (grams + 1): how often all before each were there.
    sums: Vec<u64>,
    discount: f64,
}

/// A model of characters.
pub struct Ngram {
    ids: HashMap<char, u16>,
    /// By order, from 1.
    levels: Vec<Level>,
    n_character: u64,
}

impl Ngram {
    /// Learns from texts, `order` from 1 to [`LONGEST`] characters at a time, all but the last of
    /// them context.
    ///
    /// # Panics
    /// With another order.
    pub fn learn<'a>(order: usize, texts: impl IntoIterator<Item = &'a str>) -> Ngram {
        assert!((1..=LONGEST).contains(&order), "an order from 1 to {LONGEST}");
        let mut ids: HashMap<char, u16> = HashMap::new();
        let mut grams: Vec<[u16; LONGEST]> = Vec::new();
        for text in texts {
            let mut gram = [BLANK; LONGEST];
            for c in text.chars() {
                let next = ids.len() + 1 + usize::from(UNSEEN);
                // More different characters than a script has: the rest are as if unseen.
                let id = match u16::try_from(next) {
                    Ok(next) => *ids.entry(c).or_insert(next),
                    Err(_) => ids.get(&c).copied().unwrap_or(UNSEEN),
                };
                push(&mut gram[..order], id);
                grams.push(gram);
            }
        }
        let n_character = grams.len() as u64;
        let mut levels = vec![Level::counted(grams, order)];
        for order in (1..order).rev() {
            let above = &levels[levels.len() - 1].grams;
            let lower = above.iter().map(|gram| {
                let mut lower = [BLANK; LONGEST];
                lower[..order].copy_from_slice(&gram[1..=order]);
                lower
            });
            levels.push(Level::counted(lower.collect(), order));
        }
        levels.reverse();
        Ngram { ids, levels, n_character }
    }

    /// Characters that it was learnt from.
    pub fn n_character(&self) -> u64 {
        self.n_character
    }

    /// The natural logarithm of the probability of each character of a text, given those before it.
    pub fn log_probabilities(&self, text: &str) -> Vec<f64> {
        let order = self.levels.len();
        let mut gram = [BLANK; LONGEST];
        let each = |c: char| {
            push(&mut gram[..order], self.ids.get(&c).copied().unwrap_or(UNSEEN));
            self.probability(&gram[..order]).ln()
        };
        text.chars().map(each).collect()
    }

    /// Of the last character, given those before it.
    fn probability(&self, gram: &[u16]) -> f64 {
        let mut probability = 1.0 / ALPHABET;
        for (index, level) in self.levels.iter().enumerate() {
            let gram = &gram[gram.len() - 1 - index..];
            let followers = level.followers(&gram[..index]);
            let total = level.count(followers.clone());
            // Where the context was never there, shorter ones decide; so do longer ones then not.
            if total == 0.0 {
                return probability;
            }
            let kept = (level.count(level.followers(gram)) - level.discount).max(0.0);
            let freed = level.discount * followers.len() as f64;
            probability = (kept + freed * probability) / total;
        }
        probability
    }
}

/// Moves a gram on by a character.
fn push(gram: &mut [u16], id: u16) {
    gram.rotate_left(1);
    if let Some(last) = gram.last_mut() {
        *last = id;
    }
}

impl Level {
    fn counted(mut all: Vec<[u16; LONGEST]>, order: usize) -> Level {
        all.sort_unstable();
        let mut grams: Vec<[u16; LONGEST]> = Vec::new();
        let mut counts: Vec<u64> = Vec::new();
        for gram in all {
            // Blanks and what counts as unseen are no characters that can come.
            if gram[order - 1] <= UNSEEN {
                continue;
            }
            match (grams.last(), counts.last_mut()) {
                (Some(last), Some(count)) if *last == gram => *count += 1,
                _ => {
                    grams.push(gram);
                    counts.push(1);
                }
            }
        }
        let of = |times: u64| counts.iter().filter(|&&count| count == times).count() as f64;
        let (once, twice) = (of(1), of(2));
        // Where nothing is rare enough to learn a discount from, half a count is taken.
        let discount = if once * twice > 0.0 { once / (once + 2.0 * twice) } else { 0.5 };
        let mut sum = 0;
        let sums = std::iter::once(0).chain(counts.into_iter().map(|count| {
            sum += count;
            sum
        }));
        Level { grams, sums: sums.collect(), discount }
    }

    /// How often the grams at these places were there.
    fn count(&self, places: std::ops::Range<usize>) -> f64 {
        (self.sums[places.end] - self.sums[places.start]) as f64
    }

    /// The places of the grams that begin so.
    fn followers(&self, context: &[u16]) -> std::ops::Range<usize> {
        let n = context.len();
        let start = self.grams.partition_point(|gram| &gram[..n] < context);
        let len = self.grams[start..].partition_point(|gram| &gram[..n] == context);
        start..start + len
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    /// Made by `testdata/eval/make.py` with NLTK.
    #[test]
    fn probabilities_are_those_of_nltk() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../testdata/eval/ngrams.json");
        let golden: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
        for case in golden.as_array().unwrap() {
            let learnt: Vec<String> = serde_json::from_value(case["learnt"].clone()).unwrap();
            let order = case["order"].as_u64().unwrap() as usize;
            let model = Ngram::learn(order, learnt.iter().map(String::as_str));
            for text in case["texts"].as_array().unwrap() {
                let expected: Vec<f64> = serde_json::from_value(text["logs"].clone()).unwrap();
                let got = model.log_probabilities(text["text"].as_str().unwrap());
                assert_eq!(got.len(), expected.len());
                for (at, (got, expected)) in got.iter().zip(&expected).enumerate() {
                    assert!((got - expected).abs() < 1e-9, "{order} {at}: {got} {expected}");
                }
            }
        }
    }

    #[test]
    fn probabilities_add_up_to_one() {
        let model = Ngram::learn(3, ["abracadabra", "abba", "你好你好吗"]);
        let characters: Vec<char> = model.ids.keys().copied().collect();
        for context in ["", "a", "ab", "你好", "zz", "a你"] {
            let mut sum = 0.0;
            for c in &characters {
                let text = format!("{context}{c}");
                sum += model.log_probabilities(&text).pop().unwrap().exp();
            }
            let unseen = model.log_probabilities(&format!("{context}\u{1f600}")).pop().unwrap();
            sum += unseen.exp() * (ALPHABET - characters.len() as f64);
            assert!((sum - 1.0).abs() < 1e-9, "{context}: {sum}");
        }
    }

    #[test]
    fn more_context_predicts_better_and_nothing_is_no_trouble() {
        let text = "the cat sat on the mat and the rat sat on the hat. ".repeat(20);
        let bits = |order: usize| -> f64 {
            Ngram::learn(order, [text.as_str()])
                .log_probabilities("the cat sat on the")
                .iter()
                .sum()
        };
        assert!(bits(5) > bits(3) && bits(3) > bits(1));
        let empty = Ngram::learn(5, []);
        assert_eq!(empty.log_probabilities("a"), [-(ALPHABET.ln())]);
        assert_eq!(empty.n_character(), 0);
    }
}
