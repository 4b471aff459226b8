//! Products in bfloat16 for CPUs with AVX-512 BF16: two multiplications a lane and instruction.
//!
//! A row group holds its values two columns at a time: 64 bytes are columns `2p` and `2p + 1` of 16
//! rows, side by side, as `vdpbf16ps` reads them. Activations are rounded to bfloat16 and lie in
//! blocks of [`PAIRS`] words of two columns, so that the rows of a tile stand a known distance
//! apart. Sums are single precision and take a row's columns in order, whatever the number of
//! tokens.

use std::arch::x86_64::*;

use half::{bf16, f16};

use super::avx512::{AHEAD, load, store};
use super::kernel::{ROWS, Target};
use crate::DType;

/// Words of two columns in a block of activations: a tile of 12 tokens takes 12 KiB, and beside it
/// the weights of two row groups 32 KiB, so that both stay in the first-level cache.
pub(crate) const PAIRS: usize = 256;

/// Tile widths: 12 tokens by two row groups are 24 sums in registers.
pub(crate) const WIDTHS: &[usize] = &[12, 8, 4, 2, 1];

/// Bytes of a row group.
pub(crate) fn group_bytes(cols: usize) -> usize {
    cols.div_ceil(2) * ROWS * 4
}

/// Packs a row group from at most 16 rows of F16 or BF16; missing rows are zero.
///
/// # Safety
/// The CPU has these instructions.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16,avx2,f16c")]
pub(crate) unsafe fn pack_group(dtype: DType, rows: &[&[u8]], cols: usize, out: &mut [u8]) {
    for (r, row) in rows.iter().enumerate() {
        let (values, _) = row.as_chunks::<2>();
        let mut pair = 0;
        for values in values[..cols].chunks(32) {
            let mut words = [0_u16; 32];
            for (word, value) in words.iter_mut().zip(values) {
                *word = u16::from_le_bytes(*value);
            }
            if dtype == DType::F16 {
                // The instruction would make zeros of halves below 2^-126, but there are none: the
                // least half is 2^-24.
                for word in &mut words {
                    *word = bf16::from_f32(f16::from_bits(*word).to_f32()).to_bits();
                }
            }
            for two in words[..values.len().next_multiple_of(2)].as_chunks::<2>().0 {
                let at = (pair * ROWS + r) * 4;
                out[at..at + 2].copy_from_slice(&two[0].to_le_bytes());
                out[at + 2..at + 4].copy_from_slice(&two[1].to_le_bytes());
                pair += 1;
            }
        }
    }
}

/// Rounds one row of activations to blocks of [`PAIRS`] words, `stride` words apart, the last one
/// filled up with zeros.
///
/// # Safety
/// `out` is valid for the row's blocks at that stride, on a CPU with these instructions.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
pub(crate) unsafe fn round_row(row: &[f32], stride: usize, out: *mut u32) {
    for (b, values) in row.chunks(2 * PAIRS).enumerate() {
        for i in 0..PAIRS / 16 {
            let from = values.get(32 * i..).unwrap_or(&[]);
            let mask = |first: usize| {
                (1_u32 << from.len().saturating_sub(first).min(16)).wrapping_sub(1) as u16
            };
            // SAFETY: masks keep reads within the row; the caller vouches for the blocks.
            unsafe {
                let low = _mm512_maskz_loadu_ps(mask(0), from.as_ptr());
                let high = _mm512_maskz_loadu_ps(mask(16), from.as_ptr().wrapping_add(16));
                let words: __m512i = std::mem::transmute(_mm512_cvtne2ps_pbh(high, low));
                _mm512_storeu_si512(out.add(b * stride + 16 * i).cast(), words);
            }
        }
    }
}

/// Multiplies `pairs` words of `groups` (1 or 2) row groups with the same block of a tile of
/// `tokens`, adding to what the target holds if `add`.
///
/// # Safety
/// Weights, block and target have these sizes, on a CPU with these instructions.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512bf16")]
pub(crate) unsafe fn product(
    weights: *const u8,
    group_bytes: usize,
    groups: usize,
    pairs: usize,
    tokens: usize,
    x: *const u32,
    target: Target,
    add: bool,
) {
    // SAFETY: given by the caller.
    unsafe {
        match (tokens, groups) {
            (1, 1) => tile::<1, 1>(weights, group_bytes, pairs, x, target, add),
            (1, _) => tile::<1, 2>(weights, group_bytes, pairs, x, target, add),
            (2, 1) => tile::<2, 1>(weights, group_bytes, pairs, x, target, add),
            (2, _) => tile::<2, 2>(weights, group_bytes, pairs, x, target, add),
            (4, 1) => tile::<4, 1>(weights, group_bytes, pairs, x, target, add),
            (4, _) => tile::<4, 2>(weights, group_bytes, pairs, x, target, add),
            (8, 1) => tile::<8, 1>(weights, group_bytes, pairs, x, target, add),
            (8, _) => tile::<8, 2>(weights, group_bytes, pairs, x, target, add),
            (_, 1) => tile::<12, 1>(weights, group_bytes, pairs, x, target, add),
            _ => tile::<12, 2>(weights, group_bytes, pairs, x, target, add),
        }
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512bf16")]
unsafe fn tile<const T: usize, const G: usize>(
    weights: *const u8,
    group_bytes: usize,
    pairs: usize,
    x: *const u32,
    target: Target,
    add: bool,
) {
    let mut sums = [[_mm512_setzero_ps(); T]; G];
    if add {
        for (g, sums) in sums.iter_mut().enumerate() {
            for (t, sum) in sums.iter_mut().enumerate() {
                // SAFETY: given by the caller.
                *sum = unsafe { load(target.group(g), t) };
            }
        }
    }
    for p in 0..pairs {
        // SAFETY: within the groups and the block, which the caller vouches for; a prefetch may
        // point anywhere. Registers of 512 bits are the same bits whatever their type.
        unsafe {
            let mut w = [_mm512_setzero_si512(); G];
            for (g, w) in w.iter_mut().enumerate() {
                let at = weights.add(g * group_bytes + p * ROWS * 4);
                if T <= 2 {
                    _mm_prefetch::<_MM_HINT_NTA>(at.wrapping_add(AHEAD).cast());
                }
                *w = _mm512_loadu_si512(at.cast());
            }
            for t in 0..T {
                let a = _mm512_set1_epi32(*x.add(t * PAIRS + p) as i32);
                for g in 0..G {
                    sums[g][t] = _mm512_dpbf16_ps(
                        sums[g][t],
                        std::mem::transmute::<__m512i, __m512bh>(w[g]),
                        std::mem::transmute::<__m512i, __m512bh>(a),
                    );
                }
            }
        }
    }
    for (g, sums) in sums.iter().enumerate() {
        for (t, sum) in sums.iter().enumerate() {
            // SAFETY: given by the caller.
            unsafe { store(target.group(g), t, *sum) };
        }
    }
}
