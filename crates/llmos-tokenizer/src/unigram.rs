//! Unigram language model (arXiv:1804.10959): the most probable path of tokens, by Viterbi.

use crate::merge::ABSENT;
use crate::trie::Trie;
use crate::unicode::decode_char;

/// What an unknown character costs below the least probable token (SentencePiece's constant).
const UNKNOWN_PENALTY: f64 = 10.0;

/// Tokens with log-probabilities.
#[derive(Debug)]
pub(crate) struct Unigram {
    trie: Trie,
    /// Log-probability of each token, (V).
    scores: Vec<f64>,
    unk: Option<u32>,
    unknown_score: f64,
    /// Tokens `<0xNN>` for the bytes of what is unknown; [`ABSENT`] where there are none.
    byte_ids: Option<Box<[u32; 256]>>,
    /// Sum in single precision, as SentencePiece itself does.
    single: bool,
}

/// Longest stretch scored in one go. A cut can change ids near it only; a text of this size without
/// any cut of its own is no language.
const STRETCH: usize = 1 << 24;

impl Unigram {
    /// `tokens` are those that text may make. `floor` is the lowest score of a normal token.
    pub(crate) fn new<'a>(
        tokens: impl Iterator<Item = (&'a [u8], u32)>,
        scores: Vec<f64>,
        floor: f64,
        unk: Option<u32>,
        byte_ids: Option<Box<[u32; 256]>>,
        single: bool,
    ) -> Unigram {
        let unknown_score = floor - UNKNOWN_PENALTY;
        Unigram { trie: Trie::new(tokens), scores, unk, unknown_score, byte_ids, single }
    }

    /// Whether unknown text is written as its bytes.
    pub(crate) fn byte_fallback(&self) -> bool {
        self.byte_ids.is_some()
    }

    /// Appends the ids of a normalised text.
    pub(crate) fn encode(&self, mut text: &[u8], ids: &mut Vec<u32>) {
        while text.len() > STRETCH {
            let (stretch, rest) = text.split_at(STRETCH);
            self.encode_stretch(stretch, ids);
            text = rest;
        }
        self.encode_stretch(text, ids);
    }

    fn encode_stretch(&self, text: &[u8], ids: &mut Vec<u32>) {
        /// The best way to reach a place: its score, and its last token with where that began.
        #[derive(Clone, Copy)]
        struct Best {
            score: f64,
            start: u32,
            token: u32,
        }
        let round = |score: f64| if self.single { f64::from(score as f32) } else { score };
        let unreached = Best { score: f64::NEG_INFINITY, start: u32::MAX, token: ABSENT };
        let mut best = vec![unreached; text.len() + 1];
        best[0].score = 0.0;
        let mut at = 0;
        while at < text.len() {
            let char_len = decode_char(&text[at..]).1;
            let here = best[at].score;
            let mut whole_char = false;
            let mut offer = |end: usize, score: f64, token: u32| {
                let score = round(score);
                if best[end].start == u32::MAX || score > best[end].score {
                    best[end] = Best { score, start: at as u32, token };
                }
            };
            self.trie.prefixes(&text[at..], |len, token| {
                whole_char |= len == char_len;
                offer(at + len, here + self.scores[token as usize], token);
            });
            if !whole_char {
                offer(at + char_len, here + self.unknown_score, ABSENT);
            }
            at += char_len;
        }
        let from = ids.len();
        let mut end = text.len();
        let mut in_unknown = false;
        while end > 0 {
            let Best { start, token, .. } = best[end];
            let start = start as usize;
            if token != ABSENT && Some(token) != self.unk {
                ids.push(token);
                in_unknown = false;
            } else if let Some(byte_ids) = &self.byte_ids {
                ids.extend(text[start..end].iter().rev().map(|&byte| byte_ids[byte as usize]));
            } else {
                if let Some(unk) = self.unk
                    && !in_unknown
                {
                    ids.push(unk);
                }
                in_unknown = true;
            }
            end = start;
        }
        ids[from..].reverse();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encode(tokens: &[(&str, f64)], text: &str) -> Vec<u32> {
        let scores = tokens.iter().map(|t| t.1).collect();
        let list = tokens.iter().zip(0..).skip(1).map(|(t, id)| (t.0.as_bytes(), id));
        let floor = tokens.iter().map(|t| t.1).fold(0.0, f64::min);
        let mut ids = Vec::new();
        Unigram::new(list, scores, floor, Some(0), None, false).encode(text.as_bytes(), &mut ids);
        ids
    }

    /// Hugging Face's own example of its Unigram model's `encode`.
    #[test]
    fn the_best_path_wins() {
        let tokens = [
            ("<unk>", 0.0),
            ("a", 0.0),
            ("b", 0.0),
            ("c", 0.0),
            ("d", 0.0),
            ("cd", 1.0),
            ("ab", 2.0),
            ("abc", 5.0),
            ("abcd", 10.0),
        ];
        assert_eq!(encode(&tokens, "abcd"), [8]);
        assert_eq!(encode(&tokens, "abcacdxx"), [7, 1, 5, 0]);
    }

    #[test]
    fn hostile_scores_still_cover_the_text() {
        for score in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            assert!(!encode(&[("<unk>", score), ("a", score), ("aa", score)], "aaxa").is_empty());
        }
        assert!(encode(&[("<unk>", 0.0)], "").is_empty());
    }
}
