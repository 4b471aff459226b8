//! How hard a text is, found out by learning from it for some seconds: a small model on 300,000
//! tokens ends with more bits a byte on Shakespeare than on stories for children, and a large one
//! will too, in the same proportion.

use std::sync::Arc;

use llmos_tensor::Device;

use serde::Serialize;

use super::law::Size;
use crate::Error;
use crate::data::{Dataset, Split};
use crate::recipe::{Draft, Facts, Recipe, Text};
use crate::run::Trainer;

/// What the small model ended with.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Pilot {
    /// What it was.
    pub size: Size,
    /// Held-out bits a byte at its end.
    pub bits_per_byte: f64,
}

/// Tokens that it learns from.
const TOKENS: i64 = 300_000;

/// Held-out tokens that it is measured on, about.
const MEASURED: u64 = 1 << 16;

/// Trains the small model. None where nothing is held out to measure it on, or the text is too
/// short. The same text gives the same figure on every machine with the same instructions.
///
/// # Errors
/// As [`Dataset::read`].
pub fn pilot(dataset: &Arc<Dataset>, device: &Arc<Device>) -> Result<Option<Pilot>, Error> {
    let Some(recipe) = recipe(dataset)? else { return Ok(None) };
    let mut trainer = Trainer::new(&recipe, dataset, device)?;
    for _ in 0..recipe.train.steps {
        if trainer.train_step()?.is_err() {
            return Ok(None);
        }
    }
    let size = Size::of(&recipe, &Text::from(&**dataset));
    let measured = trainer.evaluate(MEASURED)?;
    Ok(measured.map(|measured| Pilot { size, bits_per_byte: measured.bits_per_byte }))
}

/// The small model's recipe; the law is fitted on its results, so that a change here needs a new fit.
fn recipe(dataset: &Dataset) -> Result<Option<Recipe>, Error> {
    const CONTEXT: u64 = 128;
    let shortest = dataset.n_token(Split::Train).min(dataset.n_token(Split::Validation));
    if shortest <= 2 * CONTEXT {
        return Ok(None);
    }
    let mut draft = Draft::default();
    for (key, value) in [
        ("model.n_layer", 2),
        ("model.d_model", 64),
        ("model.n_head", 2),
        ("train.context", CONTEXT as i64),
        ("train.batch", 8),
        ("train.tokens", TOKENS),
    ] {
        draft.set(key, value, "the planner")?;
    }
    let facts = Facts { text: Some(Text::from(dataset)), ..Facts::default() };
    Ok(Some(draft.resolve(&facts)?.recipe))
}
