//! Steps of optimizers over one tensor: AdamW, and the momentum of Muon.

use super::tasks::{Disjoint, for_each_piece};
use super::vectors::{each_vector, load, store};
use crate::Device;
use crate::ops::lanes::{Kernel, Lanes, run};

/// A step of AdamW (arXiv:1711.05101).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamW {
    /// The step's learning rate.
    pub learning_rate: f64,
    /// Decay of the mean of gradients.
    pub beta1: f64,
    /// Decay of the mean of their squares.
    pub beta2: f64,
    /// Added to the root of the latter.
    pub eps: f64,
    /// Share of the weights, times the learning rate, that a step takes away.
    pub weight_decay: f64,
    /// Number of the step, the first being 1: corrects the bias of means that began at zero.
    pub step: u64,
}

/// One step: `weights` move against `gradients * gradient_scale` (the scale of clipping, else 1),
/// `m` and `v` are the means of gradients and of their squares, all four of one length.
///
/// The operations, their order and rounding are those of PyTorch's single-tensor `AdamW` on CPUs:
/// every instruction set gives the same numbers, and `m` and `v` are PyTorch's to the bit. Weights
/// differ where its square root is not correctly rounded.
///
/// # Panics
/// If the lengths differ, or `step` is 0.
pub fn adamw_step(
    device: &Device,
    weights: &mut [f32],
    gradients: &[f32],
    m: &mut [f32],
    v: &mut [f32],
    options: AdamW,
    gradient_scale: f32,
) {
    let n = weights.len();
    assert_eq!(gradients.len(), n, "adamw_step: lengths of weights and gradients");
    assert!(m.len() == n && v.len() == n, "adamw_step: m and v are as long as the weights");
    assert!(options.step > 0, "adamw_step: the first step is 1");
    let factors = Factors::of(options, gradient_scale);
    let (weights, m, v) = (Disjoint::new(weights), Disjoint::new(m), Disjoint::new(v));
    for_each_piece(device, n, &|piece| {
        let g = &gradients[piece.clone()];
        // SAFETY: a piece is of one task alone.
        let (weights, m, v) = unsafe {
            (weights.range(piece.clone()), m.range(piece.clone()), v.range(piece.clone()))
        };
        run(device.isa(), Adam { weights, g, m, v, factors });
    });
}

/// `momentum` moves to `gradients * gradient_scale` by 1 - beta of the way; `out` becomes it or, if
/// `nesterov`, what lies beta of the way from the gradient to it. All are of one length. This is
/// the first half of Muon (<https://kellerjordan.github.io/posts/muon/>, `muon_update` of
/// <https://github.com/KellerJordan/Muon>), to be followed by making `out` orthogonal; the rounding
/// is that of PyTorch's `lerp` on CPUs, to the bit, on every instruction set.
///
/// # Panics
/// If the lengths differ.
pub fn muon_momentum(
    device: &Device,
    gradients: &[f32],
    momentum: &mut [f32],
    beta: f64,
    nesterov: bool,
    gradient_scale: f32,
    out: &mut [f32],
) {
    let n = gradients.len();
    assert_eq!(momentum.len(), n, "muon_momentum: lengths of gradients and momentum");
    assert_eq!(out.len(), n, "muon_momentum: lengths of gradients and out");
    let (toward_gradient, back) = ((1.0 - beta) as f32, beta as f32);
    let (momentum, out) = (Disjoint::new(momentum), Disjoint::new(out));
    for_each_piece(device, n, &|piece| {
        let g = &gradients[piece.clone()];
        // SAFETY: a piece is of one task alone.
        let (momentum, out) = unsafe { (momentum.range(piece.clone()), out.range(piece)) };
        let way = Way::of(toward_gradient);
        let back = nesterov.then_some(Way::of(back));
        run(device.isa(), Momentum { g, scale: gradient_scale, momentum, way, back, out });
    });
}

/// The way from one number to another, from the nearer end, so that neither end is missed by
/// rounding. The rule is PyTorch's.
#[derive(Clone, Copy)]
struct Way {
    /// The share of the way, or what is missing to all of it, which is negative.
    share: f32,
    from_end: bool,
}

impl Way {
    fn of(weight: f32) -> Way {
        let from_end = weight.abs() >= 0.5;
        Way { share: if from_end { weight - 1.0 } else { weight }, from_end }
    }

    fn scalar(self, start: f32, end: f32) -> f32 {
        self.share.mul_add(end - start, if self.from_end { end } else { start })
    }

    /// # Safety
    /// The CPU has the instructions of `L`.
    #[inline(always)]
    unsafe fn vector<L: Lanes>(self, start: L::V, end: L::V) -> L::V {
        // SAFETY: the caller's.
        unsafe {
            let nearer = if self.from_end { end } else { start };
            L::fma(L::splat(self.share), L::sub(end, start), nearer)
        }
    }
}

/// Numbers of a step, computed in double precision and rounded as PyTorch rounds them.
#[derive(Clone, Copy)]
struct Factors {
    gradient: f32,
    keep: f32,
    toward_gradient: Way,
    beta2: f32,
    square: f32,
    /// The root of v's correction.
    correction: f32,
    eps: f32,
    minus_step: f32,
}

impl Factors {
    fn of(options: AdamW, gradient_scale: f32) -> Factors {
        let AdamW { learning_rate, beta1, beta2, eps, weight_decay, step } = options;
        let correction = |beta: f64| 1.0 - beta.powf(step as f64);
        Factors {
            gradient: gradient_scale,
            keep: (1.0 - learning_rate * weight_decay) as f32,
            toward_gradient: Way::of((1.0 - beta1) as f32),
            beta2: beta2 as f32,
            square: (1.0 - beta2) as f32,
            correction: correction(beta2).sqrt() as f32,
            eps: eps as f32,
            minus_step: -(learning_rate / correction(beta1)) as f32,
        }
    }
}

/// Some numbers of [`adamw_step`], all equally long.
struct Adam<'a> {
    weights: &'a mut [f32],
    g: &'a [f32],
    m: &'a mut [f32],
    v: &'a mut [f32],
    factors: Factors,
}

impl Kernel for Adam<'_> {
    type Output = ();

    fn scalar(self) {
        let f = self.factors;
        let means = self.m.iter_mut().zip(self.v);
        for ((weight, g), (m, v)) in self.weights.iter_mut().zip(self.g).zip(means) {
            let g = g * f.gradient;
            let kept = *weight * f.keep;
            *m = f.toward_gradient.scalar(*m, g);
            *v = (f.square * g).mul_add(g, *v * f.beta2);
            let root = v.sqrt() / f.correction + f.eps;
            *weight = kept + f.minus_step * *m / root;
        }
    }

    #[inline(always)]
    unsafe fn vector<L: Lanes>(self) {
        let f = self.factors;
        let (weights, g) = (self.weights.as_mut_ptr(), self.g.as_ptr());
        let (m, v) = (self.m.as_mut_ptr(), self.v.as_mut_ptr());
        // SAFETY: the four are equally long; the caller has the instructions.
        unsafe {
            each_vector!(L, self.g.len(), |i, n| {
                let g = L::mul(load::<L>(g.add(i), n), L::splat(f.gradient));
                let kept = L::mul(load::<L>(weights.add(i), n), L::splat(f.keep));
                let mean = f.toward_gradient.vector::<L>(load::<L>(m.add(i), n), g);
                store::<L>(m.add(i), n, mean);
                let decayed = L::mul(load::<L>(v.add(i), n), L::splat(f.beta2));
                let square = L::fma(L::mul(L::splat(f.square), g), g, decayed);
                store::<L>(v.add(i), n, square);
                let root = L::div(L::sqrt(square), L::splat(f.correction));
                let step = L::mul(L::splat(f.minus_step), mean);
                let step = L::div(step, L::add(root, L::splat(f.eps)));
                store::<L>(weights.add(i), n, L::add(kept, step));
            });
        }
    }
}

/// Some numbers of [`muon_momentum`], all equally long.
struct Momentum<'a> {
    g: &'a [f32],
    scale: f32,
    momentum: &'a mut [f32],
    /// From the momentum to the gradient.
    way: Way,
    /// From the gradient to the momentum.
    back: Option<Way>,
    out: &'a mut [f32],
}

impl Kernel for Momentum<'_> {
    type Output = ();

    fn scalar(self) {
        let places = self.momentum.iter_mut().zip(self.out);
        for (g, (momentum, out)) in self.g.iter().zip(places) {
            let g = g * self.scale;
            *momentum = self.way.scalar(*momentum, g);
            *out = self.back.map_or(*momentum, |back| back.scalar(g, *momentum));
        }
    }

    #[inline(always)]
    unsafe fn vector<L: Lanes>(self) {
        let (g, momentum) = (self.g.as_ptr(), self.momentum.as_mut_ptr());
        let out = self.out.as_mut_ptr();
        // SAFETY: the three are equally long; the caller has the instructions.
        unsafe {
            each_vector!(L, self.g.len(), |i, n| {
                let g = L::mul(load::<L>(g.add(i), n), L::splat(self.scale));
                let mean = self.way.vector::<L>(load::<L>(momentum.add(i), n), g);
                store::<L>(momentum.add(i), n, mean);
                let update = match self.back {
                    Some(back) => back.vector::<L>(g, mean),
                    None => mean,
                };
                store::<L>(out.add(i), n, update);
            });
        }
    }
}
