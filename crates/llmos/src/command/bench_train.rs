//! `llmos bench train`: how fast a model of a known shape is trained here, and the bound on it.

use llmos_train::Rehearsal;
use llmos_train::model::products_seconds;
use llmos_train::plan::amount;
use llmos_train::recipe::{Dtype, Facts, Shape};
use serde::Serialize;

use crate::Outcome;
use crate::processors;
use crate::recipe::{RecipeArguments, parse_dtype, parse_shape};
use crate::terminal::{Terminal, number_of, size};

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
    let run = RecipeArguments {
        shape: Some(arguments.shape),
        dtype: Some(arguments.dtype),
        threads: arguments.threads,
        assignments: vec!["optimizer.name=adamw".to_string()],
        ..RecipeArguments::default()
    };
    let draft = run.draft()?;
    let device = run.device(&draft)?;
    let recipe = draft.resolve(&Facts::default())?.recipe;
    let tokens = recipe.train.tokens_per_step() as usize;
    let mut rehearsal = Rehearsal::new(&recipe, recipe.train.batch, &device);
    let parameters = rehearsal.parameters();
    let bar = terminal.step_bar(Some(u64::from(arguments.repeat) + 1), "training");
    let (mut times, mut loss) = (Vec::new(), 0.0);
    for round in 0..=arguments.repeat {
        let step = rehearsal.step();
        loss = step.loss;
        if round > 0 {
            times.push(step.gradients + step.update);
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    let peak_memory_bytes = processors::peak_memory();
    drop(rehearsal);
    let precision = recipe.train.dtype.precision();
    let bound = products_seconds(&device, precision, &recipe.model, tokens, 5);
    times.sort_by(f64::total_cmp);
    let step = times[times.len() / 2];
    let report = Report {
        shape: arguments.shape.name(),
        dtype: arguments.dtype.name(),
        threads: device.threads().count(),
        isa: device.isa().name(),
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
        "shape {}, {} parameters, {}, {}, {}\n\
         step         {:.0} ms, {:.0} tokens/s\n\
         bound        {:.0} tokens/s if a step were its matrix products alone: {:.0} % of it reached\n\
         peak memory  {}\n",
        report.shape,
        amount::shown(report.parameters as f64),
        report.dtype,
        number_of(report.threads, "thread"),
        report.isa,
        report.step_ms,
        report.tokens_per_s,
        report.gemm_bound_tokens_per_s,
        100.0 * report.tokens_per_s / report.gemm_bound_tokens_per_s,
        peak_memory_bytes.map_or("unknown".to_string(), size),
    ))?;
    Ok(Outcome::Success)
}
