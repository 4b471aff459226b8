//! What the model writes when nobody says anything: the same seed each time, so that what changes is
//! the model.

use llmos_model::sampler::{Sampler, SamplerOptions};
use llmos_tokenizer::Tokenizer;

use super::trainer::Trainer;
use crate::Error;
use crate::data::{Dataset, Split};
use crate::model::Network;
use crate::recipe::Recipe;

/// Tokens of a dream at most. Each one runs all before it again, which for so few is less than a
/// step.
const LENGTH: usize = 96;

/// Unlikely tokens are drawn less often: young models would write nothing else.
const TEMPERATURE: f32 = 0.8;

/// Lets the model go on from the beginning of a document to its end, to that of its context, or of
/// patience. None where it draws nothing that can be drawn.
pub(super) fn dream(trainer: &mut Trainer, tokenizer: &Tokenizer) -> Result<Option<String>, Error> {
    let start = trainer.opening()?;
    let Trainer { recipe, network, weights, .. } = trainer;
    Ok(go_on(recipe, network, weights, tokenizer, start))
}

/// What a document begins with: the vocabulary's start, what ends the one before, or else the text's
/// first token.
pub(super) fn start(dataset: &Dataset) -> Result<Vec<u32>, Error> {
    let entry = &dataset.manifest().tokenizer;
    let mut start = entry.start.clone();
    if start.is_empty() {
        start.extend(entry.end);
    }
    if start.is_empty() {
        start.push(0);
        dataset.read(Split::Train, 0, &mut start)?;
    }
    Ok(start)
}

fn go_on(
    recipe: &Recipe,
    network: &mut Network,
    weights: &[f32],
    tokenizer: &Tokenizer,
    mut ids: Vec<u32>,
) -> Option<String> {
    let options = SamplerOptions { temperature: TEMPERATURE, ..SamplerOptions::default() };
    let mut sampler = Sampler::new(options, recipe.train.seed).ok()?;
    let mut logits = vec![0.0_f32; recipe.model.vocab_size];
    let most = recipe.train.context.min(ids.len() + LENGTH);
    while ids.len() < most {
        network.next_logits(weights, &ids, &mut logits);
        let id = sampler.sample(&mut logits, &ids).ok()?;
        if tokenizer.is_end(id) {
            break;
        }
        ids.push(id);
    }
    Some(tokenizer.decode_text(&ids, true))
}
