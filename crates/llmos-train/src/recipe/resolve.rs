//! Fills the gaps of a draft: one dial, the time, and everything else derived, with its reason.

use std::collections::BTreeMap;

use toml::Value;

use super::dial::STEP_SHARE;
use super::keys::{MINUTES, STEPS, setting};
use super::{Data, Draft, Dtype, Facts, ModelShape, Recipe, Train, check};
use crate::Error;
use crate::data::Order;
use crate::plan::{Flops, activations, amount};

/// Steps that a derived run has at least where its text suffices: fewer leave a schedule no room.
const ENOUGH_STEPS: f64 = 2000.0;

/// Tokens that a derived step has at least: fewer do not fill matrix products.
const LEAST_STEP: f64 = 1024.0;

/// Tokens of a step where nothing says how long the run is in tokens.
const PLAIN_STEP: f64 = 4096.0;

/// Steps that a time must hold, or the run is refused.
const LEAST_STEPS: f64 = 10.0;

/// Where values come from that [`Draft::fix`] keeps.
pub(super) const FIXED: &str = "derived from the time";

/// A recipe without gaps, and why each value is what it is.
#[derive(Clone, Debug, PartialEq)]
pub struct Resolved {
    /// The recipe.
    pub recipe: Recipe,
    reasons: BTreeMap<&'static str, String>,
}

impl Resolved {
    /// Why a key has its value: where it was given or what it was derived from.
    pub fn reason(&self, key: &str) -> &str {
        self.reasons.get(key).map_or("", String::as_str)
    }

    /// The same recipe, with the reasons that another one had for the values that both have.
    pub(crate) fn with_reasons_of(mut self, other: &Resolved) -> Resolved {
        for (key, reason) in &mut self.reasons {
            if let Some(first) = other.reasons.get(key).filter(|_| reason.ends_with(FIXED)) {
                first.clone_into(reason);
            }
        }
        self
    }

    /// Keys that were derived and their reasons, in alphabetical order.
    pub fn derived(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let all = self.reasons.iter().map(|(key, reason)| (*key, reason.as_str()));
        all.filter(|(_, reason)| !reason.starts_with("given"))
    }
}

impl Draft {
    /// The recipe that this draft stands for on this text and machine.
    ///
    /// Whatever is given is kept. From a time and the machine's speed follow a model that can be
    /// trained to about 20 tokens a parameter in it, or as far as four readings of the text reach,
    /// and the rest from the model.
    ///
    /// # Errors
    /// [`Error::Setting`] where what is given cannot be, with the nearest that can.
    pub fn resolve(&self, facts: &Facts) -> Result<Resolved, Error> {
        let mut resolver = Resolver { draft: self, facts, reasons: BTreeMap::new() };
        let data = resolver.data();
        let dtype = resolver.choice("train.dtype", Dtype::F32, "exact; bf16 has to be asked for");
        let (model, context) = resolver.model(&data)?;
        let train = resolver.train(&model, context, dtype)?;
        let optimizer = resolver.optimizer(&model, &train);
        let schedule = resolver.schedule(&train);
        let (eval_every, save_every) = resolver.intervals(&model, &train);
        let recipe = Recipe {
            save_every,
            eval_every,
            eval_tokens: resolver.eval_tokens(&train, eval_every),
            keep: resolver.count("keep", || (3, "enough to step back past a bad one".into())),
            model,
            train,
            optimizer,
            schedule,
            data,
        };
        check::check(&recipe, self, facts)?;
        Ok(Resolved { recipe, reasons: resolver.reasons })
    }
}

/// Values as they are settled, one after the other.
pub(super) struct Resolver<'a> {
    pub(super) draft: &'a Draft,
    pub(super) facts: &'a Facts,
    pub(super) reasons: BTreeMap<&'static str, String>,
}

impl Resolver<'_> {
    /// The given value, or the derived one; the reason is kept.
    fn value(&mut self, key: &'static str, derived: impl FnOnce() -> (Value, String)) -> Value {
        let given = self.draft.value(key).map(|(value, reason)| (value.clone(), reason));
        let (value, reason) = given.unwrap_or_else(derived);
        self.reasons.insert(key, reason);
        value
    }

    pub(super) fn count(
        &mut self,
        key: &'static str,
        derived: impl FnOnce() -> (usize, String),
    ) -> usize {
        let value = self.value(key, || {
            let (count, reason) = derived();
            (Value::Integer(count as i64), reason)
        });
        value.as_integer().map_or(0, |count| count as usize)
    }

    pub(super) fn real(
        &mut self,
        key: &'static str,
        derived: impl FnOnce() -> (f64, String),
    ) -> f64 {
        let value = self.value(key, || {
            let (number, reason) = derived();
            (Value::Float(number), reason)
        });
        value.as_float().unwrap_or(0.0)
    }

    pub(super) fn flag(&mut self, key: &'static str, derived: bool, reason: &str) -> bool {
        let value = self.value(key, || (Value::Boolean(derived), reason.to_string()));
        value.as_bool().unwrap_or(derived)
    }

    pub(super) fn choice<T: serde::de::DeserializeOwned>(
        &mut self,
        key: &'static str,
        derived: T,
        reason: &str,
    ) -> T {
        let Some((value, given)) = self.draft.value(key) else {
            self.reasons.insert(key, reason.to_string());
            return derived;
        };
        self.reasons.insert(key, given);
        // A draft holds names of the key's choice alone, which are those of its type.
        value.clone().try_into().unwrap_or(derived)
    }

    fn data(&mut self) -> Data {
        let path =
            self.value("data.path", || (Value::Array(Vec::new()), "given with --data".to_string()));
        let path = path.as_array().cloned().unwrap_or_default();
        let tokenizer = self.value("data.tokenizer", || {
            (Value::String("bpe".into()), "pieces of words, learnt from the text itself".into())
        });
        let held_out = self.real("data.held_out", || {
            (0.0, "0: by the text's size, a tenth of a short one, 1 % of many documents".into())
        });
        Data {
            path: path.iter().filter_map(|path| Some(path.as_str()?.to_string())).collect(),
            tokenizer: tokenizer.as_str().unwrap_or("bpe").to_string(),
            held_out,
            order: self.choice(
                "data.order",
                Order::Epochs,
                "each token once before any comes again",
            ),
        }
    }

    fn train(&mut self, model: &ModelShape, context: usize, dtype: Dtype) -> Result<Train, Error> {
        let length = self.draft.length();
        let (tokens, reason) = match length {
            Some((STEPS, _)) => (f64::NAN, String::new()),
            _ => self.tokens(model, context)?,
        };
        let batch = self.count("train.batch", || {
            let (step, reason) = if tokens.is_nan() {
                (PLAIN_STEP, "some 4,000 tokens a step".to_string())
            } else {
                step_tokens(tokens)
            };
            (((step / context as f64).round() as usize).max(1), reason)
        });
        let per_step = batch as f64 * context as f64;
        let steps = (tokens / per_step).round();
        if let Some((MINUTES, minutes)) = length
            && steps < LEAST_STEPS
            && reason.starts_with(&format!("{minutes} min"))
        {
            let speed = self.speed()?;
            let step = per_step * Flops::of(model, context).training() / speed.flops_per_s;
            let seconds = speed.startup_seconds + LEAST_STEPS * step / STEP_SHARE;
            let problem = format!(
                "a step of {per_step} tokens takes {}, and what comes before the first {}, so \
                 {minutes} min hold {steps} of them; the nearest that can be is {} min, or a smaller \
                 model",
                amount::duration(step),
                amount::duration(speed.startup_seconds),
                amount::figures((seconds / 6.0).ceil() / 10.0, 3),
            );
            return Err(setting(MINUTES, problem));
        }
        let steps = self.count(STEPS, || (steps.max(1.0) as usize, reason));
        let accumulation = self.accumulation(model, batch, context, dtype);
        Ok(Train {
            context,
            batch,
            accumulation,
            steps,
            seed: self.count("train.seed", || (1, "any; the same one gives the same run".into()))
                as u64,
            dtype,
            document_attention: self.flag(
                "train.document_attention",
                false,
                "a row's documents see each other, as in GPT-2",
            ),
        })
    }

    /// The fewest pieces whose activations fit into half of the memory.
    fn accumulation(
        &mut self,
        model: &ModelShape,
        batch: usize,
        context: usize,
        dtype: Dtype,
    ) -> usize {
        let memory = self.facts.memory_bytes;
        self.count("train.accumulation", || {
            let Some(memory) = memory else { return (1, "one piece".into()) };
            let fits = |pieces: &usize| {
                batch.is_multiple_of(*pieces)
                    && activations(model, batch / pieces, context, dtype) <= memory / 2
            };
            match (1..=batch).find(fits).unwrap_or(batch) {
                1 => (1, "one piece fits into memory".into()),
                pieces => (pieces, "so that activations take half of the memory at most".into()),
            }
        })
    }
}

/// Tokens in a step of a run of so many tokens.
fn step_tokens(tokens: f64) -> (f64, String) {
    // The exponent of arXiv 2505.13738, through nanochat's 2^19 tokens a step for 1.16e9.
    let best = 524_288.0 * (tokens / 1.16e9).powf(0.383);
    let enough = tokens / ENOUGH_STEPS;
    if best.min(enough) < LEAST_STEP {
        return (LEAST_STEP, "some 1,000 tokens: fewer do not fill products".into());
    }
    match enough < best {
        true => (enough, "small steps, so that there are some 2,000".into()),
        false => (best, "by the run's tokens (arXiv 2505.13738)".into()),
    }
}
