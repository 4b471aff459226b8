//! An owner's conversations: made, listed, renamed, deleted. Nothing here sees another owner's.

use std::fmt;
use std::str::FromStr;

use serde_json::Value as Json;

use crate::conversation::{Conversation, check_json};
use crate::database::{Database, Mode, Row, first, transact, unexpected};
use crate::error::Error;
use crate::random::random_hex;
use crate::search;
use crate::store::Clock;

/// Longest title, in characters; what is longer is cut.
const LONGEST_TITLE: usize = 300;
/// Most conversations of a page.
const MOST: u32 = 1000;

/// The columns of a head, in the order of [`head`].
pub(crate) const HEAD: &str = "id, title, settings, leaf, messages, created, updated";

/// The conversations of one owner. There is no other way to one.
pub struct Chats<'a> {
    pub(crate) database: &'a mut dyn Database,
    pub(crate) clock: &'a Clock,
    pub(crate) owner: String,
}

/// A place in a list, from which it goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cursor {
    updated: i64,
    id: String,
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.updated, self.id)
    }
}

impl FromStr for Cursor {
    type Err = Error;

    fn from_str(text: &str) -> Result<Cursor, Error> {
        let parts = text.split_once('.');
        let cursor = parts.and_then(|(updated, id)| {
            Some(Cursor { updated: updated.parse().ok()?, id: id.to_string() })
        });
        cursor.ok_or_else(|| Error::invalid("cursor", "is none that a list has given"))
    }
}

/// A page of a list.
#[derive(Clone, Debug, PartialEq)]
pub struct Page {
    /// What changed last comes first.
    pub conversations: Vec<Conversation>,
    /// Where the next page begins; none after the last.
    pub next: Option<Cursor>,
}

impl Chats<'_> {
    /// Whose they are.
    pub fn owner(&self) -> &str {
        &self.owner
    }

    /// Begins a conversation. It is durable once this returns.
    ///
    /// # Errors
    /// [`Error::Invalid`] for settings that are nested too deep; those of the database.
    pub fn create(&mut self, title: &str, settings: Json) -> Result<Conversation, Error> {
        check_json("settings", &settings)?;
        let now = (self.clock)();
        let head = Conversation {
            id: random_hex(16)?,
            title: cut(title),
            settings,
            leaf: None,
            messages: 0,
            created: now,
            updated: now,
        };
        let owner = self.owner.clone();
        transact(self.database, "begin a conversation", Mode::Write, |database| {
            insert_head(database, &owner, &head)
        })?;
        Ok(head)
    }

    /// A page of the list; the first where `after` is none. At most `limit` (1,000) of them.
    ///
    /// # Errors
    /// Those of the database.
    pub fn list(&mut self, after: Option<&Cursor>, limit: u32) -> Result<Page, Error> {
        let limit = limit.clamp(1, MOST);
        // No conversation is later than this.
        let last = Cursor { updated: i64::MAX, id: String::new() };
        let after = after.unwrap_or(&last);
        let sql = format!(
            "SELECT {HEAD} FROM conversation
             WHERE owner = $1 AND (updated < $2 OR (updated = $2 AND id < $3))
             ORDER BY updated DESC, id DESC LIMIT $4"
        );
        let parameters = [
            self.owner.as_str().into(),
            after.updated.into(),
            after.id.as_str().into(),
            // One more than asked for, to know whether there is a next page.
            (limit + 1).into(),
        ];
        let rows = transact(self.database, "list conversations", Mode::Read, |database| {
            database.query(&sql, &parameters)
        })?;
        let mut conversations = rows.into_iter().map(head).collect::<Result<Vec<_>, Error>>()?;
        let is_more = conversations.len() > limit as usize;
        conversations.truncate(limit as usize);
        let last = conversations.last().filter(|_| is_more);
        let next = last.map(|head| Cursor { updated: head.updated, id: head.id.clone() });
        Ok(Page { conversations, next })
    }

    /// The head of a conversation.
    ///
    /// # Errors
    /// [`Error::Missing`] where this owner has none of that id; those of the database.
    pub fn conversation(&mut self, id: &str) -> Result<Conversation, Error> {
        let owner = self.owner.clone();
        transact(self.database, "read a conversation", Mode::Read, |database| {
            find(database, &owner, id)
        })
    }

    /// Gives a conversation another title.
    ///
    /// # Errors
    /// As [`Chats::conversation`].
    pub fn rename(&mut self, id: &str, title: &str) -> Result<Conversation, Error> {
        let (owner, now, title) = (self.owner.clone(), (self.clock)(), cut(title));
        transact(self.database, "rename a conversation", Mode::Write, |database| {
            let sql = "UPDATE conversation SET title = $1, updated = $2
                       WHERE id = $3 AND owner = $4";
            let parameters = [title.as_str().into(), now.into(), id.into(), owner.as_str().into()];
            changed(database.execute(sql, &parameters)?, id)?;
            search::forget_title(database, id)?;
            search::index(database, id, 0, &title, &[])?;
            find(database, &owner, id)
        })
    }

    /// Replaces a conversation's settings.
    ///
    /// # Errors
    /// As [`Chats::create`] and [`Chats::conversation`].
    pub fn set(&mut self, id: &str, settings: &Json) -> Result<(), Error> {
        check_json("settings", settings)?;
        let (owner, now) = (self.owner.clone(), (self.clock)());
        transact(self.database, "change a conversation", Mode::Write, |database| {
            let sql = "UPDATE conversation SET settings = $1, updated = $2
                       WHERE id = $3 AND owner = $4";
            let settings = written(settings);
            let parameters = [settings.into(), now.into(), id.into(), owner.as_str().into()];
            changed(database.execute(sql, &parameters)?, id)
        })
    }

    /// Deletes a conversation with all that belongs to it: its bytes are overwritten, its words leave
    /// the index, the log is emptied, and copies of older versions of the database go. Where another
    /// process is reading at the time, the log is emptied at the next chance. In PostgreSQL bytes go
    /// with the server's vacuum.
    ///
    /// # Errors
    /// As [`Chats::conversation`]; after one of another kind the conversation is there or gone,
    /// never a part of it.
    pub fn delete(&mut self, id: &str) -> Result<(), Error> {
        let owner = self.owner.clone();
        transact(self.database, "delete a conversation", Mode::Write, |database| {
            let sql = "DELETE FROM conversation WHERE id = $1 AND owner = $2";
            changed(database.execute(sql, &[id.into(), owner.as_str().into()])?, id)?;
            note_deletion(database, &owner)
        })?;
        self.database.scrub()
    }

    /// Deletes all of them, as [`Chats::delete`] does one; gives how many there were.
    ///
    /// # Errors
    /// Those of the database.
    pub fn delete_all(&mut self) -> Result<u64, Error> {
        let owner = self.owner.clone();
        let n = transact(self.database, "delete conversations", Mode::Write, |database| {
            let sql = "DELETE FROM conversation WHERE owner = $1";
            let n = database.execute(sql, &[owner.as_str().into()])?;
            if n > 0 {
                note_deletion(database, &owner)?;
            }
            Ok(n)
        })?;
        self.database.scrub()?;
        Ok(n)
    }
}

/// A head of its row.
pub(crate) fn head(mut row: Row) -> Result<Conversation, Error> {
    Ok(Conversation {
        id: row.text(0)?,
        title: row.text(1)?,
        settings: read_json(2, row.optional_text(2)?)?.unwrap_or(Json::Null),
        leaf: match row.optional_integer(3)? {
            Some(leaf) => Some(u32::try_from(leaf).map_err(|_| unexpected(3, "a number", "?"))?),
            None => None,
        },
        messages: row.number(4)?,
        created: row.integer(5)?,
        updated: row.integer(6)?,
    })
}

/// Reads the JSON of a column.
pub(crate) fn read_json<T: serde::de::DeserializeOwned>(
    column: usize,
    text: Option<String>,
) -> Result<Option<T>, Error> {
    let read = text.map(|text| serde_json::from_str(&text)).transpose();
    read.map_err(|error| unexpected(column, "JSON of ours", &error.to_string()))
}

/// JSON as a column has it; null is nothing.
pub(crate) fn written(json: &Json) -> Option<String> {
    (!json.is_null()).then(|| json.to_string())
}

/// The head of an owner's conversation.
pub(crate) fn find(
    database: &mut dyn Database,
    owner: &str,
    id: &str,
) -> Result<Conversation, Error> {
    let sql = format!("SELECT {HEAD} FROM conversation WHERE id = $1 AND owner = $2");
    let row = first(database.query(&sql, &[id.into(), owner.into()])?);
    head(row.ok_or_else(|| Error::missing("conversation", id))?)
}

/// Stores a head, and takes its title into the index.
pub(crate) fn insert_head(
    database: &mut dyn Database,
    owner: &str,
    head: &Conversation,
) -> Result<(), Error> {
    let sql = "INSERT INTO conversation
                   (id, title, settings, leaf, messages, created, updated, owner)
               VALUES ($1, $2, $3, $4, $5, $6, $7, $8)";
    let parameters = [
        head.id.as_str().into(),
        head.title.as_str().into(),
        written(&head.settings).into(),
        head.leaf.into(),
        head.messages.into(),
        head.created.into(),
        head.updated.into(),
        owner.into(),
    ];
    database.execute(sql, &parameters)?;
    search::index(database, &head.id, 0, &head.title, &[])
}

/// That a conversation was there to be changed.
fn changed(n_row: u64, id: &str) -> Result<(), Error> {
    if n_row == 0 { Err(Error::missing("conversation", id)) } else { Ok(()) }
}

/// Counts a deletion, by which a server finds that another program has deleted something.
fn note_deletion(database: &mut dyn Database, owner: &str) -> Result<(), Error> {
    let sql = "INSERT INTO deletion (owner, times) VALUES ($1, 1)
               ON CONFLICT (owner) DO UPDATE SET times = deletion.times + 1";
    database.execute(sql, &[owner.into()]).map(|_| ())
}

fn cut(title: &str) -> String {
    title.chars().take(LONGEST_TITLE).collect()
}
