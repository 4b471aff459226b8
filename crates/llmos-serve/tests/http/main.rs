//! The server as clients meet it: over a socket, byte by byte.
#![allow(clippy::unwrap_used, reason = "a test's own files must be there")]

mod answers;
mod anthropic;
mod bad_input;
mod client;
mod completions;
mod doors;
mod embeddings;
mod house;
mod kept;
mod keyed;
mod lens;
mod load;
mod models;
mod ollama;
mod openapi;
mod page;
mod responses;
mod runs;
mod stored_answers;
mod tools;
mod watching;
