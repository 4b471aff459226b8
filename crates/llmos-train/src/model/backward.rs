//! From losses back to the gradients of all parameters.

use std::ops::Range;

use llmos_tensor::ops::train::{
    Rows, RowsMut, WeightGradient, cross_entropy, embedding_backward, rmsnorm_backward,
    rmsnorm_backward_in_place, rope_backward, silu_gate_backward_in_place,
};
use llmos_tensor::self_attention::{Forward, Heads, HeadsMut, attention_backward};

use super::adapter::Place;
use super::buffers::{Buffers, head_rows};
use super::{Batch, Network, Objective, Slopes, Weights};

impl Network {
    /// Adds the gradients of the batch's loss to `gradients`, and gives the sum of its tokens'
    /// losses in nats.
    pub fn gradients(
        &mut self,
        weights: &[f32],
        batch: Batch<'_>,
        objective: Objective,
        gradients: &mut [f32],
    ) -> f64 {
        assert_eq!(gradients.len(), self.layout().len(), "a gradient for each parameter");
        let mut buffers = std::mem::take(&mut self.buffers);
        let weights = self.weights(weights);
        let mut slopes = match weights.adapter {
            None => Slopes { model: Some(gradients), adapter: None },
            Some(_) => Slopes { model: None, adapter: Some(gradients) },
        };
        let mut loss = 0.0;
        for (_, piece) in self.pieces(batch) {
            self.forward(&mut buffers, weights, piece);
            loss += self.head(&mut buffers, weights, piece, objective, &mut slopes);
            self.backward(&mut buffers, weights, piece, &mut slopes);
        }
        self.buffers = buffers;
        loss
    }

    /// Losses, and their gradients up to the last block's output, in `d_x`.
    fn head(
        &self,
        buffers: &mut Buffers,
        weights: Weights<'_>,
        batch: Batch<'_>,
        objective: Objective,
        slopes: &mut Slopes<'_>,
    ) -> f64 {
        let (c, v, n) = (self.shape.d_model, self.shape.vocab_size, batch.inputs.len());
        let rows = head_rows(&self.shape, n);
        let head = self.layout.head.clone();
        let Buffers { x, normed, inverse, logits, losses, d_x, d_normed, partial, .. } = buffers;
        for start in (0..n).step_by(rows) {
            let count = rows.min(n - start);
            let logits = &mut logits[..count * v];
            let input = &normed[start * c..][..count * c];
            self.linear(input, &weights.model[head.clone()], c, logits, false);
            cross_entropy(
                &self.device,
                logits,
                v,
                &batch.targets[start..][..count],
                Network::cross_entropy(
                    objective,
                    batch.weights.map(|weights| &weights[start..][..count]),
                ),
                &mut losses[start..][..count],
            );
            self.linear_weight_gradient(logits, input, c, slopes.of(&head));
            let d_input = &mut d_normed[start * c..][..count * c];
            self.linear_input_gradient(logits, &weights.model[head.clone()], c, d_input);
        }
        rmsnorm_backward(
            &self.device,
            Rows::packed(&x[..n * c], c),
            Some(&weights.model[self.layout.norm.clone()]),
            &inverse[..n],
            Rows::packed(&d_normed[..n * c], c),
            RowsMut::packed(&mut d_x[..n * c], c),
            false,
            slopes.of(&self.layout.norm).map(|dweight| WeightGradient { dweight, partial }),
        );
        losses[..n].iter().map(|&loss| f64::from(loss)).sum()
    }

    /// All blocks, from the last to the first, and the embedding.
    pub(super) fn backward(
        &self,
        buffers: &mut Buffers,
        weights: Weights<'_>,
        batch: Batch<'_>,
        slopes: &mut Slopes<'_>,
    ) {
        let (b, time) = self.batch_size(batch);
        let n = b * time;
        let s = &self.shape;
        let (c, d, f) = (s.d_model, s.head_dim, s.d_ff);
        let (q_width, qk_width) = (s.n_head * d, (s.n_head + s.n_kv_head) * d);
        let qkv_width = qk_width + s.n_kv_head * d;
        let device = &*self.device;
        let Buffers {
            layers,
            normed,
            inner,
            d_x,
            d_normed,
            d_qkv,
            d_attention,
            d_inner,
            partial,
            low: [low, d_low],
            ..
        } = buffers;
        let (normed, inner) = (&mut normed[..n * c], &mut inner[..n * f]);
        let (d_x, d_normed) = (&mut d_x[..n * c], &mut d_normed[..n * c]);
        let (d_qkv, d_inner) = (&mut d_qkv[..n * qkv_width], &mut d_inner[..n * f]);
        let d_attention = &mut d_attention[..n * q_width];
        let mut adapt = |at: (usize, Place),
                         x: (&[f32], &mut [f32]),
                         n_in,
                         d_y: &[f32],
                         slopes: &mut Slopes<'_>| {
            if let (Some((adapter, values)), Some(gradients)) =
                (weights.adapter, &mut slopes.adapter)
            {
                let work = self.work(values, low);
                adapter.backward(at, work, d_low, x, n_in, d_y, gradients);
            }
        };
        let blocks = layers.iter_mut().zip(&self.layout.layers).enumerate();
        for (l, (layer, at)) in blocks.rev() {
            // The MLP's branch.
            let gate_up = &mut layer.gate_up[..n * 2 * f];
            self.gate(gate_up, inner);
            self.linear_weight_gradient(d_x, inner, f, slopes.of(&at.down));
            self.linear_input_gradient(d_x, &weights.model[at.down.clone()], f, d_inner);
            adapt((l, Place::Down), (inner, d_inner), f, d_x, slopes);
            let (gate, up) = RowsMut::new(gate_up, n, 2, f, 2 * f).split_at(1);
            silu_gate_backward_in_place(device, gate, up, Rows::packed(d_inner, f));
            let middle = &layer.middle[..n * c];
            self.norm(
                middle,
                &weights.model[at.mlp_norm.clone()],
                normed,
                &mut layer.mlp_inverse[..n],
            );
            self.linear_weight_gradient(gate_up, normed, c, slopes.of(&at.gate_up));
            self.linear_input_gradient(gate_up, &weights.model[at.gate_up.clone()], c, d_normed);
            adapt((l, Place::GateUp), (normed, d_normed), c, gate_up, slopes);
            let inverse = &layer.mlp_inverse[..n];
            self.branch_norm(
                middle,
                inverse,
                weights,
                &at.mlp_norm,
                d_normed,
                d_x,
                slopes,
                partial,
            );
            // Attention's branch.
            let attention = &layer.attention[..n * q_width];
            self.linear_weight_gradient(d_x, attention, q_width, slopes.of(&at.output));
            self.linear_input_gradient(
                d_x,
                &weights.model[at.output.clone()],
                q_width,
                d_attention,
            );
            adapt((l, Place::Output), (attention, d_attention), q_width, d_x, slopes);
            let (qk, qkv) = (&layer.qk[..n * qk_width], &layer.qkv[..n * qkv_width]);
            attention_backward(
                device,
                self.attention(b),
                Forward {
                    q: Heads { data: qk, stride: qk_width },
                    k: Heads { data: &qk[q_width..], stride: qk_width },
                    v: Heads { data: &qkv[qk_width..], stride: qkv_width },
                    starts: batch.starts,
                    out: Heads { data: attention, stride: q_width },
                    log_sums: &layer.log_sums[..n * s.n_head],
                },
                Heads { data: d_attention, stride: q_width },
                HeadsMut { data: d_qkv, stride: qkv_width },
            );
            let heads = RowsMut::new(d_qkv, n, s.n_head + s.n_kv_head, d, qkv_width);
            rope_backward(device, &self.rope, time, heads);
            if let Some([q_norm, k_norm]) = &at.qk_norm {
                let (q, k) =
                    Rows::new(qkv, n, s.n_head + s.n_kv_head, d, qkv_width).split_at(s.n_head);
                let all = RowsMut::new(d_qkv, n, s.n_head + s.n_kv_head, d, qkv_width);
                let (d_q, d_k) = all.split_at(s.n_head);
                let [q_inverse, k_inverse] = &layer.qk_inverse;
                let parts = [
                    (q, d_q, q_norm, &q_inverse[..n * s.n_head]),
                    (k, d_k, k_norm, &k_inverse[..n * s.n_kv_head]),
                ];
                for (x, d, weight, inverse) in parts {
                    let gradient =
                        slopes.of(weight).map(|dweight| WeightGradient { dweight, partial });
                    let weight = Some(&weights.model[weight.clone()]);
                    rmsnorm_backward_in_place(device, x, weight, inverse, d, gradient);
                }
            }
            let x = &layer.x[..n * c];
            let weight = &weights.model[at.attention_norm.clone()];
            self.norm(x, weight, normed, &mut layer.attention_inverse[..n]);
            self.linear_weight_gradient(d_qkv, normed, c, slopes.of(&at.qkv));
            self.linear_input_gradient(d_qkv, &weights.model[at.qkv.clone()], c, d_normed);
            adapt((l, Place::Qkv), (normed, d_normed), c, d_qkv, slopes);
            let inverse = &layer.attention_inverse[..n];
            self.branch_norm(
                x,
                inverse,
                weights,
                &at.attention_norm,
                d_normed,
                d_x,
                slopes,
                partial,
            );
        }
        if let Some(table) = slopes.of(&self.layout.embedding) {
            embedding_backward(device, batch.inputs, d_x, c, table);
        }
    }

    /// Back through the norm at a branch's beginning: `d_x` (N, C) gains what came by the branch.
    fn branch_norm(
        &self,
        x: &[f32],
        inverse: &[f32],
        weights: Weights<'_>,
        weight: &Range<usize>,
        d_normed: &[f32],
        d_x: &mut [f32],
        slopes: &mut Slopes<'_>,
        partial: &mut [f32],
    ) {
        let c = self.shape.d_model;
        rmsnorm_backward(
            &self.device,
            Rows::packed(x, c),
            Some(&weights.model[weight.clone()]),
            inverse,
            Rows::packed(d_normed, c),
            RowsMut::packed(d_x, c),
            true,
            slopes.of(weight).map(|dweight| WeightGradient { dweight, partial }),
        );
    }
}
