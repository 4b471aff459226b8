//! Adapters beside frozen weights: in memory, in their files, quantised, and with magnitudes.

use llmos_model::ModelFiles;
use llmos_model::convert::{Conversion, FileType, OutputVocabulary, convert};

use super::architectures::{batch_of, folder};
use super::*;
use crate::data::scratch::Scratch;

/// Loss and gradients of an adapter whose numbers are `values`, or its first ones.
fn learn(
    files: &Arc<ModelFiles>,
    lora: &Lora,
    stored: bool,
    ids: (&[u32], &[u32]),
    values: Option<&[f32]>,
) -> (f64, Vec<f32>, Vec<f32>) {
    let blueprint = Blueprint::of(files.config().unwrap()).unwrap();
    let device = Arc::new(Device::new(Isa::detect(), 2));
    let network = Network::new(&blueprint, &device, Precision::F32, 2, ids.0.len() / 2);
    let frozen = match stored {
        true => Frozen::Stored(Stored::open(files, &blueprint, network.layout()).unwrap()),
        false => Frozen::Whole(read_weights(files, &blueprint, network.layout()).unwrap()),
    };
    let mut network = network.with_adapter(frozen, lora);
    let values = values.map_or_else(|| network.initial(3), <[f32]>::to_vec);
    let batch = Batch { inputs: ids.0, targets: ids.1, starts: None, weights: None };
    let mut gradients = vec![0.0; values.len()];
    let loss = network.gradients(&values, batch, objective(ids.0.len() - 2), &mut gradients);
    (loss, gradients, values)
}

/// A moved copy of an adapter's numbers: B is no longer zero, and magnitudes are others.
pub(super) fn moved(values: &[f32]) -> Vec<f32> {
    let change = |i: usize| ((i * 37 % 101) as f32 - 50.0) / 1000.0;
    values.iter().enumerate().map(|(i, value)| value * (1.0 + change(i)) + change(i)).collect()
}

#[test]
fn weights_in_their_files_give_what_weights_in_memory_give() {
    for name in ["llama", "llama-bias", "gemma3", "phi3", "smollm3", "olmo2"] {
        for file_type in ["f32", "f16", "q8_0", "q4_0"] {
            let scratch = Scratch::new();
            let path = scratch.path().join("model.gguf");
            let conversion = Conversion {
                file_type: FileType::from_name(file_type).unwrap(),
                vocabulary: OutputVocabulary::AsInput,
                threads: std::num::NonZero::<usize>::MIN,
            };
            let folder = ModelFiles::open(&folder(name)).unwrap();
            convert(&folder, &path, &conversion, &mut |_, _| std::ops::ControlFlow::Continue(()))
                .unwrap();
            let files = Arc::new(ModelFiles::open(&path).unwrap());
            let (inputs, targets) = batch_of(name);
            for dora in [false, true] {
                let lora = Lora { dora, ..Lora::new(3) };
                let ids = (&inputs[..], &targets[..]);
                let (_, _, values) = learn(&files, &lora, false, ids, None);
                let values = moved(&values);
                let whole = learn(&files, &lora, false, ids, Some(&values));
                let stored = learn(&files, &lora, true, ids, Some(&values));
                let what = format!("{name} {file_type}, dora {dora}");
                assert!(
                    (whole.0 / stored.0 - 1.0).abs() < 1e-6,
                    "{what}: {} {}",
                    whole.0,
                    stored.0
                );
                let error = difference(&stored.1, &whole.1);
                assert!(error < 1e-5, "{what}: gradients are off by {error}");
            }
        }
    }
}

/// With magnitudes, too, an adapter's gradients are the loss's slopes, where lengths of rows count as
/// constants; and what it computes is what the merged model computes.
#[test]
fn magnitudes_learn_and_merge() {
    let name = "qwen2";
    let files = Arc::new(ModelFiles::open(&folder(name)).unwrap());
    let blueprint = Blueprint::of(files.config().unwrap()).unwrap();
    let device = Arc::new(Device::new(Isa::detect(), 1));
    let (inputs, targets) = batch_of(name);
    let batch = Batch { inputs: &inputs, targets: &targets, starts: None, weights: None };
    let time = inputs.len() / 2;
    let lora = Lora { dora: true, ..Lora::new(2) };
    let plain = || Network::new(&blueprint, &device, Precision::F32, 2, time);
    let frozen = read_weights(&files, &blueprint, plain().layout()).unwrap();
    let adapted = || plain().with_adapter(Frozen::Whole(frozen.clone()), &lora);
    let mut network = adapted();
    let values = network.initial(3);
    let n = inputs.len();
    let losses = |network: &mut Network, values: &[f32]| -> f64 {
        let mut losses = vec![0.0; n];
        network.losses(values, batch, &mut losses);
        losses.iter().map(|&loss| f64::from(loss)).sum::<f64>() / (n - 2) as f64
    };
    let at_first = losses(&mut network, &values);
    let base = losses(&mut plain(), &frozen);
    assert!((at_first - base).abs() < 1e-6, "nothing has changed yet: {at_first} {base}");
    let values = moved(&values);
    let merged = adapted().merged(values.clone());
    let (unmerged, merged) = (losses(&mut network, &values), losses(&mut plain(), &merged));
    assert!((unmerged - merged).abs() < 1e-5, "{unmerged} and merged {merged}");
    assert!((unmerged - base).abs() > 1e-2, "the adapter does something");
    let mut gradients = vec![0.0; values.len()];
    network.gradients(&values, batch, objective(n - 2), &mut gradients);
    let layout = network.layout().clone();
    let mut checked = 0;
    for tensor in layout.tensors().iter().filter(|tensor| tensor.kind == Kind::Magnitude) {
        // The loss is smooth in a magnitude, whose row's length does not depend on it.
        let range = tensor.range();
        let direction: Vec<f32> = gradients[range.clone()].to_vec();
        let size = direction.iter().map(|d| d * d).sum::<f32>();
        let at = |step: f32| {
            let mut values = values.clone();
            values[range.clone()].iter_mut().zip(&direction).for_each(|(v, d)| *v += step * d);
            values
        };
        let step = 2e-2 / size.sqrt();
        let slope = (losses(&mut network, &at(step)) - losses(&mut network, &at(-step)))
            / (2.0 * f64::from(step));
        let share = slope / f64::from(size);
        assert!((share - 1.0).abs() < 0.02, "{}: {share}", tensor.name);
        checked += 1;
    }
    assert_eq!(checked, 7 * blueprint.config().layers.len());
}
