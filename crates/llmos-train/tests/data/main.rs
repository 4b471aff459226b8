//! Raw texts to batches, through files.
#![allow(clippy::unwrap_used, reason = "a test's own files must be there")]

mod batches;
mod formats;
mod removal;
mod streams;

#[allow(unreachable_pub, reason = "of the library's own tests")]
#[path = "../../src/data/scratch.rs"]
mod scratch;

use std::num::NonZero;
use std::path::Path;

use llmos_tokenizer::Tokenizer;
use llmos_tokenizer::train::{BpeOptions, BpeTrainer, CharOptions, CharTrainer};
use llmos_train::Error;
use llmos_train::data::{Dataset, Place, Preparation, Prepared, Source, Split, prepare};
use scratch::Scratch;

/// A tokenizer of the characters of these texts.
fn characters(texts: &str) -> Tokenizer {
    let mut trainer = CharTrainer::new(CharOptions::default()).unwrap();
    trainer.push(texts);
    trainer.train().unwrap().tokenizer
}

/// A byte-level tokenizer with an end token.
fn bytes() -> Tokenizer {
    let mut trainer = BpeTrainer::new(BpeOptions {
        vocab_size: 300,
        pattern: "qwen2".into(),
        special: vec!["<|endoftext|>".into()],
        threads: NonZero::<usize>::MIN,
        memory: BpeOptions::least_memory(300),
    })
    .unwrap();
    trainer.push(&"once upon a time there was a little girl ".repeat(20));
    trainer.train(&mut |_, _| {}).unwrap().tokenizer
}

/// Prepares into `data` of the scratch folder.
fn run(
    scratch: &Scratch,
    preparation: &Preparation,
    tokenizer: &Tokenizer,
) -> Result<(Prepared, Dataset), Error> {
    let out = scratch.path().join("data");
    let place = Place::new(&out, true)?;
    let prepared = prepare(preparation, tokenizer, Vec::new(), place, &mut |_| {})?;
    let dataset = Dataset::open(&out)?;
    assert_eq!(dataset.manifest(), &prepared.manifest);
    Ok((prepared, dataset))
}

/// One source with the defaults, but no filter.
fn everything(path: impl AsRef<Path>) -> Preparation {
    Preparation {
        quality: llmos_train::data::Quality::NONE,
        near_duplicates: None,
        ..Preparation::new(vec![Source::new(path.as_ref())])
    }
}

/// All ids of a stream.
fn ids(dataset: &Dataset, split: Split) -> Vec<u32> {
    let mut ids = vec![0; dataset.n_token(split) as usize];
    dataset.read(split, 0, &mut ids).unwrap();
    ids
}

/// All text of a stream, special tokens included.
fn text(dataset: &Dataset, tokenizer: &Tokenizer, split: Split) -> String {
    String::from_utf8(tokenizer.decode(&ids(dataset, split))).unwrap()
}

/// A story that is like no other, by its number.
fn story(number: u64) -> String {
    const WORDS: [&str; 24] = [
        "girl", "boy", "dog", "ball", "park", "tree", "house", "river", "happy", "little", "red",
        "big", "ran", "saw", "found", "the", "and", "to", "of", "with", "his", "her", "was", "it",
    ];
    let mut state = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut text = format!("Story {number}:");
    for _ in 0..60 {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        text.push(' ');
        text.push_str(WORDS[(state % 24) as usize]);
    }
    text.push('.');
    text
}

/// Rows of JSON.
fn json_lines(texts: impl IntoIterator<Item = String>) -> Vec<u8> {
    let rows = texts.into_iter().map(|text| serde_json::json!({ "text": text }).to_string() + "\n");
    rows.collect::<String>().into_bytes()
}
