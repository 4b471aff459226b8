//! The softmax of a row of scores, and its gradient.

use crate::ops::lanes::{Lanes, MAX_LANES};
use crate::ops::{exp2, tanh};

/// Numbers behind a row that are written.
pub(super) const SLACK: usize = 2 * MAX_LANES;

/// `row[..n]` becomes `2^(row * factor - m)`, where m is the largest of `row * factor`. Gives m and the
/// sum of the results. Zeros follow, at least [`MAX_LANES`].
///
/// # Safety
/// `row` has n > 0 numbers and [`SLACK`] more; the CPU has the instructions of `L`.
#[inline(always)]
pub(super) unsafe fn powers<L: Lanes>(row: *mut f32, n: usize, factor: f32) -> (f32, f32) {
    // SAFETY: the last vector ends within the slack.
    unsafe {
        let (factor, whole) = (L::splat(factor), n / L::N * L::N);
        let mut largest = L::splat(f32::NEG_INFINITY);
        for i in (0..whole).step_by(L::N) {
            largest = L::max(L::mul(L::load(row.add(i)), factor), largest);
        }
        let rest = L::mul(L::load(row.add(whole)), factor);
        let rest = part::<L>(n - whole, rest, f32::NEG_INFINITY);
        let largest = L::largest(L::max(rest, largest));
        let less = L::splat(-largest);
        let mut total = L::splat(0.0);
        for i in (0..whole).step_by(L::N) {
            let power = exp2::<L>(L::fma(L::load(row.add(i)), factor, less));
            L::store(row.add(i), power);
            total = L::add(total, power);
        }
        let rest = part::<L>(n - whole, exp2::<L>(L::add(rest, less)), 0.0);
        last::<L>(row, n, rest);
        (largest, L::sum(L::add(total, rest)))
    }
}

/// `weights[..n]`, which hold scores, become `2^(scores * factor - less)`, and `gradients`, which hold
/// the weights' gradients, become the scores': `weights * (gradients - delta) * scale`. Zeros
/// follow in both, at least [`MAX_LANES`].
///
/// # Safety
/// As [`powers`], for both rows.
#[inline(always)]
pub(super) unsafe fn gradients<L: Lanes>(
    (weights, gradients): (*mut f32, *mut f32),
    n: usize,
    (factor, less): (f32, f32),
    (scale, delta): (f32, f32),
) {
    // SAFETY: the last vector ends within the slack.
    unsafe {
        let of = Row { factor: L::splat(factor), less: L::splat(-less), scale, delta };
        let whole = n / L::N * L::N;
        for i in (0..whole).step_by(L::N) {
            let (weight, gradient) = of.at::<L>(weights.add(i), gradients.add(i));
            L::store(gradients.add(i), gradient);
            L::store(weights.add(i), weight);
        }
        let (weight, gradient) = of.at::<L>(weights.add(whole), gradients.add(whole));
        last::<L>(weights, n, weight);
        last::<L>(gradients, n, gradient);
    }
}

/// `scores[..n]` become `cap * tanh(scores * scale / cap)`, and `slopes[..n]`, where they are asked for,
/// the derivatives of the tanh. What lies behind is anything.
///
/// # Safety
/// As [`powers`], for both rows.
#[inline(always)]
pub(super) unsafe fn capped<L: Lanes>(
    scores: *mut f32,
    slopes: Option<*mut f32>,
    n: usize,
    (scale, cap): (f32, f32),
) {
    // SAFETY: the last vector ends within the slack.
    unsafe {
        let (factor, cap, one) = (L::splat(scale / cap), L::splat(cap), L::splat(1.0));
        for i in (0..n).step_by(L::N) {
            let share = tanh::<L>(L::mul(L::load(scores.add(i)), factor));
            L::store(scores.add(i), L::mul(cap, share));
            if let Some(slopes) = slopes {
                L::store(slopes.add(i), L::sub(one, L::mul(share, share)));
            }
        }
    }
}

/// `row[..n] *= by[..n]`; zeros behind stay zeros, whatever lies behind in `by`.
///
/// # Safety
/// As [`powers`], for both rows.
#[inline(always)]
pub(super) unsafe fn times<L: Lanes>(row: *mut f32, by: *const f32, n: usize) {
    // SAFETY: the last vector ends within the slack.
    unsafe {
        let whole = n / L::N * L::N;
        for i in (0..whole).step_by(L::N) {
            L::store(row.add(i), L::mul(L::load(row.add(i)), L::load(by.add(i))));
        }
        let rest = L::mul(L::load(row.add(whole)), L::load(by.add(whole)));
        L::store(row.add(whole), part::<L>(n - whole, rest, 0.0));
    }
}

/// What is the same for a row.
#[derive(Clone, Copy)]
struct Row<V> {
    factor: V,
    less: V,
    scale: f32,
    delta: f32,
}

impl<V: Copy> Row<V> {
    /// A vector of weights and of gradients.
    ///
    /// # Safety
    /// Both have [`Lanes::N`] numbers; the CPU has the instructions of `L`.
    #[inline(always)]
    unsafe fn at<L: Lanes<V = V>>(self, scores: *const f32, gradients: *const f32) -> (V, V) {
        // SAFETY: the caller's.
        unsafe {
            let weight = exp2::<L>(L::fma(L::load(scores), self.factor, self.less));
            let gradient = L::sub(L::load(gradients), L::splat(self.delta));
            (weight, L::mul(L::mul(weight, gradient), L::splat(self.scale)))
        }
    }
}

/// Writes what is left of n numbers after whole vectors, `value`, and zeros behind it.
///
/// # Safety
/// As [`powers`].
#[inline(always)]
unsafe fn last<L: Lanes>(row: *mut f32, n: usize, value: L::V) {
    let whole = n / L::N * L::N;
    // SAFETY: the last vector ends within the slack.
    unsafe {
        L::store(row.add(whole), part::<L>(n - whole, value, 0.0));
        for i in (whole + L::N..=whole + MAX_LANES).step_by(L::N) {
            L::store(row.add(i), L::splat(0.0));
        }
    }
}

/// The first `n` lanes, then `rest`.
///
/// # Safety
/// The CPU has the instructions of `L`.
#[inline(always)]
unsafe fn part<L: Lanes>(n: usize, value: L::V, rest: f32) -> L::V {
    // SAFETY: the caller's.
    unsafe { L::if_less(L::iota(), L::splat(n as f32), value, L::splat(rest)) }
}
