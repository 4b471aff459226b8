//! The rules of the house as tests: see CONTRIBUTING.md.
//!
//! Each test gathers every offence before it fails, as `path:line: what is wrong`.

mod dependencies;
mod house;
mod licence;
mod readme;
mod rooms;
mod source;
mod style;
mod threats;

/// Fails with the offences, if there are any.
#[track_caller]
fn none(offences: Vec<String>) {
    assert!(offences.is_empty(), "\n{}\n", offences.join("\n"));
}
