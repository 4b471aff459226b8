//! The decoder against transformers: random tiny models, one folder an architecture, with the
//! logits that `testdata/architectures/make.py` had computed.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use llmos_tensor::{CacheType, Device, Isa};
use serde_json::Value as Json;

use crate::convert::FileType;
use crate::{Engine, EngineOptions, Model, ModelFiles};

/// Largest difference to transformers that is allowed.
const TOLERANCE: f32 = 1e-4;

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/architectures").join(name)
}

/// The ids (T) and logits (T, V) of a golden case.
fn golden(folder: &Path, stem: &str) -> (Vec<u32>, Vec<f32>) {
    let described = std::fs::read(folder.join(format!("{stem}ids.json"))).unwrap();
    let described: Json = serde_json::from_slice(&described).unwrap();
    let ids = described["ids"].as_array().unwrap().iter();
    let ids: Vec<u32> = ids.map(|id| id.as_u64().unwrap() as u32).collect();
    let bytes = std::fs::read(folder.join(format!("{stem}logits.f32"))).unwrap();
    let logits = bytes.as_chunks::<4>().0.iter().map(|&b| f32::from_le_bytes(b)).collect();
    (ids, logits)
}

/// The logits (T, V) of all ids, in steps of `chunk` rows.
fn logits(model: &Arc<Model>, device: &Arc<Device>, ids: &[u32], chunk: usize) -> Vec<f32> {
    let options = EngineOptions {
        cache_type: CacheType::F32,
        prefill_chunk: chunk,
        ..EngineOptions::default()
    };
    let mut engine = Engine::new(model.clone(), device.clone(), options).unwrap();
    let sequence = crate::engine::SequenceOptions {
        length: Some(ids.len()),
        ..crate::engine::SequenceOptions::default()
    };
    let id = engine.add(ids, sequence).unwrap();
    engine.keep_rows(id, ids.len()).unwrap();
    while !engine.is_ready(id).unwrap() {
        engine.step().unwrap();
    }
    (0..ids.len()).flat_map(|i| engine.logits_after(id, i).unwrap().to_vec()).collect()
}

#[track_caller]
fn assert_close(got: &[f32], expected: &[f32], what: &str) {
    assert_eq!(got.len(), expected.len(), "{what}: number of logits");
    let differences = got.iter().zip(expected).map(|(a, b)| (a - b).abs());
    let worst = differences.fold(0.0, |worst: f32, d| if d.is_nan() { d } else { worst.max(d) });
    assert!(worst <= TOLERANCE, "{what}: differs by {worst}");
}

#[track_caller]
fn check(name: &str, stem: &str) {
    let (ids, expected) = golden(&folder(name), stem);
    for isa in Isa::available() {
        let device = Arc::new(Device::new(isa, 1));
        let files = ModelFiles::open(&folder(name)).unwrap();
        let model = Arc::new(Model::load(files, &device).unwrap());
        let prefill = logits(&model, &device, &ids, 64);
        assert_close(&prefill, &expected, &format!("{name} {stem}prefill, {isa}"));
        let stepwise = logits(&model, &device, &ids, 1);
        assert_eq!(prefill, stepwise, "{name} {stem}stepwise, {isa}");
        let uneven = logits(&model, &device, &ids, 7);
        assert_eq!(prefill, uneven, "{name} {stem}in chunks, {isa}");
    }
}

macro_rules! goldens {
    ($($test:ident: $name:literal $stem:literal;)*) => {$(
        #[test]
        fn $test() {
            check($name, $stem);
        }
    )*};
}

goldens! {
    llama: "llama" "";
    llama_with_biases: "llama-bias" "";
    llama_linear_scaling: "llama-linear" "";
    llama_sharded: "llama-sharded" "";
    llama3_scaling: "llama3" "";
    mistral_window: "mistral" "";
    qwen2: "qwen2" "";
    qwen3: "qwen3" "";
    gemma2: "gemma2" "";
    gemma3: "gemma3" "";
    gemma3_text_part: "gemma3-vision" "";
    phi3: "phi3" "";
    phi3_beyond_the_original_context: "phi3-longrope" "";
    phi3_within_the_original_context: "phi3-longrope" "short-";
    smollm: "smollm" "";
    smollm3: "smollm3" "";
    olmo2: "olmo2" "";
    mixtral: "mixtral" "";
    qwen3moe: "qwen3moe" "";
    qwen3moe_with_a_dense_layer: "qwen3moe-mixed" "";
    yarn: "yarn" "";
}

#[test]
fn the_number_of_threads_does_not_change_a_bit() {
    let config = super::wide_preset_for_tests();
    let ids: Vec<u32> = (0..140).map(|i| i * 7 % config.vocab_size as u32).collect();
    for isa in Isa::available() {
        let results = [1, 2, 3].map(|threads| {
            let device = Arc::new(Device::new(isa, threads));
            let model = Model::random(config.clone(), FileType::Q8_0, 3, &device).unwrap();
            logits(&Arc::new(model), &device, &ids, 256)
        });
        assert!(results[0].iter().all(|logit| logit.is_finite()));
        assert_eq!(results[0], results[1], "{isa}");
        assert_eq!(results[0], results[2], "{isa}");
    }
}

/// Every format: chunks of a prompt, one token at a time, and other rows beside it change no bit.
#[test]
fn formats_decode_as_they_prefill() {
    let config = super::wide_preset_for_tests();
    let ids: Vec<u32> = (0..40).map(|i| i * 5 % config.vocab_size as u32).collect();
    for isa in Isa::available() {
        let device = Arc::new(Device::new(isa, 1));
        for file_type in FileType::ALL {
            let model = Model::random(config.clone(), file_type, 5, &device).unwrap();
            let model = Arc::new(model);
            let prefill = logits(&model, &device, &ids, 64);
            assert_eq!(prefill, logits(&model, &device, &ids, 1), "{isa} {file_type:?}");
            assert_eq!(prefill, logits(&model, &device, &ids, 11), "{isa} {file_type:?}");
        }
    }
}
