//! The norm of rows and of heads in a wider buffer.

use super::*;
use crate::ops::train::{
    Rows, RowsMut, WeightGradient, rmsnorm_backward, rmsnorm_backward_in_place, rmsnorm_forward,
    rmsnorm_partial_len,
};

const EPS: f32 = 1e-5;

fn exact(x: &[f64], weight: Option<&[f64]>, size: usize) -> Vec<f64> {
    let mut out = x.to_vec();
    for row in out.chunks_mut(size) {
        let mean = row.iter().map(|x| x * x).sum::<f64>() / size as f64;
        let factor = 1.0 / (mean + f64::from(EPS)).sqrt();
        for (i, x) in row.iter_mut().enumerate() {
            *x *= factor * weight.map_or(1.0, |weight| weight[i]);
        }
    }
    out
}

/// Forward, then backward: out, inverse, dx, dweight.
fn both_ways(
    device: &Device,
    x: &[f32],
    weight: Option<&[f32]>,
    dout: &[f32],
    size: usize,
) -> Vec<Vec<f32>> {
    let n = x.len() / size;
    let (mut out, mut inverse) = (vec![f32::NAN; x.len()], vec![f32::NAN; n]);
    let rows = Rows::packed(x, size);
    rmsnorm_forward(device, rows, weight, EPS, RowsMut::packed(&mut out, size), &mut inverse);
    let mut dx = vec![f32::NAN; x.len()];
    let mut dweight = vec![0.5; size];
    let mut partial = vec![f32::NAN; rmsnorm_partial_len(n, size)];
    let gradient = WeightGradient { dweight: &mut dweight, partial: &mut partial };
    let to = RowsMut::packed(&mut dx, size);
    rmsnorm_backward(
        device,
        rows,
        weight,
        &inverse,
        Rows::packed(dout, size),
        to,
        false,
        Some(gradient),
    );
    vec![out, inverse, dx, dweight]
}

#[test]
fn forward_and_backward() {
    // The last two have more rows than a chunk and than a task.
    for (n, size) in [(1, 1), (3, 7), (2, 16), (5, 100), (150, 40), (600, 260)] {
        let (x, weight) = (noise(1, n * size, 2.0), noise(2, size, 1.5));
        let dout = noise(3, n * size, 1.0);
        for weight in [Some(weight.as_slice()), None] {
            let (wide, wide_weight) = (widen(&x), weight.map(widen));
            let out = exact(&wide, wide_weight.as_deref(), size);
            let ones = vec![1.0; size];
            let at = wide_weight.as_deref().unwrap_or(&ones);
            // Small cases by finite differences, others by the formula that these confirm.
            let (dx, dweight) = if n * size <= 500 {
                let loss = |x: &[f64]| dot(&exact(x, wide_weight.as_deref(), size), &dout);
                let of_weight = |weight: &[f64]| dot(&exact(&wide, Some(weight), size), &dout);
                (differences(&wide, loss), differences(at, of_weight))
            } else {
                formula(&wide, at, &widen(&dout), size)
            };
            let dweight: Vec<f64> = dweight.iter().map(|d| d + 0.5).collect();
            let (bounds, weight_bounds) = bounds(&wide, at, &widen(&dout), size);
            let compute = |device: &Device| both_ways(device, &x, weight, &dout, size);
            on_every_device(compute, |isa, got| {
                let what = format!("{isa} ({n}, {size})");
                assert_close(&what, &got[0], &out, 4e-7, 0.0);
                assert_within(&what, &got[2], &dx, &bounds);
                assert_within(&what, &got[3], &dweight, &weight_bounds);
            });
        }
    }
}

/// The documented bounds of dx and of dweight, which began at 0.5.
fn bounds(x: &[f64], weight: &[f64], dout: &[f64], size: usize) -> (Vec<f64>, Vec<f64>) {
    let (mut of_dx, mut of_dweight) = (Vec::new(), vec![1e-7; size]);
    for (x, dout) in x.chunks(size).zip(dout.chunks(size)) {
        let mean = x.iter().map(|x| x * x).sum::<f64>() / size as f64;
        let inverse = 1.0 / (mean + f64::from(EPS)).sqrt();
        let largest = dout.iter().zip(weight).fold(0.0f64, |a, (d, w)| a.max((d * w).abs()));
        of_dx.extend(vec![1e-6 * inverse * largest; size]);
        for ((bound, x), d) in of_dweight.iter_mut().zip(x).zip(dout) {
            *bound += 1e-6 * (d * x * inverse).abs();
        }
    }
    (of_dx, of_dweight)
}

fn formula(x: &[f64], weight: &[f64], dout: &[f64], size: usize) -> (Vec<f64>, Vec<f64>) {
    let (mut dx, mut dweight) = (Vec::new(), vec![0.0; size]);
    for (x, dout) in x.chunks(size).zip(dout.chunks(size)) {
        let mean = x.iter().map(|x| x * x).sum::<f64>() / size as f64;
        let inverse = 1.0 / (mean + f64::from(EPS)).sqrt();
        let g: Vec<f64> = dout.iter().zip(weight).map(|(d, w)| d * w).collect();
        let mean = g.iter().zip(x).map(|(g, x)| g * x * inverse).sum::<f64>() / size as f64;
        dx.extend(g.iter().zip(x).map(|(g, x)| inverse * (g - x * inverse * mean)));
        for ((sum, x), d) in dweight.iter_mut().zip(x).zip(dout) {
            *sum += d * x * inverse;
        }
    }
    (dx, dweight)
}

#[test]
fn heads_of_a_fused_buffer() {
    const T: usize = 70;
    const D: usize = 12;
    const HEADS: usize = 5;
    // A token holds 5 heads and 3 numbers more; heads 1 to 3 are normed.
    const STRIDE: usize = HEADS * D + 3;
    let buffer = noise(4, T * STRIDE, 1.0);
    let (weight, d) = (noise(5, D, 1.0), noise(6, T * STRIDE, 1.0));
    let middle = |data: &[f32]| -> Vec<f32> {
        data.chunks(STRIDE).flat_map(|token| token[D..4 * D].to_vec()).collect()
    };
    on_every_device(
        |device| {
            let (mut out, mut inverse) = (buffer.clone(), vec![f32::NAN; T * 3]);
            let x = Rows::new(&buffer, T, HEADS, D, STRIDE).split_at(1).1.split_at(3).0;
            let to = RowsMut::new(&mut out, T, HEADS, D, STRIDE).split_at(1).1.split_at(3).0;
            rmsnorm_forward(device, x, Some(&weight), EPS, to, &mut inverse);
            let mut in_place = d.clone();
            let mut apart = noise(7, T * STRIDE, 1.0);
            let before = apart.clone();
            let (mut dweight, mut again) = (vec![0.0; D], vec![0.0; D]);
            let mut partial = vec![f32::NAN; rmsnorm_partial_len(T, D)];
            let gradient = WeightGradient { dweight: &mut again, partial: &mut partial };
            let all = RowsMut::new(&mut apart, T, HEADS, D, STRIDE);
            let to = all.split_at(1).1.split_at(3).0;
            let dout = Rows::new(&d, T, HEADS, D, STRIDE).split_at(1).1.split_at(3).0;
            rmsnorm_backward(device, x, Some(&weight), &inverse, dout, to, true, Some(gradient));
            let gradient = WeightGradient { dweight: &mut dweight, partial: &mut partial };
            let all = RowsMut::new(&mut in_place, T, HEADS, D, STRIDE);
            let to = all.split_at(1).1.split_at(3).0;
            rmsnorm_backward_in_place(device, x, Some(&weight), &inverse, to, Some(gradient));
            assert_eq!(dweight, again);
            vec![out, in_place, apart, before, dweight]
        },
        |isa, got| {
            let packed =
                both_ways(&Device::new(isa, 1), &middle(&buffer), Some(&weight), &middle(&d), D);
            assert_eq!(middle(&got[0]), packed[0], "{isa}: out");
            assert_eq!(middle(&got[1]), packed[2], "{isa}: dx in place");
            let sums: Vec<f64> = widen(&middle(&got[3]))
                .iter()
                .zip(widen(&packed[2]))
                .map(|(before, dx)| before + dx)
                .collect();
            assert_close(&format!("{isa}: dx added"), &middle(&got[2]), &sums, 3e-7, 3e-7);
            // Chunks are tokens, so that the sums are in another order than those of packed rows.
            let dweight: Vec<f64> = packed[3].iter().map(|x| f64::from(*x) - 0.5).collect();
            assert_close(&format!("{isa}: dweight"), &got[4], &dweight, 2e-6, 1e-5);
            for (new, old) in [(&got[0], &buffer), (&got[1], &d), (&got[2], &got[3])] {
                for (new, old) in new.chunks(STRIDE).zip(old.chunks(STRIDE)) {
                    assert_eq!(new[..D], old[..D], "{isa}: the heads before");
                    assert_eq!(new[4 * D..], old[4 * D..], "{isa}: what comes after");
                }
            }
        },
    );
}

#[test]
fn no_gradient_of_the_weight_where_none_is_asked() {
    let (x, weight, dout) = (noise(1, 60, 1.0), noise(2, 20, 1.0), noise(3, 60, 1.0));
    let device = Device::new(Isa::detect(), 2);
    let with = both_ways(&device, &x, Some(&weight), &dout, 20);
    let mut dx = vec![1.0; 60];
    let (from, to) = (Rows::packed(&dout, 20), RowsMut::packed(&mut dx, 20));
    let rows = Rows::packed(&x, 20);
    rmsnorm_backward(&device, rows, Some(&weight), &with[1], from, to, false, None);
    assert_eq!(dx, with[2]);
}

#[test]
fn forward_is_the_norm_of_serving() {
    for isa in Isa::available() {
        let (x, weight) = (noise(1, 5 * 72, 3.0), noise(2, 72, 1.0));
        let mut served = vec![0.0; x.len()];
        crate::ops::rmsnorm_forward(isa, &x, Some(&weight), 72, EPS, &mut served);
        let trained = both_ways(&Device::new(isa, 2), &x, Some(&weight), &x, 72);
        assert_eq!(trained[0], served, "{isa}");
    }
}

#[test]
#[should_panic(expected = "tokens need")]
fn rows_beyond_the_buffer_are_refused() {
    Rows::new(&[0.0; 29], 3, 2, 4, 11);
}

#[test]
fn rows_may_end_with_the_buffer() {
    let data: Vec<f32> = (0..30).map(|i| i as f32).collect();
    let rows = Rows::new(&data, 3, 2, 4, 11);
    assert_eq!(rows.token(2), &data[22..30]);
    let (left, right) = rows.split_at(1);
    assert_eq!((left.token(1), right.token(1)), (&data[11..15], &data[15..19]));
    assert_eq!(right.shape(), (3, 1, 4));
}
