//! From logits to a token.

mod candidates;
mod options;
mod penalties;
mod probability;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use crate::Error;
use candidates::Candidates;
pub use options::{Dry, DynamicTemperature, Mirostat, SamplerOptions, Xtc};
pub use penalties::dry_breakers;
pub use probability::{argmax, log_probability, log_sum_exp, most_likely};

/// Draws tokens; the same options, seed, logits and history give the same tokens.
pub struct Sampler {
    options: SamplerOptions,
    generator: ChaCha8Rng,
    /// Mirostat's bound on the surprise, in bits.
    mu: f32,
    candidates: Candidates,
}

impl Sampler {
    /// A sampler at the beginning of its random numbers.
    ///
    /// # Errors
    /// [`Error::Request`] for options outside their definitions.
    pub fn new(options: SamplerOptions, seed: u64) -> Result<Sampler, Error> {
        options.check()?;
        let mu = options.mirostat.map_or(0.0, |mirostat| 2.0 * mirostat.tau);
        let generator = ChaCha8Rng::seed_from_u64(seed);
        Ok(Sampler { options, generator, mu, candidates: Candidates::default() })
    }

    /// The options that it was made with.
    pub fn options(&self) -> &SamplerOptions {
        &self.options
    }

    /// True if no random number decides: the likeliest token is taken.
    pub fn is_greedy(&self) -> bool {
        self.options.temperature <= 0.0 && self.options.dynamic_temperature.is_none()
    }

    /// Draws the next token. `logits` (V) are changed by bias and penalties; `history` is the whole
    /// context, the newest token last.
    ///
    /// # Errors
    /// [`Error::Request`] if a logit is NaN or plus infinity, or all are minus infinity.
    pub fn sample(&mut self, logits: &mut [f32], history: &[u32]) -> Result<u32, Error> {
        if let Some(best) = self.narrow(logits, history)? {
            return Ok(best);
        }
        let drawn = self.candidates.draw(uniform(&mut self.generator));
        if let Some(mirostat) = self.options.mirostat {
            let surprise = -drawn.probability.log2();
            self.mu -= mirostat.eta * (surprise - mirostat.tau);
        }
        Ok(drawn.id)
    }

    /// The tokens that [`Sampler::sample`] would draw from, with their probabilities, likeliest
    /// first. Where XTC is on this uses up a random number.
    ///
    /// # Errors
    /// As [`Sampler::sample`].
    pub fn distribution(
        &mut self,
        logits: &mut [f32],
        history: &[u32],
    ) -> Result<Vec<(u32, f32)>, Error> {
        if let Some(best) = self.narrow(logits, history)? {
            return Ok(vec![(best, 1.0)]);
        }
        self.candidates.sort();
        self.candidates.softmax();
        let items = self.candidates.items().iter().filter(|item| item.probability > 0.0);
        Ok(items.map(|item| (item.id, item.probability)).collect())
    }

    /// Leaves the candidates that may be drawn, or gives the one that must be.
    fn narrow(&mut self, logits: &mut [f32], history: &[u32]) -> Result<Option<u32>, Error> {
        let options = &self.options;
        for &(id, bias) in &options.logit_bias {
            if let Some(logit) = logits.get_mut(id as usize) {
                *logit += bias;
            }
        }
        if options.mirostat.is_none() {
            penalties::penalise(logits, history, options);
            if let Some(dry) = &options.dry {
                penalties::dry(logits, history, dry);
            }
        }
        let best = finite_argmax(logits)?;
        if self.is_greedy() {
            return Ok(Some(best));
        }
        let candidates = &mut self.candidates;
        if options.mirostat.is_some() {
            candidates.fill(logits, 0);
            candidates.temperature(options.temperature);
            candidates.surprise_at_most(self.mu);
            return Ok(None);
        }
        if options.top_n_sigma > 0.0 {
            candidates.fill(logits, 0);
            candidates.top_n_sigma(options.top_n_sigma);
            candidates.keep(options.top_k);
        } else {
            candidates.fill(logits, options.top_k);
        }
        candidates.typical(options.typical_p);
        candidates.top_p(options.top_p);
        candidates.min_p(options.min_p);
        if let Some(xtc) = options.xtc.filter(|xtc| xtc.probability > 0.0) {
            candidates.xtc(xtc, uniform(&mut self.generator) as f32);
        }
        match options.dynamic_temperature {
            Some(dynamic) => candidates.dynamic_temperature(options.temperature, dynamic),
            None => candidates.temperature(options.temperature),
        }
        Ok(None)
    }
}

/// Uniform in [0, 1), 53 bits.
fn uniform(generator: &mut ChaCha8Rng) -> f64 {
    (generator.next_u64() >> 11) as f64 / (1u64 << 53) as f64
}

/// The likeliest token of logits that softmax is defined for.
fn finite_argmax(logits: &[f32]) -> Result<u32, Error> {
    match argmax(logits) {
        Some(id) if logits[id as usize].is_finite() => Ok(id),
        Some(id) if logits[id as usize] == f32::INFINITY => {
            let got = format!("infinity for token {id}");
            Err(Error::request("weights", "finite logits", got))
        }
        Some(_) => Err(Error::request("sample", "a token that may follow", "none")),
        None => {
            let got = match logits.iter().position(|logit| logit.is_nan()) {
                Some(id) => format!("a logit of token {id} that is not a number"),
                None => "none".to_owned(),
            };
            Err(Error::request("weights", "finite logits", got))
        }
    }
}

#[cfg(test)]
mod tests;
