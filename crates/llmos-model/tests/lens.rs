//! What is seen inside of the tiny models, beside what transformers and NumPy see there
//! (`testdata/lens/make.py`).

// The lint spares test functions, but not what they call.
#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};
use std::sync::Arc;

use llmos_model::decoder::Part;
use llmos_model::engine::{SequenceOptions, Sight, View};
use llmos_model::parameters::Distribution;
use llmos_model::sampler::most_likely;
use llmos_model::{Device, Engine, EngineOptions, Isa, Model, ModelFiles};
use llmos_tensor::CacheType;
use serde_json::Value as Json;

fn testdata(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata").join(path)
}

fn json(path: &str) -> Json {
    serde_json::from_slice(&std::fs::read(testdata(path)).unwrap()).unwrap()
}

fn engine(name: &str, isa: Isa, cache_type: CacheType, prefill_chunk: usize) -> Engine {
    let device = Arc::new(Device::new(isa, 1));
    let files = ModelFiles::open(&testdata("architectures").join(name)).unwrap();
    let model = Arc::new(Model::load(files, &device).unwrap());
    let options = EngineOptions { cache_type, prefill_chunk, ..EngineOptions::default() };
    Engine::new(model, device, options).unwrap()
}

/// What was made for a model.
struct Golden {
    ids: Vec<u32>,
    /// (L, T, V)
    lens: Vec<f32>,
    /// (L, H, T, T)
    attention: Vec<f32>,
    n_layer: usize,
    n_head: usize,
    vocab_size: usize,
    /// The parts that are off, and the logits (V) without them.
    off: Vec<(Vec<Part>, Vec<f32>)>,
}

fn golden(name: &str) -> Golden {
    let described = json(&format!("lens/{name}.json"));
    let bytes = std::fs::read(testdata(&format!("lens/{name}.f32"))).unwrap();
    let mut numbers = bytes.as_chunks::<4>().0.iter().map(|&b| f32::from_le_bytes(b));
    let mut take = |n: usize| -> Vec<f32> { numbers.by_ref().take(n).collect() };
    let numbers_of = |list: &Json| -> Vec<usize> {
        list.as_array().unwrap().iter().map(|n| n.as_u64().unwrap() as usize).collect()
    };
    let (lens, attention) = (numbers_of(&described["lens"]), numbers_of(&described["attention"]));
    let number = |value: &Json| value.as_u64().map(|n| n as usize);
    let part = |part: &Json| {
        let layer = number(&part["layer"]).unwrap();
        number(&part["head"]).map_or(Part::Layer(layer), |head| Part::Head { layer, head })
    };
    let vocab_size = lens[2];
    let golden = Golden {
        ids: numbers_of(&described["ids"]).into_iter().map(|id| id as u32).collect(),
        n_layer: lens[0],
        n_head: attention[1],
        vocab_size,
        lens: take(lens.iter().product()),
        attention: take(attention.iter().product()),
        off: described["off"]
            .as_array()
            .unwrap()
            .iter()
            .map(|parts| (parts.as_array().unwrap().iter().map(part).collect(), take(vocab_size)))
            .collect(),
    };
    assert_eq!(numbers.next(), None, "{name}: all numbers have a meaning");
    golden
}

/// The logits (L, N, V) that a model would have after each layer.
fn read_out(engine: &Engine, isa: Isa, sight: &Sight) -> Vec<f32> {
    let (model, device) = (engine.model(), Device::new(isa, 1));
    let mut workspace = llmos_model::decoder::Workspace::default();
    let mut all = Vec::new();
    for layer in 0..engine.config().layers.len() {
        model.read_out(&device, &mut workspace, sight.states(layer), &mut |_, logits| {
            all.extend_from_slice(logits);
        });
    }
    all
}

#[track_caller]
fn assert_close(got: &[f32], expected: &[f32], most: f32, what: &str) {
    assert_eq!(got.len(), expected.len(), "{what}");
    let worst = got.iter().zip(expected).map(|(a, b)| (a - b).abs());
    let worst = worst.fold(0.0f32, |worst, d| if d.is_nan() { d } else { worst.max(d) });
    assert!(worst <= most, "{what}: differs by {worst}");
}

#[track_caller]
fn check(name: &str) {
    let golden = golden(name);
    let n_token = golden.ids.len();
    for isa in [Isa::SCALAR, Isa::detect()] {
        // In one chunk, and in several.
        for prefill_chunk in [64, 7] {
            let what = format!("{name}, {isa}, chunks of {prefill_chunk}");
            let mut engine = engine(name, isa, CacheType::F32, prefill_chunk);
            let view = View {
                states: n_token,
                attention: (0..golden.n_layer).collect(),
                ..View::default()
            };
            let sight = engine.look(&golden.ids, SequenceOptions::default(), &view).unwrap();
            let lens = read_out(&engine, isa, &sight);
            assert_close(&lens, &golden.lens, 1e-4, &format!("{what}: lens"));
            // The last layer's is what the model says.
            assert_eq!(sight.logits(), &lens[lens.len() - golden.vocab_size..], "{what}");
            for layer in 0..golden.n_layer {
                for head in 0..golden.n_head {
                    let rows = sight.attention(layer, head, n_token).unwrap();
                    for (t, row) in rows.into_iter().enumerate() {
                        let at = ((layer * golden.n_head + head) * n_token + t) * n_token;
                        let (past, future) = golden.attention[at..at + n_token].split_at(t + 1);
                        assert!(future.iter().all(|&weight| weight == 0.0));
                        let what = format!("{what}: attention of head {head} of layer {layer}");
                        assert_close(row, past, 1e-5, &what);
                    }
                }
                assert!(sight.attention(layer, golden.n_head, n_token).is_none());
            }
            for (parts, expected) in &golden.off {
                let view = View { off: parts.clone(), ..View::default() };
                let sight = engine.look(&golden.ids, SequenceOptions::default(), &view).unwrap();
                assert_close(sight.logits(), expected, 1e-4, &format!("{what}: {parts:?} off"));
            }
        }
    }
}

macro_rules! goldens {
    ($($test:ident: $name:literal;)*) => {$(
        #[test]
        fn $test() {
            check($name);
        }
    )*};
}

goldens! {
    llama: "llama";
    llama_with_biases: "llama-bias";
    qwen3: "qwen3";
    mistral_window: "mistral";
    gemma2: "gemma2";
    gemma3: "gemma3";
    phi3: "phi3";
    olmo2: "olmo2";
    qwen3moe: "qwen3moe";
}

/// Every architecture, every kind of cache: who only looks changes no bit, and nobody finds it
/// afterwards; the table is that of the logits.
#[test]
fn looking_changes_no_bit() {
    let mut seen = 0;
    for entry in std::fs::read_dir(testdata("architectures")).unwrap() {
        let folder = entry.unwrap().path();
        if !folder.join("config.json").is_file() {
            continue;
        }
        let name = folder.file_name().unwrap().to_str().unwrap();
        let ids = &json(&format!("architectures/{name}/ids.json"))["ids"];
        let ids: Vec<u32> =
            ids.as_array().unwrap().iter().map(|id| id.as_u64().unwrap() as u32).collect();
        for cache_type in [CacheType::F32, CacheType::F16, CacheType::Q8] {
            let mut engine = engine(name, Isa::detect(), cache_type, 64);
            let options =
                || SequenceOptions { length: Some(ids.len()), ..SequenceOptions::default() };
            let plain = |engine: &mut Engine| {
                let id = engine.add(&ids, options()).unwrap();
                while !engine.is_ready(id).unwrap() {
                    engine.step().unwrap();
                }
                let logits = engine.logits(id).unwrap().to_vec();
                let adopted = engine.adopted(id).unwrap();
                engine.remove(id).unwrap();
                (logits, adopted)
            };
            let all = 0..engine.config().layers.len();
            let view = View { states: 3, attention: all.clone().collect(), off: Vec::new() };
            let sight = engine.look(&ids, options(), &view).unwrap();
            let (logits, adopted) = plain(&mut engine);
            assert_eq!(adopted, 0, "{name}: what was computed under a hook is found by nobody");
            assert!(logits.iter().all(|logit| logit.is_finite()));
            assert_eq!(sight.logits(), logits, "{name} {cache_type:?}");
            // Beside an engine that is at work, and then in it once more.
            let mut beside = engine.beside(ids.len()).unwrap();
            let again = beside.look(&ids, options(), &View::default()).unwrap();
            assert_eq!(again.logits(), logits, "{name} {cache_type:?}");
            assert_eq!(plain(&mut engine).0, logits, "{name} {cache_type:?}");
            let rows = engine.read_out(&sight, 0..sight.rows(), 4);
            assert_eq!((sight.rows(), rows.len()), (3 * all.len(), 3 * all.len()));
            assert_eq!(rows.last().unwrap(), &most_likely(&logits, 4), "{name} {cache_type:?}");
            // All layers off: the embedding alone is read out.
            let off = View { off: all.map(Part::Layer).collect(), states: 1, ..View::default() };
            let nothing = engine.look(&ids, options(), &off).unwrap();
            assert_eq!(nothing.states(0), nothing.states(1), "{name}");
            assert_ne!(nothing.logits(), logits, "{name}");
        }
        seen += 1;
    }
    assert_eq!(seen, 20);
}

#[test]
fn what_is_not_there_cannot_be_looked_at() {
    let mut engine = engine("llama", Isa::detect(), CacheType::F16, 64);
    let mut check = |tokens: &[u32], view: View, words: &str| {
        let error = engine.look(tokens, SequenceOptions::default(), &view).unwrap_err();
        assert!(error.to_string().contains(words), "{words:?} not in {error}");
        assert_eq!(engine.sequences().count(), 0);
    };
    let off = |part| View { off: vec![part], ..View::default() };
    check(&[1], off(Part::Layer(2)), "a layer of 0 to 1");
    check(&[1], off(Part::Head { layer: 7, head: 0 }), "a layer of 0 to 1");
    check(&[1], off(Part::Head { layer: 1, head: 4 }), "a head of 0 to 3");
    check(&[1], View { attention: vec![2], ..View::default() }, "a layer of 0 to 1");
    check(&[1, 2], View { states: 3, ..View::default() }, "at most 2 tokens");
    check(&[], View::default(), "at least one token");
    check(&[352], View::default(), "ids below 352");
    check(&[1; 129], View::default(), "128 tokens");
}

#[test]
fn parameters_are_distributed_as_numpy_says() {
    let files = json("lens/distributions.json");
    for (file, tensors) in files.as_object().unwrap() {
        let opened = ModelFiles::open(&testdata(file)).unwrap();
        let tensors = tensors.as_array().unwrap();
        assert_eq!(opened.tensors().len(), tensors.len(), "{file}");
        for expected in tensors {
            let name = expected["name"].as_str().unwrap();
            let info = opened.info(name).unwrap();
            let found = Distribution::of(&opened, info, &|| false).unwrap();
            let found = serde_json::to_value(found).unwrap();
            let what = format!("{file}: {name}");
            assert_eq!(found["histogram"]["counts"], expected["counts"], "{what}");
            assert_eq!(
                (&found["count"], &found["zeros"]),
                (&expected["count"], &expected["zeros"])
            );
            assert_eq!(found["not_finite"], 0, "{what}");
            let dtype = expected["type"].as_str().unwrap();
            assert!(dtype.eq_ignore_ascii_case(found["type"].as_str().unwrap()), "{what}");
            let close = |found: &Json, key: &str| {
                let (found, expected) = (found.as_f64().unwrap(), expected[key].as_f64().unwrap());
                let most = 1e-9 * expected.abs().max(1.0);
                assert!((found - expected).abs() <= most, "{what}: {key} {found} {expected}");
            };
            close(&found["mean"], "mean");
            close(&found["std"], "std");
            close(&found["histogram"]["from"], "from");
            close(&found["histogram"]["to"], "to");
            for key in ["min", "max"] {
                let expected = expected[key].as_f64().unwrap() as f32;
                assert_eq!(found[key].as_f64().unwrap() as f32, expected, "{what}");
            }
        }
        let first = opened.tensors().next().unwrap();
        let stopped = Distribution::of(&opened, first, &|| true);
        assert!(matches!(stopped, Err(llmos_model::Error::Cancelled)));
    }
}

/// Every architecture's tensors, stacked experts in several files among them, are all read.
#[test]
fn every_tensor_has_a_distribution() {
    for entry in std::fs::read_dir(testdata("architectures")).unwrap() {
        let folder = entry.unwrap().path();
        if !folder.join("config.json").is_file() {
            continue;
        }
        let files = ModelFiles::open(&folder).unwrap();
        for info in files.tensors() {
            let found = Distribution::of(&files, info, &|| false).unwrap();
            assert_eq!(found.histogram.counts.iter().sum::<u64>(), info.len() as u64, "{info:?}");
            let values = files.tensor(&info.name).unwrap().unwrap().to_f32().unwrap();
            let largest = values.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            assert_eq!(found.max, largest, "{info:?}");
            assert!(found.std.is_finite() && found.not_finite == 0);
        }
    }
}
