//! Where conversations and keys are kept, how a store there is opened, and what a person is told who
//! cannot have it.

use std::path::PathBuf;

use llmos_store::{Error, Options, Place, Purpose, Store};

use crate::failure::failure;
use crate::places;

/// Which store.
#[derive(clap::Args, Clone, Debug)]
#[group(id = "place")]
#[command(next_help_heading = "Store")]
pub(crate) struct StorePlace {
    /// The folder where conversations and keys are kept; `store` in llmos's own folder where it is
    /// left out.
    #[arg(long, value_name = "DIR")]
    pub(crate) data: Option<PathBuf>,
    /// A PostgreSQL database to keep them in instead: postgres://user:password@host/database. A
    /// password is better given in LLMOS_DATABASE, where other users of the machine do not see it.
    #[arg(long, value_name = "URL", conflicts_with = "data", value_parser = parse_url)]
    pub(crate) database: Option<String>,
}

fn parse_url(text: &str) -> Result<String, String> {
    match Place::of(text) {
        Place::Postgres(url) => Ok(url),
        Place::Folder(_) => Err("a database is postgres://user:password@host/database".to_string()),
    }
}

impl StorePlace {
    /// The place.
    ///
    /// # Errors
    /// No home folder is known, and no other was given.
    pub(crate) fn place(&self) -> anyhow::Result<Place> {
        match (&self.database, &self.data) {
            (Some(url), _) => Ok(Place::Postgres(url.clone())),
            (None, Some(folder)) => Ok(Place::Folder(folder.clone())),
            (None, None) => Ok(Place::Folder(places::data_folder()?.join("store"))),
        }
    }

    /// Opens the store beside whoever else has it open.
    ///
    /// # Errors
    /// As [`explained`].
    pub(crate) fn visit(&self) -> anyhow::Result<Store> {
        Store::open(&self.place()?, Options::new(Purpose::Visit)).map_err(explained)
    }
}

/// A store's error with a hint for its kind.
pub(crate) fn explained(error: Error) -> anyhow::Error {
    let hint = match &error {
        Error::Busy { .. } => "wait until the other program has written, and try again",
        Error::Locked { .. } => {
            "stop the other server, or give this one another --data or --database, or --no-store"
        }
        Error::Full { .. } => "make room on the disk; nothing was written in part",
        Error::Corrupt { .. } => {
            "keep a copy of the folder, and give another --data; `sqlite3 llmos.sqlite .recover` \
             may bring most of it back"
        }
        Error::Foreign { .. } => "give another --data: this one is left as it is",
        Error::Newer { .. } => "use the newer llmos, or give another --data; nothing was changed",
        Error::ReadOnly { .. } => {
            "see who may write there, or give another --data; `llmos serve` can do with --no-store"
        }
        Error::Unreachable { .. } => {
            "see that the database runs, and that its URL, user and password are right"
        }
        Error::Missing { what: "conversation", .. } => {
            "`llmos chats list` shows which there are; --owner names another key's"
        }
        Error::Missing { what: "key", .. } => "`llmos keys list` shows which there are",
        Error::Exists { what: "key", .. } => {
            "choose another name, or make another key of this one: `llmos keys renew NAME`"
        }
        Error::Row { .. } => {
            "a line is a conversation of `llmos chats export`, or {\"messages\": […]}; nothing was \
             taken"
        }
        Error::Io { source, .. } if crate::failure::is_full(source) => "make room on the disk",
        Error::Io { .. } => "check the folder, and who may write there; --data names another",
        _ => "`llmos help` shows what a command takes",
    };
    failure(&error, hint)
}

/// A time of the store for people: the local day and minute.
pub(crate) fn when(milliseconds: i64) -> String {
    let time = chrono::DateTime::from_timestamp_millis(milliseconds).unwrap_or_default();
    time.with_timezone(&chrono::Local).format("%Y-%m-%d %H:%M").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_database_is_a_url() {
        assert!(parse_url("postgres://localhost/llmos").is_ok());
        assert!(parse_url("/var/lib/llmos").is_err() && parse_url("mysql://localhost/x").is_err());
    }
}
