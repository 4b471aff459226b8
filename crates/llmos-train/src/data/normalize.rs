//! One form for texts that look the same.

use std::borrow::Cow;

use unicode_normalization::{IsNormalized, UnicodeNormalization, is_nfc_quick};

/// The text in Unicode's composed form (NFC, UAX #15), its lines ended by a line feed, without
/// control characters other than tab and line feed, and without byte order marks.
pub fn normalize(text: &str) -> Cow<'_, str> {
    let is_clean = |text: &str| !text.chars().any(|c| c == '\r' || is_dropped(c));
    if text.is_ascii() {
        return if is_clean(text) { text.into() } else { clean(text.chars()).into() };
    }
    match (is_nfc_quick(text.chars()), is_clean(text)) {
        (IsNormalized::Yes, true) => text.into(),
        (IsNormalized::Yes, false) => clean(text.chars()).into(),
        // Cleaned first: a control character between a letter and its accent keeps them apart.
        _ => clean(text.chars()).nfc().collect::<String>().into(),
    }
}

/// Line ends and control characters put right. Form feeds and vertical tabs end lines.
fn clean(characters: impl Iterator<Item = char>) -> String {
    let mut text = String::new();
    let mut after_return = false;
    for c in characters {
        match c {
            '\n' if after_return => {}
            '\r' | '\u{b}' | '\u{c}' => text.push('\n'),
            c if is_dropped(c) => {}
            c => text.push(c),
        }
        after_return = c == '\r';
    }
    text
}

fn is_dropped(c: char) -> bool {
    c.is_control() && c != '\n' && c != '\t' || c == '\u{feff}'
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn texts_that_look_the_same_become_the_same() {
        for (text, expected) in [
            ("a\r\nb\rc\n", "a\nb\nc\n"),
            ("a\u{c}b", "a\nb"),
            ("a\0\u{1a}\u{7f}\u{85}b\tc", "abb\tc".replacen('b', "", 1).as_str()),
            ("e\u{301}", "é"),
            ("e\0\u{301}", "é"),
            ("\u{feff}语", "语"),
            ("\u{212b}", "å".to_uppercase().as_str()),
            // Width and ligatures are not NFC's business.
            ("ｆ ﬁ", "ｆ ﬁ"),
        ] {
            assert_eq!(normalize(text), expected, "{text:?}");
        }
        assert!(matches!(normalize("plain\n"), Cow::Borrowed(_)));
        assert!(matches!(normalize("你好\n"), Cow::Borrowed(_)));
    }

    proptest! {
        #[test]
        fn once_is_enough(text in "\\PC{0,20}|[\u{0}-\u{ff}]{0,20}|[a\r\n\u{301}\u{feff}]{0,20}") {
            let once = normalize(&text).into_owned();
            prop_assert_eq!(&normalize(&once), &once);
            prop_assert!(!once.contains('\r'));
        }
    }
}
