//! What is said before a run, and what came of it.

use llmos_train::journal::{Journal, Row};
use llmos_train::picture;
use llmos_train::plan::{Comparison, Forecast, ForecastFile, Outcome, RunPlan, amount};
use llmos_train::recipe::Recipe;
use llmos_train::run::{Run, RunFolder};
use serde::Serialize;

use crate::processors;
use crate::terminal::Terminal;

/// What was said before, and what came of it; nothing where that is lost.
pub(in crate::command) fn read_forecast(folder: &RunFolder) -> Option<ForecastFile> {
    let bytes = std::fs::read(folder.join(RunFolder::FORECAST)).ok()?;
    serde_json::from_slice(&bytes).ok()
}

/// Keeps what was said, and what came of it.
pub(in crate::command) fn write_forecast(
    folder: &RunFolder,
    said: &ForecastFile,
) -> anyhow::Result<()> {
    folder.write(RunFolder::FORECAST, &serde_json::to_vec_pretty(said)?).map_err(super::explained)
}

/// What is said of a run that goes on to another length: its steps take as long as those before.
pub(super) fn said_again(folder: &RunFolder, recipe: &Recipe, said: ForecastFile) -> ForecastFile {
    let rows = Journal::<Row>::read(folder.join(RunFolder::METRICS));
    let last = rows.ok().and_then(|rows| rows.entries().last().cloned());
    let pace = last.and_then(|row| Some(row.seconds? / row.step.max(1) as f64));
    let seconds = pace.map(|pace| pace * recipe.train.steps as f64);
    ForecastFile { forecast: Forecast { seconds, ..said.forecast }, ..said }
}

pub(super) fn say_forecast(plan: &RunPlan, forecast: &Forecast, terminal: &Terminal) {
    let time = forecast
        .seconds
        .map_or(String::new(), |seconds| format!(", {} in all", amount::duration(seconds)));
    let bits = match (forecast.val_bits_per_byte, forecast.low, forecast.high) {
        (Some(bits), Some(low), Some(high)) => {
            format!(", {bits:.3} bits per byte at the end ({low:.3} to {high:.3})")
        }
        _ => match plan.epochs {
            Some(epochs) if epochs > 5.0 => {
                format!(", bits per byte unknown after {epochs:.0} readings of the text")
            }
            _ => String::new(),
        },
    };
    terminal.say(format_args!(
        "plan: {} parameters, {} tokens, {:.2e} FLOP, {} of memory{time}{bits}",
        amount::shown(plan.parameters.total() as f64),
        amount::shown(plan.tokens as f64),
        plan.flops.model,
        amount::bytes(plan.memory.total() as f64),
    ));
}

/// Draws how the run went. It is an extra: a run is none the worse without it.
pub(in crate::command) fn draw(run: &Run, terminal: &Terminal) {
    let folder = run.folder();
    let name = folder.path().file_name().unwrap_or_default().to_string_lossy();
    let drawn = Journal::<Row>::read(folder.join(RunFolder::METRICS)).and_then(|journal| {
        let text = picture::svg(&[picture::Run { name: &name, rows: journal.entries() }])?;
        folder.write(RunFolder::PICTURE, text.as_bytes())
    });
    if let Err(error) = drawn {
        terminal.warn(format_args!("no picture: {error}"));
    }
}

/// Keeps and says what came of a run that has ended: what was kept then, if it had ended before this
/// process and no step was missing.
pub(in crate::command) fn conclude(
    run: &Run,
    said: &ForecastFile,
    last: Option<&Row>,
    terminal: &Terminal,
) -> anyhow::Result<Outcome> {
    let outcome = said.outcome.filter(|_| run.steps_here() == 0).unwrap_or_else(|| Outcome {
        seconds: Some(run.seconds()),
        memory_bytes: processors::peak_memory(),
        val_bits_per_byte: last.and_then(|row| row.val_bits_per_byte),
    });
    write_forecast(run.folder(), &ForecastFile { outcome: Some(outcome), ..*said })?;
    say_outcome(&said.forecast, &outcome, terminal);
    Ok(outcome)
}

fn say_outcome(forecast: &Forecast, outcome: &Outcome, terminal: &Terminal) {
    for Comparison { quantity, forecast, actual, error, inside } in forecast.beside(outcome) {
        let shown = |number: f64| match quantity {
            "seconds" => amount::duration(number),
            "memory, bytes" => amount::bytes(number),
            _ => format!("{number:.3}"),
        };
        let name = quantity.split(',').next().unwrap_or(quantity);
        let name = if name == "seconds" { "time" } else { name };
        let inside = match inside {
            Some(true) => ", inside the interval",
            Some(false) => ", outside the interval",
            None => "",
        };
        terminal.say(format_args!(
            "{name}: forecast {}, actual {} ({:+.1} %{inside})",
            shown(forecast),
            shown(actual),
            100.0 * error
        ));
    }
}

/// What `--json` prints.
#[derive(Serialize)]
pub(super) struct Report<'a> {
    run: String,
    parameters: u64,
    step: u64,
    tokens: u64,
    loss: Option<f64>,
    val_loss: Option<f64>,
    val_bits_per_byte: Option<f64>,
    seconds: Option<f64>,
    peak_memory_bytes: Option<u64>,
    forecast: &'a Forecast,
    recipe: &'a Recipe,
}

impl<'a> Report<'a> {
    pub(super) fn new(
        run: &Run,
        recipe: &'a Recipe,
        last: Option<&Row>,
        forecast: &'a Forecast,
        outcome: &Outcome,
    ) -> Report<'a> {
        Report {
            run: run.folder().path().display().to_string(),
            parameters: llmos_train::plan::Parameters::of(&recipe.model).total(),
            step: run.step(),
            tokens: run.step() * recipe.train.tokens_per_step(),
            loss: last.and_then(|row| row.loss),
            val_loss: last.and_then(|row| row.val_loss),
            val_bits_per_byte: outcome.val_bits_per_byte,
            seconds: outcome.seconds,
            peak_memory_bytes: outcome.memory_bytes,
            forecast,
            recipe,
        }
    }
}
