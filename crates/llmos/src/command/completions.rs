//! `llmos completions`: a script that lets a shell complete commands and flags.

use clap::CommandFactory;
use clap_complete::Shell;

use crate::Outcome;
use crate::terminal::Terminal;

/// Print a completion script for a shell
///
/// For bash: llmos completions bash > ~/.local/share/bash-completion/completions/llmos
#[derive(clap::Args, Debug)]
pub(crate) struct Arguments {
    /// The shell.
    shell: Shell,
}

pub(crate) fn run(arguments: Arguments, terminal: &Terminal) -> anyhow::Result<Outcome> {
    let mut script = Vec::new();
    let mut command = crate::arguments::Arguments::command();
    clap_complete::generate(arguments.shell, &mut command, "llmos", &mut script);
    terminal.bytes(&script)?;
    Ok(Outcome::Success)
}
