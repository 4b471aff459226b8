//! `watch`: a run that is going on or over, from a folder made by hand.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;

use crate::program::{Folder, collect, command, llmos};

/// A run's folder with 120 of 200 steps, two evaluations and a text.
struct Run {
    home: Folder,
}

impl Run {
    fn new() -> Run {
        let run = Run { home: Folder::new() };
        std::fs::create_dir(run.path()).unwrap();
        std::fs::write(run.path().join("lock"), "").unwrap();
        let recipe = "save_every = 50\n[model]\nn_layer = 4\nd_model = 128\n[train]\nsteps = 200\n";
        std::fs::write(run.path().join("recipe.toml"), recipe).unwrap();
        let dreams = "{\"step\":50,\"prompt\":\"\",\"text\":\"aaa\"}\n\
                      {\"step\":100,\"prompt\":\"Once\",\"text\":\" upon a time\"}\n";
        std::fs::write(run.path().join("dreams.jsonl"), dreams).unwrap();
        (1..=120).for_each(|step| run.step(step));
        run
    }

    fn path(&self) -> PathBuf {
        self.home.path().join("run")
    }

    fn name(&self) -> String {
        self.home.join("run")
    }

    fn append(&self, text: &str) {
        let path = self.path().join("metrics.jsonl");
        let mut file = File::options().create(true).append(true).open(path).unwrap();
        file.write_all(text.as_bytes()).unwrap();
    }

    fn step(&self, step: u64) {
        let held_out = match step {
            50 => ",\"val_loss\":3.5,\"val_bits_per_byte\":1.75",
            100 => ",\"val_loss\":3.25,\"val_bits_per_byte\":1.5",
            _ => "",
        };
        let (tokens, loss) = (step * 8192, 3.0 + 5.0 / step as f64);
        let seconds = step as f64 * 0.2031;
        self.append(&format!(
            "{{\"step\":{step},\"tokens\":{tokens},\"loss\":{loss},\"lr\":3e-4,\"grad_norm\":0.8,\
             \"tokens_per_s\":40332.0,\"step_ms\":203.1,\"seconds\":{seconds},\
             \"anything\":{{\"else\":[1]}}{held_out}}}\n"
        ));
    }

    /// Holds the lock, as a living run does, until it is dropped.
    fn lives(&self) -> File {
        let lock = File::open(self.path().join("lock")).unwrap();
        lock.lock().unwrap();
        lock
    }
}

#[test]
fn without_a_terminal_it_is_the_last_steps_line() {
    let run = Run::new();
    let line = "step 00120/00200 | loss 3.0417 | lr 3.0e-4 | norm 0.80 | 203 ms | 40,332 tok/s";
    for given in [&["watch", &run.name()][..], &["watch", "--plain", &run.name()]] {
        let output = llmos(given);
        assert_eq!(output.text(), format!("{line}\n"));
        assert!(output.stderr.contains("run is stopped"), "{}", output.stderr);
    }
    // A line that is being written waits for its end.
    run.append("{\"step\":121,\"loss\":2.");
    assert_eq!(llmos(&["watch", &run.name()]).text(), format!("{line}\n"));
    let lock = run.lives();
    let living = llmos(&["watch", &run.name()]).text();
    assert_eq!(living, format!("{line} | left 16 s\n"));
    drop(lock);
}

#[test]
fn json_says_how_it_stands() {
    let run = Run::new();
    let forecast =
        "{\"forecast\":{\"seconds\":50.0,\"val_bits_per_byte\":1.6,\"low\":1.4,\"high\":1.8}}";
    std::fs::write(run.path().join("forecast.json"), forecast).unwrap();
    let lock = run.lives();
    let report = llmos(&["watch", "--json", &run.name()]).json();
    assert_eq!(report["state"], "running");
    assert_eq!((&report["step"], &report["steps"]), (&120.into(), &200.into()));
    assert_eq!(report["tokens"], 120 * 8192);
    assert_eq!((&report["val_step"], &report["val_bits_per_byte"]), (&100.into(), &1.5.into()));
    let left = report["seconds_left"].as_f64().unwrap();
    assert!((left - 80.0 * 0.2031).abs() < 1e-6, "{left}");
    assert_eq!(report["dream"]["text"], " upon a time");
    let beside = report["beside_forecast"].as_array().unwrap();
    assert_eq!(beside[0]["forecast"], 50.0);
    assert!((beside[0]["actual"].as_f64().unwrap() - 200.0 * 0.2031).abs() < 1e-6);
    assert_eq!(beside[1]["inside"], true);
    drop(lock);
    assert_eq!(llmos(&["watch", "--json", &run.name()]).json()["state"], "stopped");
    (121..=200).for_each(|step| run.step(step));
    let report = llmos(&["watch", "--json", &run.name()]).json();
    assert_eq!(report["state"], "finished");
    assert!(report["seconds_left"].is_null());
    let took =
        |report: &serde_json::Value| report["beside_forecast"][0]["actual"].as_f64().unwrap();
    assert!((took(&report) - 200.0 * 0.2031).abs() < 1e-6);
    // What the run itself said at its end, after its last row, is what it took.
    let outcome = forecast.replace("}}", "},\"outcome\":{\"seconds\":48.0}}");
    std::fs::write(run.path().join("forecast.json"), outcome).unwrap();
    assert_eq!(took(&llmos(&["watch", "--json", &run.name()]).json()), 48.0);
    // One object a run and line.
    let both = llmos(&["watch", "--json", &run.name(), &Run::new().name()]).text();
    let objects = both.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    let steps: Vec<_> = objects.map(|object| object["step"].as_u64()).collect();
    assert_eq!(steps, [Some(200), Some(120)]);
}

#[test]
fn new_steps_are_followed_until_the_run_ends() {
    let run = Run::new();
    let lock = run.lives();
    let mut child = command(run.home.path(), &["watch", "--follow", &run.name()]).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut next = || lines.next().unwrap().unwrap();
    assert!(next().starts_with("step 00120/00200 |"));
    run.step(121);
    assert!(next().starts_with("step 00121/00200 |"));
    run.append("{\"step\":122,");
    run.append("\"loss\":null}\n");
    assert!(next().starts_with("step 00122/00200 | loss nan | left "));
    // From a checkpoint it goes on: the steps come again.
    run.step(101);
    assert!(next().starts_with("step 00101/00200 |"));
    run.step(102);
    drop(lock);
    assert!(next().starts_with("step 00102/00200 |"));
    assert!(lines.next().is_none());
    let output = collect(child);
    assert_eq!(output.code, Some(0));
    assert!(output.stderr.contains("run is stopped"), "{}", output.stderr);
}

#[test]
fn a_picture_of_one_run_or_several() {
    let (first, second) = (Run::new(), Run::new());
    let path = first.home.join("picture.svg");
    assert_eq!(llmos(&["watch", &first.name(), "--picture", &path]).text(), "");
    let text = std::fs::read_to_string(&path).unwrap();
    let document = roxmltree::Document::parse(&text).unwrap();
    assert_eq!(document.root_element().tag_name().name(), "svg");
    // Two evaluations and the legend's dot.
    let circles = document.descendants().filter(|node| node.has_tag_name("circle"));
    assert_eq!(circles.count(), 3);
    let both = llmos(&["watch", &first.name(), &second.name(), "--picture", "-"]).text();
    let document = roxmltree::Document::parse(&both).unwrap();
    for name in [first.name(), second.name()] {
        let texts = document.descendants().filter_map(|node| node.text());
        assert!(texts.map(str::trim).any(|text| text == name), "{name} not in {both}");
    }
    // Nothing is left beside the picture, and nothing else is overwritten.
    let entries = std::fs::read_dir(first.home.path()).unwrap().count();
    assert_eq!(entries, 2);
    let metrics = first.path().join("metrics.jsonl").display().to_string();
    llmos(&["watch", &first.name(), "--picture", &metrics]).is_error("no name for an SVG picture");
    assert!(std::fs::read_to_string(metrics).unwrap().starts_with("{\"step\":1,"));
}

#[test]
fn what_is_no_run_is_an_error() {
    let home = Folder::new();
    llmos(&["watch", &home.join("nowhere")]).is_error("no run at");
    llmos(&["watch", &home.path().display().to_string()]).is_error("is not a run");
    std::fs::write(home.path().join("file"), "").unwrap();
    llmos(&["watch", &home.join("file")]).is_error("is not a run");
    // A run that has just begun is one.
    std::fs::write(home.path().join("recipe.toml"), "[train]\nsteps = 5\n").unwrap();
    let output = llmos(&["watch", &home.path().display().to_string()]);
    assert_eq!((output.text(), output.stderr.contains("no step yet")), (String::new(), true));
}
