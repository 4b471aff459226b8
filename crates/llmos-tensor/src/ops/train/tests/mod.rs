//! Training operations over every instruction set and number of threads: against definitions in
//! double precision, against finite differences of them, and against PyTorch.

mod bias;
mod embedding;
mod gate;
mod golden;
mod loss;
mod norm;
mod optimizer;
mod rope;
mod softcap;
mod tensor;

use crate::testing::{assert_close, noise, widen};
use crate::{Device, Isa};

/// Numbers of threads that must give the same bits.
const THREADS: [usize; 3] = [1, 2, 5];

/// Calls `compute` on every instruction set; asserts that its numbers are the same to the bit for
/// all numbers of threads, and hands them to `check`.
fn on_every_device(compute: impl Fn(&Device) -> Vec<Vec<f32>>, check: impl Fn(Isa, &[Vec<f32>])) {
    for isa in Isa::available() {
        let results = THREADS.map(|threads| compute(&Device::new(isa, threads)));
        for (result, threads) in results.iter().zip(THREADS) {
            assert!(bits(result) == bits(&results[0]), "{isa}: {threads} threads, other bits");
        }
        check(isa, &results[0]);
    }
}

fn bits(result: &[Vec<f32>]) -> Vec<Vec<u32>> {
    result.iter().map(|x| x.iter().map(|x| x.to_bits()).collect()).collect()
}

/// Asserts |got - exact| <= the bound of each number.
#[track_caller]
fn assert_within(what: &str, got: &[f32], exact: &[f64], bounds: &[f64]) {
    assert!(got.len() == exact.len() && got.len() == bounds.len(), "{what}");
    for (i, (got, exact)) in got.iter().zip(exact).enumerate() {
        let error = (f64::from(*got) - exact).abs();
        assert!(
            error <= bounds[i],
            "{what} at {i}: {got} for {exact}, {error:e} > {:e}",
            bounds[i]
        );
    }
}

/// The gradient of `loss` at `x` by central differences in double precision.
///
/// The step leaves an error of 1e-8 of the third derivative, and 1e-12 of the loss by rounding.
fn differences(x: &[f64], loss: impl Fn(&[f64]) -> f64) -> Vec<f64> {
    const STEP: f64 = 1e-4;
    let mut x = x.to_vec();
    (0..x.len())
        .map(|i| {
            let at = x[i];
            x[i] = at + STEP;
            let above = loss(&x);
            x[i] = at - STEP;
            let below = loss(&x);
            x[i] = at;
            (above - below) / (2.0 * STEP)
        })
        .collect()
}

/// The sum of products: with `dout` a fixed direction, its gradient is the backward pass of `out`.
fn dot(a: &[f64], b: &[f32]) -> f64 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| a * f64::from(*b)).sum()
}
