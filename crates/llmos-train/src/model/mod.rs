//! The decoder that is trained: parameters, forward and backward.
//!
//! There is no graph: each layer is written down twice, there and back. What the way back needs is
//! kept in buffers that are made once and used again in every step. Products are
//! [`llmos_tensor::gemm`], attention [`llmos_tensor::self_attention`], all between them
//! [`llmos_tensor::ops::train`].

mod adapter;
mod backward;
mod buffers;
mod forward;
mod parameters;
mod pretrained;
mod products;
mod scalar;

use std::ops::Range;
use std::sync::Arc;

use llmos_tensor::Device;
use llmos_tensor::gemm::{Precision, View, ViewMut, gemm};
use llmos_tensor::ops::Pairing;
use llmos_tensor::ops::train::{CrossEntropy, RopeTable};
use llmos_tensor::self_attention::SelfAttention;

use crate::recipe::ModelShape;
use adapter::{Adapter, Work};
pub use adapter::{Lora, TARGETS};
use buffers::Buffers;
pub(crate) use parameters::SCORE;
pub use parameters::{Kind, Layout, Tensor};
pub(crate) use pretrained::read_weights;
pub use products::products_seconds;

/// A target that is not learnt from.
pub const IGNORE: u32 = u32::MAX;

/// Tokens that go through the network at once, there and back, in whole rows: the activations of a
/// small model then stay in the third-level cache, and memory does not grow with the batch. A model
/// of a million parameters gained a fifth in f32 and a third in bfloat16 on Zen 4; for 7 and 30
/// million, 1,024 to 4,096 tokens made no difference beyond noise. A row of 256 was slower.
const AT_ONCE: usize = 1024;

/// Rows of a batch: what is read, and what should come next.
#[derive(Clone, Copy)]
pub struct Batch<'a> {
    /// (B * T)
    pub inputs: &'a [u32],
    /// (B * T); [`IGNORE`] where nothing is learnt.
    pub targets: &'a [u32],
    /// (B * T): the position in its row at which each token's document begins; none where a token
    /// sees all of its row.
    pub starts: Option<&'a [u32]>,
    /// (B * T): what each token's gradient counts for besides, if not all the same.
    pub weights: Option<&'a [f32]>,
}

impl<'a> Batch<'a> {
    /// Pieces of `tokens` tokens, the last perhaps fewer, each with its first token's place.
    fn pieces(self, tokens: usize) -> impl Iterator<Item = (usize, Batch<'a>)> {
        (0..self.inputs.len()).step_by(tokens).map(move |first| {
            let range = first..self.inputs.len().min(first + tokens);
            let piece = Batch {
                inputs: &self.inputs[range.clone()],
                targets: &self.targets[range.clone()],
                starts: self.starts.map(|starts| &starts[range.clone()]),
                weights: self.weights.map(|weights| &weights[range]),
            };
            (first, piece)
        })
    }
}

/// What the loss is.
#[derive(Clone, Copy, Debug)]
pub struct Objective {
    /// A token's loss counts for this much: one over the learnt tokens of a whole step.
    pub scale: f32,
    /// Weight of the squared logarithm of the softmax's denominator.
    pub z_loss: f32,
}

/// A decoder of one shape.
pub struct Network {
    shape: ModelShape,
    layout: Layout,
    device: Arc<Device>,
    precision: Precision,
    /// Tokens that there is room for.
    tokens: usize,
    /// T at most, and T.
    longest: usize,
    time: usize,
    rope: RopeTable,
    buffers: Buffers,
    adapted: Option<Adapted>,
}

/// A frozen model beside which an adapter learns.
struct Adapted {
    /// (parameters of the model)
    frozen: Vec<f32>,
    adapter: Adapter,
}

/// The numbers of a model, and of an adapter where there is one.
#[derive(Clone, Copy)]
struct Weights<'a> {
    model: &'a [f32],
    adapter: Option<(&'a Adapter, &'a [f32])>,
}

/// Gradients of what learns: of the model, or of its adapter.
struct Slopes<'a> {
    model: Option<&'a mut [f32]>,
    adapter: Option<&'a mut [f32]>,
}

impl Slopes<'_> {
    /// Those of a tensor of the model, where it learns.
    fn of(&mut self, range: &Range<usize>) -> Option<&mut [f32]> {
        self.model.as_mut().map(|gradients| &mut gradients[range.clone()])
    }
}

/// Rows of [`AT_ONCE`] tokens, at least one.
fn rows_at_once(batch: usize, time: usize) -> usize {
    (AT_ONCE / time.max(1)).clamp(1, batch.max(1))
}

impl Network {
    /// A decoder for rows of up to `time` tokens, and of `time` until [`Network::set_time`] says
    /// otherwise. Its buffers are made here, for no more than `batch` such rows at once; nothing is
    /// allocated afterwards.
    pub fn new(
        shape: &ModelShape,
        device: &Arc<Device>,
        precision: Precision,
        batch: usize,
        time: usize,
    ) -> Network {
        let at_once = rows_at_once(batch, time);
        let config = shape.config(time);
        let frequencies = config.ropes.first().map_or(&[][..], |rope| &rope.inverse_frequencies);
        Network {
            layout: Layout::new(shape),
            device: device.clone(),
            precision: precision.on(device),
            tokens: at_once * time,
            longest: time,
            time,
            rope: RopeTable::new(frequencies, 1.0, time, Pairing::Halves),
            buffers: Buffers::new(shape, at_once, time),
            adapted: None,
            shape: shape.clone(),
        }
    }

    /// The same decoder with frozen weights, beside which an adapter learns: from now on parameters
    /// are the adapter's.
    pub fn with_adapter(mut self, frozen: Vec<f32>, lora: &Lora) -> Network {
        assert_eq!(frozen.len(), self.layout.len(), "the parameters of this shape");
        let adapter = Adapter::new(&self.shape, lora);
        self.buffers.make_low(Adapter::low_len(lora.rank, self.tokens));
        self.adapted = Some(Adapted { frozen, adapter });
        self
    }

    /// The weights of a decoder whose adapter, `values`, has become part of it; as they are where it
    /// has none.
    pub fn merged(self, values: Vec<f32>) -> Vec<f32> {
        match self.adapted {
            None => values,
            Some(Adapted { mut frozen, adapter }) => {
                adapter.merge(&values, &self.layout, &mut frozen, &self.device);
                frozen
            }
        }
    }

    fn weights<'a>(&'a self, given: &'a [f32]) -> Weights<'a> {
        assert_eq!(given.len(), self.layout().len(), "the parameters of this shape");
        match &self.adapted {
            None => Weights { model: given, adapter: None },
            Some(Adapted { frozen, adapter }) => {
                Weights { model: frozen, adapter: Some((adapter, given)) }
            }
        }
    }

    fn work<'a>(&'a self, values: &'a [f32], low: &'a mut [f32]) -> Work<'a> {
        Work { device: &self.device, precision: self.precision, values, low }
    }

    /// Where each tensor lies in the parameters: those that learn.
    pub fn layout(&self) -> &Layout {
        self.adapted.as_ref().map_or(&self.layout, |adapted| &adapted.adapter.layout)
    }

    /// Bytes that the buffers of such a decoder take, and what its products pack.
    pub fn buffer_bytes(shape: &ModelShape, batch: usize, time: usize) -> u64 {
        let rows = rows_at_once(batch, time);
        4 * Buffers::numbers(shape, rows, time) + products::packed_bytes(shape, rows * time)
    }

    /// Takes rows of `time` tokens from now on.
    ///
    /// # Panics
    /// If that is more than there is room for.
    pub fn set_time(&mut self, time: usize) {
        assert!(time > 0 && time <= self.longest, "rows of up to {} tokens", self.longest);
        self.time = time;
    }

    /// The longest rows that there is room for.
    pub fn longest(&self) -> usize {
        self.longest
    }

    /// What goes through the network at once, of a batch of whole rows.
    fn pieces<'a>(&self, batch: Batch<'a>) -> impl Iterator<Item = (usize, Batch<'a>)> + use<'a> {
        let time = self.time;
        let rows = batch.inputs.len() / time;
        assert_eq!(batch.inputs.len(), rows * time, "a batch is (B, T) with T = {time}");
        assert_eq!(batch.targets.len(), batch.inputs.len(), "each input has a target");
        batch.pieces((self.tokens / time).max(1) * time)
    }

    /// B and T of a piece.
    fn batch_size(&self, piece: Batch<'_>) -> (usize, usize) {
        (piece.inputs.len() / self.time, self.time)
    }

    fn attention(&self, batch: usize) -> SelfAttention {
        SelfAttention {
            batch,
            time: self.time,
            n_head: self.shape.n_head,
            n_kv_head: self.shape.n_kv_head,
            head_dim: self.shape.head_dim,
            scale: (self.shape.head_dim as f32).powf(-0.5),
        }
    }

    /// `y` (N, out) `= x` (N, in) times the transpose of `w` (out, in), added to `y` if `add`.
    fn linear(&self, x: &[f32], w: &[f32], n_in: usize, y: &mut [f32], add: bool) {
        let (n, n_out) = (x.len() / n_in, w.len() / n_in);
        let w = View::dense(w, n_out, n_in).transposed();
        let y = ViewMut::dense(y, n, n_out);
        gemm(&self.device, self.precision, View::dense(x, n, n_in), w, y, add);
    }

    /// `d_x` (N, in) `= d_y` (N, out) times `w` (out, in).
    fn linear_input_gradient(&self, d_y: &[f32], w: &[f32], n_in: usize, d_x: &mut [f32]) {
        let n_out = w.len() / n_in;
        let n = d_y.len() / n_out;
        let (d_y, w) = (View::dense(d_y, n, n_out), View::dense(w, n_out, n_in));
        gemm(&self.device, self.precision, d_y, w, ViewMut::dense(d_x, n, n_in), false);
    }

    /// `d_w` (out, in) `+=` the transpose of `d_y` (N, out) times `x` (N, in), where that learns.
    fn linear_weight_gradient(&self, d_y: &[f32], x: &[f32], n_in: usize, d_w: Option<&mut [f32]>) {
        let Some(d_w) = d_w else { return };
        let (n, n_out) = (x.len() / n_in, d_w.len() / n_in);
        let d_y = View::dense(d_y, n, n_out).transposed();
        let d_w = ViewMut::dense(d_w, n_out, n_in);
        gemm(&self.device, self.precision, d_y, View::dense(x, n, n_in), d_w, true);
    }

    fn cross_entropy(objective: Objective, weights: Option<&[f32]>) -> CrossEntropy<'_> {
        CrossEntropy { ignore: IGNORE, scale: objective.scale, weights, z_loss: objective.z_loss }
    }
}

#[cfg(test)]
mod tests;
