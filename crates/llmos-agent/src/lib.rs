//! # Room card: llmos-agent
//!
//! **What it is.** Acting: tools that a model may call, how a call is written and read, and the loop
//! in which a model answers a conversation, calls and answers again.
//!
//! **May touch.** What its caller hands in: an engine, a tokenizer, a template, messages, the time as
//! a number.
//!
//! **Never.** Weights, HTTP serving, the terminal, `unsafe`; a clock of its own.
//!
//! **Invariants.**
//! - What a model wrote is a stranger's data: a bad call is a text that says so, never a panic.
//! - Nothing that a person or a tool wrote becomes a control token.
//! - A greedy answer does not depend on how many are written at once.
//! - Text outside of calls is drawn as if there were no grammar.
//! - The same time gives the same text, in training data and in a chat.
//!
//! To answer one conversation, make an [`Assistant`] and call [`Assistant::answer`]; to answer many at
//! once, drive one [`Turn`] for each.

#![forbid(unsafe_code)]

mod assistant;
mod turn;

mod call;
mod guard;
pub mod messages;
mod reader;

pub mod calculator;
pub mod clock;
mod error;
pub mod tool;

pub use assistant::{Assistant, Thread, token_variables};
pub use call::{Call, CallFormat, THOUGHT};
pub use error::Error;
pub use guard::Guard;
pub use reader::{Piece, Reader};
pub use tool::{Called, Tool};
pub use turn::{Answer, Ending, Event, Turn, TurnOptions};
