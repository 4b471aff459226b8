//! Rotary position embedding (arXiv:2104.09864).

use super::lanes::{Kernel, Lanes, run};
use crate::Isa;

/// Which two dimensions of a head turn together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Pairing {
    /// (0, 1), (2, 3), ...: the paper's, and Llama's in GGUF files.
    Adjacent,
    /// (0, R/2), (1, R/2 + 1), ... of R rotated dimensions: GPT-NeoX's and transformers'.
    Halves,
}

/// Turns the first `n_rot` of each head's `head_dim` dimensions of `x` (T, H, D) by the angles whose
/// cosines and sines are `cos` and `sin` (T, n_rot / 2). Error: 2 units in the last place of the
/// pair's length.
///
/// # Panics
/// If a length does not fit, or `n_rot` is odd or above `head_dim`.
pub fn rope_forward(
    isa: Isa,
    x: &mut [f32],
    cos: &[f32],
    sin: &[f32],
    pairing: Pairing,
    n_head: usize,
    head_dim: usize,
    n_rot: usize,
) {
    assert!(n_rot.is_multiple_of(2) && n_rot <= head_dim, "rope: {n_rot} of {head_dim} dimensions");
    let width = n_head * head_dim;
    assert!(width > 0 && x.len().is_multiple_of(width), "rope: x is not (T, H, D)");
    let (rows, half) = (x.len() / width, n_rot / 2);
    assert!(cos.len() == rows * half && sin.len() == rows * half, "rope: tables are not (T, R/2)");
    if half == 0 {
        return;
    }
    let tables = cos.chunks_exact(half).zip(sin.chunks_exact(half));
    for (x, (cos, sin)) in x.chunks_exact_mut(width).zip(tables) {
        match pairing {
            Pairing::Adjacent => run(isa, Adjacent { x, cos, sin, head_dim }),
            Pairing::Halves => run(isa, Halves { x, cos, sin, head_dim }),
        }
    }
}

fn turn(a: f32, b: f32, cos: f32, sin: f32) -> (f32, f32) {
    (a * cos - b * sin, b * cos + a * sin)
}

/// # Safety
/// The CPU has the instructions of `L`.
#[inline(always)]
unsafe fn turn_vector<L: Lanes>(a: L::V, b: L::V, cos: L::V, sin: L::V) -> (L::V, L::V) {
    // SAFETY: the caller's.
    unsafe {
        let first = L::fma(a, cos, L::sub(L::splat(0.0), L::mul(b, sin)));
        (first, L::fma(b, cos, L::mul(a, sin)))
    }
}

/// One token: x (H, D), cos and sin (R / 2).
struct Halves<'a> {
    x: &'a mut [f32],
    cos: &'a [f32],
    sin: &'a [f32],
    head_dim: usize,
}

impl Halves<'_> {
    #[inline(always)]
    fn scalar_from(head: &mut [f32], cos: &[f32], sin: &[f32], from: usize) {
        let half = cos.len();
        for i in from..half {
            (head[i], head[half + i]) = turn(head[i], head[half + i], cos[i], sin[i]);
        }
    }
}

impl Kernel for Halves<'_> {
    type Output = ();

    fn scalar(self) {
        for head in self.x.chunks_exact_mut(self.head_dim) {
            Self::scalar_from(head, self.cos, self.sin, 0);
        }
    }

    #[inline(always)]
    unsafe fn vector<L: Lanes>(self) {
        let half = self.cos.len();
        let whole = half - half % L::N;
        for head in self.x.chunks_exact_mut(self.head_dim) {
            for i in (0..whole).step_by(L::N) {
                // SAFETY: i + N <= half, and 2 * half <= D as the public function asserts.
                unsafe {
                    let (a, b) = (head.as_mut_ptr().add(i), head.as_mut_ptr().add(half + i));
                    let cos = L::load(self.cos.as_ptr().add(i));
                    let sin = L::load(self.sin.as_ptr().add(i));
                    let (x, y) = turn_vector::<L>(L::load(a), L::load(b), cos, sin);
                    L::store(a, x);
                    L::store(b, y);
                }
            }
            Self::scalar_from(head, self.cos, self.sin, whole);
        }
    }
}

/// One token: x (H, D), cos and sin (R / 2).
struct Adjacent<'a> {
    x: &'a mut [f32],
    cos: &'a [f32],
    sin: &'a [f32],
    head_dim: usize,
}

impl Adjacent<'_> {
    #[inline(always)]
    fn scalar_from(head: &mut [f32], cos: &[f32], sin: &[f32], from: usize) {
        for i in from..cos.len() {
            (head[2 * i], head[2 * i + 1]) = turn(head[2 * i], head[2 * i + 1], cos[i], sin[i]);
        }
    }
}

impl Kernel for Adjacent<'_> {
    type Output = ();

    fn scalar(self) {
        for head in self.x.chunks_exact_mut(self.head_dim) {
            Self::scalar_from(head, self.cos, self.sin, 0);
        }
    }

    #[inline(always)]
    unsafe fn vector<L: Lanes>(self) {
        let half = self.cos.len();
        let whole = half - half % L::N;
        for head in self.x.chunks_exact_mut(self.head_dim) {
            for i in (0..whole).step_by(L::N) {
                // SAFETY: i + N <= half, and 2 * half <= D as the public function asserts.
                unsafe {
                    let at = head.as_mut_ptr().add(2 * i);
                    let (a, b) = L::unzip(L::load(at), L::load(at.add(L::N)));
                    let cos = L::load(self.cos.as_ptr().add(i));
                    let sin = L::load(self.sin.as_ptr().add(i));
                    let (a, b) = turn_vector::<L>(a, b, cos, sin);
                    let (x, y) = L::zip(a, b);
                    L::store(at, x);
                    L::store(at.add(L::N), y);
                }
            }
            Self::scalar_from(head, self.cos, self.sin, whole);
        }
    }
}
