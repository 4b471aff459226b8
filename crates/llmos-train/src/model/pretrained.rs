//! A model that exists already, as the beginning of a run: its weights as one row.

use llmos_model::ModelFiles;
use llmos_model::config::Pairing;

use super::blueprint::Blueprint;
use super::parameters::{Layout, Tensor};
use crate::Error;

/// Reads the weights of a model of this layout: (parameters).
///
/// # Errors
/// A tensor is missing, has another shape, or cannot be decoded.
pub(crate) fn read_weights(
    files: &ModelFiles,
    blueprint: &Blueprint,
    layout: &Layout,
) -> Result<Vec<f32>, Error> {
    let mut weights = vec![0.0; layout.len()];
    read_tensors(files, blueprint, layout.tensors(), &mut weights)?;
    Ok(weights)
}

/// Reads some tensors of a model into their places in `weights` (parameters).
///
/// # Errors
/// As [`read_weights`].
pub(crate) fn read_tensors<'a>(
    files: &ModelFiles,
    blueprint: &Blueprint,
    tensors: impl IntoIterator<Item = &'a Tensor>,
    weights: &mut [f32],
) -> Result<(), Error> {
    for tensor in tensors {
        weights[tensor.range()].copy_from_slice(&vector(files, blueprint, tensor)?);
        files.release(&tensor.stored);
    }
    Ok(())
}

/// A tensor's numbers (rows * cols) as they are learnt: rotated pairs half a head apart, and norms less
/// one where the architecture has them so.
pub(super) fn vector(
    files: &ModelFiles,
    blueprint: &Blueprint,
    tensor: &Tensor,
) -> Result<Vec<f32>, Error> {
    let name = &tensor.stored;
    let found = files
        .tensor(name)
        .and_then(|found| found.map(|found| found.to_f32()).transpose())
        .map_err(|error| format_error(files, name, "values".into(), error.to_string()))?;
    let mut values =
        found.ok_or_else(|| format_error(files, name, "this tensor".into(), "none".into()))?;
    let expected = tensor.rows * tensor.cols;
    if values.len() != expected {
        let got = values.len().to_string();
        return Err(format_error(files, name, format!("{expected} values"), got));
    }
    if blueprint.sizes().norm_offsets && tensor.kind == super::Kind::Norm {
        values.iter_mut().for_each(|weight| *weight -= 1.0);
    }
    let pairing = blueprint.config().ropes.first().map(|rope| rope.pairing);
    if pairing == Some(Pairing::Adjacent) && is_rotated(tensor) {
        // A bias is a matrix of one column.
        let (rows, cols) = match tensor.kind.is_vector() {
            true => (tensor.cols, 1),
            false => (tensor.rows, tensor.cols),
        };
        let mut turned = vec![0.0; values.len()];
        for row in 0..rows {
            let from = halves(row, blueprint.sizes().head_dim);
            turned[row * cols..][..cols].copy_from_slice(&values[from * cols..][..cols]);
        }
        return Ok(turned);
    }
    Ok(values)
}

/// Rows of this tensor rotate in pairs.
pub(super) fn is_rotated(tensor: &Tensor) -> bool {
    let part = tensor.stored.rsplit('.').nth(1).unwrap_or_default();
    matches!(part, "attn_q" | "attn_k")
}

/// The row of a file, whose pairs lie side by side, that becomes row `row`, where pairs lie half a head
/// apart.
pub(super) fn halves(row: usize, head_dim: usize) -> usize {
    let (head, i) = (row / head_dim, row % head_dim);
    let half = head_dim / 2;
    head * head_dim + 2 * (i % half) + i / half
}

pub(super) fn format_error(files: &ModelFiles, what: &str, expected: String, got: String) -> Error {
    Error::Format { path: files.path().to_path_buf(), what: what.to_string(), expected, got }
}
