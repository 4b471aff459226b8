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
use crate::ops::lanes::{Kernel, Lanes, MAX_LANES, run};

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
    assert_token(shape, page, slot, k, v);
    let (dim, row) = (shape.head_dim, shape.padded_dim() * shape.kind.element_bytes());
    let heads = page.chunks_exact_mut(shape.head_bytes());
    for ((head, k), v) in heads.zip(k.chunks_exact(dim)).zip(v.chunks_exact(dim)) {
        let (keys, rest) = head.split_at_mut(shape.value_start());
        let (values, scales) = rest.split_at_mut(shape.scale_start() - shape.value_start());
        let values = &mut values[slot * row..][..row];
        let (k_scales, v_scales) =
            scales.split_at_mut(scales.len().min(2 * shape.n_group() * CacheShape::BLOCK));
        let mut narrow = [0; 4 * GROUP];
        for (group, (k, v)) in k.chunks(GROUP).zip(v.chunks(GROUP)).enumerate() {
            let keys = &mut keys[group * GROUP * CacheShape::BLOCK * shape.kind.element_bytes()..];
            let values = &mut values[group * GROUP * shape.kind.element_bytes()..];
            match shape.kind {
                CacheType::F32 => {
                    store_column(keys, slot, bytemuck::cast_slice::<f32, [u8; 4]>(k));
                    values[..4 * v.len()].copy_from_slice(bytemuck::cast_slice(v));
                }
                CacheType::F16 => {
                    let narrow = &mut narrow[..2 * k.len()];
                    run(isa, Narrow { x: k, to: narrow });
                    store_column(keys, slot, narrow.as_chunks::<2>().0);
                    run(isa, Narrow { x: v, to: &mut values[..2 * v.len()] });
                }
                CacheType::Q8 => {
                    let narrow = &mut narrow[..k.len()];
                    store_scale(k_scales, group, slot, run(isa, Quantise { x: k, to: narrow }));
                    store_column(keys, slot, narrow.as_chunks::<1>().0);
                    let to = &mut values[..v.len()];
                    store_scale(v_scales, group, slot, run(isa, Quantise { x: v, to }));
                }
            }
        }
        values[dim * shape.kind.element_bytes()..].fill(0);
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

/// Writes `column` to column `slot` of a (D, P) matrix.
fn store_column<const N: usize>(matrix: &mut [u8], slot: usize, column: &[[u8; N]]) {
    for (row, x) in matrix.chunks_exact_mut(CacheShape::BLOCK * N).zip(column) {
        row[slot * N..][..N].copy_from_slice(x);
    }
}

fn store_scale(scales: &mut [u8], group: usize, slot: usize, scale: f16) {
    scales[2 * (group * CacheShape::BLOCK + slot)..][..2].copy_from_slice(&scale.to_le_bytes());
}

/// The largest finite half: a finite number stays finite.
const MAX_F16: f32 = 65504.0;

/// Numbers to halves of 2 bytes.
struct Narrow<'a> {
    x: &'a [f32],
    to: &'a mut [u8],
}

impl Kernel for Narrow<'_> {
    type Output = ();

    fn scalar(self) {
        for (to, &x) in self.to.chunks_exact_mut(2).zip(self.x) {
            to.copy_from_slice(&f16::from_f32(x.clamp(-MAX_F16, MAX_F16)).to_le_bytes());
        }
    }

    #[inline(always)]
    unsafe fn vector<L: Lanes>(self) {
        assert!(self.to.len() >= 2 * self.x.len());
        let (n, x, to) = (self.x.len(), self.x.as_ptr(), self.to.as_mut_ptr());
        for i in (0..n).step_by(L::N) {
            // SAFETY: i + part <= n, `to` holds n halves as asserted, MAX_LANES >= N; the caller has
            // the instructions.
            unsafe {
                let part = L::N.min(n - i);
                let x = if part == L::N {
                    L::load(x.add(i))
                } else {
                    L::load_part(x.add(i), part, 0.0)
                };
                // What is no number stands second and stays.
                let x = L::min(L::splat(MAX_F16), L::max(L::splat(-MAX_F16), x));
                if part == L::N {
                    L::store_f16(to.add(2 * i).cast(), x);
                } else {
                    let mut halves = [0u16; MAX_LANES];
                    L::store_f16(halves.as_mut_ptr(), x);
                    std::ptr::copy_nonoverlapping(halves.as_ptr().cast(), to.add(2 * i), 2 * part);
                }
            }
        }
    }
}

/// A group of at most [`GROUP`] numbers to signed bytes; gives their scale, which makes the largest
/// magnitude 127. The scale is not a number if any of `x` is not, so that a broken model stays
/// visible.
struct Quantise<'a> {
    x: &'a [f32],
    to: &'a mut [u8],
}

/// The scale of a group and by what its numbers are multiplied.
fn group_scale(largest: f32) -> (f16, f32) {
    let scale = f16::from_f32((largest / 127.0).clamp(0.0, MAX_F16));
    let inverse = if scale > f16::ZERO { 1.0 / scale.to_f32() } else { 0.0 };
    (scale, inverse)
}

impl Kernel for Quantise<'_> {
    type Output = f16;

    fn scalar(self) -> f16 {
        let mut largest = 0.0f32;
        for x in self.x {
            largest = if x.is_nan() || largest.is_nan() { f32::NAN } else { largest.max(x.abs()) };
        }
        let (scale, inverse) = group_scale(largest);
        for (to, x) in self.to.iter_mut().zip(self.x) {
            *to = ((x * inverse).round_ties_even().clamp(-127.0, 127.0) as i8) as u8;
        }
        scale
    }

    #[inline(always)]
    unsafe fn vector<L: Lanes>(self) -> f16 {
        let mut padded = [0.0f32; GROUP];
        padded[..self.x.len()].copy_from_slice(self.x);
        // SAFETY: N divides GROUP; the caller has the instructions.
        unsafe {
            let (mut largest, mut sum) = (L::splat(0.0), L::splat(0.0));
            for i in (0..GROUP).step_by(L::N) {
                let size = L::abs(L::load(padded.as_ptr().add(i)));
                largest = L::max(size, largest);
                sum = L::add(sum, size);
            }
            // The maximum passes over what is no number, the sum does not.
            let broken = L::sum(sum).is_nan();
            let (scale, inverse) = group_scale(if broken { f32::NAN } else { L::largest(largest) });
            for i in (0..GROUP).step_by(L::N) {
                let at = padded.as_mut_ptr().add(i);
                let x = L::round(L::mul(L::load(at), L::splat(inverse)));
                L::store(at, L::min(L::splat(127.0), L::max(L::splat(-127.0), x)));
            }
            for (to, x) in self.to.iter_mut().zip(padded) {
                *to = (x as i32) as u8;
            }
            scale
        }
    }
}
