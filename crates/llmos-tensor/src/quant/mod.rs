//! Block formats, in plain Rust: exact decoding of every format that is read, encoding of those
//! that are written. The oracle of all packed kernels.

mod encode;
mod fit;
#[allow(non_camel_case_types)]
pub(crate) mod layout;
pub(crate) mod parts;
#[cfg(test)]
mod tests;

use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};

use bytemuck::Pod;

pub(crate) use parts::parts;

use crate::{DType, Error};

/// Decodes `out.len()` values.
///
/// The bits are those of ggml's reference decoders without fused multiply-add. A NaN or infinite
/// scale decodes to what the arithmetic gives.
///
/// # Errors
///
/// [`Error::Row`] if `out` does not divide into blocks, [`Error::Length`] if `bytes` is not as long
/// as they are.
pub fn dequantize(dtype: DType, bytes: &[u8], out: &mut [f32]) -> Result<(), Error> {
    let expected = row_bytes("dequantize", dtype, out.len())?;
    if bytes.len() != expected {
        return Err(Error::Length { operation: "dequantize", dtype, expected, got: bytes.len() });
    }
    match dtype {
        DType::F32 => {
            for (out, &bytes) in out.iter_mut().zip(bytes.as_chunks::<4>().0) {
                *out = f32::from_le_bytes(bytes);
            }
        }
        DType::F16 => halves(bytes, out, f16::from_le_bytes),
        DType::BF16 => halves(bytes, out, bf16::from_le_bytes),
        _ => {
            let blocks = bytes.chunks_exact(dtype.block_bytes());
            for (block, out) in blocks.zip(out.chunks_exact_mut(dtype.block_len())) {
                parts(dtype, block).write(out);
            }
        }
    }
    Ok(())
}

/// Decodes through a small aligned buffer, because the slice conversions use the hardware's
/// instructions and the bytes of a file need not be aligned.
fn halves<H: Copy + Default>(bytes: &[u8], out: &mut [f32], from: fn([u8; 2]) -> H)
where
    [H]: HalfFloatSliceExt,
{
    let mut buffer = [H::default(); 64];
    for (bytes, out) in bytes.chunks(2 * buffer.len()).zip(out.chunks_mut(64)) {
        for (half, &bytes) in buffer.iter_mut().zip(bytes.as_chunks::<2>().0) {
            *half = from(bytes);
        }
        buffer[..out.len()].convert_to_f32_slice(out);
    }
}

fn row_bytes(operation: &'static str, dtype: DType, cols: usize) -> Result<usize, Error> {
    dtype.row_bytes(cols).ok_or(Error::Row { operation, dtype, cols, block: dtype.block_len() })
}

/// Encodes `values` and appends the bytes to `out`.
///
/// Q8_0 and Q4_0 give the bytes of ggml's reference; Q4_K, Q5_K and Q6_K search for scales as it
/// does and lose as little. F32, F16 and BF16 store NaN and infinities as they are (F16 turns what
/// is beyond it into infinities); in the other formats a block with a NaN or an infinity decodes to
/// NaN throughout.
///
/// # Errors
///
/// [`Error::NotWritten`] for formats that are only read, [`Error::Row`] if `values` does not divide
/// into blocks; nothing is appended then.
pub fn quantize(dtype: DType, values: &[f32], out: &mut Vec<u8>) -> Result<(), Error> {
    quantize_weighted(dtype, values, None, out)
}

/// As [`quantize`], with how much an error in each value matters: for a row of a weight matrix, the
/// mean square of the activation that the value multiplies (llama.cpp's importance matrix). Any
/// common factor drops out. Q4_0, Q4_K, Q5_K and Q6_K heed it; the others cannot gain by it.
///
/// # Errors
///
/// Those of [`quantize`], and [`Error::Length`] (in bytes of f32) if `importance` is not as long as
/// `values`.
pub fn quantize_weighted(
    dtype: DType,
    values: &[f32],
    importance: Option<&[f32]>,
    out: &mut Vec<u8>,
) -> Result<(), Error> {
    let operation = "quantize";
    let bytes = row_bytes(operation, dtype, values.len())?;
    if let Some(importance) = importance
        && importance.len() != values.len()
    {
        let (expected, got) = (size_of_val(values), size_of_val(importance));
        return Err(Error::Length { operation, dtype: DType::F32, expected, got });
    }
    out.reserve(bytes);
    match dtype {
        DType::F32 => out.extend(values.iter().flat_map(|value| value.to_le_bytes())),
        DType::F16 => out.extend(values.iter().flat_map(|&v| f16::from_f32(v).to_le_bytes())),
        DType::BF16 => out.extend(values.iter().flat_map(|&v| bf16::from_f32(v).to_le_bytes())),
        DType::Q8_0 => blocks(values, importance, out, encode::q8_0),
        DType::Q4_0 => blocks(values, importance, out, encode::q4_0),
        DType::Q4_K => blocks(values, importance, out, encode::q4_k),
        DType::Q5_K => blocks(values, importance, out, encode::q5_k),
        DType::Q6_K => blocks(values, importance, out, encode::q6_k),
        DType::Q4_1
        | DType::Q5_0
        | DType::Q5_1
        | DType::Q2_K
        | DType::Q3_K
        | DType::IQ4_NL
        | DType::IQ4_XS
        | DType::MXFP4 => return Err(Error::NotWritten { dtype }),
    }
    Ok(())
}

fn blocks<const N: usize, B: Pod>(
    values: &[f32],
    importance: Option<&[f32]>,
    out: &mut Vec<u8>,
    encode: impl Fn(&[f32; N], Option<&[f32; N]>) -> B,
) {
    let importance = importance.map(|importance| importance.as_chunks::<N>().0);
    for (b, values) in values.as_chunks::<N>().0.iter().enumerate() {
        let block = encode(values, importance.map(|importance| &importance[b]));
        out.extend_from_slice(bytemuck::bytes_of(&block));
    }
}
