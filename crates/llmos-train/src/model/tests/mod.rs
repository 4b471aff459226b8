//! The network against PyTorch: logits, each parameter's gradient, and ten steps' losses; and
//! against itself with other threads and other cuts of a batch.

mod architectures;
mod frozen;
mod unmerged;

use std::collections::HashMap;
use std::path::Path;

use llmos_tensor::Isa;

use super::*;
use crate::optimizer::{Optimizer, Rates};
use crate::recipe::{self, ModelShape, OptimizerName};

/// `gradients.safetensors`, which `make_gradients.py` beside it wrote.
struct Golden(HashMap<String, Vec<u8>>);

impl Golden {
    fn read() -> Golden {
        let path = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../../testdata/train/gradients.safetensors");
        let bytes = std::fs::read(&path).expect("a committed file");
        let len = u64::from_le_bytes(bytes[..8].try_into().expect("8 bytes")) as usize;
        let header: serde_json::Value = serde_json::from_slice(&bytes[8..8 + len]).expect("JSON");
        let tensors = header.as_object().expect("an object").iter();
        let tensors = tensors.filter(|(name, _)| *name != "__metadata__").map(|(name, info)| {
            let offset = |i: usize| info["data_offsets"][i].as_u64().expect("an offset") as usize;
            (name.clone(), bytes[8 + len..][offset(0)..offset(1)].to_vec())
        });
        Golden(tensors.collect())
    }

    fn floats(&self, name: &str) -> Vec<f32> {
        let bytes = self.0.get(name).unwrap_or_else(|| panic!("{name} is in the file"));
        bytes.as_chunks::<4>().0.iter().map(|&bytes| f32::from_le_bytes(bytes)).collect()
    }

    fn ids(&self, name: &str) -> Vec<u32> {
        self.0[name].as_chunks::<4>().0.iter().map(|&bytes| u32::from_le_bytes(bytes)).collect()
    }

    /// All tensors of a kind, in the layout's places.
    fn parameters(&self, layout: &Layout, kind: &str) -> Vec<f32> {
        let mut values = vec![f32::NAN; layout.len()];
        for tensor in layout.tensors() {
            values[tensor.range()]
                .copy_from_slice(&self.floats(&format!("{kind}/{}", tensor.name)));
        }
        values
    }
}

fn shape() -> ModelShape {
    ModelShape {
        n_layer: 2,
        n_head: 4,
        n_kv_head: 2,
        head_dim: 6,
        d_model: 16,
        d_ff: 24,
        vocab_size: 40,
        tied_head: true,
        qk_norm: true,
        rope_base: 10_000.0,
        norm_eps: 1e-5,
    }
}

fn network(isa: Isa, threads: usize, precision: Precision) -> Network {
    let device = Arc::new(Device::new(isa, threads));
    Network::new(&shape().blueprint(7), &device, precision, 3, 7)
}

fn objective(tokens: usize) -> Objective {
    Objective { scale: 1.0 / tokens as f32, z_loss: 0.0 }
}

/// The largest difference, as a share of the largest expected magnitude.
fn difference(got: &[f32], expected: &[f32]) -> f32 {
    let size = expected.iter().fold(0.0_f32, |m, v| m.max(v.abs()));
    let largest = got.iter().zip(expected).fold(0.0_f32, |m, (a, b)| m.max((a - b).abs()));
    largest / size
}

#[test]
fn logits_and_gradients_are_those_of_pytorch() {
    let golden = Golden::read();
    let (inputs, targets) = (golden.ids("inputs"), golden.ids("targets"));
    let batch = Batch { inputs: &inputs, targets: &targets, starts: None, weights: None };
    for isa in Isa::available() {
        let mut network = network(isa, 2, Precision::F32);
        let layout = network.layout().clone();
        let weights = golden.parameters(&layout, "weight");
        let mut logits = vec![0.0; 21 * 40];
        network.logits(&weights, batch, &mut logits);
        assert!(difference(&logits, &golden.floats("logits")) < 2e-6, "{isa}: logits");
        let mut gradients = vec![0.0; layout.len()];
        let loss = network.gradients(&weights, batch, objective(21), &mut gradients);
        assert!(
            (loss / 21.0 - f64::from(golden.floats("losses")[0])).abs() < 2e-6,
            "{isa}: {loss}"
        );
        let expected = golden.parameters(&layout, "gradient");
        for tensor in layout.tensors() {
            let range = tensor.range();
            let error = difference(&gradients[range.clone()], &expected[range]);
            assert!(error < 1e-5, "{isa}: gradient of {} is off by {error}", tensor.name);
        }
        let mut losses = vec![0.0; 21];
        network.losses(&weights, batch, &mut losses);
        let sum: f64 = losses.iter().map(|&loss| f64::from(loss)).sum();
        assert!((sum - loss).abs() < 1e-5, "{isa}: evaluation and training agree");
    }
}

#[test]
fn ten_steps_of_adamw_give_the_losses_of_pytorch() {
    let golden = Golden::read();
    let (inputs, targets) = (golden.ids("inputs"), golden.ids("targets"));
    let batch = Batch { inputs: &inputs, targets: &targets, starts: None, weights: None };
    let mut network = network(Isa::detect(), 1, Precision::F32);
    let device = Device::new(Isa::detect(), 1);
    let layout = network.layout().clone();
    let mut weights = golden.parameters(&layout, "weight");
    let mut optimizer = Optimizer::new(OptimizerName::Adamw, &layout);
    let options = recipe::Optimizer {
        name: OptimizerName::Adamw,
        lr: 1e-3,
        beta1: 0.9,
        beta2: 0.95,
        eps: 1e-8,
        muon_lr: 0.0,
        muon_momentum: 0.0,
        weight_decay: 0.1,
        final_weight_decay: 0.1,
        clip: 0.0,
        z_loss: 0.0,
    };
    let rates = Rates { adam: 1e-3, muon: 0.0, weight_decay: 0.1, gradient_scale: 1.0 };
    for (step, expected) in golden.floats("losses").into_iter().enumerate() {
        let mut gradients = vec![0.0; layout.len()];
        let loss = network.gradients(&weights, batch, objective(21), &mut gradients) / 21.0;
        assert!((loss - f64::from(expected)).abs() < 2e-5, "step {step}: {loss}, not {expected}");
        optimizer.step(&device, Precision::F32, &options, rates, &mut weights, &gradients);
    }
}

#[test]
fn threads_and_the_cut_of_a_batch() {
    let golden = Golden::read();
    let (inputs, targets) = (golden.ids("inputs"), golden.ids("targets"));
    let batch = Batch { inputs: &inputs, targets: &targets, starts: None, weights: None };
    let isa = Isa::detect();
    for precision in [Precision::F32, Precision::Bf16] {
        let gradients = |threads: usize, rows: usize| {
            let mut network = network(isa, threads, precision);
            let weights = golden.parameters(network.layout(), "weight");
            let mut gradients = vec![0.0; weights.len()];
            for start in (0..3).step_by(rows) {
                let part = start * 7..(start + rows) * 7;
                let part = Batch {
                    inputs: &batch.inputs[part.clone()],
                    targets: &batch.targets[part],
                    ..batch
                };
                network.gradients(&weights, part, objective(21), &mut gradients);
            }
            gradients
        };
        assert!(gradients(1, 3) == gradients(3, 3), "{precision:?}: threads change no bit");
        let error = difference(&gradients(1, 1), &gradients(1, 3));
        assert!(error < 1e-6, "{precision:?}: an accumulated batch is off by {error}");
    }
}

#[test]
fn a_batch_that_goes_through_in_pieces_is_the_same_batch() {
    let golden = Golden::read();
    let (inputs, targets) = (golden.ids("inputs"), golden.ids("targets"));
    let starts: Vec<u32> = (0..21).map(|i| if i % 7 < 4 { 0 } else { 4 }).collect();
    let batch = Batch { inputs: &inputs, targets: &targets, starts: Some(&starts), weights: None };
    let run = |at_once: usize| {
        let mut network = network(Isa::detect(), 2, Precision::F32);
        network.tokens = at_once * network.time;
        let weights = golden.parameters(network.layout(), "weight");
        let (mut gradients, mut losses) = (vec![0.0; weights.len()], vec![0.0; 21]);
        let mut logits = vec![0.0; 21 * 40];
        network.gradients(&weights, batch, objective(21), &mut gradients);
        network.losses(&weights, batch, &mut losses);
        network.logits(&weights, batch, &mut logits);
        (gradients, losses, logits)
    };
    let whole = run(3);
    for at_once in [1, 2] {
        let pieces = run(at_once);
        assert!(difference(&pieces.0, &whole.0) < 1e-6, "{at_once} rows at once: gradients");
        assert!(pieces.1 == whole.1, "{at_once} rows at once: losses");
        assert!(pieces.2 == whole.2, "{at_once} rows at once: logits");
    }
}

#[test]
fn bfloat16_stays_near_single_precision() {
    let golden = Golden::read();
    let (inputs, targets) = (golden.ids("inputs"), golden.ids("targets"));
    let batch = Batch { inputs: &inputs, targets: &targets, starts: None, weights: None };
    let mut network = network(Isa::detect(), 2, Precision::Bf16);
    let weights = golden.parameters(network.layout(), "weight");
    let mut gradients = vec![0.0; weights.len()];
    let loss = network.gradients(&weights, batch, objective(21), &mut gradients) / 21.0;
    let exact = f64::from(golden.floats("losses")[0]);
    assert!((loss / exact - 1.0).abs() < 5e-3, "{loss} beside {exact}");
    let expected = golden.parameters(network.layout(), "gradient");
    assert!(difference(&gradients, &expected) < 5e-2, "gradients in bfloat16");
}

#[test]
fn a_document_does_not_see_the_one_before_it() {
    let golden = Golden::read();
    let ids = golden.ids("inputs");
    let mut network = network(Isa::detect(), 1, Precision::F32);
    let weights = golden.parameters(network.layout(), "weight");
    // The second document's tokens stand at positions of their own in both rows, so only what is
    // seen differs: other first documents must not change them.
    let starts = [0, 0, 0, 3, 3, 3, 3];
    let mut other = ids[..7].to_vec();
    other[0] = (other[0] + 1) % 40;
    let mut logits = |inputs: &[u32]| {
        let batch = Batch { inputs, targets: inputs, starts: Some(&starts), weights: None };
        let mut logits = vec![0.0; 7 * 40];
        network.logits(&weights, batch, &mut logits);
        logits
    };
    let (first, second) = (logits(&ids[..7]), logits(&other));
    assert_ne!(first[..3 * 40], second[..3 * 40]);
    assert_eq!(first[3 * 40..], second[3 * 40..]);
}

/// With `W = W0 + s B A`, the chain rule gives `dA = s B^T dW` and `dB = s dW A^T`, and `dW` is PyTorch's.
#[test]
fn an_adapter_learns_as_the_merged_model_does() {
    let golden = Golden::read();
    let (inputs, targets) = (golden.ids("inputs"), golden.ids("targets"));
    let batch = Batch { inputs: &inputs, targets: &targets, starts: None, weights: None };
    let some = |names: &[&str]| names.iter().map(|name| (*name).to_string()).collect();
    for lora in [
        Lora::new(3),
        Lora { targets: some(&["k_proj", "down_proj", "up_proj"]), ..Lora::new(1) },
        Lora { rank_stabilised: true, alpha: 5.0, ..Lora::new(4) },
    ] {
        let frozen =
            golden.parameters(network(Isa::detect(), 2, Precision::F32).layout(), "weight");
        let adapted = || {
            network(Isa::detect(), 2, Precision::F32)
                .with_adapter(Frozen::Whole(frozen.clone()), &lora)
        };
        let mut decoder = adapted();
        let layout = decoder.layout().clone();
        // B is not zero, as it would be at the beginning.
        let values: Vec<f32> =
            (0..layout.len()).map(|i| ((i * 37 % 101) as f32 - 50.0) / 200.0).collect();
        let mut gradients = vec![0.0; layout.len()];
        let loss = decoder.gradients(&values, batch, objective(21), &mut gradients);
        let mut whole = network(Isa::detect(), 2, Precision::F32);
        let whole_layout = whole.layout().clone();
        let merged = adapted().merged(values.clone());
        let mut d_w = vec![0.0; whole_layout.len()];
        let merged_loss = whole.gradients(&merged, batch, objective(21), &mut d_w);
        assert!((loss - merged_loss).abs() < 1e-4, "{lora:?}: {loss} and {merged_loss}");
        let scale = lora.scale() as f32;
        for a in layout.tensors().iter().filter(|tensor| tensor.kind == Kind::AdapterIn) {
            let name = a.name.replace("lora_A", "lora_B");
            let b = layout.tensors().iter().find(|tensor| tensor.name == name).expect("its pair");
            let name = a.name.trim_start_matches("base_model.model.").replace("lora_A.", "");
            let w =
                whole_layout.tensors().iter().find(|tensor| tensor.name == name).expect("a matrix");
            let (out, n_in, rank) = (w.rows, w.cols, lora.rank);
            assert_eq!((a.rows, a.cols, b.rows, b.cols), (rank, n_in, out, rank), "{}", a.name);
            let (d_w, a_values, b_values) =
                (&d_w[w.range()], &values[a.range()], &values[b.range()]);
            let d_a: Vec<f32> = (0..rank * n_in)
                .map(|i| {
                    (0..out)
                        .map(|o| scale * b_values[o * rank + i / n_in] * d_w[o * n_in + i % n_in])
                        .sum()
                })
                .collect();
            let d_b: Vec<f32> = (0..out * rank)
                .map(|i| {
                    (0..n_in)
                        .map(|j| scale * d_w[i / rank * n_in + j] * a_values[i % rank * n_in + j])
                        .sum()
                })
                .collect();
            for (tensor, expected) in [(a, d_a), (b, d_b)] {
                let error = difference(&gradients[tensor.range()], &expected);
                assert!(error < 1e-4, "{lora:?}: gradient of {} is off by {error}", tensor.name);
            }
        }
    }
}
