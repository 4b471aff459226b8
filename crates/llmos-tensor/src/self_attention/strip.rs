//! The products inside of attention: a few rows of one operand times all columns of the other, both
//! read where they lie.

use crate::ops::lanes::{Lanes, Tile};

/// Rows of any register tile divide this, as blocks of rows do.
pub(super) const ROWS: usize = 12;

/// `c = a b` or `c += a b` for some rows of `c`, whose columns are whole vectors.
#[derive(Clone, Copy)]
pub(super) struct Strip {
    /// (rows, n_k), rows `a_stride` apart, or (n_k, rows) for [`Transposed`].
    pub(super) a: *const f32,
    pub(super) a_stride: usize,
    /// (n_k, columns): values of `k` are `b_stride` apart and vectors `b_vector` apart; two vectors
    /// always lie side by side.
    pub(super) b: *const f32,
    pub(super) b_stride: usize,
    pub(super) b_vector: usize,
    pub(super) n_k: usize,
    /// (rows, columns), rows `c_stride` apart.
    pub(super) c: *mut f32,
    pub(super) c_stride: usize,
    /// Rows that are wanted, at most [`ROWS`]; all rows of the last register tile are written.
    pub(super) rows: usize,
    /// Columns, in vectors.
    pub(super) vectors: usize,
    /// Added to what is there.
    pub(super) add: bool,
}

/// `a` by rows.
pub(super) struct ByRows(pub(super) Strip);

/// `a` by columns: the transpose of what lies there.
pub(super) struct Transposed(pub(super) Strip);

impl Tile for ByRows {
    type Output = ();

    #[inline(always)]
    unsafe fn vector<L: Lanes>(self) {
        // SAFETY: the caller's.
        unsafe { strip::<L, false>(self.0) }
    }
}

impl Tile for Transposed {
    type Output = ();

    #[inline(always)]
    unsafe fn vector<L: Lanes>(self) {
        // SAFETY: the caller's.
        unsafe { strip::<L, true>(self.0) }
    }
}

/// # Safety
/// The strip's pointers hold the shapes that its fields say; the CPU has the instructions of `L`.
#[inline(always)]
unsafe fn strip<L: Lanes, const T: bool>(of: Strip) {
    let mut vector = 0;
    while vector < of.vectors {
        let at = Strip {
            b: of.b.wrapping_add(vector * of.b_vector),
            c: of.c.wrapping_add(vector * L::N),
            ..of
        };
        // SAFETY: the caller's.
        unsafe {
            vector += match of.vectors - vector {
                3 => columns::<L, T, 3>(at),
                1 => columns::<L, T, 1>(at),
                _ => columns::<L, T, 2>(at),
            };
        }
    }
}

/// # Safety
/// As [`strip`].
#[inline(always)]
unsafe fn columns<L: Lanes, const T: bool, const V: usize>(of: Strip) -> usize {
    let mut row = 0;
    while row < of.rows {
        let at = Strip {
            a: of.a.wrapping_add(row * if T { 1 } else { of.a_stride }),
            c: of.c.wrapping_add(row * of.c_stride),
            ..of
        };
        // As many sums as there are registers for, beside V vectors of b and one of a.
        // SAFETY: the caller's.
        unsafe {
            row += match (L::ROWS, V, of.rows - row) {
                (8, 3, 5..) => tile::<L, T, V, 8>(at),
                (8, 1 | 2, 5..) => tile::<L, T, V, 12>(at),
                (4, 1 | 2, 5..) => tile::<L, T, V, 6>(at),
                (4, 1 | 2, ..3) => tile::<L, T, V, 2>(at),
                _ => tile::<L, T, V, 4>(at),
            };
        }
    }
    V
}

/// R rows by V vectors.
///
/// # Safety
/// As [`strip`].
#[inline(always)]
unsafe fn tile<L: Lanes, const T: bool, const V: usize, const R: usize>(of: Strip) -> usize {
    // SAFETY: the caller's.
    unsafe {
        let mut sums = [[L::splat(0.0); V]; R];
        // Every third row has a pointer, the others are reached from it: more pointers than that do
        // not fit in the registers.
        let third = if T { 3 } else { 3 * of.a_stride };
        let step = if T { of.a_stride } else { 1 };
        let mut a = [0, 1, 2, 3].map(|i| of.a.wrapping_add(i * third));
        let mut b = of.b;
        for _ in 0..of.n_k {
            let mut of_b = [L::splat(0.0); V];
            for (v, of_b) in of_b.iter_mut().enumerate() {
                *of_b = L::load(b.add(v * L::N));
            }
            for (r, sums) in sums.iter_mut().enumerate() {
                let apart = r % 3 * if T { 1 } else { of.a_stride };
                let of_a = L::splat(*a[r / 3].add(apart));
                for (sum, of_b) in sums.iter_mut().zip(of_b) {
                    *sum = L::fma(of_a, of_b, *sum);
                }
            }
            for a in &mut a {
                *a = a.wrapping_add(step);
            }
            b = b.wrapping_add(of.b_stride);
        }
        for (r, sums) in sums.iter().enumerate() {
            for (v, sum) in sums.iter().enumerate() {
                let out = of.c.add(r * of.c_stride + v * L::N);
                L::store(out, if of.add { L::add(L::load(out), *sum) } else { *sum });
            }
        }
    }
    R
}
