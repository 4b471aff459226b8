//! Rows of a table by number, and the table's gradient.

use std::ops::Range;

use super::tasks::{Disjoint, for_each_range, for_each_rows};
use super::vectors::{each_vector, load, store};
use crate::Device;
use crate::ops::lanes::{Kernel, Lanes, run};

/// Columns of a task of the gradient: four cache lines of each row that it meets. Tasks are columns
/// and not tokens, so that a row's sum has one order, whatever the threads.
const COLUMNS: usize = 64;

/// `out` (N, C) becomes the rows `ids` (N) of `table` (V, C); C is `n_channel`.
///
/// # Panics
/// If a length does not fit, or an id is not below V.
pub fn embedding_forward(
    device: &Device,
    ids: &[u32],
    table: &[f32],
    n_channel: usize,
    out: &mut [f32],
) {
    assert_shape(ids, table.len(), n_channel, out.len());
    let out = Disjoint::new(out);
    for_each_rows(device, ids.len(), n_channel, &|rows| {
        let ids = &ids[rows.clone()];
        // SAFETY: a row is of one task alone.
        let out = unsafe { out.range(rows.start * n_channel..rows.end * n_channel) };
        for (id, out) in ids.iter().zip(out.chunks_exact_mut(n_channel)) {
            out.copy_from_slice(&table[*id as usize * n_channel..][..n_channel]);
        }
    });
}

/// `dtable` (V, C) gains each row of `dout` (N, C) in the row that `ids` (N) names, in the order of
/// `ids`; C is `n_channel`. Exactly rounded sums.
///
/// # Panics
/// If a length does not fit, or an id is not below V.
pub fn embedding_backward(
    device: &Device,
    ids: &[u32],
    dout: &[f32],
    n_channel: usize,
    dtable: &mut [f32],
) {
    assert_shape(ids, dtable.len(), n_channel, dout.len());
    let table = Table { start: dtable.as_mut_ptr() };
    for_each_range(device, n_channel, COLUMNS, &|columns| {
        run(device.isa(), Columns { ids, dout, n_channel, table: &table, columns });
    });
}

fn assert_shape(ids: &[u32], table: usize, n_channel: usize, rows: usize) {
    assert!(n_channel > 0 && table.is_multiple_of(n_channel), "embedding: the table is (V, C)");
    assert_eq!(rows, ids.len() * n_channel, "embedding: the rows are (N, C)");
    let entries = table / n_channel;
    let strange = ids.iter().find(|&&id| id as usize >= entries);
    assert!(strange.is_none(), "embedding: id {strange:?} of {entries} rows");
}

/// The start of a table whose columns are written by one task each.
struct Table {
    start: *mut f32,
}

// SAFETY: tasks write disjoint columns.
unsafe impl Sync for Table {}

/// Some columns of [`embedding_backward`].
struct Columns<'a> {
    ids: &'a [u32],
    dout: &'a [f32],
    n_channel: usize,
    table: &'a Table,
    columns: Range<usize>,
}

impl Columns<'_> {
    /// Where a token's columns begin, in `dout` and in the table.
    #[inline(always)]
    fn places(&self, token: usize) -> (*const f32, *mut f32) {
        let from = |row: usize| row * self.n_channel + self.columns.start;
        let row = self.table.start.wrapping_add(from(self.ids[token] as usize));
        (self.dout[from(token)..].as_ptr(), row)
    }
}

impl Kernel for Columns<'_> {
    type Output = ();

    fn scalar(self) {
        for token in 0..self.ids.len() {
            let (from, to) = self.places(token);
            for i in 0..self.columns.len() {
                // SAFETY: the columns exist in each row, and those of the table are of this task
                // alone.
                unsafe { *to.add(i) += *from.add(i) };
            }
        }
    }

    #[inline(always)]
    unsafe fn vector<L: Lanes>(self) {
        for token in 0..self.ids.len() {
            let (from, to) = self.places(token);
            // SAFETY: the columns exist in each row, and those of the table are of this task alone;
            // the caller has the instructions.
            unsafe {
                each_vector!(L, self.columns.len(), |i, n| {
                    let sum = L::add(load::<L>(to.add(i), n), load::<L>(from.add(i), n));
                    store::<L>(to.add(i), n, sum);
                });
            }
        }
    }
}
