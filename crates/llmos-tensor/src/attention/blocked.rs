//! Attention in vectors: how an item of [`super::schedule`] is worked through.
//!
//! Keys are taken 128 at a time by the tiles of [`super::tile`]; after every 512 the rows' sums are
//! closed and merged, in order, into what came before.

use std::cell::RefCell;
use std::marker::PhantomData;
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::cache::GROUP;
use super::schedule::{CHUNK, Item, SPLIT, items, part_lines, seen};
use super::tile::{
    Element, F16, F32, I8, Merge, RowState, STEP, STEP_PAGES, ScaledWeights, Scores, Softmax,
    Values,
};
use super::{AttentionOptions, CacheShape, CacheType, Span};
use crate::Device;
use crate::ops::lanes::{Kernel, Lanes};

/// Multiplications below which waking the threads costs more than it gains, about 2 microseconds.
const MIN_WORK: usize = 1 << 16;

/// One call, whose shapes are checked.
pub(super) struct Call<'a> {
    pub(super) device: &'a Device,
    pub(super) shape: &'a CacheShape,
    pub(super) options: &'a AttentionOptions,
    pub(super) spans: &'a [Span<'a>],
    /// (T, H, D)
    pub(super) q: &'a [f32],
    /// (T, H, D)
    pub(super) out: &'a mut [f32],
}

impl Kernel for Call<'_> {
    type Output = ();

    fn scalar(self) {
        let Call { device, shape, options, spans, q, out } = self;
        super::scalar::attention(device, shape, options, spans, q, out);
    }

    #[inline(always)]
    unsafe fn vector<L: Lanes>(self) {
        // SAFETY: the caller has the instructions.
        unsafe { attention::<L>(self) }
    }
}

/// What all threads see.
struct Shared<'a> {
    shape: &'a CacheShape,
    options: &'a AttentionOptions,
    spans: &'a [Span<'a>],
    q: &'a [f32],
    /// Query heads of a key-value head.
    group: usize,
    out: *mut f32,
    parts: *mut Line,
    /// Items of each set that are not done.
    open: Vec<AtomicUsize>,
}

// SAFETY: items write disjoint rows of `out` and disjoint lines of `parts`; a set's lines are read
// by the thread that closed its counter last.
unsafe impl Sync for Shared<'_> {}

/// 64 bytes that start at a multiple of 64: no vector crosses a cache line.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Line([f32; 16]);

/// A thread's memory for an item, kept between calls.
#[derive(Default)]
struct Scratch {
    lines: Vec<Line>,
    states: Vec<RowState>,
    whole: Vec<RowState>,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
    /// Sums of split items, on the calling thread.
    static PARTS: RefCell<Vec<Line>> = RefCell::default();
}

/// # Safety
/// The CPU has the instructions of `L`.
#[inline(never)]
unsafe fn attention<L: Lanes>(call: Call<'_>) {
    let Call { device, shape, options, spans, q, out } = call;
    let group = options.n_head / shape.n_kv_head;
    let threads = device.threads().count();
    let (items, n_set, n_line) = items(shape, options, spans, threads);
    let work: usize = items.iter().map(|item| item.work(options, &spans[item.span], group)).sum();
    let mut parts = PARTS.take();
    grow(&mut parts, n_line, Line([0.0; 16]));
    let mut open: Vec<AtomicUsize> = (0..n_set).map(|_| AtomicUsize::new(0)).collect();
    for part in items.iter().filter_map(|item| item.part) {
        *open[part.set].get_mut() = part.count;
    }
    let shared = Shared {
        shape,
        options,
        spans,
        q,
        group,
        out: out.as_mut_ptr(),
        parts: parts.as_mut_ptr(),
        open,
    };
    let body = |index: usize| {
        let mut scratch = SCRATCH.take();
        // SAFETY: the shapes are checked, the item's rows and lines are its own, and the caller has
        // the instructions.
        unsafe {
            match shape.kind {
                CacheType::F32 => run_item::<L, F32>(&shared, &items[index], &mut scratch),
                CacheType::F16 => run_item::<L, F16>(&shared, &items[index], &mut scratch),
                CacheType::Q8 => run_item::<L, I8>(&shared, &items[index], &mut scratch),
            }
        }
        SCRATCH.replace(scratch);
    };
    if work * shape.head_dim < MIN_WORK {
        (0..items.len()).for_each(body);
    } else {
        device.threads().for_each(items.len(), &body);
    }
    PARTS.replace(parts);
}

fn grow<T: Copy>(buffer: &mut Vec<T>, length: usize, fill: T) {
    if buffer.len() < length {
        buffer.resize(length, fill);
    }
}

/// The scratch memory of an item, all of whole lines.
struct Memory {
    /// For each tile (D, R), scaled.
    q: *mut f32,
    /// (ROWS, STEP)
    scores: *mut f32,
    /// (ROWS, STEP)
    scaled: *mut f32,
    /// (CHUNK, E): the split's weighted values.
    acc: *mut f32,
    /// (CHUNK, E): those of all splits so far.
    whole: *mut f32,
}

impl Memory {
    fn of(lines: &mut Vec<Line>, shape: &CacheShape, tile_rows: usize) -> Memory {
        let (dim, padded) = (shape.head_dim, shape.padded_dim());
        let sizes =
            [CHUNK * dim, tile_rows * STEP, tile_rows * STEP, CHUNK * padded, CHUNK * padded];
        grow(lines, sizes.iter().sum::<usize>() / 16, Line([0.0; 16]));
        let mut at = lines.as_mut_ptr().cast::<f32>();
        let [q, scores, scaled, acc, whole] = sizes.map(|size| {
            let start = at;
            // SAFETY: `lines` holds the sum of all sizes.
            at = unsafe { at.add(size) };
            start
        });
        Memory { q, scores, scaled, acc, whole }
    }
}

/// # Safety
/// `shared` has checked shapes, the item's rows of `out` and its part are touched by no other; the
/// CPU has the instructions of `L`.
unsafe fn run_item<L: Lanes, E: Element>(shared: &Shared<'_>, item: &Item, scratch: &mut Scratch) {
    let shape = shared.shape;
    let (n_row, padded) = (item.rows.len(), shape.padded_dim());
    let memory = Memory::of(&mut scratch.lines, shape, L::ROWS);
    grow(&mut scratch.states, CHUNK, RowState::EMPTY);
    grow(&mut scratch.whole, CHUNK, RowState::EMPTY);
    let states = &mut scratch.states[..n_row];
    let whole = &mut scratch.whole[..n_row];
    // SAFETY: `memory` holds CHUNK >= n_row rows; a part's lines hold (rows, E) and the states; the
    // rest is the caller's.
    unsafe {
        pack_queries::<L>(shared, item, memory.q);
        if let Some(part) = item.part {
            let index = item.splits.start - part.first;
            let lines = part_lines(shape, n_row);
            let acc = shared.parts.add(part.start + index * lines).cast::<f32>();
            run_split::<L, E>(shared, item, item.splits.start, &memory, acc, states);
            for (r, state) in states.iter().enumerate() {
                *acc.add(n_row * padded + 2 * r) = state.largest;
                *acc.add(n_row * padded + 2 * r + 1) = state.total;
            }
            if shared.open[part.set].fetch_sub(1, Ordering::AcqRel) > 1 {
                return;
            }
            whole.fill(RowState::EMPTY);
            std::slice::from_raw_parts_mut(memory.whole, n_row * padded).fill(0.0);
            for index in 0..part.count {
                let acc = shared.parts.add(part.start + index * lines).cast::<f32>();
                for (r, state) in states.iter_mut().enumerate() {
                    state.largest = *acc.add(n_row * padded + 2 * r);
                    state.total = *acc.add(n_row * padded + 2 * r + 1);
                }
                merge::<L>(memory.whole, whole, acc, states, padded);
            }
        } else {
            whole.fill(RowState::EMPTY);
            std::slice::from_raw_parts_mut(memory.whole, n_row * padded).fill(0.0);
            for split in item.splits.clone() {
                run_split::<L, E>(shared, item, split, &memory, memory.acc, states);
                merge::<L>(memory.whole, whole, memory.acc, states, padded);
            }
        }
        for (r, state) in whole.iter().enumerate() {
            let row = item.rows.start + r;
            let token = shared.spans[item.span].row + row / shared.group;
            let head = item.kv_head * shared.group + row % shared.group;
            let at = (token * shared.options.n_head + head) * shape.head_dim;
            let factor = 1.0 / state.total;
            for d in 0..shape.head_dim {
                *shared.out.add(at + d) = *memory.whole.add(r * padded + d) * factor;
            }
        }
    }
}

/// Queries of the item's rows times the scale, for each tile (D, R): then a tile's broadcasts are
/// one stream.
///
/// # Safety
/// `to` holds (rows, D).
unsafe fn pack_queries<L: Lanes>(shared: &Shared<'_>, item: &Item, to: *mut f32) {
    let (options, dim) = (shared.options, shared.shape.head_dim);
    // Weights are powers of two; a cap's argument is scaled by itself and its result in `Softmax`.
    let scale = options.scale * options.softcap.map_or(std::f32::consts::LOG2_E, |cap| 1.0 / cap);
    for start in item.rows.clone().step_by(L::ROWS) {
        let height = L::ROWS.min(item.rows.end - start);
        // SAFETY: tiles follow each other, each height * D numbers.
        let tile = unsafe { to.add((start - item.rows.start) * dim) };
        for r in 0..height {
            let row = start + r;
            let token = shared.spans[item.span].row + row / shared.group;
            let head = item.kv_head * shared.group + row % shared.group;
            let q = &shared.q[(token * options.n_head + head) * dim..][..dim];
            for (d, q) in q.iter().enumerate() {
                // SAFETY: d < D and r < height.
                unsafe { *tile.add(d * height + r) = q * scale };
            }
        }
    }
}

/// Merges a split's sums into those of the splits before it.
///
/// # Safety
/// `acc` and `part` hold (states, `padded`); the CPU has the instructions of `L`.
unsafe fn merge<L: Lanes>(
    acc: *mut f32,
    whole: &mut [RowState],
    part: *const f32,
    states: &[RowState],
    padded: usize,
) {
    for (r, (whole, state)) in whole.iter_mut().zip(states).enumerate() {
        if state.total == 0.0 {
            continue; // The row sees nothing of this split.
        }
        let largest = whole.largest.max(state.largest);
        let a = (whole.largest - largest).exp2();
        let b = (state.largest - largest).exp2();
        whole.largest = largest;
        whole.total = whole.total * a + state.total * b;
        let at = r * padded;
        // SAFETY: the caller's.
        unsafe { L::enter(Merge { acc: acc.add(at), part: part.add(at), n: padded, a, b }) };
    }
}

/// One split's sums of the item's rows, to `acc` (rows, E) and `states`.
///
/// # Safety
/// As [`run_item`]; `acc` holds (rows, E).
unsafe fn run_split<L: Lanes, E: Element>(
    shared: &Shared<'_>,
    item: &Item,
    split: usize,
    memory: &Memory,
    acc: *mut f32,
    states: &mut [RowState],
) {
    let (shape, options, group) = (shared.shape, shared.options, shared.group);
    let span = &shared.spans[item.span];
    let padded = shape.padded_dim();
    states.fill(RowState::EMPTY);
    // SAFETY: acc holds (rows, E).
    unsafe { std::slice::from_raw_parts_mut(acc, states.len() * padded).fill(0.0) };
    let seen = seen(options, span, group, &item.rows);
    let end_page = seen.end.min(item.splits.end * SPLIT).div_ceil(CacheShape::BLOCK);
    for start in (split * SPLIT..(split + 1) * SPLIT).step_by(STEP) {
        let Some(tokens) = within(&seen, start) else { continue };
        let pages = start / CacheShape::BLOCK..(start + tokens.end).div_ceil(CacheShape::BLOCK);
        let mut step = Step::EMPTY;
        for page in pages.start + tokens.start / CacheShape::BLOCK..pages.end {
            // SAFETY: a page that a row sees has page_bytes, as `check` asserts.
            unsafe {
                let head = span.pages[page].as_ptr().add(item.kv_head * shape.head_bytes());
                step.set(shape, page - pages.start, head);
            }
            let later = span.pages.get(page + STEP_PAGES).filter(|_| page + STEP_PAGES < end_page);
            if let Some(later) = later {
                let later = later.as_ptr().addr() + item.kv_head * shape.head_bytes();
                let values = step.values[page - pages.start].addr();
                step.values_ahead[page - pages.start] = later.wrapping_sub(values) as isize;
            }
        }
        for first in item.rows.clone().step_by(L::ROWS) {
            let rows = first..item.rows.end.min(first + L::ROWS);
            let Some(tokens) = within(&self::seen(options, span, group, &rows), start) else {
                continue;
            };
            let at = first - item.rows.start;
            let states = &mut states[at..at + rows.len()];
            for (row, state) in rows.clone().zip(&mut *states) {
                let visible = options.visible(span.position + row / group);
                let visible = within(&visible, start).unwrap_or(0..0);
                state.visible = (visible.start as u32, visible.end as u32);
            }
            // SAFETY: the tile's rows of q and acc, and the step's pages of its tokens, are there.
            unsafe {
                let tile = RowTile {
                    shape,
                    cap: options.softcap,
                    step: &step,
                    tokens,
                    q: memory.q.add(at * shape.head_dim),
                    scores: memory.scores,
                    scaled: memory.scaled,
                    acc: acc.add(at * padded),
                };
                tile.run::<L, E>(states);
            }
        }
    }
}

/// The part of `positions` in the step at `start`, from its start; none if empty.
fn within(positions: &Range<usize>, start: usize) -> Option<Range<usize>> {
    let first = positions.start.max(start);
    let last = positions.end.min(start + STEP);
    (first < last).then(|| first - start..last - start)
}

/// Where a step's keys and values are, page by page; null where no row looks.
struct Step {
    /// (D, 32)
    keys: [*const u8; STEP_PAGES],
    /// (32, E)
    values: [*const u8; STEP_PAGES],
    /// (groups, 32) f16, for Q8
    key_scales: [*const u16; STEP_PAGES],
    value_scales: [*const u16; STEP_PAGES],
    /// Bytes from a page's keys to its values, which are read next.
    keys_ahead: [isize; STEP_PAGES],
    /// Bytes from a page's values to the keys of the page one step later.
    values_ahead: [isize; STEP_PAGES],
}

impl Step {
    const EMPTY: Step = Step {
        keys: [std::ptr::null(); STEP_PAGES],
        values: [std::ptr::null(); STEP_PAGES],
        key_scales: [std::ptr::null(); STEP_PAGES],
        value_scales: [std::ptr::null(); STEP_PAGES],
        keys_ahead: [0; STEP_PAGES],
        values_ahead: [0; STEP_PAGES],
    };

    /// # Safety
    /// `head` is one head of a page.
    unsafe fn set(&mut self, shape: &CacheShape, page: usize, head: *const u8) {
        // SAFETY: the offsets are those of the shape, within head_bytes.
        unsafe {
            self.keys[page] = head;
            self.values[page] = head.add(shape.value_start());
            self.keys_ahead[page] = shape.value_start() as isize;
            if shape.kind == CacheType::Q8 {
                let scales = head.add(shape.scale_start()).cast::<u16>();
                self.key_scales[page] = scales;
                self.value_scales[page] = scales.add(shape.n_group() * CacheShape::BLOCK);
            }
        }
    }
}

fn pages_of(tokens: &Range<usize>) -> Range<usize> {
    tokens.start / CacheShape::BLOCK..tokens.end.div_ceil(CacheShape::BLOCK)
}

/// A tile's rows against a step.
struct RowTile<'a> {
    shape: &'a CacheShape,
    cap: Option<f32>,
    step: &'a Step,
    /// Tokens of the step that any of the rows sees.
    tokens: Range<usize>,
    /// (D, R)
    q: *const f32,
    /// (R, STEP)
    scores: *mut f32,
    /// (R, STEP)
    scaled: *mut f32,
    /// (R, E)
    acc: *mut f32,
}

impl RowTile<'_> {
    /// # Safety
    /// The pointers hold their shapes, the step's pages of `tokens` are set and of `E`; the CPU has
    /// the instructions of `L`.
    unsafe fn run<L: Lanes, E: Element>(&self, rows: &mut [RowState]) {
        // SAFETY: the caller's; a tile has at most ROWS <= 8 rows.
        unsafe {
            match rows.len() {
                1 => self.run_rows::<L, E, 1>(rows),
                2 => self.run_rows::<L, E, 2>(rows),
                3 => self.run_rows::<L, E, 3>(rows),
                4 => self.run_rows::<L, E, 4>(rows),
                5 => self.run_rows::<L, E, 5>(rows),
                6 => self.run_rows::<L, E, 6>(rows),
                7 => self.run_rows::<L, E, 7>(rows),
                _ => self.run_rows::<L, E, 8>(rows),
            }
        }
    }

    /// # Safety
    /// As [`Self::run`], with `R` rows.
    unsafe fn run_rows<L: Lanes, E: Element, const R: usize>(&self, rows: &mut [RowState]) {
        let (shape, step) = (self.shape, self.step);
        let (dim, padded) = (shape.head_dim, shape.padded_dim());
        let pages = pages_of(&self.tokens);
        let scored = (pages.start * CacheShape::BLOCK, pages.end * CacheShape::BLOCK);
        let scaled = shape.kind == CacheType::Q8;
        let group_len = if scaled { GROUP } else { padded };
        // SAFETY: the caller's; offsets stay within the shapes.
        unsafe {
            for page in pages.clone() {
                for (group, d) in (0..dim).step_by(group_len).enumerate() {
                    L::enter(Scores::<E, R> {
                        q: self.q.add(d * R),
                        keys: step.keys[page].add(d * CacheShape::BLOCK * E::BYTES),
                        ahead: step.keys_ahead[page],
                        n_dim: group_len.min(dim - d),
                        scales: if scaled {
                            step.key_scales[page].add(group * CacheShape::BLOCK)
                        } else {
                            std::ptr::null()
                        },
                        add: group > 0,
                        scores: self.scores.add(page * CacheShape::BLOCK),
                        element: PhantomData,
                    });
                }
            }
            let cap = self.cap.map(|cap| cap * std::f32::consts::LOG2_E);
            L::enter(Softmax { scores: self.scores, rows, scored, cap });
            for (group, start) in (0..padded).step_by(group_len).enumerate() {
                let mut weights = self.scores.cast_const();
                if scaled {
                    let offset = group * CacheShape::BLOCK;
                    L::enter(ScaledWeights {
                        weights,
                        n_rows: R,
                        scales: &step.value_scales.map(|scales| scales.wrapping_add(offset)),
                        pages: (pages.start, pages.end),
                        scaled: self.scaled,
                    });
                    weights = self.scaled;
                }
                self.weigh::<L, E, R>(weights, start..padded.min(start + group_len), rows);
            }
        }
    }

    /// Adds the weighted values of dimensions `dims`, multiples of 16, to the rows' sums.
    ///
    /// # Safety
    /// As [`Self::run_rows`]; `weights` holds (R, STEP).
    unsafe fn weigh<L: Lanes, E: Element, const R: usize>(
        &self,
        weights: *const f32,
        dims: Range<usize>,
        rows: &[RowState],
    ) {
        let mut d = dims.start;
        while d < dims.end {
            // SAFETY: the caller's; the tile's dimensions lie in dims.
            let width = unsafe {
                if d + 2 * L::N <= dims.end {
                    self.weigh_tile::<L, E, R, 2>(weights, d, rows)
                } else {
                    self.weigh_tile::<L, E, R, 1>(weights, d, rows)
                }
            };
            d += width;
        }
    }

    /// Adds the weighted values of `W` vectors of dimensions from `d`; gives their number.
    ///
    /// # Safety
    /// As [`Self::weigh`].
    unsafe fn weigh_tile<L: Lanes, E: Element, const R: usize, const W: usize>(
        &self,
        weights: *const f32,
        d: usize,
        rows: &[RowState],
    ) -> usize {
        let padded = self.shape.padded_dim();
        // SAFETY: the caller's.
        unsafe {
            L::enter(Values::<E, R, W> {
                weights,
                values: &self.step.values.map(|values| values.wrapping_add(d * E::BYTES)),
                stride: padded * E::BYTES,
                ahead: &self.step.values_ahead,
                tokens: (self.tokens.start, self.tokens.end),
                acc: self.acc.add(d),
                acc_stride: padded,
                rows: rows.as_ptr(),
                element: PhantomData,
            });
        }
        W * L::N
    }
}
