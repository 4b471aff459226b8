//! A run's folder: what is in it now, and whether somebody is writing it.

use std::path::{Path, PathBuf};

use llmos_train::journal::{DREAMS, Dream, Journal, METRICS, Pace, Row};
use llmos_train::plan::{Comparison, Forecast, ForecastFile, Outcome};
use serde::Serialize;

use crate::failure::{Explain, failure};
use crate::resume;

/// A recipe is some kilobytes; what is larger is another file.
const LARGEST_RECIPE: u64 = 1 << 20;

/// What is known of a run's life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum State {
    /// A process holds its lock.
    Running,
    /// Nobody does, and steps are missing.
    Stopped,
    /// All steps were done.
    Finished,
}

impl State {
    pub(crate) fn name(self) -> &'static str {
        match self {
            State::Running => "running",
            State::Stopped => "stopped",
            State::Finished => "finished",
        }
    }
}

/// A run that is followed.
pub(crate) struct RunFolder {
    folder: PathBuf,
    /// What people call it.
    pub(crate) name: String,
    metrics: Journal<Row>,
    dreams: Journal<Dream>,
    /// Optimizer steps in all; 0 where the recipe does not say.
    pub(crate) steps: u64,
    /// Layers and width, for the heading.
    pub(crate) shape: Option<String>,
    pub(crate) forecast: Option<Forecast>,
    /// What came of it, which the process that trained it keeps at the end.
    outcome: Option<Outcome>,
    is_alive: bool,
}

/// What `--json` prints.
#[derive(Serialize)]
pub(crate) struct Latest<'a> {
    run: &'a str,
    folder: &'a Path,
    state: State,
    step: Option<u64>,
    steps: Option<u64>,
    tokens: Option<u64>,
    loss: Option<f64>,
    lr: Option<f64>,
    grad_norm: Option<f64>,
    tokens_per_s: Option<f64>,
    step_ms: Option<f64>,
    seconds_left: Option<f64>,
    /// After which step the last evaluation was.
    val_step: Option<u64>,
    val_loss: Option<f64>,
    val_bits_per_byte: Option<f64>,
    forecast: Option<Forecast>,
    beside_forecast: Vec<Comparison>,
    dream: Option<&'a Dream>,
}

impl RunFolder {
    /// Reads what is there.
    ///
    /// # Errors
    /// There is no such folder, it is not a run's, or a file of it cannot be read.
    pub(crate) fn open(folder: &Path) -> anyhow::Result<RunFolder> {
        let given = folder.display();
        let kind = std::fs::metadata(folder).explain(
            || format!("no run at {given}"),
            || "give the folder that `llmos pretrain --out` wrote".into(),
        )?;
        if let Some(run) = resume::run_of_checkpoint(folder) {
            return Err(failure(
                format!("{given} is a checkpoint of the run {}", run.display()),
                format!("llmos watch {} shows how that goes", run.display()),
            ));
        }
        let (metrics, recipe) = (folder.join(METRICS), folder.join("recipe.toml"));
        let is_alive = llmos_train::run::RunFolder::is_alive(folder);
        if !kind.is_dir() || !(metrics.is_file() || recipe.is_file() || is_alive) {
            return Err(failure(
                format!("{given} is not a run"),
                format!(
                    "a run is a folder with recipe.toml and {METRICS}, as `llmos pretrain --out` writes it"
                ),
            ));
        }
        // `.` has a name too.
        let absolute = folder.canonicalize().unwrap_or_else(|_| folder.to_path_buf());
        let name = absolute.file_name().unwrap_or(folder.as_os_str());
        let mut run = RunFolder {
            name: name.to_string_lossy().into_owned(),
            metrics: Journal::new(metrics),
            dreams: Journal::new(folder.join(DREAMS)),
            steps: 0,
            shape: None,
            forecast: None,
            outcome: None,
            is_alive: false,
            folder: folder.to_path_buf(),
        };
        run.refresh()?;
        Ok(run)
    }

    /// Reads what was written since; how many steps came.
    ///
    /// # Errors
    /// A file is there and cannot be read.
    pub(crate) fn refresh(&mut self) -> anyhow::Result<usize> {
        let was_alive = self.is_alive;
        // First: whoever ends between the two has written all that is read then.
        self.is_alive = llmos_train::run::RunFolder::is_alive(&self.folder);
        let hint = || "check who may read the run's folder".to_string();
        let cannot = || format!("cannot follow {}", self.folder.display());
        let came = self.metrics.refresh().explain(cannot, hint)?;
        self.dreams.refresh().explain(cannot, hint)?;
        // A run that had ended may go on to another length.
        if came > 0 || was_alive || self.is_alive || self.steps == 0 {
            self.read_recipe();
            self.read_forecast();
        }
        Ok(came)
    }

    /// Takes what was said and what came of it. They are an extra: without a readable file the run is
    /// followed all the same.
    fn read_forecast(&mut self) {
        let text = std::fs::read(self.folder.join(llmos_train::run::RunFolder::FORECAST)).ok();
        let file = text.and_then(|text| serde_json::from_slice::<ForecastFile>(&text).ok());
        if let Some(ForecastFile { forecast, outcome }) = file {
            (self.forecast, self.outcome) = (Some(forecast), outcome);
        }
    }

    /// Takes the length and the shape, as far as they can be read.
    fn read_recipe(&mut self) {
        let path = self.folder.join("recipe.toml");
        if std::fs::metadata(&path).map_or(true, |file| file.len() > LARGEST_RECIPE) {
            return;
        }
        let text = std::fs::read_to_string(&path).unwrap_or_default();
        let Ok(recipe) = text.parse::<toml::Table>() else { return };
        let whole = |section: &str, key: &str| {
            let value = recipe.get(section)?.get(key)?.as_integer()?;
            u64::try_from(value).ok()
        };
        self.steps = whole("train", "steps").unwrap_or(0);
        let shape = whole("model", "n_layer").zip(whole("model", "d_model"));
        self.shape = shape.map(|(layers, width)| format!("{layers} layers of width {width}"));
    }

    /// What was measured so far.
    pub(crate) fn rows(&self) -> &[Row] {
        self.metrics.entries()
    }

    /// What it wrote so far.
    pub(crate) fn dreams(&self) -> &[Dream] {
        self.dreams.entries()
    }

    pub(crate) fn last(&self) -> Option<&Row> {
        self.rows().last()
    }

    /// The step of the last evaluation.
    pub(crate) fn evaluated(&self) -> Option<&Row> {
        let has = |row: &&Row| row.val_loss.or(row.val_bits_per_byte).is_some();
        self.rows().iter().rev().find(has)
    }

    pub(crate) fn state(&self) -> State {
        let is_whole = self.steps > 0 && self.last().is_some_and(|row| row.step >= self.steps);
        match (self.is_alive, is_whole) {
            (true, _) => State::Running,
            (false, true) => State::Finished,
            (false, false) => State::Stopped,
        }
    }

    /// Steps that are done over all, where both are known.
    pub(crate) fn share(&self) -> Option<f64> {
        let done = self.last()?.step as f64;
        (self.steps > 0).then(|| (done / self.steps as f64).min(1.0))
    }

    /// Seconds that the missing steps of a living run take, as the run itself says.
    pub(crate) fn seconds_left(&self) -> Option<f64> {
        let is_running = self.state() == State::Running;
        is_running.then(|| Pace::of(self.rows(), self.steps).seconds_left())?
    }

    /// What came of it as the run itself said, or will at the present speed, beside what was said
    /// before.
    pub(crate) fn beside_forecast(&self) -> Vec<Comparison> {
        let Some(forecast) = self.forecast else { return Vec::new() };
        let spent = self.last().and_then(|row| row.seconds);
        let seconds = match (self.state(), self.outcome) {
            (State::Finished, Some(outcome)) => return forecast.beside(&outcome),
            (State::Finished, None) => spent,
            (State::Running, _) => spent.zip(self.seconds_left()).map(|(spent, left)| spent + left),
            (State::Stopped, _) => None,
        };
        let val_bits_per_byte = self.evaluated().and_then(|row| row.val_bits_per_byte);
        forecast.beside(&Outcome { seconds, memory_bytes: None, val_bits_per_byte })
    }

    pub(crate) fn latest(&self) -> Latest<'_> {
        let row = self.last();
        let evaluated = self.evaluated();
        Latest {
            run: &self.name,
            folder: &self.folder,
            state: self.state(),
            step: row.map(|row| row.step),
            steps: (self.steps > 0).then_some(self.steps),
            tokens: row.and_then(|row| row.tokens),
            loss: row.and_then(|row| row.loss),
            lr: row.and_then(|row| row.lr),
            grad_norm: row.and_then(|row| row.grad_norm),
            tokens_per_s: row.and_then(|row| row.tokens_per_s),
            step_ms: row.and_then(|row| row.step_ms),
            seconds_left: self.seconds_left(),
            val_step: evaluated.map(|row| row.step),
            val_loss: evaluated.and_then(|row| row.val_loss),
            val_bits_per_byte: evaluated.and_then(|row| row.val_bits_per_byte),
            forecast: self.forecast,
            beside_forecast: self.beside_forecast(),
            dream: self.dreams().last(),
        }
    }
}
