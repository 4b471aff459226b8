//! Normalisers: what is done to a text before it is cut into pieces.

use std::borrow::Cow;

use unicode_normalization::UnicodeNormalization;

use crate::charsmap::Charsmap;
use crate::split::{Pattern, SPACE_MARK};
use crate::trie::Trie;
use crate::unicode::{
    decode_char, decode_last_char, for_each_char, is_control, is_mark, is_nonspacing_mark,
    is_space, to_valid,
};

/// One normaliser of a `Sequence`. Where one works on characters, invalid bytes pass unchanged
/// unless it says otherwise.
#[derive(Debug)]
pub(crate) enum Normalize {
    Nfc,
    Nfd,
    Nfkc,
    Nfkd,
    Lowercase,
    /// Combining marks go.
    StripAccents,
    Strip {
        left: bool,
        right: bool,
    },
    /// Before a text that is not empty.
    Prepend(Vec<u8>),
    Replace {
        pattern: Pattern,
        content: Vec<u8>,
    },
    /// BERT's: invalid bytes go, like U+FFFD.
    Bert(BertRule),
    /// Hugging Face's reading of a character map, by grapheme; invalid bytes become U+FFFD.
    Precompiled(Charsmap),
    /// Hugging Face's `Nmt`: some control characters go, odd spaces become plain ones.
    Nmt,
    /// SentencePiece's own normaliser; invalid bytes become U+FFFD.
    SentencePiece(Box<SentencePieceRule>),
}

/// The options of BERT's normaliser.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BertRule {
    pub(crate) clean_text: bool,
    pub(crate) handle_chinese_chars: bool,
    pub(crate) strip_accents: bool,
    pub(crate) lowercase: bool,
}

/// The options of SentencePiece's normaliser.
#[derive(Debug)]
pub(crate) struct SentencePieceRule {
    pub(crate) charsmap: Option<Charsmap>,
    pub(crate) add_dummy_prefix: bool,
    pub(crate) remove_extra_whitespaces: bool,
    /// Spaces are written as U+2581.
    pub(crate) escape_whitespaces: bool,
    /// The dummy prefix stands at the end instead.
    pub(crate) whitespace_as_suffix: bool,
    /// User-defined texts, which pass unchanged.
    pub(crate) user_defined: Option<Trie>,
}

/// Applies all of `steps` to `text`.
pub(crate) fn normalize<'t>(steps: &[Normalize], text: &'t [u8]) -> Cow<'t, [u8]> {
    let mut text = Cow::Borrowed(text);
    for step in steps {
        if let Some(changed) = step.apply(&text) {
            text = Cow::Owned(changed);
        }
    }
    text
}

impl Normalize {
    /// The normalised text; `None` if it is `text` itself.
    fn apply(&self, text: &[u8]) -> Option<Vec<u8>> {
        match self {
            Normalize::Nfc => by_strings(text, |part, out| out.extend(part.nfc())),
            Normalize::Nfd => by_strings(text, |part, out| out.extend(part.nfd())),
            Normalize::Nfkc => by_strings(text, |part, out| out.extend(part.nfkc())),
            Normalize::Nfkd => by_strings(text, |part, out| out.extend(part.nfkd())),
            Normalize::Lowercase => Some(by_chars(text, |c, out| out.extend(c.to_lowercase()))),
            Normalize::StripAccents => {
                Some(by_chars(text, |c, out| out.extend((!is_mark(c)).then_some(c))))
            }
            Normalize::Nmt => Some(by_chars(text, |c, out| out.extend(nmt(c)))),
            Normalize::Strip { left, right } => Some(strip(text, *left, *right).to_vec()),
            Normalize::Prepend(prefix) => (!text.is_empty()).then(|| [prefix, text].concat()),
            Normalize::Replace { pattern, content } => replace(text, pattern, content),
            Normalize::Bert(rule) => Some(rule.apply(text)),
            Normalize::Precompiled(charsmap) => {
                let mut mapped = Vec::with_capacity(text.len());
                charsmap.map_graphemes(&to_valid(text).0, &mut mapped);
                Some(mapped)
            }
            Normalize::SentencePiece(rule) => Some(rule.apply(text)),
        }
    }
}

/// Maps each stretch of valid UTF-8 by `map`. ASCII is its own normal form.
fn by_strings(text: &[u8], map: impl Fn(&str, &mut String)) -> Option<Vec<u8>> {
    if text.is_ascii() {
        return None;
    }
    let mut out = Vec::with_capacity(text.len() + text.len() / 4);
    let mut mapped = String::new();
    for chunk in text.utf8_chunks() {
        mapped.clear();
        map(chunk.valid(), &mut mapped);
        out.extend_from_slice(mapped.as_bytes());
        out.extend_from_slice(chunk.invalid());
    }
    Some(out)
}

/// Maps each character by `map`.
fn by_chars(text: &[u8], map: impl Fn(char, &mut String)) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut mapped = String::new();
    for_each_char(text, |c, bytes| match c {
        Some(c) => {
            mapped.clear();
            map(c, &mut mapped);
            out.extend_from_slice(mapped.as_bytes());
        }
        None => out.extend_from_slice(bytes),
    });
    out
}

fn nmt(c: char) -> Option<char> {
    match c as u32 {
        0x01..=0x08 | 0x0b | 0x0e..=0x1f | 0x7f | 0x8f | 0x9f => None,
        0x09
        | 0x0a
        | 0x0c
        | 0x0d
        | 0x1680
        | 0x200b..=0x200f
        | 0x2028
        | 0x2029
        | 0x2581
        | 0xfeff
        | 0xfffd => Some(' '),
        _ => Some(c),
    }
}

fn strip(mut text: &[u8], left: bool, right: bool) -> &[u8] {
    let space = |c: Option<char>| c.is_some_and(is_space);
    while left && !text.is_empty() {
        match decode_char(text) {
            (c, len) if space(c) => text = &text[len..],
            _ => break,
        }
    }
    while right && !text.is_empty() {
        match decode_last_char(text) {
            (c, len) if space(c) => text = &text[..text.len() - len],
            _ => break,
        }
    }
    text
}

fn replace(text: &[u8], pattern: &Pattern, content: &[u8]) -> Option<Vec<u8>> {
    let matches = pattern.matches(text);
    if matches.is_empty() {
        return None;
    }
    let mut out = Vec::with_capacity(text.len() + matches.len() * content.len());
    let mut from = 0;
    for (start, end) in matches {
        out.extend_from_slice(&text[from..start]);
        out.extend_from_slice(content);
        from = end;
    }
    out.extend_from_slice(&text[from..]);
    Some(out)
}

/// The ideographs that BERT puts spaces around. The fifth range starts where Hugging Face's code
/// has it, not where Unicode does.
fn is_chinese(c: char) -> bool {
    matches!(c as u32,
        0x4e00..=0x9fff | 0x3400..=0x4dbf | 0x20000..=0x2a6df | 0x2a700..=0x2b73f
        | 0x2b740..=0x2b81f | 0x2b920..=0x2ceaf | 0xf900..=0xfaff | 0x2f800..=0x2fa1f)
}

impl BertRule {
    fn apply(self, text: &[u8]) -> Vec<u8> {
        let mut clean = String::with_capacity(text.len());
        for_each_char(text, |c, _| {
            let Some(mut c) = c else { return };
            if self.clean_text {
                let line = matches!(c, '\t' | '\n' | '\r');
                if c == char::REPLACEMENT_CHARACTER || !line && is_control(c) {
                    return;
                }
                if is_space(c) {
                    c = ' ';
                }
            }
            if self.handle_chinese_chars && is_chinese(c) {
                clean.extend([' ', c, ' ']);
            } else {
                clean.push(c);
            }
        });
        if self.strip_accents && !clean.is_ascii() {
            clean = clean.nfd().filter(|&c| !is_nonspacing_mark(c)).collect();
        }
        if self.lowercase {
            clean = clean.chars().flat_map(char::to_lowercase).collect();
        }
        clean.into_bytes()
    }
}

impl SentencePieceRule {
    /// The normal form of the next bit of `text`, and how much of `text` that was.
    fn prefix<'a>(&'a self, text: &'a [u8]) -> (&'a [u8], usize) {
        if let Some((len, _)) = self.user_defined.as_ref().and_then(|trie| trie.longest(text)) {
            return (&text[..len], len);
        }
        if let Some((len, form)) = self.charsmap.as_ref().and_then(|map| map.longest(text)) {
            return (form, len);
        }
        match decode_char(text) {
            (Some(_), len) => (&text[..len], len),
            (None, len) => ("\u{fffd}".as_bytes(), len),
        }
    }

    fn apply(&self, mut text: &[u8]) -> Vec<u8> {
        let space = if self.escape_whitespaces { SPACE_MARK } else { b" " };
        while self.remove_extra_whitespaces && !text.is_empty() {
            match self.prefix(text) {
                (b" ", len) => text = &text[len..],
                _ => break,
            }
        }
        let mut out = Vec::with_capacity(text.len() + text.len() / 2);
        if text.is_empty() {
            return out;
        }
        if self.add_dummy_prefix && !self.whitespace_as_suffix {
            out.extend_from_slice(space);
        }
        let mut after_space = self.remove_extra_whitespaces;
        while !text.is_empty() {
            let (mut form, len) = self.prefix(text);
            while after_space && form.first() == Some(&b' ') {
                form = &form[1..];
            }
            for &byte in form {
                if byte == b' ' {
                    out.extend_from_slice(space);
                } else {
                    out.push(byte);
                }
            }
            if let Some(&last) = form.last() {
                after_space = last == b' ';
            }
            after_space &= self.remove_extra_whitespaces;
            text = &text[len..];
        }
        while self.remove_extra_whitespaces && out.ends_with(space) {
            out.truncate(out.len() - space.len());
        }
        if self.add_dummy_prefix && self.whitespace_as_suffix {
            out.extend_from_slice(space);
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(step: Normalize, text: &[u8], expected: &str) {
        let shown = format!("{step:?}");
        let out = normalize(&[step], text).into_owned();
        assert_eq!(String::from_utf8_lossy(&out), expected, "{shown}");
    }

    #[test]
    fn unicode_forms_leave_invalid_bytes() {
        check(Normalize::Nfc, "e\u{301}".as_bytes(), "é");
        check(Normalize::Nfd, "é".as_bytes(), "e\u{301}");
        check(Normalize::Nfkc, "ﬁ①".as_bytes(), "fi1");
        assert_eq!(*normalize(&[Normalize::Nfkc], b"\xff\xc3\xa9"), *b"\xff\xc3\xa9");
        check(Normalize::Lowercase, "ÀİB".as_bytes(), "ài\u{307}b");
        check(Normalize::StripAccents, "e\u{301}a".as_bytes(), "ea");
    }

    #[test]
    fn bert() {
        let rule = BertRule {
            clean_text: true,
            handle_chinese_chars: true,
            strip_accents: true,
            lowercase: true,
        };
        check(Normalize::Bert(rule), "H\u{e9}llo\t\u{0}\u{200d}你好".as_bytes(), "hello  你  好 ");
    }

    #[test]
    fn sentencepiece_collapses_space() {
        let rule = |remove_extra_whitespaces| {
            Normalize::SentencePiece(Box::new(SentencePieceRule {
                charsmap: None,
                add_dummy_prefix: true,
                remove_extra_whitespaces,
                escape_whitespaces: true,
                whitespace_as_suffix: false,
                user_defined: None,
            }))
        };
        check(rule(true), b"  a  b ", "▁a▁b");
        check(rule(false), b" a  b ", "▁▁a▁▁b▁");
        check(rule(true), b"   ", "");
        check(rule(false), b"\xff", "▁\u{fffd}");
    }

    #[test]
    fn replacing_and_stripping() {
        let replace = |pattern, content: &str| Normalize::Replace {
            pattern,
            content: content.as_bytes().to_vec(),
        };
        check(replace(Pattern::Literal(b" ".to_vec()), "▁"), b"a b", "a▁b");
        check(replace(Pattern::regex(" {2,}").expect("parses"), " "), b"a   b c", "a b c");
        check(Normalize::Strip { left: true, right: true }, " \u{3000}a ".as_bytes(), "a");
        check(Normalize::Prepend(b"_".to_vec()), b"", "");
    }
}
