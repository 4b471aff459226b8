//! The register tile: some rows of `a` times two vectors' width of `b`.

use super::pack::WORDS;
use crate::Isa;
use crate::cpu::Kind;
use crate::ops::lanes::{Kernel, Lanes, run};

/// A tile's operands and where it goes.
#[derive(Clone, Copy)]
pub(super) struct Tile {
    /// (rows, [`WORDS`]), or (words, rows) if `transposed`
    pub(super) a: *const u32,
    pub(super) transposed: bool,
    /// (words, width)
    pub(super) b: *const u32,
    pub(super) words: usize,
    /// (rows, width), rows `stride` apart
    pub(super) c: *mut f32,
    pub(super) stride: usize,
    /// Added to what is there.
    pub(super) add: bool,
}

/// Rows and columns of an instruction set's tile.
pub(super) fn shape(isa: Isa) -> (usize, usize) {
    match isa.0 {
        Kind::Scalar => (4, 8),
        Kind::Avx2 => (6, 16),
        Kind::Avx512 => (12, 32),
        Kind::Neon => (8, 8),
    }
}

/// Multiplies in single precision.
///
/// # Safety
/// The tile's pointers hold the shapes that its fields say, with [`shape`]'s rows and columns.
pub(super) unsafe fn multiply_f32(isa: Isa, tile: Tile) {
    run(isa, SinglePrecision(tile));
}

struct SinglePrecision(Tile);

impl Kernel for SinglePrecision {
    type Output = ();

    fn scalar(self) {
        const ROWS: usize = 4;
        const COLS: usize = 8;
        let Tile { a, transposed, b, words, c, stride, add } = self.0;
        for row in 0..ROWS {
            for col in 0..COLS {
                // SAFETY: the caller of `multiply_f32` vouches for the shapes.
                unsafe {
                    let out = c.add(row * stride + col);
                    let mut sum = if add { *out } else { 0.0 };
                    for k in 0..words {
                        let at = if transposed { k * ROWS + row } else { row * WORDS + k };
                        sum += f32::from_bits(*a.add(at)) * f32::from_bits(*b.add(k * COLS + col));
                    }
                    *out = sum;
                }
            }
        }
    }

    #[inline(always)]
    unsafe fn vector<L: Lanes>(self) {
        // SAFETY: as above; the caller has the instructions.
        unsafe {
            match (L::N, self.0.transposed) {
                (16, false) => tile::<L, 12, false>(self.0),
                (16, true) => tile::<L, 12, true>(self.0),
                (8, false) => tile::<L, 6, false>(self.0),
                (8, true) => tile::<L, 6, true>(self.0),
                (_, false) => tile::<L, 8, false>(self.0),
                (_, true) => tile::<L, 8, true>(self.0),
            }
        }
    }
}

/// # Safety
/// As [`multiply_f32`], R being the instruction set's rows.
#[inline(always)]
unsafe fn tile<L: Lanes, const R: usize, const TRANSPOSED: bool>(tile: Tile) {
    let Tile { a, b, words, c, stride, add, .. } = tile;
    // SAFETY: the caller's.
    unsafe {
        let mut sums = [[L::splat(0.0); 2]; R];
        if add {
            for (r, sums) in sums.iter_mut().enumerate() {
                for (half, sum) in sums.iter_mut().enumerate() {
                    *sum = L::load(c.add(r * stride + half * L::N));
                }
            }
        }
        for k in 0..words {
            let b = b.add(k * 2 * L::N).cast::<f32>();
            let b = [L::load(b), L::load(b.add(L::N))];
            for r in 0..R {
                let at = if TRANSPOSED { k * R + r } else { r * WORDS + k };
                let a = L::splat(*a.add(at).cast::<f32>());
                sums[r][0] = L::fma(a, b[0], sums[r][0]);
                sums[r][1] = L::fma(a, b[1], sums[r][1]);
            }
        }
        for (r, sums) in sums.iter().enumerate() {
            for (half, sum) in sums.iter().enumerate() {
                L::store(c.add(r * stride + half * L::N), *sum);
            }
        }
    }
}
