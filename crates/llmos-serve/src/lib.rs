//! # Room card: llmos-serve
//!
//! **What it is.** Speaking HTTP: OpenAI's API, what llmos measures, and conversations that are kept,
//! over models that many people ask at once.
//!
//! **May touch.** Sockets, async, the clock, threads of its own; models that its caller loads for it,
//! and a store that its caller opens.
//!
//! **Never.** Files, the environment, the terminal, kernels, training, `unsafe`; a request to anywhere.
//!
//! **Invariants.**
//! - A greedy answer does not depend on who else asks.
//! - What a client sends is a stranger's data: what is wrong with it is said in OpenAI's shape, never a
//!   panic, never memory or time without bound.
//! - A client that has gone costs no further step.
//! - Nothing that one key's owner wrote is found in the cache or the store by another's.
//! - What is acknowledged as stored is durable, and an answer that began is stored whoever goes.
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
mod keyring;
mod keys;
mod quota;

mod archive;
mod deletions;
mod flights;

mod api;
mod body;
mod fields;
mod page;
mod query;
mod refusal;

mod models;
mod parameters;
mod scheduler;

mod outside;
mod watch;

mod error;

pub use api::{ResponseMemory, ResponseStore};
pub use archive::Archive;
pub use certificate::Certificate;
pub use error::Error;
pub use keys::{Key, Keys, Quota, Scope};
pub use models::{About, Load, Loaded, LoadedAdapter, Models, Offer};
pub use outside::{Keeper, Progress, Report, Reporter, Runs, Trouble, TroubleKind, Watch};
pub use server::{Clock, Server, ServerOptions, Stopper};
