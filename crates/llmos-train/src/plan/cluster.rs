//! A run on accelerators: parameters, tokens, and whatever else is known; the rest is solved for.
//!
//! Three equations tie everything: 6 * N * D operations; operations = GPU-hours * peak * MFU; GPU-hours
//! = GPUs * hours = dollars / price.

use serde::Serialize;

use super::amount::{bytes, figures, shown};
use crate::Error;

/// Model FLOPs utilisation where nothing fixes it: what Llama 2 70B's published GPU-hours come to
/// (1,720,320 hours of A100 for 2.0e12 tokens, arXiv 2307.09288).
pub const USUAL_MFU: f64 = 0.43;

/// Bytes of a parameter in half precision.
pub const BYTES_PER_PARAMETER: f64 = 2.0;

/// Bytes of a parameter while it is trained in mixed precision with AdamW: weight and gradient in
/// half precision, a weight and two means in single (arXiv 1910.02054, section 3.1). What a batch takes
/// beside that depends on how the work is cut up.
pub const BYTES_IN_TRAINING: f64 = 16.0;

/// Bytes of web text that a token stands for.
pub const BYTES_PER_TOKEN: f64 = 5.0;

/// Numbers that people round may differ by this much and still mean the same.
const TOLERANCE: f64 = 0.02;

/// What is known of a run on accelerators.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Order {
    /// Parameters (N).
    pub params: f64,
    /// Tokens that are learnt from (D).
    pub tokens: f64,
    /// FLOP/s of one accelerator at most.
    pub peak: f64,
    /// Bytes of memory of one accelerator; none where it is not asked whether the run fits.
    pub memory: Option<f64>,
    /// Accelerators.
    pub gpus: Option<f64>,
    /// Days.
    pub days: Option<f64>,
    /// Share of the peak that goes into the 6 * N * D operations.
    pub mfu: Option<f64>,
    /// Money in all.
    pub dollars: Option<f64>,
    /// Money for an accelerator and an hour.
    pub price: Option<f64>,
}

/// A run on accelerators with everything that follows from what is known.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Cluster {
    /// Parameters (N).
    pub params: f64,
    /// Tokens that are learnt from (D).
    pub tokens: f64,
    /// 6 * N * D.
    pub flops: f64,
    /// Accelerators, whole ones; none where neither they nor days are given.
    pub gpus: Option<f64>,
    /// Days; none where neither they nor accelerators are given.
    pub days: Option<f64>,
    /// Hours of all accelerators together.
    pub gpu_hours: f64,
    /// Money in all; none where neither it nor a price is given.
    pub dollars: Option<f64>,
    /// Money for an accelerator and an hour; none as above.
    pub price: Option<f64>,
    /// Share of the peak.
    pub mfu: f64,
    /// Whether the share is [`USUAL_MFU`], because nothing fixed it.
    pub mfu_is_assumed: bool,
    /// The model's file, at 2 bytes a parameter.
    pub parameter_bytes: f64,
    /// Weights, gradients and what the optimizer remembers, at 16 bytes a parameter.
    pub training_bytes: f64,
    /// The fewest accelerators whose memory holds that; none where the memory is not known.
    pub fewest_gpus: Option<f64>,
    /// The text, at 5 bytes a token.
    pub corpus_bytes: f64,
}

impl Order {
    /// Solves for what is not given.
    ///
    /// # Errors
    /// [`Error::Setting`] for a number that cannot be, for numbers that contradict one another, and
    /// for more than the peak allows; with the numbers.
    pub fn solve(&self) -> Result<Cluster, Error> {
        self.check()?;
        let flops = 6.0 * self.params * self.tokens;
        // GPU-hours at full use.
        let least_hours = flops / self.peak / 3600.0;
        let by_days = self.gpus.zip(self.days).map(|(gpus, days)| gpus * days * 24.0);
        let by_money = self.dollars.zip(self.price).map(|(dollars, price)| dollars / price);
        let by_mfu = self.mfu.map(|mfu| least_hours / mfu);
        let sources = [
            (by_days, "--gpus and --days"),
            (by_money, "--dollars and --price"),
            (by_mfu, "--params, --tokens and --mfu"),
        ];
        let mut known = sources.into_iter().filter_map(|(hours, words)| Some((hours?, words)));
        let first = known.next();
        if let Some((hours, words)) = first {
            let differs = |other: f64| (other / hours - 1.0).abs() > TOLERANCE;
            if let Some((other, other_words)) = known.find(|(other, _)| differs(*other)) {
                let problem = format!(
                    "they contradict {words}: {} GPU-hours here, {} there; leave one of them out",
                    figures(other, 3),
                    figures(hours, 3),
                );
                return Err(setting(other_words, problem));
            }
        }
        let gpu_hours = first.map_or(least_hours / USUAL_MFU, |(hours, _)| hours);
        // A share that was given is one rounded, where hours that were given say what it is.
        let mfu = match by_days.or(by_money) {
            Some(hours) => least_hours / hours,
            None => self.mfu.unwrap_or(USUAL_MFU),
        };
        if mfu > 1.0 {
            return Err(self.too_little(gpu_hours, least_hours));
        }
        let fewest_gpus = self.fewest_gpus();
        let gpus = self.gpus.or_else(|| {
            let needed = gpu_hours / 24.0 / self.days?;
            // Just above a whole number is rounding.
            Some((needed - 1e-9).ceil().max(fewest_gpus.unwrap_or(1.0)))
        });
        let cluster = Cluster {
            params: self.params,
            tokens: self.tokens,
            flops,
            gpus,
            // Whole accelerators are done sooner than the part of one that the days take.
            days: gpus.map(|gpus| gpu_hours / 24.0 / gpus),
            gpu_hours,
            dollars: self.price.map(|price| price * gpu_hours).or(self.dollars),
            price: self.price.or_else(|| Some(self.dollars? / gpu_hours)),
            mfu,
            mfu_is_assumed: first.is_none(),
            parameter_bytes: BYTES_PER_PARAMETER * self.params,
            training_bytes: BYTES_IN_TRAINING * self.params,
            fewest_gpus,
            corpus_bytes: BYTES_PER_TOKEN * self.tokens,
        };
        cluster.check()
    }

    /// The fewest accelerators that hold what is trained.
    fn fewest_gpus(&self) -> Option<f64> {
        Some((BYTES_IN_TRAINING * self.params / self.memory?).ceil().max(1.0))
    }

    fn check(&self) -> Result<(), Error> {
        let numbers = [
            ("--params", Some(self.params), 1.0),
            ("--tokens", Some(self.tokens), 1.0),
            ("peak", Some(self.peak), 1.0),
            ("--gpus", self.gpus, 1.0),
            ("--days", self.days, 0.0),
            ("--mfu", self.mfu, 0.0),
            ("--dollars", self.dollars, 0.0),
            ("--price", self.price, 0.0),
        ];
        for (key, number, least) in numbers {
            let Some(number) = number else { continue };
            if !number.is_finite() || number <= 0.0 || number < least {
                let problem = match least {
                    0.0 => format!("{number} is not above 0"),
                    least => format!("{number} is too few; the nearest is {least}"),
                };
                return Err(setting(key, problem));
            }
        }
        if let Some(gpus) = self.gpus.filter(|gpus| gpus.fract() != 0.0) {
            let problem = format!("{gpus} is no whole number; the nearest is {}", gpus.round());
            return Err(setting("--gpus", problem));
        }
        if let (Some(gpus), Some(fewest), Some(memory)) =
            (self.gpus, self.fewest_gpus(), self.memory)
            && gpus < fewest
        {
            let problem = format!(
                "{} x {} of memory are less than the {} of weights, gradients and optimizer, at \
                 {BYTES_IN_TRAINING} bytes a parameter; the nearest number that holds them is {}",
                figures(gpus, 3),
                bytes(memory),
                bytes(BYTES_IN_TRAINING * self.params),
                figures(fewest, 3),
            );
            return Err(setting("--gpus", problem));
        }
        if let Some(mfu) = self.mfu.filter(|mfu| *mfu > 1.0) {
            // Whoever says 43 means per cent.
            let nearest = if (2.0..=100.0).contains(&mfu) { mfu / 100.0 } else { 1.0 };
            let problem = format!("{mfu} is no share of the peak; the nearest is {nearest}");
            return Err(setting("--mfu", problem));
        }
        Ok(())
    }

    /// More arithmetic than the hours have: what would do.
    fn too_little(&self, gpu_hours: f64, least_hours: f64) -> Error {
        let usual = least_hours / USUAL_MFU;
        let mut ways = Vec::new();
        if let Some(days) = self.days {
            ways.push(format!("{} GPUs", figures((usual / 24.0 / days).ceil(), 3)));
        }
        if let Some(gpus) = self.gpus {
            ways.push(format!("{} days", figures(usual / 24.0 / gpus, 3)));
        }
        if let Some(price) = self.price {
            ways.push(format!("${}", figures((usual * price).ceil(), 3)));
        }
        let tokens = USUAL_MFU * gpu_hours * 3600.0 * self.peak / 6.0 / self.params;
        ways.push(format!("{} tokens", shown(tokens)));
        let problem = format!(
            "{} GPU-hours are given and {} are needed at the peak itself (an MFU of {}); the \
             nearest that can be, at an MFU of {USUAL_MFU}, is {}",
            figures(gpu_hours, 3),
            figures(least_hours, 3),
            figures(least_hours / gpu_hours, 3),
            ways.join(" or "),
        );
        setting("plan", problem)
    }
}

impl Cluster {
    /// Refuses numbers that are too large to be reckoned with.
    fn check(self) -> Result<Cluster, Error> {
        let known = [self.flops, self.gpu_hours, self.mfu, self.training_bytes, self.corpus_bytes];
        let solved = [self.gpus, self.days, self.dollars, self.price, self.fewest_gpus];
        let mut all = known.into_iter().chain(solved.into_iter().flatten());
        if all.all(f64::is_finite) {
            return Ok(self);
        }
        let (params, tokens) = (self.params, self.tokens);
        let problem = format!("{params:e} parameters and {tokens:e} tokens are beyond all numbers");
        Err(setting("--params", problem))
    }
}

fn setting(key: &str, problem: String) -> Error {
    Error::Setting { key: key.to_string(), problem }
}
