//! One dial: from the time to the model, and to the tokens that it learns from.

use super::keys::{MINUTES, TOKENS, setting};
use super::resolve::Resolver;
use super::{Data, ModelShape, Speed, ladder};
use crate::Error;
use crate::plan::{Flops, Parameters, amount};

/// Tokens a parameter at which a given amount of arithmetic gives the best model (arXiv 2203.15556).
pub const TOKENS_PER_PARAMETER: f64 = 20.0;

/// Readings of the same text that teach almost as much as new text does (arXiv 2305.16264).
pub const MOST_EPOCHS: f64 = 4.0;

/// Tokens a parameter that a model is given at least where there is more time than text. With four
/// readings that is 0.8 parameters a token of the text, 16 times those that suit it when it is read
/// once; the worth of such parameters falls with a constant of 5.3 times (arXiv 2305.16264), so
/// that more would hardly add anything.
const LEAST_PER_PARAMETER: f64 = 5.0;

/// Share of a run's time that goes into steps; the rest evaluates, saves and writes samples.
pub(super) const STEP_SHARE: f64 = 0.96;

impl Resolver<'_> {
    /// The model, and the length of its sequences.
    pub(super) fn model(&mut self, data: &Data) -> Result<(ModelShape, usize), Error> {
        let given = |key: &str| {
            self.draft.value(key).and_then(|(value, _)| value.as_integer()).map(|n| n as usize)
        };
        let (width, reason) = if let Some(width) = given("model.d_model") {
            (width, String::new())
        } else if let Some(n_layer) = given("model.n_layer") {
            (ladder::d_model(n_layer), "the width that goes with this depth".to_string())
        } else {
            self.dial(data)?
        };
        // A width that is derived is one that the given heads divide.
        let width = match given("model.n_head") {
            Some(n_head) if given("model.head_dim").is_none() && !reason.is_empty() => {
                width.next_multiple_of(2 * n_head)
            }
            _ => width,
        };
        Ok(self.shape(width, &reason, data))
    }

    /// The shape of a width, and the length of its sequences.
    fn shape(&mut self, width: usize, reason: &str, data: &Data) -> (ModelShape, usize) {
        let d_model = self.count("model.d_model", || (width, reason.to_string()));
        let n_layer = self.count("model.n_layer", || {
            (ladder::n_layer(d_model), "the depth that goes with this width".into())
        });
        let head_given = self.draft.value("model.head_dim").and_then(|(v, _)| v.as_integer());
        let n_head = self.count("model.n_head", || {
            let size = head_given.map_or_else(|| ladder::head_dim(d_model), |size| size as usize);
            ((d_model / size).max(1), format!("heads of {size}"))
        });
        let head_dim = self.count("model.head_dim", || {
            (d_model / n_head, "the width, divided among the heads".into())
        });
        let n_kv_head = self.count("model.n_kv_head", || {
            (n_head, "as many as query heads: a small model's cache is small".into())
        });
        let d_ff = self.count("model.d_ff", || {
            (ladder::d_ff(d_model), "8/3 of the width, in vectors of 16".into())
        });
        let vocab_size = self.vocab_size(d_model, data);
        let context = self.context(d_model, vocab_size);
        let model = ModelShape {
            n_layer,
            n_head,
            n_kv_head,
            head_dim,
            d_model,
            d_ff,
            vocab_size,
            tied_head: self.flag(
                "model.tied_head",
                true,
                "a second table costs more than it gives",
            ),
            qk_norm: self.flag("model.qk_norm", true, "keeps scores bounded at high rates (Qwen3)"),
            rope_base: self.real("model.rope_base", || match context {
                ..=4096 => (1e4, "the original one, for contexts up to 4,096".into()),
                _ => (1e6, "for long contexts (Qwen3)".into()),
            }),
            norm_eps: self.real("model.norm_eps", || (1e-6, "Qwen3's".into())),
        };
        (model, context)
    }

    fn vocab_size(&mut self, d_model: usize, data: &Data) -> usize {
        let text = self.facts.text.clone();
        self.count("model.vocab_size", || {
            if let Some(size) = text.as_ref().and_then(|text| text.vocab_size) {
                return (size, "the tokenizer's ids".into());
            }
            if data.tokenizer == "char" {
                return (128, "as in ASCII, until the text's characters are counted".into());
            }
            let wanted = ladder::vocab_size(d_model);
            let most = text.map_or(usize::MAX, |text| ladder::largest_vocabulary(text.bytes));
            if most < wanted {
                return (most, "what a text of this size can teach, 256 bytes an id".into());
            }
            (wanted, "16 a unit of width, as a power of two".into())
        })
    }

    fn context(&mut self, d_model: usize, vocab_size: usize) -> usize {
        let text = self.facts.text.clone();
        self.count("train.context", || {
            let wanted = ladder::context(d_model);
            let tokens = text.map_or(u64::MAX, |text| text.likely_tokens(vocab_size));
            // Some sequences at least, and one of them whole.
            let most = usize::try_from(tokens / 16).unwrap_or(usize::MAX).max(2);
            if most < wanted {
                let whole = 1 << most.ilog2();
                return (whole, "the text is short: 16 sequences at least".into());
            }
            (wanted, "goes with this width".into())
        })
    }

    /// The width for the time or the tokens that were given.
    fn dial(&mut self, data: &Data) -> Result<(usize, String), Error> {
        let (budget, in_words) = match self.draft.length() {
            Some((MINUTES, minutes)) => {
                let speed = self.speed()?;
                let flops = step_seconds(minutes, &speed) * speed.flops_per_s;
                let per_second = amount::prefixed(speed.flops_per_s, "FLOP/s");
                (Budget::Flops(flops), format!("{minutes} min at {per_second}"))
            }
            Some((TOKENS, tokens)) => {
                (Budget::Tokens(tokens), format!("{} tokens", amount::shown(tokens)))
            }
            _ => return Ok((128, "a small model, where no time is given".to_string())),
        };
        let mut best = (f64::INFINITY, ladder::WIDTHS[0], String::new());
        for width in ladder::WIDTHS {
            let (model, context) = self.shape(width, "", data);
            let parameters = Parameters::of(&model).total() as f64;
            let in_time = match budget {
                Budget::Flops(flops) => flops / Flops::of(&model, context).training(),
                Budget::Tokens(tokens) => tokens,
            };
            let text = self.facts.text.as_ref();
            let in_text = text.map_or(f64::INFINITY, |text| {
                MOST_EPOCHS * text.likely_tokens(model.vocab_size) as f64
            });
            let per_parameter = in_time.min(in_text) / parameters;
            let ratio = amount::figures(per_parameter, 2);
            // The widths that are left are larger ones: more time than text buys a larger model.
            let is_spare = matches!(budget, Budget::Flops(_)) && in_text < in_time;
            if is_spare && per_parameter >= LEAST_PER_PARAMETER {
                let reason = format!(
                    "{MOST_EPOCHS} readings of the text, {ratio} tokens a parameter: there is time \
                     for more than 20 would give"
                );
                // A larger one that the time cuts short must be nearer to 20 than any so far.
                let distance = (per_parameter / TOKENS_PER_PARAMETER).ln().abs();
                best = (best.0.min(distance), width, reason);
                continue;
            }
            let distance = (per_parameter / TOKENS_PER_PARAMETER).ln().abs();
            if distance < best.0 {
                let bound = match in_text < in_time {
                    true => format!("{MOST_EPOCHS} readings of the text"),
                    false => in_words.clone(),
                };
                let reason = format!("{bound}: {ratio} tokens a parameter, where 20 are best");
                best = (distance, width, reason);
            }
        }
        Ok((best.1, best.2))
    }

    pub(super) fn speed(&self) -> Result<Speed, Error> {
        self.facts.speed.clone().ok_or_else(|| {
            let problem = "a time says nothing before the machine's speed is measured";
            setting(MINUTES, format!("{problem}; give train.steps or train.tokens"))
        })
    }

    /// The run's tokens as far as they are given or follow from what is.
    pub(super) fn tokens(
        &self,
        model: &ModelShape,
        context: usize,
    ) -> Result<(f64, String), Error> {
        let text = self.facts.text.as_ref();
        let in_text = text.map(|text| MOST_EPOCHS * text.likely_tokens(model.vocab_size) as f64);
        let readings = format!("{MOST_EPOCHS} readings of the text; more teach little");
        match self.draft.length() {
            Some((TOKENS, tokens)) => Ok((tokens, format!("{} tokens", amount::shown(tokens)))),
            Some((MINUTES, minutes)) => {
                let speed = self.speed()?;
                let per_second = speed.flops_per_s / Flops::of(model, context).training();
                let held_out = text.and_then(|text| text.held_out_tokens).unwrap_or(0);
                let last_evaluation = held_out as f64 / 3.0 / per_second;
                let seconds = (step_seconds(minutes, &speed) - last_evaluation).max(0.0);
                let tokens = seconds * per_second;
                if let Some(in_text) = in_text.filter(|in_text| *in_text < tokens) {
                    return Ok((in_text, format!("{readings}; {minutes} min are not needed")));
                }
                let rate = amount::figures(per_second, 3);
                Ok((tokens, format!("{minutes} min at {rate} tokens/s ({})", speed.source)))
            }
            _ => {
                let best = TOKENS_PER_PARAMETER * Parameters::of(model).total() as f64;
                Ok(match in_text.filter(|in_text| *in_text < best) {
                    Some(in_text) => (in_text, readings),
                    None => (best, format!("{TOKENS_PER_PARAMETER} tokens a parameter")),
                })
            }
        }
    }
}

/// What a run may spend.
#[derive(Clone, Copy)]
enum Budget {
    /// Model FLOPs.
    Flops(f64),
    /// Tokens that are learnt from.
    Tokens(f64),
}

/// Seconds of a run of so many minutes that steps may take.
fn step_seconds(minutes: f64, speed: &Speed) -> f64 {
    (minutes * 60.0 - speed.startup_seconds).max(0.0) * STEP_SHARE
}
