//! How a file is written: its length, names, purpose line, `unsafe`, printing and markers.

use crate::none;
use crate::source::{Source, has_word, sources};

/// Lines outside tests.
const LONGEST: usize = 800;

/// Flat tables, which may be longer.
const TABLES: [&str; 0] = [];

/// Files outside `llmos-tensor` that may hold `unsafe`.
const UNSAFE: [&str; 1] = ["crates/llmos-model/src/file/map.rs"];

const BANNED: [&str; 12] = [
    "util", "utils", "common", "helper", "helpers", "core", "manager", "misc", "base", "shared",
    "stuff", "types",
];

/// Names that end in a number because the field's term does.
const NUMBERED: [&str; 3] = ["avx2", "avx512", "bf16"];

fn offence(source: &Source, line: usize, what: &str) -> String {
    format!("{}:{line}: {what}", source.path)
}

#[test]
fn files_are_short() {
    let long = sources().into_iter().filter(|source| {
        !source.is_test && source.n_line > LONGEST && !TABLES.contains(&source.path.as_str())
    });
    none(
        long.map(|source| format!("{}: {} lines, at most {LONGEST}", source.path, source.n_line))
            .collect(),
    );
}

#[test]
fn files_say_what_they_are_for() {
    let silent = sources().into_iter().filter(|source| {
        !source.text.lines().next().is_some_and(|line| line.len() > 5 && line.starts_with("//! "))
    });
    none(silent.map(|source| offence(&source, 1, "opens with no `//!` purpose")).collect());
}

#[test]
fn names_are_nouns_of_the_field() {
    let mut offences = Vec::new();
    for source in sources() {
        let names = source.path.split('/').skip(2).map(|name| name.trim_end_matches(".rs"));
        for name in names {
            let numbered =
                name.ends_with(|c: char| c.is_ascii_digit()) && !NUMBERED.contains(&name);
            if BANNED.contains(&name) || numbered {
                offences.push(format!("{}: {name} names no concept", source.path));
            }
        }
        for (number, line) in source.lines() {
            let mut words = line.split(|c: char| !(c.is_alphanumeric() || c == '_'));
            if words.any(|word| word == "mod")
                && words.find(|word| !word.is_empty()).is_some_and(|name| BANNED.contains(&name))
            {
                offences.push(offence(&source, number, "a module that names no concept"));
            }
        }
    }
    none(offences);
}

#[test]
fn unsafe_stands_where_it_may() {
    let mut offences = Vec::new();
    for source in sources() {
        let allowed = source.room == "llmos-tensor" || UNSAFE.contains(&source.path.as_str());
        let lines = source.lines().filter(|(_, line)| !allowed && has_word(line, "unsafe"));
        offences.extend(lines.map(|(number, _)| offence(&source, number, "unsafe")));
    }
    none(offences);
}

#[test]
fn unsafe_blocks_say_why_they_are_safe() {
    let mut offences = Vec::new();
    for source in sources() {
        let text: Vec<&str> = source.text.lines().collect();
        for (number, line) in source.lines() {
            let block = line.match_indices("unsafe").any(|(at, word)| {
                let next = line[at + word.len()..].trim_start();
                next.starts_with('{') || next.starts_with("impl")
            });
            if block && !is_explained(&text, number - 1) {
                offences.push(offence(&source, number, "unsafe without `// SAFETY:`"));
            }
        }
    }
    none(offences);
}

/// Whether a line is in reach of the word: in its paragraph, or right above its `impl` or macro.
fn is_explained(text: &[&str], line: usize) -> bool {
    let says = |line: &&str| line.contains("// SAFETY:");
    let above = |line: usize| text[..line].iter().rev().take_while(|line| !line.trim().is_empty());
    let near = says(&text[line]) || above(line).take(12).any(says);
    let opens = |line: &&str| line.starts_with("impl") || line.starts_with("macro_rules!");
    let item = (0..line).rev().find(|&at| text[at] == "}" || opens(&text[at]));
    near || item.is_some_and(|at| opens(&text[at]) && above(at).any(says))
}

#[test]
fn only_the_binary_prints() {
    const MACROS: [&str; 4] = ["println!", "eprintln!", "print!", "eprint!"];
    let mut offences = Vec::new();
    for source in sources().into_iter().filter(|source| source.room != "llmos") {
        for (number, line) in source.program() {
            if MACROS.iter().any(|name| has_word(line, name)) {
                offences.push(offence(&source, number, "prints"));
            }
        }
    }
    none(offences);
}

#[test]
fn nothing_is_left_for_later() {
    const CODE: [&str; 4] = ["todo!", "unimplemented!", "dbg!", "#[ignore"];
    // In two parts, so that this file does not hold them.
    let words =
        [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("XX", "X"), concat!("HA", "CK")];
    let mut offences = Vec::new();
    for source in sources() {
        for (number, line) in source.lines() {
            for marker in CODE.iter().filter(|marker| line.contains(**marker)) {
                offences.push(offence(&source, number, marker));
            }
        }
        for (index, line) in source.text.lines().enumerate() {
            for word in words.iter().filter(|word| has_word(line, word)) {
                offences.push(offence(&source, index + 1, word));
            }
        }
    }
    none(offences);
}

#[test]
fn code_is_not_commented_out() {
    let mut offences = Vec::new();
    for source in sources() {
        for (index, line) in source.text.lines().enumerate() {
            let Some(comment) = line.trim_start().strip_prefix("// ") else { continue };
            let statement = comment.starts_with("let ") || comment.starts_with("use ");
            if statement && comment.ends_with(';') {
                offences.push(offence(&source, index + 1, "code in a comment"));
            }
        }
    }
    none(offences);
}
