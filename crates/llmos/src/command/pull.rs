//! `llmos pull`: a model from the hub into the registry.

use std::ops::ControlFlow;
use std::path::PathBuf;
use std::time::SystemTime;

use crate::Outcome;
use crate::download;
use crate::hub::{self, Hub, Listed};
use crate::registry::{Manifest, Registry, Stored};
use crate::terminal::{Terminal, size};

/// Download a model into the local registry
///
/// An interrupted pull goes on where it stopped when it is run again. Without FILE, a GGUF with 4
/// bits a parameter is taken if there is one, else the folder of safetensors. Its card, README.md, comes
/// with it.
#[derive(clap::Args, Debug)]
pub(crate) struct Arguments {
    /// hf:OWNER/REPO, hf:OWNER/REPO:FILE, or hf:OWNER/REPO:Q8_0 for a kind of file.
    #[arg(value_name = "hf:OWNER/REPO[:FILE]")]
    address: String,
    /// Print what was pulled as JSON.
    #[arg(long)]
    json: bool,
}

/// A model's card in a repository and in the registry.
pub(crate) const CARD: &str = "README.md";

/// A card that is longer is left where it is.
const LONGEST_CARD: u64 = 1 << 20;

/// Hears of a file how many bytes are here, and how many there are; says whether to go on.
pub(crate) type Watch<'a> = &'a mut dyn FnMut(&str, u64, Option<u64>) -> ControlFlow<()>;

pub(crate) fn run(arguments: Arguments, terminal: &Terminal) -> anyhow::Result<Outcome> {
    let registry = Registry::open()?;
    let hub = Hub::from_environment(download::agent()?);
    let mut watch = |_: &str, _, _| ControlFlow::Continue(());
    let (manifest, path) = bring(&arguments.address, &hub, &registry, &mut watch, terminal)?;
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

/// Brings a model into the registry: what it is there, and the path that opens it.
///
/// # Errors
/// The address is none, the hub has no such model or cannot be reached, there is no room, or `watch`
/// ended it.
pub(crate) fn bring(
    address: &str,
    hub: &Hub,
    registry: &Registry,
    watch: Watch<'_>,
    terminal: &Terminal,
) -> anyhow::Result<(Manifest, PathBuf)> {
    let source = address;
    let address = hub::address(address)?;
    let _lock = registry.lock(false)?;
    let (commit, files) = hub.list(&address)?;
    let choice = hub::choose(&files, address.file.as_deref())?;
    let revision = commit.as_deref().unwrap_or(&address.revision);
    let is_card = |listed: &&Listed| {
        listed.path == CARD && listed.bytes.is_some_and(|bytes| bytes <= LONGEST_CARD)
    };
    let card = files.iter().find(is_card);
    let all = choice.files.iter().map(|&i| files[i].bytes);
    let total: Option<u64> = all.chain(card.map(|card| card.bytes)).sum();
    let shown = total.map(|bytes| format!(" ({})", size(bytes))).unwrap_or_default();
    let what = choice.entry.as_deref().unwrap_or("the safetensors folder");
    terminal.say(format_args!("pulling {what} of {}{shown}", address.repository));
    let (mut stored, mut before): (Vec<Stored>, u64) = (Vec::new(), 0);
    let mut fetch = |listed: &Listed, before: u64| -> anyhow::Result<Stored> {
        let url = hub.url(&address, revision, &listed.path);
        let expected = hub.expect(&url, listed)?;
        let mut watch = |bytes: u64| watch(&listed.path, before + bytes, total);
        let (sha256, bytes) =
            download::fetch(registry, hub, &url, &expected, &mut watch, terminal, &listed.path)?;
        Ok(Stored { path: listed.path.clone(), sha256, bytes })
    };
    for listed in choice.files.iter().map(|&i| &files[i]) {
        let one = fetch(listed, before)?;
        before += one.bytes;
        stored.push(one);
    }
    if let Some(card) = card {
        match fetch(card, before) {
            Ok(card) => stored.push(card),
            // The model is what was asked for.
            Err(error) => terminal.detail(format_args!("its card is left out: {error:#}")),
        }
    }
    let name = match &choice.name {
        Some(name) => format!("{}:{name}", address.repository),
        None => address.repository.clone(),
    };
    let pulled = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let manifest = Manifest {
        name,
        source: source.to_string(),
        revision: commit,
        pulled: pulled.map_or(0, |since| since.as_secs()),
        entry: choice.entry,
        files: stored,
    };
    let path = registry.add(&manifest)?;
    Ok((manifest, path))
}
