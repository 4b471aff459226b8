//! Root-mean-square norm (arXiv:1910.07467).

use super::lanes::{Kernel, Lanes, run};
use crate::Isa;

/// `out = x / sqrt(mean(x^2) + eps) * weight` for each row of `x` (T, C) to `out` (T, C); C is
/// `n_channel`, `weight` (C) where there is one. A norm of each head is this with C the head size.
/// Error: 4e-7 relative.
///
/// # Panics
/// If a length does not fit.
pub fn rmsnorm_forward(
    isa: Isa,
    x: &[f32],
    weight: Option<&[f32]>,
    n_channel: usize,
    eps: f32,
    out: &mut [f32],
) {
    assert_eq!(x.len(), out.len(), "rmsnorm_forward: lengths of x and out");
    assert_shape(out, weight, n_channel);
    for (x, out) in x.chunks_exact(n_channel).zip(out.chunks_exact_mut(n_channel)) {
        let factor = run(isa, Factor { x, eps });
        match weight {
            Some(weight) => run(isa, Scaled { x, weight, factor, out }),
            None => {
                out.copy_from_slice(x);
                super::scale_forward(isa, out, factor);
            }
        }
    }
}

/// [`rmsnorm_forward`] with the result in place of `x` (T, C).
///
/// # Panics
/// If a length does not fit.
pub fn rmsnorm_in_place(
    isa: Isa,
    x: &mut [f32],
    weight: Option<&[f32]>,
    n_channel: usize,
    eps: f32,
) {
    assert_shape(x, weight, n_channel);
    for x in x.chunks_exact_mut(n_channel) {
        let factor = run(isa, Factor { x, eps });
        match weight {
            Some(weight) => run(isa, ScaledInPlace { x, weight, factor }),
            None => super::scale_forward(isa, x, factor),
        }
    }
}

fn assert_shape(x: &[f32], weight: Option<&[f32]>, n_channel: usize) {
    assert!(n_channel > 0 && x.len().is_multiple_of(n_channel), "rmsnorm: x is not (T, C)");
    assert!(weight.is_none_or(|weight| weight.len() == n_channel), "rmsnorm: weight is not (C)");
}

/// 1 / sqrt(mean(x^2) + eps).
pub(super) struct Factor<'a> {
    pub(super) x: &'a [f32],
    pub(super) eps: f32,
}

impl Factor<'_> {
    #[inline(always)]
    fn of(&self, squares: f32) -> f32 {
        1.0 / (squares / self.x.len() as f32 + self.eps).sqrt()
    }
}

impl Kernel for Factor<'_> {
    type Output = f32;

    fn scalar(self) -> f32 {
        self.of(Squares { x: self.x }.scalar())
    }

    #[inline(always)]
    unsafe fn vector<L: Lanes>(self) -> f32 {
        // SAFETY: the caller has the instructions.
        self.of(unsafe { Squares { x: self.x }.vector::<L>() })
    }
}

/// The sum of squares.
pub(super) struct Squares<'a> {
    pub(super) x: &'a [f32],
}

impl Kernel for Squares<'_> {
    type Output = f32;

    fn scalar(self) -> f32 {
        self.x.iter().map(|&x| f64::from(x) * f64::from(x)).sum::<f64>() as f32
    }

    #[inline(always)]
    unsafe fn vector<L: Lanes>(self) -> f32 {
        // SAFETY: chunks have 4N and N numbers, the last rest fewer than N; the caller has the
        // instructions.
        unsafe {
            // Four sums hide the latency of the additions and shorten each one's error.
            let mut sums = [L::splat(0.0); 4];
            let mut wide = self.x.chunks_exact(4 * L::N);
            for chunk in &mut wide {
                for (i, sum) in sums.iter_mut().enumerate() {
                    let x = L::load(chunk.as_ptr().add(i * L::N));
                    *sum = L::fma(x, x, *sum);
                }
            }
            let mut single = wide.remainder().chunks_exact(L::N);
            for chunk in &mut single {
                let x = L::load(chunk.as_ptr());
                sums[0] = L::fma(x, x, sums[0]);
            }
            let rest = single.remainder();
            let x = L::load_part(rest.as_ptr(), rest.len(), 0.0);
            sums[1] = L::fma(x, x, sums[1]);
            L::sum(L::add(L::add(sums[0], sums[1]), L::add(sums[2], sums[3])))
        }
    }
}

/// out = x * factor * weight.
pub(super) struct Scaled<'a> {
    pub(super) x: &'a [f32],
    pub(super) weight: &'a [f32],
    pub(super) factor: f32,
    pub(super) out: &'a mut [f32],
}

impl Kernel for Scaled<'_> {
    type Output = ();

    fn scalar(self) {
        for ((out, x), weight) in self.out.iter_mut().zip(self.x).zip(self.weight) {
            *out = x * self.factor * weight;
        }
    }

    #[inline(always)]
    unsafe fn vector<L: Lanes>(self) {
        // SAFETY: the three are equally long, as the public function asserts; the caller has the
        // instructions.
        unsafe {
            let (x, out) = (self.x.as_ptr(), self.out.as_mut_ptr());
            scaled::<L>(x, self.weight.as_ptr(), self.factor, out, self.x.len());
        }
    }
}

/// x = x * factor * weight.
struct ScaledInPlace<'a> {
    x: &'a mut [f32],
    weight: &'a [f32],
    factor: f32,
}

impl Kernel for ScaledInPlace<'_> {
    type Output = ();

    fn scalar(self) {
        for (x, weight) in self.x.iter_mut().zip(self.weight) {
            *x = *x * self.factor * weight;
        }
    }

    #[inline(always)]
    unsafe fn vector<L: Lanes>(self) {
        // SAFETY: the two are equally long, as the public function asserts; the caller has the
        // instructions.
        unsafe {
            let x = self.x.as_mut_ptr();
            scaled::<L>(x, self.weight.as_ptr(), self.factor, x, self.x.len());
        }
    }
}

/// # Safety
/// The pointers hold `n` numbers, `out` equal to `x` or apart from it; the CPU has the instructions
/// of `L`.
#[inline(always)]
unsafe fn scaled<L: Lanes>(
    x: *const f32,
    weight: *const f32,
    factor: f32,
    out: *mut f32,
    n: usize,
) {
    // SAFETY: the caller's; every access is below n.
    unsafe {
        let factor = L::splat(factor);
        let mut i = 0;
        while i + L::N <= n {
            let y = L::mul(L::mul(L::load(x.add(i)), factor), L::load(weight.add(i)));
            L::store(out.add(i), y);
            i += L::N;
        }
        let (x, weight) =
            (L::load_part(x.add(i), n - i, 0.0), L::load_part(weight.add(i), n - i, 0.0));
        L::store_part(out.add(i), n - i, L::mul(L::mul(x, factor), weight));
    }
}
