//! Operands in the order that a kernel reads them, as words of 32 bits: an f32, or two bfloat16
//! values that follow each other along `k`.
//!
//! Whole vectors are read and written where that is faster: rows of a tile and columns of a panel
//! beyond the matrix hold anything, since nothing of them is kept, and packed operands have
//! [`SLACK`] words more than they need.

use std::ops::Range;

use super::View;
use crate::Isa;
use crate::ops::lanes::{Kernel, Lanes, MAX_LANES, run, transpose};

/// Words along `k` in a block, at most: tiles of twelve rows take 18 KiB.
pub(super) const BLOCK: usize = 384;

/// Words from a packed row of `a` to the next: some more, that packing may write to, and an odd number
/// of cache lines, so that rows do not compete for the same places of a cache.
pub(super) const WORDS: usize = BLOCK + MAX_LANES;

/// Words behind a packed operand that packing may write to.
pub(super) const SLACK: usize = MAX_LANES;

/// Packs rows `rows` of `a` and columns `k` to tiles of `tile` rows. Each tile is
/// (tile, [`WORDS`]), or (k, tile) if `a` is transposed.
pub(super) fn pack_a_f32(
    isa: Isa,
    a: View<'_>,
    tile: usize,
    rows: Range<usize>,
    k: Range<usize>,
    out: &mut [u32],
) {
    assert!(out.len() >= rows.len().next_multiple_of(tile) * WORDS + SLACK, "room for rows");
    assert!(k.len() <= BLOCK, "a block at a time");
    run(isa, PackA { a, tile, rows, k, out });
}

/// Packs columns `col .. col + width` and rows `k` of `b` to a panel (k, width).
pub(super) fn pack_b_f32(
    isa: Isa,
    b: View<'_>,
    width: usize,
    col: usize,
    k: Range<usize>,
    out: &mut [u32],
) {
    assert!(out.len() >= k.len() * width, "room for a panel");
    run(isa, PackB { b, width, col, k, out });
}

struct PackA<'a> {
    a: View<'a>,
    tile: usize,
    rows: Range<usize>,
    k: Range<usize>,
    out: &'a mut [u32],
}

impl Kernel for PackA<'_> {
    type Output = ();

    #[inline(always)]
    fn scalar(self) {
        let PackA { a, tile, rows, k, out } = self;
        let (k, n_k) = (k.start, k.len());
        for (out, first) in out.chunks_exact_mut(tile * WORDS).zip(rows.clone().step_by(tile)) {
            for row in first..rows.end.min(first + tile) {
                let r = row - first;
                if a.transposed {
                    for i in 0..n_k {
                        out[i * tile + r] = a.data[a.at(row, k + i)].to_bits();
                    }
                } else {
                    let from = &a.data[a.at(row, k)..][..n_k];
                    for (to, from) in out[r * WORDS..].iter_mut().zip(from) {
                        *to = from.to_bits();
                    }
                }
            }
        }
    }

    #[inline(always)]
    unsafe fn vector<L: Lanes>(self) {
        if !self.a.transposed {
            // Copies, as they are.
            return self.scalar();
        }
        let PackA { a, tile, rows, k, out } = self;
        let out = out.as_mut_ptr().cast::<f32>();
        // All tiles of a value of k at once: they lie side by side in memory, and the next value of
        // k does not.
        for (i, k) in k.enumerate() {
            for (t, first) in rows.clone().step_by(tile).enumerate() {
                for lane in (0..tile).step_by(L::N) {
                    // SAFETY: `pack_a_f32` checked the room. What is written behind a value of k is
                    // written again with the next one, or lies behind the block.
                    unsafe {
                        let from = load_within::<L>(a.data, a.at(first, k) + lane);
                        L::store(out.add(t * tile * WORDS + i * tile + lane), from);
                    }
                }
            }
        }
    }
}

struct PackB<'a> {
    b: View<'a>,
    width: usize,
    col: usize,
    k: Range<usize>,
    out: &'a mut [u32],
}

impl Kernel for PackB<'_> {
    type Output = ();

    #[inline(always)]
    fn scalar(self) {
        let PackB { b, width, col, k, out } = self;
        let (k, n_k) = (k.start, k.len());
        for (i, to) in out.chunks_exact_mut(width).take(n_k).enumerate() {
            for (n, to) in to.iter_mut().enumerate().take(b.cols - col) {
                *to = b.data[b.at(k + i, col + n)].to_bits();
            }
        }
    }

    #[inline(always)]
    unsafe fn vector<L: Lanes>(self) {
        let PackB { b, width, col, k, out } = self;
        let (k, n_k) = (k.start, k.len());
        let out = out.as_mut_ptr().cast::<f32>();
        let n_col = width.min(b.cols - col);
        for lane in (0..n_col).step_by(L::N) {
            if !b.transposed {
                for i in 0..n_k {
                    // SAFETY: the width is a multiple of the lanes, and `pack_b_f32` checked the room.
                    unsafe {
                        let from = load_within::<L>(b.data, b.at(k + i, col) + lane);
                        L::store(out.add(i * width + lane), from);
                    }
                }
                continue;
            }
            for i in (0..n_k).step_by(L::N) {
                // SAFETY: as above; rows beyond n_k are not written.
                unsafe {
                    let mut square = [L::splat(0.0); MAX_LANES];
                    for (n, row) in square[..L::N.min(n_col - lane)].iter_mut().enumerate() {
                        *row = load_within::<L>(b.data, b.at(k + i, col + lane + n));
                    }
                    transpose::<L>(&mut square);
                    for (r, row) in square[..L::N.min(n_k - i)].iter().enumerate() {
                        L::store(out.add((i + r) * width + lane), *row);
                    }
                }
            }
        }
    }
}

/// N numbers from `at` on, zeros beyond the end.
///
/// # Safety
/// The CPU has the instructions of `L`.
#[inline(always)]
unsafe fn load_within<L: Lanes>(data: &[f32], at: usize) -> L::V {
    // SAFETY: both stay within the slice.
    unsafe {
        if at + L::N <= data.len() {
            return L::load(data.as_ptr().add(at));
        }
        let rest = data.get(at..).unwrap_or(&[]);
        L::load_part(rest.as_ptr(), rest.len(), 0.0)
    }
}
