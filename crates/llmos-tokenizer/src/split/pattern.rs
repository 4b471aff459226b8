//! Patterns that cut a text, and what becomes of their matches.

use crate::Error;
use crate::split::Words;
use crate::unicode::{
    categories, decode_char, for_each_char, is_number, is_punctuation, is_space, to_valid,
};

/// What a `Split` matches.
#[derive(Debug, Clone)]
pub(crate) enum Pattern {
    /// A text, byte for byte.
    Literal(Vec<u8>),
    /// A regular expression without a hand-written matcher.
    Regex(Box<fancy_regex::Regex>),
    /// Single characters of a class.
    Class(CharClass),
    /// Longest runs of characters of a class.
    Run(CharClass),
    /// A pattern with a hand-written matcher, which leaves nothing unmatched.
    Words(Words),
}

/// A class of characters that needs no regular expression.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CharClass {
    /// `\p{N}`.
    Number,
    /// `\s`.
    Space,
    /// See [`is_punctuation`].
    Punctuation,
}

impl CharClass {
    fn contains(self, c: char) -> bool {
        match self {
            CharClass::Number => is_number(c),
            CharClass::Space => is_space(c),
            CharClass::Punctuation => is_punctuation(c),
        }
    }

    fn pattern(self) -> &'static str {
        match self {
            CharClass::Number => r"\p{N}",
            CharClass::Space => r"\s",
            CharClass::Punctuation => r"[\p{P}!-/:-@\[-`{-~]",
        }
    }
}

/// What becomes of a match; Hugging Face's `SplitDelimiterBehavior`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Behavior {
    Removed,
    Isolated,
    MergedWithPrevious,
    MergedWithNext,
    Contiguous,
}

/// Compiled size of one pattern at most; a real one takes under a tenth.
const SIZE_LIMIT: usize = 64 << 20;
/// Steps of the backtracking matcher for one match at most.
const BACKTRACK_LIMIT: usize = 20_000_000;

impl Pattern {
    /// A regular expression in the dialect of Hugging Face files (Oniguruma's Ruby syntax, where
    /// `^` and `$` match at lines).
    pub(crate) fn regex(pattern: &str) -> Result<Pattern, Error> {
        Pattern::compile(pattern, true)
    }

    /// A regular expression in the dialect of tiktoken, where `^` and `$` match at the ends of the
    /// text alone.
    pub(crate) fn tiktoken(pattern: &str) -> Result<Pattern, Error> {
        Pattern::compile(pattern, false)
    }

    /// The pattern as Hugging Face files write it; `None` for a literal.
    pub(crate) fn source(&self) -> Option<String> {
        match self {
            Pattern::Literal(_) => None,
            Pattern::Regex(regex) => Some(regex.as_str().to_owned()),
            Pattern::Class(class) => Some(class.pattern().to_owned()),
            Pattern::Run(class) => Some(format!("{}+", class.pattern())),
            Pattern::Words(words) => words.pattern().map(str::to_owned),
        }
    }

    fn compile(pattern: &str, multi_line: bool) -> Result<Pattern, Error> {
        if let Some(words) = Words::of_pattern(pattern) {
            return Ok(Pattern::Words(words));
        }
        match pattern {
            r"\p{N}" => return Ok(Pattern::Class(CharClass::Number)),
            r"\p{N}+" => return Ok(Pattern::Run(CharClass::Number)),
            r"\s+" => return Ok(Pattern::Run(CharClass::Space)),
            _ => {}
        }
        fancy_regex::RegexBuilder::new(pattern)
            .multi_line(multi_line)
            .backtrack_limit(BACKTRACK_LIMIT)
            .delegate_size_limit(SIZE_LIMIT)
            .build()
            .map(|regex| Pattern::Regex(Box::new(regex)))
            .map_err(|error| {
                let shown: String = pattern.chars().take(80).collect();
                Error::malformed(
                    "pre-tokenizer pattern",
                    "a regular expression",
                    format!("`{shown}`: {error}"),
                )
            })
    }

    /// The matches in `text`, as (start, end), in order and without overlap. Where a regular
    /// expression runs over its step limit the rest of the text stays unmatched.
    pub(crate) fn matches(&self, text: &[u8]) -> Vec<(usize, usize)> {
        let mut list = Vec::new();
        match self {
            Pattern::Literal(literal) if literal.is_empty() => {}
            Pattern::Literal(literal) => {
                let mut pos = 0;
                while pos + literal.len() <= text.len() {
                    if text[pos..].starts_with(literal) {
                        list.push((pos, pos + literal.len()));
                        pos += literal.len();
                    } else {
                        pos += 1;
                    }
                }
            }
            Pattern::Class(class) => {
                let mut pos = 0;
                for_each_char(text, |c, bytes| {
                    if c.is_some_and(|c| class.contains(c)) {
                        list.push((pos, pos + bytes.len()));
                    }
                    pos += bytes.len();
                });
            }
            Pattern::Run(class) => {
                let mut pos = 0;
                while pos < text.len() {
                    let start = pos;
                    while pos < text.len() {
                        let (c, len) = decode_char(&text[pos..]);
                        if !c.is_some_and(|c| class.contains(c)) {
                            break;
                        }
                        pos += len;
                    }
                    if pos > start {
                        list.push((start, pos));
                    } else {
                        pos += decode_char(&text[pos..]).1;
                    }
                }
            }
            Pattern::Words(words) => {
                let mut start = 0;
                words.for_each_end(categories(), text, |end| {
                    list.push((start, end));
                    start = end;
                });
            }
            Pattern::Regex(regex) => {
                let (valid, map) = to_valid(text);
                let place = |at: usize| map.as_ref().map_or(at, |map| map[at]);
                for found in regex.find_iter(&*valid).map_while(Result::ok) {
                    list.push((place(found.start()), place(found.end())));
                }
            }
        }
        list
    }
}

impl Behavior {
    /// Cuts a text of `len` bytes at `matches`; calls `each` with what stays. With `invert`, what
    /// lies between the matches counts as the matches.
    pub(crate) fn cut(
        self,
        matches: &[(usize, usize)],
        invert: bool,
        len: usize,
        mut each: impl FnMut(usize, usize),
    ) {
        let mut spans: Vec<(usize, usize, bool)> = Vec::with_capacity(matches.len() * 2 + 1);
        let mut pos = 0;
        for &(start, end) in matches {
            if pos < start {
                spans.push((pos, start, invert));
            }
            spans.push((start, end, !invert));
            pos = end;
        }
        if pos < len {
            spans.push((pos, len, invert));
        }
        match self {
            Behavior::Isolated => spans.iter().for_each(|&(start, end, _)| each(start, end)),
            Behavior::Removed => {
                spans.iter().filter(|s| !s.2).for_each(|&(start, end, _)| each(start, end));
            }
            Behavior::Contiguous => {
                let mut open: Option<(usize, usize, bool)> = None;
                for &(start, end, matched) in &spans {
                    match &mut open {
                        Some(run) if run.2 == matched => run.1 = end,
                        _ => {
                            if let Some((start, end, _)) = open {
                                each(start, end);
                            }
                            open = Some((start, end, matched));
                        }
                    }
                }
                if let Some((start, end, _)) = open {
                    each(start, end);
                }
            }
            Behavior::MergedWithPrevious => {
                let mut open: Option<(usize, usize)> = None;
                let mut previous_matched = false;
                for &(start, end, matched) in &spans {
                    match &mut open {
                        Some(run) if matched && !previous_matched => run.1 = end,
                        _ => {
                            if let Some((start, end)) = open {
                                each(start, end);
                            }
                            open = Some((start, end));
                        }
                    }
                    previous_matched = matched;
                }
                if let Some((start, end)) = open {
                    each(start, end);
                }
            }
            Behavior::MergedWithNext => {
                let mut from = None;
                for &(start, end, matched) in &spans {
                    match (matched, from) {
                        (false, _) => {
                            each(from.take().unwrap_or(start), end);
                        }
                        (true, None) => from = Some(start),
                        (true, Some(open)) => {
                            each(open, start);
                            from = Some(start);
                        }
                    }
                }
                if let Some(open) = from {
                    each(open, len);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(behavior: Behavior, invert: bool, text: &str) -> Vec<String> {
        let mut list = Vec::new();
        let matches = Pattern::Literal(b"-".to_vec()).matches(text.as_bytes());
        behavior.cut(&matches, invert, text.len(), |start, end| {
            list.push(text[start..end].to_owned());
        });
        list
    }

    /// The documentation's own example of each behaviour: the string "the-final--countdown".
    #[test]
    fn behaviors_of_the_documentation() {
        for (behavior, expected) in [
            (Behavior::Removed, &["the", "final", "countdown"][..]),
            (Behavior::Isolated, &["the", "-", "final", "-", "-", "countdown"]),
            (Behavior::MergedWithPrevious, &["the-", "final-", "-", "countdown"]),
            (Behavior::MergedWithNext, &["the", "-final", "-", "-countdown"]),
            (Behavior::Contiguous, &["the", "-", "final", "--", "countdown"]),
        ] {
            assert_eq!(cut(behavior, false, "the-final--countdown"), expected, "{behavior:?}");
        }
        assert_eq!(cut(Behavior::Removed, true, "a-b"), ["-"]);
    }

    #[test]
    fn a_regex_over_its_limit_leaves_the_rest_whole() {
        let pattern = Pattern::regex(r"(?=(a+)+b)a|zz").expect("the pattern parses");
        let text = "a".repeat(5000);
        assert!(pattern.matches(text.as_bytes()).is_empty());
    }

    #[test]
    fn invalid_bytes_keep_their_places_around_a_regex() {
        let pattern = Pattern::regex(r"[a-z]+(?!x)").expect("the pattern parses");
        assert_eq!(pattern.matches(b"\xffab\xe4\xbdcd\xff"), [(1, 3), (5, 7)]);
    }
}
