//! A crate is a permission: its card, the arrows between crates, and what only one room may hold.

use std::collections::BTreeMap;

use crate::none;
use crate::source::{files, read, root, sources};

/// Crate -> the crates of ours that it may import. Arrows point downwards only.
const ARROWS: [(&str, &[&str]); 9] = [
    (
        "llmos",
        &[
            "llmos-serve",
            "llmos-agent",
            "llmos-train",
            "llmos-eval",
            "llmos-store",
            "llmos-model",
            "llmos-tokenizer",
            "llmos-tensor",
        ],
    ),
    (
        "llmos-serve",
        &["llmos-agent", "llmos-eval", "llmos-store", "llmos-model", "llmos-tokenizer"],
    ),
    ("llmos-agent", &["llmos-store", "llmos-model", "llmos-tokenizer"]),
    (
        "llmos-train",
        &["llmos-agent", "llmos-eval", "llmos-model", "llmos-tokenizer", "llmos-tensor"],
    ),
    ("llmos-eval", &["llmos-model", "llmos-tokenizer"]),
    ("llmos-store", &[]),
    ("llmos-model", &["llmos-tensor"]),
    ("llmos-tokenizer", &[]),
    ("llmos-tensor", &[]),
];

/// Outside crate -> the rooms that may import it: what a card forbids cannot come in by the back door.
const KEYS: [(&str, &[&str]); 20] = [
    ("axum", &["llmos-serve"]),
    ("chrono", &["llmos"]),
    ("clap", &["llmos"]),
    ("ctrlc", &["llmos"]),
    ("hyper", &["llmos-serve"]),
    ("hyper-util", &["llmos-serve"]),
    ("indicatif", &["llmos"]),
    ("libc", &["llmos-tensor"]),
    ("memmap2", &["llmos-model"]),
    ("plotters", &["llmos-train"]),
    ("postgres", &["llmos-store"]),
    ("ratatui", &["llmos"]),
    ("reqwest", &["llmos-agent"]),
    ("rusqlite", &["llmos-store"]),
    ("rustyline", &["llmos"]),
    ("sqlx", &["llmos-store"]),
    ("tokio", &["llmos-serve", "llmos-agent"]),
    ("tokio-rustls", &["llmos-serve"]),
    ("tracing-subscriber", &["llmos"]),
    ("ureq", &["llmos"]),
];

/// The crates: folder name -> manifest.
fn manifests() -> BTreeMap<String, toml::Table> {
    let paths = files("crates").into_iter().filter(|path| path.ends_with("/Cargo.toml"));
    let rooms = paths.filter(|path| path.matches('/').count() == 2);
    rooms
        .map(|path| {
            let folder = path.split('/').nth(1).unwrap_or_default().to_string();
            let manifest = read(&path).parse().unwrap_or_else(|error| panic!("{path}: {error}"));
            (folder, manifest)
        })
        .collect()
}

/// Every dependency of a manifest: (table, crate), dev, build and per-target tables included.
fn dependencies(manifest: &toml::Table) -> Vec<(&str, &str)> {
    const TABLES: [&str; 3] = ["dependencies", "dev-dependencies", "build-dependencies"];
    let targets = manifest.get("target").and_then(toml::Value::as_table);
    let per_target = targets.into_iter().flatten().filter_map(|(_, target)| target.as_table());
    let mut found = Vec::new();
    for part in per_target.chain([manifest]) {
        for table in TABLES {
            let names = part.get(table).and_then(toml::Value::as_table).into_iter().flatten();
            found.extend(names.map(|(name, _)| (table, name.as_str())));
        }
    }
    found
}

#[test]
fn arrows_point_downwards() {
    let mut offences = Vec::new();
    for (room, manifest) in &manifests() {
        let Some((_, allowed)) = ARROWS.iter().find(|(name, _)| name == room) else {
            offences.push(format!("crates/{room}: not a room of the house"));
            continue;
        };
        let name = manifest.get("package").and_then(|package| package.get("name"));
        if name.and_then(toml::Value::as_str) != Some(room) {
            offences.push(format!("crates/{room}: the package has another name than its folder"));
        }
        for (table, import) in dependencies(manifest) {
            let ours = import == "llmos" || import.starts_with("llmos-");
            if ours && !allowed.contains(&import) {
                offences.push(format!("crates/{room}/Cargo.toml: {table}: {import} is no arrow"));
            }
        }
    }
    none(offences);
}

#[test]
fn outside_crates_stay_in_their_rooms() {
    let mut offences = Vec::new();
    for (room, manifest) in &manifests() {
        for (table, import) in dependencies(manifest) {
            let key = KEYS.iter().find(|(name, _)| *name == import);
            let forbidden = key.is_some_and(|(_, rooms)| !rooms.contains(&room.as_str()));
            if forbidden {
                offences.push(format!("crates/{room}/Cargo.toml: {table}: {import} is not for it"));
            }
        }
    }
    none(offences);
}

#[test]
fn every_room_has_a_card() {
    const PARTS: [&str; 4] = ["**What it is.**", "**May touch.**", "**Never.**", "**Invariants.**"];
    let mut offences = Vec::new();
    for room in manifests().keys() {
        let library = format!("crates/{room}/src/lib.rs");
        let is_library = root().join(&library).exists();
        let path = if is_library { library } else { format!("crates/{room}/src/main.rs") };
        let text = read(&path);
        if text.lines().next() != Some(&format!("//! # Room card: {room}")) {
            offences.push(format!("{path}:1: opens with no room card"));
        }
        let card: Vec<&str> = text.lines().take_while(|line| line.starts_with("//!")).collect();
        for part in PARTS {
            if !card.iter().any(|line| line.contains(part)) {
                offences.push(format!("{path}: the card lacks {part}"));
            }
        }
    }
    none(offences);
}

#[test]
fn only_some_rooms_reach_the_outside() {
    // What the cards say of clocks, the network, the environment, files and processes.
    const OUTSIDE: [(&str, &[&str]); 6] = [
        ("std::env::var", &["llmos", "llmos-agent"]),
        ("std::env::args", &["llmos"]),
        ("std::net", &["llmos", "llmos-serve", "llmos-agent"]),
        ("process::Command", &["llmos", "llmos-agent"]),
        ("std::fs", &["llmos", "llmos-model", "llmos-store", "llmos-train", "llmos-agent"]),
        ("SystemTime", &["llmos", "llmos-store", "llmos-agent", "llmos-serve"]),
    ];
    let mut offences = Vec::new();
    for source in sources() {
        for (number, line) in source.program() {
            for (path, rooms) in OUTSIDE {
                if line.contains(path) && !rooms.contains(&source.room.as_str()) {
                    let at = format!("{}:{number}", source.path);
                    offences.push(format!("{at}: {path} is not for {}", source.room));
                }
            }
        }
    }
    none(offences);
}
