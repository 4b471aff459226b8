//! `llmos pretrain`: text to a model, interrupted, killed, and gone on with.

use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::program::{Folder, Output, collect, command, finish};

/// A text with some order in it, in English.
fn story() -> String {
    let (who, what) = (["Tom", "Lily", "The dog", "A bird"], ["ran", "sat", "saw a ball", "fell"]);
    (0..600).map(|i| format!("{} {}. ", who[i * 7 % 4], what[(i * i + i / 3) % 4])).collect()
}

/// A folder with the text and a recipe for a model that is trained in a moment.
pub(crate) fn ground(steps: usize) -> Folder {
    let folder = Folder::new();
    std::fs::write(folder.join("story.txt"), story()).unwrap();
    let recipe = format!(
        "eval_every = 10\nsave_every = 4\nkeep = 2\n\
         [model]\nn_layer = 2\nn_head = 2\nd_model = 16\nd_ff = 32\nvocab_size = 270\n\
         [train]\nsteps = {steps}\ncontext = 16\nbatch = 4\n"
    );
    std::fs::write(folder.join("recipe.toml"), recipe).unwrap();
    folder
}

pub(crate) fn begin<'a>(recipe: &'a str, text: &'a str, out: &'a str) -> Vec<&'a str> {
    vec!["pretrain", recipe, "--data", text, "--out", out, "--threads", "2"]
}

/// Runs to the end in a home that stays.
pub(crate) fn run(home: &Path, arguments: &[&str]) -> Output {
    finish(command(home, arguments), b"")
}

/// Rows without their times.
fn rows(run: &str) -> Vec<Value> {
    let text = std::fs::read_to_string(Path::new(run).join("metrics.jsonl")).unwrap();
    let row = |line: &str| {
        let mut row: Value = serde_json::from_str(line).unwrap();
        for key in ["tokens_per_s", "step_ms", "seconds"] {
            row.as_object_mut().unwrap().remove(key);
        }
        row
    };
    text.lines().map(row).collect()
}

/// Seconds of a run up to a step.
fn seconds(run: &str, step: usize) -> f64 {
    let text = std::fs::read_to_string(Path::new(run).join("metrics.jsonl")).unwrap();
    let row: Value = serde_json::from_str(text.lines().nth(step - 1).unwrap()).unwrap();
    row["seconds"].as_f64().unwrap()
}

pub(crate) fn assert_same(one: &str, other: &str, step: usize) {
    for name in [
        "model.safetensors".to_string(),
        "dreams.jsonl".to_string(),
        format!("checkpoints/step-{step}/optimizer.safetensors"),
    ] {
        let read = |run: &str| std::fs::read(Path::new(run).join(&name)).unwrap();
        assert!(read(one) == read(other), "{name} differs");
    }
    assert_eq!(rows(one), rows(other));
}

#[test]
fn a_text_becomes_a_model_that_every_command_takes() {
    let home = ground(30);
    let (recipe, text, out) = (home.join("recipe.toml"), home.join("story.txt"), home.join("run"));
    let output = run(home.path(), &[&begin(&recipe, &text, &out)[..], &["--json"]].concat());
    let report: Value = serde_json::from_str(&output.text()).unwrap();
    assert_eq!(report["step"], 30);
    assert_eq!(report["tokens"], 30 * 64);
    assert!(report["val_bits_per_byte"].as_f64().unwrap() > 0.0, "{report}");
    assert!(output.stderr.contains("# given: "), "{}", output.stderr);
    assert!(output.stderr.contains("step 00030/00030 | loss "), "{}", output.stderr);
    // What was said beside what came of it is the same for whoever asks later.
    let watched = run(home.path(), &["watch", "--json", &out]).json();
    let beside = watched["beside_forecast"].as_array().unwrap();
    let time = beside.iter().find(|pair| pair["quantity"] == "seconds").unwrap();
    assert_eq!(time["actual"], report["seconds"]);
    assert!(seconds(&out, 30) <= report["seconds"].as_f64().unwrap());
    let said = output.stderr.lines().find(|line| line.starts_with("time: forecast ")).unwrap();
    let error = format!("({:+.1} %)", 100.0 * time["error"].as_f64().unwrap());
    assert!(said.ends_with(&error), "{said}, but {error}");
    let rows = rows(&out);
    assert_eq!(rows.len(), 30);
    let loss = |row: usize| rows[row]["loss"].as_f64().unwrap();
    assert!(loss(29) < loss(0) - 0.3, "{} {}", loss(0), loss(29));
    for key in ["tokens", "lr", "grad_norm"] {
        assert!(rows[4][key].as_f64().unwrap() > 0.0, "{key}");
    }
    // The run is a model: its bits per byte are what scoring the held-out text gives, but for the
    // windows, and it converts.
    for given in
        [&["dream", &out, "--tokens", "8"][..], &["inspect", &out], &["next", &out, "-p", "Tom"]]
    {
        run(home.path(), given).text();
    }
    let gguf = home.join("out.gguf");
    run(home.path(), &["convert", &out, &gguf, "--type", "q8_0"]).text();
    run(home.path(), &["next", &gguf, "-p", "Tom"]).text();
    // A second run in the same folder is refused, going on with the finished one changes nothing.
    run(home.path(), &begin(&recipe, &text, &out)).is_error("is a run already");
    let before = std::fs::read(Path::new(&out).join("model.safetensors")).unwrap();
    let read = |name: &str| std::fs::read_to_string(Path::new(&out).join(name)).unwrap();
    let (forecast, recipe_before) = (read("forecast.json"), read("recipe.toml"));
    assert!(forecast.contains("outcome"), "{forecast}");
    run(home.path(), &["pretrain", "--resume", &out]).text();
    assert!(std::fs::read(Path::new(&out).join("model.safetensors")).unwrap() == before);
    assert_eq!(read("forecast.json"), forecast, "what came of it was known");
    assert_eq!(read("recipe.toml"), recipe_before, "each value keeps its reason");
    // More steps are a longer run, which is forecast by the steps that were done; another model is not
    // the same run.
    run(home.path(), &["pretrain", "--resume", &out, "--steps", "34"]).text();
    assert_eq!(self::rows(&out).len(), 34);
    let last = |step: usize| self::seconds(&out, step);
    let again: Value = serde_json::from_str(&read("forecast.json")).unwrap();
    let expected = last(30) / 30.0 * 34.0;
    assert!((again["forecast"]["seconds"].as_f64().unwrap() / expected - 1.0).abs() < 1e-9);
    assert!(again["outcome"]["seconds"].as_f64().unwrap() >= last(34));
    let longer = read("recipe.toml");
    assert!(
        longer.contains("# given: --steps") && !longer.contains("/run/recipe.toml"),
        "{longer}"
    );
    run(home.path(), &["pretrain", "--resume", &out, "--set", "model.d_ff=64"])
        .is_error("model.d_ff: the run has 32, and cannot go on with 64");
}

/// A few numbers that look random.
struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % end
    }
}

#[cfg(unix)]
#[test]
fn killed_twenty_times_it_ends_with_the_same_bytes() {
    let steps = 1000;
    let home = ground(steps);
    let (recipe, text) = (home.join("recipe.toml"), home.join("story.txt"));
    let (whole, killed) = (home.join("whole"), home.join("killed"));
    run(home.path(), &begin(&recipe, &text, &whole)).text();
    let mut random = Random(5);
    let (mut kills, mut while_saving) = (0, 0);
    let given = [&begin(&recipe, &text, &killed)[..], &["--resume"]].concat();
    let is_saving = || {
        let entries = std::fs::read_dir(Path::new(&killed).join("checkpoints"));
        entries.is_ok_and(|mut entries| {
            entries.any(|entry| entry.is_ok_and(|e| e.file_name().as_encoded_bytes()[0] == b'.'))
        })
    };
    while kills < 24 {
        let mut child = command(home.path(), &given).spawn().unwrap();
        let start = Instant::now();
        let patience = match kills % 2 {
            // Some are killed while they load, some while they learn.
            0 => Duration::from_millis(random.below(160)),
            _ => Duration::from_secs(5),
        };
        while start.elapsed() < patience && child.try_wait().unwrap().is_none() {
            if kills % 2 == 1 && start.elapsed() > Duration::from_millis(60) && is_saving() {
                while_saving += 1;
                break;
            }
        }
        assert!(child.try_wait().unwrap().is_none(), "it ended after {kills} kills");
        child.kill().unwrap();
        collect(child);
        kills += 1;
    }
    assert!(while_saving >= 8, "{while_saving} while saving");
    run(home.path(), &given).text();
    assert_same(&whole, &killed, steps);
}

#[cfg(unix)]
#[test]
fn an_interrupt_saves_and_the_run_goes_on() {
    let steps = 300;
    let home = ground(steps);
    let (recipe, text) = (home.join("recipe.toml"), home.join("story.txt"));
    let (whole, stopped) = (home.join("whole"), home.join("stopped"));
    run(home.path(), &begin(&recipe, &text, &whole)).text();
    let child = command(home.path(), &begin(&recipe, &text, &stopped)).spawn().unwrap();
    let start = Instant::now();
    let checkpoint = Path::new(&stopped).join("checkpoints/step-8");
    while !checkpoint.is_dir() && start.elapsed() < Duration::from_secs(60) {
        std::hint::spin_loop();
    }
    // While it goes on nobody else may.
    run(home.path(), &["pretrain", "--resume", &stopped]).is_error("written by another process");
    crate::interrupt::interrupt(&child);
    let output = collect(child);
    assert_eq!(output.code, Some(130), "{}", output.stderr);
    assert!(output.stderr.contains("goes on"), "{}", output.stderr);
    // It is no model yet, but its last checkpoint is one.
    let inspected = run(home.path(), &["inspect", &stopped]);
    inspected.is_error("is a run that has not ended");
    let latest = inspected.stderr.split("learnt last is ").nth(1).unwrap().trim();
    run(home.path(), &["inspect", latest]).text();
    run(home.path(), &["pretrain", "--resume", &stopped]).text();
    assert_same(&whole, &stopped, steps);
}

#[test]
fn what_cannot_be_trained_is_an_error_with_a_hint() {
    let home = ground(10);
    let (recipe, text, out) = (home.join("recipe.toml"), home.join("story.txt"), home.join("run"));
    let bad = |more: &[&str], expected: &str| {
        run(home.path(), &[&begin(&recipe, &text, &out)[..], more].concat()).is_error(expected);
    };
    bad(&["--set", "model.n_layers=3"], "the nearest is model.n_layer");
    bad(&["--set", "model.n_head=3"], "does not divide into 3 heads; the nearest that does is 18");
    bad(&["--set", "train.context=100000", "--steps", "3"], "train.context");
    bad(&["--set", "model.vocab_size=100"], "the nearest is 258");
    run(home.path(), &["pretrain"]).is_error("nothing to learn from");
    run(home.path(), &["pretrain", "--resume", &out]).is_error("is no run");
    for (name, bytes, expected) in [
        ("empty.txt", &b""[..], "no text"),
        ("binary.txt", &[0, 159, 146, 150, 255, 0, 1, 2].repeat(500)[..], "byte"),
    ] {
        let path = home.join(name);
        std::fs::write(&path, bytes).unwrap();
        run(home.path(), &begin(&recipe, &path, &out)).is_error(expected);
    }
    assert!(!Path::new(&out).exists(), "what was refused leaves nothing");
    run(home.path(), &begin(&recipe, &text, &out)).text();
    run(home.path(), &["plan", &out]).is_error("is a run, where a recipe was expected");
    // A run that cannot go on as it was asked to stays as it is.
    let before = std::fs::read(Path::new(&out).join("recipe.toml")).unwrap();
    let other = home.join("other.txt");
    std::fs::write(&other, story()).unwrap();
    let resume =
        |more: &[&str]| run(home.path(), &[&["pretrain", "--resume", &out], more].concat());
    resume(&["--steps", "5"]).is_error("10 are done already");
    resume(&["--steps", "12", "--data", &other]).is_error("cannot go on with");
    assert!(std::fs::read(Path::new(&out).join("recipe.toml")).unwrap() == before);
    // A flipped bit in a checkpoint, and a file that is gone.
    let path = Path::new(&out).join("checkpoints/step-10/optimizer.safetensors");
    let mut bytes = std::fs::read(&path).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(&path, bytes).unwrap();
    run(home.path(), &["pretrain", "--resume", &out, "--steps", "12"])
        .is_error("optimizer.safetensors: expected the sum");
    std::fs::remove_file(&path).unwrap();
    let gone = resume(&["--steps", "12"]);
    gone.is_error("optimizer.safetensors");
    assert!(gone.stderr.contains("from the one before"), "{}", gone.stderr);
}

/// All files of a folder, with what is in them.
fn contents(folder: &str) -> Vec<(std::path::PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => found.extend(contents(&path.display().to_string())),
            false => found.push((path.clone(), std::fs::read(&path).unwrap())),
        }
    }
    found.sort();
    found
}

#[test]
fn what_is_in_a_folder_survives_a_run_that_is_refused() {
    let home = ground(5);
    let (recipe, text) = (home.join("recipe.toml"), home.join("story.txt"));
    let refused = |folder: &str, data: &str, more: &[&str], expected: &str| {
        let before = contents(folder);
        run(home.path(), &[&begin(&recipe, data, folder)[..], more].concat()).is_error(expected);
        assert!(contents(folder) == before, "{folder} has changed");
    };
    // A text of one's own where a run keeps its own.
    std::fs::create_dir_all(home.join("mine/data")).unwrap();
    std::fs::copy(&text, home.join("mine/data/mine.txt")).unwrap();
    refused(&home.join("mine"), &home.join("mine/data"), &[], "was there before the run");
    refused(&home.join("mine"), &text, &[], "was there before the run");
    // A prepared set there: other texts do not replace it, and a value that cannot be leaves it.
    let (out, data) = (home.join("prepared"), home.join("prepared/data"));
    run(home.path(), &["data", "prepare", &text, "--vocab", "270", "--out", &data]).text();
    refused(&out, &text, &[], "was there before the run");
    refused(&out, &data, &["--set", "model.n_head=3"], "does not divide");
    run(home.path(), &begin(&recipe, &data, &out)).text();
    run(home.path(), &["pretrain", "--resume", &out, "--steps", "7"]).text();
    // The words of a data set are its own.
    let (external, other) = (home.join("external"), home.join("other"));
    run(home.path(), &["data", "prepare", &text, "--char", "--out", &external]).text();
    std::fs::copy(home.join("prepared/data/tokenizer.json"), home.join("external/tokenizer.json"))
        .unwrap();
    run(home.path(), &begin(&recipe, &external, &other)).is_error("the one that made the ids");
    assert!(!Path::new(&other).exists());
}

#[test]
fn a_run_that_cannot_go_on_as_asked_still_goes_on_as_it_was() {
    let home = ground(6);
    let (recipe, out) = (home.join("recipe.toml"), home.join("run"));
    let prepare = |name: &str, text: &str| {
        let raw = home.join(&format!("{name}.txt"));
        std::fs::write(&raw, text).unwrap();
        let data = home.join(name);
        run(home.path(), &["data", "prepare", &raw, "--vocab", "270", "--out", &data]).text();
        data
    };
    let (one, other) = (prepare("one", &story()), prepare("other", &story().replace("Tom", "Tim")));
    run(home.path(), &begin(&recipe, &one, &out)).text();
    let kept = || {
        let read = |name: &str| std::fs::read_to_string(Path::new(&out).join(name)).unwrap();
        (read("recipe.toml"), read("forecast.json"))
    };
    let before = kept();
    let resume =
        |more: &[&str]| run(home.path(), &[&["pretrain", "--resume", &out], more].concat());
    let refused = resume(&["--data", &other, "--steps", "8"]);
    refused.is_error("data: expected the data of the run");
    assert!(refused.stderr.contains("what it began to learn from"), "{}", refused.stderr);
    assert_eq!(kept(), before);
    // A raw text is not what it learnt from, and the folder that was is gone.
    resume(&["--data", &home.join("one.txt")]).is_error("cannot go on with");
    std::fs::rename(&one, home.join("moved")).unwrap();
    let gone = resume(&[]);
    gone.is_error("no prepared text is in");
    assert!(gone.stderr.contains("--data PATH"), "{}", gone.stderr);
    resume(&["--data", &home.join("moved"), "--steps", "8"]).text();
    // A time does not make it longer, and that is said.
    let timed = resume(&["--minutes", "0.05"]);
    assert_eq!(timed.code, Some(0), "{}", timed.stderr);
    assert!(timed.stderr.contains("goes on to its 8 steps"), "{}", timed.stderr);
    // Without its recipe a run has the one of its last checkpoint.
    std::fs::remove_file(Path::new(&out).join("recipe.toml")).unwrap();
    resume(&["--steps", "9"]).text();
    assert!(kept().0.contains("steps = 9"));
}

#[test]
fn a_run_that_was_killed_before_it_began_is_begun_again() {
    let home = ground(3);
    let (recipe, text, out) = (home.join("recipe.toml"), home.join("story.txt"), home.join("run"));
    std::fs::create_dir(&out).unwrap();
    std::fs::write(home.join("run/lock"), "").unwrap();
    let refused = run(home.path(), &["pretrain", "--resume", &out]);
    refused.is_error("was stopped before its recipe was written");
    assert!(refused.stderr.contains("give the whole command again"), "{}", refused.stderr);
    run(home.path(), &["finetune", "--resume", &out]).is_error("was stopped before its recipe");
    // While somebody is at it, that is what it is.
    let held = std::fs::File::open(home.join("run/lock")).unwrap();
    held.lock().unwrap();
    run(home.path(), &["pretrain", "--resume", &out]).is_error("written by another process");
    let watched = run(home.path(), &["watch", &out]);
    assert!(watched.code == Some(0) && watched.stderr.contains("no step yet"), "{watched:?}");
    assert_eq!(run(home.path(), &["watch", "--json", &out]).json()["state"], "running");
    drop(held);
    run(home.path(), &["watch", &out]).is_error("is not a run");
    run(home.path(), &begin(&recipe, &text, &out)).text();
    // A run that was given no folder: the same command begins again in the one that it had.
    let left = || {
        std::fs::create_dir_all(home.join("runs/recipe/data")).unwrap();
        std::fs::write(home.join("runs/recipe/lock"), "").unwrap();
    };
    for more in [&["--resume"][..], &[]] {
        left();
        let given = ["pretrain", &recipe, "--data", &text, "--threads", "2"];
        run(home.path(), &[&given[..], more].concat()).text();
        assert_eq!(std::fs::read_dir(home.join("runs")).unwrap().count(), 1);
        assert_eq!(rows(&home.join("runs/recipe")).len(), 3);
        std::fs::remove_dir_all(home.join("runs")).unwrap();
    }
    // What is refused leaves no folder behind.
    let given = ["pretrain", &recipe, "--data", &text, "--set", "model.n_head=3"];
    run(home.path(), &given).is_error("does not divide");
    assert!(!Path::new(&home.join("runs")).exists());
}

#[test]
fn a_run_s_folder_may_be_written_in_two_ways() {
    let home = ground(3);
    let (recipe, text, out) = (home.join("recipe.toml"), home.join("story.txt"), home.join("run"));
    run(home.path(), &begin(&recipe, &text, &out)).text();
    let other = format!("{out}/../run/.");
    run(home.path(), &["pretrain", "--resume", &other, "--out", &out, "--steps", "4"]).text();
    run(home.path(), &["pretrain", "--resume", &out, "--out", &home.join("else")])
        .is_error("name two folders");
    let checkpoint = format!("{out}/checkpoints/step-4");
    run(home.path(), &["watch", &checkpoint]).is_error("is a checkpoint of the run");
}

#[test]
fn checkpoints_become_fewer_when_that_is_asked_for() {
    let home = ground(12);
    let (recipe, text, out) = (home.join("recipe.toml"), home.join("story.txt"), home.join("run"));
    let kept = || {
        let entries = std::fs::read_dir(Path::new(&out).join("checkpoints")).unwrap();
        let mut names: Vec<String> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    };
    run(home.path(), &[&begin(&recipe, &text, &out)[..], &["--keep", "3"]].concat()).text();
    assert_eq!(kept(), ["step-10", "step-12", "step-8"]);
    // The run has ended, and its last checkpoint is the best one.
    run(home.path(), &["pretrain", "--resume", &out, "--keep", "1"]).text();
    assert_eq!(kept(), ["step-12"]);
}

#[test]
fn a_mix_limits_how_often_a_source_is_read() {
    let home = ground(3);
    let (recipe, out, data) = (home.join("recipe.toml"), home.join("run"), home.join("data"));
    std::fs::write(home.join("other.txt"), story().replace("Tom", "Tim")).unwrap();
    let mix = "[[source]]\npath = 'story.txt'\nweight = 3\nepochs = 2\n\
               [[source]]\npath = 'other.txt'\nweight = 1\n";
    std::fs::write(home.join("mix.toml"), mix).unwrap();
    let mix = home.join("mix.toml");
    run(home.path(), &["data", "prepare", "--mix", &mix, "--vocab", "270", "--out", &data]).text();
    let given = ["pretrain", &recipe, "--data", &data, "--out", &out];
    let refused = run(home.path(), &[&given[..], &["--steps", "1000"]].concat());
    refused.is_error("story.txt more often than its mix allows; the nearest is ");
    assert!(!Path::new(&out).exists());
    let nearest = refused.stderr.split("the nearest is ").nth(1).unwrap();
    let nearest = nearest.lines().next().unwrap();
    run(home.path(), &[&given[..], &["--steps", nearest]].concat()).text();
}

#[test]
fn resume_without_a_name_takes_the_run_that_is_meant() {
    let home = ground(3);
    let text = home.join("story.txt");
    let recipe = home.join("recipe.toml");
    let pretrain = |more: &[&str]| {
        run(
            home.path(),
            &[&["pretrain", &recipe, "--data", &text, "--threads", "2"], more].concat(),
        )
    };
    pretrain(&[]).text();
    pretrain(&["--set", "model.d_ff=48"]).text();
    let steps = |name: &str| rows(&home.join(&format!("runs/{name}"))).len();
    // The second one is the newer one, and another model.
    pretrain(&["--resume", "--steps", "4"]).text();
    assert_eq!((steps("recipe"), steps("recipe-2")), (4, 3));
    pretrain(&["--resume", "--set", "model.d_ff=48", "--steps", "5"]).text();
    assert_eq!((steps("recipe"), steps("recipe-2")), (4, 5));
    pretrain(&["--resume", "--set", "model.d_ff=64"]).is_error("has these values");
}

#[test]
fn a_prepared_folder_is_taken_as_it_is_or_not_at_all() {
    let home = ground(3);
    let (recipe, text) = (home.join("recipe.toml"), home.join("story.txt"));
    let prepare = |name: &str, more: &[&str]| {
        let out = home.join(name);
        let arguments = ["data", "prepare", &text, "--out", &out];
        run(home.path(), &[&arguments[..], more].concat()).text();
        out
    };
    let (one, two) = (prepare("one", &["--vocab", "270"]), prepare("two", &["--char"]));
    let out = home.join("run");
    let bad = |data: &[&str], more: &[&str], words: &str, hint: &str| {
        let arguments = [&["pretrain", &recipe, "--out", &out, "--data"][..], data, more].concat();
        let refused = run(home.path(), &arguments);
        refused.is_error(words);
        assert!(refused.stderr.contains(hint), "{}", refused.stderr);
        assert!(!Path::new(&out).exists());
    };
    let raw = "give the raw texts";
    bad(&[&one], &["--set", "data.tokenizer=char"], "with a tokenizer of its own", raw);
    let other = format!("data.tokenizer={two}/tokenizer.json");
    bad(&[&one], &["--set", &other], "with a tokenizer of its own", raw);
    bad(&[&one], &["--set", "data.held_out=0.5"], "are held out already", raw);
    bad(&[&one, &text], &[], "is prepared", "llmos data prepare");
    bad(&[&one, &two], &[], "is prepared", "llmos data prepare");
    // What says the same changes nothing.
    let same = format!("data.tokenizer={one}/tokenizer.json");
    let begun = home.join("begun");
    let begin = ["pretrain", &recipe, "--data", &one, "--out", &begun, "--threads", "2"];
    run(home.path(), &[&begin[..], &["--set", &same]].concat()).text();
    bad(&[&begun], &[], "is a run, where texts were expected", "llmos pretrain --resume");
    run(home.path(), &["plan", &recipe, "--data", &begun]).is_error("is a run");
    let char = home.join("char");
    let begin = ["pretrain", "--data", &two, "--out", &char, "--steps", "2", "--threads", "2"];
    run(home.path(), &[&begin[..], &["--set", "data.tokenizer=char"]].concat()).text();
    // A text whose characters it lacks has no score, and one of which it lacks some says so.
    let score = |text: &str| {
        std::fs::write(home.join("scored.txt"), text).unwrap();
        run(home.path(), &["score", &char, "--text", &home.join("scored.txt")])
    };
    score("从前有一个小女孩。Tom").is_error("90.00 % of the text's bytes have no token");
    let some = score("Tom saw a ball. 一 Lily sat. A bird fell. ");
    assert!(some.code == Some(0) && some.stderr.contains("not in the score"), "{some:?}");
}

#[test]
fn resume_alone_takes_the_run_that_was_worked_on_last() {
    let home = ground(3);
    let (recipe, text) = (home.join("recipe.toml"), home.join("story.txt"));
    run(home.path(), &["pretrain", "--resume"]).is_error("there is no run in runs");
    run(home.path(), &["pretrain", &recipe, "--data", &text, "--threads", "2"]).text();
    run(home.path(), &["pretrain", "--resume", "--steps", "4"]).text();
    assert_eq!(rows(&home.join("runs/recipe")).len(), 4);
}
