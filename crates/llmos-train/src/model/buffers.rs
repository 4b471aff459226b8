//! What a step works in, made once.

use llmos_tensor::ops::train::rmsnorm_partial_len;
use llmos_tensor::{Arena, Floats};

use crate::recipe::ModelShape;

/// Logits of the head that are held at once, in numbers: 16 MiB.
const LOGITS: usize = 4 << 20;

/// What a block keeps for the way back. N = B * T.
pub(super) struct LayerBuffers {
    /// (N, C): what came in.
    pub(super) x: Floats,
    /// (N)
    pub(super) attention_inverse: Floats,
    /// (N, (H + 2 H_kv) D), before norms and rotation.
    pub(super) qkv: Floats,
    /// (N, H), (N, H_kv)
    pub(super) qk_inverse: [Floats; 2],
    /// (N, (H + H_kv) D): queries and keys, normed and rotated.
    pub(super) qk: Floats,
    /// (N, H D)
    pub(super) attention: Floats,
    /// (B, H, T)
    pub(super) log_sums: Floats,
    /// (N, C): between the two branches.
    pub(super) middle: Floats,
    /// (N)
    pub(super) mlp_inverse: Floats,
    /// (N, 2 F); becomes its own gradient.
    pub(super) gate_up: Floats,
}

/// All buffers.
#[derive(Default)]
pub(super) struct Buffers {
    pub(super) layers: Vec<LayerBuffers>,
    /// (N, C): what leaves the last block.
    pub(super) x: Floats,
    /// (N)
    pub(super) inverse: Floats,
    /// (N, C): a normed input.
    pub(super) normed: Floats,
    /// (N, F): the inner activation.
    pub(super) inner: Floats,
    /// (rows, V): logits, then their gradients.
    pub(super) logits: Floats,
    /// (N)
    pub(super) losses: Floats,
    /// (N, C): the residual stream's gradient.
    pub(super) d_x: Floats,
    /// (N, C): a branch's gradient.
    pub(super) d_normed: Floats,
    /// (N, (H + 2 H_kv) D)
    pub(super) d_qkv: Floats,
    /// (N, H D)
    pub(super) d_attention: Floats,
    /// (N, F)
    pub(super) d_inner: Floats,
    pub(super) partial: Floats,
    /// Both (N, 3 rank): inputs and gradients of an adapter's B.
    pub(super) low: [Floats; 2],
}

/// Tokens whose logits are held at once.
pub(super) fn head_rows(shape: &ModelShape, tokens: usize) -> usize {
    (LOGITS / shape.vocab_size.max(1)).clamp(1, tokens.max(1))
}

impl Buffers {
    pub(super) fn new(shape: &ModelShape, batch: usize, time: usize) -> Buffers {
        let n = batch * time;
        let (c, d, f) = (shape.d_model, shape.head_dim, shape.d_ff);
        let (h, kv) = (shape.n_head, shape.n_kv_head);
        let arena = Arena::default();
        let zeros = |len: usize| arena.floats(len);
        let layer = || LayerBuffers {
            x: zeros(n * c),
            attention_inverse: zeros(n),
            qkv: zeros(n * (h + 2 * kv) * d),
            qk_inverse: [zeros(n * h), zeros(n * kv)],
            qk: zeros(n * (h + kv) * d),
            attention: zeros(n * h * d),
            log_sums: zeros(n * h),
            middle: zeros(n * c),
            mlp_inverse: zeros(n),
            gate_up: zeros(n * 2 * f),
        };
        Buffers {
            layers: (0..shape.n_layer).map(|_| layer()).collect(),
            x: zeros(n * c),
            inverse: zeros(n),
            normed: zeros(n * c),
            inner: zeros(n * f),
            logits: zeros(head_rows(shape, n) * shape.vocab_size),
            losses: zeros(n),
            d_x: zeros(n * c),
            d_normed: zeros(n * c),
            d_qkv: zeros(n * (h + 2 * kv) * d),
            d_attention: zeros(n * h * d),
            d_inner: zeros(n * f),
            partial: zeros(rmsnorm_partial_len(n, c.max(d))),
            low: Default::default(),
        }
    }

    /// Room for an adapter.
    pub(super) fn make_low(&mut self, len: usize) {
        let arena = Arena::default();
        self.low = [arena.floats(len), arena.floats(len)];
    }

    /// Numbers that [`Buffers::new`] makes room for.
    pub(super) fn numbers(shape: &ModelShape, batch: usize, time: usize) -> u64 {
        let n = (batch * time) as u64;
        let [c, d, f, h, kv] =
            [shape.d_model, shape.head_dim, shape.d_ff, shape.n_head, shape.n_kv_head]
                .map(|x| x as u64);
        let layer = 2 * c + 2 + (h + 2 * kv) * d + 2 * h + kv + (h + kv) * d + h * d + 2 * f;
        let shared = 4 * c + 2 + 2 * f + (h + 2 * kv) * d + h * d;
        let rows = head_rows(shape, batch * time) as u64;
        let partial = rmsnorm_partial_len(batch * time, shape.d_model.max(shape.head_dim)) as u64;
        n * (layer * shape.n_layer as u64 + shared) + rows * shape.vocab_size as u64 + partial
    }
}
