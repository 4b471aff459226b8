//! What finetuning takes: tokens, memory and time, said before it begins.

use std::sync::Arc;
use std::time::Instant;

use llmos_tensor::Device;
use serde::Serialize;

use super::amount::bytes;
use super::memory::{Memory, PROGRAM};
use super::run::{Seconds, evaluated};
use crate::conversations::Examples;
use crate::model::{self, Network, Stored};
use crate::preference::Judgement;
use crate::recipe::Recipe;
use crate::run::{self, Lesson};
use crate::{Error, Rehearsal};

/// Steps that are measured, after one that finds cold caches.
const MEASURED: usize = 2;

/// A first step of so many seconds counts by itself.
const LONG: f64 = 5.0;

/// What a lesson will take.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct LessonPlan {
    /// Steps.
    pub steps: u64,
    /// Tokens of a step on average, padding left out.
    pub tokens_per_step: f64,
    /// Parameters of the model.
    pub parameters: u64,
    /// Parameters that learn.
    pub learnt: u64,
    /// Bytes in memory.
    pub memory: Memory,
}

impl LessonPlan {
    /// The plan of a recipe.
    ///
    /// # Errors
    /// The base is none that can be trained.
    pub fn of(recipe: &Recipe, lesson: &Lesson) -> Result<LessonPlan, Error> {
        let train = &recipe.train;
        let blueprint = run::blueprint(&lesson.base)?;
        let lora = lesson.lora.as_ref();
        let judgement = lesson.preference.map(|preference| preference.judgement);
        let is_scalar = judgement == Some(Judgement::Scores);
        let (parameters, learnt) = model::counts(&blueprint, is_scalar, lora);
        let frozen = match lora {
            None => 0,
            Some(_) if Stored::saves(&lesson.base) => lesson.base.file_bytes() + Stored::TILE_BYTES,
            Some(_) => 4 * parameters,
        };
        let rows = train.micro_batch();
        let mut activations = Network::buffer_bytes(&blueprint, rows, train.context, lora);
        let mut compared = 0;
        if let Some(reference) = &lesson.reference {
            let blueprint = run::blueprint(reference)?;
            compared = 4 * model::counts(&blueprint, false, None).0;
            activations += Network::buffer_bytes(&blueprint, rows, train.context, None);
        }
        let of_group = tokens(&lesson.train) as f64 / lesson.train.n_group().max(1) as f64;
        Ok(LessonPlan {
            steps: train.steps as u64,
            tokens_per_step: of_group * train.batch as f64,
            parameters,
            learnt,
            memory: Memory {
                weights: frozen + compared + 4 * learnt,
                gradients: 4 * learnt,
                optimizer: 8 * learnt,
                activations,
                program: PROGRAM,
            },
        })
    }

    /// Tokens of all steps.
    pub fn tokens(&self) -> f64 {
        self.tokens_per_step * self.steps as f64
    }

    /// Refuses what does not fit into `available` bytes of memory.
    ///
    /// # Errors
    /// [`Error::Setting`] of the key `memory`, with both numbers.
    pub fn check(&self, available: u64) -> Result<(), Error> {
        let needed = self.memory.total();
        if needed <= available {
            return Ok(());
        }
        let (needed, available) = (bytes(needed as f64), bytes(available as f64));
        let problem = format!("the run needs {needed}, {available} can be had");
        Err(Error::Setting { key: "memory".into(), problem })
    }

    /// Where the time goes, by doing a few steps on tokens without meaning.
    ///
    /// # Errors
    /// The base cannot be read.
    pub fn seconds(
        &self,
        recipe: &Recipe,
        lesson: &Lesson,
        device: &Arc<Device>,
    ) -> Result<Seconds, Error> {
        let clock = Instant::now();
        let mut rehearsal = Rehearsal::of_lesson(recipe, lesson, 1, device)?;
        // What reads the base here reads it again for the run.
        let startup = clock.elapsed().as_secs_f64();
        let mut best = rehearsal.step();
        if best.gradients + best.update < LONG {
            best.gradients = f64::INFINITY;
            best.update = f64::INFINITY;
            for _ in 0..MEASURED {
                let step = rehearsal.step();
                best.gradients = best.gradients.min(step.gradients);
                best.update = best.update.min(step.update);
            }
        }
        // Judged answers are read once more, to be measured, and beside each that has a tag another
        // one: a third of what forward and backward take.
        let judgement = lesson.preference.map(|preference| preference.judgement);
        let readings = match judgement {
            None => 1.0,
            Some(Judgement::Pairs(_) | Judgement::Scores) => 4.0 / 3.0,
            Some(Judgement::Tags(_)) => 5.0 / 3.0,
        };
        let per_token = best.gradients / recipe.train.context as f64;
        let held_out = tokens(&lesson.held_out);
        let is_compared = !matches!(judgement, None | Some(Judgement::Scores));
        let compared = if is_compared { tokens(&lesson.train) + held_out } else { 0 };
        let step = per_token * readings * self.tokens_per_step + best.update;
        Ok(Seconds {
            startup: startup + per_token / 3.0 * compared as f64,
            steps: step * self.steps as f64,
            evaluations: per_token / 3.0 * evaluated(recipe, held_out),
        })
    }
}

/// Tokens of the rows, padding left out.
fn tokens(examples: &Examples) -> u64 {
    examples.rows().iter().map(|row| row.ids.len() as u64).sum()
}
