//! Weights as matrices, and products of activations with them.

mod activations;
mod format;
mod kernel;
mod pack;
mod product;
mod scalar;

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "x86_64")]
mod bf16;
#[cfg(target_arch = "aarch64")]
mod neon;

pub(crate) use activations::Shared;
pub(crate) use product::Workspace;
pub use product::{matmul, matmul_gated};

use crate::buffer::Buffer;
use crate::device::Device;
use crate::{DType, Error, Isa};
use kernel::ROWS;

/// Values from which on a matrix is worth multiplying in bfloat16. Smaller ones cost next to nothing,
/// and a tiny model's logits can then be compared digit by digit.
#[cfg(target_arch = "x86_64")]
const BF16_VALUES: usize = 256 << 10;

/// What activations become before a matrix is multiplied with them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    /// Bytes with a scale for each 32: for quantised weights.
    Bytes,
    /// Single precision.
    Single,
    /// bfloat16, two to a word.
    #[cfg(target_arch = "x86_64")]
    Bf16,
}

impl Form {
    /// The form that a matrix asks for on a device.
    fn of(device: &Device, dtype: DType, rows: usize, cols: usize) -> Form {
        #[cfg(target_arch = "x86_64")]
        if device.bf16()
            && matches!(dtype, DType::F16 | DType::BF16)
            && rows.saturating_mul(cols) >= BF16_VALUES
        {
            return Form::Bf16;
        }
        let _ = (device, rows, cols);
        if dtype.is_quantised() { Form::Bytes } else { Form::Single }
    }
}

/// A weight matrix `(rows, cols)` = `(out, in)`, packed for this device's kernels.
pub struct Matrix {
    rows: usize,
    cols: usize,
    dtype: DType,
    form: Form,
    /// Bytes of a group of 16 rows.
    group_bytes: usize,
    data: Buffer,
}

impl Matrix {
    /// Packs a matrix from a file's row-major bytes.
    ///
    /// # Errors
    /// [`Error::Row`] if a row does not divide into blocks, [`Error::Length`] if `bytes` has not
    /// the length that the shape asks for, [`Error::Overflow`] if that cannot be represented.
    pub fn pack(
        device: &Device,
        dtype: DType,
        rows: usize,
        cols: usize,
        bytes: &[u8],
    ) -> Result<Matrix, Error> {
        let operation = "pack a matrix";
        let row_bytes = dtype.row_bytes(cols).ok_or(Error::Row {
            operation,
            dtype,
            cols,
            block: dtype.block_len(),
        })?;
        let overflow = Error::Overflow { operation, rows, cols };
        let expected = row_bytes.checked_mul(rows).ok_or(overflow)?;
        if bytes.len() != expected {
            return Err(Error::Length { operation, dtype, expected, got: bytes.len() });
        }
        let form = Form::of(device, dtype, rows, cols);
        let group_bytes = group_bytes(device.isa(), form, dtype, cols);
        let groups = rows.div_ceil(ROWS);
        let size = group_bytes
            .checked_mul(groups)
            .filter(|&size| size <= isize::MAX as usize / 2)
            .ok_or(Error::Overflow { operation, rows, cols })?;
        let mut data = device.arena().take(size);
        let out = Shared(data.as_mut_slice().as_mut_ptr());
        let isa = device.isa();
        device.threads().for_each(groups, &|g| {
            let first = g * ROWS;
            let count = ROWS.min(rows - first);
            let mut group: [&[u8]; ROWS] = [&[]; ROWS];
            for (r, row) in group.iter_mut().enumerate().take(count) {
                *row = &bytes[(first + r) * row_bytes..][..row_bytes];
            }
            // SAFETY: groups are disjoint ranges of the buffer taken above.
            let out = unsafe {
                std::slice::from_raw_parts_mut(out.get().add(g * group_bytes), group_bytes)
            };
            match form {
                #[cfg(target_arch = "x86_64")]
                // SAFETY: the form is given only where the CPU has the instructions.
                Form::Bf16 => unsafe { bf16::pack_group(dtype, &group[..count], cols, out) },
                _ => pack::pack_group(isa, dtype, &group[..count], cols, out),
            }
        });
        Ok(Matrix { rows, cols, dtype, form, group_bytes, data })
    }

    /// Rows, the width of the output.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Columns, the width of the input.
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// The format that it was packed from.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// Bytes that one pass reads.
    pub fn bytes(&self) -> usize {
        self.data.as_slice().len()
    }

    /// Row groups.
    fn groups(&self) -> usize {
        self.rows.div_ceil(ROWS)
    }
}

/// Bytes of a row group.
fn group_bytes(isa: Isa, form: Form, dtype: DType, cols: usize) -> usize {
    #[cfg(target_arch = "x86_64")]
    if form == Form::Bf16 {
        return bf16::group_bytes(cols);
    }
    match kernel::quantised(isa, dtype) {
        Some(kernels) if form == Form::Bytes => (kernels.group_bytes)(cols),
        _ => cols * ROWS * dtype.block_bytes(),
    }
}

#[cfg(test)]
mod tests;
