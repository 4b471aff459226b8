//! The sentences and word lists that rows are made of, read from the files in `text/`.
//!
//! A file is a row of blocks. A block begins at the left edge with its kind and its name; its lines
//! are indented and begin with a keyword. `#` begins a comment. What a line says is a template, see
//! [`super::template`].
//!
//! | block | its lines |
//! |-|-|
//! | `list NAME` | `train`, `test` or `both`, and words between commas (、 in Chinese); `/` parts a word from its form: a plural, a measure word, a partner |
//! | `lines NAME` | the same, one sentence a line |
//! | `topic NAME [bare] [end] [after TOPIC]` | what is drawn; `train` and `test` questions; `call` an expression; `say` an answer; `any` and `none`, what is graded, between bars |
//! | `plot NAME train\|test` | what is drawn; `tell` a sentence; `ask` a question `=>` its answer `=>` what is graded |
//! | `pairs NAME train\|test` | what is drawn; `pair` an English sentence `=>` the Chinese one, other good ones behind bars |
//!
//! Drawn are, in the order in which they stand: `number NAME LOW-HIGH [step N] [not NAME]`,
//! `number NAME = EXPRESSION`, `let NAME = TEMPLATE`, `pick NAME LOW-HIGH LIST`,
//! `numbers NAME LOW-HIGH LOW-HIGH`, `occurrences NAME = TEXT LETTER`, `sequence`,
//! `clock [LOW-HIGH]` (hours).

use std::collections::BTreeMap;

use super::Split;

/// Something that is drawn before a sentence is made.
#[derive(Debug)]
pub(super) enum Declaration {
    /// A number of a range, in units of ten to the minus `decimals`.
    Number {
        name: &'static str,
        low: i64,
        high: i64,
        step: i64,
        decimals: u32,
        unlike: Option<&'static str>,
    },
    /// The calculator's value of an expression.
    Computed { name: &'static str, expression: &'static str },
    /// A text.
    Let { name: &'static str, template: &'static str },
    /// Some words of a list.
    Pick { name: &'static str, low: usize, high: usize, list: &'static str },
    /// Some different numbers of a range.
    Numbers { name: &'static str, low: usize, high: usize, range: (i64, i64) },
    /// How often the letter at the end of a text is in the rest of it.
    Occurrences { name: &'static str, template: &'static str },
    /// A row of numbers and the one that follows.
    Sequence,
    /// What the clock says, at one of these hours.
    Clock { hours: (u32, u32) },
}

/// Questions that are answered alike.
#[derive(Debug, Default)]
pub(super) struct Topic {
    pub(super) name: &'static str,
    /// It goes without greetings around it, and is not made untidy.
    pub(super) is_bare: bool,
    /// Nothing comes after it.
    pub(super) is_end: bool,
    /// What it refers back to: a topic, or `result` for any whole number that was computed.
    pub(super) after: Option<&'static str>,
    pub(super) declarations: Vec<Declaration>,
    /// By [`Split`].
    pub(super) questions: [Vec<&'static str>; 2],
    pub(super) call: Option<&'static str>,
    pub(super) answers: Vec<&'static str>,
    pub(super) any: Vec<&'static str>,
    pub(super) none: Vec<&'static str>,
}

/// A story.
#[derive(Debug)]
pub(super) struct Plot {
    pub(super) name: &'static str,
    pub(super) split: Split,
    pub(super) declarations: Vec<Declaration>,
    pub(super) sentences: Vec<&'static str>,
    /// Question, answer, what is graded.
    pub(super) questions: Vec<[&'static str; 3]>,
}

/// Sentences of the same meaning, English and Chinese.
#[derive(Debug)]
pub(super) struct Pairs {
    pub(super) split: Split,
    pub(super) declarations: Vec<Declaration>,
    /// The English one, and the Chinese ones of which the first is best.
    pub(super) sentences: Vec<(&'static str, Vec<&'static str>)>,
}

/// All that is said in one language.
#[derive(Debug, Default)]
pub(super) struct Book {
    /// By name, then by [`Split`].
    pub(super) lists: BTreeMap<&'static str, [Vec<&'static str>; 2]>,
    /// What is in one split alone, by list: for tests, which hold the splits apart.
    #[cfg(test)]
    pub(super) apart: BTreeMap<&'static str, [Vec<&'static str>; 2]>,
    /// By the file's name.
    pub(super) topics: BTreeMap<&'static str, Vec<Topic>>,
    pub(super) plots: Vec<Plot>,
    pub(super) pairs: Vec<Pairs>,
}

/// What the lines of a block add to.
enum Open {
    List { name: &'static str, is_lines: bool },
    Topic,
    Plot,
    Pairs,
}

impl Book {
    /// Reads files, each with its name. They are part of the program: a mistake in one is a broken
    /// invariant, and a test reads them all.
    pub(super) fn read(files: &[(&'static str, &'static str)]) -> Book {
        let mut book = Book::default();
        for &(file, text) in files {
            let mut open = None;
            for (index, line) in text.lines().enumerate() {
                let content = line.trim();
                if content.is_empty() || content.starts_with('#') {
                    continue;
                }
                let read = if line.starts_with(char::is_whitespace) {
                    open.as_ref().and_then(|open| book.line(file, open, content))
                } else {
                    book.open(file, content).map(|opened| open = Some(opened))
                };
                assert!(read.is_some(), "{file}:{}: what is this? {content}", index + 1);
            }
        }
        book
    }

    fn open(&mut self, file: &'static str, header: &'static str) -> Option<Open> {
        let (kind, rest) = header.split_once(' ')?;
        let mut words = rest.split(' ');
        let name = words.next()?;
        Some(match kind {
            "list" | "lines" => Open::List { name, is_lines: kind == "lines" },
            "topic" => {
                let mut topic = Topic { name, ..Topic::default() };
                while let Some(word) = words.next() {
                    match word {
                        "bare" => topic.is_bare = true,
                        "end" => topic.is_end = true,
                        "after" => topic.after = Some(words.next()?),
                        _ => return None,
                    }
                }
                self.topics.entry(file).or_default().push(topic);
                Open::Topic
            }
            "plot" => {
                let split = Split::from_name(words.next()?)?;
                self.plots.push(Plot {
                    name,
                    split,
                    declarations: Vec::new(),
                    sentences: Vec::new(),
                    questions: Vec::new(),
                });
                Open::Plot
            }
            "pairs" => {
                let split = Split::from_name(words.next()?)?;
                let (declarations, sentences) = (Vec::new(), Vec::new());
                self.pairs.push(Pairs { split, declarations, sentences });
                Open::Pairs
            }
            _ => return None,
        })
    }

    fn line(&mut self, file: &'static str, open: &Open, content: &'static str) -> Option<()> {
        let (keyword, rest) = content.split_once(' ').unwrap_or((content, ""));
        let rest = rest.trim();
        match open {
            Open::List { name, is_lines } => self.words(name, *is_lines, keyword, rest),
            Open::Topic => {
                let topic = self.topics.get_mut(file)?.last_mut()?;
                match keyword {
                    "train" => topic.questions[Split::Train as usize].push(rest),
                    "test" => topic.questions[Split::Test as usize].push(rest),
                    "say" => topic.answers.push(rest),
                    "any" => topic.any.extend(rest.split('|')),
                    "none" => topic.none.extend(rest.split('|')),
                    "call" => topic.call = Some(rest),
                    _ => topic.declarations.push(declaration(keyword, rest)?),
                }
                Some(())
            }
            Open::Plot => {
                let plot = self.plots.last_mut()?;
                match keyword {
                    "tell" => plot.sentences.push(rest),
                    "ask" => {
                        let mut parts = rest.splitn(3, " => ");
                        plot.questions.push([parts.next()?, parts.next()?, parts.next()?]);
                    }
                    _ => plot.declarations.push(declaration(keyword, rest)?),
                }
                Some(())
            }
            Open::Pairs => {
                let pairs = self.pairs.last_mut()?;
                match keyword {
                    "pair" => {
                        let (english, chinese) = rest.split_once(" => ")?;
                        pairs.sentences.push((english, chinese.split(" | ").collect()));
                    }
                    _ => pairs.declarations.push(declaration(keyword, rest)?),
                }
                Some(())
            }
        }
    }

    fn words(
        &mut self,
        name: &'static str,
        is_lines: bool,
        keyword: &str,
        rest: &'static str,
    ) -> Option<()> {
        let splits: &[Split] = match keyword {
            "train" => &[Split::Train],
            "test" => &[Split::Test],
            "both" => &Split::ALL,
            _ => return None,
        };
        let words: Vec<&'static str> = match is_lines {
            true => vec![rest],
            false => {
                rest.split([',', '、']).map(str::trim).filter(|word| !word.is_empty()).collect()
            }
        };
        for &split in splits {
            self.lists.entry(name).or_default()[split as usize].extend(&words);
            #[cfg(test)]
            if splits.len() == 1 {
                self.apart.entry(name).or_default()[split as usize].extend(&words);
            }
        }
        Some(())
    }
}

fn declaration(keyword: &str, rest: &'static str) -> Option<Declaration> {
    let mut words = rest.split(' ');
    Some(match keyword {
        "number" | "let" | "occurrences" if rest.contains(" = ") => {
            let (name, template) = rest.split_once(" = ")?;
            match keyword {
                "number" => Declaration::Computed { name, expression: template },
                "let" => Declaration::Let { name, template },
                _ => Declaration::Occurrences { name, template },
            }
        }
        "number" => {
            let name = words.next()?;
            let (low, high) = words.next()?.split_once('-')?;
            let decimals = low.split_once('.').map_or(0, |(_, decimals)| decimals.len() as u32);
            let (mut step, mut unlike) = (1, None);
            while let Some(word) = words.next() {
                match word {
                    "step" => step = units(words.next()?, decimals)?,
                    "not" => unlike = Some(words.next()?),
                    _ => return None,
                }
            }
            let (low, high) = (units(low, decimals)?, units(high, decimals)?);
            Declaration::Number { name, low, high, step, decimals, unlike }
        }
        "pick" => {
            let name = words.next()?;
            let (low, high) = range(words.next()?)?;
            Declaration::Pick { name, low, high, list: words.next()? }
        }
        "numbers" => {
            let name = words.next()?;
            let (low, high) = range(words.next()?)?;
            Declaration::Numbers { name, low, high, range: range(words.next()?)? }
        }
        "sequence" => Declaration::Sequence,
        "clock" => {
            Declaration::Clock { hours: if rest.is_empty() { (0, 23) } else { range(rest)? } }
        }
        _ => return None,
    })
}

fn range<T: std::str::FromStr>(text: &str) -> Option<(T, T)> {
    let (low, high) = text.split_once('-')?;
    Some((low.parse().ok()?, high.parse().ok()?))
}

/// A decimal number in units of ten to the minus `decimals`.
fn units(text: &str, decimals: u32) -> Option<i64> {
    let (whole, part) = text.split_once('.').unwrap_or((text, ""));
    if part.len() > decimals as usize {
        return None;
    }
    format!("{whole}{part:0<width$}", width = decimals as usize).parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_read() {
        let book = Book::read(&[(
            "sums",
            "# A comment.\nlist fruit\n  train fig, pear/pears\n  both plum\n  test lime\n\
             topic add bare after result\n  number a 0.50-2.00 step 0.25 not b\n  train What?\n  \
             call {a} + 1\n  say It is {r}.\n  any {r}|one\nplot lost train\n  tell A cat.\n  \
             ask Who? => A cat. => cat\npairs s test\n  pair Hi. => 你好。 | 您好。\n",
        )]);
        assert_eq!(book.lists["fruit"], [vec!["fig", "pear/pears", "plum"], vec!["plum", "lime"]]);
        assert_eq!(book.apart["fruit"][1], ["lime"]);
        let topic = &book.topics["sums"][0];
        assert!(topic.is_bare && !topic.is_end && topic.after == Some("result"));
        assert_eq!(topic.any, ["{r}", "one"]);
        let Declaration::Number { low, high, step, decimals, unlike, .. } = &topic.declarations[0]
        else {
            panic!("{topic:?}");
        };
        assert_eq!((*low, *high, *step, *decimals, *unlike), (50, 200, 25, 2, Some("b")));
        assert_eq!(book.plots[0].questions, [["Who?", "A cat.", "cat"]]);
        assert_eq!(book.pairs[0].sentences, [("Hi.", vec!["你好。", "您好。"])]);
    }

    #[test]
    #[should_panic(expected = "sums:2: what is this?")]
    fn mistakes_are_named() {
        Book::read(&[("sums", "topic add\n  nonsense\n")]);
    }
}
