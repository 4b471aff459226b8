//! Which instruction set the kernels use: asked once, here and nowhere else.
//!
//! An [`Isa`] other than scalar can only be had from [`Isa::detect`], [`Isa::available`] or
//! [`Isa::from_name`], which look at the CPU: holding one is the proof that its instructions exist.

use std::fmt;

use crate::Error;

/// An instruction set that this CPU has.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Isa(pub(crate) Kind);

/// The families that kernels are written for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(not(target_arch = "x86_64"), allow(dead_code))]
#[cfg_attr(not(target_arch = "aarch64"), allow(dead_code))]
pub(crate) enum Kind {
    /// Plain Rust, the oracle.
    Scalar,
    /// AVX2, FMA and F16C.
    Avx2,
    /// AVX-512 F, BW, VL, DQ, VBMI and VNNI, beside AVX2, FMA and F16C.
    Avx512,
    /// NEON, with dot-product instructions.
    Neon,
}

impl Isa {
    /// Plain Rust.
    pub const SCALAR: Isa = Isa(Kind::Scalar);

    /// The best that this CPU has.
    pub fn detect() -> Isa {
        *Isa::available().last().unwrap_or(&Isa::SCALAR)
    }

    /// All that this CPU has, the plainest first.
    pub fn available() -> Vec<Isa> {
        let mut found = vec![Isa::SCALAR];
        #[cfg(target_arch = "x86_64")]
        {
            if has_avx2() {
                found.push(Isa(Kind::Avx2));
                if has_avx512() {
                    found.push(Isa(Kind::Avx512));
                }
            }
        }
        #[cfg(target_arch = "aarch64")]
        {
            if std::arch::is_aarch64_feature_detected!("dotprod") {
                found.push(Isa(Kind::Neon));
            }
        }
        found
    }

    /// The instruction set of that name, if this CPU has it.
    ///
    /// # Errors
    /// [`Error::NoIsa`] names those that exist here.
    pub fn from_name(name: &str) -> Result<Isa, Error> {
        let available = Isa::available();
        available.iter().copied().find(|isa| isa.name() == name).ok_or_else(|| Error::NoIsa {
            name: name.to_string(),
            available: available.iter().map(|isa| isa.name()).collect::<Vec<_>>().join(", "),
        })
    }

    /// Whether there are products in bfloat16 beside this set's own.
    pub fn has_bf16(self) -> bool {
        #[cfg(target_arch = "x86_64")]
        if self.0 == Kind::Avx512 {
            return is_x86_feature_detected!("avx512bf16");
        }
        false
    }

    /// The name, in lower case.
    pub const fn name(self) -> &'static str {
        match self.0 {
            Kind::Scalar => "scalar",
            Kind::Avx2 => "avx2",
            Kind::Avx512 => "avx512",
            Kind::Neon => "neon",
        }
    }

    /// The features that matter to the kernels and whether this CPU has them, for `doctor`.
    pub fn features() -> Vec<(&'static str, bool)> {
        #[cfg(target_arch = "x86_64")]
        {
            vec![
                ("avx2", is_x86_feature_detected!("avx2")),
                ("fma", is_x86_feature_detected!("fma")),
                ("f16c", is_x86_feature_detected!("f16c")),
                ("avxvnni", is_x86_feature_detected!("avxvnni")),
                ("avx512f", is_x86_feature_detected!("avx512f")),
                ("avx512bw", is_x86_feature_detected!("avx512bw")),
                ("avx512vl", is_x86_feature_detected!("avx512vl")),
                ("avx512vbmi", is_x86_feature_detected!("avx512vbmi")),
                ("avx512vnni", is_x86_feature_detected!("avx512vnni")),
                ("avx512bf16", is_x86_feature_detected!("avx512bf16")),
            ]
        }
        #[cfg(target_arch = "aarch64")]
        {
            vec![
                ("neon", std::arch::is_aarch64_feature_detected!("neon")),
                ("dotprod", std::arch::is_aarch64_feature_detected!("dotprod")),
                ("i8mm", std::arch::is_aarch64_feature_detected!("i8mm")),
                ("fp16", std::arch::is_aarch64_feature_detected!("fp16")),
                ("bf16", std::arch::is_aarch64_feature_detected!("bf16")),
            ]
        }
        #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
        {
            Vec::new()
        }
    }
}

#[cfg(target_arch = "x86_64")]
fn has_avx2() -> bool {
    is_x86_feature_detected!("avx2")
        && is_x86_feature_detected!("fma")
        && is_x86_feature_detected!("f16c")
        && is_x86_feature_detected!("bmi2")
}

#[cfg(target_arch = "x86_64")]
fn has_avx512() -> bool {
    is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512vl")
        && is_x86_feature_detected!("avx512dq")
        && is_x86_feature_detected!("avx512vbmi")
        && is_x86_feature_detected!("avx512vnni")
}

impl fmt::Display for Isa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl fmt::Debug for Isa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
