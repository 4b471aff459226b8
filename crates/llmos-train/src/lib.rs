//! # Room card: llmos-train
//!
//! **What it is.** Changing weights: from raw text to batches of token ids, forward and backward
//! through the decoder, optimizers and schedules, checkpoints, and the planner that says beforehand
//! what a run will take.
//!
//! **May touch.** Data sets, checkpoints and metrics files, in the folders that it is given.
//!
//! **Never.** HTTP, tools (but the calculator and the clock, which say what made-up rows tell of
//! them), the terminal, the environment, `unsafe`.
//!
//! **Invariants.** Same seed, instruction set and recipe: the same weights to the bit, whatever the
//! number of threads and however often the run was interrupted. Every file appears whole or not at
//! all. Logits in training equal logits in serving.

#![deny(unsafe_code)]

pub mod adapter;
pub mod conversations;
pub mod data;
mod disk;
mod error;
pub mod journal;
pub mod model;
pub mod optimizer;
pub mod picture;
pub mod plan;
pub mod preference;
pub mod recipe;
mod rehearsal;
pub mod run;
pub mod synthetic;

pub use error::Error;
pub use rehearsal::{Rehearsal, Rehearsed};
