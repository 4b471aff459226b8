//! The threat model names a test for every line, and each is there.

use crate::none;
use crate::source::{files, read, root};

/// The page, as rows of its tables.
fn rows() -> Vec<(usize, String)> {
    let page = read("docs/threat-model.md");
    let rows = page.lines().enumerate().filter(|(_, line)| line.starts_with("| "));
    rows.map(|(index, line)| (index + 1, line.to_string())).collect()
}

/// The names in a text of the form `module::test`.
fn named(text: &str) -> Vec<(&str, &str)> {
    let quoted = text.split('`').skip(1).step_by(2);
    quoted.filter_map(|name| name.split_once("::")).collect()
}

#[test]
fn every_test_that_the_threat_model_names_is_there() {
    let sources: Vec<String> = ["crates", "fuzz"]
        .iter()
        .flat_map(|folder| files(folder))
        .filter(|path| path.ends_with(".rs"))
        .collect();
    let mut offences = Vec::new();
    let mut n_named = 0;
    for (line, row) in rows() {
        for (module, test) in named(&row) {
            n_named += 1;
            let file = format!("/{module}.rs");
            let is_there = sources
                .iter()
                .filter(|path| path.ends_with(&file))
                .filter_map(|path| std::fs::read_to_string(root().join(path)).ok())
                .any(|text| text.contains(&format!("fn {test}(")));
            if !is_there {
                offences.push(format!("docs/threat-model.md:{line}: {module}::{test}"));
            }
        }
    }
    none(offences);
    assert!(n_named > 40, "{n_named} tests are named");
}

#[test]
fn every_line_of_attack_has_a_test() {
    // The assets have places instead, and headings have neither.
    let attacks = rows().into_iter().filter(|(_, row)| row.matches(" | ").count() == 2);
    let attacks = attacks.filter(|(_, row)| !row.starts_with("| attack |"));
    let untested = attacks.filter(|(_, row)| named(row).is_empty());
    none(untested.map(|(line, row)| format!("docs/threat-model.md:{line}: {row}")).collect());
}
