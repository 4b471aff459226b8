//! What can go wrong with a store: the operation, the place, and what a hint can be made of.

use std::path::Path;
use std::time::Duration;

/// The crate's one error.
///
/// `place` is the database's file, or `postgres://host/database` without user and password.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Another process has written for longer than this one had patience; asking again may work.
    #[error("{operation}: {place} is busy: another process has been writing for {waited:?}")]
    Busy {
        /// What was being done.
        operation: &'static str,
        /// The database.
        place: String,
        /// The patience that was had.
        waited: Duration,
    },
    /// A server has this place already.
    #[error("{operation}: {place} is in use by another server{}", of_process(*.process))]
    Locked {
        /// What was being done.
        operation: &'static str,
        /// The data folder, or the database.
        place: String,
        /// The other server's process, where it can be known.
        process: Option<u32>,
    },
    /// There is no room: the disk, a quota or the database's own limit. Nothing was written in part.
    #[error("{operation}: {place} is full: {problem}")]
    Full {
        /// What was being done.
        operation: &'static str,
        /// The database.
        place: String,
        /// What the database says.
        problem: String,
    },
    /// The file is damaged, or is no database.
    #[error("{operation}: {place} is damaged: {problem}")]
    Corrupt {
        /// What was being done.
        operation: &'static str,
        /// The database.
        place: String,
        /// What was found.
        problem: String,
    },
    /// The database belongs to another program.
    #[error("{operation}: {place} is another program's database: {problem}")]
    Foreign {
        /// What was being done.
        operation: &'static str,
        /// The database.
        place: String,
        /// What says so.
        problem: String,
    },
    /// A later version of the program wrote it. Nothing was changed.
    #[error("open: {place} has version {found}, and this program knows up to {known}")]
    Newer {
        /// The database.
        place: String,
        /// Its version.
        found: i64,
        /// The latest version that this program knows.
        known: i64,
    },
    /// It may be read and not written.
    #[error("{operation}: {place} cannot be written: {problem}")]
    ReadOnly {
        /// What was being done.
        operation: &'static str,
        /// The database.
        place: String,
        /// What the database says.
        problem: String,
    },
    /// A database server does not answer, or does not let this program in. What was asked of it
    /// last may have happened or not.
    #[error("{operation}: {place} cannot be reached: {problem}")]
    Unreachable {
        /// What was being done.
        operation: &'static str,
        /// The database.
        place: String,
        /// What the network or the server says.
        problem: String,
    },
    /// The operating system refused.
    #[error("{operation} {path}: {source}")]
    Io {
        /// What was being done: `make the folder`, `lock`, `copy`.
        operation: &'static str,
        /// The file or folder.
        path: String,
        /// The system's reason.
        source: std::io::Error,
    },
    /// The database refused for another reason.
    #[error("{operation}: {place}: {problem}")]
    Database {
        /// What was being done.
        operation: &'static str,
        /// The database.
        place: String,
        /// Its reason.
        problem: String,
    },
    /// There is no such thing, or it is somebody else's.
    #[error("there is no {what} {name}")]
    Missing {
        /// `conversation`, `message`, `key`.
        what: &'static str,
        /// What it was called by.
        name: String,
    },
    /// There is one already.
    #[error("there is a {what} {name} already")]
    Exists {
        /// `key`.
        what: &'static str,
        /// Its name.
        name: String,
    },
    /// Something that cannot be stored.
    #[error("{what}: {problem}")]
    Invalid {
        /// Which part of what was handed in.
        what: String,
        /// What is wrong with it.
        problem: String,
    },
    /// A line of a file of conversations cannot be taken; none of the file was.
    #[error("line {number}: {problem}")]
    Row {
        /// From 1.
        number: u64,
        /// What is wrong with it.
        problem: String,
    },
    /// The system has no randomness to give.
    #[error("make a key: the system gives no random bytes: {0}")]
    Randomness(getrandom::Error),
}

fn of_process(process: Option<u32>) -> String {
    process.map(|process| format!(", process {process}")).unwrap_or_default()
}

impl Error {
    /// Turns the system's reason into an error of this operation on this path.
    pub(crate) fn io(
        operation: &'static str,
        path: impl AsRef<Path>,
    ) -> impl FnOnce(std::io::Error) -> Error {
        move |source| Error::Io { operation, path: path.as_ref().display().to_string(), source }
    }

    /// There is none of that name for whoever asks.
    pub(crate) fn missing(what: &'static str, name: impl ToString) -> Error {
        Error::Missing { what, name: name.to_string() }
    }

    /// Something that was handed in cannot be stored.
    pub(crate) fn invalid(what: impl Into<String>, problem: impl Into<String>) -> Error {
        Error::Invalid { what: what.into(), problem: problem.into() }
    }
}
