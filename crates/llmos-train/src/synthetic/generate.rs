//! Rows by seed and number.

use std::collections::{BTreeMap, HashSet};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use serde::Serialize;
use twox_hash::XxHash3_64;

use super::book::{Book, Topic};
use super::draw::Draw;
use super::exchange::{Exchange, play};
use super::row::{Message, Row, Skill, Split};
use super::template::Scope;
use super::{stories, translation};
use crate::data::Language;
use crate::{Error, disk};

/// Tries to make a row that was not there before; where there is so little to say that all fail,
/// it comes again.
const TRIES: u64 = 24;

/// Which rows are made.
#[derive(Clone, Debug)]
pub struct Options {
    /// From which templates and words.
    pub split: Split,
    /// Everything follows from it.
    pub seed: u64,
    /// English, Chinese or both, as often.
    pub languages: Vec<Language>,
    /// In the proportions that they have among all.
    pub skills: Vec<Skill>,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            split: Split::Train,
            seed: 0,
            languages: vec![Language::En, Language::Zh],
            skills: Skill::ALL.to_vec(),
        }
    }
}

/// Makes rows, one after another, without end: the first thousand of ten thousand are those of a
/// thousand.
pub struct Generator {
    options: Options,
    english: Book,
    chinese: Book,
    seen: HashSet<u64>,
    next: u64,
}

impl Generator {
    /// A generator at its first row.
    ///
    /// # Errors
    /// [`Error::Setting`] where there is no language or no skill, or a language that is neither
    /// English nor Chinese.
    pub fn new(mut options: Options) -> Result<Generator, Error> {
        let refuse = |key: &str, problem: &str| {
            Err(Error::Setting { key: key.to_string(), problem: problem.to_string() })
        };
        options.languages.sort_unstable();
        options.languages.dedup();
        options.skills.sort_unstable();
        options.skills.dedup();
        if options.languages.is_empty() || options.languages.contains(&Language::Other) {
            return refuse("language", "conversations are made in en and zh");
        }
        if options.skills.is_empty() {
            return refuse("skill", "at least one is needed");
        }
        let (english, chinese) = (Book::read(&super::ENGLISH), Book::read(&super::CHINESE));
        Ok(Generator { options, english, chinese, seen: HashSet::new(), next: 0 })
    }

    fn make(&self, number: u64, attempt: u64) -> Row {
        let Options { split, seed, .. } = self.options;
        // A row that is made anew stays one of its skill and language.
        let mut draw = Draw::new(seed, number * (TRIES + 1));
        let language = draw.pick(&self.options.languages);
        let skill = self.skill(&mut draw);
        let mut draw = Draw::new(seed, number * (TRIES + 1) + 1 + attempt);
        let is_chinese = language == Language::Zh;
        let book = if is_chinese { &self.chinese } else { &self.english };
        let scope = Scope::new(book, split, is_chinese);
        let mut messages = Vec::new();
        if draw.chance(20) {
            messages.push(Message::text("system", scope.clone().expand("{system}", &mut draw)));
        }
        let mut is_first = true;
        if draw.chance(22) {
            for _ in 0..1 + usize::from(draw.chance(25)) {
                let earlier = draw.pick(&EARLIER);
                for exchange in talk(earlier, is_first, false, &scope, &mut draw) {
                    exchange.messages(&mut messages);
                }
                is_first = false;
            }
        }
        let mut exchanges = talk(skill, is_first, true, &scope, &mut draw);
        let last = exchanges.pop();
        for exchange in exchanges {
            exchange.messages(&mut messages);
        }
        let last = last.unwrap_or_else(|| panic!("{} says nothing", skill.name()));
        let expect = last.expect.clone();
        last.messages(&mut messages);
        let (language, split) = (language.name(), split.name());
        let id = format!("gen-{split}-{language}-{}-{number:06}", skill.name());
        Row { id, language, skill, messages, expect }
    }

    fn skill(&self, draw: &mut Draw) -> Skill {
        let skills = &self.options.skills;
        let mut at = draw.below(skills.iter().map(|skill| skill.weight()).sum());
        for &skill in skills {
            match at.checked_sub(skill.weight()) {
                Some(rest) => at = rest,
                None => return skill,
            }
        }
        skills[skills.len() - 1]
    }
}

impl Iterator for Generator {
    type Item = Row;

    fn next(&mut self) -> Option<Row> {
        let number = self.next;
        self.next += 1;
        let mut row = self.make(number, 0);
        for attempt in 1..TRIES {
            let mut text = String::new();
            for message in &row.messages {
                text.push_str(&message.content);
                text.push('\n');
            }
            if self.seen.insert(XxHash3_64::oneshot(text.as_bytes())) {
                break;
            }
            row = self.make(number, attempt);
        }
        Some(row)
    }
}

/// Skills that other conversations may begin with: short ones, in one language.
const EARLIER: [Skill; 7] = [
    Skill::Arithmetic,
    Skill::Routing,
    Skill::Spelling,
    Skill::Identity,
    Skill::Limits,
    Skill::Refusal,
    Skill::SmallTalk,
];

/// A question of a skill, and some that refer back to it. A goodbye comes last alone.
fn talk(
    skill: Skill,
    is_first: bool,
    is_last: bool,
    scope: &Scope<'_>,
    draw: &mut Draw,
) -> Vec<Exchange> {
    let mut scope = scope.clone();
    match skill {
        Skill::Stories => stories::play(&mut scope, draw),
        Skill::Translation => translation::play(&mut scope, draw),
        _ => {
            let topics = scope.book.topics.get(skill.name()).map_or(&[][..], |topics| topics);
            let topic = choose(
                topics,
                |topic| topic.after.is_none() && (is_last || !topic.is_end),
                &scope,
                draw,
            );
            let topic = topic.unwrap_or_else(|| panic!("{} has topics", skill.name()));
            let mut exchange = play(topic, &mut scope, draw);
            if !topic.is_bare {
                dress(&mut exchange.user, skill, is_first, &mut scope, draw);
            }
            let mut exchanges = vec![exchange];
            for percent in [30, 25] {
                if !draw.chance(percent) {
                    break;
                }
                let Some(last) = exchanges.last() else { break };
                let result = last.whole_result().map(String::from);
                let refers = |topic: &Topic| match topic.after {
                    Some("result") => result.is_some(),
                    after => after == Some(last.topic),
                };
                let Some(topic) = choose(topics, refers, &scope, draw) else { break };
                scope.bind("last", result.unwrap_or_default());
                exchanges.push(play(topic, &mut scope, draw));
            }
            exchanges
        }
    }
}

/// A topic that fits, by the number of its questions in this split.
fn choose<'a>(
    topics: &'a [Topic],
    fits: impl Fn(&Topic) -> bool,
    scope: &Scope<'_>,
    draw: &mut Draw,
) -> Option<&'a Topic> {
    let weight = |topic: &Topic| match fits(topic) {
        true => topic.questions[scope.split as usize].len(),
        false => 0,
    };
    let total: usize = topics.iter().map(weight).sum();
    let mut at = if total > 0 { draw.below(total) } else { return None };
    topics.iter().find(|topic| match at.checked_sub(weight(topic)) {
        Some(rest) => {
            at = rest;
            false
        }
        None => true,
    })
}

/// Puts words around a question, as people do, and makes it as untidy as they write.
fn dress(
    question: &mut String,
    skill: Skill,
    is_first: bool,
    scope: &mut Scope<'_>,
    draw: &mut Draw,
) {
    let between = if scope.is_chinese { "" } else { " " };
    if skill == Skill::Arithmetic && draw.chance(12) {
        *question = scope.expand("{distract}", draw) + between + question;
    }
    if is_first && draw.chance(14) {
        let opening = if question.ends_with(['?', '？']) { "{open}" } else { "{greet}" };
        *question = scope.expand(opening, draw) + between + question;
    }
    if question.ends_with(['?', '？']) && skill != Skill::Refusal && draw.chance(6) {
        *question = format!("{question}{between}{}", scope.expand("{close}", draw));
    }
    if draw.chance(10) {
        let end = question.trim_end_matches(['.', '?', '!', '。', '？', '！']).trim_end().len();
        question.truncate(end);
    }
    if !scope.is_chinese && draw.chance(10) {
        *question = question.to_lowercase();
    }
    if scope.is_chinese && draw.chance(6) {
        *question = question.replace('？', "?");
    }
}

/// How many rows there are of each skill, by language.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// All.
    pub rows: u64,
    /// Turns of all roles.
    pub messages: u64,
    /// Bytes of the file.
    pub bytes: u64,
    /// By the skill's name, then by the language's.
    pub skills: BTreeMap<&'static str, BTreeMap<&'static str, u64>>,
}

/// What a row of the file looks like.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Layout {
    /// The whole graded conversation.
    #[default]
    Messages,
    /// What is said in it alone, under `text`: for a tokenizer, or to pretrain on.
    Text,
}

/// A row of [`Layout::Text`].
#[derive(Serialize)]
struct Said {
    text: String,
}

impl Said {
    fn of(row: &Row) -> Said {
        let said: Vec<&str> = row
            .messages
            .iter()
            .map(|message| message.content.as_str())
            .filter(|content| !content.is_empty())
            .collect();
        Said { text: said.join("\n") }
    }
}

/// The hidden name under which [`write()`] writes a file until it is whole.
pub fn partial(path: &Path) -> PathBuf {
    disk::aside(path)
}

/// Writes the next `count` rows as JSON Lines; the file appears whole or not at all. `progress` is
/// told how many there are now and then.
///
/// # Errors
/// [`Error::Io`] where the system refuses.
pub fn write(
    path: &Path,
    generator: &mut Generator,
    count: u64,
    layout: Layout,
    progress: &mut dyn FnMut(u64),
) -> Result<Summary, Error> {
    let mut summary = Summary::default();
    disk::write_whole(path, |file| {
        let mut out = BufWriter::with_capacity(1 << 18, file);
        for (index, row) in generator.take(count as usize).enumerate() {
            let mut line = match layout {
                Layout::Messages => serde_json::to_vec(&row)?,
                Layout::Text => serde_json::to_vec(&Said::of(&row))?,
            };
            line.push(b'\n');
            out.write_all(&line)?;
            summary.rows += 1;
            summary.messages += row.messages.len() as u64;
            summary.bytes += line.len() as u64;
            let of_skill = summary.skills.entry(row.skill.name()).or_default();
            *of_skill.entry(row.language).or_default() += 1;
            if index.is_multiple_of(1000) {
                progress(summary.rows);
            }
        }
        out.flush()
    })?;
    Ok(summary)
}
