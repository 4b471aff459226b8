//! Losses of single answers that were liked or not.

use super::{Answer, Options, bell, sigmoid};

/// A loss of an answer with a tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TagLoss {
    /// KTO (arXiv:2402.01306), equation 7: what the model has drifted at all, by answers to other
    /// questions, is where gain and loss begin.
    Kto,
    /// APO (arXiv:2408.06266) without pairs: they begin at the reference.
    ApoZeroUnpaired,
}

/// A loss and how it changes with the model's log-probability of the answer.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct TagSlope {
    /// The loss.
    pub loss: f64,
    /// By the log-probability.
    pub slope: f64,
}

impl TagLoss {
    /// All losses.
    pub const ALL: [TagLoss; 2] = [TagLoss::Kto, TagLoss::ApoZeroUnpaired];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            TagLoss::Kto => "kto",
            TagLoss::ApoZeroUnpaired => "apo_zero_unpaired",
        }
    }

    /// The loss of that name.
    pub fn from_name(name: &str) -> Option<TagLoss> {
        TagLoss::ALL.into_iter().find(|loss| loss.name() == name)
    }

    /// The loss of an answer. `drift` is how many nats answers to other questions gained beside the
    /// reference, in the mean over a batch and not below 0; it is taken as given.
    pub fn of(self, options: Options, answer: Answer, is_liked: bool, drift: f64) -> TagSlope {
        let drift = if self == TagLoss::Kto { drift } else { 0.0 };
        let x = options.beta * (answer.model - answer.reference - drift);
        let [liked, disliked] = options.weights;
        let (weight, sign) = if is_liked { (liked, 1.0) } else { (disliked, -1.0) };
        TagSlope {
            loss: weight * (1.0 - sigmoid(sign * x)),
            slope: -weight * sign * options.beta * bell(x),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OPTIONS: Options = Options { beta: 0.3, label_smoothing: 0.0, weights: [1.0, 1.5] };

    #[test]
    fn slopes_are_finite_differences_and_have_the_right_sign() {
        let answer = |model: f64| Answer { model, reference: -18.0, tokens: 3 };
        for loss in TagLoss::ALL {
            for is_liked in [true, false] {
                for model in [-25.0, -18.5, -16.0] {
                    let at = |model| loss.of(OPTIONS, answer(model), is_liked, 0.4).loss;
                    let expected = (at(model + 1e-5) - at(model - 1e-5)) / 2e-5;
                    let slope = loss.of(OPTIONS, answer(model), is_liked, 0.4).slope;
                    assert!((slope - expected).abs() < 1e-8, "{loss:?}: {slope} {expected}");
                    assert_eq!(slope < 0.0, is_liked);
                }
            }
        }
        let far = TagLoss::Kto.of(OPTIONS, answer(-1e5), true, 0.0);
        assert!(far.loss == 1.0 && far.slope.abs() < 1e-300, "{far:?}");
    }
}
