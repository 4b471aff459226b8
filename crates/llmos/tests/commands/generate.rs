//! `run` and `dream`.

use crate::program::{llmos, llmos_with, repository, stories};

/// The published greedy text of stories260K (karpathy/tinyllamas), as far as it is printed there.
const PUBLISHED: &str = "Once upon a time, there was a little girl named Lily. She loved to play \
    outside in the park. One day, she saw a big, red ball. She wanted to play with it, but it was \
    too high";

#[test]
fn greedy_text_is_the_published_one() {
    let model = stories();
    let run = |more: &[&str]| llmos(&[&["run", &model, "--temp", "0", "-n", "80"], more].concat());
    let echoed = run(&["-p", "Once upon a time", "--echo"]).text();
    assert!(echoed.starts_with(PUBLISHED), "{echoed}");
    let plain = run(&["-p", "Once upon a time"]).text();
    assert_eq!(format!("Once upon a time{plain}"), echoed);
    let from_nothing = run(&["-p", ""]).text();
    assert!(from_nothing.starts_with(PUBLISHED), "{from_nothing}");
}

#[test]
fn ways_to_go_faster_leave_the_text_as_it_is() {
    let model = stories();
    let run = |more: &[&str]| {
        let given = ["run", &model, "-p", "Lily and", "--temp", "0", "-n", "120"];
        llmos(&[&given, more].concat()).text()
    };
    let plain = run(&[]);
    assert_eq!(run(&["--lookup"]), plain);
    assert_eq!(run(&["--draft", &model]), plain);
    assert_eq!(run(&["--batch", "3"]), plain);
}

#[test]
fn instruction_sets_and_threads_agree_on_the_text() {
    let model = stories();
    let run = |more: &[&str]| {
        let given = ["run", &model, "-p", "Tom had a", "--temp", "0", "-n", "40"];
        llmos(&[&given, more].concat()).text()
    };
    let scalar = run(&["--isa", "scalar", "--threads", "1"]);
    assert_eq!(run(&[]), scalar);
    assert_eq!(run(&["--threads", "3"]), scalar);
}

#[test]
fn greedy_text_is_exact_unless_speed_was_asked_for() {
    let kernels = |more: &[&str]| {
        let given = ["-v", "run", &stories(), "-p", "Once", "-n", "1"];
        let said = llmos(&[&given[..], more].concat()).stderr;
        said.lines().find(|line| line.starts_with("kernels:")).unwrap().to_string()
    };
    assert!(!kernels(&["--temp", "0"]).contains("bfloat16"));
    assert_eq!(kernels(&["--temp", "0", "--precision", "fast"]), kernels(&["--temp", "1"]));
}

#[test]
fn the_number_of_new_tokens_is_what_n_says() {
    let output = llmos(&["run", &stories(), "-p", "Once upon a time", "-n", "7", "--temp", "0"]);
    assert!(output.stderr.starts_with("7 tokens"), "{}", output.stderr);
    let none = llmos(&["run", &stories(), "-p", "Once", "-n", "0"]);
    assert_eq!(none.text(), "");
}

#[test]
fn a_seed_repeats_a_text() {
    let model = stories();
    let run = |seed: &str| {
        llmos(&["run", &model, "-p", "Once", "-n", "40", "--temp", "1.2", "--seed", seed]).text()
    };
    assert_eq!(run("7"), run("7"));
    assert_ne!(run("7"), run("8"));
}

#[test]
fn every_sampler_has_its_flag() {
    let model = stories();
    let check = |flags: &[&str]| {
        let given = ["run", &model, "-p", "Once upon a time", "-n", "12", "--seed", "5"];
        let output = llmos(&[&given, flags].concat());
        assert!(!output.text().is_empty(), "{flags:?}");
    };
    check(&["--temp", "0.7", "--top-k", "5", "--top-p", "0.9", "--min-p", "0.1"]);
    check(&["--typical", "0.8", "--top-n-sigma", "1.5"]);
    check(&["--xtc-probability", "0.5", "--xtc-threshold", "0.2"]);
    check(&["--dry-multiplier", "0.8", "--dry-base", "1.5", "--dry-allowed-length", "1"]);
    check(&["--repeat-penalty", "1.2", "--repeat-window", "32"]);
    check(&["--presence-penalty", "0.5", "--frequency-penalty", "-0.5"]);
    check(&["--mirostat", "--mirostat-tau", "3", "--mirostat-eta", "0.2"]);
    check(&["--dynatemp-range", "0.5", "--dynatemp-exponent", "2"]);
    check(&["--cache-type", "q8", "--context", "64"]);
}

#[test]
fn a_banned_token_is_not_drawn() {
    // Greedily the first token after this prompt is " little", 376 in this vocabulary.
    let given =
        ["run", &stories(), "-p", "Once upon a time, there was a", "-n", "1", "--temp", "0"];
    assert_eq!(llmos(&given).text(), " little");
    let banned = llmos(&[&given[..], &["--logit-bias", "376=-inf"]].concat()).text();
    assert_eq!(banned, " big");
    let forced = llmos(&[&given[..], &["--logit-bias", "317=100"]].concat()).text();
    assert_eq!(forced, " Lily");
}

#[test]
fn a_control_token_has_no_text_and_ends_a_dream_where_it_starts_another() {
    let start = ["-n", "5", "--temp", "0", "--logit-bias", "1=100"];
    let run = llmos(&[&["run", &stories(), "-p", "Once"][..], &start].concat());
    assert_eq!(run.text(), "");
    assert!(run.stderr.starts_with("5 tokens"), "{}", run.stderr);
    let dream = llmos(&[&["dream", &stories(), "--like", "story"][..], &start].concat());
    assert_eq!(dream.text(), "Once upon a time\n");
    assert!(dream.stderr.contains("the text ended"), "{}", dream.stderr);
}

#[test]
fn a_grammar_is_kept() {
    let model = stories();
    let run = |flags: &[&str]| {
        let given = ["run", &model, "-p", "Once upon a time", "-n", "60", "--temp", "0"];
        llmos(&[&given, flags].concat()).text()
    };
    let word = run(&["--regex", " (yes|no)"]);
    assert!([" yes", " no"].contains(&word.as_str()), "{word}");
    let schema = r#"{"type":"array","items":{"type":"boolean"},"minItems":2,"maxItems":2}"#;
    let json = run(&["--json-schema", schema]);
    let value: Vec<bool> = serde_json::from_str(&json).expect("the text is JSON");
    assert_eq!(value.len(), 2);
    let lark = run(&["--lark", "start: \"a\" \"b\""]);
    assert_eq!(lark, "ab");
}

#[test]
fn a_prompt_comes_from_a_flag_a_file_or_standard_input() {
    let model = stories();
    let given = ["run", &model, "-n", "20", "--temp", "0"];
    let flag = llmos(&[&given[..], &["-p", "Lily saw"]].concat()).text();
    assert_eq!(llmos_with(&given, b"Lily saw").text(), flag);
    assert_eq!(llmos_with(&[&given[..], &["-f", "-"]].concat(), b"Lily saw").text(), flag);
    let home = crate::program::Folder::new();
    std::fs::write(home.join("prompt"), "Lily saw").unwrap();
    assert_eq!(llmos(&[&given[..], &["-f", &home.join("prompt")]].concat()).text(), flag);
}

#[test]
fn dreams_begin_from_nothing_or_with_a_kind() {
    let model = stories();
    let dream = |more: &[&str]| {
        llmos(&[&["dream", &model, "-n", "30", "--temp", "0"], more].concat()).text()
    };
    assert!(PUBLISHED.starts_with(&dream(&[]).trim_end()[..40]));
    assert!(dream(&["--like", "story"]).starts_with("Once upon a time"));
    assert!(dream(&["--like", "code"]).starts_with("import java"));
    let several = dream(&["--count", "2"]);
    assert_eq!(several.matches("\n---\n").count(), 1, "{several}");
}

#[test]
fn a_folder_with_its_tokenizer_runs() {
    // Random weights: nothing but that it runs, and that it writes whole characters.
    let folder = repository("testdata/architectures/qwen3").display().to_string();
    let text =
        llmos(&["run", &folder, "-p", "Hello", "-n", "20", "--temp", "1.5", "--seed", "3"]).text();
    assert!(!text.is_empty());
}
