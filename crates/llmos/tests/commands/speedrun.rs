//! `speedrun`: stages as commands, done once each.

use crate::pretrain::run;
use crate::program::{Folder, llmos, repository};

const RECIPE: &str = r#"
title = "A test"
minutes = 2
data = ["{here}/story.txt"]

[[stage]]
name = "tokenizer"
about = "characters"
makes = "t.json"
command = "tokenizer train {data} --char --out {out}/t.json"

[[stage]]
name = "pretrain"
about = "a few steps"
makes = "base"
command = """pretrain --data {data} --out {out}/base --steps 4 --seed 1 --set model.n_layer=1
    --set model.d_model=16 --set train.context=16 --set train.batch=2 --set data.tokenizer=char"""
"#;

fn recipe(home: &Folder) -> String {
    let path = home.join("life.toml");
    std::fs::write(&path, RECIPE).unwrap();
    let story: String =
        (0..200).map(|n| format!("Once upon a time there were {n} cats.\n")).collect();
    std::fs::write(home.join("story.txt"), story).unwrap();
    path
}

#[test]
fn stages_are_run_once_and_gone_on_with() {
    let home = Folder::new();
    let (recipe, out) = (recipe(&home), home.join("run"));
    let first = run(home.path(), &["speedrun", &recipe, "--out", &out, "--until", "tokenizer"]);
    assert_eq!(first.code, Some(0), "{}", first.stderr);
    assert!(!home.path().join("run/base").exists());
    let report = run(home.path(), &["speedrun", &recipe, "--out", &out, "--json"]).json();
    let stages = report["stages"].as_array().unwrap();
    let names: Vec<&str> = stages.iter().map(|stage| stage["stage"].as_str().unwrap()).collect();
    assert_eq!(names, ["tokenizer", "pretrain"]);
    assert_eq!(stages[1]["last"]["step"], 4);
    let metrics = std::fs::read(home.path().join("run/base/metrics.jsonl")).unwrap();
    let again = run(home.path(), &["speedrun", &recipe, "--out", &out]);
    assert_eq!(again.code, Some(0), "{}", again.stderr);
    assert!(again.stderr.contains("pretrain: done before"), "{}", again.stderr);
    assert_eq!(metrics, std::fs::read(home.path().join("run/base/metrics.jsonl")).unwrap());
    let text = std::fs::read_to_string(home.path().join("run/report.md")).unwrap();
    assert!(text.contains("| pretrain | a few steps |"), "{text}");
}

#[test]
fn a_life_is_known_again_wherever_its_folder_lies() {
    let home = Folder::new();
    recipe(&home);
    let until = |out: &str, recipe: &str| {
        run(home.path(), &["speedrun", recipe, "--out", out, "--until", "tokenizer"])
    };
    assert_eq!(until("one", "life.toml").code, Some(0));
    let there = home.join("one");
    for out in ["./one", &there, "two"] {
        if out == "two" {
            std::fs::rename(&there, home.join("two")).unwrap();
        }
        for recipe in ["./life.toml", &home.join("life.toml")] {
            let again = until(out, recipe);
            assert!(again.stderr.contains("tokenizer: done before"), "{out}: {}", again.stderr);
        }
    }
    std::fs::write(home.join("life.toml"), RECIPE.replace("--char", "--vocab 300")).unwrap();
    until("two", "life.toml").is_error("holds another life");
}

#[test]
fn the_commands_can_be_read() {
    let home = Folder::new();
    let recipe = recipe(&home);
    let list = llmos(&["speedrun", &recipe, "--out", "there", "--list"]).text();
    assert!(list.contains("llmos tokenizer train"), "{list}");
    assert!(list.contains("--out there/t.json"), "{list}");
    assert!(!std::path::Path::new("there").exists());
    let quoted = home.join("quoted.toml");
    std::fs::write(&quoted, RECIPE.replace("--char", "--char --special <a>")).unwrap();
    let list = llmos(&["speedrun", &quoted, "--list"]).text();
    assert!(list.contains("--special '<a>'"), "{list}");
    for name in ["speedrun", "assistant"] {
        let path = format!("{}/../../recipes/{name}.toml", env!("CARGO_MANIFEST_DIR"));
        llmos(&["speedrun", &path, "--list"]).text();
    }
}

#[test]
fn a_finetuning_that_was_stopped_goes_on() {
    let home = Folder::new();
    let golden = repository("testdata/finetune").display().to_string();
    let path = home.join("teach.toml");
    let recipe = format!(
        "title = \"A test\"\n[[stage]]\nname = \"teach\"\nabout = \"a few steps\"\nmakes = \"taught\"\n\
         command = \"finetune {golden}/base --data {golden}/chats.jsonl --out {{out}}/taught \
         --steps 4 --save-every 2 --threads 1 --skip-bad-rows\"\n"
    );
    std::fs::write(&path, recipe).unwrap();
    let out = home.join("run");
    let speedrun = || run(home.path(), &["speedrun", &path, "--out", &out]);
    assert_eq!(speedrun().code, Some(0));
    let model = home.path().join("run/taught/model.safetensors");
    let whole = std::fs::read(&model).unwrap();
    // As if it had been stopped after its second step.
    std::fs::remove_file(&model).unwrap();
    std::fs::remove_dir_all(home.path().join("run/taught/checkpoints/step-4")).unwrap();
    let record = home.path().join("run/speedrun.json");
    let text = std::fs::read_to_string(&record).unwrap();
    std::fs::write(&record, text.replace("\"done\": true", "\"done\": false")).unwrap();
    let again = speedrun();
    assert_eq!(again.code, Some(0), "{}", again.stderr);
    assert!(whole == std::fs::read(&model).unwrap(), "the model differs");
}

/// The stages of recipes/assistant.toml with little numbers.
const LIFE: &str = r#"
title = "A short life"

[[stage]]
name = "phrases"
about = "what is said"
makes = "phrases.jsonl"
command = "data generate --layout text --count 60 --seed 11 --out {out}/phrases.jsonl"

[[stage]]
name = "tokenizer"
about = "pieces"
makes = "tokenizer"
command = """tokenizer train {here}/story.txt {out}/phrases.jsonl --vocab 400 --out {out}/tokenizer
    --special <|endoftext|> <|im_start|> <|im_end|> <tool_call> </tool_call> <tool_response>
    </tool_response> <think> </think>"""

[[stage]]
name = "data"
about = "tokens"
makes = "data"
command = """data prepare {here}/story.txt {out}/phrases.jsonl --tokenizer {out}/tokenizer --out {out}/data
    --validation 1K"""

[[stage]]
name = "pretrain"
about = "a few steps"
makes = "base"
command = """pretrain --data {out}/data --out {out}/base --steps 6 --seed 1 --threads THREADS
    --set model.n_layer=2 --set model.d_model=32 --set model.n_head=2 --set model.n_kv_head=1
    --set model.d_ff=64 --set train.context=512 --set train.batch=2"""

[[stage]]
name = "conversations"
about = "graded"
makes = "conversations.jsonl"
command = "data generate --count 60 --seed 12 --out {out}/conversations.jsonl"

[[stage]]
name = "finetune"
about = "ideal answers"
makes = "finetuned"
command = """finetune {out}/base --data {out}/conversations.jsonl --template TEMPLATE --steps 4 --batch 4
    --lr 1e-3 --seed 1 --threads THREADS --skip-bad-rows --out {out}/finetuned
    --set optimizer.name=muon --set optimizer.muon_lr=0.01"""

[[stage]]
name = "answers"
about = "its own"
makes = "answers.jsonl"
command = """chat {out}/finetuned --batch {out}/conversations.jsonl --again --out {out}/answers.jsonl
    --temp 0.8 --seed 1 --tokens 8 --precision exact --threads THREADS"""

[[stage]]
name = "pairs"
about = "right beside wrong"
makes = "pairs.jsonl"
command = "data pairs {out}/conversations.jsonl {out}/answers.jsonl --out {out}/pairs.jsonl"

[[stage]]
name = "prefer"
about = "right is likelier"
makes = "preferred"
command = """prefer {out}/finetuned --data {out}/pairs.jsonl --steps 2 --batch 4 --lr 1e-4 --seed 1
    --threads THREADS --skip-bad-rows --out {out}/preferred"""

[[stage]]
name = "file"
about = "one file"
makes = "assistant.gguf"
command = "convert {out}/preferred {out}/assistant.gguf --type q8_0"
"#;

#[test]
fn a_whole_life_ends_with_the_same_bytes_on_any_number_of_threads() {
    let home = Folder::new();
    recipe(&home);
    let template = repository("models/assistant.jinja").display().to_string();
    let live = |threads: &str| {
        let path = home.join(&format!("life{threads}.toml"));
        let recipe = LIFE.replace("THREADS", threads).replace("TEMPLATE", &template);
        std::fs::write(&path, recipe).unwrap();
        let out = home.join(&format!("life{threads}"));
        let lived = run(home.path(), &["speedrun", &path, "--out", &out]);
        assert_eq!(lived.code, Some(0), "{}", lived.stderr);
        let of = |name: &str| std::fs::read(home.path().join(format!("{out}/{name}"))).unwrap();
        [
            "phrases.jsonl",
            "base/model.safetensors",
            "finetuned/model.safetensors",
            "pairs.jsonl",
            "assistant.gguf",
        ]
        .map(of)
    };
    let (one, three) = (live("1"), live("3"));
    assert!(!one[3].is_empty(), "no answer was wrong");
    for (stage, (one, three)) in one.iter().zip(&three).enumerate() {
        assert!(one == three, "file {stage} differs");
    }
}

#[test]
fn what_cannot_be_run_is_an_error() {
    let home = Folder::new();
    let path = recipe(&home);
    llmos(&["speedrun", &home.join("none.toml")]).is_error("cannot read the recipe");
    llmos(&["speedrun", &path, "--until", "prefer"]).is_error("there is no stage prefer");
    let assistant = repository("recipes/assistant.toml").display().to_string();
    llmos(&["speedrun", &assistant, "--data", &path, "--list"]).is_error("takes no --data");
    let changed = |from: &str, to: &str| {
        let path = home.join("changed.toml");
        std::fs::write(&path, RECIPE.replace(from, to)).unwrap();
        path
    };
    let check = |from: &str, to: &str, expected: &str| {
        let arguments = ["speedrun", &changed(from, to), "--out", &home.join("bad")];
        run(home.path(), &arguments).is_error(expected);
    };
    check("about", "abuot", "unknown field");
    check("\"pretrain\"", "\"tokenizer\"", "twice");
    check("{data} --char", "{dato} --char", "stands for nothing");
    check("--char", "--cher", "the stage tokenizer failed");
    check("{out}/t.json", "{out}/u.json", "did not make");
    std::fs::create_dir(home.join("full")).unwrap();
    std::fs::write(home.join("full/notes"), "mine").unwrap();
    llmos(&["speedrun", &path, "--out", &home.join("full")]).is_error("is no speedrun");
}

#[test]
fn a_question_that_cannot_be_answered_does_not_end_a_life() {
    let home = Folder::new();
    let golden = repository("testdata/finetune").display().to_string();
    let long = "long ".repeat(2000);
    let rows = format!("{{\"prompt\": \"Who are you?\"}}\n{{\"prompt\": \"{long}\"}}\n");
    std::fs::write(home.join("rows.jsonl"), rows).unwrap();
    let path = home.join("asked.toml");
    let recipe = format!(
        "title = \"A test\"\n[[stage]]\nname = \"answers\"\nabout = \"its own\"\n\
         makes = \"answers.jsonl\"\ncommand = \"chat {golden}/base --batch {{here}}/rows.jsonl --out \
         {{out}}/answers.jsonl --temp 0 --tokens 4\"\n[[stage]]\nname = \"file\"\n\
         about = \"one file\"\nmakes = \"model.gguf\"\n\
         command = \"convert {golden}/base {{out}}/model.gguf --type f32\"\n"
    );
    std::fs::write(&path, recipe).unwrap();
    let out = home.join("run");
    let speedrun = || run(home.path(), &["speedrun", &path, "--out", &out]);
    let lived = speedrun();
    assert_eq!(lived.code, Some(0), "{}", lived.stderr);
    assert!(lived.stderr.contains("answers has a negative result"), "{}", lived.stderr);
    assert!(home.path().join("run/model.gguf").exists());
    assert!(home.path().join("run/report.md").exists());
    // The stage is done, with what it could do.
    let again = speedrun();
    assert!(again.stderr.contains("answers: done before"), "{}", again.stderr);
}

#[test]
fn another_recipe_or_other_texts_touch_nothing_of_a_life() {
    let home = Folder::new();
    let (recipe, out) = (recipe(&home), home.join("run"));
    let first = ["speedrun", &recipe, "--out", &out, "--until", "tokenizer"];
    assert_eq!(run(home.path(), &first).code, Some(0));
    let read = |name: &str| std::fs::read(home.path().join("run").join(name)).unwrap();
    let before = (read("t.json"), read("speedrun.json"));
    let text = home.join("other.txt");
    std::fs::write(&text, "Something else.\n".repeat(200)).unwrap();
    let other = run(home.path(), &["speedrun", &recipe, "--out", &out, "--data", &text]);
    other.is_error("holds another life: its stage tokenizer was run as");
    assert!(other.stderr.contains("name another folder with --out"), "{}", other.stderr);
    let renamed = home.join("renamed.toml");
    std::fs::write(&renamed, RECIPE.replace("name = \"tokenizer\"", "name = \"pieces\"")).unwrap();
    let other = run(home.path(), &["speedrun", &renamed, "--out", &out]);
    other.is_error("its stage tokenizer is none of this recipe's");
    assert!(before == (read("t.json"), read("speedrun.json")), "the first one has changed");
}

#[test]
fn a_part_that_was_killed_counts_by_its_steps() {
    let home = Folder::new();
    let (recipe, out) = (recipe(&home), home.join("run"));
    let speedrun = || run(home.path(), &["speedrun", &recipe, "--out", &out, "--json"]);
    assert_eq!(speedrun().code, Some(0));
    // As if most of it had been a process that was killed, of which no part was written.
    let record = home.path().join("run/speedrun.json");
    let mut kept: serde_json::Value =
        serde_json::from_slice(&std::fs::read(&record).unwrap()).unwrap();
    kept["parts"][1]["seconds"] = 1e-6.into();
    std::fs::write(&record, kept.to_string()).unwrap();
    let stage = &speedrun().json()["stages"][1];
    assert!(stage["seconds"].as_f64().unwrap() >= stage["last"]["seconds"].as_f64().unwrap());
}
