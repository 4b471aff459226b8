//! How a model's parameters are distributed: the numbers of each tensor, quantised or not.

use llmos_tensor::{DType, quant};
use serde::Serialize;

use crate::{Error, ModelFiles, TensorInfo};

/// Bins of a histogram.
pub const BINS: usize = 64;

/// Values that are decoded at a time: a multiple of every block, 256 KiB as f32.
const AT_ONCE: usize = 1 << 16;

/// How the values of a tensor are distributed. A value that is not finite counts in `count` and
/// `not_finite` alone; a figure that no value has is NaN, which JSON writes as null.
#[derive(Clone, Debug, Serialize)]
pub struct Distribution {
    /// The tensor's name as GGUF spells it.
    pub name: String,
    /// The format of its values.
    #[serde(rename = "type")]
    pub dtype: &'static str,
    /// Dimensions, outermost first.
    pub shape: Vec<usize>,
    /// Values.
    pub count: u64,
    /// Their mean.
    pub mean: f64,
    /// Their standard deviation, of all of them and not of a sample.
    pub std: f64,
    /// The least.
    pub min: f32,
    /// The largest.
    pub max: f32,
    /// Values that are zero.
    pub zeros: u64,
    /// Values that are infinite or no number.
    pub not_finite: u64,
    /// How many there are of what size.
    pub histogram: Histogram,
}

/// Values by their size, in bins of equal width.
#[derive(Clone, Debug, Serialize)]
pub struct Histogram {
    /// Where the first bin begins.
    pub from: f64,
    /// Where the last bin ends; what lies right there belongs to it.
    pub to: f64,
    /// [`BINS`] counts.
    pub counts: Vec<u64>,
}

/// What is known after the first pass.
struct Range {
    count: u64,
    sum: f64,
    min: f32,
    max: f32,
    zeros: u64,
}

impl Distribution {
    /// The distribution of a tensor of `files`. It is read twice, some thousand values at a time, and
    /// its pages are given back to the system.
    ///
    /// # Errors
    /// [`Error::Cancelled`] once `cancelled` says so; [`Error::MissingTensor`] and
    /// [`Error::Numbers`] for a tensor that is not of these files.
    pub fn of(
        files: &ModelFiles,
        info: &TensorInfo,
        cancelled: &dyn Fn() -> bool,
    ) -> Result<Distribution, Error> {
        let mut range =
            Range { count: 0, sum: 0.0, min: f32::INFINITY, max: f32::NEG_INFINITY, zeros: 0 };
        each_part(files, info, cancelled, &mut |values| range.take(values))?;
        let mean = range.sum / range.count as f64;
        let (from, to) = match range {
            Range { count: 0, .. } => (f64::NAN, f64::NAN),
            // One bin must hold what is all the same; half a unit to each side, as NumPy has it.
            Range { min, max, .. } if min == max => (f64::from(min) - 0.5, f64::from(max) + 0.5),
            Range { min, max, .. } => (f64::from(min), f64::from(max)),
        };
        let mut histogram = Histogram { from, to, counts: vec![0; BINS] };
        let mut squares = 0.0;
        each_part(files, info, cancelled, &mut |values| {
            for value in finite(values) {
                squares += (value - mean).powi(2);
                let bin = histogram.bin(value);
                histogram.counts[bin] += 1;
            }
        })?;
        files.release(&info.name);
        let count = info.len() as u64;
        let or_none = |value: f32| if range.count == 0 { f32::NAN } else { value };
        Ok(Distribution {
            name: info.name.clone(),
            dtype: info.dtype.name(),
            shape: info.shape.clone(),
            count,
            mean,
            std: (squares / range.count as f64).sqrt(),
            min: or_none(range.min),
            max: or_none(range.max),
            zeros: range.zeros,
            not_finite: count - range.count,
            histogram,
        })
    }
}

impl Range {
    fn take(&mut self, values: &[f32]) {
        for &value in values.iter().filter(|value| value.is_finite()) {
            self.count += 1;
            self.sum += f64::from(value);
            self.min = self.min.min(value);
            self.max = self.max.max(value);
            self.zeros += u64::from(value == 0.0);
        }
    }
}

impl Histogram {
    /// The bin of a value between `from` and `to`.
    fn bin(&self, value: f64) -> usize {
        let share = (value - self.from) / (self.to - self.from);
        ((share * BINS as f64) as usize).min(BINS - 1)
    }
}

fn finite(values: &[f32]) -> impl Iterator<Item = f64> {
    values.iter().filter(|value| value.is_finite()).map(|&value| f64::from(value))
}

/// Passes the values of a tensor to `each`, in order and in parts.
fn each_part(
    files: &ModelFiles,
    info: &TensorInfo,
    cancelled: &dyn Fn() -> bool,
    each: &mut dyn FnMut(&[f32]),
) -> Result<(), Error> {
    let mut decoded = Vec::new();
    let mut decode = |dtype: DType, bytes: &[u8]| -> Result<(), Error> {
        let size = AT_ONCE / dtype.block_len() * dtype.block_bytes();
        for part in bytes.chunks(size) {
            if cancelled() {
                return Err(Error::Cancelled);
            }
            decoded.resize(part.len() / dtype.block_bytes() * dtype.block_len(), 0.0);
            quant::dequantize(dtype, part, &mut decoded)?;
            each(&decoded);
        }
        Ok(())
    };
    // A vector's entry may be a part of a block. Of what has rows some are taken at a time: rows that
    // lie in several files have to be put together.
    let missing = || {
        let path = files.path().to_owned();
        Error::MissingTensor { path, name: info.name.clone() }
    };
    let Some((&outer, rest)) = info.shape.split_first().filter(|(_, rest)| !rest.is_empty()) else {
        let tensor = files.tensor(&info.name)?.ok_or_else(missing)?;
        return decode(tensor.dtype, &tensor.bytes);
    };
    let rows = (AT_ONCE / rest.iter().product::<usize>().max(1)).max(1);
    for start in (0..outer).step_by(rows) {
        let some = start..(start + rows).min(outer);
        let tensor = files.rows(&info.name, some)?.ok_or_else(missing)?;
        decode(tensor.dtype, &tensor.bytes)?;
    }
    Ok(())
}
