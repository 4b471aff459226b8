//! General matrix products, for training: `c = a b` or `c += a b` with either operand transposed.
//!
//! Weights that change every step cannot be packed for good, so both operands are packed on the way:
//! `b` to panels of two vectors' width, `a` to tiles of as many rows as the registers hold (Goto and
//! van de Geijn, 2008). In single precision, or with operands rounded to bfloat16 and sums in single
//! precision where the CPU has instructions for it: twice as fast.
//!
//! An element's sum is taken over `k` in order, in blocks of a fixed size, by one thread: results
//! depend neither on the number of threads nor on how tasks were cut. Error: 2e-6 of the sum of the
//! products' magnitudes, tested up to K = 700; operands' rounding to bfloat16 comes on top.

mod ahead;
#[cfg(target_arch = "x86_64")]
mod bf16;
mod kernel;
mod pack;
mod product;

pub use product::{gemm, packed_bytes};

use crate::Device;

/// What operands are rounded to before they are multiplied. Sums are always single precision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Precision {
    /// Nothing.
    F32,
    /// bfloat16, 8 bits of mantissa.
    Bf16,
}

impl Precision {
    /// The precision, if the device has it: bfloat16 is f32 on a CPU without its instructions.
    pub fn on(self, device: &Device) -> Precision {
        if device.isa().has_bf16() { self } else { Precision::F32 }
    }
}

/// A matrix (rows, cols) to be read, row-major or column-major.
#[derive(Clone, Copy)]
pub struct View<'a> {
    data: &'a [f32],
    rows: usize,
    cols: usize,
    /// Numbers from a row to the next, or from a column to the next if transposed.
    stride: usize,
    transposed: bool,
}

impl<'a> View<'a> {
    /// A row-major matrix whose rows stand `stride` apart.
    ///
    /// # Panics
    /// If `data` is too short or `stride` less than `cols`.
    pub fn new(data: &'a [f32], rows: usize, cols: usize, stride: usize) -> View<'a> {
        assert_fits(data.len(), rows, cols, stride);
        View { data, rows, cols, stride, transposed: false }
    }

    /// A row-major matrix without gaps.
    ///
    /// # Panics
    /// If `data` is too short.
    pub fn dense(data: &'a [f32], rows: usize, cols: usize) -> View<'a> {
        View::new(data, rows, cols, cols)
    }

    /// The transpose.
    pub fn transposed(self) -> View<'a> {
        View { rows: self.cols, cols: self.rows, transposed: !self.transposed, ..self }
    }

    /// Rows and columns.
    pub fn shape(&self) -> (usize, usize) {
        (self.rows, self.cols)
    }

    /// Where an element lies.
    fn at(&self, row: usize, col: usize) -> usize {
        if self.transposed { col * self.stride + row } else { row * self.stride + col }
    }
}

/// A row-major matrix (rows, cols) to be written, rows `stride` apart.
pub struct ViewMut<'a> {
    data: &'a mut [f32],
    rows: usize,
    cols: usize,
    stride: usize,
}

impl<'a> ViewMut<'a> {
    /// A row-major matrix whose rows stand `stride` apart.
    ///
    /// # Panics
    /// If `data` is too short or `stride` less than `cols`.
    pub fn new(data: &'a mut [f32], rows: usize, cols: usize, stride: usize) -> ViewMut<'a> {
        assert_fits(data.len(), rows, cols, stride);
        ViewMut { data, rows, cols, stride }
    }

    /// A row-major matrix without gaps.
    ///
    /// # Panics
    /// If `data` is too short.
    pub fn dense(data: &'a mut [f32], rows: usize, cols: usize) -> ViewMut<'a> {
        ViewMut::new(data, rows, cols, cols)
    }

    /// The product of nothing: a sum over no `k`.
    fn clear(&mut self) {
        for row in self.data.chunks_mut(self.stride).take(self.rows) {
            row[..self.cols].fill(0.0);
        }
    }
}

fn assert_fits(len: usize, rows: usize, cols: usize, stride: usize) {
    assert!(stride >= cols, "a matrix's rows do not overlap");
    let needed = if rows == 0 || cols == 0 { 0 } else { (rows - 1) * stride + cols };
    assert!(len >= needed, "a matrix ({rows}, {cols}) of stride {stride} needs {needed} numbers");
}

#[cfg(test)]
mod tests;
