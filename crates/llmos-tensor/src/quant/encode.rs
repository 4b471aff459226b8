//! One block of each written format from its values.
//!
//! A block that holds a NaN or an infinity gets a NaN scale and decodes to NaN throughout: it is
//! seen at once and never passes for numbers. A block whose scale is beyond f16 (values beyond
//! some millions) gets an infinite one.

use bytemuck::Zeroable;

use super::fit::{self, Candidates, Grid, clamp, nearest};
use super::layout::{Half, Q4_0, Q4_K, Q5_K, Q6_K, Q8_0, pack_scales_mins};

fn all_finite(values: &[f32]) -> bool {
    // Without a branch, so that it is a vector loop.
    values.iter().fold(0, |top, value| top.max(value.to_bits() & 0x7fff_ffff)) < 0x7f80_0000
}

/// 1 / value, or 0 where there is no scale.
fn inverse(value: f32) -> f32 {
    if value == 0.0 { 0.0 } else { 1.0 / value }
}

/// To the nearest integer, ties away from zero, as C's `roundf`. The constant is the number before
/// 0.5: with 0.5 itself, 0.49999997 would become 1.
fn round_away(value: f32) -> i8 {
    (value + 0.499_999_97_f32.copysign(value)) as i8
}

/// The largest magnitude becomes 127; byte for byte ggml's reference. Importance changes nothing:
/// the range decides.
pub(super) fn q8_0(values: &[f32; 32], _importance: Option<&[f32; 32]>) -> Q8_0 {
    if !all_finite(values) {
        return Q8_0 { scale: Half::new(f32::NAN), ..Zeroable::zeroed() };
    }
    let scale = values.iter().fold(0.0f32, |top, value| top.max(value.abs())) / 127.0;
    let inverse = inverse(scale);
    Q8_0 { scale: Half::new(scale), quants: values.map(|value| round_away(value * inverse)) }
}

/// Without importance byte for byte ggml's reference: the value of largest magnitude becomes -8.
pub(super) fn q4_0(values: &[f32; 32], importance: Option<&[f32; 32]>) -> Q4_0 {
    if !all_finite(values) {
        return Q4_0 { scale: Half::new(f32::NAN), ..Zeroable::zeroed() };
    }
    let (scale, inverse) = match importance {
        None => {
            let mut extreme = 0.0f32;
            for &value in values {
                if value.abs() > extreme.abs() {
                    extreme = value;
                }
            }
            let scale = extreme / -8.0;
            (Half::new(scale), inverse(scale))
        }
        Some(importance) => {
            let weights = weights_of(values, importance, mean_square(values));
            let scale = Half::new(fit::scale(values, &weights, 8.0));
            (scale, inverse(scale.get()))
        }
    };
    // ggml rounds half up here, by truncating a positive number.
    let quant = |value: f32| ((value * inverse + 8.5) as i8).clamp(0, 15) as u8;
    let quants = std::array::from_fn(|i| quant(values[i]) | (quant(values[i + 16]) << 4));
    Q4_0 { scale, quants }
}

fn mean_square(values: &[f32]) -> f32 {
    let mut lanes = [0.0f32; 8];
    for chunk in values.as_chunks::<8>().0 {
        for (lane, value) in lanes.iter_mut().zip(chunk) {
            *lane += value * value;
        }
    }
    lanes.iter().sum::<f32>() / values.len() as f32
}

/// What an error in each value costs when the importance of its column is known: as in ggml, more
/// for larger values, softened by twice (here: given) mean square.
fn weights_of<const N: usize>(
    values: &[f32; N],
    importance: &[f32; N],
    softening: f32,
) -> [f32; N] {
    std::array::from_fn(|i| importance[i] * (softening + values[i] * values[i]).sqrt())
}

/// Everything of a Q4_K or Q5_K block but the packing of its 256 integers.
struct ScaledMinned {
    scale: Half,
    min: Half,
    scales: [u8; 12],
    quants: [u8; 256],
}

fn scaled_minned(
    values: &[f32; 256],
    importance: Option<&[f32; 256]>,
    top: f32,
    candidates: Candidates,
) -> ScaledMinned {
    let block_mean = mean_square(values);
    let mut weights = [0.0; 256];
    let (mut scales, mut mins) = ([0.0; 8], [0.0; 8]);
    let groups = values.as_chunks::<32>().0.iter().zip(weights.as_chunks_mut::<32>().0);
    for (g, (group, weights)) in groups.enumerate() {
        *weights = match importance {
            Some(importance) => {
                weights_of(group, &importance.as_chunks::<32>().0[g], 2.0 * block_mean)
            }
            None => {
                let typical = mean_square(group).sqrt();
                group.map(|value| typical + value.abs())
            }
        };
        (scales[g], mins[g]) = fit::scale_min(group, weights, top, candidates);
    }
    let start = |levels| {
        // At least 1: with scale 0 a group could only be its minimum.
        let (scale, scales) = fit::scale_of_scales(&scales, 1.0, 63.0, levels);
        let (min, mins) = fit::scale_of_scales(&mins, 0.0, 63.0, 63.0);
        Grid { scale, min, scales, mins }.round(values, &weights, top)
    };
    let mut best = start(63.0);
    for levels in OTHER_LEVELS {
        let next = start(levels);
        if next.loss < best.loss {
            best = next;
        }
    }
    best = best.refitted(values, &weights, top);
    let (Grid { scale, min, scales, mins }, quants) = (best.grid, best.quants);
    let quants = quants.map(|quant| quant as u8);
    ScaledMinned { scale, min, scales: pack_scales_mins(&scales, &mins), quants }
}

/// Into how many levels the largest group scale is divided, besides ggml's 63. These six take the
/// error 0.6 % (Q4_K) to 1.3 % (Q5_K) below that of 63 alone, on normal values.
const OTHER_LEVELS: [f32; 6] = [61.0, 61.5, 62.0, 62.5, 63.5, 64.0];

/// Low four bits of each pair of groups, as [`Q4_K`] and [`Q5_K`] hold them.
fn pack_nibbles(quants: &[u8; 256]) -> [u8; 128] {
    let mut packed = [0; 128];
    for (packed, quants) in
        packed.as_chunks_mut::<32>().0.iter_mut().zip(quants.as_chunks::<64>().0)
    {
        for (i, packed) in packed.iter_mut().enumerate() {
            *packed = (quants[i] & 15) | (quants[i + 32] << 4);
        }
    }
    packed
}

/// ggml's candidates for 4 bits, its author's choice.
const Q4_K_CANDIDATES: Candidates = Candidates { first: -1.0, step: 0.1, steps: 20 };
/// ggml's candidates for 5 bits.
const Q5_K_CANDIDATES: Candidates = Candidates { first: -0.5, step: 0.1, steps: 15 };
/// ggml's candidates where importance is known.
const WEIGHTED_CANDIDATES: Candidates = Candidates { first: -0.9, step: 0.05, steps: 36 };

pub(super) fn q4_k(values: &[f32; 256], importance: Option<&[f32; 256]>) -> Q4_K {
    if !all_finite(values) {
        return Q4_K { scale: Half::new(f32::NAN), ..Zeroable::zeroed() };
    }
    let candidates = if importance.is_some() { WEIGHTED_CANDIDATES } else { Q4_K_CANDIDATES };
    let ScaledMinned { scale, min, scales, quants } =
        scaled_minned(values, importance, 15.0, candidates);
    Q4_K { scale, min, scales, quants: pack_nibbles(&quants) }
}

pub(super) fn q5_k(values: &[f32; 256], importance: Option<&[f32; 256]>) -> Q5_K {
    if !all_finite(values) {
        return Q5_K { scale: Half::new(f32::NAN), ..Zeroable::zeroed() };
    }
    let candidates = if importance.is_some() { WEIGHTED_CANDIDATES } else { Q5_K_CANDIDATES };
    let ScaledMinned { scale, min, scales, quants } =
        scaled_minned(values, importance, 31.0, candidates);
    let mut high = [0; 32];
    for (b, quants) in quants.as_chunks::<32>().0.iter().enumerate() {
        for (high, quant) in high.iter_mut().zip(quants) {
            *high |= quant >> 4 << b;
        }
    }
    Q5_K { scale, min, scales, high, quants: pack_nibbles(&quants) }
}

pub(super) fn q6_k(values: &[f32; 256], importance: Option<&[f32; 256]>) -> Q6_K {
    let mut block = Q6_K::zeroed();
    if !all_finite(values) {
        block.scale = Half::new(f32::NAN);
        return block;
    }
    let groups = values.as_chunks::<16>().0;
    let mut scales = [0.0f32; 16];
    for (g, group) in groups.iter().enumerate() {
        let weights = match importance {
            Some(importance) => importance.as_chunks::<16>().0[g],
            None => group.map(|value| value * value),
        };
        scales[g] = fit::scale(group, &weights, 32.0);
    }
    let mut extreme = 0.0f32;
    for &scale in &scales {
        if scale.abs() > extreme.abs() {
            extreme = scale;
        }
    }
    if extreme == 0.0 {
        return block;
    }
    // As in `fit::scale_of_scales`, integers that fit the scale as stored, and none of them 0.
    let scale = extreme / -128.0;
    block.scale = Half::new(scale.abs().max(Half::SMALLEST).copysign(scale));
    let mut quants = [0u8; 256];
    for (g, (group, quants)) in groups.iter().zip(quants.as_chunks_mut::<16>().0).enumerate() {
        let integer = clamp(nearest(scales[g] / block.scale.get()), -128.0, 127.0) as i8;
        block.scales[g] = if integer == 0 { 1 } else { integer };
        let inverse = inverse(block.scale.get() * f32::from(block.scales[g]));
        for (quant, &value) in quants.iter_mut().zip(group) {
            *quant = (clamp(nearest(value * inverse), -32.0, 31.0) + 32.0) as u8;
        }
    }
    let halves =
        block.low.as_chunks_mut::<64>().0.iter_mut().zip(block.high.as_chunks_mut::<32>().0);
    for ((low, high), quants) in halves.zip(quants.as_chunks::<128>().0) {
        for (i, low) in low.iter_mut().enumerate() {
            *low = (quants[i] & 15) | (quants[i + 64] << 4);
        }
        for (i, high) in high.iter_mut().enumerate() {
            *high = (0..4).fold(0, |bits, k| bits | (quants[i + 32 * k] >> 4 << (2 * k)));
        }
    }
    block
}
