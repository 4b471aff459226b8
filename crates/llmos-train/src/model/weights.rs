//! The numbers that a step reads: those of a model, and of an adapter where there is one.

use std::ops::Range;

use llmos_tensor::ops::train::embedding_forward;

use super::Network;
use super::adapter::Learnt;
use super::stored::Stored;
use llmos_tensor::gemm::{View, ViewMut, gemm};

/// A model's numbers.
#[derive(Clone, Copy)]
pub(super) enum Model<'a> {
    /// (parameters)
    Whole(&'a [f32]),
    /// As its files hold them; none of them learns.
    Stored(&'a Stored),
}

/// The numbers of a model, and of an adapter where there is one.
#[derive(Clone, Copy)]
pub(super) struct Weights<'a> {
    pub(super) model: Model<'a>,
    pub(super) adapter: Option<Learnt<'a>>,
}

impl<'a> Model<'a> {
    /// The numbers of a vector.
    pub(super) fn vector(self, range: &Range<usize>) -> &'a [f32] {
        match self {
            Model::Whole(weights) => &weights[range.clone()],
            Model::Stored(stored) => stored.vector(range),
        }
    }
}

/// Gradients of what learns: of the model, or of its adapter.
pub(super) struct Slopes<'a> {
    pub(super) model: Option<&'a mut [f32]>,
    pub(super) adapter: Option<&'a mut [f32]>,
}

impl Slopes<'_> {
    /// Those of a tensor of the model, where it learns.
    pub(super) fn of(&mut self, range: &Range<usize>) -> Option<&mut [f32]> {
        self.model.as_mut().map(|gradients| &mut gradients[range.clone()])
    }
}

impl Network {
    /// What the norm `range` multiplies with, which is one more than the parameters where these are
    /// offsets; `room` is as long as the longest norm then.
    pub(super) fn norm_weight<'a>(
        &self,
        model: Model<'a>,
        range: &Range<usize>,
        room: &'a mut [f32],
    ) -> &'a [f32] {
        let weight = model.vector(range);
        if !self.sizes().norm_offsets {
            return weight;
        }
        let room = &mut room[..weight.len()];
        room.iter_mut().zip(weight).for_each(|(to, offset)| *to = 1.0 + offset);
        room
    }

    /// `out` (N, C) becomes the embeddings of `ids`, scaled as the model has it.
    pub(super) fn embed(&self, model: Model<'_>, ids: &[u32], out: &mut [f32]) {
        let (c, at) = (self.sizes().d_model, &self.layout.embedding);
        match model {
            Model::Whole(weights) => {
                embedding_forward(&self.device, ids, &weights[at.clone()], c, out);
            }
            Model::Stored(stored) => stored.rows(at, ids, out),
        }
        let scale = self.sizes().embedding_scale;
        if scale != 1.0 {
            llmos_tensor::ops::train::scale_in_place(&self.device, out, scale);
        }
    }

    /// `y` (N, out) `= x` (N, in) times the transpose of the matrix at `range` (out, in), added to `y`
    /// if `add`.
    pub(super) fn linear(
        &self,
        x: &[f32],
        model: Model<'_>,
        range: &Range<usize>,
        n_in: usize,
        y: &mut [f32],
        add: bool,
    ) {
        let (n, n_out) = (x.len() / n_in, range.len() / n_in);
        match model {
            Model::Whole(weights) => {
                let w = View::dense(&weights[range.clone()], n_out, n_in).transposed();
                let y = ViewMut::dense(y, n, n_out);
                gemm(&self.device, self.precision, View::dense(x, n, n_in), w, y, add);
            }
            Model::Stored(stored) => stored.tiles(&self.device, range, |rows, w| {
                let w = View::dense(w, rows.len(), n_in).transposed();
                let y = ViewMut::new(&mut y[rows.start..], n, rows.len(), n_out);
                gemm(&self.device, self.precision, View::dense(x, n, n_in), w, y, add);
            }),
        }
    }

    /// `d_x` (N, in) `= d_y` (N, out) times the matrix at `range` (out, in).
    pub(super) fn linear_input_gradient(
        &self,
        d_y: &[f32],
        model: Model<'_>,
        range: &Range<usize>,
        n_in: usize,
        d_x: &mut [f32],
    ) {
        let n_out = range.len() / n_in;
        let n = d_y.len() / n_out;
        match model {
            Model::Whole(weights) => {
                let w = View::dense(&weights[range.clone()], n_out, n_in);
                let d_y = View::dense(d_y, n, n_out);
                gemm(&self.device, self.precision, d_y, w, ViewMut::dense(d_x, n, n_in), false);
            }
            Model::Stored(stored) => stored.tiles(&self.device, range, |rows, w| {
                let w = View::dense(w, rows.len(), n_in);
                let d_y = View::new(&d_y[rows.start..], n, rows.len(), n_out);
                let d_x = ViewMut::dense(d_x, n, n_in);
                gemm(&self.device, self.precision, d_y, w, d_x, rows.start > 0);
            }),
        }
    }

    /// `d_w` (out, in) `+=` the transpose of `d_y` (N, out) times `x` (N, in), where that learns.
    pub(super) fn linear_weight_gradient(
        &self,
        d_y: &[f32],
        x: &[f32],
        n_in: usize,
        d_w: Option<&mut [f32]>,
    ) {
        let Some(d_w) = d_w else { return };
        let (n, n_out) = (x.len() / n_in, d_w.len() / n_in);
        let d_y = View::dense(d_y, n, n_out).transposed();
        let d_w = ViewMut::dense(d_w, n_out, n_in);
        gemm(&self.device, self.precision, d_y, View::dense(x, n, n_in), d_w, true);
    }
}
