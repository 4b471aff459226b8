//! Product kernels for AVX2.
//!
//! There is no four-way dot product here: `vpmaddubsw` multiplies unsigned with signed bytes and
//! adds pairs to 16 bits. Quants of up to 4 bits leave room to add a whole block there
//! (8 * 2 * 15 * 127 = 30,480 < 32,767) before one `vpmaddwd` widens it; 5 bits leave room for four
//! quads, 6 bits for two. Wider quants are taken as signed: magnitude times sign-adjusted
//! activation, widened at once. A row group is walked in two halves of eight rows.

use std::arch::x86_64::*;

use super::activations::{Block, QuantisedTile, Tile, inverse_scale};
use super::format::{Format, HALVES};
use super::kernel::{ROWS, Target, Widths};

pub(crate) const WIDTHS: Widths =
    Widths { direct: &[4, 2, 1], panel: &[4, 2, 1], dense: &[6, 4, 2, 1], panel_from: 12 };

/// How far ahead of the read position weights are asked for.
const AHEAD: usize = 4096;

/// True for formats whose quants need all eight bits.
const fn is_wide<F: Format>() -> bool {
    F::LOW == 8 || F::TABLE.is_some()
}

/// Quads whose products can be added in 16 bits.
const fn run<F: Format>() -> usize {
    match F::LOW + F::HIGH {
        0..=4 => {
            if F::GROUP == 16 {
                4
            } else {
                8
            }
        }
        5 => 4,
        _ => 2,
    }
}

/// A block of eight rows: quads (signed for wide formats), scales and minima of its groups.
struct Unpacked {
    quads: [__m256i; 8],
    scale: [__m256; 2],
    min: [__m256; 2],
}

/// Reads half `h` of a block; `at` is where the block starts, `head` its super-block's head.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
unsafe fn read_block<F: Format>(at: *const u8, head: *const u8, h: usize) -> Unpacked {
    // SAFETY: the caller gives a whole block (and head) of format F; loads are unaligned ones.
    unsafe {
        let low = at.add(F::BLOCK_SCALES + 32 * h);
        let high = low.add(F::LOW * 64);
        let load = |p: *const u8, i: usize| _mm256_loadu_si256(p.add(64 * i).cast());
        let mut quads = [_mm256_setzero_si256(); 8];
        match F::LOW {
            8 => {
                for i in 0..8 {
                    quads[i] = load(low, i);
                }
            }
            4 => {
                let mask = _mm256_set1_epi8(0x0f);
                for i in 0..4 {
                    let bytes = load(low, i);
                    quads[i] = _mm256_and_si256(bytes, mask);
                    quads[i + 4] = _mm256_and_si256(_mm256_srli_epi16::<4>(bytes), mask);
                }
            }
            _ => {
                let mask = _mm256_set1_epi8(0x03);
                for c in 0..2 {
                    let bytes = load(low, c);
                    quads[4 * c] = _mm256_and_si256(bytes, mask);
                    quads[4 * c + 1] = _mm256_and_si256(_mm256_srli_epi16::<2>(bytes), mask);
                    quads[4 * c + 2] = _mm256_and_si256(_mm256_srli_epi16::<4>(bytes), mask);
                    quads[4 * c + 3] = _mm256_and_si256(_mm256_srli_epi16::<6>(bytes), mask);
                }
            }
        }
        let put = |quad: __m256i, bits: __m256i, right: i32, mask: __m256i| {
            let moved = if right >= 0 {
                _mm256_srl_epi16(bits, _mm_cvtsi32_si128(right))
            } else {
                _mm256_sll_epi16(bits, _mm_cvtsi32_si128(-right))
            };
            _mm256_or_si256(quad, _mm256_and_si256(moved, mask))
        };
        match F::HIGH {
            2 => {
                let mask = _mm256_set1_epi8(3 << F::LOW);
                for c in 0..2 {
                    let bits = load(high, c);
                    for j in 0..4 {
                        quads[4 * c + j] =
                            put(quads[4 * c + j], bits, 2 * j as i32 - F::LOW as i32, mask);
                    }
                }
            }
            1 => {
                let mask = _mm256_set1_epi8(1 << F::LOW);
                let bits = load(high, 0);
                for i in 0..8 {
                    quads[i] = put(quads[i], bits, i as i32 - F::LOW as i32, mask);
                }
            }
            _ => {}
        }
        if let Some(table) = F::TABLE {
            let table = _mm256_broadcastsi128_si256(_mm_loadu_si128(table.as_ptr().cast()));
            for quad in &mut quads {
                *quad = _mm256_shuffle_epi8(table, *quad);
            }
        }
        if is_wide::<F>() {
            for quad in &mut quads {
                *quad = _mm256_xor_si256(*quad, _mm256_set1_epi8(-128));
            }
        }
        let zero = _mm256_setzero_ps();
        let (mut scale, mut min) = ([zero; 2], [zero; 2]);
        let half = |p: *const u8| {
            let bits = _mm_loadu_si128(p.add(16 * h).cast());
            if F::BFLOAT {
                _mm256_castsi256_ps(_mm256_slli_epi32::<16>(_mm256_cvtepu16_epi32(bits)))
            } else {
                _mm256_cvtph_ps(bits)
            }
        };
        let byte = |p: *const u8, signed: bool| {
            let bytes = _mm_loadl_epi64(p.add(8 * h).cast());
            _mm256_cvtepi32_ps(if signed {
                _mm256_cvtepi8_epi32(bytes)
            } else {
                _mm256_cvtepu8_epi32(bytes)
            })
        };
        for g in 0..F::GROUPS {
            if F::SUPER {
                scale[g] = _mm256_mul_ps(half(head), byte(at.add(g * ROWS), F::SIGNED));
                if F::MIN {
                    let bytes = at.add((F::GROUPS + g) * ROWS);
                    min[g] = _mm256_mul_ps(half(head.add(HALVES)), byte(bytes, false));
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

/// Adds a block's products with `T` tokens to `sums` (8 rows each).
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
unsafe fn dot<F: Format, const T: usize>(w: &Unpacked, a: *const Block, sums: &mut [__m256; T]) {
    let ones = _mm256_set1_epi16(1);
    for g in 0..F::GROUPS {
        let mut products = [_mm256_setzero_si256(); T];
        let span = 8 / F::GROUPS;
        for start in (g * span..(g + 1) * span).step_by(if is_wide::<F>() { 1 } else { run::<F>() })
        {
            let mut narrow = [_mm256_setzero_si256(); T];
            let count = if is_wide::<F>() { 1 } else { run::<F>() };
            for i in start..start + count {
                let quad = w.quads[i];
                for t in 0..T {
                    // SAFETY: the tile has T tokens; a block has eight words of four quants.
                    let four = unsafe {
                        _mm256_set1_epi32(*(*a.add(t)).quants.as_ptr().cast::<i32>().add(i))
                    };
                    let pairs = if is_wide::<F>() {
                        _mm256_maddubs_epi16(_mm256_abs_epi8(quad), _mm256_sign_epi8(four, quad))
                    } else {
                        _mm256_maddubs_epi16(quad, four)
                    };
                    narrow[t] = if i == start { pairs } else { _mm256_add_epi16(narrow[t], pairs) };
                }
            }
            for t in 0..T {
                products[t] = _mm256_add_epi32(products[t], _mm256_madd_epi16(narrow[t], ones));
            }
        }
        for t in 0..T {
            // SAFETY: the tile has T tokens.
            let a = unsafe { &*a.add(t) };
            let negative_sum = match (F::GROUPS, g) {
                (1, _) => a.negative_sum,
                (_, 0) => a.negative_half,
                _ => a.negative_sum - a.negative_half,
            };
            let mut product = products[t];
            if F::OFFSET > 0 && !is_wide::<F>() {
                product = _mm256_add_epi32(product, _mm256_set1_epi32(negative_sum << F::OFFSET));
            }
            let scale = _mm256_mul_ps(w.scale[g], _mm256_set1_ps(a.scale));
            sums[t] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(product), scale, sums[t]);
            if F::MIN {
                let scaled =
                    if F::GROUPS == 1 { -a.scaled_sum } else { negative_sum as f32 * a.scale };
                sums[t] = _mm256_fmadd_ps(w.min[g], _mm256_set1_ps(scaled), sums[t]);
            }
        }
    }
}

/// Writes eight rows of a token, or as many as exist.
#[target_feature(enable = "avx2")]
#[inline]
unsafe fn store(target: Target, row: usize, t: usize, sum: __m256) {
    // SAFETY: the count keeps the write within the target's rows.
    unsafe {
        let out = target.start.add(t * target.stride + row);
        if target.rows >= row + 8 {
            _mm256_storeu_ps(out, sum);
        } else {
            let mut rows = [0.0; 8];
            _mm256_storeu_ps(rows.as_mut_ptr(), sum);
            for (r, value) in rows.iter().enumerate().take(target.rows.saturating_sub(row)) {
                *out.add(r) = *value;
            }
        }
    }
}

/// Reads eight rows of a token, or as many as exist.
#[target_feature(enable = "avx2")]
#[inline]
unsafe fn load(target: Target, row: usize, t: usize) -> __m256 {
    // SAFETY: the count keeps the read within the target's rows.
    unsafe {
        let from = target.start.add(t * target.stride + row);
        if target.rows >= row + 8 {
            return _mm256_loadu_ps(from);
        }
        let mut rows = [0.0; 8];
        for (r, value) in rows.iter_mut().enumerate().take(target.rows.saturating_sub(row)) {
            *value = *from.add(r);
        }
        _mm256_loadu_ps(rows.as_ptr())
    }
}

/// See [`super::kernel::Direct`].
///
/// # Safety
/// As the type says, on a CPU with this instruction set.
#[target_feature(enable = "avx2,fma,f16c")]
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
                _ => direct_tile::<F, 4>(at, blocks, x, target),
            }
        }
    }
}

#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn direct_tile<F: Format, const T: usize>(
    weights: *const u8,
    blocks: usize,
    x: QuantisedTile,
    target: Target,
) {
    let mut sums = [[_mm256_setzero_ps(); T]; 2];
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
            for h in 0..2 {
                let w = read_block::<F>(weights.add(at), weights.add(head), h);
                dot::<F, T>(&w, x.values.add(block * T), &mut sums[h]);
            }
        }
    }
    for h in 0..2 {
        for t in 0..T {
            // SAFETY: given by the caller.
            unsafe { store(target, 8 * h, t, sums[h][t]) };
        }
    }
}

/// See [`super::kernel::Unpack`].
///
/// # Safety
/// As the type says, on a CPU with this instruction set.
#[target_feature(enable = "avx2,fma,f16c")]
pub(crate) unsafe fn unpack<F: Format>(
    weights: *const u8,
    first: usize,
    blocks: usize,
    panel: *mut u8,
) {
    for block in 0..blocks {
        let (at, head) = F::block_offset(first + block);
        for h in 0..2 {
            // SAFETY: block and panel block lie within what the caller gave.
            unsafe {
                let w = read_block::<F>(weights.add(at), weights.add(head), h);
                let out = panel.add((2 * block + h) * F::PANEL_BLOCK / 2);
                for (i, quad) in w.quads.iter().enumerate() {
                    _mm256_storeu_si256(out.add(32 * i).cast(), *quad);
                }
                for g in 0..F::GROUPS {
                    _mm256_storeu_ps(out.add(256 + 32 * g).cast(), w.scale[g]);
                    if F::MIN {
                        _mm256_storeu_ps(out.add(256 + 32 * (F::GROUPS + g)).cast(), w.min[g]);
                    }
                }
            }
        }
    }
}

/// See [`super::kernel::Panel`].
///
/// # Safety
/// As the type says, on a CPU with this instruction set.
#[target_feature(enable = "avx2,fma,f16c")]
pub(crate) unsafe fn panel<F: Format>(
    panel: *const u8,
    blocks: usize,
    x: QuantisedTile,
    target: Target,
    add: bool,
) {
    for h in 0..2 {
        // SAFETY: given by the caller.
        unsafe {
            match x.tile.tokens {
                1 => panel_tile::<F, 1>(panel, blocks, x, target, h, add),
                2 => panel_tile::<F, 2>(panel, blocks, x, target, h, add),
                _ => panel_tile::<F, 4>(panel, blocks, x, target, h, add),
            }
        }
    }
}

#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn panel_tile<F: Format, const T: usize>(
    panel: *const u8,
    blocks: usize,
    x: QuantisedTile,
    target: Target,
    h: usize,
    add: bool,
) {
    let zero = _mm256_setzero_ps();
    let mut sums = [zero; T];
    if add {
        for t in 0..T {
            // SAFETY: given by the caller.
            sums[t] = unsafe { load(target, 8 * h, t) };
        }
    }
    for block in 0..blocks {
        // SAFETY: within the panel and the tile, which the caller vouches for.
        unsafe {
            let at = panel.add((2 * block + h) * F::PANEL_BLOCK / 2);
            let mut w =
                Unpacked { quads: [_mm256_setzero_si256(); 8], scale: [zero; 2], min: [zero; 2] };
            for i in 0..8 {
                w.quads[i] = _mm256_loadu_si256(at.add(32 * i).cast());
            }
            for g in 0..F::GROUPS {
                w.scale[g] = _mm256_loadu_ps(at.add(256 + 32 * g).cast());
                if F::MIN {
                    w.min[g] = _mm256_loadu_ps(at.add(256 + 32 * (F::GROUPS + g)).cast());
                }
            }
            dot::<F, T>(&w, x.values.add(block * T), &mut sums);
        }
    }
    for t in 0..T {
        // SAFETY: given by the caller.
        unsafe { store(target, 8 * h, t, sums[t]) };
    }
}

/// See [`super::activations::quantise_row`].
///
/// # Safety
/// As there, on a CPU with this instruction set.
#[target_feature(enable = "avx2,fma")]
pub(crate) unsafe fn quantise_row(row: &[f32], stride: usize, out: *mut Block) {
    let magnitude = _mm256_castsi256_ps(_mm256_set1_epi32(0x7fff_ffff));
    for (b, values) in row.as_chunks::<32>().0.iter().enumerate() {
        // SAFETY: 32 values are read, one block written, which the caller vouches for.
        unsafe {
            let x: [__m256; 4] =
                std::array::from_fn(|i| _mm256_loadu_ps(values.as_ptr().add(8 * i)));
            let m = x.map(|x| _mm256_and_ps(x, magnitude));
            let m = _mm256_max_ps(_mm256_max_ps(m[0], m[1]), _mm256_max_ps(m[2], m[3]));
            let m = _mm_max_ps(_mm256_castps256_ps128(m), _mm256_extractf128_ps::<1>(m));
            let m = _mm_max_ps(m, _mm_movehl_ps(m, m));
            let largest = _mm_cvtss_f32(_mm_max_ss(m, _mm_movehdup_ps(m)));
            let inverse = _mm256_set1_ps(inverse_scale(largest));
            let q = x.map(|x| _mm256_cvtps_epi32(_mm256_mul_ps(x, inverse)));
            // Packing works within 128-bit lanes; the permutation restores the order.
            let bytes =
                _mm256_packs_epi16(_mm256_packs_epi32(q[0], q[1]), _mm256_packs_epi32(q[2], q[3]));
            let quants =
                _mm256_permutevar8x32_epi32(bytes, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
            let pairs = _mm256_maddubs_epi16(_mm256_set1_epi8(1), quants);
            let sums = _mm256_madd_epi16(pairs, _mm256_set1_epi16(1));
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
        #[target_feature(enable = "avx2,fma,f16c")]
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
                    g += match (tile.tokens, groups - g) {
                        (1, 4..) => $tile::<1, 4>(at, group_bytes, cols, x, target),
                        (1, _) => $tile::<1, 1>(at, group_bytes, cols, x, target),
                        (2, 2..) => $tile::<2, 2>(at, group_bytes, cols, x, target),
                        (2, _) => $tile::<2, 1>(at, group_bytes, cols, x, target),
                        (4, _) => $tile::<4, 1>(at, group_bytes, cols, x, target),
                        _ => $tile::<6, 1>(at, group_bytes, cols, x, target),
                    };
                }
            }
        }

        #[target_feature(enable = "avx2,fma,f16c")]
        unsafe fn $tile<const T: usize, const G: usize>(
            weights: *const u8,
            group_bytes: usize,
            cols: usize,
            x: *const f32,
            target: Target,
        ) -> usize {
            let mut sums = [[[_mm256_setzero_ps(); 2]; T]; G];
            for k in 0..cols {
                // SAFETY: within the groups and the tile, which the caller vouches for;
                // a prefetch may point anywhere.
                unsafe {
                    for g in 0..G {
                        let at = weights.add(g * group_bytes + k * ROWS * $size);
                        if T <= 2 && (k * ROWS * $size).is_multiple_of(64) {
                            _mm_prefetch::<_MM_HINT_NTA>(at.wrapping_add(AHEAD).cast());
                        }
                        let w = [$load(at), $load(at.add(8 * $size))];
                        for t in 0..T {
                            let a = _mm256_set1_ps(*x.add(k * T + t));
                            for h in 0..2 {
                                sums[g][t][h] = _mm256_fmadd_ps(w[h], a, sums[g][t][h]);
                            }
                        }
                    }
                }
            }
            for g in 0..G {
                for t in 0..T {
                    for h in 0..2 {
                        // SAFETY: given by the caller.
                        unsafe { store(target.group(g), 8 * h, t, sums[g][t][h]) };
                    }
                }
            }
            G
        }
    };
}

dense!(dense_f32, dense_f32_tile, 4, |p: *const u8| _mm256_loadu_ps(p.cast()));
dense!(dense_f16, dense_f16_tile, 2, |p: *const u8| _mm256_cvtph_ps(_mm_loadu_si128(p.cast())));
dense!(dense_bf16, dense_bf16_tile, 2, |p: *const u8| _mm256_castsi256_ps(
    _mm256_slli_epi32::<16>(_mm256_cvtepu16_epi32(_mm_loadu_si128(p.cast())))
));
