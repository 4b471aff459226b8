//! Packing to bfloat16 and the register tile of `vdpbf16ps`, which takes two values of `k` at once.

use std::arch::x86_64::*;

use super::View;
use super::kernel::Tile;
use super::pack::WORDS;

/// Rows and columns of the tile.
const ROWS: usize = 12;
const COLS: usize = 32;

/// As [`super::pack::pack_a_f32`], in words of two: a transposed tile is (n_k / 2, rows).
///
/// # Safety
/// The CPU has these instructions.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
pub(super) unsafe fn pack_a(
    a: View<'_>,
    rows: std::ops::Range<usize>,
    (k, n_k): (usize, usize),
    out: &mut [u32],
) {
    for (index, first) in rows.clone().step_by(ROWS).enumerate() {
        let out = &mut out[index * ROWS * WORDS..][..ROWS * WORDS];
        let count = ROWS.min(rows.end - first);
        if a.transposed {
            for word in 0..n_k.div_ceil(2) {
                let row = |i: usize| {
                    if k + i < a.cols && i < n_k {
                        &a.data[a.at(first, k + i)..][..count]
                    } else {
                        &[]
                    }
                };
                let (words, _) = interleave(row(2 * word), row(2 * word + 1));
                // SAFETY: twelve words of the tile.
                unsafe {
                    _mm512_mask_storeu_epi32(
                        out.as_mut_ptr().add(word * ROWS).cast(),
                        0xfff,
                        words,
                    );
                }
            }
        } else {
            for (r, to) in out.chunks_exact_mut(WORDS).enumerate() {
                let from = if r < count { &a.data[a.at(first + r, k)..][..n_k] } else { &[] };
                for i in (0..n_k.div_ceil(2)).step_by(16) {
                    let words = round(from.get(2 * i..).unwrap_or(&[]));
                    let mask = lanes(n_k.div_ceil(2) - i);
                    // SAFETY: the mask keeps the write within the row's words.
                    unsafe { _mm512_mask_storeu_epi32(to.as_mut_ptr().add(i).cast(), mask, words) };
                }
            }
        }
    }
}

/// As [`super::pack::pack_b_f32`], in words of two: (n_k / 2, 32).
///
/// # Safety
/// The CPU has these instructions.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
pub(super) unsafe fn pack_b(b: View<'_>, col: usize, (k, n_k): (usize, usize), out: &mut [u32]) {
    let count = COLS.min(b.cols - col);
    let n_word = n_k.div_ceil(2);
    let out = &mut out[..n_word * COLS];
    if b.transposed {
        if count < COLS {
            out.fill(0);
        }
        for n in 0..count {
            let from = &b.data[b.at(k, col + n)..][..n_k];
            for i in (0..n_word).step_by(16) {
                let words: [u32; 16] =
                    // SAFETY: any bits are a number.
                    unsafe { std::mem::transmute(round(&from[2 * i..])) };
                for (j, word) in words.iter().enumerate().take(n_word - i) {
                    out[(i + j) * COLS + n] = *word;
                }
            }
        }
    } else {
        for (word, to) in out.chunks_exact_mut(COLS).enumerate() {
            let row = |i: usize| {
                if i < n_k { &b.data[b.at(k + i, col)..][..count] } else { &[][..] }
            };
            let (low, high) = interleave(row(2 * word), row(2 * word + 1));
            // SAFETY: 32 words.
            unsafe {
                _mm512_storeu_si512(to.as_mut_ptr().cast(), low);
                _mm512_storeu_si512(to.as_mut_ptr().add(16).cast(), high);
            }
        }
    }
}

/// A mask of the first `n` lanes.
#[inline(always)]
fn lanes(n: usize) -> u16 {
    if n >= 16 { u16::MAX } else { (1 << n) - 1 }
}

/// The first 16 numbers, zeros where there are none.
#[target_feature(enable = "avx512f")]
#[inline]
fn load(from: &[f32], first: usize) -> __m512 {
    let mask = lanes(from.len().saturating_sub(first));
    // SAFETY: the mask keeps the read within the slice.
    unsafe { _mm512_maskz_loadu_ps(mask, from.as_ptr().wrapping_add(first)) }
}

/// The first 32 numbers, two to a word.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
#[inline]
fn round(from: &[f32]) -> __m512i {
    let rounded = _mm512_cvtne2ps_pbh(load(from, 16), load(from, 0));
    // SAFETY: the same bits.
    unsafe { std::mem::transmute::<__m512bh, __m512i>(rounded) }
}

/// Words of one number of `even` and one of `odd`, for the first 32 of each.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
#[inline]
fn interleave(even: &[f32], odd: &[f32]) -> (__m512i, __m512i) {
    let half = |first: usize| {
        let (even, odd) = (load(even, first), load(odd, first));
        // SAFETY: the same bits.
        let rounded =
            unsafe { std::mem::transmute::<__m512bh, __m512i>(_mm512_cvtne2ps_pbh(odd, even)) };
        let low = _mm512_cvtepu16_epi32(_mm512_castsi512_si256(rounded));
        let high = _mm512_cvtepu16_epi32(_mm512_extracti64x4_epi64::<1>(rounded));
        _mm512_or_si512(low, _mm512_slli_epi32::<16>(high))
    };
    (half(0), half(16))
}

/// Multiplies operands that are packed in words of two.
///
/// # Safety
/// As [`super::kernel::multiply_f32`], on a CPU with these instructions.
#[target_feature(enable = "avx512f,avx512bf16")]
pub(super) unsafe fn multiply(tile: Tile) {
    // SAFETY: given by the caller.
    unsafe {
        if tile.transposed { multiply_tile::<true>(tile) } else { multiply_tile::<false>(tile) }
    }
}

#[target_feature(enable = "avx512f,avx512bf16")]
unsafe fn multiply_tile<const TRANSPOSED: bool>(tile: Tile) {
    let Tile { a, b, words, c, stride, add, .. } = tile;
    // SAFETY: given by the caller. Registers of 512 bits are the same bits whatever their type.
    unsafe {
        let mut sums = [[_mm512_setzero_ps(); 2]; ROWS];
        if add {
            for (r, sums) in sums.iter_mut().enumerate() {
                for (half, sum) in sums.iter_mut().enumerate() {
                    *sum = _mm512_loadu_ps(c.add(r * stride + half * 16));
                }
            }
        }
        for k in 0..words {
            let b = b.add(k * COLS);
            let b = [0, 16].map(|half| {
                std::mem::transmute::<__m512i, __m512bh>(_mm512_loadu_si512(b.add(half).cast()))
            });
            for r in 0..ROWS {
                let at = if TRANSPOSED { k * ROWS + r } else { r * WORDS + k };
                let a = _mm512_set1_epi32(*a.add(at) as i32);
                let a = std::mem::transmute::<__m512i, __m512bh>(a);
                sums[r][0] = _mm512_dpbf16_ps(sums[r][0], a, b[0]);
                sums[r][1] = _mm512_dpbf16_ps(sums[r][1], a, b[1]);
            }
        }
        for (r, sums) in sums.iter().enumerate() {
            for (half, sum) in sums.iter().enumerate() {
                _mm512_storeu_ps(c.add(r * stride + half * 16), *sum);
            }
        }
    }
}
