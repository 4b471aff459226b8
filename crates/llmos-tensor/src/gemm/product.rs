//! The loops around the register tile, on one thread or on all of a device's.

use std::cell::RefCell;
use std::ops::Range;

use super::kernel::{self, Tile};
use super::pack::{WORDS, pack_a_f32, pack_b_f32};
use super::{Precision, View, ViewMut};
use crate::matrix::Shared;
use crate::{Device, Isa};

/// Rows of `a` that are packed together: four tiles of twelve, in the second-level cache.
const CHUNK_ROWS: usize = 48;

/// Words of packed operands that are multiplied before the next ones are packed, 32 MiB: a bound on
/// memory. Smaller spans (2 MiB) would still be in the caches, yet their many regions made weights'
/// gradients 15 to 20 % slower on Zen 4.
const SPAN: usize = 8 << 20;

/// Tasks that a product is cut into where it is large enough, whatever the number of threads.
const TASKS: usize = 32;

thread_local! {
    /// A chunk of `a`, and all of `b` of a product on one thread.
    static SCRATCH: RefCell<(Vec<u32>, Vec<u32>)> = const { RefCell::new((Vec::new(), Vec::new())) };
}

/// How a product is carried out.
#[derive(Clone, Copy)]
struct Plan {
    isa: Isa,
    bf16: bool,
    /// Rows and columns of the register tile.
    tile: (usize, usize),
    /// Values of `k` in a block.
    block: usize,
}

impl Plan {
    fn new(isa: Isa, precision: Precision) -> Plan {
        let bf16 = precision == Precision::Bf16;
        assert!(!bf16 || isa.has_bf16(), "bfloat16 products need their instructions");
        let block = if bf16 { 2 * WORDS } else { WORDS };
        Plan { isa, bf16, tile: kernel::shape(isa), block }
    }

    /// The first value of each block of `k` and how many it has.
    fn blocks(self, n_k: usize) -> impl Iterator<Item = (usize, usize)> {
        (0..n_k).step_by(self.block).map(move |k| (k, self.block.min(n_k - k)))
    }

    /// Words of a block.
    fn words(self, n_k: usize) -> usize {
        if self.bf16 { n_k.div_ceil(2) } else { n_k }
    }

    /// Words of all of `b`, packed.
    fn packed_len(self, b: View<'_>) -> usize {
        let panels = b.cols.div_ceil(self.tile.1);
        b.rows.div_ceil(self.block) * panels * WORDS * self.tile.1
    }

    /// Where panel `panel` of block `block` begins.
    fn panel_at(self, b: View<'_>, block: usize, panel: usize) -> usize {
        (block * b.cols.div_ceil(self.tile.1) + panel) * WORDS * self.tile.1
    }

    /// Packs one panel of one block.
    fn pack_b(self, b: View<'_>, panel: usize, block: (usize, usize), out: &mut [u32]) {
        let col = panel * self.tile.1;
        #[cfg(target_arch = "x86_64")]
        if self.bf16 {
            // SAFETY: `new` asked for the instructions.
            unsafe { super::bf16::pack_b(b, col, block, out) };
            return;
        }
        pack_b_f32(self.isa, b, self.tile.1, col, block, out);
    }

    fn pack_a(self, a: View<'_>, rows: Range<usize>, block: (usize, usize), out: &mut [u32]) {
        #[cfg(target_arch = "x86_64")]
        if self.bf16 {
            // SAFETY: `new` asked for the instructions.
            unsafe { super::bf16::pack_a(a, rows, block, out) };
            return;
        }
        pack_a_f32(self.isa, a, self.tile.0, rows, block, out);
    }

    /// # Safety
    /// As [`kernel::multiply_f32`].
    unsafe fn multiply(self, tile: Tile) {
        // SAFETY: the caller's; `new` asked for the instructions.
        unsafe {
            #[cfg(target_arch = "x86_64")]
            if self.bf16 {
                super::bf16::multiply(tile);
                return;
            }
            kernel::multiply_f32(self.isa, tile);
        }
    }

    /// Words of a packed chunk of `a`, of one block.
    fn chunk_len(self) -> usize {
        CHUNK_ROWS.next_multiple_of(self.tile.0) * WORDS
    }

    /// One block (of `k`; `place` among those that are packed) of rows `rows`, at most
    /// [`CHUNK_ROWS`], by panels `panels` of the product.
    ///
    /// # Safety
    /// `c` points to a matrix (a.rows, b.cols) whose rows stand `stride` apart, of which nobody else
    /// touches these rows and columns; `packed_a` holds the chunk's block, `packed_b` all of `b`.
    unsafe fn chunk(
        self,
        (a, packed_a): (View<'_>, &[u32]),
        (b, packed_b): (View<'_>, &[u32]),
        (rows, panels): (Range<usize>, Range<usize>),
        (block, place): (usize, usize),
        (c, stride): (*mut f32, usize),
        accumulate: bool,
    ) {
        /// The largest tile.
        const EDGE: usize = 12 * 32;
        let (tile_rows, tile_cols) = self.tile;
        let n_k = self.block.min(a.cols - block * self.block);
        let add = accumulate || block > 0;
        for panel in panels {
            let col = panel * tile_cols;
            let n_col = tile_cols.min(b.cols - col);
            for (t, row) in rows.clone().step_by(tile_rows).enumerate() {
                let n_row = tile_rows.min(rows.end - row);
                let whole = n_row == tile_rows && n_col == tile_cols;
                let mut edge = [0.0_f32; EDGE];
                // SAFETY: the tile lies within the caller's matrix, or in `edge`.
                unsafe {
                    let out = c.add(row * stride + col);
                    self.multiply(Tile {
                        a: packed_a[t * tile_rows * WORDS..].as_ptr(),
                        transposed: a.transposed,
                        b: packed_b[self.panel_at(b, place, panel)..].as_ptr(),
                        words: self.words(n_k),
                        c: if whole { out } else { edge.as_mut_ptr() },
                        stride: if whole { stride } else { tile_cols },
                        add: whole && add,
                    });
                    if !whole {
                        for r in 0..n_row {
                            for n in 0..n_col {
                                let to = &mut *out.add(r * stride + n);
                                let value = edge[r * tile_cols + n];
                                *to = if add { *to + value } else { value };
                            }
                        }
                    }
                }
            }
        }
    }
}

/// Rows of chunk `index`.
fn chunk_rows(a: View<'_>, index: usize) -> Range<usize> {
    index * CHUNK_ROWS..a.rows.min((index + 1) * CHUNK_ROWS)
}

/// Checks the shapes; true if there is nothing to multiply, and `c` is what it should be.
fn is_nothing(a: View<'_>, b: View<'_>, c: &mut ViewMut<'_>, accumulate: bool) -> bool {
    assert_eq!(a.cols, b.rows, "the columns of a are the rows of b");
    assert_eq!((a.rows, b.cols), (c.rows, c.cols), "c is (rows of a, columns of b)");
    if a.cols == 0 && !accumulate {
        c.clear();
    }
    a.rows == 0 || b.cols == 0 || a.cols == 0
}

/// `c = a b`, or `c += a b` if `accumulate`, on all threads: a (M, K), b (K, N), c (M, N).
///
/// # Panics
/// If the shapes do not fit, or bfloat16 is asked for where there are no instructions for it.
pub fn gemm(
    device: &Device,
    precision: Precision,
    a: View<'_>,
    b: View<'_>,
    mut c: ViewMut<'_>,
    accumulate: bool,
) {
    if is_nothing(a, b, &mut c, accumulate) {
        return;
    }
    let plan = Plan::new(device.isa(), precision);
    let n_panel = b.cols.div_ceil(plan.tile.1);
    let n_block = b.rows.div_ceil(plan.block);
    let n_chunk = a.rows.div_ceil(CHUNK_ROWS);
    let step = n_panel.div_ceil(TASKS.div_ceil(n_chunk));
    let n_column = n_panel.div_ceil(step);
    // A chunk that several tasks multiply with is packed once, before; else by the task itself.
    let n_shared = if n_column > 1 { n_chunk } else { 0 };
    let (panel_len, chunk_len) = (WORDS * plan.tile.1, plan.chunk_len());
    let block_len = n_panel * panel_len + n_shared * chunk_len;
    let span = (SPAN / block_len).clamp(1, n_block);
    let mut workspace = device.gemm_workspace();
    let packed: &mut Vec<u32> = &mut workspace;
    if packed.len() < span * block_len {
        packed.resize(span * block_len, 0);
    }
    let (out, stride) = (Shared(c.data.as_mut_ptr()), c.stride);
    for first in (0..n_block).step_by(span) {
        let blocks = span.min(n_block - first);
        let len_b = blocks * n_panel * panel_len;
        let start = Shared(packed.as_mut_ptr());
        device.threads().for_each(blocks * (n_panel + n_shared), &|i| {
            let (place, part) = (i / (n_panel + n_shared), i % (n_panel + n_shared));
            let k = (first + place) * plan.block;
            let k = (k, plan.block.min(b.rows - k));
            // SAFETY: each panel and each chunk's block is a range of its own, below the length
            // above.
            let piece = |at: usize, len: usize| unsafe {
                std::slice::from_raw_parts_mut(start.get().add(at), len)
            };
            if part < n_panel {
                plan.pack_b(b, part, k, piece(plan.panel_at(b, place, part), panel_len));
            } else {
                let chunk = part - n_panel;
                let out = piece(len_b + (chunk * blocks + place) * chunk_len, chunk_len);
                plan.pack_a(a, chunk_rows(a, chunk), k, out);
            }
        });
        let (packed_b, packed_a) = packed.split_at(len_b);
        device.threads().for_each(n_chunk * n_column, &|i| {
            let (chunk, column) = (i / n_column, i % n_column);
            let rows = chunk_rows(a, chunk);
            let panels = column * step..n_panel.min((column + 1) * step);
            SCRATCH.with_borrow_mut(|(scratch, _)| {
                scratch.resize(chunk_len, 0);
                for (block, k) in plan.blocks(a.cols).enumerate().skip(first).take(blocks) {
                    let place = block - first;
                    let packed_a: &[u32] = if n_shared > 0 {
                        &packed_a[(chunk * blocks + place) * chunk_len..][..chunk_len]
                    } else {
                        plan.pack_a(a, rows.clone(), k, scratch);
                        &*scratch
                    };
                    let target = (out.get(), stride);
                    let part = (rows.clone(), panels.clone());
                    let block = (block, place);
                    // SAFETY: `c` is borrowed for the whole call, and chunks are disjoint.
                    unsafe {
                        plan.chunk((a, packed_a), (b, packed_b), part, block, target, accumulate);
                    }
                }
            });
        });
    }
}

/// As [`gemm`], on the calling thread alone: for the small products inside a task.
///
/// # Panics
/// As [`gemm`].
pub fn gemm_serial(
    isa: Isa,
    precision: Precision,
    a: View<'_>,
    b: View<'_>,
    mut c: ViewMut<'_>,
    accumulate: bool,
) {
    if is_nothing(a, b, &mut c, accumulate) {
        return;
    }
    let plan = Plan::new(isa, precision);
    let n_panel = b.cols.div_ceil(plan.tile.1);
    SCRATCH.with_borrow_mut(|(scratch, packed)| {
        let len = plan.packed_len(b);
        if packed.len() < len {
            packed.resize(len, 0);
        }
        for (block, (k, n_k)) in plan.blocks(b.rows).enumerate() {
            for panel in 0..n_panel {
                plan.pack_b(b, panel, (k, n_k), &mut packed[plan.panel_at(b, block, panel)..]);
            }
        }
        scratch.resize(plan.chunk_len(), 0);
        for chunk in 0..a.rows.div_ceil(CHUNK_ROWS) {
            let rows = chunk_rows(a, chunk);
            for (block, k) in plan.blocks(a.cols).enumerate() {
                plan.pack_a(a, rows.clone(), k, scratch);
                let target = (c.data.as_mut_ptr(), c.stride);
                let part = (rows.clone(), 0..n_panel);
                // SAFETY: `c` is borrowed for the whole call.
                unsafe {
                    let block = (block, block);
                    plan.chunk((a, scratch), (b, packed), part, block, target, accumulate);
                }
            }
        }
    });
}
