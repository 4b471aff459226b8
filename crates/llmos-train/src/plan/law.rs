//! The scaling law: what a run of this size on so much text ends with, in bits per byte.
//!
//! The form is that of Hoffmann et al. (arXiv 2203.15556) with a term for the context, in bits per
//! byte, and in proportion to what a small model reached on the same text ([`Pilot`]): texts differ in
//! how hard they are more than in how they are learnt. The numbers are a file, `law.toml`, with their
//! provenance; a law that was not fitted predicts nothing.

use serde::{Deserialize, Serialize};

use super::parameters::Parameters;
use super::pilot::Pilot;
use crate::recipe::{Recipe, Text};

/// `e + a / N^alpha + b / D^beta + c / T^gamma`, up to a factor that is the text's; fitted on runs of
/// ours.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Law {
    /// What no model saves.
    pub e: f64,
    /// Weight of the model's size.
    pub a: f64,
    /// Exponent of the model's size.
    pub alpha: f64,
    /// Weight of the text's size.
    pub b: f64,
    /// Exponent of the text's size.
    pub beta: f64,
    /// Weight of the context.
    pub c: f64,
    /// Exponent of the context.
    pub gamma: f64,
    /// Standard deviation of ln(actual / predicted) over the runs.
    pub spread: f64,
    /// The texts that the runs read.
    pub texts: String,
    /// How many runs.
    pub runs: usize,
    /// When, where and by which command.
    pub fitted: String,
}

/// What a run's end depends on.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Size {
    /// Parameters in all (N).
    pub parameters: f64,
    /// Bytes of text that are read, what is read again counting less (D).
    pub bytes: f64,
    /// Bytes of text in a sequence (T).
    pub context_bytes: f64,
}

/// Readings after which a text has taught most of what more of them would
/// (Muennighoff et al., arXiv 2305.16264).
const READINGS: f64 = 15.4;

impl Size {
    /// That of a recipe on a text.
    pub fn of(recipe: &Recipe, text: &Text) -> Size {
        let tokens = text.likely_tokens(recipe.model.vocab_size).max(1) as f64;
        let bytes_per_token = text.bytes as f64 / tokens;
        let again = (recipe.train.tokens() as f64 / tokens - 1.0).max(0.0);
        let worth = 1.0 + READINGS * (1.0 - (-again / READINGS).exp());
        let read = (recipe.train.tokens() as f64 / tokens).min(worth);
        Size {
            parameters: Parameters::of(&recipe.model).total() as f64,
            bytes: read * text.bytes as f64,
            context_bytes: recipe.train.context as f64 * bytes_per_token,
        }
    }
}

/// A forecast and the interval that holds 95 of 100 outcomes.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Prediction {
    /// The forecast.
    pub bits_per_byte: f64,
    /// The interval's lower end.
    pub low: f64,
    /// The interval's upper end.
    pub high: f64,
}

/// Standard deviations to either side that hold 95 of 100 outcomes.
const DEVIATIONS: f64 = 1.96;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    law: Option<Law>,
}

impl Law {
    /// The law that llmos carries; none as long as it is not fitted.
    pub fn fitted() -> Option<Law> {
        Law::from_toml(include_str!("law.toml")).ok().flatten()
    }

    /// The law in a text of the form of `law.toml`.
    ///
    /// # Errors
    /// What is wrong with the text.
    pub fn from_toml(text: &str) -> Result<Option<Law>, String> {
        let file: File = toml::from_str(text).map_err(|error| error.to_string())?;
        Ok(file.law)
    }

    /// What a run of this size ends with on the text on which a small model ended as `pilot` says.
    pub fn predict(&self, size: Size, pilot: &Pilot) -> Prediction {
        let bits_per_byte = pilot.bits_per_byte * self.at(size) / self.at(pilot.size);
        let factor = (DEVIATIONS * self.spread).exp();
        Prediction { bits_per_byte, low: bits_per_byte / factor, high: bits_per_byte * factor }
    }

    fn at(&self, size: Size) -> f64 {
        let term = |weight: f64, number: f64, exponent: f64| weight * number.powf(-exponent);
        self.e
            + term(self.a, size.parameters, self.alpha)
            + term(self.b, size.bytes, self.beta)
            + term(self.c, size.context_bytes, self.gamma)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recipe::{Draft, Facts};

    #[test]
    fn the_carried_file_is_sound() {
        assert!(Law::from_toml(include_str!("law.toml")).is_ok());
    }

    #[test]
    fn a_law_predicts_with_an_interval() {
        // Invented numbers that come out even.
        let text = "[law]\ne = 0.5\na = 10.0\nalpha = 0.5\nb = 100.0\nbeta = 0.5\nc = 1.0\n\
                    gamma = 1.0\nspread = 0.02\ntexts = \"none\"\nruns = 0\nfitted = \"never\"";
        let law = Law::from_toml(text).unwrap().unwrap();
        let size = Size { parameters: 1e4, bytes: 1e6, context_bytes: 10.0 };
        let small = Size { parameters: 1e2, bytes: 1e4, context_bytes: 2.0 };
        let pilot = Pilot { size: small, bits_per_byte: 6.0 };
        let prediction = law.predict(size, &pilot);
        assert!((prediction.bits_per_byte - 6.0 * 0.8 / 3.0).abs() < 1e-12);
        let factor = (1.96f64 * 0.02).exp();
        assert!((prediction.high / prediction.bits_per_byte - factor).abs() < 1e-12);
        assert!((prediction.bits_per_byte / prediction.low - factor).abs() < 1e-12);
        // The small model itself is predicted as it was.
        assert!((law.predict(small, &pilot).bits_per_byte - 6.0).abs() < 1e-12);
        assert!(Law::from_toml(&text.replace("runs = 0", "")).is_err());
    }

    #[test]
    fn what_is_read_again_teaches_less() {
        let text = Text { bytes: 4_000_000, tokens: Some(1_000_000), ..Text::default() };
        let bytes = |tokens: i64| {
            let mut draft = Draft::default();
            draft.set("train.tokens", tokens, "a test").unwrap();
            draft.set("train.context", 128, "a test").unwrap();
            let facts = Facts { text: Some(text.clone()), ..Facts::default() };
            let size = Size::of(&draft.resolve(&facts).unwrap().recipe, &text);
            assert!((size.context_bytes - 512.0).abs() < 1e-9);
            size.bytes / 4e6
        };
        assert!((bytes(500_000) - 0.5).abs() < 0.01);
        assert!((bytes(4_000_000) - 3.73).abs() < 0.02);
        assert!(bytes(400_000_000) < 16.5);
    }
}
