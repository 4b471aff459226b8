//! Gates of feed-forward layers, apart and side by side in one buffer.

use super::*;
use crate::ops::train::{Rows, RowsMut, gate_backward, gate_backward_in_place, gate_forward};
use crate::ops::{Activation, activation_gate};

const ALL: [Activation; 4] =
    [Activation::Silu, Activation::Gelu, Activation::GeluTanh, Activation::Relu2];

/// The activation in double precision.
fn active(activation: Activation, x: f64) -> f64 {
    match activation {
        Activation::Silu => x / (1.0 + (-x).exp()),
        Activation::Gelu => x * normal(x),
        Activation::GeluTanh => {
            let u = (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x * x * x);
            x / (1.0 + (-2.0 * u).exp())
        }
        Activation::Relu2 => x.max(0.0).powi(2),
    }
}

/// The normal distribution by its series and, far out, its continued fraction.
fn normal(x: f64) -> f64 {
    let density = (-0.5 * x * x).exp() / std::f64::consts::TAU.sqrt();
    if x.abs() > 3.5 {
        let fraction = (1..=60).rev().fold(x.abs(), |below, k| x.abs() + f64::from(k) / below);
        let tail = density / fraction;
        return if x < 0.0 { tail } else { 1.0 - tail };
    }
    let (mut term, mut sum) = (x, x);
    for k in 1..200 {
        term *= x * x / f64::from(2 * k + 1);
        sum += term;
    }
    0.5 + density * sum
}

fn exact(activation: Activation, gate: &[f64], up: &[f64]) -> Vec<f64> {
    gate.iter().zip(up).map(|(gate, up)| active(activation, *gate) * up).collect()
}

fn both_ways(
    device: &Device,
    activation: Activation,
    gate: &[f32],
    up: &[f32],
    d: &[f32],
    width: usize,
) -> Vec<Vec<f32>> {
    let mut results = vec![vec![f32::NAN; gate.len()]; 3];
    let (gate, up, d) =
        (Rows::packed(gate, width), Rows::packed(up, width), Rows::packed(d, width));
    let [out, dgate, dup] = &mut results[..] else { unreachable!() };
    gate_forward(device, activation, gate, up, RowsMut::packed(out, width));
    let (dgate, dup) = (RowsMut::packed(dgate, width), RowsMut::packed(dup, width));
    gate_backward(device, activation, gate, up, d, dgate, dup);
    results
}

#[test]
fn forward_and_backward() {
    for activation in ALL {
        for (n, width) in [(1, 1), (3, 37), (2, 64), (90, 700)] {
            let gate = noise(1, n * width, 12.0);
            let (up, dout) = (noise(2, n * width, 2.0), noise(3, n * width, 1.0));
            let (wide_gate, wide_up) = (widen(&gate), widen(&up));
            let out = exact(activation, &wide_gate, &wide_up);
            // Numbers are independent, so that all differences can be taken at once.
            let slope = |change: &dyn Fn(f64) -> Vec<f64>| -> Vec<f64> {
                let (above, below) = (change(1e-5), change(-1e-5));
                let slopes = above.iter().zip(&below).map(|(above, below)| (above - below) / 2e-5);
                slopes.zip(&dout).map(|(slope, d)| slope * f64::from(*d)).collect()
            };
            let moved = |x: &[f64], by: f64| -> Vec<f64> { x.iter().map(|x| x + by).collect() };
            let dgate = slope(&|by| exact(activation, &moved(&wide_gate, by), &wide_up));
            let dup = slope(&|by| exact(activation, &wide_gate, &moved(&wide_up, by)));
            let bounds: Vec<f64> = (0..gate.len())
                .map(|i| {
                    let steep = if activation == Activation::Relu2 {
                        wide_gate[i].abs().max(1.0)
                    } else {
                        1.0
                    };
                    1e-6 * steep * (wide_up[i] * f64::from(dout[i])).abs() + 2e-9
                })
                .collect();
            let (relative, absolute) = match activation {
                Activation::Gelu => (4e-6, 1e-10),
                Activation::GeluTanh => (4e-6, 1e-15),
                _ => (2e-6, 1e-30),
            };
            on_every_device(
                |device| both_ways(device, activation, &gate, &up, &dout, width),
                |isa, got| {
                    let what = format!("{isa} {activation:?} ({n}, {width})");
                    assert_close(&what, &got[0], &out, relative, absolute);
                    assert_within(&what, &got[1], &dgate, &bounds);
                    assert_close(&what, &got[2], &dup, relative, 1e-8);
                    let mut served = vec![0.0; gate.len()];
                    activation_gate(isa, activation, &gate, &up, &mut served);
                    assert_eq!(got[0], served, "{what}: not the gate of serving");
                },
            );
        }
    }
}

#[test]
fn side_by_side_and_in_place() {
    const N: usize = 40;
    const F: usize = 555;
    let (fused, dout) = (noise(1, N * 2 * F, 5.0), noise(2, N * F, 1.0));
    let part = |data: &[f32], from: usize| -> Vec<f32> {
        data.chunks(2 * F).flat_map(|row| row[from..from + F].to_vec()).collect()
    };
    on_every_device(
        |device| {
            let (mut d, mut out) = (fused.clone(), vec![f32::NAN; N * F]);
            let (gate, up) = Rows::new(&fused, N, 2, F, 2 * F).split_at(1);
            gate_forward(device, Activation::GeluTanh, gate, up, RowsMut::packed(&mut out, F));
            let (gate, up) = RowsMut::new(&mut d, N, 2, F, 2 * F).split_at(1);
            gate_backward_in_place(device, Activation::GeluTanh, gate, up, Rows::packed(&dout, F));
            vec![out, part(&d, 0), part(&d, F)]
        },
        |isa, got| {
            let (gate, up) = (part(&fused, 0), part(&fused, F));
            let apart = both_ways(&Device::new(isa, 1), Activation::GeluTanh, &gate, &up, &dout, F);
            assert!(got == apart, "{isa}");
        },
    );
}

#[test]
fn far_from_zero() {
    let gate = [-100.0, 100.0, -1e30, 1e30, 0.0];
    for activation in [Activation::Silu, Activation::Gelu, Activation::GeluTanh] {
        on_every_device(
            |device| both_ways(device, activation, &gate, &[2.0; 5], &[3.0; 5], 5),
            |isa, got| {
                let what = format!("{isa} {activation:?}");
                assert_close(&what, &got[0], &[0.0, 200.0, 0.0, 2e30, 0.0], 1e-6, 1e-24);
                assert_close(&what, &got[1], &[0.0, 6.0, 0.0, 6.0, 3.0], 1e-6, 1e-24);
                assert_close(&what, &got[2], &[0.0, 300.0, 0.0, 3e30, 0.0], 1e-6, 1e-24);
            },
        );
    }
}
