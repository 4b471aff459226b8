//! What the store asks of a database: transactions, and statements in the SQL that both kinds speak.
//!
//! Everything above this file is written once. The common ground is narrow on purpose: two kinds of
//! column, whole numbers and text, and parameters written `$1`, `$2`. What has no common form (full
//! text, the version, copies) is a method here.

use crate::error::Error;

/// A value in a column or a parameter.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Value {
    Null,
    Integer(i64),
    Text(String),
}

impl From<i64> for Value {
    fn from(value: i64) -> Value {
        Value::Integer(value)
    }
}

impl From<u32> for Value {
    fn from(value: u32) -> Value {
        Value::Integer(i64::from(value))
    }
}

impl From<&str> for Value {
    fn from(value: &str) -> Value {
        Value::Text(value.to_string())
    }
}

impl From<String> for Value {
    fn from(value: String) -> Value {
        Value::Text(value)
    }
}

impl<T: Into<Value>> From<Option<T>> for Value {
    fn from(value: Option<T>) -> Value {
        value.map_or(Value::Null, Into::into)
    }
}

/// One row of a result.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Row(pub(crate) Vec<Value>);

impl Row {
    /// Takes the text of a column out.
    pub(crate) fn text(&mut self, column: usize) -> Result<String, Error> {
        self.optional_text(column)?.ok_or_else(|| unexpected(column, "a text", "nothing"))
    }

    /// Takes the text of a column out, if it has one.
    pub(crate) fn optional_text(&mut self, column: usize) -> Result<Option<String>, Error> {
        match self.take(column) {
            Value::Null => Ok(None),
            Value::Text(text) => Ok(Some(text)),
            Value::Integer(_) => Err(unexpected(column, "a text", "a number")),
        }
    }

    /// The number in a column.
    pub(crate) fn integer(&mut self, column: usize) -> Result<i64, Error> {
        self.optional_integer(column)?.ok_or_else(|| unexpected(column, "a number", "nothing"))
    }

    /// The number in a column, if it has one.
    pub(crate) fn optional_integer(&mut self, column: usize) -> Result<Option<i64>, Error> {
        match self.take(column) {
            Value::Null => Ok(None),
            Value::Integer(number) => Ok(Some(number)),
            Value::Text(_) => Err(unexpected(column, "a number", "a text")),
        }
    }

    /// The number of a message.
    pub(crate) fn number(&mut self, column: usize) -> Result<u32, Error> {
        let number = self.integer(column)?;
        u32::try_from(number).map_err(|_| unexpected(column, "a message's number", "another"))
    }

    fn take(&mut self, column: usize) -> Value {
        self.0.get_mut(column).map_or(Value::Null, |value| std::mem::replace(value, Value::Null))
    }
}

/// A row that our own schema rules out: somebody else has written to the database.
pub(crate) fn unexpected(column: usize, expected: &str, got: &str) -> Error {
    Error::Corrupt {
        operation: "read a row",
        place: "the database".into(),
        problem: format!("column {column}: expected {expected}, got {got}"),
    }
}

/// What a transaction may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Sees one state of the database from beginning to end.
    Read,
    /// Holds the right to write from its beginning, so that it cannot fail half-way for the lack of
    /// it.
    Write,
}

/// The full-text index that a database has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dialect {
    /// FTS5, with our own words.
    Sqlite,
    /// `tsvector`, with our own words.
    Postgres,
}

/// A connection to a database.
pub(crate) trait Database: Send {
    /// Begins a transaction; whatever was left open by one before it is undone first.
    fn begin(&mut self, operation: &'static str, mode: Mode) -> Result<(), Error>;

    /// Ends it; once this returns, what was written survives the loss of power.
    fn commit(&mut self) -> Result<(), Error>;

    /// Undoes it.
    fn rollback(&mut self);

    /// Runs one statement; gives the number of rows that it changed.
    fn execute(&mut self, sql: &str, parameters: &[Value]) -> Result<u64, Error>;

    /// Runs one statement; gives its rows.
    fn query(&mut self, sql: &str, parameters: &[Value]) -> Result<Vec<Row>, Error>;

    /// Runs several statements without parameters.
    fn batch(&mut self, sql: &str) -> Result<(), Error>;

    /// Which full-text index there is.
    fn dialect(&self) -> Dialect;

    /// The database, for people.
    fn place(&self) -> &str;

    /// The version of the schema; 0 for an empty database.
    fn version(&mut self) -> Result<i64, Error>;

    /// Sets it, as part of the transaction.
    fn set_version(&mut self, version: i64) -> Result<(), Error>;

    /// Takes the database for this process: no other server may have it. Keeps what it has already.
    fn hold(&mut self, operation: &'static str) -> Result<(), Error>;

    /// Gives it back.
    fn let_go(&mut self);

    /// Before an older database is changed: keeps a copy, where the database is ours to copy.
    fn keep_copy(&mut self, version: i64) -> Result<(), Error>;

    /// After something was deleted: what still holds its bytes (the log, kept copies) lets them go.
    fn scrub(&mut self) -> Result<(), Error>;

    /// Checks all of the database for damage.
    fn check(&mut self) -> Result<(), Error>;
}

/// Runs `work` as one transaction: all of it happens, durably, or nothing.
pub(crate) fn transact<T>(
    database: &mut dyn Database,
    operation: &'static str,
    mode: Mode,
    work: impl FnOnce(&mut dyn Database) -> Result<T, Error>,
) -> Result<T, Error> {
    database.begin(operation, mode)?;
    match work(database) {
        Ok(value) => {
            if let Err(error) = database.commit() {
                database.rollback();
                return Err(error);
            }
            Ok(value)
        }
        Err(error) => {
            database.rollback();
            Err(error)
        }
    }
}

/// The only row of a result, if there is one.
pub(crate) fn first(rows: Vec<Row>) -> Option<Row> {
    rows.into_iter().next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_of_the_wrong_kind_is_damage() {
        let mut row = Row(vec![Value::Integer(3), "a".into(), Value::Null, Value::Integer(-1)]);
        assert!(matches!(row.clone().text(0), Err(Error::Corrupt { .. })));
        assert!(matches!(row.clone().integer(1), Err(Error::Corrupt { .. })));
        assert!(matches!(row.clone().text(2), Err(Error::Corrupt { .. })));
        assert!(matches!(row.clone().number(3), Err(Error::Corrupt { .. })));
        assert!(matches!(row.clone().integer(9), Err(Error::Corrupt { .. })));
        assert_eq!(row.number(0).unwrap(), 3);
        assert_eq!(row.text(1).unwrap(), "a");
        assert_eq!(row.optional_integer(2).unwrap(), None);
    }
}
