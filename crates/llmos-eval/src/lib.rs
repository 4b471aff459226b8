//! # Room card: llmos-eval
//!
//! **What it is.** Measuring: bits per byte and per character of texts, what characters alone would
//! predict, graded answers, error bars, and the report card that puts them side by side.
//!
//! **May touch.** Models, texts, rows and answers that the caller hands in; seeded randomness.
//!
//! **Never.** Weight updates, files, the terminal, clocks, the network, `unsafe`.
//!
//! **Invariants.**
//! - What was not measured is left out: no cell of a card is made up.
//! - A mark depends on the row and the answer alone, and is that of the reference in
//!   `testdata/assistant/validate.py`.
//! - Same answers and seed: the same card to the byte.
#![forbid(unsafe_code)]

pub mod bits;
pub mod ngram;

pub mod conversation;
pub mod grade;

pub mod interval;

pub mod card;
pub mod report;

mod error;

pub use error::Error;
