//! Attention in plain Rust: one row and head at a time, two passes over the scores. The oracle of
//! the fast kernels.

use super::cache::{key, value};
use super::{AttentionOptions, CacheShape, Span};
use crate::Device;

/// As [`super::attention`], whose shapes are checked.
pub(super) fn attention(
    device: &Device,
    shape: &CacheShape,
    options: &AttentionOptions,
    spans: &[Span<'_>],
    q: &[f32],
    out: &mut [f32],
) {
    let (n_head, dim) = (options.n_head, shape.head_dim);
    // Which span each row belongs to; rows are then shared among threads.
    let mut rows: Vec<Option<(&mut [f32], usize, &Span<'_>)>> = Vec::new();
    let mut sorted: Vec<&Span<'_>> = spans.iter().filter(|span| span.n_rows > 0).collect();
    sorted.sort_unstable_by_key(|span| span.row);
    let mut sorted = sorted.into_iter().peekable();
    for (row, out) in out.chunks_exact_mut(n_head * dim).enumerate() {
        while sorted.next_if(|span| span.row + span.n_rows <= row).is_some() {}
        if let Some(span) = sorted.peek().copied().filter(|span| span.row <= row) {
            rows.push(Some((out, row, span)));
        }
    }
    let rows: Vec<_> = rows.into_iter().map(std::sync::Mutex::new).collect();
    device.threads().for_each(rows.len(), &|task| {
        let taken = rows[task].lock().ok().and_then(|mut row| row.take());
        let Some((out, row, span)) = taken else { return };
        let position = span.position + row - span.row;
        let q = &q[row * n_head * dim..][..n_head * dim];
        for (head, (q, out)) in q.chunks_exact(dim).zip(out.chunks_exact_mut(dim)).enumerate() {
            attend(shape, options, span.pages, position, head, q, out);
        }
    });
}

/// One query `q` (D) of `head` at `position` to `out` (D).
fn attend(
    shape: &CacheShape,
    options: &AttentionOptions,
    pages: &[&[u8]],
    position: usize,
    head: usize,
    q: &[f32],
    out: &mut [f32],
) {
    let kv_head = head / (options.n_head / shape.n_kv_head);
    let at = |p: usize| {
        let page = pages[p / CacheShape::BLOCK];
        (&page[kv_head * shape.head_bytes()..][..shape.head_bytes()], p % CacheShape::BLOCK)
    };
    let visible = options.visible(position);
    let mut weights: Vec<f32> = visible
        .clone()
        .map(|p| {
            let (page, slot) = at(p);
            let dot: f32 = q.iter().enumerate().map(|(d, q)| q * key(shape, page, d, slot)).sum();
            let score = dot * options.scale;
            options.softcap.map_or(score, |cap| cap * (score / cap).tanh())
        })
        .collect();
    let largest = weights.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let mut total = 0.0;
    for weight in &mut weights {
        *weight = (*weight - largest).exp();
        total += *weight;
    }
    out.fill(0.0);
    for (p, weight) in visible.zip(weights) {
        let (page, slot) = at(p);
        for (d, out) in out.iter_mut().enumerate() {
            *out += weight / total * value(shape, page, slot, d);
        }
    }
}
