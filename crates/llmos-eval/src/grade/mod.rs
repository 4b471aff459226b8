//! How an answer is graded: the same marks for the same answers as `testdata/assistant/validate.py`,
//! which is the reference, gives.

mod normalise;
mod number;

use std::sync::LazyLock;

use fancy_regex::Regex;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::conversation::{Answer, Expect};
use normalise::{is_ascii_word, normalise};
use number::Decimal;

/// The marks of an answer; none where the row does not ask.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grade {
    /// The right tool was called, or none.
    pub routing: bool,
    /// The last call was the calculator's, and gave the right result.
    pub result: Option<bool>,
    /// The text says one of the things that it should, and none that it must not.
    pub answer: Option<bool>,
}

/// Grades an answer.
///
/// Routing: without a tool none may be called; the calculator must be called, and nothing else; the
/// clock must be called first. The result is that of the last call, within a millionth. The text is
/// looked through by [`matches()`]. Where there is no answer, for an error, all is wrong.
pub fn grade(expect: &Expect, answer: &Answer) -> Grade {
    let calls = &answer.tool_calls;
    let is_there = answer.error.is_none();
    let names = || calls.iter().map(|call| call.name.as_str());
    let routing = is_there
        && match expect.tool.as_deref() {
            None => calls.is_empty(),
            Some("calculator") => !calls.is_empty() && names().all(|name| name == "calculator"),
            tool => names().next() == tool && tool.is_some(),
        };
    let wanted = expect.result.as_ref().filter(|_| expect.tool.as_deref() == Some("calculator"));
    let result = wanted.map(|wanted| match calls.last() {
        Some(call) if is_there && call.name == "calculator" => is_result(&call.result, wanted),
        _ => false,
    });
    let (any, none) = (&expect.answer_any, &expect.answer_none);
    let text = &answer.answer;
    let said = (!any.is_empty() || !none.is_empty()).then(|| {
        let text = Text::new(text);
        is_there
            && !text.is_empty
            && (any.is_empty() || any.iter().any(|phrase| text.holds(phrase)))
            && !none.iter().any(|phrase| text.holds(phrase))
    });
    Grade { routing, result, answer: said }
}

/// Whether what a tool gave is the result: by value, or word for word where it is no number.
fn is_result(got: &Value, wanted: &str) -> bool {
    let bare = |text: &str| text.trim().replace(',', "");
    let got = got.as_str().map_or_else(|| got.to_string(), bare);
    let wanted = bare(wanted);
    match (Decimal::read(&got), Decimal::read(&wanted)) {
        (Some(got), Some(wanted)) => got.is_near(&wanted),
        _ => got == wanted,
    }
}

/// Whether the text says the phrase.
///
/// Both are first brought into one spelling (NFKC, lower case, straight marks, single spaces). A
/// phrase that is a number matches a whole number of that value: "5" is in "5.00", not in "15", "5.2"
/// or "-5". Any other phrase must stand on its own: where it begins or ends with an ASCII letter or
/// digit none stands beside it, and no Chinese numeral beside a Chinese numeral.
pub fn matches(phrase: &str, text: &str) -> bool {
    Text::new(text).holds(phrase)
}

/// Numerals that make longer ones with those beside them.
const NUMERALS: &str = "零〇一二三四五六七八九十百千万亿两";

fn pattern(text: &str) -> Option<Regex> {
    Regex::new(text).ok()
}

/// A phrase that is a number.
static NUMBER: LazyLock<Option<Regex>> = LazyLock::new(|| {
    pattern(r"\A(?:-?(?:[0-9]{1,3}(?:,[0-9]{3})+|[0-9]+)(?:\.[0-9]+)?|-?\.[0-9]+)\z")
});

/// The numbers in a text: a hyphen behind a letter, a digit or a bracket is no sign, and groups of
/// three digits make one number.
static NUMBERS: LazyLock<Option<Regex>> = LazyLock::new(|| {
    pattern(
        r"(?<![0-9])(?:(?<![a-z0-9.)\]])-)?(?:[0-9]{1,3}(?:,[0-9]{3})+(?![0-9]|,[0-9])|[0-9]+)(?:\.[0-9]+)?|(?<![a-z0-9.])-?\.[0-9]+",
    )
});

/// A text that phrases are looked for in.
struct Text {
    chars: Vec<char>,
    numbers: Vec<Decimal>,
    is_empty: bool,
}

impl Text {
    fn new(text: &str) -> Text {
        let mut chars = normalise(text);
        if !chars.last().is_some_and(|c| matches!(c, '.' | '!' | '?' | ',' | ';' | ':')) {
            chars.push('.');
        }
        let joined: String = chars.iter().collect();
        let found = NUMBERS.iter().flat_map(|pattern| pattern.find_iter(&joined));
        let numbers = found.flatten().filter_map(|found| Decimal::read(found.as_str())).collect();
        Text { chars, numbers, is_empty: text.trim().is_empty() }
    }

    fn holds(&self, phrase: &str) -> bool {
        let phrase = normalise(phrase);
        let joined: String = phrase.iter().collect();
        let is_number =
            NUMBER.as_ref().is_some_and(|number| matches!(number.is_match(&joined), Ok(true)));
        match Decimal::read(&joined).filter(|_| is_number) {
            Some(number) => self.numbers.contains(&number),
            None => self.stands_alone(&phrase),
        }
    }

    fn stands_alone(&self, phrase: &[char]) -> bool {
        let (Some(first), Some(last)) = (phrase.first(), phrase.last()) else { return false };
        let text = &self.chars;
        let is_numeral = |c: &char| NUMERALS.contains(*c);
        let is_separator = |c: Option<&char>| matches!(c, Some('.' | ','));
        let is_digit = |c: Option<&char>| c.is_some_and(char::is_ascii_digit);
        let at = |at: Option<usize>| at.and_then(|at| text.get(at));
        let places = text.windows(phrase.len()).enumerate().filter(|(_, here)| *here == phrase);
        places.map(|(place, _)| (place, place + phrase.len())).any(|(start, end)| {
            let (before, after) = (at(start.checked_sub(1)), at(Some(end)));
            let joins = |edge: &char, near: Option<&char>| {
                near.is_some_and(|near| {
                    is_ascii_word(edge) && is_ascii_word(near)
                        || is_numeral(edge) && is_numeral(near)
                })
            };
            let in_number_before =
                is_digit(Some(first)) && is_separator(before) && is_digit(at(start.checked_sub(2)));
            let in_number_after =
                is_digit(Some(last)) && is_separator(after) && is_digit(at(Some(end + 1)));
            !(joins(first, before) || joins(last, after) || in_number_before || in_number_after)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn golden() -> Value {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../testdata/assistant/grades.json");
        serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
    }

    #[test]
    fn phrases_are_found_where_python_finds_them() {
        let golden = golden();
        let cases = golden["matches"].as_array().unwrap();
        assert!(cases.len() > 2000);
        for case in cases {
            let text = |at: usize| case[at].as_str().unwrap();
            let spelling: String = normalise(text(1)).into_iter().collect();
            assert_eq!(spelling, text(2), "{:?}", text(1));
            assert_eq!(Value::Bool(matches(text(0), text(1))), case[3], "{case}");
        }
    }

    #[test]
    fn marks_are_those_of_python() {
        let golden = golden();
        let cases = golden["grades"].as_array().unwrap();
        assert!(cases.len() > 1000);
        for case in cases {
            let expect: Expect = serde_json::from_value(case["expect"].clone()).unwrap();
            let answer: Answer = serde_json::from_value(case.clone()).unwrap();
            let expected: Grade = serde_json::from_value(case["grade"].clone()).unwrap();
            assert_eq!(grade(&expect, &answer), expected, "{case}");
        }
    }

    #[test]
    fn a_long_answer_is_no_trouble() {
        let text = "1,234 and ".repeat(20_000);
        assert!(matches("1234", &text) && !matches("234", &text) && !matches("12", &text));
        assert!(matches("5", &format!("{}{}", "9".repeat(100_000), " 5")));
    }
}
