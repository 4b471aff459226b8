//! Product kernels in plain Rust: the oracle that the fast ones are held against.

use half::{bf16, f16};

use super::activations::{QuantisedTile, Tile};
use super::format::Format;
use super::kernel::{ROWS, Target, Widths};
use super::pack::unpack_block;

pub(crate) const WIDTHS: Widths =
    Widths { direct: &[4, 1], panel: &[8, 4, 1], dense: &[4, 1], panel_from: 16 };

/// See [`super::kernel::Direct`].
///
/// # Safety
/// As the type says; no instruction set is needed.
pub(crate) unsafe fn direct<F: Format>(
    weights: *const u8,
    group_bytes: usize,
    groups: usize,
    blocks: usize,
    x: QuantisedTile,
    target: Target,
) {
    for g in 0..groups {
        // SAFETY: the caller vouches for `groups` groups of `group_bytes`.
        let group =
            unsafe { std::slice::from_raw_parts(weights.add(g * group_bytes), group_bytes) };
        for r in (0..ROWS).take_while(|r| g * ROWS + r < target.rows) {
            for t in 0..x.tile.tokens {
                let mut sum = 0.0;
                for block in 0..blocks {
                    let row = unpack_block::<F>(group, block, r);
                    // SAFETY: the tile has `blocks` blocks of `tokens` tokens.
                    sum = unsafe { dot::<F>(&row.quants, &row.scale, &row.min, x, block, t, sum) };
                }
                // SAFETY: row and token are within the target.
                unsafe { *target.start.add(t * target.stride + g * ROWS + r) = sum };
            }
        }
    }
}

/// Adds a block's product to `sum`: an exact integer sum for each group, then its scale.
///
/// # Safety
/// Block and token lie within the tile.
unsafe fn dot<F: Format>(
    quants: &[u8],
    scale: &[f32],
    min: &[f32],
    x: QuantisedTile,
    block: usize,
    t: usize,
    mut sum: f32,
) -> f32 {
    // SAFETY: given by the caller.
    let a = unsafe { *x.values.add(block * x.tile.tokens + t) };
    for g in 0..F::GROUPS {
        let negative_sum = match (F::GROUPS, g) {
            (1, _) => a.negative_sum,
            (_, 0) => a.negative_half,
            _ => a.negative_sum - a.negative_half,
        };
        let span = g * F::GROUP..(g + 1) * F::GROUP;
        let mut product: i32 = span.map(|i| i32::from(quants[i]) * i32::from(a.quants[i])).sum();
        if F::OFFSET > 0 {
            product += negative_sum << F::OFFSET;
        }
        sum += product as f32 * (scale[g] * a.scale);
        if F::MIN {
            sum += min[g] * (negative_sum as f32 * a.scale);
        }
    }
    sum
}

/// See [`super::kernel::Unpack`].
///
/// # Safety
/// As the type says; `panel` holds `blocks * panel_block` bytes and is aligned for f32.
pub(crate) unsafe fn unpack<F: Format>(
    weights: *const u8,
    first: usize,
    blocks: usize,
    panel: *mut u8,
) {
    // SAFETY: given by the caller.
    let (group, panel) = unsafe {
        (
            std::slice::from_raw_parts(weights, F::group_bytes((first + blocks) * 32)),
            std::slice::from_raw_parts_mut(panel, blocks * F::PANEL_BLOCK),
        )
    };
    for (block, out) in panel.chunks_exact_mut(F::PANEL_BLOCK).enumerate() {
        for r in 0..ROWS {
            let row = unpack_block::<F>(group, first + block, r);
            for (i, &q) in row.quants.iter().enumerate() {
                out[i / 4 * 64 + 4 * r + i % 4] = q;
            }
            for g in 0..F::GROUPS {
                let at = 512 + (g * ROWS + r) * 4;
                out[at..at + 4].copy_from_slice(&row.scale[g].to_ne_bytes());
                if F::MIN {
                    let at = 512 + ((F::GROUPS + g) * ROWS + r) * 4;
                    out[at..at + 4].copy_from_slice(&row.min[g].to_ne_bytes());
                }
            }
        }
    }
}

/// See [`super::kernel::Panel`].
///
/// # Safety
/// As the type says.
pub(crate) unsafe fn panel<F: Format>(
    panel: *const u8,
    blocks: usize,
    x: QuantisedTile,
    target: Target,
    add: bool,
) {
    // SAFETY: given by the caller.
    let panel = unsafe { std::slice::from_raw_parts(panel, blocks * F::PANEL_BLOCK) };
    for r in 0..target.rows.min(ROWS) {
        for t in 0..x.tile.tokens {
            // SAFETY: row and token are within the target.
            let out = unsafe { &mut *target.start.add(t * target.stride + r) };
            let mut sum = if add { *out } else { 0.0 };
            for (block, bytes) in panel.chunks_exact(F::PANEL_BLOCK).enumerate() {
                let quants: [u8; 32] = std::array::from_fn(|i| bytes[i / 4 * 64 + 4 * r + i % 4]);
                let float = |at: usize| {
                    let at = 512 + (at * ROWS + r) * 4;
                    f32::from_ne_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
                };
                let scale: [f32; 2] = std::array::from_fn(|g| float(g % F::GROUPS));
                let min: [f32; 2] = std::array::from_fn(|g| {
                    if F::MIN { float(F::GROUPS + g % F::GROUPS) } else { 0.0 }
                });
                // SAFETY: block and token lie within the tile.
                sum = unsafe { dot::<F>(&quants, &scale, &min, x, block, t, sum) };
            }
            *out = sum;
        }
    }
}

macro_rules! dense {
    ($name:ident, $size:expr, $read:expr) => {
        /// See [`super::kernel::DenseDirect`].
        ///
        /// # Safety
        /// As the type says; no instruction set is needed.
        pub(crate) unsafe fn $name(
            weights: *const u8,
            group_bytes: usize,
            groups: usize,
            cols: usize,
            tile: Tile,
            x: *const f32,
            target: Target,
        ) {
            for g in 0..groups {
                for r in (0..ROWS).take_while(|r| g * ROWS + r < target.rows) {
                    for t in 0..tile.tokens {
                        let mut sum = 0.0_f32;
                        for k in 0..cols {
                            // SAFETY: within the group and the tile, which the caller vouches for.
                            unsafe {
                                let bytes = weights
                                    .add(g * group_bytes + (k * ROWS + r) * $size)
                                    .cast::<[u8; $size]>();
                                sum += $read(*bytes) * *x.add(k * tile.tokens + t);
                            }
                        }
                        // SAFETY: row and token are within the target.
                        unsafe { *target.start.add(t * target.stride + g * ROWS + r) = sum };
                    }
                }
            }
        }
    };
}

dense!(dense_f32, 4, f32::from_le_bytes);
dense!(dense_f16, 2, |b| f16::from_le_bytes(b).to_f32());
dense!(dense_bf16, 2, |b| bf16::from_le_bytes(b).to_f32());
