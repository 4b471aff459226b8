//! Accelerators that a run can be planned for: peaks a type of number, as the makers publish them.
//!
//! All figures are of dense products: makers like to print twice that, which holds for matrices half
//! of whose numbers are zero. For cards whose rate depends on what sums are kept in, it is that with
//! sums in single precision.

use serde::Serialize;

use crate::Error;
use crate::recipe::Dtype;

/// An accelerator.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Gpu {
    /// The name on the command line.
    pub name: &'static str,
    /// Products of halves or bfloat16, TFLOP/s.
    pub bf16_tflops: f64,
    /// Products in single precision outside tensor cores, TFLOP/s; none where there are none.
    pub f32_tflops: Option<f64>,
    /// Memory, GB.
    pub memory_gb: f64,
    /// The board's power limit, W; none where it is not published.
    pub watts: Option<f64>,
    /// Where the figures stand.
    pub source: &'static str,
}

const fn gpu(
    name: &'static str,
    [bf16, f32]: [f64; 2],
    memory_gb: f64,
    watts: f64,
    source: &'static str,
) -> Gpu {
    const fn known(figure: f64) -> Option<f64> {
        if figure > 0.0 { Some(figure) } else { None }
    }
    Gpu { name, bf16_tflops: bf16, f32_tflops: known(f32), memory_gb, watts: known(watts), source }
}

/// The source of figures that several other pages give alike, the maker's own not having been at hand.
const SECOND_HAND: &str = "agreeing tables of others, not the maker's page";

/// The source of figures that were written from memory.
const UNCHECKED: &str = "not checked against the maker's page";

const TPU: &str = "Google Cloud TPU documentation";

/// The accelerators that have a name: peaks in bf16 (V100, T4: f16) and f32; 0 is unknown.
pub const GPUS: [Gpu; 20] = [
    gpu("t4", [65.0, 8.1], 16.0, 70.0, "NVIDIA T4 datasheet"),
    gpu("v100-16g", [125.0, 15.7], 16.0, 300.0, "NVIDIA V100 datasheet, SXM2"),
    gpu("v100-32g", [125.0, 15.7], 32.0, 300.0, "NVIDIA V100 datasheet, SXM2"),
    gpu("a100-40g", [312.0, 19.5], 40.0, 400.0, "NVIDIA A100 datasheet, SXM"),
    gpu("a100-80g", [312.0, 19.5], 80.0, 400.0, "NVIDIA A100 datasheet, SXM"),
    gpu("h100-80g", [989.0, 67.0], 80.0, 700.0, "NVIDIA H100 datasheet, SXM"),
    gpu("h100-pcie", [756.0, 51.0], 80.0, 350.0, "NVIDIA H100 datasheet, PCIe"),
    gpu("h200", [989.0, 67.0], 141.0, 700.0, SECOND_HAND),
    gpu("b200", [2250.0, 75.0], 180.0, 1000.0, SECOND_HAND),
    gpu("l4", [121.0, 30.3], 24.0, 72.0, "NVIDIA L4 datasheet"),
    gpu("l40s", [362.0, 91.6], 48.0, 350.0, "NVIDIA L40S datasheet"),
    gpu("rtx-3090", [71.0, 35.6], 24.0, 350.0, UNCHECKED),
    gpu("rtx-4090", [165.2, 82.6], 24.0, 450.0, "NVIDIA Ada whitepaper"),
    gpu("rtx-5090", [209.5, 104.8], 32.0, 575.0, SECOND_HAND),
    gpu("mi250x", [383.0, 47.9], 128.0, 560.0, SECOND_HAND),
    gpu("mi300x", [1307.4, 163.4], 192.0, 750.0, SECOND_HAND),
    gpu("tpu-v4", [275.0, 0.0], 32.0, 0.0, TPU),
    gpu("tpu-v5e", [197.0, 0.0], 16.0, 0.0, TPU),
    gpu("tpu-v5p", [459.0, 0.0], 95.0, 0.0, TPU),
    gpu("tpu-v6e", [918.0, 0.0], 32.0, 0.0, TPU),
];

impl Gpu {
    /// The accelerator of that name, in whatever case; the memory may be left out (`a100` has 80 GB).
    ///
    /// # Errors
    /// [`Error::Setting`] with all names.
    pub fn from_name(name: &str) -> Result<&'static Gpu, Error> {
        let wanted = name.trim().to_lowercase().replace([' ', '_'], "-");
        let full = match wanted.as_str() {
            "v100" => "v100-32g",
            "a100" => "a100-80g",
            "h100" | "h100-sxm" => "h100-80g",
            "h200-141g" => "h200",
            "b200-180g" => "b200",
            "3090" | "rtx3090" => "rtx-3090",
            "4090" | "rtx4090" => "rtx-4090",
            "5090" | "rtx5090" => "rtx-5090",
            other => other,
        };
        GPUS.iter().find(|gpu| gpu.name == full).ok_or_else(|| {
            let names: Vec<&str> = GPUS.iter().map(|gpu| gpu.name).collect();
            Error::Setting {
                key: "--gpu".to_string(),
                problem: format!("no peak is known for {name:?}; there are {}", names.join(", ")),
            }
        })
    }

    /// The name of the halves that it multiplies: the oldest know no bfloat16.
    pub fn halves(&self) -> &'static str {
        match self.name {
            "t4" | "v100-16g" | "v100-32g" => "f16",
            _ => "bf16",
        }
    }

    /// FLOP/s at most, in products of this type; none where it has none.
    pub fn peak(&self, dtype: Dtype) -> Option<f64> {
        let tflops = match dtype {
            Dtype::F32 => self.f32_tflops?,
            Dtype::Bf16 => self.bf16_tflops,
        };
        Some(tflops * 1e12)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_peaks() {
        for (name, expected) in [
            ("v100-32g", 125e12),
            ("a100-80g", 312e12),
            ("A100 80G", 312e12),
            ("h100-80g", 989e12),
            ("h100", 989e12),
        ] {
            assert_eq!(Gpu::from_name(name).unwrap().peak(Dtype::Bf16), Some(expected), "{name}");
        }
        let error = Gpu::from_name("gtx-1080").unwrap_err().to_string();
        assert!(error.contains("\"gtx-1080\"") && error.contains("mi300x"), "{error}");
        for gpu in &GPUS {
            assert_eq!(Gpu::from_name(gpu.name).unwrap(), gpu);
            assert!(gpu.f32_tflops.is_none_or(|tflops| tflops < gpu.bf16_tflops), "{}", gpu.name);
        }
    }
}
