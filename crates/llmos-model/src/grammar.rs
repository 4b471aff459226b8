//! Grammars: which tokens may come next, by llguidance.

use std::sync::Arc;

use llguidance::api::{ParserLimits, TopLevelGrammar};
use llguidance::toktrie::{ApproximateTokEnv, TokEnv, TokRxInfo, TokTrie};
use llguidance::{Matcher, ParserFactory};

use crate::Error;

/// Longest text of a grammar, in bytes.
const MAX_SOURCE: usize = 1 << 20;

/// Deepest nesting of a schema: compiling one recurses.
const MAX_DEPTH: usize = 64;

/// The vocabulary, prepared once a model.
pub struct GrammarVocabulary {
    factory: ParserFactory,
}

/// What a text must look like.
#[derive(Clone, Debug, PartialEq)]
pub enum GrammarSource<'a> {
    /// A JSON schema; `{}` is any JSON value.
    JsonSchema(&'a str),
    /// A regular expression in Rust's syntax that the whole text matches.
    Regex(&'a str),
    /// A grammar in llguidance's variant of Lark.
    Lark(&'a str),
}

/// A grammar on its way through a text.
#[derive(Clone)]
pub struct Grammar {
    matcher: Matcher,
}

impl GrammarVocabulary {
    /// `tokens` (V) are the bytes of each token, empty for special ones; `end` may be drawn once the
    /// text is complete.
    ///
    /// # Errors
    /// [`Error::Request`] if `end` is not below V; [`Error::Grammar`] if no trie can be made.
    pub fn new(tokens: &[Vec<u8>], end: u32) -> Result<GrammarVocabulary, Error> {
        if end as usize >= tokens.len() {
            let expected = format!("an end token below {}", tokens.len());
            return Err(Error::request("grammar", expected, end));
        }
        // A leading 0xFF marks special tokens in the trie, and no text holds that byte.
        let words: Vec<Vec<u8>> = tokens
            .iter()
            .enumerate()
            .map(|(id, bytes)| {
                let plain = id != end as usize && bytes.first() != Some(&0xFF);
                if plain { bytes.clone() } else { Vec::new() }
            })
            .collect();
        let trie = TokTrie::from(&TokRxInfo::new(words.len() as u32, end), &words);
        let environment: TokEnv = Arc::new(ApproximateTokEnv::new(trie));
        let mut factory = ParserFactory::new_simple(&environment).map_err(refused)?;
        factory.quiet();
        *factory.limits_mut() = ParserLimits {
            verbose_errors: false,
            max_grammar_size: 200_000,
            max_lexer_states: 50_000,
            ..ParserLimits::default()
        };
        Ok(GrammarVocabulary { factory })
    }

    /// Compiles a grammar.
    ///
    /// # Errors
    /// [`Error::Grammar`] for what cannot be compiled within the limits.
    pub fn compile(&self, source: &GrammarSource<'_>) -> Result<Grammar, Error> {
        let (GrammarSource::JsonSchema(text)
        | GrammarSource::Regex(text)
        | GrammarSource::Lark(text)) = source;
        if text.len() > MAX_SOURCE {
            return Err(Error::Grammar(format!(
                "{} bytes, expected at most {MAX_SOURCE}",
                text.len()
            )));
        }
        if depth(text) > MAX_DEPTH {
            return Err(Error::Grammar(format!("nested deeper than {MAX_DEPTH} levels")));
        }
        let top = match source {
            GrammarSource::JsonSchema(text) => TopLevelGrammar::from_json_schema(
                serde_json::from_str(text).map_err(|error| Error::Grammar(error.to_string()))?,
            ),
            GrammarSource::Regex(text) => TopLevelGrammar::from_regex(text),
            GrammarSource::Lark(text) => TopLevelGrammar::from_lark((*text).to_owned()),
        };
        // The compiler's own panics are turned into errors inside.
        let matcher = Matcher::new(self.factory.create_parser(top));
        match matcher.get_error() {
            Some(error) => Err(Error::Grammar(error)),
            None => Ok(Grammar { matcher }),
        }
    }
}

impl Grammar {
    /// Sets the logits (V) of all tokens that may not follow to minus infinity.
    ///
    /// # Errors
    /// [`Error::Grammar`] if the grammar went beyond its limits, or a committed token broke it.
    pub fn mask(&mut self, logits: &mut [f32]) -> Result<(), Error> {
        let mask = self.matcher.compute_mask_or_eos().map_err(refused)?;
        for (word, logits) in mask.as_slice().iter().zip(logits.chunks_mut(32)) {
            for (bit, logit) in logits.iter_mut().enumerate() {
                if word >> bit & 1 == 0 {
                    *logit = f32::NEG_INFINITY;
                }
            }
        }
        let known = 32 * mask.as_slice().len();
        if let Some(rest) = logits.get_mut(known..) {
            rest.fill(f32::NEG_INFINITY);
        }
        Ok(())
    }

    /// Goes on by one token.
    ///
    /// # Errors
    /// [`Error::Grammar`] for a token that the mask ruled out; the grammar is then of no further
    /// use.
    pub fn commit(&mut self, token: u32) -> Result<(), Error> {
        self.matcher.consume_token(token).map_err(refused)
    }

    /// True if the text may end here.
    ///
    /// # Errors
    /// [`Error::Grammar`] after an earlier error.
    pub fn may_end(&mut self) -> Result<bool, Error> {
        self.matcher.is_accepting().map_err(refused)
    }

    /// True if nothing but the end token may follow.
    pub fn is_complete(&self) -> bool {
        self.matcher.is_stopped()
    }
}

fn refused(error: impl std::fmt::Display) -> Error {
    Error::Grammar(error.to_string())
}

/// The deepest nesting of brackets, those in strings included: an upper bound that needs no parser.
fn depth(text: &str) -> usize {
    let (mut depth, mut deepest) = (0usize, 0);
    for byte in text.bytes() {
        match byte {
            b'(' | b'[' | b'{' => depth += 1,
            b')' | b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        deepest = deepest.max(depth);
    }
    deepest
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Single bytes, some words, and the end token, which is the last.
    fn vocabulary() -> (Vec<Vec<u8>>, u32) {
        let mut tokens: Vec<Vec<u8>> = (0..=255u8).map(|byte| vec![byte]).collect();
        tokens.extend([&b"true"[..], b"false", b"\": ", b"12", b"ab", b"name"].map(<[u8]>::to_vec));
        tokens.push(b"</s>".to_vec());
        let end = tokens.len() as u32 - 1;
        (tokens, end)
    }

    /// The texts of the tokens that may follow `text`, given byte by byte.
    fn allowed(source: &GrammarSource<'_>, text: &str) -> Vec<String> {
        let (tokens, end) = vocabulary();
        let vocabulary = GrammarVocabulary::new(&tokens, end).unwrap();
        let mut grammar = vocabulary.compile(source).unwrap();
        for byte in text.bytes() {
            grammar.commit(u32::from(byte)).unwrap();
        }
        let mut logits = vec![0.0; tokens.len() + 3];
        grammar.mask(&mut logits).unwrap();
        assert!(logits[tokens.len()..].iter().all(|&logit| logit == f32::NEG_INFINITY));
        let open = tokens.iter().zip(&logits).filter(|(_, logit)| **logit == 0.0);
        open.map(|(token, _)| String::from_utf8_lossy(token).into_owned()).collect()
    }

    #[test]
    fn a_regular_expression_allows_what_it_matches() {
        let regex = GrammarSource::Regex("(ab|[0-9]{2})c");
        assert_eq!(
            allowed(&regex, ""),
            ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9", "a", "12", "ab"]
        );
        assert_eq!(allowed(&regex, "1"), ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"]);
        assert_eq!(allowed(&regex, "ab"), ["c"]);
        assert_eq!(allowed(&regex, "abc"), ["</s>"]);
    }

    #[test]
    fn a_schema_allows_valid_json_only() {
        let schema = GrammarSource::JsonSchema(
            r#"{"type": "object", "properties": {"name": {"type": "boolean"}},
                "required": ["name"], "additionalProperties": false}"#,
        );
        assert!(allowed(&schema, "").contains(&"{".to_owned()));
        assert!(!allowed(&schema, "").contains(&"true".to_owned()));
        let value = allowed(&schema, "{\"name\":");
        assert!(value.contains(&"true".to_owned()) && value.contains(&"f".to_owned()));
        assert!(!value.contains(&"1".to_owned()));
        assert!(allowed(&schema, "{\"name\":true}").contains(&"</s>".to_owned()));
    }

    #[test]
    fn a_lark_grammar_recurses() {
        let nested = GrammarSource::Lark("start: \"(\" start \")\" | \"x\"");
        assert_eq!(allowed(&nested, "(("), ["(", "x"]);
        assert_eq!(allowed(&nested, "((x"), [")"]);
        assert_eq!(allowed(&nested, "((x))"), ["</s>"]);
    }

    #[test]
    fn a_token_that_was_ruled_out_is_an_error() {
        let (tokens, end) = vocabulary();
        let vocabulary = GrammarVocabulary::new(&tokens, end).unwrap();
        let mut grammar = vocabulary.compile(&GrammarSource::Regex("a")).unwrap();
        assert!(grammar.commit(u32::from(b'b')).is_err());
        assert!(grammar.mask(&mut vec![0.0; tokens.len()]).is_err());
        assert!(GrammarVocabulary::new(&tokens, tokens.len() as u32).is_err());
    }

    /// Compiles and uses whatever it is given; the fuzz target's body as well.
    fn try_out(vocabulary: &GrammarVocabulary, tokens: usize, text: &str) {
        let sources = [
            GrammarSource::JsonSchema(text),
            GrammarSource::Regex(text),
            GrammarSource::Lark(text),
        ];
        for source in sources {
            let Ok(mut grammar) = vocabulary.compile(&source) else { continue };
            for _ in 0..4 {
                let mut logits = vec![0.0; tokens];
                if grammar.mask(&mut logits).is_err() {
                    break;
                }
                let open = logits.iter().rposition(|&logit| logit == 0.0);
                let Some(token) = open else { break };
                if grammar.commit(token as u32).is_err() {
                    break;
                }
            }
        }
    }

    #[test]
    fn hostile_grammars_end_in_an_error_or_a_grammar() {
        let (tokens, end) = vocabulary();
        let vocabulary = GrammarVocabulary::new(&tokens, end).unwrap();
        let nested = "[".repeat(100_000);
        let schema = "{\"items\":".repeat(5000);
        let circle = r##"{"$ref": "#"}"##;
        for text in [
            "",
            "{",
            "null",
            "3",
            "\u{0}",
            "(",
            "(a{1000}){1000}",
            "((a*)*)*b",
            "[",
            &nested,
            &schema,
            circle,
            r##"{"$ref": "https://example.com/schema"}"##,
            r#"{"type": "nothing"}"#,
            "start: start",
            "start: missing",
            "start: /(/",
            "start: \"a\"\nstart: \"b\"",
            "%%%",
            r#"{"type":"string","pattern":"(a{900}){900}"}"#,
            r#"{"enum":[]}"#,
            r#"{"allOf":[{"type":"string"},{"type":"number"}]}"#,
            "\u{10ffff}*",
            "a{4294967295}",
        ] {
            try_out(&vocabulary, tokens.len(), text);
        }
        let too_long = "a".repeat(MAX_SOURCE + 1);
        assert!(vocabulary.compile(&GrammarSource::Regex(&too_long)).is_err());
        assert!(vocabulary.compile(&GrammarSource::JsonSchema(&nested)).is_err());
    }
}
