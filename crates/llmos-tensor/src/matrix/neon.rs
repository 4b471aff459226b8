//! Product kernels for NEON with dot-product instructions.
//!
//! `sdot` multiplies four signed bytes of each of 4 rows with four of a token, taken from a lane of
//! a register, and adds them to 4 sums of 32 bits: eight of them make a block exactly. A row group
//! is walked in four quarters of four rows. Quants of up to 6 bits are signed bytes as they are and
//! are moved by their offset with the sum of the activations; wider ones lose their 128 in the read.

use std::arch::aarch64::*;
use std::arch::asm;

use super::activations::{Block, QuantisedTile, Tile, inverse_scale};
use super::format::{Format, HALVES};
use super::kernel::{ROWS, Target, Widths};

/// Chosen by the number of registers (32), and the tokens from which panels pay as for AVX-512;
/// not yet measured.
pub(crate) const WIDTHS: Widths =
    Widths { direct: &[4, 2, 1], panel: &[8, 4, 2, 1], dense: &[6, 4, 2, 1], panel_from: 16 };

/// True for formats whose quants need all eight bits.
const fn is_wide<F: Format>() -> bool {
    F::LOW == 8 || F::TABLE.is_some()
}

/// The table's values, signed again.
const fn signed(mut table: [u8; 16]) -> [u8; 16] {
    let mut i = 0;
    while i < 16 {
        table[i] ^= 0x80;
        i += 1;
    }
    table
}

/// A block of four rows: quads (signed for wide formats), scales and minima of its groups.
struct Unpacked {
    quads: [int8x16_t; 8],
    scale: [float32x4_t; 2],
    min: [float32x4_t; 2],
}

/// Four sums plus the products of four bytes of each of four rows with lane `LANE` of `a`.
/// The intrinsic (`vdotq_laneq_s32`) is not stable.
#[target_feature(enable = "neon,dotprod")]
#[inline]
fn sdot<const LANE: usize>(mut sum: int32x4_t, w: int8x16_t, a: int8x16_t) -> int32x4_t {
    // SAFETY: the instruction exists where dot-product instructions do, and touches registers only.
    unsafe {
        asm!(
            "sdot {sum:v}.4s, {w:v}.16b, {a:v}.4b[{lane}]",
            sum = inout(vreg) sum,
            w = in(vreg) w,
            a = in(vreg) a,
            lane = const LANE,
            options(pure, nomem, nostack, preserves_flags)
        );
    }
    sum
}

/// Shifts bytes right, or left by the negative. An immediate shift once loops are unrolled.
#[target_feature(enable = "neon")]
#[inline]
fn shift_right(bits: uint8x16_t, by: i32) -> uint8x16_t {
    match by {
        -4 => vshlq_n_u8::<4>(bits),
        -3 => vshlq_n_u8::<3>(bits),
        -2 => vshlq_n_u8::<2>(bits),
        -1 => vshlq_n_u8::<1>(bits),
        0 => bits,
        1 => vshrq_n_u8::<1>(bits),
        2 => vshrq_n_u8::<2>(bits),
        3 => vshrq_n_u8::<3>(bits),
        4 => vshrq_n_u8::<4>(bits),
        _ => vshlq_u8(bits, vdupq_n_s8(-by as i8)),
    }
}

/// Reads quarter `q` of a block; `at` is where the block starts, `head` its super-block's head.
#[target_feature(enable = "neon,dotprod")]
#[inline]
unsafe fn read_block<F: Format>(at: *const u8, head: *const u8, q: usize) -> Unpacked {
    // SAFETY: the caller gives a whole block (and head) of format F; loads are unaligned ones.
    unsafe {
        let low = at.add(F::BLOCK_SCALES + 16 * q);
        let high = low.add(F::LOW * 64);
        let load = |p: *const u8, i: usize| vld1q_u8(p.add(64 * i));
        let mut quads = [vdupq_n_u8(0); 8];
        match F::LOW {
            8 => {
                for i in 0..8 {
                    quads[i] = load(low, i);
                }
            }
            4 => {
                for i in 0..4 {
                    let bytes = load(low, i);
                    quads[i] = vandq_u8(bytes, vdupq_n_u8(0x0f));
                    quads[i + 4] = vshrq_n_u8::<4>(bytes);
                }
            }
            _ => {
                let mask = vdupq_n_u8(0x03);
                for c in 0..2 {
                    let bytes = load(low, c);
                    quads[4 * c] = vandq_u8(bytes, mask);
                    quads[4 * c + 1] = vandq_u8(vshrq_n_u8::<2>(bytes), mask);
                    quads[4 * c + 2] = vandq_u8(vshrq_n_u8::<4>(bytes), mask);
                    quads[4 * c + 3] = vshrq_n_u8::<6>(bytes);
                }
            }
        }
        match F::HIGH {
            2 => {
                let mask = vdupq_n_u8(3 << F::LOW);
                for c in 0..2 {
                    let bits = load(high, c);
                    for j in 0..4 {
                        let moved = shift_right(bits, 2 * j as i32 - F::LOW as i32);
                        quads[4 * c + j] = vorrq_u8(quads[4 * c + j], vandq_u8(moved, mask));
                    }
                }
            }
            1 => {
                let mask = vdupq_n_u8(1 << F::LOW);
                let bits = load(high, 0);
                for i in 0..8 {
                    let moved = shift_right(bits, i as i32 - F::LOW as i32);
                    quads[i] = vorrq_u8(quads[i], vandq_u8(moved, mask));
                }
            }
            _ => {}
        }
        if let Some(table) = const { F::TABLE } {
            let table = signed(table);
            let table = vld1q_u8(table.as_ptr());
            for quad in &mut quads {
                *quad = vqtbl1q_u8(table, *quad);
            }
        } else if is_wide::<F>() {
            for quad in &mut quads {
                *quad = veorq_u8(*quad, vdupq_n_u8(0x80));
            }
        }
        let zero = vdupq_n_f32(0.0);
        let (mut scale, mut min) = ([zero; 2], [zero; 2]);
        let half = |p: *const u8| {
            let bits = vld1_u16(p.add(8 * q).cast());
            if F::BFLOAT {
                vreinterpretq_f32_u32(vshll_n_u16::<16>(bits))
            } else {
                vcvt_f32_f16(vreinterpret_f16_u16(bits))
            }
        };
        let byte = |p: *const u8, signed: bool| {
            let bytes = u64::from(p.add(4 * q).cast::<u32>().read_unaligned());
            if signed {
                vcvtq_f32_s32(vmovl_s16(vget_low_s16(vmovl_s8(vcreate_s8(bytes)))))
            } else {
                vcvtq_f32_u32(vmovl_u16(vget_low_u16(vmovl_u8(vcreate_u8(bytes)))))
            }
        };
        for g in 0..F::GROUPS {
            if F::SUPER {
                scale[g] = vmulq_f32(half(head), byte(at.add(g * ROWS), F::SIGNED));
                if F::MIN {
                    let bytes = at.add((F::GROUPS + g) * ROWS);
                    min[g] = vmulq_f32(half(head.add(HALVES)), byte(bytes, false));
                }
            } else {
                scale[g] = half(at);
                if F::MIN {
                    min[g] = half(at.add(HALVES));
                }
            }
        }
        Unpacked { quads: quads.map(|quad| vreinterpretq_s8_u8(quad)), scale, min }
    }
}

/// Adds a block's products with `N` tokens, one or two side by side, to `sums` (4 rows each).
/// `MOVED` says that the quants have lost their offset already.
#[target_feature(enable = "neon,dotprod")]
#[inline]
unsafe fn dot<F: Format, const N: usize, const MOVED: bool>(
    w: &Unpacked,
    a: *const Block,
    sums: &mut [float32x4_t],
) {
    let mut products = [vdupq_n_s32(0); N];
    for g in 0..2 {
        // SAFETY: the tile has these tokens.
        let a: [&Block; N] = std::array::from_fn(|t| unsafe { &*a.add(t) });
        let negative_sum = a.map(|a| match (F::GROUPS, g) {
            (1, _) => a.negative_sum,
            (_, 0) => a.negative_half,
            _ => a.negative_sum - a.negative_half,
        });
        if F::GROUPS == 2 || g == 0 {
            products = negative_sum.map(|negative_sum| {
                let moved = !MOVED && F::OFFSET > 0 && !is_wide::<F>();
                vdupq_n_s32(if moved { negative_sum << F::OFFSET } else { 0 })
            });
        }
        // SAFETY: 16 of the block's 32 quants.
        let quants = a.map(|a| unsafe { vld1q_s8(a.quants.as_ptr().add(16 * g)) });
        let quads = &w.quads[4 * g..4 * g + 4];
        for t in 0..N {
            products[t] = sdot::<0>(products[t], quads[0], quants[t]);
        }
        for t in 0..N {
            products[t] = sdot::<1>(products[t], quads[1], quants[t]);
        }
        for t in 0..N {
            products[t] = sdot::<2>(products[t], quads[2], quants[t]);
        }
        for t in 0..N {
            products[t] = sdot::<3>(products[t], quads[3], quants[t]);
        }
        if F::GROUPS == 1 && g == 0 {
            continue;
        }
        let g = if F::GROUPS == 1 { 0 } else { g };
        for t in 0..N {
            let scale = vmulq_n_f32(w.scale[g], a[t].scale);
            sums[t] = vfmaq_f32(sums[t], vcvtq_f32_s32(products[t]), scale);
            if F::MIN {
                let scaled = if F::GROUPS == 1 {
                    -a[t].scaled_sum
                } else {
                    negative_sum[t] as f32 * a[t].scale
                };
                sums[t] = vfmaq_n_f32(sums[t], w.min[g], scaled);
            }
        }
    }
}

/// Adds a block's products with a tile's tokens, two at a time, to `sums` (4 rows each).
#[target_feature(enable = "neon,dotprod")]
#[inline]
unsafe fn dot_tile<F: Format, const T: usize, const MOVED: bool>(
    w: &Unpacked,
    a: *const Block,
    sums: &mut [float32x4_t; T],
) {
    // SAFETY: the tile has T tokens.
    unsafe {
        if T == 1 {
            return dot::<F, 1, MOVED>(w, a, sums);
        }
        // Written out because the compiler leaves four turns a loop, with the sums in memory.
        dot::<F, 2, MOVED>(w, a, &mut sums[..2]);
        if T >= 4 {
            dot::<F, 2, MOVED>(w, a.add(2), &mut sums[2..4]);
        }
        if T == 8 {
            dot::<F, 2, MOVED>(w, a.add(4), &mut sums[4..6]);
            dot::<F, 2, MOVED>(w, a.add(6), &mut sums[6..8]);
        }
    }
}

/// Writes four rows of a token, or as many as exist.
#[target_feature(enable = "neon")]
#[inline]
unsafe fn store(target: Target, row: usize, t: usize, sum: float32x4_t) {
    // SAFETY: the count keeps the write within the target's rows.
    unsafe {
        let out = target.start.add(t * target.stride).wrapping_add(row);
        if target.rows >= row + 4 {
            vst1q_f32(out, sum);
        } else {
            let mut rows = [0.0; 4];
            vst1q_f32(rows.as_mut_ptr(), sum);
            for (r, value) in rows.iter().enumerate().take(target.rows.saturating_sub(row)) {
                *out.add(r) = *value;
            }
        }
    }
}

/// Reads four rows of a token, or as many as exist.
#[target_feature(enable = "neon")]
#[inline]
unsafe fn load(target: Target, row: usize, t: usize) -> float32x4_t {
    // SAFETY: the count keeps the read within the target's rows.
    unsafe {
        let from = target.start.add(t * target.stride).wrapping_add(row);
        if target.rows >= row + 4 {
            return vld1q_f32(from);
        }
        let mut rows = [0.0; 4];
        for (r, value) in rows.iter_mut().enumerate().take(target.rows.saturating_sub(row)) {
            *value = *from.add(r);
        }
        vld1q_f32(rows.as_ptr())
    }
}

/// See [`super::kernel::Direct`].
///
/// # Safety
/// As the type says, on a CPU with this instruction set.
#[target_feature(enable = "neon,dotprod")]
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

#[target_feature(enable = "neon,dotprod")]
unsafe fn direct_tile<F: Format, const T: usize>(
    weights: *const u8,
    blocks: usize,
    x: QuantisedTile,
    target: Target,
) {
    let mut sums = [[vdupq_n_f32(0.0); T]; 4];
    for block in 0..blocks {
        let (at, head) = F::block_offset(block);
        for q in 0..4 {
            // SAFETY: the block lies within its group, the activations within their tile.
            unsafe {
                let w = read_block::<F>(weights.add(at), weights.add(head), q);
                dot_tile::<F, T, false>(&w, x.values.add(block * T), &mut sums[q]);
            }
        }
    }
    for q in 0..4 {
        for t in 0..T {
            // SAFETY: given by the caller.
            unsafe { store(target, 4 * q, t, sums[q][t]) };
        }
    }
}

/// See [`super::kernel::Unpack`].
///
/// # Safety
/// As the type says, on a CPU with this instruction set.
#[target_feature(enable = "neon,dotprod")]
pub(crate) unsafe fn unpack<F: Format>(
    weights: *const u8,
    first: usize,
    blocks: usize,
    panel: *mut u8,
) {
    let offset = vdupq_n_s8(if F::OFFSET > 0 && !is_wide::<F>() { 1 << F::OFFSET } else { 0 });
    for block in 0..blocks {
        let (at, head) = F::block_offset(first + block);
        for q in 0..4 {
            // SAFETY: block and panel block lie within what the caller gave.
            unsafe {
                let w = read_block::<F>(weights.add(at), weights.add(head), q);
                let out = panel.add((4 * block + q) * (F::PANEL_BLOCK / 4));
                for (i, quad) in w.quads.iter().enumerate() {
                    vst1q_s8(out.add(16 * i).cast(), vsubq_s8(*quad, offset));
                }
                for g in 0..F::GROUPS {
                    vst1q_f32(out.add(128 + 16 * g).cast(), w.scale[g]);
                    if F::MIN {
                        vst1q_f32(out.add(128 + 16 * (F::GROUPS + g)).cast(), w.min[g]);
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
#[target_feature(enable = "neon,dotprod")]
pub(crate) unsafe fn panel<F: Format>(
    panel: *const u8,
    blocks: usize,
    x: QuantisedTile,
    target: Target,
    add: bool,
) {
    for q in 0..4 {
        // SAFETY: given by the caller.
        unsafe {
            match x.tile.tokens {
                1 => panel_tile::<F, 1>(panel, blocks, x, target, q, add),
                2 => panel_tile::<F, 2>(panel, blocks, x, target, q, add),
                4 => panel_tile::<F, 4>(panel, blocks, x, target, q, add),
                _ => panel_tile::<F, 8>(panel, blocks, x, target, q, add),
            }
        }
    }
}

#[target_feature(enable = "neon,dotprod")]
unsafe fn panel_tile<F: Format, const T: usize>(
    panel: *const u8,
    blocks: usize,
    x: QuantisedTile,
    target: Target,
    q: usize,
    add: bool,
) {
    let zero = vdupq_n_f32(0.0);
    let mut sums = [zero; T];
    if add {
        for t in 0..T {
            // SAFETY: given by the caller.
            sums[t] = unsafe { load(target, 4 * q, t) };
        }
    }
    for block in 0..blocks {
        // SAFETY: within the panel and the tile, which the caller vouches for.
        unsafe {
            let at = panel.add((4 * block + q) * (F::PANEL_BLOCK / 4));
            let mut w = Unpacked { quads: [vdupq_n_s8(0); 8], scale: [zero; 2], min: [zero; 2] };
            for i in 0..8 {
                w.quads[i] = vld1q_s8(at.add(16 * i).cast());
            }
            for g in 0..F::GROUPS {
                w.scale[g] = vld1q_f32(at.add(128 + 16 * g).cast());
                if F::MIN {
                    w.min[g] = vld1q_f32(at.add(128 + 16 * (F::GROUPS + g)).cast());
                }
            }
            dot_tile::<F, T, true>(&w, x.values.add(block * T), &mut sums);
        }
    }
    for t in 0..T {
        // SAFETY: given by the caller.
        unsafe { store(target, 4 * q, t, sums[t]) };
    }
}

/// See [`super::activations::quantise_row`].
///
/// # Safety
/// As there, on a CPU with this instruction set.
#[target_feature(enable = "neon")]
pub(crate) unsafe fn quantise_row(row: &[f32], stride: usize, out: *mut Block) {
    for (b, values) in row.as_chunks::<32>().0.iter().enumerate() {
        // SAFETY: 32 values are read, one block written, which the caller vouches for.
        unsafe {
            let x: [float32x4_t; 8] =
                std::array::from_fn(|i| vld1q_f32(values.as_ptr().add(4 * i)));
            // As `f32::max`, this maximum passes over NaN.
            let zero = vdupq_n_f32(0.0);
            let largest = vmaxnmvq_f32(x.iter().fold(zero, |m, x| vmaxnmq_f32(m, vabsq_f32(*x))));
            let inverse = inverse_scale(largest);
            let q = x.map(|x| vqmovn_s32(vcvtnq_s32_f32(vmulq_n_f32(x, inverse))));
            let quants: [int8x16_t; 2] = std::array::from_fn(|i| {
                let (low, high) = (vcombine_s16(q[4 * i], q[4 * i + 1]), &q[4 * i + 2..]);
                vcombine_s8(vqmovn_s16(low), vqmovn_s16(vcombine_s16(high[0], high[1])))
            });
            let half = i32::from(vaddlvq_s8(quants[0]));
            let sum = half + i32::from(vaddlvq_s8(quants[1]));
            let scale = largest / 127.0;
            let out = out.add(b * stride);
            for (i, quants) in quants.into_iter().enumerate() {
                vst1q_s8((&raw mut (*out).quants).cast::<i8>().add(16 * i), quants);
            }
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
        #[target_feature(enable = "neon")]
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

        #[target_feature(enable = "neon")]
        unsafe fn $tile<const T: usize, const G: usize>(
            weights: *const u8,
            group_bytes: usize,
            cols: usize,
            x: *const f32,
            target: Target,
        ) -> usize {
            let mut sums = [[[vdupq_n_f32(0.0); 4]; T]; G];
            for k in 0..cols {
                for g in 0..G {
                    // SAFETY: within the groups and the tile, which the caller vouches for.
                    unsafe {
                        let at = weights.add(g * group_bytes + k * ROWS * $size);
                        let w: [float32x4_t; 4] =
                            std::array::from_fn(|q| $load(at.add(4 * q * $size)));
                        for t in 0..T {
                            let a = *x.add(k * T + t);
                            for q in 0..4 {
                                sums[g][t][q] = vfmaq_n_f32(sums[g][t][q], w[q], a);
                            }
                        }
                    }
                }
            }
            for g in 0..G {
                for t in 0..T {
                    for q in 0..4 {
                        // SAFETY: given by the caller.
                        unsafe { store(target.group(g), 4 * q, t, sums[g][t][q]) };
                    }
                }
            }
            G
        }
    };
}

dense!(dense_f32, dense_f32_tile, 4, |p: *const u8| vld1q_f32(p.cast()));
dense!(dense_f16, dense_f16_tile, 2, |p: *const u8| vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(
    p.cast()
))));
dense!(dense_bf16, dense_bf16_tile, 2, |p: *const u8| vreinterpretq_f32_u32(vshll_n_u16::<16>(
    vld1_u16(p.cast())
)));
