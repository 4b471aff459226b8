//! The loops around the register tile, on all threads of a device.
//!
//! `b` is packed as a whole first, by all. Then threads claim rows of `c`, fewer at a time towards the
//! end, and pack the rows of `a` that they need for themselves.

use std::cell::RefCell;
use std::ops::Range;

use super::ahead::Ahead;
use super::kernel::{self, STRIDE, Strip};
use super::pack::{BLOCK, SLACK, WORDS, pack_a_f32, pack_b_f32};
use super::{Precision, View, ViewMut};
use crate::buffer::Room;
use crate::matrix::Shared;
use crate::{Device, Isa};

/// Rows of `a` that are packed together, four tiles of twelve: 72 KiB of the second-level cache.
const CHUNK_ROWS: usize = 48;

thread_local! {
    /// Packed rows of `a`.
    static ROWS: RefCell<Room<u32>> = const { RefCell::new(Room::EMPTY) };
    /// Packed `b`, on the thread that asks for a product.
    static COLUMNS: RefCell<Room<u32>> = const { RefCell::new(Room::EMPTY) };
}

/// How a product is carried out.
#[derive(Clone, Copy)]
struct Plan {
    isa: Isa,
    bf16: bool,
    /// Rows and columns of the register tile.
    tile: (usize, usize),
    /// Values of `k` in a block, but for the last.
    block: usize,
}

impl Plan {
    fn new(isa: Isa, precision: Precision, n_k: usize) -> Plan {
        let bf16 = precision == Precision::Bf16;
        assert!(!bf16 || isa.has_bf16(), "bfloat16 products need their instructions");
        let most = if bf16 { 2 * BLOCK } else { BLOCK };
        // Blocks of one size: a short last one would pay for sums that are loaded and stored.
        let block = n_k.div_ceil(n_k.div_ceil(most).max(1)).next_multiple_of(2 * STRIDE);
        Plan { isa, bf16, tile: kernel::shape(isa), block: block.max(1) }
    }

    /// Words of a block.
    fn words(self, n_k: usize) -> usize {
        if self.bf16 { n_k.div_ceil(2) } else { n_k }
    }

    /// The block that begins at `k`.
    fn block(self, k: usize, n_k: usize) -> Range<usize> {
        k..n_k.min(k + self.block)
    }

    /// Where a panel of a packed matrix (K, N) lies.
    fn place(self, (n_k, n): (usize, usize), block: usize, panel: usize) -> Range<usize> {
        let (width, n_panel) = (self.tile.1, n.div_ceil(self.tile.1));
        let words = self.words(self.block(block * self.block, n_k).len());
        let start = block * self.words(self.block) * n_panel * width + panel * words * width;
        start..start + words * width
    }

    /// Packs all of `b` in the order in which it is read: blocks of `k`, of each its panels, of each its
    /// words.
    fn pack(self, device: &Device, b: View<'_>, room: &mut Room<u32>) {
        let (n_block, n_panel) = (b.rows.div_ceil(self.block), b.cols.div_ceil(self.tile.1));
        let place = |i: usize| self.place(b.shape(), i / n_panel, i % n_panel);
        let last = n_block * n_panel - 1;
        let to = Shared(room.of(place(last).end).as_mut_ptr());
        device.threads().for_each(last + 1, &|i| {
            let (place, k) = (place(i), self.block(i / n_panel * self.block, b.rows));
            // SAFETY: panels are disjoint and end within the room.
            let out =
                unsafe { std::slice::from_raw_parts_mut(to.get().add(place.start), place.len()) };
            self.pack_b(b, i % n_panel * self.tile.1, k, out);
        });
    }

    fn pack_a(self, a: View<'_>, rows: Range<usize>, k: Range<usize>, out: &mut [u32]) {
        #[cfg(target_arch = "x86_64")]
        if self.bf16 {
            // SAFETY: `new` asked for the instructions.
            unsafe { super::bf16::pack_a(a, rows, k, out) };
            return;
        }
        pack_a_f32(self.isa, a, self.tile.0, rows, k, out);
    }

    fn pack_b(self, b: View<'_>, col: usize, k: Range<usize>, out: &mut [u32]) {
        #[cfg(target_arch = "x86_64")]
        if self.bf16 {
            // SAFETY: `new` asked for the instructions.
            unsafe { super::bf16::pack_b(b, col, k, out) };
            return;
        }
        pack_b_f32(self.isa, b, self.tile.1, col, k, out);
    }

    /// # Safety
    /// As [`kernel::multiply_f32`].
    unsafe fn multiply(self, strip: Strip, ahead: &mut Ahead) {
        // SAFETY: the caller's; `new` asked for the instructions.
        unsafe {
            #[cfg(target_arch = "x86_64")]
            if self.bf16 {
                super::bf16::multiply(strip, ahead);
                return;
            }
            kernel::multiply_f32(self.isa, strip, ahead);
        }
    }
}

/// A product's operands and where it goes.
#[derive(Clone, Copy)]
struct Product<'a> {
    plan: Plan,
    a: View<'a>,
    /// Packed, of this shape.
    b: (&'a [u32], (usize, usize)),
    /// Rows `stride` apart.
    c: Shared<f32>,
    stride: usize,
    accumulate: bool,
}

impl Product<'_> {
    /// Rows `rows` of the product.
    ///
    /// # Safety
    /// Nobody else touches these rows of `c`.
    unsafe fn rows(self, rows: Range<usize>) {
        let Product { plan, a, b: (b, shape), .. } = self;
        let n_panel = shape.1.div_ceil(plan.tile.1);
        let mut room = ROWS.take();
        let packed = room.of(CHUNK_ROWS.next_multiple_of(plan.tile.0) * WORDS + SLACK);
        let chunk = |first: usize| first..rows.end.min(first + CHUNK_ROWS);
        for first in rows.clone().step_by(CHUNK_ROWS) {
            for k in (0..a.cols).step_by(plan.block) {
                let (rows, of_k) = (chunk(first), plan.block(k, a.cols));
                plan.pack_a(a, rows.clone(), of_k.clone(), packed);
                let (next_rows, next_k) = if of_k.end < a.cols {
                    (rows.clone(), plan.block(of_k.end, a.cols))
                } else {
                    (chunk(rows.end), plan.block(0, a.cols))
                };
                let words = plan.words(of_k.len());
                let steps = n_panel * rows.len().div_ceil(plan.tile.0) * words.div_ceil(STRIDE);
                let mut ahead = Ahead::new(a, next_rows, next_k, steps);
                for panel in 0..n_panel {
                    let col = panel * plan.tile.1;
                    let strip = Strip {
                        a: packed.as_ptr(),
                        transposed: a.transposed,
                        b: b[plan.place(shape, k / plan.block, panel)].as_ptr(),
                        words,
                        c: self.c.get().wrapping_add(rows.start * self.stride + col),
                        stride: self.stride,
                        rows: rows.len(),
                        cols: plan.tile.1.min(shape.1 - col),
                        add: self.accumulate || k > 0,
                    };
                    // SAFETY: the rows and the panel are packed, and the caller's rows of `c`.
                    unsafe { plan.multiply(strip, &mut ahead) };
                }
            }
        }
        ROWS.replace(room);
    }
}

/// `c = a b`, or `c += a b` if `accumulate`, on all threads: a (M, K), b (K, N), c (M, N).
///
/// # Panics
/// If the shapes do not fit, or bfloat16 is asked for where there are no instructions for it.
pub fn gemm(
    device: &Device,
    precision: Precision,
    a: View<'_>,
    b: View<'_>,
    mut c: ViewMut<'_>,
    accumulate: bool,
) {
    assert_eq!(a.cols, b.rows, "the columns of a are the rows of b");
    assert_eq!((a.rows, b.cols), (c.rows, c.cols), "c is (rows of a, columns of b)");
    if a.cols == 0 && !accumulate {
        c.clear();
    }
    if a.rows == 0 || b.cols == 0 || a.cols == 0 {
        return;
    }
    let plan = Plan::new(device.isa(), precision, a.cols);
    let mut room = COLUMNS.take();
    plan.pack(device, b, &mut room);
    let product = Product {
        plan,
        a,
        b: (room.get(), b.shape()),
        c: Shared(c.data.as_mut_ptr()),
        stride: c.stride,
        accumulate,
    };
    device.threads().for_ranges(a.rows, plan.tile.0, &|rows| {
        // SAFETY: `c` is borrowed for the whole call, and ranges are disjoint.
        unsafe { product.rows(rows) };
    });
    COLUMNS.replace(room);
}

/// Bytes that the packed second operand (K, N) of a product takes, at most; they stay with the thread
/// that asked for the product.
pub fn packed_bytes(k: usize, n: usize) -> usize {
    /// The widest panel of any instruction set.
    const PANEL: usize = 32;
    4 * k * n.next_multiple_of(PANEL)
}
