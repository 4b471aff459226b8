//! API keys.

use std::sync::atomic::Ordering;

use llmos_store::{Error, Quota, Scope, Usage};

use super::Ground;

pub(crate) fn keys_open(ground: &Ground) {
    let mut store = ground.open();
    assert!(!store.keys().exist().unwrap());
    let quota = Quota {
        requests_per_minute: Some(60),
        tokens_per_minute: Some(900),
        tokens_per_day: Some(u64::MAX),
    };
    let laptop = store.keys().add("laptop", Scope::Chat, quota).unwrap();
    let root = store.keys().add("root 管理", Scope::Admin, Quota::default()).unwrap();
    assert!(laptop.expose().starts_with("sk-llmos-") && laptop.expose().len() == 9 + 8 + 64);
    assert_eq!(format!("{laptop:?}"), "Secret(…)");
    let key = store.keys().authenticate(laptop.expose()).unwrap().unwrap();
    assert_eq!((key.name.as_str(), key.scope), ("laptop", Scope::Chat));
    assert_eq!((key.quota.requests_per_minute, key.quota.tokens_per_minute), (Some(60), Some(900)));
    let key = store.keys().authenticate(root.expose()).unwrap().unwrap();
    assert_eq!(
        (key.name.as_str(), key.scope, key.quota),
        ("root 管理", Scope::Admin, Quota::default())
    );
    let mut wrong = laptop.expose().to_string();
    let last = if wrong.ends_with('0') { '1' } else { '0' };
    wrong.pop();
    wrong.push(last);
    let upper = laptop.expose().to_uppercase();
    let half = &laptop.expose()[..40];
    for shown in ["", "sk-llmos-", "laptop", "é", "sk-llmos-éééééééé", &wrong, &upper, half]
    {
        assert_eq!(store.keys().authenticate(shown).unwrap(), None, "{shown}");
    }
    // Use is noted, to the minute.
    let used = store.keys().list().unwrap()[0].used.unwrap();
    store.keys().authenticate(laptop.expose()).unwrap();
    assert_eq!(store.keys().list().unwrap()[0].used, Some(used));
    ground.time.fetch_add(60_000, Ordering::Relaxed);
    store.keys().authenticate(laptop.expose()).unwrap();
    assert!(store.keys().list().unwrap()[0].used.unwrap() >= used + 60_000);
    // A server that checks keys by itself has their hashes and sums, and spending is use as well.
    ground.time.fetch_add(60_000, Ordering::Relaxed);
    store.keys().spend("laptop", 1, 7).unwrap();
    let known = store.keys().known().unwrap();
    assert_eq!(known.len(), 2);
    assert_eq!((known[0].key.name.as_str(), known[0].usage.tokens), ("laptop", 7));
    assert_eq!((known[0].sha256.len(), known[1].usage), (64, Usage::default()));
    assert!(known[0].key.used.unwrap() >= used + 120_000);
    // Revoked stays revoked, its name stays given, and the store stays closed.
    store.keys().revoke("laptop").unwrap();
    store.keys().revoke("root 管理").unwrap();
    let revoked = store.keys().list().unwrap()[0].revoked;
    store.keys().revoke("laptop").unwrap();
    assert!(revoked.is_some() && store.keys().list().unwrap()[0].revoked == revoked);
    assert_eq!(store.keys().authenticate(laptop.expose()).unwrap(), None);
    assert!(store.keys().exist().unwrap() && store.keys().known().unwrap().is_empty());
    let error = store.keys().add("laptop", Scope::Admin, quota).unwrap_err();
    assert!(matches!(error, Error::Exists { what: "key", .. }), "{error}");
    let renewed = store.keys().renew("laptop").unwrap();
    assert_eq!(store.keys().authenticate(laptop.expose()).unwrap(), None);
    let key = store.keys().authenticate(renewed.expose()).unwrap().unwrap();
    assert_eq!((key.scope, key.quota.requests_per_minute), (Scope::Chat, Some(60)));
    assert!(matches!(store.keys().revoke("x"), Err(Error::Missing { what: "key", .. })));
    assert!(matches!(store.keys().renew("x"), Err(Error::Missing { what: "key", .. })));
}

pub(crate) fn key_names_are_checked(ground: &Ground) {
    let mut store = ground.open();
    for name in ["", " ", "a ", "a\nb", "a\0", &"a".repeat(65)] {
        let error = store.keys().add(name, Scope::Chat, Quota::default()).unwrap_err();
        assert!(matches!(error, Error::Invalid { .. }), "{error}");
    }
    assert!(!store.keys().exist().unwrap());
    store.keys().add(&"é".repeat(64), Scope::Chat, Quota::default()).unwrap();
}

pub(crate) fn usage_is_counted_by_day(ground: &Ground) {
    let mut store = ground.open();
    assert_eq!(store.keys().usage("a").unwrap(), Usage::default());
    store.keys().spend("a", 1, 100).unwrap();
    store.keys().spend("b", 1, 1).unwrap();
    let expected = Usage { requests: 3, tokens: 142 };
    assert_eq!(store.keys().spend("a", 2, 42).unwrap(), expected);
    drop(store);
    let mut store = ground.open();
    assert_eq!(store.keys().usage("a").unwrap(), expected);
    ground.time.fetch_add(86_400_000, Ordering::Relaxed);
    assert_eq!(store.keys().usage("a").unwrap(), Usage::default());
    store.keys().spend("a", u64::MAX, u64::MAX).unwrap();
}
