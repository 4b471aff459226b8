//! What must hold of every row, whatever is drawn.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use llmos_agent::calculator::reply;
use llmos_eval::conversation::{Answer, ToolCall};
use llmos_eval::grade::{Grade, grade};

use super::book::Book;
use super::word::is_chinese;
use super::*;
use crate::data::Language;

fn options(split: Split, seed: u64) -> Options {
    Options { split, seed, ..Options::default() }
}

fn rows(split: Split, seed: u64, count: usize) -> impl Iterator<Item = Row> {
    Generator::new(options(split, seed)).expect("options that can be").take(count)
}

fn users(row: &Row) -> impl Iterator<Item = &str> {
    row.messages.iter().filter(|m| m.role == "user").map(|m| m.content.as_str())
}

/// A text without what is only dress: capitals, marks and spaces.
fn bare(text: &str) -> String {
    text.to_lowercase().chars().filter(|c| c.is_alphanumeric() || "+-*/^%".contains(*c)).collect()
}

fn check(row: &Row) {
    let fail = |what: &str| panic!("{what}: {}", serde_json::to_string_pretty(row).expect("JSON"));
    let messages = &row.messages;
    let mut before = "";
    for (at, message) in messages.iter().enumerate() {
        let calls = !message.tool_calls.is_empty();
        let follows = match message.role {
            "system" => at == 0,
            "user" => ["", "system", "assistant"].contains(&before),
            "assistant" => ["user", "tool"].contains(&before),
            "tool" => before == "call",
            _ => false,
        };
        if !follows {
            fail("roles do not alternate");
        }
        before = if calls { "call" } else { message.role };
        let text = &message.content;
        if text.is_empty() != calls {
            fail("an empty text");
        }
        if text.contains("  ") || text.trim() != text {
            fail("stray spaces");
        }
        if text.contains(['{', '}', '[', ']', '|', '\\']) || text.contains("=>") {
            fail("what is left of a template");
        }
        if (message.role == "tool") != message.name.is_some() {
            fail("a name where none belongs");
        }
        for call in &message.tool_calls {
            let answer = &messages[at + 1];
            if answer.role != "tool" || answer.name != Some(call.function.name) {
                fail("a call that is not answered");
            }
            match (call.function.name, &call.function.arguments.expression) {
                ("calculator", Some(expression)) => {
                    if reply(expression) != answer.content {
                        fail("a wrong result");
                    }
                }
                ("clock", None) => {}
                _ => fail("a call of what is no tool"),
            }
        }
        let mixed = [Skill::Translation, Skill::Spelling].contains(&row.skill);
        if !mixed && row.language == "en" && text.chars().any(|c| is_chinese(c) || c == '。') {
            fail("Chinese in English");
        }
        if !mixed && row.language == "zh" && !calls && message.role != "tool" {
            for word in text.split(|c: char| !c.is_ascii_alphabetic()).filter(|w| !w.is_empty()) {
                if !FOREIGN.contains(&word) {
                    fail(&format!("English in Chinese: {word}"));
                }
            }
        }
    }
    if before != "assistant" {
        fail("no answer");
    }
    let last_user = messages.iter().rposition(|m| m.role == "user").expect("a question");
    let tools: Vec<&str> = messages[last_user..].iter().filter_map(|m| m.name).collect();
    let expect = &row.expect;
    if expect.tool != tools.first().copied() {
        fail("another tool than expected");
    }
    let result = messages[last_user..].iter().find(|m| m.role == "tool").map(|m| &m.content);
    if expect.result.as_ref() != result {
        fail("another result than expected");
    }
    let marks = marks(row, last_user);
    if !(marks.routing && marks.result != Some(false) && marks.answer != Some(false)) {
        fail(&format!("the answer does not pass: {marks:?}"));
    }
    if expect.answer_any.iter().chain(&expect.answer_none).any(String::is_empty) {
        fail("an empty expectation");
    }
}

/// What the grader says of the row's own answer.
fn marks(row: &Row, last_user: usize) -> Grade {
    let expect = serde_json::to_value(&row.expect).expect("JSON");
    let expect = serde_json::from_value(expect).expect("what the grader reads");
    let turns = &row.messages[last_user..];
    let calls = turns.iter().filter(|turn| turn.role == "tool").map(|turn| ToolCall {
        name: turn.name.unwrap_or_default().to_string(),
        arguments: serde_json::Value::Null,
        result: turn.content.as_str().into(),
    });
    let answer = turns[turns.len() - 1].content.clone();
    grade(&expect, &Answer { answer, tool_calls: calls.collect(), error: None })
}

/// Latin words that Chinese sentences hold.
const FOREIGN: [&str; 37] = [
    "llmos",
    "CPU",
    "ChatGPT",
    "GPT",
    "Claude",
    "Gemini",
    "Llama",
    "DeepSeek",
    "Siri",
    "Kimi",
    "Grok",
    "Copilot",
    "OpenAI",
    "Meta",
    "Anthropic",
    "IBM",
    "Python",
    "Java",
    "Rust",
    "C",
    "Ruby",
    "Go",
    "Swift",
    "km",
    "LLMOS",
    "a",
    "b",
    "c",
    "d",
    "e",
    "f",
    "g",
    "h",
    "i",
    "j",
    "k",
    "l",
];

#[test]
fn rows_are_sound() {
    for seed in 0..8 {
        for split in Split::ALL {
            rows(split, seed, 4000).for_each(|row| check(&row));
        }
    }
}

#[test]
fn the_same_seed_makes_the_same_rows() {
    let of = |seed, count| rows(Split::Train, seed, count).collect::<Vec<_>>();
    let first = of(7, 300);
    assert_eq!(first, of(7, 300));
    assert_eq!(first[..100], of(7, 100));
    assert_ne!(first, of(8, 300));
}

#[test]
fn rows_are_of_what_was_asked_for() {
    let options = Options {
        languages: vec![Language::Zh],
        skills: vec![Skill::Limits, Skill::Spelling],
        ..Options::default()
    };
    for row in Generator::new(options).expect("options that can be").take(200) {
        assert!(row.language == "zh" && [Skill::Limits, Skill::Spelling].contains(&row.skill));
    }
    let of = |languages, skills| {
        Generator::new(Options { languages, skills, ..Options::default() }).map(|_| ()).is_ok()
    };
    assert!(!of(vec![], vec![Skill::Limits]) && !of(vec![Language::En], vec![]));
    assert!(!of(vec![Language::Other], vec![Skill::Limits]));
}

#[test]
fn every_skill_comes_in_both_languages_and_few_rows_come_again() {
    for split in Split::ALL {
        let mut counts: BTreeMap<(Skill, &str), usize> = BTreeMap::new();
        let mut seen = HashSet::new();
        let n_row = 6000;
        for row in rows(split, 3, n_row) {
            *counts.entry((row.skill, row.language)).or_default() += 1;
            seen.insert(format!("{:?}", row.messages));
        }
        assert_eq!(counts.len(), 2 * Skill::ALL.len());
        for ((skill, language), count) in counts {
            let share = count as f64 * 200.0 / n_row as f64;
            let expected = skill.weight() as f64;
            assert!((share / expected - 1.0).abs() < 0.3, "{skill:?} {language}: {share:.1}");
        }
        let again = n_row - seen.len();
        assert!(again < n_row / 50, "{}: {again} rows of {n_row} come again", split.name());
    }
}

/// Every story's question is answered by the story, in the words that are graded.
#[test]
fn stories_hold_the_answers() {
    for split in Split::ALL {
        let options = Options { skills: vec![Skill::Stories], ..options(split, 11) };
        for row in Generator::new(options).expect("options that can be").take(3000) {
            let text: Vec<&str> = row.messages[..row.messages.len() - 1]
                .iter()
                .filter(|message| message.content.chars().count() > 35)
                .map(|message| message.content.as_str())
                .collect();
            let text = text.join("\n").to_lowercase();
            let told = row.messages[row.messages.len() - 1].content.chars().count() > 40;
            let found = row.expect.answer_any.iter().any(|any| text.contains(&any.to_lowercase()));
            assert!(told || found, "{row:#?}");
        }
    }
}

/// The question templates of a split: file, topic, template.
fn templates(book: &Book, split: Split) -> Vec<(&'static str, &'static str, &'static str)> {
    let mut all = Vec::new();
    for (file, topics) in &book.topics {
        for topic in topics {
            let questions = topic.questions[split as usize].iter();
            all.extend(questions.map(|question| (*file, topic.name, *question)));
        }
    }
    for plot in book.plots.iter().filter(|plot| plot.split == split) {
        all.extend(plot.questions.iter().map(|[question, ..]| ("stories", plot.name, *question)));
        all.extend(
            plot.sentences
                .iter()
                .skip(1)
                .filter(|sentence| !sentence.starts_with("{happy"))
                .map(|sentence| ("stories", plot.name, *sentence)),
        );
    }
    for pairs in book.pairs.iter().filter(|pairs| pairs.split == split) {
        all.extend(pairs.sentences.iter().map(|(english, _)| ("translation", "pairs", *english)));
    }
    for frames in ["frame", "wish", "to_chinese", "to_english"] {
        let lines = book.lists[frames][split as usize].iter();
        all.extend(lines.map(|line| ("frames", frames, *line)));
    }
    all
}

fn books() -> [(&'static str, Book); 2] {
    [("en", Book::read(&ENGLISH)), ("zh", Book::read(&CHINESE))]
}

#[test]
fn splits_share_no_template() {
    for (language, book) in books() {
        let train: BTreeSet<String> =
            templates(&book, Split::Train).iter().map(|(_, _, text)| bare(text)).collect();
        for (file, topic, template) in templates(&book, Split::Test) {
            assert!(!train.contains(&bare(template)), "{language} {file} {topic}: {template}");
        }
    }
}

#[test]
fn there_are_patterns_enough() {
    for (language, book) in books() {
        for split in Split::ALL {
            let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
            for (file, _, _) in templates(&book, split) {
                *counts.entry(file).or_default() += 1;
            }
            let least = if split == Split::Train { 30 } else { 12 };
            for (file, count) in &counts {
                assert!(*count >= least, "{language} {file} {}: {count}", split.name());
            }
            for topic in book.topics.values().flatten() {
                // Some are there to be learnt from alone.
                let questions = &topic.questions[Split::Train as usize];
                assert!(!questions.is_empty(), "{language} {}", topic.name);
                assert!(!topic.answers.is_empty(), "{language} {}: no answer", topic.name);
            }
            println!("{language} {}: {counts:?}", split.name());
        }
    }
}

/// Words of the test lists: none is in a train list, and none is said in train rows.
#[test]
fn splits_share_no_word() {
    for (language, book) in books() {
        let text: Vec<String> = {
            let only = if language == "en" { Language::En } else { Language::Zh };
            let options = Options { languages: vec![only], ..options(Split::Train, 5) };
            let rows = Generator::new(options).expect("options that can be").take(20_000);
            rows.flat_map(|row| row.messages)
                .filter(|message| message.role != "tool" && message.role != "system")
                .map(|message| format!(" {} ", spaced(&message.content, language)))
                .collect()
        };
        let text = text.concat();
        let mut shared = BTreeSet::new();
        for (list, [train, test]) in &book.apart {
            let train: BTreeSet<&str> = train.iter().map(|word| first(word)).collect();
            for word in test.iter().map(|word| first(word)).filter(|word| !word.contains('{')) {
                let said = format!(" {} ", spaced(word, language));
                let said = if language == "en" { said.as_str() } else { said.trim() };
                if train.contains(word) || text.contains(said) {
                    shared.insert(format!("{list}: {word}"));
                }
            }
        }
        assert!(shared.is_empty(), "{language}: {shared:#?}");
    }
}

/// A list's entry without its forms.
fn first(word: &str) -> &str {
    word.split('/').next().unwrap_or_default()
}

/// English words between single spaces; Chinese as it is.
fn spaced(text: &str, language: &str) -> String {
    if language == "zh" {
        return text.to_string();
    }
    let words = text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty());
    words.map(str::to_lowercase).collect::<Vec<_>>().join(" ")
}

#[test]
fn no_test_question_was_in_training() {
    let train: HashSet<String> = rows(Split::Train, 0, 60_000)
        .flat_map(|r| users(&r).map(bare).collect::<Vec<_>>())
        .collect();
    let mut shared = BTreeSet::new();
    for row in rows(Split::Test, 0, 15_000) {
        shared.extend(users(&row).filter(|text| train.contains(&bare(text))).map(String::from));
    }
    assert!(shared.is_empty(), "{} questions: {shared:#?}", shared.len());
}

#[test]
fn files_are_whole_and_counted() {
    let folder = crate::data::scratch::Scratch::new();
    let path = folder.path().join("chats.jsonl");
    let mut generator = Generator::new(options(Split::Test, 2)).expect("options that can be");
    let mut told = Vec::new();
    let mut tell = |done| told.push(done);
    let summary = write(&path, &mut generator, 1500, Layout::Messages, &mut tell).expect("writes");
    let text = std::fs::read_to_string(&path).expect("the file");
    assert_eq!((summary.rows, summary.bytes), (1500, text.len() as u64));
    assert_eq!(summary.skills.values().flat_map(|counts| counts.values()).sum::<u64>(), 1500);
    assert_eq!(told, [1, 1001]);
    let line: serde_json::Value =
        serde_json::from_str(text.lines().next().expect("a line")).expect("JSON");
    assert!(line["id"].as_str().is_some_and(|id| id.starts_with("gen-test-")), "{line}");
    assert!(line["messages"].is_array() && line["expect"].get("tool").is_some(), "{line}");
}
