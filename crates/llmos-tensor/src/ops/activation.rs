//! Activations of the feed-forward layer, alone and as a gate.

use super::elementwise::{Map, MapEach};
use super::exponential::exp;
use super::lanes::{Kernel, Lanes, run};
use crate::Isa;

/// A feed-forward layer's non-linear function.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Activation {
    /// x * sigmoid(x) (arXiv:1702.03118).
    Silu,
    /// x * Φ(x), Φ the normal distribution (arXiv:1606.08415).
    Gelu,
    /// The same with Φ approximated through tanh, as Gemma has it.
    GeluTanh,
    /// max(x, 0)^2 (arXiv:2109.08668).
    Relu2,
}

/// `x = activation(x)`. Error: 2e-6 relative down to results of 1e-30, for the exact GELU 4e-6
/// where x > -5 and below that 1e-11.
pub fn activation_forward(isa: Isa, activation: Activation, x: &mut [f32]) {
    match activation {
        Activation::Silu => run(isa, MapEach { x, map: Silu }),
        Activation::Gelu => run(isa, MapEach { x, map: Gelu }),
        Activation::GeluTanh => run(isa, MapEach { x, map: GeluTanh }),
        Activation::Relu2 => run(isa, MapEach { x, map: Relu2 }),
    }
}

/// `out = activation(gate) * up`, all of one length (arXiv:2002.05202). Error as
/// [`activation_forward`].
///
/// # Panics
/// If the lengths differ.
pub fn activation_gate(
    isa: Isa,
    activation: Activation,
    gate: &[f32],
    up: &[f32],
    out: &mut [f32],
) {
    assert_eq!(gate.len(), out.len(), "activation_gate: lengths of gate and out");
    out.copy_from_slice(gate);
    activation_gate_in_place(isa, activation, out, up);
}

/// `gate = activation(gate) * up`.
///
/// # Panics
/// If the lengths differ.
pub fn activation_gate_in_place(isa: Isa, activation: Activation, gate: &mut [f32], up: &[f32]) {
    assert_eq!(gate.len(), up.len(), "activation_gate: lengths of gate and up");
    match activation {
        Activation::Silu => run(isa, Gate { gate, up, map: Silu }),
        Activation::Gelu => run(isa, Gate { gate, up, map: Gelu }),
        Activation::GeluTanh => run(isa, Gate { gate, up, map: GeluTanh }),
        Activation::Relu2 => run(isa, Gate { gate, up, map: Relu2 }),
    }
}

struct Gate<'a, M> {
    gate: &'a mut [f32],
    up: &'a [f32],
    map: M,
}

impl<M: Map> Kernel for Gate<'_, M> {
    type Output = ();

    fn scalar(self) {
        for (gate, up) in self.gate.iter_mut().zip(self.up) {
            *gate = self.map.scalar(*gate) * up;
        }
    }

    #[inline(always)]
    unsafe fn vector<L: Lanes>(self) {
        let mut gates = self.gate.chunks_exact_mut(L::N);
        let mut ups = self.up.chunks_exact(L::N);
        // SAFETY: chunks have N numbers, the rests are equally long and shorter than N; the caller
        // has the instructions.
        unsafe {
            for (gate, up) in (&mut gates).zip(&mut ups) {
                let active = self.map.vector::<L>(L::load(gate.as_ptr()));
                L::store(gate.as_mut_ptr(), L::mul(active, L::load(up.as_ptr())));
            }
            let (gate, up) = (gates.into_remainder(), ups.remainder());
            let n = gate.len();
            let active = self.map.vector::<L>(L::load_part(gate.as_ptr(), n, 0.0));
            let up = L::load_part(up.as_ptr(), n, 0.0);
            L::store_part(gate.as_mut_ptr(), n, L::mul(active, up));
        }
    }
}

#[derive(Clone, Copy)]
pub(super) struct Silu;

impl Map for Silu {
    fn scalar(self, x: f32) -> f32 {
        x / (1.0 + (-x).exp())
    }

    #[inline(always)]
    unsafe fn vector<L: Lanes>(self, x: L::V) -> L::V {
        // SAFETY: the caller has the instructions.
        unsafe {
            let e = exp::<L>(L::sub(L::splat(0.0), x));
            L::div(x, L::add(L::splat(1.0), e))
        }
    }
}

/// sqrt(8 / pi): the tanh form is x * sigmoid(SLOPE * (x + CUBE x^3)), as
/// (1 + tanh(u)) / 2 = sigmoid(2u).
pub(super) const SLOPE: f32 = 1.595_769_2;
pub(super) const CUBE: f32 = 0.044_715;

#[derive(Clone, Copy)]
pub(super) struct GeluTanh;

impl Map for GeluTanh {
    fn scalar(self, x: f32) -> f32 {
        x / (1.0 + (-SLOPE * (x + CUBE * x * x * x)).exp())
    }

    #[inline(always)]
    unsafe fn vector<L: Lanes>(self, x: L::V) -> L::V {
        // SAFETY: the caller has the instructions.
        unsafe {
            let factor = L::fma(L::mul(x, x), L::splat(-SLOPE * CUBE), L::splat(-SLOPE));
            let e = exp::<L>(L::mul(x, factor));
            L::div(x, L::add(L::splat(1.0), e))
        }
    }
}

/// erfc(t) = exp(-t^2) P(y) y with y = 1 / (1 + t / 2), for t >= 0: fitted on [0, 10] for the least
/// relative error (4.3e-8).
const ERFC: [f32; 9] = [
    0.282_086_43,
    0.282_375_3,
    0.243_103_77,
    0.202_686_85,
    -0.026_625_603,
    0.278_067_08,
    -0.487_199_8,
    0.284_574_93,
    -0.059_068_95,
];

#[derive(Clone, Copy)]
pub(super) struct Gelu;

impl Gelu {
    /// e^(-x^2 / 2), and the normal distribution's tail beyond |x|.
    pub(super) fn tail(x: f32) -> (f32, f32) {
        let t = x.abs() * std::f32::consts::FRAC_1_SQRT_2;
        let y = 1.0 / (1.0 + 0.5 * t);
        let p = ERFC.iter().rev().fold(0.0, |p, c| p * y + c) * y;
        let e = (-t * t).exp();
        (e, 0.5 * e * p)
    }

    /// As [`Gelu::tail`].
    ///
    /// # Safety
    /// The CPU has the instructions of `L`.
    #[inline(always)]
    pub(super) unsafe fn tails<L: Lanes>(x: L::V) -> (L::V, L::V) {
        // SAFETY: the caller has the instructions.
        unsafe {
            let t = L::mul(L::abs(x), L::splat(std::f32::consts::FRAC_1_SQRT_2));
            let y = L::div(L::splat(1.0), L::fma(t, L::splat(0.5), L::splat(1.0)));
            let mut p = L::splat(ERFC[8]);
            for c in ERFC[..8].iter().rev() {
                p = L::fma(p, y, L::splat(*c));
            }
            let e = exp::<L>(L::mul(L::sub(L::splat(0.0), t), t));
            (e, L::mul(L::mul(e, L::splat(0.5)), L::mul(p, y)))
        }
    }
}

impl Map for Gelu {
    fn scalar(self, x: f32) -> f32 {
        let (_, tail) = Gelu::tail(x);
        if x < 0.0 { x * tail } else { x - x * tail }
    }

    #[inline(always)]
    unsafe fn vector<L: Lanes>(self, x: L::V) -> L::V {
        // SAFETY: the caller has the instructions.
        unsafe {
            let (_, tail) = Gelu::tails::<L>(x);
            let product = L::mul(x, tail);
            L::if_less(x, L::splat(0.0), product, L::sub(x, product))
        }
    }
}

#[derive(Clone, Copy)]
pub(super) struct Relu2;

impl Map for Relu2 {
    fn scalar(self, x: f32) -> f32 {
        if x < 0.0 { 0.0 } else { x * x }
    }

    #[inline(always)]
    unsafe fn vector<L: Lanes>(self, x: L::V) -> L::V {
        // SAFETY: the caller has the instructions.
        unsafe {
            let positive = L::max(L::splat(0.0), x);
            L::mul(positive, positive)
        }
    }
}
