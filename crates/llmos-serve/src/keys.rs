//! Keys: who may ask for what. A server knows the hashes of keys alone.

use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

/// What a key is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Asking models.
    Chat,
    /// That, and changing what the server has.
    Admin,
}

/// A key that is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    /// What people call it.
    pub name: String,
    /// The SHA-256 of the key. Keys are long and random, so a fast hash is enough.
    pub sha256: [u8; 32],
    /// What it is for.
    pub scope: Scope,
}

impl Key {
    /// The entry of a key that is at hand.
    pub fn of(name: impl Into<String>, key: &str, scope: Scope) -> Key {
        Key { name: name.into(), sha256: hash(key), scope }
    }
}

/// All keys that are known; without one nobody is asked for a key.
#[derive(Clone, Debug, Default)]
pub struct Keys {
    keys: Vec<Key>,
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
        Keys { keys }
    }

    /// True if nobody is asked for a key.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// The name of an owner's key; none where no key is asked for.
    pub(crate) fn name(&self, owner: u64) -> Option<&str> {
        let number = usize::try_from(owner.checked_sub(1)?).ok()?;
        self.keys.get(number).map(|key| key.name.as_str())
    }

    /// Whose key this is; none for one that is not known. Takes as long for any key.
    pub(crate) fn find(&self, key: &str) -> Option<Caller> {
        let hash = hash(key);
        let mut found = None;
        for (number, known) in self.keys.iter().enumerate() {
            if bool::from(known.sha256.ct_eq(&hash)) {
                let word = |from: usize| {
                    let bytes = &known.sha256[from..from + 8];
                    bytes.iter().fold(0, |word, &byte| word << 8 | u64::from(byte))
                };
                let owner = number as u64 + 1;
                found = Some(Caller { owner, salt: word(0) ^ word(8), scope: known.scope });
            }
        }
        found
    }
}

fn hash(key: &str) -> [u8; 32] {
    Sha256::digest(key.as_bytes()).into()
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
        assert_eq!((one.owner, one.scope), (1, Scope::Chat));
        assert_eq!((two.owner, two.scope), (2, Scope::Admin));
        assert_eq!((keys.name(2), keys.name(0), keys.name(3)), (Some("b"), None, None));
        assert!(one.salt != two.salt && one.salt != 0 && two.salt != 0);
        for wrong in ["", "llmos-on", "llmos-one ", "LLMOS-ONE"] {
            assert_eq!(keys.find(wrong), None);
        }
        assert!(Keys::default().is_empty() && Keys::default().find("").is_none());
    }
}
