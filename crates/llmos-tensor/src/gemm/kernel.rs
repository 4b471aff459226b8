//! The register tile, some rows of `a` times two vectors' width of `b`, and the strip of tiles down a
//! panel.

use super::ahead::Ahead;
use super::pack::WORDS;
use crate::Isa;
use crate::cpu::Kind;
use crate::ops::lanes::{Kernel, Lanes, run};

/// Words along `k` between two looks at what is wanted next.
pub(super) const STRIDE: usize = 8;

/// Packed rows of `a`, a panel of `b`, and where their product goes.
#[derive(Clone, Copy)]
pub(super) struct Strip {
    /// Tiles of (R, [`WORDS`]), or of (words, R) if `transposed`, R being the rows of [`shape`]; a tile
    /// begins R * [`WORDS`] after the one before.
    pub(super) a: *const u32,
    pub(super) transposed: bool,
    /// (words, width of [`shape`])
    pub(super) b: *const u32,
    pub(super) words: usize,
    /// (rows, cols), rows `stride` apart
    pub(super) c: *mut f32,
    pub(super) stride: usize,
    pub(super) rows: usize,
    /// At most the width of [`shape`].
    pub(super) cols: usize,
    /// Added to what is there.
    pub(super) add: bool,
}

impl Strip {
    /// The tile of R rows that begins at row `row`, which is a multiple of R.
    #[inline(always)]
    pub(super) fn tile(self, row: usize) -> Strip {
        Strip {
            a: self.a.wrapping_add(row * WORDS),
            c: self.c.wrapping_add(row * self.stride),
            rows: self.rows - row,
            ..self
        }
    }
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

/// Multiplies in single precision: each product's sum over `words` by itself, then added to what is
/// there.
///
/// # Safety
/// The strip's pointers hold the shapes that its fields say, and whole tiles in `a`.
pub(super) unsafe fn multiply_f32(isa: Isa, strip: Strip, ahead: &mut Ahead) {
    run(isa, SinglePrecision(strip, ahead));
}

struct SinglePrecision<'a>(Strip, &'a mut Ahead);

impl Kernel for SinglePrecision<'_> {
    type Output = ();

    fn scalar(self) {
        const ROWS: usize = 4;
        const WIDTH: usize = 8;
        let Strip { a, transposed, b, words, c, stride, rows, cols, add } = self.0;
        for row in 0..rows {
            let a = a.wrapping_add(row / ROWS * ROWS * WORDS);
            let row_of_tile = row % ROWS;
            for col in 0..cols {
                // SAFETY: the caller of `multiply_f32` vouches for the shapes.
                unsafe {
                    let mut sum = 0.0;
                    for k in 0..words {
                        let at = if transposed {
                            k * ROWS + row_of_tile
                        } else {
                            row_of_tile * WORDS + k
                        };
                        sum += f32::from_bits(*a.add(at)) * f32::from_bits(*b.add(k * WIDTH + col));
                    }
                    let out = c.add(row * stride + col);
                    *out = if add { *out + sum } else { sum };
                }
            }
        }
    }

    #[inline(always)]
    unsafe fn vector<L: Lanes>(self) {
        let SinglePrecision(strip, ahead) = self;
        // SAFETY: the caller's.
        unsafe {
            if strip.transposed {
                tiles::<L, true>(strip, ahead);
            } else {
                tiles::<L, false>(strip, ahead);
            }
        }
    }
}

/// # Safety
/// As [`multiply_f32`]; the CPU has the instructions of `L`.
#[inline(always)]
unsafe fn tiles<L: Lanes, const T: bool>(strip: Strip, ahead: &mut Ahead) {
    // SAFETY: the caller's.
    unsafe {
        match L::N {
            16 => tiles_of::<L, T, 12, 8, 4>(strip, ahead),
            8 => tiles_of::<L, T, 6, 4, 2>(strip, ahead),
            _ => tiles_of::<L, T, 8, 8, 4>(strip, ahead),
        }
    }
}

/// Tiles of R rows; of the last only as many rows as are needed are computed: R, S or P.
///
/// # Safety
/// As [`tiles`].
#[inline(always)]
unsafe fn tiles_of<L: Lanes, const T: bool, const R: usize, const S: usize, const P: usize>(
    strip: Strip,
    ahead: &mut Ahead,
) {
    for row in (0..strip.rows).step_by(R) {
        let tile = strip.tile(row);
        // SAFETY: the caller's.
        unsafe {
            if tile.rows > S {
                one::<L, T, R, R>(tile, ahead);
            } else if tile.rows > P {
                one::<L, T, R, S>(tile, ahead);
            } else {
                one::<L, T, R, P>(tile, ahead);
            }
        }
    }
}

/// # Safety
/// As [`tiles`].
#[inline(always)]
unsafe fn one<L: Lanes, const T: bool, const ROWS: usize, const R: usize>(
    of: Strip,
    ahead: &mut Ahead,
) {
    // SAFETY: the caller's.
    unsafe {
        if of.cols > L::N {
            tile::<L, T, ROWS, R, 2>(of, ahead);
        } else {
            tile::<L, T, ROWS, R, 1>(of, ahead);
        }
    }
}

/// R rows of a tile of ROWS by V vectors.
///
/// # Safety
/// As [`tiles`].
#[inline(always)]
unsafe fn tile<L: Lanes, const T: bool, const ROWS: usize, const R: usize, const V: usize>(
    of: Strip,
    ahead: &mut Ahead,
) {
    let Strip { a, b, words, c, stride, rows, cols, add, .. } = of;
    let (row, step) = if T { (1, ROWS) } else { (WORDS, 1) };
    // SAFETY: the caller's.
    unsafe {
        let mut sums = [[L::splat(0.0); V]; R];
        for (i, first) in (0..words).step_by(STRIDE).enumerate() {
            if i < R {
                // What is written or added to last is asked for first.
                L::prefetch(c.wrapping_add(i * stride).cast());
                L::prefetch(c.wrapping_add(i * stride + V * L::N - 1).cast());
            }
            for _ in 0..ahead.at_once {
                let Some(line) = ahead.next() else { break };
                L::prefetch_far(line.cast());
            }
            for k in first..words.min(first + STRIDE) {
                let b = b.add(k * 2 * L::N).cast::<f32>();
                let mut of_b = [L::splat(0.0); V];
                for (v, of_b) in of_b.iter_mut().enumerate() {
                    *of_b = L::load(b.add(v * L::N));
                }
                for (r, sums) in sums.iter_mut().enumerate() {
                    let of_a = L::splat(*a.add(k * step + r * row).cast::<f32>());
                    for (sum, of_b) in sums.iter_mut().zip(of_b) {
                        *sum = L::fma(of_a, of_b, *sum);
                    }
                }
            }
        }
        for (r, sums) in sums.iter().enumerate().take(rows) {
            for (v, sum) in sums.iter().enumerate() {
                let (out, n) = (c.add(r * stride + v * L::N), cols - v * L::N);
                if n >= L::N {
                    L::store(out, if add { L::add(L::load(out), *sum) } else { *sum });
                } else {
                    let before = if add { L::load_part(out, n, 0.0) } else { L::splat(0.0) };
                    L::store_part(out, n, if add { L::add(before, *sum) } else { *sum });
                }
            }
        }
    }
}
