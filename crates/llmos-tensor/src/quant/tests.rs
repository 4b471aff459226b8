//! Against files that gguf-py (decoding) and llama.cpp (encoding) made, and over seeded random
//! blocks and values.

use std::path::Path;

use super::{dequantize, quantize, quantize_weighted};
use crate::{DType, Error};

const WRITTEN: [DType; 8] = [
    DType::F32,
    DType::F16,
    DType::BF16,
    DType::Q8_0,
    DType::Q4_0,
    DType::Q4_K,
    DType::Q5_K,
    DType::Q6_K,
];

fn golden(name: &str) -> Vec<u8> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/quant");
    let path = folder.join(name);
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes.as_chunks::<4>().0.iter().map(|&bytes| f32::from_le_bytes(bytes)).collect()
}

fn decoded(dtype: DType, bytes: &[u8]) -> Vec<f32> {
    let mut out = vec![7.0; bytes.len() / dtype.block_bytes() * dtype.block_len()];
    dequantize(dtype, bytes, &mut out).unwrap();
    out
}

fn encoded(dtype: DType, values: &[f32]) -> Vec<u8> {
    let mut out = Vec::new();
    quantize(dtype, values, &mut out).unwrap();
    out
}

/// Rows of `input.f32`.
const COLS: usize = 512;

/// xorshift64*: seeds, and no dependency.
struct Random(u64);

impl Random {
    fn bits(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// In [0, 1).
    fn unit(&mut self) -> f32 {
        (self.bits() >> 40) as f32 / (1 << 24) as f32
    }

    /// Near enough to a standard normal: the sum of twelve uniforms.
    fn normal(&mut self) -> f32 {
        (0..12).map(|_| self.unit()).sum::<f32>() - 6.0
    }
}

fn sum_squares(values: impl Iterator<Item = f32>) -> f64 {
    values.map(|value| f64::from(value).powi(2)).sum()
}

fn rms_error(values: &[f32], decoded: &[f32]) -> f64 {
    let sum = sum_squares(values.iter().zip(decoded).map(|(value, back)| value - back));
    (sum / values.len() as f64).sqrt()
}

#[test]
fn decodes_to_the_bits_of_the_reference() {
    for dtype in DType::ALL.into_iter().filter(|&dtype| dtype != DType::F32) {
        let name = dtype.name().to_ascii_uppercase();
        let expected = floats(&golden(&format!("{name}.f32")));
        let got = decoded(dtype, &golden(&format!("{name}.bin")));
        assert_eq!(got.len(), expected.len(), "{dtype}");
        for (i, (got, expected)) in got.iter().zip(&expected).enumerate() {
            assert_eq!(got.to_bits(), expected.to_bits(), "{dtype} {i}: {got} {expected}");
        }
    }
}

#[test]
fn encodes_to_the_bytes_of_the_reference() {
    let input = floats(&golden("input.f32"));
    for (dtype, name) in [(DType::Q8_0, "Q8_0.quantized"), (DType::Q4_0, "Q4_0.quantized")] {
        assert!(encoded(dtype, &input) == golden(name), "{dtype}");
    }
    for (dtype, name) in [(DType::F16, "F16"), (DType::BF16, "BF16")] {
        let values = floats(&golden(&format!("{name}.f32")));
        assert_eq!(encoded(dtype, &values), golden(&format!("{name}.bin")), "{dtype}");
    }
    assert_eq!(encoded(DType::F32, &input), golden("input.f32"));
}

#[test]
fn k_quants_lose_no_more_than_the_reference() {
    let input = floats(&golden("input.f32"));
    for (dtype, name) in [(DType::Q4_K, "Q4_K"), (DType::Q5_K, "Q5_K"), (DType::Q6_K, "Q6_K")] {
        let theirs = decoded(dtype, &golden(&format!("{name}.quantized")));
        let ours = decoded(dtype, &encoded(dtype, &input));
        for row in 0..input.len() / COLS {
            let cols = row * COLS..(row + 1) * COLS;
            let ours = rms_error(&input[cols.clone()], &ours[cols.clone()]);
            let theirs = rms_error(&input[cols.clone()], &theirs[cols]);
            println!("{dtype} row {row}: {:.4}", ours / theirs);
            assert!(ours <= 1.02 * theirs, "{dtype} row {row}: {ours} against {theirs}");
        }
    }
}

#[test]
fn the_error_is_bounded_at_every_magnitude() {
    // Root mean square error over that of the values: uniform in [-1, 1] and normal, 256 each.
    let bounds = [
        (DType::F32, 0.0),
        (DType::F16, 4e-4),
        (DType::BF16, 3e-3),
        (DType::Q8_0, 0.008),
        (DType::Q4_0, 0.12),
        (DType::Q4_K, 0.095),
        (DType::Q5_K, 0.05),
        (DType::Q6_K, 0.03),
    ];
    let mut random = Random(1);
    for (dtype, bound) in bounds {
        for exponent in -8..=8 {
            let magnitude = 2.0f32.powi(exponent);
            for normal in [false, true] {
                let values: Vec<f32> = (0..256)
                    .map(|_| if normal { random.normal() } else { 2.0 * random.unit() - 1.0 })
                    .map(|value| value * magnitude)
                    .collect();
                let error = rms_error(&values, &decoded(dtype, &encoded(dtype, &values)));
                let size = (sum_squares(values.iter().copied()) / 256.0).sqrt();
                assert!(error <= bound * size, "{dtype} 2^{exponent} {normal}: {}", error / size);
            }
        }
    }
}

#[test]
fn any_bytes_decode_and_any_values_encode() {
    let mut random = Random(2);
    for dtype in DType::ALL {
        for n in 0..200 {
            let blocks = n % 5;
            let bytes: Vec<u8> =
                (0..blocks * dtype.block_bytes()).map(|_| random.bits() as u8).collect();
            assert_eq!(decoded(dtype, &bytes).len(), blocks * dtype.block_len());
        }
        assert!(
            decoded(dtype, &vec![0xff; dtype.block_bytes()]).iter().all(|v| !v.is_finite())
                || matches!(dtype, DType::MXFP4)
        );
    }
    for dtype in WRITTEN {
        for _ in 0..200 {
            // Every bit pattern: subnormals, infinities, NaN, 1e38 beside 1e-38.
            let values: Vec<f32> = (0..512).map(|_| f32::from_bits(random.bits() as u32)).collect();
            assert_eq!(decoded(dtype, &encoded(dtype, &values)).len(), 512);
        }
        for value in [0.0, -0.0, 1e-45, -1e-38, 1e-20, -1e-15, 1e30, f32::MAX, f32::MIN] {
            let mut values = [value; 256];
            assert_eq!(decoded(dtype, &encoded(dtype, &values)).len(), 256, "{dtype} {value}");
            values[100] = 1.0;
            values[200] = -value;
            assert_eq!(decoded(dtype, &encoded(dtype, &values)).len(), 256, "{dtype} {value}");
        }
    }
}

#[test]
fn zeros_stay_zeros() {
    for dtype in WRITTEN {
        assert_eq!(decoded(dtype, &encoded(dtype, &[0.0; 256])), [0.0; 256], "{dtype}");
    }
}

#[test]
fn tiny_weights_are_no_worse_than_zeros() {
    let mut random = Random(3);
    for dtype in [DType::Q4_K, DType::Q5_K, DType::Q6_K] {
        for exponent in 10..40 {
            let magnitude = 0.5f32.powi(exponent);
            let values: Vec<f32> = (0..256).map(|_| random.normal() * magnitude).collect();
            let error = rms_error(&values, &decoded(dtype, &encoded(dtype, &values)));
            let size = rms_error(&values, &[0.0; 256]);
            assert!(error <= size * 1.001, "{dtype} 2^-{exponent}: {}", error / size);
        }
    }
}

#[test]
fn a_block_with_a_nan_or_an_infinity_decodes_to_nan() {
    let mut random = Random(4);
    for dtype in WRITTEN.into_iter().filter(|dtype| dtype.is_quantised()) {
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let mut values: Vec<f32> = (0..768).map(|_| random.normal()).collect();
            let at = 256 + random.bits() as usize % 256;
            values[at] = bad;
            let got = decoded(dtype, &encoded(dtype, &values));
            let poisoned = at / dtype.block_len();
            for (b, block) in got.chunks(dtype.block_len()).enumerate() {
                assert!(block.iter().all(|value| value.is_nan() == (b == poisoned)), "{dtype}");
            }
        }
    }
    for dtype in [DType::F32, DType::F16, DType::BF16] {
        let got = decoded(dtype, &encoded(dtype, &[f32::NAN, f32::INFINITY, f32::NEG_INFINITY]));
        assert!(got[0].is_nan());
        assert_eq!(got[1..], [f32::INFINITY, f32::NEG_INFINITY], "{dtype}");
    }
}

#[test]
fn importance_moves_the_error_to_where_it_matters_less() {
    let mut random = Random(5);
    let values: Vec<f32> = (0..256 * 64).map(|_| random.normal()).collect();
    let importance: Vec<f32> = values.iter().map(|_| random.unit().powi(4) * 100.0).collect();
    for dtype in [DType::Q4_0, DType::Q4_K, DType::Q5_K, DType::Q6_K] {
        let loss = |bytes: &[u8]| {
            let back = decoded(dtype, bytes);
            sum_squares((0..values.len()).map(|i| (values[i] - back[i]) * importance[i].sqrt()))
        };
        let mut weighted = Vec::new();
        quantize_weighted(dtype, &values, Some(&importance), &mut weighted).unwrap();
        let (with, without) = (loss(&weighted), loss(&encoded(dtype, &values)));
        println!("{dtype}: {:.3}", with / without);
        assert!(with < 0.97 * without, "{dtype}: {with} against {without}");
    }
}

#[test]
fn wrong_lengths_are_errors_and_append_nothing() {
    let mut bytes = vec![1, 2, 3];
    let mut out = [0.0; 31];
    let error = dequantize(DType::Q4_0, &[0; 18], &mut out).unwrap_err();
    assert!(matches!(error, Error::Row { cols: 31, block: 32, .. }), "{error}");
    for dtype in DType::ALL {
        let mut out = vec![0.0; dtype.block_len()];
        for length in [0, dtype.block_bytes() - 1, dtype.block_bytes() + 1] {
            let error = dequantize(dtype, &vec![0; length], &mut out).unwrap_err();
            let expected = dtype.block_bytes();
            assert!(
                matches!(error, Error::Length { expected: e, got, .. } if e == expected && got == length),
                "{error}"
            );
        }
        if !WRITTEN.contains(&dtype) {
            let error = quantize(dtype, &[0.0; 256], &mut bytes).unwrap_err();
            assert!(matches!(error, Error::NotWritten { .. }), "{error}");
        }
    }
    let error = quantize(DType::Q4_K, &[0.0; 128], &mut bytes).unwrap_err();
    assert!(matches!(error, Error::Row { cols: 128, block: 256, .. }), "{error}");
    let error = quantize_weighted(DType::Q4_0, &[0.0; 32], Some(&[1.0; 31]), &mut bytes);
    assert!(matches!(error, Err(Error::Length { expected: 128, got: 124, .. })));
    assert_eq!(bytes, [1, 2, 3]);
}
