//! The gate of SwiGLU, apart and side by side in one buffer.

use super::*;
use crate::ops::train::{
    Rows, RowsMut, silu_gate_backward, silu_gate_backward_in_place, silu_gate_forward,
};
use crate::ops::{Activation, activation_gate};

fn exact(gate: &[f64], up: &[f64]) -> Vec<f64> {
    gate.iter().zip(up).map(|(gate, up)| gate / (1.0 + (-gate).exp()) * up).collect()
}

fn both_ways(device: &Device, gate: &[f32], up: &[f32], d: &[f32], width: usize) -> Vec<Vec<f32>> {
    let mut results = vec![vec![f32::NAN; gate.len()]; 3];
    let (gate, up, d) =
        (Rows::packed(gate, width), Rows::packed(up, width), Rows::packed(d, width));
    let [out, dgate, dup] = &mut results[..] else { unreachable!() };
    silu_gate_forward(device, gate, up, RowsMut::packed(out, width));
    let (dgate, dup) = (RowsMut::packed(dgate, width), RowsMut::packed(dup, width));
    silu_gate_backward(device, gate, up, d, dgate, dup);
    results
}

#[test]
fn forward_and_backward() {
    for (n, width) in [(1, 1), (3, 37), (2, 64), (90, 700)] {
        let gate = noise(1, n * width, 12.0);
        let (up, dout) = (noise(2, n * width, 2.0), noise(3, n * width, 1.0));
        let (wide_gate, wide_up) = (widen(&gate), widen(&up));
        let out = exact(&wide_gate, &wide_up);
        // Numbers are independent, so that all differences can be taken at once.
        let slope = |change: &dyn Fn(f64) -> Vec<f64>| -> Vec<f64> {
            let (above, below) = (change(1e-5), change(-1e-5));
            let slopes = above.iter().zip(&below).map(|(above, below)| (above - below) / 2e-5);
            slopes.zip(&dout).map(|(slope, d)| slope * f64::from(*d)).collect()
        };
        let moved = |x: &[f64], by: f64| -> Vec<f64> { x.iter().map(|x| x + by).collect() };
        let dgate = slope(&|by| exact(&moved(&wide_gate, by), &wide_up));
        let dup = slope(&|by| exact(&wide_gate, &moved(&wide_up, by)));
        let bounds: Vec<f64> = wide_up
            .iter()
            .zip(&dout)
            .map(|(up, d)| 1e-6 * (up * f64::from(*d)).abs() + 1e-9)
            .collect();
        on_every_device(
            |device| both_ways(device, &gate, &up, &dout, width),
            |isa, got| {
                let what = format!("{isa} ({n}, {width})");
                assert_close(&what, &got[0], &out, 2e-6, 1e-30);
                assert_within(&what, &got[1], &dgate, &bounds);
                assert_close(&what, &got[2], &dup, 2e-6, 1e-9);
                let mut served = vec![0.0; gate.len()];
                activation_gate(isa, Activation::Silu, &gate, &up, &mut served);
                assert_eq!(got[0], served, "{what}: not the gate of serving");
            },
        );
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
            silu_gate_forward(device, gate, up, RowsMut::packed(&mut out, F));
            let (gate, up) = RowsMut::new(&mut d, N, 2, F, 2 * F).split_at(1);
            silu_gate_backward_in_place(device, gate, up, Rows::packed(&dout, F));
            vec![out, part(&d, 0), part(&d, F)]
        },
        |isa, got| {
            let (gate, up) = (part(&fused, 0), part(&fused, F));
            let apart = both_ways(&Device::new(isa, 1), &gate, &up, &dout, F);
            assert!(got == apart, "{isa}");
        },
    );
}

#[test]
fn far_from_zero() {
    let gate = [-100.0, 100.0, -1e30, 1e30, 0.0];
    on_every_device(
        |device| both_ways(device, &gate, &[2.0; 5], &[3.0; 5], 5),
        |isa, got| {
            assert_close(&format!("{isa}"), &got[0], &[0.0, 200.0, 0.0, 2e30, 0.0], 1e-6, 1e-30);
            assert_close(&format!("{isa}"), &got[1], &[0.0, 6.0, 0.0, 6.0, 3.0], 1e-6, 1e-30);
            assert_close(&format!("{isa}"), &got[2], &[0.0, 300.0, 0.0, 3e30, 0.0], 1e-6, 1e-30);
        },
    );
}
