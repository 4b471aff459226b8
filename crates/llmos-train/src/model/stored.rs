//! Frozen weights as their files hold them, quantised or not (QLoRA, arXiv:2305.14314): a matrix is
//! decoded some rows at a time into a buffer that all products share, so that memory stays near the
//! files' size.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use llmos_model::ModelFiles;
use llmos_model::config::Pairing;
use llmos_tensor::{DType, Device, quant};

use super::blueprint::Blueprint;
use super::parameters::{Kind, Layout, Tensor};
use super::pretrained::{format_error, halves, is_rotated, vector};
use crate::Error;

/// Numbers that are decoded at once: 16 MiB. Products of more rows gain nothing.
const TILE: usize = 4 << 20;

/// A model's tensors in its files.
pub(crate) struct Stored {
    files: Arc<ModelFiles>,
    /// By their first number in the layout.
    places: BTreeMap<usize, Place>,
    /// Norms and biases, as numbers.
    vectors: Vec<f32>,
    /// Rows that were decoded last.
    tile: Mutex<Vec<f32>>,
}

/// Where a tensor is.
enum Place {
    /// Within [`Stored::vectors`].
    Vector(Range<usize>),
    Matrix(Matrix),
}

/// A matrix (rows, cols) in the files.
struct Matrix {
    name: String,
    rows: usize,
    cols: usize,
    /// The files hold pairs that rotate together side by side, in heads of this size.
    adjacent: Option<usize>,
}

impl Stored {
    /// Bytes of what is decoded at a time.
    pub(crate) const TILE_BYTES: u64 = 4 * TILE as u64;

    /// True if the files hold matrices in fewer bits than a copy in memory would have.
    pub(crate) fn saves(files: &ModelFiles) -> bool {
        files.tensors().any(|info| info.shape.len() == 2 && info.dtype != DType::F32)
    }

    /// The tensors of a layout.
    ///
    /// # Errors
    /// A tensor is missing, has another shape, or cannot be decoded.
    pub(crate) fn open(
        files: &Arc<ModelFiles>,
        blueprint: &Blueprint,
        layout: &Layout,
    ) -> Result<Stored, Error> {
        let mut places = BTreeMap::new();
        let mut vectors = Vec::new();
        let adjacent = blueprint.config().ropes.first().map(|rope| rope.pairing);
        let adjacent = (adjacent == Some(Pairing::Adjacent)).then(|| blueprint.sizes().head_dim);
        for tensor in layout.tensors() {
            let place = if tensor.kind.is_vector() {
                let start = vectors.len();
                vectors.extend(vector(files, blueprint, tensor)?);
                Place::Vector(start..vectors.len())
            } else {
                let adjacent = adjacent.filter(|_| is_rotated(tensor));
                Place::Matrix(Matrix::of(files, tensor, adjacent)?)
            };
            places.insert(tensor.start, place);
        }
        Ok(Stored { files: files.clone(), places, vectors, tile: Mutex::default() })
    }

    pub(super) fn vector(&self, range: &Range<usize>) -> &[f32] {
        // Vectors that lie side by side in the layout lie so here.
        let mut parts = self.places.range(range.clone()).filter_map(|(_, place)| match place {
            Place::Vector(range) => Some(range),
            Place::Matrix(_) => None,
        });
        let start = parts.next().map_or(0, |first| first.start);
        &self.vectors[start..start + range.len()]
    }

    fn matrices(&self, range: &Range<usize>) -> impl Iterator<Item = &Matrix> {
        self.places.range(range.clone()).filter_map(|(_, place)| match place {
            Place::Matrix(matrix) => Some(matrix),
            Place::Vector(_) => None,
        })
    }

    /// `out` (N, cols) becomes the rows `ids` of the matrix at `range`.
    pub(super) fn rows(&self, range: &Range<usize>, ids: &[u32], out: &mut [f32]) {
        if let Some(matrix) = self.matrices(range).next() {
            for (&id, out) in ids.iter().zip(out.chunks_exact_mut(matrix.cols)) {
                matrix.decode(&self.files, id as usize, out);
            }
        }
    }

    /// Decodes the matrices at `range` some rows at a time and hands them to `each`: which of all the
    /// range's rows, and their numbers.
    pub(super) fn tiles(
        &self,
        device: &Device,
        range: &Range<usize>,
        mut each: impl FnMut(Range<usize>, &[f32]),
    ) {
        let mut tile = self.tile.lock().unwrap_or_else(PoisonError::into_inner);
        let mut before = 0;
        for matrix in self.matrices(range) {
            let at_once = (TILE / matrix.cols.max(1)).clamp(1, matrix.rows.max(1));
            let needed = at_once * matrix.cols;
            if tile.len() < needed {
                tile.resize(needed, 0.0);
            }
            for first in (0..matrix.rows).step_by(at_once) {
                let count = at_once.min(matrix.rows - first);
                let tile = &mut tile[..count * matrix.cols];
                // Each run of rows is decoded by one thread.
                let run = count.div_ceil(4 * device.threads().count());
                let runs: Vec<Mutex<&mut [f32]>> =
                    tile.chunks_mut(run * matrix.cols).map(Mutex::new).collect();
                device.threads().for_each(runs.len(), &|i| {
                    if let Ok(mut rows) = runs[i].lock() {
                        let rows = rows.chunks_exact_mut(matrix.cols).enumerate();
                        rows.for_each(|(r, out)| {
                            matrix.decode(&self.files, first + i * run + r, out);
                        });
                    }
                });
                drop(runs);
                each(before + first..before + first + count, tile);
            }
            before += matrix.rows;
        }
    }
}

impl Matrix {
    fn of(files: &ModelFiles, tensor: &Tensor, adjacent: Option<usize>) -> Result<Matrix, Error> {
        debug_assert!(tensor.kind != Kind::Norm);
        let &Tensor { rows, cols, .. } = tensor;
        let name = tensor.stored.clone();
        let info = files.info(&name);
        if info.is_none_or(|info| info.shape != [rows, cols]) {
            let got = info.map_or("none".into(), |info| format!("{:?}", info.shape));
            return Err(format_error(files, &name, format!("a matrix {:?}", [rows, cols]), got));
        }
        let matrix = Matrix { name, rows, cols, adjacent };
        // What can be decoded once can be decoded again.
        matrix.try_decode(files, 0, &mut vec![0.0; cols])?;
        Ok(matrix)
    }

    fn try_decode(&self, files: &ModelFiles, row: usize, out: &mut [f32]) -> Result<(), Error> {
        let row = self.adjacent.map_or(row, |head_dim| halves(row, head_dim));
        let error = |got: String| format_error(files, &self.name, "numbers".into(), got);
        let found = files.rows(&self.name, row..row + 1).map_err(|e| error(e.to_string()))?;
        let found = found.ok_or_else(|| error("none".into()))?;
        quant::dequantize(found.dtype, &found.bytes, out).map_err(|e| error(e.to_string()))
    }

    /// Row `row` as numbers. That it can be decoded was tried when it was opened; a file that has
    /// changed since gives numbers that are none, which a run notices.
    fn decode(&self, files: &ModelFiles, row: usize, out: &mut [f32]) {
        if self.try_decode(files, row, out).is_err() {
            out.fill(f32::NAN);
        }
    }
}
