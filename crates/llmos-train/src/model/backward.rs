//! From losses back to the gradients of all parameters.

use std::ops::Range;

use llmos_tensor::Floats;
use llmos_tensor::ops::train::{
    Rows, RowsMut, WeightGradient, add_in_place, bias_backward, cross_entropy, embedding_backward,
    gate_backward_in_place, rmsnorm_backward, rmsnorm_backward_in_place, rope_backward,
    scale_in_place, softcap_backward,
};
use llmos_tensor::self_attention::{Forward, Heads, HeadsMut, attention_backward};

use super::adapter::{Place, Work};
use super::buffers::{Buffers, head_rows};
use super::weights::{Slopes, Weights};
use super::{Batch, Network, Objective};

/// Rooms of an adapter's way back.
struct Rooms<'a> {
    low: &'a mut [Floats; 2],
    wide: &'a mut [Floats; 2],
}

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
        self.begin(weights, batch);
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
        let (c, v, n) = (self.sizes().d_model, self.sizes().vocab_size, batch.inputs.len());
        let rows = head_rows(self.sizes(), n);
        let head = &self.layout.head;
        let Buffers {
            x,
            normed,
            inverse,
            logits,
            capped,
            losses,
            d_x,
            d_normed,
            partial,
            norm,
            ..
        } = buffers;
        for start in (0..n).step_by(rows) {
            let count = rows.min(n - start);
            let logits = &mut logits[..count * v];
            let input = &normed[start * c..][..count * c];
            self.head_forward(input, weights.model, logits);
            if self.sizes().logit_softcap.is_some() {
                capped[..count * v].copy_from_slice(logits);
            }
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
            if let Some(cap) = self.sizes().logit_softcap {
                softcap_backward(&self.device, &capped[..count * v], logits, cap);
            }
            self.linear_weight_gradient(logits, input, c, slopes.of(head));
            let d_input = &mut d_normed[start * c..][..count * c];
            self.linear_input_gradient(logits, weights.model, head, c, d_input);
        }
        let range = &self.layout.norm;
        rmsnorm_backward(
            &self.device,
            Rows::packed(&x[..n * c], c),
            Some(self.norm_weight(weights.model, range, norm)),
            &inverse[..n],
            Rows::packed(&d_normed[..n * c], c),
            RowsMut::packed(&mut d_x[..n * c], c),
            false,
            slopes.of(range).map(|dweight| WeightGradient { dweight, partial }),
        );
        losses[..n].iter().map(|&loss| f64::from(loss)).sum()
    }

    /// Back through a product of layer `l`: from `d_y` (N, out) to the gradients of what learns there,
    /// and to `d_x` (N, in), which is overwritten.
    fn product_backward(
        &self,
        at: (usize, Place),
        weights: Weights<'_>,
        (x, d_x): (&[f32], &mut [f32]),
        n_in: usize,
        d_y: &[f32],
        slopes: &mut Slopes<'_>,
        rooms: &mut Rooms<'_>,
    ) {
        let range = at.1.range(&self.layout.layers[at.0]);
        self.linear_weight_gradient(d_y, x, n_in, slopes.of(range));
        let (Some(learnt), Some(gradients)) = (weights.adapter, &mut slopes.adapter) else {
            return self.linear_input_gradient(d_y, weights.model, range, n_in, d_x);
        };
        let (device, precision) = (&*self.device, self.precision);
        let Rooms { low: [low, d_low], wide: [u, d_u] } = rooms;
        let d_u = if learnt.adapter.dora && !learnt.is_idle(at) {
            // What magnitudes multiplied is computed again.
            let (n, u, d_u) = (x.len() / n_in, &mut u[..d_y.len()], &mut d_u[..d_y.len()]);
            self.linear(x, weights.model, range, n_in, u, false);
            learnt.forward(at, Work { device, precision, low }, x, n_in, u);
            learnt.magnitude_gradients(at, device, n, (d_y, u), gradients);
            d_u.copy_from_slice(d_y);
            learnt.magnify(at, device, n, d_u);
            &*d_u
        } else {
            d_y
        };
        self.linear_input_gradient(d_u, weights.model, range, n_in, d_x);
        let work = Work { device, precision, low };
        learnt.backward(at, work, d_low, (x, d_x), n_in, d_u, gradients);
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
        let s = self.sizes();
        let (c, f) = (s.d_model, s.d_ff);
        let (q_width, qk_width, qkv_width) = (s.q_width(), s.qk_width(), s.qkv_width());
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
            branch,
            partial,
            norm,
            low,
            wide,
            ..
        } = buffers;
        let (normed, inner) = (&mut normed[..n * c], &mut inner[..n * f]);
        let (d_x, d_normed) = (&mut d_x[..n * c], &mut d_normed[..n * c]);
        let (d_qkv, d_inner) = (&mut d_qkv[..n * qkv_width], &mut d_inner[..n * f]);
        let d_attention = &mut d_attention[..n * q_width];
        let rooms = &mut Rooms { low, wide };
        let blocks = layers.iter_mut().zip(&self.layout.layers).enumerate();
        for (l, (layer, at)) in blocks.rev() {
            let block = &self.blueprint.config().layers[l];
            // The MLP's branch.
            let gate_up = &mut layer.gate_up[..n * 2 * f];
            self.gate(gate_up, inner);
            let of_branch = (&layer.branches[1][..], &layer.branch_inverses[1][..]);
            let post = &at.mlp_post_norm;
            let d_branch = self
                .post_norm_backward(of_branch, weights, post, d_x, branch, slopes, partial, norm);
            self.bias_backward(d_branch, &at.down_bias, slopes);
            let through = (&*inner, &mut *d_inner);
            self.product_backward((l, Place::Down), weights, through, f, d_branch, slopes, rooms);
            let (gate, up) = RowsMut::new(gate_up, n, 2, f, 2 * f).split_at(1);
            gate_backward_in_place(device, s.activation, gate, up, Rows::packed(d_inner, f));
            let middle = &layer.middle[..n * c];
            let into = (&mut *normed, &mut layer.mlp_inverse[..n]);
            let input = self.pre_norm(weights.model, &at.mlp_norm, middle, into, norm);
            self.bias_backward(gate_up, &at.gate_up_bias, slopes);
            let through = (input, &mut *d_normed);
            self.product_backward((l, Place::GateUp), weights, through, c, gate_up, slopes, rooms);
            let of_input = (middle, &layer.mlp_inverse[..n]);
            let range = &at.mlp_norm;
            self.pre_norm_backward(of_input, weights, range, d_normed, d_x, slopes, partial, norm);
            // Attention's branch.
            let attention = &layer.attention[..n * q_width];
            let of_branch = (&layer.branches[0][..], &layer.branch_inverses[0][..]);
            let post = &at.attention_post_norm;
            let d_branch = self
                .post_norm_backward(of_branch, weights, post, d_x, branch, slopes, partial, norm);
            self.bias_backward(d_branch, &at.output_bias, slopes);
            let (place, through) = ((l, Place::Output), (attention, &mut *d_attention));
            self.product_backward(place, weights, through, q_width, d_branch, slopes, rooms);
            let (qk, qkv) = (&layer.qk[..n * qk_width], &layer.qkv[..n * qkv_width]);
            attention_backward(
                device,
                self.attention(b, block),
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
            if let Some(table) = self.rope(block) {
                let heads = RowsMut::new(d_qkv, n, s.n_head + s.n_kv_head, s.head_dim, qkv_width);
                rope_backward(device, table, time, heads);
            }
            if let (Some(ranges), Some(rows)) = (&at.qk_norm, s.qk_rows()) {
                let parts = ranges.iter().zip(rows).zip(&layer.qk_inverse);
                for (((range, (heads, size)), inverse), from) in parts.zip([0, q_width]) {
                    let x = Rows::new(&qkv[from..], n, heads, size, qkv_width);
                    let d = RowsMut::new(&mut d_qkv[from..], n, heads, size, qkv_width);
                    let weight = Some(self.norm_weight(weights.model, range, norm));
                    let gradient =
                        slopes.of(range).map(|dweight| WeightGradient { dweight, partial });
                    let inverse = &inverse[..n * heads];
                    rmsnorm_backward_in_place(device, x, weight, inverse, d, gradient);
                }
            }
            let x = &layer.x[..n * c];
            let into = (&mut *normed, &mut layer.attention_inverse[..n]);
            let input = self.pre_norm(weights.model, &at.attention_norm, x, into, norm);
            self.bias_backward(d_qkv, &at.qkv_bias, slopes);
            let through = (input, &mut *d_normed);
            self.product_backward((l, Place::Qkv), weights, through, c, d_qkv, slopes, rooms);
            let of_input = (x, &layer.attention_inverse[..n]);
            let range = &at.attention_norm;
            self.pre_norm_backward(of_input, weights, range, d_normed, d_x, slopes, partial, norm);
        }
        if let Some(table) = slopes.of(&self.layout.embedding) {
            if s.embedding_scale != 1.0 {
                scale_in_place(device, d_x, s.embedding_scale);
            }
            embedding_backward(device, batch.inputs, d_x, c, table);
        }
    }

    /// The gradient of a bias, where there is one that learns: it gains the columns' sums of `d` (N, C).
    fn bias_backward(&self, d: &[f32], range: &Option<Range<usize>>, slopes: &mut Slopes<'_>) {
        if let Some(sums) = range.as_ref().and_then(|range| slopes.of(range)) {
            bias_backward(&self.device, Rows::packed(d, sums.len()), None, sums);
        }
    }

    /// The gradient of what a branch gave, before the norm at its end: `d_x` (N, C) itself where there
    /// is none.
    fn post_norm_backward<'a>(
        &self,
        (given, inverse): (&[f32], &[f32]),
        weights: Weights<'_>,
        range: &Option<Range<usize>>,
        d_x: &'a [f32],
        branch: &'a mut [f32],
        slopes: &mut Slopes<'_>,
        partial: &mut [f32],
        norm: &mut [f32],
    ) -> &'a [f32] {
        let Some(range) = range else { return d_x };
        let c = self.sizes().d_model;
        let branch = &mut branch[..d_x.len()];
        rmsnorm_backward(
            &self.device,
            Rows::packed(&given[..d_x.len()], c),
            Some(self.norm_weight(weights.model, range, norm)),
            &inverse[..d_x.len() / c],
            Rows::packed(d_x, c),
            RowsMut::packed(branch, c),
            false,
            slopes.of(range).map(|dweight| WeightGradient { dweight, partial }),
        );
        branch
    }

    /// Back through the norm at a branch's beginning, if it has one: `d_x` (N, C) gains what came by
    /// the branch.
    fn pre_norm_backward(
        &self,
        (x, inverse): (&[f32], &[f32]),
        weights: Weights<'_>,
        range: &Option<Range<usize>>,
        d_normed: &[f32],
        d_x: &mut [f32],
        slopes: &mut Slopes<'_>,
        partial: &mut [f32],
        norm: &mut [f32],
    ) {
        let Some(range) = range else { return add_in_place(&self.device, d_x, d_normed) };
        let c = self.sizes().d_model;
        rmsnorm_backward(
            &self.device,
            Rows::packed(x, c),
            Some(self.norm_weight(weights.model, range, norm)),
            inverse,
            Rows::packed(d_normed, c),
            RowsMut::packed(d_x, c),
            true,
            slopes.of(range).map(|dweight| WeightGradient { dweight, partial }),
        );
    }
}
