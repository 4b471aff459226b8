//! The weights of attention, for who wants to see them.
//!
//! The kernels never hold a row of weights: they take the softmax online. Here they are computed once
//! more, from the same queries and the same pages, plainly; nobody who does not ask pays for it.

use super::cache::key;
use super::{AttentionOptions, CacheShape, Span, check};

/// What [`super::attention`] multiplies the values with. `q` (T, H, D) as there; `each` gets, for every
/// row of the span and every head, the head's number, the row of `q`, and the weights of the positions
/// 0 ..= p of the row's own position p, (p + 1). They add up to 1; those before a window are 0.
///
/// Error of a weight against exact arithmetic over the cached keys: as that of [`super::attention`].
/// Takes memory for the keys of one head, 4 bytes a number.
///
/// # Panics
/// As [`super::attention`].
pub fn attention_weights(
    shape: &CacheShape,
    options: &AttentionOptions,
    span: &Span<'_>,
    q: &[f32],
    each: &mut dyn FnMut(usize, usize, &[f32]),
) {
    const BLOCK: usize = CacheShape::BLOCK;
    check(shape, options, std::slice::from_ref(span), q, q);
    if span.n_rows == 0 {
        return;
    }
    let (dim, group) = (shape.head_dim, options.n_head / shape.n_kv_head);
    let first = options.visible(span.position).start / BLOCK;
    let end = (span.position + span.n_rows).div_ceil(BLOCK);
    // (pages, D, P), of one head
    let mut keys = vec![0.0; (end - first) * dim * BLOCK];
    // One a position; pages before `first` are seen by no row.
    let mut scores = vec![0.0; end * BLOCK];
    for kv_head in 0..shape.n_kv_head {
        for (page, keys) in span.pages[first..end].iter().zip(keys.chunks_exact_mut(dim * BLOCK)) {
            let head = &page[kv_head * shape.head_bytes()..][..shape.head_bytes()];
            for (d, row) in keys.chunks_exact_mut(BLOCK).enumerate() {
                row.iter_mut().enumerate().for_each(|(slot, k)| *k = key(shape, head, d, slot));
            }
        }
        for row in span.row..span.row + span.n_rows {
            let position = span.position + row - span.row;
            let visible = options.visible(position);
            let pages = visible.start / BLOCK - first..position / BLOCK + 1 - first;
            for head in kv_head * group..(kv_head + 1) * group {
                let q = &q[(row * options.n_head + head) * dim..][..dim];
                for page in pages.clone() {
                    let keys = &keys[page * dim * BLOCK..][..dim * BLOCK];
                    dots(q, keys, &mut scores[(first + page) * BLOCK..][..BLOCK]);
                }
                let (before, weights) = scores[..=position].split_at_mut(visible.start);
                before.fill(0.0);
                softmax(options, weights);
                each(head, row, &scores[..=position]);
            }
        }
    }
}

/// Products of `q` (D) with each column of `keys` (D, P).
fn dots(q: &[f32], keys: &[f32], out: &mut [f32]) {
    out.fill(0.0);
    for (q, keys) in q.iter().zip(keys.chunks_exact(out.len())) {
        out.iter_mut().zip(keys).for_each(|(out, key)| *out += q * key);
    }
}

/// From products to weights that add up to 1.
fn softmax(options: &AttentionOptions, scores: &mut [f32]) {
    let mut largest = f32::NEG_INFINITY;
    for score in &mut *scores {
        *score *= options.scale;
        if let Some(cap) = options.softcap {
            *score = cap * (*score / cap).tanh();
        }
        largest = largest.max(*score);
    }
    let mut total = 0.0;
    for score in &mut *scores {
        *score = (*score - largest).exp();
        total += *score;
    }
    scores.iter_mut().for_each(|score| *score /= total);
}
