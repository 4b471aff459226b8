//! Is this loss one to learn from? What is none, or leaps, comes of a bad batch or a bad rate.

use std::collections::VecDeque;

/// Losses that a new one is held against.
const WINDOW: usize = 64;

/// Losses before anything counts as a leap: the first steps fall fast.
const ENOUGH: usize = 16;

/// Standard deviations above the mean that a loss may lie. Steps of a thousand tokens stay within 4
/// in the runs of `recipes/`.
const DEVIATIONS: f64 = 10.0;

/// Nats a token that a loss may rise at least.
const LEAST: f64 = 1.0;

/// Batches that are left out before the run is given up.
pub(super) const MOST_SKIPPED: usize = 5;

/// The last losses.
#[derive(Clone, Debug, Default)]
pub(super) struct Guard {
    losses: VecDeque<f64>,
}

impl Guard {
    /// A guard that has seen these losses, the last of which counts most.
    pub(super) fn new(losses: impl IntoIterator<Item = f64>) -> Guard {
        let mut guard = Guard::default();
        losses.into_iter().for_each(|loss| guard.push(loss));
        guard
    }

    /// What is wrong with a step, for people; none where nothing is.
    pub(super) fn objects(&self, loss: f64, grad_norm: f64) -> Option<String> {
        if !loss.is_finite() || !grad_norm.is_finite() {
            let (what, value) = match loss.is_finite() {
                true => ("gradient's norm", grad_norm),
                false => ("loss", loss),
            };
            return Some(format!("the {what} is {value}"));
        }
        let n = self.losses.len() as f64;
        if self.losses.len() < ENOUGH {
            return None;
        }
        let mean = self.losses.iter().sum::<f64>() / n;
        let variance = self.losses.iter().map(|loss| (loss - mean).powi(2)).sum::<f64>() / n;
        let most = mean + (DEVIATIONS * variance.sqrt()).max(LEAST);
        (loss > most).then(|| format!("the loss leapt from about {mean:.3} to {loss:.3}"))
    }

    /// Takes a loss that was learnt from.
    pub(super) fn push(&mut self, loss: f64) {
        if self.losses.len() == WINDOW {
            self.losses.pop_front();
        }
        self.losses.push_back(loss);
    }

    /// The losses that it holds others against, the oldest first.
    pub(super) fn losses(&self) -> impl Iterator<Item = f64> {
        self.losses.iter().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leaps_and_numbers_that_are_none() {
        let noise = |i: usize| ((i * 7919) % 13) as f64 / 100.0;
        let falling = (0..200).map(|i| 8.0 / (1.0 + i as f64 / 50.0) + noise(i));
        let guard = Guard::new(falling.clone());
        assert_eq!(guard.losses().count(), WINDOW);
        for (loss, norm, expected) in [
            (1.7, 1.0, None),
            (2.7, 1.0, None),
            (9.0, 1.0, Some("leapt")),
            (f64::NAN, 1.0, Some("loss is NaN")),
            (1.7, f64::INFINITY, Some("norm is inf")),
        ] {
            let got = guard.objects(loss, norm);
            match expected {
                Some(words) => assert!(got.is_some_and(|got| got.contains(words)), "{loss}"),
                None => assert_eq!(got, None, "{loss}"),
            }
        }
        // The first losses say nothing about the next.
        assert_eq!(Guard::new([1.0; ENOUGH - 1]).objects(90.0, 1.0), None);
        // A falling loss with its noise is never a leap.
        let mut guard = Guard::default();
        for loss in falling {
            assert_eq!(guard.objects(loss, 1.0), None, "{loss}");
            guard.push(loss);
        }
    }
}
