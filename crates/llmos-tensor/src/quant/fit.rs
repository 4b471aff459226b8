//! The searches of the encoders: scales and minima that lose least, by weighted least squares over
//! a few candidate roundings.
//!
//! The idea and the candidates are those of ggml's K-quants (`make_qkx2_quants`,
//! `make_qx_quants`): round with a slightly larger or smaller scale than the range asks for, solve
//! for the best real scale (and minimum) of these integers, keep the best. Sums run in eight lanes,
//! which LLVM turns into vectors; the order of a sum is therefore fixed but differs from ggml's.

use super::layout::Half;

const LANES: usize = 8;

/// Sums what `term` gives for each index below `N`, in eight lanes.
#[inline(always)]
fn sum<const N: usize>(term: impl Fn(usize) -> f32) -> f32 {
    let mut lanes = [0.0; LANES];
    for start in (0..N).step_by(LANES) {
        for (k, lane) in lanes.iter_mut().enumerate() {
            *lane += term(start + k);
        }
    }
    lanes.iter().sum()
}

/// To the nearest integer, ties to even, for magnitudes up to 2^22: adding 1.5 * 2^23 leaves no
/// fraction bits. Unlike `round_ties_even` it needs no SSE4.1.
#[inline(always)]
pub(super) fn nearest(value: f32) -> f32 {
    const SHIFT: f32 = 12_582_912.0;
    value + SHIFT - SHIFT
}

/// `low` for NaN, so that what comes out may always be cast to a small integer.
#[inline(always)]
pub(super) fn clamp(value: f32, low: f32, high: f32) -> f32 {
    let value = if value > low { value } else { low };
    if value < high { value } else { high }
}

/// Candidates of [`scale_min`]: `top + first + step * k` for k in 0..=`steps` take the place of
/// `top` when values are scaled for rounding.
#[derive(Clone, Copy)]
pub(super) struct Candidates {
    pub(super) first: f32,
    pub(super) step: f32,
    pub(super) steps: u8,
}

/// The scale and minimum, both at least 0, for which `scale * q - min` with integers q in
/// 0..=`top` is nearest to `values` under `weights`.
pub(super) fn scale_min<const N: usize>(
    values: &[f32; N],
    weights: &[f32; N],
    top: f32,
    candidates: Candidates,
) -> (f32, f32) {
    let low = values.iter().fold(0.0, |low, &v| if v < low { v } else { low });
    let high = values.iter().fold(values[0], |high, &v| if v > high { v } else { high });
    let range = high - low;
    // Below this, top / range would not be finite; above, range itself is not.
    if !(range > 1e-36 && range.is_finite()) {
        return (range.max(0.0), -low);
    }
    let sum_w = sum::<N>(|i| weights[i]);
    let sum_x = sum::<N>(|i| weights[i] * values[i]);
    let round = |inverse: f32, low: f32, quants: &mut [f32; N]| {
        for (quant, &value) in quants.iter_mut().zip(values) {
            *quant = clamp(nearest(inverse * (value - low)), 0.0, top);
        }
    };
    let loss = |scale: f32, min: f32, quants: &[f32; N]| {
        sum::<N>(|i| {
            let difference = scale * quants[i] + min - values[i];
            weights[i] * difference * difference
        })
    };
    let mut quants = [0.0; N];
    round(top / range, low, &mut quants);
    let mut best = (range / top, low);
    let mut best_loss = loss(best.0, best.1, &quants);
    for k in 0..=candidates.steps {
        let levels = top + candidates.first + candidates.step * f32::from(k);
        // From the best minimum so far, as ggml does: from `low` each time, the error of Q4_K
        // was 0.5 % higher on normal values and 8 % where one in 200 is 40 times larger.
        round(levels / (high - best.1), best.1, &mut quants);
        let mut lanes = [[0.0f32; LANES]; 3];
        for start in (0..N).step_by(LANES) {
            for k in 0..LANES {
                let i = start + k;
                let weighted = weights[i] * quants[i];
                lanes[0][k] += weighted;
                lanes[1][k] += weighted * quants[i];
                lanes[2][k] += weighted * values[i];
            }
        }
        let [sum_q, sum_qq, sum_qx] = lanes.map(|lanes| lanes.iter().sum::<f32>());
        let determinant = sum_w * sum_qq - sum_q * sum_q;
        if determinant > 0.0 {
            let mut scale = (sum_w * sum_qx - sum_x * sum_q) / determinant;
            let mut min = (sum_qq * sum_x - sum_q * sum_qx) / determinant;
            if min > 0.0 {
                // The stored minimum is subtracted and cannot be negative.
                min = 0.0;
                scale = sum_qx / sum_qq;
            }
            let this = loss(scale, min, &quants);
            if this < best_loss {
                best_loss = this;
                best = (scale, min);
            }
        }
    }
    (best.0, -best.1)
}

/// The scale, of either sign, for which `scale * q` with integers q in -`top`..`top` is nearest to
/// `values` under `weights`. 0 if the values are.
pub(super) fn scale<const N: usize>(values: &[f32; N], weights: &[f32; N], top: f32) -> f32 {
    let mut extreme = 0.0f32;
    for &value in values {
        if value.abs() > extreme.abs() {
            extreme = value;
        }
    }
    // ggml's bound for a group of zeros.
    if extreme.abs() < 1e-15 {
        return 0.0;
    }
    let (mut best, mut best_gain) = (extreme / -top, 0.0);
    // Offset 0 comes first: the others have to beat it.
    let offsets = [0.0].into_iter().chain((-9..=9).filter(|&k| k != 0).map(|k| 0.1 * k as f32));
    for offset in offsets {
        let inverse = -(top + offset) / extreme;
        let mut lanes = [[0.0f32; LANES]; 2];
        for start in (0..N).step_by(LANES) {
            for k in 0..LANES {
                let i = start + k;
                let quant = clamp(nearest(inverse * values[i]), -top, top - 1.0);
                let weighted = weights[i] * quant;
                lanes[0][k] += weighted * values[i];
                lanes[1][k] += weighted * quant;
            }
        }
        let [sum_qx, sum_qq] = lanes.map(|lanes| lanes.iter().sum::<f32>());
        // The loss is Σwx² - sum_qx² / sum_qq at the best scale of these integers.
        if sum_qq > 0.0 && sum_qx * sum_qx > best_gain * sum_qq {
            best = sum_qx / sum_qq;
            best_gain = best * sum_qx;
        }
    }
    best
}

/// Integers in `least`..=`top` and their scale, an f16, that come near `values`, none of them
/// negative. The scale is the largest value over `levels`; (0, 0) if all are 0.
pub(super) fn scale_of_scales(
    values: &[f32; 8],
    least: f32,
    top: f32,
    levels: f32,
) -> (Half, [u8; 8]) {
    let high = values.iter().fold(0.0, |high, &v| if v > high { v } else { high });
    if high < 1e-36 {
        return (Half::new(0.0), [0; 8]);
    }
    // Integers that fit the scale as it is stored: for small weights an f16 is subnormal and
    // coarse. ggml rounds it after choosing the integers, and loses rows of values about 1e-6.
    let stored = Half::new((high / levels).max(Half::SMALLEST));
    let inverse = 1.0 / stored.get();
    (stored, values.map(|value| clamp(nearest(inverse * value), least, top) as u8))
}

/// A block of 8 groups: `value = scale * scales[g] * quant - min * mins[g]`.
#[derive(Clone, Copy)]
pub(super) struct Grid {
    pub(super) scale: Half,
    pub(super) min: Half,
    pub(super) scales: [u8; 8],
    pub(super) mins: [u8; 8],
}

/// A grid with the quants that are nearest on it.
pub(super) struct Rounded {
    pub(super) grid: Grid,
    /// Whole numbers in 0..=top.
    pub(super) quants: [f32; 256],
    /// The weighted sum of squared errors.
    pub(super) loss: f32,
}

impl Rounded {
    /// Refits scale and minimum to the quants while that loses less. Two rounds of it take the
    /// error 0.3 % (Q4_K) to 0.6 % (Q5_K) below that of none.
    pub(super) fn refitted(self, values: &[f32; 256], weights: &[f32; 256], top: f32) -> Rounded {
        let mut best = self;
        for _ in 0..2 {
            let next = best.grid.refit(values, weights, &best.quants).round(values, weights, top);
            // A loss that is NaN is no less.
            if next.loss < best.loss {
                best = next;
            } else {
                break;
            }
        }
        best
    }
}

impl Grid {
    /// The nearest quants and their loss under `weights`.
    pub(super) fn round(self, values: &[f32; 256], weights: &[f32; 256], top: f32) -> Rounded {
        let mut quants = [0.0; 256];
        let mut lanes = [0.0f32; LANES];
        for g in 0..8 {
            let scale = self.scale.get() * f32::from(self.scales[g]);
            let min = self.min.get() * f32::from(self.mins[g]);
            let inverse = if scale == 0.0 { 0.0 } else { 1.0 / scale };
            for start in (32 * g..32 * g + 32).step_by(LANES) {
                for k in 0..LANES {
                    let i = start + k;
                    let quant = clamp(nearest((values[i] + min) * inverse), 0.0, top);
                    let difference = scale * quant - min - values[i];
                    lanes[k] += weights[i] * difference * difference;
                    quants[i] = quant;
                }
            }
        }
        Rounded { grid: self, quants, loss: lanes.iter().sum() }
    }

    /// The grid of the same small integers whose scale and minimum fit `quants` best: two normal
    /// equations over the whole block.
    fn refit(self, values: &[f32; 256], weights: &[f32; 256], quants: &[f32; 256]) -> Grid {
        let [mut aa, mut ab, mut bb, mut ax, mut bx] = [0.0f32; 5];
        for g in 0..8 {
            let (values, weights) = (&values[32 * g..][..32], &weights[32 * g..][..32]);
            let quants = &quants[32 * g..][..32];
            let mut lanes = [[0.0f32; LANES]; 5];
            for start in (0..32).step_by(LANES) {
                for k in 0..LANES {
                    let (value, quant) = (values[start + k], quants[start + k]);
                    let weighted = weights[start + k] * quant;
                    lanes[0][k] += weighted * quant;
                    lanes[1][k] += weighted;
                    lanes[2][k] += weights[start + k];
                    lanes[3][k] += weighted * value;
                    lanes[4][k] += weights[start + k] * value;
                }
            }
            let [qq, q, one, qx, x] = lanes.map(|lanes| lanes.iter().sum::<f32>());
            let (scale, min) = (f32::from(self.scales[g]), -f32::from(self.mins[g]));
            aa += scale * scale * qq;
            ab += scale * min * q;
            bb += min * min * one;
            ax += scale * qx;
            bx += min * x;
        }
        let determinant = aa * bb - ab * ab;
        let (scale, min) = if determinant > 0.0 {
            ((ax * bb - bx * ab) / determinant, (bx * aa - ax * ab) / determinant)
        } else {
            (ax / aa, 0.0)
        };
        Grid { scale: Half::new(scale), min: Half::new(min), ..self }
    }
}
