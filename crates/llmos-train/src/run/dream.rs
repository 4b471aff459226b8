//! What the model writes when nobody says anything: the same seed each time, so that what changes is
//! the model.

use llmos_model::sampler::{Sampler, SamplerOptions};
use llmos_tokenizer::Tokenizer;

use crate::model::Network;

/// Tokens of a dream at most. Each one runs all before it again, which for so few is less than a
/// step.
const LENGTH: usize = 96;

/// Unlikely tokens are drawn less often: young models would write nothing else.
const TEMPERATURE: f32 = 0.8;

/// Lets the model go on from `start`, (n) with n at least 1, to the end of a document, of its
/// context, or of patience.
pub(super) fn dream(
    network: &mut Network,
    weights: &[f32],
    tokenizer: &Tokenizer,
    start: &[u32],
    vocab_size: usize,
    context: usize,
    seed: u64,
) -> Option<String> {
    let options = SamplerOptions { temperature: TEMPERATURE, ..SamplerOptions::default() };
    let mut sampler = Sampler::new(options, seed).ok()?;
    let mut ids = start.to_vec();
    let mut logits = vec![0.0_f32; vocab_size];
    while ids.len() < context.min(start.len() + LENGTH) {
        network.next_logits(weights, &ids, &mut logits);
        let id = sampler.sample(&mut logits, &ids).ok()?;
        if tokenizer.is_end(id) {
            break;
        }
        ids.push(id);
    }
    Some(tokenizer.decode_text(&ids, true))
}
