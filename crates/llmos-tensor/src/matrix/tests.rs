//! Packed products against plain arithmetic, over every instruction set that this CPU has.

use super::*;
use crate::quant::dequantize;
use crate::{Isa, ops};

/// A small generator (splitmix64), so that cases repeat.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    /// Between -1 and 1.
    fn float(&mut self) -> f32 {
        (self.next() >> 40) as f32 / (1 << 23) as f32 - 1.0
    }
}

/// Bytes of a random matrix whose scales are ordinary numbers.
fn random_bytes(random: &mut Random, dtype: DType, rows: usize, cols: usize) -> Vec<u8> {
    let len = dtype.row_bytes(cols).expect("whole blocks") * rows;
    let mut bytes: Vec<u8> = (0..len).map(|_| random.next() as u8).collect();
    let halves: &[usize] = match dtype {
        DType::F32 => {
            for value in bytes.chunks_exact_mut(4) {
                value.copy_from_slice(&random.float().to_le_bytes());
            }
            &[]
        }
        DType::F16 => {
            for value in bytes.chunks_exact_mut(2) {
                value.copy_from_slice(&half::f16::from_f32(random.float()).to_le_bytes());
            }
            &[]
        }
        DType::BF16 => {
            for value in bytes.chunks_exact_mut(2) {
                value.copy_from_slice(&half::bf16::from_f32(random.float()).to_le_bytes());
            }
            &[]
        }
        DType::Q4_0 | DType::Q5_0 | DType::Q8_0 | DType::IQ4_NL | DType::IQ4_XS => &[0],
        DType::Q4_1 | DType::Q5_1 | DType::Q4_K | DType::Q5_K => &[0, 2],
        DType::Q2_K => &[80, 82],
        DType::Q3_K => &[108],
        DType::Q6_K => &[208],
        DType::MXFP4 => {
            for block in bytes.chunks_exact_mut(17) {
                block[0] = 120 + block[0] % 8;
            }
            &[]
        }
    };
    for block in bytes.chunks_exact_mut(dtype.block_bytes()) {
        for &at in halves {
            let value = half::f16::from_f32(random.float() * 0.01);
            block[at..at + 2].copy_from_slice(&value.to_le_bytes());
        }
    }
    bytes
}

/// The activations as the kernels see them: rounded to scaled bytes for quantised weights.
fn rounded(x: &[f32], dtype: DType) -> Vec<f32> {
    if !dtype.is_quantised() {
        return x.to_vec();
    }
    x.chunks(32)
        .flat_map(|block| {
            let largest = block.iter().fold(0.0_f32, |m, v| m.max(v.abs()));
            let inverse = activations::inverse_scale(largest);
            block.iter().map(move |v| (v * inverse).round_ties_even() * (largest / 127.0))
        })
        .collect()
}

/// The product in double precision, and the sum of magnitudes that its error is held against.
fn expected(x: &[f32], w: &[f32], tokens: usize, rows: usize, cols: usize) -> Vec<(f64, f64)> {
    let mut out = Vec::new();
    for t in 0..tokens {
        for r in 0..rows {
            let (mut sum, mut size) = (0.0, 0.0);
            for k in 0..cols {
                let product = f64::from(x[t * cols + k]) * f64::from(w[r * cols + k]);
                sum += product;
                size += product.abs();
            }
            out.push((sum, size));
        }
    }
    out
}

#[test]
fn products_match_plain_arithmetic_in_every_format_and_instruction_set() {
    for isa in Isa::available() {
        let device = Device::new(isa, 2);
        for dtype in DType::ALL {
            let mut random = Random(7);
            for (tokens, rows, cols) in [
                (1, 16, 256),
                (1, 37, 512),
                (2, 70, 256),
                (3, 16, 256),
                (7, 20, 768),
                (39, 50, 256),
            ] {
                let bytes = random_bytes(&mut random, dtype, rows, cols);
                let mut w = vec![0.0; rows * cols];
                dequantize(dtype, &bytes, &mut w).expect("valid");
                let x: Vec<f32> = (0..tokens * cols).map(|_| random.float()).collect();
                let matrix = Matrix::pack(&device, dtype, rows, cols, &bytes).expect("valid");
                let mut out = vec![f32::NAN; tokens * rows];
                matmul(&device, &x, tokens, &mut [(&matrix, &mut out)]);
                let expected = expected(&rounded(&x, dtype), &w, tokens, rows, cols);
                for (i, (&got, (sum, size))) in out.iter().zip(expected).enumerate() {
                    // Rounding of each of the `cols` additions, and of the integer-to-float steps.
                    let bound = size * 2e-6 + 1e-6;
                    assert!(
                        (f64::from(got) - sum).abs() <= bound,
                        "{isa} {dtype} {tokens}x{rows}x{cols} at {i}: {got} is not {sum} ± {bound}"
                    );
                }
            }
        }
    }
}

#[test]
fn a_token_does_not_depend_on_its_neighbours_nor_on_threads() {
    for isa in Isa::available() {
        for dtype in DType::ALL {
            let mut random = Random(3);
            let (tokens, rows, cols) = (37, 40, 256);
            let bytes = random_bytes(&mut random, dtype, rows, cols);
            let x: Vec<f32> = (0..tokens * cols).map(|_| random.float()).collect();
            let one = Device::new(isa, 1);
            let matrix = Matrix::pack(&one, dtype, rows, cols, &bytes).expect("valid");
            let mut alone = vec![0.0; tokens * rows];
            for t in 0..tokens {
                let row = &x[t * cols..][..cols];
                matmul(&one, row, 1, &mut [(&matrix, &mut alone[t * rows..][..rows])]);
            }
            for (threads, batch) in [(1, 37), (2, 37), (3, 11), (2, 5), (2, 16)] {
                let device = Device::new(isa, threads);
                let matrix = Matrix::pack(&device, dtype, rows, cols, &bytes).expect("valid");
                let mut out = vec![0.0; batch * rows];
                matmul(&device, &x[..batch * cols], batch, &mut [(&matrix, &mut out)]);
                assert_eq!(out, alone[..batch * rows], "{isa} {dtype} batch {batch}");
            }
        }
    }
}

#[test]
fn a_gated_product_is_the_product_of_its_parts() {
    for isa in Isa::available() {
        let device = Device::new(isa, 2);
        for (gate_type, up_type) in [
            (DType::Q4_0, DType::Q4_0),
            (DType::Q4_K, DType::Q6_K),
            (DType::F16, DType::F16),
            (DType::Q4_0, DType::F32),
        ] {
            let mut random = Random(5);
            for tokens in [1, 5, 40] {
                let (rows, cols) = (50, 256);
                let gate = random_bytes(&mut random, gate_type, rows, cols);
                let up = random_bytes(&mut random, up_type, rows, cols);
                let gate = Matrix::pack(&device, gate_type, rows, cols, &gate).expect("valid");
                let up = Matrix::pack(&device, up_type, rows, cols, &up).expect("valid");
                let x: Vec<f32> = (0..tokens * cols).map(|_| random.float()).collect();
                let (mut g, mut u) = (vec![0.0; tokens * rows], vec![0.0; tokens * rows]);
                matmul(&device, &x, tokens, &mut [(&gate, &mut g), (&up, &mut u)]);
                ops::activation_gate_in_place(isa, ops::Activation::Silu, &mut g, &u);
                let mut fused = vec![0.0; tokens * rows];
                matmul_gated(&device, ops::Activation::Silu, &x, tokens, &gate, &up, &mut fused);
                for (a, b) in fused.iter().zip(&g) {
                    assert!((a - b).abs() <= 1e-5 * b.abs().max(1.0), "{isa}: {a} is not {b}");
                }
            }
        }
    }
}

#[test]
fn wrong_lengths_are_refused() {
    let device = Device::new(Isa::SCALAR, 1);
    let pack = |dtype, rows, cols, len: usize| {
        Matrix::pack(&device, dtype, rows, cols, &vec![0; len]).map(|_| ())
    };
    assert!(matches!(pack(DType::Q4_K, 1, 128, 72), Err(Error::Row { .. })));
    assert!(matches!(pack(DType::Q8_0, 2, 32, 34), Err(Error::Length { .. })));
    assert!(matches!(pack(DType::F32, usize::MAX, 32, 4), Err(Error::Overflow { .. })));
    assert!(pack(DType::Q8_0, 2, 32, 68).is_ok());
}

#[test]
fn quantisers_agree_with_the_scalar_one() {
    let mut random = Random(11);
    let mut row: Vec<f32> = (0..256).map(|_| random.float()).collect();
    row[32..64].fill(0.0);
    row[64..96].fill(1e-38);
    row[96..128].fill(f32::MAX);
    row[128..160].iter_mut().for_each(|v| *v *= 1e-20);
    let mut expected = vec![activations::Block::default(); 8];
    // SAFETY: eight blocks are read and written.
    unsafe { activations::quantise_row(&row, 1, expected.as_mut_ptr()) };
    for isa in Isa::available() {
        let mut got = vec![activations::Block::default(); 8];
        // SAFETY: as above; the instruction set is there.
        unsafe { kernel::quantiser(isa)(&row, 1, got.as_mut_ptr()) };
        for (i, (got, expected)) in got.iter().zip(&expected).enumerate() {
            assert_eq!(got.quants, expected.quants, "{isa} block {i}");
            assert_eq!(got.scale, expected.scale, "{isa} block {i}");
            assert_eq!(got.negative_sum, expected.negative_sum, "{isa} block {i}");
            assert_eq!(got.negative_half, expected.negative_half, "{isa} block {i}");
            assert_eq!(got.scaled_sum, expected.scaled_sum, "{isa} block {i}");
        }
    }
}

/// Values as bfloat16 holds them.
fn rounded_to_bf16(values: &[f32]) -> Vec<f32> {
    values.iter().map(|&v| half::bf16::from_f32(v).to_f32()).collect()
}

#[test]
fn large_matrices_are_multiplied_in_bfloat16_where_that_was_asked_for() {
    for isa in Isa::available().into_iter().filter(|isa| isa.has_bf16()) {
        let device = Device::new(isa, 2).with_bf16();
        for dtype in [DType::F16, DType::BF16] {
            let mut random = Random(13);
            // Odd columns, a last block that is not full, rows that do not fill a group.
            let (rows, cols) = (425, 1041);
            let bytes = random_bytes(&mut random, dtype, rows, cols);
            let mut w = vec![0.0; rows * cols];
            dequantize(dtype, &bytes, &mut w).expect("valid");
            let matrix = Matrix::pack(&device, dtype, rows, cols, &bytes).expect("valid");
            let mut alone = Vec::new();
            for tokens in [1, 2, 3, 8, 12, 23, 31] {
                let x: Vec<f32> = {
                    let mut random = Random(17);
                    (0..tokens * cols).map(|_| random.float()).collect()
                };
                let mut out = vec![f32::NAN; tokens * rows];
                matmul(&device, &x, tokens, &mut [(&matrix, &mut out)]);
                let expected =
                    expected(&rounded_to_bf16(&x), &rounded_to_bf16(&w), tokens, rows, cols);
                for (i, (&got, (sum, size))) in out.iter().zip(expected).enumerate() {
                    // Sums of a thousand products, each rounded to single precision.
                    let bound = size * 4e-6 + 1e-6;
                    assert!(
                        (f64::from(got) - sum).abs() <= bound,
                        "{dtype} {tokens} at {i}: {got} is not {sum} ± {bound}"
                    );
                }
                if tokens == 1 {
                    alone.clone_from(&out);
                }
                assert_eq!(out[..rows], alone, "{dtype}: the first of {tokens} tokens");
            }
        }
        // Forms may be mixed in one product: a quantised gate beside a large half-precision up.
        let mut random = Random(19);
        let (rows, cols, tokens) = (520, 512, 20);
        let gate = random_bytes(&mut random, DType::Q8_0, rows, cols);
        let gate = Matrix::pack(&device, DType::Q8_0, rows, cols, &gate).expect("valid");
        let up = random_bytes(&mut random, DType::F16, rows, cols);
        let up = Matrix::pack(&device, DType::F16, rows, cols, &up).expect("valid");
        let x: Vec<f32> = (0..tokens * cols).map(|_| random.float()).collect();
        let (mut g, mut u) = (vec![0.0; tokens * rows], vec![0.0; tokens * rows]);
        matmul(&device, &x, tokens, &mut [(&gate, &mut g), (&up, &mut u)]);
        ops::activation_gate_in_place(isa, ops::Activation::Silu, &mut g, &u);
        let mut fused = vec![0.0; tokens * rows];
        matmul_gated(&device, ops::Activation::Silu, &x, tokens, &gate, &up, &mut fused);
        assert_eq!(fused, g);
    }
}
