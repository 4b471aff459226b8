//! The softmax between the two products, and its gradient.

use std::f32::consts::LOG2_E;

use super::Rows;
use crate::Isa;
use crate::ops::exp2;
use crate::ops::lanes::{Kernel, Lanes, run};

/// How scores of a block of rows become weights.
pub(super) struct Weights<'a> {
    pub(super) scale: f32,
    pub(super) rows: Rows,
    /// For each row the first position that it sees.
    pub(super) starts: Option<&'a [u32]>,
}

impl Weights<'_> {
    /// The positions that row `r` sees.
    fn visible(&self, r: usize) -> std::ops::Range<usize> {
        let end = self.rows.first + r + 1;
        let start = self.starts.map_or(0, |starts| starts[r] as usize);
        start.min(end - 1)..end
    }

    /// Scores (rows, seen) become weights, and `sums` the base-two logarithms of the rows' sums.
    pub(super) fn normalise(&self, isa: Isa, scores: &mut [f32], sums: &mut [f32]) {
        let seen = self.rows.seen();
        for (r, (row, sum)) in scores.chunks_exact_mut(seen).zip(sums).enumerate() {
            let visible = self.visible(r);
            row[..visible.start].fill(0.0);
            row[visible.end..].fill(0.0);
            *sum = run(isa, Normalise { row: &mut row[visible], factor: self.scale * LOG2_E });
        }
    }

    /// The same weights from the same scores and the sums of before.
    pub(super) fn again(&self, isa: Isa, scores: &mut [f32], sums: &[f32]) {
        let seen = self.rows.seen();
        for (r, (row, &sum)) in scores.chunks_exact_mut(seen).zip(sums).enumerate() {
            let visible = self.visible(r);
            row[..visible.start].fill(0.0);
            row[visible.end..].fill(0.0);
            run(isa, Power { row: &mut row[visible], factor: self.scale * LOG2_E, less: sum });
        }
    }
}

/// `row = 2^(row * factor - log2 of the sum of all of them)`; gives that logarithm.
struct Normalise<'a> {
    row: &'a mut [f32],
    factor: f32,
}

impl Kernel for Normalise<'_> {
    type Output = f32;

    fn scalar(self) -> f32 {
        let scores = self.row.iter().map(|&score| score * self.factor);
        let largest = scores.clone().fold(f32::NEG_INFINITY, f32::max);
        let total: f32 = scores.map(|score| (score - largest).exp2()).sum();
        let sum = largest + total.log2();
        Power { row: self.row, factor: self.factor, less: sum }.scalar();
        sum
    }

    #[inline(always)]
    unsafe fn vector<L: Lanes>(self) -> f32 {
        let (n, row) = (self.row.len(), self.row.as_ptr());
        let whole = n / L::N * L::N;
        // SAFETY: every access is below n; the caller has the instructions.
        unsafe {
            let factor = L::splat(self.factor);
            let mut largest = L::splat(f32::NEG_INFINITY);
            for i in (0..whole).step_by(L::N) {
                largest = L::max(L::mul(L::load(row.add(i)), factor), largest);
            }
            let rest = L::load_part(row.add(whole), n - whole, f32::NEG_INFINITY);
            let largest = L::largest(L::max(L::mul(rest, factor), largest));
            let less = L::splat(-largest);
            let mut total = L::splat(0.0);
            for i in (0..whole).step_by(L::N) {
                total = L::add(total, exp2::<L>(L::fma(L::load(row.add(i)), factor, less)));
            }
            total = L::add(total, exp2::<L>(L::fma(rest, factor, less)));
            let sum = largest + L::sum(total).log2();
            Power { row: self.row, factor: self.factor, less: sum }.vector::<L>();
            sum
        }
    }
}

/// `row = 2^(row * factor - less)`.
struct Power<'a> {
    row: &'a mut [f32],
    factor: f32,
    less: f32,
}

impl Kernel for Power<'_> {
    type Output = ();

    fn scalar(self) {
        for score in self.row {
            *score = (*score * self.factor - self.less).exp2();
        }
    }

    #[inline(always)]
    unsafe fn vector<L: Lanes>(self) {
        let (n, row) = (self.row.len(), self.row.as_mut_ptr());
        let whole = n / L::N * L::N;
        // SAFETY: every access is below n; the caller has the instructions.
        unsafe {
            let (factor, less) = (L::splat(self.factor), L::splat(-self.less));
            for i in (0..whole).step_by(L::N) {
                let score = L::load(row.add(i));
                L::store(row.add(i), exp2::<L>(L::fma(score, factor, less)));
            }
            let score = L::load_part(row.add(whole), n - whole, 0.0);
            L::store_part(row.add(whole), n - whole, exp2::<L>(L::fma(score, factor, less)));
        }
    }
}

/// `gradients = weights * (gradients - delta) * scale`: from the weights' gradients to the scores'.
pub(super) struct Gradient<'a> {
    pub(super) weights: &'a [f32],
    pub(super) delta: f32,
    pub(super) scale: f32,
    pub(super) gradients: &'a mut [f32],
}

impl Gradient<'_> {
    pub(super) fn run(self, isa: Isa) {
        run(isa, self);
    }
}

impl Kernel for Gradient<'_> {
    type Output = ();

    #[inline(always)]
    fn scalar(self) {
        for (gradient, weight) in self.gradients.iter_mut().zip(self.weights) {
            *gradient = weight * (*gradient - self.delta) * self.scale;
        }
    }

    #[inline(always)]
    unsafe fn vector<L: Lanes>(self) {
        // The same code, compiled for the vectors of `L`.
        self.scalar();
    }
}
