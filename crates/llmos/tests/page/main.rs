//! The web page as people use it: a real Chromium, driven over its DevTools protocol, on the binary's own
//! server with the bundled model.
//!
//! Without `chromium` in PATH these tests are skipped, which is a failure under LLMOS_REQUIRE_ORACLES=1.
//! LLMOS_PICTURES=1 writes what the pages look like to `docs/pictures`.
#![allow(clippy::unwrap_used, reason = "a test's own files and processes must be there")]
#![allow(clippy::print_stdout, reason = "what is skipped and what was measured is said")]

mod access;
mod browser;
mod chat;
mod dreams;
mod exchange;
mod house;
mod hub;
mod inside;
mod keyboard;
mod models;
mod next;
mod pipe;
mod runs;
mod shell;
mod words;
