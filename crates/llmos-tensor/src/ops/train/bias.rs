//! Biases and factors of a matrix's columns, and their gradients.

use std::ops::Range;

use super::rows::{Rows, RowsMut};
use super::tasks::{Disjoint, for_each_range, for_each_rows};
use super::vectors::{each_vector, load, store};
use crate::Device;
use crate::ops::lanes::{Kernel, Lanes, run};

/// Columns of a task of the gradient: four cache lines of each row that it meets. Tasks are columns
/// and not rows, so that a column's sum has one order, whatever the threads.
const COLUMNS: usize = 64;

/// Rows that are summed by themselves before they meet the others' sum.
const CHUNK: usize = 64;

/// Each row of `x` (N, C) gains `bias` (C); exactly rounded.
///
/// # Panics
/// If the shapes do not fit.
pub fn bias_forward(device: &Device, x: RowsMut<'_>, bias: &[f32]) {
    assert_eq!(x.width(), bias.len(), "bias_forward: a bias a column");
    columns(device, &x, bias, Change::Add);
}

/// Each row of `x` (N, C) is multiplied by `factors` (C), column by column; exactly rounded.
///
/// # Panics
/// If the shapes do not fit.
pub fn scale_columns(device: &Device, x: RowsMut<'_>, factors: &[f32]) {
    assert_eq!(x.width(), factors.len(), "scale_columns: a factor a column");
    columns(device, &x, factors, Change::Multiply);
}

/// `sums` (C) gain the sums of the columns of `d` (N, C), or of `d * of` where there is one: the
/// gradient of a bias, or of a factor. Error: 2e-6 of the sum of magnitudes up to N = 4096.
///
/// # Panics
/// If the shapes do not fit.
pub fn bias_backward(device: &Device, d: Rows<'_>, of: Option<Rows<'_>>, sums: &mut [f32]) {
    assert_eq!(d.width(), sums.len(), "bias_backward: a sum a column");
    assert!(of.is_none_or(|of| of.shape() == d.shape()), "bias_backward: shapes");
    let width = sums.len();
    let sums = Disjoint::new(sums);
    for_each_range(device, width, COLUMNS, &|columns| {
        // SAFETY: a column is of one task alone.
        let sums = unsafe { sums.range(columns.clone()) };
        run(device.isa(), Sums { d, of, first: columns.start, sums });
    });
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Change {
    Add,
    Multiply,
}

fn columns(device: &Device, x: &RowsMut<'_>, by: &[f32], change: Change) {
    let (tokens, _, _) = x.shape();
    for_each_rows(device, tokens, x.width(), &|tokens| match change {
        Change::Add => run(device.isa(), Changed::<true> { x, by, tokens }),
        Change::Multiply => run(device.isa(), Changed::<false> { x, by, tokens }),
    });
}

/// Some rows, to which something is added, or which are multiplied.
struct Changed<'a, const ADD: bool> {
    x: &'a RowsMut<'a>,
    by: &'a [f32],
    tokens: Range<usize>,
}

impl<const ADD: bool> Kernel for Changed<'_, ADD> {
    type Output = ();

    fn scalar(self) {
        for token in self.tokens {
            // SAFETY: the token is of this task alone.
            let x = unsafe { self.x.token_mut(token) };
            for (x, by) in x.iter_mut().zip(self.by) {
                *x = if ADD { *x + by } else { *x * by };
            }
        }
    }

    #[inline(always)]
    unsafe fn vector<L: Lanes>(self) {
        let by = self.by.as_ptr();
        for token in self.tokens {
            let x = self.x.at(token);
            // SAFETY: both have C numbers, and the token is of this task alone; the caller has the
            // instructions.
            unsafe {
                each_vector!(L, self.by.len(), |i, n| {
                    let (a, b) = (load::<L>(x.add(i), n), load::<L>(by.add(i), n));
                    store::<L>(x.add(i), n, if ADD { L::add(a, b) } else { L::mul(a, b) });
                });
            }
        }
    }
}

/// Some columns of [`bias_backward`], from `first` on.
struct Sums<'a> {
    d: Rows<'a>,
    of: Option<Rows<'a>>,
    first: usize,
    sums: &'a mut [f32],
}

impl Kernel for Sums<'_> {
    type Output = ();

    fn scalar(self) {
        let (tokens, _, _) = self.d.shape();
        for (i, sum) in self.sums.iter_mut().enumerate() {
            let at = self.first + i;
            let of = |t: usize| self.of.map_or(1.0, |of| f64::from(of.token(t)[at]));
            *sum += (0..tokens).map(|t| f64::from(self.d.token(t)[at]) * of(t)).sum::<f64>() as f32;
        }
    }

    #[inline(always)]
    unsafe fn vector<L: Lanes>(self) {
        let (tokens, _, _) = self.d.shape();
        let sums = self.sums.as_mut_ptr();
        // SAFETY: the columns lie within each row, as the only caller cuts them; the caller has the
        // instructions.
        unsafe {
            each_vector!(L, self.sums.len(), |i, n| {
                let mut total = load::<L>(sums.add(i), n);
                let at = self.first + i;
                let mut start = 0;
                while start < tokens {
                    let end = tokens.min(start + CHUNK);
                    let mut part = L::splat(0.0);
                    for token in start..end {
                        let d = load::<L>(self.d.at(token).add(at), n);
                        part = match self.of {
                            None => L::add(part, d),
                            Some(of) => L::fma(d, load::<L>(of.at(token).add(at), n), part),
                        };
                    }
                    total = L::add(total, part);
                    start = end;
                }
                store::<L>(sums.add(i), n, total);
            });
        }
    }
}
