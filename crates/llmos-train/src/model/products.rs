//! The matrix products of a step, for the bound that they alone set on its speed.

use std::time::Instant;

use llmos_tensor::Device;
use llmos_tensor::gemm::{self, Precision, View, ViewMut, gemm};

use crate::recipe::ModelShape;

/// A linear layer's products: outputs, inputs, and how often a token passes through one of its size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Linear {
    /// Rows of its weights.
    n_out: usize,
    /// Columns of its weights.
    n_in: usize,
    /// Layers of this size.
    count: usize,
}

/// The linear layers of a shape, the head among them.
fn linears(shape: &ModelShape) -> [Linear; 5] {
    let (c, d, f, l) = (shape.d_model, shape.head_dim, shape.d_ff, shape.n_layer);
    let (q, kv) = (shape.n_head * d, shape.n_kv_head * d);
    [
        Linear { n_out: q + 2 * kv, n_in: c, count: l },
        Linear { n_out: c, n_in: q, count: l },
        Linear { n_out: 2 * f, n_in: c, count: l },
        Linear { n_out: c, n_in: f, count: l },
        Linear { n_out: shape.vocab_size, n_in: c, count: 1 },
    ]
}

/// Bytes of the largest packed operand of a step's products, `tokens` of which go through at once.
pub(super) fn packed_bytes(shape: &ModelShape, tokens: usize) -> u64 {
    let largest = linears(shape).into_iter().flat_map(|Linear { n_out, n_in, .. }| {
        [(n_in, n_out), (n_out, n_in), (tokens, n_in)].map(|(k, n)| gemm::packed_bytes(k, n) as u64)
    });
    largest.max().unwrap_or(0)
}

/// Seconds that the products of a step of `tokens` take by themselves: of each size forward, input's
/// and weight's gradient, the best of `rounds`.
pub fn products_seconds(
    device: &Device,
    precision: Precision,
    shape: &ModelShape,
    tokens: usize,
    rounds: usize,
) -> f64 {
    linears(shape)
        .iter()
        .map(|&Linear { n_out, n_in, count }| {
            let (x, w) = (vec![0.5_f32; tokens * n_in], vec![0.25_f32; n_out * n_in]);
            let mut y = vec![0.0_f32; tokens * n_out];
            let (mut d_x, mut d_w) = (vec![0.0_f32; tokens * n_in], vec![0.0_f32; n_out * n_in]);
            let best = (0..rounds.max(1)).map(|_| {
                let clock = Instant::now();
                let (x, w) = (View::dense(&x, tokens, n_in), View::dense(&w, n_out, n_in));
                let out = ViewMut::dense(&mut y, tokens, n_out);
                gemm(device, precision, x, w.transposed(), out, false);
                let y = View::dense(&y, tokens, n_out);
                let out = ViewMut::dense(&mut d_x, tokens, n_in);
                gemm(device, precision, y, w, out, false);
                let out = ViewMut::dense(&mut d_w, n_out, n_in);
                gemm(device, precision, y.transposed(), x, out, true);
                clock.elapsed().as_secs_f64()
            });
            best.fold(f64::INFINITY, f64::min) * count as f64
        })
        .sum()
}
