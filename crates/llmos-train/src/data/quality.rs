//! Rules of thumb that tell texts from rubbish. The defaults throw little away.

use std::collections::HashSet;

use super::removal::Reason;
use super::words::runs;

/// Limits on what a document looks like. Each is after Gopher's (arXiv:2112.11446, appendix A),
/// whose own figures are stricter.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Quality {
    /// Bytes of text, at least.
    pub min_bytes: usize,
    /// Share of the visible characters that are letters, at least.
    pub min_letters: f64,
    /// Mean length of a word in characters, at most.
    pub max_word: f64,
    /// Share that lies in lines which were there before, or in runs of ten words which were there
    /// before, at most.
    pub max_repeat: f64,
}

impl Default for Quality {
    fn default() -> Quality {
        Quality { min_bytes: 16, min_letters: 0.3, max_word: 30.0, max_repeat: 0.6 }
    }
}

impl Quality {
    /// Limits that let everything through.
    pub const NONE: Quality =
        Quality { min_bytes: 0, min_letters: 0.0, max_word: f64::INFINITY, max_repeat: 1.0 };

    /// What is wrong with a text, and the figure that says so. `words` are its words.
    pub(super) fn fault(&self, text: &str, words: &[u64]) -> Option<(Reason, String)> {
        if text.len() < self.min_bytes {
            return Some((Reason::Short, format!("{} bytes", text.len())));
        }
        if self.min_letters > 0.0 {
            let visible = text.chars().filter(|c| !c.is_whitespace());
            let (n, n_letter) = visible
                .fold((0, 0), |(n, n_letter), c| (n + 1, n_letter + u64::from(c.is_alphabetic())));
            let share = n_letter as f64 / (n as f64).max(1.0);
            if share < self.min_letters {
                return Some((Reason::FewLetters, percent("letters", share)));
            }
        }
        if self.max_word < f64::INFINITY {
            let n_letter = text.chars().filter(|c| c.is_alphanumeric()).count();
            let mean = n_letter as f64 / (words.len() as f64).max(1.0);
            if mean > self.max_word {
                return Some((Reason::LongWords, format!("{mean:.0} letters a word")));
            }
        }
        if self.max_repeat < 1.0 {
            let share = repeated_lines(text).max(repeated_words(words));
            if share > self.max_repeat {
                return Some((Reason::Repetitive, percent("repeated", share)));
            }
        }
        None
    }
}

fn percent(what: &str, share: f64) -> String {
    format!("{:.0} % {what}", share * 100.0)
}

/// Share of the bytes that lie in lines which were there before.
fn repeated_lines(text: &str) -> f64 {
    let mut seen = HashSet::with_hasher(foldhash::fast::FixedState::default());
    let (mut n, mut n_repeated) = (0, 0);
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
        n += line.len();
        if !seen.insert(line) {
            n_repeated += line.len();
        }
    }
    n_repeated as f64 / (n as f64).max(1.0)
}

/// Share of the words that lie in runs of ten which were there before.
fn repeated_words(words: &[u64]) -> f64 {
    const RUN: usize = 10;
    let mut seen = HashSet::with_hasher(foldhash::fast::FixedState::default());
    let (mut n_repeated, mut counted) = (0, 0);
    for (at, run) in runs(words, RUN).enumerate() {
        if !seen.insert(run) {
            let from = counted.max(at);
            n_repeated += at + RUN - from;
            counted = at + RUN;
        }
    }
    n_repeated as f64 / (words.len() as f64).max(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::words::words;

    #[test]
    fn rubbish_is_called_by_its_fault() {
        let story = "Once upon a time there was a little girl who loved to play in the park.";
        let list = format!("{story}\n").repeat(9);
        let rhyme = "Row, row, row your boat,\nGently down the stream,\nMerrily, merrily, merrily, \
                     merrily,\nLife is but a dream.\n";
        let blob =
            "QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVphYmNkZWZnaGlqa2xtbm9wcXJzdHV2d3h5eg".repeat(3);
        for (text, expected) in [
            (story, None),
            (rhyme, None),
            ("从前有一个小女孩。", None),
            ("Run!", Some(Reason::Short)),
            ("1 2 3 4 5 6 7 8 9 10 11 12", Some(Reason::FewLetters)),
            (&blob, Some(Reason::LongWords)),
            (&list, Some(Reason::Repetitive)),
            (&list.replace('\n', " "), Some(Reason::Repetitive)),
            ("", Some(Reason::Short)),
        ] {
            let fault = Quality::default().fault(text, &words(text)).map(|(reason, _)| reason);
            assert_eq!(fault, expected, "{text}");
            assert_eq!(Quality::NONE.fault(text, &words(text)), None);
        }
    }

    #[test]
    fn repetition_is_measured() {
        let words = |text: &str| words(text);
        let ten = "a b c d e f g h i j ";
        assert_eq!(repeated_words(&words(ten)), 0.0);
        assert_eq!(repeated_words(&words(&ten.repeat(2))), 0.5);
        assert_eq!(repeated_words(&words(&ten.repeat(4))), 0.75);
        assert_eq!(repeated_lines("ab\ncd\n\nab\nef"), 0.25);
    }
}
