//! The decoder that is trained: parameters, forward and backward.
//!
//! There is no graph: each layer is written down twice, there and back. What the way back needs is
//! kept in buffers that are made once and used again in every step. Products are
//! [`llmos_tensor::gemm`], attention [`llmos_tensor::self_attention`], all between them
//! [`llmos_tensor::ops::train`].

mod adapter;
mod backward;
mod blueprint;
mod buffers;
mod dora;
mod forward;
mod parameters;
mod positions;
mod pretrained;
mod products;
mod scalar;
mod stored;
mod weights;

use std::sync::Arc;

use llmos_model::config::Layer;
use llmos_tensor::Device;
use llmos_tensor::gemm::Precision;
use llmos_tensor::ops::train::{CrossEntropy, RopeTable};
use llmos_tensor::self_attention::SelfAttention;

use adapter::{Adapter, Learnt};
pub use adapter::{Lora, TARGETS};
pub use blueprint::Blueprint;
use blueprint::Sizes;
use buffers::Buffers;
pub(crate) use parameters::SCORE;
pub use parameters::{Kind, Layout, Tensor};
use positions::Positions;
pub(crate) use pretrained::{read_tensors, read_weights};
pub use products::products_seconds;
pub(crate) use stored::Stored;
use weights::{Model, Weights};

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

/// A decoder that learns.
pub struct Network {
    blueprint: Blueprint,
    layout: Layout,
    device: Arc<Device>,
    precision: Precision,
    /// Tokens that there is room for.
    tokens: usize,
    /// T at most, and T.
    longest: usize,
    time: usize,
    positions: Positions,
    buffers: Buffers,
    adapted: Option<Adapted>,
}

/// A frozen model beside which an adapter learns.
struct Adapted {
    frozen: Frozen,
    adapter: Adapter,
    /// Both (rows of all adapted matrices), of DoRA: squared lengths of frozen rows, and lengths of
    /// the rows of the sum.
    squares: Vec<f32>,
    lengths: Vec<f32>,
}

/// Weights that do not learn.
pub(crate) enum Frozen {
    /// (parameters)
    Whole(Vec<f32>),
    /// As files hold them.
    Stored(Stored),
}

impl Frozen {
    fn model(&self) -> Model<'_> {
        match self {
            Frozen::Whole(weights) => Model::Whole(weights),
            Frozen::Stored(stored) => Model::Stored(stored),
        }
    }
}

/// Parameters of a decoder, with a head of one row where `is_scalar`, and those of them that learn: its
/// own, or its adapter's.
pub(crate) fn counts(blueprint: &Blueprint, is_scalar: bool, lora: Option<&Lora>) -> (u64, u64) {
    let layout = match is_scalar {
        true => Layout::scalar(blueprint),
        false => Layout::new(blueprint),
    };
    let learnt = lora.map_or(layout.len(), |lora| Adapter::new(&layout, lora).layout.len());
    (layout.len() as u64, learnt as u64)
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
        blueprint: &Blueprint,
        device: &Arc<Device>,
        precision: Precision,
        batch: usize,
        time: usize,
    ) -> Network {
        let at_once = rows_at_once(batch, time);
        Network {
            layout: Layout::new(blueprint),
            device: device.clone(),
            precision: precision.on(device),
            tokens: at_once * time,
            longest: time,
            time,
            positions: Positions::new(blueprint.config(), time),
            buffers: Buffers::new(blueprint, at_once, time),
            adapted: None,
            blueprint: blueprint.clone(),
        }
    }

    /// The same decoder with frozen weights, beside which an adapter learns: from now on parameters
    /// are the adapter's.
    pub(crate) fn with_adapter(mut self, frozen: Frozen, lora: &Lora) -> Network {
        if let Frozen::Whole(weights) = &frozen {
            assert_eq!(weights.len(), self.layout.len(), "the parameters of this shape");
        }
        let adapter = Adapter::new(&self.layout, lora);
        self.buffers.make_adapter_room(self.blueprint.sizes(), lora.rank, lora.dora, self.tokens);
        let squares = match lora.dora {
            true => self.frozen_squares(frozen.model(), &adapter),
            false => Vec::new(),
        };
        let lengths = vec![0.0; squares.len()];
        self.adapted = Some(Adapted { frozen, adapter, squares, lengths });
        self
    }

    /// The weights of a decoder whose adapter, `values`, has become part of it; as they are where it
    /// has none.
    ///
    /// # Panics
    /// If the frozen weights are in their files.
    pub(crate) fn merged(self, values: Vec<f32>) -> Vec<f32> {
        let Some(Adapted { frozen, adapter, .. }) = self.adapted else { return values };
        let Frozen::Whole(mut frozen) = frozen else { panic!("an adapter is merged in memory") };
        adapter.merge(&values, &mut frozen, &self.device);
        frozen
    }

    /// Values to begin with: an adapter's change nothing yet.
    pub fn initial(&self, seed: u64) -> Vec<f32> {
        let mut values = self.layout().initial(seed);
        if let Some(Adapted { adapter, squares, .. }) = &self.adapted {
            for part in adapter.parts() {
                let Some(magnitude) = &part.magnitude else { continue };
                let of = values[magnitude.clone()].iter_mut().zip(&squares[part.lengths.clone()]);
                of.for_each(|(value, square)| *value = square.sqrt());
            }
        }
        values
    }

    fn sizes(&self) -> &Sizes {
        self.blueprint.sizes()
    }

    /// What a batch is met with: positions of its length, and lengths of rows as they are now.
    fn begin(&mut self, values: &[f32], batch: Batch<'_>) {
        self.positions.choose(batch.starts, self.time);
        let Some(mut adapted) = self.adapted.take() else { return };
        if adapted.adapter.dora {
            assert_eq!(values.len(), adapted.adapter.layout.len(), "an adapter's parameters");
            let Adapted { frozen, adapter, squares, lengths } = &mut adapted;
            self.row_lengths(frozen.model(), (adapter, values), squares, lengths);
        }
        self.adapted = Some(adapted);
    }

    fn weights<'a>(&'a self, given: &'a [f32]) -> Weights<'a> {
        assert_eq!(given.len(), self.layout().len(), "the parameters of this shape");
        match &self.adapted {
            None => Weights { model: Model::Whole(given), adapter: None },
            Some(Adapted { frozen, adapter, lengths, .. }) => Weights {
                model: frozen.model(),
                adapter: Some(Learnt { adapter, values: given, lengths }),
            },
        }
    }

    /// Where each tensor lies in the parameters: those that learn.
    pub fn layout(&self) -> &Layout {
        self.adapted.as_ref().map_or(&self.layout, |adapted| &adapted.adapter.layout)
    }

    /// What it was made from.
    pub fn blueprint(&self) -> &Blueprint {
        &self.blueprint
    }

    /// Where each tensor of the model lies, whether it learns or not.
    pub fn model_layout(&self) -> &Layout {
        &self.layout
    }

    /// Bytes that the buffers of such a decoder take, and what its products pack; with what an adapter
    /// needs besides.
    pub fn buffer_bytes(
        blueprint: &Blueprint,
        batch: usize,
        time: usize,
        lora: Option<&Lora>,
    ) -> u64 {
        let rows = rows_at_once(batch, time);
        let (sizes, tokens) = (blueprint.sizes(), rows * time);
        let of_adapter =
            lora.map_or(0, |lora| Buffers::adapter_numbers(sizes, lora.rank, lora.dora, tokens));
        4 * (Buffers::numbers(blueprint, rows, time) + of_adapter)
            + products::packed_bytes(&blueprint.shape(), tokens)
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

    fn attention(&self, batch: usize, block: &Layer) -> SelfAttention {
        SelfAttention {
            batch,
            time: self.time,
            n_head: block.n_head,
            n_kv_head: block.n_kv_head,
            head_dim: block.head_dim,
            scale: block.attention_scale,
            softcap: block.attention_softcap,
            window: block.window,
        }
    }

    /// The table by which a block's queries and keys turn.
    fn rope(&self, block: &Layer) -> Option<&RopeTable> {
        block.rope.map(|rope| self.positions.table(rope))
    }

    fn cross_entropy(objective: Objective, weights: Option<&[f32]>) -> CrossEntropy<'_> {
        CrossEntropy { ignore: IGNORE, scale: objective.scale, weights, z_loss: objective.z_loss }
    }
}

#[cfg(test)]
mod tests;
