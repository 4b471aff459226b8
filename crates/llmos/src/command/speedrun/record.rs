//! What a run of stages remembers, and the report that it ends with.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs::File;
use std::path::{Path, PathBuf};

use llmos_train::journal::{Journal, Row};
use llmos_train::plan::amount;
use llmos_train::run::RunFolder;
use serde::{Deserialize, Serialize};

use super::stages::{Given, Words};
use crate::failure::{Explain, failure};
use crate::terminal::{Terminal, count, size};
use crate::{processors, registry};

/// A part of a stage: it was run to its end, or stopped.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(super) struct Done {
    pub(super) stage: String,
    pub(super) about: String,
    pub(super) makes: String,
    pub(super) command: Vec<String>,
    /// The command wherever the run's folder lies, and from wherever it is run; none of runs that an
    /// older llmos began.
    #[serde(default)]
    pub(super) form: Vec<String>,
    pub(super) seconds: f64,
    pub(super) done: bool,
}

impl Done {
    /// Whether it was run by this command.
    fn is_of(&self, command: &Words) -> bool {
        self.command == command.words || !self.form.is_empty() && self.form == command.form
    }
}

/// The record of a run, in RUN/speedrun.json.
pub(super) struct Record {
    folder: PathBuf,
    contents: Contents,
    _lock: File,
}

#[derive(Default, Deserialize, Serialize)]
struct Contents {
    title: String,
    parts: Vec<Done>,
}

/// A stage in the report.
#[derive(Debug, Serialize)]
pub(super) struct Line {
    stage: String,
    about: String,
    makes: String,
    seconds: f64,
    bytes: u64,
    /// Of stages that train: the last step's row.
    #[serde(skip_serializing_if = "Option::is_none")]
    last: Option<Row>,
}

/// What `--json` prints, and RUN/report.json holds.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    title: String,
    version: &'static str,
    processor: String,
    threads: usize,
    minutes: Option<f64>,
    seconds: f64,
    stages: Vec<Line>,
}

const NAME: &str = "speedrun.json";

impl Record {
    /// Takes a folder for a run, or goes on with one.
    ///
    /// # Errors
    /// The folder is something else's, or another process has it.
    pub(super) fn take(folder: &Path, title: &str) -> anyhow::Result<Record> {
        let path = folder.join(NAME);
        let is_empty =
            std::fs::read_dir(folder).map_or(true, |mut entries| entries.next().is_none());
        if !path.is_file() && !is_empty {
            return Err(failure(
                format!("{} is there, and is no speedrun", folder.display()),
                "name another folder with --out",
            ));
        }
        let hint = || "check the path, and who may write there".to_string();
        std::fs::create_dir_all(folder)
            .explain(|| format!("cannot make {}", folder.display()), hint)?;
        let lock = File::create(folder.join("lock"))
            .explain(|| format!("cannot write in {}", folder.display()), hint)?;
        if lock.try_lock().is_err() {
            return Err(failure(
                format!("another process has {}", folder.display()),
                "wait until it has ended, or name another folder with --out",
            ));
        }
        let contents = match std::fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes).explain(
                || format!("{} is damaged", path.display()),
                || "remove it: stages whose results are there are run again".into(),
            )?,
            Err(_) => Contents { title: title.to_string(), parts: Vec::new() },
        };
        let record = Record { folder: folder.to_path_buf(), contents, _lock: lock };
        record.write(NAME, &serde_json::to_vec_pretty(&record.contents)?)?;
        Ok(record)
    }

    /// Refuses stages that are not those which were run here: their results would be mixed.
    ///
    /// # Errors
    /// A stage was run by another command, or is none of these.
    pub(super) fn check<'a>(
        &self,
        stages: impl Iterator<Item = (&'a str, &'a Words)> + Clone,
    ) -> anyhow::Result<()> {
        let folder = self.folder.display();
        let mut seen = BTreeSet::new();
        for part in self.contents.parts.iter().rev() {
            if !seen.insert(&part.stage) {
                continue;
            }
            let now = stages.clone().find(|(name, _)| *name == part.stage);
            let problem = match now {
                Some((_, command)) if part.is_of(command) => continue,
                Some((_, command)) => format!(
                    "was run as\n  {}\nand would now be\n  {}",
                    super::shown(&part.command),
                    super::shown(&command.words)
                ),
                None => "is none of this recipe's".to_string(),
            };
            return Err(failure(
                format!("{folder} holds another life: its stage {} {problem}", part.stage),
                "name another folder with --out, or give the recipe, --data and --minutes that it \
                 was begun with",
            ));
        }
        Ok(())
    }

    /// Whether a stage was run to its end by the same command.
    pub(super) fn is_done(&self, stage: &str, command: &Words) -> bool {
        let is_it = |part: &&Done| part.stage == stage && part.is_of(command);
        self.contents.parts.iter().rfind(is_it).is_some_and(|part| part.done)
    }

    /// Adds a part.
    ///
    /// # Errors
    /// The system refuses.
    pub(super) fn push(&mut self, part: Done) -> anyhow::Result<()> {
        self.contents.parts.push(part);
        self.write(NAME, &serde_json::to_vec_pretty(&self.contents)?)
    }

    fn write(&self, name: &str, bytes: &[u8]) -> anyhow::Result<()> {
        let path = self.folder.join(name);
        registry::write_whole(&path, bytes).explain(
            || format!("cannot write {}", path.display()),
            || "make room, or check who may write there; the same command goes on".into(),
        )
    }

    /// Writes RUN/report.md and RUN/report.json, and says the former.
    ///
    /// # Errors
    /// The system refuses.
    pub(super) fn report(&self, given: &Given, terminal: &Terminal) -> anyhow::Result<Report> {
        let stages = self.lines();
        let report = Report {
            title: self.contents.title.clone(),
            version: env!("CARGO_PKG_VERSION"),
            processor: processors::cpu_name(),
            threads: std::thread::available_parallelism().map_or(1, usize::from),
            minutes: given.minutes,
            seconds: stages.iter().map(|line| line.seconds).sum(),
            stages,
        };
        self.write("report.json", &serde_json::to_vec_pretty(&report)?)?;
        let text = markdown(&report, &self.folder);
        self.write("report.md", text.as_bytes())?;
        terminal.say(&text);
        Ok(report)
    }

    /// Stages in the order in which they were begun, their parts added up.
    fn lines(&self) -> Vec<Line> {
        let mut lines: Vec<Line> = Vec::new();
        for part in &self.contents.parts {
            match lines.iter_mut().find(|line| line.stage == part.stage) {
                Some(line) => line.seconds += part.seconds,
                None => lines.push(Line {
                    stage: part.stage.clone(),
                    about: part.about.clone(),
                    makes: part.makes.clone(),
                    seconds: part.seconds,
                    bytes: bytes(&self.folder.join(&part.makes)),
                    last: last_row(&self.folder.join(&part.makes)),
                }),
            }
        }
        // A part whose process was killed is not among them, but what its steps took is known.
        for line in &mut lines {
            let trained = line.last.as_ref().and_then(|row| row.seconds).unwrap_or(0.0);
            line.seconds = line.seconds.max(trained);
        }
        lines
    }
}

/// The last row of a training run.
fn last_row(run: &Path) -> Option<Row> {
    let path = run.join(RunFolder::METRICS);
    let journal = path.is_file().then(|| Journal::<Row>::read(path).ok())??;
    journal.entries().last().cloned()
}

/// Bytes of a file, or of the files right in a folder.
fn bytes(path: &Path) -> u64 {
    let len = |path: &Path| std::fs::metadata(path).map_or(0, |about| about.len());
    match std::fs::read_dir(path) {
        Ok(entries) => entries.flatten().map(|entry| entry.path()).map(|path| len(&path)).sum(),
        Err(_) => len(path),
    }
}

fn markdown(report: &Report, folder: &Path) -> String {
    let mut text = format!(
        "# {}\n\n{} on {} ({} threads), llmos {}.\n\n| stage | what | time | made | result |\n|-|-|-|-|-|\n",
        report.title,
        amount::duration(report.seconds),
        report.processor,
        report.threads,
        report.version
    );
    for Line { stage, about, makes, seconds, bytes, last } in &report.stages {
        let result = last.as_ref().map_or(String::new(), |row| {
            let tokens = row.tokens.map(|tokens| format!("{} tokens", count(tokens)));
            let loss = row.loss.map(|loss| format!("loss {loss:.3}"));
            let bits = row.val_bits_per_byte.map(|bits| format!("{bits:.3} bits a byte held out"));
            [tokens, loss, bits].into_iter().flatten().collect::<Vec<_>>().join(", ")
        });
        let made = format!("`{makes}`, {}", size(*bytes));
        let _ = writeln!(
            text,
            "| {stage} | {about} | {} | {made} | {result} |",
            amount::duration(*seconds)
        );
    }
    // A report card, where a stage made one.
    let card = std::fs::read_to_string(folder.join("card/card.md"));
    if let Ok(card) = card {
        let _ = write!(text, "\n{}", card.replace("\n#", "\n##").trim_start());
    }
    text
}
