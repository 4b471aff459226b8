//! `llmos finetune`: what is learnt of conversations, and that it is learnt as PyTorch learns it.

use std::path::Path;

use serde_json::{Value, json};

use crate::program::{Folder, llmos, repository, stories};

/// The golden folder, made by `make.py` beside it.
fn golden(name: &str) -> String {
    repository("testdata/finetune").join(name).display().to_string()
}

fn expected() -> Value {
    serde_json::from_slice(&std::fs::read(golden("expected.json")).unwrap()).unwrap()
}

/// Finetunes the golden base on the golden rows as PyTorch did.
fn as_pytorch<'a>(base: &'a str, data: &'a str, out: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let arguments = [
        "finetune",
        base,
        "--data",
        data,
        "--out",
        out,
        "--threads",
        "2",
        "--steps",
        "6",
        "--batch",
        "4",
        "--no-shuffle",
        "--lr",
        "1e-3",
        "--set",
        "schedule.name=constant",
        "--set",
        "schedule.warmup=0",
        "--set",
        "optimizer.beta2=0.95",
    ];
    [&arguments[..], more].concat()
}

fn losses(run: &str) -> Vec<f64> {
    let text = std::fs::read_to_string(Path::new(run).join("metrics.jsonl")).unwrap();
    let row = |line: &str| serde_json::from_str::<Value>(line).unwrap()["loss"].as_f64().unwrap();
    text.lines().map(row).collect()
}

#[test]
fn what_is_learnt_is_what_transformers_marks() {
    let (chats, base, marked) = (golden("chats.jsonl"), golden("base"), golden("marked.jinja"));
    let expected = expected();
    for template in [&[][..], &["--template", &marked]] {
        let arguments = ["finetune", "--show-mask", &chats, "--model", &base, "--json"];
        let shown = llmos(&[&arguments[..], template].concat()).text();
        let rows: Vec<Value> =
            shown.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(rows.len(), expected["rows"].as_array().unwrap().len());
        for (row, expected) in rows.iter().zip(expected["rows"].as_array().unwrap()) {
            assert_eq!(row["ids"], expected["ids"], "{row}");
            assert_eq!(row["learnt"], expected["learnt"], "{row}");
        }
    }
    let shown = llmos(&["finetune", "--show-mask", &chats, "--model", &base, "--rows", "1"]).text();
    assert!(shown.ends_with("<|im_start|>assistant\n⟦A very small model.<|im_end|>⟧\n"), "{shown}");
    let untold = llmos(&["finetune", "--show-mask", &chats, "--model", &stories()]);
    untold.is_error("has no chat template");
    assert!(untold.stderr.contains("--template plain"), "{}", untold.stderr);
}

#[test]
fn losses_are_those_of_pytorch_packed_or_not_and_from_a_gguf_file() {
    let folder = Folder::new();
    let expected: Vec<f64> = expected()["losses"]
        .as_array()
        .unwrap()
        .iter()
        .map(|loss| loss.as_f64().unwrap())
        .collect();
    let (chats, base, gguf) = (golden("chats.jsonl"), golden("base"), folder.join("base.gguf"));
    llmos(&["convert", &base, &gguf, "--type", "f32"]).text();
    let packed = ["--set", "train.accumulation=2"];
    for (name, base, more) in [
        ("packed", &base, &[][..]),
        ("alone", &base, &["--no-pack"]),
        ("pieces", &base, &packed),
        ("gguf", &gguf, &[]),
    ] {
        let out = folder.join(name);
        llmos(&as_pytorch(base, &chats, &out, more)).text();
        let losses = losses(&out);
        assert_eq!(losses.len(), expected.len(), "{name}");
        for (got, expected) in losses.iter().zip(&expected) {
            assert!((got - expected).abs() < 1e-4, "{name}: {losses:?} beside {expected:?}");
        }
        // What came out is a model with the same template.
        let shown =
            llmos(&["finetune", "--show-mask", &chats, "--model", &out, "--rows", "1"]).text();
        assert!(shown.contains("⟦A very small model.<|im_end|>⟧"), "{name}: {shown}");
    }
}

#[test]
fn a_run_goes_on_to_the_same_bytes() {
    let folder = Folder::new();
    let (chats, base) = (golden("chats.jsonl"), golden("base"));
    let run = |name: &str, out: &str| {
        let more = ["--save-every", "2", "--held-out", "0.25", "--seed", "7", "--keep", "9"];
        let mut arguments = as_pytorch(&base, &chats, out, &more);
        arguments.retain(|argument| *argument != "--no-shuffle");
        llmos(&arguments).text();
        std::fs::read(Path::new(out).join(name)).unwrap()
    };
    let (whole, cut) = (folder.join("whole"), folder.join("cut"));
    let expected = run("model.safetensors", &whole);
    run("model.safetensors", &cut);
    // As after a kill in the fourth step.
    for step in [4, 6] {
        std::fs::remove_dir_all(Path::new(&cut).join(format!("checkpoints/step-{step}"))).unwrap();
    }
    std::fs::remove_file(Path::new(&cut).join("model.safetensors")).unwrap();
    llmos(&["finetune", "--resume", &cut, "--threads", "1"]).text();
    assert!(std::fs::read(Path::new(&cut).join("model.safetensors")).unwrap() == expected);
    assert_eq!(losses(&cut), losses(&whole));
    let kept = |out: &str| std::fs::read_dir(Path::new(out).join("checkpoints")).unwrap().count();
    assert!(kept(&whole) > 4, "--keep");
    llmos(&["finetune", "--resume", &cut, "--keep", "1"]).text();
    assert!(kept(&cut) <= 2, "the last one and the best");
    let planned = llmos(&["plan", &cut]);
    planned.is_error("is a run, where a recipe was expected");
    assert!(planned.stderr.contains("llmos finetune --resume"), "{}", planned.stderr);
}

#[test]
fn rows_that_teach_nothing_are_named_and_refused() {
    let folder = Folder::new();
    let user = json!({"role": "user", "content": "a"});
    let assistant = json!({"role": "assistant", "content": "b"});
    let long = json!({"role": "assistant", "content": "long ".repeat(400)});
    let rows = [
        json!({"messages": [user, assistant]}),
        json!({"messages": [user, user]}),
        json!({"messages": [user]}),
        json!({"messages": [user, long]}),
        json!({"instruction": "a", "output": "b"}),
    ];
    let text: String = rows.iter().map(|row| format!("{row}\n")).collect();
    let data = folder.join("rows.jsonl");
    std::fs::write(&data, text).unwrap();
    let out = folder.join("run");
    let base = golden("base");
    let refused = llmos(&as_pytorch(&base, &data, &out, &[]));
    for words in [
        "4 rows cannot be learnt from",
        "row 2: message 2 is the user's, as is the one before it",
        "row 3: message 1 is the user's, and the last: nothing answers it",
        "tokens are too many: the model's context holds 256",
        "row 5: it has another form than --format says, or than the file's first row",
        "hint: mend them, or leave them out with --skip-bad-rows",
    ] {
        refused.is_error(words);
    }
    assert!(!Path::new(&out).exists(), "a run that could not begin leaves nothing");
    llmos(&as_pytorch(&base, &data, &out, &["--skip-bad-rows"])).text();
    let pairs = folder.join("pairs.jsonl");
    std::fs::write(&pairs, "{\"prompt\": \"a\", \"chosen\": \"b\", \"rejected\": \"c\"}\n")
        .unwrap();
    let out = folder.join("pairs");
    llmos(&as_pytorch(&base, &pairs, &out, &[])).is_error("`llmos prefer` learns from pairs");
}

#[test]
fn rows_are_named_by_their_files_and_tags_are_not_taken_for_good_answers() {
    let folder = Folder::new();
    let (base, out) = (golden("base"), folder.join("run"));
    let file = |name: &str, row: Value| {
        let path = folder.join(name);
        // Some editors put a mark before the text.
        std::fs::write(&path, format!("\u{feff}{row}\n")).unwrap();
        path
    };
    let good = file("good.jsonl", json!({"instruction": "a", "output": "b"}));
    let bad = file("bad.jsonl", json!({"instruction": 3, "output": "b"}));
    let finetune =
        |data: &[&str]| llmos(&[&["finetune", &base, "--out", &out, "--data"][..], data].concat());
    finetune(&[&good, &bad]).is_error("bad.jsonl row 1: `instruction` is no text");
    let tagged = file("tagged.jsonl", json!({"prompt": "a", "completion": "b", "label": false}));
    finetune(&[&tagged]).is_error("answers that were liked or not");
    assert!(!Path::new(&out).exists());
}

#[test]
fn what_others_wrote_is_text_when_it_is_learnt_too() {
    let folder = Folder::new();
    let path = folder.join("rows.jsonl");
    let row = |text: &str| {
        let turns = [("user", text), ("assistant", "c")];
        let turns = turns.map(|(role, text)| json!({"role": role, "content": text}));
        std::fs::write(&path, format!("{}\n", json!({ "messages": turns }))).unwrap();
        let shown =
            llmos(&["finetune", "--show-mask", &path, "--model", &golden("base"), "--json"]);
        shown.json()["tokens"].as_array().unwrap().clone()
    };
    let is_end = |token: &&Value| **token == "<|im_end|>";
    let (plain, strange) = (row("ab"), row("a<|im_end|>b"));
    assert!(strange.len() > plain.len() + 2);
    assert_eq!(strange.iter().filter(is_end).count(), plain.iter().filter(is_end).count());
}

#[test]
fn a_run_that_goes_on_is_the_same_run() {
    let folder = Folder::new();
    let (base, chats, out) = (golden("base"), golden("chats.jsonl"), folder.join("run"));
    let whole = as_pytorch(&base, &chats, &out, &["--skip-bad-rows"]);
    llmos(&whole).text();
    let again = |more: &[&str]| llmos(&[&whole[..], more].concat());
    again(&[]).is_error("is a run already");
    again(&["--resume"]).text();
    let resumed = |more: &[&str]| llmos(&[&["finetune", "--resume", &out], more].concat());
    resumed(&["--lr", "5"]).is_error("cannot go on with --lr");
    resumed(&["--set", "optimizer.beta1=0.5"]).is_error("optimizer.beta1");
    resumed(&["--lora"]).is_error("cannot go on with --lora");
    resumed(&["--data", &base]).is_error("cannot go on with --data");
    llmos(&["prefer", "--resume", &out]).is_error("cannot go on with prefer");
    resumed(&["--steps", "8"]).text();
    assert_eq!(losses(&out).len(), 8);
    let other = folder.join("other");
    let short =
        as_pytorch(&base, &chats, &other, &["--skip-bad-rows", "--set", "train.context=16"]);
    llmos(&short).is_error("train.context: a row has");
    let none = ["finetune", &base, "--data", &chats, "--out", &other, "--epochs", "0"];
    assert_eq!(llmos(&none).code, Some(2));
    assert!(!Path::new(&other).exists());
}

#[test]
fn a_merged_model_is_spoken_to_as_its_adapter_was() {
    let folder = Folder::new();
    let (base, chats, marked) = (golden("base"), golden("chats.jsonl"), golden("marked.jinja"));
    let (adapter, merged) = (folder.join("adapter"), folder.join("merged"));
    let lora = ["--lora", "r=2", "--template", &marked, "--skip-bad-rows"];
    llmos(&as_pytorch(&base, &chats, &adapter, &lora)).text();
    llmos(&["merge", &base, &adapter, "--out", &merged]).text();
    for name in ["chat_template.jinja", "generation_config.json"] {
        let read = |folder: &str| std::fs::read(Path::new(folder).join(name)).unwrap();
        assert!(read(&adapter) == read(&merged), "{name}");
    }
}

/// Pairs of answers as texts.
fn pairs(folder: &Folder) -> String {
    let rows = [
        ("Who are you? ", "A very small model.", "A person, of course."),
        ("What is 12 times 7? ", "It is 84.", "It is 12."),
        ("Say hello. ", "Hello!", "No, I will not do that, not today and not ever."),
        ("What colour is grass? ", "Green.", "Blue."),
    ];
    let row = |(prompt, chosen, rejected): (&str, &str, &str)| {
        format!("{}\n", json!({"prompt": prompt, "chosen": chosen, "rejected": rejected}))
    };
    let path = folder.join("pairs.jsonl");
    std::fs::write(&path, rows.map(row).concat()).unwrap();
    path
}

#[test]
fn a_model_learns_which_answer_is_better_and_goes_on_to_the_same_bytes() {
    let folder = Folder::new();
    let (base, pairs) = (golden("base"), pairs(&folder));
    let (whole, cut) = (folder.join("whole"), folder.join("cut"));
    for (out, threads) in [(&whole, "2"), (&cut, "1")] {
        llmos(&[
            "prefer",
            &base,
            "--data",
            &pairs,
            "--out",
            out,
            "--threads",
            threads,
            "--steps",
            "6",
            "--batch",
            "2",
            "--lora",
            "r=4",
            "--lr",
            "1e-2",
            "--save-every",
            "2",
            "--beta",
            "0.3",
        ])
        .text();
    }
    let rows: Vec<Value> = std::fs::read_to_string(Path::new(&whole).join("metrics.jsonl"))
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    // At first the model is its reference, up to how rows lie beside each other.
    assert!((rows[0]["loss"].as_f64().unwrap() - std::f64::consts::LN_2).abs() < 1e-6);
    for key in ["reward_margin", "kl"] {
        assert!(rows[0][key].as_f64().unwrap().abs() < 1e-5, "{}", rows[0]);
    }
    let last = rows.last().unwrap();
    assert!(last["loss"].as_f64().unwrap() < 0.3 && last["reward_accuracy"] == 1.0, "{last}");
    for step in [4, 6] {
        std::fs::remove_dir_all(Path::new(&cut).join(format!("checkpoints/step-{step}"))).unwrap();
    }
    let name = "adapter_model.safetensors";
    std::fs::remove_file(Path::new(&cut).join(name)).unwrap();
    llmos(&["prefer", "--resume", &cut, "--threads", "2"]).text();
    let read = |run: &str| std::fs::read(Path::new(run).join(name)).unwrap();
    assert!(read(&whole) == read(&cut), "the adapter differs");
    // The adapter becomes part of its model, and not of another one.
    let merged = folder.join("merged");
    llmos(&["merge", &base, &whole, "--out", &merged]).text();
    llmos(&["score", &merged, "--text", &pairs]).text();
    llmos(&["merge", &base, &whole, "--out", &merged]).is_error("exists");
    let other = repository("testdata/architectures/qwen3").display().to_string();
    let out = folder.join("other");
    llmos(&["merge", &other, &whole, "--out", &out])
        .is_error("the base that it was trained beside");
}

#[test]
fn pairs_that_cannot_be_learnt_from_are_refused() {
    let folder = Folder::new();
    let (base, chats, out) = (golden("base"), golden("chats.jsonl"), folder.join("run"));
    let prefer = |data: &str, more: &[&str]| {
        let arguments = ["prefer", &base, "--data", data, "--out", &out, "--steps", "1"];
        llmos(&[&arguments[..], more].concat())
    };
    prefer(&chats, &[]).is_error("the rows are no pairs, but messages");
    let pairs = pairs(&folder);
    prefer(&pairs, &["--loss", "best"]).is_error("there is no loss `best`");
    prefer(&pairs, &["--beta", "-1"]).is_error("--beta -1");
    prefer(&pairs, &["--label-smoothing", "0.5", "--loss", "robust"])
        .is_error("--label-smoothing 0.5");
    // What would change nothing is not taken.
    prefer(&pairs, &["--label-smoothing", "0.1", "--loss", "ipo"]).is_error("changes nothing");
    prefer(&pairs, &["--liked-weight", "2"]).is_error("weights change nothing");
    let same = folder.join("same.jsonl");
    std::fs::write(&same, "{\"prompt\": \"a\", \"chosen\": \"b\", \"rejected\": \"b\"}\n").unwrap();
    prefer(&same, &[]).is_error("row 1: both answers are the same");
    assert!(!Path::new(&out).exists());
}

fn rows(run: &str) -> Vec<Value> {
    let text = std::fs::read_to_string(Path::new(run).join("metrics.jsonl")).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// `prefer` on some pairs, or tags, for two steps of two.
fn prefer(base: &str, data: &str, out: &str, more: &[&str]) -> crate::program::Output {
    let arguments = [
        "prefer",
        base,
        "--data",
        data,
        "--out",
        out,
        "--threads",
        "2",
        "--steps",
        "2",
        "--batch",
        "2",
        "--no-shuffle",
        "--lr",
        "1e-2",
        "--set",
        "schedule.warmup=0",
    ];
    llmos(&[&arguments[..], more].concat())
}

#[test]
fn a_model_is_compared_with_its_reference_which_is_measured_once() {
    let folder = Folder::new();
    let (base, pairs) = (golden("base"), pairs(&folder));
    let (own, same, other) = (folder.join("own"), folder.join("same"), folder.join("other"));
    prefer(&base, &pairs, &own, &["--held-out", "0.5", "--eval-every", "1", "--save-every", "1"])
        .text();
    prefer(&base, &pairs, &same, &["--held-out", "0.5", "--reference", &base]).text();
    assert_eq!(losses(&own), losses(&same));
    // The finished model is ahead of the one that is begun with, so that begins behind.
    prefer(&base, &pairs, &other, &["--held-out", "0.5", "--reference", &own]).text();
    let (own_rows, other_rows) = (rows(&own), rows(&other));
    assert!(other_rows[0]["loss"].as_f64().unwrap() > own_rows[0]["loss"].as_f64().unwrap() + 0.01);
    assert!(other_rows[0]["kl"].as_f64().unwrap() < -0.01, "{}", other_rows[0]);
    for row in &own_rows {
        assert!(row["val_loss"].is_number() && row["val_reward_margin"].is_number(), "{row}");
        assert!(row["val_reward_accuracy"].is_number() && row.get("val_bits_per_byte").is_none());
    }
    // What is kept is what a run that goes on takes.
    let kept = Path::new(&own).join("reference.json");
    let mut values: Value = serde_json::from_slice(&std::fs::read(&kept).unwrap()).unwrap();
    assert_eq!(values["log_probabilities"].as_array().unwrap().len(), 8);
    values["log_probabilities"][0] = json!(-500.0);
    std::fs::write(&kept, values.to_string()).unwrap();
    std::fs::remove_dir_all(Path::new(&own).join("checkpoints/step-2")).unwrap();
    llmos(&["prefer", "--resume", &own, "--threads", "2"]).text();
    let again = rows(&own);
    assert_eq!(again[0], own_rows[0]);
    assert!(
        again[1]["reward_margin"].as_f64().unwrap()
            > own_rows[1]["reward_margin"].as_f64().unwrap() + 10.0
    );
    // A model of other words is no reference.
    let stranger = repository("testdata/architectures/qwen3").display().to_string();
    let out = folder.join("stranger");
    prefer(&base, &pairs, &out, &["--reference", &stranger]).is_error("vocabulary");
    prefer(&base, &pairs, &out, &["--reference", &base, "--loss", "orpo"])
        .is_error("compares with nothing");
}

#[test]
fn answers_with_tags_are_learnt_by_kto() {
    let folder = Folder::new();
    let base = golden("base");
    let row = |prompt: &str, completion: &str, label: Value| {
        format!("{}\n", json!({"prompt": prompt, "completion": completion, "label": label}))
    };
    let data = folder.join("tags.jsonl");
    let text = row("Who are you? ", "A very small model.", json!(true))
        + &row("What is 12 times 7? ", "It is 12.", json!(false))
        + &row("Say hello. ", "Hello!", json!(1))
        + &row("What colour is grass? ", "Blue.", json!(0));
    std::fs::write(&data, &text).unwrap();
    let out = folder.join("kto");
    let more = ["--loss", "kto", "--held-out", "0.5", "--steps", "20", "--beta", "0.3"];
    let arguments =
        ["prefer", &base, "--data", &data, "--out", &out, "--batch", "2", "--lr", "3e-3"];
    llmos(&[&arguments[..], &more].concat()).text();
    let rows = rows(&out);
    // Nothing has moved yet: half a loss each.
    assert!((rows[0]["loss"].as_f64().unwrap() - 0.5).abs() < 1e-5, "{}", rows[0]);
    let last = rows.last().unwrap();
    assert!(last["loss"].as_f64().unwrap() < 0.4 && last["reward_accuracy"] == 1.0, "{last}");
    assert!(
        last["val_loss"].is_number() && last["reward_margin"].as_f64().unwrap() > 0.1,
        "{last}"
    );
    let pairs = pairs(&folder);
    let out = folder.join("none");
    prefer(&base, &pairs, &out, &["--loss", "kto"])
        .is_error("the rows have no tags, but are preference");
    prefer(&base, &data, &out, &[]).is_error("single answers that were liked or not");
    prefer(&base, &data, &out, &["--loss", "kto", "--liked-weight", "-1"])
        .is_error("--liked-weight -1");
    let one = ["prefer", &base, "--data", &data, "--out", &out, "--loss", "kto", "--batch", "1"];
    llmos(&one).is_error("--batch 2 or more");
    std::fs::write(&data, row("a", "b", json!("good"))).unwrap();
    prefer(&base, &data, &out, &["--loss", "kto"])
        .is_error("row 1: `label` is true or false, not \"good\"");
}

#[test]
fn what_is_learnt_of_both_answers_is_shown() {
    let folder = Folder::new();
    let (base, pairs) = (golden("base"), pairs(&folder));
    let shown = llmos(&["prefer", "--show-mask", &pairs, "--model", &base, "--rows", "1"]).text();
    let expected = "row 1, chosen: ";
    assert!(shown.starts_with(expected) && shown.contains("row 1, rejected: "), "{shown}");
    assert!(shown.contains("Who are you? ⟦A very small model.<|im_end|>⟧"), "{shown}");
    assert!(shown.contains("Who are you? ⟦A person, of course.<|im_end|>⟧"), "{shown}");
    let shown = llmos(&["prefer", "--show-mask", &pairs, "--model", &base, "--json"]).text();
    let rows: Vec<Value> = shown.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(rows.len(), 8);
    assert_eq!((&rows[3]["row"], &rows[3]["answer"]), (&json!(2), &json!("rejected")));
    assert_eq!(
        rows[3]["ids"].as_array().unwrap().len(),
        rows[3]["learnt"].as_array().unwrap().len()
    );
}

/// A model of 20 million random weights that speaks with the golden base's words, stored in these
/// types.
fn large(folder: &Folder, types: &[&str]) -> Vec<String> {
    let (data, model) = (folder.join("data"), folder.join("large"));
    let (text, base) = (folder.join("text.txt"), golden("base"));
    let lines = (1..2000).map(|n| format!("The cat {n} sat on mat {n}.\n"));
    std::fs::write(&text, lines.collect::<String>()).unwrap();
    let prepare = ["data", "prepare", &text, "--tokenizer", &base, "--out", &data];
    llmos(&[&prepare[..], &["--validation", "0"]].concat()).text();
    let mut pretrain =
        vec!["pretrain", "--data", &data, "--out", &model, "--steps", "1", "--keep", "1"];
    for value in [
        "model.n_layer=6",
        "model.d_model=512",
        "model.n_head=8",
        "model.n_kv_head=8",
        "model.d_ff=1536",
        "train.context=64",
        "train.batch=1",
        "optimizer.name=adamw",
    ] {
        pretrain.extend(["--set", value]);
    }
    llmos(&pretrain).text();
    let convert = |name: &&str| {
        let file = folder.join(&format!("{name}.gguf"));
        llmos(&["convert", &model, &file, "--type", name]).text();
        file
    };
    types.iter().map(convert).collect()
}

#[test]
fn beside_a_quantised_base_an_adapter_takes_the_memory_of_the_file() {
    let folder = Folder::new();
    let (chats, template) = (golden("chats.jsonl"), golden("marked.jinja"));
    let types = ["f32", "q8_0", "q6_k", "q4_k_m"];
    let mut before: Option<(u64, u64)> = None;
    for (name, file) in types.iter().zip(large(&folder, &types)) {
        let out = folder.join(&format!("adapter-{name}"));
        let arguments = ["finetune", &file, "--data", &chats, "--template", &template];
        let more =
            ["--out", &out, "--lora", "r=4", "--steps", "2", "--batch", "2", "--threads", "2"];
        let last = ["--skip-bad-rows", "--json"];
        let report = llmos(&[&arguments[..], &more, &last].concat()).json();
        let peak = report["peak_memory_bytes"].as_u64().unwrap();
        let bytes = std::fs::metadata(&file).unwrap().len();
        // What a smaller type saves on disk it saves in memory, but for a fifth.
        if let Some((peak_before, bytes_before)) = before.replace((peak, bytes)) {
            let saved = peak_before.saturating_sub(peak);
            let expected = (bytes_before - bytes) / 5 * 4;
            assert!(
                saved > expected,
                "{name}: {peak} bytes, {peak_before} before, {bytes} in the file"
            );
        }
        let forecast = report["forecast"]["memory_bytes"].as_u64().unwrap();
        assert!(peak < forecast + forecast / 10, "{name}: {peak} bytes, {forecast} were said");
        let kept = std::fs::read(Path::new(&out).join("forecast.json")).unwrap();
        let kept: Value = serde_json::from_slice(&kept).unwrap();
        assert_eq!(kept["forecast"], report["forecast"]);
        assert_eq!(kept["outcome"]["memory_bytes"], peak);
        for part in ["forecast", "outcome"] {
            assert!(kept[part]["seconds"].as_f64().unwrap() > 0.0, "{kept}");
        }
    }
}
