//! # Room card: llmos-store
//!
//! **What it is.** Remembering: conversations as trees of messages, ratings, full-text search, export
//! and import, API keys; in SQLite inside the program, or in PostgreSQL by a URL.
//!
//! **May touch.** The data folder or the database that it is given, the system's clock and randomness.
//!
//! **Never.** Models, HTTP, the terminal, the environment, async, `unsafe`.
//!
//! **Invariants.**
//! - What a call has returned survives the end of the process and of the machine's power; what it has
//!   not is there whole or not at all.
//! - Whoever reads says whose: there is no way to conversations but through their owner.
//! - Both kinds of database give the same answers to the same calls.
//! - What was deleted cannot be read again; in SQLite its bytes are gone, from index and log too.
//! - A key is stored as its hash. No error holds what somebody wrote, a key or a password.
//! - A database of a later version is not touched.
//!
//! To begin, [`Store::open`]; then [`Store::chats`] for an owner's conversations and [`Store::keys`]
//! for keys. Calls block: async code keeps a store on a thread of its own.

#![forbid(unsafe_code)]

mod store;

mod chats;
mod conversation;
mod messages;
mod rating;

mod search;
mod words;

mod exchange;
mod row;

mod keys;
mod random;

mod database;
mod folder;
mod postgres;
mod schema;
mod sqlite;

mod error;

pub use chats::{Chats, Cursor, Page};
pub use conversation::{
    Attachment, Body, Conversation, Message, Origin, Rating, Role, Thumb, Tree,
};
pub use error::Error;
pub use exchange::{Form, Imported};
pub use keys::{Key, Keys, Known, Quota, Scope, Secret, Usage};
pub use messages::Parent;
pub use rating::Rated;
pub use search::Hit;
pub use store::{Clock, Options, Place, Purpose, Store};
