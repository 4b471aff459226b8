//! Which command goes on with a run, and what is none to go on with.

use std::path::{Path, PathBuf};

use llmos_train::run::RunFolder;
use serde_json::Value;

use crate::failure::failure;
use crate::terminal::quoted;

/// The loss under which `finetune.json` says that scores are learnt.
pub(crate) const REWARD: &str = "reward";

/// The command that goes on with the run at `run`.
pub(crate) fn command_of(run: &Path) -> &'static str {
    let Ok(bytes) = std::fs::read(run.join(RunFolder::ORDER)) else { return "pretrain" };
    let order: Value = serde_json::from_slice(&bytes).unwrap_or_default();
    match order["preference"]["loss"].as_str() {
        None => "finetune",
        Some(REWARD) => "reward train",
        Some(_) => "prefer",
    }
}

/// Refuses to go on with what is none of the runs of `command`.
///
/// # Errors
/// It is a checkpoint, or another command's run.
pub(crate) fn check(path: &Path, command: &str) -> anyhow::Result<()> {
    let shown = path.display();
    if let Some(run) = run_of_checkpoint(path) {
        let (own, typed) = (command_of(&run), quoted(&run));
        return Err(failure(
            format!("{shown} is a checkpoint of the run {}", run.display()),
            format!("`llmos {own} --resume {typed}` goes on from the last one"),
        ));
    }
    let own = command_of(path);
    if RunFolder::is_begun(path) && own != command {
        return Err(failure(
            format!("{shown} is a run of {own}, and cannot go on with {command}"),
            format!("`llmos {own} --resume {}` goes on with it", quoted(path)),
        ));
    }
    Ok(())
}

/// The run whose checkpoint lies at a path.
pub(crate) fn run_of_checkpoint(path: &Path) -> Option<PathBuf> {
    let full = path.canonicalize().ok()?;
    let folder = full.parent()?;
    let is_one = folder.file_name()? == RunFolder::CHECKPOINTS;
    let run = folder.parent().filter(|run| is_one && RunFolder::is_begun(run))?;
    // As it was written, where that says it.
    let written = path.ancestors().nth(2).filter(|written| !written.as_os_str().is_empty());
    Some(written.filter(|written| RunFolder::is_begun(written)).unwrap_or(run).to_path_buf())
}

/// Whether a new run may have a name: nothing has it, or what a killed process left before its run
/// began.
pub(crate) fn is_free(path: &Path) -> bool {
    path.symlink_metadata().is_err() || RunFolder::is_left(path)
}

/// Whether two paths name the same folder, however they are written.
pub(crate) fn is_same(one: &Path, other: &Path) -> bool {
    let full = |path: &Path| path.canonicalize().ok();
    one == other || full(one).is_some_and(|one| Some(one) == full(other))
}

/// The run among these that was worked on last.
pub(crate) fn newest<'a>(runs: impl Iterator<Item = &'a PathBuf>) -> Option<&'a PathBuf> {
    let worked_on = |path: &&PathBuf| {
        path.join(RunFolder::METRICS).metadata().and_then(|metadata| metadata.modified()).ok()
    };
    runs.max_by_key(worked_on)
}
