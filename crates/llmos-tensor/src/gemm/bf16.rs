//! Packing to bfloat16 and the register tile of `vdpbf16ps`, which takes two values of `k` at once.

use std::arch::x86_64::*;
use std::ops::Range;

use super::View;
use super::ahead::Ahead;
use super::kernel::{STRIDE, Strip};
use super::pack::{BLOCK, SLACK, WORDS};
use crate::ops::lanes::{Avx512, MAX_LANES, transpose};

/// Rows and columns of the tile.
const ROWS: usize = 12;
const COLS: usize = 32;

/// As [`super::pack::pack_a_f32`], in words of two: a transposed tile is (k / 2, rows).
///
/// # Safety
/// The CPU has these instructions.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
pub(super) unsafe fn pack_a(a: View<'_>, rows: Range<usize>, k: Range<usize>, out: &mut [u32]) {
    let (k, n_k) = (k.start, k.len());
    let n_word = n_k.div_ceil(2);
    assert!(out.len() >= rows.len().next_multiple_of(ROWS) * WORDS + SLACK, "room for rows");
    assert!(n_word <= BLOCK, "a block at a time");
    let tiles = || rows.clone().step_by(ROWS).enumerate();
    let out = out.as_mut_ptr();
    if a.transposed {
        // All tiles of a word at once: they lie side by side in memory, and the next word does not.
        for word in 0..n_word {
            for (tile, first) in tiles() {
                // SAFETY: the room was looked at. What is written behind a word is written again with
                // the next one, or lies behind the block.
                unsafe {
                    let to = out.add(tile * ROWS * WORDS + word * ROWS);
                    _mm512_storeu_si512(to.cast(), pairs(a, first, (k, n_k), word));
                }
            }
        }
        return;
    }
    for (tile, first) in tiles() {
        for row in first..rows.end.min(first + ROWS) {
            let from = &a.data[a.at(row, k)..][..n_k];
            for i in (0..n_word).step_by(16) {
                // SAFETY: a row has room for its words in whole vectors.
                unsafe {
                    let to = out.add(tile * ROWS * WORDS + (row - first) * WORDS + i);
                    _mm512_storeu_si512(to.cast(), round(&from[2 * i..]));
                }
            }
        }
    }
}

/// As [`super::pack::pack_b_f32`], in words of two: (k / 2, 32).
///
/// # Safety
/// The CPU has these instructions.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512bf16")]
pub(super) unsafe fn pack_b(b: View<'_>, col: usize, k: Range<usize>, out: &mut [u32]) {
    let (k, n_k) = (k.start, k.len());
    let n_word = n_k.div_ceil(2);
    assert!(out.len() >= n_word * COLS, "room for a panel");
    let out = out.as_mut_ptr();
    let n_col = COLS.min(b.cols - col);
    for lane in (0..n_col).step_by(16) {
        if !b.transposed {
            for word in 0..n_word {
                let words = pairs(b, col + lane, (k, n_k), word);
                // SAFETY: the panel has that room.
                unsafe { _mm512_storeu_si512(out.add(word * COLS + lane).cast(), words) };
            }
            continue;
        }
        for i in (0..n_word).step_by(16) {
            let mut square = [_mm512_setzero_ps(); MAX_LANES];
            for (n, row) in square[..16.min(n_col - lane)].iter_mut().enumerate() {
                let from = &b.data[b.at(k, col + lane + n)..][..n_k];
                *row = _mm512_castsi512_ps(round(&from[2 * i..]));
            }
            // SAFETY: the CPU has the instructions; rows beyond the words are not written.
            unsafe {
                transpose::<Avx512>(&mut square);
                for (r, row) in square[..16.min(n_word - i)].iter().enumerate() {
                    _mm512_storeu_ps(out.add((i + r) * COLS + lane).cast(), *row);
                }
            }
        }
    }
}

/// The first 16 numbers, zeros where there are fewer.
#[target_feature(enable = "avx512f")]
#[inline]
fn load(from: &[f32]) -> __m512 {
    let mask = if from.len() >= 16 { u16::MAX } else { (1 << from.len()) - 1 };
    // SAFETY: the mask keeps the read within the slice.
    unsafe { _mm512_maskz_loadu_ps(mask, from.as_ptr()) }
}

/// The first 32 numbers, two to a word, zeros where there are fewer.
#[target_feature(enable = "avx512f,avx512bf16")]
#[inline]
fn round(from: &[f32]) -> __m512i {
    let high = load(from.get(16..).unwrap_or(&[]));
    let rounded = _mm512_cvtne2ps_pbh(high, load(from));
    // SAFETY: the same bits.
    unsafe { std::mem::transmute::<__m512bh, __m512i>(rounded) }
}

/// Words of 16 rows or columns from `first` on, which lie side by side: word `word` of `n_k` values
/// from `k` on. An odd last value has a zero beside it.
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
#[inline]
fn pairs(of: View<'_>, first: usize, (k, n_k): (usize, usize), word: usize) -> __m512i {
    let value = |i: usize| {
        if i < n_k { load(&of.data[(k + i) * of.stride + first..]) } else { _mm512_setzero_ps() }
    };
    let rounded = _mm512_cvtne2ps_pbh(value(2 * word + 1), value(2 * word));
    // SAFETY: the same bits.
    let halves = unsafe { std::mem::transmute::<__m512bh, __m512i>(rounded) };
    let evens = _mm512_cvtepi16_epi32(_mm256_setr_epi16(
        0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15,
    ));
    let odds = _mm512_slli_epi32::<16>(_mm512_add_epi32(evens, _mm512_set1_epi32(16)));
    _mm512_permutexvar_epi16(_mm512_or_si512(evens, odds), halves)
}

/// Multiplies operands that are packed in words of two.
///
/// # Safety
/// As [`super::kernel::multiply_f32`], on a CPU with these instructions.
#[target_feature(enable = "avx512f,avx512bf16")]
pub(super) unsafe fn multiply(strip: Strip, ahead: &mut Ahead) {
    for row in (0..strip.rows).step_by(ROWS) {
        let tile = strip.tile(row);
        // SAFETY: given by the caller.
        unsafe {
            match (tile.transposed, tile.rows) {
                (false, 9..) => one::<12, WORDS, 1>(tile, ahead),
                (false, 5..) => one::<8, WORDS, 1>(tile, ahead),
                (false, _) => one::<4, WORDS, 1>(tile, ahead),
                (true, 9..) => one::<12, 1, ROWS>(tile, ahead),
                (true, 5..) => one::<8, 1, ROWS>(tile, ahead),
                (true, _) => one::<4, 1, ROWS>(tile, ahead),
            }
        }
    }
}

#[target_feature(enable = "avx512f,avx512bf16")]
unsafe fn one<const R: usize, const ROW: usize, const STEP: usize>(tile: Strip, ahead: &mut Ahead) {
    // SAFETY: given by the caller.
    unsafe {
        if tile.cols > 16 {
            multiply_tile::<R, ROW, STEP, 2>(tile, ahead);
        } else {
            multiply_tile::<R, ROW, STEP, 1>(tile, ahead);
        }
    }
}

/// R rows of `a`, ROW words apart while words of a row are STEP words apart, by V vectors.
#[target_feature(enable = "avx512f,avx512bf16")]
unsafe fn multiply_tile<const R: usize, const ROW: usize, const STEP: usize, const V: usize>(
    tile: Strip,
    ahead: &mut Ahead,
) {
    let Strip { a, b, words, c, stride, rows, cols, add, .. } = tile;
    // SAFETY: given by the caller. Registers of 512 bits are the same bits whatever their type.
    unsafe {
        let mut sums = [[_mm512_setzero_ps(); V]; R];
        for (i, first) in (0..words).step_by(STRIDE).enumerate() {
            if i < R {
                _mm_prefetch::<_MM_HINT_T0>(c.wrapping_add(i * stride).cast());
                _mm_prefetch::<_MM_HINT_T0>(c.wrapping_add(i * stride + 16 * V - 1).cast());
            }
            for _ in 0..ahead.at_once {
                let Some(line) = ahead.next() else { break };
                _mm_prefetch::<_MM_HINT_T1>(line.cast());
            }
            for k in first..words.min(first + STRIDE) {
                let mut of_b =
                    [std::mem::transmute::<__m512i, __m512bh>(_mm512_setzero_si512()); V];
                for (v, of_b) in of_b.iter_mut().enumerate() {
                    let word = _mm512_loadu_si512(b.add(k * COLS + 16 * v).cast());
                    *of_b = std::mem::transmute::<__m512i, __m512bh>(word);
                }
                for (r, sums) in sums.iter_mut().enumerate() {
                    let of_a = _mm512_set1_epi32(*a.add(k * STEP + r * ROW) as i32);
                    let of_a = std::mem::transmute::<__m512i, __m512bh>(of_a);
                    for (sum, of_b) in sums.iter_mut().zip(of_b) {
                        *sum = _mm512_dpbf16_ps(*sum, of_a, of_b);
                    }
                }
            }
        }
        for (r, sums) in sums.iter().enumerate().take(rows) {
            for (v, sum) in sums.iter().enumerate() {
                let (out, n) = (c.add(r * stride + v * 16), cols - v * 16);
                let mask = if n >= 16 { u16::MAX } else { (1 << n) - 1 };
                let before = _mm512_maskz_loadu_ps(if add { mask } else { 0 }, out);
                let sum = if add { _mm512_add_ps(before, *sum) } else { *sum };
                _mm512_mask_storeu_ps(out, mask, sum);
            }
        }
    }
}
