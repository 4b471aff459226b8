//! Evaluation sets that no model may be trained on.
//!
//! A document is contaminated if it shares a run of [`RUN`] words with one of them, a Chinese
//! character being a word, as GPT-3 was cleaned (arXiv:2005.14165, appendix C). Runs that occur
//! in many items, such as instructions, do not count. A document is left out as a whole; of a long
//! text that a person named, the passages and what surrounds them are cut out.

use std::collections::HashMap;

use foldhash::fast::FixedState;

use super::words::{each_word, runs, words};

/// Words of a run.
pub const RUN: usize = 13;

/// Items that may hold a run that counts.
const COMMON: u8 = 10;

/// Bytes that are cut out around a passage, where its line does not end before.
const AROUND: usize = 200;

/// Runs that are held at most: some 1.2 GB of them.
const MOST: usize = 50_000_000;

/// The runs of evaluation sets.
#[derive(Default)]
pub(super) struct Evaluation {
    /// How many items have each run.
    runs: HashMap<u64, u8, FixedState>,
    /// Items that have words.
    n_item: u64,
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
        self.n_item += 1;
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

    /// Items that were added, those too short to be looked for as well.
    pub(super) fn n_item(&self) -> u64 {
        self.n_item
    }

    /// Items too short to be looked for.
    pub(super) fn n_short(&self) -> u64 {
        self.n_short
    }

    /// The text without the passages that it shares, and those passages.
    ///
    /// With a passage goes the rest of its line, or [`AROUND`] bytes of it.
    pub(super) fn cut<'a>(&self, text: &'a str) -> Option<(String, Vec<&'a str>)> {
        let (mut hashes, mut places) = (Vec::new(), Vec::new());
        each_word(text, |hash, from, to| {
            hashes.push(hash);
            places.push((from, to));
        });
        let mut cuts: Vec<(usize, usize)> = Vec::new();
        for (at, run) in runs(&hashes, RUN).enumerate() {
            if !self.holds(run) {
                continue;
            }
            let (from, to) = (places[at].0, places[at + RUN - 1].1);
            let before = &text[text.floor_char_boundary(from.saturating_sub(AROUND))..from];
            let after = &text[to..text.ceil_char_boundary((to + AROUND).min(text.len()))];
            let from = from - before.rfind('\n').map_or(before.len(), |at| before.len() - at - 1);
            let to = to + after.find('\n').map_or(after.len(), |at| at + 1);
            match cuts.last_mut() {
                Some((_, end)) if from <= *end => *end = to.max(*end),
                _ => cuts.push((from, to)),
            }
        }
        if cuts.is_empty() {
            return None;
        }
        let mut left = String::with_capacity(text.len());
        let mut end = 0;
        for &(from, to) in &cuts {
            left.push_str(&text[end..from]);
            end = to;
        }
        left.push_str(&text[end..]);
        Some((left, cuts.iter().map(|&(from, to)| &text[from..to]).collect()))
    }

    fn holds(&self, run: u64) -> bool {
        self.runs.get(&run).is_some_and(|&n| n <= COMMON)
    }

    /// The first word of a run that a text with these words shares.
    pub(super) fn find(&self, words: &[u64]) -> Option<usize> {
        if self.runs.is_empty() {
            return None;
        }
        runs(words, RUN).position(|run| self.holds(run))
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
        assert_eq!((evaluation.n_item(), evaluation.n_short()), (3, 1));
        let find = |text: &str| evaluation.find(&words(text));
        assert_eq!(find(&format!("The puzzle: {question}")), Some(2));
        let passage = "…sold CLIPS to 48 of her friends in april and then she sold…";
        assert_eq!(find(passage), Some(0));
        assert_eq!(find("sold clips to 48 of her friends in April and then she left"), None);
        assert_eq!(find("题目：小明有十个苹果他给了小红三个。"), Some(2));
        assert_eq!(find("Short one."), None);
    }

    #[test]
    fn passages_are_cut_out_of_a_long_text() {
        let mut evaluation = Evaluation::default();
        let question = "one two three four five six seven eight nine ten eleven twelve thirteen \
                        fourteen";
        assert!(evaluation.add(question));
        let cut = |text: &str| {
            let cut = evaluation.cut(text);
            cut.map(|(left, cuts)| (left, cuts.into_iter().map(String::from).collect::<Vec<_>>()))
        };
        assert_eq!(cut("nothing of it here"), None);
        let text = format!("before\nQ: {question}?\nafter\n{question}");
        let passages = vec![format!("Q: {question}?\n"), question.to_string()];
        assert_eq!(cut(&text), Some(("before\nafter\n".into(), passages)));
        let line = format!("{}{question}{}", "语 ".repeat(200), "语 ".repeat(200));
        let (left, cuts) = cut(&line).unwrap();
        assert_eq!(cuts.len(), 1);
        assert_eq!(left.len() + cuts[0].len(), line.len());
        assert!((AROUND * 2..AROUND * 2 + 8).contains(&(cuts[0].len() - question.len())));
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
