//! A vocabulary as GGUF metadata, for a file that llama.cpp loads.

use std::collections::HashSet;

use crate::alphabet;
use crate::bpe::{Bpe, Unit, Unknown};
use crate::gguf::{are_characters, byte_token};
use crate::merge::ABSENT;
use crate::normalizer::Normalize;
use crate::split::Step;
use crate::tokenizer::{Model, Tokenizer};
use crate::vocabulary::{GgufVocab, token_type};

impl Tokenizer {
    /// The vocabulary as GGUF metadata. Ids without a token are given unused ones, so that the list
    /// has no gaps and no two entries are equal.
    pub fn to_gguf(&self) -> GgufVocab {
        let mut vocab = self.meta.clone();
        vocab.token_types = Some(self.types.clone());
        if self.is_of_characters() && vocab.eos.is_none() {
            // Of any other kind that can hold characters, llama.cpp takes an ordinary one for the
            // end of a text where none is named: token 2 of `llama`, 11 of `gpt2`.
            vocab.model = "rwkv".into();
            vocab.pre = None;
            let names = self.token_names("rwkv");
            vocab.tokens = names.iter().map(|name| escape_rwkv(name)).collect();
            vocab.add_bos = Some(false);
            vocab.add_space_prefix = None;
            return vocab;
        }
        vocab.tokens = self.token_names(&vocab.model);
        vocab.add_bos = vocab.add_bos.or(Some(!self.before.is_empty()));
        if !self.after.is_empty() && vocab.model != "bert" {
            vocab.add_eos = vocab.add_eos.or(Some(true));
        }
        if !self.scores.is_empty() {
            vocab.scores = Some(self.scores.clone());
        }
        match &self.model {
            Model::Bpe(bpe) if bpe.unit == Unit::Bytes || vocab.model == "gemma4" => {
                vocab.merges = Some(merge_lines(bpe));
            }
            Model::Bpe(bpe) => {
                vocab.scores = Some(self.scores_of_merges(bpe));
                self.mark_byte_tokens(&mut vocab);
            }
            Model::WordPiece(_) => {
                vocab.bos = vocab.bos.or(self.before.first().copied());
                vocab.cls = vocab.cls.or(vocab.bos);
                vocab.sep = vocab.sep.or(self.after.last().copied());
            }
            _ => {}
        }
        for step in &self.normalizers {
            match step {
                Normalize::SentencePiece(rule) => {
                    vocab.precompiled_charsmap = rule.charsmap.as_ref().map(|map| map.to_blob());
                }
                Normalize::Precompiled(map) => {
                    vocab.precompiled_charsmap = Some(map.to_blob());
                    vocab.remove_extra_whitespaces = Some(true);
                    vocab.add_space_prefix = vocab.add_space_prefix.or(Some(true));
                }
                _ => {}
            }
        }
        vocab
    }

    /// Whether tokens are single characters, each for itself: nothing is changed, cut, merged, added
    /// or unknown.
    pub(crate) fn is_of_characters(&self) -> bool {
        matches!(&self.model, Model::Bpe(bpe)
            if bpe.unit == Unit::Chars && bpe.unknown == Unknown::Nothing)
            && are_characters(&self.texts, &self.types)
            && self.normalizers.is_empty()
            && self.pre_tokenizer.steps.iter().all(|step| matches!(step, Step::SpaceMarks))
            && self.before.is_empty()
            && self.after.is_empty()
    }

    fn token_names(&self, model: &str) -> Vec<String> {
        let mut seen = HashSet::with_capacity(self.texts.len());
        let is_word = |id: usize| self.types[id] == token_type::NORMAL;
        // Files of Hugging Face mark what goes on with a word; GGUF marks what opens one.
        let marks_continuing =
            model == "bert" && self.texts.iter().any(|text| text.starts_with(b"##"));
        self.texts
            .iter()
            .enumerate()
            .map(|(id, text)| {
                let mut name = String::from_utf8_lossy(text).into_owned();
                if marks_continuing && is_word(id) {
                    name = match name.strip_prefix("##") {
                        Some(rest) => rest.to_owned(),
                        None => format!("\u{2581}{name}"),
                    };
                }
                // Spaces become marks before a text is looked up, so a plain one would never match.
                if model == "llama" && is_word(id) {
                    name = name.replace(' ', "\u{2581}");
                }
                if name.is_empty() || seen.contains(&name) {
                    name = format!("[PAD{id}]");
                }
                seen.insert(name.clone());
                name
            })
            .collect()
    }

    /// Scores under which SentencePiece's rule (the highest score first) merges in the order of the
    /// ranked merges.
    fn scores_of_merges(&self, bpe: &Bpe) -> Vec<f32> {
        let lowest = -(bpe.merges.len() as f32) - 1.0;
        let mut scores: Vec<f32> = self
            .types
            .iter()
            .map(|&kind| if kind == token_type::NORMAL { lowest } else { 0.0 })
            .collect();
        for (rank, &(left, right)) in bpe.merges.iter().enumerate().rev() {
            let joined = [bpe.symbols.bytes(left), bpe.symbols.bytes(right)].concat();
            if let Some(id) = bpe.symbols.get(&joined)
                && let Some(score) = scores.get_mut(id as usize)
            {
                *score = -(rank as f32);
            }
        }
        scores
    }

    fn mark_byte_tokens(&self, vocab: &mut GgufVocab) {
        let types = vocab.token_types.iter_mut().flatten();
        for ((kind, text), id) in types.zip(self.texts.iter()).zip(0..) {
            if *kind == token_type::NORMAL && byte_token(text).is_some() {
                *kind = token_type::BYTE;
            }
            if Some(id) == vocab.unk {
                *kind = token_type::UNKNOWN;
            }
        }
    }
}

/// A token with Python's escapes, as RWKV's are written.
fn escape_rwkv(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '\\' => out.push_str(r"\\"),
            '\t' => out.push_str(r"\t"),
            '\n' => out.push_str(r"\n"),
            '\r' => out.push_str(r"\r"),
            // llama.cpp reads a token up to the first zero byte.
            '\0'..' ' | '\x7f' => out.push_str(&format!(r"\x{:02x}", u32::from(character))),
            _ => out.push(character),
        }
    }
    out
}

/// `left right` of each merge, in the order of the ranks.
fn merge_lines(bpe: &Bpe) -> Vec<String> {
    let name = |id: u32| {
        let bytes = bpe.symbols.bytes(id);
        match bpe.unit {
            Unit::Bytes => alphabet::to_text(bytes),
            Unit::Chars => String::from_utf8_lossy(bytes).into_owned(),
        }
    };
    let merges = if bpe.merges.is_empty() { &bpe.merges_of_ranks() } else { &bpe.merges };
    merges
        .iter()
        .filter(|&&(left, _)| left != ABSENT)
        .map(|&(left, right)| format!("{} {}", name(left), name(right)))
        .collect()
}
