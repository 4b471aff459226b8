//! `llmos serve`: models answer over HTTP.

mod about;
mod digest;
mod doors;
mod keeper;
mod log;
mod otlp;
mod runs;
mod tls;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use llmos_model::decoder::CacheLayout;
use llmos_model::{EngineOptions, ModelFiles};
use llmos_serve::{Archive, Loaded, LoadedAdapter, Models, Offer, Server, ServerOptions};
use llmos_tensor::{CacheShape, Device};

use crate::adapters::{self, Named};
use crate::failure::{failure, hint_of, message_of};
use crate::load::{self, Cache, Compute, parse_size};
use crate::registry::{Manifest, Registry};
use crate::store::{self, StorePlace};
use crate::terminal::{Terminal, number_of, size};
use crate::{Outcome, interrupt, local_time, model_name, processors, vocabulary};

/// Serve the page, and the APIs of OpenAI, Anthropic and Ollama.
///
/// Without MODEL all that are here are served: the bundled ones and the registry's. The first is the
/// one of who names none. The first line says the address. Only this machine is served, and no web
/// page but the server's own, until there are keys (`llmos keys add`): then everyone is asked for
/// one. Conversations and keys are kept in --data. Ctrl-C ends it once what is under way is answered;
/// twice, at once.
#[derive(clap::Args, Debug)]
pub(crate) struct Arguments {
    /// Models: paths or names. They are loaded at once; the others when they are first asked for.
    #[arg(value_name = "MODEL")]
    models: Vec<String>,
    /// The address to listen on.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1", value_parser = parse_host)]
    host: IpAddr,
    /// The port; 0 is any that is free.
    #[arg(long, value_name = "PORT", default_value_t = 8080)]
    port: u16,
    /// Answers that a model writes at once.
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = at_least_one)]
    slots: usize,
    /// Requests that may wait beside those that are answered.
    #[arg(long, value_name = "N", default_value_t = 64)]
    queue: usize,
    /// Most memory for models and their contexts, such as 6G; four fifths of what is free where it is
    /// left out.
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    memory: Option<usize>,
    /// Seconds that an answer may take.
    #[arg(long, value_name = "SECONDS", default_value_t = 600)]
    time_limit: u64,
    /// Seconds for what is under way when the server ends.
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
    grace: u64,
    /// A name that the server answers to, beside localhost and addresses. May be given several times.
    #[arg(long, value_name = "NAME", value_parser = doors::parse_name)]
    allow_host: Vec<String>,
    /// A web page of others that may ask, such as `https://chat.example`. May be given several times.
    #[arg(long, value_name = "ORIGIN", value_parser = doors::parse_origin)]
    allow_origin: Vec<String>,
    /// Keep nothing: no conversations, and no keys.
    #[arg(long, conflicts_with_all = ["data", "database"])]
    no_store: bool,
    #[command(flatten)]
    place: StorePlace,
    /// An adapter beside a model, which clients ask for as MODEL:NAME; the first model's where it says
    /// none. May be given several times.
    #[arg(long = "adapter", value_name = "[MODEL:]NAME=FOLDER", value_parser = adapters::parse)]
    adapters: Vec<Named>,
    /// Seconds after which a model that nobody uses is let go of; it stays until its memory is needed
    /// where this is left out.
    #[arg(long, value_name = "SECONDS")]
    keep_alive: Option<u64>,
    /// The folder whose training runs admins may look at: those right below it.
    #[arg(long, value_name = "DIR", default_value = ".")]
    runs: PathBuf,
    /// What is noted on standard error, a line a request: text or json, and a level where -q and -v do
    /// not say it: json,debug. No text of a conversation is in it.
    #[arg(long, value_name = "FORM[,LEVEL]", default_value = "text")]
    log: log::Log,
    /// Where a span of each request is sent, a collector of OpenTelemetry's, such as
    /// http://127.0.0.1:4318. No text of a conversation is in it.
    #[arg(long, value_name = "URL", value_parser = otlp::parse_url)]
    otlp: Option<String>,
    #[command(flatten)]
    tls: tls::Tls,
    #[command(flatten)]
    cache: Cache,
    #[command(flatten)]
    compute: Compute,
}

fn parse_host(text: &str) -> Result<IpAddr, String> {
    if text.eq_ignore_ascii_case("localhost") {
        return Ok(Ipv4Addr::LOCALHOST.into());
    }
    text.parse().map_err(|_| "an address is 127.0.0.1 or ::1".to_string())
}

fn at_least_one(text: &str) -> Result<usize, String> {
    text.parse().ok().filter(|&n| n > 0).ok_or_else(|| "at least 1".to_string())
}

pub(crate) fn run(arguments: Arguments, terminal: &Terminal) -> anyhow::Result<Outcome> {
    arguments.log.begin(terminal.is_quiet(), terminal.is_verbose());
    let archive = archive(&arguments)?;
    let Prepared { server, ids, memory, exporter, scheme } = prepare(arguments, archive, terminal)?;
    let stopper = server.stopper();
    interrupt::does(move || stopper.stop());
    let address = server.address();
    terminal.print(format!("{scheme}://{address}\n"))?;
    terminal.say(format_args!(
        "serving {} ({}) to {}: the page, /v1/chat/completions, /v1/models; /docs lists the rest",
        number_of(ids.len(), "model"),
        ids.join(", "),
        match (server.is_open(), address.ip().is_loopback()) {
            (true, _) => "this machine",
            (false, true) => "who has a key and is on this machine",
            (false, false) => "who has a key",
        },
    ));
    if let Some(memory) = memory {
        terminal.detail(format_args!("models and contexts take at most {}", size(memory)));
    }
    server.run().map_err(explained)?;
    if let Some(exporter) = exporter {
        exporter.finish();
    }
    Ok(Outcome::Success)
}

/// The arguments of a server that nobody typed.
#[derive(clap::Parser)]
struct Beside {
    #[command(flatten)]
    arguments: Arguments,
}

/// A server beside a chat, for this machine alone, until the program ends: its page shows the same
/// models. What is said there is kept unless another server has the store.
pub(super) fn beside(terminal: &Terminal) -> anyhow::Result<SocketAddr> {
    let Beside { arguments } = clap::Parser::parse_from(["llmos", "--port", "0"]);
    let archive = archive(&arguments).ok().flatten();
    let Prepared { server, .. } = prepare(arguments, archive, terminal)?;
    let address = server.address();
    std::thread::Builder::new().name("serve".into()).spawn(move || server.run())?;
    Ok(address)
}

fn archive(arguments: &Arguments) -> anyhow::Result<Option<Archive>> {
    match arguments.no_store {
        true => Ok(None),
        false => Archive::open(&arguments.place.place()?).map(Some).map_err(explained),
    }
}

/// A server that listens.
struct Prepared {
    server: Server,
    ids: Vec<String>,
    memory: Option<u64>,
    exporter: Option<otlp::Exporter>,
    scheme: &'static str,
}

fn prepare(
    arguments: Arguments,
    archive: Option<Archive>,
    terminal: &Terminal,
) -> anyhow::Result<Prepared> {
    // A probability that is asked for is that of `llmos score`.
    let device = arguments.compute.exact_by_default().device(terminal)?;
    let free = processors::memory().map(|memory| memory.available / 5 * 4);
    let memory = arguments.memory.map(|bytes| bytes as u64).or(free);
    let found = match arguments.models.is_empty() {
        true => all(terminal)?,
        false => named(&arguments.models, terminal)?,
    };
    let models = Models::new(memory);
    let ids: Vec<String> = found.iter().map(|found| found.id.clone()).collect();
    adapters::check(&arguments.adapters)?;
    if let Some(lost) = arguments
        .adapters
        .iter()
        .find_map(|named| named.model.as_ref().filter(|model| !ids.contains(model)))
    {
        return Err(failure(
            format!("--adapter: there is no model {lost}"),
            format!("the models are {}", ids.join(", ")),
        ));
    }
    let house = Arc::new(House {
        memory,
        adapters: arguments.adapters,
        first: ids.first().cloned(),
        cache: arguments.cache,
        slots: arguments.slots,
        threads: NonZero::new(processors::physical_cores()).unwrap_or(NonZero::<usize>::MIN),
        device,
        digests: digest::Digests::start(),
        known: Mutex::default(),
    });
    for found in found {
        models.offer(house.offer(found)?);
    }
    let exporter = arguments.otlp.map(otlp::Exporter::start).transpose()?;
    let address = SocketAddr::new(arguments.host, arguments.port);
    let scheme = arguments.tls.scheme();
    let server = Server::bind(
        ServerOptions {
            address,
            archive,
            hosts: arguments.allow_host,
            origins: arguments.allow_origin,
            certificate: arguments.tls.read()?,
            slots: arguments.slots,
            queue: arguments.queue,
            request_time: Duration::from_secs(arguments.time_limit),
            grace: Duration::from_secs(arguments.grace),
            clock: Some(Arc::new(local_time::seconds)),
            preload: if arguments.models.is_empty() { Vec::new() } else { ids.clone() },
            keep_alive: arguments.keep_alive.map(Duration::from_secs),
            keeper: Some(house),
            runs: Some(Arc::new(runs::Folder::new(arguments.runs))),
            report: exporter.as_ref().map(otlp::Exporter::reporter),
            process_bytes: Some(processors::resident_memory),
            ..ServerOptions::default()
        },
        models,
    )
    .map_err(explained)?;
    Ok(Prepared { server, ids, memory, exporter, scheme })
}

/// A model that is here.
struct Found {
    id: String,
    source: Source,
    /// What the registry knows of it.
    manifest: Option<Manifest>,
}

#[derive(Clone)]
enum Source {
    Path(PathBuf),
    Bundled(fn() -> anyhow::Result<ModelFiles>),
}

impl Source {
    fn open(&self) -> anyhow::Result<ModelFiles> {
        match self {
            Source::Path(path) => load::open_at(path),
            Source::Bundled(open) => open(),
        }
    }
}

/// The models that were asked for.
fn named(names: &[String], terminal: &Terminal) -> anyhow::Result<Vec<Found>> {
    let mut taken = BTreeSet::new();
    names
        .iter()
        .map(|name| {
            let path = model_name::resolve(name, terminal)?;
            // A bundled model's file has its version in its name, which is not what people ask for.
            let is_path = Path::new(name).exists();
            let id = model_name::short_name(if is_path { name } else { own_name(name) });
            if !taken.insert(id.clone()) {
                return Err(failure(
                    format!("two models are called {id}"),
                    "rename the file of one: a model's id is its file's name without the ending",
                ));
            }
            let manifest = in_registry(name, &path);
            Ok(Found { id, source: Source::Path(path), manifest })
        })
        .collect()
}

/// What the registry knows of a model that was asked for by its name there.
fn in_registry(name: &str, path: &Path) -> Option<Manifest> {
    let registry = Registry::open().ok()?;
    let found = registry.find(name).ok()?;
    found.into_iter().find(|model| registry.path_of(model) == path)
}

/// The part of a registry's name that says which model it is.
fn own_name(name: &str) -> &str {
    let name = name.strip_prefix("hf:").unwrap_or(name);
    let name = name.rsplit('/').next().unwrap_or(name);
    name.rsplit(':').next().unwrap_or(name)
}

/// The bundled models, and those of the registry that can be run.
fn all(terminal: &Terminal) -> anyhow::Result<Vec<Found>> {
    let bundled = |id: &str, open| Found {
        id: id.to_string(),
        source: Source::Bundled(open),
        manifest: None,
    };
    let mut all = vec![
        bundled(model_name::ASSISTANT, model_name::assistant),
        bundled("stories260K", model_name::stories),
    ];
    let Ok(registry) = Registry::open() else { return Ok(all) };
    for model in registry.models().map(|(models, _)| models).unwrap_or_default() {
        let path = registry.path_of(&model);
        let own = model_name::short_name(own_name(&model.name));
        let is_taken = all.iter().any(|other| other.id == own);
        let id = if is_taken { model.name.clone() } else { own };
        match ModelFiles::open(&path) {
            Ok(_) => {
                let (source, manifest) = (Source::Path(path), Some(model));
                all.push(Found { id, source, manifest });
            }
            Err(error) => terminal.warn(format_args!("{} is left out: {error}", model.name)),
        }
    }
    Ok(all)
}

/// What models are loaded with, and which are on offer: the server asks it for more.
struct House {
    memory: Option<u64>,
    adapters: Vec<Named>,
    /// The model whose adapters are those that name none.
    first: Option<String>,
    cache: Cache,
    slots: usize,
    /// Threads that convert.
    threads: NonZero<usize>,
    device: Arc<Device>,
    digests: digest::Digests,
    /// Where the models on offer are, by id.
    known: Mutex<BTreeMap<String, Source>>,
}

impl House {
    /// Where a model on offer is.
    fn source(&self, id: &str) -> Option<Source> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).get(id).cloned()
    }

    /// What the server is told of a model: its memory, what is known of it, and how it is loaded.
    fn offer(&self, found: Found) -> anyhow::Result<Offer> {
        let files = found.source.open()?;
        let options = self.room(&files);
        let bytes = files.file_bytes() + options.cache_bytes.unwrap_or(0) as u64;
        let about = about::about(&found, &files);
        let created = about::created(&found, &files);
        let Found { id, source, .. } = found;
        let what = match (&source, model_name::embedded(&id)) {
            (Source::Bundled(_), Some(bytes)) => digest::What::Embedded(bytes),
            _ => digest::What::of(&files),
        };
        if about.digest.get().is_none() {
            self.digests.want(what.clone(), about.digest.clone());
        }
        drop(files);
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.insert(id.clone(), source.clone());
        drop(known);
        let (name, device, digest) = (id.clone(), self.device.clone(), about.digest.clone());
        let is_its = |named: &&Named| named.model.as_ref().or(self.first.as_ref()) == Some(&id);
        let named: Vec<Named> = self.adapters.iter().filter(is_its).cloned().collect();
        let adapters = named.iter().map(|named| named.name.clone()).collect();
        let load = move || {
            let quiet = Terminal::new(true, false);
            let loaded = source.open().and_then(|files| {
                // Answers that are stored name it, so it has to be known before the first.
                if digest.get().is_none()
                    && let Some(found) = what.find()
                {
                    let _ = digest.set(found);
                }
                let loaded = load::load_files(&name, files, &device, options.clone(), &quiet)?;
                let tokenizer = loaded.tokenizer()?.clone();
                let template = match loaded.engine.model().files() {
                    Some(files) => vocabulary::template(files, &tokenizer)?,
                    None => None,
                };
                let mut beside = Vec::new();
                for Named { name, adapting, .. } in &named {
                    if let Some(adapter) = adapting.open(loaded.engine.model(), &device)? {
                        let template = adapting.template();
                        beside.push(LoadedAdapter { name: name.clone(), adapter, template });
                    }
                }
                Ok(Loaded { engine: loaded.engine, tokenizer, template, adapters: beside })
            });
            loaded.map_err(|error| format!("{}; {}", message_of(&error), hint_of(&error)))
        };
        Ok(Offer { id, bytes, created, adapters, about, load: Box::new(load) })
    }

    /// Memory for the keys and values of a model where nobody said how much: its longest context in
    /// every slot, but at most half of what is left beside its weights.
    fn room(&self, files: &ModelFiles) -> EngineOptions {
        let mut options = self.cache.options();
        let (Ok(config), None) = (files.config(), options.cache_bytes) else { return options };
        let block = CacheLayout::new(config, options.cache_type).block_bytes();
        let context = options.context.unwrap_or(config.context_length);
        let blocks = context.div_ceil(CacheShape::BLOCK) + 1;
        let wanted = blocks.saturating_mul(block).saturating_mul(self.slots);
        let spare =
            self.memory.map_or(u64::MAX, |memory| memory.saturating_sub(files.file_bytes()) / 2);
        let spare = usize::try_from(spare).unwrap_or(usize::MAX);
        options.cache_bytes = Some(wanted.min(spare).max(block.saturating_mul(2)));
        options
    }
}

/// The server's error with a hint for its kind.
fn explained(error: llmos_serve::Error) -> anyhow::Error {
    use llmos_serve::Error;
    let hint = match error {
        Error::Store(error) => return store::explained(error),
        Error::Open { .. } => {
            "make a key (`llmos keys add NAME`), or leave --host out: without a key the server is \
             for this machine alone"
        }
        Error::Certificate { .. } => {
            "--tls-cert is the server's certificate and those that lead to its authority, --tls-key its \
             key, both PEM"
        }
        Error::Listen { .. } => "give another --port; 0 is any that is free",
        _ => "`llmos help serve` shows what can be set",
    };
    failure(error, hint)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_the_registry_have_an_own_part() {
        for (name, expected) in [
            ("owner/repo:model-Q4_0.gguf", "model-Q4_0.gguf"),
            ("hf:owner/repo", "repo"),
            ("assistant", "assistant"),
        ] {
            assert_eq!(own_name(name), expected);
        }
    }

    #[test]
    fn hosts_are_addresses() {
        assert_eq!(parse_host("localhost"), Ok(Ipv4Addr::LOCALHOST.into()));
        assert!(parse_host("0.0.0.0").is_ok() && parse_host("::1").is_ok());
        assert!(parse_host("example.org").is_err());
        assert!(at_least_one("0").is_err() && at_least_one("3") == Ok(3));
    }
}
