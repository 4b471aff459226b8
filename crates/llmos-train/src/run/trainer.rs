//! What a run computes, without its folder: steps, and measurements between them.

use std::sync::Arc;
use std::time::Instant;

use llmos_tensor::Device;
use llmos_tensor::ops::train::{all_finite, sum_of_squares};

use super::evaluate::{Evaluation, evaluate};
use super::guard::Guard;
use super::rows::Pieces;
use crate::Error;
use crate::data::{self, BatchOptions, Batches, Dataset};
use crate::journal::Row;
use crate::model::{Network, Objective};
use crate::optimizer::{Optimizer, Rates};
use crate::recipe::Recipe;

/// A model that is trained, in memory.
pub(crate) struct Trainer {
    pub(super) recipe: Recipe,
    device: Arc<Device>,
    batches: Batches,
    pub(super) network: Network,
    /// (parameters), as [`crate::model::Layout`] has them.
    pub(super) weights: Vec<f32>,
    /// (parameters)
    gradients: Vec<f32>,
    pub(super) optimizer: Optimizer,
    batch: data::Batch,
    pieces: Pieces,
    /// Steps done.
    pub(super) step: u64,
    /// Batches that were left out, sorted.
    pub(super) skipped: Vec<u64>,
    pub(super) guard: Guard,
    /// A batch whose loss is none.
    #[cfg(test)]
    pub(super) poison: Option<u64>,
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
    /// As [`Batches::new`].
    pub(crate) fn new(
        recipe: &Recipe,
        dataset: &Arc<Dataset>,
        device: &Arc<Device>,
    ) -> Result<Trainer, Error> {
        let mut trainer = Trainer::blank(recipe, dataset, device)?;
        trainer.begin();
        Ok(trainer)
    }

    /// Makes everything that is needed in memory. The weights are those of no model yet.
    ///
    /// # Errors
    /// As [`Batches::new`].
    pub(super) fn blank(
        recipe: &Recipe,
        dataset: &Arc<Dataset>,
        device: &Arc<Device>,
    ) -> Result<Trainer, Error> {
        let train = &recipe.train;
        let batches = Batches::new(
            dataset.clone(),
            BatchOptions {
                context: train.context,
                batch: train.batch,
                seed: train.seed,
                order: recipe.data.order,
                documents: train.document_attention,
            },
        )?;
        let precision = train.dtype.precision();
        let rows = train.micro_batch();
        let network = Network::new(&recipe.model, device, precision, rows, train.context);
        Ok(Trainer {
            weights: vec![0.0; network.layout().len()],
            gradients: vec![0.0; network.layout().len()],
            optimizer: Optimizer::new(recipe.optimizer.name, network.layout()),
            network,
            batches,
            device: device.clone(),
            batch: data::Batch::default(),
            pieces: Pieces::new(train.batch, train.context, train.document_attention),
            step: 0,
            skipped: Vec::new(),
            guard: Guard::default(),
            #[cfg(test)]
            poison: None,
            recipe: recipe.clone(),
        })
    }

    /// Goes to the beginning.
    pub(super) fn begin(&mut self) {
        let layout = self.network.layout();
        self.weights = layout.initial(self.recipe.train.seed);
        self.optimizer = Optimizer::new(self.recipe.optimizer.name, layout);
        (self.step, self.skipped, self.guard) = Default::default();
    }

    /// What is learnt from.
    pub(super) fn dataset(&self) -> &Arc<Dataset> {
        self.batches.dataset()
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
        let Trainer { network, weights, pieces, batches, .. } = self;
        evaluate(network, weights, batches.dataset(), most, rows, pieces)
    }

    /// Does the next step; what is wrong with its batch where it cannot be learnt from, the weights
    /// being as they were then.
    pub(crate) fn train_step(&mut self) -> Result<Result<Row, String>, Error> {
        let clock = Instant::now();
        let (train, optimizer) = (&self.recipe.train, &self.recipe.optimizer);
        let number = batch_number(&self.skipped, self.step);
        self.batches.fill(number, &mut self.batch)?;
        self.pieces.clear();
        let width = train.context + 1;
        for (ids, starts) in self.batch.tokens.chunks_exact(width).zip(&self.batch.starts) {
            self.pieces.push(ids, starts, train.context);
        }
        let n_target = self.pieces.n_target().max(1);
        // Every piece counts by the tokens of the whole step, so that pieces add up to the batch.
        let objective = Objective { scale: 1.0 / n_target as f32, z_loss: optimizer.z_loss as f32 };
        self.gradients.fill(0.0);
        let rows = train.micro_batch();
        let mut nats = 0.0;
        for first in (0..train.batch).step_by(rows) {
            let piece = self.pieces.part(first, rows);
            nats += self.network.gradients(&self.weights, piece, objective, &mut self.gradients);
        }
        let loss = nats / n_target as f64;
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
        let seconds = clock.elapsed().as_secs_f64();
        let tokens = train.tokens_per_step();
        Ok(Ok(Row {
            step: self.step,
            tokens: Some(self.step * tokens),
            loss: Some(loss),
            lr: Some(rates.adam),
            grad_norm: Some(grad_norm),
            tokens_per_s: Some(tokens as f64 / seconds),
            step_ms: Some(seconds * 1e3),
            seconds: None,
            skipped: (!self.skipped.is_empty()).then_some(self.skipped.len() as u64),
            val_loss: None,
            val_bits_per_byte: None,
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
