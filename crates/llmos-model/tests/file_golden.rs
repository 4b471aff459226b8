//! Files that others made, opened: transformers' folders, the gguf package's splits, llama2.c.

// The lint spares test functions, but not what they call.
#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};

use llmos_model::config::{Mlp, Pairing, QkNorm};
use llmos_model::{Config, Error, ModelFiles, Vocabulary};
use serde_json::Value as Json;

fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(path)
}

fn folder(name: &str) -> PathBuf {
    repository("testdata/architectures").join(name)
}

fn open(name: &str) -> ModelFiles {
    ModelFiles::open(&folder(name)).unwrap()
}

fn config(name: &str) -> Config {
    open(name).config().unwrap().clone()
}

fn folders() -> Vec<PathBuf> {
    let list = std::fs::read_dir(repository("testdata/architectures")).unwrap();
    let mut folders: Vec<_> = list.map(|entry| entry.unwrap().path()).collect();
    folders.retain(|path| path.join("config.json").exists());
    folders.sort();
    folders
}

/// A safetensors file read in the simplest way: name -> bytes.
fn safetensors(path: &Path) -> std::collections::HashMap<String, Vec<u8>> {
    let bytes = std::fs::read(path).unwrap();
    let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let header: Json = serde_json::from_slice(&bytes[8..8 + length]).unwrap();
    let data = &bytes[8 + length..];
    let tensors = header.as_object().unwrap().iter().filter(|(name, _)| *name != "__metadata__");
    tensors
        .map(|(name, entry)| {
            let at = |i: usize| entry["data_offsets"][i].as_u64().unwrap() as usize;
            (name.clone(), data[at(0)..at(1)].to_vec())
        })
        .collect()
}

#[test]
fn every_folder_opens() {
    let folders = folders();
    for path in &folders {
        let files = ModelFiles::open(path).unwrap();
        assert_eq!(files.format(), "safetensors");
        assert_eq!(files.type_name(), "f32");
        let config = files.config().unwrap_or_else(|error| panic!("{error}"));
        let stated: Json =
            serde_json::from_slice(&std::fs::read(path.join("config.json")).unwrap()).unwrap();
        let stated = stated.get("text_config").unwrap_or(&stated);
        let count = |key: &str| stated[key].as_u64().unwrap() as usize;
        assert_eq!(config.d_model, count("hidden_size"));
        assert_eq!(config.layers.len(), count("num_hidden_layers"));
        assert_eq!(config.layers[0].n_head, count("num_attention_heads"));
        let embedding = files.tensor("token_embd.weight").unwrap().unwrap();
        assert_eq!(embedding.shape, [config.vocab_size, config.d_model]);
        assert_eq!(embedding.bytes.len(), 4 * config.vocab_size * config.d_model);
        assert!(matches!(embedding.bytes, std::borrow::Cow::Borrowed(_)));
        // Folded frequencies fall from one.
        for rope in &config.ropes {
            assert_eq!(rope.pairing, Pairing::Halves);
            assert_eq!(rope.inverse_frequencies.len(), rope.n_rot / 2);
            assert!(rope.inverse_frequencies.is_sorted_by(|a, b| a > b));
        }
    }
    assert!(folders.len() >= 18, "{}", folders.len());
}

#[test]
fn both_spellings_of_a_config_mean_the_same() {
    let mut compared = 0;
    for path in folders() {
        let old = path.join("config.v4.json");
        if !old.exists() || !path.join("model.safetensors").exists() {
            continue;
        }
        let copy = tempdir("spelling");
        std::fs::copy(old, copy.0.join("config.json")).unwrap();
        std::fs::copy(path.join("model.safetensors"), copy.0.join("model.safetensors")).unwrap();
        let new = ModelFiles::open(&path).unwrap().config().unwrap().clone();
        let old = ModelFiles::open(&copy.0).unwrap().config().unwrap().clone();
        assert_eq!(new, old, "{}", path.display());
        compared += 1;
    }
    assert!(compared >= 16, "{compared}");
}

#[test]
fn what_makes_each_architecture() {
    let windows = |name: &str| -> Vec<Option<usize>> {
        config(name).layers.iter().map(|layer| layer.window).collect()
    };
    assert_eq!(windows("mistral"), [Some(8), Some(8)]);
    assert_eq!(windows("gemma2"), [Some(8), None, Some(8)]);
    assert_eq!(windows("gemma3"), [Some(8), Some(8), None, Some(8)]);
    assert_eq!(windows("phi3"), [Some(24), Some(24)]);
    assert_eq!(windows("qwen2"), [None, None]);

    let gemma3 = config("gemma3");
    let ropes: Vec<_> = gemma3.layers.iter().map(|layer| layer.rope).collect();
    assert_eq!(ropes, [Some(1), Some(1), Some(0), Some(1)]);
    // Global layers are stretched eightfold, local ones are not.
    assert_eq!(gemma3.ropes[0].inverse_frequencies[0], 0.125);
    assert_eq!(gemma3.ropes[1].inverse_frequencies[0], 1.0);
    assert_eq!(gemma3.embedding_scale, 32f32.sqrt());
    assert_eq!(gemma3.layers[0].attention_scale, 24f32.powf(-0.5));
    assert_eq!(gemma3.layers[0].qk_norm, QkNorm::PerHead);
    assert!(gemma3.layers[0].pre_norm && gemma3.layers[0].post_norm && gemma3.tied_head);

    let gemma2 = config("gemma2");
    assert_eq!(gemma2.layers[0].attention_softcap, Some(4.0));
    assert_eq!(gemma2.logit_softcap, Some(6.0));

    let smollm3 = config("smollm3");
    let ropes: Vec<_> = smollm3.layers.iter().map(|layer| layer.rope).collect();
    assert_eq!(ropes, [Some(0), Some(0), Some(0), None]);

    let olmo2 = config("olmo2");
    assert_eq!(olmo2.layers[0].qk_norm, QkNorm::Full);
    assert!(!olmo2.layers[0].pre_norm && olmo2.layers[0].post_norm);

    let longrope = config("phi3-longrope");
    assert_eq!(longrope.ropes[0].n_rot, 12);
    let long = longrope.ropes[0].long.as_ref().unwrap();
    assert_eq!(long.original_context, 16);
    assert_eq!(long.inverse_frequencies[0], (1.0f64 / f64::from(1.1f32)) as f32);
    // sqrt(1 + ln(128 / 16) / ln(16))
    assert_eq!(longrope.ropes[0].magnitude, 1.75f32.sqrt());

    let bias = config("llama-bias");
    let layer = &bias.layers[0];
    assert!(layer.qkv_bias && layer.output_bias && layer.mlp_bias);
    let qwen2 = config("qwen2");
    let layer = &qwen2.layers[0];
    assert!(layer.qkv_bias && !layer.output_bias && !layer.mlp_bias);

    let experts = |name: &str| -> Vec<Option<(usize, usize, bool)>> {
        let layers = config(name).layers;
        let of = |mlp: &Mlp| match *mlp {
            Mlp::Dense { .. } => None,
            Mlp::Experts { n_expert, n_expert_used, norm_topk, .. } => {
                Some((n_expert, n_expert_used, norm_topk))
            }
        };
        layers.iter().map(|layer| of(&layer.mlp)).collect()
    };
    assert_eq!(experts("mixtral"), [Some((4, 2, true)); 2]);
    assert_eq!(experts("qwen3moe"), [Some((4, 2, true)); 2]);
    assert_eq!(experts("qwen3moe-mixed"), [None, Some((4, 2, false))]);
}

#[test]
fn experts_are_stacked_and_norms_are_whole() {
    let stored = safetensors(&folder("mixtral").join("model.safetensors"));
    let files = open("mixtral");
    let stacked = files.tensor("blk.1.ffn_down_exps.weight").unwrap().unwrap();
    assert_eq!(stacked.shape, [4, 32, 32]);
    let expected: Vec<u8> = (0..4)
        .flat_map(|i| {
            stored[&format!("model.layers.1.block_sparse_moe.experts.{i}.w2.weight")].clone()
        })
        .collect();
    assert_eq!(&stacked.bytes[..], expected);
    let third = files.rows("blk.0.ffn_up_exps.weight", 2..3).unwrap().unwrap();
    assert_eq!(third.shape, [1, 32, 32]);
    assert_eq!(&third.bytes[..], stored["model.layers.0.block_sparse_moe.experts.2.w3.weight"]);
    let rows = files.rows("output.weight", 3..7).unwrap().unwrap();
    assert_eq!(&rows.bytes[..], &stored["lm_head.weight"][3 * 128..7 * 128]);
    assert!(files.rows("output.weight", 3..1000).is_err());
    files.release("output.weight");
    assert_eq!(
        &files.tensor("output.weight").unwrap().unwrap().bytes[..],
        stored["lm_head.weight"]
    );

    let stored = safetensors(&folder("gemma2").join("model.safetensors"));
    let norm = open("gemma2");
    let norm = norm.tensor("blk.0.post_ffw_norm.weight").unwrap().unwrap();
    let offsets = &stored["model.layers.0.post_feedforward_layernorm.weight"];
    let expected: Vec<f32> =
        offsets.as_chunks::<4>().0.iter().map(|&bytes| f32::from_le_bytes(bytes) + 1.0).collect();
    assert_eq!(norm.to_f32().unwrap(), expected);
}

#[test]
fn fused_experts_are_split() {
    // As transformers 5 holds them in memory: gates and ups of all experts in one tensor.
    let source = folder("qwen3moe");
    let mut tensors = safetensors(&source.join("model.safetensors"));
    let mut shapes = std::collections::HashMap::new();
    for layer in 0..2 {
        let take = |tensors: &mut std::collections::HashMap<String, Vec<u8>>, i, part| {
            let name = format!("model.layers.{layer}.mlp.experts.{i}.{part}_proj.weight");
            tensors.remove(&name).unwrap()
        };
        let mut gate_up = Vec::new();
        let mut down = Vec::new();
        for i in 0..4 {
            gate_up.extend(take(&mut tensors, i, "gate"));
            gate_up.extend(take(&mut tensors, i, "up"));
            down.extend(take(&mut tensors, i, "down"));
        }
        let name = |part: &str| format!("model.layers.{layer}.mlp.experts.{part}");
        shapes.insert(name("gate_up_proj"), vec![4, 64, 32]);
        shapes.insert(name("down_proj"), vec![4, 32, 32]);
        tensors.insert(name("gate_up_proj"), gate_up);
        tensors.insert(name("down_proj"), down);
    }
    let whole = open("qwen3moe");
    let copy = tempdir("fused");
    std::fs::copy(source.join("config.json"), copy.0.join("config.json")).unwrap();
    let mut header = serde_json::Map::new();
    let mut data = Vec::new();
    for (name, bytes) in &tensors {
        let shape = shapes.get(name).cloned().unwrap_or_else(|| stored_shape(&source, name));
        let range = [data.len(), data.len() + bytes.len()];
        let entry = serde_json::json!({"dtype": "F32", "shape": shape, "data_offsets": range});
        header.insert(name.clone(), entry);
        data.extend(bytes);
    }
    let header = Json::Object(header).to_string();
    let file = [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &data].concat();
    std::fs::write(copy.0.join("model.safetensors"), file).unwrap();

    let fused = ModelFiles::open(&copy.0).unwrap();
    assert_eq!(fused.config().unwrap(), whole.config().unwrap());
    for tensor in whole.tensors() {
        let (a, b) = (whole.tensor(&tensor.name), fused.tensor(&tensor.name));
        let (a, b) = (a.unwrap().unwrap(), b.unwrap().unwrap());
        assert_eq!((a.shape, a.bytes), (b.shape, b.bytes), "{}", tensor.name);
    }
}

/// The shape of a tensor in a folder's one file.
fn stored_shape(folder: &Path, name: &str) -> Vec<usize> {
    let bytes = std::fs::read(folder.join("model.safetensors")).unwrap();
    let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let header: Json = serde_json::from_slice(&bytes[8..8 + length]).unwrap();
    serde_json::from_value(header[name]["shape"].clone()).unwrap()
}

#[test]
fn shards_are_one_model() {
    let (whole, sharded) = (open("smollm"), open("llama-sharded"));
    assert_eq!(sharded.paths().len(), 2);
    assert_eq!(whole.config().unwrap(), sharded.config().unwrap());
    for tensor in whole.tensors() {
        let theirs = sharded.tensor(&tensor.name).unwrap().unwrap();
        assert_eq!(whole.tensor(&tensor.name).unwrap().unwrap().bytes, theirs.bytes);
    }

    let copy = tempdir("escape");
    std::fs::copy(folder("llama").join("config.json"), copy.0.join("config.json")).unwrap();
    let index = copy.0.join("model.safetensors.index.json");
    for bad in ["../../x.safetensors", "/etc/passwd", "a/b.safetensors", "x.bin"] {
        std::fs::write(&index, format!(r#"{{"weight_map":{{"lm_head.weight":"{bad}"}}}}"#))
            .unwrap();
        assert!(matches!(ModelFiles::open(&copy.0), Err(Error::Format { .. })), "{bad}");
    }
}

#[test]
fn any_part_of_a_split_file_opens_all() {
    let whole = ModelFiles::open(&repository("testdata/split/whole.gguf")).unwrap();
    assert_eq!(whole.format(), "GGUF v3");
    for part in 1..=3 {
        let path = repository(&format!("testdata/split/part-{part:05}-of-00003.gguf"));
        let split = ModelFiles::open(&path).unwrap();
        assert_eq!(split.paths().len(), 3);
        assert_eq!(split.config().unwrap(), whole.config().unwrap());
        assert_eq!(split.tensors().len(), whole.tensors().len());
        for tensor in whole.tensors() {
            let theirs = split.tensor(&tensor.name).unwrap().unwrap();
            assert_eq!(whole.tensor(&tensor.name).unwrap().unwrap().bytes, theirs.bytes);
        }
    }
    let copy = tempdir("part");
    let one = copy.0.join("part-00001-of-00003.gguf");
    std::fs::copy(repository("testdata/split/part-00001-of-00003.gguf"), &one).unwrap();
    let error = ModelFiles::open(&one).unwrap_err();
    assert!(matches!(error, Error::Io { .. }), "{error}");
    assert!(error.to_string().contains("part-00002-of-00003.gguf"), "{error}");
    let renamed = copy.0.join("renamed.gguf");
    std::fs::rename(one, &renamed).unwrap();
    assert!(matches!(ModelFiles::open(&renamed), Err(Error::Format { .. })));
}

#[test]
fn llama2c_is_the_same_model_as_its_gguf() {
    let bin = ModelFiles::open(&repository("testdata/llama2c/stories260K.bin")).unwrap();
    let gguf = ModelFiles::open(&repository("models/stories260K.gguf")).unwrap();
    assert_eq!(bin.format(), "llama2.c");
    assert_eq!(bin.tensors().len(), gguf.tensors().len());
    for tensor in gguf.tensors() {
        let ours = bin.tensor(&tensor.name).unwrap().unwrap();
        let theirs = gguf.tensor(&tensor.name).unwrap().unwrap();
        assert_eq!((ours.shape, ours.bytes), (theirs.shape, theirs.bytes), "{}", tensor.name);
    }
    let expected = Config { name: None, ..gguf.config().unwrap().clone() };
    assert_eq!(bin.config().unwrap(), &expected);
    assert_eq!(expected.ropes[0].pairing, Pairing::Adjacent);

    let Vocabulary::Llama2c { path, vocab_size } = bin.vocabulary().unwrap() else {
        panic!("no tokenizer found beside the checkpoint")
    };
    assert_eq!((path.file_name().unwrap().to_str(), vocab_size), (Some("tok512.bin"), 512));
    let Vocabulary::Gguf(vocabulary) = gguf.vocabulary().unwrap() else { panic!("no vocabulary") };
    assert_eq!((vocabulary.model.as_str(), vocabulary.tokens.len()), ("llama", 512));
    assert_eq!((vocabulary.bos, vocabulary.add_bos), (Some(1), Some(true)));
    assert_eq!(vocabulary.scores.unwrap().len(), 512);
    assert_eq!(vocabulary.token_types.unwrap()[3], 6);
}

/// A folder that goes with its value.
struct TempDir(PathBuf);

impl Drop for TempDir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn tempdir(name: &str) -> TempDir {
    static NEXT: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);
    let n = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    let path = std::env::temp_dir().join(format!("llmos-{}-{name}-{n}", std::process::id()));
    std::fs::create_dir_all(&path).unwrap();
    TempDir(path)
}
