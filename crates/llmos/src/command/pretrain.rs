//! `llmos pretrain`: text becomes parameters.

mod place;
pub(super) use place::RUNS;
pub(super) mod report;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use llmos_tensor::Device;
use llmos_train::data::{Dataset, MANIFEST};
use llmos_train::journal::{Journal, Row};
use llmos_train::plan::{ForecastFile, Law, RunPlan, derive};
use llmos_train::recipe::{Draft, Facts, Recipe, Resolved, Text};
use llmos_train::run::{Ending, Event, Material, Run, RunFolder};

use crate::failure::{failure, is_full};
use crate::recipe::RecipeArguments;
use crate::step_line::step_line;
use crate::terminal::{Style, Terminal, plain};
use crate::training_text::{self, Try};
use crate::{Outcome, interrupt, processors, resume};

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
    if arguments.resume.is_some() {
        resume::check(&out, "pretrain")?;
    }
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
        return Err(match arguments.resume {
            Some(_) => no_run(&out),
            None => failure(
                "there is nothing to learn from",
                "llmos pretrain --data TEXT --minutes 30 trains on a file or folder of texts",
            ),
        });
    }
    let device = arguments.run.device(&given)?;
    let folder = RunFolder::take(&out).map_err(explained)?;
    let begun = match is_begun {
        false => begin(&arguments, &given, &folder, &device, start, terminal),
        true => go_on(&arguments, &given, &folder, terminal),
    };
    let Begun { resolved, plan, dataset, said } = match begun {
        Ok(begun) => begun,
        Err(error) => {
            if !is_begun {
                folder.abandon();
            }
            return Err(error);
        }
    };
    let recipe = &resolved.recipe;
    report::say_forecast(&plan, &said.forecast, terminal);
    // What the preparation held is no part of what was said of the run.
    processors::forget_peak_memory();
    let material = Material::Text(dataset);
    let mut run =
        Run::new(folder, recipe, &resolved.to_toml(), &material, &device).map_err(explained)?;
    report::write_forecast(run.folder(), &said)?;
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
    let outcome = report::conclude(&run, &said, last.as_ref(), terminal)?;
    let path = run.folder().path().display();
    terminal.say(format_args!("{path} is a model: llmos dream {path}"));
    if arguments.json {
        let last = last.as_ref();
        terminal.json(&report::Report::new(&run, recipe, last, &said.forecast, &outcome))?;
    }
    Ok(Outcome::Success)
}

/// A run whose recipe is settled.
struct Begun {
    resolved: Resolved,
    plan: RunPlan,
    dataset: Arc<Dataset>,
    /// What was said of it before, or is now, and what came of it if that is known.
    said: ForecastFile,
}

impl Begun {
    /// Says the recipe, and refuses what this machine cannot do.
    fn new(
        arguments: &Arguments,
        resolved: Resolved,
        facts: &Facts,
        dataset: Arc<Dataset>,
        terminal: &Terminal,
    ) -> anyhow::Result<Begun> {
        terminal.say(format_args!("{}", resolved.to_toml().trim_end()));
        let plan = RunPlan::of(&resolved.recipe, facts, Law::fitted().as_ref());
        plan.check(&resolved.recipe, facts, arguments.run.minutes).map_err(explained)?;
        Material::Text(dataset.clone()).check(&resolved.recipe).map_err(explained)?;
        let said = ForecastFile { forecast: (&plan).into(), outcome: None };
        Ok(Begun { resolved, plan, dataset, said })
    }
}

/// There is no run at `path` to go on with.
pub(super) fn no_run(path: &Path) -> anyhow::Error {
    let shown = path.display();
    if RunFolder::is_alive(path) {
        return explained(llmos_train::Error::Locked { path: path.to_path_buf() });
    }
    match RunFolder::was_taken(path) {
        true => failure(
            format!("{shown} was stopped before its recipe was written"),
            format!("give the whole command again with --out {shown}: it begins afresh"),
        ),
        false => failure(format!("{shown} is no run"), "--resume names a run's folder"),
    }
}

/// A new run: its text is made ready, and what was not given is derived.
fn begin(
    arguments: &Arguments,
    given: &Draft,
    folder: &RunFolder,
    device: &Arc<Device>,
    start: Instant,
    terminal: &Terminal,
) -> anyhow::Result<Begun> {
    let mut draft = given.clone();
    let paths = training_text::absolute(&draft)?;
    draft.set("data.path", paths, "--data").map_err(explained)?;
    let into = folder.join(RunFolder::DATA);
    let is_it = || training_text::prepared(&draft) == into.canonicalize().ok();
    if folder.was_there(RunFolder::DATA) && !is_it() {
        return Err(failure(
            format!("{} was there before the run, whose text belongs there", into.display()),
            "--out takes another folder",
        ));
    }
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
    Begun::new(arguments, resolved, &facts, dataset, terminal)
}

const OTHER_RUN: &str = "--out trains another run in another folder; leave the flag out to go on";

/// A run that was begun before: its own recipe, and what may change of it.
fn go_on(
    arguments: &Arguments,
    given: &Draft,
    folder: &RunFolder,
    terminal: &Terminal,
) -> anyhow::Result<Begun> {
    let stored = Draft::stored(&folder.recipe()).map_err(explained)?;
    let mut draft = given.over(&stored);
    if given.paths().next().is_some() {
        draft.set("data.path", training_text::absolute(given)?, "--data").map_err(explained)?;
    }
    let listed = |draft: &Draft| draft.paths().collect::<Vec<_>>().join(", ");
    let is_same = draft.paths().eq(stored.paths());
    let own = folder.join(RunFolder::DATA);
    let path = match own.join(MANIFEST).is_file() {
        true => Some(own.clone()).filter(|_| is_same),
        false => training_text::prepared(&draft),
    };
    let path = path.ok_or_else(|| match is_same {
        true => failure(
            format!("no prepared text is in {}, nor in {}", own.display(), listed(&stored)),
            "bring back what the run learnt from; --data PATH says where a prepared folder lies now",
        ),
        false => failure(
            format!(
                "data.path: the run learns from {}, and cannot go on with {}",
                listed(&stored),
                listed(&draft)
            ),
            OTHER_RUN,
        ),
    })?;
    let dataset = training_text::open(&path, terminal)?;
    let facts =
        Facts { text: Some(Text::from(&*dataset)), ..arguments.run.facts(&Draft::default())? };
    let before = stored.resolve(&Facts::default()).map_err(explained)?;
    let resolved = draft.resolve(&facts).map_err(explained)?;
    before.recipe.goes_on_as(&resolved.recipe).map_err(|error| failure(error, OTHER_RUN))?;
    let steps = before.recipe.train.steps;
    // The same command again says the same minutes.
    if let Some(minutes) = given.minutes()
        && !before.reason("train.steps").contains(&format!("{minutes} min "))
    {
        terminal.warn(format_args!(
            "the run goes on to its {steps} steps, whatever --minutes; --steps N changes them"
        ));
    }
    let is_as_long = resolved.recipe.train.steps == steps;
    let begun = Begun::new(arguments, resolved, &facts, dataset, terminal)?;
    let said = match report::read_forecast(folder).filter(|_| is_as_long) {
        Some(said) => said,
        None => report::said_again(folder, &begun.resolved.recipe, begun.said),
    };
    Ok(Begun { said, ..begun })
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
                terminal.say(step_line(row, steps, left.filter(|_| row.step < steps)));
                said = Some(Instant::now());
            }
            last = Some(row.clone());
        }
        Event::Saved(path) => terminal.detail(format_args!("saved {}", path.display())),
        Event::Dream(dream) => {
            for line in plain(&dream.text).lines() {
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

const DAMAGED: &str = "the checkpoint is damaged or another model's: move it away, and --resume goes \
    on from the one before";

/// An error of a run with what can be done about it.
pub(super) fn explained(error: llmos_train::Error) -> anyhow::Error {
    use llmos_train::Error;
    let is_of_checkpoint =
        |path: &Path| path.components().any(|part| part.as_os_str() == RunFolder::CHECKPOINTS);
    let hint = match &error {
        Error::Diverged { .. } => {
            "another run, in another folder (--out), is steadier with a lower --set optimizer.lr or \
             muon_lr, or with a longer --set schedule.warmup"
        }
        Error::Io { source, .. } if is_full(source) => {
            "the disk is full, or a limit on files is reached: make room, then --resume goes on from \
             the last checkpoint"
        }
        Error::Format { path, what, .. } if is_of_checkpoint(path) && what == "data" => {
            "a run goes on with what it began to learn from: bring that back, or begin another run \
             with --out"
        }
        Error::Format { path, what, .. } if is_of_checkpoint(path) && what == "seed" => OTHER_RUN,
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
        Error::Setting { key, .. } if key == "train.steps" => {
            "--steps N says how long the run is, --out begins another one"
        }
        Error::Setting { key, .. } if key == "memory" => {
            "--set train.accumulation=… works a step in pieces, with the same result up to rounding"
        }
        _ => "--set KEY=VALUE changes a value; `llmos plan … --toml` shows all, with reasons",
    };
    failure(error, hint)
}
