//! `tokenize`: text to ids and back.

use crate::program::{llmos_with, repository, stories};

#[test]
fn ids_and_their_text() {
    let model = stories();
    let ids = |text: &[u8]| llmos_with(&["tokenize", &model, "--ids"], text).text();
    assert_eq!(ids(b"hi Lily"), "270 417 317\n");
    assert_eq!(ids(b""), "\n");
    for text in ["hi Lily", "Hello\n\nworld ", "\u{732b} na\u{ef}ve \u{1f600}", "  two  spaces"] {
        let decoded =
            llmos_with(&["tokenize", &model, "--decode"], ids(text.as_bytes()).as_bytes());
        assert_eq!(decoded.text(), text);
    }
}

#[test]
fn decoding_keeps_special_tokens() {
    let decoded = llmos_with(&["tokenize", &stories(), "--decode"], b"1 403 407 2");
    assert_eq!(decoded.text(), "<s> Once upon</s>");
}

#[test]
fn control_tokens_in_a_text_are_text_unless_asked_for() {
    let model = stories();
    let ids = |more: &[&str]| {
        let given = ["tokenize", &model, "--ids"];
        llmos_with(&[&given[..], more].concat(), b"<s>").text()
    };
    assert_ne!(ids(&[]).trim(), "1");
    assert_eq!(ids(&["--special"]).trim(), "1");
}

#[test]
fn bytes_that_are_no_text_come_back() {
    let model = stories();
    let given = [0xFF, b'a', 0xC3, b' ', 0x80];
    let ids = llmos_with(&["tokenize", &model, "--ids"], &given).text();
    let decoded = llmos_with(&["tokenize", &model, "--decode"], ids.as_bytes());
    assert_eq!((decoded.code, decoded.stdout.as_slice()), (Some(0), &given[..]));
}

#[test]
fn a_folder_a_tokenizer_json_and_a_sentencepiece_model_agree() {
    let folder = repository("testdata/architectures/llama");
    let ids = |path: &std::path::Path| {
        llmos_with(&["tokenize", &path.display().to_string(), "--ids"], b"Hello little world")
            .text()
    };
    let json = ids(&folder.join("tokenizer.json"));
    assert_eq!(ids(&folder), json);
    assert_eq!(ids(&folder.join("tokenizer.model")), json);
}

#[test]
fn json_for_programs_and_lines_for_people() {
    let model = stories();
    let report = llmos_with(&["tokenize", &model, "--json"], b"hi Lily").json();
    assert_eq!(report["count"], 3);
    assert_eq!(report["tokens"][2]["text"], " Lily");
    let lines = llmos_with(&["tokenize", &model], b"hi Lily").text();
    assert_eq!(lines.lines().count(), 3);
}

#[test]
fn what_is_no_id_is_an_error() {
    llmos_with(&["tokenize", &stories(), "--decode"], b"12 x").is_error("\"x\" is not a token id");
    llmos_with(&["tokenize", &stories(), "--decode"], b"512").is_error("512");
}
