//! From the word MODEL on the command line to a model in memory.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use anyhow::Context;
use clap::{Args, ValueEnum};
use llmos_model::{Engine, EngineOptions, Model, ModelFiles};
use llmos_tensor::{CacheType, Device, Isa};
use llmos_tokenizer::Tokenizer;

use crate::failure::{Explain, failure};
use crate::registry::{self, Registry};
use crate::terminal::{Terminal, size};
use crate::{places, processors, vocabulary};

/// The bundled model: stories260K, see `models/`.
const BUNDLED: &[u8] = include_bytes!("../../../models/stories260K.gguf");
/// Its name.
pub(crate) const BUNDLED_NAME: &str = "stories260K";

/// What the processors are asked for.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Machine")]
pub(crate) struct Compute {
    /// Threads; the physical cores where it is left out.
    #[arg(long, short, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub(crate) threads: Option<u16>,
    /// Instruction set: scalar, avx2, avx512, neon; the best that there is where it is left out.
    #[arg(long, value_name = "SET")]
    pub(crate) isa: Option<String>,
}

impl Compute {
    /// The kernels and threads asked for.
    ///
    /// # Errors
    /// This CPU does not have the instruction set.
    pub(crate) fn device(&self, terminal: &Terminal) -> anyhow::Result<Arc<Device>> {
        let isa = match &self.isa {
            None => Isa::detect(),
            Some(name) => Isa::from_name(&name.to_lowercase()).explain(
                || format!("--isa {name}"),
                || "`llmos doctor` shows what this CPU has".into(),
            )?,
        };
        let threads = self.threads.map_or_else(processors::physical_cores, usize::from);
        terminal.detail(format_args!("kernels: {isa}, {threads} threads"));
        Ok(Arc::new(Device::new(isa, threads)))
    }
}

/// What the context may take.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Memory")]
pub(crate) struct Cache {
    /// Tokens of context; the model's own length where it is left out.
    #[arg(long, short, value_name = "TOKENS")]
    pub(crate) context: Option<usize>,
    /// How keys and values are kept.
    #[arg(long, value_name = "TYPE", default_value = "f16")]
    pub(crate) cache_type: CacheKind,
    /// Most memory for keys and values, such as 512M or 2G; enough for the context where left out.
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    pub(crate) cache_memory: Option<usize>,
    /// Tokens that go through the model at once.
    #[arg(long, value_name = "TOKENS", default_value_t = 256)]
    pub(crate) batch: usize,
}

/// [`CacheType`] on the command line.
#[derive(ValueEnum, Clone, Copy, Debug)]
pub(crate) enum CacheKind {
    /// Exact.
    F32,
    /// Half the memory of f32.
    F16,
    /// A quarter.
    Q8,
}

impl From<CacheKind> for CacheType {
    fn from(kind: CacheKind) -> CacheType {
        match kind {
            CacheKind::F32 => CacheType::F32,
            CacheKind::F16 => CacheType::F16,
            CacheKind::Q8 => CacheType::Q8,
        }
    }
}

impl Cache {
    /// The options as the engine takes them.
    pub(crate) fn options(&self) -> EngineOptions {
        EngineOptions {
            context: self.context,
            cache_bytes: self.cache_memory,
            cache_type: self.cache_type.into(),
            prefill_chunk: self.batch,
        }
    }
}

/// A size such as `512M`, `1.5G` or plain bytes; K, M, G are powers of 1024.
fn parse_size(text: &str) -> Result<usize, String> {
    let text = text.trim().trim_end_matches(['B', 'b']).trim_end_matches('i');
    let (number, factor) = match text.char_indices().next_back() {
        Some((at, 'k' | 'K')) => (&text[..at], 1u64 << 10),
        Some((at, 'm' | 'M')) => (&text[..at], 1 << 20),
        Some((at, 'g' | 'G')) => (&text[..at], 1 << 30),
        _ => (text, 1),
    };
    let number: f64 = number.trim().parse().map_err(|_| "a size is 512M or 2G".to_string())?;
    let bytes = number * factor as f64;
    // Beyond this no machine has memory, and f64 still counts exactly.
    if !(0.0..=(1u64 << 50) as f64).contains(&bytes) {
        return Err("a size is positive and below a petabyte".into());
    }
    Ok(bytes as usize)
}

/// The path that MODEL stands for.
///
/// # Errors
/// Neither a path nor a name in the registry.
pub(crate) fn resolve(name: &str, terminal: &Terminal) -> anyhow::Result<PathBuf> {
    let path = Path::new(name);
    if path.exists() {
        return Ok(path.to_path_buf());
    }
    let registry = Registry::open()?;
    match registry.find(name)?.as_slice() {
        [model] => {
            let path = registry.path_of(model);
            terminal.detail(format_args!("{} is {}", model.name, path.display()));
            Ok(path)
        }
        [] if name.eq_ignore_ascii_case(BUNDLED_NAME) => bundled(),
        [] => Err(unknown(name, &registry)),
        several => {
            let names: Vec<&str> = several.iter().map(|model| model.name.as_str()).collect();
            Err(failure(
                format!("{name} can be {} models", several.len()),
                format!("give one of {}", names.join(", ")),
            ))
        }
    }
}

/// The bundled model's file, written to the data folder when it is first needed.
///
/// # Errors
/// No folder can be written.
pub(crate) fn bundled() -> anyhow::Result<PathBuf> {
    let name = format!("bundled/{}-{}.gguf", BUNDLED_NAME, env!("CARGO_PKG_VERSION"));
    let same = |path: &Path| std::fs::read(path).is_ok_and(|bytes| bytes == BUNDLED);
    let write = |folder: PathBuf| -> anyhow::Result<PathBuf> {
        let path = folder.join(&name);
        if !same(&path) {
            registry::write_whole(&path, BUNDLED)?;
        }
        Ok(path)
    };
    // A read-only home is no reason not to tell a story.
    places::data_folder()
        .and_then(write)
        .or_else(|_| write(std::env::temp_dir().join(format!("llmos-{}", std::process::id()))))
}

/// There is no such model: an error with the nearest names.
pub(crate) fn unknown(name: &str, registry: &Registry) -> anyhow::Error {
    let looks_like_path = name.contains(['/', '\\'])
        || [".gguf", ".bin", ".safetensors", ".json", ".model"].iter().any(|end| name.ends_with(end));
    let mut known: BTreeSet<String> = BTreeSet::from([BUNDLED_NAME.to_string()]);
    for model in registry.models().map(|(models, _)| models).unwrap_or_default() {
        known.insert(registry::short_name(&model.name).to_string());
    }
    if looks_like_path {
        let folder = Path::new(name).parent().unwrap_or(Path::new("."));
        let entries = std::fs::read_dir(if folder.as_os_str().is_empty() { Path::new(".") } else { folder });
        let beside = entries.into_iter().flatten().flatten();
        known.extend(beside.map(|entry| folder.join(entry.file_name()).display().to_string()));
    }
    let mut near: Vec<(usize, &String)> = known
        .iter()
        .map(|known| (distance(&known.to_lowercase(), &name.to_lowercase()), known))
        .filter(|(distance, known)| {
            *distance <= name.len().div_ceil(3) || known.to_lowercase().contains(&name.to_lowercase())
        })
        .collect();
    near.sort();
    let near: Vec<&str> = near.iter().take(3).map(|(_, known)| known.as_str()).collect();
    let hint = if near.is_empty() {
        "`llmos models` lists what is here; `llmos pull hf:OWNER/REPO` brings more".to_string()
    } else {
        format!("did you mean {}?", near.join(" or "))
    };
    failure(format!("there is no file and no model {name:?}"), hint)
}

/// Edits that lead from one text to the other (Levenshtein).
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, &y) in b.iter().enumerate() {
            let change = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = change.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

/// Opens the files of MODEL without reading its weights.
///
/// # Errors
/// There is no such model, or its files are not sound.
pub(crate) fn open(name: &str, terminal: &Terminal) -> anyhow::Result<ModelFiles> {
    let path = resolve(name, terminal)?;
    ModelFiles::open(&path).map_err(explained)
}

/// A model crate's error with a hint for its kind.
pub(crate) fn explained(error: llmos_model::Error) -> anyhow::Error {
    use llmos_model::Error;
    let kind = match &error {
        Error::NoModel(inner) => inner,
        other => other,
    };
    let hint = match kind {
        Error::Io { source, .. } if source.kind() == std::io::ErrorKind::StorageFull => {
            "the disk is full: make room (`llmos rm`) or write elsewhere"
        }
        Error::Io { .. } => "check the path, and who may read or write there",
        Error::Format { .. } => {
            "the file is truncated, damaged or of another kind: fetch it again, and compare its size"
        }
        Error::Unsupported { .. } => {
            "`llmos convert` writes the supported types; for another architecture see \
             docs/adding-an-architecture.md"
        }
        Error::MissingTensor { .. } => "the file is incomplete: fetch or convert it again",
        Error::CacheFull { .. } => "give --cache-memory more, or --context less",
        Error::Grammar(_) => "check the grammar; @FILE reads it from a file",
        Error::Request { operation: "engine" | "add sequence" | "force tokens" | "score", .. } => {
            "shorten the text, or change --context; `llmos inspect MODEL` shows the model's own"
        }
        _ => "`llmos inspect MODEL` shows what the model is, `llmos help COMMAND` what can be asked",
    };
    let error: Result<(), _> = Err(error);
    match error.explain(|| "".into(), || hint.into()) {
        Err(error) => error,
        Ok(()) => anyhow::anyhow!("no error"),
    }
}

/// A model that can be run.
pub(crate) struct Loaded {
    /// What to call it: the file's name without its ending.
    pub(crate) name: String,
    /// Its tokenizer; none for a model of ids alone.
    pub(crate) tokenizer: Option<Arc<Tokenizer>>,
    /// The engine, without sequences.
    pub(crate) engine: Engine,
    /// What it runs on.
    pub(crate) device: Arc<Device>,
}

/// Opens MODEL, packs its weights and makes an engine.
///
/// # Errors
/// As [`open`], and where the weights or the options are not sound.
pub(crate) fn load(
    name: &str,
    compute: &Compute,
    options: EngineOptions,
    terminal: &Terminal,
) -> anyhow::Result<Loaded> {
    let device = compute.device(terminal)?;
    load_on(name, &device, options, terminal)
}

/// As [`load`], on a device that exists.
///
/// # Errors
/// As [`load`].
pub(crate) fn load_on(
    name: &str,
    device: &Arc<Device>,
    options: EngineOptions,
    terminal: &Terminal,
) -> anyhow::Result<Loaded> {
    let start = Instant::now();
    let files = open(name, terminal)?;
    if let (Some(memory), bytes) = (processors::memory(), files.file_bytes())
        && bytes > memory.available
    {
        terminal.warn(format_args!(
            "the model has {}, and {} of memory are free: it may run from disk, slowly",
            size(bytes),
            size(memory.available)
        ));
    }
    let vocabulary = files.vocabulary().map_err(explained)?;
    let tokenizer = vocabulary::read(&vocabulary).with_context(|| name.to_string())?;
    let model = Model::load(files, device).map_err(explained)?;
    let engine = Engine::new(Arc::new(model), device.clone(), options).map_err(explained)?;
    terminal.detail(format_args!("loaded {name} in {:.2} s", start.elapsed().as_secs_f64()));
    Ok(Loaded { name: short_name(name), tokenizer: tokenizer.map(Arc::new), engine, device: device.clone() })
}

impl Loaded {
    /// The tokenizer.
    ///
    /// # Errors
    /// The model has none.
    pub(crate) fn tokenizer(&self) -> anyhow::Result<&Arc<Tokenizer>> {
        self.tokenizer.as_ref().ok_or_else(|| {
            failure(
                format!("{} has no tokenizer", self.name),
                "`llmos score --ids` works on ids alone; a llama2.c .bin needs its tokenizer.bin \
                 beside it, a Hugging Face folder its tokenizer.json",
            )
        })
    }
}

/// The tokens that a text begins with when nothing is given: the model's own start tokens, else the
/// token that separates documents, else none.
pub(crate) fn start_tokens(tokenizer: &Tokenizer) -> Vec<u32> {
    let own = tokenizer.start_ids();
    if !own.is_empty() {
        return own.to_vec();
    }
    // Models without a start token were trained on documents with this one between them.
    let separator = tokenizer.token_id("<|endoftext|>");
    tokenizer.bos().or(separator).or(tokenizer.eos()).into_iter().collect()
}

/// A path's or a name's last part without its ending.
pub(crate) fn short_name(name: &str) -> String {
    let path = Path::new(name);
    let keeps_ending = !["gguf", "bin", "safetensors"]
        .iter()
        .any(|ending| path.extension().is_some_and(|found| found.eq_ignore_ascii_case(ending)));
    let part = if keeps_ending { path.file_name() } else { path.file_stem() };
    part.map_or_else(|| name.to_string(), |part| part.to_string_lossy().into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        for (text, expected) in [
            ("1024", Some(1024)),
            ("2G", Some(2 << 30)),
            ("512m", Some(512 << 20)),
            ("1.5GiB", Some(3 << 29)),
            ("64kB", Some(64 << 10)),
            ("-1", None),
            ("", None),
            ("many", None),
            ("1e300", None),
        ] {
            assert_eq!(parse_size(text).ok(), expected, "{text}");
        }
    }

    #[test]
    fn edits() {
        for (a, b, expected) in
            [("", "", 0), ("kitten", "sitting", 3), ("abc", "", 3), ("mistral", "mistal", 1)]
        {
            assert_eq!(distance(a, b), expected, "{a} {b}");
            assert_eq!(distance(b, a), expected, "{b} {a}");
        }
    }

    #[test]
    fn names_of_models() {
        for (path, expected) in [
            ("models/stories260K.gguf", "stories260K"),
            ("Llama-3.2-1B", "Llama-3.2-1B"),
            ("o/r:x-Q4_0", "r:x-Q4_0"),
            ("dir/", "dir"),
        ] {
            assert_eq!(short_name(path), expected);
        }
    }
}
