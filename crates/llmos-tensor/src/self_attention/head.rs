//! What one task does: a key-value head of a sequence with all its query heads.
//!
//! Keys and values are brought together and transposed once. Queries are taken some rows at a time,
//! so that their scores stay in the nearest caches, and only against positions that they may see.

use std::cell::RefCell;
use std::f32::consts::LOG2_E;
use std::ops::Range;

use super::softmax::{SLACK, capped, gradients, powers, times};
use super::strip::{ByRows, ROWS, Strip, Transposed};
use super::{Forward, Heads, SelfAttention};
use crate::buffer::Room;
use crate::ops::lanes::{Kernel, Lanes, MAX_LANES, transpose};

/// Rows of queries whose weights meet keys' and values' gradients together.
const BLOCK: usize = 4 * ROWS;

thread_local! {
    static SCRATCH: RefCell<Room<f32>> = const { RefCell::new(Room::EMPTY) };
}

/// Where a task writes rows of heads, which nobody else touches.
#[derive(Clone, Copy)]
pub(super) struct Target {
    pub(super) data: *mut f32,
    pub(super) stride: usize,
}

impl Target {
    /// # Safety
    /// Row `row` has head `head` of `dim` numbers, and they are the caller's.
    #[inline(always)]
    unsafe fn row<'a>(self, row: usize, head: usize, dim: usize) -> &'a mut [f32] {
        // SAFETY: the caller's.
        unsafe {
            std::slice::from_raw_parts_mut(self.data.add(row * self.stride + head * dim), dim)
        }
    }
}

/// A key-value head of a sequence.
#[derive(Clone, Copy)]
pub(super) struct Group<'a> {
    pub(super) shape: SelfAttention,
    pub(super) sequence: usize,
    pub(super) kv_head: usize,
    pub(super) starts: Option<&'a [u32]>,
}

impl Group<'_> {
    /// Its query heads.
    fn heads(&self) -> Range<usize> {
        let group = self.shape.n_head / self.shape.n_kv_head;
        self.kv_head * group..(self.kv_head + 1) * group
    }

    /// The row of position `t`.
    fn row(&self, t: usize) -> usize {
        self.sequence * self.shape.time + t
    }

    /// Position `t` of a head: (D).
    fn of<'a>(&self, heads: Heads<'a>, t: usize, head: usize) -> &'a [f32] {
        let dim = self.shape.head_dim;
        &heads.data[self.row(t) * heads.stride + head * dim..][..dim]
    }

    /// The positions that position `t` sees.
    fn visible(&self, t: usize) -> Range<usize> {
        let start = self.starts.map_or(0, |starts| starts[self.row(t)] as usize);
        let near = self.shape.window.map_or(0, |window| (t + 1).saturating_sub(window));
        start.max(near).min(t)..t + 1
    }

    /// A score, scaled and capped, and its derivative by what it was before.
    fn score(&self, product: f32) -> (f32, f32) {
        let scaled = product * self.shape.scale;
        let Some(cap) = self.shape.softcap else { return (scaled, self.shape.scale) };
        let share = (scaled / cap).tanh();
        (cap * share, self.shape.scale * (1.0 - share * share))
    }

    /// Copies positions of a head to (count, width).
    ///
    /// # Safety
    /// The CPU has the instructions of `L`.
    #[inline(always)]
    unsafe fn gather<L: Lanes>(
        &self,
        heads: Heads<'_>,
        head: usize,
        t: Range<usize>,
        width: usize,
        to: &mut [f32],
    ) {
        for (t, to) in t.zip(to.chunks_exact_mut(width)) {
            // SAFETY: the caller's.
            unsafe {
                self.ask::<L>(heads.data.as_ptr(), heads.stride, head, t + BLOCK);
                copy::<L>(self.of(heads, t, head), to, 1.0);
            }
        }
    }

    /// Asks memory for position `t` of a head, if there is one: rows lie too far apart for the CPU to
    /// guess.
    ///
    /// # Safety
    /// The CPU has the instructions of `L`.
    #[inline(always)]
    unsafe fn ask<L: Lanes>(&self, data: *const f32, stride: usize, head: usize, t: usize) {
        const LINE: usize = 16;
        if t < self.shape.time {
            let at = data.wrapping_add(self.row(t) * stride + head * self.shape.head_dim);
            for i in (0..self.shape.head_dim).step_by(LINE) {
                // SAFETY: any address can be asked for.
                unsafe { L::prefetch(at.wrapping_add(i).cast()) };
            }
        }
    }
}

/// `to = from * factor`, as much as there is of `from`. Rows of heads are too short for a call.
///
/// # Safety
/// The CPU has the instructions of `L`.
#[inline(always)]
unsafe fn copy<L: Lanes>(from: &[f32], to: &mut [f32], factor: f32) {
    let to = &mut to[..from.len()];
    let whole = from.len() / L::N * L::N;
    for i in (0..whole).step_by(L::N) {
        // SAFETY: both have that many whole vectors.
        unsafe {
            let value = L::mul(L::load(from.as_ptr().add(i)), L::splat(factor));
            L::store(to.as_mut_ptr().add(i), value);
        }
    }
    for (to, from) in to[whole..].iter_mut().zip(&from[whole..]) {
        *to = from * factor;
    }
}

/// Sizes of scratch in vectors of `N` numbers.
#[derive(Clone, Copy)]
struct Sizes {
    n: usize,
    /// Numbers of a head's row: D in whole vectors.
    width: usize,
    /// Positions in whole pairs of vectors.
    positions: usize,
    /// Numbers of a row of scores.
    seen: usize,
    /// Rows of keys' and values' gradients.
    rows: usize,
}

impl Sizes {
    fn new<L: Lanes>(shape: SelfAttention) -> Sizes {
        let positions = shape.time.next_multiple_of(2 * MAX_LANES);
        Sizes {
            n: L::N,
            width: shape.head_dim.next_multiple_of(L::N),
            positions,
            seen: positions + SLACK,
            rows: shape.time.next_multiple_of(ROWS),
        }
    }

    /// Scores of `rows` queries with all positions that the last of them, `last`, may see: queries are
    /// (rows, width), `panels` come from [`Sizes::panels`].
    fn scores(
        self,
        queries: &[f32],
        dim: usize,
        panels: &[f32],
        last: usize,
        rows: usize,
    ) -> Strip {
        Strip {
            a: queries.as_ptr(),
            a_stride: self.width,
            b: panels.as_ptr(),
            b_stride: 2 * self.n,
            b_vector: self.width * self.n,
            n_k: dim,
            c: std::ptr::null_mut(),
            c_stride: self.seen,
            rows,
            vectors: 2 * (last + 1).div_ceil(2 * self.n),
            add: false,
        }
    }

    /// Sums of the rows of `b` (n_k, width), weighted by those of `a`.
    fn sums(self, a: *const f32, n_k: usize, b: &[f32], c: &mut [f32], rows: usize) -> Strip {
        Strip {
            a,
            a_stride: self.seen,
            b: b.as_ptr(),
            b_stride: self.width,
            b_vector: self.n,
            n_k,
            c: c.as_mut_ptr(),
            c_stride: self.width,
            rows,
            vectors: self.width / self.n,
            add: false,
        }
    }

    /// Transposes rows (positions, width) to panels (positions / 2N, width, 2N).
    ///
    /// # Safety
    /// The CPU has the instructions of `L`.
    #[inline(always)]
    unsafe fn panels<L: Lanes>(self, rows: &[f32], panels: &mut [f32]) {
        assert!(rows.len() == self.positions * self.width && panels.len() == rows.len(), "sizes");
        for position in (0..self.positions).step_by(L::N) {
            let panel = position / (2 * L::N) * 2 * L::N * self.width + position % (2 * L::N);
            for d in (0..self.width).step_by(L::N) {
                // SAFETY: the squares lie within both, whose lengths were looked at.
                unsafe {
                    let mut square = [L::splat(0.0); MAX_LANES];
                    for (i, row) in square[..L::N].iter_mut().enumerate() {
                        *row = L::load(rows.as_ptr().add((position + i) * self.width + d));
                    }
                    transpose::<L>(&mut square);
                    for (i, row) in square[..L::N].iter().enumerate() {
                        let to = panels.as_mut_ptr().add(panel + (d + i) * 2 * L::N);
                        L::store(to, *row);
                    }
                }
            }
        }
    }
}

/// Cuts pieces off scratch.
fn cut<const N: usize>(mut scratch: &mut [f32], sizes: [usize; N]) -> [&mut [f32]; N] {
    sizes.map(|size| {
        let (piece, rest) = std::mem::take(&mut scratch).split_at_mut(size);
        scratch = rest;
        piece
    })
}

/// The forward pass of a group.
pub(super) struct Attend<'a> {
    pub(super) group: Group<'a>,
    pub(super) q: Heads<'a>,
    pub(super) k: Heads<'a>,
    pub(super) v: Heads<'a>,
    pub(super) out: Target,
    /// (heads of the group, T)
    pub(super) log_sums: &'a mut [f32],
}

impl Kernel for Attend<'_> {
    type Output = ();

    fn scalar(self) {
        let Attend { group, q, k, v, out, log_sums } = self;
        let SelfAttention { time, head_dim: dim, .. } = group.shape;
        for (head, log_sums) in group.heads().zip(log_sums.chunks_exact_mut(time)) {
            for t in 0..time {
                let query = group.of(q, t, head);
                let seen = group.visible(t);
                let score =
                    |j: usize| group.score(dot(query, group.of(k, j, group.kv_head))).0 * LOG2_E;
                let largest = seen.clone().map(score).fold(f32::NEG_INFINITY, f32::max);
                let total: f32 = seen.clone().map(|j| (score(j) - largest).exp2()).sum();
                log_sums[t] = largest + total.log2();
                // SAFETY: a group's rows of its heads are its task's.
                let out = unsafe { out.row(group.row(t), head, dim) };
                out.fill(0.0);
                for j in seen {
                    add(out, (score(j) - log_sums[t]).exp2(), group.of(v, j, group.kv_head));
                }
            }
        }
    }

    #[inline(always)]
    unsafe fn vector<L: Lanes>(self) {
        let Attend { group, q, k, v, out, log_sums } = self;
        let SelfAttention { time, head_dim: dim, scale, .. } = group.shape;
        let s = Sizes::new::<L>(group.shape);
        let all = s.positions * s.width;
        let mut room = SCRATCH.take();
        let sizes = [all, all, ROWS * s.width, ROWS * s.seen, ROWS * s.width];
        let [values, keys, queries, weights, sums] = cut(room.of(sizes.iter().sum()), sizes);
        // SAFETY: the caller has the instructions; pieces have the sizes that strips say, rows of
        // scores have their slack, and a group's rows of its heads are its task's.
        unsafe {
            group.gather::<L>(k, group.kv_head, 0..time, s.width, values);
            s.panels::<L>(values, keys);
            group.gather::<L>(v, group.kv_head, 0..time, s.width, values);
            for (head, log_sums) in group.heads().zip(log_sums.chunks_exact_mut(time)) {
                for first in (0..time).step_by(ROWS) {
                    let rows = ROWS.min(time - first);
                    group.gather::<L>(q, head, first..first + rows, s.width, queries);
                    let scores = s.scores(queries, dim, keys, first + rows - 1, rows);
                    L::enter(ByRows(Strip { c: weights.as_mut_ptr(), ..scores }));
                    let mut totals = [0.0; ROWS];
                    for r in 0..rows {
                        let seen = group.visible(first + r);
                        let row = &mut weights[r * s.seen..][..s.seen];
                        row[..seen.start].fill(0.0);
                        let row = row[seen.start..].as_mut_ptr();
                        let mut factor = scale * LOG2_E;
                        if let Some(cap) = group.shape.softcap {
                            capped::<L>(row, None, seen.len(), (scale, cap));
                            factor = LOG2_E;
                        }
                        let (largest, total) = powers::<L>(row, seen.len(), factor);
                        (log_sums[first + r], totals[r]) = (largest + total.log2(), total);
                    }
                    L::enter(ByRows(s.sums(weights.as_ptr(), first + rows, values, sums, rows)));
                    for (r, (sums, total)) in
                        sums.chunks_exact(s.width).zip(totals).enumerate().take(rows)
                    {
                        let to = out.row(group.row(first + r), head, dim);
                        copy::<L>(&sums[..dim], to, 1.0 / total);
                    }
                }
            }
        }
        SCRATCH.replace(room);
    }
}

/// The backward pass of a group.
pub(super) struct Back<'a> {
    pub(super) group: Group<'a>,
    pub(super) forward: Forward<'a>,
    pub(super) d_out: Heads<'a>,
    /// (B * T, (H + 2 H_kv) * D)
    pub(super) d_qkv: Target,
}

impl Back<'_> {
    /// Logarithms of the sums of a head's rows: (T).
    fn log_sums(&self, head: usize) -> &[f32] {
        let shape = self.group.shape;
        &self.forward.log_sums[(self.group.sequence * shape.n_head + head) * shape.time..]
            [..shape.time]
    }

    /// Where gradients of keys and of values go, as heads of `d_qkv`.
    fn targets(&self) -> (usize, usize) {
        let shape = self.group.shape;
        let keys = shape.n_head + self.group.kv_head;
        (keys, keys + shape.n_kv_head)
    }
}

impl Kernel for Back<'_> {
    type Output = ();

    fn scalar(self) {
        let Back { group, forward: Forward { q, k, v, out, .. }, d_out, d_qkv } = self;
        let SelfAttention { time, head_dim: dim, .. } = group.shape;
        let (key_head, value_head) = self.targets();
        // SAFETY: a group's rows of its heads are its task's.
        let target = |t: usize, head: usize| unsafe { d_qkv.row(group.row(t), head, dim) };
        for t in 0..time {
            target(t, key_head).fill(0.0);
            target(t, value_head).fill(0.0);
        }
        for head in group.heads() {
            for (t, log_sum) in self.log_sums(head).iter().enumerate() {
                let (query, d_row) = (group.of(q, t, head), group.of(d_out, t, head));
                let delta = dot(group.of(out, t, head), d_row);
                let d_query = target(t, head);
                d_query.fill(0.0);
                for j in group.visible(t) {
                    let (key, value) =
                        (group.of(k, j, group.kv_head), group.of(v, j, group.kv_head));
                    let (score, slope) = group.score(dot(query, key));
                    let weight = (score * LOG2_E - log_sum).exp2();
                    let gradient = weight * (dot(d_row, value) - delta) * slope;
                    add(d_query, gradient, key);
                    add(target(j, key_head), gradient, query);
                    add(target(j, value_head), weight, d_row);
                }
            }
        }
    }

    #[inline(always)]
    unsafe fn vector<L: Lanes>(self) {
        let Back { group, forward: Forward { q, k, v, out, .. }, d_out, d_qkv } = self;
        let SelfAttention { time, head_dim: dim, scale, .. } = group.shape;
        let s = Sizes::new::<L>(group.shape);
        let (all, block, sums) = (s.positions * s.width, BLOCK * s.width, s.rows * s.width);
        let mut room = SCRATCH.take();
        let sizes = [
            all,
            all,
            all,
            block,
            block,
            BLOCK * s.seen,
            BLOCK * s.seen,
            ROWS * s.width,
            sums,
            sums,
            if group.shape.softcap.is_some() { s.seen } else { 0 },
        ];
        let [
            keys,
            keys_t,
            values_t,
            queries,
            d_rows,
            weights,
            d_weights,
            d_queries,
            d_keys,
            d_values,
            slopes,
        ] = cut(room.of(sizes.iter().sum()), sizes);
        // SAFETY: as in the forward pass.
        unsafe {
            group.gather::<L>(v, group.kv_head, 0..time, s.width, keys);
            s.panels::<L>(keys, values_t);
            group.gather::<L>(k, group.kv_head, 0..time, s.width, keys);
            s.panels::<L>(keys, keys_t);
        }
        for head in group.heads() {
            let log_sums = self.log_sums(head);
            for first in (0..time).step_by(BLOCK) {
                let rows = first..time.min(first + BLOCK);
                // SAFETY: as in the forward pass.
                unsafe {
                    group.gather::<L>(q, head, rows.clone(), s.width, queries);
                    group.gather::<L>(d_out, head, rows.clone(), s.width, d_rows);
                    for t in rows.clone() {
                        group.ask::<L>(out.data.as_ptr(), out.stride, head, t);
                        group.ask::<L>(d_qkv.data, d_qkv.stride, head, t);
                    }
                }
                for t in rows.clone().step_by(ROWS) {
                    let (r, count) = (t - first, ROWS.min(rows.end - t));
                    let last = t + count - 1;
                    let (weights, d_weights) =
                        (&mut weights[r * s.seen..], &mut d_weights[r * s.seen..]);
                    // SAFETY: as in the forward pass.
                    unsafe {
                        let scores = s.scores(&queries[r * s.width..], dim, keys_t, last, count);
                        L::enter(ByRows(Strip { c: weights.as_mut_ptr(), ..scores }));
                        let scores = s.scores(&d_rows[r * s.width..], dim, values_t, last, count);
                        L::enter(ByRows(Strip { c: d_weights.as_mut_ptr(), ..scores }));
                        for (i, t) in (t..t + count).enumerate() {
                            let seen = group.visible(t);
                            let delta = dot_in_vectors::<L>(
                                group.of(out, t, head),
                                group.of(d_out, t, head),
                            );
                            let row = |of: &mut [f32]| {
                                let row = &mut of[i * s.seen..][..s.seen];
                                row[..seen.start].fill(0.0);
                                row[seen.start..].as_mut_ptr()
                            };
                            let both = (row(weights), row(d_weights));
                            let mut factor = scale * LOG2_E;
                            if let Some(cap) = group.shape.softcap {
                                let slopes = Some(slopes.as_mut_ptr());
                                capped::<L>(both.0, slopes, seen.len(), (scale, cap));
                                factor = LOG2_E;
                            }
                            let of_weights = (factor, log_sums[t]);
                            gradients::<L>(both, seen.len(), of_weights, (scale, delta));
                            if group.shape.softcap.is_some() {
                                times::<L>(both.1, slopes.as_ptr(), seen.len());
                            }
                        }
                        L::enter(ByRows(s.sums(
                            d_weights.as_ptr(),
                            last + 1,
                            keys,
                            d_queries,
                            count,
                        )));
                        for (i, d_query) in d_queries.chunks_exact(s.width).take(count).enumerate()
                        {
                            let to = d_qkv.row(group.row(t + i), head, dim);
                            copy::<L>(&d_query[..dim], to, 1.0);
                        }
                    }
                }
                for t in (0..rows.end).step_by(ROWS) {
                    // Queries before position t do not see it.
                    let (r, count) = (t.saturating_sub(first), ROWS.min(rows.end - t));
                    let n_k = rows.len() - r;
                    let add = head > group.heads().start || t < first;
                    // SAFETY: as in the forward pass.
                    unsafe {
                        for (a, b, c) in
                            [(&*d_weights, &*queries, &mut *d_keys), (weights, d_rows, d_values)]
                        {
                            let a = a[r * s.seen + t..].as_ptr();
                            let sums =
                                s.sums(a, n_k, &b[r * s.width..], &mut c[t * s.width..], count);
                            L::enter(Transposed(Strip { add, ..sums }));
                        }
                    }
                }
            }
        }
        let (key_head, value_head) = self.targets();
        for (sums, head) in [(d_keys, key_head), (d_values, value_head)] {
            for (t, row) in sums.chunks_exact(s.width).take(time).enumerate() {
                // SAFETY: a group's rows of its heads are its task's.
                unsafe { copy::<L>(&row[..dim], d_qkv.row(group.row(t), head, dim), 1.0) };
            }
        }
        SCRATCH.replace(room);
    }
}

fn dot(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// `to += factor * of`.
fn add(to: &mut [f32], factor: f32, of: &[f32]) {
    for (to, of) in to.iter_mut().zip(of) {
        *to += factor * of;
    }
}

/// # Safety
/// The CPU has the instructions of `L`.
#[inline(always)]
unsafe fn dot_in_vectors<L: Lanes>(a: &[f32], b: &[f32]) -> f32 {
    let (mut a, mut b) = (a.chunks_exact(L::N), b.chunks_exact(L::N));
    // SAFETY: chunks are whole vectors.
    unsafe {
        let mut sum = L::splat(0.0);
        for (a, b) in a.by_ref().zip(b.by_ref()) {
            sum = L::fma(L::load(a.as_ptr()), L::load(b.as_ptr()), sum);
        }
        L::sum(sum) + dot(a.remainder(), b.remainder())
    }
}
