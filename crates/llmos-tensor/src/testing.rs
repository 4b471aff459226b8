//! What the tests of several modules need: numbers that repeat, and comparisons with exact ones.

/// A linear congruential generator (Knuth's MMIX constants); numbers in -factor .. factor.
pub(crate) fn noise(seed: u64, n: usize, factor: f32) -> Vec<f32> {
    let mut state = seed;
    (0..n)
        .map(|_| {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            ((state >> 40) as f32 / (1u64 << 23) as f32 - 1.0) * factor
        })
        .collect()
}

pub(crate) fn widen(x: &[f32]) -> Vec<f64> {
    x.iter().map(|&x| f64::from(x)).collect()
}

/// Asserts |got - exact| <= absolute + relative * |exact|.
#[track_caller]
pub(crate) fn assert_close(what: &str, got: &[f32], exact: &[f64], relative: f64, absolute: f64) {
    assert_eq!(got.len(), exact.len(), "{what}");
    for (i, (got, exact)) in got.iter().zip(exact).enumerate() {
        let error = (f64::from(*got) - exact).abs();
        assert!(error <= absolute + relative * exact.abs(), "{what} at {i}: {got} for {exact}");
    }
}
