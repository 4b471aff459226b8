//! Models that come and go in Ollama's words, and how long they stay.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use llmos_serve::{Keeper, Key, Keys, Scope, ServerOptions};
use serde_json::{Value, json};

use crate::client::{Connection, Reply, delete, get, post, request, send_post};
use crate::house::{Kind, Running, options, run};
use crate::models::{Stub, endless, greedy, is_loaded, of, server, wait_until};

const PATH: &str = "/v1/completions";

/// Asks for a deletion in Ollama's words.
fn remove(server: &Running, model: &str) -> Reply {
    let body = json!({ "model": model }).to_string();
    let headers = ["Host: localhost", "Content-Type: application/json"];
    let bytes = request("DELETE", "/api/delete", &headers, body.as_bytes());
    Connection::send(server.address, &bytes).finish()
}

/// An error in Ollama's shape.
#[track_caller]
fn is_refused(reply: &Reply, status: u16, words: &str) {
    assert_eq!(reply.status, status, "{reply:?}");
    let value: Value = serde_json::from_str(&reply.body).unwrap();
    let message = value["error"].as_str().unwrap();
    assert!(message.contains(words), "{words:?} not in {message}");
}

fn ids(server: &Running) -> Vec<String> {
    let tags = get(server.address, "/api/tags").json();
    let models = tags["models"].as_array().unwrap();
    models.iter().map(|model| model["name"].as_str().unwrap().to_string()).collect()
}

#[test]
fn a_model_is_pulled_in_lines() {
    let server = server(of(&[("tiny", 0, Kind::Stories)], None), Stub::default());
    let pull = |body: Value| post(server.address, "/api/pull", &body);
    let lines = pull(json!({ "model": "hf.co/o/r:Q8_0" })).lines();
    assert_eq!(lines[0], json!({ "status": "pulling hf:o/r:Q8_0", "completed": 0, "total": 100 }));
    assert_eq!(lines[lines.len() - 2]["completed"], 100);
    assert_eq!(lines[lines.len() - 1], json!({ "status": "success" }));
    assert_eq!(ids(&server), ["tiny", "hf:o/r:Q8_0"]);
    let whole = pull(json!({ "name": "two:latest", "stream": false }));
    assert_eq!(whole.json(), json!({ "status": "success" }));
    assert_eq!(whole.header("content-type"), Some("application/json"));
    assert!(ids(&server).contains(&"two".to_string()));
    // What fails at once has a status, what fails later is the last line, or has a status too.
    for (name, status) in [("asked", 400), ("missing", 404), ("outside", 502)] {
        is_refused(&pull(json!({ "model": name })), status, "it is so; do so");
    }
    let late = pull(json!({ "model": "late" })).lines();
    assert_eq!(late[late.len() - 1]["error"], "it is so; do so");
    is_refused(&pull(json!({ "model": "late", "stream": false })), 502, "it is so");
    for (body, words) in [
        (json!({}), "model is required"),
        (json!({ "model": "https://evil.example/o/r" }), "model"),
        (json!({ "model": "x", "insecure": true }), "insecure"),
        (json!({ "model": "x", "stream": "no" }), "stream"),
    ] {
        is_refused(&pull(body), 400, words);
    }
    let none = run(options(), of(&[("tiny", 0, Kind::Stories)], None));
    let reply = post(none.address, "/api/pull", &json!({ "model": "x" }));
    is_refused(&reply, 501, "llmos pull");
}

#[test]
fn a_pull_that_nobody_waits_for_ends() {
    for stream in [true, false] {
        let gate = Some(Arc::new(AtomicBool::new(false)));
        let stub = Stub { gate, ..Stub::default() };
        let (ended, asked) = (stub.ended.clone(), stub.asked.clone());
        let server = server(of(&[("tiny", 0, Kind::Stories)], None), stub);
        let body = json!({ "model": "one", "stream": stream });
        let pull = send_post(server.address, "/api/pull", &body);
        wait_until("it did not begin", || !asked.lock().unwrap().is_empty());
        let two = post(server.address, "/api/pull", &json!({ "model": "two" }));
        is_refused(&two, 409, "another model is being pulled");
        drop(pull);
        wait_until("it was not ended", || ended.load(Ordering::Relaxed) > 0);
    }
}

#[test]
fn copies_are_made_and_models_deleted_unless_somebody_uses_them() {
    let stub = Stub::default();
    let deleted = stub.deleted.clone();
    let kinds =
        [("tiny", 0, Kind::Endless), ("foreign", 0, Kind::Stories), ("other", 0, Kind::Stories)];
    let server = server(of(&kinds, None), stub);
    let copy = |source: &str, destination: &str| {
        let body = json!({ "source": source, "destination": destination });
        post(server.address, "/api/copy", &body)
    };
    assert_eq!(copy("tiny:latest", "mine:latest").json()["status"], "success");
    assert_eq!(post(server.address, PATH, &greedy("mine")).status, 200);
    is_refused(&copy("tiny", "mine"), 409, "already");
    is_refused(&copy("nothing", "new"), 404, "no model");
    is_refused(&copy("foreign", "new"), 400, "not ours; do it yourself");
    for name in ["", "a/b", "../x", "a:b", ".x"] {
        is_refused(&copy("tiny", name), 400, "destination");
    }
    // One that answers somebody stays, and says so.
    let mut busy = send_post(server.address, PATH, &endless("tiny"));
    busy.wait_for("data: ");
    is_refused(&remove(&server, "tiny"), 409, "is answering somebody");
    busy.wait_for("data: ");
    assert!(is_loaded(&server, "tiny") && deleted.lock().unwrap().is_empty());
    drop(busy);
    wait_until("it was not deleted", || remove(&server, "tiny:latest").status == 200);
    assert_eq!(*deleted.lock().unwrap(), ["tiny"]);
    assert_eq!(ids(&server), ["foreign", "other", "mine"]);
    post(server.address, PATH, &greedy("tiny")).is_refusal(404, "no model");
    is_refused(&remove(&server, "tiny"), 404, "no model");
    is_refused(&remove(&server, "foreign"), 400, "not ours");
    assert_eq!(post(server.address, PATH, &greedy("foreign")).status, 200);
    is_refused(&remove(&server, ""), 400, "model is required");
    // In OpenAI's words, loaded and unused.
    let gone = delete(server.address, "/v1/models/mine").json();
    assert_eq!(gone, json!({ "id": "mine", "object": "model", "deleted": true }));
    delete(server.address, "/v1/models/mine").is_refusal(404, "no model");
    assert_eq!(*deleted.lock().unwrap(), ["tiny", "mine"]);
    let create = json!({ "model": "new", "from": "other", "system": "Be brief." });
    is_refused(&post(server.address, "/api/create", &create), 501, "Modelfile");
}

#[test]
fn what_changes_models_is_for_admins_in_ollama_s_words_too() {
    let keys = [("chat", Scope::Chat), ("admin", Scope::Admin)];
    let keys = Keys::new(keys.map(|(name, scope)| Key::of(name, name, scope)).into());
    let keeper: Option<Arc<dyn Keeper>> = Some(Arc::new(Stub::default()));
    let options = ServerOptions { keys, keeper, ..options() };
    let server = run(options, of(&[("tiny", 0, Kind::Stories)], None));
    for (method, path, body, status) in [
        ("POST", "/api/pull", json!({ "model": "new" }), 200),
        ("POST", "/api/copy", json!({ "source": "tiny", "destination": "mine" }), 200),
        ("POST", "/api/create", json!({ "model": "new" }), 501),
        ("DELETE", "/api/delete", json!({ "model": "mine" }), 200),
        ("DELETE", "/v1/models/tiny", Value::Null, 200),
    ] {
        let ask = |key: &str| {
            let key = format!("x-api-key: {key}");
            let headers = ["Host: localhost", "Content-Type: application/json", &key];
            let body = if body.is_null() { String::new() } else { body.to_string() };
            let bytes = request(method, path, &headers, body.as_bytes());
            Connection::send(server.address, &bytes).finish()
        };
        let before = ids_of(&server);
        assert_eq!(ask("chat").status, 403, "{path}");
        assert_eq!(ids_of(&server), before, "{path}");
        assert_eq!(ask("admin").status, status, "{path}");
    }
}

fn ids_of(server: &Running) -> Value {
    let headers = ["Host: localhost", "x-api-key: chat"];
    let reply = Connection::send(server.address, &request("GET", "/api/tags", &headers, b""));
    reply.finish().json()["models"].clone()
}

#[test]
fn a_model_stays_as_long_as_keep_alive_says() {
    let usual = Some(Duration::from_millis(200));
    let options = ServerOptions { keep_alive: usual, ..options() };
    let server = run(options, of(&[("tiny", 0, Kind::Stories)], None));
    let ask = |keep_alive: Value| {
        let body = json!({ "model": "tiny", "prompt": "Once", "stream": false,
                           "keep_alive": keep_alive, "options": { "num_predict": 2 } });
        assert_eq!(post(server.address, "/api/generate", &body).status, 200);
    };
    let expires = || {
        let running = get(server.address, "/api/ps").json();
        running["models"][0]["expires_at"].as_str().map(str::to_string)
    };
    // For as long as others stay, where nothing is said.
    ask(Value::Null);
    wait_until("it was not let go of", || !is_loaded(&server, "tiny"));
    // Until its memory is needed.
    ask(json!(-1));
    let start = Instant::now();
    while start.elapsed() < Duration::from_millis(600) {
        assert!(is_loaded(&server, "tiny"), "it was to stay");
    }
    assert!(expires().unwrap().starts_with("2318"));
    // For a time, which the next call may change.
    ask(json!("2s"));
    assert!(!expires().unwrap().starts_with("2318"));
    wait_until("its time was over", || !is_loaded(&server, "tiny"));
    // What was said of it went with it.
    ask(Value::Null);
    wait_until("it was not let go of", || !is_loaded(&server, "tiny"));
    // Points are answers as well, and a model that is only loaded stays as it is told.
    let body = json!({ "model": "tiny", "input": "Once", "keep_alive": 0 });
    assert_eq!(post(server.address, "/api/embed", &body).status, 200);
    wait_until("it was to go at once", || !is_loaded(&server, "tiny"));
    let body = json!({ "model": "tiny", "keep_alive": "1h" });
    assert_eq!(post(server.address, "/api/generate", &body).json()["done_reason"], "load");
    let start = Instant::now();
    while start.elapsed() < Duration::from_millis(600) {
        assert!(is_loaded(&server, "tiny"), "it was to stay");
    }
}

#[test]
fn a_model_that_is_to_go_goes_once_the_last_has_his_answer() {
    let server = server(of(&[("tiny", 0, Kind::Endless)], None), Stub::default());
    let mut busy = send_post(server.address, PATH, &endless("tiny"));
    busy.wait_for("data: ");
    let body = json!({ "model": "tiny", "prompt": "Once", "stream": false, "keep_alive": 0,
                       "options": { "num_predict": 2 } });
    assert_eq!(post(server.address, "/api/generate", &body).status, 200);
    assert!(is_loaded(&server, "tiny"), "another is answered");
    busy.wait_for("data: ");
    drop(busy);
    wait_until("it stays", || !is_loaded(&server, "tiny"));
}
