//! A checkpoint: a folder with all that is needed to go on from a step, and a model as well.
//!
//! It is written aside, brought to the disk and renamed, so that it is there whole or not at all.
//! `SHA256SUMS` has the sum of every other file, in the form that `sha256sum -c` reads.

use std::fmt::Write as _;
use std::io::{BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::safetensors;
use crate::data::hex;
use crate::journal::Row;
use crate::model::{Kind, Layout};
use crate::optimizer::Optimizer;
use crate::{Error, disk};

/// The weights' name.
pub(super) const MODEL: &str = "model.safetensors";

/// The weights of an adapter, as PEFT names them.
pub(super) const ADAPTER: &str = "adapter_model.safetensors";

/// The name of the weights of a layout: an adapter's have a name of their own.
pub(super) fn weights_name(layout: &Layout) -> &'static str {
    match layout.tensors().first() {
        Some(tensor) if tensor.kind == Kind::AdapterIn => ADAPTER,
        _ => MODEL,
    }
}
/// The name of what the optimizer remembers.
const OPTIMIZER: &str = "optimizer.safetensors";
/// The name of everything else that a run remembers.
const STATE: &str = "state.json";
/// The name of the list of sums.
const SUMS: &str = "SHA256SUMS";
/// What a checkpoint's name begins with.
const NAME: &str = "step-";

/// What a run remembers beside weights and the optimizer's numbers.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct State {
    /// Steps done. With the seed it is the state of every random choice: batches are drawn by these
    /// two numbers.
    pub(super) step: u64,
    pub(super) seed: u64,
    /// Batches that were left out, sorted.
    pub(super) skipped: Vec<u64>,
    /// The losses that a new one is held against.
    pub(super) losses: Vec<f64>,
    /// The step's row, evaluation aside.
    pub(super) row: Row,
    /// Seconds that the run has taken.
    pub(super) seconds: f64,
    /// SHA-256 of the data's manifest.
    pub(super) data: String,
    /// The version of the program.
    pub(super) program: String,
    /// What it was trained on from.
    pub(super) parent: Option<Parent>,
}

/// The checkpoint before.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Parent {
    pub(super) name: String,
    /// SHA-256 of its list of sums.
    pub(super) sha256: String,
}

impl Parent {
    /// The checkpoint at a path.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub(super) fn of(path: &Path) -> Result<Parent, Error> {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        Ok(Parent { name, sha256: sum(&path.join(SUMS))? })
    }
}

/// Small files that lie in every checkpoint: name and contents.
pub(super) type Files = Vec<(String, Vec<u8>)>;

/// The checkpoints in a folder, by their steps.
pub(super) fn list(folder: &Path) -> Vec<(u64, PathBuf)> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let step = |name: &std::ffi::OsStr| name.to_str()?.strip_prefix(NAME)?.parse().ok();
    let mut found: Vec<(u64, PathBuf)> = entries
        .filter_map(|entry| {
            let entry = entry.ok()?;
            Some((step(&entry.file_name())?, entry.path()))
        })
        .collect();
    found.sort();
    found
}

/// The checkpoint of the latest step.
pub(super) fn latest(folder: &Path) -> Option<(u64, PathBuf)> {
    list(folder).pop()
}

/// Removes what was being written or removed when a process was killed.
pub(super) fn tidy(folder: &Path) -> Result<(), Error> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Ok(()) };
    for path in entries.flatten().map(|entry| entry.path()) {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if name.starts_with(&format!(".{NAME}")) && path.is_dir() {
            std::fs::remove_dir_all(&path).map_err(Error::io("remove", &path))?;
        }
    }
    Ok(())
}

/// Removes all checkpoints but the last `keep` and that of step `best`.
pub(super) fn prune(folder: &Path, keep: usize, best: Option<u64>) -> Result<(), Error> {
    let all = list(folder);
    let old = &all[..all.len().saturating_sub(keep)];
    for (_, path) in old.iter().filter(|(step, _)| best != Some(*step)) {
        // Under a hidden name first: half of a checkpoint is never taken for one.
        let hidden = disk::aside(path);
        std::fs::rename(path, &hidden)
            .and_then(|()| std::fs::remove_dir_all(&hidden))
            .map_err(Error::io("remove", path))?;
    }
    Ok(())
}

/// Writes a checkpoint and gives its path. One of the same step that is there already is the same.
pub(super) fn save(
    folder: &Path,
    state: &State,
    layout: &Layout,
    weights: &[f32],
    optimizer: &Optimizer,
    files: &Files,
) -> Result<PathBuf, Error> {
    let path = folder.join(format!("{NAME}{}", state.step));
    if path.is_dir() {
        return Ok(path);
    }
    let aside = disk::aside(&path);
    let written = write(&aside, state, layout, weights, optimizer, files).and_then(|()| {
        std::fs::rename(&aside, &path)?;
        disk::sync_folder(folder)
    });
    written.map_err(|error| {
        let _ = std::fs::remove_dir_all(&aside);
        Error::io("write the checkpoint", &path)(error)
    })?;
    Ok(path)
}

fn write(
    aside: &Path,
    state: &State,
    layout: &Layout,
    weights: &[f32],
    optimizer: &Optimizer,
    files: &Files,
) -> std::io::Result<()> {
    std::fs::create_dir_all(aside)?;
    let mut sums = String::new();
    let mut file = |name: &str, write: &dyn Fn(&mut Summed) -> std::io::Result<()>| {
        let mut summed = Summed::create(&aside.join(name))?;
        write(&mut summed)?;
        let _ = writeln!(sums, "{}  {name}", summed.finish()?);
        Ok::<(), std::io::Error>(())
    };
    for (name, contents) in files {
        file(name, &|out| out.write_all(contents))?;
    }
    let (mean, square) = optimizer.state();
    file(weights_name(layout), &|out| safetensors::write(out, &model_header(layout), &[weights]))?;
    file(OPTIMIZER, &|out| safetensors::write(out, &optimizer_header(optimizer), &[mean, square]))?;
    let state = serde_json::to_vec_pretty(state)?;
    file(STATE, &|out| out.write_all(&state))?;
    let mut out = Summed::create(&aside.join(SUMS))?;
    out.write_all(sums.as_bytes())?;
    out.finish()?;
    disk::sync_folder(aside)
}

/// Writes the weights of a whole model into a folder.
///
/// # Errors
/// The system refuses.
pub(crate) fn write_model(folder: &Path, layout: &Layout, weights: &[f32]) -> Result<(), Error> {
    disk::write_whole(&folder.join(weights_name(layout)), |file| {
        let mut out = BufWriter::with_capacity(1 << 20, file);
        safetensors::write(&mut out, &model_header(layout), &[weights])?;
        out.flush()
    })
}

/// Reads a checkpoint, every byte of which is checked before anything is changed.
///
/// # Errors
/// [`Error::Format`] where a file is damaged, missing, or another model's; [`Error::Io`].
pub(super) fn load(
    path: &Path,
    layout: &Layout,
    weights: &mut [f32],
    optimizer: &mut Optimizer,
) -> Result<State, Error> {
    verify(path, weights_name(layout))?;
    let name = path.join(STATE);
    let bytes = std::fs::read(&name).map_err(Error::io("read", &name))?;
    let state: State = serde_json::from_slice(&bytes).map_err(|error| Error::Format {
        path: name,
        what: "state".into(),
        expected: "that of a run of this version".into(),
        got: error.to_string(),
    })?;
    safetensors::read(&path.join(weights_name(layout)), &model_header(layout), &mut [weights])?;
    let (mean, square) = optimizer.state_len();
    let (mut mean, mut square) = (vec![0.0; mean], vec![0.0; square]);
    let header = optimizer_header(optimizer);
    safetensors::read(&path.join(OPTIMIZER), &header, &mut [&mut mean, &mut square])?;
    optimizer.restore(state.step, mean, square);
    Ok(state)
}

/// Compares the sum of every file with the list.
fn verify(path: &Path, weights: &str) -> Result<(), Error> {
    let format = |what: &str, expected: &str, got: String| Error::Format {
        path: path.to_path_buf(),
        what: what.to_string(),
        expected: expected.to_string(),
        got,
    };
    let sums = path.join(SUMS);
    let text = std::fs::read_to_string(&sums).map_err(Error::io("read", &sums))?;
    for line in text.lines() {
        let Some((expected, name)) = line.split_once("  ") else {
            return Err(format(SUMS, "lines of a sum and a name", format!("{line:?}")));
        };
        if name.contains(['/', '\\']) {
            return Err(format(SUMS, "names of files beside it", format!("{name:?}")));
        }
        let got = sum(&path.join(name))?;
        if got != expected {
            return Err(format(name, &format!("the sum {expected}"), got));
        }
    }
    for name in [weights, OPTIMIZER, STATE] {
        if !text.lines().any(|line| line.ends_with(&format!("  {name}"))) {
            return Err(format(SUMS, &format!("a sum of {name}"), "none".into()));
        }
    }
    Ok(())
}

fn sum(path: &Path) -> Result<String, Error> {
    let read = || {
        let mut file = BufReader::with_capacity(1 << 20, std::fs::File::open(path)?);
        let (mut hash, mut buffer) = (Sha256::new(), vec![0; 1 << 16]);
        loop {
            match file.read(&mut buffer)? {
                0 => return Ok(hex(&hash.finalize())),
                n => hash.update(&buffer[..n]),
            }
        }
    };
    read().map_err(Error::io("read", path))
}

fn model_header(layout: &Layout) -> Vec<u8> {
    safetensors::header(layout.tensors().iter().map(|tensor| {
        let shape = match tensor.kind.is_vector() {
            true => vec![tensor.cols],
            false => vec![tensor.rows, tensor.cols],
        };
        (tensor.name.as_str(), shape)
    }))
}

fn optimizer_header(optimizer: &Optimizer) -> Vec<u8> {
    let (mean, square) = optimizer.state_len();
    safetensors::header([("mean", vec![mean]), ("square", vec![square])].into_iter())
}

/// A file whose sum is taken as it is written.
struct Summed {
    out: BufWriter<std::fs::File>,
    hash: Sha256,
}

impl Summed {
    fn create(path: &Path) -> std::io::Result<Summed> {
        let out = BufWriter::with_capacity(1 << 20, std::fs::File::create(path)?);
        Ok(Summed { out, hash: Sha256::new() })
    }

    /// Everything is on the disk when this returns.
    fn finish(mut self) -> std::io::Result<String> {
        self.out.flush()?;
        self.out.get_ref().sync_all()?;
        Ok(hex(&self.hash.finalize()))
    }
}

impl Write for Summed {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let n = self.out.write(bytes)?;
        self.hash.update(&bytes[..n]);
        Ok(n)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.out.flush()
    }
}
