//! Vocabularies of single characters: ids in the order of code points.

use super::blocks::Blocks;
use super::{OPERATION, Trained, added_tokens, check_special, file};
use crate::added::{AddedTokens, Fragment};
use crate::{Error, Special};

/// What a vocabulary of characters shall be.
#[derive(Debug, Clone, Default)]
pub struct CharOptions {
    /// Ids at most, special tokens included; none for as many as there are characters.
    pub vocab_size: Option<usize>,
    /// Special tokens; they take the ids after the characters. If `<unk>` is among them it stands
    /// for characters that the texts did not have; otherwise encoding leaves such characters out,
    /// as Hugging Face tokenizers does.
    pub special: Vec<String>,
}

/// Text that is counted at once, in bytes.
const ROUND: usize = 1 << 20;

/// Collects the characters of texts.
#[derive(Debug)]
pub struct CharTrainer {
    options: CharOptions,
    added: AddedTokens,
    blocks: Blocks,
    /// How often each code point was seen.
    counts: Vec<u64>,
}

impl CharTrainer {
    /// A trainer that has seen no text.
    ///
    /// # Errors
    /// [`Error::Malformed`] for special tokens that are empty, one character, or twice there.
    pub fn new(options: CharOptions) -> Result<CharTrainer, Error> {
        check_special(&options.special)?;
        if let Some(text) = options.special.iter().find(|text| text.chars().count() == 1) {
            let expected = "special tokens of more than one character";
            return Err(Error::malformed(OPERATION, expected, format!("`{text}`")));
        }
        Ok(CharTrainer {
            added: added_tokens(&options.special)?,
            blocks: Blocks::new(ROUND, options.special.clone()),
            counts: vec![0; 0x11_0000],
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

    /// What is pushed from here on is another text.
    pub fn end_text(&mut self) {
        self.blocks.end_text();
    }

    /// The vocabulary.
    ///
    /// # Errors
    /// [`Error::Malformed`] where there was no text, or more characters than ids.
    pub fn train(mut self) -> Result<Trained, Error> {
        self.count(true);
        let code_points = (0..).zip(&self.counts).filter(|&(_, &count)| count > 0);
        let characters: Vec<char> =
            code_points.clone().filter_map(|(code, _)| char::from_u32(code)).collect();
        if characters.is_empty() {
            return Err(Error::malformed(OPERATION, "a text", "none"));
        }
        let special = &self.options.special;
        let size = characters.len() + special.len();
        if let Some(limit) = self.options.vocab_size.filter(|&limit| limit < size) {
            return Err(Error::malformed(
                OPERATION,
                format!("at most {limit} ids"),
                format!("{} different characters, {} special", characters.len(), special.len()),
            ));
        }
        let n_char: u64 = self.counts.iter().sum();
        let n_byte: u64 = characters
            .iter()
            .map(|&character| self.counts[character as usize] * character.len_utf8() as u64)
            .sum();
        let json = file::of_characters(&characters, special);
        Ok(Trained {
            tokenizer: file::read(&json, special)?,
            json,
            bytes_per_token: n_byte as f64 / n_char as f64,
            is_cut: false,
        })
    }

    fn count(&mut self, all: bool) {
        let CharTrainer { added, blocks, counts, .. } = self;
        let round = blocks.next_round(all);
        for block in &round {
            added.split(block.as_bytes(), false, Special::Parse, |fragment| {
                let Fragment::Text(from, to) = fragment else { return };
                for character in block[from..to].chars() {
                    counts[character as usize] += 1;
                }
            });
        }
        let len = round.iter().map(|block| block.len()).sum();
        blocks.drop_front(len);
    }
}
