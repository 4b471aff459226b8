//! SentencePiece's own `tokenizer.model`: a protocol buffer of pieces, training and normalisation.

use crate::Error;
use crate::added::{AddedToken, AddedTokens};
use crate::charsmap::Charsmap;
use crate::gguf::byte_token;
use crate::merge::ABSENT;
use crate::normalizer::{Normalize, SentencePieceRule};
use crate::tokenizer::{Model, Tokenizer};
use crate::trie::Trie;
use crate::unigram::Unigram;
use crate::vocabulary::{GgufVocab, token_type};

const OPERATION: &str = "SentencePiece model";

impl Tokenizer {
    /// Reads a `tokenizer.model` of the BPE or Unigram kind.
    ///
    /// # Errors
    /// [`Error::Malformed`] for a broken protocol buffer, [`Error::Unsupported`] for the word and
    /// character kinds.
    pub fn from_sentencepiece(model: &[u8]) -> Result<Tokenizer, Error> {
        let file = ModelFile::read(model)?;
        let is_bpe = match file.model_type {
            1 => false,
            2 => true,
            other => return Err(Error::unsupported(OPERATION, format!("model type {other}"))),
        };
        let id = |id: i64| u32::try_from(id).ok();
        let vocab = GgufVocab {
            model: if is_bpe { "llama" } else { "t5" }.into(),
            tokens: file.pieces,
            scores: Some(file.scores),
            token_types: Some(file.types),
            bos: id(file.bos),
            eos: id(file.eos),
            unk: id(file.unk),
            pad: id(file.pad),
            add_space_prefix: Some(file.add_dummy_prefix),
            remove_extra_whitespaces: Some(file.remove_extra_whitespaces),
            precompiled_charsmap: Some(file.charsmap).filter(|map| !map.is_empty()),
            ..GgufVocab::default()
        };
        let mut tokenizer = Tokenizer::from_gguf(&vocab)?;
        let is_user_defined = |id: u32| tokenizer.types[id as usize] == token_type::USER_DEFINED;
        let user_defined = || tokenizer.texts.iter().zip(0..).filter(|t| is_user_defined(t.1));
        let charsmap = match &vocab.precompiled_charsmap {
            Some(blob) => Some(Charsmap::new(blob)?),
            None => None,
        };
        let normalizers = vec![Normalize::SentencePiece(Box::new(SentencePieceRule {
            charsmap,
            add_dummy_prefix: file.add_dummy_prefix,
            remove_extra_whitespaces: file.remove_extra_whitespaces,
            escape_whitespaces: file.escape_whitespaces,
            whitespace_as_suffix: file.whitespace_as_suffix,
            user_defined: Some(Trie::new(user_defined())),
        }))];
        let mut list = tokenizer.added.list.clone();
        if is_bpe {
            // They are found in the normalised text, which has no normal form of its own for them.
            list.retain(|token| !is_user_defined(token.id));
            list.extend(user_defined().map(|(text, id)| AddedToken {
                id,
                text: text.to_vec(),
                special: false,
                lstrip: false,
                rstrip: false,
                single_word: false,
                normalized: true,
            }));
        } else {
            list.retain(|token| !is_user_defined(token.id));
            tokenizer.model = Model::Unigram(unigram(&tokenizer, &vocab, file.byte_fallback));
        }
        tokenizer.added = AddedTokens::new(list, <[u8]>::to_vec)?;
        tokenizer.normalizers = normalizers;
        Ok(tokenizer)
    }
}

/// SentencePiece's own reading of its Unigram scores.
fn unigram(tokenizer: &Tokenizer, vocab: &GgufVocab, byte_fallback: bool) -> Unigram {
    let types = &tokenizer.types;
    let given = vocab.scores.as_deref().unwrap_or(&[]);
    let normal = || given.iter().zip(types).filter(|t| *t.1 == token_type::NORMAL).map(|t| *t.0);
    let highest = normal().fold(f32::MIN, f32::max);
    let lowest = normal().fold(f32::MAX, f32::min);
    let scores = given
        .iter()
        .zip(types)
        .zip(tokenizer.texts.iter())
        .map(|((&score, &kind), text)| match kind {
            // A user's token beats every path through it.
            token_type::USER_DEFINED => {
                let chars = String::from_utf8_lossy(text).chars().count();
                f64::from(chars as f32 * highest) - 0.1
            }
            _ => f64::from(score),
        })
        .collect();
    let in_text = |id: u32| {
        matches!(
            types[id as usize],
            token_type::NORMAL | token_type::USER_DEFINED | token_type::UNUSED
        )
    };
    let tokens = tokenizer.texts.iter().zip(0..).filter(|t| in_text(t.1));
    let mut byte_ids = Box::new([ABSENT; 256]);
    for (text, id) in tokenizer.texts.iter().zip(0..) {
        if let Some(byte) = byte_token(text) {
            byte_ids[byte as usize] = id;
        }
    }
    let byte_ids = Some(byte_ids).filter(|ids| byte_fallback && !ids.contains(&ABSENT));
    Unigram::new(tokens, scores, f64::from(lowest), tokenizer.meta.unk, byte_ids, true)
}

/// What is read of the file. Field numbers are those of `sentencepiece_model.proto`.
#[derive(Debug)]
struct ModelFile {
    pieces: Vec<String>,
    scores: Vec<f32>,
    types: Vec<i32>,
    model_type: u64,
    byte_fallback: bool,
    whitespace_as_suffix: bool,
    unk: i64,
    bos: i64,
    eos: i64,
    pad: i64,
    charsmap: Vec<u8>,
    add_dummy_prefix: bool,
    remove_extra_whitespaces: bool,
    escape_whitespaces: bool,
}

impl ModelFile {
    fn read(model: &[u8]) -> Result<ModelFile, Error> {
        let mut file = ModelFile {
            pieces: Vec::new(),
            scores: Vec::new(),
            types: Vec::new(),
            model_type: 1,
            byte_fallback: false,
            whitespace_as_suffix: false,
            unk: 0,
            bos: 1,
            eos: 2,
            pad: -1,
            charsmap: Vec::new(),
            add_dummy_prefix: true,
            remove_extra_whitespaces: true,
            escape_whitespaces: true,
        };
        for field in Fields(model) {
            match field? {
                (1, Field::Bytes(piece)) => file.piece(piece)?,
                (2, Field::Bytes(trainer)) => file.trainer(trainer)?,
                (3, Field::Bytes(normalizer)) => file.normalizer(normalizer)?,
                _ => {}
            }
        }
        if file.pieces.is_empty() {
            return Err(Error::malformed(OPERATION, "pieces", "none"));
        }
        Ok(file)
    }

    fn piece(&mut self, message: &[u8]) -> Result<(), Error> {
        let (mut text, mut score, mut kind) = (String::new(), 0.0, token_type::NORMAL);
        for field in Fields(message) {
            match field? {
                (1, Field::Bytes(bytes)) => {
                    text = std::str::from_utf8(bytes)
                        .map_err(|e| Error::malformed(OPERATION, "UTF-8", e.to_string()))?
                        .to_owned();
                }
                (2, Field::Fixed32(bits)) => score = f32::from_bits(bits),
                (3, Field::Varint(number)) => kind = number as i32,
                _ => {}
            }
        }
        self.pieces.push(text);
        self.scores.push(score);
        self.types.push(kind);
        Ok(())
    }

    fn trainer(&mut self, message: &[u8]) -> Result<(), Error> {
        for field in Fields(message) {
            match field? {
                (3, Field::Varint(kind)) => self.model_type = kind,
                (24, Field::Varint(flag)) => self.whitespace_as_suffix = flag != 0,
                (35, Field::Varint(flag)) => self.byte_fallback = flag != 0,
                (40, Field::Varint(id)) => self.unk = id as i64,
                (41, Field::Varint(id)) => self.bos = id as i64,
                (42, Field::Varint(id)) => self.eos = id as i64,
                (43, Field::Varint(id)) => self.pad = id as i64,
                _ => {}
            }
        }
        Ok(())
    }

    fn normalizer(&mut self, message: &[u8]) -> Result<(), Error> {
        for field in Fields(message) {
            match field? {
                (2, Field::Bytes(map)) => self.charsmap = map.to_vec(),
                (3, Field::Varint(flag)) => self.add_dummy_prefix = flag != 0,
                (4, Field::Varint(flag)) => self.remove_extra_whitespaces = flag != 0,
                (5, Field::Varint(flag)) => self.escape_whitespaces = flag != 0,
                _ => {}
            }
        }
        Ok(())
    }
}

/// A value of a protocol buffer.
enum Field<'a> {
    Varint(u64),
    Fixed64,
    Bytes(&'a [u8]),
    Fixed32(u32),
}

/// The fields of a message, with their numbers.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn varint(&mut self) -> Option<u64> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let (&byte, rest) = self.0.split_first()?;
            self.0 = rest;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }

    fn field(&mut self) -> Option<(u64, Field<'a>)> {
        let tag = self.varint()?;
        let value = match tag & 7 {
            0 => Field::Varint(self.varint()?),
            1 => {
                self.0 = self.0.get(8..)?;
                Field::Fixed64
            }
            2 => {
                let len = usize::try_from(self.varint()?).ok()?;
                let (bytes, rest) = self.0.split_at_checked(len)?;
                self.0 = rest;
                Field::Bytes(bytes)
            }
            5 => {
                let (bytes, rest) = self.0.split_first_chunk::<4>()?;
                self.0 = rest;
                Field::Fixed32(u32::from_le_bytes(*bytes))
            }
            _ => return None,
        };
        Some((tag >> 3, value))
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Result<(u64, Field<'a>), Error>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let left = self.0.len();
        Some(self.field().ok_or_else(|| {
            self.0 = &[];
            Error::malformed(
                OPERATION,
                "a field of a protocol buffer",
                format!("a broken one {left} bytes before the end of its message"),
            )
        }))
    }
}
