//! What is taken out, and that it is said.

use llmos_train::data::{Language, Preparation, Reason, Removed, Source, Split, read_mix};

use crate::scratch::Scratch;
use crate::{bytes, json_lines, run, story, text};

fn prepared(scratch: &Scratch, rows: Vec<String>) -> Preparation {
    Preparation::new(vec![Source::new(scratch.write("a.jsonl", &json_lines(rows)))])
}

fn removed(preparation: &Preparation, scratch: &Scratch) -> Vec<(Reason, u64)> {
    let (prepared, _) = run(scratch, preparation, &bytes()).unwrap();
    let removed = &prepared.manifest.removed;
    let source = &prepared.manifest.sources[0];
    assert_eq!(&source.removed, removed);
    let n_removed: u64 = removed.values().map(|removed| removed.documents).sum();
    let manifest = &prepared.manifest;
    let kept = manifest.train.documents + manifest.validation.documents;
    assert_eq!(kept + n_removed, source.rows);
    for (reason, removed) in removed {
        let examples = manifest.examples.iter().filter(|example| example.reason == *reason);
        assert_eq!(examples.count() as u64, removed.documents.min(3));
    }
    removed.iter().map(|(&reason, removed)| (reason, removed.documents)).collect()
}

#[test]
fn duplicates_are_kept_once() {
    let scratch = Scratch::new();
    let changed = story(3).replacen("Story 3", "Tale 3", 1);
    let mut rows: Vec<String> = (0..50).map(story).collect();
    // The same but for line ends and Unicode's form; the same words but for one; other stories.
    rows.extend([story(1), story(2) + "\r", changed.clone(), story(50)]);
    rows[2] = story(2) + "\n";
    let preparation = prepared(&scratch, rows);
    assert_eq!(
        removed(&preparation, &scratch),
        [(Reason::Duplicate, 2), (Reason::NearDuplicate, 1)]
    );
    let (prepared, dataset) = run(&scratch, &preparation, &bytes()).unwrap();
    let near = prepared.manifest.examples.iter().find(|e| e.reason == Reason::NearDuplicate);
    let near = near.unwrap();
    assert_eq!(near.row, 52);
    assert!(near.text.starts_with("Tale 3: "), "{}", near.text);
    assert!(near.because.ends_with("a.jsonl row 3"), "{}", near.because);
    let both = [Split::Train, Split::Validation].map(|s| text(&dataset, &bytes(), s)).concat();
    assert!(both.contains("Story 3:") && !both.contains("Tale 3:"));
    let exact = Preparation { near_duplicates: None, ..preparation };
    assert_eq!(removed(&exact, &scratch), [(Reason::Duplicate, 2)]);
}

#[test]
fn rubbish_and_other_languages_go() {
    let scratch = Scratch::new();
    let mut rows: Vec<String> = (0..20).map(story).collect();
    rows.push("从前，有一个小女孩叫莉莉。她喜欢在公园里玩耍。".into());
    rows.push("Жила-была маленькая девочка, и звали её Лили.".into());
    rows.push("Run!".into());
    rows.push("1234567890 ".repeat(30));
    rows.push(format!("{}\n", story(7)).repeat(20));
    rows.push(" \n".into());
    let mut preparation = prepared(&scratch, rows);
    let expected =
        [(Reason::Empty, 1), (Reason::Short, 1), (Reason::FewLetters, 1), (Reason::Repetitive, 1)];
    assert_eq!(removed(&preparation, &scratch), expected);
    let (prepared, _) = run(&scratch, &preparation, &bytes()).unwrap();
    let languages = &prepared.manifest.sources[0].languages;
    assert_eq!((languages[&Language::Zh], languages[&Language::Other]), (1, 2));
    preparation.languages = vec![Language::En];
    let expected =
        [(Reason::Empty, 1), (Reason::Short, 1), (Reason::Repetitive, 1), (Reason::Language, 3)];
    assert_eq!(removed(&preparation, &scratch), expected);
}

#[test]
fn evaluation_sets_are_kept_out() {
    let scratch = Scratch::new();
    let mut rows: Vec<String> = (0..20).map(story).collect();
    let question = story(99);
    rows.push(format!("{} {question}", story(5)));
    let mut preparation = prepared(&scratch, rows);
    preparation.near_duplicates = None;
    let json = serde_json::json!({"question": question, "choices": ["a", "b"]}).to_string();
    for (name, bytes) in [("eval.jsonl", json.as_bytes()), ("eval.txt", question.as_bytes())] {
        preparation.evaluations = vec![scratch.write(name, bytes)];
        assert_eq!(removed(&preparation, &scratch), [(Reason::Contaminated, 1)]);
    }
    preparation.evaluations = vec![scratch.write("eval.jsonl", b"{\"question\": \"Who?\"}")];
    assert_eq!(removed(&preparation, &scratch), []);
    let (prepared, _) = run(&scratch, &preparation, &bytes()).unwrap();
    assert!(prepared.warnings.iter().any(|warning| warning.contains("1 items")));
    preparation.evaluations = vec![scratch.path().join("none")];
    assert!(run(&scratch, &preparation, &bytes()).is_err());
}

#[test]
fn caps_hold() {
    let scratch = Scratch::new();
    let lines = scratch.write("a.jsonl", &json_lines((0..100).map(story)));
    let plain = scratch.write("b.txt", story(1).repeat(100).as_bytes());
    for path in [&lines, &plain] {
        for (cap_tokens, cap_bytes) in [(Some(2000), None), (None, Some(5000))] {
            let source = Source { cap_tokens, cap_bytes, ..Source::new(path) };
            let preparation = Preparation::new(vec![source]);
            let (prepared, dataset) = run(&scratch, &preparation, &bytes()).unwrap();
            let entry = &prepared.manifest.sources[0];
            assert!(entry.is_capped);
            let is_text = path == &plain;
            let train = entry.train.tokens;
            let all = train + if is_text { 0 } else { entry.validation.tokens };
            if let Some(cap) = cap_tokens {
                assert!(all <= cap && all > cap - 200, "{all}");
            }
            if let Some(cap) = cap_bytes {
                let bytes = entry.train.bytes + if is_text { 0 } else { entry.validation.bytes };
                assert!(bytes <= cap && bytes > cap - 400, "{bytes}");
            }
            assert!(dataset.n_token(Split::Validation) > 0);
            // The hash is that of the whole file.
            assert_eq!(entry.files[0].sha256.len(), 64);
        }
    }
    let roomy = Source { cap_tokens: Some(1 << 40), ..Source::new(&lines) };
    let (prepared, _) = run(&scratch, &Preparation::new(vec![roomy]), &bytes()).unwrap();
    assert!(!prepared.manifest.sources[0].is_capped);
}

#[test]
fn a_mix_file_says_shares_and_licences() {
    let scratch = Scratch::new();
    scratch.write("one.jsonl", &json_lines((0..100).map(story)));
    scratch.write("two.jsonl", &json_lines((100..150).map(story)));
    let mix = |text: &str| {
        let sources = read_mix(&scratch.write("mix.toml", text.as_bytes())).unwrap();
        run(&scratch, &Preparation::new(sources), &bytes()).map(|(prepared, _)| prepared.manifest)
    };
    let manifest = mix("[[source]]\npath = \"one.jsonl\"\nweight = 1\nlicence = \"MIT\"\n\
         [[source]]\npath = \"two.jsonl\"\nweight = 3\nepochs = 4\n")
    .unwrap();
    let shares: Vec<f64> = manifest.sources.iter().map(|source| source.share).collect();
    assert_eq!(shares, [0.25, 0.75]);
    assert_eq!(manifest.sources[0].licence.as_deref(), Some("MIT"));
    assert_eq!(manifest.sources[1].licence, None);
    let manifest =
        mix("[[source]]\npath = \"one.jsonl\"\n[[source]]\npath = \"two.jsonl\"\nepochs = 2\n")
            .unwrap();
    let [one, two] = &manifest.sources[..] else { panic!() };
    assert_eq!(two.train.start, one.train.tokens);
    let ratio = two.share / one.share;
    let expected = 2.0 * two.train.tokens as f64 / one.train.tokens as f64;
    assert!((ratio - expected).abs() < 1e-12, "{ratio}");
    scratch.write("none.txt", b"");
    let error = mix(
        "[[source]]\npath = \"one.jsonl\"\nweight = 1\n[[source]]\npath = \"none.txt\"\nweight = 1",
    )
    .unwrap_err()
    .to_string();
    assert!(error.contains("none.txt"), "{error}");
}

#[test]
fn counts_are_of_bytes_too() {
    let scratch = Scratch::new();
    let mut rows: Vec<String> = (0..5).map(story).collect();
    rows.extend(["No.".into(), "Yes.".into()]);
    let (prepared, _) = run(&scratch, &prepared(&scratch, rows), &bytes()).unwrap();
    let short = prepared.manifest.removed[&Reason::Short];
    assert_eq!(short, Removed { documents: 2, bytes: 7 });
}

#[test]
fn passages_are_cut_out_of_a_text_that_was_named() {
    let scratch = Scratch::new();
    let question = story(99);
    let whole = format!("{}\n{question}\n{}\n", story(1), story(2).repeat(20));
    let path = scratch.write("a.txt", whole.as_bytes());
    let mut preparation = Preparation::new(vec![Source::new(path)]);
    preparation.evaluations = vec![scratch.write("eval.txt", question.as_bytes())];
    let (prepared, dataset) = run(&scratch, &preparation, &bytes()).unwrap();
    let n_byte = question.len() as u64 + 1;
    let contaminated = prepared.manifest.removed[&Reason::Contaminated];
    assert_eq!(contaminated, Removed { documents: 1, bytes: n_byte });
    let both = [Split::Train, Split::Validation].map(|s| text(&dataset, &bytes(), s)).concat();
    assert_eq!(both.replace("<|endoftext|>", ""), whole.replace(&format!("{question}\n"), ""));
}
