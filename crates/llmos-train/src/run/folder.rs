//! The folder of a run: what lies where, and whose it is at the moment.

use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};

use crate::Error;
use crate::disk;
use crate::journal::{DREAMS, METRICS};

/// A run's folder, held by this process.
///
/// ```text
/// recipe.toml              the resolved recipe, each value with its reason
/// metrics.jsonl            a row a step
/// dreams.jsonl             what the model writes as it learns
/// picture.svg              loss, learning rate and speed, at the end
/// forecast.json            what was said beforehand, and at the end what came of it
/// reference.json           log-probabilities of judged answers by what the model is compared with
/// data/                    the prepared text, where it was prepared on the way
/// checkpoints/step-N/      all that is needed to go on from step N; a model as well
/// config.json  model.safetensors  tokenizer.json …   the finished model
/// ```
#[derive(Debug)]
pub struct RunFolder {
    path: PathBuf,
    _lock: File,
}

/// The lock's name.
const LOCK: &str = "lock";

impl RunFolder {
    /// The resolved recipe's name.
    pub const RECIPE: &str = "recipe.toml";
    /// The metrics' name.
    pub const METRICS: &str = METRICS;
    /// The dreams' name.
    pub const DREAMS: &str = DREAMS;
    /// The name of the picture of a run that has ended.
    pub const PICTURE: &str = "picture.svg";
    /// The forecast's name.
    pub const FORECAST: &str = "forecast.json";
    /// The name of what answers are compared with.
    pub const REFERENCE: &str = "reference.json";
    /// The prepared text's name.
    pub const DATA: &str = "data";
    /// The name of the folder of checkpoints.
    pub const CHECKPOINTS: &str = "checkpoints";

    /// Takes a folder for a run, which is made where it is not there yet.
    ///
    /// # Errors
    /// [`Error::Locked`] while another process has it; [`Error::Setting`] where the folder is
    /// something else's; [`Error::Io`] where the system refuses.
    pub fn take(path: &Path) -> Result<RunFolder, Error> {
        if !is_run_or_empty(path) {
            let problem = format!("{} exists, and is no run", path.display());
            return Err(Error::Setting { key: "out".into(), problem });
        }
        std::fs::create_dir_all(path).map_err(Error::io("make the folder", path))?;
        let lock = disk::lock(&path.join(LOCK), path)?;
        Ok(RunFolder { path: path.to_path_buf(), _lock: lock })
    }

    /// True while a process has the run at `path`.
    pub fn is_alive(path: &Path) -> bool {
        // As one reader among others: two who watch do not see each other, and a run that starts in
        // this moment asks again.
        let lock = File::open(path.join(LOCK));
        lock.is_ok_and(|lock| matches!(lock.try_lock_shared(), Err(TryLockError::WouldBlock)))
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The path of something in it.
    pub fn join(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Gives up a run that has not begun: what was prepared for it goes, and the folder where nothing
    /// else is in it.
    pub fn abandon(self) {
        let _ = std::fs::remove_dir_all(self.join(RunFolder::DATA));
        let _ = std::fs::remove_file(self.join(LOCK));
        let _ = std::fs::remove_dir(&self.path);
    }

    /// Writes a small file in it, whole or not at all.
    ///
    /// # Errors
    /// [`Error::Io`]; the file that was there stays.
    pub fn write(&self, name: &str, bytes: &[u8]) -> Result<(), Error> {
        disk::write_bytes(&self.join(name), bytes)
    }

    /// Whether a run lies at `path`: it has a recipe, or checkpoints.
    pub fn is_begun(path: &Path) -> bool {
        path.join(RunFolder::RECIPE).is_file()
            || super::checkpoint::latest(&path.join(RunFolder::CHECKPOINTS)).is_some()
    }
}

/// A folder that is not there, holds nothing of anyone's, or holds a run.
fn is_run_or_empty(path: &Path) -> bool {
    if path.symlink_metadata().is_err() || path.join(RunFolder::RECIPE).is_file() {
        return true;
    }
    // A process that was killed may have left what comes before the recipe.
    let ours = [
        LOCK,
        RunFolder::DATA,
        RunFolder::FORECAST,
        ".data.partial",
        ".forecast.json.partial",
        ".recipe.toml.partial",
    ];
    let is_ours = |entry: std::io::Result<std::fs::DirEntry>| {
        entry.is_ok_and(|entry| ours.iter().any(|name| entry.file_name() == *name))
    };
    std::fs::read_dir(path).is_ok_and(|mut entries| entries.all(is_ours))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::scratch::Scratch;

    #[test]
    fn what_a_process_left_before_its_recipe_is_no_obstacle() {
        let check = |names: &[&str], is_ours: bool| {
            let scratch = Scratch::new();
            names.iter().for_each(|name| drop(scratch.write(name, b"x")));
            assert_eq!(RunFolder::take(scratch.path()).is_ok(), is_ours, "{names:?}");
        };
        check(&[], true);
        check(&[LOCK, "data/tokenizer.json", RunFolder::FORECAST], true);
        check(&[".forecast.json.partial", ".recipe.toml.partial"], true);
        check(&[RunFolder::FORECAST, "notes.txt"], false);
        check(&[RunFolder::RECIPE, "notes.txt"], true);
    }
}
