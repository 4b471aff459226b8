//! Deletion that deletes: what a model has cached of a text goes with the text.

use llmos_model::EngineOptions;
use llmos_serve::{Key, Keys, Scope, ServerOptions};
use serde_json::{Value, json};

use crate::client::{Connection, request};
use crate::house::{Kind, Running, serve};
use crate::kept::{Folder, ask};

/// Asks with a key of that name.
fn of(server: &Running, key: &str, method: &str, path: &str, body: &Value) -> Value {
    let reply = ask(server, method, path, &[&format!("x-api-key: {key}")], body);
    assert!((200..300).contains(&reply.status), "{reply:?}");
    serde_json::from_str(&reply.body).unwrap()
}

fn folder_of_two(folder: &Folder) -> Running {
    let keys = ["ann", "bob"].map(|name| Key::of(name, name, Scope::Chat));
    let options = ServerOptions { keys: Keys::new(keys.into()), ..folder.options() };
    let cache_bytes = Some(16 << 20);
    serve(Kind::Parrot, options, EngineOptions { cache_bytes, ..EngineOptions::default() })
}

const CHAT: &str = "/v1/chat/completions";

/// A conversation that begins with this secret; its id.
fn begin(server: &Running, key: &str, secret: &str) -> String {
    let head = of(server, key, "POST", "/v1/conversations", &json!({}));
    let id = head["id"].as_str().unwrap().to_string();
    let said = json!({ "role": "user", "content": secret });
    of(server, key, "POST", &format!("/v1/conversations/{id}/messages"), &said);
    id
}

fn cached(answer: &Value) -> u64 {
    answer["usage"]["prompt_tokens_details"]["cached_tokens"].as_u64().unwrap()
}

#[test]
fn a_deleted_conversation_leaves_nothing_in_the_cache() {
    let folder = Folder::new();
    let server = folder_of_two(&folder);
    let secret = "My secret is a small green door. ".repeat(6);
    let id = begin(&server, "ann", &secret);
    let answer = |key: &str, id: &str| {
        let body = json!({ "conversation": { "id": id, "parent": 1 }, "max_tokens": 2 });
        cached(&of(&server, key, "POST", CHAT, &body))
    };
    assert_eq!(answer("ann", &id), 0);
    assert!(answer("ann", &id) >= 32);
    let other = begin(&server, "bob", &secret);
    assert_eq!(answer("bob", &other), 0);
    // Deleting what is another's, or nothing, takes nothing away.
    for (key, id) in [("bob", id.as_str()), ("ann", "none")] {
        let path = format!("/v1/conversations/{id}");
        let key = format!("x-api-key: {key}");
        ask(&server, "DELETE", &path, &[&key], &Value::Null).is_refusal(404, "conversation");
    }
    assert!(answer("ann", &id) >= 32);
    of(&server, "ann", "DELETE", &format!("/v1/conversations/{id}"), &Value::Null);
    // The same text, asked for by whoever may still find it.
    let body = json!({ "messages": [{ "role": "user", "content": secret }], "max_tokens": 2 });
    assert_eq!(cached(&of(&server, "ann", "POST", CHAT, &body)), 0);
    assert!(cached(&of(&server, "ann", "POST", CHAT, &body)) >= 32);
    // The other key's is another's text, and stays.
    assert!(answer("bob", &other) >= 32);
}

#[test]
fn what_another_program_deletes_is_in_no_cache_a_little_later() {
    let folder = Folder::new();
    let server = folder_of_two(&folder);
    let secret = "My secret is a small green door. ".repeat(6);
    let answer = |key: &str, id: &str| {
        let body = json!({ "conversation": { "id": id, "parent": 1 }, "max_tokens": 2 });
        cached(&of(&server, key, "POST", CHAT, &body))
    };
    let all = [("ann", begin(&server, "ann", &secret)), ("bob", begin(&server, "bob", &secret))];
    let another = begin(&server, "ann", &secret);
    for (key, id) in &all {
        assert_eq!(answer(key, id), 0);
        assert!(answer(key, id) >= 32);
    }
    let start = std::time::Instant::now();
    folder.visit().chats("ann").delete(&all[0].1).unwrap();
    // Each look finds what the one before has cached, but for the first after it was forgotten.
    crate::models::wait_until("it is forgotten", || answer("ann", &another) == 0);
    assert!(start.elapsed() < std::time::Duration::from_secs(5));
    assert!(answer("ann", &another) >= 32);
    assert!(answer("bob", &all[1].1) >= 32);
}

#[test]
fn a_forgotten_response_leaves_nothing_in_the_cache() {
    let folder = Folder::new();
    let server = folder_of_two(&folder);
    let secret = "My secret is a small green door. ".repeat(6);
    let body = json!({ "input": secret, "max_output_tokens": 2 });
    let respond = || {
        let response = of(&server, "ann", "POST", "/v1/responses", &body);
        let cached = response["usage"]["input_tokens_details"]["cached_tokens"].as_u64().unwrap();
        (format!("/v1/responses/{}", response["id"].as_str().unwrap()), cached)
    };
    let (first, _) = respond();
    assert!(respond().1 >= 32);
    of(&server, "ann", "DELETE", &first, &Value::Null);
    assert_eq!(respond().1, 0);
}

#[test]
fn an_answer_that_is_being_written_leaves_nothing_behind_either() {
    let folder = Folder::new();
    let keys = Keys::new(vec![Key::of("ann", "ann", Scope::Chat)]);
    let options = ServerOptions { keys, slots: 2, ..folder.options() };
    let cache_bytes = Some(64 << 20);
    let engine = EngineOptions { cache_bytes, ..EngineOptions::default() };
    let server = serve(Kind::Endless, options, engine);
    let secret = "My secret is a small green door. ".repeat(6);
    let send = |tokens: usize| {
        let body = json!({ "prompt": secret, "max_tokens": tokens, "temperature": 0, "stream": true,
                           "logit_bias": { "0": -100, "1": -100, "2": -100 } });
        let headers = ["Host: localhost", "Content-Type: application/json", "x-api-key: ann"];
        let bytes = request("POST", "/v1/completions", &headers, body.to_string().as_bytes());
        Connection::send(server.address, &bytes)
    };
    // Two write, and one waits.
    let mut long = [send(1_000_000), send(1_000_000)];
    long.iter_mut().for_each(|one| one.wait_for("data: "));
    let waits = send(3);
    let in_flight = || of(&server, "ann", "GET", "/readyz", &Value::Null)["in_flight"].clone();
    crate::models::wait_until("three are in flight", || in_flight() == 3);
    let head = of(&server, "ann", "POST", "/v1/conversations", &json!({}));
    let path = format!("/v1/conversations/{}", head["id"].as_str().unwrap());
    of(&server, "ann", "DELETE", &path, &Value::Null);
    // Who was written for goes on.
    long.iter_mut().for_each(|one| one.wait_for("data: "));
    drop(long);
    assert!(waits.rest().contains("[DONE]"));
    crate::models::wait_until("all have ended", || in_flight() == 0);
    let body = json!({ "prompt": secret, "max_tokens": 1 });
    assert_eq!(cached(&of(&server, "ann", "POST", "/v1/completions", &body)), 0);
    assert!(cached(&of(&server, "ann", "POST", "/v1/completions", &body)) >= 32);
}
