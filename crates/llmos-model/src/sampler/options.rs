//! What a sampler does to logits, and in which order.

use serde::{Deserialize, Serialize};

use crate::Error;

/// How the next token is drawn. Steps run in the order of the fields; each sees the probabilities
/// that the steps before it left. Definitions are llama.cpp's (`llama-sampler.cpp`).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SamplerOptions {
    /// Added to the logits of these ids; minus infinity bans one.
    pub logit_bias: Vec<(u32, f32)>,
    /// Tokens at the end of the history that the three penalties look at; 0 is none.
    pub penalty_window: usize,
    /// Logits of tokens in the window are divided by this, multiplied where negative; 1 is off
    /// (arXiv 1909.05858).
    pub repetition_penalty: f32,
    /// Taken off a logit for each time that its token is in the window.
    pub frequency_penalty: f32,
    /// Taken off the logit of each token in the window.
    pub presence_penalty: f32,
    /// Punishes tokens that would go on with a repetition.
    pub dry: Option<Dry>,
    /// Keeps logits within this many standard deviations of the largest; 0 is off (arXiv 2411.07641).
    pub top_n_sigma: f32,
    /// Keeps this many tokens; 0 is all.
    pub top_k: usize,
    /// Keeps the tokens whose surprise is nearest to the expected one, up to this probability; 1 is
    /// off (arXiv 2202.00666).
    pub typical_p: f32,
    /// Keeps the fewest likely tokens that together reach this probability; 1 is off
    /// (arXiv 1904.09751).
    pub top_p: f32,
    /// Keeps tokens at least this likely relative to the likeliest; 0 is off (arXiv 2407.01082).
    pub min_p: f32,
    /// Drops likely tokens, so that the choice is less obvious.
    pub xtc: Option<Xtc>,
    /// Logits are divided by this; 0 takes the likeliest token (after bias, penalties and DRY), the
    /// lowest id among equals.
    pub temperature: f32,
    /// Lets the temperature follow the entropy.
    pub dynamic_temperature: Option<DynamicTemperature>,
    /// Steers the surprise instead of all steps between the bias and the temperature.
    pub mirostat: Option<Mirostat>,
}

/// Do not repeat yourself: a token that extends a repetition of `n` tokens loses
/// `multiplier * base ^ (n - allowed_length)` (oobabooga/text-generation-webui #5677).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Dry {
    /// Scale of the penalty; 0 is off.
    pub multiplier: f32,
    /// Growth with each repeated token, at least 1.
    pub base: f32,
    /// Repetitions shorter than this are free.
    pub allowed_length: usize,
    /// Tokens at the end of the history that are searched.
    pub window: usize,
    /// Token sequences that no repetition crosses: see [`super::dry_breakers`].
    pub breakers: Vec<Vec<u32>>,
}

impl Default for Dry {
    fn default() -> Dry {
        Dry { multiplier: 0.8, base: 1.75, allowed_length: 2, window: 1024, breakers: Vec::new() }
    }
}

/// Exclude top choices: with some probability, all tokens above the threshold but the least likely
/// of them are dropped (oobabooga/text-generation-webui #6335).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Xtc {
    /// Chance that the step is taken, for each token drawn.
    pub probability: f32,
    /// What makes a token a top choice; above 0.5 nothing is dropped.
    pub threshold: f32,
}

/// The temperature is between `temperature - range` and `temperature + range`, by the entropy over
/// its possible maximum, to the power `exponent`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DynamicTemperature {
    /// Half the width of the interval.
    pub range: f32,
    /// Bends the way from entropy to temperature.
    pub exponent: f32,
}

/// Mirostat 2 (arXiv 2007.14966).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mirostat {
    /// Surprise to aim at, in bits.
    pub tau: f32,
    /// Learning rate.
    pub eta: f32,
}

impl Default for SamplerOptions {
    /// llama.cpp's defaults.
    fn default() -> SamplerOptions {
        SamplerOptions {
            temperature: 0.8,
            top_k: 40,
            top_p: 0.95,
            min_p: 0.05,
            ..SamplerOptions::plain()
        }
    }
}

impl SamplerOptions {
    /// Draws from the model's own distribution, unchanged.
    pub fn plain() -> SamplerOptions {
        SamplerOptions {
            logit_bias: Vec::new(),
            penalty_window: 64,
            repetition_penalty: 1.0,
            frequency_penalty: 0.0,
            presence_penalty: 0.0,
            dry: None,
            top_n_sigma: 0.0,
            top_k: 0,
            typical_p: 1.0,
            top_p: 1.0,
            min_p: 0.0,
            xtc: None,
            temperature: 1.0,
            dynamic_temperature: None,
            mirostat: None,
        }
    }

    /// Takes the likeliest token.
    pub fn greedy() -> SamplerOptions {
        SamplerOptions { temperature: 0.0, ..SamplerOptions::plain() }
    }

    /// Checks every number against what its definition allows.
    ///
    /// # Errors
    /// [`Error::Request`] names the first that is not.
    pub fn check(&self) -> Result<(), Error> {
        let at_least_zero = |name, value: f32| range(name, value, 0.0..=f32::MAX, "0 or more");
        let probability = |name, value: f32| range(name, value, 0.0..=1.0, "0 to 1");
        let any = |name, value: f32| range(name, value, f32::MIN..=f32::MAX, "a finite number");
        at_least_zero("temperature", self.temperature)?;
        if self.repetition_penalty == 0.0 {
            return range("repetition_penalty", 0.0, 0.1..=1.0, "above 0");
        }
        at_least_zero("repetition_penalty", self.repetition_penalty)?;
        any("frequency_penalty", self.frequency_penalty)?;
        any("presence_penalty", self.presence_penalty)?;
        at_least_zero("top_n_sigma", self.top_n_sigma)?;
        probability("typical_p", self.typical_p)?;
        probability("top_p", self.top_p)?;
        probability("min_p", self.min_p)?;
        if let Some(dry) = &self.dry {
            at_least_zero("dry.multiplier", dry.multiplier)?;
            range("dry.base", dry.base, 1.0..=f32::MAX, "1 or more")?;
        }
        if let Some(xtc) = self.xtc {
            probability("xtc.probability", xtc.probability)?;
            probability("xtc.threshold", xtc.threshold)?;
        }
        if let Some(dynamic) = self.dynamic_temperature {
            at_least_zero("dynamic_temperature.range", dynamic.range)?;
            at_least_zero("dynamic_temperature.exponent", dynamic.exponent)?;
        }
        if let Some(mirostat) = self.mirostat {
            at_least_zero("mirostat.tau", mirostat.tau)?;
            at_least_zero("mirostat.eta", mirostat.eta)?;
        }
        for (id, bias) in &self.logit_bias {
            if bias.is_nan() || *bias == f32::INFINITY {
                return Err(Error::request(
                    "sampler",
                    format!("a logit_bias of token {id} below infinity"),
                    bias,
                ));
            }
        }
        Ok(())
    }
}

fn range(
    name: &str,
    value: f32,
    allowed: std::ops::RangeInclusive<f32>,
    words: &str,
) -> Result<(), Error> {
    if allowed.contains(&value) {
        return Ok(());
    }
    Err(Error::request("sampler", format!("{name} of {words}"), value))
}
