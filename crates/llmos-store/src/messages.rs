//! Messages: added at the end of a branch or beside another, read by branch or by number.

use crate::chats::{Chats, find, read_json, written};
use crate::conversation::{Attachment, Body, Message, Origin, Rating, Role, Tree, check_body};
use crate::database::{Database, Mode, Row, Value, first, transact, unexpected};
use crate::error::Error;
use crate::rating::thumb_of;
use crate::search;

/// Where a message is added.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parent {
    /// At the end of the branch that was looked at last.
    Leaf,
    /// At the beginning, as the first of a branch of its own.
    Root,
    /// After a message. Where that one has an answer already, this begins another branch: an edit is
    /// a sibling of the message that is edited, another try one of the first answer.
    Message(u32),
}

/// Most messages that are read at once by number.
const MOST: u32 = 1000;

const COLUMNS: &str = "number, parent, role, content, reasoning, tool_calls, tool_call_id, name,
                       origin, created";

impl Chats<'_> {
    /// Adds a message, which is then the leaf. It is durable once this returns.
    ///
    /// # Errors
    /// [`Error::Missing`] for a conversation or parent that this owner does not have;
    /// [`Error::Invalid`] for JSON that is nested too deep; those of the database.
    pub fn append(&mut self, id: &str, parent: Parent, body: Body) -> Result<Message, Error> {
        let mut added = self.append_all(id, parent, vec![body])?;
        added.pop().ok_or_else(|| Error::missing("message", "to add"))
    }

    /// Adds messages one after the other, such as a call, what the tool answered and what was made
    /// of it: all or none.
    ///
    /// # Errors
    /// As [`Chats::append`].
    pub fn append_all(
        &mut self,
        id: &str,
        parent: Parent,
        bodies: Vec<Body>,
    ) -> Result<Vec<Message>, Error> {
        bodies.iter().try_for_each(|body| check_body("message", body))?;
        let n_new = u32::try_from(bodies.len())
            .map_err(|_| Error::invalid("messages", "are more than a conversation holds"))?;
        if n_new == 0 {
            return Ok(Vec::new());
        }
        let (owner, now) = (self.owner.clone(), (self.clock)());
        transact(self.database, "add a message", Mode::Write, |database| {
            // The numbers are taken first: the row is then this transaction's until it ends.
            let sql = "UPDATE conversation SET messages = messages + $1, updated = $2
                       WHERE id = $3 AND owner = $4 RETURNING messages, leaf";
            let parameters = [n_new.into(), now.into(), id.into(), owner.as_str().into()];
            let row = first(database.query(sql, &parameters)?);
            let mut row = row.ok_or_else(|| Error::missing("conversation", id))?;
            let last = row.number(0)?;
            let n_old = last - n_new.min(last);
            let leaf = row.optional_integer(1)?.and_then(|leaf| u32::try_from(leaf).ok());
            let mut parent = match parent {
                Parent::Leaf => leaf,
                Parent::Root => None,
                Parent::Message(number) if (1..=n_old).contains(&number) => Some(number),
                Parent::Message(number) => return Err(Error::missing("message", number)),
            };
            let mut added = Vec::with_capacity(bodies.len());
            for (number, body) in (n_old + 1..).zip(bodies) {
                let message = Message { number, parent, created: now, body, rating: None };
                insert(database, id, &message)?;
                parent = Some(number);
                added.push(message);
            }
            let sql = "UPDATE conversation SET leaf = $1 WHERE id = $2";
            database.execute(sql, &[parent.into(), id.into()])?;
            Ok(added)
        })
    }

    /// Messages by number, from the one after `after`; at most `limit` (1,000) of them.
    ///
    /// # Errors
    /// [`Error::Missing`] for a conversation that this owner does not have; those of the database.
    pub fn messages(&mut self, id: &str, after: u32, limit: u32) -> Result<Vec<Message>, Error> {
        let owner = self.owner.clone();
        transact(self.database, "read messages", Mode::Read, |database| {
            find(database, &owner, id)?;
            let last = after.saturating_add(limit.min(MOST));
            load(database, id, "$2 < {n} AND {n} <= $3", &[after.into(), last.into()])
        })
    }

    /// One message.
    ///
    /// # Errors
    /// [`Error::Missing`] for one that this owner does not have; those of the database.
    pub fn message(&mut self, id: &str, number: u32) -> Result<Message, Error> {
        let found = self.messages(id, number.saturating_sub(1), 1)?;
        let message = found.into_iter().next().filter(|message| message.number == number);
        message.ok_or_else(|| Error::missing("message", number))
    }

    /// The messages from the beginning to `leaf`, or to the leaf that was looked at last.
    ///
    /// # Errors
    /// [`Error::Missing`] for a conversation or message that this owner does not have; those of the
    /// database.
    pub fn branch(&mut self, id: &str, leaf: Option<u32>) -> Result<Vec<Message>, Error> {
        let owner = self.owner.clone();
        transact(self.database, "read a branch", Mode::Read, |database| {
            let head = find(database, &owner, id)?;
            let Some(leaf) = leaf.or(head.leaf) else { return Ok(Vec::new()) };
            let filter = "{n} IN (
                WITH RECURSIVE path (number, parent) AS (
                    SELECT number, parent FROM message WHERE conversation = $1 AND number = $2
                    UNION ALL
                    SELECT m.number, m.parent FROM message AS m JOIN path AS p
                    ON m.conversation = $1 AND m.number = p.parent AND m.number < p.number
                ) SELECT number FROM path)";
            let branch = load(database, id, filter, &[leaf.into()])?;
            if branch.last().is_none_or(|message| message.number != leaf) {
                return Err(Error::missing("message", leaf));
            }
            Ok(branch)
        })
    }

    /// Goes to the branch that a message is on: its newest one, to the end. Gives the leaf.
    ///
    /// # Errors
    /// As [`Chats::branch`].
    pub fn select(&mut self, id: &str, number: u32) -> Result<u32, Error> {
        let owner = self.owner.clone();
        transact(self.database, "select a branch", Mode::Write, |database| {
            let head = find(database, &owner, id)?;
            if number == 0 || number > head.messages {
                return Err(Error::missing("message", number));
            }
            // The newest descendant has no answer, or that would be newer.
            let sql = "WITH RECURSIVE below (number) AS (
                    SELECT number FROM message WHERE conversation = $1 AND number = $2
                    UNION
                    SELECT m.number FROM message AS m JOIN below AS b
                    ON m.conversation = $1 AND m.parent = b.number
                ) SELECT max(number) FROM below";
            let row = first(database.query(sql, &[id.into(), number.into()])?);
            let mut row = row.ok_or_else(|| Error::missing("message", number))?;
            let leaf = row.number(0)?;
            let sql = "UPDATE conversation SET leaf = $1 WHERE id = $2";
            database.execute(sql, &[leaf.into(), id.into()])?;
            Ok(leaf)
        })
    }

    /// A conversation with all its branches.
    ///
    /// # Errors
    /// As [`Chats::conversation`].
    pub fn tree(&mut self, id: &str) -> Result<Tree, Error> {
        let owner = self.owner.clone();
        transact(self.database, "read a conversation", Mode::Read, |database| {
            whole(database, &owner, id)
        })
    }
}

/// An owner's conversation with all its branches.
pub(crate) fn whole(database: &mut dyn Database, owner: &str, id: &str) -> Result<Tree, Error> {
    let conversation = find(database, owner, id)?;
    let messages = load(database, id, "{n} > 0", &[])?;
    Ok(Tree { conversation, messages })
}

/// Stores a message with its attachments and rating, and takes it into the index.
pub(crate) fn insert(
    database: &mut dyn Database,
    id: &str,
    message: &Message,
) -> Result<(), Error> {
    let body = &message.body;
    let sql = "INSERT INTO message (conversation, number, parent, role, content, reasoning,
                   tool_calls, tool_call_id, name, origin, created)
               VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)";
    let calls: Option<serde_json::Value> =
        (!body.tool_calls.is_empty()).then(|| body.tool_calls.clone().into());
    let origin = body.origin.as_ref().map(serde_json::to_string).transpose();
    let origin = origin.map_err(|error| Error::invalid("origin", error.to_string()))?;
    let parameters = [
        id.into(),
        message.number.into(),
        message.parent.into(),
        body.role.name().into(),
        body.content.as_str().into(),
        body.reasoning_content.as_deref().into(),
        calls.as_ref().and_then(written).into(),
        body.tool_call_id.as_deref().into(),
        body.name.as_deref().into(),
        origin.into(),
        message.created.into(),
    ];
    database.execute(sql, &parameters)?;
    for (position, file) in (0_i64..).zip(&body.attachments) {
        let sql = "INSERT INTO attachment (conversation, message, position, name, media, content)
                   VALUES ($1, $2, $3, $4, $5, $6)";
        let parameters = [
            id.into(),
            message.number.into(),
            position.into(),
            file.name.as_str().into(),
            file.media.as_str().into(),
            file.text.as_str().into(),
        ];
        database.execute(sql, &parameters)?;
    }
    if let Some(rating) = &message.rating {
        crate::rating::insert(database, id, message.number, rating)?;
    }
    search::index(database, id, message.number, &body.content, &body.attachments)
}

/// Messages of a conversation whose number, `{n}` in the filter, fits; `$1` is the conversation.
fn load(
    database: &mut dyn Database,
    id: &str,
    filter: &str,
    parameters: &[Value],
) -> Result<Vec<Message>, Error> {
    let mut all: Vec<Value> = vec![id.into()];
    all.extend_from_slice(parameters);
    let select = |columns: &str, table: &str, n: &str, order: &str| {
        let filter = filter.replace("{n}", n);
        let sql = format!("SELECT {columns} FROM {table}");
        format!("{sql} WHERE conversation = $1 AND {filter} ORDER BY {order}")
    };
    let rows = database.query(&select(COLUMNS, "message", "number", "number"), &all)?;
    let mut messages = rows.into_iter().map(message).collect::<Result<Vec<_>, Error>>()?;
    let sql = select("message, name, media, content", "attachment", "message", "message, position");
    for mut row in database.query(&sql, &all)? {
        let number = row.number(0)?;
        let file = Attachment { name: row.text(1)?, media: row.text(2)?, text: row.text(3)? };
        of_number(&mut messages, number)?.body.attachments.push(file);
    }
    let sql = select("message, thumb, reason, ideal, created", "rating", "message", "message");
    for mut row in database.query(&sql, &all)? {
        let number = row.number(0)?;
        let rating = Rating {
            thumb: thumb_of(row.integer(1)?),
            reason: row.optional_text(2)?,
            ideal: row.optional_text(3)?,
            created: row.integer(4)?,
        };
        of_number(&mut messages, number)?.rating = Some(rating);
    }
    Ok(messages)
}

/// The message that a row belongs to.
fn of_number(messages: &mut [Message], number: u32) -> Result<&mut Message, Error> {
    let at = messages.binary_search_by_key(&number, |message| message.number);
    let at = at.map_err(|_| unexpected(0, "a message of the conversation", "another"))?;
    Ok(&mut messages[at])
}

/// A message of its row, attachments and rating aside.
fn message(mut row: Row) -> Result<Message, Error> {
    let role = row.text(2)?;
    let parent = match row.optional_integer(1)? {
        Some(parent) => Some(u32::try_from(parent).map_err(|_| unexpected(1, "a number", "?"))?),
        None => None,
    };
    Ok(Message {
        number: row.number(0)?,
        parent,
        created: row.integer(9)?,
        body: Body {
            role: Role::of(&role).ok_or_else(|| unexpected(2, "a role", &role))?,
            content: row.text(3)?,
            reasoning_content: row.optional_text(4)?,
            tool_calls: read_json(5, row.optional_text(5)?)?.unwrap_or_default(),
            tool_call_id: row.optional_text(6)?,
            name: row.optional_text(7)?,
            attachments: Vec::new(),
            origin: read_json::<Origin>(8, row.optional_text(8)?)?,
        },
        rating: None,
    })
}
