//! Ratings: a thumb, a reason, and what should have been said.

use crate::chats::{Chats, find};
use crate::conversation::{Rating, Thumb};
use crate::database::{Database, Mode, transact};
use crate::error::Error;

/// A rated message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rated {
    /// Its conversation.
    pub conversation: String,
    /// Its number in it.
    pub message: u32,
    /// What was thought of it.
    pub rating: Rating,
}

/// Most ratings at once.
const MOST: u32 = 1000;

impl Chats<'_> {
    /// Rates a message; an earlier rating of it goes. It is durable once this returns.
    ///
    /// # Errors
    /// [`Error::Missing`] for a message that this owner does not have; those of the database.
    pub fn rate(
        &mut self,
        id: &str,
        message: u32,
        thumb: Thumb,
        reason: Option<String>,
        ideal: Option<String>,
    ) -> Result<Rating, Error> {
        let rating = Rating { thumb, reason, ideal, created: (self.clock)() };
        let owner = self.owner.clone();
        transact(self.database, "rate a message", Mode::Write, |database| {
            remove(database, &owner, id, message)?;
            insert(database, id, message, &rating)
        })?;
        Ok(rating)
    }

    /// Takes a rating back, if there is one.
    ///
    /// # Errors
    /// As [`Chats::rate`].
    pub fn unrate(&mut self, id: &str, message: u32) -> Result<(), Error> {
        let owner = self.owner.clone();
        transact(self.database, "take a rating back", Mode::Write, |database| {
            remove(database, &owner, id, message)
        })
    }

    /// Ratings of a kind, or of both, the newest first; `skip` of them left out, at most `limit`
    /// (1,000).
    ///
    /// # Errors
    /// Those of the database.
    pub fn rated(
        &mut self,
        thumb: Option<Thumb>,
        skip: u32,
        limit: u32,
    ) -> Result<Vec<Rated>, Error> {
        let sql = "SELECT r.conversation, r.message, r.thumb, r.reason, r.ideal, r.created
                   FROM rating AS r JOIN conversation AS c ON c.id = r.conversation
                   WHERE c.owner = $1 AND (r.thumb = $2 OR r.thumb = $3)
                   ORDER BY r.created DESC, r.conversation, r.message LIMIT $4 OFFSET $5";
        let (up, down) = (value_of(Thumb::Up), value_of(Thumb::Down));
        let wanted = thumb.map_or((up, down), |thumb| (value_of(thumb), value_of(thumb)));
        let parameters = [
            self.owner.as_str().into(),
            wanted.0.into(),
            wanted.1.into(),
            limit.min(MOST).into(),
            skip.into(),
        ];
        let rows = transact(self.database, "list ratings", Mode::Read, |database| {
            database.query(sql, &parameters)
        })?;
        let rated = rows.into_iter().map(|mut row| {
            Ok(Rated {
                conversation: row.text(0)?,
                message: row.number(1)?,
                rating: Rating {
                    thumb: thumb_of(row.integer(2)?),
                    reason: row.optional_text(3)?,
                    ideal: row.optional_text(4)?,
                    created: row.integer(5)?,
                },
            })
        });
        rated.collect()
    }
}

/// Stores a rating.
pub(crate) fn insert(
    database: &mut dyn Database,
    id: &str,
    message: u32,
    rating: &Rating,
) -> Result<(), Error> {
    let sql = "INSERT INTO rating (conversation, message, thumb, reason, ideal, created)
               VALUES ($1, $2, $3, $4, $5, $6)";
    let parameters = [
        id.into(),
        message.into(),
        value_of(rating.thumb).into(),
        rating.reason.as_deref().into(),
        rating.ideal.as_deref().into(),
        rating.created.into(),
    ];
    database.execute(sql, &parameters).map(|_| ())
}

fn remove(database: &mut dyn Database, owner: &str, id: &str, message: u32) -> Result<(), Error> {
    let head = find(database, owner, id)?;
    if message == 0 || message > head.messages {
        return Err(Error::missing("message", message));
    }
    let sql = "DELETE FROM rating WHERE conversation = $1 AND message = $2";
    database.execute(sql, &[id.into(), message.into()]).map(|_| ())
}

/// As a column has it.
fn value_of(thumb: Thumb) -> i64 {
    match thumb {
        Thumb::Up => 1,
        Thumb::Down => -1,
    }
}

/// Of a column.
pub(crate) fn thumb_of(value: i64) -> Thumb {
    if value > 0 { Thumb::Up } else { Thumb::Down }
}
