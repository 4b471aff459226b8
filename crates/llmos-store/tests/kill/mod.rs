//! A process that writes to a store until it is killed, and what must be there afterwards.
//!
//! The child is this test binary over again, with one test that does nothing unless the environment
//! names a place. It says what it is about to do, does it, and says that it is done; whatever it has
//! said to be done must be there, and of what it was about to do all or nothing.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use llmos_store::{
    Attachment, Body, Error, Message, Options, Parent, Place, Purpose, Role, Store, Thumb,
};
use serde_json::Value;

/// The variable that names the child's place.
const PLACE: &str = "LLMOS_STORE_KILLED_PLACE";
/// Its seed.
const SEED: &str = "LLMOS_STORE_KILLED_SEED";
const OWNER: &str = "ann";

/// Numbers that look random.
struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % n
    }
}

/// A message that says how it must look: its conversation, its number, its length.
fn body(id: &str, number: u32, length: u64) -> Body {
    let word = format!("m{}x{number}", &id[..8]);
    let filler: String = (0..length).map(|i| format!(" 字{}", i % 7)).collect();
    let mut body = Body::text(Role::User, format!("{word} {length}{filler}"));
    body.attachments = (0..number % 3)
        .map(|i| Attachment {
            name: format!("{word}-{i}"),
            media: "text/plain".into(),
            text: filler.clone(),
        })
        .collect();
    body
}

/// Whether a message is whole.
fn assert_whole(id: &str, message: &Message) {
    let length = message.body.content.split(' ').nth(1).and_then(|word| word.parse().ok());
    let expected = body(id, message.number, length.expect("a message of ours"));
    assert!(message.body == expected, "{id} {}: {:.80}", message.number, message.body.content);
}

/// The child's part: returns at once where this process is no child.
pub(crate) fn write_until_killed() {
    let Ok(place) = std::env::var(PLACE) else { return };
    let seed = std::env::var(SEED).expect("a seed").parse().expect("a number");
    let mut random = Random(seed);
    let mut store = Store::open(&Place::of(&place), Options::new(Purpose::Serve)).expect("a store");
    let mut out = std::io::stdout();
    let mut say = |line: String| {
        out.write_all(format!("\n: {line}\n").as_bytes()).expect("a reader");
        out.flush().expect("a reader");
    };
    let mut ids: Vec<(String, u32)> = Vec::new();
    let page = store.chats(OWNER).list(None, 1000).expect("a list");
    ids.extend(page.conversations.into_iter().map(|head| (head.id, head.messages)));
    loop {
        let mut chats = store.chats(OWNER);
        let choice = random.below(20);
        if ids.is_empty() || choice == 0 {
            say("begin".into());
            let id = chats.create("killed", Value::Null).expect("a conversation").id;
            say(format!("begun {id}"));
            ids.push((id, 0));
            continue;
        }
        let at = random.below(ids.len() as u64) as usize;
        let (id, n) = ids[at].clone();
        if choice == 1 && ids.len() > 2 {
            say(format!("delete {id}"));
            chats.delete(&id).expect("a deletion");
            say(format!("deleted {id}"));
            ids.swap_remove(at);
        } else if choice < 5 && n > 0 {
            let number = 1 + random.below(u64::from(n)) as u32;
            say(format!("rate {id} {number}"));
            let reason = Some(format!("reason {number}"));
            chats.rate(&id, number, Thumb::Down, reason.clone(), reason).expect("a rating");
            say(format!("rated {id} {number}"));
        } else {
            let count = 1 + random.below(3) as u32;
            say(format!("add {id} {count}"));
            let lengths = (0..count).map(|_| random.below(20).pow(3));
            let bodies: Vec<Body> =
                (n + 1..).zip(lengths).map(|(number, length)| body(&id, number, length)).collect();
            chats.append_all(&id, Parent::Leaf, bodies).expect("messages");
            say(format!("added {id} {count}"));
            ids[at].1 = n + count;
        }
    }
}

/// What was acknowledged: messages and rated ones by conversation.
#[derive(Default)]
struct Known {
    conversations: BTreeMap<String, (u32, Vec<u32>)>,
    deleted: Vec<String>,
    n_done: usize,
}

/// Kills a child so many times and looks at what is there after each. `test` is the name of the test
/// that calls [`write_until_killed`] in this binary. Gives the number of acknowledged writes.
pub(crate) fn kill_and_look(place: &str, test: &str, n_kill: usize) -> usize {
    let mut random = Random(99);
    let mut known = Known::default();
    for round in 0..n_kill {
        let lines = write_and_kill(place, test, round, &mut random);
        let open = follow(&mut known, &lines);
        let is_last = round + 1 == n_kill;
        look(place, &mut known, open.as_deref(), is_last || round % 10 == 0);
    }
    assert!(known.n_done > n_kill, "{} writes in {n_kill} rounds", known.n_done);
    known.n_done
}

/// What a child said before it was killed.
fn write_and_kill(place: &str, test: &str, round: usize, random: &mut Random) -> Vec<String> {
    let mut child = Command::new(std::env::current_exe().expect("this test"))
        .args(["--exact", test, "--nocapture", "--test-threads=1"])
        .env(PLACE, place)
        .env(SEED, round.to_string())
        .stdout(Stdio::piped())
        .spawn()
        .expect("a child");
    let mut lines = BufReader::new(child.stdout.take().expect("its output")).lines();
    let mut said = Vec::new();
    let enough = random.below(40);
    let mut next = || lines.next().map(|line| line.expect("text"));
    let mut n = 0;
    while n < enough {
        let line = next().expect("the child goes on until it is killed");
        n += u64::from(line.starts_with(": "));
        said.push(line);
    }
    // Somewhere in the middle of a write, which takes some milliseconds.
    let moment = Duration::from_micros(random.below(8000));
    let start = Instant::now();
    while start.elapsed() < moment {
        std::hint::spin_loop();
    }
    child.kill().expect("SIGKILL");
    said.extend(lines.map(|line| line.expect("text")));
    child.wait().expect("its end");
    said.into_iter().filter_map(|line| line.strip_prefix(": ").map(str::to_string)).collect()
}

/// Takes in what a child said; gives what it was about to do when it was killed.
fn follow(known: &mut Known, lines: &[String]) -> Option<String> {
    let mut open = None;
    for line in lines {
        let words: Vec<&str> = line.split(' ').collect();
        match words[..] {
            ["begun", id] => {
                known.conversations.insert(id.to_string(), (0, Vec::new()));
            }
            ["added", id, count] => {
                let count: u32 = count.parse().expect("a number");
                known.conversations.get_mut(id).expect("a conversation").0 += count;
            }
            ["rated", id, number] => {
                let rated = &mut known.conversations.get_mut(id).expect("a conversation").1;
                rated.push(number.parse().expect("a number"));
            }
            ["deleted", id] => {
                known.conversations.remove(id);
                known.deleted.push(id.to_string());
            }
            ["begin"] | ["add" | "rate" | "delete", ..] => {
                open = Some(line.clone());
                continue;
            }
            _ => panic!("{line}"),
        }
        known.n_done += 1;
        open = None;
    }
    open
}

/// Holds what is there against what is known, and takes in what the last write came to.
fn look(place: &str, known: &mut Known, open: Option<&str>, is_thorough: bool) {
    let mut store =
        Store::open(&Place::of(place), Options::new(Purpose::Serve)).expect("nobody holds it");
    if is_thorough {
        store.check().expect("a whole database");
    }
    let open: Vec<&str> = open.unwrap_or_default().split(' ').collect();
    let mut chats = store.chats(OWNER);
    let found = chats.list(None, 1000).expect("a list").conversations;
    for head in &found {
        if !known.conversations.contains_key(&head.id) {
            assert_eq!((&open[..], head.messages), (&["begin"][..], 0), "{}", head.id);
            known.conversations.insert(head.id.clone(), (0, Vec::new()));
        }
    }
    let mut gone = Vec::new();
    for (id, (n, rated)) in &mut known.conversations {
        let tree = match chats.tree(id) {
            Ok(tree) => tree,
            Err(Error::Missing { .. }) if open[..] == ["delete", id] => {
                gone.push(id.clone());
                continue;
            }
            Err(error) => panic!("{id}: {error}"),
        };
        tree.check().expect("a tree");
        let count = tree.messages.len() as u32;
        let grown = match open[..] {
            ["add", of, count] if of == id => count.parse().expect("a number"),
            _ => 0,
        };
        assert!(count == *n || count == *n + grown, "{id}: {n} or {grown} more, got {count}");
        for message in &tree.messages {
            assert_whole(id, message);
            let is_rated = message.rating.is_some();
            if let Some(rating) = &message.rating {
                assert_eq!(rating.reason, Some(format!("reason {}", message.number)));
                assert_eq!(rating.reason, rating.ideal);
            }
            let is_open = open[..] == ["rate", id, &message.number.to_string()];
            assert!(is_rated == rated.contains(&message.number) || is_open, "{id}");
            if is_rated && !rated.contains(&message.number) {
                rated.push(message.number);
            }
        }
        // What was written last is in the index as well.
        for message in tree.messages.iter().rev().take(if is_thorough { 100 } else { 2 }) {
            let query = format!("\"m{}x{}\"", &id[..8], message.number);
            let hits = chats.search(&query, 0, 100).expect("hits");
            assert!(hits.iter().any(|hit| hit.message == Some(message.number)), "{query}");
        }
        *n = count;
    }
    known.deleted.extend(gone.iter().cloned());
    for id in gone {
        known.conversations.remove(&id);
    }
    for id in &known.deleted {
        assert!(matches!(chats.conversation(id), Err(Error::Missing { .. })), "{id}");
        let hits = chats.search(&format!("m{}x1", &id[..8]), 0, 1).expect("hits");
        assert!(hits.is_empty(), "{id}: {hits:?}");
    }
}
