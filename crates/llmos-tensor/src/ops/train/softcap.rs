//! Soft caps of logits (arXiv:2408.00118), and their gradients.

use super::tasks::{Disjoint, for_each_piece};
use super::vectors::{each_vector, load, store};
use crate::Device;
use crate::ops;
use crate::ops::lanes::{Kernel, Lanes, run};

/// `x = cap * tanh(x / cap)`. The same numbers as [`crate::ops::softcap_forward`]'s, error as there.
pub fn softcap_forward(device: &Device, x: &mut [f32], cap: f32) {
    let n = x.len();
    let x = Disjoint::new(x);
    for_each_piece(device, n, &|piece| {
        // SAFETY: a piece is of one task alone.
        ops::softcap_forward(device.isa(), unsafe { x.range(piece) }, cap);
    });
}

/// The gradient of [`softcap_forward`] from what came out of it, `capped`: `d *= 1 - (capped /
/// cap)^2`. Error: 2e-7 of |d|.
///
/// # Panics
/// If the lengths differ.
pub fn softcap_backward(device: &Device, capped: &[f32], d: &mut [f32], cap: f32) {
    assert_eq!(capped.len(), d.len(), "softcap_backward: lengths");
    let d = Disjoint::new(d);
    for_each_piece(device, capped.len(), &|piece| {
        // SAFETY: a piece is of one task alone.
        let d = unsafe { d.range(piece.clone()) };
        run(device.isa(), Backward { capped: &capped[piece], d, cap });
    });
}

struct Backward<'a> {
    capped: &'a [f32],
    d: &'a mut [f32],
    cap: f32,
}

impl Kernel for Backward<'_> {
    type Output = ();

    fn scalar(self) {
        for (d, capped) in self.d.iter_mut().zip(self.capped) {
            let share = capped / self.cap;
            *d *= 1.0 - share * share;
        }
    }

    #[inline(always)]
    unsafe fn vector<L: Lanes>(self) {
        let (capped, d) = (self.capped.as_ptr(), self.d.as_mut_ptr());
        // SAFETY: both are equally long; the caller has the instructions.
        unsafe {
            let (cap, one) = (L::splat(self.cap), L::splat(1.0));
            each_vector!(L, self.d.len(), |i, n| {
                let share = L::div(load::<L>(capped.add(i), n), cap);
                let slope = L::sub(one, L::mul(share, share));
                store::<L>(d.add(i), n, L::mul(load::<L>(d.add(i), n), slope));
            });
        }
    }
}
