//! # Room card: llmos-tensor
//!
//! **What it is.** Numbers: block formats of weights, packed matrices, kernels for every
//! instruction set, attention over cache pages, a thread pool, and what this machine can do.
//!
//! **May touch.** `unsafe`, CPU intrinsics, threads, memory advice to the operating system.
//!
//! **Never.** Files, tokens, models, text.
//!
//! **Invariants.**
//! - A scalar version of each kernel is the oracle and stays; a fast version has a conformance test
//!   over every instruction set that this CPU has.
//! - Nothing but [`Isa::detect`] asks which CPU this is.
//! - Public functions are safe and assert their shapes once, on entry.
//! - Row-major, last dimension contiguous; a weight is `(out, in)`.

mod attention;
mod buffer;
mod cpu;
mod device;
mod dtype;
mod error;
pub mod gemm;
pub mod machine;
mod matrix;
pub mod ops;
mod pool;
pub mod quant;
pub mod self_attention;
#[cfg(test)]
mod testing;

pub use attention::{
    AttentionOptions, CacheShape, CacheType, Span, attention, attention_weights, cache_load,
    cache_store,
};
pub use buffer::{Arena, Buffer, Floats};
pub use cpu::Isa;
pub use device::Device;
pub use dtype::DType;
pub use error::Error;
pub use matrix::{Matrix, matmul, matmul_gated};
pub use pool::Threads;
