//! Texts become tokens, and tokens become batches.
//!
//! [`prepare`] reads raw files and writes a folder: shards of token ids, lists of the documents in
//! them, the tokenizer, and a manifest that says where each token comes from. [`Dataset`] opens
//! such a folder; [`Batches`] draws from it by seed and step alone, so that a run that goes on
//! needs to know nothing else.

mod files;
mod licence;
mod source;

mod read;

mod language;
mod normalize;
mod quality;
mod words;

mod duplicates;
mod evaluation;
mod examine;
mod removal;

mod held_out;
mod place;
mod records;
mod stream;
mod write;

mod feed;
mod parallel;
mod preparation;
mod prepare;
mod work;

mod manifest;

mod batches;
mod dataset;
mod packing;
pub(crate) mod shuffle;

#[cfg(test)]
pub(crate) mod scratch;

pub use batches::{Batch, BatchOptions, Batches, Order};
pub use dataset::{Dataset, Origin, Split};
pub use duplicates::{N_BAND, N_HASH, N_ROW, SHINGLE};
pub use evaluation::RUN as CONTAMINATION_RUN;
pub use files::plain_texts;
pub use held_out::HeldOut;
pub use language::Language;
pub use manifest::{FileEntry, MANIFEST, Manifest, Part, Shard, SourceEntry, Span, TokenizerEntry};
pub use normalize::normalize;
pub use place::Place;
pub use preparation::Preparation;
pub use prepare::{
    Prepared, Progress, READING_THREAD, TokenizerFiles, n_byte, prepare, read_texts,
};
pub use quality::Quality;
pub(crate) use read::{Compression, hex};
pub use records::{HEADER_LENGTH, Header, Kind};
pub use removal::{Example, Reason, Removed};
pub use source::{Source, read_mix};
