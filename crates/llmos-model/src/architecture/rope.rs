//! Rotary encodings and the ways in which they are stretched to longer contexts.
//!
//! Sources: RoPE (arXiv 2104.09864), YaRN (arXiv 2309.00071), LongRoPE (arXiv 2402.13753), Llama
//! 3.1's reference code; formulas as in transformers' `modeling_rope_utils.py`.

use std::f64::consts::PI;
use std::path::Path;

use crate::Error;

/// How a rotary encoding is stretched.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Scaling {
    None,
    /// All frequencies are divided by the factor.
    Linear {
        factor: f64,
    },
    /// Low frequencies are divided by the factor, high ones kept, those between blended.
    Llama3 {
        factor: f64,
        low_freq_factor: f64,
        high_freq_factor: f64,
        original_context: usize,
    },
    /// Each frequency is divided by its own factor, (n_rot / 2): what GGUF has for Llama 3.
    Factors(Vec<f32>),
    /// Frequencies below a number of rotations are divided by the factor, by a linear ramp.
    Yarn {
        factor: f64,
        original_context: usize,
        beta_fast: f64,
        beta_slow: f64,
        /// The ramp's ends are rounded to whole pairs.
        truncate: bool,
        magnitude: f64,
    },
    /// Two sets of divisors, (n_rot / 2): for contexts up to the original one and beyond it.
    LongRope {
        short: Vec<f32>,
        long: Vec<f32>,
        original_context: usize,
        magnitude: f64,
    },
}

/// Angle a position for each pair, `theta^(-2i / n_rot)`, (n_rot / 2).
fn plain(theta: f64, n_rot: usize) -> Vec<f64> {
    (0..n_rot / 2).map(|i| theta.powf(-((2 * i) as f64) / n_rot as f64)).collect()
}

/// YaRN's attention factor as its paper suggests.
pub(crate) fn yarn_magnitude(factor: f64, mscale: f64) -> f64 {
    if factor <= 1.0 { 1.0 } else { 0.1 * mscale * factor.ln() + 1.0 }
}

/// Divisors of the frequencies, (n_rot / 2): Llama 3's scaling as GGUF stores it.
pub(crate) fn llama3_factors(
    theta: f64,
    n_rot: usize,
    factor: f64,
    low_freq_factor: f64,
    high_freq_factor: f64,
    original_context: usize,
) -> Vec<f64> {
    let context = original_context as f64;
    let divisor = |frequency: f64| {
        let wavelength = 2.0 * PI / frequency;
        if wavelength < context / high_freq_factor {
            1.0
        } else if wavelength > context / low_freq_factor {
            factor
        } else {
            let smooth =
                (context / wavelength - low_freq_factor) / (high_freq_factor - low_freq_factor);
            1.0 / ((1.0 - smooth) / factor + smooth)
        }
    };
    plain(theta, n_rot).into_iter().map(divisor).collect()
}

/// Frequencies, those for contexts beyond an original one, magnitude.
type Folded = (Vec<f32>, Option<(usize, Vec<f32>)>, f32);

impl Scaling {
    /// Refuses what would divide by nothing or not fit the head.
    pub(crate) fn check(&self, n_rot: usize, path: &Path) -> Result<(), Error> {
        let positive = |field: &str, number: f64| {
            if number.is_finite() && number > 0.0 {
                return Ok(());
            }
            Err(Error::format(path, format!("rope scaling {field}"), "a positive number", number))
        };
        let factors = |field: &str, list: &[f32]| {
            if list.len() != n_rot / 2 {
                let expected = format!("{} factors", n_rot / 2);
                return Err(Error::format(path, field, expected, list.len()));
            }
            list.iter().try_for_each(|&x| positive(field, f64::from(x)))
        };
        let context = |number: usize| match number {
            1..=0x7fff_ffff => Ok(()),
            _ => Err(Error::format(path, "original context", "1 to 2147483647", number)),
        };
        match self {
            Scaling::None => Ok(()),
            Scaling::Linear { factor } => positive("factor", *factor),
            Scaling::Llama3 { factor, low_freq_factor, high_freq_factor, original_context } => {
                positive("factor", *factor)?;
                positive("low_freq_factor", *low_freq_factor)?;
                positive("high_freq_factor", *high_freq_factor)?;
                context(*original_context)
            }
            Scaling::Factors(list) => factors("rope_freqs.weight", list),
            Scaling::Yarn { factor, original_context, beta_fast, beta_slow, magnitude, .. } => {
                positive("factor", *factor)?;
                positive("beta_fast", *beta_fast)?;
                positive("beta_slow", *beta_slow)?;
                positive("attention factor", *magnitude)?;
                context(*original_context)
            }
            Scaling::LongRope { short, long, original_context, magnitude } => {
                factors("short factors", short)?;
                factors("long factors", long)?;
                positive("attention factor", *magnitude)?;
                context(*original_context)
            }
        }
    }

    /// The frequencies with the scaling in them.
    pub(super) fn fold(&self, theta: f64, n_rot: usize) -> Folded {
        let plain = plain(theta, n_rot);
        let divided = |divisors: &[f32]| -> Vec<f32> {
            plain.iter().zip(divisors).map(|(x, &d)| (x / f64::from(d)) as f32).collect()
        };
        match self {
            Scaling::None => (plain.iter().map(|&x| x as f32).collect(), None, 1.0),
            Scaling::Linear { factor } => {
                (plain.iter().map(|x| (x / factor) as f32).collect(), None, 1.0)
            }
            &Scaling::Llama3 { factor, low_freq_factor, high_freq_factor, original_context } => {
                let divisors = llama3_factors(
                    theta,
                    n_rot,
                    factor,
                    low_freq_factor,
                    high_freq_factor,
                    original_context,
                );
                (plain.iter().zip(divisors).map(|(x, d)| (x / d) as f32).collect(), None, 1.0)
            }
            Scaling::Factors(divisors) => (divided(divisors), None, 1.0),
            Scaling::Yarn {
                factor,
                original_context,
                beta_fast,
                beta_slow,
                truncate,
                magnitude,
            } => {
                // The pair that turns this often within the original context.
                let pair = |rotations: f64| {
                    let context = *original_context as f64;
                    n_rot as f64 * (context / (rotations * 2.0 * PI)).ln() / (2.0 * theta.ln())
                };
                let (mut low, mut high) = (pair(*beta_fast), pair(*beta_slow));
                if *truncate {
                    (low, high) = (low.floor(), high.ceil());
                }
                let low = low.max(0.0);
                let mut high = high.min((n_rot - 1) as f64);
                if low == high {
                    high += 0.001;
                }
                let blended = plain.iter().enumerate().map(|(i, x)| {
                    let ramp = ((i as f64 - low) / (high - low)).clamp(0.0, 1.0);
                    (x / factor * ramp + x * (1.0 - ramp)) as f32
                });
                (blended.collect(), None, *magnitude as f32)
            }
            Scaling::LongRope { short, long, original_context, magnitude } => {
                (divided(short), Some((*original_context, divided(long))), *magnitude as f32)
            }
        }
    }
}
