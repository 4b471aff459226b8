//! The scaling law: what a run of this size on so much text ends with, in bits per byte.
//!
//! The form is that of Hoffmann et al. (arXiv 2203.15556), in proportion to what small models reached
//! on the same text ([`Pilot`]): texts differ in how hard they are, and in how much of that is learnt
//! early, more than in anything else. The numbers are a file, `law.toml`, with their provenance; a law
//! that was not fitted predicts nothing.

use serde::{Deserialize, Serialize};

use super::parameters::Parameters;
use super::pilot::Pilot;
use crate::recipe::{Recipe, Text};

/// `(e + a / N^alpha + 1 / D^beta) T^delta`, up to a factor, with N in millions of parameters, D in
/// megabytes of text and T in 128 tokens of context. The factor and `e`, what no model saves, are the
/// text's; the rest is fitted on runs of ours.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Law {
    /// Weight of the model's size.
    pub a: f64,
    /// Exponent of the model's size.
    pub alpha: f64,
    /// Exponent of the text's size.
    pub beta: f64,
    /// Exponent of the context: short runs learn less of a long one.
    pub delta: f64,
    /// Standard deviation of ln(actual / predicted) over the runs.
    pub spread: f64,
    /// The least and the most parameters of the runs, in millions.
    pub parameters: [f64; 2],
    /// The least and the most text that the runs read, in megabytes.
    pub bytes: [f64; 2],
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
    /// Tokens in a sequence (T).
    pub context: f64,
}

/// Readings after which a text has taught most of what more of them would
/// (Muennighoff et al., arXiv 2305.16264).
const READINGS: f64 = 15.4;

impl Size {
    /// That of a recipe on a text.
    pub fn of(recipe: &Recipe, text: &Text) -> Size {
        let tokens = text.likely_tokens(recipe.model.vocab_size).max(1) as f64;
        let again = (recipe.train.tokens() as f64 / tokens - 1.0).max(0.0);
        let worth = 1.0 + READINGS * (1.0 - (-again / READINGS).exp());
        let read = (recipe.train.tokens() as f64 / tokens).min(worth);
        Size {
            parameters: Parameters::of(&recipe.model).total() as f64,
            bytes: read * text.bytes as f64,
            context: recipe.train.context as f64,
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

/// What the readings of a text are worth, in first ones, up to which the law was fitted: 5.2 readings
/// are 4.7, those of the longest run on the shortest text (bench/law-runs.jsonl).
const MOST_READ: f64 = 4.75;

/// Bits a byte that any byte takes where nothing is known of it.
const MOST_BITS: f64 = 8.0;

/// Share of what more parameters and text would save that may be taken off for good.
const MOST_SAVED: f64 = 0.8;

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

    /// What a run ends with on a text that was tried; none where the law knows nothing: where the run
    /// or the trial reads the text more often than the runs did that it was fitted on, where a longer
    /// trial was no better, and beyond 8 bits a byte.
    pub fn forecast(&self, recipe: &Recipe, text: &Text) -> Option<Prediction> {
        let pilot = text.pilot.as_ref()?;
        let size = Size::of(recipe, text);
        let [(_, start), (tried, end)] = pilot.ends;
        let is_read_often = |size: Size| size.bytes > MOST_READ * text.bytes as f64;
        if end >= start || is_read_often(size) || is_read_often(tried) {
            return None;
        }
        Some(self.predict(size, pilot)).filter(|forecast| forecast.bits_per_byte <= MOST_BITS)
    }

    /// What a run of this size ends with on the text on which small models ended as `pilot` says.
    pub fn predict(&self, size: Size, pilot: &Pilot) -> Prediction {
        let [(first, start), (second, end)] = pilot.ends;
        // The part that no model saves is what makes the law go through both ends.
        let ratio = (end / start) * (self.context(first) / self.context(second));
        let (before, after) = (self.saved(first), self.saved(second));
        // A text of which a small model learns ever more has none; the law must stay one that falls.
        let least = -MOST_SAVED * before.min(after);
        let e = ((ratio * before - after) / (1.0 - ratio)).max(least);
        let at = |size: Size| (e + self.saved(size)) * self.context(size);
        let bits_per_byte = end * at(size).max(0.0) / at(second);
        let factor = (DEVIATIONS * self.spread * (1.0 + self.distance(size))).exp();
        Prediction { bits_per_byte, low: bits_per_byte / factor, high: bits_per_byte * factor }
    }

    /// How far a run lies outside those that the law was fitted on, in powers of ten. Each of them
    /// widens the interval by its own width: no run of ours says how wrong the law is out there, only
    /// that it must be less sure.
    fn distance(&self, size: Size) -> f64 {
        let beyond = |number: f64, [least, most]: [f64; 2]| {
            let number = number / 1e6;
            (number / most).log10().max((least / number).log10()).max(0.0)
        };
        beyond(size.parameters, self.parameters) + beyond(size.bytes, self.bytes)
    }

    /// What more parameters and more text would save.
    fn saved(&self, size: Size) -> f64 {
        let term = |number: f64, exponent: f64| (number / 1e6).powf(-exponent);
        self.a * term(size.parameters, self.alpha) + term(size.bytes, self.beta)
    }

    fn context(&self, size: Size) -> f64 {
        (size.context / 128.0).powf(self.delta)
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
    fn a_law_goes_through_what_small_models_reached() {
        // Invented numbers that come out even.
        let text = "[law]\na = 1.0\nalpha = 0.5\nbeta = 0.5\ndelta = 0.0\nspread = 0.02\n\
                    parameters = [1.0, 4.0]\nbytes = [0.25, 4.0]\n\
                    texts = \"none\"\nruns = 0\nfitted = \"never\"";
        let law = Law::from_toml(text).unwrap().unwrap();
        let size = |parameters: f64, bytes: f64| Size { parameters, bytes, context: 128.0 };
        // With e = 2: 2 + 1 + 2 = 5 and 2 + 1 + 1 = 4, of a text whose factor is 0.5.
        let (first, second) = (size(1e6, 0.25e6), size(1e6, 1e6));
        let pilot = Pilot { ends: [(first, 2.5), (second, 2.0)] };
        for (size, expected) in [(first, 2.5), (second, 2.0), (size(4e6, 4e6), 1.5)] {
            let prediction = law.predict(size, &pilot);
            assert!((prediction.bits_per_byte - expected).abs() < 1e-12, "{prediction:?}");
            let factor = (1.96f64 * 0.02).exp();
            assert!((prediction.high / prediction.bits_per_byte - factor).abs() < 1e-12);
            assert!((prediction.bits_per_byte / prediction.low - factor).abs() < 1e-12);
        }
        // Ten times as large and a hundred times as far in the text: four times as wide in ln.
        let far = law.predict(size(4e7, 4e8), &pilot);
        let width = (far.high / far.low).ln() / (2.0 * 1.96 * 0.02);
        assert!((width - 4.0).abs() < 1e-9, "{width}");
        // Ends that no law of this form has, rising ones among them, still give a number.
        for ends in [[(first, 2.5), (second, 0.1)], [(first, 2.0), (second, 2.5)]] {
            let bits = law.predict(size(4e6, 4e6), &Pilot { ends }).bits_per_byte;
            assert!(bits.is_finite() && bits >= 0.0, "{bits}");
        }
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
            assert_eq!(size.context, 128.0);
            size.bytes / 4e6
        };
        assert!((bytes(500_000) - 0.5).abs() < 0.01);
        assert!((bytes(4_000_000) - 3.73).abs() < 0.02);
        assert!(bytes(400_000_000) < 16.5);
    }

    #[test]
    fn a_text_that_is_read_again_and_again_has_no_forecast() {
        let law = Law::fitted().unwrap();
        let of = |readings: i64, ends: [f64; 2], tried: f64| {
            let size = |bytes: f64| Size { parameters: 2e5, bytes, context: 128.0 };
            let pilot = Pilot { ends: [(size(3e5), ends[0]), (size(tried), ends[1])] };
            let text = Text {
                bytes: 1_000_000,
                tokens: Some(400_000),
                pilot: Some(pilot),
                ..Text::default()
            };
            let mut draft = Draft::default();
            draft.set("train.tokens", 400_000 * readings, "a test").unwrap();
            let facts = Facts { text: Some(text.clone()), ..Facts::default() };
            law.forecast(&draft.resolve(&facts).unwrap().recipe, &text)
        };
        assert!(of(5, [2.7, 2.3], 1e6).is_some());
        assert_eq!(of(75, [2.7, 2.3], 1e6), None);
        // The trial itself learnt the text by heart, or got worse, or was far from anything known.
        assert_eq!(of(2, [2.7, 2.3], 6e6), None);
        assert_eq!(of(2, [2.7, 2.8], 1e6), None);
        assert_eq!(of(2, [12.0, 11.0], 1e6), None);
    }
}
