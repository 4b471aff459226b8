//! # Room card: llmos-tokenizer
//!
//! **What it is.** Text to tokens and back: SentencePiece and byte-level BPE, Unigram, WordPiece,
//! their normalisers and pre-tokenizers, added tokens, streaming decode, chat templates, and the
//! training of vocabularies.
//!
//! **May touch.** Bytes and `&str` that the caller hands in; threads, in training alone.
//!
//! **Never.** Files, clocks, the network, the terminal, `unsafe`, tensors, any other crate of ours.
//!
//! **Invariants.**
//! - `encode` takes any bytes, never panics, and takes time near linear in the text.
//! - Ids are those of the vocabulary's own reference: Hugging Face tokenizers, tiktoken or
//!   SentencePiece, and llama.cpp for the rules that only GGUF has.
//! - Byte-level BPE gives back the bytes that it was given: `decode(encode(x)) == x`.
//! - A vocabulary is never trusted: a lying file is an [`Error`] or has a defined meaning.
//! - A trained vocabulary depends on the texts and the options, never on threads or a hash.
#![forbid(unsafe_code)]

mod tokenizer;
mod vocabulary;

mod added;
mod charsmap;
mod normalizer;
mod split;
mod unicode;

mod bpe;
mod merge;
mod spm;
mod symbols;
mod trie;
mod unigram;
mod wordpiece;

mod decode;
mod end;

mod alphabet;
mod gguf;
mod json;
mod llama2c;
mod sentencepiece;
mod tiktoken;

pub mod chat;
mod error;
pub mod train;

pub use decode::StreamDecoder;
pub use error::Error;
pub use tokenizer::{Special, Tokenizer};
pub use vocabulary::{GgufVocab, VocabKind, token_type};
