//! What a product kernel is, and which one serves a format on an instruction set.
//!
//! There are two ways through a matrix. With few tokens (decoding) *direct* kernels read the packed
//! weights as a stream, unpacking in registers. With many (prefill) a few blocks of a row group are
//! first unpacked to a *panel* of bytes and full-precision scales that stays in the first-level
//! cache while it is multiplied with tile after tile. Both do the same operations in the same order for each token, so that a token's result
//! does not depend on how many stand beside it.

use super::activations::{Block, QuantisedTile, Tile};
use super::format::*;
use crate::cpu::Kind;
use crate::{DType, Isa};

/// Rows of a group.
pub(crate) const ROWS: usize = 16;

/// Where a kernel writes: row `r` of token `t` is `start[t * stride + r]`, `rows` of them exist.
#[derive(Clone, Copy)]
pub(crate) struct Target {
    pub(crate) start: *mut f32,
    pub(crate) stride: usize,
    pub(crate) rows: usize,
}

impl Target {
    /// Moved to row group `g` of the run.
    #[inline]
    pub(crate) fn group(self, g: usize) -> Target {
        Target { start: self.start.wrapping_add(g * ROWS), rows: self.rows - g * ROWS, ..self }
    }

    /// Moved to token `t`.
    #[inline]
    pub(crate) fn token(self, t: usize) -> Target {
        Target { start: self.start.wrapping_add(t * self.stride), ..self }
    }
}

/// Direct kernel of a quantised format: row groups at `weights`, `group_bytes` apart, `groups` of
/// them (their rows but the last ones given by the target's `rows`), times one tile.
pub(crate) type Direct = unsafe fn(
    weights: *const u8,
    group_bytes: usize,
    groups: usize,
    blocks: usize,
    x: QuantisedTile,
    target: Target,
);

/// Unpacks `blocks` blocks of a row group, from the `first` on, to a panel.
pub(crate) type Unpack = unsafe fn(weights: *const u8, first: usize, blocks: usize, panel: *mut u8);

/// Multiplies a panel of `blocks` blocks with the same blocks of one tile, adding to what the
/// target holds if `add`.
pub(crate) type Panel =
    unsafe fn(panel: *const u8, blocks: usize, x: QuantisedTile, target: Target, add: bool);

/// Direct kernel of an unquantised format, over `cols` columns.
pub(crate) type DenseDirect = unsafe fn(
    weights: *const u8,
    group_bytes: usize,
    groups: usize,
    cols: usize,
    tile: Tile,
    x: *const f32,
    target: Target,
);

/// Quantises one row of activations (see [`super::activations::quantise_row`]).
pub(crate) type Quantise = unsafe fn(row: &[f32], stride: usize, out: *mut Block);

/// The kernels of one quantised format.
#[derive(Clone, Copy)]
pub(crate) struct QuantisedKernels {
    pub(crate) direct: Direct,
    pub(crate) unpack: Unpack,
    pub(crate) panel: Panel,
    /// Bytes of a panel's block.
    pub(crate) panel_block: usize,
    /// Bytes of a row group of that many columns.
    pub(crate) group_bytes: fn(usize) -> usize,
}

/// Tile widths of an instruction set.
pub(crate) struct Widths {
    /// Of direct kernels of quantised formats.
    pub(crate) direct: &'static [usize],
    /// Of panel kernels.
    pub(crate) panel: &'static [usize],
    /// Of unquantised formats.
    pub(crate) dense: &'static [usize],
    /// From this many tokens on, panels are used.
    pub(crate) panel_from: usize,
}

/// The instruction set's tile widths.
pub(crate) fn widths(isa: Isa) -> Widths {
    match isa.0 {
        #[cfg(target_arch = "x86_64")]
        Kind::Avx512 => super::avx512::WIDTHS,
        #[cfg(target_arch = "x86_64")]
        Kind::Avx2 => super::avx2::WIDTHS,
        #[cfg(target_arch = "aarch64")]
        Kind::Neon => super::neon::WIDTHS,
        _ => super::scalar::WIDTHS,
    }
}

/// The instruction set's activation quantiser.
pub(crate) fn quantiser(isa: Isa) -> Quantise {
    match isa.0 {
        #[cfg(target_arch = "x86_64")]
        Kind::Avx512 => super::avx512::quantise_row,
        #[cfg(target_arch = "x86_64")]
        Kind::Avx2 => super::avx2::quantise_row,
        #[cfg(target_arch = "aarch64")]
        Kind::Neon => super::neon::quantise_row,
        _ => super::activations::quantise_row,
    }
}

macro_rules! by_format {
    ($dtype:expr, $make:ident) => {
        match $dtype {
            DType::F32 | DType::F16 | DType::BF16 => None,
            DType::Q4_0 => Some($make::<Q4_0>()),
            DType::Q4_1 => Some($make::<Q4_1>()),
            DType::Q5_0 => Some($make::<Q5_0>()),
            DType::Q5_1 => Some($make::<Q5_1>()),
            DType::Q8_0 => Some($make::<Q8_0>()),
            DType::Q2_K => Some($make::<Q2K>()),
            DType::Q3_K => Some($make::<Q3K>()),
            DType::Q4_K => Some($make::<Q4K>()),
            DType::Q5_K => Some($make::<Q5K>()),
            DType::Q6_K => Some($make::<Q6K>()),
            DType::IQ4_NL => Some($make::<Iq4Nl>()),
            DType::IQ4_XS => Some($make::<Iq4Xs>()),
            DType::MXFP4 => Some($make::<Mxfp4>()),
        }
    };
}

/// The kernels of a quantised format; none for an unquantised one.
pub(crate) fn quantised(isa: Isa, dtype: DType) -> Option<QuantisedKernels> {
    match isa.0 {
        #[cfg(target_arch = "x86_64")]
        Kind::Avx512 => by_format!(dtype, avx512_kernels),
        #[cfg(target_arch = "x86_64")]
        Kind::Avx2 => by_format!(dtype, avx2_kernels),
        #[cfg(target_arch = "aarch64")]
        Kind::Neon => by_format!(dtype, neon_kernels),
        _ => by_format!(dtype, scalar_kernels),
    }
}

/// The direct kernel of an unquantised format.
pub(crate) fn dense(isa: Isa, dtype: DType) -> DenseDirect {
    match (isa.0, dtype) {
        #[cfg(target_arch = "x86_64")]
        (Kind::Avx512, DType::F16) => super::avx512::dense_f16,
        #[cfg(target_arch = "x86_64")]
        (Kind::Avx512, DType::BF16) => super::avx512::dense_bf16,
        #[cfg(target_arch = "x86_64")]
        (Kind::Avx512, _) => super::avx512::dense_f32,
        #[cfg(target_arch = "x86_64")]
        (Kind::Avx2, DType::F16) => super::avx2::dense_f16,
        #[cfg(target_arch = "x86_64")]
        (Kind::Avx2, DType::BF16) => super::avx2::dense_bf16,
        #[cfg(target_arch = "x86_64")]
        (Kind::Avx2, _) => super::avx2::dense_f32,
        #[cfg(target_arch = "aarch64")]
        (Kind::Neon, DType::F16) => super::neon::dense_f16,
        #[cfg(target_arch = "aarch64")]
        (Kind::Neon, DType::BF16) => super::neon::dense_bf16,
        #[cfg(target_arch = "aarch64")]
        (Kind::Neon, _) => super::neon::dense_f32,
        (_, DType::F16) => super::scalar::dense_f16,
        (_, DType::BF16) => super::scalar::dense_bf16,
        _ => super::scalar::dense_f32,
    }
}

fn scalar_kernels<F: Format>() -> QuantisedKernels {
    use super::scalar;
    QuantisedKernels {
        direct: scalar::direct::<F>,
        unpack: scalar::unpack::<F>,
        panel: scalar::panel::<F>,
        panel_block: F::PANEL_BLOCK,
        group_bytes: F::group_bytes,
    }
}

#[cfg(target_arch = "x86_64")]
fn avx512_kernels<F: Format>() -> QuantisedKernels {
    use super::avx512;
    QuantisedKernels {
        direct: avx512::direct::<F>,
        unpack: avx512::unpack::<F>,
        panel: avx512::panel::<F>,
        panel_block: F::PANEL_BLOCK,
        group_bytes: F::group_bytes,
    }
}

#[cfg(target_arch = "x86_64")]
fn avx2_kernels<F: Format>() -> QuantisedKernels {
    use super::avx2;
    QuantisedKernels {
        direct: avx2::direct::<F>,
        unpack: avx2::unpack::<F>,
        panel: avx2::panel::<F>,
        panel_block: F::PANEL_BLOCK,
        group_bytes: F::group_bytes,
    }
}

#[cfg(target_arch = "aarch64")]
fn neon_kernels<F: Format>() -> QuantisedKernels {
    use super::neon;
    QuantisedKernels {
        direct: neon::direct::<F>,
        unpack: neon::unpack::<F>,
        panel: neon::panel::<F>,
        panel_block: F::PANEL_BLOCK,
        group_bytes: F::group_bytes,
    }
}
