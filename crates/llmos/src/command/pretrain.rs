//! `llmos pretrain`: text becomes parameters.

mod place;
pub(super) mod report;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use llmos_tensor::Device;
use llmos_train::data::{Dataset, MANIFEST};
use llmos_train::journal::{Journal, Row};
use llmos_train::plan::{Forecast, Law, RunPlan, derive};
use llmos_train::recipe::{Draft, Facts, Recipe, Resolved, Text};
use llmos_train::run::{Ending, Event, Material, Run, RunFolder};

use crate::failure::{failure, is_full};
use crate::recipe::RecipeArguments;
use crate::step_line::step_line;
use crate::terminal::{Style, Terminal};
use crate::training_text::{self, Try};
use crate::{Outcome, interrupt, processors};

/// Train a model: compress text into parameters.
///
/// Give a time, and everything else is derived and printed, with its reason: `llmos pretrain --data
/// TEXT --minutes 30`. Or give a recipe, and change what you like. RUN becomes a folder that every
/// command takes as MODEL; while it is trained, `llmos watch RUN` shows how it goes. Ctrl-C writes a
/// checkpoint and stops; `--resume` goes on, to the same bits as a run that was never stopped.
#[derive(clap::Args, Debug)]
pub(crate) struct Arguments {
    #[command(flatten)]
    run: RecipeArguments,
    /// Go on with a run, of which this command or its folder is enough.
    #[arg(long, value_name = "RUN", num_args = 0..=1)]
    resume: Option<Option<PathBuf>>,
    /// Print JSON at the end.
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(mut arguments: Arguments, terminal: &Terminal) -> anyhow::Result<Outcome> {
    let start = Instant::now();
    let out = place::out(&mut arguments)?;
    let given = arguments.run.draft()?;
    let is_begun = RunFolder::is_begun(&out);
    if is_begun && arguments.resume.is_none() {
        // A run that is going on is another matter than one that ended.
        drop(RunFolder::take(&out).map_err(explained)?);
        return Err(failure(
            format!("{} is a run already", out.display()),
            "--resume goes on with it; --out takes another folder",
        ));
    }
    if !is_begun && given == Draft::default() {
        let message = match arguments.resume {
            Some(_) => format!("{} is no run", out.display()),
            None => "there is nothing to learn from".to_string(),
        };
        return Err(failure(
            message,
            "llmos pretrain --data TEXT --minutes 30 trains on a file or folder of texts",
        ));
    }
    let device = arguments.run.device(&given)?;
    let folder = RunFolder::take(&out).map_err(explained)?;
    let (resolved, facts, dataset) = match is_begun {
        false => match begin(&arguments, &given, &folder, &device, start, terminal) {
            Ok(begun) => begun,
            Err(error) => {
                folder.abandon();
                return Err(error);
            }
        },
        true => go_on(&arguments, &given, &folder, terminal)?,
    };
    let text = resolved.to_toml();
    let recipe = &resolved.recipe;
    terminal.say(format_args!("{}", text.trim_end()));
    let law = Law::fitted();
    let plan = RunPlan::of(recipe, &facts, law.as_ref());
    plan.check(recipe, &facts, arguments.run.minutes).map_err(explained)?;
    let forecast = match is_begun {
        false => Forecast::from(&plan),
        true => report::read_forecast(&folder),
    };
    report::say_forecast(&plan, &forecast, terminal);
    report::write_forecast(&folder, &forecast, None)?;
    // What the preparation held is no part of what was said of the run.
    processors::forget_peak_memory();
    let mut run =
        Run::new(folder, recipe, &text, &Material::Text(dataset), &device).map_err(explained)?;
    run.count_seconds(start.elapsed().as_secs_f64() - run.seconds_here());
    match run.step() {
        0 => terminal.say(format_args!("training in {}", out.display())),
        step => terminal.say(format_args!("going on in {} after step {step}", out.display())),
    }
    let (ending, last) = train(&mut run, recipe, terminal)?;
    report::draw(&run, terminal);
    if ending == Ending::Stopped {
        terminal.say(format_args!(
            "stopped after step {}; llmos pretrain --resume {} goes on",
            run.step(),
            out.display()
        ));
        return Ok(Outcome::Interrupted);
    }
    let outcome = report::outcome(&run, last.as_ref());
    report::write_forecast(run.folder(), &forecast, Some(&outcome))?;
    report::say_outcome(&forecast, &outcome, terminal);
    let path = run.folder().path().display();
    terminal.say(format_args!("{path} is a model: llmos dream {path}"));
    if arguments.json {
        terminal.json(&report::Report::new(&run, recipe, last.as_ref(), &forecast, &outcome))?;
    }
    Ok(Outcome::Success)
}

/// A new run: its text is made ready, and what was not given is derived.
fn begin(
    arguments: &Arguments,
    given: &Draft,
    folder: &RunFolder,
    device: &Arc<Device>,
    start: Instant,
    terminal: &Terminal,
) -> anyhow::Result<(Resolved, Facts, Arc<Dataset>)> {
    let mut draft = given.clone();
    let paths = training_text::absolute(&draft)?;
    draft.set("data.path", paths, "--data").map_err(explained)?;
    let into = folder.join(RunFolder::DATA);
    let (facts, dataset) = training_text::ready(
        &arguments.run,
        &draft,
        &into,
        None,
        device,
        &mut { start },
        Try::IfSmall,
        terminal,
    )?;
    let spinner = terminal.spinner("measuring some steps");
    let derived = derive(&draft, &facts, device, start);
    spinner.finish_and_clear();
    let (resolved, facts) = derived.map_err(explained)?;
    Ok((resolved, facts, dataset))
}

const OTHER_RUN: &str = "--out trains another run in another folder; leave the flag out to go on";

/// A run that was begun before: its own recipe, and what may change of it.
fn go_on(
    arguments: &Arguments,
    given: &Draft,
    folder: &RunFolder,
    terminal: &Terminal,
) -> anyhow::Result<(Resolved, Facts, Arc<Dataset>)> {
    let stored = Draft::read(&folder.join(RunFolder::RECIPE)).map_err(explained)?;
    let mut draft = given.over(&stored);
    if given.paths().next().is_some() {
        draft.set("data.path", training_text::absolute(given)?, "--data").map_err(explained)?;
    }
    let own = folder.join(RunFolder::DATA);
    let own = own.join(MANIFEST).is_file().then_some(own);
    if own.is_some() && !draft.paths().eq(stored.paths()) {
        let listed = |draft: &Draft| draft.paths().collect::<Vec<_>>().join(", ");
        return Err(failure(
            format!(
                "data.path: the run learns from {}, and cannot go on with {}",
                listed(&stored),
                listed(&draft)
            ),
            OTHER_RUN,
        ));
    }
    let path = own.or_else(|| training_text::prepared(&draft)).ok_or_else(|| {
        failure(
            format!("the run's text is not in {} any more", folder.join(RunFolder::DATA).display()),
            "train again in another folder with --out",
        )
    })?;
    let dataset = training_text::open(&path, terminal)?;
    let facts =
        Facts { text: Some(Text::from(&*dataset)), ..arguments.run.facts(&Draft::default())? };
    let before = stored.resolve(&Facts::default()).map_err(explained)?;
    let resolved = draft.resolve(&facts).map_err(explained)?;
    before.recipe.goes_on_as(&resolved.recipe).map_err(|error| failure(error, OTHER_RUN))?;
    Ok((resolved, facts, dataset))
}

/// Lines of steps are said this far apart; those with a measurement always are.
const PAUSE: Duration = Duration::from_secs(1);

pub(super) fn train(
    run: &mut Run,
    recipe: &Recipe,
    terminal: &Terminal,
) -> anyhow::Result<(Ending, Option<Row>)> {
    let steps = recipe.train.steps as u64;
    let mut said: Option<Instant> = None;
    let mut last = None;
    let ending = run.go(&interrupt::ask_first(), &mut |event| match event {
        Event::Step { row, left } => {
            let is_told = row.val_loss.is_some()
                || row.step == steps
                || said.is_none_or(|said| said.elapsed() >= PAUSE);
            if is_told {
                terminal.say(step_line(row, steps, Some(left).filter(|_| row.step < steps)));
                said = Some(Instant::now());
            }
            last = Some(row.clone());
        }
        Event::Saved(path) => terminal.detail(format_args!("saved {}", path.display())),
        Event::Dream(dream) => {
            for line in dream.text.lines() {
                terminal.say(terminal.talk_style(Style::Dim, format_args!("  {line}")));
            }
        }
        Event::SteppedBack { from, to, problem } => terminal.warn(format_args!(
            "step {from}: {problem}; its batch is left out, and step {to} is where it goes on"
        )),
    });
    let ending = ending.map_err(explained)?;
    let metrics = run.folder().join(RunFolder::METRICS);
    let last = last.or_else(|| Journal::read(metrics).ok()?.entries().last().cloned());
    Ok((ending, last))
}

const DAMAGED: &str = "the checkpoint is damaged or another run's: move it away, and --resume goes \
    on from the one before";

/// An error of a run with what can be done about it.
pub(super) fn explained(error: llmos_train::Error) -> anyhow::Error {
    use llmos_train::Error;
    let is_of_checkpoint =
        |path: &Path| path.components().any(|part| part.as_os_str() == RunFolder::CHECKPOINTS);
    let hint = match &error {
        Error::Diverged { .. } => {
            "a lower --set optimizer.lr or muon_lr, or a longer --set schedule.warmup, is steadier"
        }
        Error::Io { source, .. } if is_full(source) => {
            "the disk is full, or a limit on files is reached: make room, then --resume goes on from \
             the last checkpoint"
        }
        Error::Format { path, .. } if is_of_checkpoint(path) => DAMAGED,
        Error::Io { source, path, .. }
            if source.kind() == std::io::ErrorKind::NotFound && is_of_checkpoint(path) =>
        {
            DAMAGED
        }
        Error::Io { .. } => "check the path, and who may read or write there",
        Error::Locked { .. } => "wait until it has ended, or take another folder with --out",
        Error::Format { .. } => "the file is damaged or of another kind",
        Error::Setting { key, .. } if key == "out" => "--out takes another folder",
        Error::Setting { key, .. } if key == "memory" => {
            "--set train.accumulation=… works a step in pieces, with the same result"
        }
        _ => "--set KEY=VALUE changes a value; `llmos plan … --toml` shows all, with reasons",
    };
    failure(error, hint)
}
