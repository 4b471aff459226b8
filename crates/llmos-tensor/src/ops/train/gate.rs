//! Gates of feed-forward layers, SwiGLU and its kin (arXiv:2002.05202), and their gradients.

use std::ops::Range;

use super::rows::{Rows, RowsMut};
use super::slope::Slope;
use super::tasks::for_each_rows;
use super::vectors::{each_vector, load, store};
use crate::Device;
use crate::ops::Activation;
use crate::ops::activation::{Gelu, GeluTanh, Relu2, Silu};
use crate::ops::lanes::{Kernel, Lanes, run};

/// `out = activation(gate) * up`, all (N, C). The same numbers as [`crate::ops::activation_gate`]'s,
/// error as there.
///
/// # Panics
/// If the shapes differ.
pub fn gate_forward(
    device: &Device,
    activation: Activation,
    gate: Rows<'_>,
    up: Rows<'_>,
    out: RowsMut<'_>,
) {
    assert_eq!(gate.shape(), up.shape(), "gate_forward: shapes of gate and up");
    assert_eq!(gate.shape(), out.shape(), "gate_forward: shapes of gate and out");
    let (tokens, _, _) = gate.shape();
    let (isa, out) = (device.isa(), &out);
    for_each_rows(device, tokens, gate.width(), &|tokens| match activation {
        Activation::Silu => run(isa, Forward { map: Silu, gate, up, out, tokens }),
        Activation::Gelu => run(isa, Forward { map: Gelu, gate, up, out, tokens }),
        Activation::GeluTanh => run(isa, Forward { map: GeluTanh, gate, up, out, tokens }),
        Activation::Relu2 => run(isa, Forward { map: Relu2, gate, up, out, tokens }),
    });
}

/// The gradients of [`gate_forward`]: `dup = dout * activation(gate)` and `dgate = dout * up *
/// activation'(gate)`, all (N, C). Error: as [`gate_forward`] for dup, 1e-6 of |dout * up| for dgate
/// (of |dout * up * gate| beyond 1 for squared ReLU).
///
/// # Panics
/// If the shapes differ.
pub fn gate_backward(
    device: &Device,
    activation: Activation,
    gate: Rows<'_>,
    up: Rows<'_>,
    dout: Rows<'_>,
    dgate: RowsMut<'_>,
    dup: RowsMut<'_>,
) {
    backward(device, activation, gate, up, dout, &dgate, &dup);
}

/// [`gate_backward`] where `gate` becomes `dgate` and `up` becomes `dup`.
///
/// # Panics
/// If the shapes differ.
pub fn gate_backward_in_place(
    device: &Device,
    activation: Activation,
    gate: RowsMut<'_>,
    up: RowsMut<'_>,
    dout: Rows<'_>,
) {
    // SAFETY: the kernel reads numbers right before it writes them, through pointers.
    let (old_gate, old_up) = unsafe { (gate.alias(), up.alias()) };
    backward(device, activation, old_gate, old_up, dout, &gate, &up);
}

fn backward(
    device: &Device,
    activation: Activation,
    gate: Rows<'_>,
    up: Rows<'_>,
    dout: Rows<'_>,
    dgate: &RowsMut<'_>,
    dup: &RowsMut<'_>,
) {
    for shape in [up.shape(), dout.shape(), dgate.shape(), dup.shape()] {
        assert_eq!(gate.shape(), shape, "gate_backward: shapes");
    }
    let (tokens, _, _) = gate.shape();
    let isa = device.isa();
    for_each_rows(device, tokens, gate.width(), &|tokens| match activation {
        Activation::Silu => run(isa, Backward { map: Silu, gate, up, dout, dgate, dup, tokens }),
        Activation::Gelu => run(isa, Backward { map: Gelu, gate, up, dout, dgate, dup, tokens }),
        Activation::GeluTanh => {
            run(isa, Backward { map: GeluTanh, gate, up, dout, dgate, dup, tokens });
        }
        Activation::Relu2 => run(isa, Backward { map: Relu2, gate, up, dout, dgate, dup, tokens }),
    });
}

/// Some rows of [`gate_forward`].
struct Forward<'a, M> {
    map: M,
    gate: Rows<'a>,
    up: Rows<'a>,
    out: &'a RowsMut<'a>,
    tokens: Range<usize>,
}

impl<M: Slope> Kernel for Forward<'_, M> {
    type Output = ();

    fn scalar(self) {
        for token in self.tokens {
            // SAFETY: the token is of this task alone.
            let out = unsafe { self.out.token_mut(token) };
            let gated = self.gate.token(token).iter().zip(self.up.token(token));
            for (out, (gate, up)) in out.iter_mut().zip(gated) {
                *out = self.map.scalar(*gate) * up;
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
                    let active = self.map.vector::<L>(load::<L>(gate.add(i), n));
                    store::<L>(out.add(i), n, L::mul(active, load::<L>(up.add(i), n)));
                });
            }
        }
    }
}

/// Some rows of [`gate_backward`].
struct Backward<'a, M> {
    map: M,
    /// May be `dgate`.
    gate: Rows<'a>,
    /// May be `dup`.
    up: Rows<'a>,
    dout: Rows<'a>,
    dgate: &'a RowsMut<'a>,
    dup: &'a RowsMut<'a>,
    tokens: Range<usize>,
}

impl<M: Slope> Kernel for Backward<'_, M> {
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
                    let (value, slope) = self.map.with_slope(gate);
                    *dgate.add(i) = dout * up * slope;
                    *dup.add(i) = dout * value;
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
                each_vector!(L, width, |i, n| {
                    let x = load::<L>(gate.add(i), n);
                    let (y, d) = (load::<L>(up.add(i), n), load::<L>(dout.add(i), n));
                    let (value, slope) = self.map.vector_with_slope::<L>(x);
                    store::<L>(dgate.add(i), n, L::mul(L::mul(d, y), slope));
                    store::<L>(dup.add(i), n, L::mul(d, value));
                });
            }
        }
    }
}
