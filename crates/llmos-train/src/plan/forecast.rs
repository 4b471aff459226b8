//! Forecast beside actual: what was said before a run and what came of it.

use serde::{Deserialize, Serialize};

use super::run::RunPlan;

/// What is said before a run, kept in its folder.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Forecast {
    /// The whole process.
    pub seconds: Option<f64>,
    /// Memory at the peak.
    pub memory_bytes: Option<u64>,
    /// Held-out bits per byte at the end.
    pub val_bits_per_byte: Option<f64>,
    /// Lower end of its interval.
    pub low: Option<f64>,
    /// Upper end of its interval.
    pub high: Option<f64>,
}

impl From<&RunPlan> for Forecast {
    fn from(plan: &RunPlan) -> Forecast {
        Forecast {
            seconds: plan.seconds.map(|seconds| seconds.total()),
            memory_bytes: Some(plan.memory.total()),
            val_bits_per_byte: plan.prediction.map(|prediction| prediction.bits_per_byte),
            low: plan.prediction.map(|prediction| prediction.low),
            high: plan.prediction.map(|prediction| prediction.high),
        }
    }
}

/// What came of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// The whole process, all its parts where it was interrupted.
    pub seconds: Option<f64>,
    /// Memory at the peak.
    pub memory_bytes: Option<u64>,
    /// Held-out bits per byte at the end.
    pub val_bits_per_byte: Option<f64>,
}

/// `forecast.json` of a run: what was said, and at its end what came of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ForecastFile {
    /// What was said.
    pub forecast: Forecast,
    /// What came of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<Outcome>,
}

/// One quantity, said and come true.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Comparison {
    /// What it is, with its unit.
    pub quantity: &'static str,
    /// What was said.
    pub forecast: f64,
    /// What it was.
    pub actual: f64,
    /// Actual over forecast, less one.
    pub error: f64,
    /// Whether it lies in the interval that was said; none where none was.
    pub inside: Option<bool>,
}

impl Forecast {
    /// The quantities of which both sides are known.
    pub fn beside(&self, outcome: &Outcome) -> Vec<Comparison> {
        let bytes = |bytes: Option<u64>| bytes.map(|bytes| bytes as f64);
        let interval = self.low.zip(self.high);
        let actual_bits = outcome.val_bits_per_byte;
        let inside =
            interval.zip(actual_bits).map(|((low, high), bits)| bits >= low && bits <= high);
        let pairs = [
            ("seconds", self.seconds, outcome.seconds, None),
            ("memory, bytes", bytes(self.memory_bytes), bytes(outcome.memory_bytes), None),
            ("held-out bits per byte", self.val_bits_per_byte, actual_bits, inside),
        ];
        let both = pairs.into_iter().filter_map(|(quantity, forecast, actual, inside)| {
            let (forecast, actual) = (forecast?, actual?);
            Some(Comparison { quantity, forecast, actual, error: actual / forecast - 1.0, inside })
        });
        both.collect()
    }
}
