//! `data generate`: conversations of our own making.

use crate::program::{Folder, llmos};

#[test]
fn the_same_flags_write_the_same_rows() {
    let home = Folder::new();
    let (one, two) = (home.join("one.jsonl"), home.join("two.jsonl"));
    let make = |out: &str, seed: &str| {
        llmos(&["data", "generate", "--out", out, "--count", "300", "--seed", seed, "--json"])
    };
    let report = make(&one, "5").json();
    assert_eq!((&report["rows"], &report["split"]), (&300.into(), &"train".into()));
    make(&two, "5").text();
    let text = std::fs::read_to_string(&one).unwrap();
    assert_eq!(text, std::fs::read_to_string(&two).unwrap());
    make(&two, "5").is_error("two.jsonl exists");
    let arguments = ["data", "generate", "--out", &two, "--count", "300", "--seed", "6", "--force"];
    let output = llmos(&arguments);
    assert_eq!((output.code, output.stdout.len()), (Some(0), 0), "{}", output.stderr);
    assert!(output.stderr.contains("two.jsonl: 300 rows of train"), "{}", output.stderr);
    assert_ne!(text, std::fs::read_to_string(&two).unwrap());
    let names: Vec<_> = std::fs::read_dir(home.path()).unwrap().collect();
    assert_eq!(names.len(), 2, "{names:?}");
}

#[test]
fn skills_languages_and_splits_are_chosen() {
    let home = Folder::new();
    let out = home.join("chats.jsonl");
    let chosen = ["--skill", "limits,small-talk", "--language", "zh", "--split", "test"];
    let arguments = [&["data", "generate", "--out", &out, "--count", "80", "--json"], &chosen[..]];
    let report = llmos(&arguments.concat()).json();
    let skills = report["skills"].as_object().unwrap();
    assert_eq!(skills.keys().collect::<Vec<_>>(), ["limits", "small-talk"]);
    let total: u64 = skills.values().map(|counts| counts["zh"].as_u64().unwrap()).sum();
    assert_eq!(total, 80);
    for line in std::fs::read_to_string(&out).unwrap().lines() {
        let row: serde_json::Value = serde_json::from_str(line).unwrap();
        assert!(row["id"].as_str().unwrap().starts_with("gen-test-zh-"), "{row}");
        assert_eq!(row["expect"]["tool"], serde_json::Value::Null);
    }
}

#[test]
fn what_cannot_be_made_is_an_error() {
    let home = Folder::new();
    let out = home.join("no/such/folder/chats.jsonl");
    llmos(&["data", "generate", "--out", &out, "--count", "1"]).is_error("chats.jsonl");
    let out = home.join("chats.jsonl");
    for (flag, value) in [("--skill", "cooking"), ("--language", "fr"), ("--split", "both")] {
        let output = llmos(&["data", "generate", "--out", &out, flag, value]);
        assert_eq!(output.code, Some(2), "{output:?}");
        assert!(output.stderr.contains(flag), "{}", output.stderr);
    }
}
