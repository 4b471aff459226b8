//! The loops around the register tile, on one thread or on all of a device's.
//!
//! `c` is cut into parts, and a part's task packs what it reads by itself, piece by piece into
//! scratch that fits the second-level cache: nothing is shared, and there is one parallel region. An
//! operand is packed once for each part that it meets, which parts are chosen to keep rare.

use std::cell::RefCell;
use std::mem::MaybeUninit;
use std::ops::Range;

use super::ahead::Ahead;
use super::kernel::{self, STRIDE, Tile};
use super::pack::{SLACK, WORDS, pack_a_f32, pack_b_f32};
use super::{Precision, View, ViewMut};
use crate::buffer::Room;
use crate::matrix::Shared;
use crate::{Device, Isa};

/// Rows of `a` that are packed together, four tiles of twelve: 48 KiB.
const CHUNK_ROWS: usize = 48;

/// The widest part: a block of `b` takes 384 KiB of the second-level cache, packed, and as much again
/// while the next is asked for.
const PART_COLS: usize = 384;

/// Room for the largest tile.
const EDGE: usize = 12 * 32;

thread_local! {
    /// Packed pieces of `a` and of `b`.
    static SCRATCH: RefCell<(Room<u32>, Room<u32>)> = const { RefCell::new((Room::EMPTY, Room::EMPTY)) };
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

    /// Words of a block.
    fn words(self, n_k: usize) -> usize {
        if self.bf16 { n_k.div_ceil(2) } else { n_k }
    }

    fn pack_a(self, a: View<'_>, rows: Range<usize>, k: Range<usize>, out: &mut [u32]) {
        #[cfg(target_arch = "x86_64")]
        if self.bf16 {
            // SAFETY: `new` asked for the instructions.
            unsafe { super::bf16::pack_a(a, rows, k, out) };
            return;
        }
        pack_a_f32(self.isa, a, self.tile.0, rows, k, out);
    }

    fn pack_b(self, b: View<'_>, col: usize, k: Range<usize>, out: &mut [u32]) {
        #[cfg(target_arch = "x86_64")]
        if self.bf16 {
            // SAFETY: `new` asked for the instructions.
            unsafe { super::bf16::pack_b(b, col, k, out) };
            return;
        }
        pack_b_f32(self.isa, b, self.tile.1, col, k, out);
    }

    /// # Safety
    /// As [`kernel::multiply_f32`].
    unsafe fn multiply(self, tile: Tile, ahead: &mut Ahead) {
        // SAFETY: the caller's; `new` asked for the instructions.
        unsafe {
            #[cfg(target_arch = "x86_64")]
            if self.bf16 {
                super::bf16::multiply(tile, ahead);
                return;
            }
            kernel::multiply_f32(self.isa, tile, ahead);
        }
    }

    /// Rows `rows` and columns `cols` of the product; the latter begin a panel.
    ///
    /// # Safety
    /// `c` points to a matrix (a.rows, b.cols) whose rows stand `stride` apart, of which nobody else
    /// touches these rows and columns.
    unsafe fn part(
        self,
        (a, b): (View<'_>, View<'_>),
        (rows, cols): (Range<usize>, Range<usize>),
        (c, stride): (*mut f32, usize),
        accumulate: bool,
    ) {
        let (n_panel, panel_len) = (cols.len().div_ceil(self.tile.1), WORDS * self.tile.1);
        let n_chunk = rows.len().div_ceil(CHUNK_ROWS);
        let chunk = |i: usize| {
            let first = rows.start + i * CHUNK_ROWS;
            first..rows.end.min(first + CHUNK_ROWS)
        };
        let block = |k: usize| k..a.cols.min(k + self.block);
        let mut scratch = SCRATCH.take();
        let packed_a = scratch.0.of(CHUNK_ROWS.next_multiple_of(self.tile.0) * WORDS + SLACK);
        let packed_b = scratch.1.of(n_panel * panel_len + SLACK);
        for k in (0..a.cols).step_by(self.block) {
            let words = self.words(block(k).len());
            for (panel, col) in cols.clone().step_by(self.tile.1).enumerate() {
                self.pack_b(b, col, block(k), &mut packed_b[panel * panel_len..]);
            }
            // Meanwhile a share of the next block of `b` is asked for, and the next rows of `a`.
            let next_k = block(k + self.block);
            for i in 0..n_chunk {
                self.pack_a(a, chunk(i), block(k), packed_a);
                let (next_rows, next_cols) = if i + 1 < n_chunk {
                    (chunk(i + 1), block(k))
                } else {
                    (chunk(0), next_k.clone())
                };
                let share = |i: usize| next_k.start + next_k.len() * i / n_chunk;
                let steps = n_panel * chunk(i).len().div_ceil(self.tile.0) * words.div_ceil(STRIDE);
                let mut ahead = Ahead::new(
                    (a, next_rows, next_cols),
                    (b, share(i)..share(i + 1), cols.clone()),
                    steps,
                );
                for (panel, col) in cols.clone().step_by(self.tile.1).enumerate() {
                    let of_panel = Tile {
                        a: packed_a.as_ptr(),
                        transposed: a.transposed,
                        b: packed_b[panel * panel_len..].as_ptr(),
                        words,
                        c: c.wrapping_add(col),
                        stride,
                        rows: 0,
                        add: accumulate || k > 0,
                    };
                    let n_col = self.tile.1.min(cols.end - col);
                    // SAFETY: the caller's; the chunk and the panel are packed.
                    unsafe { self.chunk(of_panel, chunk(i), n_col, &mut ahead) };
                }
            }
        }
        SCRATCH.replace(scratch);
    }

    /// A chunk of rows by a panel, of which `n_col` columns are wanted.
    ///
    /// # Safety
    /// As [`Plan::part`]; `of_panel` has both operands and the panel's first column of `c`.
    unsafe fn chunk(self, of_panel: Tile, rows: Range<usize>, n_col: usize, ahead: &mut Ahead) {
        let (tile_rows, tile_cols) = self.tile;
        for (t, row) in rows.clone().step_by(tile_rows).enumerate() {
            let tile = Tile {
                a: of_panel.a.wrapping_add(t * tile_rows * WORDS),
                c: of_panel.c.wrapping_add(row * of_panel.stride),
                rows: tile_rows.min(rows.end - row),
                ..of_panel
            };
            // SAFETY: the tile lies within the caller's matrix, or in `edge`.
            unsafe {
                if n_col == tile_cols && kernel::computed_rows(self.isa, tile.rows) == tile.rows {
                    self.multiply(tile, ahead);
                    continue;
                }
                let mut edge = MaybeUninit::<[f32; EDGE]>::uninit();
                let sums = edge.as_mut_ptr().cast::<f32>();
                self.multiply(Tile { c: sums, stride: tile_cols, add: false, ..tile }, ahead);
                for r in 0..tile.rows {
                    for n in 0..n_col {
                        let (sum, to) =
                            (*sums.add(r * tile_cols + n), tile.c.add(r * tile.stride + n));
                        *to = if tile.add { *to + sum } else { sum };
                    }
                }
            }
        }
    }

    /// Rows and columns of a part of a product (rows, cols), such that all threads have work, little
    /// is packed twice, and none waits long for the last.
    fn part_shape(self, rows: usize, cols: usize, threads: usize) -> (usize, usize) {
        /// Packing of a tile's rows or of a panel beside a tile's product, in thousandths: a quarter
        /// of a cycle for each number, where the product of a tile takes 24 cycles (Zen 4).
        const PACKING: (usize, usize) = (120, 300);
        /// Parts of a thread, at most.
        const PARTS: usize = 8;
        let (tile_rows, tile_cols) = self.tile;
        let (n_tile, n_panel) = (rows.div_ceil(tile_rows), cols.div_ceil(tile_cols));
        let most = PARTS * threads;
        let least_across = cols.div_ceil(PART_COLS);
        let grids = (least_across..=least_across.max(most).min(n_panel)).flat_map(|across| {
            (1..=(most / across).clamp(1, n_tile)).map(move |down| (down, across))
        });
        let shapes = grids.map(|(down, across)| (n_tile.div_ceil(down), n_panel.div_ceil(across)));
        let cost = |&(tiles, panels): &(usize, usize)| {
            let n_part = n_tile.div_ceil(tiles) * n_panel.div_ceil(panels);
            let part = 1000 * tiles * panels + PACKING.0 * tiles + PACKING.1 * panels;
            // Half of the threads wait for half of a part.
            part * (4 * n_part.div_ceil(threads) + usize::from(threads > 1))
        };
        let (tiles, panels) = shapes.min_by_key(cost).unwrap_or((n_tile, n_panel));
        (tiles * tile_rows, panels * tile_cols)
    }
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
    let (rows, cols) = plan.part_shape(a.rows, b.cols, device.threads().count());
    let (down, across) = (a.rows.div_ceil(rows), b.cols.div_ceil(cols));
    let (out, stride) = (Shared(c.data.as_mut_ptr()), c.stride);
    device.threads().for_each(down * across, &|i| {
        let (row, col) = (i / across * rows, i % across * cols);
        let part = (row..a.rows.min(row + rows), col..b.cols.min(col + cols));
        // SAFETY: `c` is borrowed for the whole call, and parts are disjoint.
        unsafe { plan.part((a, b), part, (out.get(), stride), accumulate) };
    });
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
    for col in (0..b.cols).step_by(PART_COLS) {
        let part = (0..a.rows, col..b.cols.min(col + PART_COLS));
        // SAFETY: `c` is borrowed for the whole call.
        unsafe { plan.part((a, b), part, (c.data.as_mut_ptr(), c.stride), accumulate) };
    }
}
