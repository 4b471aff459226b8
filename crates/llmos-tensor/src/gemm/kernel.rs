//! The register tile: some rows of `a` times two vectors' width of `b`.

use super::ahead::Ahead;
use super::pack::WORDS;
use crate::Isa;
use crate::cpu::Kind;
use crate::ops::lanes::{Kernel, Lanes, run};

/// Words along `k` between two looks at what is wanted next.
pub(super) const STRIDE: usize = 8;

/// A tile's operands and where it goes.
#[derive(Clone, Copy)]
pub(super) struct Tile {
    /// (rows, [`WORDS`]), or (words, rows) if `transposed`; rows of [`shape`], not of this tile.
    pub(super) a: *const u32,
    pub(super) transposed: bool,
    /// (words, width)
    pub(super) b: *const u32,
    pub(super) words: usize,
    /// (rows, width), rows `stride` apart
    pub(super) c: *mut f32,
    pub(super) stride: usize,
    /// Rows that are wanted; more may be computed, up to those of [`computed_rows`].
    pub(super) rows: usize,
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

/// Rows that a tile of `rows` rows computes: there are kernels for whole tiles and for parts of them.
pub(super) fn computed_rows(isa: Isa, rows: usize) -> usize {
    match isa.0 {
        Kind::Scalar => 4,
        Kind::Avx2 => rows.next_multiple_of(2),
        Kind::Avx512 | Kind::Neon => rows.next_multiple_of(4),
    }
}

/// Multiplies in single precision: each product's sum over `words` by itself, then added to what is
/// there.
///
/// # Safety
/// The tile's pointers hold the shapes that its fields say, with [`shape`]'s columns, and in `c` the
/// rows of [`computed_rows`].
pub(super) unsafe fn multiply_f32(isa: Isa, tile: Tile, ahead: &mut Ahead) {
    run(isa, SinglePrecision(tile, ahead));
}

struct SinglePrecision<'a>(Tile, &'a mut Ahead);

impl Kernel for SinglePrecision<'_> {
    type Output = ();

    fn scalar(self) {
        const ROWS: usize = 4;
        const COLS: usize = 8;
        let Tile { a, transposed, b, words, c, stride, add, .. } = self.0;
        for row in 0..ROWS {
            for col in 0..COLS {
                // SAFETY: the caller of `multiply_f32` vouches for the shapes.
                unsafe {
                    let mut sum = 0.0;
                    for k in 0..words {
                        let at = if transposed { k * ROWS + row } else { row * WORDS + k };
                        sum += f32::from_bits(*a.add(at)) * f32::from_bits(*b.add(k * COLS + col));
                    }
                    let out = c.add(row * stride + col);
                    *out = if add { *out + sum } else { sum };
                }
            }
        }
    }

    #[inline(always)]
    unsafe fn vector<L: Lanes>(self) {
        // SAFETY: as above; the caller has the instructions.
        unsafe {
            match (L::N, self.0.rows) {
                (16, 9..) => either::<L, 12, 12>(self.0, self.1),
                (16, 5..) => either::<L, 12, 8>(self.0, self.1),
                (16, _) => either::<L, 12, 4>(self.0, self.1),
                (8, 5..) => either::<L, 6, 6>(self.0, self.1),
                (8, 3..) => either::<L, 6, 4>(self.0, self.1),
                (8, _) => either::<L, 6, 2>(self.0, self.1),
                (_, 5..) => either::<L, 8, 8>(self.0, self.1),
                (_, _) => either::<L, 8, 4>(self.0, self.1),
            }
        }
    }
}

/// # Safety
/// As [`tile`].
#[inline(always)]
unsafe fn either<L: Lanes, const ROWS: usize, const R: usize>(of: Tile, ahead: &mut Ahead) {
    // SAFETY: the caller's.
    unsafe {
        if of.transposed {
            tile::<L, R, 1, ROWS>(of, ahead);
        } else {
            tile::<L, R, WORDS, 1>(of, ahead);
        }
    }
}

/// A tile of R rows of `a`, which are ROW words apart while values of `k` are STEP words apart.
///
/// # Safety
/// As [`multiply_f32`]; the CPU has the instructions of `L`.
#[inline(always)]
unsafe fn tile<L: Lanes, const R: usize, const ROW: usize, const STEP: usize>(
    of: Tile,
    ahead: &mut Ahead,
) {
    let Tile { a, b, words, c, stride, add, .. } = of;
    // SAFETY: the caller's.
    unsafe {
        let mut sums = [[L::splat(0.0); 2]; R];
        for (step, first) in (0..words).step_by(STRIDE).enumerate() {
            if step < R {
                // What is written or added to last is asked for first.
                L::prefetch(c.add(step * stride).cast());
                L::prefetch(c.add(step * stride + 2 * L::N - 1).cast());
            }
            for _ in 0..ahead.at_once {
                let Some(line) = ahead.next() else { break };
                L::prefetch_far(line.cast());
            }
            for k in first..words.min(first + STRIDE) {
                let b = b.add(k * 2 * L::N).cast::<f32>();
                let b = [L::load(b), L::load(b.add(L::N))];
                for r in 0..R {
                    let a = L::splat(*a.add(k * STEP + r * ROW).cast::<f32>());
                    sums[r][0] = L::fma(a, b[0], sums[r][0]);
                    sums[r][1] = L::fma(a, b[1], sums[r][1]);
                }
            }
        }
        for (r, sums) in sums.iter().enumerate() {
            for (half, sum) in sums.iter().enumerate() {
                let out = c.add(r * stride + half * L::N);
                L::store(out, if add { L::add(L::load(out), *sum) } else { *sum });
            }
        }
    }
}
