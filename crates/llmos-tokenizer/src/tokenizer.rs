//! The tokenizer: one type over all vocabularies.

use std::sync::{Arc, Mutex};

use crate::added::{AddedTokens, Fragment};
use crate::bpe::Bpe;
use crate::decode::{Pieces, StreamDecoder};
use crate::merge::{Scratch, WordCache};
use crate::normalizer::{Normalize, normalize};
use crate::split::PreTokenizer;
use crate::spm::Spm;
use crate::symbols::Strings;
use crate::unigram::Unigram;
use crate::vocabulary::{GgufVocab, VocabKind};
use crate::wordpiece::{Greedy, WordLevel, WordPiece};

/// What to do with the text of control tokens such as `<|im_end|>`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Special {
    /// Control tokens in the text are plain text: for anything that a stranger wrote.
    #[default]
    None,
    /// Control tokens in the text become their ids: for rendered chat templates.
    Parse,
}

/// The algorithm with its tables.
#[derive(Debug)]
pub(crate) enum Model {
    Bpe(Box<Bpe>),
    Spm(Box<Spm>),
    Unigram(Unigram),
    WordPiece(WordPiece),
    WordLevel(WordLevel),
    Greedy(Greedy),
    None,
}

/// Text to tokens and back. `Send + Sync`; share it behind an `Arc`.
///
/// Made by [`Tokenizer::from_gguf`], [`Tokenizer::from_json`], [`Tokenizer::from_sentencepiece`],
/// [`Tokenizer::from_llama2c`] or [`Tokenizer::from_tiktoken`].
#[derive(Debug)]
pub struct Tokenizer {
    pub(crate) kind: VocabKind,
    /// Each token as its vocabulary writes it, (V).
    pub(crate) texts: Strings,
    /// [`token_type`] of each token, (V).
    pub(crate) types: Vec<i32>,
    /// Score of each token, (V); empty where the kind has none.
    pub(crate) scores: Vec<f32>,
    pub(crate) pieces: Arc<Pieces>,
    pub(crate) added: AddedTokens,
    pub(crate) normalizers: Vec<Normalize>,
    pub(crate) pre_tokenizer: PreTokenizer,
    pub(crate) model: Model,
    /// What the model's own rule puts before and after a text.
    pub(crate) before: Vec<u32>,
    pub(crate) after: Vec<u32>,
    /// All the small fields of the vocabulary; the lists stay empty.
    pub(crate) meta: GgufVocab,
    /// Tokens that end a generation, sorted.
    pub(crate) end_ids: Vec<u32>,
    /// Buffers and the memory of words, taken by whoever encodes first.
    pub(crate) workspace: Mutex<Option<Box<Workspace>>>,
}

/// What one encoding works with.
#[derive(Debug, Default)]
pub(crate) struct Workspace {
    scratch: Scratch,
    cache: WordCache,
}

/// Longest stretch of text encoded in one go; places in it are 32-bit numbers.
const STRETCH: usize = 1 << 30;

impl Tokenizer {
    /// The algorithm.
    pub fn kind(&self) -> VocabKind {
        self.kind
    }

    /// Number of ids, gaps included: every id that encoding gives is below it.
    pub fn vocab_size(&self) -> usize {
        self.texts.len()
    }

    /// The ids of `text`, with nothing added before or after. The text may be any bytes.
    pub fn encode(&self, text: impl AsRef<[u8]>, special: Special) -> Vec<u32> {
        let text = text.as_ref();
        let mut ids = Vec::with_capacity(text.len() / 3 + 4);
        self.encode_into(text, special, &mut ids);
        ids
    }

    /// As [`Tokenizer::encode`], between the tokens that the model's own rule puts around a text
    /// (`add_bos`, `add_eos`, the post-processor's template). A text that brings its own start
    /// token is not given a second one.
    pub fn encode_with_start(&self, text: impl AsRef<[u8]>, special: Special) -> Vec<u32> {
        let text = text.as_ref();
        let mut ids = Vec::with_capacity(text.len() / 3 + 4);
        ids.extend_from_slice(&self.before);
        self.encode_into(text, special, &mut ids);
        let start = self.before.len();
        let own_start = start > 0 && ids[start..].starts_with(&self.before);
        let own_end = ids[start..].ends_with(&self.after);
        if own_start {
            ids.drain(..start);
        }
        if !own_end {
            ids.extend_from_slice(&self.after);
        }
        ids
    }

    /// A prompt: control tokens in it are parsed, and the model's start-token rule is applied.
    pub fn encode_prompt(&self, text: impl AsRef<[u8]>) -> Vec<u32> {
        self.encode_with_start(text, Special::Parse)
    }

    fn encode_into(&self, text: &[u8], special: Special, ids: &mut Vec<u32>) {
        let spare = self.workspace.try_lock().ok().and_then(|mut slot| slot.take());
        let mut workspace = spare.unwrap_or_default();
        let mut offset = 0;
        for stretch in text.chunks(STRETCH) {
            self.added.split(stretch, false, special, |fragment| match fragment {
                Fragment::Token(id) => ids.push(id),
                Fragment::Text(from, to) => {
                    let at_start = offset + from == 0;
                    self.encode_text(&stretch[from..to], at_start, special, &mut workspace, ids);
                }
            });
            offset += stretch.len();
        }
        if let Ok(mut slot) = self.workspace.try_lock() {
            *slot = Some(workspace);
        }
    }

    fn encode_text(
        &self,
        text: &[u8],
        at_start: bool,
        special: Special,
        workspace: &mut Workspace,
        ids: &mut Vec<u32>,
    ) {
        let text = normalize(&self.normalizers, text);
        self.added.split(&text, true, special, |fragment| match fragment {
            Fragment::Token(id) => ids.push(id),
            Fragment::Text(from, to) => {
                let (text, at_start) = (&text[from..to], at_start && from == 0);
                let Workspace { scratch, cache } = &mut *workspace;
                let pre = &self.pre_tokenizer;
                match &self.model {
                    Model::Bpe(bpe) => {
                        pre.split(text, at_start, |word| {
                            bpe.encode_word(word, scratch, cache, ids)
                        });
                    }
                    Model::Spm(spm) => {
                        pre.split(text, at_start, |part| spm.encode(part, scratch, cache, ids));
                    }
                    Model::Unigram(unigram) => {
                        pre.split(text, at_start, |part| unigram.encode(part, ids));
                    }
                    Model::WordPiece(pieces) => {
                        pre.split(text, at_start, |word| pieces.encode_word(word, ids));
                    }
                    Model::WordLevel(words) => {
                        pre.split(text, at_start, |word| words.encode_word(word, ids));
                    }
                    Model::Greedy(greedy) => {
                        pre.split(text, at_start, |part| greedy.encode(part, ids));
                    }
                    Model::None => {}
                }
            }
        });
    }

    /// The bytes of a whole text, control tokens included. The space that encoding puts before a
    /// text is taken off again. Ids outside the vocabulary give nothing.
    pub fn decode(&self, ids: &[u32]) -> Vec<u8> {
        self.pieces.decode(ids, false)
    }

    /// As [`Tokenizer::decode`], as text: what is no UTF-8 becomes U+FFFD.
    pub fn decode_text(&self, ids: &[u32], skip_special: bool) -> String {
        let bytes = self.pieces.decode(ids, skip_special);
        String::from_utf8(bytes)
            .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
    }

    /// A decoder of a stream of ids.
    pub fn decoder(&self) -> StreamDecoder {
        StreamDecoder::new(self.pieces.clone())
    }

    /// The bytes that one token stands for in the middle of a text; empty for an unknown id.
    pub fn token_bytes(&self, id: u32) -> &[u8] {
        self.pieces.bytes.get(id)
    }

    /// [`Tokenizer::token_bytes`] for people: what is no UTF-8 is written `\xNN`.
    pub fn token_text(&self, id: u32) -> String {
        let mut text = String::new();
        for chunk in self.token_bytes(id).utf8_chunks() {
            text.push_str(chunk.valid());
            for byte in chunk.invalid() {
                text.push_str(&format!("\\x{byte:02X}"));
            }
        }
        text
    }

    /// The token as the vocabulary writes it (`Ġthe`, `▁the`, `<0x0A>`); empty for an unknown id.
    pub fn token_name(&self, id: u32) -> String {
        String::from_utf8_lossy(self.texts.get(id)).into_owned()
    }

    /// The id of a token as the vocabulary writes it, such as `<|im_end|>`. Walks the vocabulary.
    pub fn token_id(&self, name: &str) -> Option<u32> {
        if name.is_empty() {
            return None;
        }
        self.texts.iter().position(|text| text == name.as_bytes()).map(|id| id as u32)
    }

    /// The token that begins a text.
    pub fn bos(&self) -> Option<u32> {
        self.meta.bos
    }

    /// The token that ends a text.
    pub fn eos(&self) -> Option<u32> {
        self.meta.eos
    }

    /// The token that ends a turn of a conversation.
    pub fn eot(&self) -> Option<u32> {
        self.meta.eot
    }

    /// The unknown token.
    pub fn unk(&self) -> Option<u32> {
        self.meta.unk
    }

    /// The padding token.
    pub fn pad(&self) -> Option<u32> {
        self.meta.pad
    }

    /// All tokens that end a generation, sorted: the end of a text, a turn or a message.
    pub fn end_ids(&self) -> &[u32] {
        &self.end_ids
    }

    /// Bytes of a text that its ids do not express: characters that the vocabulary lacks. WordPiece and
    /// word lists leave out spaces by design, and are not asked.
    pub fn n_lost(&self, text: impl AsRef<[u8]>, ids: &[u32]) -> usize {
        if matches!(self.kind, VocabKind::WordPiece | VocabKind::WordLevel) {
            return 0;
        }
        let unknown = self.unk();
        let expressed = ids.iter().filter(|&&id| Some(id) != unknown);
        let expressed: usize = expressed.map(|&id| self.token_bytes(id).len()).sum();
        text.as_ref().len().saturating_sub(expressed)
    }

    /// Whether a generation ends at this token.
    pub fn is_end(&self, id: u32) -> bool {
        self.end_ids.binary_search(&id).is_ok()
    }

    /// Whether this is a control token, which is no part of the text.
    pub fn is_special(&self, id: u32) -> bool {
        self.pieces.is_special(id)
    }

    /// The tokens that the model's own rule puts before a text.
    pub fn start_ids(&self) -> &[u32] {
        &self.before
    }

    /// The chat template, if the vocabulary came with one.
    pub fn chat_template(&self) -> Option<&str> {
        self.meta.chat_template.as_deref()
    }

    /// A copy of the small fields: everything but tokens, scores, types and merges.
    pub fn metadata(&self) -> &GgufVocab {
        &self.meta
    }

    /// Adds tokens that end a generation, such as those of `generation_config.json`.
    pub fn add_end_ids(&mut self, ids: impl IntoIterator<Item = u32>) {
        let size = self.vocab_size();
        self.end_ids.extend(ids.into_iter().filter(|&id| (id as usize) < size));
        self.end_ids.sort_unstable();
        self.end_ids.dedup();
    }
}
