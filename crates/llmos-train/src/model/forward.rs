//! From token ids to losses.

use std::ops::Range;

use llmos_tensor::ops::train::{
    Rows, RowsMut, add_in_place, bias_forward, copy_forward, cross_entropy_forward, gate_forward,
    residual_forward, rmsnorm_forward, rope_forward, softcap_forward,
};
use llmos_tensor::self_attention::{Heads, HeadsMut, attention_forward};

use super::adapter::{Place, Work};
use super::buffers::{Buffers, head_rows};
use super::weights::{Model, Weights};
use super::{Batch, IGNORE, Network};

impl Network {
    /// The loss of each token (B * T) in nats, 0 where nothing is learnt.
    pub fn losses(&mut self, weights: &[f32], batch: Batch<'_>, losses: &mut [f32]) {
        assert_eq!(losses.len(), batch.inputs.len(), "a loss for each token");
        self.begin(weights, batch);
        let mut buffers = std::mem::take(&mut self.buffers);
        let (c, v, weights) =
            (self.sizes().d_model, self.sizes().vocab_size, self.weights(weights));
        for (first, piece) in self.pieces(batch) {
            self.forward(&mut buffers, weights, piece);
            let n = piece.inputs.len();
            let (losses, rows) = (&mut losses[first..][..n], head_rows(self.sizes(), n));
            for start in (0..n).step_by(rows) {
                let count = rows.min(n - start);
                let logits = &mut buffers.logits[..count * v];
                let x = &buffers.normed[start * c..][..count * c];
                self.head_forward(x, weights.model, logits);
                cross_entropy_forward(
                    &self.device,
                    logits,
                    v,
                    &piece.targets[start..][..count],
                    IGNORE,
                    &mut losses[start..][..count],
                );
            }
        }
        self.buffers = buffers;
    }

    /// The logits (B * T, V) of all tokens.
    pub fn logits(&mut self, weights: &[f32], batch: Batch<'_>, logits: &mut [f32]) {
        self.begin(weights, batch);
        let mut buffers = std::mem::take(&mut self.buffers);
        let (c, v) = (self.sizes().d_model, self.sizes().vocab_size);
        let weights = self.weights(weights);
        for (first, piece) in self.pieces(batch) {
            self.forward(&mut buffers, weights, piece);
            let n = piece.inputs.len();
            let (x, logits) = (&buffers.normed[..n * c], &mut logits[first * v..][..n * v]);
            self.head_forward(x, weights.model, logits);
        }
        self.buffers = buffers;
    }

    /// The logits (V) of what comes after `ids`, of which there are T at most.
    pub fn next_logits(&mut self, weights: &[f32], ids: &[u32], logits: &mut [f32]) {
        let time = std::mem::replace(&mut self.time, ids.len());
        let batch = Batch { inputs: ids, targets: ids, starts: None, weights: None };
        self.begin(weights, batch);
        let mut buffers = std::mem::take(&mut self.buffers);
        let weights = self.weights(weights);
        self.forward(&mut buffers, weights, batch);
        let c = self.sizes().d_model;
        let x = &buffers.normed[(ids.len() - 1) * c..][..c];
        self.head_forward(x, weights.model, logits);
        (self.buffers, self.time) = (buffers, time);
    }

    /// From normed rows `x` (N, C) to their logits (N, V), capped where the model caps them.
    pub(super) fn head_forward(&self, x: &[f32], model: Model<'_>, logits: &mut [f32]) {
        self.linear(x, model, &self.layout.head, self.sizes().d_model, logits, false);
        if let Some(cap) = self.sizes().logit_softcap {
            softcap_forward(&self.device, logits, cap);
        }
    }

    /// A product of layer `l`, its adapter's share included: `y` (N, out) `= x W^T` of `x` (N, in).
    pub(super) fn product(
        &self,
        (l, place): (usize, Place),
        weights: Weights<'_>,
        x: &[f32],
        n_in: usize,
        y: &mut [f32],
        add: bool,
        low: &mut [f32],
    ) {
        let range = place.range(&self.layout.layers[l]);
        self.linear(x, weights.model, range, n_in, y, add);
        let Some(learnt) = weights.adapter else { return };
        let work = Work { device: &self.device, precision: self.precision, low };
        learnt.forward((l, place), work, x, n_in, y);
        if learnt.adapter.dora {
            learnt.magnify((l, place), &self.device, x.len() / n_in, y);
        }
    }

    /// All blocks; leaves the normed output of the last in `normed`, and what the way back needs.
    pub(super) fn forward(&self, buffers: &mut Buffers, weights: Weights<'_>, batch: Batch<'_>) {
        let (b, time) = self.batch_size(batch);
        let n = b * time;
        let s = self.sizes();
        let (c, f) = (s.d_model, s.d_ff);
        let (q_width, qk_width, qkv_width) = (s.q_width(), s.qk_width(), s.qkv_width());
        let device = &*self.device;
        let Buffers {
            layers, x: last, normed, inner, inverse, branch, norm, low: [low, _], ..
        } = buffers;
        if let Some(first) = layers.first_mut() {
            self.embed(weights.model, batch.inputs, &mut first.x[..n * c]);
        }
        let normed = &mut normed[..n * c];
        for (l, at) in self.layout.layers.iter().enumerate() {
            let (these, next) = layers.split_at_mut(l + 1);
            let layer = &mut these[l];
            let block = &self.blueprint.config().layers[l];
            let x = &layer.x[..n * c];
            let into = (&mut *normed, &mut layer.attention_inverse[..n]);
            let input = self.pre_norm(weights.model, &at.attention_norm, x, into, norm);
            let qkv = &mut layer.qkv[..n * qkv_width];
            self.product((l, Place::Qkv), weights, input, c, qkv, false, low);
            self.bias(weights.model, &at.qkv_bias, qkv);
            let qk = &mut layer.qk[..n * qk_width];
            match (&at.qk_norm, s.qk_rows()) {
                (Some(ranges), Some(rows)) => {
                    let parts = ranges.iter().zip(rows).zip(&mut layer.qk_inverse);
                    for (((range, (heads, size)), inverse), from) in parts.zip([0, q_width]) {
                        let of = Rows::new(&qkv[from..], n, heads, size, qkv_width);
                        let to = RowsMut::new(&mut qk[from..], n, heads, size, qk_width);
                        let weight = Some(self.norm_weight(weights.model, range, norm));
                        let inverse = &mut inverse[..n * heads];
                        rmsnorm_forward(device, of, weight, s.norm_eps, to, inverse);
                    }
                }
                _ => {
                    let from = Rows::new(qkv, n, 1, qk_width, qkv_width);
                    copy_forward(device, from, RowsMut::packed(qk, qk_width));
                }
            }
            if let Some(table) = self.rope(block) {
                let heads = RowsMut::new(qk, n, s.n_head + s.n_kv_head, s.head_dim, qk_width);
                rope_forward(device, table, time, heads);
            }
            attention_forward(
                device,
                self.attention(b, block),
                Heads { data: qk, stride: qk_width },
                Heads { data: &qk[q_width..], stride: qk_width },
                Heads { data: &qkv[qk_width..], stride: qkv_width },
                batch.starts,
                HeadsMut { data: &mut layer.attention[..n * q_width], stride: q_width },
                &mut layer.log_sums[..n * s.n_head],
            );
            let middle = &mut layer.middle[..n * c];
            let attention = &layer.attention[..n * q_width];
            let [attention_branch, mlp_branch] = &mut layer.branches;
            let [attention_inverse, mlp_inverse] = &mut layer.branch_inverses;
            let at_output = (l, Place::Output);
            if self.is_apart(&at.output_bias, weights) {
                let branch =
                    if s.post_norm { &mut attention_branch[..n * c] } else { &mut branch[..n * c] };
                self.product(at_output, weights, attention, q_width, branch, false, low);
                self.bias(weights.model, &at.output_bias, branch);
                let post = at.attention_post_norm.as_ref();
                let post = post.map(|range| self.norm_weight(weights.model, range, norm));
                self.residual(x, branch, post, middle, attention_inverse);
            } else {
                copy_forward(device, Rows::packed(x, c), RowsMut::packed(middle, c));
                self.product(at_output, weights, attention, q_width, middle, true, low);
            }
            let into = (&mut *normed, &mut layer.mlp_inverse[..n]);
            let input = self.pre_norm(weights.model, &at.mlp_norm, middle, into, norm);
            let gate_up = &mut layer.gate_up[..n * 2 * f];
            self.product((l, Place::GateUp), weights, input, c, gate_up, false, low);
            self.bias(weights.model, &at.gate_up_bias, gate_up);
            let inner = &mut inner[..n * f];
            self.gate(gate_up, inner);
            let out = match next.first_mut() {
                Some(next) => &mut next.x[..n * c],
                None => &mut last[..n * c],
            };
            let at_down = (l, Place::Down);
            if self.is_apart(&at.down_bias, weights) {
                let branch =
                    if s.post_norm { &mut mlp_branch[..n * c] } else { &mut branch[..n * c] };
                self.product(at_down, weights, inner, f, branch, false, low);
                self.bias(weights.model, &at.down_bias, branch);
                let post = at.mlp_post_norm.as_ref();
                let post = post.map(|range| self.norm_weight(weights.model, range, norm));
                self.residual(middle, branch, post, out, mlp_inverse);
            } else {
                copy_forward(device, Rows::packed(middle, c), RowsMut::packed(out, c));
                self.product(at_down, weights, inner, f, out, true, low);
            }
        }
        let weight = self.norm_weight(weights.model, &self.layout.norm, norm);
        self.norm(&last[..n * c], weight, normed, &mut inverse[..n]);
    }

    /// Something is done to a branch before it meets the residual stream: it cannot be added by the
    /// product that makes it.
    pub(super) fn is_apart(&self, bias: &Option<Range<usize>>, weights: Weights<'_>) -> bool {
        self.sizes().post_norm
            || bias.is_some()
            || weights.adapter.is_some_and(|learnt| learnt.adapter.dora)
    }

    /// Adds the bias at `range`, if there is one, to each row of `x` (N, C).
    fn bias(&self, model: Model<'_>, range: &Option<Range<usize>>, x: &mut [f32]) {
        if let Some(range) = range {
            let bias = model.vector(range);
            bias_forward(&self.device, RowsMut::packed(x, bias.len()), bias);
        }
    }

    /// `out = x + branch`, all (N, C), or `x` plus the branch's norm, whose factors go to `inverse`.
    fn residual(
        &self,
        x: &[f32],
        branch: &[f32],
        norm: Option<&[f32]>,
        out: &mut [f32],
        inverse: &mut [f32],
    ) {
        let Some(weight) = norm else { return residual_forward(&self.device, x, branch, out) };
        let n = x.len() / self.sizes().d_model;
        self.norm(branch, weight, out, &mut inverse[..n]);
        add_in_place(&self.device, out, x);
    }

    /// `out` (N, C) `= x` (N, C) normed.
    pub(super) fn norm(&self, x: &[f32], weight: &[f32], out: &mut [f32], inverse: &mut [f32]) {
        let c = weight.len();
        let (x, out) = (Rows::packed(x, c), RowsMut::packed(out, c));
        rmsnorm_forward(&self.device, x, Some(weight), self.sizes().norm_eps, out, inverse);
    }

    /// What a branch reads: `x` (N, C) normed into the first of `into`, with the inverse norms (N) in
    /// the second, or `x` itself where the model has no norm there. `norm` (C) is room for the weight.
    pub(super) fn pre_norm<'a>(
        &self,
        model: Model<'_>,
        at: &Option<Range<usize>>,
        x: &'a [f32],
        into: (&'a mut [f32], &mut [f32]),
        norm: &mut [f32],
    ) -> &'a [f32] {
        let Some(range) = at else { return x };
        let (normed, inverse) = into;
        self.norm(x, self.norm_weight(model, range, norm), normed, inverse);
        normed
    }

    /// `inner` (N, F) `= activation(gate) * up` of (N, 2 F).
    pub(super) fn gate(&self, gate_up: &[f32], inner: &mut [f32]) {
        let f = self.sizes().d_ff;
        let both = Rows::new(gate_up, gate_up.len() / (2 * f), 2, f, 2 * f);
        let (gate, up) = both.split_at(1);
        let inner = RowsMut::packed(inner, f);
        gate_forward(&self.device, self.sizes().activation, gate, up, inner);
    }
}
