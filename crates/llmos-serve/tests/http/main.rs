//! The server as clients meet it: over a socket, byte by byte.
#![allow(clippy::unwrap_used, reason = "a test's own files must be there")]

mod answers;
mod bad_input;
mod bombs;
mod client;
mod completions;
mod doors;
mod ending;
mod house;
mod load;
mod reach;
mod routes;
mod secrets;
mod slow;
mod tls;
mod tools;
