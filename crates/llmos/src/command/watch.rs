//! `llmos watch`: follow a run that is going on, or look at one that is over.

pub(crate) mod run_folder;
pub(crate) mod screen;
mod view;

use std::path::{Path, PathBuf};
use std::time::Duration;

use llmos_train::journal::Row;
use llmos_train::picture;

use crate::Outcome;
use crate::failure::{Explain, failure};
use crate::registry::write_whole;
use crate::step_line::step_line;
use crate::terminal::Terminal;
use run_folder::{RunFolder, State};

/// Follow a training run that is going on, or look at one that is over.
///
/// RUN is the folder that `pretrain --out` writes. In a terminal it is a view of loss, speed, time
/// left and what the model writes as it learns; q, Esc or Ctrl-C leaves it, the run goes on
/// undisturbed, and the same command comes back to it. Without a terminal it is the line of the last
/// step. Several runs share one view, and one picture.
#[derive(clap::Args, Debug)]
pub(crate) struct Arguments {
    /// The folders of runs.
    #[arg(required = true, value_name = "RUN")]
    runs: Vec<PathBuf>,
    /// The line of the last step, in a terminal too.
    #[arg(long)]
    plain: bool,
    /// Lines of new steps as they come, until no run is going on.
    #[arg(long)]
    follow: bool,
    /// Print how it stands now as JSON, one object a run and line.
    #[arg(long, conflicts_with_all = ["plain", "follow", "picture"])]
    json: bool,
    /// Write loss, learning rate and speed as a picture to a .svg file; - is standard output.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["plain", "follow"])]
    picture: Option<PathBuf>,
}

/// How often files are looked at.
const INTERVAL: Duration = Duration::from_millis(250);

pub(crate) fn run(arguments: Arguments, terminal: &Terminal) -> anyhow::Result<Outcome> {
    let mut runs = arguments
        .runs
        .iter()
        .map(|folder| RunFolder::open(folder))
        .collect::<Result<Vec<_>, _>>()?;
    name_apart(&mut runs, &arguments.runs);
    if let Some(path) = &arguments.picture {
        draw(&runs, path, terminal)?;
    } else if arguments.json {
        for run in &runs {
            terminal.json(&run.latest())?;
        }
    } else if arguments.plain || arguments.follow || !screen::is_possible(terminal) {
        lines(&mut runs, arguments.follow, terminal)?;
    } else {
        screen::show(&mut runs)?;
    }
    Ok(Outcome::Success)
}

/// Calls runs by their paths where their names are the same.
fn name_apart(runs: &mut [RunFolder], paths: &[PathBuf]) {
    let names: Vec<String> = runs.iter().map(|run| run.name.clone()).collect();
    for (run, path) in runs.iter_mut().zip(paths) {
        if names.iter().filter(|name| **name == run.name).count() > 1 {
            run.name = path.display().to_string();
        }
    }
}

/// Writes the picture of all runs.
fn draw(runs: &[RunFolder], path: &Path, terminal: &Terminal) -> anyhow::Result<()> {
    let is_stream = path.as_os_str() == "-";
    // A slip of the hand does not replace a file of the run.
    if !is_stream && path.extension().is_none_or(|ending| !ending.eq_ignore_ascii_case("svg")) {
        return Err(failure(
            format!("{} is no name for an SVG picture", path.display()),
            "give a name that ends in .svg",
        ));
    }
    let shown: Vec<_> =
        runs.iter().map(|run| picture::Run { name: &run.name, rows: run.rows() }).collect();
    let text = picture::svg(&shown).explain(
        || format!("cannot draw {}", path.display()),
        || "--json gives the numbers".into(),
    )?;
    if is_stream {
        return terminal.print(text);
    }
    write_whole(path, text.as_bytes())?;
    terminal.say(format_args!("{}: open it in a browser", path.display()));
    Ok(())
}

/// Writes the line of each run's last step, and of the next ones while any run is going on.
fn lines(runs: &mut [RunFolder], follow: bool, terminal: &Terminal) -> anyhow::Result<()> {
    let several = runs.len() > 1;
    let line = |run: &RunFolder, row: &Row| {
        let left = run.last().filter(|last| last.step == row.step).and(run.seconds_left());
        let line = step_line(row, run.steps, left);
        if several { format!("{}: {line}\n", run.name) } else { format!("{line}\n") }
    };
    for run in &*runs {
        match run.last() {
            Some(row) => terminal.print(line(run, row))?,
            None => terminal.say(format_args!("{}: no step yet", run.name)),
        }
    }
    let mut goes_on = follow;
    while goes_on {
        goes_on = false;
        for run in &mut *runs {
            let came = run.refresh()?;
            for row in &run.rows()[run.rows().len() - came..] {
                terminal.print(line(run, row))?;
            }
            goes_on |= run.state() == State::Running;
        }
        if goes_on {
            std::thread::sleep(INTERVAL);
        }
    }
    for run in runs.iter().filter(|run| run.state() != State::Running) {
        terminal.say(format_args!("{} is {}", run.name, run.state().name()));
    }
    Ok(())
}
