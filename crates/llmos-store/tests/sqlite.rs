//! The store on SQLite: what every store does, and what a file on a disk has to stand.
#![allow(clippy::unwrap_used, reason = "a test's own store must open")]

mod ground;
mod kill;
mod suite;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ground::Folder;
use llmos_store::{Attachment, Error, Options, Parent, Place, Purpose, Store};
use rusqlite::Connection;
use serde_json::Value;
use suite::{Ground, user};

const FILE: &str = "llmos.sqlite";

fn ground(folder: &Folder) -> Ground {
    let path = folder.path().join("data");
    let file = path.join(FILE);
    let same = file.clone();
    let sql = move |sql: &str| Connection::open(&file).unwrap().execute_batch(sql).unwrap();
    let count = move |table: &str| {
        let sql = format!("SELECT count(*) FROM {table}");
        Connection::open(&same).unwrap().query_row(&sql, [], |row| row.get(0)).unwrap()
    };
    Ground::new(Place::Folder(path), true, Box::new(sql), Box::new(count))
}

/// One test for each of the suite.
macro_rules! tests {
    ($($name:ident)*) => {
        $(#[test]
        fn $name() {
            let (_, test) = suite::ALL.iter().find(|(name, _)| *name == stringify!($name)).unwrap();
            test(&ground(&Folder::new()));
        })*

        #[test]
        fn every_test_of_the_suite_is_run() {
            let run = BTreeSet::from([$(stringify!($name)),*]);
            assert_eq!(run, suite::ALL.iter().map(|(name, _)| *name).collect());
        }
    };
}

tests! {
    branches
    several_messages_at_once
    everything_of_a_message_comes_back
    every_character_comes_back
    lists_have_pages
    ratings
    what_is_missing_is_said
    owners_are_apart
    deletion
    random_trees_come_back
    words_are_found
    attachments_and_titles_are_found
    long_texts_are_found_everywhere
    no_query_is_an_error
    search_is_as_a_scan
    exports_come_back
    imports_can_be_repeated
    bad_lines_leave_nothing
    keys_open
    key_names_are_checked
    usage_is_counted_by_day
    one_server_at_a_time
    newer_is_refused
    older_is_migrated
}

#[test]
fn child() {
    kill::write_until_killed();
}

#[test]
fn nothing_acknowledged_is_lost_to_a_kill() {
    let folder = Folder::new();
    let place = folder.path().join("data");
    let n_done = kill::kill_and_look(place.to_str().unwrap(), "child", 60);
    println!("60 kills, {n_done} acknowledged writes");
}

fn open(path: &Path, change: impl FnOnce(&mut Options)) -> Result<Store, Error> {
    let mut options = Options::new(Purpose::Serve);
    options.patience = Duration::from_millis(50);
    change(&mut options);
    Store::open(&Place::Folder(path.to_path_buf()), options)
}

/// Everything in a folder, one file after the other.
fn bytes(folder: &Path) -> Vec<u8> {
    let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    files.flat_map(|path| std::fs::read(path).unwrap()).collect()
}

fn holds(bytes: &[u8], word: &str) -> bool {
    bytes.windows(word.len()).any(|window| window == word.as_bytes())
}

/// A word that stands nowhere else.
fn word(i: usize) -> String {
    let digits: String = format!("{:08}", i * 7919 % 100_000_000)
        .bytes()
        .map(|byte| char::from(byte - b'0' + b'k'))
        .collect();
    format!("q{digits}z")
}

/// Conversations of all sizes, each with a word of its own in title, text, attachment and rating;
/// what the database's pages hold of the deleted ones is looked for in the raw bytes.
#[test]
fn deleted_bytes_are_gone() {
    let folder = Folder::new();
    let mut store = open(folder.path(), |_| {}).unwrap();
    let mut chats = store.chats("ann");
    let mut ids = Vec::new();
    for i in 0..240 {
        let word = word(i);
        let id = chats.create(&format!("title {word}"), Value::Null).unwrap().id;
        for n in 0..i % 5 {
            let filler = "filler words ".repeat((i * 37 + n * 11) % 900);
            let mut body = user(&format!("{word} {filler} {word}"));
            body.reasoning_content = Some(word.clone());
            body.attachments = vec![Attachment {
                name: format!("{word}.txt"),
                media: "text/plain".into(),
                text: format!("{filler}{word}"),
            }];
            chats.append(&id, Parent::Leaf, body).unwrap();
            let ideal = Some(word.clone());
            chats.rate(&id, 1, llmos_store::Thumb::Down, ideal.clone(), ideal).unwrap();
        }
        ids.push(id);
    }
    let raw = bytes(folder.path());
    assert!((0..240).all(|i| holds(&raw, &word(i))));
    // Two of three, in an order that leaves no page alone.
    let goes = |i: usize| !(i * 101 % 240).is_multiple_of(3);
    for i in (0..240).map(|i| i * 77 % 240).filter(|&i| goes(i)) {
        chats.delete(&ids[i]).unwrap();
    }
    let raw = bytes(folder.path());
    let left: Vec<usize> = (0..240).filter(|&i| holds(&raw, &word(i))).collect();
    let expected: Vec<usize> = (0..240).filter(|&i| !goes(i)).collect();
    assert_eq!(left, expected);
    store.check().unwrap();
}

#[test]
fn copies_of_older_versions_go_with_what_is_deleted() {
    let folder = Folder::new();
    let ground = ground(&folder);
    let data = folder.path().join("data");
    suite::ALL.iter().find(|(name, _)| *name == "older_is_migrated").unwrap().1(&ground);
    let copy = data.join("llmos-v1.sqlite");
    let count = |path: &PathBuf| -> i64 {
        let sql = "SELECT count(*) FROM message";
        Connection::open(path).unwrap().query_row(sql, [], |row| row.get(0)).unwrap()
    };
    assert_eq!(count(&copy), 1);
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        for path in [&data, &copy, &data.join(FILE)] {
            let mode = path.metadata().unwrap().permissions().mode();
            assert_eq!(mode & 0o077, 0, "{}: {mode:o}", path.display());
        }
    }
    let mut store = ground.open();
    assert!(holds(&bytes(&data), "an old message"));
    assert_eq!(store.chats("ann").delete_all().unwrap(), 1);
    assert!(!copy.exists());
    assert!(!holds(&bytes(&data), "an old message"));
}

#[test]
fn a_full_database_is_an_error_and_goes_on() {
    let folder = Folder::new();
    let mut store = open(folder.path(), |options| options.pages = Some(100)).unwrap();
    let mut chats = store.chats("ann");
    let id = chats.create("", Value::Null).unwrap().id;
    let other = chats.create("other", Value::Null).unwrap().id;
    let text = "some words that take room ".repeat(800);
    let mut n = 0;
    let error = loop {
        match chats.append(&id, Parent::Leaf, user(&text)) {
            Ok(message) => n = message.number,
            Err(error) => break error,
        }
        assert!(n < 100);
    };
    assert!(matches!(&error, Error::Full { operation: "add a message", .. }), "{error}");
    assert!(error.to_string().contains(FILE), "{error}");
    // Nothing of it is there, what was there is, and there is room again once something goes.
    assert_eq!(chats.tree(&id).unwrap().messages.len() as u32, n);
    assert_eq!(chats.conversation(&other).unwrap().title, "other");
    store.check().unwrap();
    store.chats("ann").delete(&id).unwrap();
    store.chats("ann").append(&other, Parent::Leaf, user(&text)).unwrap();
    drop(store);
    open(folder.path(), |_| {}).unwrap().check().unwrap();
}

#[test]
fn what_is_no_store_is_left_alone() {
    let check = |content: &[u8], is_expected: fn(&Error) -> bool| {
        let folder = Folder::new();
        let path = folder.path().join(FILE);
        std::fs::write(&path, content).unwrap();
        let error = open(folder.path(), |_| {}).err().expect("an error");
        assert!(is_expected(&error), "{error}");
        assert!(error.to_string().contains(FILE), "{error}");
        assert_eq!(std::fs::read(&path).unwrap(), content);
    };
    let is_corrupt = |error: &Error| matches!(error, Error::Corrupt { .. });
    check(b"no database at all", is_corrupt);
    check(&[0xff; 8192], is_corrupt);
    let folder = Folder::new();
    let path = folder.path().join("other");
    let other = Connection::open(&path).unwrap();
    other.execute_batch("CREATE TABLE accounts (id)").unwrap();
    drop(other);
    let content = std::fs::read(&path).unwrap();
    check(&content, |error| matches!(error, Error::Foreign { .. }));
    // A half of a database, and one whose pages lie.
    let whole = Folder::new();
    let mut store = open(whole.path(), |_| {}).unwrap();
    let id = store.chats("ann").create("", Value::Null).unwrap().id;
    for _ in 0..30 {
        store.chats("ann").append(&id, Parent::Leaf, user(&"word ".repeat(900))).unwrap();
    }
    drop(store);
    let content = std::fs::read(whole.path().join(FILE)).unwrap();
    let mut lying = content.clone();
    for page in lying.chunks_mut(4096).skip(2) {
        page[..64].fill(0xee);
    }
    for damaged in [&content[..content.len() / 2], &content[..100], &lying] {
        let folder = Folder::new();
        std::fs::write(folder.path().join(FILE), damaged).unwrap();
        let found = open(folder.path(), |_| {}).and_then(|mut store| {
            store.check()?;
            store.chats("ann").tree(&id).map(|_| ())
        });
        let error = found.expect_err("damage is found");
        assert!(matches!(error, Error::Corrupt { .. }), "{error}");
    }
}

#[test]
fn a_database_that_another_program_writes_to_is_busy() {
    let folder = Folder::new();
    let mut store = open(folder.path(), |_| {}).unwrap();
    let id = store.chats("ann").create("", Value::Null).unwrap().id;
    let other = Connection::open(folder.path().join(FILE)).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let error = store.chats("ann").append(&id, Parent::Leaf, user("a")).unwrap_err();
    let Error::Busy { operation: "add a message", waited, .. } = error else { panic!("{error}") };
    assert_eq!(waited, Duration::from_millis(50));
    // Reading goes on, and writing once the other is done.
    assert_eq!(store.chats("ann").conversation(&id).unwrap().messages, 0);
    other.execute_batch("ROLLBACK").unwrap();
    store.chats("ann").append(&id, Parent::Leaf, user("a")).unwrap();
    // The same where one of our own keeps it still.
    let mut still = open(folder.path(), |options| options.purpose = Purpose::Visit).unwrap();
    let append = |store: &mut Store| store.chats("ann").append(&id, Parent::Leaf, user("b"));
    let refused = still.keep_still(|| append(&mut store)).unwrap();
    assert!(matches!(refused, Err(Error::Busy { .. })));
    assert_eq!(append(&mut store).unwrap().number, 2);
}

#[test]
fn a_reader_delays_the_emptying_of_the_log_and_not_the_deletion() {
    let folder = Folder::new();
    let mut store = open(folder.path(), |_| {}).unwrap();
    let id = store.chats("ann").create("", Value::Null).unwrap().id;
    let kept = store.chats("ann").create("", Value::Null).unwrap().id;
    store.chats("ann").append(&id, Parent::Leaf, user("unforgettable")).unwrap();
    let other = Connection::open(folder.path().join(FILE)).unwrap();
    other.execute_batch("BEGIN; SELECT count(*) FROM message").unwrap();
    store.chats("ann").delete(&id).unwrap();
    assert!(store.chats("ann").list(None, 10).unwrap().conversations.len() == 1);
    other.execute_batch("COMMIT").unwrap();
    store.chats("ann").append(&kept, Parent::Leaf, user("next")).unwrap();
    assert!(!holds(&bytes(folder.path()), "unforgettable"));
}

#[test]
fn a_place_that_cannot_be_a_folder_is_an_error() {
    let folder = Folder::new();
    let file = folder.path().join("file");
    std::fs::write(&file, "x").unwrap();
    let error = open(&file.join("data"), |_| {}).err().expect("an error");
    assert!(matches!(error, Error::Io { operation: "make the folder", .. }), "{error}");
}
