//! Hugging Face's `tokenizer.json`, with the `tokenizer_config.json` beside it.

mod config;
mod file;
mod steps;
mod write;

pub(crate) use write::step_values;

use std::sync::{Arc, Mutex};

use crate::added::{AddedToken, AddedTokens};
use crate::bpe::{Bpe, Unit, Unknown};
use crate::decode::Pieces;
use crate::gguf::{MOST_TOKENS, byte_token};
use crate::merge::ABSENT;
use crate::normalizer::{Normalize, normalize};
use crate::split::{PreTokenizer, Step};
use crate::symbols::{Strings, Symbols};
use crate::tokenizer::{Model, Tokenizer};
use crate::unigram::Unigram;
use crate::vocabulary::{GgufVocab, VocabKind, token_type};
use crate::wordpiece::{WordLevel, WordPiece};
use crate::{Error, alphabet, end};
use file::{TokenizerFile, VocabFile};
use steps::Decoding;

const OPERATION: &str = "tokenizer.json";

impl Tokenizer {
    /// Reads a `tokenizer.json`; the config adds the chat template and the special tokens.
    ///
    /// # Errors
    /// [`Error::Malformed`] where the JSON is broken or contradicts itself, [`Error::Unsupported`]
    /// for a component that is not known.
    pub fn from_json(
        tokenizer_json: &[u8],
        tokenizer_config_json: Option<&[u8]>,
    ) -> Result<Tokenizer, Error> {
        let file: TokenizerFile = file::parse(OPERATION, tokenizer_json)?;
        let config = match tokenizer_config_json {
            Some(json) => config::Config::read(json)?,
            None => config::Config::default(),
        };
        Loading::new(file)?.finish(&config)
    }
}

/// A tokenizer on its way from JSON.
struct Loading {
    file: TokenizerFile,
    texts: Vec<String>,
    types: Vec<i32>,
    scores: Vec<f32>,
    normalizers: Vec<Normalize>,
    pre_tokenizer: PreTokenizer,
    decoding: Decoding,
    /// Tokens of the model are written in the byte alphabet.
    byte_level: bool,
}

impl Loading {
    fn new(mut file: TokenizerFile) -> Result<Loading, Error> {
        let mut entries = Vec::new();
        let mut scores = Vec::new();
        match std::mem::take(&mut file.model.vocab) {
            VocabFile::Ids(list) => entries = list,
            VocabFile::Scores(list) => {
                for (id, (text, score)) in list.into_iter().enumerate() {
                    entries.push((text, id as u32));
                    scores.push(score as f32);
                }
            }
        }
        let known: std::collections::HashMap<&str, u32> =
            entries.iter().map(|(text, id)| (text.as_str(), *id)).collect();
        for added in &mut file.added_tokens {
            if let Some(&id) = known.get(added.content.as_str()) {
                added.id = id;
            }
        }
        let ids = entries.iter().map(|entry| entry.1);
        let size = ids.chain(file.added_tokens.iter().map(|added| added.id)).max();
        let size = size.map_or(0, |id| id as usize + 1);
        if size == 0 || size > MOST_TOKENS {
            return Err(Error::malformed(
                OPERATION,
                format!("ids below {MOST_TOKENS}, and at least one"),
                format!("{size} as the size of the vocabulary"),
            ));
        }
        let mut texts = vec![String::new(); size];
        let mut types = vec![token_type::UNUSED; size];
        scores.resize(if scores.is_empty() { 0 } else { size }, 0.0);
        for (text, id) in entries {
            types[id as usize] = token_type::NORMAL;
            texts[id as usize] = text;
        }
        let (normalizers, byte_normalizer) = steps::normalizers(&file.normalizer)?;
        let (pre_tokenizer, byte_pre_tokenizer) = steps::pre_tokenizer(&file.pre_tokenizer)?;
        let decoding = Decoding::read(&file.decoder)?;
        Ok(Loading {
            texts,
            types,
            scores,
            normalizers,
            pre_tokenizer,
            decoding,
            byte_level: byte_normalizer || byte_pre_tokenizer,
            file,
        })
    }

    fn finish(mut self, config: &config::Config) -> Result<Tokenizer, Error> {
        let (kind, model) = self.model()?;
        for added in &self.file.added_tokens {
            let id = added.id as usize;
            self.texts[id].clone_from(&added.content);
            self.types[id] =
                if added.special { token_type::CONTROL } else { token_type::USER_DEFINED };
        }
        let mut texts = Strings::with_capacity(self.texts.len(), self.texts.len() * 8);
        self.texts.iter().for_each(|text| texts.push(text.as_bytes()));
        let by_text = |text: &str| {
            let id = self.texts.iter().position(|own| own == text)?;
            (!text.is_empty()).then_some(id as u32)
        };
        let mut meta = GgufVocab {
            unk: self.file.model.unk_id.or_else(|| self.unk_token().and_then(&by_text)),
            ..GgufVocab::default()
        };
        config.fill(&mut meta, by_text);
        let (mut before, after) = steps::around(&self.file.post_processor)?;
        let size = self.texts.len();
        if let Some(&id) = before.iter().chain(&after).find(|&&id| id as usize >= size) {
            return Err(Error::malformed(
                OPERATION,
                format!("post-processor ids below {size}"),
                id.to_string(),
            ));
        }
        config.adjust_start(&meta, self.file.post_processor.is_null(), &mut before);
        if meta.bos.is_none() {
            meta.bos = before.first().copied();
        }
        steps::describe_for_gguf(&self.file, &self.normalizers, self.byte_level, &mut meta);
        let added = self.added_tokens()?;
        let end_ids = end::find(&texts, &mut self.types, &mut meta);
        self.mark_bytes();
        let mut pieces = self.pieces();
        pieces.special = self.types.iter().map(|&kind| kind == token_type::CONTROL).collect();
        Ok(Tokenizer {
            kind,
            texts,
            types: self.types,
            scores: self.scores,
            pieces: Arc::new(pieces),
            added,
            normalizers: self.normalizers,
            pre_tokenizer: self.pre_tokenizer,
            model,
            before,
            after,
            meta,
            end_ids,
            workspace: Mutex::new(None),
        })
    }

    /// Tokens `<0xNN>` of a model with byte fallback are bytes.
    fn mark_bytes(&mut self) {
        for (kind, text) in self.types.iter_mut().zip(&self.texts) {
            if self.decoding.byte_fallback
                && *kind == token_type::NORMAL
                && byte_token(text.as_bytes()).is_some()
            {
                *kind = token_type::BYTE;
            }
        }
    }

    fn unk_token(&self) -> Option<&str> {
        self.file.model.unk_token.as_deref()
    }

    fn added_tokens(&self) -> Result<AddedTokens, Error> {
        let list = self
            .file
            .added_tokens
            .iter()
            .map(|added| AddedToken {
                id: added.id,
                text: added.content.as_bytes().to_vec(),
                special: added.special,
                lstrip: added.lstrip,
                rstrip: added.rstrip,
                single_word: added.single_word,
                normalized: added.normalized.unwrap_or(!added.special),
            })
            .collect();
        AddedTokens::new(list, |text| normalize(&self.normalizers, text).into_owned())
    }

    /// The bytes of each token by the decoder's rules. Added tokens are what they say.
    fn pieces(&self) -> Pieces {
        let mut bytes = Strings::with_capacity(self.texts.len(), self.texts.len() * 8);
        for (text, &kind) in self.texts.iter().zip(&self.types) {
            if matches!(kind, token_type::CONTROL | token_type::USER_DEFINED) {
                bytes.push(&self.decoding.added_piece(text));
            } else {
                bytes.push(&self.decoding.piece(text));
            }
        }
        Pieces {
            bytes,
            special: Vec::new(),
            strip_first_space: self.decoding.strip_first_space(),
            cleanup: self.decoding.cleanup(),
            strip_last_space: self.decoding.strip_last_space(),
        }
    }

    fn model(&mut self) -> Result<(VocabKind, Model), Error> {
        let model = &self.file.model;
        let kind = match model.kind.as_deref() {
            Some(kind) => kind,
            None if model.merges.is_some() => "BPE",
            None if !self.scores.is_empty() => "Unigram",
            None if model.continuing_subword_prefix.is_some() => "WordPiece",
            None => "WordLevel",
        };
        match kind {
            "BPE" => Ok((VocabKind::Bpe, self.bpe()?)),
            "Unigram" => Ok((VocabKind::Unigram, self.unigram()?)),
            "WordPiece" => Ok((VocabKind::WordPiece, self.wordpiece())),
            "WordLevel" => {
                let unk = self.find(self.unk_token());
                let level = WordLevel::new(self.symbols(|text| Some(text.into())), unk);
                Ok((VocabKind::WordLevel, Model::WordLevel(level)))
            }
            other => Err(Error::unsupported(OPERATION, format!("model `{other}`"))),
        }
    }

    fn find(&self, text: Option<&str>) -> Option<u32> {
        let text = text.filter(|text| !text.is_empty())?;
        self.texts.iter().position(|own| own == text).map(|id| id as u32)
    }

    /// The tokens of the model by id.
    fn symbols(&self, bytes: impl Fn(&str) -> Option<Vec<u8>>) -> Symbols {
        let mut symbols = Symbols::with_capacity(self.texts.len());
        for text in &self.texts {
            let bytes = if text.is_empty() { None } else { bytes(text) };
            symbols.push(bytes.as_deref());
        }
        symbols
    }

    fn bpe(&mut self) -> Result<Model, Error> {
        let affix = |affix: &Option<String>| affix.as_deref().is_some_and(|text| !text.is_empty());
        if affix(&self.file.model.continuing_subword_prefix)
            || affix(&self.file.model.end_of_word_suffix)
        {
            return Err(Error::unsupported(OPERATION, "BPE with subword prefixes or suffixes"));
        }
        let unit = if self.byte_level { Unit::Bytes } else { Unit::Chars };
        let to_bytes = |text: &str| match unit {
            Unit::Bytes => alphabet::to_bytes(text),
            Unit::Chars => Some(text.as_bytes().to_vec()),
        };
        let model = &self.file.model;
        let unknown = match self.find(self.unk_token()) {
            Some(id) => Unknown::Token { id, fuse: model.fuse_unk },
            None => Unknown::Nothing,
        };
        let mut bpe = Bpe::new(self.symbols(to_bytes), unit, unknown, model.ignore_merges);
        if unit == Unit::Chars && !model.byte_fallback {
            bpe.byte_ids = [ABSENT; 256];
        }
        let merges = model.merges.as_ref().map_or(&[][..], |merges| &merges.0);
        bpe.reserve(merges.len());
        for (rank, (left, right)) in merges.iter().enumerate() {
            match (to_bytes(left), to_bytes(right)) {
                (Some(left), Some(right)) => bpe.push_merge(&left, &right, true),
                _ => bpe.skip_rank(),
            }
            if bpe.has_foreign_symbols() {
                return Err(Error::malformed(
                    OPERATION,
                    "merges of tokens into tokens",
                    format!("merge {rank}, `{left} {right}`"),
                ));
            }
        }
        if unit == Unit::Chars && bpe.words_apart() {
            self.pre_tokenizer.steps.push(Step::SpaceMarks);
        }
        Ok(Model::Bpe(Box::new(bpe)))
    }

    fn unigram(&self) -> Result<Model, Error> {
        let scores: Vec<f64> = self.scores.iter().map(|&score| f64::from(score)).collect();
        if scores.is_empty() {
            return Err(Error::malformed(OPERATION, "scores of a Unigram model", "none"));
        }
        let floor = scores.iter().copied().fold(f64::INFINITY, f64::min);
        let unk = self.file.model.unk_id.filter(|&id| (id as usize) < self.texts.len());
        let tokens = self.texts.iter().zip(0..).map(|(text, id)| (text.as_bytes(), id));
        let byte_ids = self.file.model.byte_fallback.then(|| self.byte_ids()).flatten();
        Ok(Model::Unigram(Unigram::new(tokens, scores, floor, unk, byte_ids, false)))
    }

    /// The `<0xNN>` tokens, if all are there.
    fn byte_ids(&self) -> Option<Box<[u32; 256]>> {
        let mut ids = Box::new([ABSENT; 256]);
        for (text, id) in self.texts.iter().zip(0..) {
            if let Some(byte) = byte_token(text.as_bytes()) {
                ids[byte as usize] = id;
            }
        }
        (!ids.contains(&ABSENT)).then_some(ids)
    }

    fn wordpiece(&self) -> Model {
        let model = &self.file.model;
        let prefix = model.continuing_subword_prefix.as_deref().unwrap_or("##");
        let tokens = || self.texts.iter().zip(0..).map(|(text, id)| (text.as_bytes(), id));
        let continuing =
            tokens().filter_map(|(text, id)| Some((text.strip_prefix(prefix.as_bytes())?, id)));
        let longest = model.max_input_chars_per_word.unwrap_or(100);
        let unk = self.find(self.unk_token().or(Some("[UNK]")));
        Model::WordPiece(WordPiece::new(tokens(), continuing, unk, longest))
    }
}
