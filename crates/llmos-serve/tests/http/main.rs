//! The server as clients meet it: over a socket, byte by byte.
#![allow(clippy::unwrap_used, reason = "a test's own files must be there")]

mod answers;
mod anthropic;
mod background;
mod bad_input;
mod bombs;
mod client;
mod completions;
mod doors;
mod embeddings;
mod ending;
mod forgotten;
mod house;
mod kept;
mod keyed;
mod lens;
mod load;
mod locked;
mod managed;
mod models;
mod ollama;
mod openapi;
mod page;
mod reach;
mod responses;
mod routes;
mod runs;
mod secrets;
mod several;
mod slow;
mod stored_answers;
mod tls;
mod tools;
mod watching;
