//! WordPiece (arXiv:1810.04805): the longest token first, word by word. RWKV's greedy trie is the
//! same walk without words.

use crate::symbols::Symbols;
use crate::trie::Trie;

/// Tokens that open a word, and tokens that go on with it.
#[derive(Debug)]
pub(crate) struct WordPiece {
    opening: Trie,
    continuing: Trie,
    unk: Option<u32>,
    /// Longer words are unknown as a whole.
    pub(crate) longest_word: usize,
}

impl WordPiece {
    /// `continuing` comes without its `##`.
    pub(crate) fn new<'a>(
        opening: impl Iterator<Item = (&'a [u8], u32)>,
        continuing: impl Iterator<Item = (&'a [u8], u32)>,
        unk: Option<u32>,
        longest_word: usize,
    ) -> WordPiece {
        let (opening, continuing) = (Trie::new(opening), Trie::new(continuing));
        WordPiece { opening, continuing, unk, longest_word }
    }

    /// Appends the ids of a word: all of it in tokens, or the unknown token.
    pub(crate) fn encode_word(&self, word: &[u8], ids: &mut Vec<u32>) {
        let from = ids.len();
        let chars = word.iter().filter(|&&byte| byte & 0xc0 != 0x80).count();
        let mut rest = word;
        while !rest.is_empty() && chars <= self.longest_word {
            let trie = if rest.len() == word.len() { &self.opening } else { &self.continuing };
            let Some((len, id)) = trie.longest(rest) else { break };
            ids.push(id);
            rest = &rest[len..];
        }
        if !rest.is_empty() {
            ids.truncate(from);
            ids.extend(self.unk);
        }
    }
}

/// Words that are tokens as they stand.
#[derive(Debug)]
pub(crate) struct WordLevel {
    symbols: Symbols,
    unk: Option<u32>,
}

impl WordLevel {
    pub(crate) fn new(symbols: Symbols, unk: Option<u32>) -> WordLevel {
        WordLevel { symbols, unk }
    }

    pub(crate) fn encode_word(&self, word: &[u8], ids: &mut Vec<u32>) {
        ids.extend(self.symbols.get(word).or(self.unk));
    }
}

/// The longest token first, over bytes (RWKV's world vocabulary).
#[derive(Debug)]
pub(crate) struct Greedy {
    trie: Trie,
    unk: Option<u32>,
}

impl Greedy {
    pub(crate) fn new<'a>(
        tokens: impl Iterator<Item = (&'a [u8], u32)>,
        unk: Option<u32>,
    ) -> Greedy {
        Greedy { trie: Trie::new(tokens), unk }
    }

    pub(crate) fn encode(&self, mut text: &[u8], ids: &mut Vec<u32>) {
        while !text.is_empty() {
            let (len, id) = match self.trie.longest(text) {
                Some((len, id)) => (len, Some(id)),
                None => (1, self.unk),
            };
            ids.extend(id);
            text = &text[len..];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list<'a>(tokens: &'a [(&'a str, u32)]) -> impl Iterator<Item = (&'a [u8], u32)> {
        tokens.iter().map(|&(token, id)| (token.as_bytes(), id))
    }

    /// The example of the BERT release: "unaffable".
    #[test]
    fn the_longest_token_first_or_the_whole_word_unknown() {
        let pieces = WordPiece::new(
            list(&[("un", 1), ("una", 9)]),
            list(&[("aff", 2), ("able", 3), ("ffable", 4)]),
            Some(0),
            100,
        );
        let encode = |word: &str| {
            let mut ids = Vec::new();
            pieces.encode_word(word.as_bytes(), &mut ids);
            ids
        };
        assert_eq!(encode("unaffable"), [9, 4]);
        assert_eq!(encode("un"), [1]);
        assert_eq!(encode("unx"), [0]);
        assert_eq!(encode(&"un".repeat(51)), [0]);
    }

    #[test]
    fn greedy_over_bytes() {
        let greedy = Greedy::new(list(&[("a", 1), ("ab", 2)]), Some(7));
        let mut ids = Vec::new();
        greedy.encode(b"aab\xff", &mut ids);
        assert_eq!(ids, [1, 2, 7]);
    }
}
