//! `plan`: the published slide, what is unknown, and runs of this machine.

use serde_json::Value;

use crate::program::{Folder, llmos, repository};

/// `plan` of 70 billion parameters and 2 trillion tokens on A100s, with more flags.
fn slide(more: &[&str]) -> Vec<String> {
    let given = ["plan", "--params", "70e9", "--tokens", "2e12", "--gpu", "a100-80g"];
    given.iter().chain(more).map(|word| word.to_string()).collect()
}

fn near(report: &Value, field: &str, expected: f64, tolerance: f64) {
    let got = report[field].as_f64().unwrap_or(f64::NAN);
    assert!((got / expected - 1.0).abs() <= tolerance, "{field}: {got}, not {expected}");
}

#[test]
fn the_slide_as_a_table_and_as_json() {
    let given = slide(&["--gpus", "6000", "--price", "1.157"]);
    let text = llmos(&given).text();
    for words in ["8.4e23 FLOP", "12 days", "$2.0M", "140 GB", "10 TB", "43.0 %", "43.3 %"] {
        assert!(text.contains(words), "{words}: {text}");
    }
    let report = llmos(&[&given[..], &["--json".into()]].concat()).json();
    for (field, expected, tolerance) in [
        ("params", 70e9, 0.0),
        ("tokens", 2e12, 0.0),
        ("flops", 8.4e23, 1e-9),
        ("gpus", 6000.0, 0.0),
        ("days", 12.0, 0.01),
        ("gpu_hours", 1.728e6, 0.01),
        ("dollars", 2e6, 0.01),
        ("mfu", 0.43, 0.0),
        ("parameter_bytes", 140e9, 0.0),
        ("corpus_bytes", 10e12, 0.0),
    ] {
        near(&report, field, expected, tolerance);
    }
}

#[test]
fn any_one_of_days_gpus_money_and_mfu_is_solved_for() {
    let full = [("--gpus", "6000"), ("--days", "12"), ("--mfu", "0.4328"), ("--price", "1.157")];
    for unknown in ["--gpus", "--days", "--mfu"] {
        let known = full.iter().filter(|(flag, _)| *flag != unknown);
        let more: Vec<&str> = known.flat_map(|(flag, value)| [*flag, *value]).collect();
        let report = llmos(&slide(&[&more[..], &["--json"]].concat())).json();
        near(&report, "gpus", 6000.0, 1e-3);
        near(&report, "days", 12.0, 1e-3);
        near(&report, "mfu", 0.4328, 1e-3);
        near(&report, "dollars", 2e6, 1e-3);
    }
    let more = ["--days", "12", "--dollars", "2M", "--price", "1.157", "--json"];
    near(&llmos(&slide(&more)).json(), "gpus", 6000.0, 1e-3);
    let more = ["--days", "12", "--gpus", "6000", "--dollars", "2e6", "--json"];
    near(&llmos(&slide(&more)).json(), "price", 1.157, 1e-3);
}

#[test]
fn what_is_printed_multiplies_out() {
    let small = ["plan", "--params", "1e6", "--tokens", "2e7", "--gpu", "a100-80g", "--days", "12"];
    let report = llmos(&[&small[..], &["--json"]].concat()).json();
    let days = report["gpu_hours"].as_f64().unwrap() / 24.0;
    near(&report, "gpus", 1.0, 0.0);
    near(&report, "days", days, 1e-9);
    let text = llmos(&small).text();
    assert!(text.contains("of the 12 days that are given"), "{text}");
    let given = slide(&["--gpus", "6000", "--days", "12", "--mfu", "0.43", "--json"]);
    near(&llmos(&given).json(), "mfu", 8.4e23 / (6000.0 * 12.0 * 86_400.0 * 312e12), 1e-9);
    let text = llmos(&slide(&["--gpus", "6000"])).text();
    assert!(text.contains("1.12 TB") && text.contains("14 GPUs hold it at least"), "{text}");
}

#[test]
fn amounts_may_be_written_as_people_do() {
    let check = |params: &str, tokens: &str| {
        let given = ["plan", "--params", params, "--tokens", tokens, "--gpu", "h100-80g", "--json"];
        let report = llmos(&given).json();
        near(&report, "params", 1.1e9, 1e-12);
        near(&report, "tokens", 3e12, 1e-12);
    };
    check("1.1b", "3T");
    check("1_100_000_000", "3e12");
}

#[test]
fn contradictions_are_refused() {
    let check = |more: &[&str], words: &[&str]| {
        let output = llmos(&slide(more));
        words.iter().for_each(|words| output.is_error(words));
    };
    let given = ["--gpus", "6000", "--days", "12", "--mfu", "0.6"];
    check(&given, &["contradict", "1,728,000", "1,246,439"]);
    let given = ["--gpus", "100", "--days", "1"];
    check(&given, &["2,400 GPU-hours", "nearest"]);
    check(&["--mfu", "43"], &["nearest is 0.43"]);
    // A recipe's flags say nothing of a model that is given by its parameters.
    for more in [["--steps", "3"], ["--shape", "s"], ["--minutes", "3"], ["--data", "none"]] {
        let output = llmos(&slide(&more));
        assert_eq!(output.code, Some(2), "{more:?}");
        assert!(output.stderr.contains("cannot be used with"), "{}", output.stderr);
    }
    assert_eq!(llmos(&slide(&["--set", "model.n_layer=3"])).code, Some(2));
    assert_eq!(llmos(&slide(&["--toml"])).code, Some(2), "there is no recipe");
    check(&["--gpus", "1"], &["--gpus: 1 x 80 GB", "1.12 TB", "holds them is 14"]);
    let vast = ["plan", "--params", "1e300", "--tokens", "1e300", "--gpu", "h100", "--json"];
    llmos(&vast).is_error("beyond all numbers");
    let negative = llmos(&slide(&["--gpus", "-5"]));
    assert_eq!(negative.code, Some(2));
    assert!(negative.stderr.contains("a number of 0 or more"), "{}", negative.stderr);
    assert!(!negative.stderr.contains("-- -5"), "{}", negative.stderr);
    assert_eq!(llmos(&["plan", "--params", "1e9", "--gpu", "gtx-1"]).code, Some(2));
    assert_eq!(llmos(&["plan", "--params", "-1", "--gpu", "h100"]).code, Some(2));
    llmos(&["plan", "--params", "1e9"]).is_error("accelerator");
    llmos(&["plan"]).is_error("nothing to plan");
}

/// A run so small that measuring it takes a moment.
const SMALL: [&str; 10] = [
    "plan",
    "--steps",
    "20",
    "--set",
    "model.d_model=32",
    "--set",
    "train.batch=2",
    "--set",
    "train.context=32",
    "--threads=1",
];

#[test]
fn a_run_of_this_machine_has_its_fields() {
    let given = [&SMALL[..], &["--price", "3.6", "--watts", "100", "--json"]].concat();
    let report = llmos(&given).json();
    assert_eq!(report["tokens"], 20 * 2 * 32);
    let seconds = report["seconds"].as_f64().unwrap();
    assert!(seconds > 0.0);
    near(&report, "dollars", seconds * 0.001, 1e-9);
    near(&report, "days", seconds / 86_400.0, 1e-9);
    near(&report, "energy_kwh", seconds / 36_000.0, 1e-9);
    assert!(report["memory_bytes"].as_u64().unwrap() > 1 << 20);
    assert!(report["mfu"].as_f64().unwrap() > 0.0);
    let params = report["params"].as_u64().unwrap();
    assert_eq!(report["parameter_bytes"], 4 * params);
    // No law is fitted, so that no number is made up; or one is, and there is no text to judge by.
    for field in ["gpus", "corpus_bytes", "val_bits_per_byte", "low", "high"] {
        assert!(report[field].is_null(), "{field}");
    }
    let text = llmos(&SMALL).text();
    assert!(text.contains("tokens/s") && text.contains("6 N D"), "{text}");
}

#[test]
fn the_whole_recipe_is_printed_and_read_again() {
    let home = Folder::new();
    let toml = llmos(&[&SMALL[..], &["--toml"]].concat()).text();
    assert!(toml.contains("d_model = 32") && toml.contains("# given: --set"), "{toml}");
    let path = home.join("whole.toml");
    std::fs::write(&path, &toml).unwrap();
    let again = llmos(&["plan", &path, "--toml", "--threads", "1"]).text();
    let values = |text: &str| -> Vec<String> {
        let lines = text.lines().map(|line| line.split(" # ").next().unwrap_or("").trim_end());
        lines.map(str::to_string).collect()
    };
    assert_eq!(values(&again), values(&toml));
}

#[test]
fn a_recipe_can_be_planned_for_accelerators() {
    let recipe = repository("recipes/shakespeare-char.toml").display().to_string();
    let report = llmos(&["plan", &recipe, "--gpu", "v100-32g", "--gpus", "1", "--json"]).json();
    assert_eq!(report["tokens"], 1_536_000.0);
    assert_eq!(report["peak_flops_per_s"], 125e12);
    let report = llmos(&["plan", "--shape", "l", "--gpu", "v100", "--dtype", "f32", "--json"]);
    assert_eq!(report.json()["peak_flops_per_s"], 15.7e12);
}

#[test]
fn bad_recipes_name_the_nearest_good_one() {
    let home = Folder::new();
    let path = home.join("r.toml");
    for (text, words) in [
        ("[model]\nn_layers = 4", "model.n_layers: no such key; the nearest is model.n_layer"),
        ("[model]\nd_model = 100\nn_head = 3", "the nearest that does is 102"),
        ("[model]\nvocab_size = 0", "the nearest is 1"),
        ("[optimizer]\nname = 'sgd'", "optimizer.name"),
        ("model", "expected TOML"),
    ] {
        std::fs::write(&path, text).unwrap();
        llmos(&["plan", &path]).is_error(words);
    }
    std::fs::write(&path, [0xff, 0xfe, 0x00]).unwrap();
    llmos(&["plan", &path]).is_error("UTF-8");
    llmos(&["plan", &home.join("none.toml")]).is_error("cannot read the recipe");
    llmos(&["plan", "--set", "lr=1e-3"]).is_error("the nearest is optimizer.lr");
    llmos(&["plan", "--set", "=1e-3"]).is_error("expected key=value");
    let negative = llmos(&["plan", "--shape", "s", "--steps", "-4"]);
    assert_eq!(negative.code, Some(2));
    assert!(negative.stderr.contains("expected a number"), "{}", negative.stderr);
    // A text, or a folder of them, where a recipe stands.
    let story = home.join("story.txt");
    std::fs::write(&story, "Once upon a time\n").unwrap();
    for text in [story, home.path().display().to_string()] {
        let output = llmos(&["plan", &text]);
        output.is_error("is no recipe");
        assert!(output.stderr.contains(&format!("--data {text}")), "{}", output.stderr);
    }
    llmos(&["plan", "--shape", "s", "--data", &home.join("none")]).is_error("none: No such file");
    llmos(&["plan", "--shape", "l", "--minutes", "0.02"]).is_error("nearest");
    let huge = ["plan", "--shape", "l", "--set", "model.vocab_size=16000000", "--set"];
    llmos(&[&huge[..], &["model.d_model=8192"]].concat()).is_error("the nearest that fits");
}

#[test]
fn the_oldest_accelerators_multiply_in_f16_and_one_is_no_plural() {
    let plan = |gpu: &str| {
        llmos(&["plan", "--params", "1e9", "--tokens", "1e9", "--gpu", gpu, "--gpus", "1"]).text()
    };
    for (gpu, halves) in [("t4", "f16"), ("v100", "f16"), ("a100", "bf16")] {
        let shown = plan(gpu);
        assert!(shown.contains(&format!("at most in {halves} (")), "{shown}");
        assert!(!shown.contains("1 GPUs"), "{shown}");
    }
}
