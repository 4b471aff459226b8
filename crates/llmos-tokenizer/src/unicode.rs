//! Unicode categories of the pre-tokenizer patterns, one byte a character.
//!
//! The table is made once from `regex-syntax`, so that a hand-written matcher and the regular
//! expression it stands for can only disagree in their logic, never in their character data.

use std::sync::OnceLock;

use regex_syntax::hir::{Class, HirKind};

/// Uppercase and titlecase letters.
pub(crate) const UPPER: u8 = 1;
/// Lowercase letters.
pub(crate) const LOWER: u8 = 1 << 1;
/// Modifier and other letters.
pub(crate) const OTHER_LETTER: u8 = 1 << 2;
/// Combining marks.
pub(crate) const MARK: u8 = 1 << 3;
/// Numbers.
pub(crate) const NUMBER: u8 = 1 << 4;
/// White space.
pub(crate) const SPACE: u8 = 1 << 5;
/// Punctuation.
pub(crate) const PUNCTUATION: u8 = 1 << 6;
/// Symbols.
pub(crate) const SYMBOL: u8 = 1 << 7;
/// `\p{L}`.
pub(crate) const LETTER: u8 = UPPER | LOWER | OTHER_LETTER;

const CLASSES: [(&str, u8); 8] = [
    (r"[\p{Lu}\p{Lt}]", UPPER),
    (r"\p{Ll}", LOWER),
    (r"[\p{Lm}\p{Lo}]", OTHER_LETTER),
    (r"\p{M}", MARK),
    (r"\p{N}", NUMBER),
    (r"\s", SPACE),
    (r"\p{P}", PUNCTUATION),
    (r"\p{S}", SYMBOL),
];

/// White space by Unicode's property.
pub(crate) fn is_space(c: char) -> bool {
    categories().of(c) & SPACE != 0
}

/// `\p{M}`.
pub(crate) fn is_mark(c: char) -> bool {
    categories().of(c) & MARK != 0
}

/// `\p{N}`.
pub(crate) fn is_number(c: char) -> bool {
    categories().of(c) & NUMBER != 0
}

/// Hugging Face's punctuation: ASCII punctuation and symbols, and `\p{P}`.
pub(crate) fn is_punctuation(c: char) -> bool {
    if c.is_ascii() { c.is_ascii_punctuation() } else { categories().of(c) & PUNCTUATION != 0 }
}

/// `\d`, `\p{Nd}`.
pub(crate) fn is_decimal_digit(c: char) -> bool {
    c.is_ascii_digit() || !c.is_ascii() && in_class(c, 0)
}

/// `\w`.
pub(crate) fn is_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_' || !c.is_ascii() && in_class(c, 1)
}

/// `\p{Mn}`.
pub(crate) fn is_nonspacing_mark(c: char) -> bool {
    !c.is_ascii() && in_class(c, 2)
}

/// Control, format and private characters, but not the unassigned ones (the `is_other` of Hugging
/// Face's BERT normaliser).
pub(crate) fn is_control(c: char) -> bool {
    c.is_ascii_control() || !c.is_ascii() && in_class(c, 3)
}

/// The classes that the table has no bit for.
const RARE_CLASSES: [&str; 4] = [r"\d", r"\w", r"\p{Mn}", r"[\p{Cc}\p{Cf}\p{Co}]"];

/// Whether `c` is in one of [`RARE_CLASSES`]; the ranges are parsed once.
fn in_class(c: char, class: usize) -> bool {
    static RANGES: [OnceLock<Vec<(char, char)>>; RARE_CLASSES.len()] =
        [const { OnceLock::new() }; RARE_CLASSES.len()];
    let ranges = RANGES[class].get_or_init(|| ranges_of(RARE_CLASSES[class]));
    let at = ranges.partition_point(|&(_, end)| end < c);
    ranges.get(at).is_some_and(|&(start, _)| start <= c)
}

/// The characters of a class pattern, as ranges.
fn ranges_of(pattern: &str) -> Vec<(char, char)> {
    let hir = regex_syntax::parse(pattern).expect("a constant pattern parses");
    let HirKind::Class(Class::Unicode(class)) = hir.into_kind() else {
        unreachable!("{pattern} is a class of more than one character")
    };
    class.ranges().iter().map(|range| (range.start(), range.end())).collect()
}

/// One byte of category bits for each code point, in pages of 256 of which equal ones are shared.
pub(crate) struct CategoryTable {
    ascii: [u8; 128],
    page: Vec<u16>,
    categories: Vec<u8>,
}

/// The table; made on the first call (about a millisecond).
pub(crate) fn categories() -> &'static CategoryTable {
    static TABLE: OnceLock<CategoryTable> = OnceLock::new();
    TABLE.get_or_init(CategoryTable::build)
}

impl CategoryTable {
    fn build() -> Self {
        let mut flat = vec![0u8; 0x11_0000];
        for (pattern, bit) in CLASSES {
            for (start, end) in ranges_of(pattern) {
                for cell in &mut flat[start as usize..=end as usize] {
                    *cell |= bit;
                }
            }
        }
        let mut table = CategoryTable { ascii: [0; 128], page: Vec::new(), categories: Vec::new() };
        table.ascii.copy_from_slice(&flat[..128]);
        for block in flat.chunks(256) {
            let known = table.categories.chunks(256).position(|have| have == block);
            let index = known.unwrap_or_else(|| {
                table.categories.extend_from_slice(block);
                table.categories.len() / 256 - 1
            });
            table.page.push(index as u16);
        }
        table
    }

    /// Category bits of an ASCII byte.
    #[inline(always)]
    pub(crate) fn of_ascii(&self, byte: u8) -> u8 {
        self.ascii[(byte & 0x7f) as usize]
    }

    /// Category bits of a character.
    #[inline(always)]
    pub(crate) fn of(&self, c: char) -> u8 {
        let code = c as usize;
        self.categories[self.page[code >> 8] as usize * 256 + (code & 0xff)]
    }

    /// Category bits and length in bytes of the character at `pos`, which must be inside `text`.
    /// An invalid byte counts as a character of its own without any category.
    #[inline(always)]
    pub(crate) fn at(&self, text: &[u8], pos: usize) -> (u8, usize) {
        let byte = text[pos];
        if byte < 0x80 {
            (self.of_ascii(byte), 1)
        } else {
            match decode_char(&text[pos..]) {
                (Some(c), len) => (self.of(c), len),
                (None, len) => (0, len),
            }
        }
    }

    /// The end of the run of characters from `pos` on that have one of the `mask` bits.
    #[inline(always)]
    pub(crate) fn run(&self, text: &[u8], mut pos: usize, mask: u8) -> usize {
        while pos < text.len() {
            let (bits, len) = self.at(text, pos);
            if bits & mask == 0 {
                break;
            }
            pos += len;
        }
        pos
    }

    /// The end of the run of characters from `pos` on that have none of the `mask` bits.
    #[inline(always)]
    pub(crate) fn run_without(&self, text: &[u8], mut pos: usize, mask: u8) -> usize {
        while pos < text.len() {
            let (bits, len) = self.at(text, pos);
            if bits & mask != 0 {
                break;
            }
            pos += len;
        }
        pos
    }
}

/// The first character of `bytes` (not empty) and its length; `None` and 1 for an invalid byte.
#[inline]
pub(crate) fn decode_char(bytes: &[u8]) -> (Option<char>, usize) {
    let first = bytes[0];
    let continuation = |at: usize| match bytes.get(at) {
        Some(&byte) if byte & 0xc0 == 0x80 => Some(u32::from(byte & 0x3f)),
        _ => None,
    };
    let decoded = match first {
        0..=0x7f => Some((u32::from(first), 1)),
        0xc2..=0xdf => continuation(1).map(|a| (u32::from(first & 0x1f) << 6 | a, 2)),
        0xe0..=0xef => continuation(1)
            .zip(continuation(2))
            .map(|(a, b)| (u32::from(first & 0x0f) << 12 | a << 6 | b, 3))
            .filter(|&(code, _)| code >= 0x800),
        0xf0..=0xf4 => continuation(1)
            .zip(continuation(2))
            .zip(continuation(3))
            .map(|((a, b), c)| (u32::from(first & 0x07) << 18 | a << 12 | b << 6 | c, 4))
            .filter(|&(code, _)| code >= 0x1_0000),
        _ => None,
    };
    match decoded.and_then(|(code, len)| Some((char::from_u32(code)?, len))) {
        Some((c, len)) => (Some(c), len),
        None => (None, 1),
    }
}

/// The last character of `bytes` (not empty) and its length; `None` and 1 for an invalid byte.
pub(crate) fn decode_last_char(bytes: &[u8]) -> (Option<char>, usize) {
    for len in 1..=bytes.len().min(4) {
        let start = bytes.len() - len;
        if let (Some(c), n) = decode_char(&bytes[start..])
            && n == len
        {
            return (Some(c), len);
        }
    }
    (None, 1)
}

/// Calls `each` for every character of `bytes`, with its bytes; invalid bytes come as `None`, one
/// at a time.
pub(crate) fn for_each_char<'a>(bytes: &'a [u8], mut each: impl FnMut(Option<char>, &'a [u8])) {
    let mut pos = 0;
    while pos < bytes.len() {
        let (c, len) = decode_char(&bytes[pos..]);
        each(c, &bytes[pos..pos + len]);
        pos += len;
    }
}

/// `text` as valid UTF-8: each invalid byte becomes U+FFFD. The map gives, for each byte of the
/// result (and its end), the byte of `text` that it stands for; it is `None` if nothing changed.
pub(crate) fn to_valid(text: &[u8]) -> (std::borrow::Cow<'_, str>, Option<Vec<usize>>) {
    match std::str::from_utf8(text) {
        Ok(valid) => (valid.into(), None),
        Err(_) => {
            let mut valid = String::with_capacity(text.len() + 16);
            let mut map = Vec::with_capacity(text.len() + 17);
            let mut pos = 0;
            for_each_char(text, |c, bytes| {
                let before = valid.len();
                valid.push(c.unwrap_or(char::REPLACEMENT_CHARACTER));
                map.resize(valid.len(), pos);
                for (offset, cell) in map[before..].iter_mut().enumerate() {
                    *cell = pos + if c.is_some() { offset } else { 0 };
                }
                pos += bytes.len();
            });
            map.push(pos);
            (valid.into(), Some(map))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decoding_agrees_with_the_standard_library() {
        for c in [
            '\0',
            'a',
            '\u{7f}',
            '\u{80}',
            'é',
            '\u{7ff}',
            '\u{800}',
            '你',
            '\u{ffff}',
            '😀',
            '\u{10ffff}',
        ] {
            let mut buffer = [0; 4];
            let bytes = c.encode_utf8(&mut buffer).as_bytes();
            assert_eq!(decode_char(bytes), (Some(c), bytes.len()));
            assert_eq!(decode_last_char(bytes), (Some(c), bytes.len()));
            for cut in 1..bytes.len() {
                assert_eq!(decode_char(&bytes[..cut]), (None, 1));
            }
        }
        // Overlong forms, surrogates, and what lies above U+10FFFF.
        for bytes in [
            &[0xc0, 0x80][..],
            &[0xe0, 0x80, 0x80],
            &[0xed, 0xa0, 0x80],
            &[0xf4, 0x90, 0x80, 0x80],
            &[0xff],
        ] {
            assert_eq!(decode_char(bytes), (None, 1), "{bytes:x?}");
            assert!(std::str::from_utf8(bytes).is_err());
        }
    }

    #[test]
    fn categories_of_well_known_characters() {
        let table = categories();
        for (c, bits) in [
            ('A', UPPER),
            ('ǅ', UPPER),
            ('z', LOWER),
            ('你', OTHER_LETTER),
            ('ʰ', OTHER_LETTER),
            ('\u{301}', MARK),
            ('7', NUMBER),
            ('Ⅷ', NUMBER),
            ('\u{3000}', SPACE),
            ('\n', SPACE),
            ('\u{85}', SPACE),
            ('!', PUNCTUATION),
            ('。', PUNCTUATION),
            ('$', SYMBOL),
            ('😀', SYMBOL),
            ('\u{200d}', 0),
            ('\u{0}', 0),
        ] {
            assert_eq!(table.of(c), bits, "{c:?}");
        }
    }

    #[test]
    fn invalid_bytes_map_back_to_their_place() {
        let (text, map) = to_valid(b"a\xffb\xe4\xbd");
        assert_eq!(text, "a\u{fffd}b\u{fffd}\u{fffd}");
        let map = map.expect("something changed");
        assert_eq!(map, [0, 1, 1, 1, 2, 3, 3, 3, 4, 4, 4, 5]);
        assert!(to_valid("añ".as_bytes()).1.is_none());
    }
}
