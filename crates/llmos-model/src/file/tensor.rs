//! Where a tensor lies in its files, and the tensor itself.

use std::borrow::Cow;
use std::ops::Range;

use llmos_tensor::DType;

/// A tensor in one file, as the file's header has it.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Its name, as the file spells it.
    pub name: String,
    /// Format of its values.
    pub dtype: DType,
    /// Dimensions, outermost first.
    pub shape: Vec<usize>,
    /// Bytes in the file; inside it, and apart from all others.
    pub range: Range<usize>,
}

/// A tensor of an opened model: everything but its data.
#[derive(Clone, Debug, PartialEq)]
pub struct TensorInfo {
    /// The name as GGUF spells it, whatever the file's format: `blk.0.attn_q.weight`.
    pub name: String,
    /// Format of the values that [`crate::ModelFiles::tensor`] gives.
    pub dtype: DType,
    /// Dimensions, outermost first: `(out, in)`, `(expert, out, in)`, `(channel)`.
    pub shape: Vec<usize>,
    /// Where the data lies; the tensor is these pieces one after another.
    pub(crate) pieces: Vec<Piece>,
    /// What is done to the stored values.
    pub(crate) change: Change,
}

/// A run of bytes in one of the model's files.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Piece {
    /// Index of the file.
    pub(crate) file: usize,
    /// Bytes within the file, checked against its length.
    pub(crate) range: Range<usize>,
}

/// What is done to stored values so that they mean the same as in GGUF.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Change {
    /// Nothing: the bytes are given as they are.
    None,
    /// Gemma stores a norm's distance from one; stored as this format, given as f32.
    AddOne(DType),
}

impl TensorInfo {
    /// A tensor as file number `file` has it.
    pub(crate) fn as_it_is(file: usize, entry: Entry) -> TensorInfo {
        TensorInfo {
            name: entry.name,
            dtype: entry.dtype,
            shape: entry.shape,
            pieces: vec![Piece { file, range: entry.range }],
            change: Change::None,
        }
    }

    /// Number of values.
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// True without values; no reader lets such a tensor through.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes of the data in [`TensorInfo::dtype`].
    pub fn bytes(&self) -> usize {
        self.len() / self.dtype.block_len() * self.dtype.block_bytes()
    }

    /// The file (an index into [`crate::ModelFiles::paths`]) and the offset in it of the first byte.
    pub fn location(&self) -> Option<(usize, usize)> {
        self.pieces.first().map(|piece| (piece.file, piece.range.start))
    }
}

/// A tensor: mapped where the file holds it in one run, owned where it had to be put together.
#[derive(Clone, Debug)]
pub struct Tensor<'a> {
    /// Format of the values.
    pub dtype: DType,
    /// Dimensions, outermost first.
    pub shape: Vec<usize>,
    /// The data, row-major, little endian; not necessarily aligned.
    pub bytes: Cow<'a, [u8]>,
}

impl Tensor<'_> {
    /// The values as f32, (len).
    pub fn to_f32(&self) -> Result<Vec<f32>, crate::Error> {
        let mut values = vec![0.0; self.shape.iter().product()];
        llmos_tensor::quant::dequantize(self.dtype, &self.bytes, &mut values)?;
        Ok(values)
    }
}

/// Values of a shape, if their number and bytes can be represented and rows divide into blocks.
///
/// Gives the bytes that the shape takes in `dtype`.
pub(crate) fn shape_bytes(dtype: DType, shape: &[usize]) -> Option<usize> {
    let (&cols, rest) = shape.split_last()?;
    let row = dtype.row_bytes(cols)?;
    // The number of values must fit as well: four bytes each when decoded.
    shape.iter().try_fold(4usize, |size, &n| size.checked_mul(n))?;
    let bytes = rest.iter().try_fold(row, |size, &n| size.checked_mul(n))?;
    (bytes > 0).then_some(bytes)
}
