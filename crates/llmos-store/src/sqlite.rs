//! SQLite: one file in the data folder, with its log beside it.
//!
//! A transaction is in the log and synced before it is acknowledged (`synchronous = FULL` in WAL
//! mode), so it survives the process's and the machine's sudden end. What is deleted is overwritten
//! (`secure_delete`), in the full-text index too, and the log is emptied after it.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{Connection, ErrorCode, OpenFlags, params_from_iter};

use crate::database::{Database, Dialect, Mode, Row, Value};
use crate::error::Error;
use crate::{folder, schema};

/// The database's name in the data folder.
pub(crate) const FILE: &str = "llmos.sqlite";

/// "llms", by which the file is known as ours (PRAGMA application_id).
const APPLICATION: i64 = 0x6c6c_6d73;

/// How every connection is set. None of these touches the file.
const SETTINGS: &str = "
    PRAGMA trusted_schema = OFF;
    PRAGMA cell_size_check = ON;
    PRAGMA foreign_keys = ON;
    PRAGMA temp_store = MEMORY;
    PRAGMA synchronous = FULL;
    PRAGMA fullfsync = ON;
    PRAGMA checkpoint_fullfsync = ON;
    PRAGMA journal_size_limit = 16777216;
";

/// A connection to the file.
pub(crate) struct Sqlite {
    connection: Connection,
    folder: PathBuf,
    place: String,
    patience: Duration,
    /// Held while no other server may have the folder.
    lock: Option<File>,
    operation: &'static str,
    mode: Mode,
    /// Whether the log still holds what was deleted, because another process was reading.
    is_unscrubbed: bool,
}

impl Sqlite {
    /// Opens or makes the database of a folder. `pages` is the most pages that it may have.
    ///
    /// # Errors
    /// [`Error::Corrupt`], [`Error::Foreign`] and [`Error::Newer`] for a file that is not ours to
    /// change; it stays as it was.
    pub(crate) fn open(
        folder: &Path,
        patience: Duration,
        pages: Option<u32>,
    ) -> Result<Sqlite, Error> {
        folder::make(folder)?;
        let path = folder.join(FILE);
        // SQLite gives the log and its index the permissions of the file.
        folder::make_private(&path)?;
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let place = path.display().to_string();
        let connection = Connection::open_with_flags(&path, flags)
            .map_err(|error| told("open", &place, patience, error))?;
        let mut database = Sqlite {
            connection,
            folder: folder.to_path_buf(),
            place,
            patience,
            lock: None,
            operation: "open",
            mode: Mode::Read,
            is_unscrubbed: false,
        };
        database.settle(pages)?;
        Ok(database)
    }

    fn settle(&mut self, pages: Option<u32>) -> Result<(), Error> {
        let set = self.connection.busy_timeout(self.patience);
        set.map_err(|error| self.error(error))?;
        self.batch(SETTINGS)?;
        let application = self.pragma("application_id")?;
        let version = self.pragma("user_version")?;
        let n_table = self.number("SELECT count(*) FROM sqlite_schema")?;
        if application != APPLICATION && (application != 0 || version != 0 || n_table != 0) {
            let problem = format!("application id {application:#x}, {n_table} tables");
            let (operation, place) = ("open", self.place.clone());
            return Err(Error::Foreign { operation, place, problem });
        }
        schema::refuse_newer(&self.place, version)?;
        // Asked for after the checks: both write to the file.
        let mode = self.text("PRAGMA journal_mode = WAL")?;
        if mode != "wal" {
            // A folder whose system has no shared memory. The journal's removal is synced as well.
            self.batch("PRAGMA synchronous = EXTRA")?;
        }
        self.batch("PRAGMA secure_delete = ON")?;
        if let Some(pages) = pages {
            self.batch(&format!("PRAGMA max_page_count = {pages}"))?;
        }
        Ok(())
    }

    fn pragma(&mut self, name: &str) -> Result<i64, Error> {
        self.number(&format!("PRAGMA {name}"))
    }

    /// The number that a statement answers.
    fn number(&mut self, sql: &str) -> Result<i64, Error> {
        let row = self.connection.query_row(sql, [], |row| row.get(0));
        row.map_err(|error| self.error(error))
    }

    /// The text that a statement answers.
    fn text(&mut self, sql: &str) -> Result<String, Error> {
        let row = self.connection.query_row(sql, [], |row| row.get(0));
        row.map_err(|error| self.error(error))
    }

    fn error(&self, error: rusqlite::Error) -> Error {
        told(self.operation, &self.place, self.patience, error)
    }

    /// Empties the log, so that nothing in it outlives its deletion.
    fn empty_log(&mut self) -> Result<(), Error> {
        let busy = self.number("PRAGMA wal_checkpoint(TRUNCATE)")?;
        self.is_unscrubbed = busy != 0;
        Ok(())
    }

    /// Copies that were kept when an older database was changed.
    fn copies(&self) -> Result<Vec<PathBuf>, Error> {
        let entries = std::fs::read_dir(&self.folder).map_err(Error::io("list", &self.folder))?;
        let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
        let is_copy = |path: &PathBuf| {
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            let rest = name.strip_prefix("llmos-v").unwrap_or_default();
            let version = rest.strip_suffix(".sqlite").or(rest.strip_suffix(".sqlite.tmp"));
            version.is_some_and(|v| !v.is_empty() && v.bytes().all(|byte| byte.is_ascii_digit()))
        };
        Ok(paths.filter(is_copy).collect())
    }

    fn remove(&self, path: &Path) -> Result<(), Error> {
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(Error::io("remove", path)(error))
            }
            _ => Ok(()),
        }
    }

    fn damage(&self, problem: String) -> Error {
        let (operation, place) = (self.operation, self.place.clone());
        Error::Corrupt { operation, place, problem }
    }
}

impl Database for Sqlite {
    fn begin(&mut self, operation: &'static str, mode: Mode) -> Result<(), Error> {
        self.rollback();
        self.operation = operation;
        self.mode = mode;
        match mode {
            Mode::Read => self.batch("BEGIN DEFERRED"),
            Mode::Write => self.batch("BEGIN IMMEDIATE"),
        }
    }

    fn commit(&mut self) -> Result<(), Error> {
        self.batch("COMMIT")?;
        if self.is_unscrubbed && self.mode == Mode::Write {
            // What was written is safe whatever comes of this.
            let _ = self.empty_log();
        }
        Ok(())
    }

    fn rollback(&mut self) {
        if !self.connection.is_autocommit() {
            let _ = self.connection.execute_batch("ROLLBACK");
        }
    }

    fn execute(&mut self, sql: &str, parameters: &[Value]) -> Result<u64, Error> {
        let sql = sql.replace('$', "?");
        let changed = self
            .connection
            .prepare_cached(&sql)
            .and_then(|mut statement| statement.execute(params_from_iter(parameters)));
        changed.map(|n| n as u64).map_err(|error| self.error(error))
    }

    fn query(&mut self, sql: &str, parameters: &[Value]) -> Result<Vec<Row>, Error> {
        let sql = sql.replace('$', "?");
        let found = self.connection.prepare_cached(&sql).and_then(|mut statement| {
            let n_column = statement.column_count();
            let rows = statement.query_map(params_from_iter(parameters), |row| {
                let values = (0..n_column).map(|column| Ok(value(row.get_ref(column)?)));
                values.collect::<rusqlite::Result<Vec<Option<Value>>>>()
            })?;
            rows.collect::<rusqlite::Result<Vec<_>>>()
        });
        let rows = found.map_err(|error| self.error(error))?;
        let rows = rows.into_iter().map(|row| row.into_iter().collect::<Option<_>>().map(Row));
        let damaged = || self.damage("a column holds what no column of ours does".into());
        rows.collect::<Option<_>>().ok_or_else(damaged)
    }

    fn batch(&mut self, sql: &str) -> Result<(), Error> {
        self.connection.execute_batch(sql).map_err(|error| self.error(error))
    }

    fn dialect(&self) -> Dialect {
        Dialect::Sqlite
    }

    fn place(&self) -> &str {
        &self.place
    }

    fn version(&mut self) -> Result<i64, Error> {
        self.pragma("user_version")
    }

    fn set_version(&mut self, version: i64) -> Result<(), Error> {
        self.batch(&format!(
            "PRAGMA application_id = {APPLICATION}; PRAGMA user_version = {version}"
        ))
    }

    fn hold(&mut self, operation: &'static str) -> Result<(), Error> {
        if self.lock.is_none() {
            let patience = self.patience.min(folder::HOLD);
            self.lock = Some(folder::hold(&self.folder, operation, patience)?);
        }
        Ok(())
    }

    fn let_go(&mut self) {
        self.lock = None;
    }

    fn keep_copy(&mut self, version: i64) -> Result<(), Error> {
        self.operation = "copy";
        let copy = self.folder.join(format!("llmos-v{version}.sqlite"));
        let aside = self.folder.join(format!("llmos-v{version}.sqlite.tmp"));
        self.remove(&aside)?;
        folder::make_private(&aside)?;
        let name = Value::Text(aside.display().to_string());
        self.execute("VACUUM INTO $1", &[name])?;
        let synced = File::open(&aside).and_then(|file| file.sync_all());
        synced.map_err(Error::io("sync", &aside))?;
        std::fs::rename(&aside, &copy).map_err(Error::io("rename", &aside))?;
        folder::sync(&self.folder)
    }

    fn scrub(&mut self) -> Result<(), Error> {
        for copy in self.copies()? {
            self.remove(&copy)?;
        }
        self.empty_log()
    }

    fn check(&mut self) -> Result<(), Error> {
        self.operation = "check";
        let rows = self.query("PRAGMA integrity_check(5)", &[])?;
        let problems: Vec<String> =
            rows.into_iter().map(|mut row| row.text(0)).collect::<Result<_, _>>()?;
        if problems != ["ok"] {
            return Err(self.damage(problems.join("; ")));
        }
        if !self.query("SELECT 1 FROM pragma_foreign_key_check LIMIT 1", &[])?.is_empty() {
            return Err(self.damage("a row belongs to nothing".into()));
        }
        // Rank 1 asks for a comparison of the index with the words themselves.
        self.batch("INSERT INTO passage_index (passage_index, rank) VALUES ('integrity-check', 1)")
    }
}

impl rusqlite::ToSql for Value {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match self {
            Value::Null => ValueRef::Null,
            Value::Integer(number) => ValueRef::Integer(*number),
            Value::Text(text) => ValueRef::Text(text.as_bytes()),
        }))
    }
}

/// A value of a column; none where it is of no kind that we write.
fn value(value: ValueRef<'_>) -> Option<Value> {
    match value {
        ValueRef::Null => Some(Value::Null),
        ValueRef::Integer(number) => Some(Value::Integer(number)),
        ValueRef::Text(bytes) => String::from_utf8(bytes.to_vec()).ok().map(Value::Text),
        ValueRef::Real(_) | ValueRef::Blob(_) => None,
    }
}

/// What SQLite's error means for us.
fn told(operation: &'static str, place: &str, waited: Duration, error: rusqlite::Error) -> Error {
    let place = place.to_string();
    let problem = error.to_string();
    match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
            Error::Busy { operation, place, waited }
        }
        Some(ErrorCode::DiskFull) => Error::Full { operation, place, problem },
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
            Error::Corrupt { operation, place, problem }
        }
        Some(ErrorCode::ReadOnly | ErrorCode::PermissionDenied | ErrorCode::CannotOpen) => {
            Error::ReadOnly { operation, place, problem }
        }
        _ => Error::Database { operation, place, problem },
    }
}
