//! Training vocabularies: byte-level BPE, and one id a character.
//!
//! Texts are pushed in, part by part; memory stays bounded whatever their length. The same texts
//! and options give the same vocabulary, whatever the parts and the number of threads.

mod blocks;
mod cells;
mod characters;
mod file;
mod memory;
mod merges;
mod pairs;
mod queue;
mod tokens;
mod words;

use std::num::NonZero;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use crate::added::{AddedToken, AddedTokens, Fragment};
use crate::split::{Behavior, Pattern, PreTokenizer, Step, named};
use crate::{Error, Special, Tokenizer, alphabet};
use blocks::Blocks;
use cells::Words;
pub use characters::{CharOptions, CharTrainer};
use memory::Budget;
use words::WordTable;

const OPERATION: &str = "tokenizer training";

/// What a byte-level BPE vocabulary shall be.
#[derive(Debug, Clone)]
pub struct BpeOptions {
    /// Ids at most: special tokens, the 256 bytes, and merges.
    pub vocab_size: usize,
    /// How a text is cut into words, within which merges stay: a name that GGUF has for a
    /// pre-tokenizer, such as `qwen2`, `gpt-2` or `llama3`, or a regular expression (Oniguruma's
    /// Ruby syntax, as in `tokenizer.json`) whose matches, and what lies between, are words.
    pub pattern: String,
    /// Special tokens; they take the first ids, in this order, and end words.
    pub special: Vec<String>,
    /// Threads that count words.
    pub threads: NonZero<usize>,
    /// Memory of the process at its peak, in bytes; at least [`BpeOptions::least_memory`]. If the
    /// distinct words need more, rare ones are counted in parts of nine bytes, as whole
    /// characters: pairs within the parts still count, and the vocabulary hardly changes. Where
    /// parts are no fewer than words, half of the rare ones stand for all.
    pub memory: usize,
}

impl BpeOptions {
    /// The least memory with which so many ids are learnt, in bytes.
    pub fn least_memory(vocab_size: usize) -> usize {
        Budget::least(vocab_size)
    }
}

/// What came out of a training.
#[derive(Debug)]
pub struct Trained {
    /// The tokenizer.
    pub tokenizer: Tokenizer,
    /// Its `tokenizer.json`.
    pub json: String,
    /// Mean bytes a token, over the words that were counted.
    pub bytes_per_token: f64,
    /// Whether rare words were cut, because memory did not suffice for all.
    pub is_cut: bool,
}

/// Learns a byte-level BPE vocabulary (arXiv:1508.07909).
///
/// Of pairs that are equally frequent the one with the greatest bytes is merged first, as in the
/// reference vocabularies of Stanford's CS336. A merge never joins a part of a character with
/// another character. A pair must occur twice, and its text must not be a token yet.
#[derive(Debug)]
pub struct BpeTrainer {
    options: BpeOptions,
    budget: Budget,
    pre_tokenizer: PreTokenizer,
    added: AddedTokens,
    blocks: Blocks,
    /// Words counted so far, by thread.
    tables: Vec<WordTable>,
    is_cut: bool,
}

/// Longer words, in bytes, are counted in parts: a line of base64 is no word.
const LONGEST_WORD: usize = 1024;

/// How often a pair must occur: a token of one place in the text is never learnt by a model.
const LEAST_COUNT: u64 = 2;

impl BpeTrainer {
    /// A trainer that has seen no text.
    ///
    /// # Errors
    /// [`Error::Malformed`] for a vocabulary without room for merges, a pattern that is neither a
    /// name nor a regular expression, or special tokens that are empty, twice there, or look like
    /// a token of the byte alphabet; [`Error::Unsupported`] for a pattern whose vocabularies are
    /// not of bytes.
    pub fn new(options: BpeOptions) -> Result<BpeTrainer, Error> {
        check_special(&options.special)?;
        for text in &options.special {
            // `tokenizer.json` names tokens by their text in the byte alphabet.
            let bytes = alphabet::to_bytes(text).filter(|bytes| std::str::from_utf8(bytes).is_ok());
            if bytes.is_some_and(|bytes| bytes.len() == 1 || bytes != text.as_bytes()) {
                return Err(Error::malformed(
                    OPERATION,
                    "special tokens that no other token is named like",
                    format!("`{text}`"),
                ));
            }
        }
        let least = 256 + options.special.len();
        if options.vocab_size <= least {
            return Err(Error::malformed(
                OPERATION,
                format!("more than {least} ids (256 bytes, {} special)", options.special.len()),
                options.vocab_size.to_string(),
            ));
        }
        let least_memory = BpeOptions::least_memory(options.vocab_size);
        if options.memory < least_memory {
            return Err(Error::malformed(
                OPERATION,
                format!("memory of {} MiB or more", least_memory.div_ceil(1 << 20)),
                format!("{} MiB", options.memory >> 20),
            ));
        }
        let budget = Budget::new(options.memory, options.vocab_size);
        Ok(BpeTrainer {
            budget,
            pre_tokenizer: pre_tokenizer(&options.pattern)?,
            added: added_tokens(&options.special)?,
            blocks: Blocks::new(budget.round(), options.special.clone()),
            tables: vec![WordTable::new(); options.threads.get().min(budget.threads())],
            is_cut: false,
            options,
        })
    }

    /// Takes the next part of a text.
    pub fn push(&mut self, text: &str) {
        let mut rest = text;
        while !rest.is_empty() {
            rest = self.blocks.fill(rest);
            if self.blocks.is_full() {
                self.count(false);
            }
        }
    }

    /// What is pushed from here on is another text: no word reaches from one into the next.
    pub fn end_text(&mut self) {
        self.blocks.end_text();
    }

    /// Learns the vocabulary. `progress` is called with the merges made and those to make.
    ///
    /// # Errors
    /// [`Error::Malformed`] where there was no text.
    pub fn train(mut self, progress: &mut dyn FnMut(usize, usize)) -> Result<Trained, Error> {
        self.count(true);
        merge_tables(&mut self.tables);
        let BpeTrainer { options, budget, pre_tokenizer, blocks, mut tables, is_cut, .. } = self;
        let apart = tables[1..].iter().map(WordTable::memory).sum();
        let words = tables.swap_remove(0);
        drop((tables, blocks));
        let n_byte: u64 = words.iter().map(|(word, count)| word.len() as u64 * count).sum();
        if n_byte == 0 {
            return Err(Error::malformed(OPERATION, "a text", "none"));
        }
        let special = &options.special;
        let n_merge = options.vocab_size - 256 - special.len();
        let cells = Words::new(&words);
        drop(words);
        let room = budget.room(cells.cells.len(), apart);
        let learnt = merges::learn(cells, n_merge, LEAST_COUNT, room, progress);
        let json = file::of_bpe(special, &learnt, &pre_tokenizer);
        Ok(Trained {
            tokenizer: file::read(&json, special)?,
            json,
            bytes_per_token: n_byte as f64 / learnt.n_token as f64,
            is_cut,
        })
    }

    /// Counts the words of a round, or of all that is left.
    fn count(&mut self, all: bool) {
        let BpeTrainer { blocks, tables, added, pre_tokenizer, .. } = self;
        let round = blocks.next_round(all);
        let len = round.iter().map(|block| block.len()).sum();
        let next = AtomicUsize::new(0);
        let work = |table: &mut WordTable| {
            while let Some(block) = round.get(next.fetch_add(1, Relaxed)) {
                count_words(block, added, pre_tokenizer, table);
            }
        };
        std::thread::scope(|scope| {
            let (first, others) = tables.split_at_mut(1);
            for table in others.iter_mut().take(round.len().saturating_sub(1)) {
                scope.spawn(|| work(table));
            }
            first.iter_mut().for_each(work);
        });
        blocks.drop_front(len);
        let limit = self.budget.words();
        let cost = |tables: &[WordTable]| tables.iter().map(WordTable::cost).sum::<usize>();
        // Tables of threads have words in common. Merging them changes nothing; cutting does, and
        // so it is decided by their union, after rounds that end at the same places always.
        if cost(&self.tables) > limit || cost(&self.tables[1..]) > self.budget.apart() {
            merge_tables(&mut self.tables);
            if cost(&self.tables) > limit {
                self.tables[0].shrink(limit / 2);
                self.is_cut = true;
            }
        }
    }
}

fn count_words(block: &str, added: &AddedTokens, pre: &PreTokenizer, table: &mut WordTable) {
    added.split(block.as_bytes(), false, Special::Parse, |fragment| {
        let Fragment::Text(from, to) = fragment else { return };
        pre.split(&block.as_bytes()[from..to], true, |word| {
            if word.len() <= LONGEST_WORD {
                table.add(word, 1);
            } else {
                words::cut(word, LONGEST_WORD, |part| table.add(part, 1));
            }
        });
    });
}

/// Puts the counts of all tables into the first; neighbours are merged at the same time.
fn merge_tables(tables: &mut [WordTable]) {
    let merge = |group: &mut [WordTable], step: usize| {
        let (into, from) = group.split_at_mut(step);
        into[0].merge(&from[0]);
        from[0].clear();
    };
    let mut step = 1;
    while step < tables.len() {
        std::thread::scope(|scope| {
            let mut groups = tables.chunks_mut(2 * step).filter(|group| group.len() > step);
            let first = groups.next();
            for group in groups {
                scope.spawn(move || merge(group, step));
            }
            // The table that grows grows on one thread: memory that a thread frees goes to others
            // late or never.
            first.into_iter().for_each(|group| merge(group, step));
        });
        step *= 2;
    }
}

/// The pre-tokenizer of a name or a regular expression.
fn pre_tokenizer(pattern: &str) -> Result<PreTokenizer, Error> {
    let is_name = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    if !pattern.is_empty() && pattern.chars().all(is_name) {
        let name = match pattern {
            "gpt2" => "gpt-2",
            "cl100k" => "llama3",
            "o200k" => "gpt-4o",
            name => name,
        };
        let Ok(named) = named(name) else {
            return Err(Error::malformed(
                OPERATION,
                "a pattern by name (qwen2, gpt2, llama3, o200k, deepseek-v3, tekken, starcoder …) \
                 or a regular expression",
                format!("`{pattern}`"),
            ));
        };
        if named.characters {
            return Err(Error::unsupported(OPERATION, format!("byte-level `{pattern}`")));
        }
        return Ok(named.pre_tokenizer);
    }
    if pattern.is_empty() {
        return Err(Error::malformed(OPERATION, "a pattern", "an empty one"));
    }
    let step = match Pattern::regex(pattern)? {
        Pattern::Words(words) => Step::Words(words),
        pattern => Step::Split { pattern, behavior: Behavior::Isolated, invert: false },
    };
    Ok(PreTokenizer { steps: vec![step] })
}

fn check_special(special: &[String]) -> Result<(), Error> {
    for (index, text) in special.iter().enumerate() {
        if text.is_empty() || special[..index].contains(text) {
            let expected = "special tokens that are not empty and differ";
            return Err(Error::malformed(OPERATION, expected, format!("`{text}`")));
        }
    }
    Ok(())
}

/// What finds special tokens in a text; their numbers do not matter.
fn added_tokens(special: &[String]) -> Result<AddedTokens, Error> {
    let list = special.iter().zip(0..).map(|(text, id)| AddedToken {
        id,
        text: text.as_bytes().to_vec(),
        special: true,
        lstrip: false,
        rstrip: false,
        single_word: false,
        normalized: false,
    });
    AddedTokens::new(list.collect(), <[u8]>::to_vec)
}
