//! From a file's rows to packed row groups.
//!
//! A row's block of 32 values is read as eight words of four quants each, whatever the format;
//! the planes are made of those words by shifts and masks, so that packing runs at about the speed
//! of a copy (a 600 MB model must answer within half a second).

use half::{bf16, f16};

use super::format::*;
use super::kernel::ROWS;
#[cfg(target_arch = "x86_64")]
use crate::cpu::Kind;
use crate::{DType, Isa};

/// The scales of one row's block of 32 values.
#[derive(Clone, Copy, Default)]
struct Scales {
    /// Half (or bfloat16) bits of the scale; of the super-block's scale where there is one.
    scale: u16,
    /// Half bits of the minimum, or of the super-block's.
    min: u16,
    /// Byte scales of the one or two groups.
    group_scale: [u8; 2],
    /// Byte minima of the one or two groups.
    group_min: [u8; 2],
}

/// A file format that can be read block by block.
trait Source: Format {
    /// Quants of block `block` (of 32) of a row, four a word, and its scales.
    fn read(row: &[u8], block: usize) -> ([u32; 8], Scales);
}

/// Packs one row group. `rows` holds at most 16 rows of the file's bytes; missing ones are zero.
pub(crate) fn pack_group(isa: Isa, dtype: DType, rows: &[&[u8]], cols: usize, out: &mut [u8]) {
    match isa.0 {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: the Isa is the proof that AVX2 exists.
        Kind::Avx2 | Kind::Avx512 => unsafe { pack_group_avx2(dtype, rows, cols, out) },
        _ => pack_group_plain(dtype, rows, cols, out),
    }
}

/// The plain code, compiled for registers that hold a block's eight words at once.
///
/// # Safety
/// The CPU has AVX2.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
unsafe fn pack_group_avx2(dtype: DType, rows: &[&[u8]], cols: usize, out: &mut [u8]) {
    pack_group_plain(dtype, rows, cols, out);
}

#[inline(always)]
fn pack_group_plain(dtype: DType, rows: &[&[u8]], cols: usize, out: &mut [u8]) {
    match dtype {
        DType::F32 => pack_dense(rows, cols, 4, out),
        DType::F16 | DType::BF16 => pack_dense(rows, cols, 2, out),
        DType::Q4_0 => pack::<Q4_0>(rows, cols, out),
        DType::Q4_1 => pack::<Q4_1>(rows, cols, out),
        DType::Q5_0 => pack::<Q5_0>(rows, cols, out),
        DType::Q5_1 => pack::<Q5_1>(rows, cols, out),
        DType::Q8_0 => pack::<Q8_0>(rows, cols, out),
        DType::Q2_K => pack::<Q2K>(rows, cols, out),
        DType::Q3_K => pack::<Q3K>(rows, cols, out),
        DType::Q4_K => pack::<Q4K>(rows, cols, out),
        DType::Q5_K => pack::<Q5K>(rows, cols, out),
        DType::Q6_K => pack::<Q6K>(rows, cols, out),
        DType::IQ4_NL => pack::<Iq4Nl>(rows, cols, out),
        DType::IQ4_XS => pack::<Iq4Xs>(rows, cols, out),
        DType::MXFP4 => pack::<Mxfp4>(rows, cols, out),
    }
}

/// Value `k` of 16 rows side by side.
fn pack_dense(rows: &[&[u8]], cols: usize, size: usize, out: &mut [u8]) {
    for (r, row) in rows.iter().enumerate() {
        if size == 2 {
            for (k, value) in row.as_chunks::<2>().0.iter().enumerate().take(cols) {
                let at = (k * ROWS + r) * 2;
                out[at..at + 2].copy_from_slice(value);
            }
        } else {
            for (k, value) in row.as_chunks::<4>().0.iter().enumerate().take(cols) {
                let at = (k * ROWS + r) * 4;
                out[at..at + 4].copy_from_slice(value);
            }
        }
    }
}

#[inline(always)]
fn pack<S: Source>(rows: &[&[u8]], cols: usize, out: &mut [u8]) {
    for block in 0..cols / 32 {
        let (at, head) = S::block_offset(block);
        for (r, row) in rows.iter().enumerate() {
            let (quads, scales) = S::read(row, block);
            if S::SUPER {
                if block % 8 == 0 {
                    put_half(&mut out[head..], r, scales.scale);
                    if S::MIN {
                        put_half(&mut out[head + HALVES..], r, scales.min);
                    }
                }
                for g in 0..S::GROUPS {
                    out[at + g * ROWS + r] = scales.group_scale[g];
                    if S::MIN {
                        out[at + (S::GROUPS + g) * ROWS + r] = scales.group_min[g];
                    }
                }
            } else {
                put_half(&mut out[at..], r, scales.scale);
                if S::MIN {
                    put_half(&mut out[at + HALVES..], r, scales.min);
                }
            }
            let planes = &mut out[at + S::BLOCK_SCALES..at + S::BLOCK];
            let (low, high) = planes.split_at_mut(S::LOW * 64);
            put_low::<S>(low, r, &quads);
            put_high::<S>(high, r, &quads);
        }
    }
}

#[inline(always)]
fn put_half(out: &mut [u8], r: usize, bits: u16) {
    out[2 * r..2 * r + 2].copy_from_slice(&bits.to_le_bytes());
}

#[inline(always)]
fn put_word(out: &mut [u8], chunk: usize, r: usize, word: u32) {
    let at = chunk * 64 + 4 * r;
    out[at..at + 4].copy_from_slice(&word.to_le_bytes());
}

#[inline(always)]
fn put_low<S: Source>(out: &mut [u8], r: usize, quads: &[u32; 8]) {
    match S::LOW {
        8 => (0..8).for_each(|i| put_word(out, i, r, quads[i])),
        4 => (0..4).for_each(|i| {
            put_word(out, i, r, quads[i] & 0x0f0f_0f0f | (quads[i + 4] & 0x0f0f_0f0f) << 4);
        }),
        _ => (0..2).for_each(|c| {
            let word = (0..4).fold(0, |w, j| w | (quads[4 * c + j] & 0x0303_0303) << (2 * j));
            put_word(out, c, r, word);
        }),
    }
}

#[inline(always)]
fn put_high<S: Source>(out: &mut [u8], r: usize, quads: &[u32; 8]) {
    match S::HIGH {
        2 => (0..2).for_each(|c| {
            let word =
                (0..4).fold(0, |w, j| w | ((quads[4 * c + j] >> S::LOW) & 0x0303_0303) << (2 * j));
            put_word(out, c, r, word);
        }),
        1 => {
            let word = (0..8).fold(0, |w, i| w | ((quads[i] >> S::LOW) & 0x0101_0101) << i);
            put_word(out, 0, r, word);
        }
        _ => {}
    }
}

/// The `N`-byte block `index` of a row.
#[inline(always)]
fn block_of<const N: usize>(row: &[u8], index: usize) -> &[u8; N] {
    &row.as_chunks::<N>().0[index]
}

/// `N` bytes of a block, their number known to the compiler, which then needs no checks inside.
#[inline(always)]
fn part<const N: usize>(bytes: &[u8], at: usize) -> &[u8; N] {
    bytes[at..].first_chunk().unwrap_or(&[0; N])
}

#[inline(always)]
fn word(bytes: &[u8], i: usize) -> u32 {
    u32::from_le_bytes([bytes[4 * i], bytes[4 * i + 1], bytes[4 * i + 2], bytes[4 * i + 3]])
}

#[inline(always)]
fn half_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

/// Sixteen bytes whose low nibbles are quants 0 to 15 and whose high nibbles are 16 to 31.
#[inline(always)]
fn nibbles(bytes: &[u8]) -> [u32; 8] {
    std::array::from_fn(|i| word(bytes, i % 4) >> (4 * (i / 4)) & 0x0f0f_0f0f)
}

/// Thirty-two bits, one for each quant, put on bit 4 of its byte.
#[inline(always)]
fn fifth_bits(bits: u32, quads: [u32; 8]) -> [u32; 8] {
    std::array::from_fn(|i| {
        let four = bits >> (4 * i) & 0xf;
        // Bit j of four goes to bit 4 of byte j.
        let spread = (four.wrapping_mul(0x0020_4081) & 0x0101_0101) << 4;
        quads[i] | spread
    })
}

impl Source for Q4_0 {
    #[inline(always)]
    fn read(row: &[u8], block: usize) -> ([u32; 8], Scales) {
        let b = block_of::<18>(row, block);
        (nibbles(&b[2..]), Scales { scale: half_at(b, 0), ..Scales::default() })
    }
}

impl Source for Q4_1 {
    #[inline(always)]
    fn read(row: &[u8], block: usize) -> ([u32; 8], Scales) {
        let b = block_of::<20>(row, block);
        // The file's minimum is added, ours subtracted: flip the sign bit.
        let scales =
            Scales { scale: half_at(b, 0), min: half_at(b, 2) ^ 0x8000, ..Scales::default() };
        (nibbles(&b[4..]), scales)
    }
}

impl Source for Q5_0 {
    #[inline(always)]
    fn read(row: &[u8], block: usize) -> ([u32; 8], Scales) {
        let b = block_of::<22>(row, block);
        let quads = fifth_bits(word(&b[2..], 0), nibbles(&b[6..]));
        (quads, Scales { scale: half_at(b, 0), ..Scales::default() })
    }
}

impl Source for Q5_1 {
    #[inline(always)]
    fn read(row: &[u8], block: usize) -> ([u32; 8], Scales) {
        let b = block_of::<24>(row, block);
        let quads = fifth_bits(word(&b[4..], 0), nibbles(&b[8..]));
        let scales =
            Scales { scale: half_at(b, 0), min: half_at(b, 2) ^ 0x8000, ..Scales::default() };
        (quads, scales)
    }
}

impl Source for Q8_0 {
    #[inline(always)]
    fn read(row: &[u8], block: usize) -> ([u32; 8], Scales) {
        let b = block_of::<34>(row, block);
        let quads = std::array::from_fn(|i| word(&b[2..], i) ^ 0x8080_8080);
        (quads, Scales { scale: half_at(b, 0), ..Scales::default() })
    }
}

/// The 6-bit scale and minimum of group `j` of a Q4_K or Q5_K super-block (12 bytes for 8 groups).
#[inline(always)]
fn scale_min(packed: &[u8], j: usize) -> (u8, u8) {
    if j < 4 {
        (packed[j] & 63, packed[j + 4] & 63)
    } else {
        (packed[j + 4] & 0x0f | packed[j - 4] >> 6 << 4, packed[j + 4] >> 4 | packed[j] >> 6 << 4)
    }
}

impl Source for Q4K {
    #[inline(always)]
    fn read(row: &[u8], block: usize) -> ([u32; 8], Scales) {
        let b = block_of::<144>(row, block / 8);
        let j = block % 8;
        let (scale, min) = scale_min(&b[4..16], j);
        let bytes = part::<32>(b, 16 + j / 2 * 32);
        let quads = std::array::from_fn(|i| (word(bytes, i) >> (4 * (j % 2))) & 0x0f0f_0f0f);
        let scales = Scales {
            scale: half_at(b, 0),
            min: half_at(b, 2),
            group_scale: [scale, 0],
            group_min: [min, 0],
        };
        (quads, scales)
    }
}

impl Source for Q5K {
    #[inline(always)]
    fn read(row: &[u8], block: usize) -> ([u32; 8], Scales) {
        let b = block_of::<176>(row, block / 8);
        let j = block % 8;
        let (scale, min) = scale_min(&b[4..16], j);
        let (high, bytes) = (part::<32>(b, 16), part::<32>(b, 48 + j / 2 * 32));
        let quads = std::array::from_fn(|i| {
            word(bytes, i) >> (4 * (j % 2)) & 0x0f0f_0f0f | (word(high, i) >> j & 0x0101_0101) << 4
        });
        let scales = Scales {
            scale: half_at(b, 0),
            min: half_at(b, 2),
            group_scale: [scale, 0],
            group_min: [min, 0],
        };
        (quads, scales)
    }
}

impl Source for Q6K {
    #[inline(always)]
    fn read(row: &[u8], block: usize) -> ([u32; 8], Scales) {
        let b = block_of::<210>(row, block / 8);
        let (half, part) = (block % 8 / 4, block % 4);
        let low = self::part::<32>(b, 64 * half + 32 * (part % 2));
        let high = self::part::<32>(b, 128 + 32 * half);
        let quads = std::array::from_fn(|i| {
            word(low, i) >> (4 * (part / 2)) & 0x0f0f_0f0f
                | (word(high, i) >> (2 * part) & 0x0303_0303) << 4
        });
        let g = 192 + 2 * (block % 8);
        let scales =
            Scales { scale: half_at(b, 208), group_scale: [b[g], b[g + 1]], ..Scales::default() };
        (quads, scales)
    }
}

impl Source for Q2K {
    #[inline(always)]
    fn read(row: &[u8], block: usize) -> ([u32; 8], Scales) {
        let b = block_of::<84>(row, block / 8);
        let (half, part) = (block % 8 / 4, block % 4);
        let bytes = self::part::<32>(b, 16 + 32 * half);
        let quads = std::array::from_fn(|i| word(bytes, i) >> (2 * part) & 0x0303_0303);
        let g = 2 * (block % 8);
        let scales = Scales {
            scale: half_at(b, 80),
            min: half_at(b, 82),
            group_scale: [b[g] & 0xf, b[g + 1] & 0xf],
            group_min: [b[g] >> 4, b[g + 1] >> 4],
        };
        (quads, scales)
    }
}

impl Source for Q3K {
    #[inline(always)]
    fn read(row: &[u8], block: usize) -> ([u32; 8], Scales) {
        let b = block_of::<110>(row, block / 8);
        let j = block % 8;
        let (half, part) = (j / 4, j % 4);
        let (high, low) = (self::part::<32>(b, 0), self::part::<32>(b, 32 + 32 * half));
        let quads = std::array::from_fn(|i| {
            word(low, i) >> (2 * part) & 0x0303_0303 | (word(high, i) >> j & 0x0101_0101) << 2
        });
        // Sixteen 6-bit scales less 32: low nibbles in 8 bytes, high pairs of bits in 4.
        let scale = |g: usize| {
            let low = b[96 + g % 8] >> (4 * (g / 8)) & 0xf;
            let high = b[104 + g % 4] >> (2 * (g / 4)) & 3;
            (low | high << 4).wrapping_sub(32)
        };
        let scales = Scales {
            scale: half_at(b, 108),
            group_scale: [scale(2 * j), scale(2 * j + 1)],
            ..Scales::default()
        };
        (quads, scales)
    }
}

impl Source for Iq4Nl {
    #[inline(always)]
    fn read(row: &[u8], block: usize) -> ([u32; 8], Scales) {
        Q4_0::read(row, block)
    }
}

impl Source for Iq4Xs {
    #[inline(always)]
    fn read(row: &[u8], block: usize) -> ([u32; 8], Scales) {
        let b = block_of::<136>(row, block / 8);
        let j = block % 8;
        let low = b[4 + j / 2] >> (4 * (j % 2)) & 0xf;
        let high = (half_at(b, 2) >> (2 * j) & 3) as u8;
        let scales = Scales {
            scale: half_at(b, 0),
            group_scale: [(low | high << 4).wrapping_sub(32), 0],
            ..Scales::default()
        };
        (nibbles(part::<16>(b, 8 + 16 * j)), scales)
    }
}

impl Source for Mxfp4 {
    #[inline(always)]
    fn read(row: &[u8], block: usize) -> ([u32; 8], Scales) {
        let b = block_of::<17>(row, block);
        // Half of 2^(e - 127), exact in bfloat16, whose subnormals reach 2^-133.
        let scale = bf16::from_f32(f32::from_bits(if b[0] < 2 {
            0x0020_0000 << b[0]
        } else {
            (u32::from(b[0]) - 1) << 23
        }));
        (nibbles(&b[1..]), Scales { scale: scale.to_bits(), ..Scales::default() })
    }
}

/// The value that quant `i` (0 to 31) of a row of a packed block stands for, and nothing fast:
/// the meaning of the layout, for the scalar kernels.
pub(crate) fn unpack_block<F: Format>(group: &[u8], block: usize, r: usize) -> Unpacked {
    let (at, head) = F::block_offset(block);
    let half = |at: usize| {
        let bits = half_at(group, at + 2 * r);
        if F::BFLOAT { bf16::from_bits(bits).to_f32() } else { f16::from_bits(bits).to_f32() }
    };
    let mut out = Unpacked { quants: [0; 32], scale: [0.0; 2], min: [0.0; 2] };
    for g in 0..F::GROUPS {
        if F::SUPER {
            let byte = group[at + g * ROWS + r];
            let scale = if F::SIGNED { f32::from(byte as i8) } else { f32::from(byte) };
            out.scale[g] = half(head) * scale;
            if F::MIN {
                out.min[g] =
                    half(head + HALVES) * f32::from(group[at + (F::GROUPS + g) * ROWS + r]);
            }
        } else {
            out.scale[g] = half(at);
            if F::MIN {
                out.min[g] = half(at + HALVES);
            }
        }
    }
    let low = &group[at + F::BLOCK_SCALES..];
    let high = &low[F::LOW * 64..];
    for i in 0..32 {
        let (quad, byte) = (i / 4, 4 * r + i % 4);
        let mut q = match F::LOW {
            8 => low[quad * 64 + byte],
            4 => low[quad % 4 * 64 + byte] >> (4 * (quad / 4)) & 0xf,
            _ => low[quad / 4 * 64 + byte] >> (2 * (quad % 4)) & 3,
        };
        q |= match F::HIGH {
            2 => (high[quad / 4 * 64 + byte] >> (2 * (quad % 4)) & 3) << F::LOW,
            1 => (high[byte] >> quad & 1) << F::LOW,
            _ => 0,
        };
        out.quants[i] = match F::TABLE {
            Some(table) => table[usize::from(q)],
            None => q,
        };
    }
    out
}

/// One row of a packed block.
pub(crate) struct Unpacked {
    /// Quants, offset still in them.
    pub(crate) quants: [u8; 32],
    /// Scale of each group.
    pub(crate) scale: [f32; 2],
    /// Minimum of each group.
    pub(crate) min: [f32; 2],
}
