//! The schema and its versions: how an empty or older database becomes one of today.
//!
//! Statements are in SQLite's words; PostgreSQL's side turns `INTEGER` into `BIGINT` and leaves
//! `STRICT` out. A step is never changed once it was released: what should be otherwise is a new
//! step.

use crate::database::{Database, Dialect, Mode, transact};
use crate::error::Error;
use crate::search;

/// The version that this program writes.
pub(crate) const VERSION: i64 = STEPS.len() as i64;

/// What makes version n + 1 out of version n.
type Fill = fn(&mut dyn Database) -> Result<(), Error>;

struct Step {
    /// For both kinds of database.
    both: &'static str,
    /// For SQLite, after that.
    sqlite: &'static str,
    /// For PostgreSQL, after that.
    postgres: &'static str,
    /// What statements alone cannot do.
    fill: Option<Fill>,
}

const STEPS: [Step; 4] = [
    Step { both: CONVERSATIONS, sqlite: "", postgres: "", fill: None },
    Step {
        both: "",
        sqlite: PASSAGES_SQLITE,
        postgres: PASSAGES_POSTGRES,
        fill: Some(search::index_all),
    },
    Step { both: KEYS, sqlite: "", postgres: "", fill: None },
    Step { both: DELETIONS, sqlite: "", postgres: "", fill: None },
];

const CONVERSATIONS: &str = "
    CREATE TABLE conversation (
        id TEXT NOT NULL PRIMARY KEY,
        owner TEXT NOT NULL,
        title TEXT NOT NULL,
        settings TEXT,
        leaf INTEGER,
        messages INTEGER NOT NULL,
        created INTEGER NOT NULL,
        updated INTEGER NOT NULL
    ) STRICT;
    CREATE INDEX conversation_by_owner ON conversation (owner, updated, id);
    CREATE TABLE message (
        conversation TEXT NOT NULL REFERENCES conversation (id) ON DELETE CASCADE,
        number INTEGER NOT NULL,
        parent INTEGER,
        role TEXT NOT NULL,
        content TEXT NOT NULL,
        reasoning TEXT,
        tool_calls TEXT,
        tool_call_id TEXT,
        name TEXT,
        origin TEXT,
        created INTEGER NOT NULL,
        PRIMARY KEY (conversation, number)
    ) STRICT;
    CREATE INDEX message_by_parent ON message (conversation, parent);
    CREATE TABLE attachment (
        conversation TEXT NOT NULL,
        message INTEGER NOT NULL,
        position INTEGER NOT NULL,
        name TEXT NOT NULL,
        media TEXT NOT NULL,
        content TEXT NOT NULL,
        PRIMARY KEY (conversation, message, position),
        FOREIGN KEY (conversation, message)
            REFERENCES message (conversation, number) ON DELETE CASCADE
    ) STRICT;
    CREATE TABLE rating (
        conversation TEXT NOT NULL,
        message INTEGER NOT NULL,
        thumb INTEGER NOT NULL,
        reason TEXT,
        ideal TEXT,
        created INTEGER NOT NULL,
        PRIMARY KEY (conversation, message),
        FOREIGN KEY (conversation, message)
            REFERENCES message (conversation, number) ON DELETE CASCADE
    ) STRICT;
";

/// Message 0 is the title. The index gets words that we have cut, so its tokenizer, `ascii`, has
/// spaces to look for and nothing else; triggers keep it beside the table, cascades included.
const PASSAGES_SQLITE: &str = "
    CREATE TABLE passage (
        id INTEGER PRIMARY KEY,
        conversation TEXT NOT NULL REFERENCES conversation (id) ON DELETE CASCADE,
        message INTEGER NOT NULL,
        words TEXT NOT NULL
    ) STRICT;
    CREATE INDEX passage_of_message ON passage (conversation, message);
    CREATE VIRTUAL TABLE passage_index USING fts5 (
        words, content = 'passage', content_rowid = 'id', tokenize = 'ascii'
    );
    INSERT INTO passage_index (passage_index, rank) VALUES ('secure-delete', 1);
    CREATE TRIGGER passage_added AFTER INSERT ON passage BEGIN
        INSERT INTO passage_index (rowid, words) VALUES (new.id, new.words);
    END;
    CREATE TRIGGER passage_removed AFTER DELETE ON passage BEGIN
        INSERT INTO passage_index (passage_index, rowid, words)
            VALUES ('delete', old.id, old.words);
    END;
";

const PASSAGES_POSTGRES: &str = "
    CREATE TABLE passage (
        id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        conversation TEXT NOT NULL REFERENCES conversation (id) ON DELETE CASCADE,
        message BIGINT NOT NULL,
        words TSVECTOR NOT NULL
    );
    CREATE INDEX passage_of_message ON passage (conversation, message);
    CREATE INDEX passage_index ON passage USING gin (words);
";

const KEYS: &str = "
    CREATE TABLE api_key (
        name TEXT NOT NULL PRIMARY KEY,
        prefix TEXT NOT NULL UNIQUE,
        hash TEXT NOT NULL,
        scope TEXT NOT NULL,
        requests_per_minute INTEGER,
        tokens_per_minute INTEGER,
        tokens_per_day INTEGER,
        created INTEGER NOT NULL,
        used INTEGER,
        revoked INTEGER
    ) STRICT;
    CREATE TABLE key_usage (
        name TEXT NOT NULL,
        day INTEGER NOT NULL,
        requests INTEGER NOT NULL,
        tokens INTEGER NOT NULL,
        PRIMARY KEY (name, day)
    ) STRICT;
";

/// How often an owner's conversations were deleted: nothing of what was in them.
const DELETIONS: &str = "
    CREATE TABLE deletion (
        owner TEXT NOT NULL PRIMARY KEY,
        times INTEGER NOT NULL
    ) STRICT;
";

/// Refuses a version that this program does not know.
pub(crate) fn refuse_newer(place: &str, found: i64) -> Result<(), Error> {
    if found > VERSION {
        return Err(Error::Newer { place: place.to_string(), found, known: VERSION });
    }
    Ok(())
}

/// Brings a database to today's version, in one transaction, with a copy of an older one kept.
///
/// # Errors
/// [`Error::Newer`]; [`Error::Locked`] while a server has it, which may be an older one.
pub(crate) fn migrate(database: &mut dyn Database) -> Result<(), Error> {
    let found = database.version()?;
    refuse_newer(database.place(), found)?;
    if found == VERSION {
        return Ok(());
    }
    if found > 0 {
        database.keep_copy(found)?;
    }
    transact(database, "migrate", Mode::Write, |database| {
        // Asked again, now that nobody else writes.
        let found = database.version()?;
        let done = usize::try_from(found).unwrap_or(0);
        for step in STEPS.iter().skip(done) {
            let own = match database.dialect() {
                Dialect::Sqlite => step.sqlite,
                Dialect::Postgres => step.postgres,
            };
            for statements in [step.both, own] {
                database.batch(statements)?;
            }
            if let Some(fill) = step.fill {
                fill(database)?;
            }
        }
        database.set_version(VERSION.max(found))
    })
}
