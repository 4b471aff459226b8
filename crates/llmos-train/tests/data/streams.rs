//! Opened folders: held-out rows, hashes, and the place that they are written in.

use std::sync::Arc;
use std::time::Duration;

use llmos_train::Error;
use llmos_train::data::{Dataset, HeldOut, Place, Preparation, Source, Split, prepare, read_texts};

use crate::scratch::Scratch;
use crate::{bytes, everything, ids, json_lines, run, story};

#[test]
fn rows_of_the_held_out_stream_have_every_target_once() {
    let scratch = Scratch::new();
    let path = scratch.write("a.jsonl", &json_lines((0..300).map(story)));
    let (_, dataset) = run(&scratch, &everything(&path), &bytes()).unwrap();
    let all = ids(&dataset, Split::Validation);
    for context in [1, 7, 64, all.len() - 1, all.len() + 10] {
        let mut targets = Vec::new();
        let mut row_ids = vec![0; context + 1];
        for row in 0..dataset.n_row(Split::Validation, context) {
            let n = dataset.read_row(Split::Validation, row, &mut row_ids).unwrap();
            assert!(n >= 2 && n <= context + 1);
            assert_eq!(row_ids[0], all[row as usize * context]);
            targets.extend_from_slice(&row_ids[1..n]);
        }
        assert_eq!(targets, all[1..]);
    }
}

#[test]
fn the_hash_stands_for_the_whole() {
    let scratch = Scratch::new();
    let path = scratch.write("a.jsonl", &json_lines((0..50).map(story)));
    let hash = |path: &std::path::Path| {
        let (_, dataset) = run(&scratch, &everything(path), &bytes()).unwrap();
        dataset.sha256().to_string()
    };
    let first = hash(&path);
    assert_eq!(first, hash(&path));
    scratch.write("a.jsonl", &json_lines((1..51).map(story)));
    assert_ne!(first, hash(&path));
}

#[test]
fn two_runs_do_not_meet() {
    let scratch = Scratch::new();
    let out = scratch.path().join("data");
    let path = scratch.write("a.txt", story(1).as_bytes());
    let held = Place::new(&out, false).unwrap();
    assert!(matches!(Place::new(&out, true), Err(Error::Locked { .. })));
    prepare(&Preparation::new(vec![Source::new(&path)]), &bytes(), vec![], held, &mut |_| {})
        .unwrap();
    Dataset::open(&out).unwrap();
    assert!(Place::new(&out, false).is_err());
    Place::new(&out, true).unwrap();
    Dataset::open(&out).unwrap();
}

#[test]
fn the_tokenizer_lies_in_the_folder() {
    let scratch = Scratch::new();
    let path = scratch.write("a.txt", story(1).as_bytes());
    let tokenizer = bytes();
    let (_, dataset) = run(&scratch, &everything(&path), &tokenizer).unwrap();
    let read = |name: &str| std::fs::read(dataset.folder().join(name)).unwrap();
    let (json, config) = (read("tokenizer.json"), read("tokenizer_config.json"));
    let copy = llmos_tokenizer::Tokenizer::from_json(&json, Some(&config)).unwrap();
    let special = llmos_tokenizer::Special::None;
    assert_eq!(copy.encode(story(2), special), tokenizer.encode(story(2), special));
    assert_eq!(copy.eos(), Some(0));
    assert_eq!(dataset.vocab_size(), tokenizer.vocab_size());
    let files = vec![("tokenizer.json".to_string(), b"{\"as\": \"given\"}".to_vec())];
    let place = Place::new(dataset.folder(), true).unwrap();
    prepare(&everything(&path), &tokenizer, files, place, &mut |_| {}).unwrap();
    assert_eq!(read("tokenizer.json"), b"{\"as\": \"given\"}");
}

#[test]
fn texts_are_read_for_a_vocabulary_too() {
    let scratch = Scratch::new();
    let path = scratch.write("a.jsonl", &json_lines(["a\r\nb".into(), "e\u{301}".into()]));
    let mut last = Default::default();
    let mut read = |line_ends: bool| {
        let mut parts = Vec::new();
        let mut take = |part: Option<&str>| parts.push(part.unwrap_or("|").to_string());
        let preparation = everything(&path);
        read_texts(&preparation, line_ends, &mut take, &mut |progress| last = progress).unwrap();
        parts.concat()
    };
    assert_eq!(read(false), "a\nb|é|");
    assert_eq!(read(true), "a\nb\n|é\n|");
    assert_eq!((last.done, last.documents), (last.total, 2));
}

#[test]
fn progress_ends_at_its_total() {
    let scratch = Scratch::new();
    let separated = format!("{}<|endoftext|>{}", story(1), story(2)).repeat(20_000);
    for (name, bytes) in [
        ("a.txt", story(1).into_bytes()),
        ("b.txt", separated.into_bytes()),
        ("a.jsonl", json_lines((0..9).map(story))),
    ] {
        let path = scratch.write(name, &bytes);
        let place = Place::new(&scratch.path().join("data"), true).unwrap();
        let mut last = Default::default();
        let preparation = everything(&path);
        prepare(&preparation, &crate::bytes(), vec![], place, &mut |progress| last = progress)
            .unwrap();
        assert_eq!(last.done, last.total, "{name}");
        assert!(last.tokens > 0 && last.documents > 0);
    }
}

#[test]
fn a_trial_that_takes_too_long_is_given_up() {
    let scratch = Scratch::new();
    let path = scratch.write("a.jsonl", &json_lines((0..200).map(story)));
    let preparation = Preparation { held_out: HeldOut::Share(0.3), ..everything(&path) };
    let (_, dataset) = run(&scratch, &preparation, &bytes()).unwrap();
    assert!(dataset.n_token(Split::Validation) > 1000);
    let device = Arc::new(llmos_tensor::Device::new(llmos_tensor::Isa::detect(), 1));
    let tried = llmos_train::plan::pilot(&Arc::new(dataset), &device, Duration::ZERO);
    assert_eq!(tried.unwrap(), None);
}
