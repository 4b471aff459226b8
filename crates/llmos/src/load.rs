//! From a model's files to a model in memory: threads, kernels, cache, tokenizer, engine.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use anyhow::Context;
use clap::{Args, ValueEnum};
use llmos_model::decoder::CacheLayout;
use llmos_model::file::PeftAdapter;
use llmos_model::{Adapter, Engine, EngineOptions, Model, ModelFiles};
use llmos_tensor::{CacheShape, CacheType, Device, Isa};
use llmos_tokenizer::{Special, Tokenizer};
use llmos_train::adapter;
use llmos_train::run::{RewardModel, RunFolder};

use crate::failure::{Explain, failure, hint_of, is_full, message_of};
use crate::terminal::{Terminal, number_of, quoted, size};
use crate::{model_name, processors, resume, vocabulary};

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
    /// How F16 and BF16 weights are multiplied; `fast`, but `exact` where something is measured
    /// (next, score) or compared (run --temp 0).
    #[arg(long, value_name = "HOW")]
    pub(crate) precision: Option<Precision>,
}

/// How weights that are not quantised are multiplied.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Precision {
    /// In single precision.
    Exact,
    /// Large matrices in bfloat16 where the CPU has instructions for it.
    Fast,
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
        let mut device = Device::new(isa, threads);
        if self.precision != Some(Precision::Exact) {
            device = device.with_bf16();
        }
        let bf16 = if device.bf16() { " with bfloat16" } else { "" };
        terminal.detail(format_args!("kernels: {isa}{bf16}, {}", number_of(threads, "thread")));
        Ok(Arc::new(device))
    }

    /// The same, exact unless something else was asked for: where a model is measured or
    /// compared.
    pub(crate) fn exact_by_default(&self) -> Compute {
        Compute { precision: self.precision.or(Some(Precision::Exact)), ..self.clone() }
    }
}

/// What the context may take, and how it is filled.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Memory")]
pub(crate) struct Cache {
    #[command(flatten)]
    pub(crate) memory: Memory,
    /// Tokens that go through the model at once.
    #[arg(long, value_name = "TOKENS", default_value_t = 256)]
    pub(crate) batch: usize,
}

/// What the context may take.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Memory")]
pub(crate) struct Memory {
    /// Tokens of context; the model's own length where it is left out.
    #[arg(long, short, value_name = "TOKENS")]
    pub(crate) context: Option<usize>,
    /// How keys and values are kept.
    #[arg(long, value_name = "TYPE", default_value = "f16")]
    pub(crate) cache_type: CacheKind,
    /// Most memory for keys and values, such as 512M or 2G; enough for the context where left out.
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    pub(crate) cache_memory: Option<usize>,
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

impl Memory {
    /// The options as the engine takes them.
    pub(crate) fn options(&self) -> EngineOptions {
        EngineOptions {
            context: self.context,
            cache_bytes: self.cache_memory,
            cache_type: self.cache_type.into(),
            ..EngineOptions::default()
        }
    }
}

impl Cache {
    /// The options as the engine takes them.
    pub(crate) fn options(&self) -> EngineOptions {
        EngineOptions { prefill_chunk: self.batch, ..self.memory.options() }
    }
}

/// What is added to the model's weights.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct Adapting {
    /// A PEFT adapter folder, such as a run of `finetune --lora`, beside the model; :SCALE multiplies
    /// what it adds.
    #[arg(long, value_name = "ADAPTER[:SCALE]")]
    lora: Option<String>,
}

impl Adapting {
    /// What `--lora` takes.
    pub(crate) fn of(lora: &str) -> Adapting {
        Adapting { lora: Some(lora.to_string()) }
    }

    /// True if what was asked for is an adapter's folder.
    pub(crate) fn is_one(&self) -> bool {
        self.parts().is_some_and(|(folder, _)| PeftAdapter::is_one(folder))
    }

    /// The adapter's folder and what it is multiplied with.
    fn parts(&self) -> Option<(&Path, f32)> {
        let lora = self.lora.as_deref()?;
        let scaled = lora.rsplit_once(':').and_then(|(path, scale)| {
            let scale: f32 = scale.parse().ok()?;
            Some((Path::new(path), scale))
        });
        Some(scaled.unwrap_or((Path::new(lora), 1.0)))
    }

    /// The chat template that the adapter was taught with.
    pub(crate) fn template(&self) -> Option<String> {
        let (folder, _) = self.parts()?;
        std::fs::read_to_string(folder.join(vocabulary::TEMPLATE)).ok()
    }

    /// Gives the engine its adapter, if one was asked for.
    ///
    /// # Errors
    /// There is no such adapter, or it is another model's.
    pub(crate) fn give(&self, engine: &mut Engine, device: &Device) -> anyhow::Result<()> {
        match self.open(engine.model(), device)? {
            Some(adapter) => engine.set_adapter(Some(adapter)).map_err(explained),
            None => Ok(()),
        }
    }

    /// The adapter for `model`, if one was asked for.
    ///
    /// # Errors
    /// As [`Adapting::give`].
    pub(crate) fn open(
        &self,
        model: &Model,
        device: &Device,
    ) -> anyhow::Result<Option<Arc<Adapter>>> {
        let Some((folder, scale)) = self.parts() else { return Ok(None) };
        if !scale.is_finite() {
            let lora = self.lora.as_deref().unwrap_or_default();
            return Err(failure(
                format!("--lora {lora}: nothing can be multiplied with that"),
                "a scale is such as 0.5",
            ));
        }
        if !PeftAdapter::is_one(folder) {
            return Err(failure(
                format!("{} is no adapter", folder.display()),
                "an adapter is a folder with adapter_config.json and adapter_model.safetensors",
            ));
        }
        let adapter = Adapter::open(folder, model, device, scale).map_err(|error| {
            failure(error, "--lora takes an adapter that was trained beside this very model")
        })?;
        Ok(Some(Arc::new(adapter)))
    }
}

/// A size such as `512M`, `1.5G` or plain bytes; K, M, G are powers of 1024.
pub(crate) fn parse_size(text: &str) -> Result<usize, String> {
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

/// Opens the files of MODEL without reading its weights.
///
/// # Errors
/// There is no such model, or its files are not sound.
pub(crate) fn open(name: &str, terminal: &Terminal) -> anyhow::Result<ModelFiles> {
    open_at(&model_name::resolve(name, terminal)?)
}

/// As [`open`], of a path.
///
/// # Errors
/// As [`open`].
pub(crate) fn open_at(path: &Path) -> anyhow::Result<ModelFiles> {
    ModelFiles::open(path).map_err(|error| no_model_yet(path).unwrap_or_else(|| explained(error)))
}

/// What a folder without a model is, if it is on the way to one.
fn no_model_yet(path: &Path) -> Option<anyhow::Error> {
    let (shown, typed) = (path.display(), quoted(path));
    if adapter::is_adapter(path) {
        return Some(failure(
            format!("{shown} is an adapter, which works beside its model"),
            format!(
                "`llmos chat BASE --lora {typed}` talks with both; `llmos merge BASE {typed} --out \
                 MODEL` makes one of them"
            ),
        ));
    }
    let command = resume::command_of(path);
    let latest = RunFolder::latest(path).map_or(String::new(), |latest| {
        format!("; what it had learnt last is {}", latest.display())
    });
    RunFolder::is_begun(path).then(|| {
        failure(
            format!("{shown} is a run that has not ended"),
            format!("`llmos {command} --resume {typed}` goes on with it{latest}"),
        )
    })
}

/// A model crate's error with a hint for its kind.
pub(crate) fn explained(error: llmos_model::Error) -> anyhow::Error {
    use llmos_model::Error;
    let kind = match &error {
        Error::NoModel(inner) => inner,
        other => other,
    };
    let hint = match kind {
        Error::Io { source, .. } if is_full(source) => {
            "the disk is full, or a limit on files is reached: make room (`llmos rm`) or write elsewhere"
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
        Error::Request {
            operation: "engine" | "add sequence" | "force tokens" | "score", ..
        } => "shorten the text, or change --context; `llmos inspect MODEL` shows the model's own",
        Error::Request { operation: "cache", .. } => "give --cache-memory more",
        Error::Request { operation: "batch", .. } => "change --batch",
        Error::Request { operation: "vocabulary", .. } => {
            "`llmos tokenize MODEL --ids` gives the ids of a text in the model's own vocabulary"
        }
        Error::Request { operation: "weights", .. } => {
            "the weights are damaged: fetch or convert the model again"
        }
        _ => {
            "`llmos inspect MODEL` shows what the model is, `llmos help COMMAND` what can be asked"
        }
    };
    failure(error, hint)
}

/// A model that can be run.
pub(crate) struct Loaded {
    /// What to call it: the file's name without its ending.
    pub(crate) name: String,
    /// Its tokenizer; none for a model of ids alone, or with a vocabulary that is not sound.
    pub(crate) tokenizer: Option<Arc<Tokenizer>>,
    /// What is wrong with the vocabulary, and a hint.
    flaw: Option<(String, String)>,
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
    load_files(name, open(name, terminal)?, device, options, terminal)
}

/// As [`load_on`], of files that are open.
///
/// # Errors
/// As [`load`].
pub(crate) fn load_files(
    name: &str,
    files: ModelFiles,
    device: &Arc<Device>,
    mut options: EngineOptions,
    terminal: &Terminal,
) -> anyhow::Result<Loaded> {
    let start = Instant::now();
    if let Some(memory) = processors::memory() {
        fit(&files, &mut options, memory.available, terminal);
    }
    if files.tensors().len() == 0 {
        return Err(failure(
            format!("{} is a vocabulary without weights", files.path().display()),
            "`llmos tokenize` works on it; to run a model, give one with weights",
        ));
    }
    if RewardModel::is_in(&files) {
        return Err(failure(
            format!(
                "{} is a reward model: it scores answers, and writes none",
                files.path().display()
            ),
            "`llmos reward score MODEL --data FILE` asks it",
        ));
    }
    // Small models are there before anyone could read this.
    let spinner = (files.file_bytes() > 100 << 20).then(|| terminal.spinner("loading"));
    // Ids alone need no vocabulary: what is wrong with it is said when a text needs one.
    let vocabulary = files.vocabulary().map_err(explained);
    let tokenizer = vocabulary.and_then(|vocabulary| vocabulary::read(&vocabulary));
    let (tokenizer, flaw) = match tokenizer.with_context(|| name.to_string()) {
        Ok(tokenizer) => (tokenizer, None),
        Err(error) => (None, Some((message_of(&error), hint_of(&error)))),
    };
    let model = Model::load(files, device).map_err(explained)?;
    let engine = Engine::new(Arc::new(model), device.clone(), options).map_err(explained)?;
    if let Some(spinner) = spinner {
        spinner.finish_and_clear();
    }
    terminal.detail(format_args!("loaded {name} in {:.2} s", start.elapsed().as_secs_f64()));
    Ok(Loaded {
        name: model_name::short_name(name),
        tokenizer: tokenizer.map(Arc::new),
        flaw,
        engine,
        device: device.clone(),
    })
}

/// Lowers a context that nobody asked for to what `available` bytes of memory hold beside the
/// weights; the memory itself is taken only as the context fills.
fn fit(files: &ModelFiles, options: &mut EngineOptions, available: u64, terminal: &Terminal) {
    let weights = files.file_bytes();
    if weights > available {
        terminal.warn(format_args!(
            "the model has {}, and {} of memory are free: it may run from disk, slowly",
            size(weights),
            size(available)
        ));
        return;
    }
    let Ok(config) = files.config() else { return };
    if options.context.is_some() || options.cache_bytes.is_some() {
        return;
    }
    let block = CacheLayout::new(config, options.cache_type).block_bytes() as u64;
    // A fifth stays for the workspace and for everyone else.
    let blocks = (available - weights) / 5 * 4 / block.max(1);
    let tokens = usize::try_from(blocks).unwrap_or(usize::MAX).saturating_mul(CacheShape::BLOCK);
    if tokens < config.context_length {
        let context = tokens.max(CacheShape::BLOCK).min(config.context_length);
        options.context = Some(context);
        terminal.say(format_args!(
            "the context is {context} of the model's {} tokens, what memory holds; --context, or \
             --cache-type q8, changes it",
            config.context_length
        ));
    }
}

impl Loaded {
    /// The tokenizer.
    ///
    /// # Errors
    /// The model has none, or one that is not sound.
    pub(crate) fn tokenizer(&self) -> anyhow::Result<&Arc<Tokenizer>> {
        self.tokenizer.as_ref().ok_or_else(|| match &self.flaw {
            Some((message, hint)) => failure(message, hint),
            None => failure(
                format!("{} has no tokenizer", self.name),
                "`llmos score --ids` works on ids alone; a llama2.c .bin needs its tokenizer.bin \
                 beside it, a Hugging Face folder its tokenizer.json",
            ),
        })
    }
}

/// The tokens that a text begins with when nothing is given: the model's own start tokens, else the
/// token that separates documents, else a line's end, as for a model of characters, else none.
pub(crate) fn start_tokens(tokenizer: &Tokenizer) -> Vec<u32> {
    let own = tokenizer.start_ids();
    if !own.is_empty() {
        return own.to_vec();
    }
    // Models without a start token were trained on documents with this one between them.
    let separator = tokenizer.token_id("<|endoftext|>");
    let one = tokenizer.bos().or(separator).or(tokenizer.eos());
    one.map_or_else(|| tokenizer.encode("\n", Special::None), |one| vec![one])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_context_that_nobody_asked_for_is_what_memory_holds() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../models/stories260K.gguf");
        let files = ModelFiles::open(Path::new(path)).unwrap();
        let check = |asked: Option<usize>, spare: u64, expected: Option<usize>| {
            let mut options = EngineOptions { context: asked, ..EngineOptions::default() };
            let terminal = Terminal::new(true, false);
            fit(&files, &mut options, files.file_bytes() + spare, &terminal);
            assert_eq!(options.context, expected, "{asked:?} {spare}");
        };
        // The cache of all 512 tokens takes half a megabyte.
        check(None, 10 << 20, None);
        check(Some(400), 100_000, Some(400));
        check(None, 0, Some(32));
        let block = CacheLayout::new(files.config().unwrap(), CacheType::F16).block_bytes() as u64;
        check(None, 5 * block / 4 * 3 + 4, Some(96));
    }

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
}
