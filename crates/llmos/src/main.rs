//! # Room card: llmos
//!
//! **What it is.** The binary: commands, flags, settings, the terminal, progress, downloads.
//!
//! **May touch.** Arguments, the environment, standard streams, exit codes, the registry's folder,
//! the network for `pull`, and for the servers that `top`, `bench serve` and `serve --otlp` are told
//! of.
//!
//! **Never.** Algorithms: what a model is, how numbers are multiplied and text becomes tokens are
//! other crates' business.
//!
//! **Invariants.**
//! - stdout carries data, stderr talk.
//! - Exit codes: 0 success, 1 a negative result, 2 an error, 130 interrupted.
//! - An error ends with a `hint:`.
//! - Files appear whole or not at all, Ctrl-C included.

mod adapters;
mod arguments;
mod command;
mod download;
mod failure;
mod generation;
mod hub;
mod interrupt;
mod load;
mod local_time;
mod model_name;
mod next_words;
mod places;
mod processors;
mod recipe;
mod registry;
mod resume;
mod sampling;
mod settings;
mod step_line;
mod store;
mod terminal;
mod trainer;
mod training_text;
mod vocabulary;

use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches};

use arguments::Arguments;
use failure::OutputClosed;
use terminal::Terminal;

/// What a command that did not fail found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It did what was asked.
    Success,
    /// It did, and the answer is no.
    Negative,
    /// Somebody asked it to stop, and it did in good order.
    Interrupted,
}

fn main() -> ExitCode {
    let mut terminal = Terminal::new(false, false);
    match run(&mut terminal) {
        Ok(Outcome::Success) => ExitCode::SUCCESS,
        Ok(Outcome::Negative) => ExitCode::from(1),
        Ok(Outcome::Interrupted) => ExitCode::from(interrupt::INTERRUPTED),
        Err(error) if error.is::<OutputClosed>() => ExitCode::SUCCESS,
        Err(error) => {
            terminal.error(&failure::message_of(&error), &failure::hint_of(&error));
            ExitCode::from(2)
        }
    }
}

fn run(terminal: &mut Terminal) -> anyhow::Result<Outcome> {
    interrupt::install()?;
    let command = settings::apply(Arguments::command())?;
    let matches = command.clone().get_matches();
    let arguments = match Arguments::from_arg_matches(&matches) {
        Ok(arguments) => arguments,
        Err(error) => error.exit(),
    };
    *terminal = Terminal::new(arguments.talk.quiet, arguments.talk.verbose);
    for line in settings::resolved(&command, &matches) {
        terminal.detail(line);
    }
    command::run(arguments.command, terminal)
}
