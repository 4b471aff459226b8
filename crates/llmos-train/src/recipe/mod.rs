//! A run, written down: the model's shape, how long and on what it is trained, and how.
//!
//! A [`Draft`] is what a person gave, in a TOML file, flags and `--set`. [`Draft::resolve`] fills
//! every gap with a value and a reason, checks that the whole can be, and gives a [`Recipe`], in
//! which nothing is left open. Written as TOML it is a draft again, of the same recipe.
//!
//! A new key is a field here, a line in `keys.rs`, and a value in `habit.rs`.

mod check;
mod dial;
mod draft;
mod facts;
mod habit;
mod keys;
mod ladder;
mod model;
mod resolve;
mod schedule;
mod shape;
#[cfg(test)]
mod tests;
mod write;

use llmos_tensor::gemm::Precision;
use serde::{Deserialize, Serialize};

use crate::data::Order;

pub use dial::{MOST_EPOCHS, TOKENS_PER_PARAMETER};
pub use draft::Draft;
pub use facts::{Facts, Speed, Text};
pub use model::ModelShape;
pub use resolve::Resolved;
pub use schedule::{Schedule, ScheduleName};
pub use shape::Shape;

/// Everything that decides what a run computes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    /// Steps between two checkpoints, beside the one before each evaluation; 0 for none but those and
    /// the last.
    pub save_every: usize,
    /// Steps between two evaluations on held-out text; 0 for one at the end alone.
    pub eval_every: usize,
    /// Held-out tokens that an evaluation on the way reads at most; the last one reads all.
    pub eval_tokens: usize,
    /// Checkpoints that are kept, the best one aside.
    pub keep: usize,
    /// What is trained.
    pub model: ModelShape,
    /// How long, and in which portions.
    pub train: Train,
    /// How gradients become changes of weights.
    pub optimizer: Optimizer,
    /// How the learning rate goes over the steps.
    pub schedule: Schedule,
    /// On what.
    pub data: Data,
}

/// How long a run is, and in which portions it goes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Train {
    /// Tokens in a sequence (T).
    pub context: usize,
    /// Sequences in a step (B), all pieces of an accumulated one together.
    pub batch: usize,
    /// Pieces that a step's sequences are worked in, one after the other, to save memory. A divisor
    /// of `batch`; the result is that of one piece, up to rounding.
    pub accumulation: usize,
    /// Optimizer steps in all.
    pub steps: usize,
    /// Seed of the initial weights and of the order of the text.
    pub seed: u64,
    /// What matrix products are computed in; master weights are f32.
    pub dtype: Dtype,
    /// Whether a token sees the tokens of its own document alone.
    pub document_attention: bool,
}

impl Train {
    /// Tokens that a step learns from: B * T.
    pub fn tokens_per_step(&self) -> u64 {
        self.batch as u64 * self.context as u64
    }

    /// Tokens that the run learns from.
    pub fn tokens(&self) -> u64 {
        self.tokens_per_step().saturating_mul(self.steps as u64)
    }

    /// Sequences in a piece: what the activations are sized for.
    pub fn micro_batch(&self) -> usize {
        self.batch / self.accumulation
    }
}

/// What matrix products are computed in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Dtype {
    /// Single precision.
    F32,
    /// bfloat16 factors, single-precision sums and master weights.
    Bf16,
}

impl Dtype {
    /// What products of this type are computed in.
    pub fn precision(self) -> Precision {
        match self {
            Dtype::F32 => Precision::F32,
            Dtype::Bf16 => Precision::Bf16,
        }
    }

    /// The name in recipes and flags.
    pub fn name(self) -> &'static str {
        match self {
            Dtype::F32 => "f32",
            Dtype::Bf16 => "bf16",
        }
    }
}

/// How gradients become changes of weights.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Optimizer {
    /// Which one.
    pub name: OptimizerName,
    /// AdamW's learning rate at its peak: of everything, or with Muon of embeddings and norms.
    pub lr: f64,
    /// AdamW's decay of the mean gradient.
    pub beta1: f64,
    /// AdamW's decay of the mean square.
    pub beta2: f64,
    /// Added to the root of the mean square.
    pub eps: f64,
    /// Muon's learning rate at its peak, of the matrices inside the blocks.
    pub muon_lr: f64,
    /// Muon's Nesterov momentum.
    pub muon_momentum: f64,
    /// Decoupled weight decay of matrices at the first step.
    pub weight_decay: f64,
    /// Weight decay at the last step; between the two it goes in a straight line.
    pub final_weight_decay: f64,
    /// The gradient's norm is scaled down to this; 0 for no limit.
    pub clip: f64,
    /// Weight of the squared log of the softmax's denominator in the loss (arXiv 2204.02311); 0 for
    /// none.
    pub z_loss: f64,
}

impl Optimizer {
    /// Weight decay at `step`, from 0, of `steps`.
    pub fn weight_decay_at(&self, step: usize, steps: usize) -> f64 {
        let share = step as f64 / steps.saturating_sub(1).max(1) as f64;
        self.weight_decay + (self.final_weight_decay - self.weight_decay) * share.min(1.0)
    }
}

/// Which optimizer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OptimizerName {
    /// Muon (Jordan et al., 2024) for the matrices inside the blocks, AdamW for the rest.
    Muon,
    /// AdamW (arXiv 1711.05101) for everything.
    Adamw,
}

impl OptimizerName {
    /// The name in recipes.
    pub fn name(self) -> &'static str {
        match self {
            OptimizerName::Muon => "muon",
            OptimizerName::Adamw => "adamw",
        }
    }
}

/// What a run reads.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Data {
    /// A prepared folder, or raw texts that are prepared on the way; from the folder where llmos
    /// was started. Empty where `--data` says it.
    pub path: Vec<String>,
    /// `bpe` trains one of the model's vocabulary size, `char` has one id a character; otherwise a
    /// tokenizer.json or a folder with one. A prepared folder has its own.
    pub tokenizer: String,
    /// Share of raw text that is held out; 0 leaves it to the preparation, which holds out a tenth of
    /// a short text and less of a long one ([`crate::data::HeldOut`]).
    pub held_out: f64,
    /// How text is cut into sequences.
    pub order: Order,
}
