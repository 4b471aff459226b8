//! Steps on tokens without meaning, which cost what real ones do: for measuring speed.

use std::sync::Arc;
use std::time::Instant;

use llmos_tensor::Device;
use llmos_tensor::ops::train::sum_of_squares;

use crate::Error;
use crate::model::{Batch, Network, Objective};
use crate::optimizer::{Optimizer, Rates};
use crate::recipe::Recipe;
use crate::run::{self, Lesson};

/// A recipe's model and optimizer, and a piece of a batch.
pub struct Rehearsal {
    recipe: Recipe,
    device: Arc<Device>,
    network: Network,
    /// (parameters)
    weights: Vec<f32>,
    /// (parameters)
    gradients: Vec<f32>,
    optimizer: Optimizer,
    /// (rows * T + 1)
    ids: Vec<u32>,
}

/// What a rehearsed step took, and its loss.
#[derive(Clone, Copy, Debug)]
pub struct Rehearsed {
    /// Seconds of forward and backward.
    pub gradients: f64,
    /// Seconds of clipping and the optimizer.
    pub update: f64,
    /// Nats a token; 0 of a model that gives scores.
    pub loss: f64,
}

impl Rehearsal {
    /// Makes the weights and buffers of a recipe, for pieces of `rows` sequences.
    pub fn new(recipe: &Recipe, rows: usize, device: &Arc<Device>) -> Rehearsal {
        let train = &recipe.train;
        let blueprint = recipe.model.blueprint(train.context);
        let precision = train.dtype.precision();
        let network = Network::new(&blueprint, device, precision, rows, train.context);
        Rehearsal::with(network, recipe, rows, device)
    }

    /// The same for what learns in a lesson, beside its base where that is an adapter.
    ///
    /// # Errors
    /// The base cannot be trained, or not be read.
    pub fn of_lesson(
        recipe: &Recipe,
        lesson: &Lesson,
        rows: usize,
        device: &Arc<Device>,
    ) -> Result<Rehearsal, Error> {
        let network = run::network(recipe, Some(lesson), device, rows)?;
        Ok(Rehearsal::with(network, recipe, rows, device))
    }

    fn with(network: Network, recipe: &Recipe, rows: usize, device: &Arc<Device>) -> Rehearsal {
        let (model, train) = (&recipe.model, &recipe.train);
        let weights = network.initial(train.seed);
        // Any ids do: what a product costs does not depend on its numbers.
        let id = |i: usize| ((i * 7919 + i * i % 613) % model.vocab_size) as u32;
        Rehearsal {
            gradients: vec![0.0; weights.len()],
            optimizer: Optimizer::new(recipe.optimizer.name, network.layout()),
            ids: (0..=rows * train.context).map(id).collect(),
            recipe: recipe.clone(),
            device: device.clone(),
            network,
            weights,
        }
    }

    /// Parameters.
    pub fn parameters(&self) -> usize {
        self.weights.len()
    }

    /// One step on the piece.
    pub fn step(&mut self) -> Rehearsed {
        let n = self.ids.len() - 1;
        let options = &self.recipe.optimizer;
        let is_scalar = self.network.has_scalar_head();
        let slopes = vec![1.0 / n as f32; n];
        let data = Batch {
            inputs: &self.ids[..n],
            targets: &self.ids[1..],
            starts: None,
            weights: is_scalar.then_some(&slopes[..]),
        };
        let objective = Objective { scale: 1.0 / n as f32, z_loss: options.z_loss as f32 };
        let clock = Instant::now();
        self.gradients.fill(0.0);
        let gradients = &mut self.gradients;
        let nats = match is_scalar {
            true => self.network.score_gradients(&self.weights, data, gradients),
            false => self.network.gradients(&self.weights, data, objective, gradients),
        };
        let gradients = clock.elapsed();
        let norm = sum_of_squares(&self.device, &self.gradients).sqrt();
        let gradient_scale = if norm > 1.0 { (1.0 / norm) as f32 } else { 1.0 };
        let rates = Rates { adam: 1e-4, muon: 1e-4, weight_decay: 0.1, gradient_scale };
        let precision = self.recipe.train.dtype.precision();
        let Rehearsal { optimizer, weights, gradients: slopes, .. } = self;
        optimizer.step(&self.device, precision, options, rates, weights, slopes);
        Rehearsed {
            gradients: gradients.as_secs_f64(),
            update: (clock.elapsed() - gradients).as_secs_f64(),
            loss: nats / n as f64,
        }
    }
}
