//! Licences of everything that is built in, read from `cargo metadata` and held against deny.toml.

use std::process::Command;

use crate::none;
use crate::source::{read, root};

/// An SPDX expression: alternatives, each a list of licences that all apply.
type Alternatives = Vec<Vec<String>>;

/// Reads an SPDX expression, and the old `A/B` for `A OR B`. AND binds tighter than OR.
///
/// Source: SPDX specification 2.3, annex D. None where the expression is malformed.
fn alternatives(expression: &str) -> Option<Alternatives> {
    let spaced = expression.replace('(', " ( ").replace(')', " ) ").replace('/', " OR ");
    let mut words = spaced.split_whitespace().peekable();
    let read = either(&mut words)?;
    words.next().is_none().then_some(read)
}

type Words<'a> = std::iter::Peekable<std::str::SplitWhitespace<'a>>;

fn either(words: &mut Words<'_>) -> Option<Alternatives> {
    let mut all = both(words)?;
    while words.next_if_eq(&"OR").is_some() {
        all.extend(both(words)?);
    }
    Some(all)
}

fn both(words: &mut Words<'_>) -> Option<Alternatives> {
    let mut all = one(words)?;
    while words.next_if_eq(&"AND").is_some() {
        let right = one(words)?;
        let joined =
            all.iter().flat_map(|left| right.iter().map(|right| [&left[..], right].concat()));
        all = joined.collect();
    }
    Some(all)
}

fn one(words: &mut Words<'_>) -> Option<Alternatives> {
    let word = words.next()?;
    if word == "(" {
        let inner = either(words)?;
        return (words.next() == Some(")")).then_some(inner);
    }
    if [")", "AND", "OR", "WITH"].contains(&word) {
        return None;
    }
    let licence = match words.next_if_eq(&"WITH") {
        Some(_) => format!("{word} WITH {}", words.next()?),
        None => word.to_string(),
    };
    Some(vec![vec![licence]])
}

#[test]
fn licences_are_permissive() {
    let deny: toml::Table = read("deny.toml").parse().expect("deny.toml is TOML");
    let allowed = deny["licenses"]["allow"].as_array().expect("licenses.allow is a list");
    let allowed: Vec<&str> = allowed.iter().filter_map(toml::Value::as_str).collect();
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--offline", "--locked"])
        .args(["--filter-platform", host().as_str()])
        .current_dir(root())
        .output()
        .expect("cargo starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let packages = metadata["packages"].as_array().expect("a list of packages");
    let mut offences = Vec::new();
    for package in packages {
        let licence = package["license"].as_str().unwrap_or("no licence");
        let fits = |all: &Vec<String>| all.iter().all(|one| allowed.contains(&one.as_str()));
        if !alternatives(licence).is_some_and(|read| read.iter().any(fits)) {
            offences.push(format!("{} {}: {licence}", package["name"], package["version"]));
        }
    }
    assert!(packages.len() > 10, "cargo metadata lists {} packages", packages.len());
    none(offences);
}

/// The target that this test was built for, as rustc calls it.
fn host() -> String {
    let rustc = std::env::var("RUSTC").unwrap_or_else(|_| "rustc".to_string());
    let output = Command::new(rustc).arg("-vV").output().expect("rustc starts");
    let text = String::from_utf8(output.stdout).expect("rustc writes UTF-8");
    let line = text.lines().find_map(|line| line.strip_prefix("host: "));
    line.expect("rustc -vV names the host").to_string()
}

#[test]
fn expressions_are_read() {
    let check = |text: &str, expected: Option<&[&[&str]]>| {
        let read = alternatives(text);
        let read: Option<Vec<Vec<&str>>> = read
            .as_ref()
            .map(|read| read.iter().map(|all| all.iter().map(String::as_str).collect()).collect());
        let expected = expected.map(|all| all.iter().map(|one| one.to_vec()).collect());
        assert_eq!(read, expected, "{text}");
    };
    check("MIT", Some(&[&["MIT"]]));
    check("MIT/Apache-2.0", Some(&[&["MIT"], &["Apache-2.0"]]));
    check("MIT OR A WITH E", Some(&[&["MIT"], &["A WITH E"]]));
    check("(MIT OR A) AND U", Some(&[&["MIT", "U"], &["A", "U"]]));
    check("A OR B AND C", Some(&[&["A"], &["B", "C"]]));
    check("MIT OR", None);
    check("(MIT", None);
    check("no licence", None);
}
