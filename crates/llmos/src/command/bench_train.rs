//! `llmos bench train`: how fast a model of a known shape is trained here, and the bound on it.

use std::sync::Arc;
use std::time::Instant;

use llmos_tensor::gemm::Precision;
use llmos_tensor::ops::train::sum_of_squares;
use llmos_tensor::{Device, Isa};
use llmos_train::model::{Batch, Network, Objective, products_seconds};
use llmos_train::optimizer::{Optimizer, Rates};
use llmos_train::recipe::{Draft, Dtype, Facts, OptimizerName, Shape};
use serde::Serialize;

use crate::Outcome;
use crate::failure::failure;
use crate::processors;
use crate::terminal::{Terminal, size};

/// Measure how fast a model is trained: full steps of AdamW on random tokens.
#[derive(clap::Args, Debug)]
pub(crate) struct Arguments {
    /// The shape: s (1M parameters), m (7M) or l (30M).
    #[arg(long, value_name = "SHAPE", default_value = "s", value_parser = parse_shape)]
    shape: Shape,
    /// What matrix products are computed in: f32, or bf16 where the CPU has it.
    #[arg(long, value_name = "TYPE", default_value = "f32", value_parser = parse_dtype)]
    dtype: Dtype,
    /// Threads; the physical cores where it is left out.
    #[arg(long, short, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,
    /// Steps that are counted, after one that is not.
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..))]
    repeat: u16,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

fn parse_shape(text: &str) -> Result<Shape, String> {
    Shape::from_name(text).ok_or_else(|| "shapes are s, m, l".to_string())
}

fn parse_dtype(text: &str) -> Result<Dtype, String> {
    match text {
        "f32" => Ok(Dtype::F32),
        "bf16" => Ok(Dtype::Bf16),
        _ => Err("types are f32, bf16".to_string()),
    }
}

/// What `--json` prints.
#[derive(Serialize)]
struct Report {
    shape: &'static str,
    dtype: &'static str,
    threads: usize,
    isa: &'static str,
    parameters: usize,
    tokens_per_step: usize,
    tokens_per_s: f64,
    /// Median milliseconds of a step.
    step_ms: f64,
    peak_memory_bytes: Option<u64>,
    /// Tokens a second if a step were its linear layers' products alone.
    gemm_bound_tokens_per_s: f64,
    loss: f64,
}

pub(crate) fn run(arguments: &Arguments, terminal: &Terminal) -> anyhow::Result<Outcome> {
    let mut draft = Draft::default();
    draft.shape(arguments.shape);
    draft.set("optimizer.name", "adamw", "bench train")?;
    let recipe = draft.resolve(&Facts::default())?.recipe;
    let isa = Isa::detect();
    let precision = match arguments.dtype {
        Dtype::F32 => Precision::F32,
        Dtype::Bf16 if isa.has_bf16() => Precision::Bf16,
        Dtype::Bf16 => {
            return Err(failure(
                "this CPU has no instructions for bfloat16",
                "measure --dtype f32; `llmos doctor` shows what the CPU has",
            ));
        }
    };
    let threads = arguments.threads.map_or_else(processors::physical_cores, usize::from);
    let device = Arc::new(Device::new(isa, threads));
    let (batch, time) = (recipe.train.batch, recipe.train.context);
    let tokens = batch * time;
    let mut network = Network::new(&recipe.model, &device, precision, batch, time);
    let mut weights = network.layout().initial(recipe.train.seed);
    let mut gradients = vec![0.0; weights.len()];
    let mut optimizer = Optimizer::new(OptimizerName::Adamw, network.layout());
    let vocab_size = recipe.model.vocab_size;
    let ids: Vec<u32> =
        (0..=tokens).map(|i| ((i * 7919 + i * i % 613) % vocab_size) as u32).collect();
    let data = Batch { inputs: &ids[..tokens], targets: &ids[1..], starts: None };
    let objective = Objective { scale: 1.0 / tokens as f32, z_loss: 0.0 };
    let bar = terminal.step_bar(Some(u64::from(arguments.repeat) + 1), "training");
    let (mut times, mut loss) = (Vec::new(), 0.0);
    for round in 0..=arguments.repeat {
        let clock = Instant::now();
        gradients.fill(0.0);
        loss = network.gradients(&weights, data, objective, &mut gradients) / tokens as f64;
        let norm = sum_of_squares(&device, &gradients).sqrt();
        let gradient_scale = if norm > 1.0 { (1.0 / norm) as f32 } else { 1.0 };
        let rates = Rates { adam: 1e-3, muon: 0.0, weight_decay: 0.1, gradient_scale };
        optimizer.step(&device, precision, &recipe.optimizer, rates, &mut weights, &gradients);
        if round > 0 {
            times.push(clock.elapsed().as_secs_f64());
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    let peak_memory_bytes = processors::peak_memory();
    let parameters = weights.len();
    drop((network, weights, gradients, optimizer));
    let bound = products_seconds(&device, precision, &recipe.model, tokens, 5);
    times.sort_by(f64::total_cmp);
    let step = times[times.len() / 2];
    let report = Report {
        shape: arguments.shape.name(),
        dtype: arguments.dtype.name(),
        threads,
        isa: isa.name(),
        parameters,
        tokens_per_step: tokens,
        tokens_per_s: tokens as f64 / step,
        step_ms: step * 1e3,
        peak_memory_bytes,
        gemm_bound_tokens_per_s: tokens as f64 / bound,
        loss,
    };
    if arguments.json {
        terminal.json(&report)?;
        return Ok(Outcome::Success);
    }
    terminal.print(format!(
        "shape {}, {} parameters, {}, {threads} threads, {}\n\
         step         {:.0} ms, {:.0} tokens/s\n\
         bound        {:.0} tokens/s if a step were its matrix products alone: {:.0} % of it reached\n\
         peak memory  {}\n",
        report.shape,
        report.parameters,
        report.dtype,
        report.isa,
        report.step_ms,
        report.tokens_per_s,
        report.gemm_bound_tokens_per_s,
        100.0 * report.tokens_per_s / report.gemm_bound_tokens_per_s,
        peak_memory_bytes.map_or("unknown".to_string(), size),
    ))?;
    Ok(Outcome::Success)
}
