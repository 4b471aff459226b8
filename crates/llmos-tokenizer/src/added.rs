//! Added tokens: texts that become one id before the model sees anything.

use aho_corasick::{AhoCorasick, MatchKind};

use crate::Error;
use crate::Special;
use crate::unicode::{decode_char, decode_last_char, is_space, is_word};

/// One added token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct AddedToken {
    pub(crate) id: u32,
    pub(crate) text: Vec<u8>,
    /// A control token, which [`Special::None`] leaves as text.
    pub(crate) special: bool,
    /// White space on its left belongs to it.
    pub(crate) lstrip: bool,
    /// White space on its right belongs to it.
    pub(crate) rstrip: bool,
    /// It matches whole words alone.
    pub(crate) single_word: bool,
    /// It is looked for in the normalised text.
    pub(crate) normalized: bool,
}

/// A part of a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fragment {
    /// Ordinary text, from byte to byte.
    Text(usize, usize),
    /// An added token.
    Token(u32),
}

#[derive(Debug)]
struct Finder {
    automaton: AhoCorasick,
    /// Each pattern's token.
    tokens: Vec<AddedToken>,
}

/// Finds added tokens, leftmost first and of those the longest.
#[derive(Debug, Default)]
pub(crate) struct AddedTokens {
    pub(crate) list: Vec<AddedToken>,
    /// By whether in the normalised text, and by whether control tokens are looked for.
    finders: [[Option<Finder>; 2]; 2],
}

/// Patterns in bytes at most, all together: the automaton takes some thirty times as much.
const TOTAL_BYTES: usize = 8 << 20;

impl AddedTokens {
    /// `normalize` is applied to the text of those tokens that are looked for in normalised text.
    pub(crate) fn new(
        list: Vec<AddedToken>,
        normalize: impl Fn(&[u8]) -> Vec<u8>,
    ) -> Result<AddedTokens, Error> {
        let total: usize = list.iter().map(|token| token.text.len()).sum();
        if total > TOTAL_BYTES {
            return Err(Error::malformed(
                "added tokens",
                format!("at most {TOTAL_BYTES} bytes of text"),
                format!("{total}"),
            ));
        }
        let finder = |normalized: bool, with_special: bool| -> Result<Option<Finder>, Error> {
            let mut tokens: Vec<AddedToken> = list
                .iter()
                .filter(|token| token.normalized == normalized && !token.text.is_empty())
                .filter(|token| with_special || !token.special)
                .cloned()
                .collect();
            if normalized {
                tokens.iter_mut().for_each(|token| token.text = normalize(&token.text));
                tokens.retain(|token| !token.text.is_empty());
            }
            if tokens.is_empty() {
                return Ok(None);
            }
            let automaton = AhoCorasick::builder()
                .match_kind(MatchKind::LeftmostLongest)
                .build(tokens.iter().map(|token| &token.text))
                .map_err(|error| {
                    Error::malformed("added tokens", "a buildable automaton", error.to_string())
                })?;
            Ok(Some(Finder { automaton, tokens }))
        };
        let finders = [
            [finder(false, false)?, finder(false, true)?],
            [finder(true, false)?, finder(true, true)?],
        ];
        Ok(AddedTokens { list, finders })
    }

    /// Calls `each` with the fragments of `text`, in order.
    #[inline]
    pub(crate) fn split(
        &self,
        text: &[u8],
        normalized: bool,
        special: Special,
        mut each: impl FnMut(Fragment),
    ) {
        let with_special = special == Special::Parse;
        match &self.finders[usize::from(normalized)][usize::from(with_special)] {
            Some(finder) => finder.split(text, each),
            None if text.is_empty() => {}
            None => each(Fragment::Text(0, text.len())),
        }
    }
}

impl Finder {
    fn split(&self, text: &[u8], mut each: impl FnMut(Fragment)) {
        let mut from = 0;
        for found in self.automaton.find_iter(text) {
            let token = &self.tokens[found.pattern().as_usize()];
            let (mut start, mut end) = (found.start(), found.end());
            if start < from || token.single_word && !stands_alone(text, start, end) {
                continue;
            }
            if token.lstrip {
                while start > from {
                    match decode_last_char(&text[from..start]) {
                        (Some(c), len) if is_space(c) => start -= len,
                        _ => break,
                    }
                }
            }
            if token.rstrip {
                while end < text.len() {
                    match decode_char(&text[end..]) {
                        (Some(c), len) if is_space(c) => end += len,
                        _ => break,
                    }
                }
            }
            if from < start {
                each(Fragment::Text(from, start));
            }
            each(Fragment::Token(token.id));
            from = end;
        }
        if from < text.len() {
            each(Fragment::Text(from, text.len()));
        }
    }
}

/// Whether no word character touches the stretch.
fn stands_alone(text: &[u8], start: usize, end: usize) -> bool {
    let word = |c: Option<char>| c.is_some_and(is_word);
    let before = start > 0 && word(decode_last_char(&text[..start]).0);
    let after = end < text.len() && word(decode_char(&text[end..]).0);
    !before && !after
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(id: u32, text: &str) -> AddedToken {
        AddedToken {
            id,
            text: text.as_bytes().to_vec(),
            special: true,
            lstrip: false,
            rstrip: false,
            single_word: false,
            normalized: false,
        }
    }

    fn split(list: Vec<AddedToken>, text: &str, special: Special) -> Vec<String> {
        let added = AddedTokens::new(list, <[u8]>::to_vec).expect("buildable");
        let mut parts = Vec::new();
        added.split(text.as_bytes(), false, special, |fragment| {
            parts.push(match fragment {
                Fragment::Text(from, to) => text[from..to].to_owned(),
                Fragment::Token(id) => format!("#{id}"),
            });
        });
        parts
    }

    #[test]
    fn the_longest_of_the_leftmost_wins() {
        let list = || vec![token(1, "<a>"), token(2, "<a><b>"), token(3, "b>")];
        assert_eq!(split(list(), "x<a><b>y<a>b>", Special::Parse), ["x", "#2", "y", "#1", "#3"]);
        assert_eq!(split(list(), "x<a>", Special::None), ["x<a>"]);
        assert!(split(list(), "", Special::Parse).is_empty());
    }

    #[test]
    fn strips_and_whole_words() {
        let strip = || vec![AddedToken { lstrip: true, rstrip: true, ..token(1, "M") }];
        assert_eq!(split(strip(), "a \u{3000}M\n b", Special::Parse), ["a", "#1", "b"]);
        let word = || vec![AddedToken { single_word: true, ..token(1, "ing") }];
        assert_eq!(split(word(), "going ing-ing_", Special::Parse), ["going ", "#1", "-ing_"]);
    }

    #[test]
    fn tokens_of_users_are_found_without_parsing_special_ones() {
        let list = vec![AddedToken { special: false, ..token(1, "<t>") }, token(2, "<s>")];
        assert_eq!(split(list, "<s><t>", Special::None), ["<s>", "#1"]);
    }
}
