//! Probabilities of scores, and the best of them.

use super::exponential::exp;
use super::lanes::{Kernel, Lanes, run};
use crate::Isa;

/// Numbers that are summed in f32 before the sum goes on in f64: bounds the error of a vocabulary's
/// sum at that of a short one.
const RUN: usize = 1024;

/// Each row of `x` (T, C) becomes its softmax; C is `n_channel`. Error: relative
/// 1e-6 plus 6e-8 for each unit below the largest; e^-87.7 of the largest and less is 0. Minus infinity is a probability of 0; a row of nothing else, or with a
/// number that is none, is not a number throughout.
///
/// # Panics
/// If the length does not fit.
pub fn softmax_forward(isa: Isa, x: &mut [f32], n_channel: usize) {
    assert!(n_channel > 0 && x.len().is_multiple_of(n_channel), "softmax: x is not (T, C)");
    for x in x.chunks_exact_mut(n_channel) {
        let largest = x[argmax(isa, x)];
        let mut total = 0.0f64;
        for run_of_x in x.chunks_mut(RUN) {
            total += f64::from(run(isa, ExpInPlace { x: run_of_x, minus: largest }));
        }
        super::scale_forward(isa, x, (1.0 / total) as f32);
    }
}

/// Each row of `x` (T, C) becomes its log-softmax, in nats; C is `n_channel`. Error: 1e-6 absolute,
/// plus the rounding of the result.
///
/// # Panics
/// If the length does not fit.
pub fn log_softmax_forward(isa: Isa, x: &mut [f32], n_channel: usize) {
    assert!(n_channel > 0 && x.len().is_multiple_of(n_channel), "log_softmax: x is not (T, C)");
    for x in x.chunks_exact_mut(n_channel) {
        let log_sum = log_sum_exp(isa, x);
        x.iter_mut().for_each(|x| *x -= log_sum);
    }
}

/// ln(sum(e^x)): the log-probability of choice i is `x[i] - log_sum_exp(x)`, in nats. Error: 1e-6
/// absolute, plus the rounding of the result.
///
/// # Panics
/// If `x` is empty.
pub fn log_sum_exp(isa: Isa, x: &[f32]) -> f32 {
    let largest = x[argmax(isa, x)];
    let sum = |x| f64::from(run(isa, SumExp { x, minus: largest }));
    let total: f64 = x.chunks(RUN).map(sum).sum();
    (f64::from(largest) + total.ln()) as f32
}

/// The index of the largest number, the first of equals; those that are not numbers are passed over,
/// and if there is none above minus infinity it is 0.
///
/// # Panics
/// If `x` is empty.
pub fn argmax(isa: Isa, x: &[f32]) -> usize {
    assert!(!x.is_empty(), "argmax: nothing to choose from");
    let (mut best, mut best_run) = (f32::NEG_INFINITY, 0);
    for (index, part) in x.chunks(RUN).enumerate() {
        let largest = run(isa, Largest { x: part });
        if largest > best {
            (best, best_run) = (largest, index * RUN);
        }
    }
    x[best_run..]
        .iter()
        .position(|&x| x == best)
        .filter(|_| best > f32::NEG_INFINITY)
        .map_or(0, |i| best_run + i)
}

/// The largest number; minus infinity if there is none.
pub(super) struct Largest<'a> {
    pub(super) x: &'a [f32],
}

impl Kernel for Largest<'_> {
    type Output = f32;

    fn scalar(self) -> f32 {
        self.x.iter().copied().fold(f32::NEG_INFINITY, f32::max)
    }

    #[inline(always)]
    unsafe fn vector<L: Lanes>(self) -> f32 {
        let mut wide = self.x.chunks_exact(4 * L::N);
        // SAFETY: chunks have 4N and N numbers, the rest fewer than N; the caller has the
        // instructions.
        unsafe {
            // The sum so far stands second: `max` gives it where the first is not a number.
            let mut largest = [L::splat(f32::NEG_INFINITY); 4];
            for chunk in &mut wide {
                for (i, largest) in largest.iter_mut().enumerate() {
                    *largest = L::max(L::load(chunk.as_ptr().add(i * L::N)), *largest);
                }
            }
            let mut single = wide.remainder().chunks_exact(L::N);
            for chunk in &mut single {
                largest[0] = L::max(L::load(chunk.as_ptr()), largest[0]);
            }
            let rest = single.remainder();
            let rest = L::load_part(rest.as_ptr(), rest.len(), f32::NEG_INFINITY);
            largest[0] = L::max(rest, largest[0]);
            let pairs = (L::max(largest[0], largest[1]), L::max(largest[2], largest[3]));
            L::largest(L::max(pairs.0, pairs.1))
        }
    }
}

/// x = e^(x - minus); gives the sum.
struct ExpInPlace<'a> {
    x: &'a mut [f32],
    minus: f32,
}

impl Kernel for ExpInPlace<'_> {
    type Output = f32;

    fn scalar(self) -> f32 {
        self.x.iter_mut().for_each(|x| *x = (*x - self.minus).exp());
        self.x.iter().sum()
    }

    #[inline(always)]
    unsafe fn vector<L: Lanes>(self) -> f32 {
        let mut chunks = self.x.chunks_exact_mut(L::N);
        // SAFETY: chunks have N numbers, the rest fewer; the caller has the instructions.
        unsafe {
            let minus = L::splat(self.minus);
            let mut sum = L::splat(0.0);
            for chunk in &mut chunks {
                let e = exp::<L>(L::sub(L::load(chunk.as_ptr()), minus));
                L::store(chunk.as_mut_ptr(), e);
                sum = L::add(sum, e);
            }
            let rest = chunks.into_remainder();
            let n = rest.len();
            let e = exp::<L>(L::sub(L::load_part(rest.as_ptr(), n, f32::NEG_INFINITY), minus));
            L::store_part(rest.as_mut_ptr(), n, e);
            sum = L::add(sum, e);
            L::sum(sum)
        }
    }
}

/// The sum of e^(x - minus).
pub(super) struct SumExp<'a> {
    pub(super) x: &'a [f32],
    pub(super) minus: f32,
}

impl Kernel for SumExp<'_> {
    type Output = f32;

    fn scalar(self) -> f32 {
        self.x.iter().map(|x| (x - self.minus).exp()).sum()
    }

    #[inline(always)]
    unsafe fn vector<L: Lanes>(self) -> f32 {
        let mut chunks = self.x.chunks_exact(L::N);
        // SAFETY: chunks have N numbers, the rest fewer; the caller has the instructions.
        unsafe {
            let minus = L::splat(self.minus);
            let mut sum = L::splat(0.0);
            for chunk in &mut chunks {
                sum = L::add(sum, exp::<L>(L::sub(L::load(chunk.as_ptr()), minus)));
            }
            let rest = chunks.remainder();
            let rest = L::load_part(rest.as_ptr(), rest.len(), f32::NEG_INFINITY);
            L::sum(L::add(sum, exp::<L>(L::sub(rest, minus))))
        }
    }
}
