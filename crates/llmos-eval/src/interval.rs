//! Error bars: how far a figure may be from what it would be with endless data.
//!
//! All intervals are of 95 %. Random choices follow from a seed.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use serde::{Deserialize, Serialize};

/// The quantile of the normal distribution below which 97.5 % lie.
const Z: f64 = 1.959_963_984_540_054;

/// Samples that are drawn for a bootstrap: the ends then wobble by some hundredths of the interval.
const RESAMPLES: usize = 2000;

/// A figure with the ends of its interval.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Estimate {
    /// The figure.
    pub value: f64,
    /// The lower end.
    pub low: f64,
    /// The upper end.
    pub high: f64,
}

/// The share of `right` in `count`, with Wilson's interval (1927): it stays within 0 to 1 and has a
/// width where all or none are right. None of nothing.
pub fn share(right: usize, count: usize) -> Option<Estimate> {
    if count == 0 {
        return None;
    }
    let n = count as f64;
    let value = right as f64 / n;
    let middle = value + Z * Z / (2.0 * n);
    let spread = Z * (value * (1.0 - value) / n + Z * Z / (4.0 * n * n)).sqrt();
    let whole = 1.0 + Z * Z / n;
    let low = ((middle - spread) / whole).clamp(0.0, value);
    Some(Estimate { value, low, high: ((middle + spread) / whole).clamp(value, 1.0) })
}

/// Two-sided exact test of McNemar (1947): how likely it is that of `gained + lost` pairs which
/// differ at least so many differ the same way, if either way were as likely.
pub fn mcnemar(gained: usize, lost: usize) -> f64 {
    let n = gained + lost;
    let least = gained.min(lost);
    // The logarithm of n over k, added up, so that large counts do not overflow.
    let mut log_choose = 0.0;
    let mut tail = 0.0;
    for k in 0..=least {
        if k > 0 {
            log_choose += ((n - k + 1) as f64 / k as f64).ln();
        }
        tail += (log_choose - n as f64 * std::f64::consts::LN_2).exp();
    }
    (2.0 * tail).min(1.0)
}

/// The sum of `parts`' first numbers over that of their second ones, such as bits over bytes, with a
/// percentile bootstrap over the parts (Efron, 1979). None where the second ones add up to nothing.
pub fn ratio(parts: &[(f64, f64)], seed: u64) -> Option<Estimate> {
    let pairs: Vec<[(f64, f64); 2]> = parts.iter().map(|&part| [part, (0.0, 1.0)]).collect();
    difference_of_ratios(&pairs, seed)
}

/// How much larger the second ratio is than the first, of the same parts measured twice: whole parts
/// are drawn, so that what makes a part hard weighs on neither.
pub fn difference_of_ratios(parts: &[[(f64, f64); 2]], seed: u64) -> Option<Estimate> {
    let sign = |of: &[[f64; 2]; 2]| of[0][0] / of[0][1] - of[1][0] / of[1][1];
    let add = |sums: &mut [[f64; 2]; 2], part: &[(f64, f64); 2]| {
        for (sum, (over, under)) in sums.iter_mut().zip(part) {
            sum[0] += over;
            sum[1] += under;
        }
    };
    let mut sums = [[0.0; 2]; 2];
    parts.iter().for_each(|part| add(&mut sums, part));
    if parts.is_empty() || sums[0][1] <= 0.0 || sums[1][1] <= 0.0 {
        return None;
    }
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let mut draws: Vec<f64> = (0..RESAMPLES)
        .map(|_| {
            let mut sums = [[0.0; 2]; 2];
            (0..parts.len()).for_each(|_| add(&mut sums, &parts[below(&mut random, parts.len())]));
            sign(&sums)
        })
        .filter(|value| value.is_finite())
        .collect();
    draws.sort_by(f64::total_cmp);
    let value = sign(&sums);
    let at = |share: f64| {
        let place = share * (draws.len().saturating_sub(1)) as f64;
        let (low, part) = (place.floor() as usize, place.fract());
        let next = draws.get(low + 1).or(draws.get(low)).copied().unwrap_or(value);
        draws.get(low).map_or(value, |low| low * (1.0 - part) + next * part)
    };
    Some(Estimate { value, low: at(0.025), high: at(0.975) })
}

/// How much more often the second of two marks of the same rows is right than the first, with a
/// bootstrap over the rows: `[first, second]` each. None of nothing.
pub fn difference_of_shares(rows: &[[bool; 2]], seed: u64) -> Option<Estimate> {
    let one = |right: bool| (f64::from(u8::from(right)), 1.0);
    let parts: Vec<[(f64, f64); 2]> =
        rows.iter().map(|&[first, second]| [one(second), one(first)]).collect();
    difference_of_ratios(&parts, seed)
}

/// A number below `n`, each as likely to within 2^-32.
fn below(random: &mut ChaCha8Rng, n: usize) -> usize {
    ((u128::from(random.next_u64()) * n as u128) >> 64) as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    /// Made by `testdata/eval/make.py` with SciPy.
    fn golden() -> Value {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../testdata/eval/intervals.json");
        serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
    }

    fn cases(golden: &Value, name: &str) -> Vec<Vec<f64>> {
        serde_json::from_value(golden[name].clone()).unwrap()
    }

    #[test]
    fn shares_have_scipys_intervals() {
        for case in cases(&golden(), "wilson") {
            let got = share(case[0] as usize, case[1] as usize).unwrap();
            assert!((got.low - case[2]).abs() < 1e-12, "{case:?} {got:?}");
            assert!((got.high - case[3]).abs() < 1e-12, "{case:?} {got:?}");
        }
        assert_eq!(share(0, 0), None);
    }

    #[test]
    fn mcnemars_test_is_scipys() {
        for case in cases(&golden(), "mcnemar") {
            let got = mcnemar(case[0] as usize, case[1] as usize);
            assert!((got / case[2] - 1.0).abs() < 1e-9, "{case:?} {got}");
        }
    }

    #[test]
    fn bootstraps_are_near_scipys() {
        let golden = golden();
        let parts: Vec<(f64, f64)> = serde_json::from_value(golden["parts"].clone()).unwrap();
        let check = |got: Estimate, name: &str| {
            let [value, low, high]: [f64; 3] =
                serde_json::from_value(golden[name].clone()).unwrap();
            assert!((got.value - value).abs() < 1e-12, "{got:?}");
            let near = |a: f64, b: f64| (a - b).abs() < 0.08 * (high - low);
            assert!(near(got.low, low) && near(got.high, high), "{got:?} {low} {high}");
        };
        check(ratio(&parts, 1).unwrap(), "ratio");
        let other: Vec<(f64, f64)> = serde_json::from_value(golden["other"].clone()).unwrap();
        let pairs: Vec<_> = other.iter().zip(&parts).map(|(&b, &a)| [b, a]).collect();
        check(difference_of_ratios(&pairs, 1).unwrap(), "difference");
        assert_eq!(ratio(&parts, 7), ratio(&parts, 7));
        assert_ne!(ratio(&parts, 7), ratio(&parts, 8));
        assert_eq!(ratio(&[], 1), None);
        let rows = [[false, true], [true, true], [false, false], [false, true]];
        let better = difference_of_shares(&rows, 1).unwrap();
        assert_eq!(better.value, 0.5);
        assert!(better.low >= 0.0 && better.high <= 1.0, "{better:?}");
    }
}
