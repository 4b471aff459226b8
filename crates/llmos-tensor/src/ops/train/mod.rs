//! What training does between matrix products, forward and backward: norms, positions, gates,
//! losses, embeddings, and the optimizers' steps.
//!
//! Unlike the operations beside this module, these take a whole batch and share it among the
//! device's threads, in tasks that depend on shapes alone: results are the same to the bit for any
//! number of threads. None allocates; scratch is the caller's. Forward passes give the numbers of
//! their sisters that run models, so that a model's logits do not change when it leaves training.
//!
//! Each `_backward` is the gradient of the function that its documentation writes down, checked by
//! finite differences in double precision and against PyTorch.

mod bias;
mod cross_entropy;
mod elementwise;
mod embedding;
mod gate;
mod norm;
mod optimizer;
mod rope;
mod rows;
mod slope;
mod softcap;
mod tasks;
mod vectors;

pub use bias::{bias_backward, bias_forward, scale_columns};
pub use cross_entropy::{CrossEntropy, cross_entropy, cross_entropy_forward};
pub use elementwise::{
    add_in_place, all_finite, copy_forward, residual_forward, scale_in_place, sum_of_squares,
};
pub use embedding::{embedding_backward, embedding_forward};
pub use gate::{gate_backward, gate_backward_in_place, gate_forward};
pub use norm::{
    WeightGradient, rmsnorm_backward, rmsnorm_backward_in_place, rmsnorm_forward,
    rmsnorm_partial_len,
};
pub use optimizer::{AdamW, adamw_step, muon_momentum};
pub use rope::{RopeTable, rope_backward, rope_forward};
pub use rows::{Rows, RowsMut};
pub use softcap::{softcap_backward, softcap_forward};

#[cfg(test)]
mod tests;
