//! Work cut into tasks by its size alone, so that no result depends on the number of threads.

use std::marker::PhantomData;
use std::ops::Range;

use crate::Device;

/// Numbers of a task: some ten microseconds of work, a hundred times what it takes to claim one.
const TASK: usize = 16 << 10;

/// Calls `body` with consecutive ranges of `step` that cover 0..count, the last may be shorter, each
/// once and on any thread.
pub(super) fn for_each_range(
    device: &Device,
    count: usize,
    step: usize,
    body: &(dyn Fn(Range<usize>) + Sync),
) {
    let one = |task: usize| body(task * step..((task + 1) * step).min(count));
    device.threads().for_each(count.div_ceil(step), &one);
}

/// [`for_each_range`] over numbers.
pub(super) fn for_each_piece(device: &Device, n: usize, body: &(dyn Fn(Range<usize>) + Sync)) {
    for_each_range(device, n, TASK, body);
}

/// [`for_each_range`] over rows of `width` numbers.
pub(super) fn for_each_rows(
    device: &Device,
    rows: usize,
    width: usize,
    body: &(dyn Fn(Range<usize>) + Sync),
) {
    for_each_range(device, rows, (TASK / width.max(1)).max(1), body);
}

/// A mutable slice whose ranges are given to tasks.
pub(super) struct Disjoint<'a> {
    start: *mut f32,
    len: usize,
    borrow: PhantomData<&'a mut [f32]>,
}

// SAFETY: it stands for a `&mut [f32]`, and `range`, the only way into it, is unsafe.
unsafe impl Sync for Disjoint<'_> {}

impl<'a> Disjoint<'a> {
    pub(super) fn new(slice: &'a mut [f32]) -> Disjoint<'a> {
        Disjoint { start: slice.as_mut_ptr(), len: slice.len(), borrow: PhantomData }
    }

    /// The numbers of a range.
    ///
    /// # Safety
    /// While the result lives, nobody else holds a range that has a number in common with it.
    pub(super) unsafe fn range(&self, range: Range<usize>) -> &'a mut [f32] {
        assert!(range.start <= range.end && range.end <= self.len, "a range within the slice");
        // SAFETY: the range lies within the borrowed slice; the caller is the only one to hold it.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(range.start), range.len()) }
    }
}
