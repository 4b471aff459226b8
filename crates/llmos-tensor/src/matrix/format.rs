//! How a weight matrix lies in memory once packed: 16 rows interleaved, planes of bits, scales.
//!
//! Rows are taken 16 at a time (a *row group*). Within a group the values go by blocks of 32 along
//! the row; a block is eight *quads* of four consecutive values. In a plane of whole bytes, quad
//! `i` is 64 bytes: four bytes of row 0, four of row 1, … so that one 512-bit register holds the
//! same four columns of 16 rows, which is what a four-way dot-product instruction multiplies.
//! Narrower quants share those bytes:
//!
//! | bits | plane of a block | quad `i` of it |
//! |-|-|-|
//! | 4 | 256 bytes | low (`i < 4`) or high nibble of bytes `64 * (i % 4) ..` |
//! | 2 | 128 bytes | bits `2 * (i % 4) ..` of bytes `64 * (i / 4) ..` |
//! | 1 | 64 bytes | bit `i` |
//! | 8 | 512 bytes | bytes `64 * i ..` |
//!
//! A value is `scale * (quant - offset) - minimum`, with one scale (and minimum) a row for each 32
//! or 16 values. Simple formats store them as 16 halves before each block's planes. Super-block
//! formats store 16 halves for 256 values, and before each block's planes a byte a row and group
//! that multiplies it. All formats keep (nearly) the bytes of their file form.

use super::kernel::ROWS;

/// Bytes of sixteen halves.
pub(crate) const HALVES: usize = 2 * ROWS;

/// The layout of a quantised format, known at compile time.
pub(crate) trait Format: 'static + Send + Sync {
    /// Bits of the first plane: 2, 4 or 8.
    const LOW: usize;
    /// Bits of the second plane: 0, 1 or 2.
    const HIGH: usize = 0;
    /// Values that share a scale: 16 or 32.
    const GROUP: usize = 32;
    /// Scales are bytes times a half for each 256 values.
    const SUPER: bool = false;
    /// The byte scales are signed.
    const SIGNED: bool = false;
    /// The scale is a bfloat16, not a half.
    const BFLOAT: bool = false;
    /// There are minima.
    const MIN: bool = false;
    /// Base-two logarithm of the offset; 0 for none.
    const OFFSET: u32 = 0;
    /// What a 4-bit quant stands for, plus 128.
    const TABLE: Option<[u8; 16]> = None;

    /// Scale groups in a block of 32.
    const GROUPS: usize = 32 / Self::GROUP;
    /// Bytes before the planes of a block.
    const BLOCK_SCALES: usize = if Self::SUPER {
        ROWS * Self::GROUPS * (1 + Self::MIN as usize)
    } else {
        HALVES * (1 + Self::MIN as usize)
    };
    /// Bytes of a block of 16 rows by 32 values.
    const BLOCK: usize = Self::BLOCK_SCALES + (Self::LOW + Self::HIGH) * 64;
    /// Bytes at the head of each super-block.
    const HEAD: usize = if Self::SUPER { HALVES * (1 + Self::MIN as usize) } else { 0 };

    /// Bytes of a panel's block, however a kernel lays it out: 512 quants, and full-precision scales
    /// and minima of 16 rows for each group.
    const PANEL_BLOCK: usize = 512 + ROWS * 4 * Self::GROUPS * (1 + Self::MIN as usize);

    /// Bytes of a row group of `cols` values.
    fn group_bytes(cols: usize) -> usize {
        let blocks = cols / 32;
        blocks * Self::BLOCK + blocks / 8 * Self::HEAD
    }

    /// Where block `block` lies in its row group, and where the head of its super-block.
    #[inline(always)]
    fn block_offset(block: usize) -> (usize, usize) {
        if Self::SUPER {
            let head = block / 8 * (8 * Self::BLOCK + Self::HEAD);
            (head + Self::HEAD + block % 8 * Self::BLOCK, head)
        } else {
            (block * Self::BLOCK, 0)
        }
    }
}

/// Adds 128 to a table of signed values.
const fn raised(table: [i8; 16]) -> [u8; 16] {
    let mut out = [0; 16];
    let mut i = 0;
    while i < 16 {
        out[i] = (table[i] as i16 + 128) as u8;
        i += 1;
    }
    out
}

/// ggml's non-linear 4-bit values (`kvalues_iq4nl`).
pub(crate) const IQ4_VALUES: [i8; 16] =
    [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113];

/// Twice the values of an E2M1 float (OCP Microscaling Formats 1.0); the scale is halved for it.
pub(crate) const MXFP4_VALUES: [i8; 16] = [0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12];

macro_rules! formats {
    ($($name:ident { $($constant:ident : $type:ty = $value:expr),* })*) => {$(
        pub(crate) struct $name;
        impl Format for $name { $(const $constant: $type = $value;)* }
    )*};
}

formats! {
    Q4_0 { LOW: usize = 4, OFFSET: u32 = 3 }
    Q4_1 { LOW: usize = 4, MIN: bool = true }
    Q5_0 { LOW: usize = 4, HIGH: usize = 1, OFFSET: u32 = 4 }
    Q5_1 { LOW: usize = 4, HIGH: usize = 1, MIN: bool = true }
    Q8_0 { LOW: usize = 8, OFFSET: u32 = 7 }
    Q2K { LOW: usize = 2, GROUP: usize = 16, SUPER: bool = true, MIN: bool = true }
    Q3K { LOW: usize = 2, HIGH: usize = 1, GROUP: usize = 16, SUPER: bool = true, SIGNED: bool = true, OFFSET: u32 = 2 }
    Q4K { LOW: usize = 4, SUPER: bool = true, MIN: bool = true }
    Q5K { LOW: usize = 4, HIGH: usize = 1, SUPER: bool = true, MIN: bool = true }
    Q6K { LOW: usize = 4, HIGH: usize = 2, GROUP: usize = 16, SUPER: bool = true, SIGNED: bool = true, OFFSET: u32 = 5 }
    Iq4Nl { LOW: usize = 4, OFFSET: u32 = 7, TABLE: Option<[u8; 16]> = Some(raised(IQ4_VALUES)) }
    Iq4Xs { LOW: usize = 4, SUPER: bool = true, SIGNED: bool = true, OFFSET: u32 = 7, TABLE: Option<[u8; 16]> = Some(raised(IQ4_VALUES)) }
    Mxfp4 { LOW: usize = 4, BFLOAT: bool = true, OFFSET: u32 = 7, TABLE: Option<[u8; 16]> = Some(raised(MXFP4_VALUES)) }
}
