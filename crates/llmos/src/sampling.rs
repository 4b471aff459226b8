//! The sampler's and the grammar's flags.

use std::time::SystemTime;

use clap::Args;
use llmos_model::grammar::{Grammar, GrammarSource, GrammarVocabulary};
use llmos_model::sampler::{
    Dry, DynamicTemperature, Mirostat, Sampler, SamplerOptions, Xtc, dry_breakers,
};
use llmos_tokenizer::{Special, Tokenizer};

use crate::failure::{Explain, failure};
use crate::load::{self, Loaded};

/// How the next token is drawn.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Sampling")]
pub(crate) struct Sampling {
    /// Temperature; 0 takes the likeliest token.
    #[arg(long, alias = "temperature", value_name = "T", default_value_t = 0.8)]
    temp: f32,
    /// Keep this many tokens; 0 is all.
    #[arg(long, value_name = "K", default_value_t = 40)]
    top_k: usize,
    /// Keep the fewest likely tokens that reach this probability; 1 is off.
    #[arg(long, value_name = "P", default_value_t = 0.95)]
    top_p: f32,
    /// Keep tokens at least this likely relative to the likeliest; 0 is off.
    #[arg(long, value_name = "P", default_value_t = 0.05)]
    min_p: f32,
    /// Keep tokens of typical surprise, up to this probability; 1 is off.
    #[arg(long, value_name = "P", default_value_t = 1.0)]
    typical: f32,
    /// Keep logits within this many standard deviations of the largest; 0 is off.
    #[arg(long, value_name = "N", default_value_t = 0.0)]
    top_n_sigma: f32,
    /// Chance to drop the obvious tokens (XTC); 0 is off.
    #[arg(long, value_name = "P", default_value_t = 0.0)]
    xtc_probability: f32,
    /// What makes a token obvious.
    #[arg(long, value_name = "P", default_value_t = 0.1)]
    xtc_threshold: f32,
    /// Strength of the penalty on repeated sequences (DRY); 0 is off.
    #[arg(long, value_name = "X", default_value_t = 0.0)]
    dry_multiplier: f32,
    /// Growth of that penalty with each token.
    #[arg(long, value_name = "X", default_value_t = 1.75)]
    dry_base: f32,
    /// Repetitions shorter than this are free.
    #[arg(long, value_name = "N", default_value_t = 2)]
    dry_allowed_length: usize,
    /// Tokens of the past that DRY looks at.
    #[arg(long, value_name = "N", default_value_t = 1024)]
    dry_window: usize,
    /// Text that no repetition crosses; may be given several times. `none` is none.
    #[arg(long, value_name = "TEXT", default_values = ["\n", ":", "\"", "*"], hide_default_value = true)]
    dry_breaker: Vec<String>,
    /// Divide the logits of recent tokens by this; 1 is off.
    #[arg(long, value_name = "X", default_value_t = 1.0)]
    repeat_penalty: f32,
    /// Recent tokens that the penalties look at; 0 is none.
    #[arg(long, alias = "repeat-last-n", value_name = "N", default_value_t = 64)]
    repeat_window: usize,
    /// Take this off the logits of recent tokens.
    #[arg(long, value_name = "X", default_value_t = 0.0, allow_negative_numbers = true)]
    presence_penalty: f32,
    /// Take this off for each time a token was drawn recently.
    #[arg(long, value_name = "X", default_value_t = 0.0, allow_negative_numbers = true)]
    frequency_penalty: f32,
    /// Half the width of a temperature that follows the entropy; 0 is off.
    #[arg(long, value_name = "T", default_value_t = 0.0)]
    dynatemp_range: f32,
    /// Bends the way from entropy to temperature.
    #[arg(long, value_name = "X", default_value_t = 1.0)]
    dynatemp_exponent: f32,
    /// Mirostat 2: steer the surprise, instead of top-k, top-p and the like.
    #[arg(long)]
    mirostat: bool,
    /// The surprise that Mirostat aims at, in bits.
    #[arg(long, value_name = "BITS", default_value_t = 5.0)]
    mirostat_tau: f32,
    /// How fast Mirostat learns.
    #[arg(long, value_name = "X", default_value_t = 0.1)]
    mirostat_eta: f32,
    /// Add to a token's logit: ID=BIAS, where -inf bans it. May be given several times.
    #[arg(long, value_name = "ID=BIAS", value_parser = parse_bias, allow_hyphen_values = true)]
    logit_bias: Vec<(u32, f32)>,
    /// Seed of the random numbers; from the clock where it is left out.
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
}

/// `15=-1.5`, `15-1.5`, `15+2`, `15=-inf`.
fn parse_bias(text: &str) -> Result<(u32, f32), String> {
    let at = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (id, bias) = text.split_at(at);
    let bias = bias.strip_prefix(['=', ':']).unwrap_or(bias);
    match (id.parse(), bias.parse()) {
        (Ok(id), Ok(bias)) => Ok((id, bias)),
        _ => Err("write ID=BIAS, as in 15043=-1.5 or 15043=-inf".into()),
    }
}

impl Sampling {
    /// The seed: the person's, or one from the clock.
    pub(crate) fn seed(&self) -> u64 {
        self.seed.unwrap_or_else(|| {
            let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
            // Few enough digits to be typed again.
            since.map_or(0, |since| since.as_nanos() as u64 % 1_000_000_007)
        })
    }

    /// Another temperature from now on.
    pub(crate) fn set_temperature(&mut self, temperature: f32) {
        self.temp = temperature;
    }

    /// The temperature.
    pub(crate) fn temperature(&self) -> f32 {
        self.temp
    }

    /// True if no random number is drawn.
    pub(crate) fn is_greedy(&self) -> bool {
        self.temp <= 0.0 && self.dynatemp_range <= 0.0
    }

    /// The options as the sampler takes them. `tokenizer` turns DRY's texts into tokens.
    fn options(&self, tokenizer: Option<&Tokenizer>) -> SamplerOptions {
        let dry = (self.dry_multiplier != 0.0).then(|| Dry {
            multiplier: self.dry_multiplier,
            base: self.dry_base,
            allowed_length: self.dry_allowed_length,
            window: self.dry_window,
            breakers: tokenizer.map_or_else(Vec::new, |tokenizer| self.breakers(tokenizer)),
        });
        SamplerOptions {
            logit_bias: self.logit_bias.clone(),
            penalty_window: self.repeat_window,
            repetition_penalty: self.repeat_penalty,
            frequency_penalty: self.frequency_penalty,
            presence_penalty: self.presence_penalty,
            dry,
            top_n_sigma: self.top_n_sigma,
            top_k: self.top_k,
            typical_p: self.typical,
            top_p: self.top_p,
            min_p: self.min_p,
            xtc: (self.xtc_probability != 0.0).then_some(Xtc {
                probability: self.xtc_probability,
                threshold: self.xtc_threshold,
            }),
            temperature: self.temp,
            dynamic_temperature: (self.dynatemp_range != 0.0).then_some(DynamicTemperature {
                range: self.dynatemp_range,
                exponent: self.dynatemp_exponent,
            }),
            mirostat: self
                .mirostat
                .then_some(Mirostat { tau: self.mirostat_tau, eta: self.mirostat_eta }),
        }
    }

    fn breakers(&self, tokenizer: &Tokenizer) -> Vec<Vec<u32>> {
        let strings: Vec<&str> =
            self.dry_breaker.iter().map(String::as_str).filter(|text| *text != "none").collect();
        let encode = |bytes: &[u8]| tokenizer.encode(bytes, Special::None);
        dry_breakers(&strings, &pieces(tokenizer), &encode)
    }

    /// A sampler at the beginning of its random numbers.
    ///
    /// # Errors
    /// A flag outside of what its definition allows.
    pub(crate) fn sampler(
        &self,
        tokenizer: Option<&Tokenizer>,
        seed: u64,
    ) -> anyhow::Result<Sampler> {
        Sampler::new(self.options(tokenizer), seed).explain(
            || "a sampling flag cannot be".into(),
            || "`llmos help run` lists them with their defaults".into(),
        )
    }
}

/// The bytes of each token (V), empty for special ones.
fn pieces(tokenizer: &Tokenizer) -> Vec<Vec<u8>> {
    (0..tokenizer.vocab_size() as u32)
        .map(|id| {
            let plain = !tokenizer.is_special(id);
            if plain { tokenizer.token_bytes(id).to_vec() } else { Vec::new() }
        })
        .collect()
}

/// What the text must look like.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Grammar (@FILE reads it from a file)")]
pub(crate) struct GrammarFlags {
    /// The text is JSON that fits this schema; {} is any JSON.
    #[arg(
        long = "json-schema",
        alias = "grammar-json-schema",
        value_name = "SCHEMA",
        group = "grammar",
        id = "schema"
    )]
    schema: Option<String>,
    /// The text matches this regular expression.
    #[arg(long, alias = "grammar-regex", value_name = "REGEX", group = "grammar")]
    regex: Option<String>,
    /// The text fits this Lark grammar.
    #[arg(long, alias = "grammar-lark", value_name = "GRAMMAR", group = "grammar")]
    lark: Option<String>,
}

impl GrammarFlags {
    /// The grammar at the beginning of its text, if one was asked for.
    ///
    /// # Errors
    /// It cannot be read or compiled, or the model has no text.
    pub(crate) fn grammar(&self, loaded: &Loaded) -> anyhow::Result<Option<Grammar>> {
        let read = |text: &String| match text.strip_prefix('@') {
            Some(path) => std::fs::read_to_string(path)
                .explain(|| format!("cannot read {path}"), || "check the path after @".into()),
            None => Ok(text.clone()),
        };
        let schema = self.schema.as_ref().map(read).transpose()?.map(with_little_space);
        let regex = self.regex.as_ref().map(read).transpose()?;
        let lark = self.lark.as_ref().map(read).transpose()?;
        let source = match (&schema, &regex, &lark) {
            (Some(text), ..) => GrammarSource::JsonSchema(text),
            (_, Some(text), _) => GrammarSource::Regex(text),
            (_, _, Some(text)) => GrammarSource::Lark(text),
            _ => return Ok(None),
        };
        let tokenizer = loaded.tokenizer()?;
        let end = *tokenizer.end_ids().first().ok_or_else(|| {
            failure(
                format!("{} has no end token", loaded.name),
                "a grammar needs one to end its text: give a model with eos_token_id",
            )
        })?;
        let mut pieces = pieces(tokenizer);
        // A model may have more rows than its tokenizer has tokens.
        pieces.resize(loaded.engine.config().vocab_size.max(pieces.len()), Vec::new());
        let vocabulary = GrammarVocabulary::new(&pieces, end).map_err(load::explained)?;
        vocabulary.compile(&source).map(Some).map_err(load::explained)
    }
}

/// The schema with a bound on the blanks between JSON's signs, unless it has a rule of its own: small
/// models otherwise go on with blanks for ever. The pattern is that of llama.cpp's schemas.
fn with_little_space(schema: String) -> String {
    let Ok(serde_json::Value::Object(mut object)) = serde_json::from_str(&schema) else {
        // Whatever else it is, the compiler says what it thinks of it.
        return schema;
    };
    object
        .entry("x-guidance")
        .or_insert_with(|| serde_json::json!({ "whitespace_pattern": r"( |\n{1,2}[ \t]{0,20})?" }));
    serde_json::Value::Object(object).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn biases() {
        for (text, expected) in [
            ("15=-1.5", Some((15, -1.5))),
            ("15-1", Some((15, -1.0))),
            ("15+2", Some((15, 2.0))),
            ("15=-inf", Some((15, f32::NEG_INFINITY))),
            ("15", None),
            ("=1", None),
            ("x=1", None),
            ("99999999999=1", None),
        ] {
            assert_eq!(parse_bias(text).ok(), expected, "{text}");
        }
    }
}
