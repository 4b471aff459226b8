//! Evaluation sets that no model may be trained on.
//!
//! A document is contaminated if it shares a run of [`RUN`] words with one of them, a Chinese
//! character being a word, as GPT-3 was cleaned (arXiv:2005.14165, appendix C). Runs that occur
//! in many items, such as instructions, do not count.

use std::collections::HashMap;

use foldhash::fast::FixedState;

use super::words::{runs, words};

/// Words of a run.
pub const RUN: usize = 13;

/// Items that may hold a run that counts.
const COMMON: u8 = 10;

/// Runs that are held at most: some 1.2 GB of them.
const MOST: usize = 50_000_000;

/// The runs of evaluation sets.
#[derive(Default)]
pub(super) struct Evaluation {
    /// How many items have each run.
    runs: HashMap<u64, u8, FixedState>,
    /// Items that are shorter than a run.
    n_short: u64,
}

impl Evaluation {
    /// Adds an item; false if there is no room for more.
    #[must_use]
    pub(super) fn add(&mut self, text: &str) -> bool {
        let words = words(text);
        if words.is_empty() {
            return true;
        }
        if words.len() < RUN {
            self.n_short += 1;
            return true;
        }
        let mut own: Vec<u64> = runs(&words, RUN).collect();
        own.sort_unstable();
        own.dedup();
        for run in own {
            let count = self.runs.entry(run).or_default();
            *count = count.saturating_add(1);
        }
        self.runs.len() <= MOST
    }

    pub(super) fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    /// Items too short to be looked for.
    pub(super) fn n_short(&self) -> u64 {
        self.n_short
    }

    /// The first word of a run that a text with these words shares.
    pub(super) fn find(&self, words: &[u64]) -> Option<usize> {
        if self.runs.is_empty() {
            return None;
        }
        runs(words, RUN).position(|run| self.runs.get(&run).is_some_and(|&n| n <= COMMON))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shared_passage_is_found() {
        let mut evaluation = Evaluation::default();
        let question = "Natalia sold clips to 48 of her friends in April, and then she sold half \
                        as many clips in May.";
        assert!(evaluation.add(question) && evaluation.add("Short one.") && evaluation.add(""));
        assert!(evaluation.add("小明有十个苹果，他给了小红三个，还剩下几个？"));
        assert_eq!(evaluation.n_short(), 1);
        let find = |text: &str| evaluation.find(&words(text));
        assert_eq!(find(&format!("The puzzle: {question}")), Some(2));
        let passage = "…sold CLIPS to 48 of her friends in april and then she sold…";
        assert_eq!(find(passage), Some(0));
        assert_eq!(find("sold clips to 48 of her friends in April and then she left"), None);
        assert_eq!(find("题目：小明有十个苹果他给了小红三个。"), Some(2));
        assert_eq!(find("Short one."), None);
    }

    #[test]
    fn what_many_items_share_does_not_count() {
        let mut evaluation = Evaluation::default();
        let instruction = "Answer the following multiple choice question with one letter and say \
                           nothing else at all:";
        for item in 0..11 {
            assert!(evaluation.add(&format!("{instruction} {item}")));
        }
        assert_eq!(evaluation.find(&words(instruction)), None);
    }
}
