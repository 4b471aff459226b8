//! A vocabulary as plain data, in the words of GGUF's `tokenizer.ggml.*` metadata.

/// The algorithm behind a vocabulary.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VocabKind {
    /// SentencePiece BPE: merges by score, bytes as the fallback (GGUF `llama`).
    Spm,
    /// Byte-level BPE: merges by rank (GGUF `gpt2`), or over characters (GGUF `gemma4`).
    Bpe,
    /// Unigram language model, the best path by Viterbi (GGUF `t5`).
    Unigram,
    /// WordPiece, greedy longest match (GGUF `bert`).
    WordPiece,
    /// Whole words alone (Hugging Face `WordLevel`).
    WordLevel,
    /// RWKV's greedy trie (GGUF `rwkv`).
    Rwkv,
    /// No text: ids only (GGUF `none`, `no_vocab`).
    None,
}

/// Token types of `tokenizer.ggml.token_type`.
pub mod token_type {
    /// Ordinary text.
    pub const NORMAL: i32 = 1;
    /// The unknown token.
    pub const UNKNOWN: i32 = 2;
    /// Control: never made from text unless special tokens are parsed.
    pub const CONTROL: i32 = 3;
    /// User-defined: always matched in text, before anything else.
    pub const USER_DEFINED: i32 = 4;
    /// Reserved.
    pub const UNUSED: i32 = 5;
    /// A raw byte, written `<0xNN>`.
    pub const BYTE: i32 = 6;
}

/// What GGUF's `tokenizer.ggml.*` metadata says, as plain data.
///
/// Names follow the metadata keys; a `None` is an absent key. The file reader (another crate)
/// fills it, and [`crate::Tokenizer::to_gguf`] gives it for a writer.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct GgufVocab {
    /// `tokenizer.ggml.model`: `llama`, `gpt2`, `gemma4`, `t5`, `bert`, `rwkv`, `none`.
    pub model: String,
    /// `tokenizer.ggml.pre`: the named pre-tokenizer of a `gpt2` model.
    pub pre: Option<String>,
    /// `tokenizer.ggml.tokens`, (V).
    pub tokens: Vec<String>,
    /// `tokenizer.ggml.scores`, (V).
    pub scores: Option<Vec<f32>>,
    /// `tokenizer.ggml.token_type`, (V); see [`token_type`].
    pub token_types: Option<Vec<i32>>,
    /// `tokenizer.ggml.merges`: `left right`, in the order of their rank.
    pub merges: Option<Vec<String>>,
    /// `tokenizer.ggml.bos_token_id`.
    pub bos: Option<u32>,
    /// `tokenizer.ggml.eos_token_id`.
    pub eos: Option<u32>,
    /// `tokenizer.ggml.eot_token_id`.
    pub eot: Option<u32>,
    /// `tokenizer.ggml.eom_token_id`.
    pub eom: Option<u32>,
    /// `tokenizer.ggml.unknown_token_id`.
    pub unk: Option<u32>,
    /// `tokenizer.ggml.seperator_token_id` (spelt so in the format).
    pub sep: Option<u32>,
    /// `tokenizer.ggml.padding_token_id`.
    pub pad: Option<u32>,
    /// `tokenizer.ggml.cls_token_id`.
    pub cls: Option<u32>,
    /// `tokenizer.ggml.mask_token_id`.
    pub mask: Option<u32>,
    /// `tokenizer.ggml.fim_pre_token_id` (or the older `prefix_token_id`).
    pub fim_pre: Option<u32>,
    /// `tokenizer.ggml.fim_suf_token_id` (or the older `suffix_token_id`).
    pub fim_suf: Option<u32>,
    /// `tokenizer.ggml.fim_mid_token_id` (or the older `middle_token_id`).
    pub fim_mid: Option<u32>,
    /// `tokenizer.ggml.fim_pad_token_id`.
    pub fim_pad: Option<u32>,
    /// `tokenizer.ggml.fim_rep_token_id`.
    pub fim_rep: Option<u32>,
    /// `tokenizer.ggml.fim_sep_token_id`.
    pub fim_sep: Option<u32>,
    /// `tokenizer.ggml.add_bos_token`.
    pub add_bos: Option<bool>,
    /// `tokenizer.ggml.add_eos_token`.
    pub add_eos: Option<bool>,
    /// `tokenizer.ggml.add_sep_token`.
    pub add_sep: Option<bool>,
    /// `tokenizer.ggml.add_space_prefix`.
    pub add_space_prefix: Option<bool>,
    /// `tokenizer.ggml.remove_extra_whitespaces`.
    pub remove_extra_whitespaces: Option<bool>,
    /// `tokenizer.ggml.precompiled_charsmap`.
    pub precompiled_charsmap: Option<Vec<u8>>,
    /// `tokenizer.ggml.normalizer.lowercase` (WordPiece).
    pub lowercase: Option<bool>,
    /// `tokenizer.ggml.normalizer.strip_accents` (WordPiece).
    pub strip_accents: Option<bool>,
    /// `tokenizer.chat_template`.
    pub chat_template: Option<String>,
    /// `general.name`: Phi-3 files need it, because GGUF has no field for their strip rules.
    pub model_name: Option<String>,
}

impl GgufVocab {
    /// A copy of the small fields; the lists stay empty.
    pub(crate) fn clone_small(&self) -> GgufVocab {
        GgufVocab {
            model: self.model.clone(),
            pre: self.pre.clone(),
            tokens: Vec::new(),
            scores: None,
            token_types: None,
            merges: None,
            precompiled_charsmap: None,
            chat_template: self.chat_template.clone(),
            model_name: self.model_name.clone(),
            ..*self
        }
    }
}
