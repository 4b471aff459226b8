//! How a call of attention is cut into items that threads claim.
//!
//! An item is up to 64 rows that share a key-value head (all query heads of its group, times some
//! tokens) against a range of keys. Sums are closed after every 512 keys in any case, so it does not
//! matter whether one thread goes through all keys or each 512 is an item of its own (flash
//! decoding): the result is the same to the bit, and the cut may follow the number of threads.

use std::ops::Range;

use super::{AttentionOptions, CacheShape, Span};

/// Rows of an item: each key and value is brought from memory once for as many rows.
pub(super) const CHUNK: usize = 64;
/// Keys whose sums are closed before they are merged.
pub(super) const SPLIT: usize = 512;
/// Items a thread should have to choose from; heavier ones are split by keys.
const ITEMS_A_THREAD: usize = 4;
/// Most numbers that split items may leave for merging: 4 MB.
const MAX_PARTS: usize = 1 << 20;

/// Rows of a span that share a key-value head, against some of their keys.
pub(super) struct Item {
    pub(super) span: usize,
    pub(super) kv_head: usize,
    /// Token by token, and in a token head by head of the group.
    pub(super) rows: Range<usize>,
    /// Stretches of [`SPLIT`] keys.
    pub(super) splits: Range<usize>,
    /// Where the sums of a split item go; none: the item writes `out` itself.
    pub(super) part: Option<Part>,
}

#[derive(Clone, Copy)]
pub(super) struct Part {
    /// Which set of items is merged together.
    pub(super) set: usize,
    /// Where the set's sums start, in lines.
    pub(super) start: usize,
    /// The first split of the set and the number of them.
    pub(super) first: usize,
    pub(super) count: usize,
}

/// The items of a call, heavy ones first, with the number of sets and lines that split ones need.
pub(super) fn items(
    shape: &CacheShape,
    options: &AttentionOptions,
    spans: &[Span<'_>],
    threads: usize,
) -> (Vec<Item>, usize, usize) {
    let group = options.n_head / shape.n_kv_head;
    let mut whole = Vec::new();
    for (index, span) in spans.iter().enumerate() {
        let n_row = span.n_rows * group;
        for start in (0..n_row).step_by(CHUNK) {
            let rows = start..n_row.min(start + CHUNK);
            let seen = seen(options, span, group, &rows);
            let splits = seen.start / SPLIT..seen.end.div_ceil(SPLIT);
            for kv_head in 0..shape.n_kv_head {
                let (rows, splits) = (rows.clone(), splits.clone());
                whole.push(Item { span: index, kv_head, rows, splits, part: None });
            }
        }
    }
    let work = |item: &Item| item.work(options, &spans[item.span], group);
    let share = whole.iter().map(work).sum::<usize>() / (ITEMS_A_THREAD * threads);
    let (mut items, mut n_set, mut n_line) = (Vec::with_capacity(whole.len()), 0, 0);
    for item in whole {
        let count = item.splits.len();
        let lines = count * part_lines(shape, item.rows.len());
        if threads == 1 || count < 2 || work(&item) <= share || (n_line + lines) * 16 > MAX_PARTS {
            items.push(item);
            continue;
        }
        let part = Part { set: n_set, start: n_line, first: item.splits.start, count };
        n_set += 1;
        n_line += lines;
        for split in item.splits.clone() {
            let rows = item.rows.clone();
            items.push(Item { rows, splits: split..split + 1, part: Some(part), ..item });
        }
    }
    items.sort_by_cached_key(|item| std::cmp::Reverse(work(item)));
    (items, n_set, n_line)
}

impl Item {
    /// Row-times-key products, masked ones included.
    pub(super) fn work(&self, options: &AttentionOptions, span: &Span<'_>, group: usize) -> usize {
        let seen = seen(options, span, group, &self.rows);
        let start = seen.start.max(self.splits.start * SPLIT);
        let end = seen.end.min(self.splits.end * SPLIT);
        self.rows.len() * end.saturating_sub(start)
    }
}

/// Positions that any of `rows` sees.
pub(super) fn seen(
    options: &AttentionOptions,
    span: &Span<'_>,
    group: usize,
    rows: &Range<usize>,
) -> Range<usize> {
    let first = options.visible(span.position + rows.start / group).start;
    first..span.position + (rows.end - 1) / group + 1
}

/// Lines that the sums of one split take: (rows, E) and the states.
pub(super) fn part_lines(shape: &CacheShape, rows: usize) -> usize {
    rows * shape.padded_dim() / 16 + (2 * rows).div_ceil(16)
}
