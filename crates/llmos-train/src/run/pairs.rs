//! Learning from pairs: how likely both answers are, by the model and by what it began as, and what
//! each of their tokens' gradients counts for.

use super::material::{Lesson, Preference};
use crate::conversations::{Example, Sequences, lay};
use crate::model::Network;
use crate::preference::{Answer, Slope};

/// What was measured of a batch of pairs.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Measured {
    pub(super) loss: f64,
    /// How much more the better answer gained beside the reference than the worse one, times beta.
    pub(super) margin: f64,
    /// Share of pairs with a margin above zero.
    pub(super) accuracy: f64,
    /// Nats a token by which the better answers' log-probabilities have moved from the reference.
    pub(super) kl: f64,
}

/// The log-probability of what is learnt of each row that was laid, in nats.
pub(super) fn log_probabilities(
    network: &mut Network,
    weights: &[f32],
    sequences: &Sequences,
    losses: &mut Vec<f32>,
) -> Vec<f64> {
    let n = sequences.inputs.len();
    losses.resize(losses.len().max(n), 0.0);
    network.set_time(sequences.time);
    network.losses(weights, sequences.batch(), &mut losses[..n]);
    let sum = |losses: &[f32]| losses.iter().map(|&loss| f64::from(loss)).sum::<f64>();
    sequences.spans.iter().map(|span| -sum(&losses[span.clone()])).collect()
}

/// The log-probabilities of all rows by the model as it is now: what it is compared with later.
pub(super) fn reference(
    network: &mut Network,
    weights: &[f32],
    lesson: &Lesson,
    losses: &mut Vec<f32>,
) -> Vec<f64> {
    let at_once = 2 * lesson.deal.batch;
    let rows: Vec<&Example> = lesson.train.rows().iter().chain(lesson.held_out.rows()).collect();
    let chunks = rows.chunks(at_once.max(1));
    chunks
        .flat_map(|rows| {
            let sequences = lay(rows, lesson.deal.pack, network.longest());
            log_probabilities(network, weights, &sequences, losses)
        })
        .collect()
}

/// Measures pairs, and says in `sequences` what each token's gradient counts for. `rows` are two a
/// pair, `now` and `before` their log-probabilities.
pub(super) fn weigh(
    preference: Preference,
    rows: &[&Example],
    (now, before): (&[f64], &[f64]),
    sequences: &mut Sequences,
) -> Measured {
    let Preference { loss, options } = preference;
    let n_pair = rows.len() / 2;
    let answer =
        |i: usize| Answer { model: now[i], reference: before[i], tokens: rows[i].n_learnt() };
    sequences.weights.clear();
    sequences.weights.resize(sequences.inputs.len(), 0.0);
    let (mut sum, mut tokens) = (Measured::default(), 0);
    for pair in 0..n_pair {
        let (chosen, rejected) = (answer(2 * pair), answer(2 * pair + 1));
        let slope: Slope = loss.of(options, chosen, rejected);
        let reward = |answer: Answer| options.beta * (answer.model - answer.reference);
        let margin = reward(chosen) - reward(rejected);
        sum.loss += slope.loss / n_pair as f64;
        sum.margin += margin / n_pair as f64;
        sum.accuracy += if margin > 0.0 { 1.0 / n_pair as f64 } else { 0.0 };
        sum.kl += chosen.model - chosen.reference;
        tokens += chosen.tokens;
        for (i, slope) in [(2 * pair, slope.chosen), (2 * pair + 1, slope.rejected)] {
            // Cross-entropy is the negative log-probability.
            let weight = (-slope / n_pair as f64) as f32;
            sequences.weights[sequences.spans[i].clone()].fill(weight);
        }
    }
    sum.kl /= tokens.max(1) as f64;
    sum
}
