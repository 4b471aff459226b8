//! The tokenizer: one type over all vocabularies.

use crate::{Error, GgufVocab, VocabKind};

/// What to do with the text of control tokens such as `<|im_end|>`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Special {
    /// Control tokens in the text are plain text: for anything that a stranger wrote.
    #[default]
    None,
    /// Control tokens in the text become their ids: for rendered chat templates.
    Parse,
}

/// Text to tokens and back. `Send + Sync`; share it behind an `Arc`.
#[derive(Debug)]
pub struct Tokenizer {
    kind: VocabKind,
}

#[expect(missing_docs, clippy::missing_errors_doc)]
impl Tokenizer {
    pub fn from_gguf(_v: &GgufVocab) -> Result<Self, Error> {
        Err(Error::unsupported("tokenizer", "not there yet"))
    }
    pub fn from_json(
        _tokenizer_json: &[u8],
        _tokenizer_config_json: Option<&[u8]>,
    ) -> Result<Self, Error> {
        Err(Error::unsupported("tokenizer", "not there yet"))
    }
    pub fn from_sentencepiece(_model: &[u8]) -> Result<Self, Error> {
        Err(Error::unsupported("tokenizer", "not there yet"))
    }
    pub fn from_llama2c(_bin: &[u8], _vocab_size: usize) -> Result<Self, Error> {
        Err(Error::unsupported("tokenizer", "not there yet"))
    }
    pub fn from_tiktoken(
        _ranks: &[u8],
        _pattern: &str,
        _special: &[(&str, u32)],
    ) -> Result<Self, Error> {
        Err(Error::unsupported("tokenizer", "not there yet"))
    }
    pub fn to_gguf(&self) -> GgufVocab {
        GgufVocab::default()
    }
    pub fn to_json(&self) -> String {
        String::new()
    }
    pub fn kind(&self) -> VocabKind {
        self.kind
    }
    pub fn vocab_size(&self) -> usize {
        0
    }
    pub fn encode(&self, _text: impl AsRef<[u8]>, _special: Special) -> Vec<u32> {
        Vec::new()
    }
    pub fn encode_with_start(&self, _text: impl AsRef<[u8]>, _special: Special) -> Vec<u32> {
        Vec::new()
    }
    pub fn encode_prompt(&self, _text: impl AsRef<[u8]>) -> Vec<u32> {
        Vec::new()
    }
    pub fn decode(&self, _ids: &[u32]) -> Vec<u8> {
        Vec::new()
    }
    pub fn decode_text(&self, _ids: &[u32], _skip_special: bool) -> String {
        String::new()
    }
    pub fn token_bytes(&self, _id: u32) -> &[u8] {
        &[]
    }
    pub fn token_text(&self, _id: u32) -> String {
        String::new()
    }
    pub fn token_id(&self, _text: &str) -> Option<u32> {
        None
    }
    pub fn decoder(&self) -> StreamDecoder {
        StreamDecoder::default()
    }
    pub fn bos(&self) -> Option<u32> {
        None
    }
    pub fn eos(&self) -> Option<u32> {
        None
    }
    pub fn eot(&self) -> Option<u32> {
        None
    }
    pub fn unk(&self) -> Option<u32> {
        None
    }
    pub fn pad(&self) -> Option<u32> {
        None
    }
    pub fn end_ids(&self) -> &[u32] {
        &[]
    }
    pub fn is_end(&self, _id: u32) -> bool {
        false
    }
    pub fn is_special(&self, _id: u32) -> bool {
        false
    }
    pub fn chat_template(&self) -> Option<&str> {
        None
    }
}

/// Turns a stream of ids into text, never splitting a character.
#[derive(Debug, Default)]
pub struct StreamDecoder {
    pending: Vec<u8>,
}

#[expect(missing_docs)]
impl StreamDecoder {
    pub fn push(&mut self, _id: u32) -> String {
        self.pending.clear();
        String::new()
    }
    pub fn flush(&mut self) -> String {
        String::new()
    }
}
