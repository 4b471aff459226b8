//! Every dense architecture of testdata/architectures: losses and gradients beside PyTorch's, logits
//! beside those of the decoder that runs, and the same parameters from a GGUF file.

use std::ops::ControlFlow;
use std::path::PathBuf;

use llmos_model::convert::{Conversion, FileType, OutputVocabulary, convert};
use llmos_model::engine::SequenceOptions;
use llmos_model::{Engine, EngineOptions, ModelFiles};
use llmos_tensor::CacheType;
use serde_json::Value as Json;

use super::*;
use crate::data::scratch::Scratch;

/// Folders with a golden training.json.
const GOLDEN: [&str; 15] = [
    "gemma2",
    "gemma3",
    "llama",
    "llama-bias",
    "llama-linear",
    "llama3",
    "mistral",
    "olmo2",
    "phi3",
    "phi3-longrope",
    "qwen2",
    "qwen3",
    "smollm",
    "smollm3",
    "yarn",
];

pub(super) fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/architectures").join(name)
}

fn json(path: &Path) -> Json {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

pub(super) fn ids(name: &str, stem: &str) -> Vec<u32> {
    let described = json(&folder(name).join(format!("{stem}ids.json")));
    let ids = described["ids"].as_array().unwrap().iter();
    ids.map(|id| id.as_u64().unwrap() as u32).collect()
}

/// The rows of the golden batch, and what comes next in each.
pub(super) fn batch_of(name: &str) -> (Vec<u32>, Vec<u32>) {
    let forwards = ids(name, "");
    let backwards: Vec<u32> = forwards.iter().rev().copied().collect();
    let next = |row: &[u32]| [&row[1..], &[IGNORE]].concat();
    let targets = [next(&forwards), next(&backwards)].concat();
    ([forwards, backwards].concat(), targets)
}

fn blueprint(files: &ModelFiles) -> Blueprint {
    Blueprint::of(files.config().unwrap()).unwrap()
}

#[test]
fn losses_and_gradients_are_those_of_pytorch() {
    for name in GOLDEN {
        let golden = json(&folder(name).join("training.json"));
        let files = ModelFiles::open(&folder(name)).unwrap();
        let blueprint = blueprint(&files);
        let (inputs, targets) = batch_of(name);
        let time = inputs.len() / 2;
        let batch = Batch { inputs: &inputs, targets: &targets, starts: None, weights: None };
        for isa in Isa::available() {
            let device = Arc::new(Device::new(isa, 2));
            let mut network = Network::new(&blueprint, &device, Precision::F32, 2, time);
            let layout = network.layout().clone();
            let weights = read_weights(&files, &blueprint, &layout).unwrap();
            let mut gradients = vec![0.0; layout.len()];
            let learnt = inputs.len() - 2;
            let loss = network.gradients(&weights, batch, objective(learnt), &mut gradients);
            let (loss, expected) = (loss / learnt as f64, golden["loss"].as_f64().unwrap());
            assert!((loss - expected).abs() < 2e-5, "{name} {isa}: {loss}, not {expected}");
            let all = golden["gradients"].as_object().unwrap();
            assert_eq!(layout.tensors().len(), all.len(), "{name}: parameters");
            for tensor in layout.tensors() {
                let expected = &all[&tensor.name];
                let of = |key: &str| expected[key].as_f64().unwrap();
                let got = &gradients[tensor.range()];
                let wide = || got.iter().map(|&g| f64::from(g));
                let norm = wide().map(|g| g * g).sum::<f64>().sqrt();
                let signed = wide().enumerate().map(|(i, g)| match ((i * 40503) >> 15) & 1 {
                    0 => g,
                    _ => -g,
                });
                let signed: f64 = signed.sum();
                let bound = 1e-4 * of("norm").max(1e-4);
                let what = format!("{name} {isa}: gradient of {}", tensor.name);
                assert!((norm - of("norm")).abs() < bound, "{what}: {norm}, not {}", of("norm"));
                let off = (signed - of("signed")).abs();
                assert!(off < 3.0 * bound, "{what}: signed sum off by {off} of {norm}");
                let n = got.len();
                for (at, value) in
                    [0, n / 2, n - 1].into_iter().zip(expected["values"].as_array().unwrap())
                {
                    let off = (f64::from(got[at]) - value.as_f64().unwrap()).abs();
                    assert!(off < bound, "{what} at {at}: off by {off} of {norm}");
                }
            }
        }
    }
}

/// Logits (T, V) of all ids by the decoder that runs.
fn served(files: ModelFiles, device: &Arc<Device>, ids: &[u32]) -> Vec<f32> {
    let model = Arc::new(llmos_model::Model::load(files, device).unwrap());
    let options = EngineOptions { cache_type: CacheType::F32, ..EngineOptions::default() };
    let mut engine = Engine::new(model, device.clone(), options).unwrap();
    let sequence = SequenceOptions { length: Some(ids.len()), ..SequenceOptions::default() };
    let id = engine.add(ids, sequence).unwrap();
    engine.keep_rows(id, ids.len()).unwrap();
    while !engine.is_ready(id).unwrap() {
        engine.step().unwrap();
    }
    (0..ids.len()).flat_map(|i| engine.logits_after(id, i).unwrap().to_vec()).collect()
}

#[test]
fn logits_in_training_are_logits_in_serving() {
    let others = ["llama-sharded", "gemma3-vision"].map(|name| (name, ""));
    let cases = GOLDEN.map(|name| (name, "")).into_iter().chain(others);
    for (name, stem) in cases.chain([("phi3-longrope", "short-")]) {
        let (ids, device) = (ids(name, stem), Arc::new(Device::new(Isa::detect(), 2)));
        let files = ModelFiles::open(&folder(name)).unwrap();
        let blueprint = blueprint(&files);
        let mut network = Network::new(&blueprint, &device, Precision::F32, 1, ids.len());
        let weights = read_weights(&files, &blueprint, network.layout()).unwrap();
        let batch = Batch { inputs: &ids, targets: &ids, starts: None, weights: None };
        let expected = served(files, &device, &ids);
        let mut logits = vec![0.0; expected.len()];
        network.logits(&weights, batch, &mut logits);
        let error = difference(&logits, &expected);
        assert!(error < 1e-5, "{name} {stem}: logits are off by {error}");
    }
}

/// Packed behind another document, a row has the logits that it has alone.
#[test]
fn a_document_sees_itself_alone() {
    for name in GOLDEN {
        let ids = ids(name, "");
        let files = ModelFiles::open(&folder(name)).unwrap();
        let blueprint = blueprint(&files);
        let device = Arc::new(Device::new(Isa::detect(), 1));
        let mut network = Network::new(&blueprint, &device, Precision::F32, 1, ids.len());
        let weights = read_weights(&files, &blueprint, network.layout()).unwrap();
        let (v, short) = (blueprint.config().vocab_size, 15);
        let alone = &ids[..short];
        let mut expected = vec![0.0; short * v];
        network.set_time(short);
        let batch = Batch { inputs: alone, targets: alone, starts: None, weights: None };
        network.logits(&weights, batch, &mut expected);
        let packed = [&ids[20..32], alone].concat();
        let starts: Vec<u32> = (0..packed.len()).map(|i| if i < 12 { 0 } else { 12 }).collect();
        network.set_time(packed.len());
        let batch =
            Batch { inputs: &packed, targets: &packed, starts: Some(&starts), weights: None };
        let mut logits = vec![0.0; packed.len() * v];
        network.logits(&weights, batch, &mut logits);
        let error = difference(&logits[12 * v..], &expected);
        assert!(error < 2e-5, "{name}: logits are off by {error}");
    }
}

#[test]
fn a_gguf_file_gives_the_same_parameters() {
    for name in GOLDEN {
        let scratch = Scratch::new();
        let files = ModelFiles::open(&folder(name)).unwrap();
        let path = scratch.path().join("model.gguf");
        let conversion = Conversion {
            file_type: FileType::from_name("f32").unwrap(),
            vocabulary: OutputVocabulary::AsInput,
            threads: std::num::NonZero::<usize>::MIN,
        };
        convert(&files, &path, &conversion, &mut |_, _| ControlFlow::Continue(())).unwrap();
        let gguf = ModelFiles::open(&path).unwrap();
        let read = |files: &ModelFiles| {
            let blueprint = blueprint(files);
            let layout = Layout::new(&blueprint);
            let names: Vec<String> = layout.tensors().iter().map(|t| t.name.clone()).collect();
            (names, read_weights(files, &blueprint, &layout).unwrap())
        };
        assert_eq!(read(&files), read(&gguf), "{name}");
    }
}

#[test]
fn experts_are_refused() {
    for name in ["mixtral", "qwen3moe", "qwen3moe-mixed"] {
        let files = ModelFiles::open(&folder(name)).unwrap();
        let refused = Blueprint::of(files.config().unwrap());
        assert_eq!(refused, Err("a mixture of experts".to_string()), "{name}");
    }
}

/// A head of one row on any of them: scores change along the gradient as it says.
#[test]
fn scores_of_every_architecture_have_the_slopes_that_they_say() {
    for name in GOLDEN {
        let files = ModelFiles::open(&folder(name)).unwrap();
        let blueprint = blueprint(&files);
        let (inputs, targets) = batch_of(name);
        let by_score: Vec<f32> = (0..inputs.len()).map(|i| [0.5, -0.25, 0.125][i % 3]).collect();
        let batch =
            Batch { inputs: &inputs, targets: &targets, starts: None, weights: Some(&by_score) };
        let device = Arc::new(Device::new(Isa::detect(), 2));
        let network = Network::new(&blueprint, &device, Precision::F32, 2, inputs.len() / 2);
        let mut network = network.with_scalar_head();
        let layout = network.layout().clone();
        assert!(layout.tensors().iter().all(|tensor| tensor.name != "lm_head.weight"), "{name}");
        let mut weights = network.initial(1);
        let of_base = layout.tensors().iter().filter(|tensor| tensor.name != SCORE);
        read_tensors(&files, &blueprint, of_base, &mut weights).unwrap();
        let mut gradients = vec![0.0; layout.len()];
        network.score_gradients(&weights, batch, &mut gradients);
        let length = gradients.iter().map(|&slope| f64::from(slope).powi(2)).sum::<f64>().sqrt();
        let mut value = |step: f64| {
            let along = weights.iter().zip(&gradients);
            let moved: Vec<f32> =
                along.map(|(w, g)| w + (step * f64::from(*g) / length) as f32).collect();
            let mut scores = vec![0.0; inputs.len()];
            network.scores(&moved, batch, &mut scores);
            let weighted = scores.iter().zip(&by_score);
            weighted.map(|(score, slope)| f64::from(score * slope)).sum::<f64>()
        };
        let step = 1e-2;
        let slope = (value(step) - value(-step)) / (2.0 * step);
        assert!((slope / length - 1.0).abs() < 0.02, "{name}: {slope}, not {length}");
    }
}
