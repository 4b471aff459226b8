//! Rotary position embedding (arXiv:2104.09864) of tokens in rows of sequences, and its gradient.

use super::rows::RowsMut;
use super::tasks::for_each_rows;
use crate::Device;
use crate::ops::{self, Pairing};

/// Cosines and sines of T positions, computed once a training run.
pub struct RopeTable {
    /// (T, R / 2), R the dimensions of a head that turn.
    cos: Vec<f32>,
    /// (T, R / 2).
    sin: Vec<f32>,
    /// (T, R / 2), for the way back.
    minus_sin: Vec<f32>,
    positions: usize,
    pairing: Pairing,
}

impl RopeTable {
    /// Tables of `positions` positions, with the angles of `inverse_frequencies` (R / 2) a position,
    /// cosines and sines times `magnitude` (1 but for YaRN). The angle is rounded to single
    /// precision before its cosine is taken, as PyTorch programs do.
    ///
    /// # Panics
    /// If there is no position.
    pub fn new(
        inverse_frequencies: &[f32],
        magnitude: f32,
        positions: usize,
        pairing: Pairing,
    ) -> RopeTable {
        assert!(positions > 0, "rope: a table of no positions");
        let turns = (0..positions).flat_map(|position| {
            inverse_frequencies.iter().map(move |frequency| {
                let (sin, cos) = f64::from(position as f32 * frequency).sin_cos();
                (cos as f32 * magnitude, sin as f32 * magnitude)
            })
        });
        let (cos, sin): (Vec<f32>, Vec<f32>) = turns.unzip();
        let minus_sin = sin.iter().map(|sin| -sin).collect();
        RopeTable { cos, sin, minus_sin, positions, pairing }
    }

    /// Positions of the table, T.
    pub fn positions(&self) -> usize {
        self.positions
    }
}

/// Turns the first R of each head's D dimensions of `x` (B T, H, D), the token in row n standing at
/// position n modulo `sequence`. Error: 2 units in the last place of the pair's length.
///
/// # Panics
/// If R is above D, or `sequence` is 0 or above the table's positions.
pub fn rope_forward(device: &Device, table: &RopeTable, sequence: usize, x: RowsMut<'_>) {
    turn(device, table, &table.sin, sequence, &x);
}

/// The gradient of [`rope_forward`] in place: `d` (B T, H, D) turns back by the same angles. Error
/// as there.
///
/// # Panics
/// As there.
pub fn rope_backward(device: &Device, table: &RopeTable, sequence: usize, d: RowsMut<'_>) {
    turn(device, table, &table.minus_sin, sequence, &d);
}

fn turn(device: &Device, table: &RopeTable, sin: &[f32], sequence: usize, x: &RowsMut<'_>) {
    let (tokens, heads, size) = x.shape();
    let half = table.cos.len() / table.positions;
    assert!(2 * half <= size, "rope: {} of {size} dimensions turn", 2 * half);
    assert!(
        sequence > 0 && sequence <= table.positions,
        "rope: sequences of {sequence} tokens, a table of {} positions",
        table.positions
    );
    for_each_rows(device, tokens, x.width(), &|tokens| {
        for token in tokens {
            // SAFETY: the token is of this task alone.
            let x = unsafe { x.token_mut(token) };
            let row = token % sequence * half..(token % sequence + 1) * half;
            let (cos, sin) = (&table.cos[row.clone()], &sin[row]);
            ops::rope_forward(device.isa(), x, cos, sin, table.pairing, heads, size, 2 * half);
        }
    });
}
