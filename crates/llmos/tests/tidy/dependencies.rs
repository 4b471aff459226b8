//! Dependencies are declared once, in the root Cargo.toml, each with a sentence of reason.

use std::collections::BTreeSet;

use crate::none;
use crate::source::{files, read};

/// Entries of [workspace.dependencies]: (crate, the line above it).
fn declared() -> Vec<(String, String)> {
    let manifest = read("Cargo.toml");
    let mut found = Vec::new();
    let mut above = "";
    let inside = manifest.lines().skip_while(|line| *line != "[workspace.dependencies]").skip(1);
    for line in inside.take_while(|line| !line.starts_with('[')) {
        if let Some((name, _)) = line.split_once(" = ").filter(|_| !line.starts_with('#')) {
            found.push((name.to_string(), above.to_string()));
        }
        above = line;
    }
    assert!(found.len() > 10, "{} entries in [workspace.dependencies]", found.len());
    found
}

#[test]
fn each_has_a_reason() {
    let mut offences = Vec::new();
    for (name, above) in declared() {
        let reason = above.starts_with("# ") && above.ends_with('.') && above.len() > 20;
        if !name.starts_with("llmos-") && !reason {
            offences.push(format!("Cargo.toml: {name} has no sentence of reason above it"));
        }
    }
    none(offences);
}

#[test]
fn crates_take_the_declared_ones_and_all_are_taken() {
    const TABLES: [&str; 3] = ["dependencies", "dev-dependencies", "build-dependencies"];
    let mut offences = Vec::new();
    let mut taken = BTreeSet::new();
    for path in files("crates").into_iter().filter(|path| path.ends_with("/Cargo.toml")) {
        let manifest: toml::Table =
            read(&path).parse().unwrap_or_else(|error| panic!("{path}: {error}"));
        for table in TABLES {
            for (name, value) in
                manifest.get(table).and_then(|table| table.as_table()).into_iter().flatten()
            {
                let inherited = value.get("workspace").and_then(toml::Value::as_bool);
                if inherited != Some(true) {
                    offences.push(format!("{path}: {name} is not taken from the workspace"));
                }
                taken.insert(name.clone());
            }
        }
    }
    for (name, _) in declared() {
        if !taken.contains(&name) {
            offences.push(format!("Cargo.toml: no crate takes {name}"));
        }
    }
    none(offences);
}
