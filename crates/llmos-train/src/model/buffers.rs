//! What a step works in, made once.

use std::cell::Cell;

use llmos_tensor::ops::train::rmsnorm_partial_len;
use llmos_tensor::{Arena, Floats};

use super::adapter::Adapter;
use super::blueprint::{Blueprint, Sizes};

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
    /// Both (N, C): what the branches give, where it is normed on its way out.
    pub(super) branches: [Floats; 2],
    /// Both (N)
    pub(super) branch_inverses: [Floats; 2],
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
    /// (rows, V): the logits once more, where they are capped.
    pub(super) capped: Floats,
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
    /// (N, C): a branch that is not added to the residual stream as it is, and its gradient.
    pub(super) branch: Floats,
    pub(super) partial: Floats,
    /// As long as the longest norm: weights of a norm that are not as the parameters have them.
    pub(super) norm: Floats,
    /// Both (N, 3 rank): inputs and gradients of an adapter's B.
    pub(super) low: [Floats; 2],
    /// Both (N, out) of the widest product: what magnitudes multiply, and its gradient.
    pub(super) wide: [Floats; 2],
}

/// Tokens whose logits are held at once.
pub(super) fn head_rows(sizes: &Sizes, tokens: usize) -> usize {
    (LOGITS / sizes.vocab_size.max(1)).clamp(1, tokens.max(1))
}

impl Buffers {
    pub(super) fn new(blueprint: &Blueprint, batch: usize, time: usize) -> Buffers {
        let arena = Arena::default();
        Buffers::made(blueprint, batch * time, &|len| arena.floats(len))
    }

    /// Numbers that [`Buffers::new`] makes room for.
    pub(super) fn numbers(blueprint: &Blueprint, batch: usize, time: usize) -> u64 {
        let count = Cell::new(0);
        Buffers::made(blueprint, batch * time, &|len| {
            count.set(count.get() + len as u64);
            Floats::default()
        });
        count.get()
    }

    /// Buffers for `n` tokens, out of pieces that `zeros` gives.
    fn made(blueprint: &Blueprint, n: usize, zeros: &dyn Fn(usize) -> Floats) -> Buffers {
        let (s, block) = (blueprint.sizes(), blueprint.block());
        let (c, f) = (s.d_model, s.d_ff);
        let [of_q, of_k] = s.qk_rows().map_or([0, 0], |[q, k]| [q.0, k.0]);
        let only_if = |is: bool, len: usize| zeros(if is { len } else { 0 });
        let layer = || LayerBuffers {
            x: zeros(n * c),
            attention_inverse: zeros(n),
            qkv: zeros(n * s.qkv_width()),
            qk_inverse: [zeros(n * of_q), zeros(n * of_k)],
            qk: zeros(n * s.qk_width()),
            attention: zeros(n * s.q_width()),
            log_sums: zeros(n * s.n_head),
            middle: zeros(n * c),
            mlp_inverse: zeros(n),
            gate_up: zeros(n * 2 * f),
            branches: [only_if(s.post_norm, n * c), only_if(s.post_norm, n * c)],
            branch_inverses: [only_if(s.post_norm, n), only_if(s.post_norm, n)],
        };
        let logits = head_rows(s, n) * s.vocab_size;
        Buffers {
            layers: (0..s.n_layer).map(|_| layer()).collect(),
            x: zeros(n * c),
            inverse: zeros(n),
            normed: zeros(n * c),
            inner: zeros(n * f),
            logits: zeros(logits),
            capped: only_if(s.logit_softcap.is_some(), logits),
            losses: zeros(n),
            d_x: zeros(n * c),
            d_normed: zeros(n * c),
            d_qkv: zeros(n * s.qkv_width()),
            d_attention: zeros(n * s.q_width()),
            d_inner: zeros(n * f),
            branch: only_if(s.post_norm || block.output_bias || block.mlp_bias, n * c),
            partial: zeros(rmsnorm_partial_len(n, s.widest_norm())),
            norm: only_if(s.norm_offsets, s.widest_norm()),
            low: Default::default(),
            wide: Default::default(),
        }
    }

    /// Room for an adapter, of `n` tokens.
    pub(super) fn make_adapter_room(&mut self, sizes: &Sizes, rank: usize, dora: bool, n: usize) {
        let arena = Arena::default();
        let low = Adapter::low_len(rank, n);
        self.low = [arena.floats(low), arena.floats(low)];
        if dora {
            let wide = n * sizes.qkv_width().max(2 * sizes.d_ff).max(sizes.d_model);
            self.wide = [arena.floats(wide), arena.floats(wide)];
            self.branch = arena.floats(n * sizes.d_model);
        }
    }

    /// Numbers that [`Buffers::make_adapter_room`] makes room for.
    pub(super) fn adapter_numbers(sizes: &Sizes, rank: usize, dora: bool, n: usize) -> u64 {
        let wide = sizes.qkv_width().max(2 * sizes.d_ff).max(sizes.d_model);
        let of_dora = if dora { n * (2 * wide + sizes.d_model) } else { 0 };
        (2 * Adapter::low_len(rank, n) + of_dora) as u64
    }
}
