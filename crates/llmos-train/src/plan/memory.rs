//! What a run holds in memory and on disk, in bytes.

use serde::Serialize;

use super::parameters::Parameters;
use crate::model::Network;
use crate::recipe::{Dtype, ModelShape, OptimizerName, Recipe};

/// Bytes of an f32.
const F32: u64 = 4;

/// Bytes in memory, by what they are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Memory {
    /// One f32 a parameter, whatever products are computed in.
    pub weights: u64,
    /// One f32 a parameter.
    pub gradients: u64,
    /// What the optimizer remembers, and Muon's matrices in between.
    pub optimizer: u64,
    /// What forward leaves for backward, and the scratch of both.
    pub activations: u64,
    /// The program itself, its threads and what its kernels pack.
    pub program: u64,
}

/// What a process holds beside weights, gradients, optimizer and activations: 22 to 39 MB were
/// measured (`llmos bench train`, shapes s and m, f32 and bf16, 2 threads, an AMD EPYC of family
/// 25).
pub(super) const PROGRAM: u64 = 32 << 20;

/// The bytes of activations of a piece: (shape, sequences in the piece, tokens in a sequence, type
/// of products). [`activations`] is the trainer's own; a trainer that works in other buffers passes
/// the size of those.
pub type ActivationFormula = dyn Fn(&ModelShape, usize, usize, Dtype) -> u64;

impl Memory {
    /// A recipe's, with the activations that `formula` says.
    pub fn of(recipe: &Recipe, formula: &ActivationFormula) -> Memory {
        let parameters = Parameters::of(&recipe.model);
        let total = parameters.total();
        let optimizer = recipe.optimizer.name;
        let numbers = parameters.optimizer_numbers(optimizer);
        let train = &recipe.train;
        Memory {
            weights: F32.saturating_mul(total),
            gradients: F32.saturating_mul(total),
            optimizer: F32.saturating_mul(numbers.saturating_add(scratch(recipe))),
            activations: formula(&recipe.model, train.micro_batch(), train.context, train.dtype),
            program: PROGRAM,
        }
    }

    /// The sum.
    pub fn total(&self) -> u64 {
        [self.weights, self.gradients, self.optimizer, self.activations, self.program]
            .into_iter()
            .fold(0, u64::saturating_add)
    }
}

/// f32 numbers that Muon works in: two matrices of the largest size and two of its shorter side's
/// square.
fn scratch(recipe: &Recipe) -> u64 {
    if recipe.optimizer.name == OptimizerName::Adamw {
        return 0;
    }
    let model = &recipe.model;
    let d_model = model.d_model as u64;
    let sides = [model.n_head * model.head_dim, model.n_kv_head * model.head_dim, model.d_ff];
    let sides = sides.map(|side| side as u64);
    let largest = sides.iter().map(|side| side * d_model).max().unwrap_or(0);
    let shorter = sides.iter().map(|side| (*side).min(d_model)).max().unwrap_or(0);
    2 * largest + 2 * shorter * shorter
}

/// Activations of a step: the buffers of [`Network`], which are made once and hold some thousand
/// tokens of a batch at a time, whole rows. Only attention scores are computed again on the way back,
/// and logits are held some rows at a time.
pub fn activations(model: &ModelShape, micro_batch: usize, context: usize, _: Dtype) -> u64 {
    // A token's numbers, rounded up: what no machine holds would not fit the count either.
    let heads = (model.n_head + 2 * model.n_kv_head) as f64 * model.head_dim as f64;
    let block = 8.0 * (model.d_model as f64 + heads + model.d_ff as f64);
    let tokens = micro_batch as f64 * context as f64;
    if tokens * block * (model.n_layer as f64 + 2.0) > 1e18 {
        return u64::MAX;
    }
    Network::buffer_bytes(&model.blueprint(context), micro_batch, context, None)
}

/// Bytes on disk, by what they are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Disk {
    /// The finished model.
    pub model: u64,
    /// Checkpoints that are kept, the best one, and the one that is being written.
    pub checkpoints: u64,
    /// Token ids of the text; none where its length is not known.
    pub tokens: Option<u64>,
}

impl Disk {
    /// A recipe's, over a text of so many tokens.
    pub fn of(recipe: &Recipe, text_tokens: Option<u64>) -> Disk {
        let id = if recipe.model.vocab_size <= 1 << 16 { 2 } else { 4 };
        Disk {
            model: F32 * Parameters::of(&recipe.model).total(),
            checkpoints: checkpoint(recipe).saturating_mul(recipe.keep as u64 + 2),
            tokens: text_tokens.map(|tokens| tokens.saturating_mul(id)),
        }
    }

    /// The sum of what is known.
    pub fn total(&self) -> u64 {
        self.model.saturating_add(self.checkpoints).saturating_add(self.tokens.unwrap_or(0))
    }
}

/// Bytes of a checkpoint: weights and what the optimizer remembers.
pub fn checkpoint(recipe: &Recipe) -> u64 {
    let parameters = Parameters::of(&recipe.model);
    F32 * (parameters.total() + parameters.optimizer_numbers(recipe.optimizer.name))
}
