//! Where a run lies.

use std::path::{Path, PathBuf};

use llmos_train::recipe::{Draft, Facts};
use llmos_train::run::RunFolder;

use super::Arguments;
use crate::failure::failure;
use crate::resume;

/// The folder of runs that were given none.
pub(in crate::command) const RUNS: &str = "runs";

/// The run's folder: what `--resume` or `--out` says, or a name of its own.
///
/// # Errors
/// `--resume` and `--out` name two folders; there is no run to go on with.
pub(super) fn out(arguments: &mut Arguments) -> anyhow::Result<PathBuf> {
    // `--resume recipe.toml`: the flag took the recipe for its value.
    if let Some(Some(path)) = &arguments.resume
        && path.is_file()
        && arguments.run.recipe.is_none()
    {
        arguments.run.recipe = Some(path.clone());
        arguments.resume = Some(None);
    }
    // `RUN --resume`: the folder stands where a recipe would.
    if arguments.resume == Some(None)
        && arguments.run.out.is_none()
        && let Some(path) = arguments.run.recipe.take_if(|path| path.is_dir())
    {
        arguments.resume = Some(Some(path));
    }
    match (&arguments.resume, &arguments.run.out) {
        (Some(Some(resumed)), Some(out)) if !resume::is_same(resumed, out) => Err(failure(
            format!("--resume {} and --out {} name two folders", resumed.display(), out.display()),
            "leave --out out: the run stays where it is",
        )),
        (Some(Some(path)), _) | (_, Some(path)) => Ok(path.clone()),
        (resume, None) => {
            let is_named = arguments.run.recipe.is_some() || !arguments.run.data.is_empty();
            let names = match resume.is_some() && !is_named {
                true => begun(),
                false => names(arguments),
            };
            if resume.is_none() {
                return Ok(names
                    .into_iter()
                    .find(|name| resume::is_free(name))
                    .unwrap_or_default());
            }
            newest(&names, &arguments.run.draft()?, is_named)
        }
    }
}

/// The run of these names that was worked on last, of those that may be meant; where there is none,
/// one that was killed before it began, if the command is whole.
fn newest(names: &[PathBuf], given: &Draft, is_whole: bool) -> anyhow::Result<PathBuf> {
    let is_ours =
        |path: &&PathBuf| RunFolder::is_begun(path) && resume::command_of(path) == "pretrain";
    let begun: Vec<&PathBuf> = names.iter().filter(is_ours).collect();
    let meant = begun.iter().copied().filter(|path| may_be(path, given));
    let left = names.iter().find(|path| is_whole && RunFolder::is_left(path));
    resume::newest(meant).or(left).cloned().ok_or_else(|| {
        let first = names.first().map_or(Path::new(RUNS), PathBuf::as_path).display();
        let message = match begun.is_empty() {
            true => format!("there is no run in {first}"),
            false => format!("neither {first} nor one with a number after it has these values"),
        };
        failure(message, "--resume RUN names the folder to go on with")
    })
}

/// Whether a run can go on with what is given, on the same texts.
fn may_be(run: &Path, given: &Draft) -> bool {
    let stored = Draft::read(&run.join(RunFolder::RECIPE));
    let texts = |stored: &Draft| {
        let full = |path: &str| Some(Path::new(path).canonicalize().ok()?.display().to_string());
        let own = stored.paths().map(|path| Some(path.to_string()));
        given.paths().next().is_none() || given.paths().map(full).eq(own)
    };
    stored.is_ok_and(|stored| {
        let recipe = |draft: &Draft| draft.resolve(&Facts::default()).map(|made| made.recipe);
        let goes_on = recipe(&stored).and_then(|before| {
            let later = recipe(&given.over(&stored))?;
            before.goes_on_as(&later)
        });
        texts(&stored) && goes_on.is_ok()
    })
}

/// Everything in the folder of runs.
fn begun() -> Vec<PathBuf> {
    let entries = std::fs::read_dir(RUNS).into_iter().flatten().flatten();
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
    paths.sort();
    paths
}

/// Names for a run of these arguments, the first of which is its own.
fn names(arguments: &Arguments) -> Vec<PathBuf> {
    let path = arguments.run.recipe.as_ref().or(arguments.run.data.first());
    let stem = path.and_then(|path| path.file_stem()).unwrap_or_default();
    let stem = if stem.is_empty() { "run".into() } else { stem.to_string_lossy() };
    let name = |number: usize| match number {
        1 => stem.to_string(),
        number => format!("{stem}-{number}"),
    };
    (1..1000).map(|number| Path::new(RUNS).join(name(number))).collect()
}
