//! # Room card: llmos-serve
//!
//! **What it is.** Speaking HTTP: OpenAI's API, and what llmos measures, over models that many people
//! ask at once.
//!
//! **May touch.** Sockets, async, the clock, threads of its own; models that its caller loads for it.
//!
//! **Never.** Files, the environment, the terminal, kernels, training, `unsafe`; a request to anywhere.
//!
//! **Invariants.**
//! - A greedy answer does not depend on who else asks.
//! - What a client sends is a stranger's data: what is wrong with it is said in OpenAI's shape, never a
//!   panic, never memory or time without bound.
//! - A client that has gone costs no further step.
//! - Nothing that one key's owner wrote is found in the cache by another's.
//! - Without a key nobody but this machine is served, and no page but its own.
//! - Text that was written or read is in no log.
//!
//! To serve, [`Models::offer`] what can be had, [`Server::bind`], and [`Server::run`] until a
//! [`Stopper`] stops it.

#![forbid(unsafe_code)]

mod server;

mod certificate;
mod connection;
mod gate;
mod keys;

mod api;
mod body;
mod fields;
mod refusal;

mod models;
mod scheduler;

mod error;

pub use certificate::Certificate;
pub use error::Error;
pub use keys::{Key, Keys, Scope};
pub use models::{Load, Loaded, Models, Offer};
pub use server::{Clock, Server, ServerOptions, Stopper};
