//! Pre-tokenization: cutting a text into the pieces that a model then encodes one by one.

mod named;
mod pattern;
mod words;

pub(crate) use named::{known_name, named};
pub(crate) use pattern::{Behavior, CharClass, Pattern};
pub(crate) use words::Words;

use crate::unicode::{categories, decode_char, is_decimal_digit, is_word};

/// The character that SentencePiece writes for a space, U+2581.
pub(crate) const SPACE_MARK: &[u8] = "\u{2581}".as_bytes();

/// When [`Step::Metaspace`] puts a mark before its text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Prepend {
    Never,
    /// Before the first piece of the whole text.
    First,
    Always,
}

/// One pre-tokenizer of a `Sequence`.
#[derive(Debug)]
pub(crate) enum Step {
    /// Cut into words by a hand-written matcher.
    Words(Words),
    /// Cut at the matches of a pattern.
    Split { pattern: Pattern, behavior: Behavior, invert: bool },
    /// A space before a text that does not start with one.
    PrefixSpace,
    /// Spaces become `replacement`; cut before each of them.
    Metaspace { replacement: Vec<u8>, prepend: Prepend, split: bool },
    /// Cut before every run of space marks that follows other text.
    SpaceMarks,
    /// Digits in groups of three from the right; with `at_boundary`, only where the digits end at
    /// a word boundary.
    DigitGroups { at_boundary: bool },
}

/// A pre-tokenizer: its steps, each over the pieces of the one before.
#[derive(Debug, Default)]
pub(crate) struct PreTokenizer {
    pub(crate) steps: Vec<Step>,
}

impl PreTokenizer {
    /// Calls `each` with every piece of `text`. `at_start` says that `text` opens the whole input.
    #[inline]
    pub(crate) fn split(&self, text: &[u8], at_start: bool, mut each: impl FnMut(&[u8])) {
        if text.is_empty() {
            return;
        }
        match &self.steps[..] {
            [] => each(text),
            [Step::Words(words)] => {
                let mut start = 0;
                words.for_each_end(categories(), text, |end| {
                    each(&text[start..end]);
                    start = end;
                });
            }
            [Step::SpaceMarks] => {
                let mut start = 0;
                while start < text.len() {
                    let end = start + run_with_space_marks(&text[start..]);
                    each(&text[start..end]);
                    start = end;
                }
            }
            steps => {
                let mut pieces = Pieces { text: text.into(), ends: vec![(0, text.len())] };
                for step in steps {
                    pieces = pieces.apply(step, at_start);
                }
                for &(start, end) in &pieces.ends {
                    if start < end {
                        each(&pieces.text[start..end]);
                    }
                }
            }
        }
    }
}

/// A text and the pieces it is cut into, as (start, end).
struct Pieces<'t> {
    text: std::borrow::Cow<'t, [u8]>,
    ends: Vec<(usize, usize)>,
}

impl<'t> Pieces<'t> {
    fn apply(self, step: &Step, at_start: bool) -> Pieces<'t> {
        let mut ends = Vec::with_capacity(self.ends.len());
        match step {
            Step::Words(words) => {
                for &(start, end) in &self.ends {
                    let mut from = start;
                    words.for_each_end(categories(), &self.text[start..end], |to| {
                        ends.push((from, start + to));
                        from = start + to;
                    });
                }
            }
            Step::Split { pattern, behavior, invert } => {
                for &(start, end) in &self.ends {
                    let matches = pattern.matches(&self.text[start..end]);
                    behavior.cut(&matches, *invert, end - start, |from, to| {
                        ends.push((start + from, start + to));
                    });
                }
            }
            Step::SpaceMarks => {
                for &(start, end) in &self.ends {
                    let mut from = start;
                    while from < end {
                        let to = from + run_with_space_marks(&self.text[from..end]);
                        ends.push((from, to));
                        from = to;
                    }
                }
            }
            Step::DigitGroups { at_boundary } => {
                for &(start, end) in &self.ends {
                    digit_groups(&self.text[start..end], *at_boundary, |from, to| {
                        ends.push((start + from, start + to));
                    });
                }
            }
            Step::PrefixSpace => {
                let mut text = Vec::with_capacity(self.text.len() + 1);
                for &(start, end) in &self.ends {
                    let from = text.len();
                    if self.text.get(start) != Some(&b' ') {
                        text.push(b' ');
                    }
                    text.extend_from_slice(&self.text[start..end]);
                    ends.push((from, text.len()));
                }
                return Pieces { text: text.into(), ends };
            }
            Step::Metaspace { replacement, prepend, split } => {
                return self.metaspace(replacement, *prepend, *split, at_start);
            }
        }
        Pieces { text: self.text, ends }
    }

    fn metaspace(
        self,
        replacement: &[u8],
        prepend: Prepend,
        split: bool,
        at_start: bool,
    ) -> Pieces<'t> {
        let mut text = Vec::with_capacity(self.text.len() * 2);
        let mut ends = Vec::with_capacity(self.ends.len());
        for &(start, end) in &self.ends {
            let piece = &self.text[start..end];
            let mut from = text.len();
            let wanted = match prepend {
                Prepend::Never => false,
                Prepend::First => at_start && start == 0,
                Prepend::Always => true,
            };
            if wanted && !piece.starts_with(replacement) && !piece.starts_with(b" ") {
                text.extend_from_slice(replacement);
            }
            let mut pos = 0;
            while pos < piece.len() {
                let mark = if piece[pos] == b' ' {
                    1
                } else if piece[pos..].starts_with(replacement) {
                    replacement.len()
                } else {
                    text.push(piece[pos]);
                    pos += 1;
                    continue;
                };
                if split && text.len() > from && pos > 0 {
                    ends.push((from, text.len()));
                    from = text.len();
                }
                text.extend_from_slice(replacement);
                pos += mark;
            }
            ends.push((from, text.len()));
        }
        Pieces { text: text.into(), ends }
    }
}

/// Whether a space mark comes after another character.
pub(crate) fn has_inner_space_mark(token: &[u8]) -> bool {
    let mut rest = token;
    while let Some(after) = rest.strip_prefix(SPACE_MARK) {
        rest = after;
    }
    rest.windows(SPACE_MARK.len()).any(|window| window == SPACE_MARK)
}

/// Length of the space marks that `text` (not empty) starts with, and of what follows them up to
/// the next.
pub(crate) fn run_with_space_marks(text: &[u8]) -> usize {
    let mut pos = 0;
    while text[pos..].starts_with(SPACE_MARK) {
        pos += SPACE_MARK.len();
    }
    let first = SPACE_MARK[0];
    while pos < text.len() && !(text[pos] == first && text[pos..].starts_with(SPACE_MARK)) {
        pos += 1;
    }
    pos
}

/// See [`Step::DigitGroups`].
fn digit_groups(text: &[u8], at_boundary: bool, mut each: impl FnMut(usize, usize)) {
    let is_digit = |c: Option<char>| c.is_some_and(is_decimal_digit);
    let (mut pos, mut start) = (0, 0);
    let mut digits = Vec::new();
    while pos < text.len() {
        let (c, len) = decode_char(&text[pos..]);
        if !is_digit(c) {
            pos += len;
            continue;
        }
        digits.clear();
        let mut end = pos;
        let mut bounded = true;
        while end < text.len() {
            let (c, len) = decode_char(&text[end..]);
            if !is_digit(c) {
                bounded = !c.is_some_and(is_word);
                break;
            }
            digits.push(end);
            end += len;
        }
        if bounded || !at_boundary {
            if start < pos {
                each(start, pos);
            }
            let first = match digits.len() % 3 {
                0 => 3,
                rest => rest,
            };
            let mut from = pos;
            for group in (first..digits.len()).step_by(3) {
                each(from, digits[group]);
                from = digits[group];
            }
            each(from, end);
            start = end;
        }
        pos = end;
    }
    if start < text.len() {
        each(start, text.len());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pieces(steps: Vec<Step>, text: &str) -> Vec<String> {
        let mut list = Vec::new();
        PreTokenizer { steps }.split(text.as_bytes(), true, |piece| {
            list.push(String::from_utf8_lossy(piece).into_owned());
        });
        list
    }

    #[test]
    fn digits_group_from_the_right() {
        let groups = |text, at_boundary| pieces(vec![Step::DigitGroups { at_boundary }], text);
        assert_eq!(groups("a1234567b12", false), ["a", "1", "234", "567", "b", "12"]);
        assert_eq!(groups("a1234567b 1234", true), ["a1234567b ", "1", "234"]);
        assert_eq!(groups("123456", true), ["123", "456"]);
    }

    #[test]
    fn digit_groups_equal_their_pattern() {
        let regex = Pattern::regex(r"\d{1,3}(?=(?:\d{3})*\b)").expect("the pattern parses");
        for text in ["1", "12", "123", "1234567", "a1b22 3333", "12345-1234_", "٣٤٥٦ 1½", "no"]
        {
            let by_regex = pieces(
                vec![Step::Split {
                    pattern: regex.clone(),
                    behavior: Behavior::Isolated,
                    invert: false,
                }],
                text,
            );
            assert_eq!(pieces(vec![Step::DigitGroups { at_boundary: true }], text), by_regex);
        }
    }

    #[test]
    fn space_marks_open_pieces() {
        assert_eq!(pieces(vec![Step::SpaceMarks], "a▁▁b▁c▁"), ["a", "▁▁b", "▁c", "▁"]);
        assert!(has_inner_space_mark("▁a▁".as_bytes()));
        assert!(!has_inner_space_mark("▁▁a".as_bytes()));
    }

    #[test]
    fn metaspace_marks_and_cuts() {
        let step = |prepend, split| {
            vec![Step::Metaspace { replacement: SPACE_MARK.to_vec(), prepend, split }]
        };
        assert_eq!(pieces(step(Prepend::Always, true), "Hey  you"), ["▁Hey", "▁", "▁you"]);
        assert_eq!(pieces(step(Prepend::Never, true), "Hey you"), ["Hey", "▁you"]);
        assert_eq!(pieces(step(Prepend::First, false), "Hey you"), ["▁Hey▁you"]);
        assert_eq!(pieces(step(Prepend::Always, true), " Hey"), ["▁Hey"]);
    }
}
