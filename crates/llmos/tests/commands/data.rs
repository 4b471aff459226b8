//! `data prepare`: texts in, a folder of tokens out.

use std::path::Path;

use crate::program::{Folder, llmos, llmos_with, repository};

/// A story that is like no other, by its number.
fn story(number: u64) -> String {
    const WORDS: [&str; 16] = [
        "girl", "dog", "ball", "park", "tree", "happy", "red", "ran", "saw", "the", "and", "to",
        "of", "with", "his", "was",
    ];
    let mut state = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut text = format!("Story {number}:");
    for _ in 0..50 {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        text.push(' ');
        text.push_str(WORDS[(state % 16) as usize]);
    }
    text
}

fn rows(texts: impl IntoIterator<Item = String>) -> String {
    texts.into_iter().map(|text| serde_json::json!({ "text": text }).to_string() + "\n").collect()
}

fn json(path: &str) -> serde_json::Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

#[test]
fn a_text_by_characters_is_cut_as_nanogpt_cuts_it() {
    let home = Folder::new();
    let raw = home.join("input.txt");
    let text: String = (0..30).map(|number| story(number) + "\n").collect();
    std::fs::write(&raw, &text).unwrap();
    let n_char = text.len() as u64;
    let out = home.join("data");
    let report = llmos(&["data", "prepare", &raw, "--char", "--out", &out, "--json"]).json();
    let n_train = (n_char as f64 * 0.9) as u64;
    assert_eq!(report["train"]["tokens"], n_train);
    assert_eq!(report["validation"]["tokens"], n_char - n_train);
    let mut letters: Vec<char> = text.chars().collect();
    letters.sort_unstable();
    letters.dedup();
    assert_eq!(report["vocab_size"], letters.len());
    assert_eq!(report["sources"][0]["rows"], 1);
    assert!(report["removed"].as_object().is_some_and(|removed| removed.is_empty()));
    // The folder's tokenizer is one that other commands take.
    let ids = llmos_with(&["tokenize", &out, "--ids"], b"\n").text();
    assert_eq!(ids, "0\n");
    let left: Vec<_> = std::fs::read_dir(home.path()).unwrap().collect();
    assert_eq!(left.len(), 2, "{left:?}");
    // Rows without line ends have one between them.
    std::fs::write(&raw, rows((0..30).map(story))).unwrap();
    std::fs::rename(&raw, home.join("a.jsonl")).unwrap();
    let rows = home.join("a.jsonl");
    let arguments = ["data", "prepare", &rows, "--char", "--out", &out, "--force", "--json"];
    assert_eq!(llmos(&arguments).json()["vocab_size"], letters.len());
}

#[test]
fn what_is_left_out_is_said() {
    let home = Folder::new();
    let mut texts: Vec<String> = (0..40).map(story).collect();
    texts.extend([story(3), story(4).replace("Story", "Tale"), "No.".into()]);
    let (raw, out) = (home.join("a.jsonl"), home.join("data"));
    std::fs::write(&raw, rows(texts)).unwrap();
    let output = llmos(&["data", "prepare", &raw, "--out", &out]);
    assert_eq!((output.code, output.stdout.len()), (Some(0), 0), "{}", output.stderr);
    for words in [
        " ids, learnt from the texts",
        "a.jsonl row 42 (3 bytes): No.",
        "a.jsonl row 40 (as ",
        "near-duplicate",
        "nothing says the licence of",
        "tokens to train on",
    ] {
        assert!(output.stderr.contains(words), "{words:?} not in {}", output.stderr);
    }
    let manifest = json(&home.join("data/manifest.json"));
    assert_eq!(manifest["removed"]["near_duplicate"]["documents"], 1);
    assert_eq!(manifest["options"]["near_duplicates"], "0.8");
    let quiet = ["data", "prepare", &raw, "--out", &out, "--force", "-q", "--licence", "MIT"];
    let quiet = llmos(&quiet);
    assert_eq!((quiet.code, quiet.stderr.as_str()), (Some(0), ""));
    assert_eq!(json(&home.join("data/manifest.json"))["sources"][0]["licence"], "MIT");
}

#[test]
fn a_tokenizer_that_is_given_is_copied() {
    let home = Folder::new();
    let raw = home.join("a.txt");
    std::fs::write(&raw, story(1)).unwrap();
    let vocab = repository("testdata/tokenizer-train/golden/gpt2.json").display().to_string();
    let out = home.join("data");
    let prepare = |tokenizer: &str| {
        let arguments = ["data", "prepare", &raw, "--tokenizer", tokenizer, "--out", &out];
        llmos(&[&arguments[..], &["--force", "--json"]].concat()).json()
    };
    assert_eq!(prepare(&vocab)["vocab_size"], 500);
    let copy = std::fs::read(home.join("data/tokenizer.json")).unwrap();
    assert!(copy == std::fs::read(&vocab).unwrap());
    // Without a configuration the end is known by its name.
    assert_eq!(json(&home.join("data/manifest.json"))["tokenizer"]["end"], 0);
    // A model's tokenizer: SentencePiece's start and end are put around the text.
    assert_eq!(prepare(&crate::program::stories())["vocab_size"], 512);
    let entry = &json(&home.join("data/manifest.json"))["tokenizer"];
    assert_eq!((&entry["start"][0], &entry["end"]), (&1.into(), &2.into()));
}

#[test]
fn sources_are_mixed_by_a_file() {
    let home = Folder::new();
    std::fs::create_dir(home.join("en")).unwrap();
    std::fs::write(home.join("en/a.md"), story(1)).unwrap();
    std::fs::write(home.join("en/SOURCE.json"), r#"{"licence": "CC BY 4.0"}"#).unwrap();
    std::fs::write(home.join("b.jsonl"), rows((2..30).map(story))).unwrap();
    let mix = home.join("mix.toml");
    let (one, two) =
        ("[[source]]\npath = \"en\"\nweight = 1\n", "[[source]]\npath = \"b.jsonl\"\n");
    std::fs::write(&mix, format!("{one}{two}weight = 4\ncap_tokens = 500\n")).unwrap();
    let out = home.join("data");
    let prepare = || llmos(&["data", "prepare", "--mix", &mix, "--out", &out, "--json"]);
    let report = prepare().json();
    let sources = &report["sources"];
    assert_eq!((&sources[0]["share"], &sources[1]["share"]), (&0.2.into(), &0.8.into()));
    assert_eq!(sources[0]["licence"], "CC BY 4.0");
    assert_eq!(sources[1]["is_capped"], true);
    let more = |raw: &str| {
        let out = home.join("more");
        llmos(&["data", "prepare", "--mix", &mix, raw, "--out", &out, "--json"])
    };
    let third = home.join("c.jsonl");
    std::fs::write(&third, rows((30..40).map(story))).unwrap();
    assert_eq!(more(&format!("{third}:5")).json()["sources"][2]["share"], 0.5);
    more(&third).is_error("has no weight");
    std::fs::write(&mix, format!("{one}{two}wait = 4\n")).unwrap();
    prepare().is_error("wait");
    std::fs::write(&mix, format!("{one}{two}")).unwrap();
    std::fs::remove_dir_all(&out).unwrap();
    prepare().is_error("b.jsonl has none");
}

#[test]
fn what_cannot_be_prepared_is_an_error() {
    let home = Folder::new();
    let file = |name: &str, bytes: &[u8]| {
        std::fs::write(home.join(name), bytes).unwrap();
        home.join(name)
    };
    let out = home.join("data");
    let prepare = |raw: &str, more: &[&str]| {
        llmos(&[&["data", "prepare", raw, "--out", &out, "--vocab", "300"], more].concat())
    };
    prepare(&home.join("missing.txt"), &[]).is_error("missing.txt");
    prepare(&file("empty.txt", b""), &[]).is_error("holds no text");
    prepare(&file("latin.txt", b"caf\xe9 au lait"), &[]).is_error("no UTF-8, at byte 3");
    prepare(&file("picture.txt", b"\x89PNG\r\n\x1a\n\0\0"), &[]).is_error("at byte 0");
    let body = prepare(&file("a.jsonl", b"{\"body\": \"some text\"}\n"), &[]);
    body.is_error("none of 1 rows has a text in text; the first has body");
    assert!(body.stderr.contains("--field NAME"), "{}", body.stderr);
    prepare(&file("b.jsonl", b"{\"text\": \"some te"), &[]).is_error("line 1: no JSON");
    prepare(&file("c.parquet", b"PAR1 not really PAR1"), &[]).is_error("c.parquet: Parquet");
    let cut = prepare(&file("d.txt.gz", b"\x1f\x8b\x08\0not really"), &[]);
    cut.is_error("d.txt.gz");
    assert!(cut.stderr.contains("damaged or cut off"), "{}", cut.stderr);
    let mix = file("mix.toml", b"[[source]]\npath = 'good.txt'\nwieght = 2\n");
    let mix = llmos(&["data", "prepare", "--mix", &mix, "--out", &out]);
    mix.is_error("unknown field `wieght`");
    assert!(mix.stderr.contains("says what a source has"), "{}", mix.stderr);
    let text = file("good.txt", story(1).as_bytes());
    prepare(&text, &["--end", "<eos>"]).is_error("no token <eos>");
    prepare(&text, &["--decontaminate", &home.join("none")]).is_error("none");
    let empty = home.join("empty.txt");
    prepare(&text, &["--decontaminate", &empty]).is_error("empty.txt holds no text to look for");
    let foreign = prepare(&file("rows.jsonl", rows([story(1)]).as_bytes()), &["--language", "zh"]);
    foreign.is_error("nothing is left");
    assert!(foreign.stderr.contains("without --language"), "{}", foreign.stderr);
    let characters = home.join("characters.json");
    let chinese = file("zh.txt", "从前有一个小女孩".as_bytes());
    llmos(&["tokenizer", "train", &chinese, "--char", "--out", &characters]);
    llmos(&["data", "prepare", &text, "--out", &out, "--tokenizer", &characters])
        .is_error("nothing is left to train on");
    for more in [
        &["--validation", "0.9"][..],
        &["--language", "xx"],
        &["--near-duplicates", "2"],
        &["--min-letters", "3"],
        &["--max-repeat", "-1"],
    ] {
        assert_eq!(prepare(&text, more).code, Some(2));
    }
    assert!(!Path::new(&out).exists());
    let names = std::fs::read_dir(home.path()).unwrap().map(|e| e.unwrap().file_name());
    let hidden: Vec<_> = names.filter(|name| name.to_string_lossy().starts_with('.')).collect();
    assert!(hidden.is_empty(), "{hidden:?}");
    // What is there stays unless it was said to go. What was asked for and cannot be is said.
    let first = prepare(&text, &["--validation", "1M"]);
    assert_eq!(first.code, Some(0));
    for words in ["1.05 MB are not held out of ", " ids, not 300: no other pair occurs twice"] {
        assert!(first.stderr.contains(words), "{}", first.stderr);
    }
    prepare(&text, &[]).is_error("exists");
    assert_eq!(prepare(&text, &["--force"]).code, Some(0));
    std::fs::create_dir(home.join("mine")).unwrap();
    file("mine/notes", b"mine");
    llmos(&["data", "prepare", &text, "--out", &home.join("mine"), "--force", "--char"])
        .is_error("is no data set");
}

#[test]
fn a_token_is_traced_to_its_row() {
    let home = Folder::new();
    std::fs::create_dir(home.join("raw")).unwrap();
    std::fs::write(home.join("raw/a.jsonl"), rows((0..5).map(story))).unwrap();
    std::fs::write(home.join("raw/SOURCE.json"), r#"{"licence": "CC BY 4.0"}"#).unwrap();
    let (raw, out) = (home.join("raw"), home.join("data"));
    llmos(&["data", "prepare", &raw, "--char", "--out", &out, "--validation", "0"]);
    // A character is a token, and a line's end stands after each of the stories.
    let texts: Vec<String> = (0..5).map(|number| story(number) + "\n").collect();
    let number = texts[..3].iter().map(String::len).sum::<usize>() + 100;
    let given = ["data", "trace", &out, "--token", &number.to_string()];
    let report = llmos(&[&given[..], &["--json"]].concat()).json();
    assert_eq!((&report["file"], &report["row"]), (&"a.jsonl".into(), &3.into()));
    assert_eq!(report["licence"], "CC BY 4.0");
    assert_eq!(report["offset"], rows((0..3).map(story)).len());
    assert_eq!((&report["token_of_text"], &report["bytes_of_text"][0]), (&100.into(), &100.into()));
    assert_eq!(report["text"], texts[3][100..101]);
    assert_eq!(report["before"], texts[3][68..100]);
    assert_eq!(report["after"], texts[3][101..133]);
    let text = llmos(&given).text();
    for words in ["a.jsonl, row 3", "(CC BY 4.0)", "token 100 of that text", "⟦"] {
        assert!(text.contains(words), "{words}: {text}");
    }
    llmos(&["data", "trace", &out, "--token", "99999"]).is_error("has no token 99999");
    llmos(&["data", "trace", &raw, "--token", "0"]).is_error("manifest.json");
}

#[test]
fn what_cannot_be_read_is_counted_and_left_out() {
    let home = Folder::new();
    let (raw, out) = (home.join("a.txt"), home.join("data"));
    let whole = story(1);
    let (before, after) = whole.split_at(40);
    std::fs::write(&raw, [before.as_bytes(), b"\xff\0\xe4", after.as_bytes()].concat()).unwrap();
    let given = ["data", "prepare", &raw, "--out", &out, "--char", "--lossy", "--verbatim"];
    let output = llmos(&[&given[..], &["--validation", "0"]].concat());
    assert_eq!(output.code, Some(0), "{}", output.stderr);
    assert!(output.stderr.contains("bytes that are no text"), "{}", output.stderr);
    let manifest = json(&home.join("data/manifest.json"));
    assert_eq!(manifest["removed"]["unreadable"]["bytes"], 3);
    assert_eq!(manifest["train"]["tokens"], whole.len());
    let mut letters: Vec<char> = whole.chars().collect();
    letters.sort_unstable();
    letters.dedup();
    assert_eq!(manifest["tokenizer"]["vocab_size"], letters.len());
}

#[test]
fn damaged_parquet_is_an_error_and_no_panic() {
    let home = Folder::new();
    let sound = std::fs::read(repository("testdata/parquet/delta-byte-array.parquet")).unwrap();
    let raw = home.join("a.parquet");
    for at in (4..sound.len()).step_by(331) {
        let mut damaged = sound.clone();
        damaged[at] ^= 0xff;
        std::fs::write(&raw, damaged).unwrap();
        let out = home.join("data");
        let output = llmos(&["data", "prepare", &raw, "--out", &out, "--char", "--force"]);
        assert!(!output.stderr.contains("panicked"), "byte {at}: {}", output.stderr);
        assert!(matches!(output.code, Some(0 | 2)), "byte {at}: {output:?}");
    }
}

#[cfg(unix)]
#[test]
fn a_full_disk_leaves_nothing() {
    let home = Folder::new();
    let raw = home.join("a.jsonl");
    std::fs::write(&raw, rows((0..2000).map(story))).unwrap();
    // A limit on file sizes stands for a full disk: 40 KiB, of some 300 KiB of tokens.
    let limited = "ulimit -f 80; exec \"$0\" \"$@\"";
    let mut command = std::process::Command::new("sh");
    let out = home.join("data");
    command.args(["-c", limited, env!("CARGO_BIN_EXE_llmos"), "data", "prepare", &raw]);
    command.args(["--out", &out, "--vocab", "300"]).env("LLMOS_HOME", home.path());
    let output = command.stdin(std::process::Stdio::null()).output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{stderr}");
    assert!(stderr.contains("hint:") && !stderr.contains("panicked"), "{stderr}");
    let left: Vec<_> = std::fs::read_dir(home.path()).unwrap().collect();
    assert_eq!(left.len(), 1, "{left:?}");
}

#[cfg(target_os = "linux")]
#[test]
fn memory_is_bounded_whatever_the_lines() {
    use std::io::Write;
    let home = Folder::new();
    // A line of 100 MB of text is cut in parts; the same as a row of JSON is refused.
    let (text, row) = (home.join("a.txt"), home.join("a.jsonl"));
    let mut file = std::io::BufWriter::new(std::fs::File::create(&text).unwrap());
    let mut lines = std::io::BufWriter::new(std::fs::File::create(&row).unwrap());
    lines.write_all(b"{\"text\": \"").unwrap();
    for number in 0..400_000 {
        let text = story(number);
        file.write_all(text.as_bytes()).unwrap();
        lines.write_all(text.as_bytes()).unwrap();
    }
    lines.write_all(b"\"}\n").unwrap();
    file.flush().unwrap();
    lines.flush().unwrap();
    assert!(std::fs::metadata(&text).unwrap().len() > 80_000_000);
    let vocab = repository("testdata/tokenizer-train/golden/gpt2.json").display().to_string();
    let out = home.join("data");
    let prepare = |raw: &str, more: &[&str]| {
        let arguments = ["data", "prepare", raw, "--tokenizer", &vocab, "--out", &out, "--json"];
        llmos(&[&arguments[..], &["--threads", "2", "--force"], more].concat())
    };
    let report = prepare(&text, &[]).json();
    let peak = report["peak_memory_bytes"].as_u64().unwrap();
    assert!(peak < 160 << 20, "{peak} bytes at the peak");
    prepare(&row, &[]).is_error("line 1: longer than 64 MiB, at byte 0");
    prepare(&row, &["--lossy"]).is_error("1 row too long to hold");
}
