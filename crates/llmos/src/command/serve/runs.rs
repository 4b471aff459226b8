//! Training runs for the server's page: the folders right below one folder, which are only read.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::UNIX_EPOCH;

use llmos_serve::{Runs, Trouble, TroubleKind};
use llmos_train::journal::{DREAMS, METRICS};
use serde_json::{Value, json};

use crate::command::watch::run_folder::{RunFolder, State};
use crate::failure::{hint_of, message_of};
use crate::model_name;

/// Most runs that are listed, the last changed ones.
const MOST_RUNS: usize = 100;

/// Most entries of the folder that are looked at.
const MOST_ENTRIES: usize = 10_000;

/// Most rows of metrics in an answer: who asks on with `after` gets the next ones.
const MOST_ROWS: usize = 10_000;

/// Most dreams in an answer, the last ones.
const MOST_DREAMS: usize = 100;

/// Metrics of a run that are larger are not read.
const LARGEST_METRICS: u64 = 64 << 20;

/// Recipes and orders that are larger are other files.
const LARGEST_RECIPE: u64 = 1 << 20;

const RECIPE: &str = llmos_train::run::RunFolder::RECIPE;
const ORDER: &str = llmos_train::run::RunFolder::ORDER;
const FORECAST: &str = llmos_train::run::RunFolder::FORECAST;

/// All runs of a folder.
pub(super) struct Folder {
    folder: PathBuf,
    /// Those that were read before, so that only what is new is read again.
    known: Mutex<BTreeMap<String, RunFolder>>,
}

impl Folder {
    pub(super) fn new(folder: PathBuf) -> Folder {
        Folder { folder, known: Mutex::default() }
    }

    /// The path of a run, if there is one of that name right here.
    fn path(&self, id: &str) -> Option<PathBuf> {
        let mut parts = Path::new(id).components();
        let is_name = matches!(parts.next(), Some(std::path::Component::Normal(part)) if part == id)
            && parts.next().is_none();
        let path = self.folder.join(id);
        (is_name && is_run(&path)).then_some(path)
    }

    fn known(&self) -> MutexGuard<'_, BTreeMap<String, RunFolder>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// True for a folder with a run whose files are its own: nothing in it leads elsewhere.
fn is_run(path: &Path) -> bool {
    let is_folder = |path: &Path| path.symlink_metadata().is_ok_and(|about| about.is_dir());
    let is_own = |name: &&str| match path.join(name).symlink_metadata() {
        Ok(about) => about.is_file() && (*name != METRICS || about.len() <= LARGEST_METRICS),
        Err(error) => error.kind() == std::io::ErrorKind::NotFound,
    };
    let has = |name: &str| path.join(name).is_file();
    is_folder(path)
        && (has(METRICS) || has(RECIPE))
        && [METRICS, DREAMS, RECIPE, ORDER, FORECAST, "lock"].iter().all(is_own)
}

/// Seconds since 1970 when something was last written to it.
fn updated(path: &Path) -> u64 {
    let changed = |name: &str| path.join(name).metadata().ok()?.modified().ok();
    let last = [METRICS, DREAMS, RECIPE].into_iter().filter_map(changed).max();
    last.and_then(|time| time.duration_since(UNIX_EPOCH).ok()).map_or(0, |since| since.as_secs())
}

fn small(path: &Path) -> Option<String> {
    let about = path.metadata().ok()?;
    (about.len() <= LARGEST_RECIPE).then(|| std::fs::read_to_string(path).ok())?
}

/// What kind of run it is, and the model that it began with.
fn kind(path: &Path) -> (&'static str, Option<String>) {
    let order: Option<Value> =
        small(&path.join(ORDER)).and_then(|text| serde_json::from_str(&text).ok());
    let Some(order) = order else { return ("pretrain", None) };
    let kind = match order["preference"]["loss"].as_str() {
        Some("reward") => "reward",
        Some(_) => "prefer",
        None => "finetune",
    };
    (kind, order["base"].as_str().map(model_name::short_name))
}

fn head(id: &str, path: &Path, run: &RunFolder) -> Value {
    let (kind, model) = kind(path);
    let state = match run.state() {
        State::Running => "running",
        State::Stopped => "stopped",
        State::Finished => "done",
    };
    let row = run.last();
    json!({
        "id": id,
        "title": run.name,
        "kind": kind,
        "state": state,
        "step": row.map_or(0, |row| row.step),
        "steps": (run.steps > 0).then_some(run.steps),
        "loss": row.and_then(|row| row.loss),
        "updated": updated(path),
        "model": model,
        "seconds_left": run.seconds_left(),
    })
}

/// The run, with what was written since it was last read.
fn fresh<'a>(
    known: &'a mut BTreeMap<String, RunFolder>,
    id: &str,
    path: &Path,
) -> anyhow::Result<&'a RunFolder> {
    use std::collections::btree_map::Entry;
    while known.len() >= 2 * MOST_RUNS {
        known.pop_first();
    }
    match known.entry(id.to_string()) {
        Entry::Vacant(place) => Ok(place.insert(RunFolder::open(path)?)),
        Entry::Occupied(place) => {
            let run = place.into_mut();
            run.refresh()?;
            Ok(run)
        }
    }
}

fn trouble(error: &anyhow::Error) -> Trouble {
    Trouble { kind: TroubleKind::Outside, message: message_of(error), hint: hint_of(error) }
}

impl Runs for Folder {
    fn list(&self) -> Result<Vec<Value>, Trouble> {
        let entries = std::fs::read_dir(&self.folder).map_err(|error| Trouble {
            kind: TroubleKind::Outside,
            message: format!("the folder of runs cannot be read: {error}"),
            hint: "serve --runs DIR says where they are".to_string(),
        })?;
        let names = entries.flatten().take(MOST_ENTRIES);
        let ids = names.filter_map(|entry| entry.file_name().into_string().ok());
        let mut found: Vec<(u64, String, PathBuf)> = ids
            .filter(|id| !id.starts_with('.'))
            .filter_map(|id| self.path(&id).map(|path| (updated(&path), id, path)))
            .collect();
        found.sort_by(|a, b| b.0.cmp(&a.0).then_with(|| a.1.cmp(&b.1)));
        found.truncate(MOST_RUNS);
        let mut known = self.known();
        known.retain(|id, _| found.iter().any(|(_, other, _)| other == id));
        // One that cannot be read does not hide the others.
        let heads = found.iter().filter_map(|(_, id, path)| {
            let run = fresh(&mut known, id, path).ok()?;
            Some(head(id, path, run))
        });
        Ok(heads.collect())
    }

    fn one(&self, id: &str, after: Option<u64>) -> Result<Option<Value>, Trouble> {
        let Some(path) = self.path(id) else { return Ok(None) };
        let mut known = self.known();
        let run = fresh(&mut known, id, &path).map_err(|error| trouble(&error))?;
        let begin = run.rows().partition_point(|row| after.is_some_and(|after| row.step <= after));
        let rows = &run.rows()[begin..];
        let metrics: Vec<Value> =
            rows.iter().take(MOST_ROWS).filter_map(|row| serde_json::to_value(row).ok()).collect();
        let dreams = &run.dreams()[run.dreams().len().saturating_sub(MOST_DREAMS)..];
        let recipe = small(&path.join(RECIPE)).and_then(|text| text.parse::<toml::Table>().ok());
        Ok(Some(json!({
            "run": head(id, &path, run),
            "recipe": recipe.and_then(|recipe| serde_json::to_value(recipe).ok()),
            "forecast": run.forecast,
            "beside_forecast": run.beside_forecast(),
            "more": rows.len() > metrics.len(),
            "metrics": metrics,
            "dreams": dreams,
        })))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(name: &str) -> PathBuf {
        let path = std::env::temp_dir().join(format!("llmos-runs-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(path.join("runs/a")).unwrap();
        path
    }

    #[test]
    fn a_run_is_read_as_it_grows_and_by_steps() {
        let home = folder("grow");
        let run = home.join("runs/a");
        std::fs::write(run.join(RECIPE), "[train]\nsteps = 4\n").unwrap();
        let row = |step: u64| format!("{{\"step\":{step},\"loss\":{}.5}}\n", 9 - step);
        std::fs::write(run.join(METRICS), row(1) + &row(2)).unwrap();
        std::fs::write(run.join(DREAMS), "{\"step\":2,\"text\":\"hm\"}\n").unwrap();
        let runs = Folder::new(home.join("runs"));
        let list = runs.list().unwrap();
        assert_eq!(list.len(), 1);
        let expected = ("a", "pretrain", "stopped", 2, 4);
        let found = &list[0];
        let text = |key: &str| found[key].as_str().unwrap();
        let number = |key: &str| found[key].as_u64().unwrap();
        let got = (text("id"), text("kind"), text("state"), number("step"), number("steps"));
        assert_eq!(got, expected);
        std::fs::write(run.join(METRICS), (1..=4).map(row).collect::<String>()).unwrap();
        let order = "{\"base\":\"/models/tiny.gguf\",\"preference\":{\"loss\":\"dpo\"}}";
        std::fs::write(run.join(ORDER), order).unwrap();
        let one = runs.one("a", Some(2)).unwrap().unwrap();
        assert_eq!((&one["run"]["state"], &one["run"]["loss"]), (&"done".into(), &5.5.into()));
        assert_eq!((&one["run"]["kind"], &one["run"]["model"]), (&"prefer".into(), &"tiny".into()));
        let steps: Vec<_> =
            one["metrics"].as_array().unwrap().iter().map(|row| row["step"].as_u64()).collect();
        assert_eq!(steps, [Some(3), Some(4)]);
        assert_eq!(
            (&one["dreams"][0]["text"], &one["recipe"]["train"]["steps"]),
            (&"hm".into(), &4.into())
        );
        std::fs::remove_dir_all(home).unwrap();
    }

    #[cfg(unix)]
    #[test]
    fn nothing_leads_out_of_the_folder() {
        use std::os::unix::fs::symlink;
        let home = folder("out");
        let outside = home.join("outside");
        std::fs::create_dir(&outside).unwrap();
        std::fs::write(outside.join(METRICS), "{\"step\":1}\n").unwrap();
        let runs_folder = home.join("runs");
        symlink(&outside, runs_folder.join("link")).unwrap();
        // A run whose metrics are another file's.
        std::fs::write(runs_folder.join("a").join(RECIPE), "").unwrap();
        symlink(outside.join(METRICS), runs_folder.join("a").join(METRICS)).unwrap();
        let runs = Folder::new(runs_folder);
        assert!(runs.list().unwrap().is_empty());
        for id in ["link", "a", "../outside", "..", ".", "", "a/../../outside", "/etc"] {
            assert_eq!(runs.one(id, None).unwrap(), None, "{id}");
        }
        std::fs::remove_dir_all(home).unwrap();
    }
}
