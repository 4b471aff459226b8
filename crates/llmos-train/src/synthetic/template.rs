//! Templates: sentences with choices and gaps.
//!
//! `[a|b|]` is one of its parts. `{name}` is what the name is bound to, or a word drawn from the
//! list of that name, which stays bound; a figure at its end asks for another word of the list, as
//! `{fruit2}`. A capital, `{Name}`, makes one. `{#2-99}` is a new number. A word before the name asks for a form:
//!
//! | form | English | Chinese |
//! |-|-|-|
//! | `{a x}` | with its article | with 一 and its measure word |
//! | `{many x}` | plural | |
//! | `{cl x}` | | measure word |
//! | `{extra x}` | what follows `/` in the list | the same |
//! | `{words x}` | number in words | the same |
//! | `{liang x}` | | number in words before a measure word |
//! | `{grouped x}`, `{price x}` | 1,692 and 3.50 | the same |
//! | `{upper x}` | capitals | |
//! | `{spell x}` | c-a-t | 苹、果 |
//! | `{letters x}` | how many letters | how many characters |
//! | `{n_words x}`, `{n_han x}` | how many words | how many characters but marks |
//! | `{first x}`, `{last x}`, `{reverse x}` | letters | characters |

use super::book::Book;
use super::clock::Moment;
use super::draw::Draw;
use super::{Split, number, word};

/// What a name is bound to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Value {
    pub(super) text: String,
    /// A plural, a measure word, a partner: what follows `/` in a list.
    pub(super) extra: String,
}

/// Names and what they are bound to, in one conversation.
#[derive(Clone)]
pub(super) struct Scope<'a> {
    pub(super) book: &'a Book,
    pub(super) split: Split,
    pub(super) is_chinese: bool,
    /// When the conversation takes place, once the clock was asked.
    pub(super) moment: Option<Moment>,
    bound: Vec<(String, Value)>,
}

impl<'a> Scope<'a> {
    pub(super) fn new(book: &'a Book, split: Split, is_chinese: bool) -> Scope<'a> {
        Scope { book, split, is_chinese, moment: None, bound: Vec::new() }
    }

    /// Binds a name, again where it was.
    pub(super) fn bind(&mut self, name: &str, text: impl Into<String>) {
        self.bind_value(name, Value { text: text.into(), extra: String::new() });
    }

    pub(super) fn bind_value(&mut self, name: &str, value: Value) {
        match self.bound.iter_mut().find(|(bound, _)| bound == name) {
            Some((_, old)) => *old = value,
            None => self.bound.push((name.to_string(), value)),
        }
    }

    pub(super) fn get(&self, name: &str) -> Option<&Value> {
        self.bound.iter().find(|(bound, _)| bound == name).map(|(_, value)| value)
    }

    /// The words of a list in this split.
    pub(super) fn list(&self, name: &str) -> &'a [&'static str] {
        let list = self.book.lists.get(name).map(|splits| &splits[self.split as usize]);
        let words = list.filter(|words| !words.is_empty());
        words.unwrap_or_else(|| panic!("no list {name} for {}", self.split.name()))
    }

    /// A word of a list, other than those that are bound already.
    pub(super) fn word(&mut self, list: &str, draw: &mut Draw) -> Value {
        let words = self.list(list);
        let mut value = Value::default();
        for _ in 0..12 {
            let entry = draw.pick(words);
            let (text, extra) = entry.split_once('/').unwrap_or((entry, ""));
            // What an entry is made of is drawn anew for the next one.
            let n_bound = self.bound.len();
            value = Value { text: self.expand(text, draw), extra: extra.to_string() };
            self.bound.truncate(n_bound);
            if !self.bound.iter().any(|(_, bound)| bound.text == value.text) {
                break;
            }
        }
        value
    }

    /// The text of a template.
    pub(super) fn expand(&mut self, template: &str, draw: &mut Draw) -> String {
        let mut out = String::new();
        self.expand_into(template, draw, &mut out);
        out
    }

    fn expand_into(&mut self, template: &str, draw: &mut Draw, out: &mut String) {
        let mut rest = template;
        while let Some(at) = rest.find(['{', '[']) {
            out.push_str(&rest[..at]);
            let (inner, after) = enclosed(&rest[at..]);
            if rest[at..].starts_with('{') {
                self.gap(inner, draw, out);
            } else {
                let parts = parts(inner);
                self.expand_into(draw.pick(&parts), draw, out);
            }
            rest = after;
        }
        out.push_str(rest);
    }

    fn gap(&mut self, inner: &str, draw: &mut Draw, out: &mut String) {
        if let Some(range) = inner.strip_prefix('#') {
            let range = range
                .split_once('-')
                .and_then(|(low, high)| Some((low.parse().ok()?, high.parse().ok()?)));
            let (low, high) = range.unwrap_or_else(|| panic!("a range: {inner}"));
            out.push_str(&draw.number(low, high, self.split).to_string());
            return;
        }
        let is_capital = inner.starts_with(|c: char| c.is_ascii_uppercase());
        let lower = if is_capital { inner.to_lowercase() } else { inner.to_string() };
        let (form, name) = lower.split_once(' ').unwrap_or(("", &lower));
        if self.get(name).is_none() {
            let list = name.trim_end_matches(|c: char| c.is_ascii_digit());
            let value = self.word(list, draw);
            self.bind_value(name, value);
        }
        let Some(value) = self.get(name) else { return };
        let text = form_of(form, value, self.is_chinese);
        out.push_str(&if is_capital { word::capital(&text) } else { text });
    }
}

/// A form of a word; see the table at the top.
fn form_of(form: &str, value: &Value, is_chinese: bool) -> String {
    let Value { text, extra } = value;
    let count = || text.parse().unwrap_or_else(|_| panic!("a whole number: {text}"));
    match form {
        "" => text.clone(),
        "a" if is_chinese => format!("一{extra}{text}"),
        "a" => format!("{} {text}", word::article(text)),
        "many" if extra.is_empty() => word::plural(text),
        "many" | "extra" | "cl" => extra.clone(),
        "words" if is_chinese => number::chinese(count()),
        "words" => number::english(count()),
        "liang" => number::chinese_measured(count()),
        "grouped" => number::grouped(text),
        "price" => number::price(text),
        "upper" => text.to_uppercase(),
        "spell" => word::spelled(text, if is_chinese { "、" } else { "-" }),
        "letters" => text.chars().filter(|c| !c.is_whitespace()).count().to_string(),
        "n_han" => text.chars().filter(|&c| word::is_chinese(c)).count().to_string(),
        "n_words" => text.split_whitespace().count().to_string(),
        "first" => text.chars().take(1).collect(),
        "last" => text.chars().last().map(String::from).unwrap_or_default(),
        "reverse" => word::reversed(text),
        _ => panic!("no form {form}"),
    }
}

/// What stands between the first bracket and its partner, and what follows.
fn enclosed(text: &str) -> (&str, &str) {
    let mut depth = 0;
    for (at, c) in text.char_indices() {
        match c {
            '{' | '[' => depth += 1,
            '}' | ']' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return (&text[1..at], &text[at + 1..]);
        }
    }
    panic!("a bracket is not closed: {text}")
}

/// The parts between bars that are in no inner bracket.
fn parts(text: &str) -> Vec<&str> {
    let (mut parts, mut depth, mut start) = (Vec::new(), 0, 0);
    for (at, c) in text.char_indices() {
        match c {
            '{' | '[' => depth += 1,
            '}' | ']' => depth -= 1,
            '|' if depth == 0 => {
                parts.push(&text[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&text[start..]);
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    fn book() -> Book {
        Book::read(&[(
            "words",
            "list fruit\n  both apple, peach\nlist tier\n  both 猫/只\nlist one\n  both [x|x]y/z\n",
        )])
    }

    #[test]
    fn forms_and_choices() {
        let book = book();
        let check = |template: &str, expected: &[&str]| {
            let mut scope = Scope::new(&book, Split::Train, false);
            scope.bind("n", "12");
            scope.bind("w", "tea");
            let text = scope.expand(template, &mut Draw::new(1, 1));
            assert!(expected.contains(&text.as_str()), "{template}: {text}");
        };
        check("[a|b [c|d]|]", &["a", "b c", "b d", ""]);
        check("{Words n} {w}", &["Twelve tea"]);
        check("{spell w} {letters w} {first w} {last w} {reverse w}", &["t-e-a 3 t a aet"]);
        check("{a fruit}, {many fruit}", &["an apple, apples", "a peach, peaches"]);
        check("{fruit} {fruit2}", &["apple peach", "peach apple"]);
        check("{one}{extra one}", &["xyz"]);
        check("{A fruit}", &["An apple", "A peach"]);
    }

    #[test]
    fn chinese_forms() {
        let book = book();
        let mut scope = Scope::new(&book, Split::Train, true);
        scope.bind("n", "2");
        let text = scope.expand("{a tier}{liang n}{cl tier}{tier}", &mut Draw::new(1, 1));
        assert_eq!(text, "一只猫两只猫");
        scope.bind("w", "苹果");
        assert_eq!(scope.expand("{spell w}{letters w}", &mut Draw::new(1, 1)), "苹、果2");
    }

    #[test]
    #[should_panic(expected = "no list nothing for train")]
    fn a_list_that_is_missing_is_named() {
        let book = book();
        Scope::new(&book, Split::Train, false).expand("{nothing}", &mut Draw::new(1, 1));
    }
}
