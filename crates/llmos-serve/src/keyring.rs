//! The keys of a running server: those that it was started with and those of its store, which come
//! and go while it runs; and the sessions of its page.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use llmos_store::{Known, Store};

use crate::archive::Archive;
use crate::keys::{Caller, Key, Keys, Quota, hash};
use crate::quota::Meters;
use crate::refusal::Refusal;

/// Who may come in.
pub(crate) struct Keyring {
    /// Those that the server was started with.
    given: Vec<Key>,
    state: RwLock<State>,
    sessions: Mutex<HashMap<[u8; 32], Session>>,
    pub(crate) meters: Meters,
}

/// What is known at a time.
#[derive(Clone, Default)]
struct State {
    keys: Arc<Keys>,
    /// Keys were made once, so that nobody comes in without one, even where all are revoked.
    is_closed: bool,
}

/// What a cookie stands for.
struct Session {
    /// The hash of the key that it was begun with: without that key it is nothing.
    key: [u8; 32],
    until: Instant,
}

/// How long a session lasts after its last use.
pub(crate) const SESSION: Duration = Duration::from_secs(30 * 24 * 3600);

/// Most sessions; the one that would end first goes for another.
const SESSIONS: usize = 10_000;

/// What the store says of its keys.
pub(crate) type Snapshot = (Vec<Known>, bool);

/// Asks the store for its keys.
pub(crate) fn snapshot(store: &mut Store) -> Result<Snapshot, llmos_store::Error> {
    let mut keys = store.keys();
    let exist = keys.exist()?;
    Ok((if exist { keys.known()? } else { Vec::new() }, exist))
}

impl Keyring {
    /// The keys that a server is started with.
    pub(crate) fn new(given: &Keys) -> Keyring {
        let given: Vec<Key> = given.iter().cloned().collect();
        let is_closed = !given.is_empty();
        let state = State { keys: Arc::new(Keys::new(given.clone())), is_closed };
        Keyring {
            given,
            state: RwLock::new(state),
            sessions: Mutex::default(),
            meters: Meters::default(),
        }
    }

    fn state(&self) -> State {
        self.state.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Nobody is asked for a key.
    pub(crate) fn is_open(&self) -> bool {
        !self.state().is_closed
    }

    /// Whose key this is.
    pub(crate) fn find(&self, key: &str) -> Option<Caller> {
        self.state().keys.find(key)
    }

    /// The owner of a caller's conversations; nobody's name is the person's at the machine.
    ///
    /// # Errors
    /// The key has been revoked in between.
    pub(crate) fn owner(&self, caller: Caller) -> Result<Arc<str>, Refusal> {
        if caller == Caller::ANYONE {
            return Ok("".into());
        }
        self.name(caller).ok_or_else(Refusal::unknown_key)
    }

    /// The name of a caller's key; none where no key is asked for.
    pub(crate) fn name(&self, caller: Caller) -> Option<Arc<str>> {
        self.state().keys.of_owner(caller.owner).map(|(name, _)| name)
    }

    /// Who the owner of that name is, while there is one.
    pub(crate) fn caller(&self, name: &str) -> Option<Caller> {
        match name {
            "" => Some(Caller::ANYONE),
            name => self.state().keys.of_name(name),
        }
    }

    /// How much a caller may do.
    pub(crate) fn quota(&self, caller: Caller) -> Quota {
        let found = self.state().keys.of_owner(caller.owner);
        found.map(|(_, quota)| quota).unwrap_or_default()
    }

    /// True where more than one may come, so that one must leave room for others.
    pub(crate) fn is_shared(&self) -> bool {
        self.state().keys.iter().count() > 1
    }

    /// Takes in what the store says.
    pub(crate) fn replace(&self, (known, exist): Snapshot) {
        let mut keys = self.given.clone();
        for Known { key, sha256, usage } in known {
            let Some(sha256) = bytes(&sha256) else {
                tracing::error!(key = key.name, "the hash of a key is none");
                continue;
            };
            // A name that the server was started with is that key's.
            if self.given.iter().any(|given| given.name == key.name) {
                continue;
            }
            self.meters.know(&key.name, usage.tokens);
            keys.push(Key { name: key.name, sha256, scope: key.scope, quota: key.quota });
        }
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        state.is_closed = exist || !self.given.is_empty();
        state.keys = Arc::new(Keys::new(keys));
    }

    /// Tells the store what was used, and asks it for its keys.
    pub(crate) async fn refresh(&self, archive: &Archive) {
        let mut spent = self.meters.take();
        let all = spent.clone();
        let asked = archive.ask(move |store| {
            let told = tell(store, &all);
            let found = if told < all.len() { None } else { snapshot(store).ok() };
            Ok((told, found))
        });
        let (told, found) = asked.await.unwrap_or_default();
        if let Some(snapshot) = found {
            self.replace(snapshot);
        } else {
            tracing::warn!("the store could not be asked for its keys");
        }
        self.meters.give_back(spent.split_off(told));
    }

    /// Tells the store what was used and not told yet, as the server ends.
    pub(crate) fn tell(&self, archive: &Archive) {
        let spent = self.meters.take();
        let count = spent.len();
        let told = archive.ask_here(move |store| Ok(tell(store, &spent)));
        if told.is_ok_and(|told| told == count) {
            return;
        }
        tracing::error!("what was used last could not be noted");
    }

    /// Begins a session with a key; `secret` is what the cookie will hold.
    ///
    /// # Errors
    /// The key is not known.
    pub(crate) fn begin(&self, key: &str, secret: &str) -> Result<Caller, Refusal> {
        let caller = self.find(key).ok_or_else(Refusal::unknown_key)?;
        let now = Instant::now();
        let mut sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        sessions.retain(|_, session| session.until > now);
        if sessions.len() >= SESSIONS {
            let first = sessions.iter().min_by_key(|(_, session)| session.until);
            if let Some(first) = first.map(|(hash, _)| *hash) {
                sessions.remove(&first);
            }
        }
        sessions.insert(hash(secret), Session { key: hash(key), until: now + SESSION });
        Ok(caller)
    }

    /// Whose session a cookie is, which lasts anew from now on. It is found by its hash, so that the
    /// time that this takes tells nothing of it.
    pub(crate) fn session(&self, secret: &str) -> Option<Caller> {
        let now = Instant::now();
        let mut sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        let session = sessions.get_mut(&hash(secret)).filter(|session| session.until > now)?;
        session.until = now + SESSION;
        let key = session.key;
        drop(sessions);
        self.state().keys.of_hash(&key)
    }

    /// Ends a session.
    pub(crate) fn end(&self, secret: &str) {
        let mut sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        sessions.remove(&hash(secret));
    }
}

/// Tells a store what was used: (name, requests, tokens). Gives how many of them it was told.
fn tell(store: &mut Store, spent: &[(String, u64, u64)]) -> usize {
    let told = |(name, requests, tokens): &&(String, u64, u64)| {
        store.keys().spend(name, *requests, *tokens).is_ok()
    };
    spent.iter().take_while(told).count()
}

/// The bytes of a hash in hexadecimal digits.
fn bytes(digits: &str) -> Option<[u8; 32]> {
    let digits = digits.as_bytes();
    let mut bytes = [0; 32];
    if digits.len() != 2 * bytes.len() {
        return None;
    }
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks(2)) {
        let pair = std::str::from_utf8(pair).ok()?;
        *byte = u8::from_str_radix(pair, 16).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use llmos_store::Scope;

    use super::*;

    #[test]
    fn a_session_lives_as_long_as_its_key() {
        let keys = Keys::new(vec![Key::of("ann", "secret", Scope::Chat)]);
        let keyring = Keyring::new(&keys);
        assert!(keyring.begin("wrong", "cookie").is_err());
        let caller = keyring.begin("secret", "cookie").unwrap();
        assert_eq!(keyring.session("cookie"), Some(caller));
        assert_eq!(keyring.session("other"), None);
        keyring.end("cookie");
        assert_eq!(keyring.session("cookie"), None);
        keyring.begin("secret", "cookie").unwrap();
        keyring.state.write().unwrap().keys = Arc::default();
        assert_eq!(keyring.session("cookie"), None);
        assert!(!keyring.is_open());
    }

    #[test]
    fn hashes_are_read_from_their_digits() {
        let digits = "00ff".repeat(16);
        assert_eq!(bytes(&digits).unwrap()[..3], [0, 255, 0]);
        for wrong in ["", "00", &"zz".repeat(32), &"é".repeat(32), &"0".repeat(63)] {
            assert_eq!(bytes(wrong), None, "{wrong}");
        }
    }
}
