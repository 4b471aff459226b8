//! `llmos doctor`: what llmos finds on this machine, and what is missing.

use llmos_model::EngineOptions;
use llmos_model::engine::{GenerateOptions, SequenceOptions};
use llmos_model::sampler::{Sampler, SamplerOptions};
use llmos_tensor::Isa;
use serde_json::json;

use crate::Outcome;
use crate::load::{self, Compute};
use crate::model_name;
use crate::processors;
use crate::registry::{self, Registry};
use crate::terminal::{Style, Terminal, number_of, size};

/// Show what llmos finds on this machine, and what is missing.
///
/// The bundled model is run for a moment: if its text is wrong, the exit code is 1.
#[derive(clap::Args, Debug)]
pub(crate) struct Arguments {
    /// Print JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    compute: Compute,
}

/// The published beginning of the bundled model's greedy text.
const PUBLISHED: &str = "Once upon a time, there was a little girl named Lily.";

pub(crate) fn run(arguments: Arguments, terminal: &Terminal) -> anyhow::Result<Outcome> {
    let mut missing = Vec::new();
    let device = arguments.compute.device(terminal)?;
    let features = Isa::features();
    let available: Vec<&str> = Isa::available().iter().map(|isa| isa.name()).collect();
    if available.len() == 1 {
        missing
            .push("no vector instructions that llmos has kernels for: everything is slow".into());
    }
    let memory = processors::memory();
    if memory.is_none() {
        missing.push("the system does not tell how much memory there is".to_string());
    }
    let huge_pages = huge_pages();
    if huge_pages.as_deref() == Some("never") {
        missing.push(
            "huge pages are off: `echo madvise > /sys/kernel/mm/transparent_hugepage/enabled` \
             makes large models faster"
                .into(),
        );
    }
    let folder = Registry::open().map(|registry| registry.folder().to_path_buf());
    let models = Registry::open().and_then(|registry| registry.models());
    match &folder {
        Ok(folder) if registry::make_folder(folder).is_err() => {
            missing.push(format!("{} cannot be written: set LLMOS_HOME", folder.display()));
        }
        Err(_) => missing.push("no home folder is known: set LLMOS_HOME".into()),
        Ok(_) => {}
    }
    let said = story(&arguments.compute, terminal);
    let works = said.as_ref().is_ok_and(|said| said == PUBLISHED);
    if !works {
        let said = said.unwrap_or_else(|error| format!("{error:#}"));
        missing.push(format!("the bundled model is wrong: {said:?} instead of {PUBLISHED:?}"));
    }
    let folder = folder.map(|folder| folder.display().to_string()).unwrap_or_default();
    let count = models.map(|(models, _)| models.len()).unwrap_or(0);
    let outcome = if works { Outcome::Success } else { Outcome::Negative };
    if arguments.json {
        let features: serde_json::Map<String, serde_json::Value> =
            features.iter().map(|&(name, has)| (name.to_string(), json!(has))).collect();
        terminal.json(&json!({
            "version": env!("CARGO_PKG_VERSION"),
            "cpu": processors::cpu_name(),
            "features": features,
            "kernels": available,
            "chosen": device.isa().name(),
            "threads": device.threads().count(),
            "memory_bytes": memory.map(|memory| memory.total),
            "memory_available_bytes": memory.map(|memory| memory.available),
            "huge_pages": huge_pages,
            "registry": folder,
            "models": count,
            "works": works,
            "missing": missing,
        }))?;
        return Ok(outcome);
    }
    let mut text = String::new();
    let mut line = |key: &str, value: String| {
        let key = terminal.style(Style::Bold, format_args!("{key:<11}"));
        text.push_str(&format!("{key} {value}\n"));
    };
    line("llmos", env!("CARGO_PKG_VERSION").to_string());
    line("CPU", processors::cpu_name());
    let has = |wanted: bool| -> String {
        let names = features.iter().filter(|(_, has)| *has == wanted).map(|(name, _)| *name);
        names.collect::<Vec<_>>().join(" ")
    };
    line("has", has(true));
    line("has not", has(false));
    line("kernels", format!("{}, of {}", device.isa(), available.join(", ")));
    line("threads", device.threads().count().to_string());
    if let Some(memory) = memory {
        line("memory", format!("{}, {} free", size(memory.total), size(memory.available)));
    }
    if let Some(huge_pages) = huge_pages {
        line("huge pages", huge_pages);
    }
    line("registry", format!("{folder}, {}", number_of(count, "model")));
    line("model", if works { "the bundled one runs and is right".into() } else { "wrong".into() });
    for problem in &missing {
        line("missing", problem.clone());
    }
    if missing.is_empty() {
        line("missing", "nothing".into());
    }
    terminal.print(text)?;
    Ok(outcome)
}

/// The greedy beginning of the bundled model's story.
fn story(compute: &Compute, terminal: &Terminal) -> anyhow::Result<String> {
    let mut loaded = load::load_files(
        "stories260K",
        model_name::stories()?,
        &compute.device(terminal)?,
        EngineOptions { context: Some(64), ..EngineOptions::default() },
        terminal,
    )?;
    let tokenizer = loaded.tokenizer()?.clone();
    let mut sampler = Sampler::new(SamplerOptions::greedy(), 0)?;
    let prompt = load::start_tokens(&tokenizer);
    let id = loaded.engine.add(&prompt, SequenceOptions::default())?;
    let mut text = String::new();
    let mut decoder = tokenizer.decoder();
    let mut options = GenerateOptions { tokens: Some(60), ..GenerateOptions::default() };
    loaded.engine.go_on(id, &mut sampler, &mut options, &mut |token| {
        text += &decoder.push(token);
        match text.contains('.') {
            true => std::ops::ControlFlow::Break(()),
            false => std::ops::ControlFlow::Continue(()),
        }
    })?;
    Ok(text.trim().to_string())
}

/// Linux's setting for transparent huge pages.
fn huge_pages() -> Option<String> {
    let text = std::fs::read_to_string("/sys/kernel/mm/transparent_hugepage/enabled").ok()?;
    let chosen = text.split_once('[')?.1.split_once(']')?.0;
    Some(chosen.to_string())
}
