//! `score`: how well a model predicts a text.

use crate::program::{Folder, llmos, llmos_with, repository, stories};

#[test]
fn the_score_is_the_mean_over_the_tokens_with_a_past() {
    let text = b"Once upon a time, there was a little girl named Lily.";
    let report = llmos_with(&["score", &stories(), "--text", "-", "--json", "--each"], text).json();
    let each = report["each"].as_array().unwrap();
    assert_eq!(report["tokens"], each.len());
    assert_eq!(report["bytes"], text.len());
    assert!(each[0]["logprob"].is_null());
    let nats: f64 = -each[1..].iter().map(|each| each["logprob"].as_f64().unwrap()).sum::<f64>();
    let mean = report["nats_per_token"].as_f64().unwrap();
    assert!((mean - nats / (each.len() - 1) as f64).abs() < 1e-9);
    let bits = report["bits_per_byte"].as_f64().unwrap();
    assert!((bits - nats / 2f64.ln() / text.len() as f64).abs() < 1e-9);
    // The model's published loss on stories is 1.2968 nats a token; this one it knows well.
    assert!((0.1..1.3).contains(&mean), "{mean}");
}

#[test]
fn prefill_and_stepwise_agree() {
    let home = Folder::new();
    let path = home.join("text");
    std::fs::write(&path, "Tom and Lily went to the park. \"Look!\" said Tom. They saw a dog.")
        .unwrap();
    for cache in ["f32", "f16", "q8"] {
        let score = |more: &[&str]| {
            let model = stories();
            let given =
                ["score", &model, "--text", &path, "--json", "--each", "--cache-type", cache];
            llmos(&[&given[..], more].concat()).json()
        };
        let (prefill, stepwise) = (score(&[]), score(&["--stepwise"]));
        let pairs =
            prefill["each"].as_array().unwrap().iter().zip(stepwise["each"].as_array().unwrap());
        for (a, b) in pairs.skip(1) {
            let (a, b) = (a["logprob"].as_f64().unwrap(), b["logprob"].as_f64().unwrap());
            assert!((a - b).abs() < 2e-3, "{cache}: {a} {b}");
        }
        let chunked = score(&["--batch", "5"]);
        let mean = |report: &serde_json::Value| report["nats_per_token"].as_f64().unwrap();
        assert!((mean(&prefill) - mean(&chunked)).abs() < 1e-3);
    }
}

#[test]
fn the_ids_of_a_text_score_as_the_text() {
    let text = llmos_with(&["score", &stories(), "--json"], b"Once upon a time").json();
    let ids = llmos(&["score", &stories(), "--ids", "1 403 407 261 378", "--json"]).json();
    assert_eq!(ids, text);
}

#[test]
fn ids_work_with_a_vocabulary_that_does_not() {
    let home = Folder::new();
    let model = home.join("model.bin");
    std::fs::copy(repository("testdata/llama2c/stories260K.bin"), &model).unwrap();
    let mut tokens = std::fs::read(repository("testdata/llama2c/tok512.bin")).unwrap();
    tokens.extend([0; 12]);
    std::fs::write(home.join("tokenizer.bin"), tokens).unwrap();
    llmos(&["run", &model, "-p", "Once"]).is_error("512 tokens");
    let given = ["--ids", "1 403 407 261 378", "--json"];
    let report = llmos(&[&["score", &model][..], &given].concat()).json();
    assert!(report["bytes"].is_null());
    let sound = llmos(&[&["score", &stories()][..], &given].concat()).json();
    assert_eq!(report["nats_per_token"], sound["nats_per_token"]);
}

#[test]
fn ids_work_without_a_tokenizer() {
    // testdata/architectures/gemma2 has weights and ids alone.
    let folder = repository("testdata/architectures/gemma2").display().to_string();
    let report = llmos(&["score", &folder, "--ids", "1 5, 9 20", "--each", "--json"]).json();
    assert_eq!(report["tokens"], 4);
    assert!(report["bytes"].is_null() && report["bits_per_byte"].is_null());
    assert_eq!(report["each"].as_array().unwrap().len(), 4);
    assert!(report["each"][0]["logprob"].is_null() && report["each"][1]["text"].is_null());
    llmos_with(&["score", &folder, "--text", "-"], b"some text").is_error("no tokenizer");
}

#[test]
fn a_long_text_slides_through_the_context() {
    let text = "Lily liked her dog. ".repeat(200);
    let score = |more: &[&str]| {
        let model = stories();
        llmos_with(&[&["score", &model, "--json"][..], more].concat(), text.as_bytes())
    };
    let report = score(&[]).json();
    assert!(report["tokens"].as_u64().unwrap() > 600);
    assert_eq!(report["bytes"], text.len());
    // Better than a guess among 512 tokens.
    assert!(report["nats_per_token"].as_f64().unwrap() < 512f64.ln());
    assert_eq!(score(&["--stride", "256"]).json(), report);
    assert_ne!(score(&["--stride", "512"]).json()["nats_per_token"], report["nats_per_token"]);
    score(&["--stride", "513"]).is_error("--stride: expected 1 to 512");
}

#[test]
fn bytes_are_those_of_the_file() {
    let home = Folder::new();
    let path = home.join("text");
    // A byte order mark, carriage returns, and a byte that is no UTF-8.
    let text = b"\xef\xbb\xbfOnce upon a time\r\nLily \xff slept.\r\n";
    std::fs::write(&path, text).unwrap();
    let size = std::fs::metadata(&path).unwrap().len();
    assert_eq!(llmos(&["score", &stories(), "--text", &path, "--json"]).json()["bytes"], size);
    let piped = llmos_with(&["score", &stories(), "--json"], text).json();
    assert_eq!(piped["bytes"], size);
}

#[test]
fn a_text_without_a_past_is_an_error() {
    llmos(&["score", &stories(), "--ids", "5"]).is_error("none has a past");
    llmos_with(&["score", &stories()], b"").is_error("none has a past");
    llmos(&["score", &stories(), "--ids", "1 99999"]).is_error("llmos tokenize MODEL --ids");
}

#[test]
fn the_table_for_people_ends_with_the_mean() {
    let text = llmos_with(&["score", &stories(), "--each"], b"Once upon a time").text();
    assert!(text.contains("\" Once\"") && text.contains("nats a token"), "{text}");
}

#[test]
fn a_stride_beyond_the_context_says_so() {
    let text = "A cat sat on a mat. ".repeat(200);
    let given = ["score", &stories(), "--text", "-", "--stride", "100000"];
    let refused = llmos_with(&given, text.as_bytes());
    refused.is_error("--stride");
    assert!(refused.stderr.contains("half of the context is usual"), "{}", refused.stderr);
}
