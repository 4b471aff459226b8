//! `llmos bench`: how fast a model runs here.

use std::sync::Arc;
use std::time::Instant;

use clap::Subcommand;
use llmos_model::convert::FileType;
use llmos_model::decoder::Preset;
use llmos_model::engine::{SequenceId, SequenceOptions};
use llmos_model::{Engine, Model};
use llmos_tensor::{Device, machine};
use serde::Serialize;

use super::convert::parse_type;
use super::{bench_machine, bench_serve, bench_train};
use crate::Outcome;
use crate::failure::failure;
use crate::load::{self, Cache, Compute, Loaded};
use crate::processors;
use crate::terminal::{Terminal, number_of, size};

/// Measure how fast a model runs.
///
/// Each figure is the median of several runs after one that is not counted.
#[derive(clap::Args, Debug)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    subject: Option<Subject>,
    /// A model: a path or a name.
    #[arg(required_unless_present = "random")]
    model: Option<String>,
    /// A model of this shape with random weights instead: llama-1.1b, llama-134m.
    #[arg(long, value_name = "SHAPE", conflicts_with = "model", value_parser = parse_preset)]
    random: Option<Preset>,
    /// The type of the random weights.
    #[arg(long = "type", value_name = "TYPE", value_parser = parse_type, default_value = "q4_0")]
    kind: FileType,
    /// Tokens of the prompt; 0 leaves prefill out.
    #[arg(long, value_name = "TOKENS", default_value_t = 512)]
    prompt: usize,
    /// Tokens that are decoded; 0 leaves decoding out.
    #[arg(long, value_name = "TOKENS", default_value_t = 64)]
    generate: usize,
    /// Tokens in the cache before decoding begins.
    #[arg(long, value_name = "TOKENS", default_value_t = 0)]
    depth: usize,
    /// Runs that are counted.
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..))]
    repeat: u16,
    /// Print JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    cache: Cache,
    #[command(flatten)]
    compute: Compute,
}

#[derive(Subcommand, Debug)]
enum Subject {
    Machine(bench_machine::Arguments),
    Serve(bench_serve::Arguments),
    Train(bench_train::Arguments),
}

fn parse_preset(text: &str) -> Result<Preset, String> {
    Preset::from_name(&text.to_lowercase()).ok_or_else(|| {
        let names: Vec<&str> = Preset::ALL.iter().map(|preset| preset.name()).collect();
        format!("shapes are {}", names.join(", "))
    })
}

/// What `--json` prints.
#[derive(Serialize)]
struct Report {
    model: String,
    #[serde(rename = "type")]
    kind: String,
    threads: usize,
    isa: &'static str,
    prompt_tokens: usize,
    prefill_tokens_per_s: Option<f64>,
    generated_tokens: usize,
    decode_tokens_per_s: Option<f64>,
    depth: usize,
    repeat: u16,
    cache_type: String,
    /// Weights and cached keys and values that decoding a token reads.
    bytes_per_token: u64,
    read_bandwidth_bytes_per_s: Option<f64>,
    bandwidth_fraction: Option<f64>,
    load_seconds: f64,
    peak_memory_bytes: Option<u64>,
    version: &'static str,
}

pub(crate) fn run(arguments: Arguments, terminal: &Terminal) -> anyhow::Result<Outcome> {
    match arguments.subject {
        Some(Subject::Machine(arguments)) => return bench_machine::run(&arguments, terminal),
        Some(Subject::Serve(arguments)) => return bench_serve::run(&arguments, terminal),
        Some(Subject::Train(arguments)) => return bench_train::run(&arguments, terminal),
        None => {}
    }
    let device = arguments.compute.device(terminal)?;
    let start = Instant::now();
    let (name, kind, mut engine) = model(&arguments, &device, terminal)?;
    let load_seconds = start.elapsed().as_secs_f64();
    let longest = arguments.prompt.max(arguments.depth.max(1) + arguments.generate);
    if longest > engine.context() {
        return Err(failure(
            format!("{longest} tokens, the context holds {}", engine.context()),
            "give --prompt, --depth and --generate less",
        ));
    }
    let rounds = u64::from(arguments.repeat) + 1;
    let bar = terminal.step_bar(Some(2 * rounds), "measuring");
    let mut prefill = Vec::new();
    if arguments.prompt > 0 {
        for round in 0..rounds {
            prefill.push(time_prefill(&mut engine, arguments.prompt, round)?);
            bar.inc(1);
        }
    }
    let mut decode = Vec::new();
    if arguments.generate > 0 {
        let past = Past::new(&mut engine, arguments.depth.max(1))?;
        for round in 0..rounds {
            decode.push(past.time_decode(&mut engine, arguments.generate, round)?);
            bar.inc(1);
        }
    }
    bar.finish_and_clear();
    let rate = |tokens: usize, times: &[f64]| {
        times.get(1..).filter(|times| !times.is_empty()).map(|times| tokens as f64 / median(times))
    };
    let decode_tokens_per_s = rate(arguments.generate, &decode);
    // The measurement of the bandwidth has a large buffer of its own.
    let peak_memory_bytes = processors::peak_memory();
    let bandwidth = decode_tokens_per_s.map(|_| machine::read_bandwidth(&device));
    let middle = arguments.depth + arguments.generate / 2;
    let bytes_per_token = (engine.model().bytes_per_token() + engine.cache_bytes(middle)) as u64;
    // A model that fits the processor's caches is read faster than memory is.
    let fraction =
        |(rate, bandwidth): (f64, f64)| (rate * bytes_per_token as f64 / bandwidth).min(1.0);
    let report = Report {
        model: name,
        kind,
        threads: device.threads().count(),
        isa: device.isa().name(),
        prompt_tokens: arguments.prompt,
        prefill_tokens_per_s: rate(arguments.prompt, &prefill),
        generated_tokens: arguments.generate,
        decode_tokens_per_s,
        depth: arguments.depth,
        repeat: arguments.repeat,
        cache_type: format!("{:?}", arguments.cache.memory.cache_type).to_lowercase(),
        bytes_per_token,
        read_bandwidth_bytes_per_s: bandwidth,
        bandwidth_fraction: decode_tokens_per_s.zip(bandwidth).map(fraction),
        load_seconds,
        peak_memory_bytes,
        version: env!("CARGO_PKG_VERSION"),
    };
    if arguments.json {
        terminal.json(&report)?;
    } else {
        terminal.print(table(&report))?;
    }
    Ok(Outcome::Success)
}

/// The model's name, its type and an engine for it.
fn model(
    arguments: &Arguments,
    device: &Arc<Device>,
    terminal: &Terminal,
) -> anyhow::Result<(String, String, Engine)> {
    let options = arguments.cache.options();
    match (&arguments.model, arguments.random) {
        (Some(name), _) => {
            let Loaded { name, engine, .. } = load::load_on(name, device, options, terminal)?;
            let kind = engine.model().files().map_or("none", |files| files.type_name());
            let kind = kind.to_string();
            Ok((name, kind, engine))
        }
        (None, Some(preset)) => {
            let config = preset.config();
            let kind = arguments.kind;
            let model = Model::random(config, kind, 1, device).map_err(load::explained)?;
            let engine =
                Engine::new(Arc::new(model), device.clone(), options).map_err(load::explained)?;
            Ok((preset.name().to_string(), kind.name().to_string(), engine))
        }
        (None, None) => Err(failure("there is no model", "give MODEL or --random SHAPE")),
    }
}

/// Tokens that no other round has, so that nothing is taken from the prefix cache.
fn tokens(engine: &Engine, count: usize, round: u64) -> Vec<u32> {
    let vocab_size = engine.config().vocab_size as u64;
    // A linear congruence (Knuth's MMIX constants): any spread of ids will do.
    let mut state = round;
    let mut next = || {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((state >> 33) % vocab_size) as u32
    };
    (0..count).map(|_| next()).collect()
}

/// Seconds from a prompt to its logits.
fn time_prefill(engine: &mut Engine, count: usize, round: u64) -> anyhow::Result<f64> {
    engine.forget_prefixes();
    let options = SequenceOptions { salt: round, ..SequenceOptions::default() };
    let id = engine.add(&tokens(engine, count, round), options).map_err(load::explained)?;
    let start = Instant::now();
    while !engine.is_ready(id).map_err(load::explained)? {
        engine.step().map_err(load::explained)?;
    }
    let seconds = start.elapsed().as_secs_f64();
    engine.remove(id).map_err(load::explained)?;
    Ok(seconds)
}

/// A sequence with tokens in the cache, which every round of decoding begins from.
struct Past {
    id: SequenceId,
    depth: usize,
}

impl Past {
    fn new(engine: &mut Engine, depth: usize) -> anyhow::Result<Past> {
        engine.forget_prefixes();
        let past = tokens(engine, depth, u64::MAX);
        let id = engine.add(&past, SequenceOptions::default()).map_err(load::explained)?;
        while !engine.is_ready(id).map_err(load::explained)? {
            engine.step().map_err(load::explained)?;
        }
        Ok(Past { id, depth })
    }

    /// Seconds of decoding `count` tokens.
    fn time_decode(&self, engine: &mut Engine, count: usize, round: u64) -> anyhow::Result<f64> {
        let next = tokens(engine, count, round);
        let start = Instant::now();
        for token in next {
            engine.force(self.id, &[token]).map_err(load::explained)?;
            engine.step().map_err(load::explained)?;
        }
        let seconds = start.elapsed().as_secs_f64();
        engine.truncate(self.id, self.depth).map_err(load::explained)?;
        Ok(seconds)
    }
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    if sorted.len() % 2 == 1 { sorted[middle] } else { (sorted[middle - 1] + sorted[middle]) / 2.0 }
}

fn table(report: &Report) -> String {
    let figure = |value: Option<f64>| value.map_or("-".to_string(), |value| format!("{value:.1}"));
    let threads = number_of(report.threads, "thread");
    let mut text = format!("{} {}, {threads}, {}\n", report.model, report.kind, report.isa);
    text += &format!(
        "prefill {:>6} tokens {:>10} tok/s\n",
        report.prompt_tokens,
        figure(report.prefill_tokens_per_s)
    );
    text += &format!(
        "decode  {:>6} tokens {:>10} tok/s at depth {}\n",
        report.generated_tokens,
        figure(report.decode_tokens_per_s),
        report.depth
    );
    if let (Some(fraction), Some(bandwidth)) =
        (report.bandwidth_fraction, report.read_bandwidth_bytes_per_s)
    {
        text += &format!(
            "{} a token, {:.0} % of the read bandwidth ({:.1} GB/s)\n",
            size(report.bytes_per_token),
            100.0 * fraction,
            bandwidth / 1e9
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), 2.5);
    }
}
