//! Root-mean-square norm (arXiv:1910.07467) of rows or of heads, and its gradients.

use std::ops::Range;

use super::rows::{Rows, RowsMut};
use super::tasks::{Disjoint, for_each_range, for_each_rows};
use super::vectors::{each_vector, load, store};
use crate::Device;
use crate::ops::lanes::{Kernel, Lanes, run};
use crate::ops::norm::{Factor, Scaled};

/// Tokens whose share of a weight's gradient is summed before it meets that of the others.
const CHUNK: usize = 64;

/// Columns of a task that brings these sums together.
const COLUMNS: usize = 256;

/// Where the gradient of a norm's weight goes.
pub struct WeightGradient<'a> {
    /// (D), added to.
    pub dweight: &'a mut [f32],
    /// At least [`rmsnorm_partial_len`] numbers to work with.
    pub partial: &'a mut [f32],
}

/// Numbers that [`WeightGradient::partial`] needs for T tokens and rows of D numbers.
pub const fn rmsnorm_partial_len(tokens: usize, size: usize) -> usize {
    tokens.div_ceil(CHUNK) * size
}

/// `out = x * inverse * weight` with `inverse = 1 / sqrt(mean(x^2) + eps)` for each row of `x`
/// (T, H, D); `weight` (D) where there is one, `inverse` (T, H) is kept for the way back. The same
/// numbers as [`crate::ops::rmsnorm_forward`]'s. Error: 4e-7 relative.
///
/// # Panics
/// If a shape does not fit.
pub fn rmsnorm_forward(
    device: &Device,
    x: Rows<'_>,
    weight: Option<&[f32]>,
    eps: f32,
    out: RowsMut<'_>,
    inverse: &mut [f32],
) {
    let (tokens, heads, size) = x.shape();
    assert_eq!(x.shape(), out.shape(), "rmsnorm_forward: shapes of x and out");
    assert!(weight.is_none_or(|weight| weight.len() == size), "rmsnorm_forward: weight is (D)");
    assert_eq!(inverse.len(), tokens * heads, "rmsnorm_forward: inverse is (T, H)");
    let inverse = Disjoint::new(inverse);
    for_each_rows(device, tokens, x.width(), &|tokens| {
        // SAFETY: a token is of one task alone.
        let inverse = unsafe { inverse.range(tokens.start * heads..tokens.end * heads) };
        run(device.isa(), Forward { x, weight, eps, out: &out, inverse, tokens });
    });
}

/// The gradients of [`rmsnorm_forward`]. With g = dout * weight and x' = x * inverse,
/// `dx = inverse * (g - x' * mean(g * x'))` for each row, written to `dx` or added to it if
/// `accumulate`; `dweight` gains the sum of `dout * x'` over rows. `x`, `dout` and `dx` are
/// (T, H, D), `inverse` (T, H) is the forward pass's. Error: of dx 1e-6 of `inverse` times the row's
/// largest |g|, of dweight 1e-6 of the sum of |dout * x'|, beside the rounding of what they add to.
///
/// # Panics
/// If a shape does not fit.
pub fn rmsnorm_backward(
    device: &Device,
    x: Rows<'_>,
    weight: Option<&[f32]>,
    inverse: &[f32],
    dout: Rows<'_>,
    dx: RowsMut<'_>,
    accumulate: bool,
    gradient: Option<WeightGradient<'_>>,
) {
    assert_eq!(x.shape(), dout.shape(), "rmsnorm_backward: shapes of x and dout");
    assert_eq!(x.shape(), dx.shape(), "rmsnorm_backward: shapes of x and dx");
    backward(device, x, weight, inverse, dout, &dx, accumulate, gradient);
}

/// [`rmsnorm_backward`] with `d` (T, H, D) being `dout` before and `dx` after.
///
/// # Panics
/// If a shape does not fit.
pub fn rmsnorm_backward_in_place(
    device: &Device,
    x: Rows<'_>,
    weight: Option<&[f32]>,
    inverse: &[f32],
    d: RowsMut<'_>,
    gradient: Option<WeightGradient<'_>>,
) {
    assert_eq!(x.shape(), d.shape(), "rmsnorm_backward: shapes of x and d");
    // SAFETY: the kernel reads a number of `d` last where it writes it, through pointers.
    let dout = unsafe { d.alias() };
    backward(device, x, weight, inverse, dout, &d, false, gradient);
}

fn backward(
    device: &Device,
    x: Rows<'_>,
    weight: Option<&[f32]>,
    inverse: &[f32],
    dout: Rows<'_>,
    dx: &RowsMut<'_>,
    accumulate: bool,
    gradient: Option<WeightGradient<'_>>,
) {
    let (n_token, heads, size) = x.shape();
    assert!(weight.is_none_or(|weight| weight.len() == size), "rmsnorm_backward: weight is (D)");
    assert_eq!(inverse.len(), n_token * heads, "rmsnorm_backward: inverse is (T, H)");
    let kernel = |tokens, partial| {
        run(device.isa(), Backward { x, weight, inverse, dout, dx, accumulate, partial, tokens });
    };
    let Some(WeightGradient { dweight, partial }) = gradient else {
        for_each_rows(device, n_token, x.width(), &|tokens| kernel(tokens, None));
        return;
    };
    assert_eq!(dweight.len(), size, "rmsnorm_backward: dweight is (D)");
    let needed = rmsnorm_partial_len(n_token, size);
    assert!(partial.len() >= needed, "rmsnorm_backward: partial has {needed} numbers");
    let partial = &mut partial[..needed];
    let parts = Disjoint::new(partial);
    for_each_range(device, n_token, CHUNK, &|tokens| {
        let chunk = tokens.start / CHUNK;
        // SAFETY: a chunk is of one task alone.
        let part = unsafe { parts.range(chunk * size..(chunk + 1) * size) };
        part.fill(0.0);
        kernel(tokens, Some(part));
    });
    let sums = Disjoint::new(dweight);
    let partial = &*partial;
    for_each_range(device, size, COLUMNS, &|columns| {
        let first = columns.start;
        // SAFETY: a column is of one task alone.
        let sums = unsafe { sums.range(columns) };
        run(device.isa(), ColumnSums { parts: partial, width: size, first, sums });
    });
}

/// Some tokens of [`rmsnorm_forward`].
struct Forward<'a> {
    x: Rows<'a>,
    weight: Option<&'a [f32]>,
    eps: f32,
    out: &'a RowsMut<'a>,
    /// Of these tokens.
    inverse: &'a mut [f32],
    tokens: Range<usize>,
}

impl Kernel for Forward<'_> {
    type Output = ();

    fn scalar(self) {
        let (_, heads, size) = self.x.shape();
        for (token, inverse) in self.tokens.zip(self.inverse.chunks_exact_mut(heads)) {
            // SAFETY: the token is of this task alone.
            let out = unsafe { self.out.token_mut(token) };
            let rows = self.x.token(token).chunks_exact(size).zip(out.chunks_exact_mut(size));
            for ((x, out), inverse) in rows.zip(inverse) {
                let factor = Factor { x, eps: self.eps }.scalar();
                *inverse = factor;
                match self.weight {
                    Some(weight) => Scaled { x, weight, factor, out }.scalar(),
                    None => out.iter_mut().zip(x).for_each(|(out, x)| *out = x * factor),
                }
            }
        }
    }

    #[inline(always)]
    unsafe fn vector<L: Lanes>(self) {
        let (_, heads, size) = self.x.shape();
        for (token, inverse) in self.tokens.zip(self.inverse.chunks_exact_mut(heads)) {
            // SAFETY: the token is of this task alone.
            let out = unsafe { self.out.token_mut(token) };
            let rows = self.x.token(token).chunks_exact(size).zip(out.chunks_exact_mut(size));
            for ((x, out), inverse) in rows.zip(inverse) {
                // SAFETY: x, out and weight have D numbers; the caller has the instructions.
                unsafe {
                    let factor = Factor { x, eps: self.eps }.vector::<L>();
                    *inverse = factor;
                    match self.weight {
                        Some(weight) => Scaled { x, weight, factor, out }.vector::<L>(),
                        None => {
                            let (x, out) = (x.as_ptr(), out.as_mut_ptr());
                            each_vector!(L, size, |i, n| {
                                let y = L::mul(load::<L>(x.add(i), n), L::splat(factor));
                                store::<L>(out.add(i), n, y);
                            });
                        }
                    }
                }
            }
        }
    }
}

/// Some tokens of [`rmsnorm_backward`].
struct Backward<'a> {
    x: Rows<'a>,
    weight: Option<&'a [f32]>,
    /// Of all tokens, (T, H).
    inverse: &'a [f32],
    /// May be `dx`: a number of it is last read right before that of `dx` is written.
    dout: Rows<'a>,
    dx: &'a RowsMut<'a>,
    accumulate: bool,
    /// (D), gains the weight's gradient of these tokens.
    partial: Option<&'a mut [f32]>,
    tokens: Range<usize>,
}

/// Pointers to D numbers each.
#[derive(Clone, Copy)]
struct Row {
    x: *const f32,
    inverse: f32,
    dout: *const f32,
    dx: *mut f32,
}

impl Backward<'_> {
    /// Row `row` of H times as many as there are tokens.
    #[inline(always)]
    fn row(&self, row: usize) -> Row {
        let (_, heads, size) = self.x.shape();
        let (token, from) = (row / heads, row % heads * size);
        Row {
            x: self.x.at(token).wrapping_add(from),
            inverse: self.inverse[row],
            dout: self.dout.at(token).wrapping_add(from),
            dx: self.dx.at(token).wrapping_add(from),
        }
    }

    /// The rows of the task.
    #[inline(always)]
    fn rows(&self) -> Range<usize> {
        let (_, heads, _) = self.x.shape();
        self.tokens.start * heads..self.tokens.end * heads
    }
}

impl Kernel for Backward<'_> {
    type Output = ();

    fn scalar(mut self) {
        let (_, _, size) = self.x.shape();
        let weight = |i: usize| self.weight.map_or(1.0, |weight| weight[i]);
        for row in self.rows() {
            let Row { x, inverse, dout, dx } = self.row(row);
            // SAFETY: each pointer has D numbers, and those of dx are of this task alone.
            unsafe {
                let product = |i| f64::from(*dout.add(i) * weight(i)) * f64::from(*x.add(i));
                let sum: f64 = (0..size).map(product).sum();
                let mean = (sum * f64::from(inverse) / size as f64) as f32;
                for i in 0..size {
                    let (x, dout) = (*x.add(i) * inverse, *dout.add(i));
                    if let Some(partial) = &mut self.partial {
                        partial[i] += dout * x;
                    }
                    let gradient = inverse * (dout * weight(i) - x * mean);
                    *dx.add(i) = if self.accumulate { *dx.add(i) + gradient } else { gradient };
                }
            }
        }
    }

    #[inline(always)]
    unsafe fn vector<L: Lanes>(mut self) {
        let (_, _, size) = self.x.shape();
        let weight = self.weight.map(<[f32]>::as_ptr);
        let partial = self.partial.as_mut().map(|partial| partial.as_mut_ptr());
        for row in self.rows() {
            let Row { x, inverse, dout, dx } = self.row(row);
            // SAFETY: each pointer has D numbers, and those of dx and partial are of this task
            // alone; the caller has the instructions.
            unsafe {
                let mut sum = L::splat(0.0);
                each_vector!(L, size, |i, n| {
                    let g = weighted::<L>(load::<L>(dout.add(i), n), weight, i, n);
                    sum = L::fma(g, load::<L>(x.add(i), n), sum);
                });
                let mean = L::splat(L::sum(sum) * inverse / size as f32);
                let inverse = L::splat(inverse);
                each_vector!(L, size, |i, n| {
                    let d = load::<L>(dout.add(i), n);
                    let x = L::mul(load::<L>(x.add(i), n), inverse);
                    if let Some(partial) = partial {
                        let sum = L::fma(d, x, load::<L>(partial.add(i), n));
                        store::<L>(partial.add(i), n, sum);
                    }
                    let g = L::sub(weighted::<L>(d, weight, i, n), L::mul(x, mean));
                    let before =
                        if self.accumulate { load::<L>(dx.add(i), n) } else { L::splat(0.0) };
                    store::<L>(dx.add(i), n, L::fma(inverse, g, before));
                });
            }
        }
    }
}

/// `dout` times the `n` weights from `i` on, if there are weights.
///
/// # Safety
/// The weights are there; the CPU has the instructions of `L`.
#[inline(always)]
unsafe fn weighted<L: Lanes>(dout: L::V, weight: Option<*const f32>, i: usize, n: usize) -> L::V {
    match weight {
        // SAFETY: the caller's.
        Some(weight) => unsafe { L::mul(dout, load::<L>(weight.add(i), n)) },
        None => dout,
    }
}

/// `sums` (columns of the task) gains the sum of these columns of `parts` (chunks, width), the
/// first of which is column `first`.
struct ColumnSums<'a> {
    parts: &'a [f32],
    width: usize,
    first: usize,
    sums: &'a mut [f32],
}

impl Kernel for ColumnSums<'_> {
    type Output = ();

    fn scalar(self) {
        for (i, sum) in self.sums.iter_mut().enumerate() {
            let column = self.parts.iter().skip(self.first + i).step_by(self.width);
            *sum += column.map(|&x| f64::from(x)).sum::<f64>() as f32;
        }
    }

    #[inline(always)]
    unsafe fn vector<L: Lanes>(self) {
        let chunks = self.parts.len() / self.width;
        let (parts, sums) = (self.parts.as_ptr(), self.sums.as_mut_ptr());
        // SAFETY: the columns lie within the width, as the only caller cuts them; the caller has
        // the instructions.
        unsafe {
            each_vector!(L, self.sums.len(), |i, n| {
                let mut total = L::splat(0.0);
                for chunk in 0..chunks {
                    let part = parts.add(chunk * self.width + self.first + i);
                    total = L::add(total, load::<L>(part, n));
                }
                store::<L>(sums.add(i), n, L::add(load::<L>(sums.add(i), n), total));
            });
        }
    }
}
