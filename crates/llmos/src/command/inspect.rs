//! `llmos inspect`: what a model is, before it runs, and inside of it.

mod histogram;
mod lens;

use std::collections::BTreeMap;

use llmos_model::config::{Layer, Mlp};
use llmos_model::decoder::{CacheLayout, Part};
use llmos_model::{Config, ModelFiles, TensorInfo, Vocabulary};
use llmos_tensor::DType;
use serde::Serialize;
use serde_json::{Value, json};

use crate::Outcome;
use crate::failure::failure;
use crate::load::{self, Cache, Compute};
use crate::model_name;
use crate::processors;
use crate::terminal::{Style, Terminal, count, number_of, size};

/// The small program of "a model is two files": what it takes to run the parameters.
const PROGRAM: &str = include_str!("../../../../two-files/run.rs");

/// Show what a model is: architecture, parameters, memory; or look inside.
///
/// Nothing but headers is read, so this is quick on a model of any size; --lens runs the model, and
/// --histogram reads all of its parameters.
#[derive(clap::Args, Debug)]
pub(crate) struct Arguments {
    /// A model: a path or a name.
    model: String,
    /// List each tensor on a line of its own, instead of those of all layers together.
    #[arg(long)]
    tensors: bool,
    /// List the metadata.
    #[arg(long)]
    metadata: bool,
    /// Show what each layer would say after TEXT if the model ended with it (the logit lens): through
    /// the final norm and the head.
    #[arg(
        long,
        value_name = "TEXT",
        allow_hyphen_values = true,
        conflicts_with_all = ["tensors", "metadata", "histogram"]
    )]
    lens: Option<String>,
    /// How many of the likeliest tokens of each layer.
    #[arg(long, value_name = "N", default_value_t = 5)]
    top: usize,
    /// Switch a layer off, or one of its heads, and show the change in what comes next. May be given
    /// several times. The first layer is 0, its first head 0:0.
    #[arg(
        long,
        value_name = "LAYER[:HEAD]",
        requires = "lens",
        value_delimiter = ',',
        value_parser = lens::parse_part
    )]
    off: Vec<Part>,
    /// Show how the numbers of each tensor are distributed.
    #[arg(long, conflicts_with_all = ["tensors", "metadata"])]
    histogram: bool,
    /// Print JSON: everything, or what --lens and --histogram show.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    cache: Cache,
    #[command(flatten)]
    compute: Compute,
}

/// Memory that running takes, in bytes.
#[derive(Serialize)]
struct Memory {
    context: usize,
    weights: u64,
    kv_cache: u64,
    workspace: u64,
    total: u64,
}

#[derive(Serialize)]
struct Total {
    tensors: usize,
    parameters: u64,
    bytes: u64,
}

pub(crate) fn run(arguments: Arguments, terminal: &Terminal) -> anyhow::Result<Outcome> {
    if let Some(text) = &arguments.lens {
        return lens::run(&arguments, text, terminal);
    }
    let files = load::open(&arguments.model, terminal)?;
    if arguments.histogram {
        return histogram::run(&arguments, &files, terminal);
    }
    let memory = match files.config() {
        Ok(config) => Some(memory(&files, config, &arguments.cache)?),
        Err(_) => None,
    };
    if arguments.json {
        terminal.json(&report(&arguments.model, &files, memory.as_ref())?)?;
    } else {
        terminal.print(page(&arguments, &files, memory.as_ref(), terminal)?)?;
    }
    Ok(Outcome::Success)
}

fn parameters(files: &ModelFiles) -> u64 {
    files.tensors().map(|tensor| tensor.len() as u64).sum()
}

/// True for what `two-files/run.rs` does not refuse.
fn program_runs(files: &ModelFiles) -> bool {
    let Ok(config) = files.config() else { return false };
    let plain = |layer: &Layer| {
        matches!(layer.mlp, Mlp::Dense { .. })
            && layer.window.is_none()
            && layer.head_dim.is_multiple_of(2)
    };
    let read = |tensor: &TensorInfo| {
        matches!(tensor.dtype, DType::F32 | DType::F16 | DType::Q8_0)
            && tensor.name.ends_with(".weight")
    };
    let known = match files.vocabulary() {
        Ok(Vocabulary::Gguf(gguf)) => match (gguf.model.as_str(), gguf.pre.as_deref()) {
            ("llama", _) => gguf.scores.is_some(),
            ("gpt2", None | Some("" | "default" | "gpt-2" | "llama-bpe" | "qwen2")) => true,
            _ => false,
        },
        _ => false,
    };
    let scaling = format!("{}.rope.scaling.type", config.architecture);
    let metadata = files.gguf_metadata();
    let scaled = metadata.and_then(|metadata| metadata.get(&scaling)?.as_str());
    known
        && files.paths().len() == 1
        && matches!(config.architecture.as_str(), "llama" | "qwen3")
        && matches!(scaled, None | Some("none"))
        && config.layers.iter().all(plain)
        && files.tensors().all(read)
}

fn weight_bytes(files: &ModelFiles) -> u64 {
    files.tensors().map(|tensor| tensor.bytes() as u64).sum()
}

/// Tensors by their type.
fn totals(files: &ModelFiles) -> BTreeMap<&'static str, Total> {
    let mut totals = BTreeMap::new();
    for tensor in files.tensors() {
        let total = totals.entry(tensor.dtype.name()).or_insert(Total {
            tensors: 0,
            parameters: 0,
            bytes: 0,
        });
        total.tensors += 1;
        total.parameters += tensor.len() as u64;
        total.bytes += tensor.bytes() as u64;
    }
    totals
}

fn memory(files: &ModelFiles, config: &Config, cache: &Cache) -> anyhow::Result<Memory> {
    let context = cache.memory.context.unwrap_or(config.context_length);
    if context == 0 || context > config.context_length {
        return Err(failure(
            format!("a context of {context} tokens"),
            format!("the model was made for 1 to {}", config.context_length),
        ));
    }
    let layout = CacheLayout::new(config, cache.memory.cache_type.into());
    let blocks = context.div_ceil(llmos_tensor::CacheShape::BLOCK) as u64;
    let kv_cache = blocks.saturating_mul(layout.block_bytes() as u64);
    // Rows of a batch through the widest layer, as the decoder's workspace holds them, and logits.
    let width = |layer: &Layer| {
        let inner = match layer.mlp {
            Mlp::Dense { d_ff, .. } => d_ff,
            Mlp::Experts { d_ff, n_expert_used, .. } => d_ff.saturating_mul(n_expert_used),
        };
        let heads = 2 * layer.n_head * layer.head_dim + 2 * layer.n_kv_head * layer.head_dim;
        heads.saturating_add(inner.saturating_mul(2))
    };
    let widest = config.layers.iter().map(width).max().unwrap_or(0);
    let row = widest.saturating_add(config.d_model.saturating_mul(3)) as u64;
    let rows = cache.batch.min(context) as u64;
    let workspace = row.saturating_mul(rows).saturating_add(config.vocab_size as u64) * 4;
    let weights = weight_bytes(files);
    let total = weights.saturating_add(kv_cache).saturating_add(workspace);
    Ok(Memory { context, weights, kv_cache, workspace, total })
}

fn report(name: &str, files: &ModelFiles, memory: Option<&Memory>) -> anyhow::Result<Value> {
    let config = files.config();
    let tensors: Vec<Value> = files
        .tensors()
        .map(|tensor| {
            json!({
                "name": tensor.name,
                "shape": tensor.shape,
                "type": tensor.dtype.name(),
                "parameters": tensor.len(),
                "bytes": tensor.bytes(),
            })
        })
        .collect();
    let metadata: serde_json::Map<String, Value> = files.metadata().into_iter().collect();
    let mut report = json!({
        "model": model_name::short_name(name),
        "path": files.path().display().to_string(),
        "format": files.format(),
        "type": files.type_name(),
        "file_bytes": files.file_bytes(),
        "parameters": parameters(files),
        "types": totals(files),
        "tensors": tensors,
        "memory": memory,
        "two_files": {
            "parameters_bytes": files.file_bytes(),
            "program_lines": PROGRAM.lines().count(),
            "program_runs_it": program_runs(files),
        },
        "metadata": metadata,
    });
    match config {
        Ok(config) => {
            report["architecture"] = json!(config.architecture);
            report["name"] = json!(config.name);
            report["context_length"] = json!(config.context_length);
            report["vocab_size"] = json!(config.vocab_size);
            report["n_layer"] = json!(config.layers.len());
            report["d_model"] = json!(config.d_model);
            report["config"] = serde_json::to_value(config)?;
        }
        Err(error) => {
            report["architecture"] = Value::Null;
            report["cannot_run"] = json!(error.to_string());
        }
    }
    Ok(report)
}

fn page(
    arguments: &Arguments,
    files: &ModelFiles,
    memory: Option<&Memory>,
    terminal: &Terminal,
) -> anyhow::Result<String> {
    let mut text = String::new();
    let mut line = |key: &str, value: String| {
        let key = terminal.style(Style::Bold, format_args!("{key:<13}"));
        text.push_str(&format!("{key} {value}\n"));
    };
    line("model", files.path().display().to_string());
    line("format", format!("{}, {}", files.format(), files.type_name()));
    match files.config() {
        Ok(config) => {
            let named = config.name.as_ref().map_or(String::new(), |name| format!(" ({name})"));
            line("architecture", format!("{}{named}", config.architecture));
            line("shape", shape(config));
            line("context", format!("{} tokens", config.context_length));
        }
        Err(_) if files.tensors().len() == 0 => line("cannot run", "it has no weights".into()),
        Err(error) => line("cannot run", error.to_string()),
    }
    line("vocabulary", vocabulary(files)?);
    line(
        "parameters",
        format!("{} in {} tensors", count(parameters(files)), files.tensors().len()),
    );
    for (name, total) in totals(files) {
        let share = format!(
            "{:<8} {:>5} tensors {:>10} parameters {:>10}",
            name,
            total.tensors,
            count(total.parameters),
            size(total.bytes)
        );
        line("", share);
    }
    if let Some(memory) = memory {
        let parts = format!(
            "{} at a context of {}: weights {}, KV cache {}, workspace {}",
            size(memory.total),
            memory.context,
            size(memory.weights),
            size(memory.kv_cache),
            size(memory.workspace),
        );
        line("memory", parts);
        if let Some(machine) = processors::memory() {
            let fits =
                if memory.total <= machine.available { "it fits" } else { "it does not fit" };
            line("", format!("{} free on this machine: {fits}", size(machine.available)));
        }
    }
    if files.config().is_ok() {
        let (bytes, lines) = (size(files.file_bytes()), PROGRAM.lines().count());
        let program = match program_runs(files) {
            true => format!("a program of {lines} lines that runs them (two-files/run.rs)"),
            false => format!(
                "a program that runs them: llmos (two-files/run.rs, {lines} lines, runs GGUF files \
                 of Llama and Qwen3 in F32, F16 and Q8_0)"
            ),
        };
        line("two files", format!("{bytes} of parameters, and {program}"));
    }
    if arguments.metadata {
        text.push('\n');
        for (key, value) in files.metadata() {
            text.push_str(&format!("{} = {value}\n", terminal.style(Style::Cyan, key)));
        }
    }
    text.push('\n');
    let rows = rows(files, arguments.tensors);
    let width = rows.iter().map(|row| row.name.chars().count()).max().unwrap_or(0);
    for row in &rows {
        text.push_str(&row.line(width));
    }
    Ok(text)
}

/// Where the tokens come from, and how many there are.
fn vocabulary(files: &ModelFiles) -> anyhow::Result<String> {
    let source = match files.vocabulary().map_err(load::explained)? {
        Vocabulary::Gguf(gguf) => {
            let pre = gguf.pre.map_or(String::new(), |pre| format!(", split as {pre}"));
            return Ok(format!("{} tokens, {}{pre}", gguf.tokens.len(), gguf.model));
        }
        Vocabulary::HuggingFace { .. } => "tokenizer.json",
        Vocabulary::SentencePiece { .. } => "tokenizer.model",
        Vocabulary::Llama2c { .. } => "llama2.c's tokenizer.bin",
        Vocabulary::None => "no tokenizer",
    };
    let size = files.config().map_or(0, |config| config.vocab_size);
    Ok(format!("{size} tokens, {source}"))
}

fn shape(config: &Config) -> String {
    let Some(first) = config.layers.first() else { return "no layers".into() };
    let mlp = match first.mlp {
        Mlp::Dense { d_ff, .. } => format!("MLP of {d_ff}"),
        Mlp::Experts { d_ff, n_expert, n_expert_used, .. } => {
            format!("{n_expert_used} of {n_expert} experts of {d_ff}")
        }
    };
    format!(
        "{} of width {}, {} of {} ({} for keys and values), {mlp}",
        number_of(config.layers.len(), "layer"),
        config.d_model,
        number_of(first.n_head, "head"),
        first.head_dim,
        first.n_kv_head,
    )
}

/// A line of the table of tensors: one, or the same one of several layers.
struct Row<'a> {
    name: String,
    layers: usize,
    tensor: &'a TensorInfo,
}

/// The tensors in the file's order; with `apart` false, those that differ in nothing but their layer
/// stand together as `blk.*.attn_q.weight`.
fn rows(files: &ModelFiles, apart: bool) -> Vec<Row<'_>> {
    let mut rows: Vec<Row<'_>> = Vec::new();
    for tensor in files.tensors() {
        let name = match tensor.name.strip_prefix("blk.").and_then(|rest| rest.split_once('.')) {
            Some((_, part)) if !apart => format!("blk.*.{part}"),
            _ => tensor.name.clone(),
        };
        let same = rows.iter_mut().find(|row| {
            row.name == name && row.tensor.shape == tensor.shape && row.tensor.dtype == tensor.dtype
        });
        match same {
            Some(row) => row.layers += 1,
            None => rows.push(Row { name, layers: 1, tensor }),
        }
    }
    rows
}

impl Row<'_> {
    fn line(&self, width: usize) -> String {
        let Row { name, layers, tensor } = self;
        let shape: Vec<String> = tensor.shape.iter().map(usize::to_string).collect();
        let times = if *layers > 1 { format!("{layers} of") } else { String::new() };
        format!(
            "{name:width$}  {times:>6} {:<18} {:<7} {:>10} parameters {:>10}\n",
            shape.join(" × "),
            tensor.dtype,
            count((tensor.len() * layers) as u64),
            size((tensor.bytes() * layers) as u64),
        )
    }
}
