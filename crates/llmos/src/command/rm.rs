//! `llmos rm`: models out of the registry.

use crate::Outcome;
use crate::failure::failure;
use crate::registry::Registry;
use crate::terminal::{Terminal, size};

/// Remove models from the local registry
#[derive(clap::Args, Debug)]
pub(crate) struct Arguments {
    /// Names, as `llmos models` lists them.
    #[arg(value_name = "NAME", required = true)]
    names: Vec<String>,
}

pub(crate) fn run(arguments: Arguments, terminal: &Terminal) -> anyhow::Result<Outcome> {
    let registry = Registry::open()?;
    let _lock = registry.lock(true)?;
    for name in &arguments.names {
        let found = registry.find(name)?;
        let model = match found.as_slice() {
            [model] => model,
            [] => return Err(crate::model_name::unknown(name, &registry)),
            several => {
                let names: Vec<&str> = several.iter().map(|model| model.name.as_str()).collect();
                return Err(failure(
                    format!("{name} can be {} models", several.len()),
                    format!("give one of {}", names.join(", ")),
                ));
            }
        };
        let freed = registry.remove(model)?;
        terminal.say(format_args!("removed {}, {} freed", model.name, size(freed)));
    }
    Ok(Outcome::Success)
}
