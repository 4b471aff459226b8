//! Sums, multiples and measures of whole tensors, spread over the device's threads.

use std::sync::atomic::{AtomicBool, Ordering};

use super::rows::{Rows, RowsMut};
use super::tasks::{Disjoint, for_each_piece, for_each_range, for_each_rows};
use super::vectors::{each_vector, load, store};
use crate::Device;
use crate::ops::lanes::{Kernel, Lanes, run};
use crate::ops::norm::Squares;
use crate::ops::{add_forward, scale_forward};

/// Parts that a sum of squares is cut into at most: their sums lie on the stack.
const PARTS: usize = 256;

/// Numbers of a part at least.
const PART: usize = 16 << 10;

/// Numbers whose squares are summed in f32 before the sum goes on in f64.
const RUN: usize = 1024;

/// `out = x + branch`, all of one length; exactly rounded.
///
/// # Panics
/// If the lengths differ.
pub fn residual_forward(device: &Device, x: &[f32], branch: &[f32], out: &mut [f32]) {
    assert_eq!(x.len(), out.len(), "residual_forward: lengths of x and out");
    assert_eq!(branch.len(), out.len(), "residual_forward: lengths of branch and out");
    let out = Disjoint::new(out);
    for_each_piece(device, x.len(), &|piece| {
        // SAFETY: a piece is of one task alone.
        let out = unsafe { out.range(piece.clone()) };
        run(device.isa(), Sum { a: &x[piece.clone()], b: &branch[piece], out });
    });
}

/// `out` becomes `x`, both (T, H, D).
///
/// # Panics
/// If the shapes differ.
pub fn copy_forward(device: &Device, x: Rows<'_>, out: RowsMut<'_>) {
    assert_eq!(x.shape(), out.shape(), "copy_forward: shapes of x and out");
    let (tokens, _, _) = x.shape();
    for_each_rows(device, tokens, x.width(), &|tokens| {
        for token in tokens {
            // SAFETY: a token is of one task alone.
            unsafe { out.token_mut(token) }.copy_from_slice(x.token(token));
        }
    });
}

/// `acc += x`, exactly rounded.
///
/// # Panics
/// If the lengths differ.
pub fn add_in_place(device: &Device, acc: &mut [f32], x: &[f32]) {
    assert_eq!(acc.len(), x.len(), "add_in_place: lengths");
    let acc = Disjoint::new(acc);
    for_each_piece(device, x.len(), &|piece| {
        // SAFETY: a piece is of one task alone.
        let acc = unsafe { acc.range(piece.clone()) };
        add_forward(device.isa(), acc, &x[piece]);
    });
}

/// `x *= factor`, exactly rounded.
pub fn scale_in_place(device: &Device, x: &mut [f32], factor: f32) {
    let n = x.len();
    let x = Disjoint::new(x);
    for_each_piece(device, n, &|piece| {
        // SAFETY: a piece is of one task alone.
        scale_forward(device.isa(), unsafe { x.range(piece) }, factor);
    });
}

/// The sum of squares, for a gradient's norm. Infinite if a square is, beyond 1.8e19. Error: 2e-6
/// relative where squares are normal numbers, above 1.1e-19.
pub fn sum_of_squares(device: &Device, x: &[f32]) -> f64 {
    let part = x.len().div_ceil(PARTS).next_multiple_of(RUN).max(PART);
    let mut sums = [0.0f64; PARTS];
    let places = Sums(sums.as_mut_ptr());
    for_each_range(device, x.len(), part, &|range| {
        let place = range.start / part;
        let sum = run(device.isa(), SumOfSquares { x: &x[range] });
        // SAFETY: there are at most PARTS parts, each of one task alone.
        unsafe { places.set(place, sum) };
    });
    sums.iter().sum()
}

/// Whether no number is infinite or none at all.
pub fn all_finite(device: &Device, x: &[f32]) -> bool {
    let finite = AtomicBool::new(true);
    for_each_piece(device, x.len(), &|piece| {
        if !run(device.isa(), AllFinite { x: &x[piece] }) {
            finite.store(false, Ordering::Relaxed);
        }
    });
    finite.into_inner()
}

/// Where tasks leave their sums.
struct Sums(*mut f64);

// SAFETY: each place is written by one task.
unsafe impl Sync for Sums {}

impl Sums {
    /// # Safety
    /// The place exists and is this task's.
    unsafe fn set(&self, place: usize, sum: f64) {
        // SAFETY: the caller's.
        unsafe { self.0.add(place).write(sum) }
    }
}

/// out = a + b, equally long.
struct Sum<'a> {
    a: &'a [f32],
    b: &'a [f32],
    out: &'a mut [f32],
}

impl Kernel for Sum<'_> {
    type Output = ();

    fn scalar(self) {
        for (out, (a, b)) in self.out.iter_mut().zip(self.a.iter().zip(self.b)) {
            *out = a + b;
        }
    }

    #[inline(always)]
    unsafe fn vector<L: Lanes>(self) {
        let (a, b, out) = (self.a.as_ptr(), self.b.as_ptr(), self.out.as_mut_ptr());
        // SAFETY: the three are equally long; the caller has the instructions.
        unsafe {
            each_vector!(L, self.out.len(), |i, n| {
                store::<L>(out.add(i), n, L::add(load::<L>(a.add(i), n), load::<L>(b.add(i), n)));
            });
        }
    }
}

/// The sum of squares of a part.
struct SumOfSquares<'a> {
    x: &'a [f32],
}

impl Kernel for SumOfSquares<'_> {
    type Output = f64;

    fn scalar(self) -> f64 {
        self.x.iter().map(|&x| f64::from(x) * f64::from(x)).sum()
    }

    #[inline(always)]
    unsafe fn vector<L: Lanes>(self) -> f64 {
        let mut total = 0.0f64;
        for x in self.x.chunks(RUN) {
            // SAFETY: the caller has the instructions.
            total += f64::from(unsafe { Squares { x }.vector::<L>() });
        }
        total
    }
}

/// Whether all numbers are finite: only then is the sum of their products with zero zero.
struct AllFinite<'a> {
    x: &'a [f32],
}

impl Kernel for AllFinite<'_> {
    type Output = bool;

    fn scalar(self) -> bool {
        self.x.iter().all(|x| x.is_finite())
    }

    #[inline(always)]
    unsafe fn vector<L: Lanes>(self) -> bool {
        let x = self.x.as_ptr();
        // SAFETY: every access is below the length; the caller has the instructions.
        unsafe {
            let mut zeros = L::splat(0.0);
            each_vector!(L, self.x.len(), |i, n| {
                zeros = L::fma(load::<L>(x.add(i), n), L::splat(0.0), zeros);
            });
            L::sum(zeros) == 0.0
        }
    }
}
