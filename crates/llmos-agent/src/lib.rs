//! # Room card: llmos-agent
//!
//! **What it is.** Acting: tools that a model may call, and what they answer.
//!
//! **May touch.** What its caller hands in: texts, and the time as a number.
//!
//! **Never.** Weights, HTTP serving, the terminal, `unsafe`; a clock of its own.
//!
//! **Invariants.**
//! - What a model wrote is a stranger's data: a bad call is a text that says so, never a panic.
//! - The same time gives the same text, in training data and in a chat.

#![forbid(unsafe_code)]

pub mod calculator;
pub mod clock;
