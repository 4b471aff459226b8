//! Cosines and sines of a batch, once for all layers.

use crate::Config;
use crate::config::Rope;

/// True if sequences of this length use the angles for long contexts (Phi-3 longrope). The choice
/// is made once a sequence, by the longest that it may become, because keys in the cache cannot be
/// turned again.
pub(crate) fn is_long(config: &Config, length: usize) -> bool {
    let longer = |rope: &Rope| rope.long.as_ref().is_some_and(|l| length > l.original_context);
    config.ropes.iter().any(longer)
}

/// Tables of one rotary encoding, both (T, R / 2).
#[derive(Default)]
pub(super) struct Tables {
    pub(super) cos: Vec<f32>,
    pub(super) sin: Vec<f32>,
}

impl Tables {
    /// `rows`: the position of each row, and whether it belongs to a long sequence.
    pub(super) fn fill(&mut self, rope: &Rope, rows: impl Iterator<Item = (usize, bool)>) {
        self.cos.clear();
        self.sin.clear();
        for (position, long) in rows {
            let frequencies = match &rope.long {
                Some(other) if long => &other.inverse_frequencies,
                _ => &rope.inverse_frequencies,
            };
            for &frequency in frequencies {
                // The product is rounded to f32 as in the programs that models are trained with.
                let (sin, cos) = f64::from(position as f32 * frequency).sin_cos();
                self.cos.push(cos as f32 * rope.magnitude);
                self.sin.push(sin as f32 * rope.magnitude);
            }
        }
    }
}
