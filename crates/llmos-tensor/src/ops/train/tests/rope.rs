//! Rotary positions of several sequences.

use super::*;
use crate::ops::Pairing;
use crate::ops::train::{RopeTable, RowsMut, rope_backward, rope_forward};

/// Frequencies as Llama has them.
fn frequencies(n_rot: usize) -> Vec<f32> {
    (0..n_rot / 2).map(|i| 10000f32.powf(-2.0 * i as f32 / n_rot as f32)).collect()
}

fn exact(
    x: &[f64],
    pairing: Pairing,
    sequence: usize,
    heads: usize,
    size: usize,
    n_rot: usize,
    magnitude: f64,
) -> Vec<f64> {
    let mut out = x.to_vec();
    for (row, head) in out.chunks_mut(size).enumerate() {
        let position = row / heads % sequence;
        for (i, frequency) in frequencies(n_rot).iter().enumerate() {
            let (sin, cos) = f64::from(position as f32 * frequency).sin_cos();
            let (sin, cos) = (sin * magnitude, cos * magnitude);
            let (a, b) = match pairing {
                Pairing::Adjacent => (2 * i, 2 * i + 1),
                Pairing::Halves => (i, n_rot / 2 + i),
            };
            (head[a], head[b]) = (head[a] * cos - head[b] * sin, head[b] * cos + head[a] * sin);
        }
    }
    out
}

#[test]
fn forward_and_backward() {
    for (n_sequence, sequence, heads, size, n_rot, magnitude) in
        [(2, 5, 3, 20, 16, 1.0), (1, 4, 1, 6, 6, 1.25), (3, 3, 2, 64, 64, 1.0)]
    {
        for pairing in [Pairing::Halves, Pairing::Adjacent] {
            let n = n_sequence * sequence * heads * size;
            let (x, dout) = (noise(1, n, 2.0), noise(2, n, 1.0));
            let of =
                |x: &[f64]| exact(x, pairing, sequence, heads, size, n_rot, f64::from(magnitude));
            let out = of(&widen(&x));
            let dx = differences(&widen(&x), |x| dot(&of(x), &dout));
            let table = RopeTable::new(&frequencies(n_rot), magnitude, sequence + 2, pairing);
            let tokens = n_sequence * sequence;
            on_every_device(
                |device| {
                    let (mut out, mut d) = (x.clone(), dout.clone());
                    let to = RowsMut::new(&mut out, tokens, heads, size, heads * size);
                    rope_forward(device, &table, sequence, to);
                    let to = RowsMut::new(&mut d, tokens, heads, size, heads * size);
                    rope_backward(device, &table, sequence, to);
                    vec![out, d]
                },
                |isa, got| {
                    let what = format!("{isa} {pairing:?} {size}");
                    assert_close(&what, &got[0], &out, 0.0, 1e-6);
                    assert_close(&what, &got[1], &dx, 0.0, 1e-6);
                },
            );
        }
    }
}

#[test]
fn queries_and_keys_of_a_fused_buffer_turn_alone() {
    const T: usize = 6;
    const D: usize = 16;
    let x = noise(3, T * 4 * D, 1.0);
    let table = RopeTable::new(&frequencies(D), 1.0, T, Pairing::Halves);
    let device = Device::new(Isa::detect(), 2);
    let mut fused = x.clone();
    let (q, kv) = RowsMut::new(&mut fused, T, 4, D, 4 * D).split_at(2);
    let (k, _) = kv.split_at(1);
    rope_forward(&device, &table, T, q);
    rope_forward(&device, &table, T, k);
    let mut all = x.clone();
    rope_forward(&device, &table, T, RowsMut::new(&mut all, T, 4, D, 4 * D));
    for ((fused, all), x) in fused.chunks(4 * D).zip(all.chunks(4 * D)).zip(x.chunks(4 * D)) {
        assert_eq!(fused[..3 * D], all[..3 * D]);
        assert_eq!(fused[3 * D..], x[3 * D..]);
    }
    rope_backward(&device, &table, T, RowsMut::new(&mut all, T, 4, D, 4 * D));
    assert_close("there and back", &all, &widen(&x), 0.0, 5e-7);
}
