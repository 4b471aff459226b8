//! A server that is killed at random moments: whatever it has acknowledged is there, and nothing is
//! half there.
#![cfg(unix)]

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use llmos_store::{Error, Options, Place, Purpose, Role, Store};
use serde_json::{Value, json};

use crate::program::{Folder, command, repository};
use crate::serve::{address, send};

const KILLS: usize = 52;

/// Writers side by side.
const WRITERS: usize = 2;

/// Numbers that look random.
struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % n
    }
}

/// What was acknowledged, and what may be there beside it.
#[derive(Default)]
struct Known {
    /// By conversation and number: who spoke, and what was said.
    acknowledged: BTreeMap<(String, u32), (Role, String)>,
    /// Texts of the requests that were made of a conversation.
    sent: BTreeMap<String, Vec<String>>,
    n_answer: usize,
}

/// Writes into a conversation of its own until nobody answers any more.
fn write(address: &str, round: usize, writer: usize, known: &Mutex<Known>) -> Option<()> {
    let ask = |method: &str, path: &str, body: &Value| send(address, method, path, &[], body);
    let (status, head) = ask("POST", "/v1/conversations", &json!({ "title": "killed" }))?;
    assert_eq!(status, 201, "{head}");
    let id = head["id"].as_str().unwrap().to_string();
    known.lock().unwrap().sent.insert(id.clone(), Vec::new());
    for n in 0.. {
        let filler = " 字".repeat(n * n % 300);
        let text = format!("Who are you? {round} {writer} {n}{filler}");
        known.lock().unwrap().sent.get_mut(&id).unwrap().push(text.clone());
        let body = json!({ "role": "user", "content": text });
        let (status, message) = ask("POST", &format!("/v1/conversations/{id}/messages"), &body)?;
        assert_eq!(status, 201, "{message}");
        let number = u32::try_from(message["number"].as_u64().unwrap()).unwrap();
        let mut all = known.lock().unwrap();
        all.acknowledged.insert((id.clone(), number), (Role::User, text));
        drop(all);
        if n % 4 != 3 {
            continue;
        }
        let body = json!({ "conversation": { "id": id, "parent": 1 }, "max_tokens": 6 });
        let (status, answer) = ask("POST", "/v1/chat/completions", &body)?;
        assert_eq!(status, 200, "{answer}");
        let number = u32::try_from(answer["message"]["number"].as_u64().unwrap()).unwrap();
        let text = answer["choices"][0]["message"]["content"].as_str().unwrap().to_string();
        let mut all = known.lock().unwrap();
        all.acknowledged.insert((id.clone(), number), (Role::Assistant, text));
        all.n_answer += 1;
    }
    None
}

/// Holds what is there against what is known.
fn look(data: &Folder, known: &Known, is_thorough: bool) {
    let place = Place::Folder(data.path().into());
    let mut store = Store::open(&place, Options::new(Purpose::Serve)).expect("nobody holds it");
    if is_thorough {
        store.check().expect("a whole database");
    }
    let mut chats = store.chats("");
    for (id, sent) in &known.sent {
        let tree = match chats.tree(id) {
            Ok(tree) => tree,
            Err(Error::Missing { .. }) => panic!("{id} was acknowledged"),
            Err(error) => panic!("{id}: {error}"),
        };
        tree.check().expect("a tree");
        let own = known.acknowledged.range((id.clone(), 0)..=(id.clone(), u32::MAX));
        for ((_, number), (role, text)) in own {
            let found = tree.messages.get(*number as usize - 1);
            let found = found.unwrap_or_else(|| panic!("{id}: {number} is lost"));
            assert_eq!((&found.body.role, &found.body.content), (role, text), "{id}: {number}");
        }
        for message in &tree.messages {
            match message.body.role {
                Role::User => assert!(sent.contains(&message.body.content), "{id}"),
                _ => assert!(message.body.origin.is_some(), "{id}: an answer without an origin"),
            }
        }
    }
}

#[test]
fn nothing_that_was_acknowledged_is_lost_to_a_kill() {
    let (home, data) = (Folder::new(), Folder::new());
    let model = repository("testdata/agent/base").display().to_string();
    let folder = data.path().display().to_string();
    let serve = ["serve", &model, "--port", "0", "--threads", "1", "-q", "--data", &folder];
    let known = Mutex::new(Known::default());
    let mut random = Random(7);
    for round in 0..KILLS {
        let mut child = command(home.path(), &serve).spawn().unwrap();
        let address = address(&mut child);
        let before = known.lock().unwrap().acknowledged.len();
        std::thread::scope(|scope| {
            let (address, known) = (&address, &known);
            for writer in 0..WRITERS {
                scope.spawn(move || write(address, round, writer, known));
            }
            let enough = before + random.below(25) as usize;
            let start = Instant::now();
            while known.lock().unwrap().acknowledged.len() < enough
                && start.elapsed() < Duration::from_secs(10)
            {
                std::thread::yield_now();
            }
            // Somewhere in the middle of a write, which takes some milliseconds.
            let moment = Duration::from_micros(random.below(6000));
            let start = Instant::now();
            while start.elapsed() < moment {
                std::hint::spin_loop();
            }
            child.kill().unwrap();
            child.wait().unwrap();
        });
        let is_last = round + 1 == KILLS;
        look(&data, &known.lock().unwrap(), is_last || round % 10 == 0);
    }
    let known = known.into_inner().unwrap();
    assert!(known.acknowledged.len() > 5 * KILLS, "{}", known.acknowledged.len());
    assert!(known.n_answer > KILLS / 4, "{}", known.n_answer);
    println!(
        "{KILLS} kills, {} acknowledged messages, {} of them answers",
        known.acknowledged.len(),
        known.n_answer
    );
}
