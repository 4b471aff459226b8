//! SentencePiece BPE (arXiv:1808.06226): neighbours join if their text is a token, the highest
//! score first; what stays unknown is written as its bytes.

use std::sync::atomic::{AtomicU8, Ordering::Relaxed};

use crate::merge::{ABSENT, Merges, Scratch, Symbol, WordCache};
use crate::split::{has_inner_space_mark, run_with_space_marks};
use crate::symbols::Symbols;
use crate::unicode::for_each_char;

/// Merges by score.
#[derive(Debug)]
pub(crate) struct Spm {
    pub(crate) symbols: Symbols,
    /// Place of each token by falling score; equal scores share one. `u32::MAX` for a token that
    /// is never made from text.
    ranks: Vec<u32>,
    /// The `<0xNN>` token of each byte, or [`ABSENT`].
    byte_ids: [u32; 256],
    unk: Option<u32>,
    /// No token has a space mark after another character, so words can be merged on their own.
    words_apart: bool,
    /// For each token, whether merging its own bytes gives that one token.
    whole: Vec<AtomicU8>,
}

const UNTRIED: u8 = 0;
const WHOLE: u8 = 1;
const IN_PARTS: u8 = 2;

impl Spm {
    /// `symbols` holds the tokens by id, `scores` and `mergeable` are (V).
    pub(crate) fn new(
        symbols: Symbols,
        scores: &[f32],
        mergeable: &[bool],
        unk: Option<u32>,
    ) -> Spm {
        let n_tokens = symbols.len();
        let score = |id: u32| {
            let score = scores.get(id as usize).copied().unwrap_or(0.0);
            if score.is_nan() { f32::NEG_INFINITY } else { score }
        };
        let mut order: Vec<u32> = (0..n_tokens as u32).collect();
        order.sort_by(|&a, &b| score(b).total_cmp(&score(a)));
        let mut ranks = vec![u32::MAX; n_tokens];
        let mut rank = 0;
        for (place, &id) in order.iter().enumerate() {
            if place > 0 && score(order[place - 1]) != score(id) {
                rank += 1;
            }
            if mergeable.get(id as usize).copied().unwrap_or(true) {
                ranks[id as usize] = rank;
            }
        }
        let mut byte_ids = [ABSENT; 256];
        for (byte, id) in byte_ids.iter_mut().enumerate() {
            *id = symbols
                .get(format!("<0x{byte:02X}>").as_bytes())
                .or_else(|| symbols.get(&[byte as u8]))
                .unwrap_or(ABSENT);
        }
        let words_apart = (0..n_tokens as u32)
            .all(|id| ranks[id as usize] == u32::MAX || !has_inner_space_mark(symbols.bytes(id)));
        let whole = (0..n_tokens).map(|_| AtomicU8::new(UNTRIED)).collect();
        Spm { symbols, ranks, byte_ids, unk, words_apart, whole }
    }

    /// Appends the ids of a normalised text.
    pub(crate) fn encode(
        &self,
        text: &[u8],
        scratch: &mut Scratch,
        cache: &mut WordCache,
        ids: &mut Vec<u32>,
    ) {
        if !self.words_apart {
            return self.merge_word(text, None, scratch, ids);
        }
        let mut start = 0;
        while start < text.len() {
            let pos = start + run_with_space_marks(&text[start..]);
            self.encode_word(&text[start..pos], scratch, cache, ids);
            start = pos;
        }
    }

    fn encode_word(
        &self,
        word: &[u8],
        scratch: &mut Scratch,
        cache: &mut WordCache,
        ids: &mut Vec<u32>,
    ) {
        let hash = self.symbols.hash(word);
        let token = self.token(word, hash);
        if let Some(id) = token
            && self.whole[id as usize].load(Relaxed) == WHOLE
        {
            return ids.push(id);
        }
        if let Some(known) = cache.get(word, hash) {
            return ids.extend_from_slice(known);
        }
        let from = ids.len();
        self.merge_word(word, token, scratch, ids);
        cache.put(word, hash, &ids[from..]);
    }

    /// The token of a text, if text may make it.
    fn token(&self, text: &[u8], hash: u64) -> Option<u32> {
        self.symbols.get_hashed(text, hash).filter(|&id| self.ranks[id as usize] != u32::MAX)
    }

    fn merge_word(
        &self,
        word: &[u8],
        token: Option<u32>,
        scratch: &mut Scratch,
        ids: &mut Vec<u32>,
    ) {
        scratch.symbols.clear();
        let mut start = 0;
        for_each_char(word, |_, bytes| {
            let id = self.token(bytes, self.symbols.hash(bytes)).unwrap_or(ABSENT);
            scratch.symbols.push(Symbol { id, start });
            start += bytes.len() as u32;
        });
        scratch.merge(word, self);
        let from = ids.len();
        let mut in_unknown = false;
        for (at, symbol) in scratch.symbols.iter().enumerate() {
            if symbol.id != ABSENT {
                ids.push(symbol.id);
                in_unknown = false;
                continue;
            }
            let end = scratch.symbols.get(at + 1).map_or(word.len(), |s| s.start as usize);
            for &byte in &word[symbol.start as usize..end] {
                let id = self.byte_ids[byte as usize];
                if id != ABSENT {
                    ids.push(id);
                    in_unknown = false;
                } else if let Some(unk) = self.unk
                    && !in_unknown
                {
                    ids.push(unk);
                    in_unknown = true;
                }
            }
        }
        if let Some(id) = token {
            let state = if ids[from..] == [id] { WHOLE } else { IN_PARTS };
            self.whole[id as usize].store(state, Relaxed);
        }
    }

    /// The merges of this vocabulary as pairs of tokens, in the order that ranks them alike.
    pub(crate) fn merges(&self) -> Vec<(u32, u32)> {
        let mut list = Vec::new();
        for id in 0..self.symbols.len() as u32 {
            let rank = self.ranks[id as usize];
            let text = self.symbols.bytes(id);
            let cuts = (1..text.len()).filter(|&cut| text[cut] & 0xc0 != 0x80);
            if rank == u32::MAX {
                continue;
            }
            for cut in cuts {
                let part = |part: &[u8]| self.token(part, self.symbols.hash(part));
                if let (Some(left), Some(right)) = (part(&text[..cut]), part(&text[cut..])) {
                    list.push((rank, id, left, right));
                }
            }
        }
        list.sort_unstable();
        list.into_iter().map(|(_, _, left, right)| (left, right)).collect()
    }
}

impl Merges for Spm {
    #[inline]
    fn pair(&self, _left: u32, _right: u32, text: &[u8]) -> Option<(u32, u32)> {
        if text.len() > self.symbols.longest() {
            return None;
        }
        let id = self.symbols.get(text)?;
        let rank = self.ranks[id as usize];
        (rank != u32::MAX).then_some((rank, id))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encode(spm: &Spm, text: &[u8]) -> Vec<u32> {
        let mut ids = Vec::new();
        spm.encode(text, &mut Scratch::default(), &mut WordCache::default(), &mut ids);
        ids
    }

    fn spm(tokens: &[(&str, f32)]) -> Spm {
        let mut symbols = Symbols::default();
        tokens.iter().for_each(|(token, _)| symbols.push(Some(token.as_bytes())));
        let scores: Vec<f32> = tokens.iter().map(|t| t.1).collect();
        Spm::new(symbols, &scores, &vec![true; tokens.len()], Some(0))
    }

    #[test]
    fn the_highest_score_merges_first_and_bytes_are_the_fallback() {
        let spm = spm(&[
            ("<unk>", 0.0),
            ("a", -3.0),
            ("b", -3.0),
            ("c", -3.0),
            ("bc", -1.0),
            ("ab", -2.0),
            ("<0xFF>", 0.0),
        ]);
        assert_eq!(encode(&spm, b"abc"), [1, 4]);
        assert_eq!(encode(&spm, b"ab\xff"), [5, 6]);
        assert_eq!(encode(&spm, "é".as_bytes()), [0]);
        assert_eq!(spm.merges(), [(2, 3), (1, 2)]);
    }

    #[test]
    fn scores_that_are_no_numbers_come_last() {
        let spm = spm(&[("<unk>", 0.0), ("a", 0.0), ("b", 0.0), ("aa", f32::NAN), ("ab", -9.0)]);
        assert_eq!(encode(&spm, b"aab"), [1, 4]);
    }

    #[test]
    fn a_space_mark_inside_a_token_joins_words() {
        let with = spm(&[("<unk>", 0.0), ("a", 0.0), ("▁", 0.0), ("a▁", 0.0)]);
        assert_eq!(encode(&with, "a▁a".as_bytes()), [3, 1]);
    }
}
