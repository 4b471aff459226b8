//! `llmos eval card`: from models, texts and answers to a card.

use std::path::Path;

use serde_json::{Value, json};

use crate::program::{Folder, llmos, repository, stories};

/// Answers to the rows written by hand: right ones in the first `right` of every ten.
fn answers(folder: &Folder, name: &str, right: usize) -> String {
    let rows = std::fs::read_to_string(repository("testdata/assistant/hand.jsonl")).unwrap();
    let mut lines = String::new();
    for (at, line) in rows.lines().enumerate() {
        let mut row: Value = serde_json::from_str(line).unwrap();
        let expect = row["expect"].clone();
        let is_right = at % 10 < right;
        row["answer"] = match expect["answer_any"].get(0) {
            Some(phrase) if is_right => phrase.clone(),
            _ => "Hm.".into(),
        };
        row["tool_calls"] = match expect["tool"].as_str() {
            Some(tool) if is_right => {
                json!([{"name": tool, "arguments": {}, "result": expect["result"]}])
            }
            _ => json!([]),
        };
        lines += &format!("{row}\n");
    }
    let path = folder.join(name);
    std::fs::write(&path, lines).unwrap();
    path
}

#[test]
fn a_card_of_answers_is_counted_as_the_answers_are() {
    let folder = Folder::new();
    let (base, tuned) = (answers(&folder, "b.jsonl", 1), answers(&folder, "t.jsonl", 9));
    let out = folder.join("card");
    let (base, tuned) = (format!("base={base}"), format!("tuned={tuned}"));
    let arguments = ["eval", "card", "--answers", &base, "--answers", &tuned, "--out", &out];
    let card = llmos(&[&arguments[..], &["--json"]].concat()).json();
    assert_eq!((&card["schema"], &card["version"]), (&json!("llmos report card"), &json!(1)));
    let measure = |key: &str| -> Value {
        let measures = card["measures"].as_array().unwrap();
        measures.iter().find(|measure| measure["key"] == key).unwrap().clone()
    };
    let arithmetic = measure("hand/arithmetic");
    assert_eq!(arithmetic["cells"][0]["count"], 100);
    assert_eq!(
        (&arithmetic["cells"][0]["right"], &arithmetic["cells"][1]["right"]),
        (&json!(10), &json!(90))
    );
    assert_eq!(arithmetic["comparisons"][0]["value"], 0.8);
    assert_eq!(measure("hand/routing")["cells"][1]["languages"]["zh"]["count"], 236);
    assert!(
        card["measures"].as_array().unwrap().iter().all(|m| m["key"] != "hand/arithmetic-alone")
    );
    let page = std::fs::read_to_string(Path::new(&out).join("card.md")).unwrap();
    assert!(page.contains("90.0 % (82.6 to 94.5) ✓"), "{page}");
    for name in ["card.html", "card.svg", "answers/base.jsonl", "answers/tuned.jsonl"] {
        assert!(Path::new(&out).join(name).is_file(), "{name}");
    }
    // The same answers make the same card, also those that the first card kept.
    let kept = Path::new(&out).join("answers/base.jsonl").display().to_string();
    let (again, kept) = (folder.join("again"), format!("base={kept}"));
    llmos(&["eval", "card", "--answers", &kept, "--answers", &tuned, "--out", &again]).text();
    let read = |out: &str| std::fs::read(Path::new(out).join("card.json")).unwrap();
    assert!(read(&out) == read(&again));
}

#[test]
fn texts_are_predicted_as_score_predicts_them_and_better_than_by_characters() {
    let folder = Folder::new();
    let text = "Once upon a time, there was a little girl named Lily. She loved to play outside in \
                the park. One day, she saw a big, red ball.";
    let (held_out, learnt) = (folder.join("held-out.txt"), folder.join("learnt.txt"));
    std::fs::write(&held_out, text).unwrap();
    std::fs::write(&learnt, text.replace("girl", "boy").replace("Lily", "Tim").repeat(3)).unwrap();
    let (out, model) = (folder.join("card"), format!("{}=small", stories()));
    let card = llmos(&[
        "eval",
        "card",
        &model,
        "--stories",
        &held_out,
        "--stories-train",
        &learnt,
        "--out",
        &out,
        "--json",
    ])
    .json();
    let measures = card["measures"].as_array().unwrap();
    assert_eq!(measures[1]["key"], "stories/bits-per-byte");
    let bits = measures[1]["cells"][0]["value"].as_f64().unwrap();
    let score = llmos(&["score", &stories(), "--text", &held_out, "--json"]).json();
    assert!((bits - score["bits_per_byte"].as_f64().unwrap()).abs() < 1e-9, "{bits} {score}");
    let baselines: Vec<f64> = measures[1]["baselines"]
        .as_array()
        .unwrap()
        .iter()
        .map(|baseline| baseline["value"].as_f64().unwrap())
        .collect();
    assert!(baselines[1] < baselines[0] && bits < baselines[0], "{bits} {baselines:?}");
}

#[test]
fn what_cannot_be_measured_is_said() {
    let folder = Folder::new();
    let (out, model) = (folder.join("card"), stories());
    let card = |more: &[&str]| llmos(&[&["eval", "card", "--out", &out], more].concat());
    card(&[]).is_error("there is no model to measure");
    card(&[&model]).is_error("nothing was measured");
    card(&[&model, &model]).is_error("two models are called `stories260K`");
    assert!(card(&["--answers", "base"]).stderr.contains("say NAME=FILE"));
    card(&["--answers", "base=none.jsonl"]).is_error("cannot read none.jsonl");
    let broken = folder.join("broken.jsonl");
    std::fs::write(&broken, "{\"id\": 1}\n").unwrap();
    card(&["--answers", &format!("base={broken}")]).is_error("broken.jsonl, line 1:");
    card(&[&model, "--stories", &folder.join("none")]).is_error("none");
    let generated =
        "{\"id\":\"gen-1\",\"language\":\"en\",\"skill\":\"a\",\"messages\":[],\"expect\":{}}";
    std::fs::write(&broken, generated).unwrap();
    card(&[&model, "--hand", &broken]).is_error("the row `gen-1` is none written by hand");
    assert!(!Path::new(&out).exists());
}

#[test]
fn a_model_is_asked_with_and_without_tools_and_not_twice() {
    let folder = Folder::new();
    let (base, out) =
        (repository("testdata/finetune/base").display().to_string(), folder.join("card"));
    let hand = repository("testdata/assistant/hand.jsonl").display().to_string();
    let model = format!("{base}=small");
    let arguments =
        ["eval", "card", "--generated", "12", "--hand", &hand, "--limit", "12", "--json"];
    let more = [&model, "--tokens", "8", "--out", &out];
    let card = llmos(&[&arguments[..], &more].concat()).json();
    let measure = |card: &Value, key: &str| -> Value {
        let measures = card["measures"].as_array().unwrap();
        measures.iter().find(|measure| measure["key"] == key).cloned().unwrap_or_default()
    };
    for key in ["generated/routing", "hand/routing"] {
        assert_eq!(measure(&card, key)["cells"][0]["count"], 12, "{key}: {card}");
    }
    let sums = measure(&card, "hand/arithmetic")["cells"][0]["count"].clone();
    assert!(sums.as_u64() > Some(0));
    assert_eq!(measure(&card, "hand/arithmetic-alone")["cells"][0]["count"], sums);
    let mut kept: Vec<String> = std::fs::read_dir(Path::new(&out).join("answers"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .collect();
    kept.sort();
    assert_eq!(kept, ["small-alone.jsonl", "small.jsonl"]);
    // What is answered already is not asked again: with all answers known, no model is needed.
    let file =
        |name: &str| format!("small={}", Path::new(&out).join("answers").join(name).display());
    let (said, alone) = (file("small.jsonl"), file("small-alone.jsonl"));
    let again = folder.join("again");
    let known = ["--answers", &said, "--answers-alone", &alone, "--tokens", "8", "--out", &again];
    let output = llmos(&[&arguments[..], &[&model], &known].concat());
    assert_eq!(output.json(), card);
    assert!(!output.stderr.contains("answers 24 questions"), "{}", output.stderr);
    // A model that was not made to be talked with is left out.
    let out = folder.join("none");
    let output = llmos(&["eval", "card", &stories(), "--generated", "3", "--out", &out]);
    output.is_error("nothing was measured");
    assert!(output.stderr.contains("has no chat template"), "{}", output.stderr);
}

#[test]
fn a_fuller_card_is_not_replaced_unasked() {
    let folder = Folder::new();
    let (base, tuned) = (answers(&folder, "b.jsonl", 1), answers(&folder, "t.jsonl", 9));
    let (base, tuned) = (format!("base={base}"), format!("tuned={tuned}"));
    let out = folder.join("card");
    let card = |more: &[&str]| {
        llmos(&[&["eval", "card", "--answers", &base, "--out", &out][..], more].concat())
    };
    card(&["--answers", &tuned]).text();
    let before = std::fs::read(Path::new(&out).join("card.json")).unwrap();
    card(&[]).is_error("measures tuned as well");
    assert!(before == std::fs::read(Path::new(&out).join("card.json")).unwrap());
    card(&["--answers", &tuned]).text();
    card(&["--force"]).text();
}
