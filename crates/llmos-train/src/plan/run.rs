//! What a run of ours takes, from its recipe.

use serde::Serialize;

use super::amount::{bytes, duration, figures};
use super::flops::{Flops, RunFlops};
use super::law::{Law, Prediction};
use super::memory::{ActivationFormula, Disk, Memory, activations};
use super::parameters::Parameters;
use crate::Error;
use crate::recipe::{Facts, Recipe, Speed, Text};

/// Everything that can be said of a run before it starts.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RunPlan {
    /// Parameters by part.
    pub parameters: Parameters,
    /// Forward FLOPs of a token, by part.
    pub token_flops: Flops,
    /// FLOPs of the run.
    pub flops: RunFlops,
    /// Memory by purpose.
    pub memory: Memory,
    /// Disk by purpose.
    pub disk: Disk,
    /// Tokens that are learnt from, repeated ones included.
    pub tokens: u64,
    /// Tokens of the text, held-out ones aside, as far as that is known.
    pub text_tokens: Option<u64>,
    /// How often the text is read.
    pub epochs: Option<f64>,
    /// Bytes that are read, repeated ones included.
    pub text_bytes: Option<f64>,
    /// Where the time goes; none where the machine's speed is not known.
    pub seconds: Option<Seconds>,
    /// Bits per byte at the end; none as long as the law is not fitted, or knows nothing of the text or
    /// of a run that reads it so often.
    pub prediction: Option<Prediction>,
}

/// Where a run's time goes, in seconds. What checkpoints take is not counted: that depends
/// on the disk, which is not measured.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Seconds {
    /// Before the first step.
    pub startup: f64,
    /// Steps.
    pub steps: f64,
    /// Evaluations, the last one of all held-out text included.
    pub evaluations: f64,
}

/// How often something comes that comes every so many steps, the last one left out.
fn times(recipe: &Recipe, every: usize) -> usize {
    (recipe.train.steps - 1).checked_div(every).unwrap_or(0)
}

/// Tokens that evaluations read, where `all` are held out.
pub(super) fn evaluated(recipe: &Recipe, all: u64) -> f64 {
    let some = all.min(recipe.eval_tokens as u64) as f64;
    times(recipe, recipe.eval_every) as f64 * some + all as f64
}

impl Seconds {
    /// A recipe's.
    fn of(recipe: &Recipe, speed: &Speed, text: Option<&Text>) -> Seconds {
        let token = Flops::of(&recipe.model, recipe.train.context);
        let learnt = recipe.train.tokens() as f64;
        let last = text.and_then(|text| text.held_out_tokens).unwrap_or(recipe.eval_tokens as u64);
        Seconds {
            startup: speed.startup_seconds,
            steps: learnt * token.training() / speed.flops_per_s,
            evaluations: evaluated(recipe, last) * token.forward() / speed.flops_per_s,
        }
    }

    /// The whole process.
    pub fn total(&self) -> f64 {
        self.startup + self.steps + self.evaluations
    }
}

impl RunPlan {
    /// A recipe's plan on a text and a machine, with the planner's own formula for activations.
    pub fn of(recipe: &Recipe, facts: &Facts, law: Option<&Law>) -> RunPlan {
        RunPlan::with(recipe, facts, law, &activations)
    }

    /// The same with another formula for the memory of activations.
    pub fn with(
        recipe: &Recipe,
        facts: &Facts,
        law: Option<&Law>,
        formula: &ActivationFormula,
    ) -> RunPlan {
        let text = facts.text.as_ref();
        let parameters = Parameters::of(&recipe.model);
        let tokens = recipe.train.tokens();
        let text_tokens = text.map(|text| text.likely_tokens(recipe.model.vocab_size));
        let epochs = text_tokens.map(|text| tokens as f64 / text.max(1) as f64);
        let text_bytes = epochs.zip(text).map(|(epochs, text)| epochs * text.bytes as f64);
        let prediction = law.zip(text).and_then(|(law, text)| law.forecast(recipe, text));
        RunPlan {
            parameters,
            token_flops: Flops::of(&recipe.model, recipe.train.context),
            flops: RunFlops::of(recipe),
            memory: Memory::of(recipe, formula),
            disk: Disk::of(recipe, text_tokens),
            tokens,
            text_tokens,
            epochs,
            text_bytes,
            seconds: facts.speed.as_ref().map(|speed| Seconds::of(recipe, speed, text)),
            prediction,
        }
    }

    /// Refuses a run that this machine cannot do, with the nearest one that it can: too little
    /// memory, or more than `minutes` of time.
    ///
    /// # Errors
    /// [`Error::Setting`], with the numbers.
    pub fn check(&self, recipe: &Recipe, facts: &Facts, minutes: Option<f64>) -> Result<(), Error> {
        self.check_with(recipe, facts, minutes, &activations)
    }

    /// The same with another formula for the memory of activations.
    ///
    /// # Errors
    /// As [`RunPlan::check`].
    pub fn check_with(
        &self,
        recipe: &Recipe,
        facts: &Facts,
        minutes: Option<f64>,
        formula: &ActivationFormula,
    ) -> Result<(), Error> {
        if let Some(limit) = facts.memory_bytes.filter(|&limit| self.memory.total() > limit) {
            let problem = format!(
                "the run needs {}, {} can be had; the nearest that fits is {}",
                bytes(self.memory.total() as f64),
                bytes(limit as f64),
                nearest_in_memory(recipe, limit, formula)
            );
            return Err(Error::Setting { key: "memory".to_string(), problem });
        }
        if let (Some(seconds), Some(minutes)) = (self.seconds, minutes)
            && seconds.total() > minutes * 60.0 * TIME_TOLERANCE
        {
            // Evaluations become fewer with the steps.
            let left = (minutes * 60.0 - seconds.startup) / (seconds.total() - seconds.startup);
            let steps = (recipe.train.steps as f64 * left).floor();
            let longer = figures((seconds.total() / 6.0).ceil() / 10.0, 3);
            let nearest = match steps {
                1.0.. => format!("train.steps = {steps}, or {longer} minutes"),
                _ => format!("{longer} minutes"),
            };
            let problem = format!(
                "the run takes {}, {} are given; the nearest that fits is {nearest}",
                duration(seconds.total()),
                duration(minutes * 60.0),
            );
            return Err(Error::Setting { key: "minutes".to_string(), problem });
        }
        Ok(())
    }
}

/// A forecast of time is right to a tenth; nothing within that is refused.
const TIME_TOLERANCE: f64 = 1.1;

/// The change of a recipe that lets it fit: more pieces, then a shorter context, then a smaller
/// model.
fn nearest_in_memory(recipe: &Recipe, limit: u64, formula: &ActivationFormula) -> String {
    let mut smaller = recipe.clone();
    let fits = |recipe: &Recipe| Memory::of(recipe, formula).total() <= limit;
    let batch = recipe.train.batch;
    let divides = |pieces: &usize| batch.is_multiple_of(*pieces);
    for pieces in (recipe.train.accumulation..=batch).filter(divides) {
        smaller.train.accumulation = pieces;
        if fits(&smaller) {
            return format!("train.accumulation = {pieces}");
        }
    }
    while smaller.train.context >= 32 {
        smaller.train.context /= 2;
        if fits(&smaller) {
            let context = smaller.train.context;
            return format!("train.accumulation = {batch} with train.context = {context}");
        }
    }
    while smaller.model.n_layer > 1 {
        smaller.model.n_layer -= 1;
        if fits(&smaller) {
            return format!(
                "model.n_layer = {} with train.accumulation = {batch} and train.context = {}",
                smaller.model.n_layer, smaller.train.context
            );
        }
    }
    "a smaller width and vocabulary, such as --shape s".to_string()
}
