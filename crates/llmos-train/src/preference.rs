//! Losses of a pair of answers, a better and a worse one: from the log-probabilities of both, by the
//! model and by a reference, to a number and its slopes.
//!
//! Names and scales are TRL's (1.16). Where a loss has a paper, its entry says which. Single answers
//! that were liked or not have losses of their own, [`TagLoss`].

mod tagged;

pub use tagged::{TagLoss, TagSlope};

/// A loss of pairs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// DPO (arXiv:2305.18290).
    Sigmoid,
    /// SLiC (arXiv:2305.10425).
    Hinge,
    /// IPO (arXiv:2310.12036), over the mean of an answer's tokens.
    Ipo,
    /// DPO with labels of which some are wrong (arXiv:2403.00409).
    Robust,
    /// A binary classifier's (arXiv:2404.04656), without the shift.
    BcoPair,
    /// NCA (arXiv:2402.05369).
    NcaPair,
    /// SPPO with sure labels (arXiv:2405.00675).
    SppoHard,
    /// APO for answers better than the model's own (arXiv:2408.06266).
    ApoZero,
    /// APO for answers worse than the model's own.
    ApoDown,
    /// DPO over the mean of an answer's tokens.
    SigmoidNorm,
    /// What a search for losses found (arXiv:2406.08414).
    Discopop,
    /// Without a reference: odds (arXiv:2403.07691).
    Orpo,
    /// Without a reference: means with a margin (arXiv:2405.14734).
    Simpo,
    /// Without a reference: sums (arXiv:2401.08417).
    Cpo,
}

/// What a loss is adjusted by.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Options {
    /// How far the model may go from its reference: small is far.
    pub beta: f64,
    /// Share of labels that are taken to be wrong.
    pub label_smoothing: f64,
    /// What answers count for that were liked, and that were not.
    pub weights: [f64; 2],
}

/// What answers are judged by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Judgement {
    /// Pairs of a better and a worse one.
    Pairs(Loss),
    /// Single ones that were liked or not.
    Tags(TagLoss),
    /// Pairs, by a model that gives each answer a score (Bradley and Terry, 1952).
    Scores,
}

impl Judgement {
    /// The judgement of that name.
    pub fn from_name(name: &str) -> Option<Judgement> {
        let tags = || TagLoss::from_name(name).map(Judgement::Tags);
        Loss::from_name(name).map(Judgement::Pairs).or_else(tags)
    }

    /// All names.
    pub fn names() -> Vec<&'static str> {
        let tags = TagLoss::ALL.map(TagLoss::name);
        Loss::ALL.map(Loss::name).into_iter().chain(tags).collect()
    }

    /// Whether it compares the model with a reference.
    pub fn has_reference(self) -> bool {
        match self {
            Judgement::Pairs(loss) => loss.has_reference(),
            Judgement::Tags(_) => true,
            Judgement::Scores => false,
        }
    }

    /// Whether label smoothing changes it.
    pub fn is_smoothed(self) -> bool {
        matches!(self, Judgement::Pairs(Loss::Robust | Loss::Simpo | Loss::Cpo))
    }
}

/// An answer's log-probability and length.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Answer {
    /// Nats, the sum over its tokens, by the model.
    pub model: f64,
    /// The same by the reference; not looked at by losses that have none.
    pub reference: f64,
    /// Its tokens.
    pub tokens: usize,
}

/// A loss and how it changes with the model's log-probabilities.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Slope {
    /// The loss.
    pub loss: f64,
    /// By that of the better answer.
    pub chosen: f64,
    /// By that of the worse one.
    pub rejected: f64,
}

/// Temperature of [`Loss::Discopop`]'s mixture, and margin of [`Loss::Simpo`]: TRL's defaults.
const TAU: f64 = 0.05;
const MARGIN: f64 = 0.5;

impl Loss {
    /// All losses.
    pub const ALL: [Loss; 14] = [
        Loss::Sigmoid,
        Loss::Hinge,
        Loss::Ipo,
        Loss::Robust,
        Loss::BcoPair,
        Loss::NcaPair,
        Loss::SppoHard,
        Loss::ApoZero,
        Loss::ApoDown,
        Loss::SigmoidNorm,
        Loss::Discopop,
        Loss::Orpo,
        Loss::Simpo,
        Loss::Cpo,
    ];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Loss::Sigmoid => "sigmoid",
            Loss::Hinge => "hinge",
            Loss::Ipo => "ipo",
            Loss::Robust => "robust",
            Loss::BcoPair => "bco_pair",
            Loss::NcaPair => "nca_pair",
            Loss::SppoHard => "sppo_hard",
            Loss::ApoZero => "apo_zero",
            Loss::ApoDown => "apo_down",
            Loss::SigmoidNorm => "sigmoid_norm",
            Loss::Discopop => "discopop",
            Loss::Orpo => "orpo",
            Loss::Simpo => "simpo",
            Loss::Cpo => "cpo",
        }
    }

    /// The loss of that name; `dpo` is [`Loss::Sigmoid`].
    pub fn from_name(name: &str) -> Option<Loss> {
        let name = if name == "dpo" { "sigmoid" } else { name };
        Loss::ALL.into_iter().find(|loss| loss.name() == name)
    }

    /// Whether it compares the model with a reference.
    pub fn has_reference(self) -> bool {
        !matches!(self, Loss::Orpo | Loss::Simpo | Loss::Cpo)
    }

    /// The loss of a pair and its slopes.
    pub fn of(self, options: Options, chosen: Answer, rejected: Answer) -> Slope {
        let Options { beta, label_smoothing: smoothing, .. } = options;
        // How much likelier than by the reference, in nats.
        let (c, r) = (chosen.model - chosen.reference, rejected.model - rejected.reference);
        let (n_c, n_r) = (chosen.tokens.max(1) as f64, rejected.tokens.max(1) as f64);
        let mean = c / n_c - r / n_r;
        /// A loss of one difference `x`, whose slopes by the two log-probabilities are `by`.
        fn of_difference(loss: f64, slope: f64, by: (f64, f64)) -> Slope {
            Slope { loss, chosen: slope * by.0, rejected: slope * by.1 }
        }
        match self {
            Loss::Sigmoid => {
                let x = beta * (c - r);
                of_difference(-log_sigmoid(x), -sigmoid(-x), (beta, -beta))
            }
            Loss::Hinge => {
                let x = beta * (c - r);
                let slope = if x < 1.0 { -1.0 } else { 0.0 };
                of_difference((1.0 - x).max(0.0), slope, (beta, -beta))
            }
            Loss::Ipo => {
                let off = mean - 1.0 / (2.0 * beta);
                of_difference(off * off, 2.0 * off, (1.0 / n_c, -1.0 / n_r))
            }
            Loss::Robust => {
                let x = beta * (c - r);
                let scale = 1.0 / (1.0 - 2.0 * smoothing);
                let loss = -(1.0 - smoothing) * log_sigmoid(x) + smoothing * log_sigmoid(-x);
                let slope = -(1.0 - smoothing) * sigmoid(-x) - smoothing * sigmoid(x);
                of_difference(scale * loss, scale * slope, (beta, -beta))
            }
            Loss::BcoPair => Slope {
                loss: -log_sigmoid(beta * c) - log_sigmoid(-beta * r),
                chosen: -beta * sigmoid(-beta * c),
                rejected: beta * sigmoid(beta * r),
            },
            Loss::NcaPair => Slope {
                loss: -log_sigmoid(beta * c)
                    - 0.5 * log_sigmoid(-beta * c)
                    - 0.5 * log_sigmoid(-beta * r),
                chosen: beta * (0.5 * sigmoid(beta * c) - sigmoid(-beta * c)),
                rejected: 0.5 * beta * sigmoid(beta * r),
            },
            Loss::SppoHard => {
                let (over, under) = (c - 0.5 / beta, r + 0.5 / beta);
                Slope {
                    loss: over * over + under * under,
                    chosen: 2.0 * over,
                    rejected: 2.0 * under,
                }
            }
            Loss::ApoZero => Slope {
                loss: 1.0 - sigmoid(beta * c) + sigmoid(beta * r),
                chosen: -beta * bell(beta * c),
                rejected: beta * bell(beta * r),
            },
            Loss::ApoDown => {
                let x = beta * (c - r);
                Slope {
                    loss: sigmoid(beta * c) + 1.0 - sigmoid(x),
                    chosen: beta * (bell(beta * c) - bell(x)),
                    rejected: beta * bell(x),
                }
            }
            Loss::SigmoidNorm => {
                let x = beta * mean;
                of_difference(-log_sigmoid(x), -sigmoid(-x), (beta / n_c, -beta / n_r))
            }
            Loss::Discopop => {
                let x = beta * (c - r);
                let (share, power) = (sigmoid(x / TAU), (-x).exp());
                let logistic = -log_sigmoid(x);
                let slope = -sigmoid(-x) * (1.0 - share) - power * share
                    + bell(x / TAU) / TAU * (power - logistic);
                of_difference(logistic * (1.0 - share) + power * share, slope, (beta, -beta))
            }
            Loss::Orpo => {
                // The logarithm of the odds of a probability whose logarithm is `mean`.
                let odds = |mean: f64| mean - (-mean.exp()).ln_1p();
                let slope_of_odds = |mean: f64| 1.0 / (1.0 - mean.exp());
                let (c, r) = (below_zero(chosen.model / n_c), below_zero(rejected.model / n_r));
                let x = odds(c) - odds(r);
                let slope = -beta * sigmoid(-x);
                Slope {
                    loss: -beta * log_sigmoid(x) - c,
                    chosen: slope * slope_of_odds(c) / n_c - 1.0 / n_c,
                    rejected: -slope * slope_of_odds(r) / n_r,
                }
            }
            Loss::Simpo => {
                let x = beta * (chosen.model / n_c - rejected.model / n_r) - MARGIN;
                smoothed(x, smoothing, (beta / n_c, -beta / n_r))
            }
            Loss::Cpo => {
                let x = beta * (chosen.model - rejected.model);
                let of = smoothed(x, smoothing, (beta, -beta));
                Slope { loss: of.loss - chosen.model / n_c, chosen: of.chosen - 1.0 / n_c, ..of }
            }
        }
    }
}

/// The loss of a pair of scores: that the better answer has the higher one is as likely as the
/// logistic function of their difference (Bradley and Terry, 1952).
pub(crate) fn pair_of_scores(chosen: f64, rejected: f64) -> Slope {
    let x = chosen - rejected;
    Slope { loss: -log_sigmoid(x), chosen: -sigmoid(-x), rejected: sigmoid(-x) }
}

/// The logistic loss of `x` where a share of the labels is wrong.
fn smoothed(x: f64, smoothing: f64, by: (f64, f64)) -> Slope {
    let loss = -(1.0 - smoothing) * log_sigmoid(x) - smoothing * log_sigmoid(-x);
    let slope = -(1.0 - smoothing) * sigmoid(-x) + smoothing * sigmoid(x);
    Slope { loss, chosen: slope * by.0, rejected: slope * by.1 }
}

/// A mean log-probability that is not quite zero, whose odds would have no end.
fn below_zero(mean: f64) -> f64 {
    mean.min(-1e-9)
}

fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

/// Without overflow on either side.
fn log_sigmoid(x: f64) -> f64 {
    x.min(0.0) - (-x.abs()).exp().ln_1p()
}

/// The slope of [`sigmoid`].
fn bell(x: f64) -> f64 {
    sigmoid(x) * sigmoid(-x)
}

#[cfg(test)]
mod tests {
    use super::*;

    const OPTIONS: Options = Options { beta: 0.1, label_smoothing: 0.0, weights: [1.0; 2] };

    fn pairs() -> [(Answer, Answer); 2] {
        let answer = |model, reference, tokens| Answer { model, reference, tokens };
        [
            (answer(-19.205712, -18.603226, 3), answer(-37.512863, -35.456529, 5)),
            (answer(-31.706957, -31.970499, 5), answer(-18.648926, -17.963652, 3)),
        ]
    }

    /// Means over two pairs that TRL 1.16.0 gave.
    #[test]
    fn losses_are_those_of_trl() {
        for (name, expected) in [
            ("dpo", 0.634963),
            ("hinge", 0.879866),
            ("ipo", 22.603792),
            ("robust", 0.619946),
            ("bco_pair", 1.329429),
            ("nca_pair", 1.358132),
            ("sppo_hard", 40.551926),
            ("apo_zero", 0.970058),
            ("apo_down", 0.965773),
            ("sigmoid_norm", 0.680935),
            ("discopop", 0.863709),
        ] {
            let loss = Loss::from_name(name).unwrap();
            let options = match loss {
                Loss::Robust => Options { label_smoothing: 0.1, ..OPTIONS },
                _ => OPTIONS,
            };
            let sum: f64 = pairs().iter().map(|&(c, r)| loss.of(options, c, r).loss).sum();
            assert!((sum / 2.0 - expected).abs() < 1e-4, "{name}: {} is not {expected}", sum / 2.0);
        }
    }

    #[test]
    fn slopes_are_finite_differences() {
        let options = Options { beta: 0.3, label_smoothing: 0.1, ..OPTIONS };
        for loss in Loss::ALL {
            for (c, r) in pairs() {
                let step = 1e-5;
                let at = |d_c: f64, d_r: f64| {
                    let c = Answer { model: c.model + d_c, ..c };
                    let r = Answer { model: r.model + d_r, ..r };
                    loss.of(options, c, r).loss
                };
                let slope = loss.of(options, c, r);
                let chosen = (at(step, 0.0) - at(-step, 0.0)) / (2.0 * step);
                let rejected = (at(0.0, step) - at(0.0, -step)) / (2.0 * step);
                let near = |a: f64, b: f64| (a - b).abs() < 1e-6 * (1.0 + b.abs());
                assert!(near(slope.chosen, chosen), "{}: {slope:?}, not {chosen}", loss.name());
                assert!(
                    near(slope.rejected, rejected),
                    "{}: {slope:?}, not {rejected}",
                    loss.name()
                );
            }
        }
    }

    #[test]
    fn far_away_nothing_overflows() {
        let answer = |model: f64| Answer { model, reference: -1.0, tokens: 3 };
        for loss in Loss::ALL.into_iter().filter(|loss| *loss != Loss::Discopop) {
            for (c, r) in [(-1e4, -1.0), (-1.0, -1e4), (-1e-300, -1e-300)] {
                let slope = loss.of(OPTIONS, answer(c), answer(r));
                let all = [slope.loss, slope.chosen, slope.rejected];
                assert!(all.iter().all(|x| x.is_finite()), "{}: {slope:?}", loss.name());
            }
        }
    }
}
