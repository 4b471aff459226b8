//! Products of activations with matrices, spread over the device's threads.
//!
//! A task is a few row groups; each output value is computed by one thread in one order, so that
//! results depend on neither the thread count nor the number of tokens.

use std::cell::RefCell;
use std::ops::Range;

#[cfg(target_arch = "x86_64")]
use super::activations::Rounded;
use super::activations::{Block, Dense, Quantised, Shared, Tile};
#[cfg(target_arch = "x86_64")]
use super::bf16;
use super::kernel::{self, QuantisedKernels, ROWS, Target};
use super::{Form, Matrix};
use crate::device::Device;
use crate::ops::{self, Activation};

/// Weight bytes of a decoding task: enough to hide its claim, few enough to balance threads.
const TASK_BYTES: usize = 512 << 10;

/// Weight bytes, each counted once a token, below which a product is not worth a second thread:
/// some microseconds of reading, about what it takes to gather the threads twice.
const ALONE_BYTES: usize = 128 << 10;

/// Bytes of quantised activations that a row group is multiplied with before the next one's turn:
/// they stay in the second-level cache.
const BLOCK_BYTES: usize = 512 << 10;

/// Blocks of a panel: with four row groups a task, panels and a tile of activations stay in the
/// first-level cache or next to it (8, 16 and 32 measured on Zen 5: 642, 675, 684 GOP/s).
const PANEL_BLOCKS: usize = 16;

/// Activations in the forms that kernels read, kept between calls.
#[derive(Default)]
pub(crate) struct Workspace {
    bytes: Quantised,
    single: Dense,
    #[cfg(target_arch = "x86_64")]
    bf16: Rounded,
    tasks: Vec<Task>,
}

impl Workspace {
    /// The tiles that activations were cut into in this form.
    fn tiles(&self, form: Form) -> &[Tile] {
        match form {
            Form::Bytes => &self.bytes.tiles,
            Form::Single => &self.single.tiles,
            #[cfg(target_arch = "x86_64")]
            Form::Bf16 => &self.bf16.tiles,
        }
    }
}

/// Row groups of one of the product's matrices.
#[derive(Clone, Copy)]
struct Task {
    job: usize,
    first: usize,
    groups: usize,
}

thread_local! {
    /// A panel, and the second half of a gated product.
    static SCRATCH: RefCell<(Vec<u64>, Vec<f32>)> = const { RefCell::new((Vec::new(), Vec::new())) };
}

/// Multiplies `x` (tokens, cols) with each matrix: `out` (tokens, rows) is `x` times its transpose.
///
/// # Panics
/// If a length does not fit its shape, or the matrices differ in their columns.
pub fn matmul(device: &Device, x: &[f32], tokens: usize, jobs: &mut [(&Matrix, &mut [f32])]) {
    let Some(cols) = jobs.first().map(|(matrix, _)| matrix.cols) else { return };
    assert_eq!(x.len(), tokens * cols, "activations are (tokens, cols)");
    for (matrix, out) in jobs.iter() {
        assert_eq!(matrix.cols, cols, "matrices of one product share their columns");
        assert_eq!(out.len(), tokens * matrix.rows, "the product is (tokens, rows)");
    }
    if tokens == 0 || cols == 0 {
        jobs.iter_mut().for_each(|(_, out)| out.fill(0.0));
        return;
    }
    let jobs: Vec<(&Matrix, Shared<f32>)> =
        jobs.iter_mut().map(|(matrix, out)| (*matrix, Shared(out.as_mut_ptr()))).collect();
    let matrices: Vec<&Matrix> = jobs.iter().map(|(matrix, _)| *matrix).collect();
    let mut workspace = device.workspace();
    let product = Product::prepare(device, &mut workspace, x, tokens, cols, &matrices, &[]);
    product.run(device, &|task, piece| {
        let (matrix, out) = jobs[task.job];
        // SAFETY: the task's rows of these tokens belong to it alone.
        let target = unsafe { target(matrix, out.get(), task, 0) };
        product.multiply(matrix, task, piece, target);
    });
}

/// `out` (tokens, d_ff) becomes `activation(x * gate) * (x * up)`.
///
/// # Panics
/// If a length does not fit its shape, or the matrices differ in shape.
pub fn matmul_gated(
    device: &Device,
    activation: Activation,
    x: &[f32],
    tokens: usize,
    gate: &Matrix,
    up: &Matrix,
    out: &mut [f32],
) {
    let (rows, cols) = (gate.rows, gate.cols);
    assert_eq!((up.rows, up.cols), (rows, cols), "gate and up have one shape");
    assert_eq!(x.len(), tokens * cols, "activations are (tokens, cols)");
    assert_eq!(out.len(), tokens * rows, "the product is (tokens, rows)");
    if tokens == 0 || cols == 0 {
        out.fill(0.0);
        return;
    }
    let mut workspace = device.workspace();
    let product = Product::prepare(device, &mut workspace, x, tokens, cols, &[gate], &[up]);
    let out = Shared(out.as_mut_ptr());
    let isa = device.isa();
    product.run(device, &|task, piece| {
        let width = task.groups * ROWS;
        // SAFETY: the task's rows of these tokens belong to it alone.
        let gate_target = unsafe { target(gate, out.get(), task, 0) };
        product.multiply(gate, task, piece, gate_target);
        let mut second = SCRATCH.with_borrow_mut(|(_, second)| std::mem::take(second));
        let (first_token, count) = product.tokens_of(piece);
        second.resize(count * width, 0.0);
        let up_target = Target {
            // The kernels address tokens from the first of all; the scratch begins at the piece's.
            start: second.as_mut_ptr().wrapping_sub(first_token * width),
            stride: width,
            rows: gate_target.rows,
        };
        product.multiply(up, task, piece, up_target);
        let rows_here = gate_target.rows.min(width);
        for t in 0..count {
            // SAFETY: as above.
            let gate_row = unsafe {
                std::slice::from_raw_parts_mut(
                    gate_target.start.add((first_token + t) * gate_target.stride),
                    rows_here,
                )
            };
            ops::activation_gate_in_place(
                isa,
                activation,
                gate_row,
                &second[t * width..][..rows_here],
            );
        }
        SCRATCH.with_borrow_mut(|(_, slot)| *slot = second);
    });
}

/// Where a task's rows lie in its output.
///
/// # Safety
/// `out` is (tokens, rows) of that matrix.
unsafe fn target(matrix: &Matrix, out: *mut f32, task: Task, token: usize) -> Target {
    let first = task.first * ROWS;
    Target {
        // SAFETY: the first row of a task exists.
        start: unsafe { out.add(token * matrix.rows + first) },
        stride: matrix.rows,
        rows: (matrix.rows - first).min(task.groups * ROWS),
    }
}

/// A consecutive range of tiles.
#[derive(Clone, Copy)]
struct Piece {
    first: usize,
    count: usize,
}

impl Piece {
    /// Its tiles, of so many.
    fn range(self, tiles: usize) -> Range<usize> {
        self.first..self.first.saturating_add(self.count).min(tiles)
    }
}

/// One product's activations and tasks.
struct Product<'a> {
    workspace: &'a Workspace,
    isa: crate::Isa,
    blocks: usize,
    cols: usize,
    panels: bool,
    pieces: Vec<Piece>,
    /// The form of all matrices, or of the first.
    form: Form,
    /// Small enough for the calling thread.
    alone: bool,
}

impl<'a> Product<'a> {
    /// Tasks for `matrices`, and activations in the forms that they and `others` ask for.
    fn prepare(
        device: &Device,
        workspace: &'a mut Workspace,
        x: &[f32],
        tokens: usize,
        cols: usize,
        matrices: &[&Matrix],
        others: &[&Matrix],
    ) -> Product<'a> {
        let widths = kernel::widths(device.isa());
        let panels = tokens >= widths.panel_from;
        let form = matrices[0].form;
        let asked = |form: Form| matrices.iter().chain(others).any(|m| m.form == form);
        let mixed = matrices.iter().chain(others).any(|m| m.form != form);
        if asked(Form::Bytes) {
            let tiles = if panels { widths.panel } else { widths.direct };
            workspace.bytes.fill(device, x, cols, tiles);
        }
        if asked(Form::Single) {
            workspace.single.fill(device, x, cols, widths.dense);
        }
        #[cfg(target_arch = "x86_64")]
        if asked(Form::Bf16) {
            workspace.bf16.fill(device, x, cols);
        }
        let mut pieces = Vec::new();
        if mixed {
            // The tiles differ; all tokens are then one piece.
            pieces.push(Piece { first: 0, count: usize::MAX });
        } else {
            // Bytes of a token that are used between one row group and the next.
            let bytes = match form {
                Form::Bytes if panels => PANEL_BLOCKS * size_of::<Block>(),
                Form::Bytes => cols / 32 * size_of::<Block>(),
                Form::Single => cols * 4,
                #[cfg(target_arch = "x86_64")]
                Form::Bf16 => bf16::PAIRS * 4,
            };
            // Pieces of one size: unpacking for a last piece of a few tokens would be wasted.
            let fit = (BLOCK_BYTES / bytes.max(1)).max(1);
            let at_most = tokens.div_ceil(tokens.div_ceil(fit));
            let tiles = workspace.tiles(form);
            let (mut first, mut held) = (0, 0);
            for (i, tile) in tiles.iter().enumerate() {
                if held > 0 && held + tile.tokens > at_most.max(tile.tokens) {
                    pieces.push(Piece { first, count: i - first });
                    (first, held) = (i, 0);
                }
                held += tile.tokens;
            }
            pieces.push(Piece { first, count: tiles.len() - first });
        }
        workspace.tasks.clear();
        for (job, matrix) in matrices.iter().enumerate() {
            let step = if tokens >= 8 {
                4
            } else {
                (TASK_BYTES / matrix.group_bytes.max(1)).clamp(1, 64).next_multiple_of(4)
            };
            for first in (0..matrix.groups()).step_by(step) {
                let groups = step.min(matrix.groups() - first);
                workspace.tasks.push(Task { job, first, groups });
            }
        }
        Product {
            workspace,
            isa: device.isa(),
            blocks: cols / 32,
            cols,
            panels,
            pieces,
            form,
            alone: matrices.iter().map(|m| m.bytes()).sum::<usize>() * tokens < ALONE_BYTES,
        }
    }

    /// Calls `body` for each (task, piece), on all threads unless it is little.
    fn run(&self, device: &Device, body: &(dyn Fn(Task, Piece) + Sync)) {
        let tasks = &self.workspace.tasks;
        let one = |i: usize| body(tasks[i % tasks.len()], self.pieces[i / tasks.len()]);
        let count = tasks.len() * self.pieces.len();
        if self.alone {
            (0..count).for_each(one);
        } else {
            device.threads().for_each(count, &one);
        }
    }

    /// First token and number of tokens of a piece.
    fn tokens_of(&self, piece: Piece) -> (usize, usize) {
        let tiles = self.workspace.tiles(self.form);
        let tiles = &tiles[piece.range(tiles.len())];
        let first = tiles.first().map_or(0, |tile| tile.first);
        (first, tiles.iter().map(|tile| tile.tokens).sum())
    }

    /// Multiplies a task's row groups with a piece's tokens.
    fn multiply(&self, matrix: &Matrix, task: Task, piece: Piece, target: Target) {
        let weights = matrix.data.as_slice()[task.first * matrix.group_bytes..]
            [..task.groups * matrix.group_bytes]
            .as_ptr();
        match matrix.form {
            Form::Bytes => {
                if let Some(kernels) = kernel::quantised(self.isa, matrix.dtype) {
                    self.multiply_quantised(&kernels, weights, matrix, task, piece, target);
                }
            }
            Form::Single => self.multiply_single(weights, matrix, task, piece, target),
            #[cfg(target_arch = "x86_64")]
            Form::Bf16 => self.multiply_bf16(weights, matrix, task, piece, target),
        }
    }

    fn multiply_single(
        &self,
        weights: *const u8,
        matrix: &Matrix,
        task: Task,
        piece: Piece,
        target: Target,
    ) {
        let kernel = kernel::dense(self.isa, matrix.dtype);
        let tiles = &self.workspace.single;
        for index in piece.range(tiles.tiles.len()) {
            let (tile, x) = tiles.tile(index);
            // SAFETY: weights and activations have the lengths that their shapes say; the
            // target holds these rows of all tokens; the kernel exists here (`Isa`).
            unsafe {
                let target = target.token(tile.first);
                kernel(weights, matrix.group_bytes, task.groups, self.cols, tile, x, target);
            }
        }
    }

    /// With few tokens two row groups are read to their end before the next two; with many, a block
    /// of columns of all the task's rows is used for all tiles before the next block.
    #[cfg(target_arch = "x86_64")]
    fn multiply_bf16(
        &self,
        weights: *const u8,
        matrix: &Matrix,
        task: Task,
        piece: Piece,
        target: Target,
    ) {
        let tiles = &self.workspace.bf16;
        let pairs = self.cols.div_ceil(2);
        let one = |g: usize, first: usize| {
            let groups = (task.groups - g).min(2);
            let count = (pairs - first).min(bf16::PAIRS);
            for index in piece.range(tiles.tiles.len()) {
                let (tile, x) = tiles.tile(index);
                // SAFETY: groups and words lie within the matrix, the block within its tile, whose
                // blocks are as many as the columns need; the form proves the instructions.
                unsafe {
                    bf16::product(
                        weights.add(g * matrix.group_bytes + first * ROWS * 4),
                        matrix.group_bytes,
                        groups,
                        count,
                        tile.tokens,
                        x.add(first * tile.tokens),
                        target.group(g).token(tile.first),
                        first > 0,
                    );
                }
            }
        };
        let groups = || (0..task.groups).step_by(2);
        let blocks = || (0..pairs).step_by(bf16::PAIRS);
        if self.panels {
            blocks().for_each(|first| groups().for_each(|g| one(g, first)));
        } else {
            groups().for_each(|g| blocks().for_each(|first| one(g, first)));
        }
    }

    fn multiply_quantised(
        &self,
        kernels: &QuantisedKernels,
        weights: *const u8,
        matrix: &Matrix,
        task: Task,
        piece: Piece,
        target: Target,
    ) {
        let tiles = &self.workspace.bytes;
        if !self.panels {
            for index in piece.range(tiles.tiles.len()) {
                let x = tiles.tile(index);
                // SAFETY: as for unquantised ones.
                unsafe {
                    (kernels.direct)(
                        weights,
                        matrix.group_bytes,
                        task.groups,
                        self.blocks,
                        x,
                        target.token(x.tile.first),
                    );
                }
            }
            return;
        }
        let panel_bytes = PANEL_BLOCKS * kernels.panel_block;
        SCRATCH.with_borrow_mut(|(panels, _)| {
            panels.resize((task.groups * panel_bytes).div_ceil(8), 0);
            let panels = panels.as_mut_ptr().cast::<u8>();
            for first in (0..self.blocks).step_by(PANEL_BLOCKS) {
                let count = PANEL_BLOCKS.min(self.blocks - first);
                // SAFETY: there is a panel for each group; the rest as for unquantised ones.
                unsafe {
                    for g in 0..task.groups {
                        let group = weights.add(g * matrix.group_bytes);
                        (kernels.unpack)(group, first, count, panels.add(g * panel_bytes));
                    }
                    for index in piece.range(tiles.tiles.len()) {
                        let mut x = tiles.tile(index);
                        x.values = x.values.add(first * x.tile.tokens);
                        for g in 0..task.groups {
                            let rows = target.group(g).token(x.tile.first);
                            (kernels.panel)(panels.add(g * panel_bytes), count, x, rows, first > 0);
                        }
                    }
                }
            }
        });
    }
}
