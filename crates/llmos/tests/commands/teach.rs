//! `finetune` and its kin as somebody uses them who has not read the manual: what is asked for is done, or
//! refused with what would do it.

use std::path::Path;

use serde_json::{Value, json};

use crate::pretrain::run;
use crate::program::{Folder, Output, llmos, repository};

fn golden(name: &str) -> String {
    repository("testdata/finetune").join(name).display().to_string()
}

/// `finetune BASE --data DATA` for two steps, in a home that stays.
fn finetune(home: &Folder, base: &str, data: &[&str], more: &[&str]) -> Output {
    let arguments = [&["finetune", base, "--data"][..], data].concat();
    let short = ["--steps", "2", "--batch", "2", "--threads", "2", "--skip-bad-rows"];
    run(home.path(), &[&arguments[..], &short, more].concat())
}

/// As [`finetune`], to its end.
fn taught(home: &Folder, out: &str, more: &[&str]) -> String {
    let out = home.join(out);
    let more = [&["--out", &out][..], more].concat();
    finetune(home, &golden("base"), &[&golden("chats.jsonl")], &more).text();
    out
}

fn write(home: &Folder, name: &str, rows: &[Value]) -> String {
    let path = home.join(name);
    let text: String = rows.iter().map(|row| format!("{row}\n")).collect();
    std::fs::write(&path, text).unwrap();
    path
}

fn pairs(home: &Folder) -> String {
    let row = |prompt, chosen, rejected| json!({"prompt": prompt, "chosen": chosen, "rejected": rejected});
    write(home, "pairs.jsonl", &[row("a", "b", "c"), row("d", "e", "f")])
}

fn read(run: &str, name: &str) -> String {
    std::fs::read_to_string(Path::new(run).join(name)).unwrap()
}

#[test]
fn a_model_that_was_only_pretrained_learns_to_talk() {
    let home = Folder::new();
    let text: String = (0..400).map(|n| format!("The cat {n} sat on mat {n}.\n\n")).collect();
    std::fs::write(home.join("text.txt"), text).unwrap();
    let pretrain = ["pretrain", "--data", "text.txt", "--steps", "2", "--threads", "2"];
    let small = ["--set", "model.n_layer=1", "--set", "model.d_model=32"];
    let more = ["--set", "train.context=128", "--set", "model.vocab_size=300"];
    run(home.path(), &[&pretrain[..], &small, &more].concat()).text();
    let (base, chats, out) = ("runs/text", golden("chats.jsonl"), home.join("out"));
    let refused = finetune(&home, base, &[&chats], &["--out", &out]);
    refused.is_error("has no chat template");
    assert!(refused.stderr.contains("--template plain"), "{}", refused.stderr);
    assert!(!Path::new(&out).exists());
    let learnt = finetune(&home, base, &[&chats], &["--out", &out, "--template", "plain"]);
    learnt.text();
    assert!(learnt.stderr.contains(&format!("llmos chat {out}")), "{}", learnt.stderr);
    // What it is asked in is what it has learnt from, and an answer has an end.
    let shown = ["finetune", "--show-mask", &chats, "--model", &out, "--rows", "1"];
    let shown = run(home.path(), &shown).text();
    assert!(shown.contains("assistant:\n⟦A very small model.<|endoftext|>⟧"), "{shown}");
    run(home.path(), &["chat", &out, "-p", "Who are you?", "--tokens", "8"]).text();
    run(home.path(), &["chat", base, "-p", "Hello", "--template", "plain", "-n", "8"]).text();
    // A template that cannot be is not the rows' fault.
    let broken = home.join("broken.jinja");
    std::fs::write(&broken, "{% for message in messages %}").unwrap();
    let other = home.join("other");
    let refused = finetune(&home, base, &[&chats], &["--out", &other, "--template", &broken]);
    refused.is_error("the template can write none of the rows");
    assert!(refused.stderr.contains("mend the template"), "{}", refused.stderr);
    let refused = run(home.path(), &["chat", base, "-p", "a", "--template", &broken]);
    refused.is_error("");
    assert!(!refused.stderr.contains("the model's own template"), "{}", refused.stderr);
}

#[cfg(target_os = "linux")]
#[test]
fn what_rows_take_is_part_of_the_memory_that_is_said() {
    let home = Folder::new();
    let turn = |role: &str, text: String| json!({"role": role, "content": text});
    let rows: Vec<Value> = (0..20_000)
        .map(|n| {
            json!({"messages": [
                turn("user", format!("How many cats are {n} cats?")),
                turn("assistant", format!("There are {n} cats."))
            ]})
        })
        .collect();
    let data = write(&home, "many.jsonl", &rows);
    drop(rows);
    let out = home.join("out");
    let more = ["--out", &out, "--json"];
    let report = finetune(&home, &golden("base"), &[&data], &more).json();
    let said = report["forecast"]["memory_bytes"].as_f64().unwrap();
    let peak = report["peak_memory_bytes"].as_f64().unwrap();
    assert!(peak < 1.15 * said && said < 2.0 * peak, "{peak} bytes, {said} were said");
}

#[test]
fn a_key_that_finetuning_does_not_have_names_its_flag() {
    let home = Folder::new();
    let (base, chats, out) = (golden("base"), golden("chats.jsonl"), home.join("out"));
    for (value, flag) in [
        ("train.batch=3", "--batch"),
        ("train.seed=3", "--seed"),
        ("train.minutes=3", "--minutes"),
        ("train.tokens=300", "--epochs"),
        ("train.steps=3", "--steps"),
        ("data.held_out=0.5", "--held-out"),
        ("data.order=random", "leave the key out"),
        ("model.n_layer=1", "BASE"),
    ] {
        let refused = finetune(&home, &base, &[&chats], &["--out", &out, "--set", value]);
        refused.is_error("finetuning has no such key");
        assert!(refused.stderr.contains(flag), "{value}: {}", refused.stderr);
    }
    assert!(!Path::new(&out).exists());
}

#[test]
fn a_run_says_in_words_what_it_has() {
    let home = Folder::new();
    let out = taught(&home, "a run", &["--lora", "r=2"]);
    let resume =
        |more: &[&str]| run(home.path(), &[&["finetune", "--resume", &out][..], more].concat());
    resume(&["--format", "alpaca"]).is_error("has rows whose form was found out by looking");
    resume(&["--lora", "r=8"])
        .is_error("has the adapter r=2,alpha=4, and cannot go on with --lora");
    resume(&["--full"]).is_error("has an adapter, and cannot go on with --full");
    resume(&["--no-shuffle"]).is_error("has shuffled rows, and");
    let shorter = resume(&["--steps", "1"]);
    shorter.is_error("train.steps: 2 are done already");
    assert!(shorter.stderr.contains("hint: --steps, --epochs or --minutes"), "{}", shorter.stderr);
    let longer = resume(&["--epochs", "7"]);
    longer.text();
    let kept = "goes on to its 2 steps, whatever --epochs 7; --steps N changes them";
    assert!(longer.stderr.contains(kept), "{}", longer.stderr);
    // What is said to be typed can be.
    let typed = format!("llmos chat {} --lora '{out}'", golden("base"));
    assert!(longer.stderr.contains(&typed), "{}", longer.stderr);
    resume(&["--steps", "3"]).text();
    let recipe = read(&out, "recipe.toml");
    assert!(
        recipe.contains("# given: --steps") && !recipe.contains("learnt from the text"),
        "{recipe}"
    );
}

#[test]
fn a_base_that_is_another_one_at_its_place_is_noticed() {
    let home = Folder::new();
    let base = home.join("base");
    std::fs::create_dir(&base).unwrap();
    for entry in std::fs::read_dir(golden("base")).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), Path::new(&base).join(entry.file_name())).unwrap();
    }
    let (chats, out) = (golden("chats.jsonl"), home.join("out"));
    finetune(&home, &base, &[&chats], &["--out", &out, "--lora", "r=2"]).text();
    let resume = || run(home.path(), &["finetune", "--resume", &out, "--steps", "3"]);
    for name in ["model.safetensors", "chat_template.jinja"] {
        let path = Path::new(&base).join(name);
        let sound = std::fs::read(&path).unwrap();
        let other = match name {
            "chat_template.jinja" => [b"{#- another one -#}", &sound[..]].concat(),
            _ => [&sound[..sound.len() - 1], &[sound[sound.len() - 1] ^ 1]].concat(),
        };
        std::fs::write(&path, other).unwrap();
        resume().is_error("is not what it was when the run began");
        std::fs::write(&path, sound).unwrap();
    }
    resume().text();
}

#[test]
fn an_answer_without_weight_is_only_read() {
    let home = Folder::new();
    let row = json!({"messages": [
        {"role": "user", "content": "a"},
        {"role": "assistant", "content": "no", "weight": 0},
        {"role": "user", "content": "b"},
        {"role": "assistant", "content": "yes", "weight": 1},
    ]});
    let (base, data) = (golden("base"), write(&home, "weights.jsonl", &[row]));
    for more in [&[][..], &["--template", &golden("marked.jinja")]] {
        let shown = ["finetune", "--show-mask", &data, "--model", &base];
        let shown = run(home.path(), &[&shown[..], more].concat()).text();
        assert!(shown.contains("no<|im_end|>\n"), "{shown}");
        assert!(shown.ends_with("⟦yes<|im_end|>⟧\n") && shown.matches('⟦').count() == 1, "{shown}");
    }
}

#[test]
fn equal_answers_are_refused_however_they_are_written() {
    let home = Folder::new();
    let answer = json!([{"role": "assistant", "content": "b"}]);
    let user = json!([{"role": "user", "content": "a"}]);
    let rows = [
        json!({"prompt": user, "chosen": "b", "rejected": answer}),
        json!({"prompt": user, "chosen": "b", "rejected": "c"}),
    ];
    let (base, data, out) = (golden("base"), write(&home, "pairs.jsonl", &rows), home.join("out"));
    let begin = ["prefer", &base, "--data", &data, "--out", &out, "--steps", "1"];
    run(home.path(), &begin).is_error("row 1: both answers are the same");
    let shown = run(home.path(), &["prefer", "--show-mask", &data, "--model", &base]);
    assert_eq!(shown.code, Some(1), "{}", shown.stderr);
    assert!(shown.stdout.starts_with(b"row 2, chosen"), "{:?}", shown.stdout);
}

#[test]
fn an_evaluation_of_no_rows_is_refused() {
    let home = Folder::new();
    let (base, chats, out) = (golden("base"), golden("chats.jsonl"), home.join("out"));
    let check = |more: &[&str], words: &str| {
        let refused = finetune(&home, &base, &[&chats], &[&["--out", &out][..], more].concat());
        refused.is_error(words);
        assert!(refused.stderr.contains("--held-out 0.1 holds out"), "{}", refused.stderr);
    };
    check(&["--eval-every", "1"], "--eval-every 1 measures nothing: no row is held out");
    check(&["--held-out", "0.001"], "--held-out 0.001 measures nothing: no row is held out");
    assert!(!Path::new(&out).exists());
    let more = ["--out", &out, "--held-out", "0.3", "--eval-every", "1"];
    finetune(&home, &base, &[&chats], &more).text();
    let rows = read(&out, "metrics.jsonl");
    assert_eq!((rows.lines().count(), rows.matches("\"val_loss\"").count()), (2, 2), "{rows}");
    let none = taught(&home, "none", &["--eval-every", "0"]);
    run(home.path(), &["finetune", "--resume", &none, "--steps", "3", "--eval-every", "1"])
        .is_error("measures nothing");
}

#[test]
fn an_adapter_or_a_reward_model_is_no_base_and_that_is_said() {
    let home = Folder::new();
    let adapter = taught(&home, "adapter", &["--lora", "r=2"]);
    let (base, chats, pairs, out) =
        (golden("base"), golden("chats.jsonl"), pairs(&home), home.join("out"));
    let is_adapter = |output: Output| {
        output.is_error("is an adapter, which works beside its model");
        assert!(output.stderr.contains("llmos merge BASE"), "{}", output.stderr);
    };
    is_adapter(finetune(&home, &adapter, &[&chats], &["--out", &out]));
    let prefer = |base: &str, more: &[&str]| {
        let arguments = ["prefer", base, "--data", &pairs, "--out", &out, "--steps", "1"];
        run(home.path(), &[&arguments[..], more].concat())
    };
    is_adapter(prefer(&adapter, &[]));
    is_adapter(prefer(&base, &["--reference", &adapter]));
    is_adapter(run(home.path(), &["serve", &adapter, "--port", "0"]));
    let scores = home.join("scores");
    let train = ["reward", "train", &base, "--data", &pairs, "--out", &scores, "--steps", "1"];
    let trained = run(home.path(), &train);
    trained.text();
    prefer(&base, &["--reference", &scores]).is_error("is a reward model");
    let merged = home.join("merged");
    run(home.path(), &["merge", &scores, &adapter, "--out", &merged])
        .is_error("is a reward model, which no adapter belongs to");
    let done = run(home.path(), &["merge", &base, &adapter, "--out", &merged]);
    assert!(done.stderr.contains(&format!("llmos chat {merged}")), "{}", done.stderr);
}

#[test]
fn the_wrong_command_or_folder_says_which_goes_on() {
    let home = Folder::new();
    let tuned = taught(&home, "tuned", &["--save-every", "1"]);
    let pairs = pairs(&home);
    let base = golden("base");
    let preferred = home.join("preferred");
    let prefer = ["prefer", &base, "--data", &pairs, "--out", &preferred, "--steps", "1"];
    run(home.path(), &prefer).text();
    let check = |command: &[&str], path: &str, words: &str, goes_on: &str| {
        let refused = run(home.path(), &[command, &["--resume", path]].concat());
        refused.is_error(words);
        assert!(refused.stderr.contains(goes_on), "{}", refused.stderr);
    };
    let with_finetune = format!("llmos finetune --resume {tuned}");
    check(&["pretrain"], &tuned, "is a run of finetune", &with_finetune);
    check(&["reward", "train"], &tuned, "cannot go on with reward train", &with_finetune);
    check(&["prefer"], &tuned, "cannot go on with prefer", &with_finetune);
    let with_prefer = format!("llmos prefer --resume {preferred}");
    check(&["finetune"], &preferred, "is a run of prefer", &with_prefer);
    let checkpoint = format!("{tuned}/checkpoints/step-1");
    check(&["finetune"], &checkpoint, "is a checkpoint of the run", &with_finetune);
    check(&["pretrain"], &checkpoint, "is a checkpoint of the run", &with_finetune);
}

#[test]
fn a_run_knows_its_base_and_rows_again_wherever_they_lie() {
    let home = Folder::new();
    let copy = |to: &str| {
        std::fs::create_dir_all(home.join(to)).unwrap();
        for entry in std::fs::read_dir(golden("base")).unwrap() {
            let entry = entry.unwrap();
            std::fs::copy(entry.path(), Path::new(&home.join(to)).join(entry.file_name())).unwrap();
        }
        home.join(to)
    };
    let (base, data, out) = (copy("base"), home.join("rows.jsonl"), home.join("out"));
    std::fs::copy(golden("chats.jsonl"), &data).unwrap();
    finetune(&home, &base, &[&data], &["--out", &out, "--lora", "r=2"]).text();
    let (there, rows) = (home.join("there"), home.join("rows-there.jsonl"));
    std::fs::rename(&base, &there).unwrap();
    std::fs::rename(&data, &rows).unwrap();
    let resume = |more: &[&str]| {
        run(home.path(), &[&["finetune", "--steps", "4", "--resume", &out], more].concat())
    };
    let gone = resume(&[]);
    gone.is_error("the base of the run");
    assert!(gone.stderr.contains("say where it lies now"), "{}", gone.stderr);
    let other = write(&home, "other.jsonl", &[json!({"prompt": "a", "completion": "b"})]);
    let begun = ["finetune", &there, "--steps", "4", "--out", &out, "--resume"];
    let moved = |data: &str| run(home.path(), &[&begun[..], &["--data", data]].concat());
    moved(&other).is_error("cannot go on with --data");
    let tampered = Path::new(&there).join("model.safetensors");
    let sound = std::fs::read(&tampered).unwrap();
    let mut bytes = sound.clone();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(&tampered, bytes).unwrap();
    moved(&rows).is_error("cannot go on with");
    std::fs::write(&tampered, sound).unwrap();
    moved(&rows).text();
    // It remembers where they lie now.
    run(home.path(), &["finetune", "--steps", "5", "--resume", &out]).text();
    assert!(read(&out, "finetune.json").contains("rows-there.jsonl"));
    assert!(read(&out, "recipe.toml").contains("rows-there.jsonl"));
}

#[test]
fn a_row_that_is_no_json_is_named_and_can_be_left_out() {
    let home = Folder::new();
    let (base, data, out) = (golden("base"), home.join("rows.jsonl"), home.join("out"));
    let row = json!({"prompt": "a", "completion": "b"});
    std::fs::write(&data, format!("{row}\n{{\"prompt\": \n{row}\n{row}\n")).unwrap();
    let strict = ["finetune", &base, "--data", &data, "--out", &out, "--steps", "1"];
    llmos(&strict).is_error("row 2: no JSON: EOF while parsing a value at its byte 10");
    let learnt = finetune(&home, &base, &[&data], &["--out", &out]);
    learnt.text();
    assert!(learnt.stderr.contains("1 row left out"), "{}", learnt.stderr);
    let refused = finetune(&home, &base, &[&home.join("gone")], &["--out", &home.join("none")]);
    assert!(refused.stderr.contains("check the path"), "{}", refused.stderr);
    let tags =
        write(&home, "tags.jsonl", &[json!({"prompt": "a", "completion": "b", "label": true})]);
    let reward = run(home.path(), &["reward", "train", &base, "--data", &tags]);
    reward.is_error("single answers that were liked or not");
    assert!(reward.stderr.contains("llmos prefer --loss kto"), "{}", reward.stderr);
}

#[test]
fn compressed_rows_teach_what_plain_ones_do() {
    let home = Folder::new();
    let (base, chats, pairs) = (golden("base"), golden("chats.jsonl"), pairs(&home));
    let pack = |plain: &str, name: &str| {
        let text = std::fs::read(plain).unwrap();
        let bytes = match name.ends_with(".gz") {
            true => {
                let level = flate2::Compression::default();
                let mut encoder = flate2::write::GzEncoder::new(Vec::new(), level);
                std::io::Write::write_all(&mut encoder, &text).unwrap();
                encoder.finish().unwrap()
            }
            false => {
                let level = ruzstd::encoding::CompressionLevel::Fastest;
                ruzstd::encoding::compress_to_vec(&text[..], level)
            }
        };
        std::fs::write(home.join(name), &bytes).unwrap();
        std::fs::write(home.join(&format!("cut-{name}")), &bytes[..bytes.len() - 9]).unwrap();
        (home.join(name), home.join(&format!("cut-{name}")))
    };
    let short = ["--steps", "2", "--batch", "2", "--threads", "2", "--skip-bad-rows"];
    for (command, plain, name) in [
        (&["finetune"][..], &chats, "chats.jsonl.gz"),
        (&["prefer"], &pairs, "pairs.jsonl.zst"),
        (&["reward", "train"], &pairs, "pairs.jsonl.gz"),
    ] {
        let (packed, cut) = pack(plain, name);
        let out = |kind: &str| home.join(&format!("{kind}-{}", command[0]));
        let learn = |data: &str, out: &str| {
            let arguments =
                [command, &[base.as_str(), "--data", data, "--out", out], &short].concat();
            run(home.path(), &arguments)
        };
        let losses = |data: &str, out: &str| -> Vec<Value> {
            learn(data, out).text();
            let rows = read(out, "metrics.jsonl");
            rows.lines()
                .map(|row| serde_json::from_str::<Value>(row).unwrap()["loss"].take())
                .collect()
        };
        assert_eq!(losses(plain, &out("plain")), losses(&packed, &out("packed")), "{name}");
        let refused = learn(&cut, &out("cut"));
        refused.is_error(&cut);
        assert!(
            refused.stderr.contains("damaged or cut off: fetch it again"),
            "{}",
            refused.stderr
        );
        assert!(!Path::new(&out("cut")).exists());
    }
    let judge = home.join("plain-reward");
    let score = |data: &str| run(home.path(), &["reward", "score", &judge, "--data", data]).text();
    assert_eq!(score(&pairs), score(&home.join("pairs.jsonl.zst")));
}

#[test]
fn each_file_of_rows_has_a_form_of_its_own() {
    let home = Folder::new();
    let alpaca = write(&home, "alpaca.jsonl", &[json!({"instruction": "a", "output": "b"})]);
    let plain = write(&home, "plain.jsonl", &[json!({"prompt": "a", "completion": "b"})]);
    let (base, out) = (golden("base"), home.join("out"));
    let arguments = ["finetune", &base, "--data", &alpaca, &plain, "--out", &out, "--steps", "1"];
    let learnt = run(home.path(), &arguments);
    learnt.text();
    assert!(learnt.stderr.contains("alpaca and prompt-completion: 2 rows"), "{}", learnt.stderr);
    let pairs = pairs(&home);
    finetune(&home, &base, &[&alpaca, &pairs], &["--out", &home.join("none")])
        .is_error("`llmos prefer` learns from pairs");
}

#[test]
fn a_recipe_says_given_of_what_was_given() {
    let home = Folder::new();
    let out = taught(&home, "out", &["--lora", "r=2"]);
    let recipe = read(&out, "recipe.toml");
    let reason = |key: &str| {
        let line = recipe.lines().find(|line| line.starts_with(&format!("{key} = "))).unwrap();
        line.split_once('#').unwrap().1.trim().to_string()
    };
    assert_eq!(reason("lr"), "usual for an adapter");
    assert_eq!(reason("steps"), "given: --steps");
    assert_eq!(reason("batch"), "given: --batch");
    assert_eq!(reason("n_layer"), "as BASE has it");
    assert_eq!(reason("weight_decay"), "usual for finetuning");
    assert_eq!(reason("held_out"), "all rows are learnt");
}

#[test]
fn a_second_run_of_the_same_base_has_a_number() {
    let home = Folder::new();
    let (base, chats) = (golden("base"), golden("chats.jsonl"));
    for name in ["base-finetuned", "base-finetuned-2"] {
        finetune(&home, &base, &[&chats], &[]).text();
        assert!(home.path().join("runs").join(name).join("model.safetensors").exists(), "{name}");
    }
    // The one that was worked on last goes on.
    let steps =
        |name: &str| read(&home.join(&format!("runs/{name}")), "metrics.jsonl").lines().count();
    run(home.path(), &["finetune", &base, "--resume", "--steps", "3"]).text();
    assert_eq!((steps("base-finetuned"), steps("base-finetuned-2")), (2, 3));
    run(home.path(), &["prefer", &base, "--resume"]).is_error("there is no run of prefer");
    // No base need be named for that.
    run(home.path(), &["finetune", "--resume", "--steps", "4"]).text();
    assert_eq!((steps("base-finetuned"), steps("base-finetuned-2")), (2, 4));
    run(home.path(), &["prefer", "--resume"]).is_error("there is no run of prefer in runs");
}
