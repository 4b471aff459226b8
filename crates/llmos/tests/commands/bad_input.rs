//! Files and flags that are wrong: an error with a hint, never a panic.

use crate::program::{Folder, llmos, llmos_with, stories};

#[test]
fn what_is_no_model() {
    let home = Folder::new();
    let file = |name: &str, bytes: &[u8]| {
        std::fs::write(home.join(name), bytes).unwrap();
        home.join(name)
    };
    let inspect = |path: &str| llmos(&["inspect", path]);
    inspect(&home.join("missing.gguf")).is_error("no file and no model");
    inspect(&file("empty.gguf", b"")).is_error("empty.gguf");
    inspect(&file("text.gguf", b"hello, this is not a model")).is_error("text.gguf");
    inspect(&file("pickle.bin", b"PK\x03\x04 torch")).is_error("pickle");
    inspect(&home.path().display().to_string()).is_error("config.json");
    inspect(&file("lying.gguf", &[b"GGUF".as_slice(), &[3, 0, 0, 0], &[255; 16]].concat()))
        .is_error("lying.gguf");
}

#[test]
fn an_adapter_is_no_model() {
    let home = Folder::new();
    for name in ["adapter_config.json", "adapter_model.safetensors"] {
        std::fs::write(home.join(name), "{}").unwrap();
    }
    let output = llmos(&["run", &home.path().display().to_string(), "-p", "x"]);
    output.is_error("is an adapter");
    assert!(output.stderr.contains("--lora"), "{}", output.stderr);
}

#[test]
fn near_names_are_offered() {
    llmos(&["run", "storis260k", "-p", "x"]).is_error("did you mean stories260K?");
    let near = stories().replace("260K", "26OK");
    llmos(&["run", &near, "-p", "x"]).is_error("stories260K.gguf");
    llmos(&["run", "zzz", "-p", "x"]).is_error("llmos pull hf:OWNER/REPO");
    llmos(&["run", "hf:a/b", "-p", "x"]).is_error("llmos pull hf:a/b");
}

#[test]
fn a_truncated_model() {
    let home = Folder::new();
    let whole = std::fs::read(stories()).unwrap();
    for part in [4, 10, 24, 100, 1_000, 5_000, 12_000, whole.len() / 2, whole.len() - 1] {
        let path = home.join("cut.gguf");
        std::fs::write(&path, &whole[..part]).unwrap();
        llmos(&["run", &path, "-p", "Once", "-n", "1"]).is_error("cut.gguf");
    }
}

#[test]
fn a_damaged_header_is_an_error_or_another_model() {
    let home = Folder::new();
    let whole = std::fs::read(stories()).unwrap();
    for at in (4..600).step_by(23) {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x81;
        let path = home.join("bent.gguf");
        std::fs::write(&path, &bytes).unwrap();
        let output = llmos(&["run", &path, "-p", "Once", "-n", "2", "--temp", "0"]);
        assert!(matches!(output.code, Some(0 | 2)), "byte {at}: {output:?}");
        assert!(!output.stderr.contains("panicked"), "byte {at}: {}", output.stderr);
    }
}

#[test]
fn flags_out_of_range() {
    let model = stories();
    let run = |more: &[&str]| llmos(&[&["run", &model, "-p", "Once", "-n", "3"], more].concat());
    run(&["--context", "513"]).is_error("1 to 512");
    run(&["--context", "0"]).is_error("1 to 512");
    run(&["--batch", "0"]).is_error("change --batch");
    run(&["--cache-memory", "100"]).is_error("give --cache-memory more");
    run(&["--temp=-1"]).is_error("temperature");
    run(&["--top-p", "1.5"]).is_error("top_p");
    run(&["--temp", "NaN"]).is_error("temperature");
    run(&["--isa", "avx9000"]).is_error("avx9000");
    run(&["--draft", "nothing"]).is_error("nothing");
    run(&["--regex", "("]).is_error("grammar");
    run(&["--json-schema", "{"]).is_error("grammar");
    run(&["--json-schema", "@no-such-file"]).is_error("no-such-file");
    for usage in [&["--threads", "0"][..], &["--temp", "warm"], &["--nonsense"], &["--seed", "-1"]]
    {
        let output = run(usage);
        assert_eq!(output.code, Some(2), "{usage:?}");
        assert!(output.stderr.contains("error:"), "{}", output.stderr);
    }
}

#[test]
fn a_prompt_that_does_not_fit() {
    let long = "Once upon a time ".repeat(300);
    llmos_with(&["run", &stories(), "-n", "3"], long.as_bytes()).is_error("512 tokens of context");
    llmos(&["run", &stories(), "-f", "no-such-file"]).is_error("no-such-file");
}

#[test]
fn a_prompt_that_is_no_text_is_still_bytes() {
    let output =
        llmos_with(&["run", &stories(), "-n", "5", "--temp", "0"], &[0xFF, 0xFE, b' ', b'a']);
    assert_eq!(output.code, Some(0), "{}", output.stderr);
}

#[test]
fn a_text_that_fills_the_context_ends_there() {
    let given = ["run", &stories(), "-p", "Once upon a time", "--context", "40", "--ignore-end"];
    let output = llmos(&given);
    assert_eq!(output.code, Some(0), "{}", output.stderr);
    assert!(output.stderr.contains("the context is full"), "{}", output.stderr);
}
