//! Operations on whole tensors.

use super::*;
use crate::ops::train::{
    Rows, RowsMut, add_in_place, all_finite, copy_forward, residual_forward, scale_in_place,
    sum_of_squares,
};

/// The last is longer than the parts of a sum of squares are short.
const LENGTHS: [usize; 6] = [0, 1, 15, 1000, 40_001, 5_000_000];

#[test]
fn sums_and_multiples() {
    for n in LENGTHS {
        let (x, y) = (noise(1, n, 2.0), noise(2, n, 3.0));
        let sum: Vec<f32> = x.iter().zip(&y).map(|(x, y)| x + y).collect();
        let product: Vec<f32> = x.iter().map(|x| x * 0.37).collect();
        let compute = |device: &Device| {
            let mut out = vec![f32::NAN; n];
            residual_forward(device, &x, &y, &mut out);
            let (mut acc, mut scaled) = (x.clone(), x.clone());
            add_in_place(device, &mut acc, &y);
            scale_in_place(device, &mut scaled, 0.37);
            vec![out, acc, scaled]
        };
        on_every_device(compute, |isa, got| {
            assert!(got[0] == sum && got[1] == sum && got[2] == product, "{isa} {n}");
        });
    }
}

#[test]
fn squares() {
    for n in LENGTHS {
        let x = noise(1, n, 0.01);
        let exact: f64 = x.iter().map(|x| f64::from(*x) * f64::from(*x)).sum();
        for isa in Isa::available() {
            let sums = THREADS.map(|threads| sum_of_squares(&Device::new(isa, threads), &x));
            assert!(sums.iter().all(|sum| sum.to_bits() == sums[0].to_bits()), "{isa} {n}");
            assert!((sums[0] - exact).abs() <= 2e-6 * exact, "{isa} {n}: {} for {exact}", sums[0]);
        }
    }
}

#[test]
fn a_number_that_is_none_is_found_wherever_it_is() {
    for isa in Isa::available() {
        let device = Device::new(isa, 2);
        for n in [1, 15, 40_001] {
            let mut x = noise(1, n, f32::MAX);
            assert!(all_finite(&device, &x), "{isa} {n}");
            for at in [0, n / 2, n - 1] {
                for strange in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
                    let before = std::mem::replace(&mut x[at], strange);
                    assert!(!all_finite(&device, &x), "{isa} {n}: {strange} at {at}");
                    x[at] = before;
                }
            }
        }
        assert!(all_finite(&device, &[]));
    }
}

#[test]
fn rows_are_copied_and_what_lies_between_is_not() {
    let x = noise(3, 700 * 50, 1.0);
    let compute = |device: &Device| {
        let mut out = vec![7.0; 700 * 40];
        let to = RowsMut::new(&mut out, 700, 1, 33, 40);
        copy_forward(device, Rows::new(&x, 700, 1, 33, 50), to);
        vec![out]
    };
    on_every_device(compute, |isa, got| {
        for (row, x) in got[0].chunks_exact(40).zip(x.chunks_exact(50)) {
            assert_eq!(row[..33], x[..33], "{isa}");
            assert_eq!(row[33..], [7.0; 7], "{isa}");
        }
    });
}
