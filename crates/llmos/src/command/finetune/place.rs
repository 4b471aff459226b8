//! Where a run of conversations lies.

use std::path::{Path, PathBuf};

use llmos_train::run::RunFolder;

use super::Arguments;
use crate::command::pretrain::{RUNS, no_run};
use crate::failure::failure;
use crate::resume;

/// The run's folder: what `--resume` or `--out` says, or a name of its own.
///
/// # Errors
/// `--resume` and `--out` name two folders; there is no run of `command` to go on with.
pub(super) fn out(arguments: &Arguments, command: &str) -> anyhow::Result<PathBuf> {
    // One that was killed before it began is begun by its whole command.
    let is_whole = arguments.base.is_some() && !arguments.data.is_empty();
    if let Some(Some(run)) = &arguments.resume {
        if arguments.out.as_ref().is_some_and(|out| !resume::is_same(out, run)) {
            return Err(failure(
                format!("--resume {} and --out name two folders", run.display()),
                "leave --out out: the run stays where it is",
            ));
        }
        resume::check(run, command)?;
        return match RunFolder::is_begun(run) || is_whole {
            true => Ok(run.clone()),
            false => Err(no_run(run)),
        };
    }
    let is_resumed = arguments.resume.is_some();
    if let Some(out) = &arguments.out {
        if is_resumed {
            resume::check(out, command)?;
        }
        return Ok(out.clone());
    }
    let names = match is_resumed && arguments.base.is_none() {
        true => std::fs::read_dir(RUNS)
            .into_iter()
            .flatten()
            .filter_map(|entry| Some(entry.ok()?.path()))
            .collect(),
        false => names(arguments, command),
    };
    if !is_resumed {
        return Ok(names.into_iter().find(|name| resume::is_free(name)).unwrap_or_default());
    }
    let is_meant =
        |path: &&PathBuf| RunFolder::is_begun(path) && resume::command_of(path) == command;
    let newest = resume::newest(names.iter().filter(is_meant));
    newest.or(names.first().filter(|_| is_whole)).cloned().ok_or_else(|| {
        failure(
            match &arguments.base {
                None => format!("there is no run of {command} in {RUNS}"),
                Some(_) => format!("there is no run of {command} in {}", names[0].display()),
            },
            "--resume RUN names the folder to go on with",
        )
    })
}

/// Names for a run of these arguments, the first of which is its own.
fn names(arguments: &Arguments, command: &str) -> Vec<PathBuf> {
    let base = Path::new(arguments.base.as_deref().unwrap_or_default());
    let stem = base.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let what = match command {
        "finetune" => "finetuned",
        "prefer" => "preferred",
        _ => "reward",
    };
    let name = |number: usize| match number {
        1 => format!("{stem}-{what}"),
        number => format!("{stem}-{what}-{number}"),
    };
    (1..1000).map(|number| Path::new(RUNS).join(name(number))).collect()
}
