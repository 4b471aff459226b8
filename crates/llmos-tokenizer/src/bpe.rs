//! Byte pair encoding by ranked merges (arXiv:1508.07909): GPT-2's byte-level kind, and the kind
//! over characters with bytes as a fallback.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU8, Ordering::Relaxed};

use foldhash::fast::RandomState;

use crate::merge::{ABSENT, Merges, Scratch, Symbol, WordCache};
use crate::split::has_inner_space_mark;
use crate::symbols::Symbols;
use crate::unicode::{decode_char, for_each_char};

/// What a word is made of before any merge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unit {
    Bytes,
    Chars,
}

/// What becomes of a unit that the vocabulary lacks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unknown {
    /// Nothing is written.
    Nothing,
    /// The unknown token; with `fuse`, one for a whole run.
    Token { id: u32, fuse: bool },
}

/// Two symbols as one key.
fn key(left: u32, right: u32) -> u64 {
    u64::from(left) << 32 | u64::from(right)
}

/// Ranked merges over a vocabulary.
///
/// Symbols are numbered like tokens; a merge may name strings that are no tokens, which take the
/// numbers after the last token and are written as their units.
#[derive(Debug)]
pub(crate) struct Bpe {
    pub(crate) symbols: Symbols,
    n_tokens: u32,
    pairs: HashMap<u64, (u32, u32), RandomState>,
    /// The merges in the order of the file, as symbols.
    pub(crate) merges: Vec<(u32, u32)>,
    pub(crate) unit: Unit,
    pub(crate) unknown: Unknown,
    /// Token of each byte: the byte's own, or `<0xNN>` where the units are characters.
    pub(crate) byte_ids: [u32; 256],
    /// A word that is a token is never merged.
    pub(crate) ignore_merges: bool,
    /// A run of newlines that is a token is never merged (Gemma 4's rule).
    pub(crate) whole_newlines: bool,
    /// For each token, whether merging its own bytes gives that one token.
    whole: Vec<AtomicU8>,
}

const UNTRIED: u8 = 0;
const WHOLE: u8 = 1;
const IN_PARTS: u8 = 2;

impl Bpe {
    /// `symbols` holds the tokens alone, numbered by their ids.
    pub(crate) fn new(symbols: Symbols, unit: Unit, unknown: Unknown, ignore_merges: bool) -> Bpe {
        let n_tokens = symbols.len() as u32;
        let mut byte_ids = [ABSENT; 256];
        for (byte, id) in byte_ids.iter_mut().enumerate() {
            let name = format!("<0x{byte:02X}>");
            let text = match unit {
                Unit::Bytes => &[byte as u8][..],
                Unit::Chars => name.as_bytes(),
            };
            *id = symbols.get(text).unwrap_or(ABSENT);
        }
        Bpe {
            whole: (0..n_tokens).map(|_| AtomicU8::new(UNTRIED)).collect(),
            symbols,
            n_tokens,
            pairs: HashMap::default(),
            merges: Vec::new(),
            unit,
            unknown,
            byte_ids,
            ignore_merges,
            whole_newlines: false,
        }
    }

    pub(crate) fn reserve(&mut self, merges: usize) {
        self.pairs.reserve(merges);
        self.merges.reserve(merges);
    }

    /// Adds the merge of the next rank. Of two equal ones the first holds, or with `last_wins` the
    /// last.
    pub(crate) fn push_merge(&mut self, left: &[u8], right: &[u8], last_wins: bool) {
        let rank = self.merges.len() as u32;
        let mut joined = Vec::with_capacity(left.len() + right.len());
        joined.extend_from_slice(left);
        joined.extend_from_slice(right);
        let (left, right) = (self.symbols.intern(left), self.symbols.intern(right));
        let merged = self.symbols.intern(&joined);
        self.merges.push((left, right));
        let entry = self.pairs.entry(key(left, right));
        if last_wins {
            entry.insert_entry((rank, merged));
        } else {
            entry.or_insert((rank, merged));
        }
    }

    /// Number of tokens; symbols of higher numbers are none.
    pub(crate) fn n_tokens(&self) -> u32 {
        self.n_tokens
    }

    /// Leaves the next rank without a merge.
    pub(crate) fn skip_rank(&mut self) {
        self.merges.push((ABSENT, ABSENT));
    }

    /// The merges that tiktoken's rule means: two neighbours join if their text is a token, the
    /// lowest id first.
    pub(crate) fn merges_from_ranks(&mut self) {
        self.reserve(self.n_tokens as usize * 3);
        for id in 0..self.n_tokens {
            let text = self.symbols.bytes(id);
            for cut in 1..text.len() {
                if let (Some(left), Some(right)) =
                    (self.symbols.get(&text[..cut]), self.symbols.get(&text[cut..]))
                {
                    self.pairs.insert(key(left, right), (id, id));
                }
            }
        }
    }

    /// Merges, as pairs of tokens by rank, that give the same result as [`Self::merges_from_ranks`]:
    /// for each token, the two that its own bytes merge into just before it.
    pub(crate) fn merges_of_ranks(&self) -> Vec<(u32, u32)> {
        struct Below<'a>(&'a Bpe, u32);
        impl Merges for Below<'_> {
            fn pair(&self, left: u32, right: u32, text: &[u8]) -> Option<(u32, u32)> {
                self.0.pair(left, right, text).filter(|&(rank, _)| rank < self.1)
            }
        }
        let mut scratch = Scratch::default();
        let mut list = Vec::with_capacity(self.n_tokens as usize);
        for id in 0..self.n_tokens {
            let text = self.symbols.bytes(id);
            if text.len() < 2 {
                continue;
            }
            self.units(text, &mut scratch.symbols);
            scratch.merge(text, &Below(self, id));
            if let [left, right] = scratch.symbols[..] {
                list.push((left.id, right.id));
            }
        }
        list
    }

    /// Whether a merge named a string that is no token.
    pub(crate) fn has_foreign_symbols(&self) -> bool {
        self.symbols.len() as u32 > self.n_tokens
    }

    /// No symbol has a space mark after another character, so words can be merged on their own.
    pub(crate) fn words_apart(&self) -> bool {
        (0..self.symbols.len() as u32).all(|id| !has_inner_space_mark(self.symbols.bytes(id)))
    }

    /// Cuts a word into its units.
    fn units(&self, word: &[u8], symbols: &mut Vec<Symbol>) {
        symbols.clear();
        match self.unit {
            Unit::Bytes => {
                symbols.extend(word.iter().enumerate().map(|(at, &byte)| Symbol {
                    id: self.byte_ids[byte as usize],
                    start: at as u32,
                }))
            }
            Unit::Chars => {
                let mut start = 0;
                for_each_char(word, |c, bytes| {
                    let known = c.and_then(|_| self.symbols.get(bytes));
                    match known {
                        Some(id) => symbols.push(Symbol { id, start }),
                        None => {
                            symbols.extend(bytes.iter().enumerate().map(|(at, &byte)| Symbol {
                                id: self.byte_ids[byte as usize],
                                start: start + at as u32,
                            }));
                            // Without bytes to fall back on, the character stays one unit.
                            let from = symbols.len() - bytes.len();
                            if symbols[from..].iter().any(|symbol| symbol.id == ABSENT) {
                                symbols.truncate(from);
                                symbols.push(Symbol { id: ABSENT, start });
                            }
                        }
                    }
                    start += bytes.len() as u32;
                });
            }
        }
    }

    /// Appends the ids of a word.
    #[inline]
    pub(crate) fn encode_word(
        &self,
        word: &[u8],
        scratch: &mut Scratch,
        cache: &mut WordCache,
        ids: &mut Vec<u32>,
    ) {
        let hash = self.symbols.hash(word);
        let token = self.symbols.get_hashed(word, hash).filter(|&id| id < self.n_tokens);
        if let Some(id) = token
            && (self.ignore_merges
                || self.whole[id as usize].load(Relaxed) == WHOLE
                || self.whole_newlines && word.iter().all(|&byte| byte == b'\n'))
        {
            return ids.push(id);
        }
        if let Some(known) = cache.get(word, hash) {
            return ids.extend_from_slice(known);
        }
        self.merge_word(word, hash, token, scratch, cache, ids);
    }

    #[cold]
    fn merge_word(
        &self,
        word: &[u8],
        hash: u64,
        token: Option<u32>,
        scratch: &mut Scratch,
        cache: &mut WordCache,
        ids: &mut Vec<u32>,
    ) {
        self.units(word, &mut scratch.symbols);
        scratch.merge(word, self);
        let from = ids.len();
        let mut in_unknown = false;
        for (at, symbol) in scratch.symbols.iter().enumerate() {
            if symbol.id < self.n_tokens {
                ids.push(symbol.id);
                in_unknown = false;
            } else {
                let end = scratch.symbols.get(at + 1).map_or(word.len(), |s| s.start as usize);
                self.write_units(&word[symbol.start as usize..end], &mut in_unknown, ids);
            }
        }
        if let Some(id) = token
            && self.whole[id as usize].load(Relaxed) == UNTRIED
        {
            let state = if ids[from..] == [id] { WHOLE } else { IN_PARTS };
            self.whole[id as usize].store(state, Relaxed);
        }
        cache.put(word, hash, &ids[from..]);
    }

    /// Writes what is no token: its units where they are tokens, else the unknown token.
    fn write_units(&self, mut text: &[u8], in_unknown: &mut bool, ids: &mut Vec<u32>) {
        while !text.is_empty() {
            let len = match self.unit {
                Unit::Bytes => 1,
                Unit::Chars => decode_char(text).1,
            };
            let (unit, rest) = text.split_at(len);
            text = rest;
            match (self.symbols.get(unit).filter(|&id| id < self.n_tokens), self.unknown) {
                (Some(id), _) => {
                    ids.push(id);
                    *in_unknown = false;
                }
                (None, Unknown::Token { id, fuse }) => {
                    if !(fuse && *in_unknown) {
                        ids.push(id);
                    }
                    *in_unknown = true;
                }
                (None, Unknown::Nothing) => {}
            }
        }
    }
}

impl Merges for Bpe {
    #[inline]
    fn pair(&self, left: u32, right: u32, _text: &[u8]) -> Option<(u32, u32)> {
        self.pairs.get(&key(left, right)).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bpe(tokens: &[&str], merges: &[(&str, &str)], unknown: Unknown) -> Bpe {
        let mut symbols = Symbols::default();
        tokens.iter().for_each(|token| symbols.push(Some(token.as_bytes())));
        let mut bpe = Bpe::new(symbols, Unit::Bytes, unknown, false);
        for (left, right) in merges {
            bpe.push_merge(left.as_bytes(), right.as_bytes(), false);
        }
        bpe
    }

    fn encode(bpe: &Bpe, word: &str) -> Vec<u32> {
        let mut ids = Vec::new();
        let (mut scratch, mut cache) = (Scratch::default(), WordCache::default());
        bpe.encode_word(word.as_bytes(), &mut scratch, &mut cache, &mut ids);
        let mut again = Vec::new();
        bpe.encode_word(word.as_bytes(), &mut scratch, &mut cache, &mut again);
        assert_eq!(ids, again, "the second time by memory");
        ids
    }

    #[test]
    fn the_lowest_rank_merges_first() {
        let bpe = bpe(&["a", "b", "c", "bc", "ab"], &[("b", "c"), ("a", "b")], Unknown::Nothing);
        assert_eq!(encode(&bpe, "abc"), [0, 3]);
        assert_eq!(encode(&bpe, "abab"), [4, 4]);
    }

    #[test]
    fn a_token_that_merges_do_not_reach_is_not_used() {
        let bpe = bpe(&["a", "b", "ab"], &[], Unknown::Nothing);
        assert_eq!(encode(&bpe, "ab"), [0, 1]);
    }

    #[test]
    fn merges_may_pass_through_strings_that_are_no_tokens() {
        let bpe = bpe(&["a", "b", "c", "abc"], &[("a", "b"), ("ab", "c")], Unknown::Nothing);
        assert!(bpe.has_foreign_symbols());
        assert_eq!(encode(&bpe, "abc"), [3]);
        assert_eq!(encode(&bpe, "ab"), [0, 1]);
    }

    #[test]
    fn unknown_units() {
        let fused = Unknown::Token { id: 0, fuse: true };
        assert_eq!(encode(&bpe(&["?", "a"], &[], fused), "axxa"), [1, 0, 1]);
        let apart = Unknown::Token { id: 0, fuse: false };
        assert_eq!(encode(&bpe(&["?", "a"], &[], apart), "axxa"), [1, 0, 0, 1]);
        assert_eq!(encode(&bpe(&["?", "a"], &[], Unknown::Nothing), "axxa"), [1, 1]);
    }

    #[test]
    fn ranks_alone_mean_merges() {
        let mut symbols = Symbols::default();
        ["a", "b", "ab", "aab", "ba"].iter().for_each(|t| symbols.push(Some(t.as_bytes())));
        let mut bpe = Bpe::new(symbols, Unit::Bytes, Unknown::Nothing, true);
        bpe.merges_from_ranks();
        assert_eq!(encode(&bpe, "aaba"), [3, 0]);
        assert_eq!(encode(&bpe, "aba"), [2, 0]);
        assert_eq!(bpe.merges_of_ranks(), [(0, 1), (0, 2), (1, 0)]);
    }
}
