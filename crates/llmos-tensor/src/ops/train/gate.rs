//! The gate of SwiGLU (arXiv:2002.05202), and its gradients.

use std::ops::Range;

use super::rows::{Rows, RowsMut};
use super::tasks::for_each_rows;
use super::vectors::{each_vector, load, store};
use crate::Device;
use crate::ops::activation::Silu;
use crate::ops::elementwise::Map;
use crate::ops::exponential::exp;
use crate::ops::lanes::{Kernel, Lanes, run};

/// `out = silu(gate) * up`, all (N, C). The same numbers as [`crate::ops::activation_gate`]'s.
/// Error: 2e-6 relative down to results of 1e-30.
///
/// # Panics
/// If the shapes differ.
pub fn silu_gate_forward(device: &Device, gate: Rows<'_>, up: Rows<'_>, out: RowsMut<'_>) {
    assert_eq!(gate.shape(), up.shape(), "silu_gate_forward: shapes of gate and up");
    assert_eq!(gate.shape(), out.shape(), "silu_gate_forward: shapes of gate and out");
    let (tokens, _, _) = gate.shape();
    for_each_rows(device, tokens, gate.width(), &|tokens| {
        run(device.isa(), Forward { gate, up, out: &out, tokens });
    });
}

/// The gradients of [`silu_gate_forward`]: with s = sigmoid(gate), `dup = dout * gate * s` and
/// `dgate = dout * up * s * (1 + gate * (1 - s))`, all (N, C). Error: 2e-6 relative for dup,
/// 1e-6 of |dout * up| for dgate.
///
/// # Panics
/// If the shapes differ.
pub fn silu_gate_backward(
    device: &Device,
    gate: Rows<'_>,
    up: Rows<'_>,
    dout: Rows<'_>,
    dgate: RowsMut<'_>,
    dup: RowsMut<'_>,
) {
    backward(device, gate, up, dout, &dgate, &dup);
}

/// [`silu_gate_backward`] where `gate` becomes `dgate` and `up` becomes `dup`.
///
/// # Panics
/// If the shapes differ.
pub fn silu_gate_backward_in_place(
    device: &Device,
    gate: RowsMut<'_>,
    up: RowsMut<'_>,
    dout: Rows<'_>,
) {
    // SAFETY: the kernel reads numbers right before it writes them, through pointers.
    let (old_gate, old_up) = unsafe { (gate.alias(), up.alias()) };
    backward(device, old_gate, old_up, dout, &gate, &up);
}

fn backward(
    device: &Device,
    gate: Rows<'_>,
    up: Rows<'_>,
    dout: Rows<'_>,
    dgate: &RowsMut<'_>,
    dup: &RowsMut<'_>,
) {
    for shape in [up.shape(), dout.shape(), dgate.shape(), dup.shape()] {
        assert_eq!(gate.shape(), shape, "silu_gate_backward: shapes");
    }
    let (tokens, _, _) = gate.shape();
    for_each_rows(device, tokens, gate.width(), &|tokens| {
        run(device.isa(), Backward { gate, up, dout, dgate, dup, tokens });
    });
}

/// Some rows of [`silu_gate_forward`].
struct Forward<'a> {
    gate: Rows<'a>,
    up: Rows<'a>,
    out: &'a RowsMut<'a>,
    tokens: Range<usize>,
}

impl Kernel for Forward<'_> {
    type Output = ();

    fn scalar(self) {
        for token in self.tokens {
            // SAFETY: the token is of this task alone.
            let out = unsafe { self.out.token_mut(token) };
            let gated = self.gate.token(token).iter().zip(self.up.token(token));
            for (out, (gate, up)) in out.iter_mut().zip(gated) {
                *out = Silu.scalar(*gate) * up;
            }
        }
    }

    #[inline(always)]
    unsafe fn vector<L: Lanes>(self) {
        let width = self.gate.width();
        for token in self.tokens {
            let (gate, up, out) = (self.gate.at(token), self.up.at(token), self.out.at(token));
            // SAFETY: each has `width` numbers, and those of out are of this task alone; the caller
            // has the instructions.
            unsafe {
                each_vector!(L, width, |i, n| {
                    let active = Silu.vector::<L>(load::<L>(gate.add(i), n));
                    store::<L>(out.add(i), n, L::mul(active, load::<L>(up.add(i), n)));
                });
            }
        }
    }
}

/// Some rows of [`silu_gate_backward`].
struct Backward<'a> {
    /// May be `dgate`.
    gate: Rows<'a>,
    /// May be `dup`.
    up: Rows<'a>,
    dout: Rows<'a>,
    dgate: &'a RowsMut<'a>,
    dup: &'a RowsMut<'a>,
    tokens: Range<usize>,
}

impl Kernel for Backward<'_> {
    type Output = ();

    fn scalar(self) {
        let width = self.gate.width();
        for token in self.tokens {
            let (gate, up, dout) = (self.gate.at(token), self.up.at(token), self.dout.at(token));
            let (dgate, dup) = (self.dgate.at(token), self.dup.at(token));
            for i in 0..width {
                // SAFETY: each has `width` numbers, and those written are of this task alone.
                unsafe {
                    let (gate, up, dout) = (*gate.add(i), *up.add(i), *dout.add(i));
                    let s = 1.0 / (1.0 + (-gate).exp());
                    *dgate.add(i) = dout * up * (s * (1.0 + gate * (1.0 - s)));
                    *dup.add(i) = dout * (gate * s);
                }
            }
        }
    }

    #[inline(always)]
    unsafe fn vector<L: Lanes>(self) {
        let width = self.gate.width();
        for token in self.tokens {
            let (gate, up, dout) = (self.gate.at(token), self.up.at(token), self.dout.at(token));
            let (dgate, dup) = (self.dgate.at(token), self.dup.at(token));
            // SAFETY: each has `width` numbers, and those written are of this task alone; the
            // caller has the instructions.
            unsafe {
                let one = L::splat(1.0);
                each_vector!(L, width, |i, n| {
                    let x = load::<L>(gate.add(i), n);
                    let (y, d) = (load::<L>(up.add(i), n), load::<L>(dout.add(i), n));
                    let s = L::div(one, L::add(one, exp::<L>(L::sub(L::splat(0.0), x))));
                    let slope = L::mul(s, L::fma(x, L::sub(one, s), one));
                    store::<L>(dgate.add(i), n, L::mul(L::mul(d, y), slope));
                    store::<L>(dup.add(i), n, L::mul(d, L::mul(x, s)));
                });
            }
        }
    }
}
