//! LoRA (arXiv:2106.09685): beside a frozen matrix W (out, in) two small ones learn, A (rank, in) and B
//! (out, rank), and what comes out is `x W^T + scale * x A^T B^T`. With DoRA (arXiv:2402.09353) each
//! row of `W + scale * B A` is brought to a length that learns as well, its magnitude.
//!
//! Matrices that read the same input lie in one product (queries, keys, values; gate, up), and so do
//! their A: (parts * rank, in). Names are PEFT's.

use std::ops::Range;

use llmos_tensor::Device;
use llmos_tensor::gemm::{Precision, View, ViewMut, gemm};
use llmos_tensor::ops::train::{RowsMut, scale_columns, scale_in_place};
use serde::{Deserialize, Serialize};

use super::parameters::{Kind, LayerAt, Layout, Tensor};

/// Matrices of a block that can be adapted, as Hugging Face files name them; the last two are those of
/// models that hold several in one.
pub const TARGETS: [&str; 9] = [
    "q_proj",
    "k_proj",
    "v_proj",
    "o_proj",
    "gate_proj",
    "up_proj",
    "down_proj",
    "qkv_proj",
    "gate_up_proj",
];

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
    /// Magnitudes learn as well (DoRA).
    #[serde(default)]
    pub dora: bool,
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
            dora: false,
            targets: TARGETS.map(str::to_string).to_vec(),
        }
    }

    /// What `B A` is multiplied with.
    pub fn scale(&self) -> f64 {
        let rank = self.rank as f64;
        self.alpha / if self.rank_stabilised { rank.sqrt() } else { rank }
    }

    /// The targets that a model of this layout has, in the order of [`TARGETS`].
    pub fn targets_in(&self, layout: &Layout) -> Vec<String> {
        let modules: Vec<&str> = layout.tensors().iter().map(module).collect();
        let is_there = |target: &&str| {
            modules.contains(target) && self.targets.iter().any(|wanted| wanted == target)
        };
        TARGETS.into_iter().filter(is_there).map(str::to_string).collect()
    }
}

/// What PEFT calls a matrix: the last part of its name.
fn module(tensor: &Tensor) -> &str {
    let name = tensor.name.trim_end_matches(".weight");
    name.rsplit('.').next().unwrap_or(name)
}

/// Where in a block a product stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Qkv,
    Output,
    GateUp,
    Down,
}

impl Place {
    pub(super) const ALL: [Place; 4] = [Place::Qkv, Place::Output, Place::GateUp, Place::Down];

    /// Its matrices in a layout.
    pub(super) fn range(self, at: &LayerAt) -> &Range<usize> {
        match self {
            Place::Qkv => &at.qkv,
            Place::Output => &at.output,
            Place::GateUp => &at.gate_up,
            Place::Down => &at.down,
        }
    }
}

/// One adapted matrix of a product.
#[derive(Clone, Debug)]
pub(super) struct Part {
    /// (out, in), in the model's layout.
    pub(super) matrix: Range<usize>,
    /// (rank, in)
    pub(super) a: Range<usize>,
    /// (out, rank)
    pub(super) b: Range<usize>,
    /// (out), of DoRA.
    pub(super) magnitude: Option<Range<usize>>,
    /// (out): its rows' place among all lengths of rows.
    pub(super) lengths: Range<usize>,
    /// Its columns of the product's output.
    pub(super) columns: Range<usize>,
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
    pub(super) rank: usize,
    pub(super) scale: f32,
    pub(super) dora: bool,
    /// Rows of all adapted matrices.
    pub(super) n_row: usize,
}

/// An adapter and its numbers.
#[derive(Clone, Copy)]
pub(super) struct Learnt<'a> {
    pub(super) adapter: &'a Adapter,
    /// (parameters of the adapter)
    pub(super) values: &'a [f32],
    /// (rows of all adapted matrices): lengths of the rows of `W + scale * B A`, of DoRA.
    pub(super) lengths: &'a [f32],
}

/// What an adapter's products are computed with.
pub(super) struct Work<'a> {
    pub(super) device: &'a Device,
    pub(super) precision: Precision,
    /// (N, 3 * rank) and more: x times A.
    pub(super) low: &'a mut [f32],
}

impl Adapter {
    /// An adapter of a model of this layout.
    pub(super) fn new(model: &Layout, lora: &Lora) -> Adapter {
        let rank = lora.rank;
        let is_target = |tensor: &&Tensor| lora.targets.iter().any(|name| name == module(tensor));
        let mut tensors: Vec<Tensor> = Vec::new();
        let (mut len, mut n_row) = (0, 0);
        let mut add = |of: &Tensor, what: &str, kind: Kind, rows: usize, cols: usize| {
            let name = of.name.trim_end_matches(".weight");
            let name = format!("base_model.model.{name}.{what}");
            tensors.push(Tensor { name, stored: of.stored.clone(), kind, rows, cols, start: len });
            len += rows * cols;
            len - rows * cols..len
        };
        let mut group = |at: &LayerAt, place: Place| {
            let range = place.range(at);
            let chosen: Vec<&Tensor> = model.within(range).iter().filter(is_target).collect();
            let a: Vec<Range<usize>> = chosen
                .iter()
                .map(|of| add(of, "lora_A.weight", Kind::AdapterIn, rank, of.cols))
                .collect();
            let b: Vec<Range<usize>> = chosen
                .iter()
                .map(|of| add(of, "lora_B.weight", Kind::AdapterOut, of.rows, rank))
                .collect();
            let magnitude = chosen.iter().map(|of| {
                let name = "lora_magnitude_vector";
                lora.dora.then(|| add(of, name, Kind::Magnitude, 1, of.rows))
            });
            let magnitude: Vec<Option<Range<usize>>> = magnitude.collect();
            let start = a.first().map_or(0, |range| range.start);
            let whole = start..a.last().map_or(start, |range| range.end);
            let parts = chosen.iter().zip(a).zip(b).zip(magnitude);
            let parts = parts.map(|(((of, a), b), magnitude)| {
                let first = (of.start - range.start) / of.cols;
                n_row += of.rows;
                let (matrix, lengths) = (of.range(), n_row - of.rows..n_row);
                Part { matrix, a, b, magnitude, lengths, columns: first..first + of.rows }
            });
            Group { a: whole, parts: parts.collect() }
        };
        let layers = model.layers.iter().map(|at| Place::ALL.map(|place| group(at, place)));
        let layers = layers.collect();
        let layout = Layout::of(tensors, len);
        Adapter { layout, layers, rank, scale: lora.scale() as f32, dora: lora.dora, n_row }
    }

    /// All adapted matrices.
    pub(super) fn parts(&self) -> impl Iterator<Item = &Part> {
        self.layers.iter().flatten().flat_map(|group| &group.parts)
    }

    /// Adds what the adapter makes of the model's weights to them: `W += scale * B A`, rows brought to
    /// their magnitudes where they have some.
    pub(super) fn merge(&self, values: &[f32], weights: &mut [f32], device: &Device) {
        for part in self.parts() {
            let (rows, n_in) = (part.columns.len(), part.a.len() / self.rank);
            let mut b = values[part.b.clone()].to_vec();
            scale_in_place(device, &mut b, self.scale);
            let b = View::dense(&b, rows, self.rank);
            let a = View::dense(&values[part.a.clone()], self.rank, n_in);
            let w = &mut weights[part.matrix.clone()];
            gemm(device, Precision::F32, b, a, ViewMut::dense(w, rows, n_in), true);
            let Some(magnitude) = &part.magnitude else { continue };
            for (row, magnitude) in w.chunks_exact_mut(n_in).zip(&values[magnitude.clone()]) {
                let length = row.iter().map(|&w| f64::from(w) * f64::from(w)).sum::<f64>().sqrt();
                let gain = (f64::from(*magnitude) / length.max(f64::MIN_POSITIVE)) as f32;
                row.iter_mut().for_each(|w| *w *= gain);
            }
        }
    }

    /// Numbers of [`Work::low`] for `n` tokens.
    pub(super) fn low_len(rank: usize, n: usize) -> usize {
        3 * rank * n
    }
}

impl Learnt<'_> {
    fn group(&self, (l, place): (usize, Place)) -> &Group {
        &self.adapter.layers[l][place as usize]
    }

    /// True if this product is not adapted.
    pub(super) fn is_idle(&self, at: (usize, Place)) -> bool {
        self.group(at).parts.is_empty()
    }

    /// `low` (n, parts * rank) `= scale * x A^T`, of x (n, in).
    fn lower(&self, group: &Group, work: &mut Work<'_>, x: View<'_>) -> usize {
        let (n, n_in) = x.shape();
        let width = group.parts.len() * self.adapter.rank;
        let a = View::dense(&self.values[group.a.clone()], width, n_in).transposed();
        let low = &mut work.low[..n * width];
        gemm(work.device, work.precision, x, a, ViewMut::dense(low, n, width), false);
        scale_in_place(work.device, low, self.adapter.scale);
        width
    }

    /// Adds to `y` (n, out) what the adapter makes of `x` (n, in), magnitudes left out.
    pub(super) fn forward(
        &self,
        at: (usize, Place),
        mut work: Work<'_>,
        x: &[f32],
        n_in: usize,
        y: &mut [f32],
    ) {
        let (group, rank) = (self.group(at), self.adapter.rank);
        if group.parts.is_empty() {
            return;
        }
        let n = x.len() / n_in;
        let n_out = y.len() / n;
        let width = self.lower(group, &mut work, View::dense(x, n, n_in));
        for (i, part) in group.parts.iter().enumerate() {
            let low = View::new(&work.low[i * rank..], n, rank, width);
            let columns = part.columns.len();
            let b = View::dense(&self.values[part.b.clone()], columns, rank).transposed();
            let to = ViewMut::new(&mut y[part.columns.start..], n, columns, n_out);
            gemm(work.device, work.precision, low, b, to, true);
        }
    }

    /// Multiplies the columns of `y` (n, out) with what brings rows of weights to their magnitudes.
    pub(super) fn magnify(&self, at: (usize, Place), device: &Device, n: usize, y: &mut [f32]) {
        let n_out = y.len() / n;
        for part in &self.group(at).parts {
            let Some(magnitude) = &part.magnitude else { continue };
            let (start, count) = (part.columns.start, part.columns.len());
            let gains =
                self.values[magnitude.clone()].iter().zip(&self.lengths[part.lengths.clone()]);
            let gains: Vec<f32> = gains.map(|(magnitude, length)| magnitude / length).collect();
            let y = RowsMut::new(&mut y[start..], n, 1, count, n_out);
            scale_columns(device, y, &gains);
        }
    }

    /// The gradients of magnitudes, which gain: from `d_y` (n, out) and what it is the gradient of
    /// before magnitudes, `u` (n, out). Lengths of rows count as constants, as in the paper.
    pub(super) fn magnitude_gradients(
        &self,
        at: (usize, Place),
        device: &Device,
        n: usize,
        (d_y, u): (&[f32], &[f32]),
        gradients: &mut [f32],
    ) {
        use llmos_tensor::ops::train::{Rows, bias_backward};
        let n_out = d_y.len() / n;
        for part in &self.group(at).parts {
            let Some(magnitude) = &part.magnitude else { continue };
            let (start, count) = (part.columns.start, part.columns.len());
            let rows = |of| Rows::new(of, n, 1, count, n_out);
            let mut sums = vec![0.0; count];
            bias_backward(device, rows(&d_y[start..]), Some(rows(&u[start..])), &mut sums);
            let lengths = &self.lengths[part.lengths.clone()];
            let gradients = &mut gradients[magnitude.clone()];
            for ((gradient, sum), length) in gradients.iter_mut().zip(sums).zip(lengths) {
                *gradient += sum / length;
            }
        }
    }

    /// From `d_u` (n, out) to the gradients of A and B, which gain, and of `x`, which gains what came
    /// through the adapter. `d_low` is as long as `low`.
    pub(super) fn backward(
        &self,
        at: (usize, Place),
        mut work: Work<'_>,
        d_low: &mut [f32],
        (x, d_x): (&[f32], &mut [f32]),
        n_in: usize,
        d_u: &[f32],
        gradients: &mut [f32],
    ) {
        let (group, rank) = (self.group(at), self.adapter.rank);
        if group.parts.is_empty() {
            return;
        }
        let n = x.len() / n_in;
        let n_out = d_u.len() / n;
        let x = View::dense(x, n, n_in);
        let width = self.lower(group, &mut work, x);
        let Work { device, precision, low } = work;
        let d_low = &mut d_low[..n * width];
        for (i, part) in group.parts.iter().enumerate() {
            let columns = part.columns.len();
            let d_u = View::new(&d_u[part.columns.start..], n, columns, n_out);
            let low = View::new(&low[i * rank..], n, rank, width);
            let d_b = ViewMut::dense(&mut gradients[part.b.clone()], columns, rank);
            gemm(device, precision, d_u.transposed(), low, d_b, true);
            let b = View::dense(&self.values[part.b.clone()], columns, rank);
            let d_part = ViewMut::new(&mut d_low[i * rank..], n, rank, width);
            gemm(device, precision, d_u, b, d_part, false);
        }
        scale_in_place(device, d_low, self.adapter.scale);
        let d_low = View::dense(d_low, n, width);
        let d_a = ViewMut::dense(&mut gradients[group.a.clone()], width, n_in);
        gemm(device, precision, d_low.transposed(), x, d_a, true);
        let a = View::dense(&self.values[group.a.clone()], width, n_in);
        gemm(device, precision, d_low, a, ViewMut::dense(d_x, n, n_in), true);
    }
}
