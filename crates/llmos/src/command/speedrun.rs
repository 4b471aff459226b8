//! `llmos speedrun`: the whole life of a model, stage by stage.
//!
//! A recipe of stages is a list of commands that a person could type: a tokenizer is learnt, text
//! prepared, a model pretrained, finetuned, preferred, measured. Each runs as a process of its own
//! and is done when what it makes is there, so that a run which was stopped goes on where it was.

mod record;
mod stages;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::Context;
use llmos_tensor::Isa;
use llmos_train::run::RunFolder;

use crate::failure::failure;
use crate::terminal::{Style, Terminal, quoted};
use crate::{Outcome, interrupt};
use record::{Done, Record};
use stages::{Given, Stage, Stages};

/// Live the whole life of a model on this machine: tokenizer, pretraining, finetuning, preferences,
/// report card.
///
/// RECIPE lists the stages, each of which is a llmos command; recipes/speedrun.toml where left out.
/// What is made lies in RUN, and RUN/report.md says how it went. The same command again goes on with
/// a run that was stopped. `llmos chat RUN/assistant.gguf` talks to the result.
#[derive(clap::Args, Debug)]
pub(crate) struct Arguments {
    /// A file of stages.
    #[arg(value_name = "RECIPE", default_value = "recipes/speedrun.toml")]
    recipe: PathBuf,
    /// The folder that everything is made in; runs/NAME by the recipe's name where left out.
    #[arg(long, value_name = "RUN")]
    out: Option<PathBuf>,
    /// The time for the whole run, of which each stage has its share; the recipe's own where left
    /// out. Recipes without one take the time that they take.
    #[arg(long, value_name = "MINUTES", value_parser = parse_minutes)]
    minutes: Option<f64>,
    /// Text to pretrain on in place of the recipe's.
    #[arg(long, value_name = "PATH", num_args = 1..)]
    data: Vec<PathBuf>,
    /// End after this stage.
    #[arg(long, value_name = "STAGE")]
    until: Option<String>,
    /// Print the stages' commands, and run none.
    #[arg(long)]
    list: bool,
    /// Print JSON at the end.
    #[arg(long)]
    json: bool,
}

fn parse_minutes(text: &str) -> Result<f64, String> {
    let minutes = text.parse().ok().filter(|minutes: &f64| (0.5..=1e6).contains(minutes));
    minutes.ok_or_else(|| "half a minute at least".into())
}

pub(crate) fn run(arguments: &Arguments, terminal: &Terminal) -> anyhow::Result<Outcome> {
    let stages = Stages::read(&arguments.recipe)?;
    let name = arguments.recipe.file_stem().unwrap_or_default();
    let out = arguments.out.clone().unwrap_or_else(|| Path::new("runs").join(name));
    let given = Given {
        out: out.clone(),
        here: arguments.recipe.parent().unwrap_or(Path::new("")).to_path_buf(),
        minutes: arguments.minutes.or(stages.minutes),
        data: arguments.data.clone(),
        dtype: if Isa::detect().has_bf16() { "bf16" } else { "f32" },
    };
    let commands = stages.commands(&given)?;
    let n_stage = match &arguments.until {
        None => commands.len(),
        Some(name) => 1 + stages.position(name)?,
    };
    if arguments.list {
        for (stage, words) in stages.stage.iter().zip(&commands) {
            let shown = shown(&words.words);
            terminal.print(format!("# {}: {}\n{shown}\n", stage.name, stage.about))?;
        }
        return Ok(Outcome::Success);
    }
    let mut record = Record::take(&out, &stages.title)?;
    record.check(stages.stage.iter().map(|stage| stage.name.as_str()).zip(&commands))?;
    let stop = interrupt::ask_first();
    // What comes after a stage that was run anew is made of something else than before.
    let mut is_anew = false;
    for (number, (stage, words)) in stages.stage.iter().zip(&commands).enumerate().take(n_stage) {
        let makes = out.join(&stage.makes);
        if !is_anew && record.is_done(&stage.name, words) && makes.exists() {
            terminal.say(format_args!("{}: done before", stage.name));
            continue;
        }
        is_anew = true;
        let heading = format!("{}/{} {}: {}", number + 1, commands.len(), stage.name, stage.about);
        terminal.say(terminal.talk_style(Style::Bold, heading));
        terminal.say(terminal.talk_style(Style::Dim, shown(&words.words)));
        let start = Instant::now();
        let outcome = process(stage, &words.words, &makes, terminal)?;
        record.push(Done {
            stage: stage.name.clone(),
            about: stage.about.clone(),
            makes: stage.makes.clone(),
            command: words.words.clone(),
            form: words.form.clone(),
            seconds: start.elapsed().as_secs_f64(),
            done: outcome == Outcome::Success,
        })?;
        if outcome != Outcome::Success || (stop() && number + 1 < n_stage) {
            terminal.say("stopped; the same command goes on");
            return Ok(Outcome::Interrupted);
        }
    }
    let report = record.report(&given, terminal)?;
    if arguments.json {
        terminal.json(&report)?;
    }
    Ok(Outcome::Success)
}

/// A command line as a person would type it.
fn shown(words: &[String]) -> String {
    let words = words.iter().map(quoted);
    std::iter::once("llmos".to_string()).chain(words).collect::<Vec<_>>().join(" ")
}

/// Commands that keep checkpoints, and go on from the last one.
const RESUMING: [&str; 4] = ["pretrain", "finetune", "prefer", "reward"];

/// How a command ends that did its work, with a result that is none to be glad of.
const NEGATIVE: i32 = 1;

/// Runs a stage's command to its end.
///
/// # Errors
/// It failed; what it said stands above.
fn process(
    stage: &Stage,
    words: &[String],
    makes: &Path,
    terminal: &Terminal,
) -> anyhow::Result<Outcome> {
    let program = std::env::current_exe().context("cannot find this program")?;
    let mut command = Command::new(program);
    command.args(words).stdin(Stdio::null());
    if RESUMING.contains(&words[0].as_str()) && RunFolder::is_begun(makes) {
        command.arg("--resume").arg(makes);
    }
    #[cfg(unix)]
    {
        use std::os::fd::AsFd;
        let talk = std::io::stderr().as_fd().try_clone_to_owned();
        command.stdout(talk.context("cannot pass standard error on")?);
    }
    #[cfg(not(unix))]
    command.stdout(Stdio::null());
    let status = command.status().context("cannot start a stage")?;
    let outcome = match status.code() {
        Some(0) => Outcome::Success,
        // Some of its work did not succeed, such as a question too long for the model: what it made
        // is what there is.
        Some(NEGATIVE) if makes.exists() => {
            terminal.warn(format_args!(
                "the stage {} has a negative result, and goes into the next as it is",
                stage.name
            ));
            Outcome::Success
        }
        Some(code) if code == i32::from(interrupt::INTERRUPTED) => Outcome::Interrupted,
        _ => {
            return Err(failure(
                format!("the stage {} failed: {status}", stage.name),
                "what it said stands above; the same command goes on from this stage",
            ));
        }
    };
    if outcome == Outcome::Success && !makes.exists() {
        return Err(failure(
            format!("the stage {} did not make {}", stage.name, makes.display()),
            "`makes` in the recipe must name what its command writes",
        ));
    }
    Ok(outcome)
}
