//! Conversations of our own making: seeded, graded, free of anybody's rights.
//!
//! A [`Generator`] makes conversations between a person and a small assistant in English and
//! Chinese: [`Skill`] says what about. Each [`Row`] ends with a question of which it is known what a
//! good answer is like ([`Expect`]), because everything in it was put together from parts whose
//! meaning is known: what a calculator says is computed, what a story tells is remembered.
//!
//! **Where the sentences come from.** Every sentence, pattern, plot and word list in `text/` was
//! written for llmos and is part of it, under its licence. Nothing was taken from a data set or
//! a book.
//!
//! **Two splits.** Rows to learn from and rows to measure by come from different patterns, names,
//! things, places and numbers. What is in one split alone is marked in `text/`, and tests check
//! that no pattern and no word of one list is in the other, and that no question of a large test
//! set was in a large training set. In both are what has to be known to be answered (the lexicon of
//! translation, colours and days), answers, which nobody is asked, and numbers below 13; of others
//! those that leave 3 when divided by 7 are test numbers where they are drawn freely.
//!
//! **The same everywhere.** A row follows from seed and number by ChaCha8, integers and lists in
//! their order; the same seed gives the same bytes on any machine.
//!
//! What the tools in rows answer, they answer in a chat as well: both are [`llmos_agent`]'s.

mod clock;
mod draw;
mod number;
mod word;

mod book;
mod template;

mod exchange;
mod row;
mod stories;
mod translation;

mod generate;
mod tell;

#[cfg(test)]
mod tests;

pub use generate::{Generator, Layout, Options, Summary, partial, write};
pub use row::{Arguments, Expect, Function, Message, Row, Skill, Split, Tool, ToolCall};
pub use tell::tell;

/// A file of a language, by the name of the skill that it is about.
macro_rules! text {
    ($($name:literal: $path:literal),* $(,)?) => {
        [$(($name, include_str!(concat!("text/", $path, ".txt")))),*]
    };
}

const ENGLISH: [(&str, &str); 11] = text!(
    "words": "en/words",
    "pairs": "pairs",
    "stories": "en/stories",
    "arithmetic": "en/arithmetic",
    "routing": "en/routing",
    "spelling": "en/spelling",
    "translation": "en/translation",
    "identity": "en/identity",
    "limits": "en/limits",
    "refusal": "en/refusal",
    "small-talk": "en/small-talk",
);

const CHINESE: [(&str, &str); 11] = text!(
    "words": "zh/words",
    "pairs": "pairs",
    "stories": "zh/stories",
    "arithmetic": "zh/arithmetic",
    "routing": "zh/routing",
    "spelling": "zh/spelling",
    "translation": "zh/translation",
    "identity": "zh/identity",
    "limits": "zh/limits",
    "refusal": "zh/refusal",
    "small-talk": "zh/small-talk",
);
