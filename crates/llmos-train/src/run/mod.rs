//! A run: steps, what is watched meanwhile, and checkpoints from which it goes on to the same bits.
//!
//! A step draws its batch by (seed, number), adds up the gradients of its pieces, clips them and
//! changes the weights. After a step that is due a checkpoint is written, and only then is held-out
//! text measured, so that no evaluation loses work. Killed at any moment, a run goes on from its
//! last checkpoint and ends with the bytes of one that was never interrupted.

mod checkpoint;
mod dream;
mod evaluate;
mod files;
mod folder;
mod guard;
mod log;
mod material;
mod pairs;
mod record;
mod reference;
mod reward;
mod rows;
mod safetensors;
#[cfg(test)]
mod tests;
mod trainer;

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use llmos_model::file::NormGains;
use llmos_tensor::Device;
use llmos_tokenizer::Tokenizer;

use crate::journal::{Dream, Row};
use crate::recipe::Recipe;
use crate::{Error, disk};

pub(crate) use checkpoint::write_model;
use checkpoint::{Files, Parent, State};
pub use evaluate::Evaluation;
#[cfg(test)]
pub(crate) use files::adapter_config;
pub(crate) use files::config_of;
pub use folder::RunFolder;
pub use material::{Lesson, Material, Preference};
pub(crate) use material::{blueprint, network};
use record::Record;
pub use reward::{RewardModel, score_example};
pub(crate) use trainer::Trainer;

/// What happens in a run, for whoever watches.
#[derive(Debug)]
pub enum Event<'a> {
    /// A step was done.
    Step {
        /// Its row.
        row: &'a Row,
        /// Seconds that the rest will take, by the run's [`Pace`](crate::journal::Pace).
        left: Option<f64>,
    },
    /// A checkpoint is on the disk.
    Saved(&'a Path),
    /// The model wrote something.
    Dream(&'a Dream),
    /// A batch is left out, and the run goes on from before it.
    SteppedBack {
        /// The step that went wrong.
        from: u64,
        /// The step that the run goes on from.
        to: u64,
        /// What was wrong.
        problem: &'a str,
    },
}

/// How a process's part of a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// The model is finished.
    Finished,
    /// Somebody asked for it; a checkpoint was written.
    Stopped,
}

/// A run and its folder.
pub struct Run {
    folder: RunFolder,
    recipe: Recipe,
    material: Material,
    trainer: Trainer,
    tokenizer: Arc<Tokenizer>,
    /// What lies in every checkpoint.
    files: Files,
    record: Record,
    /// Seconds of the run before this process, this process's start, and the step that it began after.
    before: f64,
    start: Instant,
    first: u64,
}

impl Run {
    /// Begins a run in its folder, or goes on from its last checkpoint. `text` is the recipe as it
    /// is kept. Everything that the run needs in memory is made here.
    ///
    /// # Errors
    /// A checkpoint is damaged or another run's; the data are others than before; the system
    /// refuses.
    pub fn new(
        folder: RunFolder,
        recipe: &Recipe,
        text: &str,
        material: &Material,
        device: &Arc<Device>,
    ) -> Result<Run, Error> {
        let start = Instant::now();
        let train = &recipe.train;
        let checkpoints = folder.join(RunFolder::CHECKPOINTS);
        // Nothing is changed by what cannot be.
        let latest = checkpoint::latest(&checkpoints);
        if let Some((done, _)) = latest
            && done > train.steps as u64
        {
            let problem = format!("{done} are done already; that is the nearest");
            return Err(Error::Setting { key: "train.steps".into(), problem });
        }
        let (tokenizer, mut files) = material.tokenizer()?;
        if material.lora().is_none() {
            files.push(("config.json".into(), material.config(recipe, &tokenizer)?));
        }
        let mut trainer = Trainer::blank(recipe, material, device)?;
        if let Some((lora, base)) = material.lora() {
            let layout = trainer.network.model_layout();
            let config = files::adapter_config(lora, layout, base.path());
            files.push(("adapter_config.json".into(), config));
            files.push((NormGains::FILE.into(), files::norm_gains(base)?));
        }
        files.push((RunFolder::RECIPE.into(), text.into()));
        // A run begins with its recipe; one that cannot go on so keeps the recipe that it had.
        if latest.is_none() {
            folder.write(RunFolder::RECIPE, text.as_bytes())?;
        }
        std::fs::create_dir_all(&checkpoints)
            .map_err(Error::io("make the folder", &checkpoints))?;
        checkpoint::tidy(&checkpoints)?;
        reference::prepare(&folder, material, &mut trainer, device)?;
        let (record, before) = Record::restore(&folder, &mut trainer, material)?;
        if latest.is_some() {
            folder.write(RunFolder::RECIPE, text.as_bytes())?;
        }
        Ok(Run {
            first: trainer.step,
            recipe: recipe.clone(),
            material: material.clone(),
            folder,
            trainer,
            tokenizer,
            files,
            record,
            before,
            start,
        })
    }

    /// Steps that are done.
    pub fn step(&self) -> u64 {
        self.trainer.step
    }

    /// Steps that are done since [`Run::new`].
    pub fn steps_here(&self) -> u64 {
        self.step().saturating_sub(self.first)
    }

    /// The folder.
    pub fn folder(&self) -> &RunFolder {
        &self.folder
    }

    /// Seconds since [`Run::new`].
    pub fn seconds_here(&self) -> f64 {
        self.start.elapsed().as_secs_f64()
    }

    /// Seconds of the run so far, its interruptions left out.
    pub fn seconds(&self) -> f64 {
        self.before + self.seconds_here()
    }

    /// Counts what came before [`Run::new`] as the run's time, such as preparing its text.
    pub fn count_seconds(&mut self, seconds: f64) {
        self.before += seconds;
    }

    /// Trains to the end, or until `stop` says so: it is asked after each step.
    ///
    /// # Errors
    /// [`Error::Diverged`] where batch after batch had to be left out; the system refuses to write.
    /// The last checkpoint stays.
    pub fn go(
        &mut self,
        stop: &dyn Fn() -> bool,
        tell: &mut dyn FnMut(Event<'_>),
    ) -> Result<Ending, Error> {
        let steps = self.recipe.train.steps as u64;
        if let Some(row) = self.record.pending.take() {
            self.close(row, tell)?;
        }
        while self.step() < steps {
            let row = match self.trainer.train_step()? {
                Ok(row) => row,
                Err(problem) => {
                    self.step_back(&problem, tell)?;
                    continue;
                }
            };
            let is_stopped = stop();
            let is_evaluated = self.is_due(self.recipe.eval_every);
            if is_stopped || is_evaluated || self.is_due(self.recipe.save_every) {
                if !self.trainer.is_finite() {
                    self.step_back("a weight is no number", tell)?;
                    continue;
                }
                self.save(&row, tell)?;
            }
            if is_stopped && self.step() < steps {
                // What is measured after this step is measured when the run goes on.
                if !is_evaluated {
                    self.close(row, tell)?;
                }
                return Ok(Ending::Stopped);
            }
            self.close(row, tell)?;
        }
        self.finish()?;
        Ok(Ending::Finished)
    }

    /// True after every `every`th step and after the last one.
    fn is_due(&self, every: usize) -> bool {
        let is_last = self.step() == self.recipe.train.steps as u64;
        is_last || every > 0 && self.step().is_multiple_of(every as u64)
    }

    fn save(&mut self, row: &Row, tell: &mut dyn FnMut(Event<'_>)) -> Result<(), Error> {
        let Trainer { network, weights, optimizer, skipped, guard, .. } = &self.trainer;
        let state = State {
            step: self.step(),
            seed: self.recipe.train.seed,
            skipped: skipped.clone(),
            losses: guard.losses().collect(),
            row: row.clone(),
            seconds: self.seconds(),
            data: self.material.sha256().to_string(),
            program: env!("CARGO_PKG_VERSION").to_string(),
            parent: self.record.parent.clone(),
        };
        self.record.metrics.sync()?;
        let folder = self.folder.join(RunFolder::CHECKPOINTS);
        let layout = network.layout();
        let path = checkpoint::save(&folder, &state, layout, weights, optimizer, &self.files)?;
        self.record.parent = Some(Parent::of(&path)?);
        checkpoint::prune(&folder, self.recipe.keep, self.record.best.map(|(step, _)| step))?;
        tell(Event::Saved(&path));
        Ok(())
    }

    /// Measures held-out text and dreams where that is due, and writes the step's row.
    fn close(&mut self, mut row: Row, tell: &mut dyn FnMut(Event<'_>)) -> Result<(), Error> {
        let is_due = self.is_due(self.recipe.eval_every);
        if is_due {
            let is_last = self.step() == self.recipe.train.steps as u64;
            let most = if is_last { u64::MAX } else { self.recipe.eval_tokens as u64 };
            let measured = self.trainer.evaluate(most)?;
            if let Some(Evaluation { loss, bits_per_byte, margin, accuracy, .. }) = measured {
                (row.val_loss, row.val_bits_per_byte) = (Some(loss), bits_per_byte);
                (row.val_reward_margin, row.val_reward_accuracy) = (margin, accuracy);
                let value = bits_per_byte.unwrap_or(loss);
                if self.record.best.is_none_or(|(_, best)| value < best) {
                    self.record.best = Some((self.step(), value));
                }
            }
        }
        let dream = if is_due { self.dream()? } else { None };
        // The row comes last: where it is, all of its step is, and its seconds count all of that.
        if let Some(dream) = &dream {
            self.record.dreams.push(dream)?;
        }
        row.seconds = Some(self.seconds());
        self.record.metrics.push(&row)?;
        self.record.pace.push(&row);
        tell(Event::Step { row: &row, left: self.record.pace.seconds_left() });
        if let Some(dream) = &dream {
            tell(Event::Dream(dream));
        }
        Ok(())
    }

    fn dream(&mut self) -> Result<Option<Dream>, Error> {
        if self.trainer.is_scalar {
            return Ok(None);
        }
        let step = self.step();
        let text = dream::dream(&mut self.trainer, &self.tokenizer)?;
        Ok(text.map(|text| Dream { step, prompt: String::new(), text }))
    }

    /// Leaves out the batch of the next step and goes back to the last checkpoint.
    fn step_back(&mut self, problem: &str, tell: &mut dyn FnMut(Event<'_>)) -> Result<(), Error> {
        let from = self.step() + 1;
        let mut skipped = std::mem::take(&mut self.trainer.skipped);
        if skipped.len() >= guard::MOST_SKIPPED {
            let problem = problem.to_string();
            return Err(Error::Diverged { step: from, problem, skipped: skipped.len() });
        }
        skipped.push(trainer::batch_number(&skipped, self.step()));
        skipped.sort_unstable();
        (self.record, _) = Record::restore(&self.folder, &mut self.trainer, &self.material)?;
        self.trainer.skipped = skipped;
        // The row of the checkpoint's step is written already, or is written now.
        if let Some(row) = self.record.pending.take() {
            self.close(row, tell)?;
        }
        tell(Event::SteppedBack { from, to: self.step(), problem });
        Ok(())
    }

    /// Puts the finished model into the run's folder: the files of the last checkpoint.
    fn finish(&mut self) -> Result<(), Error> {
        let checkpoints = self.folder.join(RunFolder::CHECKPOINTS);
        let from = checkpoint::latest(&checkpoints);
        let Some((_, from)) = from else { return Ok(()) };
        // The best is known now; and a run that goes on may have been asked to keep fewer.
        let best = self.record.best.map(|(step, _)| step);
        checkpoint::prune(&checkpoints, self.recipe.keep, best)?;
        self.record.metrics.sync()?;
        for (name, contents) in &self.files {
            if name != RunFolder::RECIPE {
                disk::write_bytes(&self.folder.join(name), contents)?;
            }
        }
        // Last: where the weights are, the model is whole.
        let name = checkpoint::weights_name(self.trainer.network.layout());
        let weights = from.join(name);
        let copy = |file: &mut std::fs::File| {
            std::io::copy(&mut std::fs::File::open(&weights)?, file).map(|_| ())
        };
        disk::write_whole(&self.folder.join(name), copy)
    }
}
