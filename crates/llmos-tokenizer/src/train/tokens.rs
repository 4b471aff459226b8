//! Tokens as they are learnt: their bytes, and what they are to characters.

use crate::symbols::Symbols;

/// The 256 bytes by their value, then one token a merge.
#[derive(Debug)]
pub(super) struct Tokens {
    symbols: Symbols,
    /// Bytes of each.
    lens: Vec<u32>,
    parts: Vec<Part>,
}

/// What a token is to characters. A merge never joins a part of one character with another: such
/// tokens are frequent where all characters have three bytes, and mean nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    /// Whole characters.
    Whole,
    /// The beginning of a character.
    Head,
    /// Bytes from the middle or the end of one.
    Tail,
}

impl Part {
    pub(super) fn of(bytes: &[u8]) -> Part {
        match bytes.first() {
            Some(0x80..=0xbf) => Part::Tail,
            _ if std::str::from_utf8(bytes).is_ok() => Part::Whole,
            _ => Part::Head,
        }
    }

    pub(super) fn may_meet(self, right: Part) -> bool {
        matches!((self, right), (Part::Whole, Part::Whole) | (Part::Head | Part::Tail, Part::Tail))
    }
}

impl Tokens {
    /// The bytes, with room for merges.
    pub(super) fn new(n_merge: usize) -> Tokens {
        let symbols = Symbols::with_capacity(256 + n_merge);
        let mut tokens = Tokens { symbols, lens: Vec::new(), parts: Vec::new() };
        (0..=255).for_each(|byte| tokens.push(&[byte]));
        tokens
    }

    fn push(&mut self, bytes: &[u8]) {
        self.symbols.push(Some(bytes));
        self.lens.push(bytes.len() as u32);
        self.parts.push(Part::of(bytes));
    }

    /// Adds the token of a merge, and gives its number; none if there is such a token.
    pub(super) fn join(&mut self, left: u32, right: u32) -> Option<u32> {
        let bytes = self.joined(left, right);
        if self.symbols.get(&bytes).is_some() {
            return None;
        }
        self.push(&bytes);
        Some(self.len() as u32 - 1)
    }

    /// Whether a merge would make a new token.
    pub(super) fn is_new(&self, left: u32, right: u32) -> bool {
        self.symbols.get(&self.joined(left, right)).is_none()
    }

    fn joined(&self, left: u32, right: u32) -> Vec<u8> {
        [self.bytes(left), self.bytes(right)].concat()
    }

    /// The bytes of a token; none where there is no such token.
    #[inline]
    pub(super) fn bytes(&self, token: u32) -> &[u8] {
        self.symbols.bytes(token)
    }

    #[inline]
    pub(super) fn len_of(&self, token: u32) -> u32 {
        self.lens[token as usize]
    }

    /// Whether a merge of the two keeps characters whole.
    #[inline]
    pub(super) fn may_meet(&self, left: u32, right: u32) -> bool {
        self.parts[left as usize].may_meet(self.parts[right as usize])
    }

    pub(super) fn len(&self) -> usize {
        self.symbols.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn merges_keep_characters_whole() {
        let of = |bytes: &[u8]| Part::of(bytes);
        assert_eq!(of("a你".as_bytes()), Part::Whole);
        assert_eq!(
            (of(b"\xe4"), of(b"\xe4\xbd"), of(b"\xf0\x9f")),
            (Part::Head, Part::Head, Part::Head)
        );
        assert_eq!((of(b"\x80"), of(b"\xbd\xa0")), (Part::Tail, Part::Tail));
        assert!(Part::Head.may_meet(Part::Tail) && Part::Tail.may_meet(Part::Tail));
        assert!(!Part::Tail.may_meet(Part::Head) && !Part::Whole.may_meet(Part::Head));
    }
}
