//! tiktoken's rank files: a token in base64 and its rank on each line.

use std::sync::{Arc, Mutex};

use base64::Engine;

use crate::added::{AddedToken, AddedTokens};
use crate::bpe::{Bpe, Unit, Unknown};
use crate::decode::Pieces;
use crate::gguf::MOST_TOKENS;
use crate::split::{Behavior, Pattern, PreTokenizer, Step, known_name};
use crate::symbols::{Strings, Symbols};
use crate::tokenizer::{Model, Tokenizer};
use crate::vocabulary::{GgufVocab, VocabKind, token_type};
use crate::{Error, alphabet, end};

const OPERATION: &str = "tiktoken ranks";

impl Tokenizer {
    /// Reads a tiktoken rank file, with the pattern that cuts words and the special tokens, both of
    /// which the file lacks.
    ///
    /// # Errors
    /// [`Error::Malformed`] for a line that is not a token and a rank, two tokens of one rank, or a
    /// pattern that does not parse.
    pub fn from_tiktoken(
        ranks: &[u8],
        pattern: &str,
        special: &[(&str, u32)],
    ) -> Result<Tokenizer, Error> {
        let mut tokens: Vec<Option<Vec<u8>>> = Vec::new();
        for (number, line) in ranks.split(|&byte| byte == b'\n').enumerate() {
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            if line.is_empty() {
                continue;
            }
            let malformed = || {
                Error::malformed(
                    OPERATION,
                    "a base64 token and its rank, each rank once",
                    format!("line {}: {}", number + 1, String::from_utf8_lossy(line)),
                )
            };
            let mut fields = line.split(|&byte| byte == b' ');
            let (Some(token), Some(rank), None) = (fields.next(), fields.next(), fields.next())
            else {
                return Err(malformed());
            };
            let token =
                base64::engine::general_purpose::STANDARD.decode(token).map_err(|_| malformed())?;
            let rank = std::str::from_utf8(rank).ok().and_then(|rank| rank.parse::<usize>().ok());
            let rank = rank.filter(|&rank| rank < MOST_TOKENS).ok_or_else(malformed)?;
            if rank >= tokens.len() {
                tokens.resize(rank + 1, None);
            }
            if tokens[rank].replace(token).is_some() {
                return Err(malformed());
            }
        }
        if tokens.is_empty() {
            return Err(Error::malformed(OPERATION, "tokens", "none"));
        }
        build(tokens, pattern, special)
    }
}

fn build(
    mut tokens: Vec<Option<Vec<u8>>>,
    pattern: &str,
    special: &[(&str, u32)],
) -> Result<Tokenizer, Error> {
    let mut symbols = Symbols::with_capacity(tokens.len());
    tokens.iter().for_each(|token| symbols.push(token.as_deref()));
    let mut bpe = Bpe::new(symbols, Unit::Bytes, Unknown::Nothing, true);
    bpe.merges_from_ranks();

    let mut types: Vec<i32> = tokens
        .iter()
        .map(|token| if token.is_some() { token_type::NORMAL } else { token_type::UNUSED })
        .collect();
    let mut added = Vec::new();
    for &(text, id) in special {
        let slot = id as usize;
        if slot >= MOST_TOKENS {
            return Err(Error::malformed(OPERATION, "special ids that are small", id.to_string()));
        }
        if slot >= tokens.len() {
            tokens.resize(slot + 1, None);
            types.resize(slot + 1, token_type::UNUSED);
        }
        types[slot] = token_type::CONTROL;
        added.push(AddedToken {
            id,
            text: text.as_bytes().to_vec(),
            special: true,
            lstrip: false,
            rstrip: false,
            single_word: false,
            normalized: false,
        });
    }
    let mut texts = Strings::with_capacity(tokens.len(), tokens.len() * 8);
    let mut pieces = Strings::with_capacity(tokens.len(), tokens.len() * 8);
    for (id, token) in tokens.iter().enumerate() {
        let named = special.iter().find(|&&(_, own)| own as usize == id);
        match (named, token) {
            (Some((text, _)), _) => {
                texts.push(text.as_bytes());
                pieces.push(text.as_bytes());
            }
            (None, Some(bytes)) => {
                texts.push(alphabet::to_text(bytes).as_bytes());
                pieces.push(bytes);
            }
            (None, None) => {
                texts.push(b"");
                pieces.push(b"");
            }
        }
    }
    let step = match Pattern::tiktoken(pattern)? {
        Pattern::Words(words) => Step::Words(words),
        pattern => Step::Split { pattern, behavior: Behavior::Isolated, invert: false },
    };
    let id_of = |name: &str| special.iter().find(|&&(text, _)| text == name).map(|&(_, id)| id);
    let mut meta = GgufVocab {
        model: "gpt2".into(),
        pre: known_name(&[pattern], true).map(str::to_owned),
        eos: id_of("<|endoftext|>"),
        add_bos: Some(false),
        ..GgufVocab::default()
    };
    let end_ids = end::find(&texts, &mut types, &mut meta);
    let special = types.iter().map(|&kind| kind == token_type::CONTROL).collect();
    Ok(Tokenizer {
        kind: VocabKind::Bpe,
        texts,
        types,
        scores: Vec::new(),
        pieces: Arc::new(Pieces { bytes: pieces, special, ..Pieces::default() }),
        added: AddedTokens::new(added, <[u8]>::to_vec)?,
        normalizers: Vec::new(),
        pre_tokenizer: PreTokenizer { steps: vec![step] },
        model: Model::Bpe(Box::new(bpe)),
        before: Vec::new(),
        after: Vec::new(),
        meta,
        end_ids,
        workspace: Mutex::new(None),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Special;

    const RANKS: &str = "YQ== 0\nYg== 1\nYWI= 2\nIA== 3\nIGE= 5\n";

    #[test]
    fn ranks_are_ids_and_may_have_gaps() {
        let tokenizer =
            Tokenizer::from_tiktoken(RANKS.as_bytes(), r"\S+|\s+", &[("<e>", 7)]).expect("sound");
        assert_eq!(tokenizer.vocab_size(), 8);
        assert_eq!(tokenizer.encode("ab a<e>", Special::Parse), [2, 3, 0, 7]);
        assert_eq!(tokenizer.decode(&[2, 4, 6, 5, 7, 900]), b"ab a<e>");
    }

    #[test]
    fn broken_lines_are_errors() {
        for ranks in
            ["", "YQ==", "YQ== x", "?? 1", "YQ== 1 2", "YQ== 1\nYg== 1", "YQ== 99999999999"]
        {
            assert!(Tokenizer::from_tiktoken(ranks.as_bytes(), r"\S+", &[]).is_err(), "{ranks}");
        }
        assert!(Tokenizer::from_tiktoken(RANKS.as_bytes(), "(", &[]).is_err());
        assert!(Tokenizer::from_tiktoken(RANKS.as_bytes(), "a", &[("x", u32::MAX)]).is_err());
    }
}
