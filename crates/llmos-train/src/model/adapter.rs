//! LoRA (arXiv:2106.09685): beside a frozen matrix W (out, in) two small ones learn, A (rank, in) and B
//! (out, rank), and what comes out is `x W^T + scale * x A^T B^T`.
//!
//! Matrices that read the same input lie in one product (queries, keys, values; gate, up), and so do
//! their A: (parts * rank, in). Names are PEFT's.

use std::ops::Range;

use llmos_tensor::Device;
use llmos_tensor::gemm::{Precision, View, ViewMut, gemm};
use llmos_tensor::ops::train::scale_in_place;
use serde::{Deserialize, Serialize};

use super::parameters::{Kind, Layout, Tensor};
use crate::recipe::ModelShape;

/// Matrices of a block that can be adapted, as Hugging Face files name them.
pub const TARGETS: [&str; 7] =
    ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"];

/// What is adapted, and how strongly.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lora {
    /// Columns of B (r).
    pub rank: usize,
    /// The scale is `alpha / rank`.
    pub alpha: f64,
    /// The scale is `alpha / sqrt(rank)` (arXiv:2312.03732).
    pub rank_stabilised: bool,
    /// Names out of [`TARGETS`].
    pub targets: Vec<String>,
}

impl Lora {
    /// The usual one of a rank: all matrices, alpha twice the rank.
    pub fn new(rank: usize) -> Lora {
        Lora {
            rank,
            alpha: 2.0 * rank as f64,
            rank_stabilised: false,
            targets: TARGETS.map(str::to_string).to_vec(),
        }
    }

    /// What `B A` is multiplied with.
    pub fn scale(&self) -> f64 {
        let rank = self.rank as f64;
        self.alpha / if self.rank_stabilised { rank.sqrt() } else { rank }
    }
}

/// Where in a block a product stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Qkv,
    Output,
    GateUp,
    Down,
}

/// One adapted matrix of a product.
#[derive(Clone, Debug)]
struct Part {
    /// (out, rank)
    b: Range<usize>,
    /// Its columns of the product's output.
    columns: Range<usize>,
}

/// The adapted matrices of a product.
#[derive(Clone, Debug, Default)]
struct Group {
    /// (parts * rank, in)
    a: Range<usize>,
    parts: Vec<Part>,
}

/// The matrices that learn, and where they stand.
#[derive(Clone, Debug)]
pub(super) struct Adapter {
    pub(super) layout: Layout,
    layers: Vec<[Group; 4]>,
    rank: usize,
    scale: f32,
}

/// What an adapter's products are computed with.
pub(super) struct Work<'a> {
    pub(super) device: &'a Device,
    pub(super) precision: Precision,
    /// The adapter's numbers.
    pub(super) values: &'a [f32],
    /// (N, 3 * rank) and more: x times A.
    pub(super) low: &'a mut [f32],
}

impl Adapter {
    pub(super) fn new(shape: &ModelShape, lora: &Lora) -> Adapter {
        let (c, d, f, rank) = (shape.d_model, shape.head_dim, shape.d_ff, lora.rank);
        let (q, kv) = (shape.n_head * d, shape.n_kv_head * d);
        let places = [
            (c, vec![("self_attn.q_proj", q), ("self_attn.k_proj", kv), ("self_attn.v_proj", kv)]),
            (q, vec![("self_attn.o_proj", c)]),
            (c, vec![("mlp.gate_proj", f), ("mlp.up_proj", f)]),
            (f, vec![("mlp.down_proj", c)]),
        ];
        let is_target =
            |name: &str| lora.targets.iter().any(|target| name.ends_with(target.as_str()));
        let mut tensors: Vec<Tensor> = Vec::new();
        let mut len = 0;
        let mut add = |name: String, kind: Kind, rows: usize, cols: usize| {
            tensors.push(Tensor { name, kind, rows, cols, start: len });
            len += rows * cols;
            len - rows * cols..len
        };
        let layers = (0..shape.n_layer)
            .map(|l| {
                places.clone().map(|(n_in, matrices)| {
                    let name = |matrix: &str, of: &str| {
                        format!("base_model.model.model.layers.{l}.{matrix}.lora_{of}.weight")
                    };
                    let mut column = 0;
                    let mut chosen = Vec::new();
                    for (matrix, n_out) in matrices {
                        if is_target(matrix) {
                            chosen.push((matrix, column..column + n_out));
                        }
                        column += n_out;
                    }
                    let a: Vec<Range<usize>> = chosen
                        .iter()
                        .map(|(matrix, _)| add(name(matrix, "A"), Kind::AdapterIn, rank, n_in))
                        .collect();
                    let parts = chosen
                        .into_iter()
                        .map(|(matrix, columns)| Part {
                            b: add(name(matrix, "B"), Kind::AdapterOut, columns.len(), rank),
                            columns,
                        })
                        .collect();
                    let start = a.first().map_or(0, |range| range.start);
                    Group { a: start..a.last().map_or(start, |range| range.end), parts }
                })
            })
            .collect();
        let layout = Layout::of(tensors, len);
        Adapter { layout, layers, rank, scale: lora.scale() as f32 }
    }

    /// Adds what the adapter makes of the model's weights to them: `W += scale * B A`.
    pub(super) fn merge(
        &self,
        values: &[f32],
        model: &Layout,
        weights: &mut [f32],
        device: &Device,
    ) {
        for (groups, at) in self.layers.iter().zip(&model.layers) {
            let places = [&at.qkv, &at.output, &at.gate_up, &at.down];
            for (group, place) in groups.iter().zip(places) {
                let width = group.parts.len() * self.rank;
                let n_in = group.a.len().checked_div(width).unwrap_or(0);
                for (i, part) in group.parts.iter().enumerate() {
                    let columns = part.columns.len();
                    let mut b = values[part.b.clone()].to_vec();
                    scale_in_place(device, &mut b, self.scale);
                    let b = View::dense(&b, columns, self.rank);
                    let a = &values[group.a.clone()][i * self.rank * n_in..];
                    let start = place.start + part.columns.start * n_in;
                    let to = ViewMut::dense(&mut weights[start..], columns, n_in);
                    gemm(device, Precision::F32, b, View::dense(a, self.rank, n_in), to, true);
                }
            }
        }
    }

    /// Numbers of [`Work::low`] for `n` tokens.
    pub(super) fn low_len(rank: usize, n: usize) -> usize {
        3 * rank * n
    }

    /// `low` (n, parts * rank) `= scale * x A^T`, of x (n, in).
    fn lower(&self, group: &Group, work: &mut Work<'_>, x: View<'_>) -> usize {
        let (n, n_in) = x.shape();
        let width = group.parts.len() * self.rank;
        let a = View::dense(&work.values[group.a.clone()], width, n_in).transposed();
        let low = &mut work.low[..n * width];
        gemm(work.device, work.precision, x, a, ViewMut::dense(low, n, width), false);
        scale_in_place(work.device, low, self.scale);
        width
    }

    /// Adds to `y` (n, out) what the adapter makes of `x` (n, in).
    pub(super) fn forward(
        &self,
        (l, place): (usize, Place),
        mut work: Work<'_>,
        x: &[f32],
        n_in: usize,
        y: &mut [f32],
    ) {
        let group = &self.layers[l][place as usize];
        if group.parts.is_empty() {
            return;
        }
        let n = x.len() / n_in;
        let n_out = y.len() / n;
        let width = self.lower(group, &mut work, View::dense(x, n, n_in));
        for (i, part) in group.parts.iter().enumerate() {
            let low = View::new(&work.low[i * self.rank..], n, self.rank, width);
            let columns = part.columns.len();
            let b = View::dense(&work.values[part.b.clone()], columns, self.rank).transposed();
            let to = ViewMut::new(&mut y[part.columns.start..], n, columns, n_out);
            gemm(work.device, work.precision, low, b, to, true);
        }
    }

    /// From `d_y` (n, out) to the gradients of A and B, which gain, and of `x`, which gains what came
    /// through the adapter. `d_low` is as long as `low`.
    pub(super) fn backward(
        &self,
        (l, place): (usize, Place),
        mut work: Work<'_>,
        d_low: &mut [f32],
        (x, d_x): (&[f32], &mut [f32]),
        n_in: usize,
        d_y: &[f32],
        gradients: &mut [f32],
    ) {
        let group = &self.layers[l][place as usize];
        if group.parts.is_empty() {
            return;
        }
        let n = x.len() / n_in;
        let n_out = d_y.len() / n;
        let x = View::dense(x, n, n_in);
        let width = self.lower(group, &mut work, x);
        let Work { device, precision, values, low } = work;
        let d_low = &mut d_low[..n * width];
        for (i, part) in group.parts.iter().enumerate() {
            let columns = part.columns.len();
            let d_y = View::new(&d_y[part.columns.start..], n, columns, n_out);
            let low = View::new(&low[i * self.rank..], n, self.rank, width);
            let d_b = ViewMut::dense(&mut gradients[part.b.clone()], columns, self.rank);
            gemm(device, precision, d_y.transposed(), low, d_b, true);
            let b = View::dense(&values[part.b.clone()], columns, self.rank);
            let d_part = ViewMut::new(&mut d_low[i * self.rank..], n, self.rank, width);
            gemm(device, precision, d_y, b, d_part, false);
        }
        scale_in_place(device, d_low, self.scale);
        let d_low = View::dense(d_low, n, width);
        let d_a = ViewMut::dense(&mut gradients[group.a.clone()], width, n_in);
        gemm(device, precision, d_low.transposed(), x, d_a, true);
        let a = View::dense(&values[group.a.clone()], width, n_in);
        gemm(device, precision, d_low, a, ViewMut::dense(d_x, n, n_in), true);
    }
}
