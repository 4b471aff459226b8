//! Causal self-attention over whole sequences, forward and backward, for training.
//!
//! Rows of queries are taken 64 at a time against all keys that they may see, as two matrix products
//! around a softmax. Only the logarithm of each row's sum is kept for the backward pass, which
//! computes the weights again (Dao et al., arXiv:2205.14135): memory grows with T, not with its
//! square. A task is a key-value head of a sequence with all its query heads, so nothing is summed
//! across tasks and the number of threads changes no bit.

mod softmax;

use std::cell::RefCell;

use crate::gemm::{Precision, View, ViewMut, gemm_serial};
use crate::matrix::Shared;
use crate::{Device, Isa};
use softmax::{Gradient, Weights};

/// Rows of queries that are worked on together.
const BLOCK: usize = 64;

/// Sizes of one call.
#[derive(Clone, Copy, Debug)]
pub struct SelfAttention {
    /// Sequences (B).
    pub batch: usize,
    /// Positions of a sequence (T).
    pub time: usize,
    /// Query heads (H).
    pub n_head: usize,
    /// Key and value heads, a divisor of `n_head`.
    pub n_kv_head: usize,
    /// Size of a head (D).
    pub head_dim: usize,
    /// Scores are multiplied by this.
    pub scale: f32,
}

/// Heads side by side in rows: (B * T, heads * D), rows `stride` numbers apart.
#[derive(Clone, Copy)]
pub struct Heads<'a> {
    /// The first row's first number, and on.
    pub data: &'a [f32],
    /// Numbers from a row to the next.
    pub stride: usize,
}

/// As [`Heads`], to be written.
pub struct HeadsMut<'a> {
    /// The first row's first number, and on.
    pub data: &'a mut [f32],
    /// Numbers from a row to the next.
    pub stride: usize,
}

/// Scratch of a thread.
#[derive(Default)]
struct Scratch {
    /// (BLOCK, T): scores, then weights.
    weights: Vec<f32>,
    /// (BLOCK, T): gradients of weights, then of scores.
    gradients: Vec<f32>,
    /// (BLOCK, D)
    rows: Vec<f32>,
    /// (T, D)
    d_keys: Vec<f32>,
    /// (T, D)
    d_values: Vec<f32>,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

impl SelfAttention {
    fn rows(&self) -> usize {
        self.batch * self.time
    }

    fn assert_heads(&self, what: &str, len: usize, stride: usize, heads: usize) {
        let width = heads * self.head_dim;
        assert!(stride >= width, "{what}: rows of {heads} heads do not overlap");
        let needed = self.rows().saturating_sub(1) * stride + width;
        assert!(len >= needed, "{what}: {needed} numbers, not {len}");
    }

    fn assert_shapes(&self, q: Heads<'_>, k: Heads<'_>, v: Heads<'_>, starts: Option<&[u32]>) {
        assert!(
            self.n_kv_head > 0 && self.n_head.is_multiple_of(self.n_kv_head),
            "groups of heads"
        );
        self.assert_heads("queries", q.data.len(), q.stride, self.n_head);
        self.assert_heads("keys", k.data.len(), k.stride, self.n_kv_head);
        self.assert_heads("values", v.data.len(), v.stride, self.n_kv_head);
        assert!(starts.is_none_or(|starts| starts.len() == self.rows()), "starts are (B * T)");
    }

    /// The rows from position `t` of sequence `b` on, from head `head` on.
    fn from<'a>(&self, heads: Heads<'a>, b: usize, t: usize, head: usize) -> &'a [f32] {
        &heads.data[(b * self.time + t) * heads.stride + head * self.head_dim..]
    }

    /// A head of `count` rows from position `t` on, as a matrix (count, D).
    fn view<'a>(
        &self,
        heads: Heads<'a>,
        (b, head): (usize, usize),
        t: usize,
        count: usize,
    ) -> View<'a> {
        View::new(self.from(heads, b, t, head), count, self.head_dim, heads.stride)
    }

    /// The first position that each of the rows from `t` on sees.
    fn starts<'a>(&self, starts: Option<&'a [u32]>, b: usize, t: usize) -> Option<&'a [u32]> {
        starts.map(|starts| &starts[b * self.time + t..])
    }
}

/// A block of query rows of one head, and the positions that it sees.
#[derive(Clone, Copy)]
struct Rows {
    /// The first position.
    first: usize,
    /// Their number.
    count: usize,
}

impl Rows {
    fn all(time: usize) -> impl Iterator<Item = Rows> {
        (0..time).step_by(BLOCK).map(move |first| Rows { first, count: BLOCK.min(time - first) })
    }

    /// Positions up to the last row's own.
    fn seen(self) -> usize {
        self.first + self.count
    }
}

/// `out` (B * T, H * D) becomes the attention of `q` to `k` and `v`, each position to itself and
/// those before it, back to `starts` (B * T: the first position of its document in its sequence; all
/// of the sequence if none). `log_sums` (B, H, T) become the base-two logarithms of the rows' sums.
///
/// # Panics
/// If a length does not fit its shape.
pub fn attention_forward(
    device: &Device,
    precision: Precision,
    shape: SelfAttention,
    q: Heads<'_>,
    k: Heads<'_>,
    v: Heads<'_>,
    starts: Option<&[u32]>,
    out: HeadsMut<'_>,
    log_sums: &mut [f32],
) {
    shape.assert_shapes(q, k, v, starts);
    shape.assert_heads("out", out.data.len(), out.stride, shape.n_head);
    assert_eq!(log_sums.len(), shape.batch * shape.n_head * shape.time, "log_sums are (B, H, T)");
    let (isa, dim, time) = (device.isa(), shape.head_dim, shape.time);
    let group = shape.n_head / shape.n_kv_head;
    let (out_at, stride, sums_at) =
        (Shared(out.data.as_mut_ptr()), out.stride, Shared(log_sums.as_mut_ptr()));
    device.threads().for_each(shape.batch * shape.n_kv_head, &|task| {
        let (b, kv_head) = (task / shape.n_kv_head, task % shape.n_kv_head);
        let mut scratch = SCRATCH.take();
        scratch.weights.resize(BLOCK * time, 0.0);
        scratch.rows.resize(BLOCK * dim, 0.0);
        for head in kv_head * group..(kv_head + 1) * group {
            // SAFETY: a head of a sequence belongs to one task.
            let sums = unsafe {
                let at = sums_at.get().add((b * shape.n_head + head) * time);
                std::slice::from_raw_parts_mut(at, time)
            };
            for rows in Rows::all(time) {
                let seen = rows.seen();
                let queries = shape.view(q, (b, head), rows.first, rows.count);
                let keys = shape.view(k, (b, kv_head), 0, seen);
                scores(isa, precision, queries, keys, &mut scratch.weights);
                let starts = shape.starts(starts, b, rows.first);
                let sums = &mut sums[rows.first..seen];
                let weights = &mut scratch.weights[..rows.count * seen];
                Weights { scale: shape.scale, rows, starts }.normalise(isa, weights, sums);
                gemm_serial(
                    isa,
                    precision,
                    View::dense(weights, rows.count, seen),
                    shape.view(v, (b, kv_head), 0, seen),
                    ViewMut::dense(&mut scratch.rows, rows.count, dim),
                    false,
                );
                for (r, row) in scratch.rows.chunks_exact(dim).take(rows.count).enumerate() {
                    let at = (b * time + rows.first + r) * stride + head * dim;
                    // SAFETY: a head's part of a row belongs to one task.
                    unsafe {
                        let to = std::slice::from_raw_parts_mut(out_at.get().add(at), dim);
                        to.copy_from_slice(row);
                    }
                }
            }
        }
        SCRATCH.replace(scratch);
    });
}

/// `out` (rows, seen) becomes queries times keys, which are (seen, D).
fn scores(isa: Isa, precision: Precision, queries: View<'_>, keys: View<'_>, out: &mut [f32]) {
    let out = ViewMut::dense(out, queries.shape().0, keys.shape().0);
    gemm_serial(isa, precision, queries, keys.transposed(), out, false);
}

/// What the forward pass was given and gave.
#[derive(Clone, Copy)]
pub struct Forward<'a> {
    /// (B * T, H * D)
    pub q: Heads<'a>,
    /// (B * T, H_kv * D)
    pub k: Heads<'a>,
    /// (B * T, H_kv * D)
    pub v: Heads<'a>,
    /// (B * T), if there are documents.
    pub starts: Option<&'a [u32]>,
    /// (B * T, H * D)
    pub out: Heads<'a>,
    /// (B, H, T)
    pub log_sums: &'a [f32],
}

/// The gradients of queries, keys and values from that of the output: `d_qkv` (B * T, (H + 2 H_kv) *
/// D), the three side by side, is overwritten.
///
/// # Panics
/// If a length does not fit its shape.
pub fn attention_backward(
    device: &Device,
    precision: Precision,
    shape: SelfAttention,
    forward: Forward<'_>,
    d_out: Heads<'_>,
    d_qkv: HeadsMut<'_>,
) {
    let Forward { q, k, v, starts, out, log_sums } = forward;
    shape.assert_shapes(q, k, v, starts);
    shape.assert_heads("out", out.data.len(), out.stride, shape.n_head);
    shape.assert_heads("d_out", d_out.data.len(), d_out.stride, shape.n_head);
    let all_heads = shape.n_head + 2 * shape.n_kv_head;
    shape.assert_heads("d_qkv", d_qkv.data.len(), d_qkv.stride, all_heads);
    assert_eq!(log_sums.len(), shape.batch * shape.n_head * shape.time, "log_sums are (B, H, T)");
    let (isa, dim, time) = (device.isa(), shape.head_dim, shape.time);
    let group = shape.n_head / shape.n_kv_head;
    let (target, stride) = (Shared(d_qkv.data.as_mut_ptr()), d_qkv.stride);
    device.threads().for_each(shape.batch * shape.n_kv_head, &|task| {
        let (b, kv_head) = (task / shape.n_kv_head, task % shape.n_kv_head);
        let mut scratch = SCRATCH.take();
        let s = &mut scratch;
        s.weights.resize(BLOCK * time, 0.0);
        s.gradients.resize(BLOCK * time, 0.0);
        s.rows.resize(BLOCK * dim, 0.0);
        for sums in [&mut s.d_keys, &mut s.d_values] {
            sums.clear();
            sums.resize(time * dim, 0.0);
        }
        // SAFETY: a head's part of a row belongs to one task.
        let write = |head: usize, first: usize, rows: &[f32]| unsafe {
            for (r, row) in rows.chunks_exact(dim).enumerate() {
                let at = (b * time + first + r) * stride + head * dim;
                std::slice::from_raw_parts_mut(target.get().add(at), dim).copy_from_slice(row);
            }
        };
        for head in kv_head * group..(kv_head + 1) * group {
            let sums = &log_sums[(b * shape.n_head + head) * time..][..time];
            for rows in Rows::all(time) {
                let seen = rows.seen();
                let queries = shape.view(q, (b, head), rows.first, rows.count);
                let d_rows = shape.view(d_out, (b, head), rows.first, rows.count);
                let keys = shape.view(k, (b, kv_head), 0, seen);
                scores(isa, precision, queries, keys, &mut s.weights);
                let weights = &mut s.weights[..rows.count * seen];
                let kind = Weights {
                    scale: shape.scale,
                    rows,
                    starts: shape.starts(starts, b, rows.first),
                };
                kind.again(isa, weights, &sums[rows.first..seen]);
                let as_matrix = View::dense(weights, rows.count, seen).transposed();
                let d_values = ViewMut::dense(&mut s.d_values, seen, dim);
                gemm_serial(isa, precision, as_matrix, d_rows, d_values, true);
                let values = shape.view(v, (b, kv_head), 0, seen);
                scores(isa, precision, d_rows, values, &mut s.gradients);
                let gradients = &mut s.gradients[..rows.count * seen];
                for r in 0..rows.count {
                    let out = &shape.from(out, b, rows.first + r, head)[..dim];
                    let d_out = &shape.from(d_out, b, rows.first + r, head)[..dim];
                    Gradient {
                        weights: &weights[r * seen..][..seen],
                        delta: out.iter().zip(d_out).map(|(a, b)| a * b).sum(),
                        scale: shape.scale,
                        gradients: &mut gradients[r * seen..][..seen],
                    }
                    .run(isa);
                }
                let gradients = View::dense(gradients, rows.count, seen);
                let d_queries = ViewMut::dense(&mut s.rows, rows.count, dim);
                gemm_serial(isa, precision, gradients, keys, d_queries, false);
                write(head, rows.first, &s.rows[..rows.count * dim]);
                let d_keys = ViewMut::dense(&mut s.d_keys, seen, dim);
                gemm_serial(isa, precision, gradients.transposed(), queries, d_keys, true);
            }
        }
        write(shape.n_head + kv_head, 0, &s.d_keys);
        write(shape.n_head + shape.n_kv_head + kv_head, 0, &s.d_values);
        SCRATCH.replace(scratch);
    });
}

#[cfg(test)]
mod tests;
