//! The bytes of each block format, field by field (ggml's `ggml-common.h`).
//!
//! All fields are bytes, so a block has alignment 1 and may lie anywhere in a mapped file.

use bytemuck::{Pod, Zeroable};
use half::f16;

/// A little-endian IEEE half.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(transparent)]
pub(crate) struct Half([u8; 2]);

impl Half {
    /// The least that is above 0: 2^-24.
    pub(crate) const SMALLEST: f32 = 1.0 / 16_777_216.0;

    /// Rounds to nearest, ties to even; beyond 65504 it is infinite.
    pub(crate) fn new(value: f32) -> Half {
        Half(f16::from_f32(value).to_le_bytes())
    }

    pub(crate) fn get(self) -> f32 {
        f16::from_le_bytes(self.0).to_f32()
    }
}

/// 32 values; the low nibbles are values 0-15, the high ones 16-31.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct Q4_0 {
    pub(crate) scale: Half,
    pub(crate) quants: [u8; 16],
}

/// As [`Q4_0`], with an added minimum.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct Q4_1 {
    pub(crate) scale: Half,
    pub(crate) min: Half,
    pub(crate) quants: [u8; 16],
}

/// As [`Q4_0`], with the fifth bit of value `i` in bit `i` of `high`.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct Q5_0 {
    pub(crate) scale: Half,
    pub(crate) high: [u8; 4],
    pub(crate) quants: [u8; 16],
}

/// As [`Q5_0`], with an added minimum.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct Q5_1 {
    pub(crate) scale: Half,
    pub(crate) min: Half,
    pub(crate) high: [u8; 4],
    pub(crate) quants: [u8; 16],
}

/// 32 signed bytes.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct Q8_0 {
    pub(crate) scale: Half,
    pub(crate) quants: [i8; 32],
}

/// Group `g` has scale `scales[g] & 15` and minimum `scales[g] >> 4`. Byte `32 h + i` of `quants`
/// holds, two bits each, values `128 h + 32 k + i` for k = 0..4.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct Q2_K {
    pub(crate) scales: [u8; 16],
    pub(crate) quants: [u8; 64],
    pub(crate) scale: Half,
    pub(crate) min: Half,
}

/// `quants` as [`Q2_K`]; bit `b` of `high[i]` is the third bit of value `32 b + i`; 16 scales of
/// 6 bits, less 32.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct Q3_K {
    pub(crate) high: [u8; 32],
    pub(crate) quants: [u8; 64],
    pub(crate) scales: [u8; 12],
    pub(crate) scale: Half,
}

/// Byte `32 k + i` of `quants` holds value `64 k + i` in its low and `64 k + 32 + i` in its high
/// nibble.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct Q4_K {
    pub(crate) scale: Half,
    pub(crate) min: Half,
    pub(crate) scales: [u8; 12],
    pub(crate) quants: [u8; 128],
}

/// `quants` as [`Q4_K`]; bit `b` of `high[i]` is the fifth bit of value `32 b + i`.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct Q5_K {
    pub(crate) scale: Half,
    pub(crate) min: Half,
    pub(crate) scales: [u8; 12],
    pub(crate) high: [u8; 32],
    pub(crate) quants: [u8; 128],
}

/// Each half of 128 values: byte `i` of its 64 low bytes holds values `i` and `i + 64`; byte `i` of
/// its 32 high bytes holds the upper two bits of values `i + 32 k`, k = 0..4.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct Q6_K {
    pub(crate) low: [u8; 128],
    pub(crate) high: [u8; 64],
    pub(crate) scales: [i8; 16],
    pub(crate) scale: Half,
}

/// Eight scales of 6 bits, less 32: the low four bits in nibbles, the upper two in `high`. Each
/// group of 32 values has 16 bytes of indices in the order of [`Q4_0`].
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct IQ4_XS {
    pub(crate) scale: Half,
    pub(crate) high: [u8; 2],
    pub(crate) low: [u8; 4],
    pub(crate) quants: [u8; 128],
}

/// An exponent biased by 127 and 4-bit floats (1 sign, 2 exponent, 1 mantissa bit) in the order of
/// [`Q4_0`].
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct MXFP4 {
    pub(crate) exponent: u8,
    pub(crate) quants: [u8; 16],
}

/// The values that a nibble of IQ4_NL and IQ4_XS stands for.
pub(crate) const IQ4_VALUES: [i8; 16] =
    [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113];

/// Twice the values that a nibble of MXFP4 stands for.
pub(crate) const FP4_VALUES: [i8; 16] = [0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12];

/// The 6-bit scale and minimum of each of the 8 groups of [`Q4_K`] and [`Q5_K`].
pub(crate) fn unpack_scales_mins(packed: &[u8; 12]) -> ([u8; 8], [u8; 8]) {
    let (mut scales, mut mins) = ([0; 8], [0; 8]);
    for g in 0..4 {
        let (a, b, c) = (packed[g], packed[g + 4], packed[g + 8]);
        scales[g] = a & 63;
        mins[g] = b & 63;
        scales[g + 4] = (c & 15) | (a >> 6 << 4);
        mins[g + 4] = (c >> 4) | (b >> 6 << 4);
    }
    (scales, mins)
}

/// The inverse of [`unpack_scales_mins`]; all numbers below 64.
pub(crate) fn pack_scales_mins(scales: &[u8; 8], mins: &[u8; 8]) -> [u8; 12] {
    let mut packed = [0; 12];
    for g in 0..4 {
        packed[g] = scales[g] | (scales[g + 4] >> 4 << 6);
        packed[g + 4] = mins[g] | (mins[g + 4] >> 4 << 6);
        packed[g + 8] = (scales[g + 4] & 15) | (mins[g + 4] << 4);
    }
    packed
}

/// The 6-bit scale, less 32, of each of the 16 groups of [`Q3_K`].
pub(crate) fn unpack_q3_scales(packed: &[u8; 12]) -> [i8; 16] {
    std::array::from_fn(|g| {
        let low = packed[g % 8] >> (4 * (g / 8)) & 15;
        let high = packed[8 + g % 4] >> (2 * (g / 4)) & 3;
        (low | (high << 4)) as i8 - 32
    })
}
