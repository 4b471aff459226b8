//! Export and import: an owner's conversations as lines of JSON, out and in again without loss.

use std::io::{BufRead, Read, Write};

use crate::chats::{Chats, insert_head};
use crate::conversation::Tree;
use crate::database::{Database, Mode, transact};
use crate::error::Error;
use crate::messages::{insert, whole};
use crate::random::random_hex;

/// What a line of an export holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// The whole tree, ratings included: what [`Chats::import`] reads back without loss.
    Trees,
    /// The branch to the leaf as `{"messages": […]}`: what models are trained on.
    Messages,
}

/// What came of an import.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Imported {
    /// Conversations that are new.
    pub conversations: u64,
    /// Messages in them.
    pub messages: u64,
    /// Conversations that were there already, just so.
    pub unchanged: u64,
    /// New ones whose id was taken, and that have another now.
    pub renamed: u64,
}

/// Longest line, in bytes.
const LONGEST_LINE: u64 = 64 << 20;
/// Conversations of a transaction: a long import lets others write in between.
const BATCH: usize = 64;

impl Chats<'_> {
    /// Writes all conversations, a line each, in the order of their ids; gives their number. Each is
    /// read in one state; what is added or deleted meanwhile may be there or not.
    ///
    /// # Errors
    /// [`Error::Io`] where it cannot be written; those of the database.
    pub fn export(&mut self, form: Form, out: &mut dyn Write) -> Result<u64, Error> {
        let (mut last, mut n) = (String::new(), 0);
        while let Some((end, more)) = self.export_after(&last, form, out)? {
            (last, n) = (end, n + more);
        }
        out.flush().map_err(Error::io("export to", "the output"))?;
        Ok(n)
    }

    /// Writes some of those whose ids come after one, in order; gives the last id and the number of
    /// lines, none where there are no more. An export can go on with it, and others ask in between.
    ///
    /// # Errors
    /// As [`Chats::export`].
    pub fn export_after(
        &mut self,
        id: &str,
        form: Form,
        out: &mut dyn Write,
    ) -> Result<Option<(String, u64)>, Error> {
        let parameters = [self.owner.as_str().into(), id.into()];
        let sql = "SELECT id FROM conversation WHERE owner = $1 AND id > $2 ORDER BY id LIMIT 20";
        let rows = transact(self.database, "export", Mode::Read, |database| {
            database.query(sql, &parameters)
        })?;
        let ids = rows.into_iter().map(|mut row| row.text(0));
        let ids = ids.collect::<Result<Vec<String>, Error>>()?;
        let mut n = 0;
        for id in &ids {
            n += u64::from(self.export_one(id, form, out)?);
        }
        Ok(ids.into_iter().next_back().map(|last| (last, n)))
    }

    /// Writes one conversation as a line; false where it is gone.
    ///
    /// # Errors
    /// As [`Chats::export`].
    pub fn export_one(&mut self, id: &str, form: Form, out: &mut dyn Write) -> Result<bool, Error> {
        let tree = match self.tree(id) {
            Ok(tree) => tree,
            Err(Error::Missing { .. }) => return Ok(false),
            Err(error) => return Err(error),
        };
        let row = match form {
            Form::Trees => tree.to_json(),
            Form::Messages => tree.to_plain_json(),
        };
        writeln!(out, "{row}").map_err(Error::io("export to", "the output"))?;
        Ok(true)
    }

    /// Takes conversations from lines: trees of an export, or plain `{"messages": […]}`. All lines
    /// are read before the first is stored. What this owner has already, just so, is left alone, so
    /// that an import which broke off can be repeated; an id that is taken otherwise is changed.
    ///
    /// # Errors
    /// [`Error::Row`] with the line's number, and nothing was stored; those of the database, and
    /// conversations up to some line were, each whole.
    pub fn import(&mut self, input: &mut dyn BufRead) -> Result<Imported, Error> {
        let now = (self.clock)();
        let trees = read(input, now)?;
        let owner = self.owner.clone();
        let mut imported = Imported::default();
        for batch in trees.chunks(BATCH) {
            let more = transact(self.database, "import", Mode::Write, |database| {
                let mut counts = Imported::default();
                for tree in batch {
                    take(database, &owner, tree, &mut counts)?;
                }
                Ok(counts)
            })?;
            imported.conversations += more.conversations;
            imported.messages += more.messages;
            imported.unchanged += more.unchanged;
            imported.renamed += more.renamed;
        }
        Ok(imported)
    }
}

/// The trees of all lines; empty lines are none.
fn read(input: &mut dyn BufRead, now: i64) -> Result<Vec<Tree>, Error> {
    let mut trees = Vec::new();
    for number in 1.. {
        let wrong = |problem: String| Error::Row { number, problem };
        let mut line = Vec::new();
        let n = (&mut *input).take(LONGEST_LINE + 1).read_until(b'\n', &mut line);
        if n.map_err(Error::io("read", "the input"))? == 0 {
            break;
        }
        if line.len() as u64 > LONGEST_LINE {
            return Err(wrong(format!("is longer than {} MiB", LONGEST_LINE >> 20)));
        }
        let line = std::str::from_utf8(&line);
        let line = line.map_err(|error| wrong(format!("is no UTF-8: {error}")))?;
        let line = line.trim_start_matches('\u{feff}').trim();
        if !line.is_empty() {
            trees.push(Tree::parse(line, now).map_err(wrong)?);
        }
    }
    Ok(trees)
}

/// Stores a tree, unless it is there.
fn take(
    database: &mut dyn Database,
    owner: &str,
    tree: &Tree,
    counts: &mut Imported,
) -> Result<(), Error> {
    let mut head = tree.conversation.clone();
    let sql = "SELECT owner FROM conversation WHERE id = $1";
    if let Some(mut row) = database.query(sql, &[head.id.as_str().into()])?.into_iter().next() {
        if row.text(0)? == owner && is_same(&whole(database, owner, &head.id)?, tree) {
            counts.unchanged += 1;
            return Ok(());
        }
        head.id = random_hex(16)?;
        counts.renamed += 1;
    }
    insert_head(database, owner, &head)?;
    for message in &tree.messages {
        insert(database, &head.id, message)?;
    }
    counts.conversations += 1;
    counts.messages += tree.messages.len() as u64;
    Ok(())
}

/// Whether two trees say the same. Plain rows have no times, so that theirs do not count.
fn is_same(one: &Tree, other: &Tree) -> bool {
    let timeless = |tree: &Tree| {
        let mut tree = tree.clone();
        (tree.conversation.created, tree.conversation.updated) = (0, 0);
        tree.messages.iter_mut().for_each(|message| message.created = 0);
        tree
    };
    timeless(one) == timeless(other)
}
