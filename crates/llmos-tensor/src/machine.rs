//! What this machine can do at most: read bandwidth and arithmetic peaks, measured.
//!
//! A decoded token reads every weight once, so its rate is bounded by the first; a prompt's tokens
//! share the read, so theirs is bounded by the second. Measurements take the best of several
//! rounds: the bound is what the machine can do, not what it did while something else ran.

use std::hint::black_box;
use std::time::Instant;

use crate::buffer::Arena;
#[cfg(target_arch = "x86_64")]
use crate::cpu::Kind;
use crate::{Device, Isa};

/// Bytes read in a round: several times the largest cache of a personal machine.
const READ_BYTES: usize = 512 << 20;

/// Rounds, of which the best counts.
const ROUNDS: usize = 5;

/// What was measured with one number of threads.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Peaks {
    /// Threads.
    pub threads: usize,
    /// Bytes a second, read from memory.
    pub read_bytes_per_s: f64,
    /// Single-precision operations a second (a fused multiply-add is two).
    pub f32_per_s: f64,
    /// bfloat16 dot-product operations a second; none without the instruction.
    pub bf16_per_s: Option<f64>,
    /// Byte dot-product operations a second.
    pub int8_per_s: f64,
}

/// Measures all of [`Peaks`] with the device's threads.
pub fn measure(device: &Device) -> Peaks {
    let isa = device.isa();
    Peaks {
        threads: device.threads().count(),
        read_bytes_per_s: read_bandwidth(device),
        f32_per_s: arithmetic(device, &|turns| f32_turns(isa, turns)),
        bf16_per_s: isa.has_bf16().then(|| arithmetic(device, &|turns| bf16_turns(isa, turns))),
        int8_per_s: arithmetic(device, &|turns| int8_turns(isa, turns)),
    }
}

/// Bytes a second that the device's threads read from memory together.
pub fn read_bandwidth(device: &Device) -> f64 {
    let mut buffer = Arena::default().take(READ_BYTES);
    let start = crate::matrix::Shared(buffer.as_mut_slice().as_mut_ptr());
    let threads = device.threads();
    let share = (READ_BYTES / threads.count()) & !4095;
    threads.run(&|i| {
        // SAFETY: shares are disjoint ranges of the buffer.
        let mine = unsafe { std::slice::from_raw_parts_mut(start.get().add(i * share), share) };
        mine.fill(1);
    });
    let bytes = buffer.as_slice();
    let best = (0..ROUNDS)
        .map(|_| {
            let clock = Instant::now();
            threads.run(&|i| {
                black_box(read(&bytes[i * share..][..share]));
            });
            clock.elapsed().as_secs_f64()
        })
        .fold(f64::INFINITY, f64::min);
    (share * threads.count()) as f64 / best
}

/// Reads all of `bytes` as four streams, which keeps more lines in flight than one.
fn read(bytes: &[u8]) -> u64 {
    let words: &[[u64; 8]] = bytemuck::cast_slice(&bytes[..bytes.len() & !255]);
    let quarter = words.len() / 4;
    let (a, rest) = words.split_at(quarter);
    let (b, rest) = rest.split_at(quarter);
    let (c, d) = rest.split_at(quarter);
    let mut sums = [0_u64; 8];
    for (((a, b), c), d) in a.iter().zip(b).zip(c).zip(d) {
        for i in 0..8 {
            sums[i] ^= a[i] ^ b[i] ^ c[i] ^ d[i];
        }
    }
    sums.iter().fold(0, |x, y| x ^ y)
}

/// Operations a second of `turns`, which does that many turns and says how many operations a turn
/// has.
fn arithmetic(device: &Device, turns: &(dyn Fn(usize) -> f64 + Sync)) -> f64 {
    let count = 1 << 20;
    let best = (0..ROUNDS)
        .map(|_| {
            let clock = Instant::now();
            device.threads().run(&|_| {
                black_box(turns(count));
            });
            clock.elapsed().as_secs_f64()
        })
        .fold(f64::INFINITY, f64::min);
    turns(1) * (count * device.threads().count()) as f64 / best
}

/// Chains of dependent operations in flight: enough for latency 4 on two to four ports.
const CHAINS: usize = 12;

fn f32_turns(isa: Isa, turns: usize) -> f64 {
    match isa.0 {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: the Isa is the proof that its instructions exist.
        Kind::Avx512 => unsafe { x86::f32_avx512(turns) },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: as above.
        Kind::Avx2 => unsafe { x86::f32_avx2(turns) },
        _ => {
            let mut sums = [[0.5_f32; 4]; CHAINS];
            for _ in 0..turns {
                for sum in &mut sums {
                    for lane in sum {
                        *lane = *lane * 0.999 + 0.001;
                    }
                }
            }
            black_box(sums);
            (CHAINS * 4 * 2) as f64
        }
    }
}

fn int8_turns(isa: Isa, turns: usize) -> f64 {
    match isa.0 {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: the Isa is the proof that its instructions exist.
        Kind::Avx512 => unsafe { x86::int8_avx512(turns) },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: as above.
        Kind::Avx2 => unsafe { x86::int8_avx2(turns) },
        _ => {
            let mut sums = [[1_i32; 16]; 4];
            for turn in 0..turns {
                for sum in &mut sums {
                    for lane in sum {
                        *lane = lane.wrapping_add(i32::from(turn as i8) * i32::from(*lane as i8));
                    }
                }
            }
            black_box(sums);
            (4 * 16 * 2) as f64
        }
    }
}

fn bf16_turns(isa: Isa, turns: usize) -> f64 {
    #[cfg(target_arch = "x86_64")]
    if isa.has_bf16() {
        // SAFETY: checked in this condition.
        return unsafe { x86::bf16_avx512(turns) };
    }
    let _ = (isa, turns);
    0.0
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    //! Loops of nothing but the instruction in question.

    use std::arch::x86_64::*;
    use std::hint::black_box;

    use super::CHAINS;

    /// # Safety
    /// The CPU has AVX-512 F.
    #[target_feature(enable = "avx512f")]
    pub(super) unsafe fn f32_avx512(turns: usize) -> f64 {
        let (x, y) = (_mm512_set1_ps(black_box(0.999)), _mm512_set1_ps(black_box(0.001)));
        let mut sums = [y; CHAINS];
        for _ in 0..turns {
            for sum in &mut sums {
                *sum = _mm512_fmadd_ps(*sum, x, y);
            }
        }
        black_box(sums);
        (CHAINS * 16 * 2) as f64
    }

    /// # Safety
    /// The CPU has AVX2 and FMA.
    #[target_feature(enable = "avx2,fma")]
    pub(super) unsafe fn f32_avx2(turns: usize) -> f64 {
        let (x, y) = (_mm256_set1_ps(black_box(0.999)), _mm256_set1_ps(black_box(0.001)));
        let mut sums = [y; CHAINS];
        for _ in 0..turns {
            for sum in &mut sums {
                *sum = _mm256_fmadd_ps(*sum, x, y);
            }
        }
        black_box(sums);
        (CHAINS * 8 * 2) as f64
    }

    /// # Safety
    /// The CPU has AVX-512 VNNI.
    #[target_feature(enable = "avx512f,avx512vnni")]
    pub(super) unsafe fn int8_avx512(turns: usize) -> f64 {
        let (x, y) = (_mm512_set1_epi8(black_box(3)), _mm512_set1_epi8(black_box(5)));
        let mut sums = [x; CHAINS];
        for _ in 0..turns {
            for sum in &mut sums {
                *sum = _mm512_dpbusd_epi32(*sum, x, y);
            }
        }
        black_box(sums);
        (CHAINS * 64 * 2) as f64
    }

    /// Multiplies, widens and adds, as the kernels do for bytes of eight bits.
    ///
    /// # Safety
    /// The CPU has AVX2.
    #[target_feature(enable = "avx2")]
    pub(super) unsafe fn int8_avx2(turns: usize) -> f64 {
        let (x, ones) = (_mm256_set1_epi8(black_box(3)), _mm256_set1_epi16(black_box(1)));
        let mut sums = [x; CHAINS];
        for _ in 0..turns {
            for sum in &mut sums {
                let pairs = _mm256_maddubs_epi16(x, *sum);
                *sum = _mm256_add_epi32(*sum, _mm256_madd_epi16(pairs, ones));
            }
        }
        black_box(sums);
        (CHAINS * 32 * 2) as f64
    }

    /// # Safety
    /// The CPU has AVX-512 BF16.
    #[target_feature(enable = "avx512f,avx512bf16")]
    pub(super) unsafe fn bf16_avx512(turns: usize) -> f64 {
        let x = _mm512_cvtne2ps_pbh(_mm512_set1_ps(black_box(0.5)), _mm512_set1_ps(0.5));
        let mut sums = [_mm512_set1_ps(1.0); CHAINS];
        for _ in 0..turns {
            for sum in &mut sums {
                *sum = _mm512_dpbf16_ps(*sum, x, x);
            }
        }
        black_box(sums);
        (CHAINS * 32 * 2) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn peaks_are_positive_on_every_instruction_set() {
        for isa in Isa::available() {
            let device = Device::new(isa, 1);
            assert!(arithmetic(&device, &|turns| f32_turns(isa, turns)) > 0.0);
            assert!(arithmetic(&device, &|turns| int8_turns(isa, turns)) > 0.0);
            assert_eq!(isa.has_bf16(), bf16_turns(isa, 1) > 0.0);
        }
    }
}
