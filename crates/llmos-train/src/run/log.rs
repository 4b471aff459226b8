//! A journal that is being written: entries in the order of steps, each step once.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::journal::{Entry, Journal};
use crate::{Error, disk};

/// A file of lines, open for more.
#[derive(Debug)]
pub(super) struct Log {
    path: PathBuf,
    file: File,
    /// Bytes of its lines.
    len: u64,
}

impl Log {
    /// Opens the file with the entries of steps up to `step` that are in it. What was being written
    /// when a process was killed is left out.
    pub(super) fn open<T: Entry + Serialize + Clone>(
        path: &Path,
        step: u64,
    ) -> Result<(Log, Vec<T>), Error> {
        let mut entries = Journal::<T>::read(path)?.entries().to_vec();
        entries.retain(|entry| entry.step() <= step);
        let mut text = Vec::new();
        for entry in &entries {
            line(entry, &mut text).map_err(Error::io("write", path))?;
        }
        disk::write_bytes(path, &text)?;
        let file = File::options().append(true).open(path).map_err(Error::io("open", path))?;
        Ok((Log { path: path.to_path_buf(), file, len: text.len() as u64 }, entries))
    }

    /// Adds an entry, whole or not at all.
    pub(super) fn push(&mut self, entry: &impl Serialize) -> Result<(), Error> {
        let mut text = Vec::new();
        line(entry, &mut text)
            .and_then(|()| {
                self.file.write_all(&text).inspect_err(|_| {
                    // A disk that is full may have taken a part.
                    let _ = self.file.set_len(self.len);
                })
            })
            .map_err(Error::io("write", &self.path))?;
        self.len += text.len() as u64;
        Ok(())
    }

    /// Brings the entries to the disk.
    pub(super) fn sync(&self) -> Result<(), Error> {
        self.file.sync_data().map_err(Error::io("write", &self.path))
    }
}

fn line(entry: &impl Serialize, text: &mut Vec<u8>) -> std::io::Result<()> {
    serde_json::to_writer(&mut *text, entry)?;
    text.push(b'\n');
    Ok(())
}
