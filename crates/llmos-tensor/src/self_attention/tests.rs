//! Attention and its gradients against plain arithmetic in double precision.

use super::*;
use crate::Isa;
use crate::testing::noise;

/// Output and gradients of q, k and v.
struct Plain {
    out: Vec<f64>,
    d_q: Vec<f64>,
    d_k: Vec<f64>,
    d_v: Vec<f64>,
}

/// The definition: (B * T, heads * D) without gaps.
fn plain(
    s: SelfAttention,
    q: &[f32],
    k: &[f32],
    v: &[f32],
    d_out: &[f32],
    starts: Option<&[u32]>,
) -> Plain {
    let (dim, group) = (s.head_dim, s.n_head / s.n_kv_head);
    let (q_width, kv_width) = (s.n_head * dim, s.n_kv_head * dim);
    let rows = s.batch * s.time;
    let mut result = Plain {
        out: vec![0.0; rows * q_width],
        d_q: vec![0.0; rows * q_width],
        d_k: vec![0.0; rows * kv_width],
        d_v: vec![0.0; rows * kv_width],
    };
    for b in 0..s.batch {
        for h in 0..s.n_head {
            for t in 0..s.time {
                let at = (b * s.time + t) * q_width + h * dim;
                let key = |j: usize| (b * s.time + j) * kv_width + h / group * dim;
                let start = starts.map_or(0, |starts| starts[b * s.time + t] as usize);
                let start = start.max(s.window.map_or(0, |window| (t + 1).saturating_sub(window)));
                let dot = |a: &[f32], i: usize, b: &[f32], j: usize| -> f64 {
                    (0..dim).map(|d| f64::from(a[i + d]) * f64::from(b[j + d])).sum()
                };
                let scale = f64::from(s.scale);
                let cap = s.softcap.map(f64::from);
                let scores: Vec<f64> = (start..=t)
                    .map(|j| {
                        let score = dot(q, at, k, key(j)) * scale;
                        cap.map_or(score, |cap| cap * (score / cap).tanh())
                    })
                    .collect();
                let largest = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                let total: f64 = scores.iter().map(|score| (score - largest).exp()).sum();
                let weights: Vec<f64> =
                    scores.iter().map(|score| (score - largest).exp() / total).collect();
                let d_weights: Vec<f64> = (start..=t).map(|j| dot(d_out, at, v, key(j))).collect();
                let delta: f64 = weights.iter().zip(&d_weights).map(|(w, d)| w * d).sum();
                for (i, j) in (start..=t).enumerate() {
                    let slope = cap.map_or(1.0, |cap| 1.0 - (scores[i] / cap).powi(2));
                    let d_score = weights[i] * (d_weights[i] - delta) * scale * slope;
                    for d in 0..dim {
                        result.out[at + d] += weights[i] * f64::from(v[key(j) + d]);
                        result.d_v[key(j) + d] += weights[i] * f64::from(d_out[at + d]);
                        result.d_q[at + d] += d_score * f64::from(k[key(j) + d]);
                        result.d_k[key(j) + d] += d_score * f64::from(q[at + d]);
                    }
                }
            }
        }
    }
    result
}

/// Rows of `width` numbers put `gap` numbers apart.
fn spread(values: &[f32], width: usize, gap: usize) -> Vec<f32> {
    values.chunks(width).flat_map(|row| row.iter().copied().chain(vec![9.0; gap])).collect()
}

/// The largest difference, and rows' gaps must be as they were.
fn difference(got: &[f32], gap: usize, expected: &[f64], width: usize) -> f64 {
    let mut largest = 0.0_f64;
    for (got, expected) in got.chunks(width + gap).zip(expected.chunks(width)) {
        assert!(got[width..].iter().all(|&value| value == 9.0), "gaps are not touched");
        for (got, expected) in got.iter().zip(expected) {
            largest = largest.max((f64::from(*got) - expected).abs());
        }
    }
    largest
}

#[test]
fn attention_and_its_gradients_match_plain_arithmetic() {
    let of = |batch, time, n_head, n_kv_head, head_dim, scale| SelfAttention {
        batch,
        time,
        n_head,
        n_kv_head,
        head_dim,
        scale,
        softcap: None,
        window: None,
    };
    let shapes = [
        of(2, 5, 2, 2, 4, 0.5),
        of(1, 150, 4, 2, 16, 0.25),
        of(2, 128, 2, 1, 32, 0.2),
        of(1, 97, 2, 1, 48, 0.15),
        of(1, 65, 1, 1, 72, 0.12),
        SelfAttention { window: Some(1), ..of(1, 40, 2, 1, 8, 0.5) },
        SelfAttention { window: Some(37), ..of(2, 130, 4, 2, 16, 0.25) },
        SelfAttention { softcap: Some(1.5), ..of(1, 101, 2, 1, 16, 0.6) },
        SelfAttention { softcap: Some(0.5), window: Some(20), ..of(1, 66, 2, 2, 24, 0.4) },
    ];
    for isa in Isa::available() {
        for s in shapes {
            for documents in [false, true] {
                let rows = s.batch * s.time;
                let starts: Vec<u32> = (0..rows).map(|i| (i % s.time / 3 * 3) as u32).collect();
                let starts = documents.then_some(&starts[..]);
                let (q_width, kv_width) = (s.n_head * s.head_dim, s.n_kv_head * s.head_dim);
                let (q, d_out) = (noise(1, rows * q_width, 1.0), noise(4, rows * q_width, 1.0));
                let (k, v) = (noise(2, rows * kv_width, 1.0), noise(3, rows * kv_width, 1.0));
                let expected = plain(s, &q, &k, &v, &d_out, starts);
                let (q, k, v) =
                    (spread(&q, q_width, 3), spread(&k, kv_width, 1), spread(&v, kv_width, 2));
                let q = Heads { data: &q, stride: q_width + 3 };
                let k = Heads { data: &k, stride: kv_width + 1 };
                let v = Heads { data: &v, stride: kv_width + 2 };
                let run = |threads: usize| {
                    let device = Device::new(isa, threads);
                    let mut out = vec![9.0; rows * (q_width + 1)];
                    let mut log_sums = vec![0.0; s.batch * s.n_head * s.time];
                    let target = HeadsMut { data: &mut out, stride: q_width + 1 };
                    attention_forward(&device, s, q, k, v, starts, target, &mut log_sums);
                    let width = q_width + 2 * kv_width;
                    let mut d_qkv = vec![9.0; rows * (width + 2)];
                    let out_heads = Heads { data: &out, stride: q_width + 1 };
                    attention_backward(
                        &device,
                        s,
                        Forward { q, k, v, starts, out: out_heads, log_sums: &log_sums },
                        Heads { data: &d_out, stride: q_width },
                        HeadsMut { data: &mut d_qkv, stride: width + 2 },
                    );
                    (out, d_qkv)
                };
                let (out, d_qkv) = run(1);
                let name = format!("{isa} {s:?} documents {documents}");
                let d_expected: Vec<f64> = (0..rows)
                    .flat_map(|row| {
                        let q = &expected.d_q[row * q_width..][..q_width];
                        let k = &expected.d_k[row * kv_width..][..kv_width];
                        let v = &expected.d_v[row * kv_width..][..kv_width];
                        [q, k, v].concat()
                    })
                    .collect();
                let width = q_width + 2 * kv_width;
                assert!(difference(&out, 1, &expected.out, q_width) < 2e-5, "{name}: out");
                assert!(difference(&d_qkv, 2, &d_expected, width) < 2e-5, "{name}: d_qkv");
                assert!((out, d_qkv) == run(3), "{name}: threads change nothing");
            }
        }
    }
}
