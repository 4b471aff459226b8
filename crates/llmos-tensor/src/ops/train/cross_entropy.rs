//! Cross-entropy of logits with the tokens that came, and its gradient in place of the logits.

use super::tasks::{Disjoint, for_each_rows};
use super::vectors::{each_vector, load, store};
use crate::ops::exponential::exp;
use crate::ops::lanes::{Kernel, Lanes, run};
use crate::ops::softmax::{Largest, SumExp};
use crate::{Device, Isa};

/// Logits that are summed in f32 before the sum goes on in f64; they stay in the first-level cache
/// between the search for the largest and the sum.
const RUN: usize = 1024;

/// What [`cross_entropy`] makes of a row's loss.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CrossEntropy<'a> {
    /// A target that counts for nothing: its row's loss and gradient are zero.
    pub ignore: u32,
    /// Multiplies the gradient: 1 / (number of targets) for the gradient of the mean.
    pub scale: f32,
    /// Multiplies each row's gradient too, (N); all 1 if there are none.
    pub weights: Option<&'a [f32]>,
    /// Factor z of the additional loss z * ln(sum(e^logit))^2 (PaLM, arXiv:2204.02311), which keeps
    /// logits from drifting; 0 for none.
    pub z_loss: f32,
}

/// `losses` (N) become ln(sum(e^logit)) - logit of the target, in nats and without the additional
/// loss; `logits` (N, V) become the gradient of `scale * weight * (loss + z * ln(sum(e^logit))^2)`.
/// Each row is read once for the loss and once for the gradient. A row with a logit that is not a
/// number gives a loss that is none. Error: losses 1e-6 plus the rounding of the result, gradients
/// 1e-6 of the row's factor plus 6e-8 of it for each unit that a logit is away from zero.
///
/// # Panics
/// If a length does not fit, or a target is neither below V nor `ignore`.
pub fn cross_entropy(
    device: &Device,
    logits: &mut [f32],
    vocab_size: usize,
    targets: &[u32],
    options: CrossEntropy<'_>,
    losses: &mut [f32],
) {
    let CrossEntropy { ignore, scale, weights, z_loss } = options;
    assert_shape(logits.len(), vocab_size, targets, ignore, losses.len());
    assert!(weights.is_none_or(|w| w.len() == targets.len()), "cross_entropy: weights are (N)");
    let isa = device.isa();
    let (logits, losses) = (Disjoint::new(logits), Disjoint::new(losses));
    for_each_rows(device, targets.len(), vocab_size, &|rows| {
        for row in rows {
            let columns = row * vocab_size..(row + 1) * vocab_size;
            // SAFETY: a row is of one task alone.
            let (logits, loss) =
                unsafe { (logits.range(columns), &mut losses.range(row..row + 1)[0]) };
            if targets[row] == ignore {
                logits.fill(0.0);
                *loss = 0.0;
                continue;
            }
            let target = targets[row] as usize;
            let log_sum = log_sum_exp(isa, logits);
            *loss = (log_sum - f64::from(logits[target])) as f32;
            let factor = scale * weights.map_or(1.0, |weights| weights[row]);
            let log_sum = log_sum as f32;
            let slope = factor * (1.0 + 2.0 * z_loss * log_sum);
            run(isa, Probabilities { x: logits, log_sum, slope });
            logits[target] -= factor;
        }
    });
}

/// The losses of [`cross_entropy`] alone, from `logits` (N, V) that stay as they are.
///
/// # Panics
/// As there.
pub fn cross_entropy_forward(
    device: &Device,
    logits: &[f32],
    vocab_size: usize,
    targets: &[u32],
    ignore: u32,
    losses: &mut [f32],
) {
    assert_shape(logits.len(), vocab_size, targets, ignore, losses.len());
    let isa = device.isa();
    let losses = Disjoint::new(losses);
    for_each_rows(device, targets.len(), vocab_size, &|rows| {
        for row in rows {
            // SAFETY: a row is of one task alone.
            let loss = unsafe { &mut losses.range(row..row + 1)[0] };
            let logits = &logits[row * vocab_size..(row + 1) * vocab_size];
            *loss = match targets[row] {
                target if target == ignore => 0.0,
                target => (log_sum_exp(isa, logits) - f64::from(logits[target as usize])) as f32,
            };
        }
    });
}

fn assert_shape(len: usize, vocab_size: usize, targets: &[u32], ignore: u32, losses: usize) {
    assert!(vocab_size > 0, "cross_entropy: a vocabulary of nothing");
    assert_eq!(len, targets.len() * vocab_size, "cross_entropy: logits are (N, V)");
    assert_eq!(losses, targets.len(), "cross_entropy: losses are (N)");
    let strange = targets.iter().find(|&&t| t as usize >= vocab_size && t != ignore);
    assert!(strange.is_none(), "cross_entropy: target {strange:?} of {vocab_size} tokens");
}

/// ln(sum(e^x)) in one pass: the sum so far is scaled anew where a larger number comes.
fn log_sum_exp(isa: Isa, x: &[f32]) -> f64 {
    let (mut largest, mut sum) = (f32::NEG_INFINITY, 0.0f64);
    for x in x.chunks(RUN) {
        let here = run(isa, Largest { x });
        if here > largest {
            sum *= (f64::from(largest) - f64::from(here)).exp();
            largest = here;
        }
        // With nothing but minus infinity so far, the sum is zero, or not a number.
        let minus = if largest == f32::NEG_INFINITY { 0.0 } else { largest };
        sum += f64::from(run(isa, SumExp { x, minus }));
    }
    f64::from(largest) + sum.ln()
}

/// x = slope * e^(x - log_sum).
struct Probabilities<'a> {
    x: &'a mut [f32],
    log_sum: f32,
    slope: f32,
}

impl Kernel for Probabilities<'_> {
    type Output = ();

    fn scalar(self) {
        self.x.iter_mut().for_each(|x| *x = self.slope * (*x - self.log_sum).exp());
    }

    #[inline(always)]
    unsafe fn vector<L: Lanes>(self) {
        let x = self.x.as_mut_ptr();
        // SAFETY: every access is below the length; the caller has the instructions.
        unsafe {
            let (log_sum, slope) = (L::splat(self.log_sum), L::splat(self.slope));
            each_vector!(L, self.x.len(), |i, n| {
                let e = exp::<L>(L::sub(load::<L>(x.add(i), n), log_sum));
                store::<L>(x.add(i), n, L::mul(slope, e));
            });
        }
    }
}
