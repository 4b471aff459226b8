//! `llmos reward`: scores are PyTorch's, before, while and after they are learnt.

use std::path::Path;

use serde_json::{Value, json};

use crate::program::{Folder, llmos, repository};

fn golden() -> (String, Value) {
    let folder = repository("testdata/finetune");
    let expected = std::fs::read(folder.join("reward.json")).unwrap();
    (folder.join("base").display().to_string(), serde_json::from_slice(&expected).unwrap())
}

/// The golden base with the head that the golden scores were computed with.
fn headed(folder: &Folder, base: &str) -> String {
    let out = folder.join("headed");
    std::fs::create_dir(&out).unwrap();
    for entry in std::fs::read_dir(base).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), Path::new(&out).join(entry.file_name())).unwrap();
    }
    let path = Path::new(&out).join("model.safetensors");
    let bytes = std::fs::read(&path).unwrap();
    let (length, rest) = bytes.split_first_chunk::<8>().unwrap();
    let (header, numbers) = rest.split_at(u64::from_le_bytes(*length) as usize);
    let mut header: Value = serde_json::from_slice(header).unwrap();
    let at = numbers.len();
    header["score.weight"] =
        json!({"dtype": "F32", "shape": [1, 32], "data_offsets": [at, at + 4 * 32]});
    let mut header = header.to_string().into_bytes();
    header.resize(header.len().next_multiple_of(8), b' ');
    let head = (0..32).flat_map(|i| if i % 2 == 0 { 0.05_f32 } else { -0.03 }.to_le_bytes());
    let length = (header.len() as u64).to_le_bytes();
    let all = [&length[..], &header, numbers, &head.collect::<Vec<u8>>()].concat();
    std::fs::write(path, all).unwrap();
    out
}

fn pairs(folder: &Folder, rows: &[Value]) -> String {
    let path = folder.join("pairs.jsonl");
    let text: String = rows.iter().map(|row| format!("{row}\n")).collect();
    std::fs::write(&path, text).unwrap();
    path
}

/// Scores of all pairs are the expected ones, [better, worse] each.
fn check_scores(model: &str, data: &str, expected: &Value) {
    let shown = llmos(&["reward", "score", model, "--data", data, "--json"]).text();
    let rows: Vec<Value> = shown.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(rows.len(), expected.as_array().unwrap().len());
    for (row, expected) in rows.iter().zip(expected.as_array().unwrap()) {
        for (key, expected) in [("chosen", &expected[0]), ("rejected", &expected[1])] {
            let apart = row[key].as_f64().unwrap() - expected.as_f64().unwrap();
            assert!(apart.abs() < 2e-4, "{key}: {row} beside {expected}");
        }
    }
}

fn rows(run: &str) -> Vec<Value> {
    let text = std::fs::read_to_string(Path::new(run).join("metrics.jsonl")).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn a_reward_model_learns_and_scores_as_pytorch_has_it() {
    let folder = Folder::new();
    let (base, expected) = golden();
    let base = headed(&folder, &base);
    let all = expected["pairs"].as_array().unwrap();
    let data = pairs(&folder, all);
    check_scores(&base, &data, &expected["before"]);
    for (name, more) in [("packed", &[][..]), ("alone", &["--no-pack"])] {
        let out = folder.join(name);
        // Two of six pairs are held out.
        let arguments = [
            "reward",
            "train",
            &base,
            "--data",
            &data,
            "--out",
            &out,
            "--threads",
            "2",
            "--steps",
            "6",
            "--batch",
            "2",
            "--no-shuffle",
            "--held-out",
            "0.3333",
            "--lr",
            "1e-3",
            "--eval-every",
            "3",
            "--set",
            "schedule.name=constant",
            "--set",
            "schedule.warmup=0",
            "--set",
            "optimizer.beta2=0.95",
        ];
        llmos(&[&arguments[..], more].concat()).text();
        let rows = rows(&out);
        for (at, row) in rows.iter().enumerate() {
            let apart = row["loss"].as_f64().unwrap() - expected["losses"][at].as_f64().unwrap();
            assert!(apart.abs() < 1e-4, "{name}: {row} beside {}", expected["losses"]);
            assert_eq!(row["reward_accuracy"], expected["accuracies"][at], "{row}");
            assert!(row.get("kl").is_none() && row.get("val_bits_per_byte").is_none(), "{row}");
        }
        check_scores(&out, &data, &expected["after"]);
        let after = expected["after"].as_array().unwrap();
        let ahead = |pair: &Value| pair[0].as_f64().unwrap() - pair[1].as_f64().unwrap();
        let margin = (ahead(&after[4]) + ahead(&after[5])) / 2.0;
        let last = &rows[5];
        assert!((last["val_reward_margin"].as_f64().unwrap() - margin).abs() < 2e-4, "{last}");
        assert!(rows[2]["val_loss"].is_number() && rows[1].get("val_loss").is_none());
    }
    let read = |name: &str| std::fs::read(Path::new(&folder.join("packed")).join(name)).unwrap();
    let config: Value = serde_json::from_slice(&read("config.json")).unwrap();
    assert_eq!(config["architectures"][0], "Qwen3ForSequenceClassification");
    // Other rows have one score, and a text for people says as many lines.
    let chats = repository("testdata/finetune/chats.jsonl").display().to_string();
    let out = folder.join("packed");
    let lines = llmos(&["reward", "score", &out, "--data", &chats]).text();
    assert_eq!(lines.lines().filter(|line| line.parse::<f64>().is_ok()).count(), 8);
}

#[test]
fn a_reward_run_goes_on_to_the_same_bytes_and_says_what_it_cannot_do() {
    let folder = Folder::new();
    let (base, expected) = golden();
    let data = pairs(&folder, expected["pairs"].as_array().unwrap());
    let train = |out: &str, more: &[&str]| {
        let arguments = [
            "reward",
            "train",
            &base,
            "--data",
            &data,
            "--out",
            out,
            "--steps",
            "4",
            "--batch",
            "2",
            "--save-every",
            "2",
        ];
        llmos(&[&arguments[..], more].concat())
    };
    let (whole, cut) = (folder.join("whole"), folder.join("cut"));
    train(&whole, &["--threads", "2"]).text();
    train(&cut, &["--threads", "1"]).text();
    std::fs::remove_dir_all(Path::new(&cut).join("checkpoints/step-4")).unwrap();
    std::fs::remove_file(Path::new(&cut).join("model.safetensors")).unwrap();
    llmos(&["reward", "train", "--resume", &cut, "--threads", "2"]).text();
    let read = |run: &str| std::fs::read(Path::new(run).join("model.safetensors")).unwrap();
    assert!(read(&whole) == read(&cut));
    let none = folder.join("none");
    train(&none, &["--lora", "r=4"]).is_error("not with an adapter");
    llmos(&["reward", "score", &base, "--data", &data]).is_error("has no score.weight");
    llmos(&["prefer", &base, "--data", &data, "--out", &none, "--loss", "reward"])
        .is_error("there is no loss `reward`");
    llmos(&["run", &whole, "-p", "a"]).is_error("it scores answers, and writes none");
    let broken = pairs(&folder, &[json!({"messages": []})]);
    llmos(&["reward", "score", &whole, "--data", &broken]).is_error("row 1: no messages");
}
