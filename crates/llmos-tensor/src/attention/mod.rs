//! Attention over the pages of a key-value cache.
//!
//! A page holds the keys and values of 32 tokens of one layer ([`CacheShape`]). Rows of queries
//! read pages in place: each page is read once for all query heads that share a key-value head, and
//! the softmax is taken online, step by step (Dao, arXiv:2307.08691).
//!
//! **What a row's result depends on**: its query, the pages it may see and its position. Not on the
//! rows beside it, nor on how a prompt was cut into chunks, nor on the number of threads: a row
//! decoded alone equals, to the bit, the same row inside of a prefill.

mod blocked;
mod cache;
mod scalar;
mod schedule;
mod tile;
mod weights;

pub use cache::{CacheShape, CacheType, cache_load, cache_store};
pub use weights::attention_weights;

use crate::Device;
use crate::ops::lanes;

/// What is the same for all rows of a call.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AttentionOptions {
    /// Query heads H, a multiple of the cache's key-value heads.
    pub n_head: usize,
    /// Factor of the scores, usually 1/sqrt(D).
    pub scale: f32,
    /// Scores become `cap * tanh(score / cap)` (Gemma 2, arXiv:2408.00118).
    pub softcap: Option<f32>,
    /// A row at position p sees max(0, p - window + 1) ..= p; without a window, 0 ..= p.
    pub window: Option<usize>,
}

/// Consecutive rows of one sequence.
#[derive(Clone, Copy, Debug)]
pub struct Span<'a> {
    /// The first row of q and out.
    pub row: usize,
    /// Rows of this sequence.
    pub n_rows: usize,
    /// Position of the first row.
    pub position: usize,
    /// Pages that cover at least the positions 0 .. position + n_rows, the rows' own keys and
    /// values included; longer is allowed. Speed is best when pages start at a multiple of 64
    /// bytes. A page that no row sees may be an empty slice.
    pub pages: &'a [&'a [u8]],
}

impl AttentionOptions {
    /// The positions that a row at `position` sees.
    fn visible(&self, position: usize) -> std::ops::Range<usize> {
        let start = self.window.map_or(0, |window| (position + 1).saturating_sub(window));
        start..position + 1
    }
}

/// Causal attention: `q` (T, H, D) over the spans' pages to `out` (T, H, D). Rows of `out` that no
/// span holds are left as they are.
///
/// Error against exact arithmetic over the cached values: at most 2e-6 of the largest value, plus
/// 3e-7 of it for each unit of the largest |score|.
///
/// # Panics
/// If a shape does not fit, or a page that a row sees is missing or short.
pub fn attention(
    device: &Device,
    shape: &CacheShape,
    options: &AttentionOptions,
    spans: &[Span<'_>],
    q: &[f32],
    out: &mut [f32],
) {
    check(shape, options, spans, q, out);
    lanes::run(device.isa(), blocked::Call { device, shape, options, spans, q, out });
}

/// Asserts all that the kernels rely on.
fn check(
    shape: &CacheShape,
    options: &AttentionOptions,
    spans: &[Span<'_>],
    q: &[f32],
    out: &[f32],
) {
    assert!(
        shape.n_kv_head > 0 && options.n_head.is_multiple_of(shape.n_kv_head),
        "attention: {} query heads for {} key-value heads",
        options.n_head,
        shape.n_kv_head
    );
    assert!(options.window != Some(0), "attention: a window of 0 positions");
    let width = options.n_head * shape.head_dim;
    assert_eq!(q.len(), out.len(), "attention: lengths of q and out");
    assert!(width > 0 && q.len().is_multiple_of(width), "attention: q is not (T, H, D)");
    let page_bytes = shape.page_bytes();
    for span in spans {
        let rows = span.row.checked_add(span.n_rows);
        assert!(
            rows.is_some_and(|rows| rows <= q.len() / width),
            "attention: rows {} + {} of {}",
            span.row,
            span.n_rows,
            q.len() / width
        );
        if span.n_rows == 0 {
            continue;
        }
        let end = span.position + span.n_rows;
        let first = options.visible(span.position).start / CacheShape::BLOCK;
        let last = end.div_ceil(CacheShape::BLOCK);
        assert!(
            last <= span.pages.len(),
            "attention: {} pages for {end} positions",
            span.pages.len()
        );
        for page in &span.pages[first..last] {
            assert!(page.len() >= page_bytes, "attention: a page of {} bytes", page.len());
        }
    }
    let mut taken: Vec<(usize, usize)> =
        spans.iter().filter(|s| s.n_rows > 0).map(|s| (s.row, s.row + s.n_rows)).collect();
    taken.sort_unstable();
    assert!(
        taken.windows(2).all(|pair| pair[0].1 <= pair[1].0),
        "attention: two spans hold the same row"
    );
}

#[cfg(test)]
mod tests;
