//! Soft caps of logits.

use super::*;
use crate::ops::train::{softcap_backward, softcap_forward};

#[test]
fn forward_and_backward() {
    const CAP: f64 = 3.0;
    for n in [1, 37, 40_000] {
        let (x, dout) = (noise(1, n, 9.0), noise(2, n, 1.0));
        let wide = widen(&x);
        let capped = |x: f64| CAP * (x / CAP).tanh();
        let out: Vec<f64> = wide.iter().map(|&x| capped(x)).collect();
        let dx: Vec<f64> = wide
            .iter()
            .zip(&dout)
            .map(|(x, d)| (capped(x + 1e-5) - capped(x - 1e-5)) / 2e-5 * f64::from(*d))
            .collect();
        let compute = |device: &Device| {
            let (mut out, mut d) = (x.clone(), dout.clone());
            softcap_forward(device, &mut out, CAP as f32);
            softcap_backward(device, &out, &mut d, CAP as f32);
            vec![out, d]
        };
        on_every_device(compute, |isa, got| {
            assert_close(&format!("{isa} {n}"), &got[0], &out, 4e-7, 0.0);
            assert_close(&format!("{isa} {n}: d"), &got[1], &dx, 0.0, 1e-6);
        });
    }
}
