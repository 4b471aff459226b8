//! Keys: who may ask for what. A server knows the hashes of keys alone.

use std::sync::Arc;

use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

pub use llmos_store::{Quota, Scope};

/// A key that is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    /// What people call it: the owner of the conversations that are led with it.
    pub name: String,
    /// The SHA-256 of the key. Keys are long and random, so a fast hash is enough.
    pub sha256: [u8; 32],
    /// What it is for.
    pub scope: Scope,
    /// How much may be done with it.
    pub quota: Quota,
}

impl Key {
    /// The entry of a key that is at hand, without a quota.
    pub fn of(name: impl Into<String>, key: &str, scope: Scope) -> Key {
        Key { name: name.into(), sha256: hash(key), scope, quota: Quota::default() }
    }
}

/// All keys that are known; without one nobody is asked for a key.
#[derive(Clone, Debug, Default)]
pub struct Keys {
    keys: Vec<Entry>,
}

#[derive(Clone, Debug)]
struct Entry {
    key: Key,
    caller: Caller,
    name: Arc<str>,
}

/// Who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Caller {
    /// Tells callers apart where slots are shared; not secret.
    pub(crate) owner: u64,
    /// Keeps their cached prefixes apart; nobody outside can know it.
    pub(crate) salt: u64,
    /// What they may do.
    pub(crate) scope: Scope,
}

impl Caller {
    /// Whoever it is, where no key is asked for.
    pub(crate) const ANYONE: Caller = Caller { owner: 0, salt: 0, scope: Scope::Admin };
}

impl Keys {
    /// These keys.
    pub fn new(keys: Vec<Key>) -> Keys {
        let entry = |key: Key| {
            let name = Sha256::digest(key.name.as_bytes());
            let caller = Caller {
                // The same for as long as the name is, whatever keys come and go; 0 is nobody's.
                owner: word(&name, 0).max(1),
                salt: word(&key.sha256, 0) ^ word(&key.sha256, 8),
                scope: key.scope,
            };
            Entry { caller, name: key.name.as_str().into(), key }
        };
        Keys { keys: keys.into_iter().map(entry).collect() }
    }

    /// True if nobody is asked for a key.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// All of them.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Key> {
        self.keys.iter().map(|entry| &entry.key)
    }

    /// Whose key this is; none for one that is not known. Takes as long for any key.
    pub(crate) fn find(&self, key: &str) -> Option<Caller> {
        self.of_hash(&hash(key))
    }

    /// Whose key has this hash. Takes as long for any hash.
    pub(crate) fn of_hash(&self, sha256: &[u8; 32]) -> Option<Caller> {
        let mut found = None;
        for known in &self.keys {
            if bool::from(known.key.sha256.ct_eq(sha256)) {
                found = Some(known.caller);
            }
        }
        found
    }

    /// Who comes with the key of that name.
    pub(crate) fn of_name(&self, name: &str) -> Option<Caller> {
        let entry = self.keys.iter().find(|entry| *entry.name == *name)?;
        Some(entry.caller)
    }

    /// The name and the quota of a caller, while the key is known.
    pub(crate) fn of_owner(&self, owner: u64) -> Option<(Arc<str>, Quota)> {
        let entry = self.keys.iter().find(|entry| entry.caller.owner == owner)?;
        Some((entry.name.clone(), entry.key.quota))
    }
}

/// The SHA-256 of a secret.
pub(crate) fn hash(secret: &str) -> [u8; 32] {
    Sha256::digest(secret.as_bytes()).into()
}

/// Eight of a hash's bytes as a number.
fn word(hash: &[u8], from: usize) -> u64 {
    hash.iter().skip(from).take(8).fold(0, |word, &byte| word << 8 | u64::from(byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_found_by_its_hash_alone() {
        let keys = Keys::new(vec![
            Key::of("a", "llmos-one", Scope::Chat),
            Key::of("b", "llmos-two", Scope::Admin),
        ]);
        let one = keys.find("llmos-one").unwrap();
        let two = keys.find("llmos-two").unwrap();
        assert_eq!((one.scope, two.scope), (Scope::Chat, Scope::Admin));
        assert!(one.owner != two.owner && one.owner != 0 && two.owner != 0);
        assert!(one.salt != two.salt && one.salt != 0 && two.salt != 0);
        assert_eq!(keys.of_owner(two.owner).unwrap().0.as_ref(), "b");
        assert_eq!((keys.of_name("b"), keys.of_name("c")), (Some(two), None));
        for wrong in ["", "llmos-on", "llmos-one ", "LLMOS-ONE"] {
            assert_eq!(keys.find(wrong), None);
        }
        assert!(Keys::default().is_empty() && Keys::default().find("").is_none());
        // A key that is renewed is the same owner's, and does not read what the old one cached.
        let renewed = Keys::new(vec![Key::of("a", "llmos-three", Scope::Chat)]);
        let three = renewed.find("llmos-three").unwrap();
        assert!(three.owner == one.owner && three.salt != one.salt);
    }
}
