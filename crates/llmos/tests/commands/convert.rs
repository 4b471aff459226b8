//! `convert`: what is written reads back as the same model.

use crate::program::{Folder, llmos, repository, stories};

fn nats(model: &str) -> f64 {
    let ids = "1 403 407 261 378 432 383 286 261 376 298 315 421";
    let report = llmos(&["score", model, "--ids", ids, "--json", "--cache-type", "f32"]).json();
    report["nats_per_token"].as_f64().unwrap()
}

#[test]
fn every_type_is_written_and_read() {
    let home = Folder::new();
    let original = nats(&stories());
    for (kind, tolerance) in [
        ("f32", 1e-6),
        ("f16", 1e-3),
        ("bf16", 2e-2),
        ("q8_0", 2e-2),
        ("q6_k", 2e-2),
        ("q5_k_m", 2e-2),
        ("q4_k_m", 2e-2),
        ("q4_0", 0.5),
    ] {
        let out = home.join(&format!("{kind}.gguf"));
        assert_eq!(llmos(&["convert", &stories(), &out, "--type", kind]).code, Some(0));
        let written = nats(&out);
        assert!((written - original).abs() < tolerance, "{kind}: {written} {original}");
    }
    let left: Vec<_> = std::fs::read_dir(home.path()).unwrap().collect();
    assert_eq!(left.len(), 8, "{left:?}");
    // Rows of 64 and 172 values.
    let out = home.join("again.gguf");
    let said = llmos(&["convert", &stories(), &out, "--type", "q4_k_m"]).stderr;
    assert!(said.contains("36 of 47 tensors are q8_0 or f16"), "{said}");
}

#[test]
fn a_folder_and_back_is_the_same_model() {
    let home = Folder::new();
    let (folder, back) = (home.join("folder"), home.join("back.gguf"));
    assert_eq!(llmos(&["convert", &stories(), &folder]).code, Some(0));
    assert_eq!(llmos(&["convert", &folder, &back, "--type", "f32"]).code, Some(0));
    let run = |model: &str| {
        llmos(&["run", model, "-p", "Once upon a time", "-n", "60", "--temp", "0"]).text()
    };
    let original = run(&stories());
    assert_eq!(run(&folder), original);
    assert_eq!(run(&back), original);
}

#[test]
fn a_hugging_face_folder_becomes_a_gguf_with_its_tokenizer() {
    let home = Folder::new();
    for name in ["llama", "qwen3"] {
        let folder = repository("testdata/architectures").join(name).display().to_string();
        let out = home.join(&format!("{name}.gguf"));
        assert_eq!(llmos(&["convert", &folder, &out, "--type", "f32"]).code, Some(0), "{name}");
        let run = |model: &str| {
            llmos(&["run", model, "-p", "Hello world", "-n", "16", "--temp", "0"]).text()
        };
        assert_eq!(run(&out), run(&folder), "{name}");
    }
}

#[test]
fn a_folder_with_a_sentencepiece_model_keeps_its_tokenizer() {
    let home = Folder::new();
    let (folder, out) = (home.path().join("folder"), home.join("out"));
    std::fs::create_dir(&folder).unwrap();
    for name in ["config.json", "model.safetensors", "tokenizer.model"] {
        let source = repository("testdata/architectures/llama").join(name);
        std::fs::copy(source, folder.join(name)).unwrap();
    }
    let folder = folder.display().to_string();
    assert_eq!(llmos(&["convert", &folder, &out]).code, Some(0));
    let run =
        |model: &str| llmos(&["run", model, "-p", "Hello world", "-n", "16", "--temp", "0"]).text();
    assert_eq!(run(&out), run(&folder));
}

#[test]
fn a_folder_says_how_a_text_begins_and_a_chat_looks() {
    let home = Folder::new();
    let config = |folder: &str| -> serde_json::Value {
        let path = std::path::Path::new(folder).join("tokenizer_config.json");
        serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
    };
    let folder = home.join("stories");
    assert_eq!(llmos(&["convert", &stories(), &folder]).code, Some(0));
    assert_eq!(config(&folder)["add_bos_token"], true);

    let qwen3 = repository("testdata/architectures/qwen3").display().to_string();
    let (gguf, folder) = (home.join("qwen3.gguf"), home.join("qwen3"));
    assert_eq!(llmos(&["convert", &qwen3, &gguf]).code, Some(0));
    assert_eq!(llmos(&["convert", &gguf, &folder]).code, Some(0));
    let written = config(&folder);
    assert!(written["chat_template"].is_string());
    assert_eq!(written["chat_template"], config(&qwen3)["chat_template"]);
    assert_eq!(written["add_bos_token"], false);
}

#[test]
fn a_folder_says_what_ends_an_answer() {
    let home = Folder::new();
    let read = |folder: &str, name: &str| -> serde_json::Value {
        let path = std::path::Path::new(folder).join(name);
        serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
    };
    // The assistant's turns end by <|im_end|>, which is not its vocabulary's end.
    let (assistant, folder) =
        (repository("models/assistant.gguf").display().to_string(), home.join("folder"));
    assert_eq!(llmos(&["convert", &assistant, &folder, "--type", "bf16"]).code, Some(0));
    assert_eq!(read(&folder, "config.json")["eos_token_id"], 0);
    let ends = read(&folder, "generation_config.json")["eos_token_id"].clone();
    assert!(ends.as_array().unwrap().contains(&2.into()), "{ends}");
    // It comes along into another folder, and is read back.
    let again = home.join("again");
    assert_eq!(llmos(&["convert", &folder, &again, "--type", "f16"]).code, Some(0));
    assert_eq!(read(&again, "generation_config.json")["eos_token_id"], ends);
}

#[test]
fn nothing_is_replaced_without_being_asked() {
    let home = Folder::new();
    let out = home.join("out.gguf");
    std::fs::write(&out, "mine").unwrap();
    llmos(&["convert", &stories(), &out]).is_error("exists");
    assert_eq!(std::fs::read(&out).unwrap(), b"mine");
    let empty = (home.join("empty.gguf"), home.join("empty"));
    std::fs::write(&empty.0, "").unwrap();
    std::fs::create_dir(&empty.1).unwrap();
    for empty in [&empty.0, &empty.1] {
        assert_eq!(llmos(&["convert", &stories(), empty]).code, Some(0), "{empty}");
    }
    assert_eq!(llmos(&["convert", &stories(), &out, "--force"]).code, Some(0));
    llmos(&["convert", &out, &out, "--force"]).is_error("is the input");
    // A folder is replaced if it is a model's, and only once there is another.
    let folder = home.join("folder");
    assert_eq!(llmos(&["convert", &stories(), &folder]).code, Some(0));
    llmos(&["convert", &stories(), &folder]).is_error("exists");
    let notes = home.path().join("folder/notes");
    std::fs::write(&notes, "of the model that was here").unwrap();
    llmos(&["convert", &stories(), &folder, "--force", "--type", "q4_0"]).is_error("for a folder");
    assert!(notes.exists());
    assert_eq!(llmos(&["convert", &stories(), &folder, "--force"]).code, Some(0));
    assert!(!notes.exists());
    let mine = home.path().join("mine");
    std::fs::create_dir(&mine).unwrap();
    std::fs::write(mine.join("letter"), "mine").unwrap();
    let mine = mine.display().to_string();
    llmos(&["convert", &stories(), &mine, "--force"]).is_error("without a model");
    // A run that has ended is a model, and more than that.
    std::fs::write(home.join("folder/recipe.toml"), "").unwrap();
    llmos(&["convert", &stories(), &folder, "--force"]).is_error("is a run");
    assert!(home.path().join("folder/config.json").exists());
    let names: std::collections::BTreeSet<_> =
        std::fs::read_dir(home.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(names.iter().all(|name| !name.as_encoded_bytes().starts_with(b".")), "{names:?}");
    llmos(&["convert", &stories(), &home.join("no/such/x.gguf")]).is_error("no/such");
    assert_eq!(llmos(&["convert", &stories(), &out, "--type", "q3"]).code, Some(2));
}

#[cfg(unix)]
#[test]
fn a_full_disk_leaves_nothing() {
    let home = Folder::new();
    let out = home.join("out.gguf");
    // A limit on file sizes stands for a full disk: the write in the middle fails.
    let limited = "ulimit -f 100; exec \"$0\" \"$@\"";
    let llmos = env!("CARGO_BIN_EXE_llmos");
    let mut command = std::process::Command::new("sh");
    command
        .args(["-c", limited, llmos, "convert", &stories(), &out])
        .env("LLMOS_HOME", home.path());
    command.stdin(std::process::Stdio::null());
    let output = command.output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{stderr}");
    assert!(stderr.contains("hint:") && !stderr.contains("panicked"), "{stderr}");
    let left: Vec<_> = std::fs::read_dir(home.path()).unwrap().collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn a_llama2c_checkpoint_brings_its_tokenizer_from_beside_it_or_from_a_flag() {
    let home = Folder::new();
    let (bin, tokenizer) = (home.join("stories.bin"), home.join("elsewhere.bin"));
    std::fs::write(&bin, checkpoint()).unwrap();
    std::fs::write(&tokenizer, tokens()).unwrap();
    let run = |model: &str| llmos(&["run", model, "-p", "ab", "-n", "8", "--temp", "0"]);
    run(&bin).is_error("no tokenizer");
    let out = home.join("out.gguf");
    let convert = llmos(&["convert", &bin, &out, "--tokenizer", &tokenizer]);
    assert_eq!(convert.code, Some(0), "{}", convert.stderr);
    let converted = run(&out).text();
    std::fs::rename(&tokenizer, home.join("tokenizer.bin")).unwrap();
    assert_eq!(run(&bin).text(), converted);
}

/// llama2.c's format (its `export.py`, version 0): seven counts, then weights in f32. The numbers
/// are a wave; a shape that is read wrongly gives another text.
fn checkpoint() -> Vec<u8> {
    let (dim, hidden, layers, heads, vocab, context) = (16, 24, 2, 2, VOCAB, 32);
    let header = [dim, hidden, layers, heads, heads, vocab, context];
    let mut bytes: Vec<u8> = header.iter().flat_map(|&n| (n as i32).to_le_bytes()).collect();
    let layer = 2 * dim + 4 * dim * dim + 3 * dim * hidden;
    let frequencies = 2 * context * (dim / heads / 2);
    let values = vocab * dim + layers * layer + dim + frequencies;
    bytes.extend((0..values).flat_map(|i| ((i as f32 * 0.7).sin() * 0.3).to_le_bytes()));
    bytes
}

const VOCAB: usize = 259 + 4;

/// llama2.c's tokenizer file: the longest length, then a score, a length and the bytes of each.
fn tokens() -> Vec<u8> {
    let mut texts: Vec<String> = vec!["<unk>".into(), "<s>".into(), "</s>".into()];
    texts.extend((0..=255).map(|byte| format!("<0x{byte:02X}>")));
    texts.extend([" ", "a", "b", "c"].map(String::from));
    assert_eq!(texts.len(), VOCAB);
    let mut bytes = 6i32.to_le_bytes().to_vec();
    for (id, text) in texts.iter().enumerate() {
        bytes.extend((-(id as f32)).to_le_bytes());
        bytes.extend((text.len() as i32).to_le_bytes());
        bytes.extend(text.as_bytes());
    }
    bytes
}
