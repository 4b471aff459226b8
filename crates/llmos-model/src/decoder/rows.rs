//! Operations on rows, shared among threads where there are many.
//!
//! Each works row by row: where a kernel's last whole vector ends must not depend on how many rows
//! there are, or a row's bits would depend on the rows before it.

use std::sync::Mutex;

use llmos_tensor::{Device, Isa, ops};

use super::Chunk;

/// Below this many numbers a region of threads costs more than it saves.
pub(super) const PARALLEL: usize = 16 << 10;

/// Moves the wanted rows of all chunks to the front of `values` (T, width).
pub(super) fn keep_wanted(values: &mut [f32], width: usize, chunks: &[Chunk<'_>]) {
    let (mut end, mut kept) = (0, 0);
    for chunk in chunks {
        end += chunk.tokens.len();
        let first = end - chunk.wanted;
        values.copy_within(first * width..end * width, kept * width);
        kept += chunk.wanted;
    }
}

/// Adds `bias` (C) to each row of `x` (T, C).
pub(super) fn add_bias(isa: Isa, x: &mut [f32], bias: &[f32]) {
    for row in x.chunks_exact_mut(bias.len()) {
        ops::add_forward(isa, row, bias);
    }
}

/// `gate = activation(gate) * up`, both (T, width).
pub(super) fn gate_rows(
    device: &Device,
    activation: ops::Activation,
    gate: &mut [f32],
    up: &[f32],
    width: usize,
) {
    in_parallel(device, gate, width, |first, gate| {
        // Row by row: where a vector ends must not depend on the rows before it.
        let up = up[first * width..].chunks_exact(width);
        for (gate, up) in gate.chunks_exact_mut(width).zip(up) {
            ops::activation_gate_in_place(device.isa(), activation, gate, up);
        }
    });
}

/// The norm of each row of `x` (T, C) to `out` (T, C).
pub(super) fn norm_rows(device: &Device, x: &[f32], weight: &[f32], eps: f32, out: &mut [f32]) {
    let (isa, c) = (device.isa(), weight.len());
    in_parallel(device, out, c, |first, out| {
        let x = &x[first * c..][..out.len()];
        ops::rmsnorm_forward(isa, x, Some(weight), c, eps, out);
    });
}

/// The norm of each row of `x` (T, C), in its place.
pub(super) fn norm_rows_in_place(device: &Device, x: &mut [f32], weight: &[f32], eps: f32) {
    let (isa, c) = (device.isa(), weight.len());
    in_parallel(device, x, c, |_, x| ops::rmsnorm_in_place(isa, x, Some(weight), c, eps));
}

/// `acc += x`, both (T, C).
pub(super) fn add_rows(device: &Device, acc: &mut [f32], x: &[f32], c: usize) {
    in_parallel(device, acc, c, |first, acc| {
        ops::add_forward(device.isa(), acc, &x[first * c..][..acc.len()]);
    });
}

/// Calls `body` with runs of whole rows of `x` (T, width) and the index of their first, on several
/// threads where that pays.
pub(super) fn in_parallel(
    device: &Device,
    x: &mut [f32],
    width: usize,
    body: impl Fn(usize, &mut [f32]) + Sync,
) {
    let (rows, threads) = (x.len() / width, device.threads().count());
    if threads == 1 || rows < 2 || x.len() < PARALLEL {
        body(0, x);
        return;
    }
    let run = rows.div_ceil(threads);
    let runs: Vec<Mutex<&mut [f32]>> = x.chunks_mut(run * width).map(Mutex::new).collect();
    device.threads().for_each(runs.len(), &|index| {
        // Each run is locked once, by one thread, so nothing can be poisoned before.
        if let Ok(mut run_of_rows) = runs[index].lock() {
            body(index * run, &mut run_of_rows);
        }
    });
}
