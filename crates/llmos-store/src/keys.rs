//! API keys: named, stored as hashes, with a scope and quotas.
//!
//! A key is 256 random bits, so that one SHA-256 of it is as hard to turn round as the key is to
//! guess; a slow hash is for passwords that people think up. Eight digits of it are kept in the
//! clear, to find its row and to recognise it in a list.

use std::collections::BTreeMap;
use std::fmt;

use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::database::{Database, Mode, Row, first, transact, unexpected};
use crate::error::Error;
use crate::random::{hex, random_hex};
use crate::store::Clock;

/// What a key begins with, by which scanners of leaked secrets know it.
const MARK: &str = "sk-llmos-";
/// Hexadecimal digits that are kept in the clear.
const PREFIX: usize = 8;
/// Longest name, in characters.
const LONGEST_NAME: usize = 64;
/// When a key was used last is noted this often at most, in milliseconds: a note is a write.
const NOTED: i64 = 60_000;
const DAY: i64 = 86_400_000;

const COLUMNS: &str = "name, prefix, scope, requests_per_minute, tokens_per_minute,
                       tokens_per_day, created, used, revoked";

/// The place of the hash where it is asked for after [`COLUMNS`].
const HASH: usize = 9;

/// What a key may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Ask models, and keep conversations.
    Chat,
    /// That, and run the server.
    Admin,
}

impl Scope {
    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Scope::Chat => "chat",
            Scope::Admin => "admin",
        }
    }

    /// The scope of a name.
    pub fn of(name: &str) -> Option<Scope> {
        [Scope::Chat, Scope::Admin].into_iter().find(|scope| scope.name() == name)
    }
}

/// How much may be done with a key; none is without bound.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Quota {
    /// Requests in a minute.
    pub requests_per_minute: Option<u32>,
    /// Tokens, of prompts and answers, in a minute.
    pub tokens_per_minute: Option<u64>,
    /// Tokens, of prompts and answers, in a day (UTC).
    pub tokens_per_day: Option<u64>,
}

/// What is known of a key; not the key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    /// Its name, which is the owner of the conversations that are led with it.
    pub name: String,
    /// The digits of it that are kept in the clear.
    pub prefix: String,
    /// What it may do.
    pub scope: Scope,
    /// How much.
    pub quota: Quota,
    /// When it was made, in milliseconds since 1970.
    pub created: i64,
    /// When it was used last, to the minute.
    pub used: Option<i64>,
    /// When it was revoked, if it was.
    pub revoked: Option<i64>,
}

/// A key itself. It is shown once, and stands in no log.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// The text.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// A key that opens something, as a server that checks keys by itself wants it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Known {
    /// What is known of it.
    pub key: Key,
    /// The SHA-256 of its secret, in hexadecimal digits.
    pub sha256: String,
    /// What it has used today.
    pub usage: Usage,
}

/// What was done with a key on a day.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Requests.
    pub requests: u64,
    /// Tokens.
    pub tokens: u64,
}

/// The keys of a store.
pub struct Keys<'a> {
    pub(crate) database: &'a mut dyn Database,
    pub(crate) clock: &'a Clock,
}

impl Keys<'_> {
    /// Makes a key. The secret cannot be had again.
    ///
    /// # Errors
    /// [`Error::Exists`] for a name that was ever given: whoever has a name owns its conversations.
    /// [`Error::Invalid`] for one that is empty, too long or not printable.
    pub fn add(&mut self, name: &str, scope: Scope, quota: Quota) -> Result<Secret, Error> {
        check_name(name)?;
        let (prefix, secret) = draw()?;
        let parameters = [
            name.into(),
            prefix.as_str().into(),
            hash(&secret).into(),
            scope.name().into(),
            quota.requests_per_minute.into(),
            quota.tokens_per_minute.map(signed).into(),
            quota.tokens_per_day.map(signed).into(),
            (self.clock)().into(),
        ];
        transact(self.database, "add a key", Mode::Write, |database| {
            if find(database, name)?.is_some() {
                return Err(Error::Exists { what: "key", name: name.to_string() });
            }
            let sql = "INSERT INTO api_key (name, prefix, hash, scope, requests_per_minute,
                           tokens_per_minute, tokens_per_day, created)
                       VALUES ($1, $2, $3, $4, $5, $6, $7, $8)";
            database.execute(sql, &parameters)
        })?;
        Ok(secret)
    }

    /// Gives a name a new secret, whether the old one was revoked or not; scope and quota stay.
    ///
    /// # Errors
    /// [`Error::Missing`]; those of the database.
    pub fn renew(&mut self, name: &str) -> Result<Secret, Error> {
        let (prefix, secret) = draw()?;
        let sql = "UPDATE api_key SET prefix = $1, hash = $2, used = NULL, revoked = NULL
                   WHERE name = $3";
        let parameters = [prefix.as_str().into(), hash(&secret).into(), name.into()];
        let n = transact(self.database, "renew a key", Mode::Write, |database| {
            database.execute(sql, &parameters)
        })?;
        if n == 0 { Err(Error::missing("key", name)) } else { Ok(secret) }
    }

    /// All keys by name, revoked ones too.
    ///
    /// # Errors
    /// Those of the database.
    pub fn list(&mut self) -> Result<Vec<Key>, Error> {
        let sql = format!("SELECT {COLUMNS} FROM api_key");
        let rows =
            transact(self.database, "list keys", Mode::Read, |database| database.query(&sql, &[]))?;
        let mut keys = rows.into_iter().map(key).collect::<Result<Vec<Key>, Error>>()?;
        keys.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(keys)
    }

    /// The keys that open something, by name, each with its hash and what it has used today.
    ///
    /// # Errors
    /// Those of the database.
    pub fn known(&mut self) -> Result<Vec<Known>, Error> {
        let sql = format!("SELECT {COLUMNS}, hash FROM api_key WHERE revoked IS NULL");
        let day = (self.clock)().div_euclid(DAY);
        let (keys, used) = transact(self.database, "read keys", Mode::Read, |database| {
            let used = "SELECT requests, tokens, name FROM key_usage WHERE day = $1";
            Ok((database.query(&sql, &[])?, database.query(used, &[day.into()])?))
        })?;
        let mut by_name = BTreeMap::new();
        for mut row in used {
            by_name.insert(row.text(2)?, usage(vec![row])?);
        }
        let mut known = Vec::with_capacity(keys.len());
        for mut row in keys {
            let sha256 = row.text(HASH)?;
            let key = key(row)?;
            let usage = by_name.get(&key.name).copied().unwrap_or_default();
            known.push(Known { key, sha256, usage });
        }
        known.sort_by(|one, other| one.key.name.cmp(&other.key.name));
        Ok(known)
    }

    /// Whether a key was ever made. A store whose keys are all revoked is closed, not open.
    ///
    /// # Errors
    /// Those of the database.
    pub fn exist(&mut self) -> Result<bool, Error> {
        let rows = transact(self.database, "look for keys", Mode::Read, |database| {
            database.query("SELECT name FROM api_key LIMIT 1", &[])
        })?;
        Ok(!rows.is_empty())
    }

    /// Revokes a key: it opens nothing from now on. One that was revoked stays so.
    ///
    /// # Errors
    /// [`Error::Missing`]; those of the database.
    pub fn revoke(&mut self, name: &str) -> Result<(), Error> {
        let now = (self.clock)();
        let sql = "UPDATE api_key SET revoked = COALESCE(revoked, $1) WHERE name = $2";
        let n = transact(self.database, "revoke a key", Mode::Write, |database| {
            database.execute(sql, &[now.into(), name.into()])
        })?;
        if n == 0 { Err(Error::missing("key", name)) } else { Ok(()) }
    }

    /// The key that somebody shows; none for one that is unknown, wrong or revoked. How long this
    /// takes does not tell how much of a wrong key is right.
    ///
    /// # Errors
    /// Those of the database.
    pub fn authenticate(&mut self, shown: &str) -> Result<Option<Key>, Error> {
        let digits = shown.strip_prefix(MARK).unwrap_or_default();
        let prefix: String = digits.chars().take(PREFIX).collect();
        let sql = format!("SELECT {COLUMNS}, hash FROM api_key WHERE prefix = $1");
        let rows = transact(self.database, "look a key up", Mode::Read, |database| {
            database.query(&sql, &[prefix.into()])
        })?;
        let mut row = first(rows);
        let stored = match &mut row {
            Some(row) => row.text(HASH)?,
            None => "0".repeat(64),
        };
        let shown = hash(&Secret(shown.to_string()));
        let is_right = bool::from(shown.as_bytes().ct_eq(stored.as_bytes()));
        let Some(key) = row.map(key).transpose()?.filter(|key| is_right && key.revoked.is_none())
        else {
            return Ok(None);
        };
        let now = (self.clock)();
        if key.used.is_none_or(|used| now - used >= NOTED) {
            // A full disk or a busy database keeps nobody out.
            let sql = "UPDATE api_key SET used = $1 WHERE name = $2";
            let _ = transact(self.database, "note a key's use", Mode::Write, |database| {
                database.execute(sql, &[now.into(), key.name.as_str().into()])
            });
        }
        Ok(Some(key))
    }

    /// Adds to what a key has used today, and notes that it was used now; gives the sum.
    ///
    /// # Errors
    /// Those of the database.
    pub fn spend(&mut self, name: &str, requests: u64, tokens: u64) -> Result<Usage, Error> {
        let now = (self.clock)();
        let day = now.div_euclid(DAY);
        let sql = "INSERT INTO key_usage (name, day, requests, tokens) VALUES ($1, $2, $3, $4)
                   ON CONFLICT (name, day) DO UPDATE SET
                       requests = key_usage.requests + excluded.requests,
                       tokens = key_usage.tokens + excluded.tokens
                   RETURNING requests, tokens";
        let parameters = [name.into(), day.into(), signed(requests).into(), signed(tokens).into()];
        let rows = transact(self.database, "note a key's usage", Mode::Write, |database| {
            let noted = "UPDATE api_key SET used = $1
                         WHERE name = $2 AND (used IS NULL OR used <= $3)";
            let before = now.saturating_sub(NOTED);
            database.execute(noted, &[now.into(), name.into(), before.into()])?;
            database.query(sql, &parameters)
        })?;
        usage(rows)
    }

    /// What a key has used today.
    ///
    /// # Errors
    /// Those of the database.
    pub fn usage(&mut self, name: &str) -> Result<Usage, Error> {
        let day = (self.clock)().div_euclid(DAY);
        let sql = "SELECT requests, tokens FROM key_usage WHERE name = $1 AND day = $2";
        let rows = transact(self.database, "read a key's usage", Mode::Read, |database| {
            database.query(sql, &[name.into(), day.into()])
        })?;
        usage(rows)
    }
}

fn find(database: &mut dyn Database, name: &str) -> Result<Option<Row>, Error> {
    let sql = "SELECT name FROM api_key WHERE name = $1";
    Ok(first(database.query(sql, &[name.into()])?))
}

fn key(mut row: Row) -> Result<Key, Error> {
    let scope = row.text(2)?;
    let positive = |number: Option<i64>| number.and_then(|number| u64::try_from(number).ok());
    let requests = positive(row.optional_integer(3)?);
    Ok(Key {
        name: row.text(0)?,
        prefix: row.text(1)?,
        scope: Scope::of(&scope).ok_or_else(|| unexpected(2, "a scope", &scope))?,
        quota: Quota {
            requests_per_minute: requests.map(|n| u32::try_from(n).unwrap_or(u32::MAX)),
            tokens_per_minute: positive(row.optional_integer(4)?),
            tokens_per_day: positive(row.optional_integer(5)?),
        },
        created: row.integer(6)?,
        used: row.optional_integer(7)?,
        revoked: row.optional_integer(8)?,
    })
}

fn usage(rows: Vec<Row>) -> Result<Usage, Error> {
    let Some(mut row) = first(rows) else { return Ok(Usage::default()) };
    let unsigned = |number: i64| u64::try_from(number).unwrap_or(0);
    Ok(Usage { requests: unsigned(row.integer(0)?), tokens: unsigned(row.integer(1)?) })
}

/// A new secret, and its digits that are kept in the clear.
fn draw() -> Result<(String, Secret), Error> {
    let (prefix, rest) = (random_hex(PREFIX / 2)?, random_hex(32)?);
    let secret = Secret(format!("{MARK}{prefix}{rest}"));
    Ok((prefix, secret))
}

fn hash(secret: &Secret) -> String {
    hex(&Sha256::digest(secret.expose()))
}

fn signed(number: u64) -> i64 {
    // A quota beyond nine quintillions is none; half of the range leaves room for sums.
    i64::try_from(number).unwrap_or(i64::MAX).min(i64::MAX / 2)
}

fn check_name(name: &str) -> Result<(), Error> {
    let is_long = name.chars().count() > LONGEST_NAME;
    if name.trim() != name || name.is_empty() || is_long || name.chars().any(char::is_control) {
        let problem = format!("expected 1 to {LONGEST_NAME} printable characters");
        return Err(Error::invalid("key name", problem));
    }
    Ok(())
}
