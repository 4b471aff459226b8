//! Search: which messages and titles of an owner hold all phrases of a query.

use crate::chats::Chats;
use crate::conversation::{Attachment, Role};
use crate::database::{Database, Dialect, Mode, Value, transact};
use crate::error::Error;
use crate::words::{Phrase, passages, phrases, words};

/// Something that was found.
#[derive(Clone, Debug, PartialEq)]
pub struct Hit {
    /// The conversation.
    pub conversation: String,
    /// Its title.
    pub title: String,
    /// The message; none where the title is what was found.
    pub message: Option<u32>,
    /// Who speaks in it.
    pub role: Option<Role>,
    /// When it was written, in milliseconds since 1970.
    pub created: i64,
    /// Some of the text around the place.
    pub snippet: String,
    /// Where in the snippet it is, in bytes; empty where a snippet shows none of it.
    pub place: std::ops::Range<usize>,
}

/// Characters of a snippet before and after the place.
const AROUND: usize = 60;
/// Most hits at once.
const MOST: u32 = 200;

impl Chats<'_> {
    /// The messages, attachments included, and titles that hold every phrase of `query`,
    /// conversations that changed last first; `skip` of them left out, at most `limit` (200).
    ///
    /// Words are found by their beginnings, Chinese, Japanese, Korean, Thai, Khmer and Burmese by
    /// any part; what stands between quotes, in that order. A query without a word finds nothing.
    ///
    /// # Errors
    /// Those of the database.
    pub fn search(&mut self, query: &str, skip: u32, limit: u32) -> Result<Vec<Hit>, Error> {
        let phrases = phrases(query);
        if phrases.is_empty() {
            return Ok(Vec::new());
        }
        let owner = self.owner.clone();
        transact(self.database, "search", Mode::Read, |database| {
            found(database, &owner, &phrases, skip, limit.min(MOST))
        })
    }
}

fn found(
    database: &mut dyn Database,
    owner: &str,
    phrases: &[Phrase],
    skip: u32,
    limit: u32,
) -> Result<Vec<Hit>, Error> {
    let dialect = database.dialect();
    let parts: Vec<String> = (4..4 + phrases.len())
        .map(|parameter| match dialect {
            Dialect::Sqlite => format!(
                "SELECT conversation, message FROM passage WHERE id IN
                     (SELECT rowid FROM passage_index WHERE passage_index MATCH ${parameter})"
            ),
            Dialect::Postgres => format!(
                "SELECT conversation, message FROM passage
                 WHERE words @@ CAST(CAST(${parameter} AS TEXT) AS TSQUERY)"
            ),
        })
        .collect();
    // What is found is narrowed to the owner before it is cut to the limit.
    let sql = format!(
        "SELECT c.id, c.title, c.created, h.message, m.role, m.content, m.created
         FROM ({}) AS h
         JOIN conversation AS c ON c.id = h.conversation
         LEFT JOIN message AS m ON m.conversation = h.conversation AND m.number = h.message
         WHERE c.owner = $1
         ORDER BY c.updated DESC, c.id DESC, h.message DESC
         LIMIT $2 OFFSET $3",
        if parts.len() == 1 {
            parts[0].replacen("SELECT", "SELECT DISTINCT", 1)
        } else {
            parts.join(" INTERSECT ")
        }
    );
    let mut parameters: Vec<Value> = vec![owner.into(), limit.into(), skip.into()];
    parameters.extend(phrases.iter().map(|phrase| match dialect {
        Dialect::Sqlite => Value::Text(for_sqlite(phrase)),
        Dialect::Postgres => Value::Text(for_postgres(phrase)),
    }));
    let mut hits = Vec::new();
    for mut row in database.query(&sql, &parameters)? {
        let (conversation, title) = (row.text(0)?, row.text(1)?);
        let number = row.number(3)?;
        let role = row.optional_text(4)?.and_then(|name| Role::of(&name));
        let content = row.optional_text(5)?;
        let created = row.optional_integer(6)?.unwrap_or(row.integer(2)?);
        let mut texts = vec![content.unwrap_or_else(|| title.clone())];
        if number > 0 && place_of(&texts[0], phrases).is_none() {
            let sql = "SELECT content FROM attachment WHERE conversation = $1 AND message = $2
                       ORDER BY position";
            for mut row in database.query(sql, &[conversation.as_str().into(), number.into()])? {
                texts.push(row.text(0)?);
            }
        }
        let (snippet, place) = snippet(&texts, phrases);
        let message = (number > 0).then_some(number);
        hits.push(Hit { conversation, title, message, role, created, snippet, place });
    }
    Ok(hits)
}

/// Takes a message, or a title as message 0, into the index.
pub(crate) fn index(
    database: &mut dyn Database,
    conversation: &str,
    message: u32,
    content: &str,
    attachments: &[Attachment],
) -> Result<(), Error> {
    let attached = attachments.iter().map(|file| format!("{}\n{}", file.name, file.text));
    let texts = std::iter::once(content.to_string()).chain(attached);
    let dialect = database.dialect();
    let sql = match dialect {
        Dialect::Sqlite => "INSERT INTO passage (conversation, message, words) VALUES ($1, $2, $3)",
        Dialect::Postgres => {
            "INSERT INTO passage (conversation, message, words)
             VALUES ($1, $2, CAST(CAST($3 AS TEXT) AS TSVECTOR))"
        }
    };
    for passage in texts.flat_map(|text| passages(&text)) {
        let words = match dialect {
            Dialect::Sqlite => passage.join(" "),
            Dialect::Postgres => {
                let placed = passage.iter().zip(1..).map(|(word, at)| format!("'{word}':{at}"));
                placed.collect::<Vec<String>>().join(" ")
            }
        };
        database.execute(sql, &[conversation.into(), message.into(), words.into()])?;
    }
    Ok(())
}

/// Takes a title out of the index, before another takes its place.
pub(crate) fn forget_title(database: &mut dyn Database, conversation: &str) -> Result<(), Error> {
    let sql = "DELETE FROM passage WHERE conversation = $1 AND message = 0";
    database.execute(sql, &[conversation.into()]).map(|_| ())
}

/// Takes everything into the index that was there before it.
pub(crate) fn index_all(database: &mut dyn Database) -> Result<(), Error> {
    let heads = database.query("SELECT id, title FROM conversation ORDER BY id", &[])?;
    for mut head in heads {
        let (id, title) = (head.text(0)?, head.text(1)?);
        index(database, &id, 0, &title, &[])?;
        let sql = "SELECT number, content FROM message WHERE conversation = $1 ORDER BY number";
        for mut row in database.query(sql, &[id.as_str().into()])? {
            let (number, content) = (row.number(0)?, row.text(1)?);
            let sql = "SELECT name, media, content FROM attachment
                       WHERE conversation = $1 AND message = $2 ORDER BY position";
            let rows = database.query(sql, &[id.as_str().into(), number.into()])?;
            let attachments = rows.into_iter().map(|mut row| {
                Ok(Attachment { name: row.text(0)?, media: row.text(1)?, text: row.text(2)? })
            });
            let attachments = attachments.collect::<Result<Vec<_>, Error>>()?;
            index(database, &id, number, &content, &attachments)?;
        }
    }
    Ok(())
}

/// A phrase in FTS5's query language: a string, and a star where the last word is a beginning.
fn for_sqlite(phrase: &Phrase) -> String {
    format!("\"{}\"{}", phrase.words.join(" "), if phrase.is_open { " *" } else { "" })
}

/// A phrase as a `tsquery`.
fn for_postgres(phrase: &Phrase) -> String {
    let words: Vec<String> = phrase.words.iter().map(|word| format!("'{word}'")).collect();
    format!("{}{}", words.join(" <-> "), if phrase.is_open { ":*" } else { "" })
}

/// Where in a text the first of the phrases is that it holds.
fn place_of(text: &str, phrases: &[Phrase]) -> Option<(usize, usize)> {
    let words = words(text);
    phrases.iter().find_map(|phrase| phrase.find(&words))
}

/// Some of the first text that holds a phrase, and where in it the phrase is.
fn snippet(texts: &[String], phrases: &[Phrase]) -> (String, std::ops::Range<usize>) {
    let found = texts.iter().find_map(|text| Some((text, place_of(text, phrases)?)));
    let first = texts.first().map(String::as_str).unwrap_or_default();
    let (text, (start, end)) = found.map_or((first, (0, 0)), |(text, at)| (text.as_str(), at));
    let before = text[..start].char_indices().rev().take(AROUND).last().map_or(start, |(at, _)| at);
    let after = text[end..].char_indices().nth(AROUND).map_or(text.len(), |(at, _)| end + at);
    (text[before..after].to_string(), start - before..end - before)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn snippets_show_the_place() {
        let check = |texts: &[&str], query: &str, expected: &str, marked: &str| {
            let texts: Vec<String> = texts.iter().map(|text| text.to_string()).collect();
            let (snippet, place) = snippet(&texts, &phrases(query));
            assert_eq!((snippet.as_str(), &snippet[place]), (expected, marked));
        };
        check(&["The cat sat."], "cat", "The cat sat.", "cat");
        check(&["No.", "大模型很大"], "模型", "大模型很大", "模型");
        check(&["nothing here"], "cat", "nothing here", "");
        let long = format!("{}cat{}", "é".repeat(100), "ü".repeat(100));
        let long = long.replace("cat", " cat ");
        let around = format!("{} cat {}", "é".repeat(AROUND - 1), "ü".repeat(AROUND - 1));
        check(&[&long], "cat", &around, "cat");
        check(&[], "cat", "", "");
    }

    #[test]
    fn phrases_are_written_for_each_database() {
        let check = |query: &str, sqlite: &str, postgres: &str| {
            let phrase = &phrases(query)[0];
            let written = (for_sqlite(phrase), for_postgres(phrase));
            assert_eq!(written, (sqlite.to_string(), postgres.to_string()));
        };
        check("\"A cat\"", "\"a cat\" *", "'a' <-> 'cat':*");
        check("模型", "\"模 型\"", "'模' <-> '型'");
    }
}
