//! `tokenizer train`: texts in, a tokenizer out.

use std::path::Path;

use crate::program::{Folder, llmos, llmos_with, repository};

fn corpus() -> String {
    repository("testdata/tokenizer-train/corpus.en").display().to_string()
}

fn json(path: &Path) -> serde_json::Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

#[test]
fn the_reference_comes_out_as_a_file_and_as_a_folder() {
    let home = Folder::new();
    let golden = std::fs::read(repository("testdata/tokenizer-train/golden/gpt2.json")).unwrap();
    let train = |out: &str| {
        llmos(&[
            "tokenizer",
            "train",
            &corpus(),
            "--vocab",
            "500",
            "--pattern",
            "gpt2",
            "--out",
            &home.join(out),
            "--json",
        ])
        .json()
    };
    let report = train("t.json");
    assert_eq!(report["vocab_size"], 500);
    assert_eq!(report["special"], serde_json::json!(["<|endoftext|>"]));
    assert_eq!((&report["texts"], &report["text_bytes"]), (&1.into(), &133_027.into()));
    assert!(report["bytes_per_token"].as_f64().is_some_and(|rate| 1.5 < rate && rate < 3.0));
    assert!(std::fs::read(home.join("t.json")).unwrap() == golden);
    train("new/t");
    assert!(std::fs::read(home.join("new/t/tokenizer.json")).unwrap() == golden);
    let config = json(Path::new(&home.join("new/t/tokenizer_config.json")));
    assert_eq!(config["eos_token"], "<|endoftext|>");
    assert_eq!(config["add_bos_token"], false);
    let left: Vec<_> = std::fs::read_dir(home.join("new")).unwrap().collect();
    assert_eq!(left.len(), 1, "{left:?}");
    let ids = |tokenizer: &str, text: &str| {
        llmos_with(&["tokenize", &home.join(tokenizer), "--ids"], text.as_bytes()).text()
    };
    let text = "the screensaver displays words 你好 🙂";
    assert_eq!(ids("t.json", text), ids("new/t", text));
    let decoded =
        llmos_with(&["tokenize", &home.join("t.json"), "--decode"], ids("t.json", text).as_bytes());
    assert_eq!(decoded.text(), text);
}

#[test]
fn the_default_pattern_takes_digits_singly_and_special_tokens_count() {
    let home = Folder::new();
    let out = home.join("t.json");
    let text = home.join("text");
    std::fs::write(&text, "in 1999 and 1999 ".repeat(100)).unwrap();
    let train = ["tokenizer", "train", &text, "--vocab", "300", "--out", &out];
    let output = llmos(&[&train[..], &["--special", "<a>", "<b>"]].concat());
    assert_eq!(output.code, Some(0), "{}", output.stderr);
    assert!(output.stderr.contains("no other pair occurs twice"), "{}", output.stderr);
    let model = &json(Path::new(&out))["model"]["vocab"];
    assert_eq!((&model["<a>"], &model["<b>"], &model["!"]), (&0.into(), &1.into(), &2.into()));
    assert!(model["Ġand"].is_u64() && model["19"].is_null(), "{model}");
    let none = llmos(&[&train[..], &["--force", "-q", "--special"]].concat());
    assert_eq!((none.code, none.stderr.as_str()), (Some(0), ""));
    assert_eq!(json(Path::new(&out))["added_tokens"], serde_json::json!([]));
}

#[test]
fn characters_are_numbered_in_order() {
    let home = Folder::new();
    let text = home.join("text.txt");
    std::fs::write(&text, "hello, 世界!\n").unwrap();
    let out = home.join("t");
    let train = ["tokenizer", "train", &text, "--char", "--out", &out, "--json"];
    assert_eq!(llmos(&train).json()["vocab_size"], 10);
    let vocab = json(&Path::new(&out).join("tokenizer.json"))["model"]["vocab"].clone();
    for (id, character) in ["\n", " ", "!", ",", "e", "h", "l", "o", "世", "界"].iter().enumerate()
    {
        assert_eq!(vocab[character], id);
    }
    let ids = llmos_with(&["tokenize", &out, "--ids"], "hole 世\n".as_bytes()).text();
    assert_eq!(ids, "5 7 6 4 1 8 0\n");
    llmos(&[&train[..], &["--force", "--vocab", "9"]].concat()).is_error("10 different characters");
}

#[test]
fn folders_are_read_in_order_and_threads_change_nothing() {
    let home = Folder::new();
    let folder = home.join("raw");
    std::fs::create_dir_all(format!("{folder}/b")).unwrap();
    let write = |name: &str, text: &[u8]| std::fs::write(format!("{folder}/{name}"), text).unwrap();
    let whole = std::fs::read(corpus()).unwrap();
    write("a.txt", &[b"\xef\xbb\xbf", &whole[..50_000]].concat());
    write("b/c.md", &whole[50_000..]);
    write("b/empty.txt", b"");
    write("picture.png", &[0xff; 100]);
    // What a folder says about itself is no text of it, as in `data prepare`.
    write("LICENSE.txt", b"zzzz zzzz zzzz");
    let train = |threads: &str| {
        let out = home.join(&format!("{threads}.json"));
        let arguments =
            ["tokenizer", "train", &folder, "--vocab", "600", "--threads", threads, "--out", &out];
        let report = llmos(&[&arguments[..], &["--json"]].concat()).json();
        assert_eq!((&report["texts"], &report["text_bytes"]), (&3.into(), &133_027.into()));
        std::fs::read(out).unwrap()
    };
    let one = train("1");
    assert!(one == train("2") && one == train("5"));
}

#[test]
fn rows_of_data_files_are_texts() {
    let home = Folder::new();
    let folder = home.join("raw");
    std::fs::create_dir(&folder).unwrap();
    let lines = ["the cat sat", "the  mat\r\n", "the end"];
    let rows = |field: &str| -> String {
        let row = |text: &&str| serde_json::json!({ field: text, "id": 1 }).to_string();
        lines.iter().map(row).collect::<Vec<_>>().join("\n")
    };
    std::fs::write(format!("{folder}/a.jsonl"), rows("text")).unwrap();
    std::fs::write(format!("{folder}/b.txt"), lines[2]).unwrap();
    std::fs::write(home.join("story.jsonl"), rows("story")).unwrap();
    // A gzip member that stores its bytes, under a name that does not say so.
    let stored = |text: &[u8]| {
        let len = text.len() as u16;
        let mut crc = flate2::Crc::new();
        crc.update(text);
        let head = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255, 1];
        let lens = [len.to_le_bytes(), (!len).to_le_bytes()].concat();
        let tail = [crc.sum().to_le_bytes(), u32::from(len).to_le_bytes()].concat();
        [&head[..], &lens, text, &tail].concat()
    };
    std::fs::write(home.join("packed.txt"), stored(lines[0].as_bytes())).unwrap();
    let out = home.join("t.json");
    let train = |raw: &str, more: &[&str]| {
        let train = ["tokenizer", "train", raw, "--char", "--out", &out, "--force", "--json"];
        llmos(&[&train[..], more].concat())
    };
    let expected: std::collections::BTreeSet<char> = lines.concat().chars().collect();
    let report = train(&folder, &[]).json();
    assert_eq!((&report["texts"], &report["vocab_size"]), (&4.into(), &expected.len().into()));
    assert_eq!(report["text_bytes"], lines.concat().len() + lines[2].len());
    let report = train(&home.join("story.jsonl"), &["--field", "story"]).json();
    assert_eq!((&report["texts"], &report["vocab_size"]), (&3.into(), &expected.len().into()));
    train(&home.join("story.jsonl"), &[]).is_error("--field");
    let report = train(&home.join("packed.txt"), &[]).json();
    assert_eq!(report["text_bytes"], lines[0].len());
}

#[test]
fn what_cannot_be_trained_is_an_error() {
    let home = Folder::new();
    let file = |name: &str, bytes: &[u8]| {
        std::fs::write(home.join(name), bytes).unwrap();
        home.join(name)
    };
    let out = home.join("out.json");
    let train = |raw: &str, more: &[&str]| {
        llmos(&[&["tokenizer", "train", raw, "--out", &out], more].concat())
    };
    let vocab = &["--vocab", "300"];
    train(&home.join("missing"), vocab).is_error("missing");
    train(&home.path().display().to_string(), vocab).is_error("that end in .txt");
    train(&file("empty", b""), vocab).is_error("holds no text");
    train(&file("latin", b"caf\xe9 au lait"), vocab).is_error("not UTF-8 at byte 3");
    train(&file("cut", b"caf\xc3"), vocab).is_error("not UTF-8 at byte 3");
    let late = [vec![b'a'; 3_000_001], b"\xff\xfe".to_vec()].concat();
    train(&file("late", &late), vocab).is_error("not UTF-8 at byte 3000001");
    train(&file("zero", b"one two\0three"), vocab).is_error("a zero byte at byte 7");
    train(&file("wide", b"\xff\xfea\0b\0"), vocab).is_error("UTF-16");
    train(&corpus(), &["--vocab", "256"]).is_error("more than 257");
    train(&corpus(), &["--vocab", "300", "--pattern", "qwen9"]).is_error("qwen9");
    train(&corpus(), &["--vocab", "300", "--pattern", "["]).is_error("regular expression");
    train(&corpus(), &["--vocab", "300", "--special", "a"]).is_error("--special");
    assert_eq!(train(&corpus(), &[]).code, Some(2));
    assert_eq!(train(&corpus(), &["--char", "--pattern", "gpt2"]).code, Some(2));
    assert!(!Path::new(&out).exists());
    let left = std::fs::read_dir(home.path()).unwrap().count();
    assert_eq!(left, 6, "nothing but the texts");
}

#[test]
fn nothing_is_replaced_without_being_asked() {
    let home = Folder::new();
    let (file, folder) = (home.join("t.json"), home.join("t"));
    std::fs::create_dir(&folder).unwrap();
    std::fs::write(home.join("t/notes"), "mine").unwrap();
    let train = |out: &str, more: &[&str]| {
        let arguments = ["tokenizer", "train", &corpus(), "--vocab", "300", "--out", out];
        llmos(&[&arguments[..], more].concat())
    };
    std::fs::write(&file, "mine").unwrap();
    train(&file, &[]).is_error("exists");
    assert_eq!(std::fs::read(&file).unwrap(), b"mine");
    assert_eq!(train(&file, &["--force"]).code, Some(0));
    assert_eq!(train(&folder, &[]).code, Some(0));
    train(&folder, &[]).is_error("exists");
    assert_eq!(train(&folder, &["--force"]).code, Some(0));
    assert_eq!(std::fs::read(home.join("t/notes")).unwrap(), b"mine");
    train(&home.join("t/notes"), &["--force"]).is_error("is a file");
}

#[cfg(unix)]
#[test]
fn a_full_disk_leaves_nothing() {
    let home = Folder::new();
    // A limit on file sizes stands for a full disk.
    let limited = "ulimit -f 10; exec \"$0\" \"$@\"";
    for out in ["t.json", "t"] {
        let mut command = std::process::Command::new("sh");
        let llmos = env!("CARGO_BIN_EXE_llmos");
        command.args(["-c", limited, llmos, "tokenizer", "train", &corpus(), "--vocab", "2000"]);
        command.args(["--out", &home.join(out)]).env("LLMOS_HOME", home.path());
        let output = command.stdin(std::process::Stdio::null()).output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{stderr}");
        assert!(stderr.contains("hint:") && !stderr.contains("panicked"), "{stderr}");
    }
    let left: Vec<_> = std::fs::read_dir(home.path()).unwrap().collect();
    assert!(left.is_empty(), "{left:?}");
}

/// Letters drawn from `letters`, with a space after each `word` of them.
#[cfg(target_os = "linux")]
fn random(letters: &[char], word: usize, n_letter: usize) -> String {
    let mut state = 1u64;
    let mut text = String::new();
    for number in 1..=n_letter {
        // A linear congruence (Knuth's MMIX constants).
        state = state.wrapping_mul(6_364_136_223_846_793_005);
        state = state.wrapping_add(1_442_695_040_888_963_407);
        // The square favours some letters, as languages do.
        let place = ((state >> 48).pow(2) * letters.len() as u64) >> 32;
        text.push(letters[place as usize]);
        if number % word == 0 {
            text.push(' ');
        }
    }
    text
}

#[cfg(target_os = "linux")]
#[test]
fn memory_is_bounded_by_what_was_asked() {
    let home = Folder::new();
    let latin: Vec<char> = ('a'..='z').collect();
    let chinese: Vec<char> = ('一'..='\u{5dff}').collect();
    let any: Vec<char> = ('!'..='\u{ffff}').collect();
    let out = home.join("t.json");
    let check = |name: &str, text: &str, threads: &str| {
        let file = home.join(name);
        std::fs::write(&file, text).unwrap();
        let train = ["tokenizer", "train", &file, "--vocab", "2000", "--memory", "64M"];
        let more = ["--threads", threads, "--out", &out, "--force", "--json"];
        let report = llmos(&[&train[..], &more].concat()).json();
        std::fs::remove_file(file).unwrap();
        assert_eq!(report["words_cut"], true, "{name}");
        assert_eq!(report["vocab_size"], 2000, "{name}");
        let peak = report["peak_memory_bytes"].as_u64().unwrap();
        assert!(peak <= 64 << 20, "{name}: {peak} bytes at the peak");
    };
    check("one-line.txt", &random(&latin, usize::MAX, 30 << 20), "2");
    check("words.txt", &random(&latin, 9, 20 << 20), "2");
    check("words-by-more.txt", &random(&latin, 9, 20 << 20), "8");
    check("chinese.txt", &random(&chinese, 12, 10 << 20), "2");
    check("characters.txt", &random(&any, usize::MAX, 10 << 20), "2");
    let row = |text: &str| serde_json::json!({ "text": text }).to_string();
    let one_line = random(&latin, usize::MAX, 20 << 20);
    let rows: Vec<String> =
        (0..20).map(|number| row(&one_line[number << 20..][..1 << 20])).collect();
    check("rows.jsonl", &rows.join("\n"), "2");
}

#[test]
fn too_little_memory_is_refused_with_what_is_enough() {
    let home = Folder::new();
    let out = home.join("t.json");
    let train =
        |more: &[&str]| llmos(&[&["tokenizer", "train", &corpus(), "--out", &out], more].concat());
    let short = train(&["--vocab", "8192", "--memory", "40M"]);
    short.is_error("--memory 40M is too little: this takes 50M at least");
    train(&["--char", "--memory", "1M"]).is_error("this takes 32M at least");
    assert!(!Path::new(&out).exists());
    assert_eq!(train(&["--vocab", "8192", "--memory", "50M"]).code, Some(0));
    // Rows of data files are read ahead.
    let rows = home.join("rows.jsonl");
    std::fs::write(&rows, "{\"text\": \"ab ab ab\"}\n").unwrap();
    let train = |memory: &str| {
        let train = ["tokenizer", "train", &rows, "--vocab", "300", "--memory", memory];
        llmos(&[&train[..], &["--out", &home.join("rows.json"), "--force"]].concat())
    };
    train("50M").is_error("this takes 54M at least");
    assert_eq!(train("54M").code, Some(0));
    let long = serde_json::json!({ "text": "ab ".repeat(1 << 20) }).to_string();
    std::fs::write(&rows, long).unwrap();
    let long = train("54M");
    long.is_error("line 1: longer than");
    assert!(long.stderr.contains("--memory"), "{}", long.stderr);
}
