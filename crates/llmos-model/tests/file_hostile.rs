//! Damaged and lying model files: an error or a model, never a panic, never memory without bound.

// The lint spares test functions, but not what they call.
#![allow(clippy::unwrap_used)]

mod damage;

use std::path::{Path, PathBuf};

use damage::Random;
use llmos_model::file::{GgufHeader, read_safetensors};
use llmos_model::{Error, ModelFiles};

fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(path)
}

/// A file that goes with its value.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Scratch {
        Scratch(std::env::temp_dir().join(format!("llmos-{}-{name}", std::process::id())))
    }

    fn write(&self, bytes: &[u8]) -> &Path {
        std::fs::write(&self.0, bytes).unwrap();
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Reads all that an opened model gives.
fn exercise(path: &Path) -> Result<(), Error> {
    let files = ModelFiles::open(path)?;
    for tensor in files.tensors() {
        let tensor = files.tensor(&tensor.name)?.unwrap();
        tensor.to_f32()?;
    }
    files.vocabulary()?;
    files.metadata();
    files.type_name();
    files.config()?;
    Ok(())
}

#[test]
fn a_gguf_cut_anywhere_is_an_error() {
    let whole = std::fs::read(repository("testdata/split/whole.gguf")).unwrap();
    let scratch = Scratch::new("cut.gguf");
    exercise(scratch.write(&whole)).unwrap();
    // The last tensor ends at the end but for padding.
    let data_end = whole.len() - whole.iter().rev().take_while(|&&byte| byte == 0).count();
    for len in 0..data_end {
        assert!(GgufHeader::read(&whole[..len], Path::new("cut")).is_err(), "{len} bytes");
    }
    for len in (0..data_end).step_by(61) {
        assert!(exercise(scratch.write(&whole[..len])).is_err(), "{len} bytes");
    }
}

#[test]
fn mutated_gguf_files_never_panic() {
    let whole = std::fs::read(repository("testdata/split/whole.gguf")).unwrap();
    let scratch = Scratch::new("mutated.gguf");
    let mut random = Random::new(1);
    let (mut failed, mut opened) = (0, 0);
    for i in 0..20_000 {
        let mut bytes = whole.clone();
        random.damage(&mut bytes);
        // Every one as a header, one in twenty as a file.
        let header = GgufHeader::read(&bytes, Path::new("mutated"));
        if i % 20 == 0 {
            match exercise(scratch.write(&bytes)) {
                Ok(()) => opened += 1,
                Err(error) => {
                    assert!(!error.to_string().is_empty());
                    failed += 1;
                }
            }
        } else if header.is_err() {
            failed += 1;
        }
    }
    assert!(failed > 1000 && opened > 10, "{failed} failed, {opened} opened");
}

#[test]
fn mutated_folders_never_panic() {
    let source = repository("testdata/architectures/qwen3moe");
    let config = std::fs::read(source.join("config.json")).unwrap();
    let weights = std::fs::read(source.join("model.safetensors")).unwrap();
    let scratch = Scratch::new("mutated-folder");
    std::fs::create_dir_all(&scratch.0).unwrap();
    std::fs::write(scratch.0.join("model.safetensors"), &weights).unwrap();
    let mut random = Random::new(2);
    for _ in 0..400 {
        let mut bytes = config.clone();
        random.damage(&mut bytes);
        std::fs::write(scratch.0.join("config.json"), &bytes).unwrap();
        let _ = exercise(&scratch.0);
    }
    std::fs::write(scratch.0.join("config.json"), &config).unwrap();
    exercise(&scratch.0).unwrap();
    for i in 0..2000 {
        let mut bytes = weights.clone();
        random.damage(&mut bytes);
        // Every one as a header, every tenth as a file.
        let _ = read_safetensors(&bytes, Path::new("mutated"));
        if i % 10 == 0 {
            std::fs::write(scratch.0.join("model.safetensors"), &bytes).unwrap();
            let _ = exercise(&scratch.0);
        }
    }
    for len in (0..weights.len()).step_by(97) {
        assert!(read_safetensors(&weights[..len], Path::new("cut")).is_err(), "{len} bytes");
    }
}

#[test]
fn numbers_of_a_config_that_lie() {
    let source = repository("testdata/architectures/gemma3");
    let text = std::fs::read_to_string(source.join("config.json")).unwrap();
    let config: serde_json::Value = serde_json::from_str(&text).unwrap();
    let scratch = Scratch::new("lying-folder");
    std::fs::create_dir_all(&scratch.0).unwrap();
    std::fs::copy(source.join("model.safetensors"), scratch.0.join("model.safetensors")).unwrap();
    let lies: Vec<serde_json::Value> = [
        "0",
        "-1",
        "1e30",
        "18446744073709551615",
        "4611686018427387904",
        "\"8\"",
        "null",
        "[]",
        "{}",
        "true",
        "1e-320",
        "2147483648",
    ]
    .map(|lie| serde_json::from_str(lie).unwrap())
    .to_vec();
    for key in config.as_object().unwrap().keys() {
        for lie in &lies {
            let mut lying = config.clone();
            lying[key] = lie.clone();
            std::fs::write(scratch.0.join("config.json"), lying.to_string()).unwrap();
            let _ = exercise(&scratch.0);
        }
    }
    for key in ["hidden_size", "num_hidden_layers", "num_attention_heads", "head_dim", "vocab_size"]
    {
        let mut lying = config.clone();
        lying[key] = 4_611_686_018_427_387_904u64.into();
        std::fs::write(scratch.0.join("config.json"), lying.to_string()).unwrap();
        assert!(exercise(&scratch.0).is_err(), "{key}");
    }
}

#[test]
fn mutated_llama2c_files_never_panic() {
    // Width 8, inner width 12, 1 layer, 2 heads, 1 key-value head, 5 tokens, context 4.
    let header: Vec<u8> = [8i32, 12, 1, 2, 1, 5, 4].iter().flat_map(|n| n.to_le_bytes()).collect();
    let floats = 5 * 8 + 8 + 64 + 32 + 32 + 64 + 8 + 3 * 96 + 8 + 2 * 4 * 2;
    let mut whole = header.clone();
    whole.extend((0..floats).flat_map(|i| (i as f32).to_le_bytes()));
    let scratch = Scratch::new("mutated.bin");
    exercise(scratch.write(&whole)).unwrap();
    for len in (0..whole.len()).step_by(13) {
        assert!(exercise(scratch.write(&whole[..len])).is_err(), "{len} bytes");
    }
    let mut random = Random::new(3);
    for _ in 0..400 {
        let mut bytes = whole.clone();
        random.damage(&mut bytes);
        let _ = exercise(scratch.write(&bytes));
    }
    for lie in [i32::MAX, i32::MIN, -1, 0] {
        for field in 0..7 {
            let mut bytes = whole.clone();
            bytes[4 * field..4 * field + 4].copy_from_slice(&lie.to_le_bytes());
            assert!(exercise(scratch.write(&bytes)).is_err(), "{lie} in field {field}");
        }
    }
}

/// A GGUF header of these parts.
fn gguf(version: u32, n_tensor: u64, n_entry: u64, rest: &[u8]) -> Vec<u8> {
    let mut bytes = b"GGUF".to_vec();
    bytes.extend(version.to_le_bytes());
    bytes.extend(n_tensor.to_le_bytes());
    bytes.extend(n_entry.to_le_bytes());
    bytes.extend(rest);
    bytes
}

fn string(text: &str) -> Vec<u8> {
    let mut bytes = (text.len() as u64).to_le_bytes().to_vec();
    bytes.extend(text.as_bytes());
    bytes
}

/// A tensor's entry; dimensions innermost first.
fn tensor(name: &str, dims: &[u64], kind: u32, offset: u64) -> Vec<u8> {
    let mut bytes = string(name);
    bytes.extend((dims.len() as u32).to_le_bytes());
    bytes.extend(dims.iter().flat_map(|n| n.to_le_bytes()));
    bytes.extend(kind.to_le_bytes());
    bytes.extend(offset.to_le_bytes());
    bytes
}

#[test]
fn what_a_gguf_may_not_say() {
    #[track_caller]
    fn check(bytes: &[u8], expected: &str) {
        let error = GgufHeader::read(bytes, Path::new("x.gguf")).unwrap_err().to_string();
        assert!(error.contains(expected), "{error:?} lacks {expected:?}");
    }
    let huge = u64::MAX;
    let pad = vec![0u8; 4096];
    check(&gguf(1, 0, 0, &[]), "version 1");
    check(&gguf(3u32.swap_bytes(), 0, 0, &[]), "big-endian");
    check(&gguf(3, 0, huge, &pad), "metadata count");
    check(&gguf(3, huge, 0, &pad), "tensor count");
    check(&gguf(3, 1 << 40, 0, &pad), "tensor count");

    // A key that is longer than the file, an array that is, and one that is of nothing known.
    check(&gguf(3, 0, 1, &huge.to_le_bytes().repeat(3)), "metadata key");
    let array = |element: u32, n: u64| {
        let mut bytes = string("list");
        bytes.extend(9u32.to_le_bytes());
        bytes.extend(element.to_le_bytes());
        bytes.extend(n.to_le_bytes());
        bytes.extend(&pad);
        bytes
    };
    for element in 0..=12 {
        check(&gguf(3, 0, 1, &array(element, huge / 2)), "list: expected at most");
        check(&gguf(3, 0, 1, &array(element, 5000)), "list: expected at most");
    }
    check(&gguf(3, 0, 1, &array(13, 1)), "element type");

    // Arrays in arrays, to the end of the file.
    let mut deep = string("deep");
    deep.extend(9u32.to_le_bytes());
    for _ in 0..100_000 {
        deep.extend(9u32.to_le_bytes());
        deep.extend(1u64.to_le_bytes());
    }
    check(&gguf(3, 0, 1, &deep), "nested");

    let entry = |key: &str, value: u32| {
        let mut bytes = string(key);
        bytes.extend(4u32.to_le_bytes());
        bytes.extend(value.to_le_bytes());
        bytes
    };
    check(&gguf(3, 0, 2, &[entry("a", 1), entry("a", 2), pad.clone()].concat()), "twice");
    for alignment in [0, 3, 48, u32::MAX] {
        let bytes = gguf(3, 0, 1, &[entry("general.alignment", alignment), pad.clone()].concat());
        check(&bytes, "general.alignment");
    }

    let one = |entry: Vec<u8>| gguf(3, 1, 0, &[entry, pad.clone()].concat());
    check(&one(tensor("t", &[1 << 32, 1 << 32], 0, 0)), "fits memory");
    check(&one(tensor("t", &[huge], 0, 0)), "fits memory");
    check(&one(tensor("t", &[0, 4], 0, 0)), "fits memory");
    check(&one(tensor("t", &[33], 8, 0)), "whole q8_0 blocks");
    check(&one(tensor("t", &[2048], 0, 0)), "truncated");
    check(&one(tensor("t", &[4], 0, huge - 31)), "truncated");
    check(&one(tensor("t", &[64], 0, huge - 31)), "offset");
    check(&one(tensor("t", &[4], 0, 1 << 62)), "truncated");
    check(&one(tensor("t", &[4], 0, 16)), "multiple of 32");
    check(&one(tensor("t", &[1; 5], 0, 0)), "dimensions");
    check(&one(tensor("t", &[], 0, 0)), "dimensions");
    check(&one(tensor("t", &[256], 16, 0)), "IQ2_XXS");
    check(&one(tensor("t", &[256], 999, 0)), "type number 999");
    let two = |a: Vec<u8>, b: Vec<u8>| gguf(3, 2, 0, &[a, b, pad.clone()].concat());
    check(&two(tensor("t", &[4], 0, 0), tensor("t", &[4], 0, 32)), "twice");
    check(&two(tensor("t", &[16], 0, 0), tensor("u", &[4], 0, 32)), "shared bytes");
}

#[test]
fn what_is_no_model() {
    let scratch = Scratch::new("no-model.bin");
    let check = |bytes: &[u8], expected: &str| {
        let error = ModelFiles::open(scratch.write(bytes)).unwrap_err().to_string();
        assert!(error.contains(expected), "{error:?} lacks {expected:?}");
    };
    check(b"", "empty");
    check(b"PK\x03\x04....", "pickle");
    check(b"not a model at all, only text", "header");
    assert!(matches!(ModelFiles::open(Path::new("no/such/file")), Err(Error::Io { .. })));

    // A vocabulary without weights opens, and says what it lacks.
    let mut entries = string("general.architecture");
    entries.extend(8u32.to_le_bytes());
    entries.extend(string("llama"));
    entries.extend(string("tokenizer.ggml.model"));
    entries.extend(8u32.to_le_bytes());
    entries.extend(string("none"));
    let files = ModelFiles::open(scratch.write(&gguf(3, 0, 2, &entries))).unwrap();
    assert!(matches!(files.config(), Err(Error::NoModel(_))));
    assert_eq!(files.metadata().len(), 2);

    // Scales that are not numbers are numbers' business: the file opens.
    let mut rest = tensor("t.weight", &[32], 8, 0);
    rest.resize((rest.len() + 24).next_multiple_of(32) - 24, 0);
    rest.extend([0x00, 0x7e]);
    rest.extend([1; 32]);
    let files = ModelFiles::open(scratch.write(&gguf(2, 1, 0, &rest))).unwrap();
    assert_eq!(files.format(), "GGUF v2");
    let values = files.tensor("t.weight").unwrap().unwrap().to_f32().unwrap();
    assert!(values.iter().all(|value| value.is_nan()));
}
