//! How hard a text is, found out by learning from it for some seconds: a small model ends with more
//! bits a byte on Shakespeare than on stories for children, and a large one will too. How much better
//! it is after a million tokens than after 300,000 says how much there is left to learn.

use std::sync::Arc;
use std::time::{Duration, Instant};

use llmos_tensor::Device;

use serde::Serialize;

use super::flops::RunFlops;
use super::law::Size;
use crate::Error;
use crate::data::{Dataset, Split};
use crate::recipe::{Draft, Facts, Recipe, Text};
use crate::run::{Material, Trainer};

/// What a small model ended with, in two runs.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Pilot {
    /// What each run was, and its held-out bits a byte; the shorter run first.
    pub ends: [(Size, f64); 2],
}

/// Tokens that the runs learn from. With 100,000 and 300,000 forecasts of runs of half a million
/// tokens were off by 4.5 % (root mean square), with these by 0.8 % (bench/law.py).
const TOKENS: [i64; 2] = [300_000, 1_000_000];

/// Tokens of a sequence.
const CONTEXT: u64 = 128;

/// Held-out tokens that it is measured on, about.
const MEASURED: u64 = 1 << 16;

/// Steps by whose time it is judged how long both runs take, the first of them aside.
const JUDGED: u32 = 8;

/// Trains the small model twice. None where nothing is held out to measure it on, the text is too
/// short, or both runs would take longer than `most`, which a few steps show. The same text gives
/// the same figures on every machine with the same instructions.
///
/// # Errors
/// As [`Dataset::read`].
pub fn pilot(
    dataset: &Arc<Dataset>,
    device: &Arc<Device>,
    most: Duration,
) -> Result<Option<Pilot>, Error> {
    let shortest = dataset.n_token(Split::Train).min(dataset.n_token(Split::Validation));
    if shortest <= 2 * CONTEXT {
        return Ok(None);
    }
    let [short, long] = TOKENS;
    // Steps of both runs are alike.
    let most = most.mul_f64(short as f64 / (short + long) as f64);
    let Some(short) = end(dataset, device, short, most)? else { return Ok(None) };
    let long = end(dataset, device, long, Duration::MAX)?;
    Ok(long.map(|long| Pilot { ends: [short, long] }))
}

/// Model FLOPs of both runs on a text.
///
/// # Errors
/// As [`Draft::resolve`].
pub fn pilot_flops(text: &Text) -> Result<f64, Error> {
    TOKENS.iter().map(|&tokens| Ok(RunFlops::of(&recipe(text, tokens)?).model)).sum()
}

/// One run: what it was, and held-out bits a byte at its end; none where that takes longer than `most`.
fn end(
    dataset: &Arc<Dataset>,
    device: &Arc<Device>,
    tokens: i64,
    most: Duration,
) -> Result<Option<(Size, f64)>, Error> {
    let text = Text::from(&**dataset);
    let recipe = recipe(&text, tokens)?;
    let mut trainer = Trainer::new(&recipe, &Material::Text(dataset.clone()), device)?;
    let mut start = Instant::now();
    for step in 0..recipe.train.steps as u32 {
        if trainer.train_step()?.is_err() {
            return Ok(None);
        }
        // The first one finds cold caches.
        if step == 0 {
            start = Instant::now();
        }
        if step == JUDGED {
            let each = start.elapsed() / JUDGED;
            if each.saturating_mul(recipe.train.steps as u32) > most {
                return Ok(None);
            }
        }
    }
    let measured = trainer.evaluate(MEASURED)?;
    let bits = measured.and_then(|measured| measured.bits_per_byte);
    Ok(bits.map(|bits| (Size::of(&recipe, &text), bits)))
}

/// The small model's recipe; the law is fitted on its results, so that a change here needs a new fit.
fn recipe(text: &Text, tokens: i64) -> Result<Recipe, Error> {
    let mut draft = Draft::default();
    for (key, value) in [
        ("model.n_layer", 2),
        ("model.d_model", 64),
        ("model.n_head", 2),
        ("train.context", CONTEXT as i64),
        ("train.batch", 8),
        ("train.tokens", tokens),
    ] {
        draft.set(key, value, "the planner")?;
    }
    let facts = Facts { text: Some(text.clone()), ..Facts::default() };
    Ok(draft.resolve(&facts)?.recipe)
}
