//! A run on this machine, whose speed is measured with some steps of it.

use std::time::Instant;

use llmos_tensor::machine::{self, Peaks};
use llmos_train::plan::{Law, RunPlan, amount, derive};
use llmos_train::recipe::{Dtype, Facts, Recipe, Resolved};
use llmos_train::run::Material;
use serde::Serialize;

use super::{Arguments, Table, energy, explained, money};
use crate::Outcome;
use crate::interrupt::Unfinished;
use crate::terminal::Terminal;
use crate::training_text::{self, Try};

/// Bytes of a raw text that are prepared to learn about all of it.
const SAMPLE: u64 = 8 << 20;

/// What `--json` prints.
#[derive(Serialize)]
struct Report<'a> {
    params: u64,
    tokens: u64,
    /// Model FLOPs.
    flops: f64,
    gpus: Option<f64>,
    days: Option<f64>,
    gpu_hours: Option<f64>,
    dollars: Option<f64>,
    /// Model FLOPs a second over this CPU's measured peak.
    mfu: Option<f64>,
    /// The finished model's file.
    parameter_bytes: u64,
    corpus_bytes: Option<u64>,
    /// The whole process.
    seconds: Option<f64>,
    memory_bytes: u64,
    val_bits_per_byte: Option<f64>,
    low: Option<f64>,
    high: Option<f64>,
    tokens_per_s: Option<f64>,
    peak_flops_per_s: f64,
    energy_kwh: Option<f64>,
    plan: &'a RunPlan,
    recipe: &'a Recipe,
}

pub(super) fn run(arguments: &Arguments, terminal: &Terminal) -> anyhow::Result<Outcome> {
    let mut start = Instant::now();
    let draft = arguments.run.draft()?;
    let device = arguments.run.device(&draft)?;
    // The sample of a raw text, which goes with it.
    let name = format!("llmos-plan-{}", std::process::id());
    let folder = Unfinished::new(std::env::temp_dir().join(name));
    let (facts, dataset) = match draft.paths().next() {
        Some(_) => {
            let (path, most) = (folder.path(), Some(SAMPLE));
            let (run, tried) = (&arguments.run, Try::Always);
            let ready = training_text::ready(
                run, &draft, path, most, &device, &mut start, tried, terminal,
            )?;
            (ready.0, Some(ready.1))
        }
        None => (arguments.run.facts(&draft)?, None),
    };
    let spinner = terminal.spinner("measuring some steps");
    let derived = derive(&draft, &facts, &device, start);
    spinner.finish_and_clear();
    let (resolved, facts) = derived.map_err(explained)?;
    if arguments.toml {
        terminal.print(resolved.to_toml())?;
        return Ok(Outcome::Success);
    }
    let recipe = &resolved.recipe;
    let law = Law::fitted();
    let plan = RunPlan::of(recipe, &facts, law.as_ref());
    plan.check(recipe, &facts, arguments.run.minutes).map_err(explained)?;
    if let Some(dataset) = dataset {
        Material::Text(dataset).check(recipe).map_err(explained)?;
    }
    let peaks = machine::measure(&device);
    let figures = Figures::new(arguments, &plan, recipe, &facts, &peaks);
    if arguments.json {
        let seconds = figures.seconds;
        terminal.json(&Report {
            params: plan.parameters.total(),
            tokens: plan.tokens,
            flops: plan.flops.model,
            gpus: None,
            days: seconds.map(|seconds| seconds / 86_400.0),
            gpu_hours: None,
            dollars: figures.dollars,
            mfu: figures.mfu,
            parameter_bytes: plan.disk.model,
            corpus_bytes: facts.text.as_ref().map(|text| text.bytes),
            seconds,
            memory_bytes: plan.memory.total(),
            val_bits_per_byte: plan.prediction.map(|prediction| prediction.bits_per_byte),
            low: plan.prediction.map(|prediction| prediction.low),
            high: plan.prediction.map(|prediction| prediction.high),
            tokens_per_s: figures.tokens_per_s,
            peak_flops_per_s: figures.peak,
            energy_kwh: figures.energy_kwh,
            plan: &plan,
            recipe,
        })?;
        return Ok(Outcome::Success);
    }
    let mut table = Table::new(terminal);
    model_rows(&mut table, &plan, &resolved);
    arithmetic_rows(&mut table, &plan);
    memory_rows(&mut table, &plan, recipe, &facts);
    time_rows(&mut table, &plan, &facts, &figures);
    let bits = match plan.prediction {
        Some(forecast) => (
            format!("{:.3}", forecast.bits_per_byte),
            format!("{:.3} to {:.3}, in 95 of 100 runs", forecast.low, forecast.high),
        ),
        None if law.is_some() && facts.text.is_none() => {
            ("unknown".to_string(), "give the text with --data".to_string())
        }
        None if law.is_some() => (
            "unknown".to_string(),
            "of so short a text, or of one that is read so often".to_string(),
        ),
        None => ("not fitted yet".to_string(), "no forecast before runs of ours are".to_string()),
    };
    table.row("bits per byte", bits.0, bits.1);
    terminal.print(table.text())?;
    terminal.say("the whole recipe, each value with its reason: --toml");
    Ok(Outcome::Success)
}

/// What follows from the plan and the machine together.
struct Figures {
    seconds: Option<f64>,
    tokens_per_s: Option<f64>,
    /// FLOP/s at most, in the recipe's type.
    peak: f64,
    mfu: Option<f64>,
    dollars: Option<f64>,
    energy_kwh: Option<f64>,
}

impl Figures {
    fn new(
        arguments: &Arguments,
        plan: &RunPlan,
        recipe: &Recipe,
        facts: &Facts,
        peaks: &Peaks,
    ) -> Figures {
        let seconds = plan.seconds.map(|seconds| seconds.total());
        let peak = match recipe.train.dtype {
            Dtype::F32 => peaks.f32_per_s,
            Dtype::Bf16 => peaks.bf16_per_s.unwrap_or(peaks.f32_per_s),
        };
        let hours = seconds.map(|seconds| seconds / 3600.0);
        let speed = facts.speed.as_ref().map(|speed| speed.flops_per_s);
        let order = &arguments.order;
        Figures {
            seconds,
            tokens_per_s: speed.map(|speed| speed / plan.token_flops.training()),
            peak,
            mfu: speed.map(|speed| speed / peak),
            dollars: hours.zip(order.price).map(|(hours, price)| hours * price),
            energy_kwh: hours.zip(order.watts).map(|(hours, watts)| hours * watts / 1000.0),
        }
    }
}

fn model_rows(table: &mut Table<'_>, plan: &RunPlan, resolved: &Resolved) {
    let Recipe { model, train, .. } = &resolved.recipe;
    let parameters = &plan.parameters;
    let total = parameters.total();
    let shape = format!(
        "{} layers of width {}, {} heads of {}, MLP of {}, {} ids",
        model.n_layer, model.d_model, model.n_head, model.head_dim, model.d_ff, model.vocab_size
    );
    table.row("parameters", amount::shown(total as f64), shape);
    for (name, count) in [
        ("  embedding", parameters.embedding),
        ("  head", parameters.head),
        ("  attention", parameters.attention),
        ("  MLP", parameters.mlp),
        ("  norms", parameters.norms),
    ] {
        if count > 0 {
            let share = format!("{:.1} %", 100.0 * count as f64 / total as f64);
            table.row(name, amount::figures(count as f64, 3), share);
        }
    }
    table.row("", "", resolved.reason("model.d_model").to_string());
    let per_parameter = amount::figures(plan.tokens as f64 / total as f64, 2);
    let tokens = format!("{per_parameter} a parameter, where 20 are best");
    table.row("tokens", amount::shown(plan.tokens as f64), tokens);
    let pieces = match train.accumulation {
        1 => String::new(),
        pieces => format!(", in {pieces} pieces"),
    };
    let step = amount::figures(train.tokens_per_step() as f64, 3);
    let step = format!("{step} tokens each: {} x {}{pieces}", train.batch, train.context);
    table.row("  steps", amount::figures(train.steps as f64, 3), step);
    table.row("", "", resolved.reason("train.steps").to_string());
    match (plan.epochs, plan.text_tokens) {
        (Some(epochs), Some(tokens)) => {
            let text = format!("of a text of {} tokens", amount::shown(tokens as f64));
            let remark = match epochs {
                4.05.. => format!("{text}; after four, readings teach less and less"),
                _ => text,
            };
            table.row("  readings", amount::figures(epochs, 2), remark);
        }
        _ => table.row("  readings", "unknown", "give the text with --data"),
    }
}

fn arithmetic_rows(table: &mut Table<'_>, plan: &RunPlan) {
    let flop = |number: f64| format!("{number:.2e} FLOP");
    let (token, run) = (&plan.token_flops, &plan.flops);
    let each = format!("{} a token: forward once, backward twice", amount::shown(token.training()));
    table.row("", "", "");
    table.row("compute", "", "");
    table.row("  model", flop(run.model), each);
    for (name, forward) in [
        ("    projections", token.attention_projections),
        ("    scores", token.attention_scores),
        ("    MLP", token.mlp),
        ("    head", token.head),
    ] {
        let share = forward / token.forward();
        table.row(name, flop(share * run.model), format!("{:.1} %", 100.0 * share));
    }
    let more = format!("scores again on the way back, and {} of optimizer", flop(run.optimizer));
    table.row("  hardware", flop(run.hardware), more);
    table.row("  6 N D", flop(run.six_n_d), "the estimate that knows no shape");
}

fn memory_rows(table: &mut Table<'_>, plan: &RunPlan, recipe: &Recipe, facts: &Facts) {
    let bytes = |bytes: u64| amount::bytes(bytes as f64);
    let memory = &plan.memory;
    let free = facts.memory_bytes.map_or(String::new(), |free| format!("of {} free", bytes(free)));
    table.row("", "", "");
    table.row("memory", bytes(memory.total()), free);
    table.row("  weights", bytes(memory.weights), "f32");
    table.row("  gradients", bytes(memory.gradients), "f32");
    table.row("  optimizer", bytes(memory.optimizer), recipe.optimizer.name.name());
    table.row("  activations", bytes(memory.activations), "of a piece, made once");
    table.row("  program", bytes(memory.program), "about, with its threads and kernels");
    let disk = &plan.disk;
    table.row("disk", bytes(disk.total()), "");
    table.row("  model", bytes(disk.model), "f32");
    let kept = format!("{} kept, the best, and one being written", recipe.keep);
    table.row("  checkpoints", bytes(disk.checkpoints), kept);
    if let Some(tokens) = disk.tokens {
        table.row("  tokens", bytes(tokens), "");
    }
}

fn time_rows(table: &mut Table<'_>, plan: &RunPlan, facts: &Facts, figures: &Figures) {
    table.row("", "", "");
    let peak = amount::prefixed(figures.peak, "FLOP/s");
    if let (Some(seconds), Some(rate), Some(mfu), Some(speed)) =
        (plan.seconds, figures.tokens_per_s, figures.mfu, &facts.speed)
    {
        let rate = amount::figures(rate, 3);
        let mfu = format!("{:.0} % of the peak of {peak}", 100.0 * mfu);
        table.row("speed", format!("{rate} tokens/s"), format!("{}: {mfu}", speed.source));
        table.row("time", amount::duration(seconds.total()), "the whole process");
        table.row("  steps", amount::duration(seconds.steps), "");
        table.row("  evaluations", amount::duration(seconds.evaluations), "");
    }
    match figures.energy_kwh {
        Some(kwh) => table.row("energy", energy(kwh), ""),
        None => table.row("energy", "unknown", "give --watts, of this machine"),
    }
    match figures.dollars {
        Some(dollars) => table.row("money", money(dollars), ""),
        None => table.row("money", "unknown", "give --price, for an hour of this machine"),
    }
}
