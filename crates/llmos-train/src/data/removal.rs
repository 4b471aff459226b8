//! What was taken out of the data, why, and a few examples.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Why a document is not trained on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// The file or document has no text.
    Empty,
    /// The row lacks the field, or it is no text.
    NoText,
    /// The row is broken, or bytes of a text are none, and `lossy` passes over such.
    Unreadable,
    /// The row is longer than can be held, and `lossy` passes over such.
    TooLong,
    /// Fewer bytes than are asked for.
    Short,
    /// Few of its characters are letters.
    FewLetters,
    /// Its words are longer than words are.
    LongWords,
    /// Much of it says the same again.
    Repetitive,
    /// It is in a language that is not wanted.
    Language,
    /// It shares a passage with an evaluation set.
    Contaminated,
    /// It was there before, letter by letter.
    Duplicate,
    /// It was there before, but for a few words.
    NearDuplicate,
}

impl Reason {
    /// The reason in words.
    pub fn name(self) -> &'static str {
        match self {
            Reason::Empty => "empty",
            Reason::NoText => "no text in the row",
            Reason::Unreadable => "unreadable",
            Reason::TooLong => "row too long to hold",
            Reason::Short => "too short",
            Reason::FewLetters => "too few letters",
            Reason::LongWords => "words too long",
            Reason::Repetitive => "too repetitive",
            Reason::Language => "another language",
            Reason::Contaminated => "part of an evaluation set",
            Reason::Duplicate => "duplicate",
            Reason::NearDuplicate => "near-duplicate",
        }
    }
}

/// How much was taken out for one reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Removed {
    /// Documents.
    pub documents: u64,
    /// Bytes of their text.
    pub bytes: u64,
}

/// A document that was taken out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Example {
    /// Why.
    pub reason: Reason,
    /// Its file.
    pub file: String,
    /// Its row in the file, from 0.
    pub row: u64,
    /// How it begins.
    pub text: String,
    /// The document that it repeats, or the figure that was outside its limits.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub because: String,
}

/// Counts by reason, and examples.
#[derive(Clone, Debug, Default)]
pub(super) struct Tally {
    pub(super) removed: BTreeMap<Reason, Removed>,
    pub(super) examples: Vec<Example>,
}

/// Examples that are kept for each reason.
const N_EXAMPLE: u64 = 3;

/// Characters of an example's text.
const EXAMPLE_LENGTH: usize = 80;

impl Tally {
    /// Counts a document; `example` is called for the first few.
    pub(super) fn add(&mut self, reason: Reason, n_byte: u64, example: impl FnOnce() -> Example) {
        let removed = self.removed.entry(reason).or_default();
        removed.documents += 1;
        removed.bytes += n_byte;
        if removed.documents <= N_EXAMPLE {
            self.examples.push(example());
        }
    }
}

/// The beginning of a text on one line.
pub(super) fn beginning(text: &str) -> String {
    let mut line = String::new();
    for word in text.split_whitespace() {
        if line.chars().count() + word.chars().count() >= EXAMPLE_LENGTH {
            let room = EXAMPLE_LENGTH.saturating_sub(line.chars().count() + 2);
            if line.is_empty() {
                line.extend(word.chars().take(room));
            }
            line.push('…');
            break;
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_beginning_is_one_short_line() {
        assert_eq!(beginning(" a\n\nb  c "), "a b c");
        assert_eq!(beginning(&"word ".repeat(100)).chars().count(), 80);
        assert_eq!(beginning(&"x".repeat(100)).chars().count(), 79);
        assert_eq!(beginning(""), "");
    }

    #[test]
    fn few_examples_are_kept() {
        let mut tally = Tally::default();
        for row in 0..10 {
            tally.add(Reason::Short, 2, || Example {
                reason: Reason::Short,
                file: "a".into(),
                row,
                text: String::new(),
                because: String::new(),
            });
        }
        assert_eq!(tally.removed[&Reason::Short], Removed { documents: 10, bytes: 20 });
        assert_eq!(tally.examples.len(), 3);
    }
}
