//! Optimizer steps: against definitions in double precision; golden.rs holds PyTorch's numbers.

use super::*;
use crate::ops::train::{AdamW, adamw_step, muon_momentum};

const STEP: AdamW =
    AdamW { learning_rate: 2e-3, beta1: 0.9, beta2: 0.98, eps: 1e-8, weight_decay: 0.1, step: 3 };

#[test]
fn adamw() {
    for n in [1, 15, 16, 40_000] {
        let (weights, g) = (noise(1, n, 1.0), noise(2, n, 1.0));
        let (m, v) = (noise(3, n, 0.5), noise(4, n, 0.5));
        let v: Vec<f32> = v.iter().map(|x| x * x).collect();
        let scale = 0.3f32;
        let mut exact = vec![Vec::new(); 3];
        for i in 0..n {
            let (g, m, v) = (f64::from(g[i] * scale), f64::from(m[i]), f64::from(v[i]));
            let (m, v) = (0.9 * m + 0.1 * g, 0.98 * v + 0.02 * g * g);
            let (mean, square) = (m / (1.0 - 0.9f64.powi(3)), v / (1.0 - 0.98f64.powi(3)));
            let kept = f64::from(weights[i]) * (1.0 - 2e-3 * 0.1);
            let weight = kept - 2e-3 * mean / (square.sqrt() + 1e-8);
            [weight, m, v].into_iter().zip(&mut exact).for_each(|(x, exact)| exact.push(x));
        }
        let compute = |device: &Device| {
            let (mut weights, mut m, mut v) = (weights.clone(), m.clone(), v.clone());
            adamw_step(device, &mut weights, &g, &mut m, &mut v, STEP, scale);
            vec![weights, m, v]
        };
        let plain = compute(&Device::new(Isa::SCALAR, 1));
        on_every_device(compute, |isa, got| {
            assert!(bits(got) == bits(&plain), "{isa} {n}: other bits than the plain version");
            for (got, exact) in got.iter().zip(&exact) {
                assert_close(&format!("{isa} {n}"), got, exact, 2e-7, 2e-7);
            }
        });
    }
}

#[test]
fn weights_without_gradients_only_decay() {
    let device = Device::new(Isa::detect(), 1);
    let (mut weights, mut m, mut v) = ([2.0, -1.0], [0.0; 2], [0.0; 2]);
    let options = AdamW { learning_rate: 0.5, weight_decay: 0.5, step: 1, ..STEP };
    adamw_step(&device, &mut weights, &[0.0; 2], &mut m, &mut v, options, 1.0);
    assert_eq!((weights, m, v), ([1.5, -0.75], [0.0; 2], [0.0; 2]));
}

#[test]
fn muon() {
    for n in [1, 15, 16, 40_000] {
        let (g, before) = (noise(1, n, 1.0), noise(2, n, 1.0));
        for (beta, nesterov) in [(0.95, true), (0.95, false), (0.3, true)] {
            let (mut exact, mut update) = (Vec::new(), Vec::new());
            for (g, before) in g.iter().zip(&before) {
                let (g, before) = (f64::from(g * 0.5), f64::from(*before));
                let mean = beta * before + (1.0 - beta) * g;
                exact.push(mean);
                update.push(if nesterov { beta * mean + (1.0 - beta) * g } else { mean });
            }
            let compute = |device: &Device| {
                let (mut momentum, mut out) = (before.clone(), vec![f32::NAN; n]);
                muon_momentum(device, &g, &mut momentum, beta, nesterov, 0.5, &mut out);
                vec![momentum, out]
            };
            let plain = compute(&Device::new(Isa::SCALAR, 1));
            on_every_device(compute, |isa, got| {
                assert!(bits(got) == bits(&plain), "{isa} {n}: other bits than the plain version");
                assert_close(&format!("{isa} {n}"), &got[0], &exact, 2e-7, 1e-7);
                assert_close(&format!("{isa} {n}"), &got[1], &update, 2e-7, 1e-7);
            });
        }
    }
}
