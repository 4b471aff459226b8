//! Ctrl-C: the end comes at once, and no file is left half-written.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use anyhow::Context;

/// The exit code of a command that a signal ended, by the shells' custom (128 + SIGINT).
pub(crate) const INTERRUPTED: u8 = 130;

/// Files that exist and are not finished.
static UNFINISHED: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());

/// Whether the first interrupt only asks.
static GENTLE: AtomicBool = AtomicBool::new(false);

/// Whether an interrupt asked.
static ASKED: AtomicBool = AtomicBool::new(false);

/// From now on the first interrupt only asks for an end, and the second one is it. The returned
/// question is whether somebody asked.
pub(crate) fn ask_first() -> impl Fn() -> bool {
    GENTLE.store(true, Ordering::Relaxed);
    || ASKED.load(Ordering::Relaxed)
}

/// What the first interrupt raises instead of ending the program.
static FLAG: Mutex<Option<Arc<AtomicBool>>> = Mutex::new(None);

/// While the returned value lives, the first interrupt raises `flag`; the second one is the end.
pub(crate) fn raises(flag: Arc<AtomicBool>) -> Raising {
    *self::flag() = Some(flag);
    Raising(())
}

/// What the first interrupt does instead of ending the program.
static ACTION: Mutex<Option<Box<dyn FnOnce() + Send>>> = Mutex::new(None);

/// From now on the first interrupt does this, and the second one is the end.
pub(crate) fn does(act: impl FnOnce() + Send + 'static) {
    *action() = Some(Box::new(act));
}

fn action() -> std::sync::MutexGuard<'static, Option<Box<dyn FnOnce() + Send>>> {
    ACTION.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// See [`raises`].
#[must_use]
pub(crate) struct Raising(());

impl Drop for Raising {
    fn drop(&mut self) {
        *flag() = None;
    }
}

fn flag() -> std::sync::MutexGuard<'static, Option<Arc<AtomicBool>>> {
    FLAG.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// What gives the terminal back, while a view has it.
static RESTORE: Mutex<Option<fn()>> = Mutex::new(None);

/// From now on an interrupt, a termination or a hang-up removes unfinished files and ends the
/// program with 130, and a file that would grow beyond a limit (`ulimit -f`) is an error of who writes
/// it, not the program's end.
///
/// # Errors
/// The system refuses a signal handler.
pub(crate) fn install() -> anyhow::Result<()> {
    #[cfg(unix)]
    signal_hook::flag::register(signal_hook::consts::SIGXFSZ, Arc::default())
        .context("cannot listen for a limit on files")?;
    ctrlc::set_handler(|| {
        if let Some(flag) = flag().take() {
            flag.store(true, Ordering::Relaxed);
            return;
        }
        let act = action().take();
        if let Some(act) = act {
            act();
            return;
        }
        if GENTLE.load(Ordering::Relaxed) && !ASKED.swap(true, Ordering::Relaxed) {
            let _ = writeln!(std::io::stderr(), "\nstopping after this step; again: at once");
            return;
        }
        for path in unfinished().drain(..) {
            remove(&path);
        }
        if let Some(restore) = restore().take() {
            restore();
        }
        // The shell's prompt begins on a line of its own.
        let _ = writeln!(std::io::stderr());
        std::process::exit(INTERRUPTED.into());
    })
    .context("cannot listen for Ctrl-C")
}

/// From now on an interrupt calls `action` before the program ends; none calls nothing.
pub(crate) fn before_end(action: Option<fn()>) {
    *restore() = action;
}

/// A file or folder that is removed if it is dropped, or the program interrupted, before
/// [`Unfinished::keep`].
#[must_use]
pub(crate) struct Unfinished {
    path: PathBuf,
    kept: bool,
}

impl Unfinished {
    /// Watches over `path`, which need not exist yet.
    pub(crate) fn new(path: impl Into<PathBuf>) -> Unfinished {
        let path = path.into();
        unfinished().push(path.clone());
        Unfinished { path, kept: false }
    }

    /// The file's path.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// It is finished, or it may stay as it is.
    pub(crate) fn keep(mut self) {
        self.kept = true;
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        unfinished().retain(|path| *path != self.path);
        if !self.kept {
            remove(&self.path);
        }
    }
}

fn restore() -> std::sync::MutexGuard<'static, Option<fn()>> {
    RESTORE.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

fn unfinished() -> std::sync::MutexGuard<'static, Vec<PathBuf>> {
    // A list of paths cannot be left half-changed by a panic.
    UNFINISHED.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

fn remove(path: &Path) {
    // Nothing can be done about a file that does not go away, and most often it is not there.
    let _ = if path.is_dir() { std::fs::remove_dir_all(path) } else { std::fs::remove_file(path) };
}
