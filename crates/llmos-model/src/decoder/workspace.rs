//! Memory of the forward pass, reused by every batch.

use super::rope::Tables;

/// Grows to the largest batch that it has seen.
#[derive(Default)]
pub struct Workspace {
    /// The residual stream, (T, C).
    pub(super) x: Vec<f32>,
    /// The normed input of attention and MLP, (T, C).
    pub(super) normed: Vec<f32>,
    /// (T, H * D)
    pub(super) q: Vec<f32>,
    /// (T, H_kv * D)
    pub(super) k: Vec<f32>,
    /// (T, H_kv * D)
    pub(super) v: Vec<f32>,
    /// What attention read, (T, H * D).
    pub(super) heads: Vec<f32>,
    /// What a branch adds to the residual stream, (T, C).
    pub(super) branch: Vec<f32>,
    /// The MLP's inner activations, (T, F).
    pub(super) inner: Vec<f32>,
    /// A second one, where gate and up are apart, (T, F).
    pub(super) inner_up: Vec<f32>,
    /// One for each rotary encoding.
    pub(super) ropes: Vec<Tables>,
    /// Buffers of adapters.
    pub(super) adapters: super::adapter::Rooms,
    /// Buffers of the experts.
    pub(super) experts: super::experts::Buffers,
    /// Normed rows whose logits are wanted, (rows, C).
    pub(super) hidden: Vec<f32>,
    /// Rows of logits, (rows, V), when they are passed on block by block.
    pub(super) logits: Vec<f32>,
}

/// At least `len` numbers of a buffer that keeps its memory.
pub(super) fn sized(buffer: &mut Vec<f32>, len: usize) -> &mut [f32] {
    if buffer.len() < len {
        buffer.resize(len, 0.0);
    }
    &mut buffer[..len]
}
