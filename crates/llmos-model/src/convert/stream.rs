//! Tensor data from input to output, a few megabytes at a time.

use std::borrow::Cow;
use std::num::NonZero;
use std::ops::ControlFlow;

use llmos_tensor::DType;
use llmos_tensor::quant::{dequantize, quantize};

use super::partial::Output;
use super::{Copied, Data, Order, Planned};
use crate::Error;
use crate::file::{Change, ModelFiles};

/// Values a thread works on at once: 4 MiB of f32.
const CHUNK: usize = 1 << 20;

/// Writes a tensor's data; `written` is told of every run of bytes, and says whether to go on.
pub(super) fn tensor(
    files: &ModelFiles,
    tensor: &Planned<'_>,
    threads: NonZero<usize>,
    output: &mut Output,
    written: &mut dyn FnMut(usize) -> ControlFlow<()>,
) -> Result<(), Error> {
    let copied = match &tensor.data {
        Data::Computed(values) => {
            let mut bytes = Vec::new();
            quantize(tensor.dtype, values, &mut bytes)?;
            output.write(&bytes)?;
            return go_on(written(bytes.len()));
        }
        Data::Copied(copied) => copied,
    };
    let (rows, cols) = rows_and_cols(&tensor.shape, copied);
    let step = (CHUNK / cols).max(1);
    let mut start = 0;
    while start < rows {
        // Each thread takes a run of whole rows; the bytes do not depend on how they are cut.
        let runs: Vec<std::ops::Range<usize>> = (0..threads.get())
            .map(|thread| start + thread * step..(start + (thread + 1) * step).min(rows))
            .filter(|run| run.start < run.end)
            .collect();
        let encode = |run: std::ops::Range<usize>| encode(files, tensor.dtype, copied, cols, run);
        let results: Vec<Result<Cow<'_, [u8]>, Error>> = if runs.len() == 1 {
            runs.iter().cloned().map(encode).collect()
        } else {
            std::thread::scope(|scope| {
                let workers: Vec<_> =
                    runs.iter().map(|run| scope.spawn(|| encode(run.clone()))).collect();
                workers
                    .into_iter()
                    .map(|worker| match worker.join() {
                        Ok(result) => result,
                        Err(panic) => std::panic::resume_unwind(panic),
                    })
                    .collect()
            })
        };
        for bytes in results {
            let bytes = bytes?;
            output.write(&bytes)?;
            go_on(written(bytes.len()))?;
        }
        start = runs.last().map_or(rows, |run| run.end);
    }
    files.release(&copied.info.name);
    Ok(())
}

fn go_on(said: ControlFlow<()>) -> Result<(), Error> {
    if said.is_break() { Err(Error::Cancelled) } else { Ok(()) }
}

/// A tensor as rows: a vector is one row, unless its entries change places.
fn rows_and_cols(shape: &[usize], copied: &Copied<'_>) -> (usize, usize) {
    match shape {
        [len] if copied.order == Order::Same => (1, *len),
        [len] => (*len, 1),
        [rest @ .., cols] => (rest.iter().product(), *cols),
        [] => (0, 1),
    }
}

/// Output rows `run` in their format.
fn encode<'a>(
    files: &'a ModelFiles,
    dtype: DType,
    copied: &Copied<'_>,
    cols: usize,
    run: std::ops::Range<usize>,
) -> Result<Cow<'a, [u8]>, Error> {
    let info = copied.info;
    let stored = match info.change {
        Change::None => info.dtype,
        Change::AddOne(stored) => stored,
    };
    let row_bytes = stored.row_bytes(cols).ok_or(llmos_tensor::Error::Row {
        operation: "convert",
        dtype: stored,
        cols,
        block: stored.block_len(),
    })?;
    let first = copied.first * info.shape[1..].iter().product::<usize>() / cols;
    let bytes = match copied.order {
        Order::Same => {
            files.stored(info, (first + run.start) * row_bytes..(first + run.end) * row_bytes)
        }
        order => {
            let mut bytes = Vec::with_capacity(run.len() * row_bytes);
            for row in run.clone() {
                let at = (first + order.row(row)) * row_bytes;
                bytes.extend_from_slice(&files.stored(info, at..at + row_bytes));
            }
            Cow::Owned(bytes)
        }
    };
    if stored == dtype && copied.offset == 0.0 {
        return Ok(bytes);
    }
    let mut values = vec![0.0f32; run.len() * cols];
    dequantize(stored, &bytes, &mut values)?;
    if copied.offset != 0.0 {
        values.iter_mut().for_each(|value| *value += copied.offset);
    }
    let mut encoded = Vec::new();
    quantize(dtype, &values, &mut encoded)?;
    Ok(Cow::Owned(encoded))
}
