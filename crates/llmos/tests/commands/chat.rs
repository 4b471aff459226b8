//! `chat`: questions and files of them, with a tiny model that knows some conversations by heart
//! (testdata/agent/make.py); and no command at all.

use std::path::Path;

use serde_json::{Value, json};

use crate::program::{Folder, Output, llmos, llmos_with, repository, stories};

/// The model.
pub(crate) fn assistant() -> String {
    repository("testdata/agent/base").display().to_string()
}

fn chat(more: &[&str]) -> Output {
    llmos(&[&["chat", &assistant(), "--temp", "0"], more].concat())
}

#[test]
fn a_question_is_answered_with_tools() {
    let output = chat(&["-p", "What is 12 times 7?"]);
    assert_eq!(output.text(), "It is 84.\n");
    let card = "╭─ calculator\n│ expression: 12 * 7\n╰─ 84\n";
    assert!(output.stderr.contains(card), "{}", output.stderr);
    assert!(output.stderr.contains("29 tokens"), "{}", output.stderr);
    let output = chat(&["-p", "What is 12 times 7?", "--quiet"]);
    assert_eq!((output.text().as_str(), output.stderr.as_str()), ("It is 84.\n", ""));
    let piped = llmos_with(&["chat", &assistant(), "--temp", "0"], b"Say hello.\n");
    assert_eq!(piped.text(), "Hello!\n");
    let brief = chat(&["--system", "Be brief.", "-p", "What colour is grass?"]).text();
    assert_eq!(brief, "Green.\n");
}

#[test]
fn an_answer_is_one_json_object_where_that_is_asked_for() {
    let row = chat(&["-p", "What is 12 times 7?", "--json"]).json();
    let call =
        json!({ "name": "calculator", "arguments": { "expression": "12 * 7" }, "result": "84" });
    assert_eq!(row["tool_calls"], json!([call]));
    assert_eq!((&row["answer"], &row["ending"]), (&"It is 84.".into(), &"end".into()));
    let roles: Vec<&str> =
        row["messages"].as_array().unwrap().iter().map(|m| m["role"].as_str().unwrap()).collect();
    assert_eq!(roles, ["user", "assistant", "tool", "assistant"]);
    let thought = chat(&["-p", "Think, then answer yes.", "--json"]).json();
    let said = (&thought["answer"], &thought["reasoning"]);
    assert_eq!(said, (&"Yes.".into(), &"It is asked for.".into()));
}

#[test]
fn tools_are_chosen() {
    let called = |more: &[&str]| {
        let row = chat(&[&["-p", "What is 12 times 7?", "--json"], more].concat()).json();
        row["tool_calls"].as_array().unwrap().len()
    };
    assert_eq!(called(&["--tools", "calculator"]), 1);
    assert_eq!(called(&["--no-tools"]), 0);
    // The call is held to what there is.
    let clock =
        chat(&["-p", "What is 12 times 7?", "--json", "--tools", "clock", "-n", "60"]).json();
    assert_eq!(clock["tool_calls"][0]["name"], "clock");
    assert_eq!(clock["tool_calls"][0]["arguments"], json!({}));
}

#[test]
fn the_clock_is_the_persons() {
    let home = Folder::new();
    let ask = |zone: &str| -> String {
        let given = ["chat", &assistant(), "--temp", "0", "-p", "What time is it?", "--json"];
        let mut command = crate::program::command(home.path(), &given);
        command.env("TZ", zone);
        let row = crate::program::finish(command, b"").json();
        row["tool_calls"][0]["result"].as_str().unwrap().to_string()
    };
    let hour = |text: &str| text.rsplit_once(", ").unwrap().1[..2].parse::<i32>().unwrap();
    // Twelve hours apart, a minute more or less.
    let difference = (hour(&ask("UTC-6")) - hour(&ask("UTC+6"))).rem_euclid(24);
    assert!((11..=12).contains(&difference), "{difference}");
}

#[test]
fn what_cannot_be_talked_with_is_an_error() {
    let home = Folder::new();
    llmos(&["chat", &stories(), "-p", "Hi"]).is_error("has no chat template");
    let template = |text: &str| {
        let path = home.join("template");
        std::fs::write(&path, text).unwrap();
        llmos(&["chat", &stories(), "-p", "Hi", "--template", &path])
    };
    template("{{ raise_exception('no user here') }}").is_error("no user here");
    template("{% for i in range(99999) %}{% for j in range(99999) %}x{% endfor %}{% endfor %}")
        .is_error("chat template");
    template("{% if %}").is_error("chat template");
    assert!(!template("{{ messages[0].content }}, there was").text().is_empty());
    chat(&["-p", " "]).is_error("there is no question");
    chat(&[]).is_error("there is no question");
    chat(&["-p", &"word ".repeat(2000)]).is_error("context holds 1024");
    let none = home.join("none");
    llmos(&["chat", &assistant(), "--template", &none, "-p", "Hi"]).is_error("cannot read");
}

/// Questions of all conversations that the model knows, with fields of their own.
fn questions() -> Vec<Value> {
    let rows = std::fs::read_to_string(repository("testdata/agent/chats.jsonl")).unwrap();
    let question = |(i, line): (usize, &str)| {
        let row: Value = serde_json::from_str(line).unwrap();
        let messages = row["messages"].as_array().unwrap();
        let first = messages.iter().position(|m| m["role"] == "assistant").unwrap();
        json!({ "zone": "x", "id": i, "messages": messages[..first], "expect": { "b": 1, "a": [] } })
    };
    rows.lines().enumerate().map(question).collect()
}

fn write_rows(path: &str, rows: &[Value]) {
    let lines: Vec<String> = rows.iter().map(Value::to_string).collect();
    std::fs::write(path, lines.join("\n") + "\n").unwrap();
}

fn batch(asked: &str, out: &str, more: &[&str]) -> Output {
    chat(&[&["--batch", asked, "--out", out], more].concat())
}

fn read_rows(path: impl AsRef<Path>) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap();
    assert!(text.is_empty() || text.ends_with('\n'), "{text}");
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn a_file_of_questions_is_answered_in_its_order() {
    let home = Folder::new();
    let (asked, out) = (home.join("asked.jsonl"), home.join("out.jsonl"));
    let mut rows = questions();
    rows.push(json!({ "prompt": "Say hello.", "id": "last" }));
    write_rows(&asked, &rows);
    let output = batch(&asked, &out, &[]);
    assert_eq!((output.code, output.stdout.len()), (Some(0), 0), "{}", output.stderr);
    let answers = read_rows(&out);
    assert_eq!(answers.len(), rows.len());
    for (row, answer) in rows.iter().zip(&answers) {
        assert_eq!(row["id"], answer["id"]);
        assert_eq!(row["expect"].to_string(), answer["expect"].to_string());
        let messages = answer["messages"].as_array().unwrap();
        assert_eq!(messages.last().unwrap()["content"], answer["answer"]);
    }
    assert_eq!(answers[4]["tool_calls"][0]["result"], "84");
    assert_eq!(answers[4]["answer"], "It is 84.");
    assert_eq!(answers.last().unwrap()["answer"], "Hello!");
    // The clock goes on between two runs.
    let timeless = |path: &str| -> Vec<Value> {
        let rows = read_rows(path).into_iter();
        rows.filter(|row| !row["messages"].to_string().contains("\"clock\"")).collect()
    };
    for (i, more) in [&["--parallel", "1"][..], &["--parallel", "64"], &["--cache-memory", "64k"]]
        .iter()
        .enumerate()
    {
        let other = home.join(&format!("other-{i}.jsonl"));
        assert_eq!(batch(&asked, &other, more).code, Some(0));
        assert_eq!(timeless(&other), timeless(&out), "{more:?}");
    }
}

#[test]
fn what_was_answered_is_asked_again() {
    let home = Folder::new();
    let (asked, out) = (home.join("asked.jsonl"), home.join("out.jsonl"));
    let mut rows = questions()[..3].to_vec();
    write_rows(&asked, &rows);
    assert_eq!(batch(&asked, &out, &[]).code, Some(0));
    let expected = std::fs::read(&out).unwrap();
    for row in &mut rows {
        let messages = row["messages"].as_array_mut().unwrap();
        messages.push(json!({ "role": "assistant", "content": "Something else." }));
    }
    write_rows(&asked, &rows);
    let other = home.join("other.jsonl");
    assert_eq!(batch(&asked, &other, &[]).code, Some(1), "nothing is asked there");
    assert_eq!(batch(&asked, &other, &["--again", "--force"]).code, Some(0));
    assert_eq!(std::fs::read(&other).unwrap(), expected);
    let output = batch(&asked, &other, &["--again"]);
    assert!(output.stderr.contains("3 rows of 3 answered already"), "{}", output.stderr);
}

#[test]
fn rows_that_are_answered_are_kept() {
    let home = Folder::new();
    let (asked, out) = (home.join("asked.jsonl"), home.join("out.jsonl"));
    let rows = questions();
    write_rows(&asked, &rows[..3]);
    assert_eq!(batch(&asked, &out, &[]).code, Some(0));
    let first = std::fs::read(&out).unwrap();
    // Killed in the middle of a row.
    write_rows(&asked, &rows[..5]);
    std::fs::write(&out, [&first[..], b"{\"id\": 3, \"mess"].concat()).unwrap();
    let output = batch(&asked, &out, &[]);
    assert!(output.stderr.contains("3 rows of 5 answered already"), "{}", output.stderr);
    assert!(output.stderr.contains(": 2 rows in"), "{}", output.stderr);
    let whole = std::fs::read(&out).unwrap();
    assert!(whole.starts_with(&first) && read_rows(&out).len() == 5);
    // Nothing is left to do.
    assert!(batch(&asked, &out, &[]).stderr.contains(": 0 rows in"));
    assert_eq!(std::fs::read(&out).unwrap(), whole);
    // Answers to something else are not written over.
    write_rows(&asked, &rows[1..4]);
    batch(&asked, &out, &[]).is_error("line 1 of");
    assert_eq!(std::fs::read(&out).unwrap(), whole);
    assert_eq!(batch(&asked, &out, &["--force"]).code, Some(0));
    assert_eq!(read_rows(&out)[0]["id"], 1);
}

#[test]
fn a_batch_that_is_killed_goes_on_to_the_same_answers() {
    let home = Folder::new();
    let (asked, out, whole) =
        (home.join("asked.jsonl"), home.join("out.jsonl"), home.join("whole.jsonl"));
    let known = questions();
    // All but those that ask the clock.
    let known: Vec<&Value> =
        known.iter().filter(|row| [0, 1, 2, 4].contains(&row["id"].as_u64().unwrap())).collect();
    let rows: Vec<Value> = (0..1200)
        .map(|i| {
            let mut row = known[i % known.len()].clone();
            row["id"] = i.into();
            row
        })
        .collect();
    write_rows(&asked, &rows);
    let given = ["chat", &assistant(), "--temp", "0", "--batch", &asked, "--out", &out];
    let mut child = crate::program::command(home.path(), &given).spawn().unwrap();
    while !std::fs::metadata(&out).is_ok_and(|file| file.len() > 2000) {
        assert!(child.try_wait().unwrap().is_none(), "it ended before it was killed");
        std::thread::yield_now();
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let kept = std::fs::read(&out).unwrap();
    let n_kept = kept.iter().filter(|&&byte| byte == b'\n').count();
    assert!((1..1200).contains(&n_kept), "{n_kept}");
    let output = batch(&asked, &out, &[]);
    let said = format!("{n_kept} rows of 1200 answered already");
    assert!(output.stderr.contains(&said), "{said}: {}", output.stderr);
    assert_eq!(batch(&asked, &whole, &[]).code, Some(0));
    assert_eq!(read_rows(&out), read_rows(&whole));
}

#[test]
fn rows_that_cannot_be_answered_say_why_and_hold_up_no_others() {
    let home = Folder::new();
    let (asked, out) = (home.join("asked.jsonl"), home.join("out.jsonl"));
    let hello = json!({ "prompt": "Say hello." });
    let long = json!({ "id": "long", "prompt": "word ".repeat(3000) });
    let alien = json!({ "messages": [{ "role": "alien", "content": "Hi" }] });
    let answered = json!({ "messages": [{ "role": "assistant", "content": "Hi" }] });
    let text =
        format!("{hello}\n\nno JSON\n[1]\n{{\"id\": 1}}\n{alien}\n{answered}\n{long}\n{hello}");
    std::fs::write(&asked, text).unwrap();
    let output = batch(&asked, &out, &[]);
    assert_eq!(output.code, Some(1), "{}", output.stderr);
    assert!(output.stderr.contains("6 rows could not be answered"), "{}", output.stderr);
    let rows = read_rows(&out);
    assert_eq!(rows.len(), 8);
    for (row, words) in rows.iter().zip([
        "",
        "row 2 is not JSON",
        "row 3 is no JSON object",
        "row 4 has neither messages nor prompt",
        "message 1 has the role \"alien\"",
        "nothing to answer",
        "the context holds 1024",
        "",
    ]) {
        let error = row["error"].as_str().unwrap_or_default();
        assert!(error.contains(words) && error.is_empty() == words.is_empty(), "{row}");
        assert_eq!(row["answer"].is_null(), !words.is_empty());
    }
    assert_eq!(rows[6]["id"], "long");
    // They count as answered.
    assert!(batch(&asked, &out, &[]).stderr.contains("8 rows of 8 answered already"));
    batch(&home.join("none"), &out, &[]).is_error("cannot read");
    let list = home.join("list.json");
    std::fs::write(&list, "[\n{\"prompt\": \"Say hello.\"}\n]\n").unwrap();
    batch(&list, &out, &[]).is_error("is no JSONL");
    // Neither is a folder or a pipe, whose rows could be read once alone.
    batch(&home.join(""), &out, &[]).is_error("is a folder or a pipe");
    batch(&asked, &home.join(""), &[]).is_error("is a folder or a pipe");
    let piped = ["chat", &assistant(), "--batch", "/dev/stdin", "--out", &out, "--temp", "0"];
    if cfg!(unix) {
        llmos_with(&piped, b"{\"prompt\": \"Say hello.\"}\n")
            .is_error("write them to a file first");
    }
    batch(&asked, &home.join("no/folder"), &[]).is_error("cannot write");
}

#[test]
fn nobodys_file_and_nobody_elses_answers_are_lost() {
    let home = Folder::new();
    let (asked, out) = (home.join("asked.jsonl"), home.join("out.jsonl"));
    write_rows(&asked, &[json!({ "prompt": "Say hello." }), json!({ "prompt": " " })]);
    for more in [&[][..], &["--force"]] {
        batch(&asked, &asked, more).is_error("--batch and --out are both");
    }
    assert_eq!(read_rows(&asked).len(), 2);
    let notes = home.join("notes.txt");
    std::fs::write(&notes, "mine").unwrap();
    batch(&asked, &notes, &[]).is_error("answers no row of --batch");
    assert_eq!(std::fs::read(&notes).unwrap(), b"mine");
    // What could not be answered is still so the second time.
    for _ in 0..2 {
        assert_eq!(batch(&asked, &out, &[]).code, Some(1));
        assert_eq!(read_rows(&out)[1]["error"], "row 2: prompt is empty");
    }
    batch(&asked, &out, &["--system", "Be brief."])
        .is_error("answers of another model, or by other");
    let missing = home.join("missing.jsonl");
    llmos(&["chat", &home.join("none"), "--batch", &asked, "--out", &missing]).is_error("none");
    assert!(!Path::new(&missing).exists());
}

#[test]
fn a_row_of_gigabytes_is_not_held_in_memory() {
    let home = Folder::new();
    let (asked, out) = (home.join("asked.jsonl"), home.join("out.jsonl"));
    let hello = "{\"prompt\": \"Say hello.\"}\n";
    let mut text = hello.as_bytes().to_vec();
    text.extend(std::iter::repeat_n(b'x', (64 << 20) + 5));
    text.extend(b"\n");
    text.extend(hello.as_bytes());
    std::fs::write(&asked, text).unwrap();
    assert_eq!(batch(&asked, &out, &[]).code, Some(1));
    let rows = read_rows(&out);
    assert_eq!(rows[1]["error"], "row 2 has more than 64 MiB");
    assert_eq!((&rows[0]["answer"], &rows[2]["answer"]), (&"Hello!".into(), &"Hello!".into()));
}

#[test]
fn without_a_command_the_assistant_answers_or_shows_what_it_can() {
    let none: [&str; 0] = [];
    let told = llmos_with(&none, b"Who are you?");
    assert!(!told.text().trim().is_empty());
    // Alone it plays a conversation, in which it says what its tools answered, at any time of day.
    for zone in ["UTC", "AAA-5:37", "AAA-11:03", "AAA+7:19", "AAA+10:50"] {
        let home = Folder::new();
        let mut command = crate::program::command(home.path(), &none);
        command.env("TZ", zone);
        let output = crate::program::finish(command, b"");
        let text = output.text();
        let said: Vec<&str> = text.split("> ").skip(1).map(|turn| turn.trim_end()).collect();
        assert_eq!(said.len(), 4, "{text}");
        assert!(said[0].contains("llmos"), "{text}");
        let results: Vec<&str> =
            output.stderr.lines().filter_map(|line| line.strip_prefix("╰─ ")).collect();
        assert_eq!(results.len(), 3, "{}", output.stderr);
        assert_eq!((results[0], results[2]), ("2146", "84"));
        let time = results[1].rsplit(", ").next().unwrap();
        assert_eq!(time.len(), "hh:mm".len(), "{}", results[1]);
        for (turn, result) in said[1..].iter().zip([results[0], time, results[2]]) {
            let answer = turn.split_once('\n').unwrap().1;
            assert!(answer.contains(result), "{zone}: {turn}, but {result}");
        }
    }
}
