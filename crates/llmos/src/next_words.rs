//! The next whole word: the tree of continuations, explored by probability.
//!
//! A token is often a piece of a word. From the end of the prompt, the likeliest unfinished piece is
//! taken one token further, again and again; a word is finished by the probability that a new one
//! begins after it. No unfinished piece can become likelier than it is, so the search is exact once
//! the best of them is less likely than the last of the words that are asked for.

use std::collections::{BinaryHeap, HashMap};

use llmos_model::Engine;
use llmos_model::engine::SequenceId;
use llmos_model::sampler::log_sum_exp;
use llmos_tokenizer::Tokenizer;

use crate::load;

/// Pieces that go through the model in one batch: decoding reads all weights for one row or eight.
pub(crate) const BATCH: usize = 8;

/// Tokens that are followed from each piece; beyond, what is left is counted as unexplored.
const BRANCHES: usize = 64;

/// Longest word in tokens.
pub(crate) const DEPTH: usize = 12;

/// A word and how likely it comes next.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Word {
    /// With the space before it, if it has one.
    pub(crate) text: String,
    /// That exactly this word comes next.
    pub(crate) probability: f64,
    /// The tokens of its likeliest spelling.
    pub(crate) ids: Vec<u32>,
}

/// What a search found.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Words {
    /// Likeliest first.
    pub(crate) words: Vec<Word>,
    /// That the text ends here.
    pub(crate) end: f64,
    /// Probability of what was not followed to the end of a word.
    pub(crate) unexplored: f64,
    /// True if no unexplored piece could change the words or their order.
    pub(crate) exact: bool,
}

/// The beginning of a word.
struct Piece {
    probability: f64,
    ids: Vec<u32>,
    bytes: Vec<u8>,
}

impl PartialEq for Piece {
    fn eq(&self, other: &Piece) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Piece {}

impl PartialOrd for Piece {
    fn partial_cmp(&self, other: &Piece) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Piece {
    fn cmp(&self, other: &Piece) -> std::cmp::Ordering {
        self.probability.total_cmp(&other.probability).then_with(|| other.ids.cmp(&self.ids))
    }
}

/// The `count` likeliest words after `root`, whose logits must be there. At most `passes` batches
/// go through the model.
///
/// # Errors
/// The engine's.
pub(crate) fn search(
    engine: &mut Engine,
    root: SequenceId,
    tokenizer: &Tokenizer,
    count: usize,
    passes: usize,
) -> anyhow::Result<Words> {
    let mut found = Found::default();
    let begin = Piece { probability: 1.0, ids: Vec::new(), bytes: Vec::new() };
    let logits = engine.logits(root).map_err(load::explained)?.to_vec();
    found.branch(&begin, &logits, tokenizer);
    let mut exact = false;
    let room = engine.context() - engine.tokens(root).map_err(load::explained)?.len();
    for pass in 0..=passes {
        let bound = found.open.peek().map_or(0.0, |piece| piece.probability);
        if found.settled(count, bound) {
            exact = found.dropped < found.last(count);
            break;
        }
        if pass == passes {
            break;
        }
        let mut batch = Vec::new();
        while batch.len() < BATCH
            && let Some(piece) = found.open.pop()
        {
            if piece.ids.len() >= DEPTH.min(room) {
                found.unexplored += piece.probability;
                found.dropped = found.dropped.max(piece.probability);
                continue;
            }
            let id = engine.fork(root).map_err(load::explained)?;
            engine.force(id, &piece.ids).map_err(load::explained)?;
            batch.push((id, piece));
        }
        let ready =
            |engine: &Engine| batch.iter().all(|&(id, _)| engine.is_ready(id).unwrap_or(true));
        while !ready(engine) {
            engine.step().map_err(load::explained)?;
        }
        for (id, piece) in batch {
            let logits = engine.logits(id).map_err(load::explained)?.to_vec();
            engine.remove(id).map_err(load::explained)?;
            found.branch(&piece, &logits, tokenizer);
        }
    }
    Ok(found.words(count, exact))
}

#[derive(Default)]
struct Found {
    open: BinaryHeap<Piece>,
    /// Text -> probability, and the likeliest spelling with its own.
    finished: HashMap<String, (f64, f64, Vec<u32>)>,
    end: f64,
    unexplored: f64,
    /// Probability of the likeliest piece that was not followed.
    dropped: f64,
}

impl Found {
    /// Goes one token further from `piece`, after which `logits` (V) come.
    fn branch(&mut self, piece: &Piece, logits: &[f32], tokenizer: &Tokenizer) {
        let total = log_sum_exp(logits);
        let mut finish = 0.0;
        let mut on: Vec<(f64, u32)> = Vec::new();
        for (id, &logit) in logits.iter().enumerate() {
            let probability = piece.probability * (f64::from(logit) - total).exp();
            let id = id as u32;
            let ends = tokenizer.is_end(id) || tokenizer.is_special(id);
            if piece.ids.is_empty() && ends {
                self.end += probability;
            } else if ends || ends_word(&piece.bytes, tokenizer.token_bytes(id)) {
                finish += probability;
            } else {
                on.push((probability, id));
            }
        }
        if finish > 0.0 {
            let text = String::from_utf8_lossy(&piece.bytes).into_owned();
            let entry = self.finished.entry(text).or_default();
            entry.0 += finish;
            if finish > entry.1 {
                (entry.1, entry.2) = (finish, piece.ids.clone());
            }
        }
        let order = |a: &(f64, u32), b: &(f64, u32)| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1));
        if on.len() > BRANCHES {
            on.select_nth_unstable_by(BRANCHES, order);
            let rest = on.split_off(BRANCHES);
            self.unexplored += rest.iter().map(|(probability, _)| probability).sum::<f64>();
            let likeliest = rest.iter().map(|(probability, _)| *probability).fold(0.0, f64::max);
            self.dropped = self.dropped.max(likeliest);
        }
        for (probability, id) in on {
            let mut next =
                Piece { probability, ids: piece.ids.clone(), bytes: piece.bytes.clone() };
            next.ids.push(id);
            next.bytes.extend_from_slice(tokenizer.token_bytes(id));
            self.open.push(next);
        }
    }

    /// Probability of the last word that was asked for, 0 while there are fewer.
    fn last(&self, count: usize) -> f64 {
        let mut all: Vec<f64> = self.finished.values().map(|word| word.0).collect();
        all.sort_by(|a, b| b.total_cmp(a));
        all.get(count.saturating_sub(1)).copied().unwrap_or(0.0)
    }

    /// True if no open piece, none of which is likelier than `bound`, can become one of the words.
    fn settled(&self, count: usize, bound: f64) -> bool {
        self.open.is_empty() || bound < self.last(count)
    }

    fn words(self, count: usize, exact: bool) -> Words {
        let open: f64 = self.open.iter().map(|piece| piece.probability).sum();
        let mut words: Vec<Word> = self
            .finished
            .into_iter()
            .map(|(text, (probability, _, ids))| Word { text, probability, ids })
            .collect();
        words.sort_by(|a, b| {
            b.probability.total_cmp(&a.probability).then_with(|| a.text.cmp(&b.text))
        });
        words.truncate(count);
        Words { words, end: self.end, unexplored: self.unexplored + open, exact }
    }
}

/// True if the word that `bytes` spell is finished when `next` follows.
fn ends_word(bytes: &[u8], next: &[u8]) -> bool {
    // A character in the middle of its bytes goes on.
    let Ok(word) = std::str::from_utf8(bytes) else { return false };
    let Some(last) = word.chars().next_back().filter(|c| !c.is_whitespace()) else { return false };
    if is_ideograph(last) || !in_word(last) {
        return true;
    }
    // The first character of a token may be cut, and then it is no ASCII punctuation.
    let next = match std::str::from_utf8(next) {
        Ok(text) => text,
        Err(error) => std::str::from_utf8(&next[..error.valid_up_to()]).unwrap_or_default(),
    };
    let mut following = next.chars();
    match following.next() {
        None => false,
        Some('\'' | '’') => !following.next().is_none_or(char::is_alphabetic),
        Some(c) => is_ideograph(c) || !in_word(c),
    }
}

fn in_word(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '\'' | '’' | '-' | '_')
}

/// Written without spaces between words: each character stands alone.
fn is_ideograph(c: char) -> bool {
    matches!(u32::from(c), 0x3040..=0x30FF | 0x3400..=0x9FFF | 0xF900..=0xFAFF | 0x20000..=0x3FFFF)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_words_end() {
        for (word, next, expected) in [
            ("", " the", false),
            (" ", "the", false),
            (" ca", "t", false),
            (" cat", " sat", true),
            (" cat", ".", true),
            (" cat", "\n", true),
            (" don", "'t", false),
            (" don", "'", false),
            (" boys", "' ", true),
            (",", " and", true),
            (".", ".", true),
            ("猫", "在", true),
            (" well", "-known", false),
        ] {
            assert_eq!(ends_word(word.as_bytes(), next.as_bytes()), expected, "{word:?} {next:?}");
        }
        assert!(!ends_word(&[0xE7, 0x8C], &[0xAB]));
    }

    #[test]
    fn likelier_pieces_come_first() {
        let piece = |probability, id| Piece { probability, ids: vec![id], bytes: Vec::new() };
        let mut heap = BinaryHeap::from([piece(0.1, 1), piece(0.5, 2), piece(0.5, 3)]);
        let order: Vec<u32> = std::iter::from_fn(|| heap.pop()).map(|piece| piece.ids[0]).collect();
        assert_eq!(order, [2, 3, 1]);
    }
}
