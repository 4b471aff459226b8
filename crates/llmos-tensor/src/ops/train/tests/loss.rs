//! Cross-entropy and its gradient.

use super::*;
use crate::ops::train::{CrossEntropy, cross_entropy, cross_entropy_forward};

const IGNORE: u32 = u32::MAX;

fn log_sum(row: &[f64]) -> f64 {
    let largest = row.iter().copied().fold(f64::MIN, f64::max);
    largest + row.iter().map(|x| (x - largest).exp()).sum::<f64>().ln()
}

/// The sum over rows of weight * (loss + z * log_sum^2).
fn objective(logits: &[f64], targets: &[u32], weights: &[f32], z_loss: f64) -> f64 {
    let rows = logits.chunks(logits.len() / targets.len()).zip(targets.iter().zip(weights));
    rows.filter(|(_, (target, _))| **target != IGNORE)
        .map(|(row, (target, weight))| {
            let log_sum = log_sum(row);
            f64::from(*weight) * (log_sum - row[*target as usize] + z_loss * log_sum * log_sum)
        })
        .sum()
}

fn case(n: usize, vocab_size: usize) -> (Vec<f32>, Vec<u32>, Vec<f32>) {
    let logits = noise(1, n * vocab_size, 9.0);
    let targets = noise(2, n, 1.0).into_iter().map(|x| (x.abs() * vocab_size as f32) as u32);
    let mut targets: Vec<u32> = targets.map(|t| t.min(vocab_size as u32 - 1)).collect();
    if n > 2 {
        targets[1] = IGNORE;
    }
    (logits, targets, noise(3, n, 1.0))
}

#[test]
fn loss_and_gradient() {
    for (n, vocab_size) in [(1, 1), (4, 9), (5, 50), (3, 1030), (40, 2600)] {
        let (logits, targets, weights) = case(n, vocab_size);
        let wide = widen(&logits);
        let losses: Vec<f64> = wide
            .chunks(vocab_size)
            .zip(&targets)
            .map(|(row, t)| if *t == IGNORE { 0.0 } else { log_sum(row) - row[*t as usize] })
            .collect();
        for (weights, scale, z_loss) in [(None, 1.0, 0.0), (Some(&weights), 0.25f32, 0.01f32)] {
            let options =
                CrossEntropy { ignore: IGNORE, scale, weights: weights.map(Vec::as_slice), z_loss };
            let of_row: Vec<f32> =
                (0..n).map(|row| scale * weights.map_or(1.0, |w| w[row])).collect();
            let z = f64::from(z_loss);
            let gradient = if n * vocab_size <= 300 {
                differences(&wide, |logits| objective(logits, &targets, &of_row, z))
            } else {
                formula(&wide, &targets, &of_row, z)
            };
            on_every_device(
                |device| {
                    let (mut x, mut loss) = (logits.clone(), vec![f32::NAN; n]);
                    let mut alone = loss.clone();
                    cross_entropy_forward(device, &x, vocab_size, &targets, IGNORE, &mut alone);
                    cross_entropy(device, &mut x, vocab_size, &targets, options, &mut loss);
                    vec![x, loss, alone]
                },
                |isa, got| {
                    let what = format!("{isa} ({n}, {vocab_size})");
                    assert_eq!(got[1], got[2], "{what}: forward alone");
                    assert_close(&what, &got[1], &losses, 1e-7, 1e-6);
                    // Logits reach 9; the factor is at most 1 and 1.2 with the additional loss.
                    assert_close(&what, &got[0], &gradient, 0.0, 1e-6 + 9.0 * 6e-8);
                    if n > 2 {
                        assert!(got[0][vocab_size..2 * vocab_size].iter().all(|x| *x == 0.0));
                        assert_eq!(got[1][1], 0.0);
                    }
                },
            );
        }
    }
}

fn formula(logits: &[f64], targets: &[u32], weights: &[f32], z_loss: f64) -> Vec<f64> {
    let mut gradient = logits.to_vec();
    let n = targets.len();
    for (row, x) in gradient.chunks_mut(logits.len() / n).enumerate() {
        if targets[row] == IGNORE {
            x.fill(0.0);
            continue;
        }
        let (log_sum, weight) = (log_sum(x), f64::from(weights[row]));
        let slope = weight * (1.0 + 2.0 * z_loss * log_sum);
        x.iter_mut().for_each(|x| *x = slope * (*x - log_sum).exp());
        x[targets[row] as usize] -= weight;
    }
    gradient
}

#[test]
fn strange_logits() {
    let infinity = f32::INFINITY;
    for isa in Isa::available() {
        let device = Device::new(isa, 1);
        let loss = |logits: &[f32], target: u32| {
            let mut losses = [f32::NAN];
            let v = logits.len();
            cross_entropy_forward(&device, logits, v, &[target], IGNORE, &mut losses);
            losses[0]
        };
        // Tokens that are ruled out, a whole first run of them, and certainty.
        let mut masked = vec![-infinity; 3000];
        masked[2000] = 1.0;
        masked[2001] = 1.0;
        assert!((loss(&masked, 2001) - std::f32::consts::LN_2).abs() < 1e-6, "{isa}");
        assert_eq!(loss(&masked, 5), infinity, "{isa}");
        assert_eq!(loss(&[-200.0, 100.0], 1), 0.0, "{isa}");
        assert_eq!(loss(&[-200.0, 100.0], 0), 300.0, "{isa}");
        let mut broken = masked.clone();
        broken[7] = f32::NAN;
        assert!(loss(&broken, 2001).is_nan(), "{isa}");
        assert!(loss(&[infinity, 1.0], 1).is_nan(), "{isa}");
        assert!(loss(&[-infinity, -infinity], 1).is_nan(), "{isa}");
        let mut gradient = masked.clone();
        let options = CrossEntropy { ignore: IGNORE, scale: 1.0, weights: None, z_loss: 0.0 };
        cross_entropy(&device, &mut gradient, 3000, &[2001], options, &mut [0.0]);
        assert_close(isa.name(), &gradient[1999..2003], &[0.0, 0.5, -0.5, 0.0], 0.0, 1e-6);
        assert!(gradient[..1999].iter().all(|x| *x == 0.0), "{isa}");
    }
}

#[test]
#[should_panic(expected = "target Some(7) of 7 tokens")]
fn a_target_beyond_the_vocabulary_is_refused() {
    let device = Device::new(Isa::SCALAR, 1);
    cross_entropy_forward(&device, &[0.0; 14], 7, &[3, 7], IGNORE, &mut [0.0; 2]);
}
