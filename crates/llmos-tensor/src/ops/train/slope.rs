//! Slopes of activations.

use crate::ops::activation::{CUBE, Gelu, GeluTanh, Relu2, SLOPE, Silu};
use crate::ops::elementwise::Map;
use crate::ops::exponential::exp;
use crate::ops::lanes::Lanes;

/// A function with its derivative.
pub(super) trait Slope: Map {
    /// f(x) and f'(x).
    fn with_slope(self, x: f32) -> (f32, f32);

    /// f(x) and f'(x).
    ///
    /// # Safety
    /// The CPU has the instructions of `L`.
    unsafe fn vector_with_slope<L: Lanes>(self, x: L::V) -> (L::V, L::V);
}

impl Slope for Silu {
    fn with_slope(self, x: f32) -> (f32, f32) {
        let s = 1.0 / (1.0 + (-x).exp());
        (x * s, s * (1.0 + x * (1.0 - s)))
    }

    #[inline(always)]
    unsafe fn vector_with_slope<L: Lanes>(self, x: L::V) -> (L::V, L::V) {
        // SAFETY: the caller has the instructions.
        unsafe {
            let one = L::splat(1.0);
            let s = L::div(one, L::add(one, exp::<L>(L::sub(L::splat(0.0), x))));
            (L::mul(x, s), L::mul(s, L::fma(x, L::sub(one, s), one)))
        }
    }
}

/// Beyond this a GELU's slope is 0 or 1 in single precision, and what it is made of still finite.
const FAR: f32 = 9.0;

impl Slope for GeluTanh {
    /// With s = sigmoid(z), the value is x s and the slope s + x s (1 - s) z'. 1 - s is not taken as a
    /// difference, which would lose what z' then multiplies.
    fn with_slope(self, x: f32) -> (f32, f32) {
        let near = x.clamp(-FAR, FAR);
        let square = near * near;
        let e = (-SLOPE * (near + CUBE * near * square)).exp();
        let s = 1.0 / (1.0 + e);
        let turn = near * SLOPE * (1.0 + 3.0 * CUBE * square);
        (if x < -FAR { 0.0 } else { x * s }, s * (1.0 + turn * (e * s)))
    }

    #[inline(always)]
    unsafe fn vector_with_slope<L: Lanes>(self, x: L::V) -> (L::V, L::V) {
        // SAFETY: the caller has the instructions.
        unsafe {
            let one = L::splat(1.0);
            let near = L::max(L::splat(-FAR), L::min(L::splat(FAR), x));
            let square = L::mul(near, near);
            let factor = L::fma(square, L::splat(-SLOPE * CUBE), L::splat(-SLOPE));
            let e = exp::<L>(L::mul(near, factor));
            let s = L::div(one, L::add(one, e));
            let steep = L::fma(square, L::splat(3.0 * SLOPE * CUBE), L::splat(SLOPE));
            let slope = L::mul(s, L::fma(L::mul(near, steep), L::mul(e, s), one));
            (L::if_less(x, L::splat(-FAR), L::splat(0.0), L::mul(x, s)), slope)
        }
    }
}

/// 1 / sqrt(2 pi).
const DENSITY: f32 = 0.398_942_3;

impl Slope for Gelu {
    /// The normal distribution, and x times its density more.
    fn with_slope(self, x: f32) -> (f32, f32) {
        let (e, tail) = Gelu::tail(x);
        let below = if x < 0.0 { tail } else { 1.0 - tail };
        (self.scalar(x), below + x * (e * DENSITY))
    }

    #[inline(always)]
    unsafe fn vector_with_slope<L: Lanes>(self, x: L::V) -> (L::V, L::V) {
        // SAFETY: the caller has the instructions.
        unsafe {
            let (e, tail) = Gelu::tails::<L>(x);
            let zero = L::splat(0.0);
            let product = L::mul(x, tail);
            let value = L::if_less(x, zero, product, L::sub(x, product));
            let below = L::if_less(x, zero, tail, L::sub(L::splat(1.0), tail));
            (value, L::fma(x, L::mul(e, L::splat(DENSITY)), below))
        }
    }
}

impl Slope for Relu2 {
    fn with_slope(self, x: f32) -> (f32, f32) {
        (self.scalar(x), 2.0 * x.max(0.0))
    }

    #[inline(always)]
    unsafe fn vector_with_slope<L: Lanes>(self, x: L::V) -> (L::V, L::V) {
        // SAFETY: the caller has the instructions.
        unsafe {
            let positive = L::max(L::splat(0.0), x);
            (L::mul(positive, positive), L::add(positive, positive))
        }
    }
}
