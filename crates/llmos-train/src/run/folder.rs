//! The folder of a run: what lies where, and whose it is at the moment.

use std::fs::{File, TryLockError};
use std::io::Write;
use std::path::{Path, PathBuf};

use crate::Error;
use crate::disk;
use crate::journal::{DREAMS, METRICS};

/// A run's folder, held by this process.
///
/// ```text
/// recipe.toml              the resolved recipe, each value with its reason
/// finetune.json            of conversations: what is learnt, by whom and how
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
    /// What of [`BEFORE`] was there before the run, and [`ITSELF`] where the folder was.
    found: Vec<String>,
    /// Folders around it that were made for it, the innermost first.
    around: Vec<PathBuf>,
    _lock: File,
}

/// What stands for the folder itself in a list of what was there.
const ITSELF: &str = ".";

/// What a run makes before it begins, its lock last. A process that was killed may have left it.
const BEFORE: [&str; 9] = [
    RunFolder::DATA,
    RunFolder::FORECAST,
    RunFolder::ORDER,
    ".data.partial",
    ".data.partial.old",
    ".forecast.json.partial",
    ".finetune.json.partial",
    ".recipe.toml.partial",
    RunFolder::LOCK,
];

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
    /// The name of what a finetuning run learns, and how.
    pub const ORDER: &str = "finetune.json";
    /// The name of what answers are compared with.
    pub const REFERENCE: &str = "reference.json";
    /// The prepared text's name.
    pub const DATA: &str = "data";
    /// The name of the folder of checkpoints.
    pub const CHECKPOINTS: &str = "checkpoints";
    /// The lock's name. The file lists what was there before the run: a process that is killed leaves
    /// it to the next one.
    pub const LOCK: &str = "lock";

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
        let found = found(path);
        let is_missing = |folder: &&Path| folder.symlink_metadata().is_err();
        let around = path.ancestors().skip(1).filter(|folder| !folder.as_os_str().is_empty());
        let around = around.take_while(is_missing).map(Path::to_path_buf).collect();
        std::fs::create_dir_all(path).map_err(Error::io("make the folder", path))?;
        let name = path.join(RunFolder::LOCK);
        let mut lock = disk::lock(&name, path)?;
        lock.write_all(found.join("\n").as_bytes()).map_err(|error| {
            let _ = std::fs::remove_file(&name);
            Error::io("write", &name)(error)
        })?;
        Ok(RunFolder { path: path.to_path_buf(), found, around, _lock: lock })
    }

    /// Whether a process took the folder at `path` for a run that has not begun: it is at it, or was
    /// killed.
    pub fn was_taken(path: &Path) -> bool {
        path.join(RunFolder::LOCK).is_file() && !RunFolder::is_begun(path)
    }

    /// Whether the folder at `path` was taken for a run that never began, by a process that is no more:
    /// the same run may have it.
    pub fn is_left(path: &Path) -> bool {
        RunFolder::was_taken(path) && !RunFolder::is_alive(path)
    }

    /// True while a process has the run at `path`.
    pub fn is_alive(path: &Path) -> bool {
        // As one reader among others: two who watch do not see each other, and a run that starts in
        // this moment asks again.
        let lock = File::open(path.join(RunFolder::LOCK));
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

    /// Whether something of that name, which a run makes before it begins, was there before it.
    pub fn was_there(&self, name: &str) -> bool {
        self.found.iter().any(|found| found == name)
    }

    /// Gives up a run that has not begun: what was made for it goes, and whatever was there before
    /// stays.
    pub fn abandon(self) {
        for path in BEFORE.iter().filter(|name| !self.was_there(name)).map(|name| self.join(name)) {
            // Most often it is not there.
            let _ = match path.is_dir() {
                true => std::fs::remove_dir_all(&path),
                false => std::fs::remove_file(&path),
            };
        }
        if !self.was_there(ITSELF) {
            // What somebody else put something into stays, and so does what is around it.
            let made = [&self.path].into_iter().chain(&self.around);
            let _ = made.map(std::fs::remove_dir).find(Result::is_err);
        }
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
        path.join(RunFolder::RECIPE).is_file() || RunFolder::latest(path).is_some()
    }

    /// The last checkpoint of the run at `path`.
    pub fn latest(path: &Path) -> Option<PathBuf> {
        Some(super::checkpoint::latest(&path.join(RunFolder::CHECKPOINTS))?.1)
    }

    /// The recipe of the run: its own, or where that is lost the one in the last checkpoint.
    pub fn recipe(&self) -> PathBuf {
        let own = self.join(RunFolder::RECIPE);
        match RunFolder::latest(&self.path) {
            Some(latest) if !own.is_file() => latest.join(RunFolder::RECIPE),
            _ => own,
        }
    }
}

/// What of [`BEFORE`] is there, and the folder itself; or was, before a process that was killed.
fn found(path: &Path) -> Vec<String> {
    if let Ok(listed) = std::fs::read_to_string(path.join(RunFolder::LOCK)) {
        return listed.lines().map(str::to_string).collect();
    }
    let there = |name: &&str| path.join(name).symlink_metadata().is_ok();
    [ITSELF].into_iter().chain(BEFORE).filter(there).map(str::to_string).collect()
}

/// A folder that is not there, holds nothing of anyone's, or holds a run.
fn is_run_or_empty(path: &Path) -> bool {
    if path.symlink_metadata().is_err() || RunFolder::is_begun(path) {
        return true;
    }
    let is_ours = |entry: std::io::Result<std::fs::DirEntry>| {
        entry.is_ok_and(|entry| BEFORE.iter().any(|name| entry.file_name() == *name))
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
        check(&[RunFolder::LOCK, "data/tokenizer.json", RunFolder::FORECAST], true);
        check(&[RunFolder::LOCK, RunFolder::ORDER], true);
        check(&[".forecast.json.partial", ".recipe.toml.partial"], true);
        check(&["checkpoints/step-7/recipe.toml", "notes.txt"], true);
        check(&[RunFolder::FORECAST, "notes.txt"], false);
        check(&[RunFolder::RECIPE, "notes.txt"], true);
    }

    #[test]
    fn what_was_there_before_a_run_survives_it() {
        let scratch = Scratch::new();
        let (mine, run) = (scratch.path().join("mine"), scratch.path().join("run"));
        let make = |folder: &RunFolder, name: &str| folder.write(name, b"ours").unwrap();
        // A folder of one's own, with data of one's own.
        scratch.write("mine/data/mine.txt", b"mine");
        let folder = RunFolder::take(&mine).unwrap();
        assert!(folder.was_there(RunFolder::DATA) && !folder.was_there(RunFolder::ORDER));
        make(&folder, RunFolder::ORDER);
        make(&folder, RunFolder::FORECAST);
        // Killed: the next process still knows what it found.
        drop(folder);
        assert!(RunFolder::was_taken(&mine));
        RunFolder::take(&mine).unwrap().abandon();
        assert!(!mine.join(RunFolder::ORDER).exists() && !RunFolder::was_taken(&mine));
        assert_eq!(std::fs::read(mine.join("data/mine.txt")).unwrap(), b"mine");
        assert_eq!(std::fs::read_dir(&mine).unwrap().count(), 1);
        // A folder that a run made for itself, and data as well.
        let folder = RunFolder::take(&run).unwrap();
        scratch.write("run/data/tokenizer.json", b"ours");
        drop(folder);
        let folder = RunFolder::take(&run).unwrap();
        assert!(!folder.was_there(RunFolder::DATA));
        assert!(RunFolder::was_taken(&run) && !RunFolder::is_left(&run), "it is held");
        folder.abandon();
        assert!(!run.exists());
        // And the folders around it, as far as nobody else uses them.
        let inner = scratch.path().join("runs/today/run");
        RunFolder::take(&inner).unwrap().abandon();
        assert!(!scratch.path().join("runs").exists());
        let folder = RunFolder::take(&inner).unwrap();
        scratch.write("runs/notes.txt", b"mine");
        folder.abandon();
        assert!(!scratch.path().join("runs/today").exists());
        assert!(scratch.path().join("runs/notes.txt").is_file());
    }

    #[test]
    fn a_recipe_that_is_lost_is_that_of_the_last_checkpoint() {
        let scratch = Scratch::new();
        for step in [4, 12] {
            scratch.write(&format!("checkpoints/step-{step}/recipe.toml"), b"");
        }
        let folder = RunFolder::take(scratch.path()).unwrap();
        assert!(folder.recipe().ends_with("step-12/recipe.toml"));
        folder.write(RunFolder::RECIPE, b"").unwrap();
        assert_eq!(folder.recipe(), folder.join(RunFolder::RECIPE));
    }
}
