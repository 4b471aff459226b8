//! What has proved good for most runs: the optimizer, the schedule, when to look and to save.
//!
//! Each value says whose it is. They are where tuning on runs of ours goes.

use super::resolve::Resolver;
use super::{ModelShape, Optimizer, OptimizerName, Schedule, ScheduleName, Train};
use crate::plan::{Flops, Parameters};

impl Resolver<'_> {
    pub(super) fn optimizer(&mut self, model: &ModelShape, train: &Train) -> Optimizer {
        let parameters = Parameters::of(model).non_embedding().max(2) as f64;
        // Kaplan et al., arXiv 2001.08361, equation D.1.
        let kaplan = (0.003239 - 0.0001395 * parameters.ln()).max(1e-4);
        Optimizer {
            name: self.choice(
                "optimizer.name",
                OptimizerName::Muon,
                "fewer steps to the same loss (Jordan et al., 2024)",
            ),
            lr: self.real("optimizer.lr", || {
                let lr = (kaplan * 1e5).round() / 1e5;
                (lr, "by the model's size (arXiv 2001.08361, equation D.1)".into())
            }),
            beta1: self.real("optimizer.beta1", || (0.9, "usual".into())),
            beta2: self.real("optimizer.beta2", || match train.tokens_per_step() {
                ..16_384 => (0.99, "a small step's squares are noisy (nanoGPT)".into()),
                _ => (0.95, "usual for language models".into()),
            }),
            eps: self.real("optimizer.eps", || (1e-8, "usual".into())),
            muon_lr: self.real("optimizer.muon_lr", || (0.02, "Jordan et al., 2024".into())),
            muon_momentum: self
                .real("optimizer.muon_momentum", || (0.95, "Jordan et al., 2024".into())),
            weight_decay: self.real("optimizer.weight_decay", || (0.1, "usual".into())),
            final_weight_decay: self.real("optimizer.final_weight_decay", || {
                (0.0, "falls with the learning rate".into())
            }),
            clip: self.real("optimizer.clip", || (1.0, "usual".into())),
            z_loss: self.real("optimizer.z_loss", || (0.0, "single precision needs none".into())),
        }
    }

    pub(super) fn schedule(&mut self, train: &Train) -> Schedule {
        let name = self.choice(
            "schedule.name",
            ScheduleName::Linear,
            "a long straight way down serves short runs best",
        );
        let share = self.real("schedule.warmup", || (0.02, String::new()));
        let warmup = match share {
            share if share < 1.0 => (share * train.steps as f64).round() as usize,
            steps => steps.round() as usize,
        };
        if share < 1.0 && self.reasons.get("schedule.warmup").is_some_and(String::is_empty) {
            self.reasons.insert("schedule.warmup", "one step in 50".to_string());
        }
        Schedule {
            name,
            warmup,
            cooldown: self.real("schedule.cooldown", || match name {
                ScheduleName::Constant => (0.0, "none".into()),
                ScheduleName::Linear => (0.65, "two thirds of the run".into()),
                ScheduleName::Cosine => (1.0, "from the end of the warm-up".into()),
            }),
            floor: self.real("schedule.floor", || match name {
                ScheduleName::Constant => (1.0, "no way down".into()),
                ScheduleName::Linear => (0.05, "a twentieth".into()),
                ScheduleName::Cosine => (0.1, "a tenth (arXiv 2203.15556)".into()),
            }),
        }
    }

    /// Steps between evaluations and between checkpoints.
    pub(super) fn intervals(&mut self, model: &ModelShape, train: &Train) -> (usize, usize) {
        let tenth = (train.steps / 10).max(1);
        let every = round_down(tenth);
        let often = match train.steps {
            ..10 => "after each step of so short a run",
            _ => "about ten times in the run",
        };
        let eval_every = self.count("eval_every", || (every, often.into()));
        let speed = self.facts.speed.as_ref();
        let save_every = self.count("save_every", || {
            let flops = train.tokens_per_step() as f64 * Flops::of(model, train.context).training();
            let in_ten_minutes = speed.map(|speed| (600.0 * speed.flops_per_s / flops) as usize);
            match in_ten_minutes.filter(|&steps| steps < every) {
                Some(steps) => (round_down(steps.max(1)), "about every ten minutes".into()),
                None => (every, often.into()),
            }
        });
        (eval_every, save_every)
    }

    pub(super) fn eval_tokens(&mut self, train: &Train, eval_every: usize) -> usize {
        let held_out = self.facts.text.as_ref().and_then(|text| text.held_out_tokens);
        self.count("eval_tokens", || {
            // Forward alone is a third of a step: a tenth of the tokens between takes 3 % of the time.
            let between = match eval_every {
                0 => train.steps,
                every => every.min(train.steps),
            } as u64;
            let tokens = between.saturating_mul(train.tokens_per_step()) / 10;
            let rows = tokens / train.context as u64;
            let whole = rows.max(LEAST_ROWS) * train.context as u64;
            match held_out.filter(|held_out| *held_out <= whole) {
                Some(all) => (all.max(1) as usize, "all that is held out".into()),
                None if rows < LEAST_ROWS => (whole as usize, "four sequences at least".into()),
                None => (whole as usize, "so that evaluations take 3 % of the time".into()),
            }
        })
    }
}

/// Sequences that an evaluation reads at least.
const LEAST_ROWS: u64 = 4;

/// The number without its last figures: 1,234 becomes 1,000, 789 becomes 750.
fn round_down(number: usize) -> usize {
    let Some(power) = number.checked_ilog10() else { return number };
    let unit = 10usize.pow(power);
    if number < 10 { number } else { (4 * number / unit) * unit / 4 }
}
