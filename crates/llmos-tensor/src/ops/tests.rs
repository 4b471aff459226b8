//! Elementwise kernels against double-precision definitions, over every instruction set.

use super::*;
use crate::Isa;
use crate::testing::{assert_close, noise, widen};

const LENGTHS: [usize; 9] = [1, 2, 7, 8, 16, 31, 64, 100, 2600];

/// A unit in the last place, relative, at most.
const ULP: f64 = f32::EPSILON as f64;

#[test]
fn sums_and_multiples() {
    for isa in Isa::available() {
        for n in LENGTHS {
            let (a, b) = (noise(1, n, 3.0), noise(2, n, 5.0));
            let mut acc = a.clone();
            add_forward(isa, &mut acc, &b);
            assert!(acc.iter().zip(a.iter().zip(&b)).all(|(c, (a, b))| *c == a + b), "{isa} {n}");
            let mut acc = a.clone();
            add_scaled_forward(isa, &mut acc, &b, 0.3);
            let exact: Vec<f64> =
                widen(&a).iter().zip(widen(&b)).map(|(a, b)| a + f64::from(0.3f32) * b).collect();
            assert_close("add_scaled", &acc, &exact, ULP, 2e-7);
            let mut x = a.clone();
            scale_forward(isa, &mut x, -7.5);
            assert!(x.iter().zip(&a).all(|(x, a)| *x == a * -7.5), "{isa} {n}");
        }
    }
}

#[test]
fn exponentials() {
    // Every scale from subnormal to overflow, both signs.
    let mut inputs: Vec<f32> = (0..4000).map(|i| (i as f32 - 2000.0) * 0.0441).collect();
    inputs.extend((-44..8).flat_map(|e| [2.0f32.powi(e) * 0.7, -(2.0f32.powi(e)) * 0.6]));
    inputs.retain(|x| *x > -87.3 && *x < 88.3);
    for isa in Isa::available() {
        let apply = |function: &dyn Fn(&mut [f32]), relative, exact: &dyn Fn(f64) -> f64| {
            let mut x = inputs.clone();
            function(&mut x);
            let exact: Vec<f64> = widen(&inputs).into_iter().map(exact).collect();
            assert_close(isa.name(), &x, &exact, relative, 1e-44);
        };
        apply(&|x| exp_forward(isa, x), 2.0 * ULP, &f64::exp);
        apply(&|x| tanh_forward(isa, x), 4.0 * ULP, &f64::tanh);
        apply(&|x| softcap_forward(isa, x, 30.0), 5.0 * ULP, &|x| 30.0 * (x / 30.0).tanh());
        let mut x = [f32::NEG_INFINITY, -1e30, -200.0, 0.0, 89.0, 1e30, f32::INFINITY, f32::NAN];
        let tanh = x;
        exp_forward(isa, &mut x);
        assert_eq!(x[..4], [0.0, 0.0, 0.0, 1.0], "{isa}");
        assert!(x[4..7].iter().all(|x| *x == f32::INFINITY) && x[7].is_nan(), "{isa}: {x:?}");
        let mut x = tanh;
        tanh_forward(isa, &mut x);
        assert_eq!(x[..7], [-1.0, -1.0, -1.0, 0.0, 1.0, 1.0, 1.0], "{isa}");
        assert!(x[7].is_nan(), "{isa}");
    }
}

/// The complementary error function of t >= 0: by erf's series, and by its continued fraction where
/// the series would cancel.
fn erfc(t: f64) -> f64 {
    if t < 2.0 {
        let (mut term, mut sum, mut n) = (t, t, 0.0);
        while term.abs() > 1e-18 {
            n += 1.0;
            term *= -t * t / n;
            sum += term / (2.0 * n + 1.0);
        }
        return 1.0 - sum * 2.0 / std::f64::consts::PI.sqrt();
    }
    let fraction = (1..200).rev().fold(t, |below, k| t + f64::from(k) / 2.0 / below);
    (-t * t).exp() / std::f64::consts::PI.sqrt() / fraction
}

#[test]
fn activations() {
    let inputs: Vec<f32> = (-1500..1500).map(|i| i as f32 * 0.01 + 0.003).collect();
    let up = noise(9, inputs.len(), 2.0);
    for isa in Isa::available() {
        let check = |activation, relative, absolute, exact: &dyn Fn(f64) -> f64| {
            let exact: Vec<f64> = widen(&inputs).into_iter().map(exact).collect();
            let mut x = inputs.clone();
            activation_forward(isa, activation, &mut x);
            assert_close(isa.name(), &x, &exact, relative, absolute);
            let gated: Vec<f64> = exact.iter().zip(widen(&up)).map(|(x, up)| x * up).collect();
            let mut out = vec![f32::NAN; inputs.len()];
            activation_gate(isa, activation, &inputs, &up, &mut out);
            assert_close(isa.name(), &out, &gated, relative + ULP, 2.0 * absolute);
            let mut gate = inputs.clone();
            activation_gate_in_place(isa, activation, &mut gate, &up);
            assert_eq!(gate, out, "{isa}");
        };
        check(Activation::Silu, 1e-6, 1e-30, &|x| x / (1.0 + (-x).exp()));
        check(Activation::Relu2, ULP, 0.0, &|x| x.max(0.0).powi(2));
        // Below -10 the argument of exp is hundreds and its rounding shows.
        check(Activation::GeluTanh, 2e-6, 1e-11, &|x| {
            let u = (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x.powi(3));
            // Equal to (1 + tanh(u)) / 2 without its cancellation.
            x / (1.0 + (-2.0 * u).exp())
        });
        check(Activation::Gelu, 4e-6, 1e-11, &|x| {
            let tail = erfc(x.abs() / 2f64.sqrt()) / 2.0;
            let phi = if x < 0.0 { tail } else { 1.0 - tail };
            x * phi
        });
        for activation in [Activation::Silu, Activation::Gelu, Activation::GeluTanh] {
            let mut x = [0.0, -1e4, 1e4, f32::NAN];
            activation_forward(isa, activation, &mut x);
            assert!(x[0] == 0.0 && x[1] == 0.0 && x[2] == 1e4 && x[3].is_nan(), "{isa} {x:?}");
        }
    }
}

#[test]
fn rmsnorm() {
    for isa in Isa::available() {
        for n in LENGTHS {
            let (x, weight) = (noise(3, 3 * n, 4.0), noise(4, n, 1.0));
            for weight in [Some(weight.as_slice()), None] {
                let mut exact = widen(&x);
                for row in exact.chunks_mut(n) {
                    let mean = row.iter().map(|x| x * x).sum::<f64>() / n as f64;
                    for (i, x) in row.iter_mut().enumerate() {
                        let weight = weight.map_or(1.0, |weight| f64::from(weight[i]));
                        *x *= weight / (mean + f64::from(1e-5f32)).sqrt();
                    }
                }
                let mut out = vec![f32::NAN; 3 * n];
                rmsnorm_forward(isa, &x, weight, n, 1e-5, &mut out);
                assert_close(&format!("{isa} {n}"), &out, &exact, 4e-7, 0.0);
                let mut y = x.clone();
                rmsnorm_in_place(isa, &mut y, weight, n, 1e-5);
                assert_eq!(y, out, "{isa} {n}");
            }
        }
    }
}

#[test]
fn rope() {
    const T: usize = 3;
    for isa in Isa::available() {
        for (n_head, dim, n_rot) in
            [(2, 64, 64), (3, 80, 32), (1, 6, 6), (2, 40, 10), (1, 128, 128), (2, 8, 0)]
        {
            let x = noise(5, T * n_head * dim, 2.0);
            let angles = noise(6, T * n_rot / 2, 3.0);
            let cos: Vec<f32> = angles.iter().map(|a| a.cos()).collect();
            let sin: Vec<f32> = angles.iter().map(|a| a.sin()).collect();
            for pairing in [Pairing::Adjacent, Pairing::Halves] {
                let mut exact = widen(&x);
                for (row, x) in exact.chunks_mut(dim).enumerate() {
                    for i in 0..n_rot / 2 {
                        let (a, b) = match pairing {
                            Pairing::Adjacent => (2 * i, 2 * i + 1),
                            Pairing::Halves => (i, n_rot / 2 + i),
                        };
                        let at = row / n_head * (n_rot / 2) + i;
                        let (cos, sin) = (f64::from(cos[at]), f64::from(sin[at]));
                        (x[a], x[b]) = (x[a] * cos - x[b] * sin, x[b] * cos + x[a] * sin);
                    }
                }
                let mut y = x.clone();
                rope_forward(isa, &mut y, &cos, &sin, pairing, n_head, dim, n_rot);
                assert_close(&format!("{isa} {pairing:?} {dim}"), &y, &exact, 0.0, 4.0 * ULP);
            }
        }
    }
}

#[test]
fn probabilities() {
    for isa in Isa::available() {
        for n in [1, 5, 16, 100, 1024, 1025, 40_000] {
            let mut x = noise(8, 2 * n, 20.0);
            x[n / 2] = f32::NEG_INFINITY;
            if n == 1 {
                x[0] = 3.0;
            }
            let mut exact = widen(&x);
            let mut logs = Vec::new();
            for row in exact.chunks_mut(n) {
                let largest = row.iter().copied().fold(f64::MIN, f64::max);
                let total: f64 = row.iter().map(|x| (x - largest).exp()).sum();
                logs.push(largest + total.ln());
                row.iter_mut().for_each(|x| *x = (*x - largest).exp() / total);
            }
            let what = format!("{isa} {n}");
            for (row, log) in x.chunks(n).zip(&logs) {
                assert_close(&what, &[log_sum_exp(isa, row)], &[*log], ULP / 2.0, 1e-6);
            }
            let mut softmax = x.clone();
            softmax_forward(isa, &mut softmax, n);
            // Differences reach 40 and are rounded.
            assert_close(&what, &softmax, &exact, 1e-6 + 40.0 * ULP / 2.0, 1e-37);
            let mut log_softmax = x.clone();
            log_softmax_forward(isa, &mut log_softmax, n);
            for (i, (got, x)) in log_softmax.iter().zip(&x).enumerate() {
                let exact = f64::from(*x) - logs[i / n];
                let close = (f64::from(*got) - exact).abs() <= 1e-6 + 2.0 * ULP * exact.abs();
                assert!(close || f64::from(*got) == exact, "{what} at {i}: {got} for {exact}");
            }
        }
        let mut broken = [1.0, f32::NAN, 2.0];
        softmax_forward(isa, &mut broken, 3);
        assert!(broken.iter().all(|x| x.is_nan()), "{isa}");
    }
}

#[test]
fn the_first_of_the_largest_is_chosen() {
    let nan = f32::NAN;
    let check = |x: &[f32], expected| {
        for isa in Isa::available() {
            assert_eq!(argmax(isa, x), expected, "{isa}");
        }
    };
    check(&[3.0], 0);
    check(&[1.0, 5.0, 5.0], 1);
    check(&[nan, -2.0, nan, -1.0, nan], 3);
    check(&[nan, nan], 0);
    check(&[nan, f32::NEG_INFINITY], 0);
    check(&[f32::INFINITY, nan], 0);
    let mut x = noise(12, 5000, 1.0);
    for at in [4999, 3000, 1024, 1023, 17] {
        x[at] = 2.0;
        check(&x, at);
    }
}
