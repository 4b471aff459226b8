//! Biases and factors of columns.

use super::*;
use crate::ops::train::{Rows, RowsMut, bias_backward, bias_forward, scale_columns};

#[test]
fn columns_and_their_sums() {
    for (n, width) in [(1, 1), (70, 37), (3, 64), (1000, 150)] {
        let (x, by) = (noise(1, n * width, 2.0), noise(2, width, 1.0));
        let d = noise(3, n * width, 1.0);
        let each = |of: fn(f32, f32) -> f32| -> Vec<f32> {
            x.iter().enumerate().map(|(i, x)| of(*x, by[i % width])).collect()
        };
        let (sums, products) = (each(|x, b| x + b), each(|x, b| x * b));
        // The gradient of dot(x + b, d) by b is a column's sum of d, that of dot(x * b, d) of x d.
        let wide = widen(&by);
        let loss = |of: &dyn Fn(f64, f64) -> f64, by: &[f64]| -> f64 {
            let out: Vec<f64> =
                x.iter().enumerate().map(|(i, x)| of(f64::from(*x), by[i % width])).collect();
            dot(&out, &d)
        };
        let d_bias = differences(&wide, |by| loss(&|x, b| x + b, by));
        let d_factor = differences(&wide, |by| loss(&|x, b| x * b, by));
        let bounds = vec![2e-6 * n as f64 + 1e-6; width];
        let compute = |device: &Device| {
            let (mut added, mut scaled) = (x.clone(), x.clone());
            bias_forward(device, RowsMut::packed(&mut added, width), &by);
            scale_columns(device, RowsMut::packed(&mut scaled, width), &by);
            let (mut of_bias, mut of_factor) = (vec![0.0; width], vec![0.0; width]);
            let d = Rows::packed(&d, width);
            bias_backward(device, d, None, &mut of_bias);
            bias_backward(device, d, Some(Rows::packed(&x, width)), &mut of_factor);
            vec![added, scaled, of_bias, of_factor]
        };
        on_every_device(compute, |isa, got| {
            assert!(got[0] == sums && got[1] == products, "{isa} ({n}, {width})");
            assert_within(&format!("{isa} ({n}, {width}): bias"), &got[2], &d_bias, &bounds);
            assert_within(&format!("{isa} ({n}, {width}): factor"), &got[3], &d_factor, &bounds);
        });
    }
}

#[test]
fn rows_that_lie_apart_and_sums_that_were_there() {
    let mut x = vec![1.0; 3 * 5];
    let device = Device::new(Isa::detect(), 2);
    bias_forward(&device, RowsMut::new(&mut x, 3, 1, 2, 5), &[10.0, 20.0]);
    assert_eq!(x[..10], [11.0, 21.0, 1.0, 1.0, 1.0, 11.0, 21.0, 1.0, 1.0, 1.0]);
    let mut sums = [100.0, 200.0];
    bias_backward(&device, Rows::new(&x, 3, 1, 2, 5), None, &mut sums);
    assert_eq!(sums, [133.0, 263.0]);
}
