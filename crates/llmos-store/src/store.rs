//! The store: where it is, who opens it for what, and the ways into it.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::chats::Chats;
use crate::database::{Database, Mode, Row, transact};
use crate::error::Error;
use crate::keys::Keys;
use crate::postgres::Postgres;
use crate::schema;
use crate::sqlite::Sqlite;

/// Tells the time, in milliseconds since 1970.
pub type Clock = Box<dyn Fn() -> i64 + Send + Sync>;

/// Where a store is.
#[derive(Clone, PartialEq, Eq)]
pub enum Place {
    /// A folder with an SQLite database in it; it is made where there is none.
    Folder(PathBuf),
    /// A PostgreSQL database by its URL, `postgres://user:password@host:port/database`.
    Postgres(String),
}

impl Place {
    /// A URL or a folder, whichever a text looks like.
    pub fn of(text: &str) -> Place {
        if text.starts_with("postgres://") || text.starts_with("postgresql://") {
            Place::Postgres(text.to_string())
        } else {
            Place::Folder(text.into())
        }
    }
}

impl std::fmt::Debug for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Place::Folder(path) => f.debug_tuple("Folder").field(path).finish(),
            // A URL may hold a password.
            Place::Postgres(_) => f.write_str("Postgres(…)"),
        }
    }
}

/// What a store is opened for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// To serve from it: one server at a time.
    Serve,
    /// To look at or change something beside a server that may be running.
    Visit,
}

/// How a store is opened.
pub struct Options {
    /// What for.
    pub purpose: Purpose,
    /// How long another process's writing is waited for.
    pub patience: Duration,
    /// Most pages of 4,096 bytes that an SQLite database may have; none is as many as fit.
    pub pages: Option<u32>,
    /// The time.
    pub clock: Clock,
}

impl Options {
    /// Five seconds of patience, no limit, and the system's clock.
    pub fn new(purpose: Purpose) -> Options {
        let clock = || {
            let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
        };
        let patience = Duration::from_secs(5);
        Options { purpose, patience, pages: None, clock: Box::new(clock) }
    }
}

/// A store. Its calls block, and one is made at a time: a server keeps it on a thread of its own.
pub struct Store {
    database: Box<dyn Database>,
    clock: Clock,
}

impl Store {
    /// Opens a store, makes it where there is none, and brings an older one to today's version: in
    /// one transaction, and with a copy of an SQLite database kept beside it.
    ///
    /// # Errors
    /// [`Error::Locked`] where another server has it, [`Error::Newer`] where a later program wrote
    /// it, [`Error::Corrupt`] and [`Error::Foreign`] where it is no store: nothing was changed then.
    /// Others of the database.
    pub fn open(place: &Place, options: Options) -> Result<Store, Error> {
        let mut database: Box<dyn Database> = match place {
            Place::Folder(folder) => {
                Box::new(Sqlite::open(folder, options.patience, options.pages)?)
            }
            Place::Postgres(url) => Box::new(Postgres::open(url, options.patience)?),
        };
        if options.purpose == Purpose::Serve {
            database.hold("serve from it")?;
        }
        if database.version()? != schema::VERSION {
            // A server that is older than this program must not find its tables changed.
            database.hold("migrate")?;
            schema::migrate(&mut *database)?;
            if options.purpose == Purpose::Visit {
                database.let_go();
            }
        }
        Ok(Store { database, clock: options.clock })
    }

    /// The database, for people: without user and password.
    pub fn place(&self) -> &str {
        self.database.place()
    }

    /// The conversations of an owner.
    pub fn chats(&mut self, owner: &str) -> Chats<'_> {
        Chats { database: &mut *self.database, clock: &self.clock, owner: owner.to_string() }
    }

    /// The API keys.
    pub fn keys(&mut self) -> Keys<'_> {
        Keys { database: &mut *self.database, clock: &self.clock }
    }

    /// Who has conversations, by name, and how many.
    ///
    /// # Errors
    /// Those of the database.
    pub fn owners(&mut self) -> Result<Vec<(String, u64)>, Error> {
        let sql = "SELECT owner, count(*) FROM conversation GROUP BY owner";
        let rows = transact(&mut *self.database, "list owners", Mode::Read, |database| {
            database.query(sql, &[])
        })?;
        let owners = rows
            .into_iter()
            .map(|mut row| Ok((row.text(0)?, u64::try_from(row.integer(1)?).unwrap_or(0))));
        let mut owners = owners.collect::<Result<Vec<(String, u64)>, Error>>()?;
        // Here, because the order of a database of PostgreSQL is that of its locale.
        owners.sort();
        Ok(owners)
    }

    /// How often conversations of each owner were deleted so far, by whatever program: a server that
    /// remembers something of them elsewhere finds by it that it has to forget.
    ///
    /// # Errors
    /// Those of the database.
    pub fn deletions(&mut self) -> Result<BTreeMap<String, u64>, Error> {
        let sql = "SELECT owner, times FROM deletion";
        let rows = transact(&mut *self.database, "count deletions", Mode::Read, |database| {
            database.query(sql, &[])
        })?;
        let counted =
            |mut row: Row| Ok((row.text(0)?, u64::try_from(row.integer(1)?).unwrap_or(0)));
        rows.into_iter().map(counted).collect()
    }

    /// Lets nobody else write to an SQLite database while `work` runs, so that a copy of its files which
    /// is made meanwhile is whole. Of PostgreSQL others may write: it has `pg_dump` for that.
    ///
    /// # Errors
    /// [`Error::Busy`] where another process is writing.
    pub fn keep_still<T>(&mut self, work: impl FnOnce() -> T) -> Result<T, Error> {
        self.database.begin("keep still", Mode::Write)?;
        let done = work();
        self.database.rollback();
        Ok(done)
    }

    /// Reads all of an SQLite database and checks that it is whole. PostgreSQL checks its own pages
    /// as they are read.
    ///
    /// # Errors
    /// [`Error::Corrupt`] with what was found.
    pub fn check(&mut self) -> Result<(), Error> {
        self.database.check()
    }
}
