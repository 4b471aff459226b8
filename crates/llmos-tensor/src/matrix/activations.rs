//! The other operand of a product: rows of activations, laid out for the kernels.
//!
//! Tokens are cut into *tiles* of at most the kernel's width. Within a tile the values go by
//! blocks of 32 along the row, and within a block by token, so that a kernel reads them as one
//! stream. For quantised weights they are bytes with a scale for each block of 32 (the largest
//! magnitude is 127), as ggml's Q8_0 has them but with the scale in full precision.

use crate::device::Device;

/// Consecutive tokens that a kernel treats at once.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tile {
    /// First token.
    pub(crate) first: usize,
    /// Tokens, one of the kernel's widths.
    pub(crate) tokens: usize,
}

/// Cuts `tokens` into tiles of the given widths, which descend to 1.
pub(crate) fn tiles(tokens: usize, widths: &[usize]) -> Vec<Tile> {
    let mut tiles = Vec::with_capacity(tokens / widths[0] + widths.len());
    let mut first = 0;
    for &width in widths {
        while tokens - first >= width {
            tiles.push(Tile { first, tokens: width });
            first += width;
        }
    }
    tiles
}

/// Calls `body` for each of so many tiles, on all threads unless there are but a few tokens.
fn for_each_tile(device: &Device, tokens: usize, tiles: usize, body: &(dyn Fn(usize) + Sync)) {
    if tokens < 4 {
        (0..tiles).for_each(body);
    } else {
        device.threads().for_each(tiles, body);
    }
}

/// Thirty-two activations of one token as scaled bytes, and the sums that kernels need of them.
#[derive(Clone, Copy, Default)]
#[repr(C)]
pub(crate) struct Block {
    pub(crate) quants: [i8; 32],
    /// An activation is `quant * scale`.
    pub(crate) scale: f32,
    /// Less the sum of the quants.
    pub(crate) negative_sum: i32,
    /// Less the sum of the first sixteen.
    pub(crate) negative_half: i32,
    /// The sum of the quants times the scale.
    pub(crate) scaled_sum: f32,
}

/// Activations as scaled bytes.
#[derive(Default)]
pub(crate) struct Quantised {
    pub(crate) tiles: Vec<Tile>,
    /// Tile by tile: (cols / 32, tokens).
    values: Vec<Block>,
    /// Blocks of a token.
    blocks: usize,
}

/// One tile, as a kernel takes it: (blocks, tokens).
#[derive(Clone, Copy)]
pub(crate) struct QuantisedTile {
    pub(crate) values: *const Block,
    pub(crate) tile: Tile,
}

impl Quantised {
    /// Quantises `x` (tokens, cols), `cols` a multiple of 32.
    pub(crate) fn fill(&mut self, device: &Device, x: &[f32], cols: usize, widths: &[usize]) {
        let tokens = x.len() / cols;
        self.blocks = cols / 32;
        self.tiles = tiles(tokens, widths);
        self.values.resize(tokens * self.blocks, Block::default());
        let values = Shared(self.values.as_mut_ptr());
        let (tiles, blocks) = (&self.tiles, self.blocks);
        let quantise = super::kernel::quantiser(device.isa());
        let one_tile = |index: usize| {
            let tile = tiles[index];
            for t in 0..tile.tokens {
                let row = &x[(tile.first + t) * cols..][..cols];
                // SAFETY: each (tile, token) owns the strided blocks that are written here, all
                // inside the vector resized above; the kernel exists on this CPU (`Isa`).
                unsafe { quantise(row, tile.tokens, values.get().add(tile.first * blocks + t)) };
            }
        };
        for_each_tile(device, tokens, tiles.len(), &one_tile);
    }

    /// The pointers of tile `index`.
    pub(crate) fn tile(&self, index: usize) -> QuantisedTile {
        let tile = self.tiles[index];
        QuantisedTile { values: self.values[tile.first * self.blocks..].as_ptr(), tile }
    }
}

/// What activations are multiplied with before they are rounded to bytes. A block of next to
/// nothing becomes zeros: its inverse would not be finite.
pub(crate) fn inverse_scale(largest: f32) -> f32 {
    if largest > 1e-30 { 127.0 / largest } else { 0.0 }
}

/// Quantises one row; block `b` is written `b * stride` blocks on. The scalar oracle.
///
/// # Safety
/// `out` is valid for `row.len() / 32` blocks at that stride.
pub(crate) unsafe fn quantise_row(row: &[f32], stride: usize, out: *mut Block) {
    for (b, values) in row.as_chunks::<32>().0.iter().enumerate() {
        let largest = values.iter().fold(0.0_f32, |m, v| m.max(v.abs()));
        let scale = largest / 127.0;
        let inverse = inverse_scale(largest);
        let quants = values.map(|value| (value * inverse).round_ties_even() as i8);
        let half: i32 = quants[..16].iter().map(|&q| i32::from(q)).sum();
        let sum = half + quants[16..].iter().map(|&q| i32::from(q)).sum::<i32>();
        let block = Block {
            quants,
            scale,
            negative_sum: -sum,
            negative_half: -half,
            scaled_sum: sum as f32 * scale,
        };
        // SAFETY: the caller vouches for the strided blocks.
        unsafe { *out.add(b * stride) = block };
    }
}

/// Activations in full precision: tile by tile, (cols, tokens).
#[derive(Default)]
pub(crate) struct Dense {
    pub(crate) tiles: Vec<Tile>,
    pub(crate) values: Vec<f32>,
    cols: usize,
}

impl Dense {
    /// Transposes each tile of `x` (tokens, cols).
    pub(crate) fn fill(&mut self, device: &Device, x: &[f32], cols: usize, widths: &[usize]) {
        let tokens = x.len() / cols;
        self.cols = cols;
        self.tiles = tiles(tokens, widths);
        self.values.resize(x.len(), 0.0);
        let tiles = &self.tiles;
        let values = Shared(self.values.as_mut_ptr());
        let one_tile = |index: usize| {
            let tile = tiles[index];
            // SAFETY: tiles are disjoint ranges of the vector resized above.
            let out = unsafe {
                std::slice::from_raw_parts_mut(
                    values.get().add(tile.first * cols),
                    tile.tokens * cols,
                )
            };
            for t in 0..tile.tokens {
                let row = &x[(tile.first + t) * cols..][..cols];
                for (k, &value) in row.iter().enumerate() {
                    out[k * tile.tokens + t] = value;
                }
            }
        };
        for_each_tile(device, tokens, tiles.len(), &one_tile);
    }

    /// Tile `index` and its values.
    pub(crate) fn tile(&self, index: usize) -> (Tile, *const f32) {
        let tile = self.tiles[index];
        (tile, self.values[tile.first * self.cols..].as_ptr())
    }
}

/// Activations rounded to bfloat16: tile by tile, (blocks of 512 columns, tokens, 256 words of two).
#[cfg(target_arch = "x86_64")]
#[derive(Default)]
pub(crate) struct Rounded {
    pub(crate) tiles: Vec<Tile>,
    values: Vec<u32>,
    /// Words of a token.
    words: usize,
}

#[cfg(target_arch = "x86_64")]
impl Rounded {
    /// Rounds `x` (tokens, cols), on a device whose CPU has the instructions.
    pub(crate) fn fill(&mut self, device: &Device, x: &[f32], cols: usize) {
        use super::bf16::{PAIRS, WIDTHS, round_row};

        assert!(device.isa().has_bf16(), "matrices ask for bfloat16 only where it exists");
        let tokens = x.len() / cols;
        self.words = cols.div_ceil(2 * PAIRS) * PAIRS;
        self.tiles = tiles(tokens, WIDTHS);
        self.values.resize(tokens * self.words, 0);
        let values = Shared(self.values.as_mut_ptr());
        let (tiles, words) = (&self.tiles, self.words);
        let one_tile = |index: usize| {
            let tile = tiles[index];
            for t in 0..tile.tokens {
                let row = &x[(tile.first + t) * cols..][..cols];
                // SAFETY: each (tile, token) owns the strided blocks that are written here, all
                // inside the vector resized above; the instructions are there.
                unsafe {
                    let out = values.get().add(tile.first * words + t * PAIRS);
                    round_row(row, tile.tokens * PAIRS, out);
                }
            }
        };
        for_each_tile(device, tokens, tiles.len(), &one_tile);
    }

    /// Tile `index` and its first block.
    pub(crate) fn tile(&self, index: usize) -> (Tile, *const u32) {
        let tile = self.tiles[index];
        (tile, self.values[tile.first * self.words..].as_ptr())
    }
}

/// A pointer that threads of one region share, each writing positions of its own.
#[derive(Clone, Copy)]
pub(crate) struct Shared<T>(pub(crate) *mut T);

impl<T> Shared<T> {
    pub(crate) fn get(self) -> *mut T {
        self.0
    }
}

// SAFETY: it is only a number; whoever writes through it vouches for disjoint positions.
unsafe impl<T> Send for Shared<T> {}
// SAFETY: as above.
unsafe impl<T> Sync for Shared<T> {}
