//! The three register-tiled steps of attention over a stretch of keys: scores, online softmax,
//! weighted values. Written once for every vector width.
//!
//! Each number of a row is computed by the same operations in the same order whatever the tile's
//! height and whichever rows stand beside it; masked weights are exact zeros.

use crate::ops::lanes::{Lanes, Tile};
use crate::ops::{exp2, tanh};

use super::CacheShape;

/// Keys that are scored before the softmax takes them in: 4 pages. On Zen 5 steps of 64 are 3 to 5 %
/// slower, of 256 no faster. Widening a step's keys and values to f32 once for many rows, instead of
/// in each tile, gained 8 % with AVX2 and lost 10 % with AVX-512: left out.
pub(super) const STEP: usize = 128;
/// Pages of a step.
pub(super) const STEP_PAGES: usize = STEP / CacheShape::BLOCK;

/// A stored number that widens to f32 exactly.
pub(super) trait Element {
    const BYTES: usize;

    /// # Safety
    /// `p` holds N elements of any alignment; the CPU has the instructions of `L`.
    unsafe fn load<L: Lanes>(p: *const u8) -> L::V;
}

pub(super) struct F32;
pub(super) struct F16;
pub(super) struct I8;

impl Element for F32 {
    const BYTES: usize = 4;

    #[inline(always)]
    unsafe fn load<L: Lanes>(p: *const u8) -> L::V {
        // SAFETY: the caller's.
        unsafe { L::load(p.cast()) }
    }
}

impl Element for F16 {
    const BYTES: usize = 2;

    #[inline(always)]
    unsafe fn load<L: Lanes>(p: *const u8) -> L::V {
        // SAFETY: the caller's.
        unsafe { L::load_f16(p.cast()) }
    }
}

impl Element for I8 {
    const BYTES: usize = 1;

    #[inline(always)]
    unsafe fn load<L: Lanes>(p: *const u8) -> L::V {
        // SAFETY: the caller's.
        unsafe { L::load_i8(p.cast()) }
    }
}

/// Scores of `R` rows against a page's 32 tokens, over some dimensions.
pub(super) struct Scores<E, const R: usize> {
    /// (n_dim, R)
    pub(super) q: *const f32,
    /// (n_dim, 32) of E
    pub(super) keys: *const u8,
    /// Bytes from a key to what will be read a while later: fetched ahead, since the hardware's
    /// prefetchers do not follow from page to page. Doubles the speed beyond the caches (Zen 5).
    pub(super) ahead: isize,
    pub(super) n_dim: usize,
    /// (32) f16 factors of the tokens' sums; null: none.
    pub(super) scales: *const u16,
    /// Add to what `scores` holds.
    pub(super) add: bool,
    /// (R, 32), rows [`STEP`] apart
    pub(super) scores: *mut f32,
    pub(super) element: std::marker::PhantomData<E>,
}

impl<E: Element, const R: usize> Tile for Scores<E, R> {
    type Output = ();

    #[inline(always)]
    unsafe fn vector<L: Lanes>(self) {
        // SAFETY: the pointers hold the shapes of the fields; 2N divides 32.
        unsafe {
            for column in (0..CacheShape::BLOCK).step_by(2 * L::N) {
                let mut sums = [[L::splat(0.0); 2]; R];
                for d in 0..self.n_dim {
                    let keys = self.keys.add((d * CacheShape::BLOCK + column) * E::BYTES);
                    L::prefetch(keys.wrapping_offset(self.ahead));
                    let keys = [E::load::<L>(keys), E::load::<L>(keys.add(L::N * E::BYTES))];
                    for r in 0..R {
                        let q = L::splat(*self.q.add(d * R + r));
                        sums[r][0] = L::fma(q, keys[0], sums[r][0]);
                        sums[r][1] = L::fma(q, keys[1], sums[r][1]);
                    }
                }
                for r in 0..R {
                    for half in 0..2 {
                        let at = column + half * L::N;
                        let out = self.scores.add(r * STEP + at);
                        let mut sum = sums[r][half];
                        if !self.scales.is_null() {
                            let scale = L::load_f16(self.scales.add(at));
                            let before = if self.add { L::load(out) } else { L::splat(0.0) };
                            sum = L::fma(sum, scale, before);
                        }
                        L::store(out, sum);
                    }
                }
            }
        }
    }
}

/// What the online softmax of a row knows, in units of log2.
#[derive(Clone, Copy)]
pub(super) struct RowState {
    /// The largest score so far.
    pub(super) largest: f32,
    /// The sum of 2^(score - largest).
    pub(super) total: f32,
    /// By what the step rescales the row's weighted sum.
    pub(super) rescale: f32,
    /// Visible tokens of the step: first and one beyond the last.
    pub(super) visible: (u32, u32),
}

impl RowState {
    pub(super) const EMPTY: RowState =
        RowState { largest: f32::NEG_INFINITY, total: 0.0, rescale: 1.0, visible: (0, 0) };
}

/// Scores become weights 2^(score - largest), masked ones 0, and the rows' states move on.
pub(super) struct Softmax<'a> {
    /// (rows, [`STEP`])
    pub(super) scores: *mut f32,
    pub(super) rows: &'a mut [RowState],
    /// Tokens of the step that were scored, multiples of a page.
    pub(super) scored: (usize, usize),
    /// Scores are `cap * tanh(score)` in units of log2; none: they are as they stand.
    pub(super) cap: Option<f32>,
}

impl Tile for Softmax<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn vector<L: Lanes>(self) {
        let (first, last) = self.scored;
        for (r, row) in self.rows.iter_mut().enumerate() {
            // SAFETY: scores hold (rows, STEP), scored lies in STEP and N divides a page.
            unsafe {
                let scores = self.scores.add(r * STEP);
                if let Some(cap) = self.cap {
                    for t in (first..last).step_by(L::N) {
                        let capped = L::mul(L::splat(cap), tanh::<L>(L::load(scores.add(t))));
                        L::store(scores.add(t), capped);
                    }
                }
                if row.visible.0 >= row.visible.1 {
                    for t in (first..last).step_by(L::N) {
                        L::store(scores.add(t), L::splat(0.0));
                    }
                    row.rescale = 1.0;
                    continue;
                }
                if row.visible.0 as usize > first || (row.visible.1 as usize) < last {
                    mask::<L>(scores, first, last, row.visible);
                }
                let mut largest = L::splat(row.largest);
                for t in (first..last).step_by(L::N) {
                    largest = L::max(L::load(scores.add(t)), largest);
                }
                let largest = L::largest(largest);
                row.rescale = (row.largest - largest).exp2();
                row.largest = largest;
                let largest = L::splat(largest);
                let mut sum = L::splat(0.0);
                for t in (first..last).step_by(L::N) {
                    let weight = exp2::<L>(L::sub(L::load(scores.add(t)), largest));
                    L::store(scores.add(t), weight);
                    sum = L::add(sum, weight);
                }
                row.total = row.total * row.rescale + L::sum(sum);
            }
        }
    }
}

/// Minus infinity outside of `visible`.
///
/// # Safety
/// `scores` holds [`STEP`] numbers; the CPU has the instructions of `L`.
#[inline(always)]
unsafe fn mask<L: Lanes>(scores: *mut f32, first: usize, last: usize, visible: (u32, u32)) {
    // SAFETY: the caller's.
    unsafe {
        let hidden = L::splat(f32::NEG_INFINITY);
        // Halves between whole numbers, so that only "less" is needed.
        let (from, to) = (L::splat(visible.0 as f32 - 0.5), L::splat(visible.1 as f32 - 0.5));
        for t in (first..last).step_by(L::N) {
            let token = L::add(L::iota(), L::splat(t as f32));
            let score = L::if_less(token, from, hidden, L::load(scores.add(t)));
            L::store(scores.add(t), L::if_less(token, to, score, hidden));
        }
    }
}

/// `acc = acc * rescale + weights * values` for `R` rows and `W` vectors of dimensions.
pub(super) struct Values<'a, E, const R: usize, const W: usize> {
    /// (R, [`STEP`])
    pub(super) weights: *const f32,
    /// For each page of the step its values (32, W N) of E, rows `stride` bytes apart.
    pub(super) values: &'a [*const u8; STEP_PAGES],
    pub(super) stride: usize,
    /// For each page the bytes from a value to what will be read a while later.
    pub(super) ahead: &'a [isize; STEP_PAGES],
    /// Tokens of the step that weigh anything.
    pub(super) tokens: (usize, usize),
    /// (R, W N), rows `acc_stride` numbers apart
    pub(super) acc: *mut f32,
    pub(super) acc_stride: usize,
    /// (R)
    pub(super) rows: *const RowState,
    pub(super) element: std::marker::PhantomData<E>,
}

impl<E: Element, const R: usize, const W: usize> Tile for Values<'_, E, R, W> {
    type Output = ();

    #[inline(always)]
    unsafe fn vector<L: Lanes>(self) {
        // SAFETY: the pointers hold the shapes of the fields; tokens lie in STEP.
        unsafe {
            let mut sums = [[L::splat(0.0); W]; R];
            for r in 0..R {
                let rescale = L::splat((*self.rows.add(r)).rescale);
                for w in 0..W {
                    let acc = self.acc.add(r * self.acc_stride + w * L::N);
                    sums[r][w] = L::mul(L::load(acc), rescale);
                }
            }
            let (first, last) = self.tokens;
            for page in first / CacheShape::BLOCK..last.div_ceil(CacheShape::BLOCK) {
                let start = page * CacheShape::BLOCK;
                let values = *self.values.get_unchecked(page);
                let ahead = *self.ahead.get_unchecked(page);
                for t in first.max(start)..last.min(start + CacheShape::BLOCK) {
                    let row = values.add((t - start) * self.stride);
                    let mut value = [L::splat(0.0); W];
                    for w in 0..W {
                        let at = row.add(w * L::N * E::BYTES);
                        if (w * L::N * E::BYTES).is_multiple_of(64) {
                            L::prefetch(at.wrapping_offset(ahead));
                        }
                        value[w] = E::load::<L>(at);
                    }
                    for r in 0..R {
                        let weight = L::splat(*self.weights.add(r * STEP + t));
                        for w in 0..W {
                            sums[r][w] = L::fma(weight, value[w], sums[r][w]);
                        }
                    }
                }
            }
            for r in 0..R {
                for w in 0..W {
                    L::store(self.acc.add(r * self.acc_stride + w * L::N), sums[r][w]);
                }
            }
        }
    }
}

/// `scaled = weights * scales`: a step's weights for values that have a factor for each token.
pub(super) struct ScaledWeights<'a> {
    /// (rows, [`STEP`])
    pub(super) weights: *const f32,
    pub(super) n_rows: usize,
    /// For each page its (32) f16 factors.
    pub(super) scales: &'a [*const u16; STEP_PAGES],
    /// Pages of the step that were scored.
    pub(super) pages: (usize, usize),
    /// (rows, [`STEP`])
    pub(super) scaled: *mut f32,
}

impl Tile for ScaledWeights<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn vector<L: Lanes>(self) {
        // SAFETY: the pointers hold the shapes of the fields.
        unsafe {
            for page in self.pages.0..self.pages.1 {
                let scales = *self.scales.get_unchecked(page);
                for slot in (0..CacheShape::BLOCK).step_by(L::N) {
                    let scale = L::load_f16(scales.add(slot));
                    for r in 0..self.n_rows {
                        let at = r * STEP + page * CacheShape::BLOCK + slot;
                        L::store(self.scaled.add(at), L::mul(L::load(self.weights.add(at)), scale));
                    }
                }
            }
        }
    }
}

/// Takes the state of one stretch of keys into that of those before it:
/// `acc = acc * a + part * b` over `n` numbers, a multiple of 16.
pub(super) struct Merge {
    pub(super) acc: *mut f32,
    pub(super) part: *const f32,
    pub(super) n: usize,
    pub(super) a: f32,
    pub(super) b: f32,
}

impl Tile for Merge {
    type Output = ();

    #[inline(always)]
    unsafe fn vector<L: Lanes>(self) {
        // SAFETY: both hold n numbers and N divides n.
        unsafe {
            let (a, b) = (L::splat(self.a), L::splat(self.b));
            for i in (0..self.n).step_by(L::N) {
                let part = L::mul(L::load(self.part.add(i)), b);
                L::store(self.acc.add(i), L::fma(L::load(self.acc.add(i)), a, part));
            }
        }
    }
}
