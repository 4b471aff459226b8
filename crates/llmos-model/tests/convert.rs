//! Conversions there and back; that other programs load the files is checked from outside.

// The lint spares test functions, but not what they call.
#![allow(clippy::unwrap_used)]

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use llmos_model::convert::{Conversion, Converted, FileType, OutputVocabulary, convert};
use llmos_model::{Error, GgufVocabulary, ModelFiles, Vocabulary};

fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(path)
}

/// A folder that goes with its value.
struct TempDir(PathBuf);

impl TempDir {
    fn new(name: &str) -> TempDir {
        let path = std::env::temp_dir().join(format!("llmos-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        TempDir(path)
    }

    fn names(&self) -> Vec<String> {
        let list = std::fs::read_dir(&self.0).unwrap();
        list.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn run(
    input: &Path,
    output: &Path,
    file_type: FileType,
    vocabulary: OutputVocabulary,
    threads: usize,
) -> Result<Converted, Error> {
    let files = ModelFiles::open(input)?;
    let conversion = Conversion { file_type, vocabulary, threads: threads.try_into().unwrap() };
    let mut last = (0, 0);
    let converted = convert(&files, output, &conversion, &mut |done, total| {
        assert!(done > last.0 && done <= total);
        last = (done, total);
        ControlFlow::Continue(())
    })?;
    assert_eq!(last, (converted.tensor_bytes, converted.tensor_bytes));
    Ok(converted)
}

fn to(input: &Path, output: &Path, file_type: FileType) -> Converted {
    run(input, output, file_type, OutputVocabulary::AsInput, 2).unwrap()
}

fn architectures() -> Vec<String> {
    let list = std::fs::read_dir(repository("testdata/architectures")).unwrap();
    let mut names: Vec<String> = list
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.join("model.safetensors").exists())
        .map(|path| path.file_name().unwrap().to_str().unwrap().to_owned())
        .collect();
    names.sort();
    names
}

#[test]
fn there_and_back_loses_nothing() {
    for name in architectures() {
        let scratch = TempDir::new(&format!("back-{name}"));
        let folder = repository("testdata/architectures").join(&name);
        let (gguf, back) = (scratch.0.join("model.gguf"), scratch.0.join(&name));
        let again = scratch.0.join("again/model.gguf");
        std::fs::create_dir(scratch.0.join("again")).unwrap();
        to(&folder, &gguf, FileType::F32);
        to(&gguf, &back, FileType::F32);
        to(&back, &again, FileType::F32);
        assert!(std::fs::read(&gguf).unwrap() == std::fs::read(&again).unwrap(), "{name}");

        let first = ModelFiles::open(&folder).unwrap();
        let last = ModelFiles::open(&back).unwrap();
        assert_eq!(first.tensors().len(), last.tensors().len());
        for tensor in first.tensors() {
            let (a, b) = (first.tensor(&tensor.name), last.tensor(&tensor.name));
            let (a, b) = (a.unwrap().unwrap(), b.unwrap().unwrap());
            assert_eq!((a.shape, a.bytes), (b.shape, b.bytes), "{name} {}", tensor.name);
        }
        let (mut first, mut last) =
            (first.config().unwrap().clone(), last.config().unwrap().clone());
        // Llama 3's frequencies go through a tensor of f32 divisors.
        for (a, b) in first.ropes.iter_mut().zip(&mut last.ropes) {
            let pairs = a.inverse_frequencies.iter().zip(&b.inverse_frequencies);
            assert!(pairs.clone().all(|(a, b)| (a / b - 1.0).abs() < 1e-6), "{name}");
            b.inverse_frequencies = a.inverse_frequencies.clone();
        }
        first.name = None;
        last.name = None;
        assert_eq!(first, last, "{name}");
    }
}

#[test]
fn pairs_change_places_for_llama() {
    let scratch = TempDir::new("pairs");
    let gguf = scratch.0.join("model.gguf");
    let folder = repository("testdata/architectures/llama");
    to(&folder, &gguf, FileType::F32);
    let (halves, adjacent) = (ModelFiles::open(&folder).unwrap(), ModelFiles::open(&gguf).unwrap());
    // Heads of 8: row 1 of a head is, in halves, its row 4; row 2 is its row 1.
    let row = |files: &ModelFiles, row: usize| {
        files.rows("blk.0.attn_k.weight", row..row + 1).unwrap().unwrap().bytes.into_owned()
    };
    assert_eq!(row(&adjacent, 8 + 1), row(&halves, 8 + 4));
    assert_eq!(row(&adjacent, 8 + 2), row(&halves, 8 + 1));
    assert_eq!(row(&adjacent, 15), row(&halves, 15));
}

#[test]
fn bytes_do_not_depend_on_threads() {
    let input = repository("models/stories260K.gguf");
    let scratch = TempDir::new("threads");
    for file_type in FileType::ALL {
        let outputs = [1, 3].map(|threads| {
            let path = scratch.0.join(format!("{}-{threads}.gguf", file_type.name()));
            run(&input, &path, file_type, OutputVocabulary::AsInput, threads).unwrap();
            std::fs::read(path).unwrap()
        });
        assert!(outputs[0] == outputs[1], "{}", file_type.name());
        let path = scratch.0.join(format!("{}-1.gguf", file_type.name()));
        let files = ModelFiles::open(&path).unwrap();
        assert_eq!(files.type_name(), file_type.name());
        files.config().unwrap();
        let (a, b) = (ModelFiles::open(&input).unwrap().vocabulary(), files.vocabulary());
        assert_eq!(a.unwrap(), b.unwrap());
    }
}

#[test]
fn a_conversion_that_is_ended_leaves_nothing() {
    let scratch = TempDir::new("ended");
    let files = ModelFiles::open(&repository("models/stories260K.gguf")).unwrap();
    let (file_type, vocabulary) = (FileType::F16, OutputVocabulary::AsInput);
    let conversion = Conversion { file_type, vocabulary, threads: 2.try_into().unwrap() };
    let mut told = 0;
    let ended = convert(&files, &scratch.0.join("out.gguf"), &conversion, &mut |_, _| {
        told += 1;
        if told < 3 { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    });
    assert!(matches!(ended, Err(Error::Cancelled)), "{ended:?}");
    assert_eq!((told, std::fs::read_dir(&scratch.0).unwrap().count()), (3, 0));
}

#[test]
fn the_same_type_passes_through() {
    let scratch = TempDir::new("same");
    let (q4, again) = (scratch.0.join("q4.gguf"), scratch.0.join("again.gguf"));
    to(&repository("models/stories260K.gguf"), &q4, FileType::Q4_0);
    let converted = to(&q4, &again, FileType::Q4_0);
    assert_eq!(converted.warnings, Vec::<String>::new());
    assert!(std::fs::read(&q4).unwrap() == std::fs::read(&again).unwrap());

    let converted = to(&q4, &scratch.0.join("q8.gguf"), FileType::Q8_0);
    assert!(converted.warnings[0].contains("quantised already"), "{:?}", converted.warnings);
}

#[test]
fn a_vocabulary_fills_the_embedding() {
    let scratch = TempDir::new("vocabulary");
    let path = scratch.0.join("model.gguf");
    let folder = repository("testdata/architectures/qwen3");
    let rows = ModelFiles::open(&folder).unwrap().config().unwrap().vocab_size;
    let vocabulary = GgufVocabulary {
        model: "gpt2".to_owned(),
        pre: Some("qwen2".to_owned()),
        tokens: (0..90).map(|i| format!("t{i}")).collect(),
        merges: Some(vec!["a b".to_owned()]),
        bos: Some(1),
        add_bos: Some(false),
        precompiled_charsmap: Some(vec![0, 200]),
        chat_template: Some("{{ messages }}".to_owned()),
        ..GgufVocabulary::default()
    };
    let given = OutputVocabulary::Gguf(Box::new(vocabulary.clone()));
    run(&folder, &path, FileType::F16, given, 1).unwrap();
    let files = ModelFiles::open(&path).unwrap();
    assert_eq!(files.type_name(), "f16");
    let Vocabulary::Gguf(read) = files.vocabulary().unwrap() else { panic!("no vocabulary") };
    assert_eq!(read.tokens.len(), rows);
    assert_eq!((read.tokens[89].as_str(), read.tokens[95].as_str()), ("t89", "[PAD95]"));
    assert_eq!(read.token_types.as_ref().unwrap()[89..91], [1, 5]);
    let expected = GgufVocabulary {
        tokens: read.tokens.clone(),
        token_types: read.token_types.clone(),
        model_name: Some("qwen3".to_owned()),
        ..vocabulary.clone()
    };
    assert_eq!(*read, expected);

    // Of what llama.cpp would read otherwise, it is said how.
    let warned = |model: &str, eos, tokens: Vec<String>| {
        let path = scratch.0.join("warned.gguf");
        let (model, token_types) = (model.to_owned(), None);
        let given = GgufVocabulary { model, eos, tokens, token_types, ..vocabulary.clone() };
        let given = OutputVocabulary::Gguf(Box::new(given));
        run(&folder, &path, FileType::F32, given, 1).unwrap().warnings
    };
    assert_eq!(warned("gpt2", Some(0), vocabulary.tokens.clone()), Vec::<String>::new());
    for (model, token) in [("gpt2", "11, \"t11\""), ("llama", "2, \"t2\""), ("t5", "1, \"t1\"")] {
        let said = warned(model, None, vocabulary.tokens.clone());
        assert!(said.len() == 1 && said[0].contains(token), "{model}: {said:?}");
    }
    assert!(warned("rwkv", None, vec!["a".to_owned()])[0].contains("lacks"));
    assert!(warned("rwkv", None, vec![r"\xff".to_owned()]).is_empty());

    let too_many =
        GgufVocabulary { tokens: vec!["x".to_owned(); rows + 1], ..GgufVocabulary::default() };
    let given = OutputVocabulary::Gguf(Box::new(too_many));
    assert!(matches!(run(&folder, &path, FileType::F16, given, 1), Err(Error::Request { .. })));
}

#[test]
fn a_folder_gets_its_tokenizer() {
    let scratch = TempDir::new("tokenizer");
    let path = scratch.0.join("model");
    let vocabulary = OutputVocabulary::HuggingFace {
        tokenizer_json: "{}".to_owned(),
        tokenizer_config: Some("{\"a\":1}".to_owned()),
        chat_template: None,
        generation_config: Some("{\"eos_token_id\":[2,3]}".to_owned()),
        bos: Some(1),
        eos: Some(2),
        pad: None,
    };
    run(&repository("models/stories260K.gguf"), &path, FileType::BF16, vocabulary, 2).unwrap();
    let files = ModelFiles::open(&path).unwrap();
    assert_eq!(files.type_name(), "bf16");
    let Vocabulary::HuggingFace {
        tokenizer_json, tokenizer_config, generation_config, config, ..
    } = files.vocabulary().unwrap()
    else {
        panic!("no tokenizer")
    };
    assert_eq!(generation_config.as_deref(), Some("{\"eos_token_id\":[2,3]}"));
    assert_eq!((tokenizer_json.as_str(), tokenizer_config.as_deref()), ("{}", Some("{\"a\":1}")));
    let config: serde_json::Value = serde_json::from_str(&config).unwrap();
    assert_eq!(
        (config["eos_token_id"].as_u64(), config["model_type"].as_str()),
        (Some(2), Some("llama"))
    );
    assert!(config["pad_token_id"].is_null());
}

#[test]
fn nothing_is_left_behind_on_an_error() {
    let scratch = TempDir::new("errors");
    let input = repository("models/stories260K.gguf");
    let go =
        |output: &Path, file_type| run(&input, output, file_type, OutputVocabulary::AsInput, 1);

    let folder = scratch.0.join("folder");
    assert!(matches!(go(&folder, FileType::Q4_K_M), Err(Error::Request { .. })));
    assert_eq!(scratch.names(), Vec::<String>::new());

    assert!(matches!(go(&scratch.0.join("no/such/x.gguf"), FileType::F32), Err(Error::Io { .. })));
    assert_eq!(scratch.names(), Vec::<String>::new());

    // A folder in the file's place lets everything be written and the last step fail.
    let taken = scratch.0.join("taken.gguf");
    std::fs::create_dir(&taken).unwrap();
    std::fs::write(taken.join("x"), "x").unwrap();
    assert!(matches!(go(&taken, FileType::F32), Err(Error::Io { .. })));
    assert_eq!(scratch.names(), ["taken.gguf"]);

    // A folder that exists is not written into.
    assert!(matches!(go(&scratch.0, FileType::F32), Err(Error::Request { .. })));
}
