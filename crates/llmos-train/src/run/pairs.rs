//! Learning from judgements of answers: how likely answers are, by the model and by what it is
//! compared with, or how it scores them, and what each token's gradient counts for.

use super::material::{Lesson, Preference};
use crate::conversations::{Example, Examples, Sequences, lay};
use crate::model::Network;
use crate::preference::{Answer, Judgement, TagLoss, pair_of_scores};

/// What was measured of some answers.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Measured {
    pub(super) loss: f64,
    /// How much more better answers gained beside the reference than worse ones, times beta; of
    /// scores, how much higher they are. None where there were only better ones, or only worse ones.
    pub(super) margin: Option<f64>,
    /// Share of pairs with a margin above zero; of answers with tags, share of those that moved the
    /// right way. What rounding alone may have moved has not.
    pub(super) accuracy: f64,
    /// Nats a token by which the log-probabilities of better answers have moved from the reference;
    /// of tags, those of answers to other questions.
    pub(super) kl: Option<f64>,
}

/// What was measured, and how its loss changes with each row's value.
pub(super) struct Judged {
    pub(super) measured: Measured,
    /// (rows)
    pub(super) slopes: Vec<f64>,
}

impl Preference {
    /// Whether the model gives a score instead of the next token.
    pub(super) fn is_scalar(self) -> bool {
        self.judgement == Judgement::Scores
    }
}

/// The value of each row that was laid: the log-probability of what is learnt of it in nats, or its
/// score at its last token.
pub(super) fn values(
    network: &mut Network,
    weights: &[f32],
    sequences: &Sequences,
    is_scalar: bool,
    numbers: &mut Vec<f32>,
) -> Vec<f64> {
    let n = sequences.inputs.len();
    numbers.resize(numbers.len().max(n), 0.0);
    let numbers = &mut numbers[..n];
    network.set_time(sequences.time);
    if is_scalar {
        network.scores(weights, sequences.batch(), numbers);
        return sequences.spans.iter().map(|span| f64::from(numbers[span.end - 1])).collect();
    }
    network.losses(weights, sequences.batch(), numbers);
    let sum = |losses: &[f32]| losses.iter().map(|&loss| f64::from(loss)).sum::<f64>();
    sequences.spans.iter().map(|span| -sum(&numbers[span.clone()])).collect()
}

/// The values of rows, some at a time.
pub(super) fn values_of(
    network: &mut Network,
    weights: &[f32],
    lesson: &Lesson,
    rows: &[&Example],
    numbers: &mut Vec<f32>,
) -> Vec<f64> {
    let at_once = (2 * lesson.deal.batch).max(1);
    let is_scalar = lesson.preference.is_some_and(Preference::is_scalar);
    let chunks = rows.chunks(at_once);
    chunks
        .flat_map(|rows| {
            let sequences = lay(rows, lesson.deal.pack, network.longest());
            values(network, weights, &sequences, is_scalar, numbers)
        })
        .collect()
}

/// Judges rows of `examples`, two that go together side by side: `now` and `before` are their values
/// by the model and by the reference, (rows) both.
pub(super) fn judge(
    preference: Preference,
    examples: &Examples,
    places: &[usize],
    now: &[f64],
    before: &[f64],
) -> Judged {
    let answer = |i: usize| Answer {
        model: now[i],
        reference: before.get(i).copied().unwrap_or_default(),
        tokens: examples.rows()[places[i]].n_learnt(),
    };
    match preference.judgement {
        Judgement::Tags(loss) => {
            let liked = |i: usize| examples.liked(places[i]);
            tags(preference, loss, (0..places.len()).map(answer).collect(), liked)
        }
        _ => pairs(preference, (0..places.len()).map(answer).collect()),
    }
}

/// Nats a token that log-probabilities of the same numbers may differ by where their rows lie in
/// other sequences: 1e-6 was seen. Without this a run begins with some answers ahead of others.
const ROUNDING: f64 = 1e-5;

/// Better and worse answers in turn.
fn pairs(preference: Preference, answers: Vec<Answer>) -> Judged {
    let options = preference.options;
    let n_pair = answers.len() / 2;
    let mut measured = Measured::default();
    let (mut margins, mut moved, mut tokens) = (0.0, 0.0, 0);
    let mut slopes = Vec::with_capacity(answers.len());
    for pair in answers.chunks_exact(2) {
        let (chosen, rejected) = (pair[0], pair[1]);
        let (slope, margin, rounding) = match preference.judgement {
            Judgement::Pairs(loss) => {
                let reward = |answer: Answer| options.beta * (answer.model - answer.reference);
                let rounding = options.beta * ROUNDING * (chosen.tokens + rejected.tokens) as f64;
                (loss.of(options, chosen, rejected), reward(chosen) - reward(rejected), rounding)
            }
            _ => (pair_of_scores(chosen.model, rejected.model), chosen.model - rejected.model, 0.0),
        };
        measured.loss += slope.loss / n_pair as f64;
        measured.accuracy += if margin > rounding { 1.0 / n_pair as f64 } else { 0.0 };
        margins += margin / n_pair as f64;
        moved += chosen.model - chosen.reference;
        tokens += chosen.tokens;
        slopes.extend([slope.chosen / n_pair as f64, slope.rejected / n_pair as f64]);
    }
    measured.margin = (n_pair > 0).then_some(margins);
    measured.kl = (!preference.is_scalar()).then(|| moved / tokens.max(1) as f64);
    Judged { measured, slopes }
}

/// Answers with tags, each beside an answer to another question.
fn tags(
    preference: Preference,
    loss: TagLoss,
    answers: Vec<Answer>,
    liked: impl Fn(usize) -> bool,
) -> Judged {
    let options = preference.options;
    let n = (answers.len() / 2).max(1) as f64;
    let others = || answers.iter().skip(1).step_by(2);
    let moved: f64 = others().map(|other| other.model - other.reference).sum();
    let tokens: usize = others().map(|other| other.tokens).sum();
    let drift = (moved / n).max(0.0);
    let mut measured = Measured::default();
    let (mut rewards, mut counts) = ([0.0; 2], [0; 2]);
    let mut slopes = vec![0.0; answers.len()];
    for (i, &answer) in answers.iter().enumerate().step_by(2) {
        let is_liked = liked(i);
        let of = loss.of(options, answer, is_liked, drift);
        let gained = answer.model - answer.reference;
        let ahead = if is_liked { gained - drift } else { drift - gained };
        measured.loss += of.loss / n;
        measured.accuracy += if ahead > ROUNDING * answer.tokens as f64 { 1.0 / n } else { 0.0 };
        rewards[usize::from(is_liked)] += options.beta * gained;
        counts[usize::from(is_liked)] += 1;
        slopes[i] = of.slope / n;
    }
    let [disliked, liked] = [0, 1].map(|i| rewards[i] / f64::from(counts[i].max(1)));
    measured.margin = (counts[0] > 0 && counts[1] > 0).then_some(liked - disliked);
    measured.kl = Some(moved / tokens.max(1) as f64);
    Judged { measured, slopes }
}

/// What each token's gradient counts for, where a row's value has a slope: all tokens of a row have
/// that of its log-probability, of which cross-entropy is the negative; a score is that of the last
/// token.
pub(super) fn weigh(sequences: &mut Sequences, slopes: &[f64], is_scalar: bool) {
    sequences.weights.clear();
    sequences.weights.resize(sequences.inputs.len(), 0.0);
    for (span, &slope) in sequences.spans.iter().zip(slopes) {
        match is_scalar {
            true => sequences.weights[span.end - 1] = slope as f32,
            false => sequences.weights[span.clone()].fill(-slope as f32),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::preference::Options;

    /// A model that is still its reference has nothing ahead, whatever rounding says.
    #[test]
    fn rounding_puts_no_answer_ahead() {
        let options = Options { beta: 0.1, label_smoothing: 0.0, weights: [1.0; 2] };
        let answer = |gained: f64| Answer { model: gained - 40.0, reference: -40.0, tokens: 8 };
        let of = |judgement: Judgement, gains: [f64; 2]| {
            let (preference, gains) =
                (Preference { judgement, options }, gains.map(answer).to_vec());
            match judgement {
                Judgement::Tags(loss) => tags(preference, loss, gains, |_| true).measured.accuracy,
                _ => pairs(preference, gains).measured.accuracy,
            }
        };
        for name in ["sigmoid", "kto"] {
            let judgement = Judgement::from_name(name).unwrap();
            assert_eq!(of(judgement, [4e-6, -4e-6]), 0.0, "{name}");
            assert_eq!(of(judgement, [4e-3, -4e-3]), 1.0, "{name}");
        }
    }

    /// By hand, of KTO's equation 7 with two liked answers and one that was not.
    #[test]
    fn answers_with_tags_are_judged_beside_the_drift_of_others() {
        let options = Options { beta: 0.5, label_smoothing: 0.0, weights: [1.0, 2.0] };
        let preference = Preference { judgement: Judgement::Tags(TagLoss::Kto), options };
        let answer = |gained: f64| Answer { model: gained - 9.0, reference: -9.0, tokens: 4 };
        let gains = [1.0, 0.2, -1.0, 0.4, 0.5, 0.6].map(answer).to_vec();
        let judged = tags(preference, TagLoss::Kto, gains, |i| i != 2);
        let sigmoid = |x: f64| 1.0 / (1.0 + f64::exp(-x));
        let drift = 0.4;
        let expected = (1.0 - sigmoid(0.5 * (1.0 - drift)))
            + 2.0 * (1.0 - sigmoid(0.5 * (drift + 1.0)))
            + (1.0 - sigmoid(0.5 * (0.5 - drift)));
        let Measured { loss, margin, accuracy, kl } = judged.measured;
        assert!((loss - expected / 3.0).abs() < 1e-12);
        assert!((margin.unwrap() - (0.5 * 0.75 + 0.5)).abs() < 1e-12);
        assert!((accuracy - 1.0).abs() < 1e-12 && (kl.unwrap() - 0.1).abs() < 1e-12);
        assert!(judged.slopes[0] < 0.0 && judged.slopes[2] > 0.0 && judged.slopes[1] == 0.0);
        // Others that became less likely do not lower where gain begins.
        let gains = [1.0, -5.0].map(answer).to_vec();
        let loss = tags(preference, TagLoss::Kto, gains, |_| true).measured.loss;
        assert!((loss - (1.0 - sigmoid(0.5))).abs() < 1e-12);
    }
}
