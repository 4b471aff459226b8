//! Who may open a store, and databases of other versions.

use llmos_store::{Error, Parent, Purpose};
use serde_json::Value;

use super::{Ground, user};

pub(crate) fn one_server_at_a_time(ground: &Ground) {
    // Whoever only visits may make the store, and leaves it free.
    drop(ground.try_open(Purpose::Visit).unwrap());
    let mut server = ground.open();
    let error = ground.try_open(Purpose::Serve).err().expect("a second server is refused");
    let Error::Locked { process, .. } = &error else { panic!("{error}") };
    if ground.is_sqlite {
        assert_eq!(*process, Some(std::process::id()));
    }
    assert!(error.to_string().contains("in use by another server"), "{error}");
    // A visitor sees what the server writes, and the server what a visitor does.
    let id = server.chats("ann").create("one", Value::Null).unwrap().id;
    let mut visitor = ground.try_open(Purpose::Visit).unwrap();
    visitor.chats("ann").append(&id, Parent::Leaf, user("from outside")).unwrap();
    server.chats("ann").append(&id, Parent::Leaf, user("from inside")).unwrap();
    let branch = visitor.chats("ann").branch(&id, None).unwrap();
    let places: Vec<_> = branch.iter().map(|message| (message.number, message.parent)).collect();
    assert_eq!(places, [(1, None), (2, Some(1))]);
    visitor.chats("ann").delete(&id).unwrap();
    assert!(matches!(server.chats("ann").tree(&id), Err(Error::Missing { .. })));
    drop(server);
    // A visitor does not keep a server out.
    ground.try_open(Purpose::Serve).unwrap();
}

fn set_version(ground: &Ground, version: i64) {
    if ground.is_sqlite {
        (ground.sql)(&format!("PRAGMA user_version = {version}"));
    } else {
        (ground.sql)(&format!("UPDATE llmos.schema_version SET version = {version}"));
    }
}

pub(crate) fn newer_is_refused(ground: &Ground) {
    let mut store = ground.open();
    let id = store.chats("ann").create("one", Value::Null).unwrap().id;
    drop(store);
    set_version(ground, 1000);
    for purpose in [Purpose::Serve, Purpose::Visit] {
        let error = ground.try_open(purpose).err().expect("a newer store is refused");
        let Error::Newer { found: 1000, known, .. } = error else { panic!("{error}") };
        set_version(ground, known);
        assert_eq!(ground.open().chats("ann").conversation(&id).unwrap().title, "one");
        set_version(ground, 1000);
    }
}

pub(crate) fn older_is_migrated(ground: &Ground) {
    let mut store = ground.open();
    let id = store.chats("ann").create("an old title", Value::Null).unwrap().id;
    store.chats("ann").append(&id, Parent::Leaf, user("an old message 旧的")).unwrap();
    let before = store.chats("ann").tree(&id).unwrap();
    drop(store);
    // What the later steps made goes: this is what the first version wrote.
    let schema = if ground.is_sqlite { "" } else { "llmos." };
    if ground.is_sqlite {
        (ground.sql)("DROP TABLE passage_index");
    }
    for table in ["passage", "api_key", "key_usage", "deletion"] {
        (ground.sql)(&format!("DROP TABLE {schema}{table}"));
    }
    set_version(ground, 1);
    let mut store = ground.open();
    let mut chats = store.chats("ann");
    assert_eq!(chats.tree(&id).unwrap(), before);
    assert_eq!(chats.search("title", 0, 10).unwrap().len(), 1);
    assert_eq!(chats.search("旧", 0, 10).unwrap()[0].message, Some(1));
    assert!(!store.keys().exist().unwrap());
    assert!(store.deletions().unwrap().is_empty());
    store.check().unwrap();
}
