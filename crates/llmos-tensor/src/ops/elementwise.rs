//! Sums and multiples of vectors, and the loop that applies a function to each number.

use super::lanes::{Kernel, Lanes, run};
use crate::Isa;

/// `acc += x`, exactly rounded.
///
/// # Panics
/// If the lengths differ.
pub fn add_forward(isa: Isa, acc: &mut [f32], x: &[f32]) {
    assert_eq!(acc.len(), x.len(), "add_forward: lengths");
    run(isa, AddScaled { acc, x, factor: 1.0 });
}

/// `acc += factor * x`; the product may or may not be rounded before the sum.
///
/// # Panics
/// If the lengths differ.
pub fn add_scaled_forward(isa: Isa, acc: &mut [f32], x: &[f32], factor: f32) {
    assert_eq!(acc.len(), x.len(), "add_scaled_forward: lengths");
    run(isa, AddScaled { acc, x, factor });
}

/// `x *= factor`, exactly rounded.
pub fn scale_forward(isa: Isa, x: &mut [f32], factor: f32) {
    run(isa, MapEach { x, map: Scale(factor) });
}

/// A function of one number.
pub(super) trait Map: Copy {
    fn scalar(self, x: f32) -> f32;

    /// # Safety
    /// The CPU has the instructions of `L`.
    unsafe fn vector<L: Lanes>(self, x: L::V) -> L::V;
}

/// Applies `map` to each number of `x`.
pub(super) struct MapEach<'a, M> {
    pub(super) x: &'a mut [f32],
    pub(super) map: M,
}

impl<M: Map> Kernel for MapEach<'_, M> {
    type Output = ();

    fn scalar(self) {
        self.x.iter_mut().for_each(|x| *x = self.map.scalar(*x));
    }

    #[inline(always)]
    unsafe fn vector<L: Lanes>(self) {
        let mut chunks = self.x.chunks_exact_mut(L::N);
        for chunk in &mut chunks {
            // SAFETY: a chunk has N numbers; the caller has the instructions.
            unsafe { L::store(chunk.as_mut_ptr(), self.map.vector::<L>(L::load(chunk.as_ptr()))) }
        }
        let rest = chunks.into_remainder();
        // SAFETY: the rest is shorter than N.
        unsafe {
            let x = L::load_part(rest.as_ptr(), rest.len(), 0.0);
            L::store_part(rest.as_mut_ptr(), rest.len(), self.map.vector::<L>(x));
        }
    }
}

#[derive(Clone, Copy)]
struct Scale(f32);

impl Map for Scale {
    fn scalar(self, x: f32) -> f32 {
        x * self.0
    }

    #[inline(always)]
    unsafe fn vector<L: Lanes>(self, x: L::V) -> L::V {
        // SAFETY: the caller has the instructions.
        unsafe { L::mul(x, L::splat(self.0)) }
    }
}

struct AddScaled<'a> {
    acc: &'a mut [f32],
    x: &'a [f32],
    factor: f32,
}

impl Kernel for AddScaled<'_> {
    type Output = ();

    fn scalar(self) {
        for (acc, x) in self.acc.iter_mut().zip(self.x) {
            *acc += self.factor * x;
        }
    }

    #[inline(always)]
    unsafe fn vector<L: Lanes>(self) {
        let mut accs = self.acc.chunks_exact_mut(L::N);
        let mut xs = self.x.chunks_exact(L::N);
        // SAFETY: chunks have N numbers, the rests are equally long and shorter than N; the caller
        // has the instructions.
        unsafe {
            let factor = L::splat(self.factor);
            for (acc, x) in (&mut accs).zip(&mut xs) {
                let sum = L::fma(factor, L::load(x.as_ptr()), L::load(acc.as_ptr()));
                L::store(acc.as_mut_ptr(), sum);
            }
            let (acc, x) = (accs.into_remainder(), xs.remainder());
            let n = acc.len();
            let sum = L::fma(
                factor,
                L::load_part(x.as_ptr(), n, 0.0),
                L::load_part(acc.as_ptr(), n, 0.0),
            );
            L::store_part(acc.as_mut_ptr(), n, sum);
        }
    }
}
