//! The scaling law: what a run of this size on so much text ends with, in bits per byte.
//!
//! The form is that of Hoffmann et al. (arXiv 2203.15556), in bits per byte. The numbers are a file,
//! `law.toml`, with their provenance; a law that was not fitted predicts nothing.

use serde::{Deserialize, Serialize};

/// E + A / N^alpha + B / D^beta, fitted on runs of ours.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Law {
    /// Bits a byte that no model saves.
    pub e: f64,
    /// Weight of the model's size.
    pub a: f64,
    /// Exponent of the model's size.
    pub alpha: f64,
    /// Weight of the text's size.
    pub b: f64,
    /// Exponent of the text's size.
    pub beta: f64,
    /// Standard deviation of ln(actual / predicted) over the runs.
    pub spread: f64,
    /// The text that the runs read.
    pub text: String,
    /// How many runs.
    pub runs: usize,
    /// When, where and by which command.
    pub fitted: String,
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

    /// What a model of `parameters` ends with after reading `bytes` of text.
    pub fn predict(&self, parameters: f64, bytes: f64) -> Prediction {
        let size = self.a * parameters.powf(-self.alpha);
        let text = self.b * bytes.powf(-self.beta);
        let bits_per_byte = self.e + size + text;
        let factor = (DEVIATIONS * self.spread).exp();
        Prediction { bits_per_byte, low: bits_per_byte / factor, high: bits_per_byte * factor }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_carried_file_is_sound() {
        assert!(Law::from_toml(include_str!("law.toml")).is_ok());
    }

    #[test]
    fn a_law_predicts_with_an_interval() {
        // Invented numbers that come out even.
        let text = "[law]\ne = 0.5\na = 10.0\nalpha = 0.5\nb = 100.0\nbeta = 0.5\nspread = 0.02\n\
                    text = \"none\"\nruns = 0\nfitted = \"never\"";
        let law = Law::from_toml(text).unwrap().unwrap();
        let prediction = law.predict(1e4, 1e6);
        assert!((prediction.bits_per_byte - 0.7).abs() < 1e-12);
        assert!((prediction.high / 0.7 - (1.96f64 * 0.02).exp()).abs() < 1e-12);
        assert!((prediction.low * prediction.high - 0.49).abs() < 1e-12);
        assert!(Law::from_toml(&text.replace("runs = 0", "")).is_err());
    }
}
