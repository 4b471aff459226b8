//! Numbers that PyTorch computed: testdata/train/make_ops.py.

use std::collections::HashMap;
use std::path::Path;

use super::*;
use crate::ops::train::*;
use crate::ops::{Activation, Pairing};

/// The entries of ops.bin.
struct Golden(HashMap<String, Vec<f32>>);

impl Golden {
    fn read() -> Golden {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/train/ops.bin");
        let bytes =
            std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let mut rest = bytes.as_slice();
        let mut take = |n: usize| {
            let (taken, left) = rest.split_at(n);
            rest = left;
            taken
        };
        let mut entries = HashMap::new();
        let mut left = bytes.len();
        while left > 0 {
            let mut count = || u32::from_le_bytes(take(4).try_into().unwrap()) as usize;
            let name_len = count();
            let name = String::from_utf8(take(name_len).to_vec()).unwrap();
            let n = u32::from_le_bytes(take(4).try_into().unwrap()) as usize;
            let values = take(4 * n).as_chunks::<4>().0;
            entries.insert(name, values.iter().map(|x| f32::from_le_bytes(*x)).collect());
            left -= 8 + name_len + 4 * n;
        }
        Golden(entries)
    }

    fn get(&self, name: &str) -> &[f32] {
        self.0.get(name).unwrap_or_else(|| panic!("ops.bin has no {name}"))
    }

    /// Asserts that `got` is the entry `name` to the bit.
    #[track_caller]
    fn check_bits(&self, isa: Isa, name: &str, got: &[f32]) {
        let golden = self.get(name);
        let different = got.iter().zip(golden).position(|(a, b)| a.to_bits() != b.to_bits());
        assert!(got.len() == golden.len() && different.is_none(), "{isa} {name} at {different:?}");
    }

    /// Asserts that `got` is the entry `name` to `absolute` plus `relative` of each number.
    #[track_caller]
    fn check(&self, isa: Isa, name: &str, got: &[f32], relative: f64, absolute: f64) {
        assert_close(&format!("{isa} {name}"), got, &widen(self.get(name)), relative, absolute);
    }
}

#[test]
fn rmsnorm() {
    let golden = Golden::read();
    let (x, weight) = (golden.get("rmsnorm.x"), golden.get("rmsnorm.weight"));
    for isa in Isa::available() {
        let device = Device::new(isa, 2);
        let (mut out, mut inverse) = (vec![0.0; x.len()], vec![0.0; 150]);
        let (mut dx, mut dweight) = (vec![0.0; x.len()], vec![0.0; 40]);
        let mut partial = vec![0.0; rmsnorm_partial_len(150, 40)];
        let gradient = WeightGradient { dweight: &mut dweight, partial: &mut partial };
        let (rows, to) = (Rows::packed(x, 40), RowsMut::packed(&mut out, 40));
        rmsnorm_forward(&device, rows, Some(weight), 1e-5, to, &mut inverse);
        let dout = Rows::packed(golden.get("rmsnorm.dout"), 40);
        let to = RowsMut::packed(&mut dx, 40);
        rmsnorm_backward(&device, rows, Some(weight), &inverse, dout, to, false, Some(gradient));
        golden.check(isa, "rmsnorm.out", &out, 5e-7, 0.0);
        golden.check(isa, "rmsnorm.dx", &dx, 1e-6, 1e-6);
        golden.check(isa, "rmsnorm.dweight", &dweight, 1e-6, 2e-5);
    }
}

#[test]
fn norm_of_heads() {
    const SHAPE: [usize; 4] = [9, 5, 24, 5 * 24];
    let [tokens, heads, size, stride] = SHAPE;
    let golden = Golden::read();
    let (qkv, weight) = (golden.get("head_norm.qkv"), golden.get("head_norm.weight"));
    for isa in Isa::available() {
        let device = Device::new(isa, 2);
        let (mut out, mut inverse) = (qkv.to_vec(), vec![0.0; tokens * 3]);
        let (mut d, mut dweight) = (golden.get("head_norm.dout").to_vec(), vec![0.0; size]);
        let mut partial = vec![0.0; rmsnorm_partial_len(tokens, size)];
        let gradient = WeightGradient { dweight: &mut dweight, partial: &mut partial };
        let q = Rows::new(qkv, tokens, heads, size, stride).split_at(3).0;
        let to = RowsMut::new(&mut out, tokens, heads, size, stride).split_at(3).0;
        rmsnorm_forward(&device, q, Some(weight), 1e-6, to, &mut inverse);
        let to = RowsMut::new(&mut d, tokens, heads, size, stride).split_at(3).0;
        rmsnorm_backward_in_place(&device, q, Some(weight), &inverse, to, Some(gradient));
        golden.check(isa, "head_norm.out", &out, 5e-7, 0.0);
        golden.check(isa, "head_norm.dqkv", &d, 1e-6, 2e-6);
        golden.check(isa, "head_norm.dweight", &dweight, 1e-6, 5e-6);
    }
}

#[test]
fn rope() {
    let golden = Golden::read();
    let table = RopeTable::new(golden.get("rope.frequencies"), 1.0, 7, Pairing::Halves);
    for isa in Isa::available() {
        let device = Device::new(isa, 2);
        let (mut x, mut d) = (golden.get("rope.x").to_vec(), golden.get("rope.dout").to_vec());
        rope_forward(&device, &table, 7, RowsMut::new(&mut x, 14, 3, 20, 60));
        rope_backward(&device, &table, 7, RowsMut::new(&mut d, 14, 3, 20, 60));
        golden.check(isa, "rope.out", &x, 0.0, 1e-6);
        golden.check(isa, "rope.dx", &d, 0.0, 1e-6);
    }
}

#[test]
fn swiglu() {
    let golden = Golden::read();
    for isa in Isa::available() {
        let device = Device::new(isa, 2);
        let (gate, up) = (golden.get("swiglu.gate"), golden.get("swiglu.up"));
        let mut out = vec![0.0; gate.len()];
        let rows = |x| Rows::packed(x, 37);
        gate_forward(
            &device,
            Activation::Silu,
            rows(gate),
            rows(up),
            RowsMut::packed(&mut out, 37),
        );
        let (mut dgate, mut dup) = (gate.to_vec(), up.to_vec());
        let (gate, up) = (RowsMut::packed(&mut dgate, 37), RowsMut::packed(&mut dup, 37));
        gate_backward_in_place(
            &device,
            Activation::Silu,
            gate,
            up,
            rows(golden.get("swiglu.dout")),
        );
        golden.check(isa, "swiglu.out", &out, 1e-6, 1e-9);
        golden.check(isa, "swiglu.dgate", &dgate, 1e-6, 1e-6);
        golden.check(isa, "swiglu.dup", &dup, 1e-6, 1e-9);
    }
}

#[test]
fn loss() {
    let golden = Golden::read();
    let targets: Vec<u32> = golden
        .get("cross_entropy.targets")
        .iter()
        .map(|t| if *t < 0.0 { u32::MAX } else { *t as u32 })
        .collect();
    let counted = targets.iter().filter(|t| **t != u32::MAX).count();
    let options =
        CrossEntropy { ignore: u32::MAX, scale: 1.0 / counted as f32, weights: None, z_loss: 1e-2 };
    for isa in Isa::available() {
        let device = Device::new(isa, 2);
        let mut logits = golden.get("cross_entropy.logits").to_vec();
        let mut losses = vec![0.0; targets.len()];
        cross_entropy(&device, &mut logits, 1100, &targets, options, &mut losses);
        golden.check(isa, "cross_entropy.losses", &losses, 1e-7, 1e-6);
        golden.check(isa, "cross_entropy.dlogits", &logits, 3e-6, 1e-8);
    }
}

#[test]
fn adamw() {
    let golden = Golden::read();
    for isa in Isa::available() {
        let device = Device::new(isa, 2);
        let mut weights = golden.get("adamw.weights").to_vec();
        let (mut m, mut v) = (vec![0.0; weights.len()], vec![0.0; weights.len()]);
        for step in 1..=5 {
            let gradient = golden.get(&format!("adamw.gradient.{step}"));
            let options = AdamW {
                learning_rate: 3e-3,
                beta1: 0.9,
                beta2: 0.95,
                eps: 1e-8,
                weight_decay: 0.1,
                step,
            };
            adamw_step(&device, &mut weights, gradient, &mut m, &mut v, options, 0.37);
            golden.check_bits(isa, &format!("adamw.m.{step}"), &m);
            golden.check_bits(isa, &format!("adamw.v.{step}"), &v);
            // A unit in the last place of a step of 3e-3, and of the weight that it is added to.
            golden.check(isa, &format!("adamw.weights.{step}"), &weights, 1.2e-7, 5e-10);
        }
    }
}

#[test]
fn muon() {
    let golden = Golden::read();
    for isa in Isa::available() {
        let device = Device::new(isa, 2);
        let (mut momentum, mut out) = (vec![0.0; 203], vec![0.0; 203]);
        for step in 1..=3 {
            let gradient = golden.get(&format!("muon.gradient.{step}"));
            muon_momentum(&device, gradient, &mut momentum, 0.95, true, 1.0, &mut out);
            golden.check_bits(isa, &format!("muon.momentum.{step}"), &momentum);
            golden.check_bits(isa, &format!("muon.update.{step}"), &out);
        }
    }
}
