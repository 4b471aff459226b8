//! The one error type of this crate.

use crate::DType;

/// What can be wrong with numbers that came from outside.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A buffer is not as long as its shape and type say.
    #[error("{operation}: {dtype} data of {got} bytes, expected {expected}")]
    Length {
        /// What was being done.
        operation: &'static str,
        /// The format of the data.
        dtype: DType,
        /// Bytes that the shape asks for.
        expected: usize,
        /// Bytes that were given.
        got: usize,
    },
    /// A row does not divide into blocks of its format.
    #[error("{operation}: a row of {cols} values does not divide into {dtype} blocks of {block}")]
    Row {
        /// What was being done.
        operation: &'static str,
        /// The format of the data.
        dtype: DType,
        /// Values in a row.
        cols: usize,
        /// Values in a block.
        block: usize,
    },
    /// A shape whose size cannot be represented.
    #[error("{operation}: a matrix of {rows} x {cols} is too large")]
    Overflow {
        /// What was being done.
        operation: &'static str,
        /// Rows.
        rows: usize,
        /// Columns.
        cols: usize,
    },
    /// A format that can be read but is not written.
    #[error(
        "{dtype} is read but not written; choose f32, f16, bf16, q8_0, q4_0, q4_k, q5_k or q6_k"
    )]
    NotWritten {
        /// The format asked for.
        dtype: DType,
    },
    /// An instruction set that this CPU does not have.
    #[error("this CPU has no {name}; it has {available}")]
    NoIsa {
        /// The instruction set asked for.
        name: String,
        /// Those that exist here.
        available: String,
    },
}
