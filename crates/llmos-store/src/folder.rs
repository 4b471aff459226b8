//! The data folder: private to its owner, and one server's at a time.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use crate::error::Error;

/// The file whose lock says that a server has the folder.
pub(crate) const LOCK: &str = "lock";

/// How long a lock that is held is asked for again: a process that was killed this moment holds it
/// until the system has cleared up.
pub(crate) const HOLD: Duration = Duration::from_secs(1);

/// Makes the folder, for its owner's eyes alone, where there is none.
pub(crate) fn make(folder: &Path) -> Result<(), Error> {
    if folder.is_dir() {
        return Ok(());
    }
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(folder).map_err(Error::io("make the folder", folder))
}

/// Makes an empty file that only its owner may read, where there is none.
pub(crate) fn make_private(path: &Path) -> Result<(), Error> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    match options.open(path) {
        Ok(_) => sync(path.parent().unwrap_or(path)),
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(Error::io("make", path)(error)),
    }
}

/// Brings the names in a folder to the disk, where the system can.
pub(crate) fn sync(folder: &Path) -> Result<(), Error> {
    if cfg!(unix) {
        let synced = File::open(folder).and_then(|folder| folder.sync_all());
        synced.map_err(Error::io("sync", folder))?;
    }
    Ok(())
}

/// Takes the folder for this process. The system lets it go when the process ends, however it ends.
///
/// # Errors
/// [`Error::Locked`] while another process has it for longer than `patience`.
pub(crate) fn hold(
    folder: &Path,
    operation: &'static str,
    patience: Duration,
) -> Result<File, Error> {
    make_private(&folder.join(LOCK))?;
    let path = folder.join(LOCK);
    let opened = OpenOptions::new().read(true).write(true).open(&path);
    let mut file = opened.map_err(Error::io("open", &path))?;
    let start = Instant::now();
    loop {
        match file.try_lock() {
            Ok(()) => break,
            Err(TryLockError::WouldBlock) if start.elapsed() < patience => {
                std::thread::sleep(Duration::from_millis(10));
            }
            Err(TryLockError::WouldBlock) => {
                let mut text = String::new();
                let _ = file.read_to_string(&mut text);
                let process = text.trim().parse().ok();
                let place = folder.display().to_string();
                return Err(Error::Locked { operation, place, process });
            }
            Err(TryLockError::Error(error)) => return Err(Error::io("lock", &path)(error)),
        }
    }
    // Who has it, for the message of who asks next. The lock is what counts.
    let noted = (|| {
        file.set_len(0)?;
        file.rewind()?;
        writeln!(file, "{}", std::process::id())
    })();
    noted.map_err(Error::io("write", &path))?;
    Ok(file)
}
