//! A block taken apart into integers and scales: what decoders and packers share.

use super::layout::{
    FP4_VALUES, Half, IQ4_VALUES, IQ4_XS, MXFP4, Q2_K, Q3_K, Q4_0, Q4_1, Q4_K, Q5_0, Q5_1, Q5_K,
    Q6_K, Q8_0, unpack_q3_scales, unpack_scales_mins,
};
use crate::DType;

/// One block: `value[i] = scale[i / group] * quants[i] - min[i / group]`, computed in f32, gives
/// the bits that ggml's reference gives (without fused multiply-add).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Parts {
    /// Integers in the format's own range: Q4_0 -8..=7, Q5_0 -16..=15, Q4_1 and Q4_K 0..=15, Q5_1
    /// and Q5_K 0..=31, Q8_0 -128..=127, Q2_K 0..=3, Q3_K -4..=3, Q6_K -32..=31, IQ4_NL and IQ4_XS
    /// the table's values, MXFP4 twice the float. Those from `len` on are 0.
    pub(crate) quants: [i16; 256],
    /// The scale of each group.
    pub(crate) scale: [f32; 16],
    /// What is subtracted in each group; 0 in formats without minima.
    pub(crate) min: [f32; 16],
    /// Values that share a scale: 16 or 32.
    pub(crate) group: usize,
    /// Values in the block: 32 or 256.
    pub(crate) len: usize,
}

impl Parts {
    fn new(group: usize, len: usize) -> Parts {
        Parts { quants: [0; 256], scale: [0.0; 16], min: [0.0; 16], group, len }
    }

    /// Writes the `len` values of the block; `out` is as long.
    #[inline]
    pub(crate) fn write(&self, out: &mut [f32]) {
        assert_eq!(out.len(), self.len, "a block's values");
        match self.group {
            16 => self.write_groups::<16>(out),
            _ => self.write_groups::<32>(out),
        }
    }

    #[inline]
    fn write_groups<const G: usize>(&self, out: &mut [f32]) {
        let groups = out.as_chunks_mut::<G>().0.iter_mut().zip(self.quants.as_chunks::<G>().0);
        for (g, (out, quants)) in groups.enumerate() {
            let (scale, min) = (self.scale[g], self.min[g]);
            for (out, &quant) in out.iter_mut().zip(quants) {
                *out = scale * f32::from(quant) - min;
            }
        }
    }
}

/// Takes one block of a quantised format apart. `block` has `dtype.block_bytes()` bytes.
///
/// # Panics
///
/// If the format has no blocks (F32, F16, BF16) or `block` has another length: both are decided by
/// the caller's code, never by a file.
#[inline]
pub(crate) fn parts(dtype: DType, block: &[u8]) -> Parts {
    assert_eq!(block.len(), dtype.block_bytes(), "bytes of a {dtype} block");
    match dtype {
        DType::Q4_0 => q4_0(bytemuck::from_bytes(block)),
        DType::Q4_1 => q4_1(bytemuck::from_bytes(block)),
        DType::Q5_0 => q5_0(bytemuck::from_bytes(block)),
        DType::Q5_1 => q5_1(bytemuck::from_bytes(block)),
        DType::Q8_0 => q8_0(bytemuck::from_bytes(block)),
        DType::Q2_K => q2_k(bytemuck::from_bytes(block)),
        DType::Q3_K => q3_k(bytemuck::from_bytes(block)),
        DType::Q4_K => q4_k(bytemuck::from_bytes(block)),
        DType::Q5_K => q5_k(bytemuck::from_bytes(block)),
        DType::Q6_K => q6_k(bytemuck::from_bytes(block)),
        DType::IQ4_NL => iq4_nl(bytemuck::from_bytes(block)),
        DType::IQ4_XS => iq4_xs(bytemuck::from_bytes(block)),
        DType::MXFP4 => mxfp4(bytemuck::from_bytes(block)),
        DType::F32 | DType::F16 | DType::BF16 => panic!("{dtype} has no blocks to take apart"),
    }
}

/// Low nibbles to the first half of `out`, high ones to the second.
#[inline]
fn nibbles<const N: usize>(packed: &[u8; N], out: &mut [i16]) {
    let (low, high) = out.split_at_mut(N);
    for (i, &byte) in packed.iter().enumerate() {
        low[i] = i16::from(byte & 15);
        high[i] = i16::from(byte >> 4);
    }
}

/// As [`nibbles`], through a table.
#[inline]
fn look_up(packed: &[u8], table: &[i8; 16], out: &mut [i16]) {
    let (low, high) = out.split_at_mut(packed.len());
    for (i, &byte) in packed.iter().enumerate() {
        low[i] = i16::from(table[usize::from(byte & 15)]);
        high[i] = i16::from(table[usize::from(byte >> 4)]);
    }
}

#[inline]
fn q4_0(block: &Q4_0) -> Parts {
    let mut parts = Parts::new(32, 32);
    parts.scale[0] = block.scale.get();
    nibbles(&block.quants, &mut parts.quants[..32]);
    for quant in &mut parts.quants[..32] {
        *quant -= 8;
    }
    parts
}

#[inline]
fn q4_1(block: &Q4_1) -> Parts {
    let mut parts = Parts::new(32, 32);
    parts.scale[0] = block.scale.get();
    parts.min[0] = -block.min.get();
    nibbles(&block.quants, &mut parts.quants[..32]);
    parts
}

/// Adds the fifth bits and an offset.
#[inline]
fn add_high(high: [u8; 4], offset: i16, quants: &mut [i16]) {
    let high = u32::from_le_bytes(high);
    for (i, quant) in quants.iter_mut().enumerate() {
        *quant += ((high >> i & 1) << 4) as i16 + offset;
    }
}

#[inline]
fn q5_0(block: &Q5_0) -> Parts {
    let mut parts = Parts::new(32, 32);
    parts.scale[0] = block.scale.get();
    nibbles(&block.quants, &mut parts.quants[..32]);
    add_high(block.high, -16, &mut parts.quants[..32]);
    parts
}

#[inline]
fn q5_1(block: &Q5_1) -> Parts {
    let mut parts = Parts::new(32, 32);
    parts.scale[0] = block.scale.get();
    parts.min[0] = -block.min.get();
    nibbles(&block.quants, &mut parts.quants[..32]);
    add_high(block.high, 0, &mut parts.quants[..32]);
    parts
}

#[inline]
fn q8_0(block: &Q8_0) -> Parts {
    let mut parts = Parts::new(32, 32);
    parts.scale[0] = block.scale.get();
    for (out, &quant) in parts.quants.iter_mut().zip(&block.quants) {
        *out = i16::from(quant);
    }
    parts
}

/// The 2-bit integers of [`Q2_K`] and [`Q3_K`].
#[inline]
fn crumbs(packed: &[u8; 64], out: &mut [i16; 256]) {
    for (half, out) in packed.as_chunks::<32>().0.iter().zip(out.as_chunks_mut::<128>().0) {
        for (k, out) in out.as_chunks_mut::<32>().0.iter_mut().enumerate() {
            for (out, &byte) in out.iter_mut().zip(half) {
                *out = i16::from(byte >> (2 * k) & 3);
            }
        }
    }
}

#[inline]
fn q2_k(block: &Q2_K) -> Parts {
    let mut parts = Parts::new(16, 256);
    let (scale, min) = (block.scale.get(), block.min.get());
    for (g, &packed) in block.scales.iter().enumerate() {
        parts.scale[g] = scale * f32::from(packed & 15);
        parts.min[g] = min * f32::from(packed >> 4);
    }
    crumbs(&block.quants, &mut parts.quants);
    parts
}

#[inline]
fn q3_k(block: &Q3_K) -> Parts {
    let mut parts = Parts::new(16, 256);
    let scale = block.scale.get();
    for (out, group) in parts.scale.iter_mut().zip(unpack_q3_scales(&block.scales)) {
        *out = scale * f32::from(group);
    }
    crumbs(&block.quants, &mut parts.quants);
    for (b, quants) in parts.quants.as_chunks_mut::<32>().0.iter_mut().enumerate() {
        for (quant, &byte) in quants.iter_mut().zip(&block.high) {
            *quant += i16::from(byte >> b & 1) * 4 - 4;
        }
    }
    parts
}

/// Scales and minima of [`Q4_K`] and [`Q5_K`].
#[inline]
fn scales_mins(parts: &mut Parts, scale: Half, min: Half, packed: &[u8; 12]) {
    let (scale, min) = (scale.get(), min.get());
    let (scales, mins) = unpack_scales_mins(packed);
    for g in 0..8 {
        parts.scale[g] = scale * f32::from(scales[g]);
        parts.min[g] = min * f32::from(mins[g]);
    }
}

#[inline]
fn q4_k(block: &Q4_K) -> Parts {
    let mut parts = Parts::new(32, 256);
    scales_mins(&mut parts, block.scale, block.min, &block.scales);
    let quarters = block.quants.as_chunks::<32>().0;
    for (packed, out) in quarters.iter().zip(parts.quants.as_chunks_mut::<64>().0) {
        nibbles(packed, out);
    }
    parts
}

#[inline]
fn q5_k(block: &Q5_K) -> Parts {
    let mut parts = Parts::new(32, 256);
    scales_mins(&mut parts, block.scale, block.min, &block.scales);
    let quarters = block.quants.as_chunks::<32>().0;
    for (packed, out) in quarters.iter().zip(parts.quants.as_chunks_mut::<64>().0) {
        nibbles(packed, out);
    }
    for (b, quants) in parts.quants.as_chunks_mut::<32>().0.iter_mut().enumerate() {
        for (quant, &byte) in quants.iter_mut().zip(&block.high) {
            *quant += i16::from(byte >> b & 1) << 4;
        }
    }
    parts
}

#[inline]
fn q6_k(block: &Q6_K) -> Parts {
    let mut parts = Parts::new(16, 256);
    let scale = block.scale.get();
    for (out, &group) in parts.scale.iter_mut().zip(&block.scales) {
        *out = scale * f32::from(group);
    }
    let halves = block.low.as_chunks::<64>().0.iter().zip(block.high.as_chunks::<32>().0);
    for ((low, high), out) in halves.zip(parts.quants.as_chunks_mut::<128>().0) {
        nibbles(low, out);
        for (k, out) in out.as_chunks_mut::<32>().0.iter_mut().enumerate() {
            for (quant, &byte) in out.iter_mut().zip(high) {
                *quant += (i16::from(byte >> (2 * k) & 3) << 4) - 32;
            }
        }
    }
    parts
}

#[inline]
fn iq4_nl(block: &Q4_0) -> Parts {
    let mut parts = Parts::new(32, 32);
    parts.scale[0] = block.scale.get();
    look_up(&block.quants, &IQ4_VALUES, &mut parts.quants[..32]);
    parts
}

#[inline]
fn iq4_xs(block: &IQ4_XS) -> Parts {
    let mut parts = Parts::new(32, 256);
    let scale = block.scale.get();
    let high = u16::from_le_bytes(block.high);
    for g in 0..8 {
        let low = i16::from(block.low[g / 2] >> (4 * (g % 2)) & 15);
        let group = (low | ((high >> (2 * g) & 3) << 4) as i16) - 32;
        parts.scale[g] = scale * f32::from(group);
    }
    let groups = block.quants.as_chunks::<16>().0;
    for (packed, out) in groups.iter().zip(parts.quants.as_chunks_mut::<32>().0) {
        look_up(packed, &IQ4_VALUES, out);
    }
    parts
}

#[inline]
fn mxfp4(block: &MXFP4) -> Parts {
    let mut parts = Parts::new(32, 32);
    parts.scale[0] = half_power(block.exponent);
    look_up(&block.quants, &FP4_VALUES, &mut parts.quants[..32]);
    parts
}

/// Half of 2^(exponent - 127). As in ggml, 255 is 2^127 and not the specification's NaN.
fn half_power(exponent: u8) -> f32 {
    match exponent {
        0 | 1 => f32::from_bits(0x0020_0000 << exponent),
        _ => f32::from_bits(u32::from(exponent - 1) << 23),
    }
}
