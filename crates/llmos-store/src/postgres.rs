//! PostgreSQL: tables in a schema `llmos` of a database that a URL names.
//!
//! A connection without TLS: to this machine by default, and to another one where the URL says
//! `sslmode=disable`, which is for networks that are trusted or encrypt by themselves.

use std::collections::HashMap;
use std::error::Error as _;
use std::time::{Duration, Instant};

use ::postgres::config::{Config, Host, SslMode};
use ::postgres::error::SqlState;
use ::postgres::types::{ToSql, Type};
use ::postgres::{Client, NoTls, Statement};

use crate::database::{Database, Dialect, Mode, Row, Value};
use crate::error::Error;
use crate::folder::HOLD;
use crate::schema;

/// The number of the advisory lock that a server holds: "llmos" in ASCII. It is the database's own.
const LOCK: i64 = 0x6c_6c6d_6f73;

/// Most statements that are kept prepared.
const STATEMENTS: usize = 256;

/// How every connection is set. A server of ours that lost its power is noticed within a minute, so
/// that its lock does not outlive it; an answer is never acknowledged before it is on the disk.
const SETTINGS: &str = "
    SET search_path TO llmos;
    SET client_min_messages TO warning;
    SET tcp_keepalives_idle TO 30;
    SET tcp_keepalives_interval TO 10;
    SET tcp_keepalives_count TO 3;
    SELECT set_config('synchronous_commit', 'on', false)
        WHERE current_setting('synchronous_commit') = 'off';
";

/// A connection to the server.
pub(crate) struct Postgres {
    config: Config,
    place: String,
    patience: Duration,
    client: Client,
    statements: HashMap<String, Statement>,
    operation: &'static str,
    is_open: bool,
    holds: bool,
}

impl Postgres {
    /// Connects to the database that a URL names, and makes our schema in it where there is none.
    ///
    /// # Errors
    /// [`Error::Invalid`] for what is no URL, [`Error::Unreachable`] where there is no server or it
    /// does not let us in.
    pub(crate) fn open(url: &str, patience: Duration) -> Result<Postgres, Error> {
        let mut config: Config = url.parse().map_err(|error: ::postgres::Error| {
            // The reason alone: the message may hold parts of the URL, and that a password.
            let reason = error.source().map(ToString::to_string);
            Error::invalid("database URL", reason.unwrap_or_else(|| "is no URL".into()))
        })?;
        config.application_name("llmos");
        if config.get_connect_timeout().is_none() {
            config.connect_timeout(Duration::from_secs(10));
        }
        let place = place_of(&config);
        refuse_open_network(&config, &place)?;
        let client = connect(&config, &place, patience)?;
        Ok(Postgres {
            config,
            place,
            patience,
            client,
            statements: HashMap::new(),
            operation: "open",
            is_open: false,
            holds: false,
        })
    }

    fn error(&self, error: &::postgres::Error) -> Error {
        told(self.operation, &self.place, self.patience, error)
    }

    /// Connects again, and takes the lock again that ended with the connection.
    fn reconnect(&mut self) -> Result<(), Error> {
        self.statements.clear();
        self.is_open = false;
        self.client = connect(&self.config, &self.place, self.patience)?;
        if std::mem::take(&mut self.holds) {
            self.hold(self.operation)?;
        }
        Ok(())
    }

    fn statement(&mut self, sql: &str) -> Result<Statement, Error> {
        if let Some(statement) = self.statements.get(sql) {
            return Ok(statement.clone());
        }
        if self.statements.len() >= STATEMENTS {
            self.statements.clear();
        }
        let prepared = self.client.prepare(sql);
        let statement = prepared.map_err(|error| self.error(&error))?;
        self.statements.insert(sql.to_string(), statement.clone());
        Ok(statement)
    }

    fn is_true(&mut self, sql: &str, parameters: &[&(dyn ToSql + Sync)]) -> Result<bool, Error> {
        let row = self.client.query_one(sql, parameters);
        row.and_then(|row| row.try_get(0)).map_err(|error| self.error(&error))
    }
}

impl Database for Postgres {
    fn begin(&mut self, operation: &'static str, mode: Mode) -> Result<(), Error> {
        self.rollback();
        self.operation = operation;
        let sql = match mode {
            Mode::Read => "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY",
            Mode::Write => "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE",
        };
        if self.client.is_closed() {
            self.reconnect()?;
        }
        let mut begun = self.client.batch_execute(sql);
        if begun.is_err() && self.client.is_closed() {
            // The server went away since the last transaction; nothing of this one was sent.
            self.reconnect()?;
            begun = self.client.batch_execute(sql);
        }
        begun.map_err(|error| self.error(&error))?;
        self.is_open = true;
        Ok(())
    }

    fn commit(&mut self) -> Result<(), Error> {
        self.client.batch_execute("COMMIT").map_err(|error| self.error(&error))?;
        self.is_open = false;
        Ok(())
    }

    fn rollback(&mut self) {
        if std::mem::take(&mut self.is_open) {
            let _ = self.client.batch_execute("ROLLBACK");
        }
    }

    fn execute(&mut self, sql: &str, parameters: &[Value]) -> Result<u64, Error> {
        let statement = self.statement(sql)?;
        let bound = bound(&statement, parameters);
        let changed = self.client.execute(&statement, &borrowed(&bound));
        changed.map_err(|error| self.error(&error))
    }

    fn query(&mut self, sql: &str, parameters: &[Value]) -> Result<Vec<Row>, Error> {
        let statement = self.statement(sql)?;
        let bound = bound(&statement, parameters);
        let found = self.client.query(&statement, &borrowed(&bound));
        let rows = found.and_then(|rows| rows.iter().map(row).collect::<Result<Vec<Row>, _>>());
        rows.map_err(|error| self.error(&error))
    }

    fn batch(&mut self, sql: &str) -> Result<(), Error> {
        let sql = sql.replace(" INTEGER", " BIGINT").replace(") STRICT;", ");");
        self.client.batch_execute(&sql).map_err(|error| self.error(&error))
    }

    fn dialect(&self) -> Dialect {
        Dialect::Postgres
    }

    fn place(&self) -> &str {
        &self.place
    }

    fn version(&mut self) -> Result<i64, Error> {
        let found = "SELECT to_regclass('llmos.schema_version') IS NOT NULL";
        if !self.is_true(found, &[])? {
            return Ok(0);
        }
        let row = self.client.query_one("SELECT version FROM llmos.schema_version", &[]);
        let version = row.and_then(|row| row.try_get(0)).map_err(|error| self.error(&error))?;
        schema::refuse_newer(&self.place, version)?;
        Ok(version)
    }

    fn set_version(&mut self, version: i64) -> Result<(), Error> {
        self.batch(&format!(
            "CREATE TABLE IF NOT EXISTS llmos.schema_version (version BIGINT NOT NULL);
             DELETE FROM llmos.schema_version;
             INSERT INTO llmos.schema_version VALUES ({version});"
        ))
    }

    fn hold(&mut self, operation: &'static str) -> Result<(), Error> {
        let start = Instant::now();
        while !self.holds {
            self.operation = operation;
            self.holds = self.is_true("SELECT pg_try_advisory_lock($1)", &[&LOCK])?;
            if !self.holds {
                if start.elapsed() >= self.patience.min(HOLD) {
                    let place = self.place.clone();
                    return Err(Error::Locked { operation, place, process: None });
                }
                std::thread::sleep(Duration::from_millis(10));
            }
        }
        Ok(())
    }

    fn let_go(&mut self) {
        if std::mem::take(&mut self.holds) {
            let _ = self.is_true("SELECT pg_advisory_unlock($1)", &[&LOCK]);
        }
    }

    fn keep_copy(&mut self, _version: i64) -> Result<(), Error> {
        // Copies are the server's own business (pg_dump); the change itself is one transaction.
        Ok(())
    }

    fn scrub(&mut self) -> Result<(), Error> {
        // What was deleted cannot be read any more; its bytes go with the server's vacuum.
        Ok(())
    }

    fn check(&mut self) -> Result<(), Error> {
        // The server checks its pages itself, as they are read (data_checksums).
        self.version().map(|_| ())
    }
}

/// A connection that is set as [`SETTINGS`] says, with our schema in its database.
fn connect(config: &Config, place: &str, patience: Duration) -> Result<Client, Error> {
    let refused = |error: ::postgres::Error| match told("open", place, patience, &error) {
        Error::Database { operation, place, problem } => {
            Error::Unreachable { operation, place, problem }
        }
        error => error,
    };
    let mut client = config.connect(NoTls).map_err(refused)?;
    let encoding: String = client
        .query_one("SHOW server_encoding", &[])
        .and_then(|row| row.try_get(0))
        .map_err(refused)?;
    if encoding != "UTF8" {
        let problem = format!("its encoding is {encoding}, expected UTF8");
        return Err(Error::Database { operation: "open", place: place.to_string(), problem });
    }
    let named = "SELECT count(*) FROM pg_namespace WHERE nspname = 'llmos'";
    let n_schema: i64 =
        client.query_one(named, &[]).and_then(|row| row.try_get(0)).map_err(refused)?;
    if n_schema == 0 {
        client.batch_execute("CREATE SCHEMA IF NOT EXISTS llmos").map_err(refused)?;
    }
    client.batch_execute(SETTINGS).map_err(refused)?;
    let waits = format!("SET lock_timeout TO {}", patience.as_millis().clamp(1, 1 << 30));
    client.batch_execute(&waits).map_err(refused)?;
    Ok(client)
}

/// The database for people: without user and password.
fn place_of(config: &Config) -> String {
    let host = config.get_hosts().first().map(host_name).unwrap_or_else(|| "localhost".into());
    let port = config.get_ports().first().map(|port| format!(":{port}")).unwrap_or_default();
    let name = config.get_dbname().or(config.get_user()).unwrap_or("postgres");
    format!("postgres://{host}{port}/{name}")
}

fn host_name(host: &Host) -> String {
    match host {
        Host::Tcp(name) => name.clone(),
        #[cfg(unix)]
        Host::Unix(path) => path.display().to_string(),
    }
}

/// Conversations do not cross a network in the clear unless the URL asks for just that.
fn refuse_open_network(config: &Config, place: &str) -> Result<(), Error> {
    let is_far = |host: &Host| match host {
        Host::Tcp(name) => !(name == "localhost" || name == "::1" || name.starts_with("127.")),
        #[cfg(unix)]
        Host::Unix(_) => false,
    };
    let wants_tls = !matches!(config.get_ssl_mode(), SslMode::Disable | SslMode::Prefer);
    let is_clear = config.get_ssl_mode() == SslMode::Disable;
    let is_far = config.get_hosts().iter().any(is_far)
        || config.get_hostaddrs().iter().any(|address| !address.is_loopback());
    if wants_tls || (is_far && !is_clear) {
        let problem = "this program speaks to PostgreSQL without TLS, and does so over a network \
                       only where the URL says sslmode=disable";
        let (operation, place) = ("open", place.to_string());
        return Err(Error::Unreachable { operation, place, problem: problem.into() });
    }
    Ok(())
}

/// What PostgreSQL's error means for us (its appendix A, error codes).
fn told(
    operation: &'static str,
    place: &str,
    waited: Duration,
    error: &::postgres::Error,
) -> Error {
    let place = place.to_string();
    let Some(code) = error.code() else {
        let problem = match error.source() {
            Some(source) => format!("{error}: {source}"),
            None => error.to_string(),
        };
        let is_conversion = problem.contains("serializing");
        return if is_conversion {
            Error::Database { operation, place, problem }
        } else {
            Error::Unreachable { operation, place, problem }
        };
    };
    // The message alone: a detail may quote what somebody wrote.
    let message = error.as_db_error().map(|error| error.message().to_string());
    let problem = message.unwrap_or_else(|| code.code().to_string());
    let is_of = |class: &str| code.code().starts_with(class);
    if [SqlState::LOCK_NOT_AVAILABLE, SqlState::T_R_DEADLOCK_DETECTED].contains(code) {
        Error::Busy { operation, place, waited }
    } else if is_of("53") && *code != SqlState::TOO_MANY_CONNECTIONS {
        Error::Full { operation, place, problem }
    } else if is_of("XX00") {
        Error::Corrupt { operation, place, problem }
    } else if *code == SqlState::READ_ONLY_SQL_TRANSACTION
        || *code == SqlState::INSUFFICIENT_PRIVILEGE
    {
        Error::ReadOnly { operation, place, problem }
    } else if ["08", "28", "3D", "53", "57P"].iter().any(|class| is_of(class)) {
        Error::Unreachable { operation, place, problem }
    } else {
        Error::Database { operation, place, problem }
    }
}

/// Parameters as the statement wants them: nothing, too, has a type.
fn bound(statement: &Statement, parameters: &[Value]) -> Vec<Box<dyn ToSql + Sync>> {
    let kinds = statement.params().iter();
    let pairs = parameters.iter().zip(kinds.map(Some).chain(std::iter::repeat(None)));
    pairs
        .map(|(value, kind)| -> Box<dyn ToSql + Sync> {
            match value {
                Value::Integer(number) => Box::new(*number),
                Value::Text(text) => Box::new(escaped(text)),
                Value::Null if kind == Some(&Type::INT8) => Box::new(None::<i64>),
                Value::Null => Box::new(None::<String>),
            }
        })
        .collect()
}

fn borrowed(bound: &[Box<dyn ToSql + Sync>]) -> Vec<&(dyn ToSql + Sync)> {
    bound.iter().map(|parameter| &**parameter).collect()
}

/// A row as ours; its columns are whole numbers and texts.
fn row(row: &::postgres::Row) -> Result<Row, ::postgres::Error> {
    let values = row.columns().iter().enumerate().map(|(i, column)| {
        if *column.type_() == Type::INT8 {
            row.try_get::<_, Option<i64>>(i).map(Value::from)
        } else {
            let text = row.try_get::<_, Option<&str>>(i)?;
            Ok(Value::from(text.map(unescaped)))
        }
    });
    values.collect::<Result<Vec<Value>, _>>().map(Row)
}

/// PostgreSQL's texts hold every character but U+0000, which a model can say: it becomes U+0001 and
/// `0`, and U+0001 itself U+0001 and `1`.
fn escaped(text: &str) -> String {
    text.replace('\u{1}', "\u{1}1").replace('\0', "\u{1}0")
}

fn unescaped(text: &str) -> String {
    let mut parts = text.split('\u{1}');
    let mut whole = parts.next().unwrap_or_default().to_string();
    for part in parts {
        whole.push(if part.starts_with('0') { '\0' } else { '\u{1}' });
        whole.push_str(part.get(1..).unwrap_or_default());
    }
    whole
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_character_comes_back() {
        for text in ["", "a", "\0", "\u{1}", "\u{1}0\0\u{1}1", "a\0\0b\u{1}\u{1}é", "\u{1}é"] {
            assert!(!escaped(text).contains('\0'));
            assert_eq!(unescaped(&escaped(text)), text);
        }
    }

    #[test]
    fn passwords_are_not_shown() {
        let config: Config = "postgres://ann:secret@db.local:5433/chats".parse().unwrap();
        assert_eq!(place_of(&config), "postgres://db.local:5433/chats");
        let Err(error) = Postgres::open("postgres://ann:secret@db/x?port=secret", HOLD) else {
            panic!("no URL");
        };
        assert!(!error.to_string().contains("secret"), "{error}");
    }

    #[test]
    fn conversations_do_not_cross_a_network_in_the_clear() {
        let check = |url: &str, is_refused: bool| {
            let config: Config = url.parse().unwrap();
            assert_eq!(refuse_open_network(&config, "x").is_err(), is_refused, "{url}");
        };
        check("postgres://localhost/x", false);
        check("postgres://127.0.0.1/x", false);
        check("postgres://%2Frun%2Fpostgresql/x", false);
        check("postgres://db.example/x", true);
        check("postgres://db.example/x?sslmode=disable", false);
        check("postgres://localhost/x?sslmode=require", true);
    }
}
