//! `llmos models`: what is in the registry.

use serde::Serialize;

use crate::Outcome;
use crate::registry::Registry;
use crate::terminal::{Style, Terminal, size};

/// List the models of the local registry
#[derive(clap::Args, Debug)]
pub(crate) struct Arguments {
    /// Print the list as JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Row {
    name: String,
    bytes: u64,
    files: usize,
    pulled: u64,
    path: String,
}

pub(crate) fn run(arguments: Arguments, terminal: &Terminal) -> anyhow::Result<Outcome> {
    let registry = Registry::open()?;
    let (models, broken) = registry.models()?;
    for path in broken {
        terminal.warn(format_args!("{} is not a manifest; pull its model again", path.display()));
    }
    let rows: Vec<Row> = models
        .iter()
        .map(|model| Row {
            name: model.name.clone(),
            bytes: model.files.iter().map(|file| file.bytes).sum(),
            files: model.files.len(),
            pulled: model.pulled,
            path: registry.path_of(model).display().to_string(),
        })
        .collect();
    if arguments.json {
        terminal.json(&rows)?;
        return Ok(Outcome::Success);
    }
    if rows.is_empty() {
        terminal.say(format_args!(
            "no models in {}; `llmos pull hf:OWNER/REPO` brings one",
            registry.folder().display()
        ));
    }
    let width = rows.iter().map(|row| row.name.len()).max().unwrap_or(0);
    for row in &rows {
        let name = terminal.style(Style::Bold, format_args!("{:width$}", row.name));
        terminal.print(format!("{name}  {:>9}  {}\n", size(row.bytes), row.path))?;
    }
    Ok(Outcome::Success)
}
