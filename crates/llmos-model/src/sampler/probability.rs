//! Probabilities of single tokens, without a sampler's changes.

/// `ln(sum(exp(logits)))`, summed in f64. Minus infinity without a finite logit.
pub fn log_sum_exp(logits: &[f32]) -> f64 {
    let max = logits.iter().fold(f32::NEG_INFINITY, |max, &logit| max.max(logit));
    if max == f32::NEG_INFINITY {
        return f64::NEG_INFINITY;
    }
    let max = f64::from(max);
    max + logits.iter().map(|&logit| (f64::from(logit) - max).exp()).sum::<f64>().ln()
}

/// The natural logarithm of the probability that softmax over `logits` (V) gives to `token`.
///
/// # Panics
/// If `token` is not below V.
pub fn log_probability(logits: &[f32], token: u32) -> f64 {
    f64::from(logits[token as usize]) - log_sum_exp(logits)
}

/// The `count` likeliest tokens with their probabilities, likeliest first, the lower id among
/// equals.
pub fn most_likely(logits: &[f32], count: usize) -> Vec<(u32, f64)> {
    if count == 0 || logits.is_empty() {
        return Vec::new();
    }
    let total = log_sum_exp(logits);
    let mut candidates = super::candidates::Candidates::default();
    candidates.fill(logits, count.min(logits.len()));
    let items = candidates.items().iter();
    items.map(|item| (item.id, (f64::from(item.logit) - total).exp())).collect()
}

/// The likeliest token, the lowest id among equals; none if there is a NaN or nothing at all.
pub fn argmax(logits: &[f32]) -> Option<u32> {
    // Several maxima side by side, so that the compiler compares whole vectors.
    const LANES: usize = 32;
    let mut most = [f32::NEG_INFINITY; LANES];
    let mut nan = false;
    let (groups, rest) = logits.as_chunks::<LANES>();
    for group in groups {
        for (most, &logit) in most.iter_mut().zip(group) {
            *most = if logit > *most { logit } else { *most };
            nan |= logit.is_nan();
        }
    }
    for &logit in rest {
        most[0] = if logit > most[0] { logit } else { most[0] };
        nan |= logit.is_nan();
    }
    if nan {
        return None;
    }
    let largest = most.into_iter().fold(f32::NEG_INFINITY, f32::max);
    logits.iter().position(|&logit| logit == largest).map(|id| id as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_do_not_overflow() {
        assert!((log_sum_exp(&[1000.0, 1000.0]) - (1000.0 + 2f64.ln())).abs() < 1e-12);
        assert!((log_sum_exp(&[-1000.0, f32::NEG_INFINITY]) + 1000.0).abs() < 1e-12);
        assert!((log_probability(&[0.0, 0.0, 0.0, 0.0], 2) + 4f64.ln()).abs() < 1e-12);
    }

    #[test]
    fn likeliest_come_first_and_equals_by_id() {
        let logits = [1.0, 3.0, 3.0, 2.0];
        let ids: Vec<u32> = most_likely(&logits, 3).iter().map(|&(id, _)| id).collect();
        assert_eq!(ids, [1, 2, 3]);
        let all: f64 = most_likely(&logits, 9).iter().map(|&(_, p)| p).sum();
        assert!((all - 1.0).abs() < 1e-9);
        assert_eq!(argmax(&logits), Some(1));
        assert_eq!(argmax(&[f32::NAN, 1.0]), None);
    }
}
