//! llama2.c's `tokenizer.bin`: for each token a score and its bytes, after the longest length.

use crate::tokenizer::Tokenizer;
use crate::vocabulary::{GgufVocab, token_type};
use crate::{Error, gguf};

const OPERATION: &str = "llama2.c tokenizer";

impl Tokenizer {
    /// Reads llama2.c's `tokenizer.bin` (or `tok512.bin` and the like). The file does not say how
    /// many tokens it holds: `vocab_size` is the model's.
    ///
    /// # Errors
    /// [`Error::Malformed`] where the file ends before its last token or goes on after it, or a
    /// token is no text.
    pub fn from_llama2c(bin: &[u8], vocab_size: usize) -> Result<Tokenizer, Error> {
        let ends_early = |id: usize| {
            Error::malformed(
                OPERATION,
                format!("{vocab_size} tokens"),
                format!("{} bytes, which end in token {id}", bin.len()),
            )
        };
        // Each token takes eight bytes at least, so that a lying size cannot ask for memory.
        if vocab_size < 3 || vocab_size > bin.len() / 8 {
            return Err(ends_early(bin.len() / 8));
        }
        let mut rest = bin.get(4..).ok_or_else(|| ends_early(0))?;
        let mut vocab = GgufVocab {
            model: "llama".into(),
            bos: Some(1),
            eos: Some(2),
            unk: Some(0),
            add_bos: Some(true),
            add_space_prefix: Some(true),
            ..GgufVocab::default()
        };
        let mut scores = Vec::with_capacity(vocab_size);
        let mut types = Vec::with_capacity(vocab_size);
        for id in 0..vocab_size {
            let mut word = || -> Option<[u8; 4]> {
                let (word, after) = rest.split_first_chunk::<4>()?;
                rest = after;
                Some(*word)
            };
            let score = f32::from_le_bytes(word().ok_or_else(|| ends_early(id))?);
            let len = u32::from_le_bytes(word().ok_or_else(|| ends_early(id))?) as usize;
            let (bytes, after) = rest.split_at_checked(len).ok_or_else(|| ends_early(id))?;
            rest = after;
            let text = std::str::from_utf8(bytes).map_err(|error| {
                Error::malformed(OPERATION, format!("UTF-8 in token {id}"), error.to_string())
            })?;
            // The exporter writes spaces for U+2581, and dresses the first and last token.
            let (text, kind) = match id {
                0 => ("<unk>".to_owned(), token_type::UNKNOWN),
                1 => ("<s>".to_owned(), token_type::CONTROL),
                2 => ("</s>".to_owned(), token_type::CONTROL),
                _ if gguf::byte_token(bytes).is_some() => (text.to_owned(), token_type::BYTE),
                _ => (text.replace(' ', "\u{2581}"), token_type::NORMAL),
            };
            vocab.tokens.push(text);
            scores.push(score);
            types.push(kind);
        }
        if !rest.is_empty() {
            // Its first tokens would give a text, and not the model's.
            let more = format!("{} bytes more", rest.len());
            return Err(Error::malformed(OPERATION, format!("{vocab_size} tokens"), more));
        }
        vocab.scores = Some(scores);
        vocab.token_types = Some(types);
        Tokenizer::from_gguf(&vocab)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Special;

    fn file() -> Vec<u8> {
        let tokens: [(&str, f32); 8] = [
            ("<unk>", 0.0),
            ("\n<s>\n", 0.0),
            ("\n</s>\n", 0.0),
            ("<0x41>", 0.0),
            (" ", -4.0),
            ("h", -5.0),
            ("i", -6.0),
            (" h", -1.0),
        ];
        let mut bin = 7u32.to_le_bytes().to_vec();
        for (text, score) in tokens {
            bin.extend(score.to_le_bytes());
            bin.extend((text.len() as u32).to_le_bytes());
            bin.extend(text.as_bytes());
        }
        bin
    }

    #[test]
    fn reads_what_the_exporter_writes() {
        let tokenizer = Tokenizer::from_llama2c(&file(), 8).expect("sound");
        assert_eq!(tokenizer.encode_prompt("hi A"), [1, 7, 6, 4, 3]);
        assert_eq!(tokenizer.decode(&tokenizer.encode("hi A", Special::None)), b"hi A");
        assert_eq!((tokenizer.bos(), tokenizer.eos()), (Some(1), Some(2)));
    }

    #[test]
    fn a_file_of_another_length_is_an_error() {
        let file = file();
        for cut in 0..file.len() {
            assert!(Tokenizer::from_llama2c(&file[..cut], 8).is_err(), "{cut}");
        }
        assert!(Tokenizer::from_llama2c(&file, usize::MAX).is_err());
        assert!(Tokenizer::from_llama2c(&file, 7).is_err(), "a token too many");
        assert!(Tokenizer::from_llama2c(&file, 0).is_err());
    }
}
