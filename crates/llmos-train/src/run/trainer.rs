//! What a run computes, without its folder: steps, and measurements between them.

use std::sync::Arc;
use std::time::Instant;

use llmos_tensor::Device;
use llmos_tensor::ops::train::{all_finite, sum_of_squares};

use super::dream;
use super::evaluate::{Evaluation, evaluate, evaluate_answers, evaluate_rows};
use super::guard::Guard;
use super::material::{self, Lesson, Material};
use super::pairs::{self, Judged, Measured};
use super::rows::Pieces;
use crate::Error;
use crate::conversations::{Example, Sequences, lay};
use crate::data::{self, BatchOptions, Batches, Dataset};
use crate::journal::Row;
use crate::model::{Batch, IGNORE, Network, Objective};
use crate::optimizer::{Optimizer, Rates};
use crate::preference::Judgement;
use crate::recipe::Recipe;

/// A model that is trained, in memory.
pub(crate) struct Trainer {
    pub(super) recipe: Recipe,
    device: Arc<Device>,
    source: Source,
    /// Whether the model gives a score instead of the next token.
    pub(super) is_scalar: bool,
    pub(super) network: Network,
    /// (parameters), as [`crate::model::Layout`] has them.
    pub(super) weights: Vec<f32>,
    /// (parameters)
    gradients: Vec<f32>,
    pub(super) optimizer: Optimizer,
    /// Steps done.
    pub(super) step: u64,
    /// Tokens learnt from, padding left out.
    pub(super) tokens: u64,
    /// Batches that were left out, sorted.
    pub(super) skipped: Vec<u64>,
    pub(super) guard: Guard,
    /// A batch whose loss is none.
    #[cfg(test)]
    pub(super) poison: Option<u64>,
}

/// Where batches come from.
enum Source {
    Text {
        batches: Batches,
        batch: data::Batch,
        pieces: Pieces,
    },
    Lesson {
        lesson: Arc<Lesson>,
        /// The step's rows, by their places, and how they lie.
        rows: Vec<usize>,
        sequences: Sequences,
        /// (rows): log-probabilities of judged answers by what the model is compared with, those of
        /// rows that are held out last; empty where it is compared with nothing.
        reference: Vec<f64>,
        /// (tokens of the largest batch that was measured)
        numbers: Vec<f32>,
    },
}

impl Source {
    fn new(recipe: &Recipe, material: &Material) -> Result<Source, Error> {
        let train = &recipe.train;
        let dataset = match material {
            Material::Text(dataset) => dataset,
            Material::Lesson(lesson) => {
                return Ok(Source::Lesson {
                    lesson: lesson.clone(),
                    rows: Vec::new(),
                    sequences: Sequences::default(),
                    reference: Vec::new(),
                    numbers: Vec::new(),
                });
            }
        };
        let batches = batches(recipe, dataset)?;
        let pieces = Pieces::new(train.batch, train.context, train.document_attention);
        Ok(Source::Text { batches, batch: data::Batch::default(), pieces })
    }

    /// Brings batch `number` together; gives its tokens without padding.
    fn fill(&mut self, recipe: &Recipe, number: u64) -> Result<u64, Error> {
        let train = &recipe.train;
        match self {
            Source::Text { batches, batch, pieces } => {
                batches.fill(number, batch)?;
                pieces.clear();
                let width = train.context + 1;
                for (ids, starts) in batch.tokens.chunks_exact(width).zip(&batch.starts) {
                    pieces.push(ids, starts, train.context);
                }
                Ok(train.tokens_per_step())
            }
            Source::Lesson { lesson, rows, sequences, .. } => {
                *rows = lesson.train.batch(lesson.deal, number);
                *sequences = lay(&lesson.rows(rows), lesson.deal.pack, train.context);
                Ok(sequences.tokens)
            }
        }
    }

    /// Of judged answers: measures them, and says what each token counts for.
    fn weigh(&mut self, network: &mut Network, weights: &[f32]) -> Option<Measured> {
        let Source::Lesson { lesson, rows, sequences, reference, numbers } = self else {
            return None;
        };
        let preference = lesson.preference?;
        let is_scalar = preference.is_scalar();
        let now = pairs::values(network, weights, sequences, is_scalar, numbers);
        let before: Vec<f64> = rows.iter().filter_map(|&row| reference.get(row)).copied().collect();
        let Judged { measured, mut slopes } =
            pairs::judge(preference, &lesson.train, rows, &now, &before);
        if let Judgement::Tags(_) = preference.judgement {
            // What lies beside answers is only measured.
            let answers: Vec<&Example> = lesson.rows(rows).into_iter().step_by(2).collect();
            *sequences = lay(&answers, lesson.deal.pack, network.longest());
            slopes = slopes.into_iter().step_by(2).collect();
        }
        pairs::weigh(sequences, &slopes, is_scalar);
        Some(measured)
    }

    /// Tokens of the rows that lie in sequences now.
    fn laid(&self) -> Option<u64> {
        match self {
            Source::Lesson { sequences, .. } => Some(sequences.tokens),
            Source::Text { .. } => None,
        }
    }

    /// What was brought together, and T.
    fn batch(&mut self) -> (Batch<'_>, usize) {
        match self {
            Source::Text { pieces, .. } => {
                let context = pieces.context();
                (pieces.batch_and_losses().0, context)
            }
            Source::Lesson { sequences, .. } => (sequences.batch(), sequences.time),
        }
    }
}

/// The batches of a recipe's run on a text.
///
/// # Errors
/// As [`Batches::new`].
pub(super) fn batches(recipe: &Recipe, dataset: &Arc<Dataset>) -> Result<Batches, Error> {
    let train = &recipe.train;
    let options = BatchOptions {
        context: train.context,
        batch: train.batch,
        seed: train.seed,
        order: recipe.data.order,
        documents: train.document_attention,
    };
    Batches::new(dataset.clone(), options)
}

/// The number of the batch that step `step`, from 0, draws: those that were left out are not
/// counted. `skipped` is sorted.
pub(super) fn batch_number(skipped: &[u64], step: u64) -> u64 {
    skipped.iter().fold(step, |number, &skipped| number + u64::from(skipped <= number))
}

impl Trainer {
    /// A trainer at the beginning of a run.
    ///
    /// # Errors
    /// As [`Batches::new`]; a base model's weights cannot be read.
    pub(crate) fn new(
        recipe: &Recipe,
        material: &Material,
        device: &Arc<Device>,
    ) -> Result<Trainer, Error> {
        let mut trainer = Trainer::blank(recipe, material, device)?;
        trainer.begin(material)?;
        Ok(trainer)
    }

    /// Makes everything that is needed in memory. The weights are those of no model yet.
    ///
    /// # Errors
    /// As [`Trainer::new`].
    pub(super) fn blank(
        recipe: &Recipe,
        material: &Material,
        device: &Arc<Device>,
    ) -> Result<Trainer, Error> {
        let rows = recipe.train.micro_batch();
        let network = material::network(recipe, material.lesson(), device, rows)?;
        let source = Source::new(recipe, material)?;
        Ok(Trainer {
            weights: vec![0.0; network.layout().len()],
            gradients: vec![0.0; network.layout().len()],
            optimizer: Optimizer::new(recipe.optimizer.name, network.layout()),
            network,
            is_scalar: material.is_scalar(),
            source,
            device: device.clone(),
            step: 0,
            tokens: 0,
            skipped: Vec::new(),
            guard: Guard::default(),
            #[cfg(test)]
            poison: None,
            recipe: recipe.clone(),
        })
    }

    /// Goes to the beginning.
    pub(super) fn begin(&mut self, material: &Material) -> Result<(), Error> {
        self.weights = material.initial(&self.recipe, &self.network)?;
        self.optimizer = Optimizer::new(self.recipe.optimizer.name, self.network.layout());
        (self.step, self.tokens, self.skipped, self.guard) = Default::default();
        Ok(())
    }

    /// Compares judged answers with these log-probabilities: (rows, then those held out).
    pub(super) fn compare_with(&mut self, log_probabilities: Vec<f64>) {
        if let Source::Lesson { reference, .. } = &mut self.source {
            *reference = log_probabilities;
        }
    }

    /// True if every weight is a number.
    pub(super) fn is_finite(&self) -> bool {
        all_finite(&self.device, &self.weights)
    }

    /// Measures about `most` held-out tokens; none where nothing is held out.
    ///
    /// # Errors
    /// As [`Dataset::read`].
    pub(crate) fn evaluate(&mut self, most: u64) -> Result<Option<Evaluation>, Error> {
        let rows = self.recipe.train.micro_batch();
        let Trainer { network, weights, source, .. } = self;
        match source {
            Source::Text { batches, pieces, .. } => {
                evaluate(network, weights, batches.dataset(), most, rows, pieces)
            }
            Source::Lesson { lesson, reference, numbers, .. } => Ok(match lesson.preference {
                None => evaluate_rows(network, weights, lesson, most, rows, numbers),
                Some(preference) => {
                    let before = reference.get(lesson.train.rows().len()..).unwrap_or_default();
                    evaluate_answers(network, weights, lesson, preference, before, most, numbers)
                }
            }),
        }
    }

    /// What the model is asked to go on from: the beginning of a document, or a conversation up to
    /// what the assistant says.
    pub(super) fn opening(&self) -> Result<Vec<u32>, Error> {
        match &self.source {
            Source::Text { batches, .. } => dream::start(batches.dataset()),
            Source::Lesson { lesson, .. } => {
                let rows = lesson.held_out.rows().iter().chain(lesson.train.rows());
                Ok(rows.take(1).flat_map(|row| row.prompt()).copied().collect())
            }
        }
    }

    /// Does the next step; what is wrong with its batch where it cannot be learnt from, the weights
    /// being as they were then.
    pub(crate) fn train_step(&mut self) -> Result<Result<Row, String>, Error> {
        let clock = Instant::now();
        let (train, optimizer) = (&self.recipe.train, &self.recipe.optimizer);
        let number = batch_number(&self.skipped, self.step);
        let tokens = self.source.fill(&self.recipe, number)?;
        let measured = self.source.weigh(&mut self.network, &self.weights);
        let tokens = self.source.laid().unwrap_or(tokens);
        let (batch, time) = self.source.batch();
        let n_target = batch.targets.iter().filter(|&&target| target != IGNORE).count().max(1);
        // Every piece counts by the tokens of the whole step, so that pieces add up to the batch.
        let scale = if measured.is_some() { 1.0 } else { 1.0 / n_target as f32 };
        let objective = Objective { scale, z_loss: optimizer.z_loss as f32 };
        self.gradients.fill(0.0);
        self.network.set_time(time);
        // Pieces are as large as there is room for: a micro-batch at most.
        let gradients = &mut self.gradients;
        let nats = match self.is_scalar {
            true => self.network.score_gradients(&self.weights, batch, gradients),
            false => self.network.gradients(&self.weights, batch, objective, gradients),
        };
        let loss = measured.map_or(nats / n_target as f64, |measured| measured.loss);
        #[cfg(test)]
        let loss = if self.poison == Some(number) { f64::NAN } else { loss };
        let grad_norm = sum_of_squares(&self.device, &self.gradients).sqrt();
        if let Some(problem) = self.guard.objects(loss, grad_norm) {
            return Ok(Err(problem));
        }
        self.guard.push(loss);
        let (step, steps) = (self.step as usize, train.steps);
        let share = self.recipe.schedule.share(step, steps);
        let clipped = optimizer.clip > 0.0 && grad_norm > optimizer.clip;
        let rates = Rates {
            adam: optimizer.lr * share,
            muon: optimizer.muon_lr * share,
            weight_decay: optimizer.weight_decay_at(step, steps),
            gradient_scale: if clipped { (optimizer.clip / grad_norm) as f32 } else { 1.0 },
        };
        let (weights, gradients) = (&mut self.weights, &self.gradients);
        let precision = train.dtype.precision();
        self.optimizer.step(&self.device, precision, optimizer, rates, weights, gradients);
        self.step += 1;
        self.tokens += tokens;
        let seconds = clock.elapsed().as_secs_f64();
        Ok(Ok(Row {
            step: self.step,
            tokens: Some(self.tokens),
            loss: Some(loss),
            lr: Some(rates.adam),
            grad_norm: Some(grad_norm),
            tokens_per_s: Some(tokens as f64 / seconds),
            step_ms: Some(seconds * 1e3),
            seconds: None,
            skipped: (!self.skipped.is_empty()).then_some(self.skipped.len() as u64),
            val_loss: None,
            val_bits_per_byte: None,
            val_reward_margin: None,
            val_reward_accuracy: None,
            reward_margin: measured.and_then(|measured| measured.margin),
            reward_accuracy: measured.map(|measured| measured.accuracy),
            kl: measured.and_then(|measured| measured.kl),
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_that_were_left_out_are_not_drawn() {
        let drawn = |skipped: &[u64]| (0..6).map(|step| batch_number(skipped, step)).collect();
        let check = |skipped: &[u64], expected: [u64; 6]| {
            let drawn: Vec<u64> = drawn(skipped);
            assert_eq!(drawn, expected, "{skipped:?}");
        };
        check(&[], [0, 1, 2, 3, 4, 5]);
        check(&[0], [1, 2, 3, 4, 5, 6]);
        check(&[2, 3, 6], [0, 1, 4, 5, 7, 8]);
    }
}
