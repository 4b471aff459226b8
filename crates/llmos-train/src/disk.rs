//! Files that appear whole or not at all, and folders that one process writes at a time.

use std::fs::{File, TryLockError};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::Error;

/// How often a lock that is held is asked for again, 10 ms apart.
const PATIENCE: usize = 20;

/// Takes the lock file at `path`, which is that of `folder`, and leaves what is in it. The system lets
/// it go when the process ends, however it ends.
///
/// # Errors
/// [`Error::Locked`] while another process has it; [`Error::Io`] where the system refuses.
pub(crate) fn lock(path: &Path, folder: &Path) -> Result<File, Error> {
    let opened = File::options().write(true).create(true).truncate(false).open(path);
    let lock = opened.map_err(Error::io("write", path))?;
    let mut patience = PATIENCE;
    loop {
        match lock.try_lock() {
            Ok(()) => return Ok(lock),
            // A process that was killed this moment holds it until the system has cleared up.
            Err(TryLockError::WouldBlock) if patience > 0 => patience -= 1,
            Err(TryLockError::WouldBlock) => {
                return Err(Error::Locked { path: folder.to_path_buf() });
            }
            Err(TryLockError::Error(error)) => return Err(Error::io("lock", path)(error)),
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Brings the names in a folder to the disk, where the system can.
pub(crate) fn sync_folder(folder: &Path) -> std::io::Result<()> {
    if cfg!(unix) { File::open(folder)?.sync_all() } else { Ok(()) }
}

/// The folder that a file or folder lies in.
pub(crate) fn parent(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Writes a file aside, brings it to the disk and puts it in its place: there is always the old one
/// or the new one, whole.
///
/// # Errors
/// What the system says; the file that was there stays.
pub(crate) fn write_whole(
    path: &Path,
    write: impl FnOnce(&mut File) -> std::io::Result<()>,
) -> Result<(), Error> {
    let aside = aside(path);
    let written = (|| {
        let mut file = File::create(&aside)?;
        write(&mut file)?;
        file.sync_all()?;
        std::fs::rename(&aside, path)?;
        sync_folder(parent(path))
    })();
    written.map_err(|error| {
        let _ = std::fs::remove_file(&aside);
        Error::io("write", path)(error)
    })
}

/// As [`write_whole`], of bytes.
pub(crate) fn write_bytes(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    write_whole(path, |file| file.write_all(bytes))
}

/// The hidden name beside a path under which it is written.
pub(crate) fn aside(path: &Path) -> PathBuf {
    let mut hidden = std::ffi::OsString::from(".");
    hidden.push(path.file_name().unwrap_or_default());
    hidden.push(".partial");
    path.with_file_name(hidden)
}
