//! What the repository holds beside code: pages, fuzz targets, and nothing of one person's machine.

use std::collections::BTreeSet;

use crate::none;
use crate::source::{files, read, root};

/// One fuzz target per parser of something that a person may be handed.
const PARSERS: [&str; 24] = [
    "answer",
    "calculator",
    "chat_body",
    "chat_template",
    "completions_body",
    "config_json",
    "conversation_rows",
    "dequantize",
    "gguf",
    "grammar",
    "host_header",
    "http_request",
    "llama2c",
    "metrics_text",
    "model_name",
    "page_image",
    "peft",
    "prepared",
    "raw_text",
    "recipe",
    "safetensors",
    "sentencepiece",
    "stored_rows",
    "tokenizer_json",
];

#[test]
fn every_parser_has_a_fuzz_target() {
    let manifest: toml::Table = read("fuzz/Cargo.toml").parse().expect("fuzz/Cargo.toml is TOML");
    let bins = manifest["bin"].as_array().expect("[[bin]] tables");
    let built: BTreeSet<&str> = bins.iter().filter_map(|bin| bin["name"].as_str()).collect();
    let written = files("fuzz/fuzz_targets");
    let written: BTreeSet<&str> = written
        .iter()
        .filter_map(|path| path.strip_prefix("fuzz/fuzz_targets/")?.strip_suffix(".rs"))
        .collect();
    let parsers = BTreeSet::from(PARSERS);
    assert_eq!(built, parsers, "the targets that fuzz/Cargo.toml names");
    assert_eq!(written, parsers, "the files in fuzz/fuzz_targets");
}

#[test]
fn the_pages_are_there() {
    const PAGES: [&str; 14] = [
        "README.md",
        "README.zh.md",
        "ARCHITECTURE.md",
        "CONTRIBUTING.md",
        "CHANGELOG.md",
        "LICENSE-MIT",
        "LICENSE-APACHE",
        "bench/README.md",
        "bench/RESULTS.md",
        "docs/LOG.md",
        "docs/adding-a-kernel.md",
        "docs/adding-an-architecture.md",
        "docs/serving.md",
        "docs/threat-model.md",
    ];
    none(
        PAGES
            .iter()
            .filter(|page| !root().join(page).exists())
            .map(|page| page.to_string())
            .collect(),
    );
}

#[test]
fn links_between_pages_lead_somewhere() {
    let mut offences = Vec::new();
    for path in files("").into_iter().filter(|path| path.ends_with(".md")) {
        let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
        for (index, line) in read(&path).lines().enumerate() {
            for link in line.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
                let file = link.split('#').next().unwrap_or_default();
                let outside = link.contains("://") || file.is_empty();
                if !outside && !root().join(folder).join(file).exists() {
                    offences.push(format!("{path}:{}: {link} is missing", index + 1));
                }
            }
        }
    }
    none(offences);
}

#[test]
fn a_crate_of_ours_is_in_the_table_of_architecture() {
    let page = read("ARCHITECTURE.md");
    let manifests = files("crates").into_iter().filter(|path| path.ends_with("/Cargo.toml"));
    let rooms = manifests.filter_map(|path| Some(path.split('/').nth(1)?.to_string()));
    none(rooms.filter(|room| !page.contains(&format!("| `{room}` |"))).collect());
}

#[test]
fn no_file_names_a_machine_or_a_registry() {
    // In parts, so that this file does not hold them.
    let forbidden = [
        concat!("/wo", "rk/"),
        concat!("/ho", "me/"),
        concat!("/ro", "ot/"),
        concat!("/Us", "ers/"),
        concat!("crates", ".io"),
        concat!("pypi", ".org"),
        concat!("pythonhosted", ".org"),
        concat!("npmjs", ".org"),
        concat!("npmjs", ".com"),
        concat!("debian", ".org"),
    ];
    const PROSE: [&str; 9] = ["rs", "md", "py", "toml", "sh", "txt", "yml", "yaml", "run"];
    let mut offences = Vec::new();
    for path in files("") {
        let name = path.rsplit('/').next().unwrap_or_default();
        let ending = name.rsplit_once('.').map(|(_, ending)| ending);
        let ours = ending.is_none_or(|ending| PROSE.contains(&ending)) || name.starts_with('.');
        let Some(text) = ours.then(|| std::fs::read_to_string(root().join(&path)).ok()).flatten()
        else {
            continue;
        };
        for (index, line) in text.lines().enumerate() {
            for word in forbidden.iter().filter(|word| line.contains(**word)) {
                offences.push(format!("{path}:{}: {word}", index + 1));
            }
        }
    }
    none(offences);
}

#[test]
fn golden_files_lie_beside_their_generator() {
    let all = files("testdata");
    let sets: BTreeSet<&str> = all.iter().filter_map(|path| path.split('/').nth(1)).collect();
    let mut offences = Vec::new();
    for set in sets {
        let folder = format!("testdata/{set}/");
        let explained = all
            .iter()
            .filter(|path| path.starts_with(&folder))
            .any(|path| [".py", ".rs", "NOTICE.md"].iter().any(|ending| path.ends_with(ending)));
        if !explained {
            offences.push(format!("{folder}: neither a generator nor a notice"));
        }
    }
    none(offences);
}
