//! `llmos pull`: a model from the hub into the registry.

use std::time::SystemTime;

use crate::Outcome;
use crate::download;
use crate::hub::{self, Address, Hub};
use crate::registry::{Manifest, Registry, Stored};
use crate::terminal::{Terminal, size};

/// Download a model into the local registry
///
/// An interrupted pull goes on where it stopped when it is run again. Without FILE, a GGUF with 4
/// bits a parameter is taken if there is one, else the folder of safetensors.
#[derive(clap::Args, Debug)]
pub(crate) struct Arguments {
    /// hf:OWNER/REPO, hf:OWNER/REPO:FILE, or hf:OWNER/REPO:Q8_0 for a kind of file.
    #[arg(value_name = "hf:OWNER/REPO[:FILE]")]
    address: String,
    /// Print what was pulled as JSON.
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(arguments: Arguments, terminal: &Terminal) -> anyhow::Result<Outcome> {
    let address: Address = arguments.address.parse()?;
    let registry = Registry::open()?;
    let _lock = registry.lock(false)?;
    let hub = Hub::from_environment(download::agent()?);
    let (commit, files) = hub.list(&address)?;
    let choice = hub::choose(&files, address.file.as_deref())?;
    let revision = commit.as_deref().unwrap_or(&address.revision);
    let total: Option<u64> = choice.files.iter().map(|&i| files[i].bytes).sum();
    let total = total.map(|bytes| format!(" ({})", size(bytes))).unwrap_or_default();
    let what = choice.entry.as_deref().unwrap_or("the safetensors folder");
    terminal.say(format_args!("pulling {what} of {}{total}", address.repository));
    let mut stored = Vec::new();
    for listed in choice.files.iter().map(|&i| &files[i]) {
        let url = hub.url(&address, revision, &listed.path);
        let expected = hub.expect(&url, listed)?;
        let token = hub.token.as_deref();
        let (sha256, bytes) =
            download::fetch(&registry, &hub.agent, &url, token, &expected, terminal, &listed.path)?;
        stored.push(Stored { path: listed.path.clone(), sha256, bytes });
    }
    let name = match &choice.name {
        Some(name) => format!("{}:{name}", address.repository),
        None => address.repository.clone(),
    };
    let pulled = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let manifest = Manifest {
        name,
        source: arguments.address,
        revision: commit,
        pulled: pulled.map_or(0, |since| since.as_secs()),
        entry: choice.entry,
        files: stored,
    };
    let path = registry.add(&manifest)?;
    if arguments.json {
        terminal.json(&manifest)?;
    } else {
        terminal.say(format_args!("{} is {}", manifest.name, path.display()));
        terminal.say(format_args!(
            "try: llmos run {} -p \"Once upon a time\"",
            crate::registry::short_name(&manifest.name)
        ));
    }
    Ok(Outcome::Success)
}
