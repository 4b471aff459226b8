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

#[test]
fn what_is_said_can_be_written_as_text() {
    let home = Folder::new();
    let (chats, texts) = (home.join("chats.jsonl"), home.join("texts.jsonl"));
    let make = |out: &str, more: &[&str]| {
        let generate = ["data", "generate", "--out", out, "--count", "60", "--seed", "3"];
        llmos(&[&generate, more].concat()).text()
    };
    make(&chats, &[]);
    make(&texts, &["--layout", "text"]);
    let rows = |path: &str| -> Vec<serde_json::Value> {
        let text = std::fs::read_to_string(path).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    for (chat, text) in rows(&chats).iter().zip(rows(&texts)) {
        let said = chat["messages"].as_array().unwrap().iter();
        let said = said.map(|message| message["content"].as_str().unwrap());
        let said: Vec<&str> = said.filter(|content| !content.is_empty()).collect();
        assert_eq!(text["text"], said.join("\n"));
    }
}

#[test]
fn wrong_answers_make_pairs() {
    let home = Folder::new();
    let file = |name: &str, rows: &[serde_json::Value]| {
        let text: String = rows.iter().map(|row| format!("{row}\n")).collect();
        std::fs::write(home.join(name), text).unwrap();
        home.join(name)
    };
    let row = |id: &str, tool: serde_json::Value, ideal: &str| {
        serde_json::json!({
            "id": id, "language": "en", "skill": "routing",
            "messages": [{"role": "user", "content": "How late is it?"},
                {"role": "assistant", "content": ideal}],
            "expect": {"tool": tool, "answer_any": ["late"], "answer_none": []},
        })
    };
    let rows =
        [row("a", serde_json::Value::Null, "It is late."), row("b", "clock".into(), "10:39")];
    let answered = |row: &serde_json::Value, answer: &str, calls: serde_json::Value| {
        let mut row = row.clone();
        row["answer"] = answer.into();
        row["tool_calls"] = calls;
        row
    };
    let call = serde_json::json!([{"name": "clock", "arguments": {}, "result": "10:40"}]);
    let chats = file("chats.jsonl", &rows);
    let out = home.join("pairs.jsonl");
    let pairs = |answers: &str| llmos(&["data", "pairs", &chats, answers, "--out", &out, "--json"]);
    let answers =
        [answered(&rows[0], "It is 10:40.", call.clone()), answered(&rows[1], "10:40", call)];
    let report = pairs(&file("answers.jsonl", &answers)).json();
    assert_eq!((&report["rows"], &report["pairs"]), (&2.into(), &1.into()));
    let pair: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(&out).unwrap()).unwrap();
    assert_eq!(pair["prompt"], serde_json::json!([{"role": "user", "content": "How late is it?"}]));
    assert_eq!(pair["chosen"][0]["content"], "It is late.");
    assert_eq!(pair["rejected"][0]["tool_calls"][0]["function"]["name"], "clock");
    assert_eq!(pair["rejected"][1]["content"], "10:40");
    assert_eq!(pair["rejected"][2]["content"], "It is 10:40.");
    pairs(&file("answers.jsonl", &answers)).is_error("pairs.jsonl exists");
    std::fs::remove_file(&out).unwrap();
    pairs(&file("other.jsonl", &[])).is_error("answers none of the rows");
}
