//! A head that gives one number a token instead of the next token's logits: a reward model's.

use llmos_tensor::ops::train::{Rows, RowsMut, WeightGradient, rmsnorm_backward};

use super::weights::Slopes;
use super::{Batch, Layout, Network};

impl Network {
    /// The same decoder with a head of one row (1, C) in place of the vocabulary's.
    ///
    /// # Panics
    /// With an adapter: all weights learn.
    pub fn with_scalar_head(mut self) -> Network {
        assert!(self.adapted.is_none(), "a scalar head and an adapter");
        self.layout = Layout::scalar(&self.blueprint);
        self
    }

    /// Whether it has such a head.
    pub(crate) fn has_scalar_head(&self) -> bool {
        self.layout.head.len() == self.sizes().d_model
    }

    /// The score of each token (B * T).
    pub fn scores(&mut self, weights: &[f32], batch: Batch<'_>, scores: &mut [f32]) {
        assert_eq!(scores.len(), batch.inputs.len(), "a score for each token");
        self.begin(weights, batch);
        let mut buffers = std::mem::take(&mut self.buffers);
        let (c, weights) = (self.sizes().d_model, self.weights(weights));
        for (first, piece) in self.pieces(batch) {
            self.forward(&mut buffers, weights, piece);
            let n = piece.inputs.len();
            let (x, scores) = (&buffers.normed[..n * c], &mut scores[first..][..n]);
            self.linear(x, weights.model, &self.layout.head, c, scores, false);
        }
        self.buffers = buffers;
    }

    /// Adds the gradients of a loss whose slopes by the scores are the batch's weights (B * T) to
    /// `gradients`; gives 0, for the loss is not known here.
    pub(crate) fn score_gradients(
        &mut self,
        weights: &[f32],
        batch: Batch<'_>,
        gradients: &mut [f32],
    ) -> f64 {
        assert_eq!(gradients.len(), self.layout().len(), "a gradient for each parameter");
        self.begin(weights, batch);
        let mut buffers = std::mem::take(&mut self.buffers);
        let (c, weights) = (self.sizes().d_model, self.weights(weights));
        let (head, range) = (&self.layout.head, &self.layout.norm);
        let mut slopes = Slopes { model: Some(gradients), adapter: None };
        for (_, piece) in self.pieces(batch) {
            let Some(by_score) = piece.weights else { continue };
            self.forward(&mut buffers, weights, piece);
            let n = piece.inputs.len();
            let input = &buffers.normed[..n * c];
            self.linear_weight_gradient(by_score, input, c, slopes.of(head));
            let d_normed = &mut buffers.d_normed[..n * c];
            self.linear_input_gradient(by_score, weights.model, head, c, d_normed);
            let (partial, norm) = (&mut buffers.partial, &mut buffers.norm);
            rmsnorm_backward(
                &self.device,
                Rows::packed(&buffers.x[..n * c], c),
                Some(self.norm_weight(weights.model, range, norm)),
                &buffers.inverse[..n],
                Rows::packed(&buffers.d_normed[..n * c], c),
                RowsMut::packed(&mut buffers.d_x[..n * c], c),
                false,
                slopes.of(range).map(|dweight| WeightGradient { dweight, partial }),
            );
            self.backward(&mut buffers, weights, piece, &mut slopes);
        }
        self.buffers = buffers;
        0.0
    }
}
