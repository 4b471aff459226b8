//! Output that appears whole or not at all.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use crate::Error;

/// A file or folder under a temporary name beside its place; removed unless committed.
pub(super) struct Partial {
    temporary: PathBuf,
    output: PathBuf,
    committed: bool,
}

impl Partial {
    /// A place beside `output` for what will become it.
    pub(super) fn beside(output: &Path) -> Result<Partial, Error> {
        let Some(name) = output.file_name() else {
            return Err(Error::request("convert", "a path that ends in a name", output.display()));
        };
        let mut hidden = std::ffi::OsString::from(".");
        hidden.push(name);
        hidden.push(format!(".partial-{}", std::process::id()));
        Ok(Partial {
            temporary: output.with_file_name(hidden),
            output: output.to_owned(),
            committed: false,
        })
    }

    pub(super) fn path(&self) -> &Path {
        &self.temporary
    }

    /// Puts it in its place; what stood there is replaced in one step.
    pub(super) fn commit(mut self) -> Result<(), Error> {
        let renamed = std::fs::rename(&self.temporary, &self.output);
        renamed.map_err(|error| Error::io("rename to", &self.output, error))?;
        self.committed = true;
        sync_folder(self.output.parent())
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        if !self.committed {
            // Whatever went wrong is the error that the caller sees, not this clean-up's.
            let _ = std::fs::remove_file(&self.temporary);
            let _ = std::fs::remove_dir_all(&self.temporary);
        }
    }
}

/// Makes a rename within the folder last.
fn sync_folder(folder: Option<&Path>) -> Result<(), Error> {
    #[cfg(unix)]
    {
        let folder = folder.filter(|folder| !folder.as_os_str().is_empty());
        let folder = folder.unwrap_or(Path::new("."));
        let synced = File::open(folder).and_then(|file| file.sync_all());
        synced.map_err(|error| Error::io("sync", folder, error))?;
    }
    #[cfg(not(unix))]
    let _ = folder;
    Ok(())
}

/// A file that is being written; errors carry its path.
pub(super) struct Output {
    path: PathBuf,
    writer: BufWriter<File>,
}

impl Output {
    pub(super) fn create(path: &Path) -> Result<Output, Error> {
        let file = File::create(path).map_err(|error| Error::io("create", path, error))?;
        Ok(Output { path: path.to_owned(), writer: BufWriter::with_capacity(1 << 20, file) })
    }

    pub(super) fn write(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.writer.write_all(bytes).map_err(|error| Error::io("write", &self.path, error))
    }

    /// Zeros up to a multiple of `alignment`, `len` bytes having been written.
    pub(super) fn pad(&mut self, len: usize, alignment: usize) -> Result<(), Error> {
        self.write(&vec![0; len.next_multiple_of(alignment) - len])
    }

    /// Everything is on disk when this returns.
    pub(super) fn finish(mut self) -> Result<(), Error> {
        let synced = self.writer.flush().and_then(|()| self.writer.get_ref().sync_all());
        synced.map_err(|error| Error::io("write", &self.path, error))
    }
}
