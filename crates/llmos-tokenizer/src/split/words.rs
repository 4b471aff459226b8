//! Hand-written matchers for the word patterns that most models use.
//!
//! Each is equal to the regular expression in its comment (a property test holds it to that) and
//! runs in one pass without backtracking, with an ASCII path that never decodes a character.

use crate::unicode::{
    CategoryTable, LETTER, LOWER, MARK, NUMBER, OTHER_LETTER, SPACE, UPPER, decode_last_char,
};

/// How `'s`, `'t`, `'re`, `'ve`, `'m`, `'ll`, `'d` are recognised.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Contractions {
    /// They are not.
    Absent,
    /// In lower case alone.
    Lower,
    /// In any case: `(?i:…)`, under which `ſ` (U+017F) folds to `s`.
    AnyCase,
}

/// The pattern of cl100k and its many relatives:
/// `(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LetterRule {
    pub(crate) contractions: Contractions,
    /// Digits a piece at most: 3 for `\p{N}{1,3}`, 1 for `\p{N}`, `usize::MAX` for `\p{N}+`.
    pub(crate) digits: usize,
    /// Marks belong to letters: `[\p{L}\p{M}]+`, and are absent from the punctuation.
    pub(crate) marks: bool,
    /// tiktoken's `\s++$` stands before the newline rule.
    pub(crate) trailing_space_whole: bool,
}

/// The pattern of o200k: words split where lower case turns to upper case, and
/// `[\r\n/]*` after punctuation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct CaseRule {
    pub(crate) contractions: Contractions,
    /// As in [`LetterRule::digits`].
    pub(crate) digits: usize,
}

/// A pattern that covers its text without gaps, and has a hand-written matcher.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Words {
    /// `'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+`.
    Gpt2,
    /// See [`LetterRule`].
    Letters(LetterRule),
    /// See [`CaseRule`].
    Cases(CaseRule),
    /// `[^\n]+|[\n]+`.
    Lines,
}

const CL100K: LetterRule = LetterRule {
    contractions: Contractions::AnyCase,
    digits: 3,
    marks: false,
    trailing_space_whole: false,
};
const QWEN2: LetterRule = LetterRule { digits: 1, ..CL100K };
const O200K: CaseRule = CaseRule { contractions: Contractions::AnyCase, digits: 3 };

/// The patterns as files and programs write them, each with its matcher.
const KNOWN: &[(&str, Words)] = &[
    (r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+", Words::Gpt2),
    (r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)", Words::Gpt2),
    (
        r"'(?:[sdmt]|ll|ve|re)| ?\p{L}++| ?\p{N}++| ?[^\s\p{L}\p{N}]++|\s++$|\s+(?!\S)|\s",
        Words::Gpt2,
    ),
    (r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+", Words::Gpt2),
    (
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
        Words::Letters(CL100K),
    ),
    (
        r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+",
        Words::Letters(CL100K),
    ),
    (
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s+\z|\s*[\r\n]+|\s+(?!\S)|\s+",
        Words::Letters(LetterRule { trailing_space_whole: true, ..CL100K }),
    ),
    (
        r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+| ?[^\s\p{L}\p{N}]++[\r\n]*+|\s++$|\s*[\r\n]|\s+(?!\S)|\s",
        Words::Letters(LetterRule { trailing_space_whole: true, ..CL100K }),
    ),
    (
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
        Words::Letters(QWEN2),
    ),
    (
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}+| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
        Words::Letters(LetterRule { digits: usize::MAX, ..CL100K }),
    ),
    (
        r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+",
        Words::Letters(QWEN2),
    ),
    (
        r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
        Words::Letters(LetterRule { contractions: Contractions::Absent, ..QWEN2 }),
    ),
    (
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
        Words::Letters(LetterRule { marks: true, ..QWEN2 }),
    ),
    (
        r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+",
        Words::Cases(O200K),
    ),
    (
        r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+",
        Words::Cases(CaseRule { contractions: Contractions::Absent, digits: 1 }),
    ),
    (r"[^\n]+|[\n]+", Words::Lines),
];

impl Words {
    /// The matcher of a pattern, if there is one.
    pub(crate) fn of_pattern(pattern: &str) -> Option<Words> {
        KNOWN.iter().find(|(known, _)| *known == pattern).map(|&(_, words)| words)
    }

    /// Whether both cut every text alike, but for white space at its end.
    pub(crate) fn is_alike(self, other: Words) -> bool {
        let plain = |words| match words {
            Words::Letters(rule) => {
                Words::Letters(LetterRule { trailing_space_whole: false, ..rule })
            }
            words => words,
        };
        plain(self) == plain(other)
    }

    /// The pattern of a matcher, as Hugging Face files write it.
    pub(crate) fn pattern(self) -> Option<&'static str> {
        KNOWN.iter().find(|&&(_, words)| words == self).map(|&(pattern, _)| pattern)
    }

    /// Calls `each` with the end of every piece of `text`, in order.
    #[inline(always)]
    pub(crate) fn for_each_end(
        self,
        table: &CategoryTable,
        text: &[u8],
        mut each: impl FnMut(usize),
    ) {
        let mut pos = 0;
        match self {
            Words::Gpt2 => {
                while pos < text.len() {
                    pos = gpt2(table, text, pos);
                    each(pos);
                }
            }
            Words::Letters(rule) => {
                while pos < text.len() {
                    pos = letters(table, text, pos, rule);
                    each(pos);
                }
            }
            Words::Cases(rule) => {
                while pos < text.len() {
                    pos = cases(table, text, pos, rule);
                    each(pos);
                }
            }
            Words::Lines => {
                while pos < text.len() {
                    let newline = text[pos] == b'\n';
                    let run = text[pos..].iter().position(|&b| (b == b'\n') != newline);
                    pos += run.unwrap_or(text.len() - pos);
                    each(pos);
                }
            }
        }
    }
}

/// The end of a contraction that starts with the apostrophe at `pos`.
#[inline]
fn contraction(text: &[u8], pos: usize, kind: Contractions) -> Option<usize> {
    let rest = text.get(pos + 1..)?;
    let fold = |at: usize| match kind {
        Contractions::AnyCase => rest.get(at).map(u8::to_ascii_lowercase),
        _ => rest.get(at).copied(),
    };
    match (fold(0)?, fold(1)) {
        (b's' | b't' | b'm' | b'd', _) => Some(pos + 2),
        (b'r' | b'v', Some(b'e')) | (b'l', Some(b'l')) => Some(pos + 3),
        (0xc5, Some(0xbf)) if kind == Contractions::AnyCase => Some(pos + 3),
        _ => None,
    }
}

/// `\s+(?!\S)|\s+` over the white space from `pos` to `end`.
#[inline]
fn space_end(text: &[u8], pos: usize, end: usize) -> usize {
    if end == text.len() {
        return end;
    }
    let last = decode_last_char(&text[pos..end]).1;
    if end - last > pos { end - last } else { end }
}

/// `\s*[\r\n]+|\s+(?!\S)|\s+` at `pos`, where white space stands.
#[inline]
fn space_or_newlines(table: &CategoryTable, text: &[u8], pos: usize, whole: bool) -> usize {
    let end = table.run(text, pos, SPACE);
    if whole && end == text.len() {
        return end;
    }
    match text[pos..end].iter().rposition(|&b| b == b'\n' || b == b'\r') {
        Some(newline) => pos + newline + 1,
        None => space_end(text, pos, end),
    }
}

/// The end of at most `limit` characters of the class `mask` from `pos` on.
#[inline]
fn run_limited(
    table: &CategoryTable,
    text: &[u8],
    mut pos: usize,
    mask: u8,
    limit: usize,
) -> usize {
    for _ in 0..limit {
        match text.get(pos).map(|_| table.at(text, pos)) {
            Some((bits, len)) if bits & mask != 0 => pos += len,
            _ => break,
        }
    }
    pos
}

/// The end of `tail*`.
#[inline]
fn run_of_bytes(text: &[u8], pos: usize, tail: &[u8]) -> usize {
    let run = text[pos..].iter().position(|b| !tail.contains(b));
    pos + run.unwrap_or(text.len() - pos)
}

#[inline(always)]
fn gpt2(table: &CategoryTable, text: &[u8], pos: usize) -> usize {
    let byte = text[pos];
    if byte == b'\''
        && let Some(end) = contraction(text, pos, Contractions::Lower)
    {
        return end;
    }
    let start = if byte == b' ' && pos + 1 < text.len() { pos + 1 } else { pos };
    let (bits, len) = table.at(text, start);
    if bits & LETTER != 0 {
        table.run(text, start + len, LETTER)
    } else if bits & NUMBER != 0 {
        table.run(text, start + len, NUMBER)
    } else if bits & SPACE == 0 {
        table.run_without(text, start + len, LETTER | NUMBER | SPACE)
    } else {
        space_end(text, pos, table.run(text, pos, SPACE))
    }
}

#[inline(always)]
fn letters(table: &CategoryTable, text: &[u8], pos: usize, rule: LetterRule) -> usize {
    let word = if rule.marks { LETTER | MARK } else { LETTER };
    let byte = text[pos];
    if byte == b'\''
        && rule.contractions != Contractions::Absent
        && let Some(end) = contraction(text, pos, rule.contractions)
    {
        return end;
    }
    let (bits, len) = table.at(text, pos);
    if bits & word != 0 {
        return table.run(text, pos + len, word);
    }
    if bits & NUMBER != 0 {
        return run_limited(table, text, pos + len, NUMBER, rule.digits - 1);
    }
    let next = pos + len;
    if byte != b'\r' && byte != b'\n' && next < text.len() {
        let (bits, len) = table.at(text, next);
        if bits & word != 0 {
            return table.run(text, next + len, word);
        }
        if byte == b' ' && bits & (SPACE | NUMBER) == 0 {
            let end = table.run_without(text, next + len, word | NUMBER | SPACE);
            return run_of_bytes(text, end, b"\r\n");
        }
    }
    if bits & SPACE == 0 {
        let end = table.run_without(text, next, word | NUMBER | SPACE);
        return run_of_bytes(text, end, b"\r\n");
    }
    space_or_newlines(table, text, pos, rule.trailing_space_whole)
}

/// Letters and marks that may stand in the upper part of a word.
const UPPER_PART: u8 = UPPER | OTHER_LETTER | MARK;
/// Letters and marks that may stand in the lower part of a word.
const LOWER_PART: u8 = LOWER | OTHER_LETTER | MARK;

#[inline(always)]
fn cases(table: &CategoryTable, text: &[u8], pos: usize, rule: CaseRule) -> usize {
    let byte = text[pos];
    let (bits, len) = table.at(text, pos);
    if bits & NUMBER != 0 {
        return run_limited(table, text, pos + len, NUMBER, rule.digits - 1);
    }
    // The optional first character is no letter, but a mark may be it, and is tried as it first.
    let after_prefix = (bits & LETTER == 0 && byte != b'\r' && byte != b'\n')
        .then_some(pos + len)
        .filter(|&next| next < text.len());
    let own = (bits & (LETTER | MARK) != 0).then_some(pos);
    let end = after_prefix
        .and_then(|start| upper_then_lower(table, text, start))
        .or_else(|| own.and_then(|start| upper_then_lower(table, text, start)))
        .or_else(|| after_prefix.and_then(|start| upper_alone(table, text, start)))
        .or_else(|| own.and_then(|start| upper_alone(table, text, start)));
    if let Some(end) = end {
        return if text.get(end) == Some(&b'\'') && rule.contractions != Contractions::Absent {
            contraction(text, end, rule.contractions).unwrap_or(end)
        } else {
            end
        };
    }
    let start = if byte == b' ' { pos + 1 } else { pos };
    if start < text.len() && table.at(text, start).0 & (SPACE | LETTER | NUMBER) == 0 {
        let end = table.run_without(text, start, SPACE | LETTER | NUMBER);
        return run_of_bytes(text, end, b"\r\n/");
    }
    space_or_newlines(table, text, pos, false)
}

/// `[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+` at `start`.
#[inline]
fn upper_then_lower(table: &CategoryTable, text: &[u8], start: usize) -> Option<usize> {
    let mut pos = start;
    // Where the match ends if the lower part has to take back characters of the upper one: after
    // the last of them that may be in either.
    let mut shared_end = None;
    while pos < text.len() {
        let (bits, len) = table.at(text, pos);
        if bits & UPPER_PART == 0 {
            if bits & LOWER_PART != 0 {
                return Some(table.run(text, pos + len, LOWER_PART));
            }
            break;
        }
        pos += len;
        if bits & LOWER_PART != 0 {
            shared_end = Some(pos);
        }
    }
    shared_end
}

/// `[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*` at `start`, where
/// [`upper_then_lower`] has failed.
#[inline]
fn upper_alone(table: &CategoryTable, text: &[u8], start: usize) -> Option<usize> {
    let end = table.run(text, start, UPPER_PART);
    (end > start).then_some(end)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::unicode::categories;

    fn pieces(words: Words, text: &str) -> Vec<&str> {
        let (mut list, mut start) = (Vec::new(), 0);
        words.for_each_end(categories(), text.as_bytes(), |end| {
            list.push(&text[start..end]);
            start = end;
        });
        list
    }

    /// The known patterns, each with its regular expression.
    fn oracles() -> Vec<(&'static str, Words, fancy_regex::Regex)> {
        let compile = |pattern| fancy_regex::Regex::new(pattern).expect("the pattern parses");
        KNOWN.iter().map(|&(pattern, words)| (pattern, words, compile(pattern))).collect()
    }

    /// The pieces by regular expression; what it leaves unmatched is a piece too.
    fn oracle<'t>(regex: &fancy_regex::Regex, text: &'t str) -> Vec<&'t str> {
        let (mut list, mut start) = (Vec::new(), 0);
        for found in regex.find_iter(text) {
            let found = found.expect("no limit is reached");
            if found.start() > start {
                list.push(&text[start..found.start()]);
            }
            list.push(found.as_str());
            start = found.end();
        }
        if start < text.len() {
            list.push(&text[start..]);
        }
        list
    }

    #[test]
    fn examples_of_the_original_patterns() {
        assert_eq!(
            pieces(Words::Gpt2, "I'll  go 12ab!?\n\n x"),
            ["I", "'ll", " ", " go", " 12", "ab", "!?", "\n\n", " x"]
        );
        assert_eq!(
            pieces(Words::Letters(CL100K), "It'S 1234 (abc)\r\n\n  x "),
            ["It", "'S", " ", "123", "4", " (", "abc", ")\r\n\n", " ", " x", " "]
        );
        assert_eq!(
            pieces(Words::Cases(O200K), "helloWorld HTTPServer's a//\n你好ab"),
            ["hello", "World", " HTTPServer's", " a", "//\n", "你好ab"]
        );
    }

    #[test]
    fn matchers_equal_their_patterns() {
        let oracles = oracles();
        let texts = "([ \t\r\n]{0,3}|[a-zA-Z'sStTlLdDmMrReEvVſK]{1,6}|[0-9½Ⅷ٣]{1,5}|[!-/:-@。，'/]{1,3}|[\u{300}-\u{303}ǅʰªºаЯ你好ひア]{1,3}|[\u{85}\u{a0}\u{3000}\u{2028}\u{200d}😀\u{10ffff}]|\\PC){0,12}";
        let config = ProptestConfig { cases: 1500, ..ProptestConfig::default() };
        let check = |text: String| {
            for (pattern, words, regex) in &oracles {
                prop_assert_eq!(pieces(*words, &text), oracle(regex, &text), "{}", pattern);
            }
            Ok(())
        };
        proptest::test_runner::TestRunner::new(config).run(&texts, check).expect("all agree");
    }

    #[test]
    fn invalid_bytes_are_pieces_of_no_category() {
        for (_, words) in KNOWN {
            for text in
                [&b"\xff\xfe"[..], b"a\xffb \xff\n", b"' \xc5", b"'\xc5", b"\xe4\xbd a1\x80"]
            {
                let mut end = 0;
                words.for_each_end(categories(), text, |to| {
                    assert!(to > end);
                    end = to;
                });
                assert_eq!(end, text.len());
            }
        }
    }

    #[test]
    fn characters_of_every_plane_in_context() {
        for (pattern, words, regex) in oracles() {
            for c in ('\0'..='\u{1ffff}').step_by(97) {
                let text = format!("{c}a{c}{c} {c}1'{c}");
                assert_eq!(pieces(words, &text), oracle(&regex, &text), "{pattern} {c:?}");
            }
        }
    }
}
