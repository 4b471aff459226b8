//! A vocabulary from GGUF metadata, by llama.cpp's rules for what the metadata leaves open.

mod write;

use std::sync::{Arc, Mutex};

use crate::added::{AddedToken, AddedTokens};
use crate::bpe::{Bpe, Unit, Unknown};
use crate::charsmap::Charsmap;
use crate::decode::Pieces;
use crate::normalizer::{BertRule, Normalize, SentencePieceRule};
use crate::split::{Behavior, CharClass, Pattern, PreTokenizer, SPACE_MARK, Step, named};
use crate::spm::Spm;
use crate::symbols::{Strings, Symbols};
use crate::tokenizer::{Model, Tokenizer};
use crate::trie::Trie;
use crate::unigram::Unigram;
use crate::vocabulary::{GgufVocab, VocabKind, token_type};
use crate::wordpiece::{Greedy, WordPiece};
use crate::{Error, alphabet, end};

const OPERATION: &str = "vocabulary metadata";

/// More tokens than this are a lie: the largest vocabularies have a few hundred thousand.
pub(crate) const MOST_TOKENS: usize = 1 << 24;

impl Tokenizer {
    /// Builds a tokenizer from what a GGUF file's metadata says.
    ///
    /// # Errors
    /// [`Error::Unsupported`] for an unknown model or pre-tokenizer name, [`Error::Malformed`] for
    /// lists of the wrong length, a model without merges, or a broken character map.
    pub fn from_gguf(vocab: &GgufVocab) -> Result<Tokenizer, Error> {
        let kind = match vocab.model.as_str() {
            "llama" => VocabKind::Spm,
            "gpt2" | "gemma4" => VocabKind::Bpe,
            "t5" => VocabKind::Unigram,
            "bert" => VocabKind::WordPiece,
            "rwkv" => VocabKind::Rwkv,
            "none" | "no_vocab" => VocabKind::None,
            other => return Err(Error::unsupported("tokenizer model", format!("`{other}`"))),
        };
        check_lengths(vocab, kind)?;
        let mut loading = Loading::new(vocab, kind);
        loading.default_ids();
        let end_ids = end::find(&loading.texts, &mut loading.types, &mut loading.meta);
        let mut parts = loading.model(vocab)?;
        let added = loading.added_tokens(&parts.normalizers)?;
        let (before, after) = loading.around(parts.add_bos);
        parts.pieces.special = loading.special();
        Ok(Tokenizer {
            kind: loading.kind,
            texts: loading.texts,
            types: loading.types,
            scores: vocab.scores.clone().unwrap_or_default(),
            pieces: Arc::new(parts.pieces),
            added,
            normalizers: parts.normalizers,
            pre_tokenizer: parts.pre_tokenizer,
            model: parts.model,
            before,
            after,
            meta: loading.meta,
            end_ids,
            workspace: Mutex::new(None),
        })
    }
}

fn check_lengths(vocab: &GgufVocab, kind: VocabKind) -> Result<(), Error> {
    let count = vocab.tokens.len();
    if count == 0 && kind != VocabKind::None {
        return Err(Error::malformed(OPERATION, "tokens", "none"));
    }
    if count > MOST_TOKENS {
        return Err(Error::malformed(
            OPERATION,
            format!("at most {MOST_TOKENS} tokens"),
            count.to_string(),
        ));
    }
    let lengths = [
        ("scores", vocab.scores.as_ref().map(Vec::len)),
        ("token types", vocab.token_types.as_ref().map(Vec::len)),
    ];
    for (name, len) in lengths {
        if let Some(len) = len.filter(|&len| len < count) {
            return Err(Error::malformed(
                OPERATION,
                format!("{count} {name}, one a token"),
                len.to_string(),
            ));
        }
    }
    Ok(())
}

/// A vocabulary on its way from metadata to a tokenizer.
struct Loading {
    kind: VocabKind,
    texts: Strings,
    types: Vec<i32>,
    meta: GgufVocab,
}

/// What depends on the kind of model.
struct Parts {
    model: Model,
    normalizers: Vec<Normalize>,
    pre_tokenizer: PreTokenizer,
    pieces: Pieces,
    /// `add_bos` where the file does not say.
    add_bos: bool,
}

impl Loading {
    fn new(vocab: &GgufVocab, kind: VocabKind) -> Loading {
        let bytes = vocab.tokens.iter().map(String::len).sum();
        let mut texts = Strings::with_capacity(vocab.tokens.len(), bytes);
        vocab.tokens.iter().for_each(|token| texts.push(token.as_bytes()));
        let types = match &vocab.token_types {
            Some(types) => types[..vocab.tokens.len()].to_vec(),
            None => vec![token_type::NORMAL; vocab.tokens.len()],
        };
        Loading { kind, texts, types, meta: vocab.clone_small() }
    }

    /// Fills in the special ids that the kind of model has by convention, and drops those that are
    /// outside the vocabulary.
    fn default_ids(&mut self) {
        let size = self.texts.len();
        let meta = &mut self.meta;
        let inside = |id: Option<u32>| id.filter(|&id| (id as usize) < size);
        let or = |id: &mut Option<u32>, default: u32| {
            *id = inside(*id).or_else(|| inside(Some(default)));
        };
        match self.kind {
            VocabKind::Spm => {
                or(&mut meta.bos, 1);
                or(&mut meta.eos, 2);
                or(&mut meta.unk, 0);
            }
            VocabKind::WordPiece => {
                meta.bos = meta.bos.or(meta.cls);
                or(&mut meta.bos, 101);
                or(&mut meta.unk, 100);
                or(&mut meta.sep, 102);
                or(&mut meta.pad, 0);
                or(&mut meta.mask, 103);
            }
            VocabKind::Unigram => {
                or(&mut meta.eos, 1);
                or(&mut meta.unk, 2);
                or(&mut meta.pad, 0);
            }
            // Falcon's end of text; in other vocabularies that id is an ordinary piece, and a
            // model without a start token has none.
            VocabKind::Bpe
                if meta.model == "gpt2" && self.types.get(11) == Some(&token_type::CONTROL) =>
            {
                or(&mut meta.eos, 11);
                if !matches!(meta.pre.as_deref(), Some("chatglm-bpe" | "glm4" | "glm5")) {
                    or(&mut meta.bos, 11);
                }
            }
            _ => {}
        }
        for id in [
            &mut meta.bos,
            &mut meta.eos,
            &mut meta.eot,
            &mut meta.eom,
            &mut meta.unk,
            &mut meta.sep,
            &mut meta.pad,
            &mut meta.cls,
            &mut meta.mask,
            &mut meta.fim_pre,
            &mut meta.fim_suf,
            &mut meta.fim_mid,
            &mut meta.fim_pad,
            &mut meta.fim_rep,
            &mut meta.fim_sep,
        ] {
            *id = inside(*id);
        }
    }

    fn special(&self) -> Vec<bool> {
        self.types
            .iter()
            .map(|&kind| matches!(kind, token_type::CONTROL | token_type::UNKNOWN))
            .collect()
    }

    fn is_added(&self, id: usize) -> bool {
        matches!(
            self.types[id],
            token_type::CONTROL | token_type::USER_DEFINED | token_type::UNKNOWN
        )
    }

    /// The tokens that are found in a text before the model sees it, with the strip rules that GGUF
    /// has no field for.
    fn added_tokens(&self, normalizers: &[Normalize]) -> Result<AddedTokens, Error> {
        let name = self.meta.model_name.as_deref().unwrap_or("").to_lowercase();
        let phi3 = name.contains("phi-3") || name.contains("phi3");
        let lstrip_mask = match self.meta.pre.as_deref() {
            Some(pre) if pre.starts_with("jina-v2-") => "<mask>",
            _ if name.contains("modern-bert") => "[MASK]",
            _ => "",
        };
        let list = self
            .texts
            .iter()
            .enumerate()
            .filter(|&(id, text)| self.is_added(id) && !text.is_empty())
            .map(|(id, text)| AddedToken {
                id: id as u32,
                text: text.to_vec(),
                special: self.types[id] != token_type::USER_DEFINED,
                lstrip: text == lstrip_mask.as_bytes(),
                rstrip: phi3 && !matches!(text, b"<unk>" | b"<s>" | b"<|endoftext|>"),
                single_word: false,
                normalized: false,
            })
            .collect();
        AddedTokens::new(list, |text| crate::normalizer::normalize(normalizers, text).into_owned())
    }

    /// The tokens that stand around every text.
    fn around(&mut self, default_add_bos: bool) -> (Vec<u32>, Vec<u32>) {
        let gemma4 =
            matches!(self.meta.pre.as_deref(), Some("gemma4" | "granite-embed-multi-311m"))
                || self.meta.model == "gemma4";
        let add_bos = self.meta.add_bos.unwrap_or(default_add_bos) || gemma4;
        let meta = &self.meta;
        let (before, after) = match self.kind {
            VocabKind::WordPiece => (meta.bos, meta.sep),
            VocabKind::Rwkv | VocabKind::None => (None, None),
            kind => {
                let add_eos = meta.add_eos.unwrap_or(kind == VocabKind::Unigram);
                (meta.bos.filter(|_| add_bos), meta.eos.filter(|_| add_eos))
            }
        };
        (before.into_iter().collect(), after.into_iter().collect())
    }

    /// The tokens that text may make, by id.
    fn symbols(&self, bytes: impl Fn(usize, &[u8]) -> Option<Vec<u8>>) -> Symbols {
        let mut symbols = Symbols::with_capacity(self.texts.len());
        for (id, text) in self.texts.iter().enumerate() {
            let bytes = bytes(id, text);
            symbols.push(bytes.as_deref().filter(|bytes| !bytes.is_empty()));
        }
        symbols
    }

    fn model(&mut self, vocab: &GgufVocab) -> Result<Parts, Error> {
        match self.kind {
            VocabKind::Spm => Ok(self.spm(vocab)),
            VocabKind::Bpe => self.bpe(vocab),
            VocabKind::Unigram => self.unigram(vocab),
            VocabKind::WordPiece => Ok(self.wordpiece()),
            VocabKind::Rwkv => Ok(self.rwkv()),
            VocabKind::WordLevel | VocabKind::None => Ok(Parts {
                model: Model::None,
                normalizers: Vec::new(),
                pre_tokenizer: PreTokenizer::default(),
                pieces: Pieces { bytes: self.texts.clone(), ..Pieces::default() },
                add_bos: false,
            }),
        }
    }

    fn spm(&self, vocab: &GgufVocab) -> Parts {
        let mergeable: Vec<bool> = self
            .types
            .iter()
            .map(|&kind| {
                !matches!(kind, token_type::CONTROL | token_type::UNKNOWN | token_type::BYTE)
            })
            .collect();
        let symbols = self.symbols(|_, text| Some(text.to_vec()));
        let scores = vocab.scores.as_deref().unwrap_or(&[]);
        let add_space_prefix = self.meta.add_space_prefix.unwrap_or(true);
        let mut normalizers = Vec::new();
        if add_space_prefix {
            normalizers.push(Normalize::Prepend(SPACE_MARK.to_vec()));
        }
        normalizers.push(Normalize::Replace {
            pattern: Pattern::Literal(b" ".to_vec()),
            content: SPACE_MARK.to_vec(),
        });
        Parts {
            model: Model::Spm(Box::new(Spm::new(symbols, scores, &mergeable, self.meta.unk))),
            normalizers,
            pre_tokenizer: PreTokenizer::default(),
            pieces: Pieces {
                bytes: self.marked_pieces(),
                strip_first_space: add_space_prefix,
                ..Pieces::default()
            },
            add_bos: true,
        }
    }

    fn bpe(&self, vocab: &GgufVocab) -> Result<Parts, Error> {
        let name = match self.meta.model.as_str() {
            "gemma4" => "gemma4",
            _ => self.meta.pre.as_deref().unwrap_or(""),
        };
        let named = named(name)?;
        let unit = if named.characters { Unit::Chars } else { Unit::Bytes };
        let to_bytes = |text: &str| match unit {
            Unit::Bytes => alphabet::to_bytes(text),
            Unit::Chars => Some(text.as_bytes().to_vec()),
        };
        let symbols = self.symbols(|id, _| to_bytes(&vocab.tokens[id]));
        let mut bpe = Bpe::new(symbols, unit, Unknown::Nothing, named.ignore_merges);
        match &vocab.merges {
            Some(merges) => {
                bpe.reserve(merges.len());
                for merge in merges {
                    let cut = merge.char_indices().skip(1).find(|&(_, c)| c == ' ');
                    if let Some((cut, _)) = cut
                        && let Some(left) = to_bytes(&merge[..cut])
                        && let Some(right) = to_bytes(&merge[cut + 1..])
                    {
                        bpe.push_merge(&left, &right, false);
                    } else {
                        bpe.skip_rank();
                    }
                }
            }
            None if name == "kimi-k2" => bpe.merges_from_ranks(),
            None => return Err(Error::malformed(OPERATION, "merges", "none")),
        }
        let mut normalizers = Vec::new();
        if named.characters && name != "whitespace" {
            normalizers.push(Normalize::Replace {
                pattern: Pattern::Literal(b" ".to_vec()),
                content: SPACE_MARK.to_vec(),
            });
        }
        if matches!(name, "gemma4" | "granite-embed-multi-311m") {
            bpe.whole_newlines = true;
        }
        let mut pre_tokenizer = named.pre_tokenizer;
        if unit == Unit::Chars && bpe.words_apart() {
            pre_tokenizer.steps.push(Step::SpaceMarks);
        }
        let bytes = match unit {
            Unit::Chars => self.marked_pieces(),
            Unit::Bytes => {
                let mut pieces = Strings::with_capacity(self.texts.len(), self.texts.len() * 8);
                for (id, token) in vocab.tokens.iter().enumerate() {
                    match alphabet::to_bytes(token).filter(|_| !self.is_added(id)) {
                        Some(bytes) => pieces.push(&bytes),
                        None => pieces.push(token.as_bytes()),
                    }
                }
                pieces
            }
        };
        Ok(Parts {
            model: Model::Bpe(Box::new(bpe)),
            normalizers,
            pre_tokenizer,
            pieces: Pieces { bytes, ..Pieces::default() },
            add_bos: named.add_bos,
        })
    }

    fn unigram(&self, vocab: &GgufVocab) -> Result<Parts, Error> {
        let charsmap = match vocab.precompiled_charsmap.as_deref() {
            Some(blob) if !blob.is_empty() => Some(Charsmap::new(blob)?),
            _ => None,
        };
        let given = vocab.scores.as_deref().unwrap_or(&[]);
        let scores: Vec<f64> = (0..self.texts.len())
            .map(|id| match self.types[id] {
                token_type::USER_DEFINED => 0.0,
                _ => f64::from(given.get(id).copied().unwrap_or(0.0)),
            })
            .collect();
        let floor = (0..self.texts.len())
            .filter(|&id| self.types[id] == token_type::NORMAL)
            .map(|id| scores[id])
            .fold(f64::from(f32::MAX), f64::min);
        let tokens = |wanted: fn(i32) -> bool| {
            self.texts.iter().zip(0..).filter(move |&(_, id)| wanted(self.types[id as usize]))
        };
        let user_defined = |kind| kind == token_type::USER_DEFINED;
        let in_text = |kind| {
            matches!(kind, token_type::NORMAL | token_type::USER_DEFINED | token_type::UNUSED)
        };
        let add_space_prefix = self.meta.add_space_prefix.unwrap_or(true);
        let rule = SentencePieceRule {
            charsmap,
            add_dummy_prefix: add_space_prefix,
            remove_extra_whitespaces: self.meta.remove_extra_whitespaces.unwrap_or(false),
            escape_whitespaces: true,
            whitespace_as_suffix: false,
            user_defined: Some(Trie::new(tokens(user_defined))),
        };
        let unigram = Unigram::new(tokens(in_text), scores, floor, self.meta.unk, None, false);
        Ok(Parts {
            model: Model::Unigram(unigram),
            normalizers: vec![Normalize::SentencePiece(Box::new(rule))],
            pre_tokenizer: PreTokenizer::default(),
            pieces: Pieces {
                bytes: self.marked_pieces(),
                strip_first_space: add_space_prefix,
                ..Pieces::default()
            },
            add_bos: false,
        })
    }

    fn wordpiece(&self) -> Parts {
        let words = |opening: bool| {
            self.texts.iter().zip(0..).filter(|&(_, id)| !self.is_added(id as usize)).filter_map(
                move |(text, id)| match (text.strip_prefix(SPACE_MARK), opening) {
                    (Some(word), true) => Some((word, id)),
                    (None, false) => Some((text, id)),
                    _ => None,
                },
            )
        };
        let lowercase = self.meta.lowercase.unwrap_or(true);
        let rule = BertRule {
            clean_text: true,
            handle_chinese_chars: true,
            strip_accents: self.meta.strip_accents.unwrap_or(lowercase),
            lowercase,
        };
        let pieces = WordPiece::new(words(true), words(false), self.meta.unk, usize::MAX);
        Parts {
            model: Model::WordPiece(pieces),
            normalizers: vec![Normalize::Bert(rule)],
            pre_tokenizer: bert_pre_tokenizer(),
            pieces: Pieces {
                bytes: self.marked_pieces(),
                strip_first_space: true,
                cleanup: true,
                ..Pieces::default()
            },
            add_bos: true,
        }
    }

    fn rwkv(&mut self) -> Parts {
        let mut bytes = Strings::with_capacity(self.texts.len(), self.texts.len() * 8);
        self.texts.iter().for_each(|text| bytes.push(&unescape_rwkv(text)));
        if self.meta.unk.is_none() && are_characters(&bytes, &self.types) {
            // The longest of tokens of one character is that character: BPE without merges, which
            // other formats can hold too.
            self.kind = VocabKind::Bpe;
            self.texts = bytes.clone();
        }
        let model = if self.kind == VocabKind::Bpe {
            let is_used = |id: usize| self.types[id] == token_type::NORMAL;
            let symbols = self.symbols(|id, text| is_used(id).then(|| text.to_vec()));
            Model::Bpe(Box::new(Bpe::new(symbols, Unit::Chars, Unknown::Nothing, false)))
        } else {
            Model::Greedy(Greedy::new(bytes.iter().zip(0..), self.meta.unk))
        };
        Parts {
            model,
            normalizers: Vec::new(),
            pre_tokenizer: PreTokenizer::default(),
            pieces: Pieces { bytes, ..Pieces::default() },
            add_bos: false,
        }
    }

    /// The bytes of tokens that write spaces as U+2581 and raw bytes as `<0xNN>`.
    fn marked_pieces(&self) -> Strings {
        let mut pieces = Strings::with_capacity(self.texts.len(), self.texts.len() * 8);
        for (id, text) in self.texts.iter().enumerate() {
            match byte_token(text) {
                _ if self.is_added(id) && self.kind == VocabKind::WordPiece => {
                    pieces.push(&[b" ", text].concat());
                }
                _ if self.is_added(id) && self.types[id] != token_type::USER_DEFINED => {
                    pieces.push(text);
                }
                _ if self.is_added(id) && self.kind == VocabKind::Bpe => pieces.push(text),
                Some(byte) => pieces.push(&[byte]),
                None => pieces.push(&unmark(text)),
            }
        }
        pieces
    }
}

/// BERT's pre-tokenizer: cut at white space, punctuation apart.
pub(crate) fn bert_pre_tokenizer() -> PreTokenizer {
    let split =
        |class, behavior| Step::Split { pattern: Pattern::Class(class), behavior, invert: false };
    PreTokenizer {
        steps: vec![
            split(CharClass::Space, Behavior::Removed),
            split(CharClass::Punctuation, Behavior::Isolated),
        ],
    }
}

/// The byte that a token `<0xNN>` stands for.
pub(crate) fn byte_token(text: &[u8]) -> Option<u8> {
    let digits = text.strip_prefix(b"<0x")?.strip_suffix(b">")?;
    let digits = std::str::from_utf8(digits).ok().filter(|digits| digits.len() == 2)?;
    if !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return None;
    }
    u8::from_str_radix(digits, 16).ok()
}

/// A token's text with U+2581 back to spaces.
pub(crate) fn unmark(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some(&byte) = rest.first() {
        match rest.strip_prefix(SPACE_MARK) {
            Some(after) => {
                out.push(b' ');
                rest = after;
            }
            None => {
                out.push(byte);
                rest = &rest[1..];
            }
        }
    }
    out
}

/// Whether each token in use is one character, as ordinary text.
pub(crate) fn are_characters(texts: &Strings, types: &[i32]) -> bool {
    texts.iter().zip(types).all(|(text, &kind)| match kind {
        token_type::UNUSED => true,
        token_type::NORMAL => std::str::from_utf8(text).is_ok_and(|text| text.chars().count() == 1),
        _ => false,
    })
}

/// The bytes of an RWKV token, which is written with Python's escapes.
fn unescape_rwkv(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.iter().copied();
    while let Some(byte) = rest.next() {
        if byte != b'\\' {
            out.push(byte);
            continue;
        }
        match rest.next() {
            Some(b't') => out.push(b'\t'),
            Some(b'n') => out.push(b'\n'),
            Some(b'r') => out.push(b'\r'),
            Some(b'x') => {
                let mut digit = || rest.next().and_then(|b| char::from(b).to_digit(16));
                if let (Some(high), Some(low)) = (digit(), digit()) {
                    out.push((high << 4 | low) as u8);
                }
            }
            Some(other) => out.push(other),
            None => {}
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn written_forms_of_tokens() {
        assert_eq!(byte_token(b"<0x0A>"), Some(10));
        assert_eq!(byte_token(b"<0x+A>"), None);
        assert_eq!(byte_token(b"<0x0A"), None);
        assert_eq!(unmark("▁a▁▁b".as_bytes()), b" a  b");
        assert_eq!(unescape_rwkv(br"a\n\x00\xff\\\'"), b"a\n\x00\xff\\'");
        assert_eq!(unescape_rwkv(br"\x"), b"");
    }
}
