//! From token ids to losses.

use llmos_tensor::ops::train::{
    Rows, RowsMut, copy_forward, cross_entropy_forward, embedding_forward, rmsnorm_forward,
    rope_forward, silu_gate_forward,
};
use llmos_tensor::self_attention::{Heads, HeadsMut, attention_forward};

use super::adapter::Place;
use super::buffers::{Buffers, head_rows};
use super::{Batch, IGNORE, Network, Weights};

impl Network {
    /// The loss of each token (B * T) in nats, 0 where nothing is learnt.
    pub fn losses(&mut self, weights: &[f32], batch: Batch<'_>, losses: &mut [f32]) {
        assert_eq!(losses.len(), batch.inputs.len(), "a loss for each token");
        let mut buffers = std::mem::take(&mut self.buffers);
        let (c, weights) = (self.shape.d_model, self.weights(weights));
        for (first, piece) in self.pieces(batch) {
            self.forward(&mut buffers, weights, piece);
            let n = piece.inputs.len();
            let (losses, rows) = (&mut losses[first..][..n], head_rows(&self.shape, n));
            for start in (0..n).step_by(rows) {
                let count = rows.min(n - start);
                let logits = &mut buffers.logits[..count * self.shape.vocab_size];
                let x = &buffers.normed[start * c..][..count * c];
                self.linear(x, &weights.model[self.layout.head.clone()], c, logits, false);
                cross_entropy_forward(
                    &self.device,
                    logits,
                    self.shape.vocab_size,
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
        let mut buffers = std::mem::take(&mut self.buffers);
        let (c, v) = (self.shape.d_model, self.shape.vocab_size);
        let weights = self.weights(weights);
        for (first, piece) in self.pieces(batch) {
            self.forward(&mut buffers, weights, piece);
            let n = piece.inputs.len();
            let (x, logits) = (&buffers.normed[..n * c], &mut logits[first * v..][..n * v]);
            self.linear(x, &weights.model[self.layout.head.clone()], c, logits, false);
        }
        self.buffers = buffers;
    }

    /// The logits (V) of what comes after `ids`, of which there are T at most.
    pub fn next_logits(&mut self, weights: &[f32], ids: &[u32], logits: &mut [f32]) {
        let time = std::mem::replace(&mut self.time, ids.len());
        let mut buffers = std::mem::take(&mut self.buffers);
        let weights = self.weights(weights);
        self.forward(
            &mut buffers,
            weights,
            Batch { inputs: ids, targets: ids, starts: None, weights: None },
        );
        let c = self.shape.d_model;
        let x = &buffers.normed[(ids.len() - 1) * c..][..c];
        self.linear(x, &weights.model[self.layout.head.clone()], c, logits, false);
        (self.buffers, self.time) = (buffers, time);
    }

    /// All blocks; leaves the normed output of the last in `normed`, and what the way back needs.
    pub(super) fn forward(&self, buffers: &mut Buffers, weights: Weights<'_>, batch: Batch<'_>) {
        let (b, time) = self.batch_size(batch);
        let n = b * time;
        let s = &self.shape;
        let (c, d, f) = (s.d_model, s.head_dim, s.d_ff);
        let (q_width, qk_width) = (s.n_head * d, (s.n_head + s.n_kv_head) * d);
        let qkv_width = qk_width + s.n_kv_head * d;
        let eps = s.norm_eps as f32;
        let device = &*self.device;
        let Buffers { layers, x: last, normed, inner, inverse, low: [low, _], .. } = buffers;
        let mut adapt = |at: (usize, Place), x: &[f32], n_in: usize, y: &mut [f32]| {
            if let Some((adapter, values)) = weights.adapter {
                adapter.forward(at, self.work(values, low), x, n_in, y);
            }
        };
        if let Some(first) = layers.first_mut() {
            let table = &weights.model[self.layout.embedding.clone()];
            embedding_forward(device, batch.inputs, table, c, &mut first.x[..n * c]);
        }
        let normed = &mut normed[..n * c];
        for (l, at) in self.layout.layers.iter().enumerate() {
            let (these, next) = layers.split_at_mut(l + 1);
            let layer = &mut these[l];
            let x = &layer.x[..n * c];
            self.norm(
                x,
                &weights.model[at.attention_norm.clone()],
                normed,
                &mut layer.attention_inverse[..n],
            );
            let qkv = &mut layer.qkv[..n * qkv_width];
            self.linear(normed, &weights.model[at.qkv.clone()], c, qkv, false);
            adapt((l, Place::Qkv), normed, c, qkv);
            let qk = &mut layer.qk[..n * qk_width];
            match &at.qk_norm {
                Some([q_norm, k_norm]) => {
                    let (q, k) =
                        Rows::new(qkv, n, s.n_head + s.n_kv_head, d, qkv_width).split_at(s.n_head);
                    let all = RowsMut::new(qk, n, s.n_head + s.n_kv_head, d, qk_width);
                    let (q_out, k_out) = all.split_at(s.n_head);
                    let [q_inverse, k_inverse] = &mut layer.qk_inverse;
                    let q_inverse = &mut q_inverse[..n * s.n_head];
                    let k_inverse = &mut k_inverse[..n * s.n_kv_head];
                    rmsnorm_forward(
                        device,
                        q,
                        Some(&weights.model[q_norm.clone()]),
                        eps,
                        q_out,
                        q_inverse,
                    );
                    rmsnorm_forward(
                        device,
                        k,
                        Some(&weights.model[k_norm.clone()]),
                        eps,
                        k_out,
                        k_inverse,
                    );
                }
                None => {
                    let from = Rows::new(qkv, n, 1, qk_width, qkv_width);
                    copy_forward(device, from, RowsMut::packed(qk, qk_width));
                }
            }
            let heads = RowsMut::new(qk, n, s.n_head + s.n_kv_head, d, qk_width);
            rope_forward(device, &self.rope, time, heads);
            attention_forward(
                device,
                self.attention(b),
                Heads { data: qk, stride: qk_width },
                Heads { data: &qk[q_width..], stride: qk_width },
                Heads { data: &qkv[qk_width..], stride: qkv_width },
                batch.starts,
                HeadsMut { data: &mut layer.attention[..n * q_width], stride: q_width },
                &mut layer.log_sums[..n * s.n_head],
            );
            let middle = &mut layer.middle[..n * c];
            copy_forward(device, Rows::packed(x, c), RowsMut::packed(middle, c));
            let attention = &layer.attention[..n * q_width];
            self.linear(attention, &weights.model[at.output.clone()], q_width, middle, true);
            adapt((l, Place::Output), attention, q_width, middle);
            self.norm(
                middle,
                &weights.model[at.mlp_norm.clone()],
                normed,
                &mut layer.mlp_inverse[..n],
            );
            let gate_up = &mut layer.gate_up[..n * 2 * f];
            self.linear(normed, &weights.model[at.gate_up.clone()], c, gate_up, false);
            adapt((l, Place::GateUp), normed, c, gate_up);
            let inner = &mut inner[..n * f];
            self.gate(gate_up, inner);
            let out = match next.first_mut() {
                Some(next) => &mut next.x[..n * c],
                None => &mut last[..n * c],
            };
            copy_forward(device, Rows::packed(middle, c), RowsMut::packed(out, c));
            self.linear(inner, &weights.model[at.down.clone()], f, out, true);
            adapt((l, Place::Down), inner, f, out);
        }
        self.norm(
            &last[..n * c],
            &weights.model[self.layout.norm.clone()],
            normed,
            &mut inverse[..n],
        );
    }

    /// `out` (N, C) `= x` (N, C) normed.
    pub(super) fn norm(&self, x: &[f32], weight: &[f32], out: &mut [f32], inverse: &mut [f32]) {
        let c = weight.len();
        let (x, out) = (Rows::packed(x, c), RowsMut::packed(out, c));
        rmsnorm_forward(&self.device, x, Some(weight), self.shape.norm_eps as f32, out, inverse);
    }

    /// `inner` (N, F) `= silu(gate) * up` of (N, 2 F).
    pub(super) fn gate(&self, gate_up: &[f32], inner: &mut [f32]) {
        let f = self.shape.d_ff;
        let both = Rows::new(gate_up, gate_up.len() / (2 * f), 2, f, 2 * f);
        let (gate, up) = both.split_at(1);
        silu_gate_forward(&self.device, gate, up, RowsMut::packed(inner, f));
    }
}
