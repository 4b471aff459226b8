//! Attention against a plain double-precision version, over every instruction set that this CPU has.

use half::f16;

use super::*;
use crate::Isa;

/// A linear congruential generator (Knuth's MMIX constants); numbers in -1 .. 1.
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> f32 {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (self.0 >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    }

    fn vector(&mut self, n: usize, factor: f32) -> Vec<f32> {
        (0..n).map(|_| self.next() * factor).collect()
    }
}

const KINDS: [CacheType; 3] = [CacheType::F32, CacheType::F16, CacheType::Q8];

/// Pages of `n` random tokens. Slots that no token uses hold numbers that are none, in every format.
fn pages(isa: Isa, shape: &CacheShape, n: usize, noise: &mut Noise) -> Vec<Vec<u8>> {
    let width = shape.n_kv_head * shape.head_dim;
    let mut pages = vec![vec![0xff; shape.page_bytes()]; n.div_ceil(CacheShape::BLOCK)];
    for token in 0..n {
        let page = &mut pages[token / CacheShape::BLOCK];
        let (k, v) = (noise.vector(width, 2.0), noise.vector(width, 1.0));
        cache_store(isa, shape, page, token % CacheShape::BLOCK, &k, &v);
    }
    pages
}

/// Keys and values of all tokens, (n, H_kv, D) each.
fn tokens(shape: &CacheShape, pages: &[Vec<u8>], n: usize) -> (Vec<f32>, Vec<f32>) {
    let width = shape.n_kv_head * shape.head_dim;
    let (mut ks, mut vs) = (vec![0.0; n * width], vec![0.0; n * width]);
    for (token, (k, v)) in ks.chunks_mut(width).zip(vs.chunks_mut(width)).enumerate() {
        cache_load(shape, &pages[token / CacheShape::BLOCK], token % CacheShape::BLOCK, k, v);
    }
    (ks, vs)
}

/// The definition, in f64.
fn naive(
    shape: &CacheShape,
    options: &AttentionOptions,
    position: usize,
    q: &[f32],
    (ks, vs): &(Vec<f32>, Vec<f32>),
) -> Vec<f64> {
    let (dim, width) = (shape.head_dim, shape.n_kv_head * shape.head_dim);
    let first = options.window.map_or(0, |window| (position + 1).saturating_sub(window));
    let mut out = vec![0.0; q.len()];
    for (head, (q, out)) in q.chunks(dim).zip(out.chunks_mut(dim)).enumerate() {
        let at = head * shape.n_kv_head / options.n_head * dim;
        let scores: Vec<f64> = (first..=position)
            .map(|p| {
                let k = &ks[p * width + at..][..dim];
                let dot: f64 = q.iter().zip(k).map(|(&q, &k)| f64::from(q) * f64::from(k)).sum();
                let score = dot * f64::from(options.scale);
                options
                    .softcap
                    .map_or(score, |cap| f64::from(cap) * (score / f64::from(cap)).tanh())
            })
            .collect();
        let largest = scores.iter().copied().fold(f64::MIN, f64::max);
        let total: f64 = scores.iter().map(|score| (score - largest).exp()).sum();
        for (p, score) in (first..=position).zip(scores) {
            let weight = (score - largest).exp() / total;
            for (out, &v) in out.iter_mut().zip(&vs[p * width + at..][..dim]) {
                *out += weight * f64::from(v);
            }
        }
    }
    out
}

#[derive(Clone, Copy, Debug)]
struct Case {
    n_head: usize,
    n_kv_head: usize,
    dim: usize,
    softcap: Option<f32>,
    window: Option<usize>,
    /// (position, rows) of each span
    spans: &'static [(usize, usize)],
}

const PLAIN: Case =
    Case { n_head: 4, n_kv_head: 2, dim: 64, softcap: None, window: None, spans: &[(0, 1)] };

const CASES: &[Case] = &[
    PLAIN,
    Case { spans: &[(0, 33), (31, 1), (32, 1), (700, 2)], ..PLAIN },
    Case { spans: &[(1100, 1)], ..PLAIN },
    Case { n_head: 8, n_kv_head: 1, dim: 32, spans: &[(100, 40), (511, 1), (512, 1)], ..PLAIN },
    Case { n_head: 3, n_kv_head: 3, dim: 80, spans: &[(0, 70), (129, 1)], ..PLAIN },
    Case { n_head: 14, n_kv_head: 2, spans: &[(500, 20), (1300, 1)], ..PLAIN },
    Case { n_head: 15, n_kv_head: 3, spans: &[(127, 3)], ..PLAIN },
    Case { n_head: 6, n_kv_head: 1, dim: 128, spans: &[(600, 3)], ..PLAIN },
    Case { n_head: 2, n_kv_head: 1, dim: 256, spans: &[(140, 9)], ..PLAIN },
    Case { dim: 40, spans: &[(60, 5)], ..PLAIN },
    Case { dim: 33, spans: &[(60, 5)], ..PLAIN },
    Case { dim: 1, spans: &[(5, 2)], ..PLAIN },
    Case { dim: 8, spans: &[(0, 40)], ..PLAIN },
    Case { softcap: Some(3.0), spans: &[(200, 17), (3, 1)], ..PLAIN },
    Case { window: Some(1), spans: &[(50, 20)], ..PLAIN },
    Case { window: Some(100), spans: &[(0, 150), (640, 1), (1500, 3)], ..PLAIN },
    Case { window: Some(600), softcap: Some(50.0), spans: &[(1200, 40), (20, 1)], ..PLAIN },
];

/// Runs a case on every device and gives what is exact and what each says, row after row.
fn run(devices: &[Device], kind: CacheType, case: &Case, factor: f32) -> (Vec<f64>, Vec<Vec<f32>>) {
    let mut noise = Noise(7);
    let shape = CacheShape { n_kv_head: case.n_kv_head, head_dim: case.dim, kind };
    let options = AttentionOptions {
        n_head: case.n_head,
        scale: factor / (case.dim as f32).sqrt(),
        softcap: case.softcap,
        window: case.window,
    };
    let n_row: usize = case.spans.iter().map(|span| span.1).sum();
    let width = case.n_head * case.dim;
    let q = noise.vector(n_row * width, 2.0);
    let memory: Vec<Vec<Vec<u8>>> = case
        .spans
        .iter()
        .map(|&(position, n_rows)| {
            let mut pages = pages(Isa::detect(), &shape, position + n_rows, &mut noise);
            pages.push(Vec::new());
            pages
        })
        .collect();
    let mut exact = Vec::new();
    for (&(position, n_rows), pages) in case.spans.iter().zip(&memory) {
        let tokens = tokens(&shape, pages, position + n_rows);
        for p in position..position + n_rows {
            let q = &q[exact.len()..][..width];
            exact.extend(naive(&shape, &options, p, q, &tokens));
        }
    }
    // Pages that no row sees are freed; one more than needed is listed.
    let lists: Vec<Vec<&[u8]>> = case
        .spans
        .iter()
        .zip(&memory)
        .map(|(&(position, _), pages)| {
            let first = case.window.map_or(0, |window| (position + 1).saturating_sub(window));
            let freed = first / CacheShape::BLOCK;
            let page = |(i, page): (usize, &'_ Vec<u8>)| i >= freed && !page.is_empty();
            pages.iter().enumerate().map(|p| if page(p) { p.1.as_slice() } else { &[] }).collect()
        })
        .collect();
    let mut row = 0;
    let mut spans = Vec::new();
    for (&(position, n_rows), pages) in case.spans.iter().zip(&lists) {
        spans.push(Span { row, n_rows, position, pages });
        row += n_rows;
    }
    let attend = |device| {
        let mut out = vec![f32::NAN; q.len()];
        attention(device, &shape, &options, &spans, &q, &mut out);
        out
    };
    (exact, devices.iter().map(attend).collect())
}

#[test]
fn every_instruction_set_gives_the_definition() {
    let mut devices = vec![Device::new(Isa::SCALAR, 2)];
    for isa in Isa::available().into_iter().filter(|isa| *isa != Isa::SCALAR) {
        devices.extend([Device::new(isa, 1), Device::new(isa, 3)]);
    }
    for kind in KINDS {
        for case in CASES {
            for factor in [1.0, 6.0] {
                let (exact, outs) = run(&devices, kind, case, factor);
                // Values reach 1; scores have a deviation of 4/3 factor and stay within four of them.
                let bound = 2e-6 + 3e-7 * f64::from(factor) * 16.0 / 3.0;
                for (device, out) in devices.iter().zip(&outs) {
                    for (i, (out, exact)) in out.iter().zip(&exact).enumerate() {
                        let error = (f64::from(*out) - exact).abs();
                        assert!(
                            error <= bound,
                            "{} {kind:?} {case:?} {factor} at {i}: {out} for {exact}",
                            device.isa()
                        );
                    }
                }
            }
        }
    }
}

#[test]
fn a_row_does_not_depend_on_its_neighbours_chunks_or_threads() {
    const ROWS: usize = 24;
    const START: usize = 1020;
    // The plain version takes rows one by one, so it has nothing to show here.
    for isa in Isa::available().into_iter().filter(|isa| *isa != Isa::SCALAR) {
        for kind in KINDS {
            for window in [None, Some(300)] {
                let shape = CacheShape { n_kv_head: 2, head_dim: 48, kind };
                let options = AttentionOptions { n_head: 6, scale: 0.3, softcap: None, window };
                let width = options.n_head * shape.head_dim;
                let mut noise = Noise(3);
                let memory = pages(isa, &shape, START + ROWS, &mut noise);
                let pages: Vec<&[u8]> = memory.iter().map(Vec::as_slice).collect();
                let q = noise.vector(ROWS * width, 1.0);
                let attend = |threads, chunk: usize| {
                    let device = Device::new(isa, threads);
                    let mut out = vec![0.0; q.len()];
                    for start in (0..ROWS).step_by(chunk) {
                        let n_rows = chunk.min(ROWS - start);
                        let span =
                            Span { row: start, n_rows, position: START + start, pages: &pages };
                        attention(&device, &shape, &options, &[span], &q, &mut out);
                    }
                    out.iter().map(|x| x.to_bits()).collect::<Vec<_>>()
                };
                let whole = attend(1, ROWS);
                for (threads, chunk) in [(2, ROWS), (1, 1), (3, 1), (2, 7)] {
                    assert!(whole == attend(threads, chunk), "{isa} {kind:?} {threads} {chunk}");
                }
            }
        }
    }
}

#[test]
fn tokens_come_back_as_the_format_says() {
    for isa in Isa::available() {
        for dim in [1, 31, 32, 40, 64, 80] {
            let mut noise = Noise(11);
            let mut check = |kind, close: &dyn Fn(f32, f32, f32) -> bool| {
                let shape = CacheShape { n_kv_head: 3, head_dim: dim, kind };
                assert_eq!(shape.page_bytes() % 64, 0);
                let mut page = vec![0xff; shape.page_bytes()];
                let width = 3 * dim;
                let tokens: Vec<[Vec<f32>; 2]> = (0..CacheShape::BLOCK)
                    .map(|_| [noise.vector(width, 9.0), noise.vector(width, 1e-3)])
                    .collect();
                for (slot, [k, v]) in tokens.iter().enumerate() {
                    cache_store(isa, &shape, &mut page, slot, k, v);
                }
                for (slot, token) in tokens.iter().enumerate() {
                    let mut back = [vec![0.0; width], vec![0.0; width]];
                    let [k, v] = &mut back;
                    cache_load(&shape, &page, slot, k, v);
                    for (x, y) in token.iter().zip(&back) {
                        let heads = x.chunks(dim).zip(y.chunks(dim));
                        let groups = heads.flat_map(|(x, y)| x.chunks(32).zip(y.chunks(32)));
                        for (x, y) in groups {
                            let largest = x.iter().fold(0.0f32, |a, x| a.max(x.abs()));
                            let mut pairs = x.iter().zip(y);
                            assert!(pairs.all(|(x, y)| close(*x, *y, largest)), "{isa} {shape:?}");
                        }
                    }
                }
            };
            check(CacheType::F32, &|x, y, _| x == y);
            check(CacheType::F16, &|x, y, _| f16::from_f32(x).to_f32() == y);
            check(CacheType::Q8, &|x, y, largest| (x - y).abs() <= 0.51 / 127.0 * largest + 4e-6);
        }
    }
}

#[test]
fn every_instruction_set_stores_the_same_bytes() {
    for kind in KINDS {
        for dim in [1, 24, 64, 72] {
            let shape = CacheShape { n_kv_head: 2, head_dim: dim, kind };
            let store = |isa| pages(isa, &shape, 40, &mut Noise(5));
            let plain = store(Isa::SCALAR);
            assert!(Isa::available().into_iter().all(|isa| store(isa) == plain), "{kind:?} {dim}");
        }
    }
}

#[test]
fn extreme_tokens_stay_what_they_are() {
    for isa in Isa::available() {
        for kind in KINDS {
            let shape = CacheShape { n_kv_head: 1, head_dim: 16, kind };
            let mut page = vec![0; shape.page_bytes()];
            let (mut k2, mut v2) = (vec![0.0; 16], vec![0.0; 16]);
            let mut back = |x: f32| {
                let mut k = vec![0.5; 16];
                k[3] = x;
                cache_store(isa, &shape, &mut page, 4, &k, &k);
                cache_load(&shape, &page, 4, &mut k2, &mut v2);
                assert_eq!(k2[3].to_bits(), v2[3].to_bits());
                k2[3]
            };
            assert!(back(f32::NAN).is_nan(), "{isa} {kind:?}");
            assert!(back(1e6).is_finite() && back(1e6) > 6e4, "{isa} {kind:?}");
            assert!(back(-1e6) < -6e4, "{isa} {kind:?}");
            assert_eq!(back(0.0), 0.0);
        }
    }
}

#[test]
#[should_panic(expected = "two spans hold the same row")]
fn spans_may_not_share_a_row() {
    let shape = CacheShape { n_kv_head: 1, head_dim: 4, kind: CacheType::F32 };
    let page = vec![0; shape.page_bytes()];
    let pages = [page.as_slice()];
    let span = Span { row: 0, n_rows: 1, position: 0, pages: &pages };
    let options = AttentionOptions { n_head: 1, scale: 1.0, softcap: None, window: None };
    let device = Device::new(Isa::SCALAR, 1);
    attention(&device, &shape, &options, &[span, span], &[0.0; 4], &mut [0.0; 4]);
}

/// The values that cached tokens have, weighted: what attention reads.
#[test]
fn weights_are_those_that_attention_used() {
    let device = Device::new(Isa::detect(), 1);
    for kind in KINDS {
        for case in CASES {
            let mut noise = Noise(13);
            let shape = CacheShape { n_kv_head: case.n_kv_head, head_dim: case.dim, kind };
            let (n_head, dim) = (case.n_head, case.dim);
            let scale = 1.0 / (dim as f32).sqrt();
            let (softcap, window) = (case.softcap, case.window);
            let options = AttentionOptions { n_head, scale, softcap, window };
            let width = n_head * dim;
            for &(position, n_rows) in case.spans {
                let memory = pages(Isa::detect(), &shape, position + n_rows, &mut noise);
                let pages: Vec<&[u8]> = memory.iter().map(Vec::as_slice).collect();
                // One row before the span's own, which is another's.
                let q = noise.vector((n_rows + 1) * width, 2.0);
                let span = Span { row: 1, n_rows, position, pages: &pages };
                let mut out = vec![0.0; q.len()];
                attention(&device, &shape, &options, &[span], &q, &mut out);
                let (_, values) = tokens(&shape, &memory, position + n_rows);
                let mut seen = 0;
                attention_weights(&shape, &options, &span, &q, &mut |head, row, weights| {
                    seen += 1;
                    let p = position + row - 1;
                    assert_eq!(weights.len(), p + 1, "{kind:?} {case:?}");
                    let first = options.visible(p).start;
                    assert!(weights[..first].iter().all(|&weight| weight == 0.0));
                    let total: f32 = weights.iter().sum();
                    assert!((total - 1.0).abs() < 1e-5, "{kind:?} {case:?}: {total}");
                    let at = head * case.n_kv_head / n_head * dim;
                    for d in 0..dim {
                        let read: f64 = weights
                            .iter()
                            .zip(values.chunks(case.n_kv_head * dim))
                            .map(|(&weight, v)| f64::from(weight) * f64::from(v[at + d]))
                            .sum();
                        let out = f64::from(out[row * width + head * dim + d]);
                        assert!((read - out).abs() < 1e-5, "{kind:?} {case:?}: {read} for {out}");
                    }
                });
                assert_eq!(seen, n_rows * n_head, "{kind:?} {case:?}");
            }
        }
    }
}
