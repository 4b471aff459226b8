//! Adapters that the engine runs beside a model, as they were written: what training computes, several
//! in one batch, and never another's past.

use std::ops::ControlFlow;
use std::path::PathBuf;

use llmos_model::convert::{Conversion, FileType, OutputVocabulary, convert};
use llmos_model::engine::SequenceOptions;
use llmos_model::{Adapter as Served, Engine, EngineOptions, Model as Running, ModelFiles};
use llmos_tensor::CacheType;

use super::architectures::{folder, ids};
use super::frozen::moved;
use super::*;
use crate::data::scratch::Scratch;
use crate::run;

/// A model, adapters of it in folders, and what training computes with each of them.
struct Ground {
    device: Arc<Device>,
    model: Arc<Running>,
    adapters: Vec<Arc<Served>>,
    ids: Vec<u32>,
    /// (T, V) of each adapter.
    expected: Vec<Vec<f32>>,
    _scratch: Scratch,
}

fn ground(name: &str, gguf: bool) -> Ground {
    let scratch = Scratch::new();
    let device = Arc::new(Device::new(Isa::detect(), 2));
    let mut path = folder(name);
    if gguf {
        let to = scratch.path().join("model.gguf");
        let conversion = Conversion {
            file_type: FileType::from_name("f32").unwrap(),
            vocabulary: OutputVocabulary::AsInput,
            threads: std::num::NonZero::<usize>::MIN,
        };
        convert(&ModelFiles::open(&path).unwrap(), &to, &conversion, &mut |_, _| {
            ControlFlow::Continue(())
        })
        .unwrap();
        path = to;
    }
    let files = ModelFiles::open(&path).unwrap();
    let blueprint = Blueprint::of(files.config().unwrap()).unwrap();
    let ids = ids(name, "");
    let (mut expected, mut folders) = (Vec::new(), Vec::new());
    for (i, dora) in [false, true].into_iter().enumerate() {
        let lora = Lora { dora, ..Lora::new(2 + i) };
        let network = Network::new(&blueprint, &device, Precision::F32, 1, ids.len());
        let frozen = read_weights(&files, &blueprint, network.layout()).unwrap();
        let mut network = network.with_adapter(Frozen::Whole(frozen), &lora);
        let values = moved(&network.initial(7 + i as u64));
        let folder = scratch.path().join(format!("adapter-{i}"));
        std::fs::create_dir(&folder).unwrap();
        let config = run::adapter_config(&lora, network.model_layout(), &path);
        std::fs::write(folder.join("adapter_config.json"), config).unwrap();
        run::write_model(&folder, network.layout(), &values).unwrap();
        let mut logits = vec![0.0; ids.len() * blueprint.config().vocab_size];
        let batch = Batch { inputs: &ids, targets: &ids, starts: None, weights: None };
        network.logits(&values, batch, &mut logits);
        expected.push(logits);
        folders.push(folder);
    }
    let model = Arc::new(Running::load(files, &device).unwrap());
    let open = |folder: &PathBuf| Arc::new(Served::open(folder, &model, &device, 1.0).unwrap());
    let adapters = folders.iter().map(open).collect();
    Ground { device, model, adapters, ids, expected, _scratch: scratch }
}

impl Ground {
    fn engine(&self) -> Engine {
        let options = EngineOptions {
            cache_type: CacheType::F32,
            cache_bytes: Some(64 << 20),
            ..EngineOptions::default()
        };
        Engine::new(self.model.clone(), self.device.clone(), options).unwrap()
    }

    /// Logits (T, V) of sequences with these adapters, in one engine and one step.
    fn logits(&self, engine: &mut Engine, adapters: &[Option<usize>]) -> Vec<Vec<f32>> {
        let n = self.ids.len();
        let sequences: Vec<_> = adapters
            .iter()
            .map(|adapter| {
                let adapter = adapter.map(|i| self.adapters[i].clone());
                let options =
                    SequenceOptions { length: Some(n), adapter, ..SequenceOptions::default() };
                let id = engine.add(&self.ids, options).unwrap();
                engine.keep_rows(id, n).unwrap();
                id
            })
            .collect();
        engine.step().unwrap();
        sequences
            .into_iter()
            .map(|id| {
                assert!(engine.is_ready(id).unwrap(), "one step for all");
                (0..n).flat_map(|i| engine.logits_after(id, i).unwrap().to_vec()).collect()
            })
            .collect()
    }
}

#[test]
fn unmerged_adapters_give_the_logits_of_training() {
    for (name, gguf) in [
        ("llama", true),
        ("llama", false),
        ("llama-bias", true),
        ("qwen2", false),
        ("phi3", true),
        ("gemma3", false),
        ("smollm3", true),
        ("olmo2", false),
    ] {
        let ground = ground(name, gguf);
        let plain = ground.logits(&mut ground.engine(), &[None]).remove(0);
        for (i, expected) in ground.expected.iter().enumerate() {
            let alone = ground.logits(&mut ground.engine(), &[Some(i)]).remove(0);
            let (error, moved) = (difference(&alone, expected), difference(&alone, &plain));
            assert!(error < 1e-5, "{name} gguf {gguf} {i}: logits are off by {error}");
            assert!(moved > 1e-2, "{name} {i}: the adapter does something");
        }
    }
}

#[test]
fn sequences_of_one_batch_have_adapters_of_their_own() {
    for name in ["llama", "llama-bias", "gemma3"] {
        let ground = ground(name, false);
        let alone = [None, Some(0), Some(1)]
            .map(|adapter| ground.logits(&mut ground.engine(), &[adapter]).remove(0));
        let together = ground.logits(&mut ground.engine(), &[Some(1), None, Some(0), None]);
        for (got, expected) in together.iter().zip([2, 0, 1, 0]) {
            assert!(*got == alone[expected], "{name}: a neighbour changed something");
        }
    }
}

/// The same tokens, one after another in one engine: a past that was computed with one adapter is not
/// taken for that of another, but for its own.
#[test]
fn a_past_is_shared_within_an_adapter_alone() {
    let ground = ground("qwen2", false);
    let alone = [None, Some(0), Some(1)]
        .map(|adapter| ground.logits(&mut ground.engine(), &[adapter]).remove(0));
    let mut engine = ground.engine();
    let v = engine.config().vocab_size;
    let last = |logits: &[f32]| logits[logits.len() - v..].to_vec();
    for (adapter, shares) in
        [(None, false), (Some(0), false), (Some(1), false), (None, true), (Some(0), true)]
    {
        let options = SequenceOptions {
            length: Some(ground.ids.len()),
            adapter: adapter.map(|i: usize| ground.adapters[i].clone()),
            ..SequenceOptions::default()
        };
        let before = engine.blocks().0;
        let id = engine.add(&ground.ids, options).unwrap();
        engine.step().unwrap();
        let expected = last(&alone[adapter.map_or(0, |i| i + 1)]);
        assert!(engine.logits(id).unwrap() == expected, "{adapter:?}");
        let taken = before - engine.blocks().0;
        let all = ground.ids.len().div_ceil(32);
        assert_eq!(taken < all, shares, "{adapter:?}: {taken} new blocks of {all}");
    }
}

#[test]
fn an_adapter_of_another_base_is_refused() {
    let (one, other) = (ground("llama", false), ground("gemma3", false));
    let options =
        SequenceOptions { adapter: Some(one.adapters[0].clone()), ..SequenceOptions::default() };
    let error = other.engine().add(&other.ids, options).unwrap_err().to_string();
    assert!(error.starts_with("adapter: expected one that was opened for this model"), "{error}");
    let folder = one._scratch.path().join("adapter-0");
    let error = Served::open(&folder, &other.model, &other.device, 1.0).unwrap_err().to_string();
    assert!(error.contains("expected one beside a matrix ["), "{error}");
}
