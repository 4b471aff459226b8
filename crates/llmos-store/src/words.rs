//! Words: what a text is cut into so that it can be found, the same for every database.
//!
//! SQLite's trigrams find nothing shorter than three characters, and most Chinese words have two;
//! PostgreSQL's parser takes a Chinese sentence for one word, and its trigrams depend on the locale.
//! So a text is cut here: letters and digits between spaces are a word, and a character of a script
//! that writes no spaces is a word of its own. A query is cut in the same way, its parts are
//! phrases, and a phrase of single characters is a substring, however short. The databases are given
//! words with nothing left to interpret.
//!
//! Words are compared without regard to case, width and accents (Unicode's compatibility
//! decomposition, UAX #15, with marks left out).

use unicode_normalization::UnicodeNormalization;
use unicode_normalization::char::canonical_combining_class;

/// Longest word, in characters; what is longer (a line of base64) counts by its beginning.
const LONGEST_WORD: usize = 64;
/// Words of a passage. PostgreSQL keeps 255 places of a word (and the first 16,383 of a text), so that
/// in a passage of 255 none is lost, even where all are the same.
const PASSAGE: usize = 255;
/// Words that a passage has in common with the one before it, and most words of a phrase: a phrase
/// is found wherever it lies.
const OVERLAP: usize = 64;
/// Most phrases of a query.
const PHRASES: usize = 8;

/// A word and where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Word {
    /// As it is compared.
    pub(crate) text: String,
    /// Where it begins, in bytes of the text.
    pub(crate) start: usize,
    /// Where it ends.
    pub(crate) end: usize,
    /// Whether it is one character of a script without spaces.
    is_alone: bool,
}

/// The words of a text.
pub(crate) fn words(text: &str) -> Vec<Word> {
    let mut found: Vec<Word> = Vec::new();
    let mut open = false;
    let mut n_char = 0;
    for (start, original) in text.char_indices() {
        let end = start + original.len_utf8();
        for c in folded(original) {
            if canonical_combining_class(c) != 0 {
                continue;
            }
            if !c.is_alphanumeric() {
                open = false;
                continue;
            }
            let is_alone = stands_alone(c);
            match found.last_mut().filter(|_| open && !is_alone) {
                Some(word) => {
                    word.end = end;
                    if n_char < LONGEST_WORD {
                        word.text.push(c);
                        n_char += 1;
                    }
                }
                None => {
                    found.push(Word { text: c.to_string(), start, end, is_alone });
                    n_char = 1;
                }
            }
            open = !is_alone;
        }
    }
    found
}

/// The words of a text in passages short enough for every index.
pub(crate) fn passages(text: &str) -> Vec<Vec<String>> {
    let words: Vec<String> = words(text).into_iter().map(|word| word.text).collect();
    let mut passages = Vec::new();
    let mut start = 0;
    while start < words.len() {
        let end = words.len().min(start + PASSAGE);
        passages.push(words[start..end].to_vec());
        if end == words.len() {
            break;
        }
        start = end - OVERLAP;
    }
    passages
}

/// Words that must follow each other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Phrase {
    /// At least one, at most [`OVERLAP`].
    pub(crate) words: Vec<String>,
    /// Whether the last may be the beginning of a word: always, unless it is a character that stands
    /// alone.
    pub(crate) is_open: bool,
}

/// The phrases of a query, all of which must be found: what stands between quotes, and what stands
/// between spaces.
pub(crate) fn phrases(query: &str) -> Vec<Phrase> {
    let quoted = query.split('"').enumerate();
    let parts = quoted.flat_map(|(i, part)| {
        let parts: Vec<&str> =
            if i % 2 == 1 { vec![part] } else { part.split_whitespace().collect() };
        parts
    });
    let mut found: Vec<Phrase> = Vec::new();
    for part in parts {
        let mut words = words(part);
        words.truncate(OVERLAP);
        let Some(is_open) = words.last().map(|word| !word.is_alone) else { continue };
        let phrase = Phrase { words: words.into_iter().map(|word| word.text).collect(), is_open };
        if found.len() < PHRASES && !found.contains(&phrase) {
            found.push(phrase);
        }
    }
    found
}

impl Phrase {
    /// Where the phrase first stands in a text, in bytes.
    pub(crate) fn find(&self, words: &[Word]) -> Option<(usize, usize)> {
        let n = self.words.len();
        let fits = |window: &[Word]| {
            window.iter().zip(&self.words).enumerate().all(|(i, (word, wanted))| {
                let is_beginning = i + 1 == n && self.is_open;
                word.text == *wanted || (is_beginning && word.text.starts_with(wanted.as_str()))
            })
        };
        words
            .windows(n)
            .find(|window| fits(window))
            .map(|window| (window[0].start, window[n - 1].end))
    }
}

/// A character as it is compared: decomposed, in lower case.
fn folded(c: char) -> impl Iterator<Item = char> {
    // A Korean syllable stays one character: its parts are no words.
    let is_whole = ('\u{ac00}'..='\u{d7a3}').contains(&c);
    let whole = is_whole.then_some(c).into_iter();
    let parts = (!is_whole).then(|| std::iter::once(c).nfkd().flat_map(char::to_lowercase));
    whole.chain(parts.into_iter().flatten())
}

/// Whether a character belongs to a script that is written without spaces between words, by
/// Unicode's blocks: Thai and Lao, Myanmar, Khmer, and all from the radicals of Han to Hangul.
fn stands_alone(c: char) -> bool {
    matches!(c,
        '\u{0e00}'..='\u{0eff}'
        | '\u{1000}'..='\u{109f}'
        | '\u{1100}'..='\u{11ff}'
        | '\u{1780}'..='\u{17ff}'
        | '\u{2e80}'..='\u{2fdf}'
        | '\u{3005}'..='\u{31ff}'
        | '\u{3400}'..='\u{4dbf}'
        | '\u{4e00}'..='\u{9fff}'
        | '\u{a960}'..='\u{a97f}'
        | '\u{ac00}'..='\u{d7ff}'
        | '\u{f900}'..='\u{faff}'
        | '\u{1b000}'..='\u{1b16f}'
        | '\u{20000}'..='\u{3ffff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_cut_into_words() {
        let check = |text: &str, expected: &[&str]| {
            let words: Vec<String> = words(text).into_iter().map(|word| word.text).collect();
            assert_eq!(words, expected, "{text}");
        };
        check("", &[]);
        check(" ,.! ", &[]);
        check("The cat's HAT", &["the", "cat", "s", "hat"]);
        check("我想学Rust语言。", &["我", "想", "学", "rust", "语", "言"]);
        check("ＡＢＣ１２", &["abc12"]);
        check("café cafe\u{301} Ångström ﬁne", &["cafe", "cafe", "angstrom", "fine"]);
        check("한국어 ガ か\u{3099}", &["한", "국", "어", "カ", "か"]);
        check("snake_case v1.5 x\u{0}y", &["snake", "case", "v1", "5", "x", "y"]);
        check("𠮷野家", &["𠮷", "野", "家"]);
        check(&"a".repeat(100), &[&"a".repeat(LONGEST_WORD)]);
    }

    #[test]
    fn words_know_where_they_stand() {
        let text = "Ein Käse, 模型!";
        let spans: Vec<&str> = words(text).iter().map(|word| &text[word.start..word.end]).collect();
        assert_eq!(spans, ["Ein", "Käse", "模", "型"]);
    }

    #[test]
    fn queries_are_phrases() {
        let check = |query: &str, expected: &[(&[&str], bool)]| {
            let phrases: Vec<_> =
                phrases(query).into_iter().map(|phrase| (phrase.words, phrase.is_open)).collect();
            let expected: Vec<_> = expected
                .iter()
                .map(|(words, is_open)| (words.iter().map(|w| w.to_string()).collect(), *is_open))
                .collect();
            assert_eq!(phrases, expected, "{query}");
        };
        check("", &[]);
        check("\"\" ' -- *", &[]);
        check("cat hat", &[(&["cat"], true), (&["hat"], true)]);
        check("\"cat hat\" 模型", &[(&["cat", "hat"], true), (&["模", "型"], false)]);
        check("don't", &[(&["don", "t"], true)]);
        check("a a A", &[(&["a"], true)]);
        check("\"never closed", &[(&["never", "closed"], true)]);
        assert_eq!(phrases("a b c d e f g h i j").len(), PHRASES);
        assert_eq!(phrases(&"字".repeat(500))[0].words.len(), OVERLAP);
    }

    #[test]
    fn a_phrase_lies_in_one_passage_whole() {
        let text: String = (0..5000).map(|i| format!("w{i} ")).collect();
        let passages = passages(&text);
        assert!(passages.iter().all(|passage| passage.len() <= PASSAGE));
        for start in 0..5000 - OVERLAP {
            let first = format!("w{start}");
            let holds = |passage: &Vec<String>| {
                let at = passage.iter().position(|word| *word == first);
                at.is_some_and(|at| at + OVERLAP <= passage.len())
            };
            assert!(passages.iter().any(holds), "{start}");
        }
    }

    #[test]
    fn phrases_are_found_in_texts() {
        let check = |query: &str, text: &str, expected: Option<&str>| {
            let found = phrases(query)[0].find(&words(text));
            assert_eq!(found.map(|(start, end)| &text[start..end]), expected, "{query} in {text}");
        };
        check("cat", "A Catalogue", Some("Catalogue"));
        check("alogue", "A Catalogue", None);
        check("\"a cat\"", "A  CAT!", Some("A  CAT"));
        check("型很", "大模型很大", Some("型很"));
        check("模很", "大模型很大", None);
    }
}
