//! `two-files/run.rs`, the program to be read first and the oracle of other golden files: it stays
//! short, it builds with `rustc -O` alone, it writes what outside oracles say it must (see
//! `testdata/two-files/make_golden.py`), and no file makes it panic.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The program, built once, as its first lines say it is built.
fn program() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        let out = Path::new(env!("CARGO_TARGET_TMPDIR")).join("two-files-run");
        let rustc = std::env::var("RUSTC").unwrap_or_else(|_| "rustc".into());
        let built = Command::new(rustc)
            .args(["-O", "-D", "warnings", "-o"])
            .arg(&out)
            .arg(root().join("two-files/run.rs"))
            .output()
            .expect("rustc starts");
        assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
        out
    })
}

fn run(model: &Path, arguments: &[&str]) -> Output {
    Command::new(program()).arg(model).args(arguments).output().expect("the program starts")
}

/// Ended by itself, with `code`, and with words for a person.
fn ended(output: &Output, codes: &[i32], what: &str) {
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(!stderr.contains("panicked"), "{what}: {stderr}");
    let code = output.status.code();
    assert!(code.is_some_and(|code| codes.contains(&code)), "{what}: {:?} {stderr}", output.status);
    assert_eq!(code == Some(2), stderr.contains("run: "), "{what}: {stderr}");
}

#[test]
fn at_most_500_lines_of_100_columns() {
    let source = std::fs::read_to_string(root().join("two-files/run.rs")).unwrap();
    assert!(source.lines().count() <= 500, "{} lines", source.lines().count());
    for (i, line) in source.lines().enumerate() {
        assert!(line.chars().count() <= 100, "line {} is too long", i + 1);
    }
}

fn writes_the_golden_text(golden: &str) {
    let folder = root().join("testdata/two-files");
    let golden = std::fs::read_to_string(folder.join(golden)).expect("the golden file is there");
    let golden: serde_json::Value = serde_json::from_str(&golden).expect("it is JSON");
    let model = folder.join(golden["model"].as_str().expect("it names its model"));
    let cases = golden["cases"].as_array().expect("it has cases");
    assert!(cases.len() >= 3);
    for case in cases {
        let prompt = case["prompt"].as_str().expect("a case has a prompt");
        let n_tokens = case["ids"].as_array().expect("a case has tokens").len();
        let output = run(&model, &[prompt, &n_tokens.to_string(), "0"]);
        ended(&output, &[0], prompt);
        let text = String::from_utf8_lossy(&output.stdout);
        assert_eq!(Some(&*text), case["text"].as_str(), "after {prompt:?}");
    }
}

#[test]
fn stories260k_writes_as_in_transformers() {
    writes_the_golden_text("stories260K.json");
}

#[test]
fn qwen3_in_f16_writes_as_in_transformers() {
    writes_the_golden_text("qwen3-f16.json");
}

#[test]
fn llama_in_q8_0_writes_as_in_transformers() {
    writes_the_golden_text("llama-q8_0.json");
}

#[test]
fn a_seed_repeats_its_text_and_another_changes_it() {
    let model = root().join("models/stories260K.gguf");
    let text = |seed| {
        let output = run(&model, &["Once upon a time", "40", "1.0", "0.9", seed]);
        ended(&output, &[0], seed);
        output.stdout
    };
    assert_eq!(text("7"), text("7"));
    assert_ne!(text("7"), text("8"));
}

/// The whole nucleus is one token: this must be the greedy text at any temperature.
#[test]
fn a_tiny_top_p_is_greedy() {
    let model = root().join("models/stories260K.gguf");
    let greedy = run(&model, &["Once upon a time", "40", "0"]);
    let narrow = run(&model, &["Once upon a time", "40", "1.0", "0.000001", "3"]);
    ended(&greedy, &[0], "greedy");
    assert_eq!(narrow.stdout, greedy.stdout);
}

#[test]
fn the_context_ends_the_text() {
    let model = root().join("testdata/two-files/qwen3-f16.gguf"); // made for 128 tokens
    ended(&run(&model, &["The fox", "100000", "0"]), &[0], "more tokens than there is room for");
    ended(&run(&model, &[&"fox 狐狸 ".repeat(100), "1"]), &[2], "a prompt that does not fit");
}

#[test]
fn wrong_arguments_are_errors() {
    let model = root().join("models/stories260K.gguf");
    ended(&run(&model, &[]), &[2], "no prompt");
    ended(&run(&model, &["a", "many"]), &[2], "tokens that are no number");
    ended(&run(Path::new("no-such-file.gguf"), &["a"]), &[2], "no file");
    ended(&run(&root().join("two-files/run.rs"), &["a"]), &[2], "not a GGUF file");
}

/// A model that is more than this program knows is refused, and not run as if it were less.
#[test]
fn a_sliding_window_is_an_error() {
    let mut bytes = std::fs::read(root().join("testdata/two-files/llama-q8_0.gguf")).unwrap();
    // Two keys more, of 64 bytes together, so that the tensors stay aligned.
    let mut keys = Vec::new();
    for (key, kind, value) in
        [("llama.attention.sliding_window", 4u32, &[8u8, 0, 0, 0][..]), ("x.pad", 0, &[0])]
    {
        keys.extend((key.len() as u64).to_le_bytes());
        keys.extend(key.as_bytes());
        keys.extend(kind.to_le_bytes());
        keys.extend(value);
    }
    assert_eq!(keys.len(), 64);
    bytes[16] += 2;
    bytes.splice(24..24, keys);
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("two-files-window.gguf");
    std::fs::write(&path, &bytes).unwrap();
    let output = run(&path, &["The", "2", "0"]);
    ended(&output, &[2], "a sliding window");
    assert!(String::from_utf8_lossy(&output.stderr).contains("window 8"));
}

/// Where the tensors begin: every cut before it and after it must be noticed.
#[test]
fn a_truncated_file_is_an_error() {
    let bytes = std::fs::read(root().join("testdata/two-files/llama-q8_0.gguf")).unwrap();
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("two-files-truncated.gguf");
    let early = 0..40;
    let all_over = (40..bytes.len()).step_by(bytes.len() / 60);
    for length in early.chain(all_over).chain([bytes.len() - 33]) {
        std::fs::write(&path, &bytes[..length]).unwrap();
        ended(&run(&path, &["The", "2", "0"]), &[2], &format!("the first {length} bytes"));
    }
}

#[test]
fn a_mutated_file_never_panics() {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("two-files-mutated.gguf");
    for name in ["llama-q8_0.gguf", "qwen3-f16.gguf"] {
        let sound = std::fs::read(root().join("testdata/two-files").join(name)).unwrap();
        let mut random = 1_u64; // an LCG (Knuth's MMIX constants) is enough to choose places
        let mut next = |below: usize| {
            random = random.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (random >> 33) as usize % below
        };
        let mut failed = 0;
        for round in 0..150 {
            let mut bytes = sound.clone();
            // Mostly in the header, the metadata and the tensor table, where the lies are.
            let reach = if round % 10 == 0 { bytes.len() } else { 9000 };
            for _ in 0..=next(3) {
                let at = if round % 3 == 0 { next(1200) } else { next(reach) };
                bytes[at] = [0, 1, 0x7f, 0x80, 0xff, next(256) as u8][next(6)];
            }
            std::fs::write(&path, &bytes).unwrap();
            let output = run(&path, &["The fox 7's", "2", "0"]);
            ended(&output, &[0, 2], &format!("{name}, mutation {round}"));
            failed += usize::from(output.status.code() == Some(2));
        }
        assert!(failed > 10, "the mutations of {name} do not reach what is checked: {failed}");
    }
}
