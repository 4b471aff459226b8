//! Vectors of f32 under one interface, so that a kernel is written once for every instruction set.
//!
//! A [`Kernel`] has a plain version and a generic one; [`run`] picks. The generic one reaches its
//! instructions by inlining: everything between the `#[target_feature]` function, which
//! [`Lanes::enter`] calls, and an intrinsic must be `#[inline(always)]`.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "aarch64")]
mod neon;

use crate::Isa;
use crate::cpu::Kind;
#[cfg(target_arch = "x86_64")]
pub(crate) use avx512::Avx512;

/// An operation with its arguments.
pub(crate) trait Kernel {
    /// What it gives back.
    type Output;

    /// The plain version, the oracle.
    fn scalar(self) -> Self::Output;

    /// The version in vectors. Implementations are `#[inline(always)]`.
    ///
    /// # Safety
    /// The CPU has the instructions of `L`.
    unsafe fn vector<L: Lanes>(self) -> Self::Output;
}

/// A piece of a kernel that is only ever reached with vectors.
pub(crate) trait Tile {
    /// What it gives back.
    type Output;

    /// Implementations are `#[inline(always)]`.
    ///
    /// # Safety
    /// The CPU has the instructions of `L`.
    unsafe fn vector<L: Lanes>(self) -> Self::Output;
}

struct Whole<K>(K);

impl<K: Kernel> Tile for Whole<K> {
    type Output = K::Output;

    #[inline(always)]
    unsafe fn vector<L: Lanes>(self) -> K::Output {
        // SAFETY: the caller has the instructions.
        unsafe { self.0.vector::<L>() }
    }
}

/// Runs `kernel` with the instructions of `isa`.
#[inline(always)]
pub(crate) fn run<K: Kernel>(isa: Isa, kernel: K) -> K::Output {
    match isa.0 {
        Kind::Scalar => kernel.scalar(),
        // SAFETY: an Isa of that kind exists only where the CPU has its instructions.
        #[cfg(target_arch = "x86_64")]
        Kind::Avx2 => unsafe { avx2::Avx2::enter(Whole(kernel)) },
        // SAFETY: as above.
        #[cfg(target_arch = "x86_64")]
        Kind::Avx512 => unsafe { avx512::Avx512::enter(Whole(kernel)) },
        // SAFETY: as above.
        #[cfg(target_arch = "aarch64")]
        Kind::Neon => unsafe { neon::Neon::enter(Whole(kernel)) },
        #[allow(unreachable_patterns)]
        _ => kernel.scalar(),
    }
}

/// Most lanes of any instruction set.
pub(crate) const MAX_LANES: usize = 16;

/// A vector of [`Lanes::N`] numbers and what can be done with it.
///
/// # Safety
/// Every function needs the instructions of the implementing type; those with pointers need them
/// valid for `N` elements, of any alignment.
pub(crate) trait Lanes: Copy + 'static {
    /// The vector.
    type V: Copy;
    /// Lanes of a vector, a divisor of 16.
    const N: usize;
    /// Rows of a product's register tile of two vectors' width: twice as many sums, two operands
    /// and a broadcast fit in the registers.
    const ROWS: usize;

    /// Runs `tile` in a function of its own that has the instructions.
    unsafe fn enter<T: Tile>(tile: T) -> T::Output;
    unsafe fn splat(x: f32) -> Self::V;
    unsafe fn load(p: *const f32) -> Self::V;
    unsafe fn store(p: *mut f32, v: Self::V);
    /// IEEE half precision, widened exactly.
    unsafe fn load_f16(p: *const u16) -> Self::V;
    /// Rounded to the nearest half, ties to even; too large becomes infinite.
    unsafe fn store_f16(p: *mut u16, v: Self::V);
    unsafe fn load_i8(p: *const i8) -> Self::V;
    unsafe fn add(a: Self::V, b: Self::V) -> Self::V;
    unsafe fn sub(a: Self::V, b: Self::V) -> Self::V;
    unsafe fn mul(a: Self::V, b: Self::V) -> Self::V;
    unsafe fn div(a: Self::V, b: Self::V) -> Self::V;
    /// Correctly rounded.
    unsafe fn sqrt(a: Self::V) -> Self::V;
    /// `a * b + c`, rounded once.
    unsafe fn fma(a: Self::V, b: Self::V, c: Self::V) -> Self::V;
    /// The larger; `b` if either is not a number.
    unsafe fn max(a: Self::V, b: Self::V) -> Self::V;
    /// The smaller; `b` if either is not a number.
    unsafe fn min(a: Self::V, b: Self::V) -> Self::V;
    unsafe fn abs(a: Self::V) -> Self::V;
    /// To the nearest integer, ties to even.
    unsafe fn round(a: Self::V) -> Self::V;
    /// 2^n for whole n: 0 at -127, infinite at 128; n is within -127 ..= 128 or not a number.
    unsafe fn pow2(n: Self::V) -> Self::V;
    /// `x` in lanes where a < b, else `y`.
    unsafe fn if_less(a: Self::V, b: Self::V, x: Self::V, y: Self::V) -> Self::V;
    /// 0, 1, 2, ...
    unsafe fn iota() -> Self::V;
    unsafe fn sum(v: Self::V) -> f32;
    unsafe fn largest(v: Self::V) -> f32;
    /// Lanes 0, 2, 4, ... of `a` then `b`, and lanes 1, 3, 5, ...
    unsafe fn unzip(a: Self::V, b: Self::V) -> (Self::V, Self::V);
    /// The inverse of [`Self::unzip`].
    unsafe fn zip(a: Self::V, b: Self::V) -> (Self::V, Self::V);

    /// Asks for the cache line of any address to be brought near.
    unsafe fn prefetch(p: *const u8);
    /// The same, to the second-level cache.
    unsafe fn prefetch_far(p: *const u8);

    /// The first `n` <= N numbers at `p`, then `fill`.
    #[inline(always)]
    unsafe fn load_part(p: *const f32, n: usize, fill: f32) -> Self::V {
        let mut part = [fill; MAX_LANES];
        // SAFETY: the caller gives n numbers at p and n <= N <= MAX_LANES.
        unsafe {
            std::ptr::copy_nonoverlapping(p, part.as_mut_ptr(), n);
            Self::load(part.as_ptr())
        }
    }

    /// Stores the first `n` <= N numbers of `v`.
    #[inline(always)]
    unsafe fn store_part(p: *mut f32, n: usize, v: Self::V) {
        let mut part = [0.0f32; MAX_LANES];
        // SAFETY: the caller gives room for n numbers at p and n <= N <= MAX_LANES.
        unsafe {
            Self::store(part.as_mut_ptr(), v);
            std::ptr::copy_nonoverlapping(part.as_ptr(), p, n);
        }
    }
}

/// The transpose of the first N vectors: log2(N) times, the vectors are shuffled like two halves of
/// a pack of cards, lane by lane.
///
/// # Safety
/// The CPU has the instructions of `L`.
#[inline(always)]
pub(crate) unsafe fn transpose<L: Lanes>(rows: &mut [L::V; MAX_LANES]) {
    for _ in 0..L::N.ilog2() {
        let before = *rows;
        for i in 0..L::N / 2 {
            // SAFETY: the caller's.
            let (low, high) = unsafe { L::zip(before[i], before[i + L::N / 2]) };
            (rows[2 * i], rows[2 * i + 1]) = (low, high);
        }
    }
}
