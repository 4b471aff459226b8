//! Product kernels for AVX-512 with VNNI.
//!
//! `vpdpbusd` multiplies four unsigned bytes of each of 16 rows with four signed bytes of a token,
//! broadcast from memory, and adds them to 16 sums of 32 bits: eight of them make a block exactly.

use std::arch::x86_64::*;

use super::activations::{Block, QuantisedTile, Tile, inverse_scale};
use super::format::{Format, HALVES};
use super::kernel::{ROWS, Target, Widths};

pub(crate) const WIDTHS: Widths =
    Widths { direct: &[8, 4, 2, 1], panel: &[8, 4, 2, 1], dense: &[8, 4, 2, 1], panel_from: 16 };

/// How far ahead of the read position weights are asked for; the hardware's own prefetcher stops at
/// 4 KiB boundaries. Asked for as data of one use (NTA), and read as one stream a thread, they come
/// at 97 % of the read bandwidth on Zen 5; as two streams at 77 %, into all caches at 68 %.
pub(super) const AHEAD: usize = 4096;

/// A block of 16 rows in registers.
struct Unpacked {
    quads: [__m512i; 8],
    scale: [__m512; 2],
    min: [__m512; 2],
}

/// Reads a block; `at` is where it starts, `head` its super-block's head.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx512vbmi,avx2,fma,f16c")]
#[inline]
unsafe fn read_block<F: Format>(at: *const u8, head: *const u8) -> Unpacked {
    // SAFETY: the caller gives a whole block (and head) of format F; loads are unaligned ones.
    unsafe {
        let low = at.add(F::BLOCK_SCALES);
        let high = low.add(F::LOW * 64);
        let load = |p: *const u8, i: usize| _mm512_loadu_si512(p.add(64 * i).cast());
        let mut quads = [_mm512_setzero_si512(); 8];
        match F::LOW {
            8 => {
                for i in 0..8 {
                    quads[i] = load(low, i);
                }
            }
            4 => {
                let mask = _mm512_set1_epi8(0x0f);
                for i in 0..4 {
                    let bytes = load(low, i);
                    quads[i] = _mm512_and_si512(bytes, mask);
                    quads[i + 4] = _mm512_and_si512(_mm512_srli_epi16::<4>(bytes), mask);
                }
            }
            _ => {
                let mask = _mm512_set1_epi8(0x03);
                for c in 0..2 {
                    let bytes = load(low, c);
                    quads[4 * c] = _mm512_and_si512(bytes, mask);
                    quads[4 * c + 1] = _mm512_and_si512(_mm512_srli_epi16::<2>(bytes), mask);
                    quads[4 * c + 2] = _mm512_and_si512(_mm512_srli_epi16::<4>(bytes), mask);
                    quads[4 * c + 3] = _mm512_and_si512(_mm512_srli_epi16::<6>(bytes), mask);
                }
            }
        }
        // Bits of the second plane are shifted to stand above the first's, masked and or-ed in
        // (ternary logic 0xf8 is `a | (b & c)`).
        let put = |quad: __m512i, bits: __m512i, right: i32, mask: __m512i| {
            let moved = if right >= 0 {
                _mm512_srl_epi16(bits, _mm_cvtsi32_si128(right))
            } else {
                _mm512_sll_epi16(bits, _mm_cvtsi32_si128(-right))
            };
            _mm512_ternarylogic_epi32::<0xf8>(quad, moved, mask)
        };
        match F::HIGH {
            2 => {
                let mask = _mm512_set1_epi8(3 << F::LOW);
                for c in 0..2 {
                    let bits = load(high, c);
                    for j in 0..4 {
                        quads[4 * c + j] =
                            put(quads[4 * c + j], bits, 2 * j as i32 - F::LOW as i32, mask);
                    }
                }
            }
            1 => {
                let mask = _mm512_set1_epi8(1 << F::LOW);
                let bits = load(high, 0);
                for i in 0..8 {
                    quads[i] = put(quads[i], bits, i as i32 - F::LOW as i32, mask);
                }
            }
            _ => {}
        }
        if let Some(table) = F::TABLE {
            let table = _mm512_broadcast_i32x4(_mm_loadu_si128(table.as_ptr().cast()));
            for quad in &mut quads {
                *quad = _mm512_shuffle_epi8(table, *quad);
            }
        }
        let zero = _mm512_setzero_ps();
        let (mut scale, mut min) = ([zero; 2], [zero; 2]);
        let half = |p: *const u8| {
            let bits = _mm256_loadu_si256(p.cast());
            if F::BFLOAT {
                _mm512_castsi512_ps(_mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(bits)))
            } else {
                _mm512_cvtph_ps(bits)
            }
        };
        let byte = |p: *const u8, signed: bool| {
            let bytes = _mm_loadu_si128(p.cast());
            _mm512_cvtepi32_ps(if signed {
                _mm512_cvtepi8_epi32(bytes)
            } else {
                _mm512_cvtepu8_epi32(bytes)
            })
        };
        for g in 0..F::GROUPS {
            if F::SUPER {
                scale[g] = _mm512_mul_ps(half(head), byte(at.add(g * ROWS), F::SIGNED));
                if F::MIN {
                    let bytes = at.add((F::GROUPS + g) * ROWS);
                    min[g] = _mm512_mul_ps(half(head.add(HALVES)), byte(bytes, false));
                }
            } else {
                scale[g] = half(at);
                if F::MIN {
                    min[g] = half(at.add(HALVES));
                }
            }
        }
        Unpacked { quads, scale, min }
    }
}

/// Adds a block's products with `T` tokens, whose blocks lie side by side, to `sums` (16 rows each).
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx512vbmi,avx2,fma,f16c")]
#[inline]
unsafe fn dot<F: Format, const T: usize>(w: &Unpacked, a: *const Block, sums: &mut [__m512; T]) {
    const { assert!(F::GROUPS <= 2) };
    // SAFETY: given by the caller; the group exists.
    unsafe {
        dot_group::<F, T, 0>(w, a, sums);
        if F::GROUPS == 2 {
            dot_group::<F, T, 1>(w, a, sums);
        }
    }
}

/// The part of [`dot`] under the block's scale `G`.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx512vbmi,avx2,fma,f16c")]
#[inline]
unsafe fn dot_group<F: Format, const T: usize, const G: usize>(
    w: &Unpacked,
    a: *const Block,
    sums: &mut [__m512; T],
) {
    let span = 8 / F::GROUPS;
    for t in 0..T {
        // SAFETY: the tile has T tokens; a block has eight words of four quants and is aligned to
        // four bytes.
        let a = unsafe { &*a.add(t) };
        let quad = |i: usize| unsafe { _mm512_set1_epi32(*a.quants.as_ptr().cast::<i32>().add(i)) };
        let negative_sum = match (F::GROUPS, G) {
            (1, _) => a.negative_sum,
            (_, 0) => a.negative_half,
            _ => a.negative_sum - a.negative_half,
        };
        let mut product = if F::OFFSET > 0 {
            _mm512_set1_epi32(negative_sum << F::OFFSET)
        } else {
            _mm512_setzero_si512()
        };
        for i in G * span..(G + 1) * span {
            product = _mm512_dpbusd_epi32(product, w.quads[i], quad(i));
        }
        let scale = _mm512_mul_ps(w.scale[G], _mm512_set1_ps(a.scale));
        sums[t] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(product), scale, sums[t]);
        if F::MIN {
            let scaled = if F::GROUPS == 1 { -a.scaled_sum } else { negative_sum as f32 * a.scale };
            sums[t] = _mm512_fmadd_ps(w.min[G], _mm512_set1_ps(scaled), sums[t]);
        }
    }
}

/// Writes 16 rows of a token, or as many as exist.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
#[inline]
pub(super) unsafe fn store(target: Target, t: usize, sum: __m512) {
    // SAFETY: the mask keeps the write within the target's rows.
    unsafe {
        let out = target.start.add(t * target.stride);
        if target.rows >= ROWS {
            _mm512_storeu_ps(out, sum);
        } else {
            _mm512_mask_storeu_ps(out, (1 << target.rows) - 1, sum);
        }
    }
}

/// Reads 16 rows of a token, or as many as exist.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
#[inline]
pub(super) unsafe fn load(target: Target, t: usize) -> __m512 {
    // SAFETY: the mask keeps the read within the target's rows.
    unsafe {
        let from = target.start.add(t * target.stride);
        if target.rows >= ROWS {
            _mm512_loadu_ps(from)
        } else {
            _mm512_maskz_loadu_ps((1 << target.rows) - 1, from)
        }
    }
}

/// See [`super::kernel::Direct`].
///
/// # Safety
/// As the type says, on a CPU with this instruction set.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx512vbmi,avx2,fma,f16c")]
pub(crate) unsafe fn direct<F: Format>(
    weights: *const u8,
    group_bytes: usize,
    groups: usize,
    blocks: usize,
    x: QuantisedTile,
    target: Target,
) {
    for g in 0..groups {
        // SAFETY: group g exists.
        unsafe {
            let at = weights.add(g * group_bytes);
            let target = target.group(g);
            match x.tile.tokens {
                1 => direct_tile::<F, 1>(at, blocks, x, target),
                2 => direct_tile::<F, 2>(at, blocks, x, target),
                4 => direct_tile::<F, 4>(at, blocks, x, target),
                _ => direct_tile::<F, 8>(at, blocks, x, target),
            }
        }
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx512vbmi,avx2,fma,f16c")]
unsafe fn direct_tile<F: Format, const T: usize>(
    weights: *const u8,
    blocks: usize,
    x: QuantisedTile,
    target: Target,
) {
    let mut sums = [_mm512_setzero_ps(); T];
    for block in 0..blocks {
        let (at, head) = F::block_offset(block);
        // SAFETY: the block lies within its group, the activations within their tile;
        // a prefetch may point anywhere.
        unsafe {
            let mut line = 0;
            while line < F::BLOCK {
                _mm_prefetch::<_MM_HINT_NTA>(weights.wrapping_add(at + AHEAD + line).cast());
                line += 64;
            }
            let w = read_block::<F>(weights.add(at), weights.add(head));
            dot::<F, T>(&w, x.values.add(block * T), &mut sums);
        }
    }
    for t in 0..T {
        // SAFETY: given by the caller.
        unsafe { store(target, t, sums[t]) };
    }
}

/// See [`super::kernel::Unpack`].
///
/// # Safety
/// As the type says, on a CPU with this instruction set.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx512vbmi,avx2,fma,f16c")]
pub(crate) unsafe fn unpack<F: Format>(
    weights: *const u8,
    first: usize,
    blocks: usize,
    panel: *mut u8,
) {
    for block in 0..blocks {
        let (at, head) = F::block_offset(first + block);
        // SAFETY: block and panel block lie within what the caller gave.
        unsafe {
            let w = read_block::<F>(weights.add(at), weights.add(head));
            let out = panel.add(block * F::PANEL_BLOCK);
            for (i, quad) in w.quads.iter().enumerate() {
                _mm512_storeu_si512(out.add(64 * i).cast(), *quad);
            }
            for g in 0..F::GROUPS {
                _mm512_storeu_ps(out.add(512 + 64 * g).cast(), w.scale[g]);
                if F::MIN {
                    _mm512_storeu_ps(out.add(512 + 64 * (F::GROUPS + g)).cast(), w.min[g]);
                }
            }
        }
    }
}

/// See [`super::kernel::Panel`].
///
/// # Safety
/// As the type says, on a CPU with this instruction set.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx512vbmi,avx2,fma,f16c")]
pub(crate) unsafe fn panel<F: Format>(
    panel: *const u8,
    blocks: usize,
    x: QuantisedTile,
    target: Target,
    add: bool,
) {
    // SAFETY: given by the caller.
    unsafe {
        match x.tile.tokens {
            1 => panel_tile::<F, 1>(panel, blocks, x, target, add),
            2 => panel_tile::<F, 2>(panel, blocks, x, target, add),
            4 => panel_tile::<F, 4>(panel, blocks, x, target, add),
            _ => panel_tile::<F, 8>(panel, blocks, x, target, add),
        }
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx512vbmi,avx2,fma,f16c")]
unsafe fn panel_tile<F: Format, const T: usize>(
    panel: *const u8,
    blocks: usize,
    x: QuantisedTile,
    target: Target,
    add: bool,
) {
    let zero = _mm512_setzero_ps();
    let mut sums = [zero; T];
    if add {
        for t in 0..T {
            // SAFETY: given by the caller.
            sums[t] = unsafe { load(target, t) };
        }
    }
    for block in 0..blocks {
        // SAFETY: within the panel and the tile, which the caller vouches for.
        unsafe {
            let at = panel.add(block * F::PANEL_BLOCK);
            let mut w =
                Unpacked { quads: [_mm512_setzero_si512(); 8], scale: [zero; 2], min: [zero; 2] };
            for i in 0..8 {
                w.quads[i] = _mm512_loadu_si512(at.add(64 * i).cast());
            }
            for g in 0..F::GROUPS {
                w.scale[g] = _mm512_loadu_ps(at.add(512 + 64 * g).cast());
                if F::MIN {
                    w.min[g] = _mm512_loadu_ps(at.add(512 + 64 * (F::GROUPS + g)).cast());
                }
            }
            dot::<F, T>(&w, x.values.add(block * T), &mut sums);
        }
    }
    for t in 0..T {
        // SAFETY: given by the caller.
        unsafe { store(target, t, sums[t]) };
    }
}

/// See [`super::activations::quantise_row`].
///
/// # Safety
/// As there, on a CPU with this instruction set.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma")]
pub(crate) unsafe fn quantise_row(row: &[f32], stride: usize, out: *mut Block) {
    let ones = _mm256_set1_epi8(1);
    for (b, values) in row.as_chunks::<32>().0.iter().enumerate() {
        // SAFETY: 32 values are read, one block written, which the caller vouches for.
        unsafe {
            let x = [_mm512_loadu_ps(values.as_ptr()), _mm512_loadu_ps(values.as_ptr().add(16))];
            let largest =
                _mm512_reduce_max_ps(_mm512_max_ps(_mm512_abs_ps(x[0]), _mm512_abs_ps(x[1])));
            let inverse = _mm512_set1_ps(inverse_scale(largest));
            let bytes =
                x.map(|x| _mm512_cvtsepi32_epi8(_mm512_cvtps_epi32(_mm512_mul_ps(x, inverse))));
            let quants = _mm256_set_m128i(bytes[1], bytes[0]);
            let sums = _mm256_dpbusd_epi32(_mm256_setzero_si256(), ones, quants);
            let add = |v: __m128i| {
                let v = _mm_add_epi32(v, _mm_shuffle_epi32::<0b01_00_11_10>(v));
                _mm_cvtsi128_si32(_mm_add_epi32(v, _mm_shuffle_epi32::<0b10_11_00_01>(v)))
            };
            let half = add(_mm256_castsi256_si128(sums));
            let sum = half + add(_mm256_extracti128_si256::<1>(sums));
            let scale = largest / 127.0;
            let out = out.add(b * stride);
            _mm256_storeu_si256((&raw mut (*out).quants).cast(), quants);
            (*out).scale = scale;
            (*out).negative_sum = -sum;
            (*out).negative_half = -half;
            (*out).scaled_sum = sum as f32 * scale;
        }
    }
}

macro_rules! dense {
    ($name:ident, $tile:ident, $size:expr, $load:expr) => {
        /// See [`super::kernel::DenseDirect`].
        ///
        /// # Safety
        /// As the type says, on a CPU with this instruction set.
        #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx2,fma,f16c")]
        pub(crate) unsafe fn $name(
            weights: *const u8,
            group_bytes: usize,
            groups: usize,
            cols: usize,
            tile: Tile,
            x: *const f32,
            target: Target,
        ) {
            let mut g = 0;
            while g < groups {
                // SAFETY: the groups that each call reads exist.
                unsafe {
                    let at = weights.add(g * group_bytes);
                    let target = target.group(g);
                    let left = groups - g;
                    g += match (tile.tokens, left) {
                        (1, 4..) => $tile::<1, 4>(at, group_bytes, cols, x, target),
                        (1, 2..) => $tile::<1, 2>(at, group_bytes, cols, x, target),
                        (1, _) => $tile::<1, 1>(at, group_bytes, cols, x, target),
                        (2, 4..) => $tile::<2, 4>(at, group_bytes, cols, x, target),
                        (2, _) => $tile::<2, 1>(at, group_bytes, cols, x, target),
                        (4, 2..) => $tile::<4, 2>(at, group_bytes, cols, x, target),
                        (4, _) => $tile::<4, 1>(at, group_bytes, cols, x, target),
                        (_, 2..) => $tile::<8, 2>(at, group_bytes, cols, x, target),
                        _ => $tile::<8, 1>(at, group_bytes, cols, x, target),
                    };
                }
            }
        }

        #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx2,fma,f16c")]
        unsafe fn $tile<const T: usize, const G: usize>(
            weights: *const u8,
            group_bytes: usize,
            cols: usize,
            x: *const f32,
            target: Target,
        ) -> usize {
            let mut sums = [[_mm512_setzero_ps(); T]; G];
            for k in 0..cols {
                // SAFETY: within the groups and the tile, which the caller vouches for;
                // a prefetch may point anywhere.
                unsafe {
                    for g in 0..G {
                        let at = weights.add(g * group_bytes + k * ROWS * $size);
                        if T <= 2 && (k * ROWS * $size).is_multiple_of(64) {
                            _mm_prefetch::<_MM_HINT_NTA>(at.wrapping_add(AHEAD).cast());
                        }
                        let w = $load(at);
                        for t in 0..T {
                            let a = _mm512_set1_ps(*x.add(k * T + t));
                            sums[g][t] = _mm512_fmadd_ps(w, a, sums[g][t]);
                        }
                    }
                }
            }
            for g in 0..G {
                for t in 0..T {
                    // SAFETY: given by the caller.
                    unsafe { store(target.group(g), t, sums[g][t]) };
                }
            }
            G
        }
    };
}

dense!(dense_f32, dense_f32_tile, 4, |p: *const u8| _mm512_loadu_ps(p.cast()));
dense!(dense_f16, dense_f16_tile, 2, |p: *const u8| _mm512_cvtph_ps(_mm256_loadu_si256(p.cast())));
dense!(dense_bf16, dense_bf16_tile, 2, |p: *const u8| _mm512_castsi512_ps(
    _mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(_mm256_loadu_si256(p.cast())))
));
