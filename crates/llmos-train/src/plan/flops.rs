//! How many floating-point operations a run has, by part; a multiplication and an addition are two.
//!
//! *Model FLOPs* are the matrix products that forward and backward need, attention under its causal
//! mask included; embeddings are looked up, and norms, rotations and softmax are left out, as is
//! usual (arXiv 2204.02311, appendix B). The backward pass of a product is two products of its size.
//! *Hardware FLOPs* add what an implementation does beyond that: it computes attention scores again
//! in the backward pass, and it runs the optimizer.

use serde::Serialize;

use super::parameters::Parameters;
use crate::optimizer::NEWTON_SCHULZ_STEPS;
use crate::recipe::{ModelShape, OptimizerName, Recipe};

/// AdamW's operations a parameter: two decays, square, two corrections, root, quotient, update.
const ADAMW_FLOPS: f64 = 14.0;

/// Forward FLOPs of a token, by part, at the mean position of a sequence.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Flops {
    /// Query, key, value and output projections.
    pub attention_projections: f64,
    /// Scores, and the values that they weigh.
    pub attention_scores: f64,
    /// Gate, up and down.
    pub mlp: f64,
    /// Logits.
    pub head: f64,
}

impl Flops {
    /// A token's, in sequences of `context` tokens: it sees itself and what came before, so the mean
    /// number of keys is (T + 1) / 2.
    pub fn of(model: &ModelShape, context: usize) -> Flops {
        let parameters = Parameters::of(model);
        let keys = (context as f64 + 1.0) / 2.0;
        let width = (model.n_head * model.head_dim) as f64;
        Flops {
            attention_projections: 2.0 * parameters.attention as f64,
            attention_scores: model.n_layer as f64 * 2.0 * 2.0 * width * keys,
            mlp: 2.0 * parameters.mlp as f64,
            head: 2.0 * model.vocab_size as f64 * model.d_model as f64,
        }
    }

    /// The sum.
    pub fn forward(&self) -> f64 {
        self.attention_projections + self.attention_scores + self.mlp + self.head
    }

    /// Each product again twice: for what went in, and for the weights.
    pub fn backward(&self) -> f64 {
        2.0 * self.forward()
    }

    /// Model FLOPs of a token that is learnt from.
    pub fn training(&self) -> f64 {
        self.forward() + self.backward()
    }
}

/// FLOPs of a whole run.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct RunFlops {
    /// Needed by forward and backward.
    pub model: f64,
    /// Done: the same, scores computed again, and the optimizer.
    pub hardware: f64,
    /// The optimizer's part of it.
    pub optimizer: f64,
    /// 6 * N * D, the estimate that needs no shape (arXiv 2001.08361).
    pub six_n_d: f64,
}

impl RunFlops {
    /// A recipe's.
    pub fn of(recipe: &Recipe) -> RunFlops {
        let tokens = recipe.train.tokens() as f64;
        let token = Flops::of(&recipe.model, recipe.train.context);
        let model = token.training() * tokens;
        let optimizer = optimizer_step(&recipe.model, recipe.optimizer.name);
        let optimizer = optimizer * recipe.train.steps as f64;
        // Scores are half of what attention does besides projections.
        let again = 0.5 * token.attention_scores * tokens;
        let parameters = Parameters::of(&recipe.model).total() as f64;
        RunFlops {
            model,
            hardware: model + again + optimizer,
            optimizer,
            six_n_d: 6.0 * parameters * tokens,
        }
    }
}

/// FLOPs of one step of the optimizer.
pub fn optimizer_step(model: &ModelShape, optimizer: OptimizerName) -> f64 {
    let parameters = Parameters::of(model);
    match optimizer {
        OptimizerName::Adamw => ADAMW_FLOPS * parameters.total() as f64,
        OptimizerName::Muon => {
            let d_model = model.d_model as f64;
            let query = (model.n_head * model.head_dim) as f64;
            let key = (model.n_kv_head * model.head_dim) as f64;
            let block = 2.0 * orthogonalisation(query, d_model)
                + 2.0 * orthogonalisation(key, d_model)
                + 3.0 * orthogonalisation(model.d_ff as f64, d_model);
            let rest = (parameters.total() - parameters.matrices()) as f64;
            model.n_layer as f64 * block + ADAMW_FLOPS * rest
        }
    }
}

/// Newton–Schulz on a matrix whose shorter side is m and longer side n: X Xᵀ, its square, and their
/// sum times X.
fn orthogonalisation(rows: f64, cols: f64) -> f64 {
    let (m, n) = (rows.min(cols), rows.max(cols));
    NEWTON_SCHULZ_STEPS as f64 * (4.0 * m * m * n + 2.0 * m * m * m)
}
