//! Where a run lies.

use std::path::{Path, PathBuf};

use llmos_train::run::RunFolder;

use super::Arguments;
use crate::failure::failure;

/// The folder of runs that were given none.
const RUNS: &str = "runs";

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
        (Some(Some(resumed)), Some(out)) if resumed != out => Err(failure(
            format!("--resume {} and --out {}", resumed.display(), out.display()),
            "a run goes on in its own folder: leave --out away",
        )),
        (Some(Some(path)), _) | (_, Some(path)) => Ok(path.clone()),
        (resume, None) => {
            let names = names(arguments);
            if resume.is_none() {
                let free = |path: &PathBuf| path.symlink_metadata().is_err();
                return Ok(names.into_iter().find(free).unwrap_or_default());
            }
            let begun = |path: &PathBuf| RunFolder::is_begun(path);
            let first = names[0].clone();
            names.into_iter().take_while(begun).last().ok_or_else(|| {
                failure(
                    format!("there is no run in {}", first.display()),
                    "--resume RUN names the folder to go on with",
                )
            })
        }
    }
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
