//! Causal self-attention over whole sequences, forward and backward, for training.
//!
//! Only the logarithm of each row's sum is kept for the backward pass, which computes the weights
//! again (Dao et al., arXiv:2205.14135): memory grows with T, not with its square. A task is a
//! key-value head of a sequence with all its query heads, so nothing is summed across tasks and the
//! number of threads changes no bit. Always in single precision: in bfloat16 the products of heads
//! this small lose more to conversions than they gain.

mod head;
mod softmax;
mod strip;

use crate::Device;
use crate::matrix::Shared;
use crate::ops::lanes::run;
use head::{Attend, Back, Group, Target};

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
    /// Scores become `cap * tanh(scores / cap)` (arXiv:2408.00118).
    pub softcap: Option<f32>,
    /// A position sees itself and the `window - 1` before it; all before it if there is none.
    pub window: Option<usize>,
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

impl SelfAttention {
    fn rows(&self) -> usize {
        self.batch * self.time
    }

    /// Runs `task` for each key-value head of each sequence.
    fn for_each(
        &self,
        device: &Device,
        starts: Option<&[u32]>,
        task: &(dyn Fn(usize, Group<'_>) + Sync),
    ) {
        device.threads().for_each(self.batch * self.n_kv_head, &|i| {
            let (sequence, kv_head) = (i / self.n_kv_head, i % self.n_kv_head);
            task(i, Group { shape: *self, sequence, kv_head, starts });
        });
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
        assert!(self.window != Some(0), "a window of at least one position");
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
    let (out_at, stride, sums_at) =
        (Shared(out.data.as_mut_ptr()), out.stride, Shared(log_sums.as_mut_ptr()));
    let sums = shape.n_head / shape.n_kv_head * shape.time;
    shape.for_each(device, starts, &|task, group| {
        // SAFETY: each task has its own query heads' sums.
        let log_sums =
            unsafe { std::slice::from_raw_parts_mut(sums_at.get().add(task * sums), sums) };
        let out = Target { data: out_at.get(), stride };
        run(device.isa(), Attend { group, q, k, v, out, log_sums });
    });
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
    let (target, stride) = (Shared(d_qkv.data.as_mut_ptr()), d_qkv.stride);
    shape.for_each(device, starts, &|_, group| {
        let d_qkv = Target { data: target.get(), stride };
        run(device.isa(), Back { group, forward, d_out, d_qkv });
    });
}

#[cfg(test)]
mod tests;
