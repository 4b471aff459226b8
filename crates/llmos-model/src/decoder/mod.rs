//! The one decoder: packed weights, and the forward pass that every architecture shares.

mod ablation;
mod adapter;
mod cache;
mod experts;
mod forward;
mod hook;
mod model;
mod random;
mod read_out;
mod rope;
mod rows;
mod weights;
mod workspace;

pub use ablation::{Ablation, Part};
pub use adapter::Adapter;
pub use cache::{BlockId, CacheBlocks, CacheLayout};
pub use forward::{Chunk, Pass};
pub use hook::{Both, Hook, Place, Rows};
pub use model::Model;
pub use random::Preset;
pub(crate) use rope::is_long;
pub use workspace::Workspace;

#[cfg(test)]
pub(crate) use random::tests::{tiny as preset_for_tests, wide as wide_preset_for_tests};

#[cfg(test)]
mod tests;
