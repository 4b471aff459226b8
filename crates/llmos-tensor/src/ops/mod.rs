//! The small operations between matrix products: norms, positions, activations, probabilities.
//!
//! All work on the calling thread over rows that the caller gives, so that a caller can share rows
//! among threads; all are row-major with the last dimension contiguous. Each has a plain version,
//! the oracle, and one in vectors. Those of [`train`] take whole batches and share them among threads
//! themselves.

pub(crate) mod lanes;

mod activation;
mod elementwise;
mod exponential;
mod norm;
mod rope;
mod softmax;
pub mod train;

pub use activation::{Activation, activation_forward, activation_gate, activation_gate_in_place};
pub use elementwise::{add_forward, add_scaled_forward, scale_forward};
pub use exponential::{exp_forward, softcap_forward, tanh_forward};
pub use norm::{rmsnorm_forward, rmsnorm_in_place};
pub use rope::{Pairing, rope_forward};
pub use softmax::{argmax, log_softmax_forward, log_sum_exp, softmax_forward};

pub(crate) use exponential::{exp2, tanh};

#[cfg(test)]
mod tests;
