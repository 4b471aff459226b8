//! The server as clients meet it: over a socket, byte by byte.
#![allow(clippy::unwrap_used, reason = "a test's own files must be there")]

mod answers;
mod bad_input;
mod client;
mod completions;
mod doors;
mod house;
mod kept;
mod keyed;
mod load;
mod page;
mod stored_answers;
mod tools;
