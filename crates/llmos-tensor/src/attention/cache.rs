//! Pages of the key-value cache: their layout, writing a token, reading one back.
//!
//! One head of a page, `P` = 32 tokens, `D` the head size, `E` = D rounded up to 16:
//!
//! | part | shape | element |
//! |-|-|-|
//! | keys | (D, P) | f32, f16 or i8 |
//! | values | (P, E) | the same; columns D.. are zero |
//! | key scales, Q8 only | (ceil(D / 32), P) | f16 |
//! | value scales, Q8 only | (ceil(D / 32), P) | f16 |
//!
//! Keys are transposed so that a vector's lanes are tokens, values are not so that lanes are
//! dimensions: neither product of attention then needs a sum across lanes. Heads follow each other,
//! each padded to 64 bytes, so that one head's page is one sequential stream.

use bytemuck::pod_read_unaligned;
use half::f16;

use crate::Isa;

/// How a cached number is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CacheType {
    /// f32: exact, for golden tests and training.
    F32,
    /// IEEE half precision, rounded to nearest; beyond ±65504 saturates.
    F16,
    /// Signed bytes with an f16 scale for each token and group of 32 dimensions of a head: 8.5 bits
    /// a value, an error of at most 0.51/127 of the group's largest magnitude plus 4e-6.
    Q8,
}

/// The shape of a cache of one layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct CacheShape {
    /// Key-value heads.
    pub n_kv_head: usize,
    /// Head size D.
    pub head_dim: usize,
    /// How numbers are stored.
    pub kind: CacheType,
}

/// Dimensions that share a scale.
pub(super) const GROUP: usize = 32;

impl CacheType {
    /// Bytes of one stored number, scales apart.
    pub(super) const fn element_bytes(self) -> usize {
        match self {
            CacheType::F32 => 4,
            CacheType::F16 => 2,
            CacheType::Q8 => 1,
        }
    }
}

impl CacheShape {
    /// Tokens of a page.
    pub const BLOCK: usize = 32;

    /// Bytes of a page: keys and values of [`Self::BLOCK`] tokens of one layer. A multiple of 64.
    pub const fn page_bytes(&self) -> usize {
        self.n_kv_head * self.head_bytes()
    }

    /// Bytes of one head of a page.
    pub(super) const fn head_bytes(&self) -> usize {
        let scales = match self.kind {
            CacheType::Q8 => 2 * self.n_group() * Self::BLOCK * 2,
            CacheType::F32 | CacheType::F16 => 0,
        };
        (self.scale_start() + scales).next_multiple_of(64)
    }

    /// Head size with the padding of a value's row.
    pub(super) const fn padded_dim(&self) -> usize {
        self.head_dim.next_multiple_of(16)
    }

    /// Groups that have a scale of their own.
    pub(super) const fn n_group(&self) -> usize {
        self.head_dim.div_ceil(GROUP)
    }

    /// Where a head's values start, in bytes from the head's start.
    pub(super) const fn value_start(&self) -> usize {
        self.head_dim * Self::BLOCK * self.kind.element_bytes()
    }

    /// Where a head's key scales start.
    pub(super) const fn scale_start(&self) -> usize {
        self.value_start() + self.padded_dim() * Self::BLOCK * self.kind.element_bytes()
    }
}

/// Writes the keys and values of one token, `k` and `v` (H_kv, D), to `slot` of `page`.
///
/// # Panics
/// If the page is short, the slot is not below [`CacheShape::BLOCK`], or `k` or `v` has another
/// length.
pub fn cache_store(
    isa: Isa,
    shape: &CacheShape,
    page: &mut [u8],
    slot: usize,
    k: &[f32],
    v: &[f32],
) {
    let _ = isa;
    assert_token(shape, page, slot, k, v);
    let (dim, padded) = (shape.head_dim, shape.padded_dim());
    let heads = page.chunks_exact_mut(shape.head_bytes());
    for ((head, k), v) in heads.zip(k.chunks_exact(dim)).zip(v.chunks_exact(dim)) {
        let (keys, rest) = head.split_at_mut(shape.value_start());
        let (values, scales) = rest.split_at_mut(shape.scale_start() - shape.value_start());
        let row = padded * shape.kind.element_bytes();
        let values = &mut values[slot * row..][..row];
        match shape.kind {
            CacheType::F32 => {
                store_column(keys, slot, k.iter().map(|x| x.to_le_bytes()));
                store_row(values, v.iter().map(|x| x.to_le_bytes()));
            }
            CacheType::F16 => {
                store_column(keys, slot, k.iter().map(|&x| to_f16(x).to_le_bytes()));
                store_row(values, v.iter().map(|&x| to_f16(x).to_le_bytes()));
            }
            CacheType::Q8 => {
                let (k_scales, v_scales) =
                    scales.split_at_mut(2 * shape.n_group() * CacheShape::BLOCK);
                for (group, k) in k.chunks(GROUP).enumerate() {
                    let scale = group_scale(k);
                    store_scale(k_scales, group, slot, scale);
                    let start = group * GROUP * CacheShape::BLOCK;
                    store_column(&mut keys[start..], slot, quantise(k, scale));
                }
                for (group, v) in v.chunks(GROUP).enumerate() {
                    let scale = group_scale(v);
                    store_scale(v_scales, group, slot, scale);
                    for (cell, [x]) in values[group * GROUP..].iter_mut().zip(quantise(v, scale)) {
                        *cell = x;
                    }
                }
                values[dim..].fill(0);
            }
        }
    }
}

/// Reads back the keys and values of one token, to `k` and `v` (H_kv, D).
///
/// # Panics
/// As [`cache_store`].
pub fn cache_load(shape: &CacheShape, page: &[u8], slot: usize, k: &mut [f32], v: &mut [f32]) {
    assert_token(shape, page, slot, k, v);
    let dim = shape.head_dim;
    let heads = page.chunks_exact(shape.head_bytes());
    for ((head, k), v) in heads.zip(k.chunks_exact_mut(dim)).zip(v.chunks_exact_mut(dim)) {
        for d in 0..dim {
            k[d] = key(shape, head, d, slot);
            v[d] = value(shape, head, slot, d);
        }
    }
}

/// Dimension `d` of the key of token `slot`; `head` is one head of a page.
pub(super) fn key(shape: &CacheShape, head: &[u8], d: usize, slot: usize) -> f32 {
    let scales = shape.scale_start();
    number(shape, head, 0, d * CacheShape::BLOCK + slot, scales, d / GROUP, slot)
}

/// Dimension `d` of the value of token `slot`; `head` is one head of a page.
pub(super) fn value(shape: &CacheShape, head: &[u8], slot: usize, d: usize) -> f32 {
    let scales = shape.scale_start() + 2 * shape.n_group() * CacheShape::BLOCK;
    number(shape, head, shape.value_start(), slot * shape.padded_dim() + d, scales, d / GROUP, slot)
}

fn number(
    shape: &CacheShape,
    head: &[u8],
    start: usize,
    index: usize,
    scales: usize,
    group: usize,
    slot: usize,
) -> f32 {
    let bytes = shape.kind.element_bytes();
    let at = &head[start + index * bytes..][..bytes];
    match shape.kind {
        CacheType::F32 => pod_read_unaligned(at),
        CacheType::F16 => pod_read_unaligned::<f16>(at).to_f32(),
        CacheType::Q8 => {
            let scale = &head[scales + 2 * (group * CacheShape::BLOCK + slot)..][..2];
            f32::from(at[0] as i8) * pod_read_unaligned::<f16>(scale).to_f32()
        }
    }
}

fn assert_token(shape: &CacheShape, page: &[u8], slot: usize, k: &[f32], v: &[f32]) {
    assert!(slot < CacheShape::BLOCK, "cache: slot {slot} of a page");
    assert!(page.len() >= shape.page_bytes(), "cache: a page of {} bytes", page.len());
    let width = shape.n_kv_head * shape.head_dim;
    assert!(k.len() == width && v.len() == width, "cache: k or v is not (H_kv, D)");
}

/// A finite number stays finite.
fn to_f16(x: f32) -> f16 {
    f16::from_f32(if x.is_finite() { x.clamp(-65504.0, 65504.0) } else { x })
}

/// Writes `column` to column `slot` of a (D, P) matrix.
fn store_column<const N: usize>(
    matrix: &mut [u8],
    slot: usize,
    column: impl Iterator<Item = [u8; N]>,
) {
    for (row, x) in matrix.chunks_exact_mut(CacheShape::BLOCK * N).zip(column) {
        row[slot * N..][..N].copy_from_slice(&x);
    }
}

/// Writes `numbers` to the start of `row` and zeros after them.
fn store_row<const N: usize>(row: &mut [u8], numbers: impl Iterator<Item = [u8; N]>) {
    let mut cells = row.chunks_exact_mut(N);
    for (x, cell) in numbers.zip(&mut cells) {
        cell.copy_from_slice(&x);
    }
    cells.for_each(|cell| cell.fill(0));
}

/// The scale that makes the largest magnitude 127. Not a number if any of `x` is not, so that a
/// broken model stays visible.
fn group_scale(x: &[f32]) -> f16 {
    let mut largest = 0.0f32;
    for &x in x {
        largest = if x.is_nan() { f32::NAN } else { largest.max(x.abs()) };
        if largest.is_nan() {
            break;
        }
    }
    to_f16(largest / 127.0)
}

fn store_scale(scales: &mut [u8], group: usize, slot: usize, scale: f16) {
    scales[2 * (group * CacheShape::BLOCK + slot)..][..2].copy_from_slice(&scale.to_le_bytes());
}

fn quantise(x: &[f32], scale: f16) -> impl Iterator<Item = [u8; 1]> {
    let scale = scale.to_f32();
    let inverse = if scale > 0.0 { 1.0 / scale } else { 0.0 };
    // A conversion to i8 saturates.
    x.iter().map(move |&x| [((x * inverse).round().max(-127.0) as i8) as u8])
}
