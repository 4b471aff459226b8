//! Operands in the order that a kernel reads them, as words of 32 bits: an f32, or two bfloat16
//! values that follow each other along `k`.

use std::ops::Range;

use super::View;
use crate::Isa;
use crate::ops::lanes::{Kernel, Lanes, run};

/// Words along `k` in a block: a panel of 32 columns takes 32 KiB of the first-level cache.
pub(super) const WORDS: usize = 256;

/// Packs rows `rows` of `a` and columns `k ..`, `n_k` of them, to tiles of `tile` rows.
/// Each tile is (tile, [`WORDS`]), or (n_k, tile) if `a` is transposed; missing rows are zero.
pub(super) fn pack_a_f32(
    isa: Isa,
    a: View<'_>,
    tile: usize,
    rows: Range<usize>,
    block: (usize, usize),
    out: &mut [u32],
) {
    run(isa, PackA { a, tile, rows, block, out });
}

/// Packs columns `col .. col + width` of `b` and rows `k ..`, `n_k` of them, to a panel (n_k, width);
/// missing columns are zero.
pub(super) fn pack_b_f32(
    isa: Isa,
    b: View<'_>,
    width: usize,
    col: usize,
    block: (usize, usize),
    out: &mut [u32],
) {
    run(isa, PackB { b, width, col, block, out });
}

struct PackA<'a> {
    a: View<'a>,
    tile: usize,
    rows: Range<usize>,
    /// The first of `k`, and how many.
    block: (usize, usize),
    out: &'a mut [u32],
}

impl Kernel for PackA<'_> {
    type Output = ();

    #[inline(always)]
    fn scalar(self) {
        let PackA { a, tile, rows, block: (k, n_k), out } = self;
        let tiles = out.chunks_exact_mut(tile * WORDS);
        for (out, first) in tiles.zip(rows.clone().step_by(tile)) {
            let count = tile.min(rows.end - first);
            if a.transposed {
                for (i, to) in out.chunks_exact_mut(tile).take(n_k).enumerate() {
                    copy(&a.data[a.at(first, k + i)..][..count], to);
                }
            } else {
                for (r, to) in out.chunks_exact_mut(WORDS).enumerate() {
                    let from = if r < count { &a.data[a.at(first + r, k)..][..n_k] } else { &[] };
                    copy(from, &mut to[..n_k]);
                }
            }
        }
    }

    #[inline(always)]
    unsafe fn vector<L: Lanes>(self) {
        // The same code, compiled for the vectors of `L`.
        self.scalar();
    }
}

struct PackB<'a> {
    b: View<'a>,
    width: usize,
    col: usize,
    /// The first of `k`, and how many.
    block: (usize, usize),
    out: &'a mut [u32],
}

impl Kernel for PackB<'_> {
    type Output = ();

    #[inline(always)]
    fn scalar(self) {
        let PackB { b, width, col, block: (k, n_k), out } = self;
        let count = width.min(b.cols - col);
        let rows = out.chunks_exact_mut(width).take(n_k);
        if b.transposed {
            if count < width {
                rows.for_each(|to| to[count..].fill(0));
            }
            for n in 0..count {
                let from = &b.data[b.at(k, col + n)..][..n_k];
                for (from, to) in from.iter().zip(out.chunks_exact_mut(width)) {
                    to[n] = from.to_bits();
                }
            }
        } else {
            for (i, to) in rows.enumerate() {
                copy(&b.data[b.at(k + i, col)..][..count], to);
            }
        }
    }

    #[inline(always)]
    unsafe fn vector<L: Lanes>(self) {
        self.scalar();
    }
}

/// Bits of numbers, then zeros.
#[inline(always)]
fn copy(from: &[f32], to: &mut [u32]) {
    let (filled, rest) = to.split_at_mut(from.len());
    for (to, from) in filled.iter_mut().zip(from) {
        *to = from.to_bits();
    }
    rest.fill(0);
}
