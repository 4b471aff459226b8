//! Every vocabulary of a folder of llama.cpp's `ggml-vocab-*.gguf` files, against the token lists
//! that lie beside them (`.inp`: texts between separator lines, `.out`: ids, one text a line).

mod gguf;

use std::path::{Path, PathBuf};

use llmos_tokenizer::{Special, Tokenizer};

const SEPARATOR: &str = "\n__ggml_vocab_test__\n";

/// The folder that the environment names; without one the test is skipped, which is a failure
/// where oracles are required.
#[expect(clippy::print_stdout, reason = "a skipped test says so")]
fn folder() -> Option<PathBuf> {
    let folder = std::env::var_os("LLMOS_VOCAB_DIR").map(PathBuf::from);
    if folder.is_none() {
        println!("skipped: no LLMOS_VOCAB_DIR");
        assert!(
            std::env::var("LLMOS_REQUIRE_ORACLES").as_deref() != Ok("1"),
            "LLMOS_REQUIRE_ORACLES=1, and LLMOS_VOCAB_DIR is not set"
        );
    }
    folder
}

fn vocabularies(folder: &Path) -> Vec<PathBuf> {
    let mut list: Vec<PathBuf> = std::fs::read_dir(folder)
        .expect("LLMOS_VOCAB_DIR is a folder")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "gguf"))
        .collect();
    list.sort();
    list
}

#[test]
fn every_vocabulary_and_every_text() {
    let Some(folder) = folder() else { return };
    let mut failures = Vec::new();
    let mut checked = 0;
    for path in vocabularies(&folder) {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let vocab = gguf::read_vocab(&std::fs::read(&path).unwrap());
        let start = std::time::Instant::now();
        let tokenizer = match Tokenizer::from_gguf(&vocab) {
            Ok(tokenizer) => tokenizer,
            Err(error) => {
                failures.push(format!("{name}: {error}"));
                continue;
            }
        };
        println!("{name}: {} tokens in {:?}", tokenizer.vocab_size(), start.elapsed());
        let (Ok(texts), Ok(ids)) = (
            std::fs::read_to_string(path.with_extension("gguf.inp")),
            std::fs::read_to_string(path.with_extension("gguf.out")),
        ) else {
            continue;
        };
        let texts: Vec<&str> = texts.split(SEPARATOR).collect();
        let lines: Vec<&str> = ids.lines().collect();
        for (text, line) in texts.iter().zip(&lines) {
            let expected: Vec<u32> =
                line.split_whitespace().map(|id| id.parse().unwrap()).collect();
            let got = tokenizer.encode(text, Special::None);
            checked += 1;
            if got != expected {
                failures
                    .push(format!("{name}: {text:?}\n  expected {expected:?}\n  got      {got:?}"));
            }
        }
        println!("  {} texts, {} lines", texts.len(), lines.len());
    }
    println!("{checked} texts");
    assert!(checked > 0, "the folder holds no token lists");
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}
