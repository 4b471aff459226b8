//! exp and tanh in vectors.
//!
//! 2^x is 2^n times a polynomial of degree 6 on [-1/2, 1/2], fitted for the least relative error
//! (2.0e-9) with 2^0 exactly 1. e^x goes through it with log2(e) in two parts.

use super::elementwise::{Map, MapEach};
use super::lanes::{Lanes, run};
use crate::Isa;

/// `x = e^x`. Error: 2 units in the last place; 0 below -87.7, infinite above 88.3; not a number
/// stays so.
pub fn exp_forward(isa: Isa, x: &mut [f32]) {
    run(isa, MapEach { x, map: Exp });
}

/// `x = tanh(x)`. Error: 4 units in the last place.
pub fn tanh_forward(isa: Isa, x: &mut [f32]) {
    run(isa, MapEach { x, map: Tanh });
}

/// `x = cap * tanh(x / cap)`, for scores and logits (Gemma 2, arXiv:2408.00118). Error: 5 units in
/// the last place.
pub fn softcap_forward(isa: Isa, x: &mut [f32], cap: f32) {
    run(isa, MapEach { x, map: Softcap(cap) });
}

const EXP2: [f32; 6] = [
    std::f32::consts::LN_2,
    0.240_226_48,
    0.055_503_324,
    0.009_618_437,
    0.001_339_887_5,
    0.000_153_533_62,
];

/// log2(e) is HIGH + LOW to 50 bits.
const LOG2_E_HIGH: f32 = std::f32::consts::LOG2_E;
const LOG2_E_LOW: f32 = (std::f64::consts::LOG2_E - LOG2_E_HIGH as f64) as f32;

/// tanh(x) = x + x^3 P(x^2) on [0, 0.625], fitted for the least relative error (4.4e-9).
const TANH: [f32; 5] = [-0.333_332_8, 0.133_314_41, -0.053_739_7, 0.020_639_043, -0.005_704_935];

/// 2^(n + r) of whole n and |r| <= 1/2.
///
/// # Safety
/// The CPU has the instructions of `L`.
#[inline(always)]
unsafe fn exp2_parts<L: Lanes>(n: L::V, r: L::V) -> L::V {
    // SAFETY: the caller's.
    unsafe {
        let mut p = L::splat(EXP2[5]);
        for c in EXP2[..5].iter().rev() {
            p = L::fma(p, r, L::splat(*c));
        }
        L::mul(L::fma(p, r, L::splat(1.0)), L::pow2(n))
    }
}

/// 2^x: 0 below -126.5, infinite from 127.5; 2^0 is exactly 1. Error 1.5 units in the last place.
///
/// # Safety
/// The CPU has the instructions of `L`.
#[inline(always)]
pub(crate) unsafe fn exp2<L: Lanes>(x: L::V) -> L::V {
    // SAFETY: the caller's.
    unsafe {
        let x = L::min(L::splat(128.0), L::max(L::splat(-127.0), x));
        let n = L::round(x);
        exp2_parts::<L>(n, L::sub(x, n))
    }
}

/// e^x, see [`exp_forward`].
///
/// # Safety
/// The CPU has the instructions of `L`.
#[inline(always)]
pub(super) unsafe fn exp<L: Lanes>(x: L::V) -> L::V {
    // SAFETY: the caller's.
    unsafe {
        let x = L::min(L::splat(88.8), L::max(L::splat(-88.0), x));
        let n = L::round(L::mul(x, L::splat(LOG2_E_HIGH)));
        let r = L::fma(x, L::splat(LOG2_E_HIGH), L::sub(L::splat(0.0), n));
        exp2_parts::<L>(n, L::fma(x, L::splat(LOG2_E_LOW), r))
    }
}

/// tanh(x), see [`tanh_forward`].
///
/// # Safety
/// The CPU has the instructions of `L`.
#[inline(always)]
pub(crate) unsafe fn tanh<L: Lanes>(x: L::V) -> L::V {
    // SAFETY: the caller's.
    unsafe {
        let square = L::mul(x, x);
        let mut p = L::splat(TANH[4]);
        for c in TANH[..4].iter().rev() {
            p = L::fma(p, square, L::splat(*c));
        }
        let near = L::fma(L::mul(p, square), x, x);
        let size = L::abs(x);
        let double = L::add(size, size);
        let one = L::splat(1.0);
        let far = L::sub(one, L::div(L::splat(2.0), L::add(exp::<L>(double), one)));
        let far = L::if_less(x, L::splat(0.0), L::sub(L::splat(0.0), far), far);
        L::if_less(size, L::splat(0.625), near, far)
    }
}

#[derive(Clone, Copy)]
struct Exp;

impl Map for Exp {
    fn scalar(self, x: f32) -> f32 {
        x.exp()
    }

    #[inline(always)]
    unsafe fn vector<L: Lanes>(self, x: L::V) -> L::V {
        // SAFETY: the caller has the instructions.
        unsafe { exp::<L>(x) }
    }
}

#[derive(Clone, Copy)]
struct Tanh;

impl Map for Tanh {
    fn scalar(self, x: f32) -> f32 {
        x.tanh()
    }

    #[inline(always)]
    unsafe fn vector<L: Lanes>(self, x: L::V) -> L::V {
        // SAFETY: the caller has the instructions.
        unsafe { tanh::<L>(x) }
    }
}

#[derive(Clone, Copy)]
struct Softcap(f32);

impl Map for Softcap {
    fn scalar(self, x: f32) -> f32 {
        self.0 * (x / self.0).tanh()
    }

    #[inline(always)]
    unsafe fn vector<L: Lanes>(self, x: L::V) -> L::V {
        // SAFETY: the caller has the instructions.
        unsafe { L::mul(L::splat(self.0), tanh::<L>(L::div(x, L::splat(self.0)))) }
    }
}
