//! Products against plain arithmetic, over every instruction set and precision that this CPU has.

use super::*;
use crate::testing::noise;
use crate::{Device, Isa};

fn element(view: View<'_>, row: usize, col: usize, precision: Precision) -> f64 {
    let value = view.data[view.at(row, col)];
    f64::from(match precision {
        Precision::F32 => value,
        Precision::Bf16 => half::bf16::from_f32(value).to_f32(),
    })
}

/// The result that is expected of an element, and the sum of magnitudes that its error is held to.
fn expected(a: View<'_>, b: View<'_>, row: usize, col: usize, precision: Precision) -> (f64, f64) {
    (0..a.cols).fold((0.0, 0.0), |(sum, size), k| {
        let product = element(a, row, k, precision) * element(b, k, col, precision);
        (sum + product, size + product.abs())
    })
}

fn cases() -> Vec<(Isa, Precision)> {
    let available = Isa::available();
    let bf16 = available.iter().filter(|isa| isa.has_bf16()).map(|&isa| (isa, Precision::Bf16));
    available.iter().map(|&isa| (isa, Precision::F32)).chain(bf16).collect()
}

#[test]
fn products_match_plain_arithmetic() {
    for (isa, precision) in cases() {
        let device = Device::new(isa, 2);
        for (m, n, k) in
            [(1, 1, 1), (12, 32, 256), (50, 70, 33), (7, 100, 600), (97, 33, 515), (3, 5, 0)]
        {
            for (transpose_a, transpose_b) in
                [(false, false), (true, false), (false, true), (true, true)]
            {
                for accumulate in [false, true] {
                    // Rows a little apart, so that strides matter.
                    let (a_rows, a_cols) = if transpose_a { (k, m) } else { (m, k) };
                    let (b_rows, b_cols) = if transpose_b { (n, k) } else { (k, n) };
                    let (a, b) = (
                        noise(1, a_rows * (a_cols + 3), 1.0),
                        noise(2, b_rows * (b_cols + 1), 1.0),
                    );
                    let a = View::new(&a, a_rows, a_cols, a_cols + 3);
                    let b = View::new(&b, b_rows, b_cols, b_cols + 1);
                    let a = if transpose_a { a.transposed() } else { a };
                    let b = if transpose_b { b.transposed() } else { b };
                    let before = noise(3, m * (n + 2), 1.0);
                    let mut c = before.clone();
                    gemm(&device, precision, a, b, ViewMut::new(&mut c, m, n, n + 2), accumulate);
                    for row in 0..m {
                        for col in 0..n + 2 {
                            let (got, was) = (c[row * (n + 2) + col], before[row * (n + 2) + col]);
                            if col >= n {
                                assert_eq!(got, was, "what lies between rows is not touched");
                                continue;
                            }
                            let (mut sum, size) = expected(a, b, row, col, precision);
                            if accumulate {
                                sum += f64::from(was);
                            }
                            let bound = (size + 1.0) * 2e-6;
                            assert!(
                                (f64::from(got) - sum).abs() <= bound,
                                "{isa} {precision:?} {m}x{n}x{k} at {row}, {col}: {got} is not {sum}"
                            );
                        }
                    }
                }
            }
        }
    }
}

#[test]
fn the_number_of_threads_changes_no_bit() {
    for (isa, precision) in cases() {
        let (m, n, k) = (301, 130, 700);
        let (a, b) = (noise(5, m * k, 1.0), noise(6, k * n, 1.0));
        let product = |threads: usize| {
            let mut c = vec![0.0; m * n];
            let (a, b) = (View::dense(&a, m, k), View::dense(&b, k, n));
            let c_view = ViewMut::dense(&mut c, m, n);
            gemm(&Device::new(isa, threads), precision, a, b, c_view, false);
            c
        };
        assert_eq!(product(1), product(3), "{isa} {precision:?}");
    }
}
