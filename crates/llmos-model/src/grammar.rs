//! Grammars: which tokens may come next, by llguidance.

use std::sync::Arc;

use llguidance::api::{ParserLimits, TopLevelGrammar};
use llguidance::toktrie::{ApproximateTokEnv, TokEnv, TokRxInfo, TokTrie};
use llguidance::{Matcher, ParserFactory};
use serde_json::{Map, Value};

use crate::Error;

/// Longest texts of grammars, in bytes. Compiling takes time and memory with the square of the
/// length at worst: at these limits some 4 seconds (a schema of properties) and 300 MB (optional
/// letters), measured on one core.
const MAX_REGEX: usize = 16 << 10;
const MAX_LARK: usize = 24 << 10;
const MAX_SCHEMA: usize = 64 << 10;

/// Stack of the compiler, for each byte of the text: it follows chains of rules and of references
/// by recursion, at up to 8 KiB for each; the shortest rule, `a:b`, takes 4 KiB. Only what is used
/// is ever committed.
const STACK_FACTOR: usize = 2 << 10;

/// Stack of the compiler for the shortest text.
const MIN_STACK: usize = 8 << 20;

/// Deepest nesting of a schema: compiling one recurses.
const MAX_DEPTH: usize = 64;

/// Most expressions that one text may have to match at once: the patterns of a schema with `allOf`, the
/// `&` of a Lark grammar. Whether anything matches them all is found out in time with the cube of their
/// number: 0.1 seconds for 40, 0.9 for 80, more than a minute for 200, measured on one core.
const MAX_TOGETHER: usize = 40;

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
        let (text, most) = match source {
            GrammarSource::JsonSchema(text) => (text, MAX_SCHEMA),
            GrammarSource::Regex(text) => (text, MAX_REGEX),
            GrammarSource::Lark(text) => (text, MAX_LARK),
        };
        if text.len() > most {
            return Err(Error::Grammar(format!("{} bytes, expected at most {most}", text.len())));
        }
        if depth(text) > MAX_DEPTH {
            return Err(Error::Grammar(format!("nested deeper than {MAX_DEPTH} levels")));
        }
        let together = together(source);
        if together > MAX_TOGETHER {
            return Err(Error::Grammar(format!(
                "{together} expressions that hold at once, expected at most {MAX_TOGETHER}"
            )));
        }
        std::thread::scope(|scope| {
            std::thread::Builder::new()
                .stack_size(MIN_STACK + STACK_FACTOR * text.len())
                .spawn_scoped(scope, || self.compile_here(source))
                .map_err(refused)?
                .join()
                .unwrap_or_else(|_| Err(Error::Grammar("the compiler panicked".to_owned())))
        })
    }

    /// Compiles on the calling thread's stack.
    fn compile_here(&self, source: &GrammarSource<'_>) -> Result<Grammar, Error> {
        let top = match source {
            GrammarSource::JsonSchema(text) => {
                TopLevelGrammar::from_json_schema(serde_json::from_str(text).map_err(refused)?)
            }
            GrammarSource::Regex(text) => TopLevelGrammar::from_regex(text),
            GrammarSource::Lark(text) => TopLevelGrammar::from_lark((*text).to_owned()),
        };
        // The compiler's own panics are turned into errors inside.
        let matcher = Matcher::new(self.factory.create_parser(top));
        match matcher.get_error() {
            Some(error) => Err(refused(error)),
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
    let message = error.to_string();
    // A panic's message comes with a backtrace, which is of no use to the grammar's author.
    let message = message.split("\n<backtrace>").next().unwrap_or_default();
    Error::Grammar(message.to_owned())
}

/// Expressions that one text may have to match at once: an upper bound.
fn together(source: &GrammarSource<'_>) -> usize {
    match source {
        GrammarSource::Regex(_) => 0,
        GrammarSource::Lark(text) => text.matches('&').count(),
        GrammarSource::JsonSchema(text) => {
            // What is no JSON is refused by the compiler.
            let schema: Value = serde_json::from_str(text).unwrap_or_default();
            let n_pattern = holders(&schema, "pattern") + holders(&schema, "patternProperties");
            if holders(&schema, "allOf") > 0 { n_pattern } else { 0 }
        }
    }
}

/// Objects that have a key; of a key whose value is an object, that one's keys.
fn holders(value: &Value, key: &str) -> usize {
    match value {
        Value::Object(object) => {
            let own = object.get(key).map_or(0, |inner| inner.as_object().map_or(1, Map::len));
            own + object.values().map(|inner| holders(inner, key)).sum::<usize>()
        }
        Value::Array(items) => items.iter().map(|inner| holders(inner, key)).sum(),
        _ => 0,
    }
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
        let rules: String = (0..2000).map(|i| format!("r{i}: r{}\n", i + 1)).collect();
        let rules = format!("start: r0\n{rules}r2000: \"a\"\n");
        let references: String =
            (0..2000).map(|i| format!(r##""d{i}":{{"$ref":"#/$defs/d{}"}},"##, i + 1)).collect();
        let references =
            format!(r##"{{"$ref":"#/$defs/d0","$defs":{{{references}"d2000":{{}}}}}}"##);
        let operators = format!("start: \"a\"{}\n", "?".repeat(5000));
        let stars = format!("a{}", "*".repeat(5000));
        let choices = "a|".repeat(8000);
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
            &rules,
            &references,
            &operators,
            &stars,
            &choices,
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
        let too_long = "a".repeat(MAX_REGEX + 1);
        assert!(vocabulary.compile(&GrammarSource::Regex(&too_long)).is_err());
        assert!(vocabulary.compile(&GrammarSource::JsonSchema(&nested)).is_err());
    }

    #[test]
    fn mutated_grammars_end_in_an_error_or_a_grammar() {
        let (tokens, end) = vocabulary();
        let vocabulary = GrammarVocabulary::new(&tokens, end).unwrap();
        let corpus = [
            r#"{"type":"object","properties":{"a":{"type":"integer","minimum":3},"b":{"enum":["x",1,null]}},"required":["a"]}"#,
            r#"{"type":"array","items":{"anyOf":[{"type":"string","pattern":"^[a-c]+$"},{"type":"number"}]},"maxItems":3}"#,
            "start: expr\nexpr: term (\"+\" term)*\nterm: NUMBER | \"(\" expr \")\"\nNUMBER: /[0-9]+/\n",
            r"(?i)(foo|ba[rz]{2,3})\d+\.\w*",
        ];
        let mut state = 1u64;
        let mut random = |below: usize| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 33) as usize % below
        };
        let symbols = b"{}[]()\"\\:,*+?|/$^.-0aZ\n ";
        for round in 0..200 {
            let mut text = corpus[round % corpus.len()].as_bytes().to_vec();
            for _ in 0..1 + random(4) {
                let at = random(text.len());
                match random(4) {
                    0 => text[at] = symbols[random(symbols.len())],
                    1 => text.insert(at, symbols[random(symbols.len())]),
                    2 => drop(text.remove(at)),
                    _ => {
                        let end = at + random(text.len() - at);
                        let piece = text[at..end].to_vec();
                        text.splice(at..at, piece);
                    }
                }
            }
            try_out(&vocabulary, tokens.len(), &String::from_utf8_lossy(&text));
        }
    }
}
