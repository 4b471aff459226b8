//! Several models: what is said of them, loading and letting go, pulling and converting, and one that is
//! replaced while it is asked.

use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use llmos_model::EngineOptions;
use llmos_serve::{
    About, Keeper, Key, Keys, Models, Offer, Progress, Scope, ServerOptions, Trouble, TroubleKind,
    Watch,
};
use serde_json::{Value, json};

use crate::client::{Connection, Reply, get, post, request, send_post};
use crate::house::{Kind, Running, alone, load, offer, options, run};

const PATH: &str = "/v1/completions";

fn engine() -> EngineOptions {
    EngineOptions { cache_bytes: Some(64 << 20), ..EngineOptions::default() }
}

/// Brings `new` models of the names that it is asked for, and fails as it is told to.
#[derive(Default)]
pub(crate) struct Stub {
    /// A pull goes on until this is raised, where there is one.
    pub(crate) gate: Option<Arc<AtomicBool>>,
    /// Pulls that were ended by who watched.
    pub(crate) ended: Arc<AtomicUsize>,
    pub(crate) asked: Arc<Mutex<Vec<String>>>,
    /// Models whose files were deleted.
    pub(crate) deleted: Arc<Mutex<Vec<String>>>,
}

impl Keeper for Stub {
    fn pull(&self, name: &str, watch: Watch<'_>) -> Result<Offer, Trouble> {
        self.asked.lock().unwrap().push(name.to_string());
        let trouble = |kind| Trouble { kind, message: "it is so".into(), hint: "do so".into() };
        match name {
            "asked" => return Err(trouble(TroubleKind::Asked)),
            "missing" => return Err(trouble(TroubleKind::Missing)),
            "outside" => return Err(trouble(TroubleKind::Outside)),
            _ => {}
        }
        let mut done = 0;
        loop {
            let what = format!("pulling {name}");
            if watch(Progress { done, total: Some(100), what }).is_break() {
                self.ended.fetch_add(1, Ordering::Relaxed);
                return Err(trouble(TroubleKind::Stopped));
            }
            match &self.gate {
                Some(gate) if !gate.load(Ordering::Relaxed) => {
                    std::thread::sleep(Duration::from_millis(1));
                }
                _ if done == 100 => break,
                _ => done += 50,
            }
        }
        match name {
            "late" => Err(trouble(TroubleKind::Outside)),
            _ => Ok(offer(name, 60, Kind::Stories, engine())),
        }
    }

    fn convert(&self, model: &str, kind: &str, watch: Watch<'_>) -> Result<Offer, Trouble> {
        let progress = Progress { done: 1, total: Some(1), what: "converting".into() };
        assert_eq!(watch(progress), ControlFlow::Continue(()));
        Ok(offer(&format!("{model}-{kind}"), 0, Kind::Stories, engine()))
    }

    fn copy(&self, model: &str, name: &str) -> Result<Offer, Trouble> {
        not_its_own(model)?;
        Ok(offer(name, 0, Kind::Stories, engine()))
    }

    fn delete(&self, model: &str) -> Result<(), Trouble> {
        not_its_own(model)?;
        self.deleted.lock().unwrap().push(model.to_string());
        Ok(())
    }
}

/// Of `foreign` the files are somebody else's.
fn not_its_own(model: &str) -> Result<(), Trouble> {
    match model {
        "foreign" => Err(Trouble {
            kind: TroubleKind::Asked,
            message: "it is not ours".into(),
            hint: "do it yourself".into(),
        }),
        _ => Ok(()),
    }
}

pub(crate) fn server(models: Models, stub: Stub) -> Running {
    run(ServerOptions { keeper: Some(Arc::new(stub)), ..options() }, models)
}

pub(crate) fn of(kinds: &[(&str, u64, Kind)], budget: Option<u64>) -> Models {
    let models = Models::new(budget);
    for &(id, bytes, kind) in kinds {
        models.offer(offer(id, bytes, kind, engine()));
    }
    models
}

fn entry(server: &Running, id: &str) -> Value {
    get(server.address, &format!("/v1/models/{id}")).json()
}

pub(crate) fn is_loaded(server: &Running, id: &str) -> bool {
    entry(server, id)["loaded"].as_bool().unwrap()
}

/// Asks again and again until it is so.
#[track_caller]
pub(crate) fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < Duration::from_secs(30), "{what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// An answer that goes on until its client leaves.
pub(crate) fn endless(model: &str) -> Value {
    json!({
        "model": model, "prompt": "Once", "max_tokens": 1_000_000, "temperature": 1, "stream": true,
        "logit_bias": { "0": -100, "1": -100, "2": -100 },
    })
}

pub(crate) fn greedy(model: &str) -> Value {
    json!({ "model": model, "prompt": "Once upon a time", "max_tokens": 12, "temperature": 0 })
}

/// What `Kind::Stories` says to [`greedy`].
fn expected() -> String {
    alone(&mut load(Kind::Stories, engine()), "Once upon a time", 12).0
}

fn events(reply: &Reply) -> Vec<Value> {
    assert_eq!(reply.status, 200, "{}", reply.body);
    assert_eq!(reply.header("content-type"), Some("text/event-stream"));
    let events = reply.body.split_terminator("\n\n");
    let events = events.map(|event| event.strip_prefix("data: ").unwrap());
    events.map(|event| serde_json::from_str(event).unwrap()).collect()
}

#[test]
fn a_model_s_entry_says_what_is_known_of_it() {
    let models = Models::new(None);
    let about = About {
        size: 1234,
        architecture: "llama".into(),
        quantization: "q8_0".into(),
        parameters: 260_032,
        context: 512,
        license: Some("MIT".into()),
        card: Some("# Tiny\n".into()),
        ..About::default()
    };
    let digest = about.digest.clone();
    models.offer(Offer { about, ..offer("tiny", 0, Kind::Stories, engine()) });
    let server = server(models, Stub::default());
    let found = entry(&server, "tiny");
    for (key, expected) in [
        ("id", json!("tiny")),
        ("object", json!("model")),
        ("owned_by", json!("llmos")),
        ("created", json!(1_700_000_000)),
        ("loaded", json!(false)),
        ("size", json!(1234)),
        ("digest", Value::Null),
        ("license", json!("MIT")),
        ("card", json!("# Tiny\n")),
        ("architecture", json!("llama")),
        ("quantization", json!("q8_0")),
        ("parameters", json!(260_032)),
        ("context", json!(512)),
        ("adapters", json!([])),
    ] {
        assert_eq!(found[key], expected, "{key}");
        assert!(found.get(key).is_some(), "{key}");
    }
    // What takes time to find out comes later.
    digest.set("ab".repeat(32)).unwrap();
    assert_eq!(entry(&server, "tiny")["digest"], format!("sha256:{}", "ab".repeat(32)));
    assert_eq!(get(server.address, "/v1/models").json()["data"][0], entry(&server, "tiny"));
    let tags = get(server.address, "/api/tags").json();
    let details = &tags["models"][0]["details"];
    assert_eq!(
        (&details["family"], &details["quantization_level"]),
        (&json!("llama"), &json!("Q8_0"))
    );
}

#[test]
fn a_model_that_never_fits_is_not_to_be_asked_for_again() {
    let server = server(of(&[("large", 101, Kind::Stories)], Some(100)), Stub::default());
    let reply = post(server.address, "/v1/completions", &json!({ "prompt": "Once" }));
    reply.is_refusal(503, "takes 101 bytes of memory, and the budget is 100");
    assert_eq!(
        (reply.header("retry-after"), reply.header("x-should-retry")),
        (None, Some("false"))
    );
}

#[test]
fn models_are_loaded_and_let_go_of_when_that_is_asked_for() {
    let server = server(of(&[("tiny", 60, Kind::Endless)], Some(100)), Stub::default());
    let to = |what: &str, id: &str| {
        post(server.address, &format!("/v1/models/{what}"), &json!({ "model": id }))
    };
    let loaded = to("load", "tiny").json();
    assert_eq!((&loaded["id"], &loaded["loaded"]), (&json!("tiny"), &json!(true)));
    assert_eq!(to("load", "tiny").status, 200);
    // Whoever is being answered goes on with it.
    let mut busy = send_post(server.address, PATH, &endless("tiny"));
    busy.wait_for("data: ");
    assert_eq!(to("unload", "tiny").json()["loaded"], false);
    busy.wait_for("data: ");
    drop(busy);
    assert_eq!(post(server.address, PATH, &greedy("tiny")).status, 200);
    to("load", "tinny").is_refusal(404, "tinny");
    to("unload", "nothing").is_refusal(404, "nothing");
    post(server.address, "/v1/models/load", &json!({})).is_refusal(400, "no model");
    let put = request("GET", "/v1/models/load", &["Host: localhost"], b"");
    assert_eq!(Connection::send(server.address, &put).finish().status, 405);
}

#[test]
fn what_changes_models_is_for_admins() {
    let keys = Keys::new(vec![
        Key::of("ann", "llmos-chat", Scope::Chat),
        Key::of("bob", "llmos-admin", Scope::Admin),
    ]);
    let stub = Stub::default();
    let asked = stub.asked.clone();
    let options = ServerOptions { keys, keeper: Some(Arc::new(stub)), ..options() };
    let server = run(options, of(&[("tiny", 0, Kind::Stories)], None));
    let ask = |method: &str, path: &str, key: &str, body: &str| {
        let key = format!("x-api-key: {key}");
        let headers = ["Host: localhost", "Content-Type: application/json", &key];
        let bytes = request(method, path, &headers, body.as_bytes());
        Connection::send(server.address, &bytes).finish()
    };
    for (path, body) in [
        ("load", "{\"model\":\"tiny\"}"),
        ("unload", "{\"model\":\"tiny\"}"),
        ("pull", "{\"name\":\"new\"}"),
        ("convert", "{\"model\":\"tiny\",\"type\":\"q8_0\"}"),
    ] {
        let path = format!("/v1/models/{path}");
        ask("POST", &path, "llmos-chat", body).is_refusal(403, "--scope admin");
        assert!(asked.lock().unwrap().is_empty());
        assert_eq!(ask("POST", &path, "llmos-admin", body).status, 200, "{path}");
        asked.lock().unwrap().clear();
    }
    for path in ["/v1/runs", "/v1/runs/x"] {
        ask("GET", path, "llmos-chat", "").is_refusal(403, "--scope admin");
    }
    assert_eq!(ask("GET", "/v1/models", "llmos-chat", "").status, 200);
}

#[test]
fn a_model_that_was_pulled_or_converted_is_offered_at_once() {
    let stub = Stub::default();
    let asked = stub.asked.clone();
    let server = server(of(&[("tiny", 0, Kind::Stories)], None), stub);
    let pulled = post(server.address, "/v1/models/pull", &json!({ "name": "hf:o/r" }));
    let pulled = events(&pulled);
    assert_eq!(pulled[0], json!({ "done": 0, "total": 100, "what": "pulling hf:o/r" }));
    assert_eq!(pulled[pulled.len() - 2]["done"], 100);
    assert_eq!(pulled[pulled.len() - 1], json!({ "model": "hf:o/r" }));
    let answer = post(server.address, PATH, &greedy("hf:o/r")).json();
    assert_eq!(answer["choices"][0]["text"], expected());
    let body = json!({ "model": "tiny", "type": "q8_0" });
    let converted = events(&post(server.address, "/v1/models/convert", &body));
    assert_eq!(converted.last().unwrap(), &json!({ "model": "tiny-q8_0" }));
    assert_eq!(entry(&server, "tiny-q8_0")["loaded"], false);
    // What fails at once has a status, what fails later is the last event.
    for (name, status) in [("asked", 400), ("missing", 404), ("outside", 502)] {
        post(server.address, "/v1/models/pull", &json!({ "name": name }))
            .is_refusal(status, "it is so");
    }
    let late = events(&post(server.address, "/v1/models/pull", &json!({ "name": "late" })));
    assert!(late.last().unwrap()["error"]["message"].as_str().unwrap().contains("it is so"));
    // An address is no name, and nobody is asked to go there.
    asked.lock().unwrap().clear();
    for name in ["https://evil.example/o/r", "http://169.254.169.254/", "file:///etc/passwd"] {
        post(server.address, "/v1/models/pull", &json!({ "name": name })).is_refusal(400, "name");
    }
    let body = json!({ "model": "../tiny", "type": "q8_0" });
    post(server.address, "/v1/models/convert", &body).is_refusal(404, "../tiny");
    assert!(asked.lock().unwrap().is_empty());
    let none = run(options(), of(&[("tiny", 0, Kind::Stories)], None));
    post(none.address, "/v1/models/pull", &json!({ "name": "x" })).is_refusal(501, "neither pulls");
}

#[test]
fn one_is_pulled_at_a_time_and_a_client_that_leaves_ends_it() {
    let gate = Arc::new(AtomicBool::new(false));
    let stub = Stub { gate: Some(gate.clone()), ..Stub::default() };
    let ended = stub.ended.clone();
    let server = server(of(&[("tiny", 0, Kind::Stories)], None), stub);
    let mut first = send_post(server.address, "/v1/models/pull", &json!({ "name": "one" }));
    first.wait_for("data: ");
    let second = post(server.address, "/v1/models/pull", &json!({ "name": "two" }));
    second.is_refusal(409, "another");
    let body = json!({ "model": "tiny", "type": "q8_0" });
    post(server.address, "/v1/models/convert", &body).is_refusal(409, "another");
    drop(first);
    wait_until("the pull was not ended", || ended.load(Ordering::Relaxed) == 1);
    gate.store(true, Ordering::Relaxed);
    wait_until("the place was not given back", || {
        post(server.address, "/v1/models/pull", &json!({ "name": "three" })).status == 200
    });
    let ids = get(server.address, "/v1/models").json();
    let ids: Vec<&str> =
        ids["data"].as_array().unwrap().iter().map(|one| one["id"].as_str().unwrap()).collect();
    assert_eq!(ids, ["tiny", "three"]);
}

#[test]
fn a_model_is_replaced_while_it_is_asked_and_nobody_is_dropped() {
    let server = server(of(&[("swap", 60, Kind::Endless)], Some(200)), Stub::default());
    let long = json!({
        "model": "swap", "prompt": "Once", "max_tokens": 1000, "temperature": 1, "seed": 1,
        "stream": true, "stream_options": { "include_usage": true },
        "logit_bias": { "0": -100, "1": -100, "2": -100 },
    });
    let mut old: Vec<Connection> = (0..3).map(|_| send_post(server.address, PATH, &long)).collect();
    old.iter_mut().for_each(|old| old.wait_for("data: "));
    let pulled = post(server.address, "/v1/models/pull", &json!({ "name": "swap" }));
    assert_eq!(events(&pulled).last().unwrap(), &json!({ "model": "swap" }));
    // Who asks now is answered by the new one, while the old one writes on.
    let new = post(server.address, PATH, &greedy("swap")).json();
    assert_eq!(new["choices"][0]["text"], expected());
    for old in old {
        let rest = old.rest();
        assert!(rest.contains("data: [DONE]"), "it broke off");
        assert!(rest.contains("\"completion_tokens\":1000"), "it was cut off");
    }
}

#[test]
fn where_old_and_new_do_not_fit_side_by_side_the_new_waits() {
    let server = server(of(&[("swap", 60, Kind::Endless)], Some(100)), Stub::default());
    let mut old = send_post(server.address, PATH, &endless("swap"));
    old.wait_for("data: ");
    assert_eq!(post(server.address, "/v1/models/pull", &json!({ "name": "swap" })).status, 200);
    let new = send_post(server.address, PATH, &greedy("swap"));
    let in_flight = || get(server.address, "/readyz").json()["in_flight"].as_u64();
    wait_until("the new one never came", || in_flight() == Some(2));
    // The old one is not hurried.
    (0..20).for_each(|_| old.wait_for("data: "));
    assert!(!is_loaded(&server, "swap"));
    drop(old);
    assert_eq!(new.finish().json()["choices"][0]["text"], expected());
    assert!(is_loaded(&server, "swap"));
}

#[test]
fn who_asks_for_a_model_that_has_no_room_waits_until_another_is_not_used_any_more() {
    let kinds = [("one", 60, Kind::Endless), ("two", 60, Kind::Stories)];
    let server = server(of(&kinds, Some(100)), Stub::default());
    let mut busy = send_post(server.address, PATH, &endless("one"));
    busy.wait_for("data: ");
    let waiting = send_post(server.address, PATH, &greedy("two"));
    // Those who ask for what is there do not wait with it.
    assert_eq!(post(server.address, PATH, &greedy("one")).status, 200);
    // A client that does not wait leaves nothing behind.
    let gone = send_post(server.address, PATH, &greedy("two"));
    drop(gone);
    assert!(is_loaded(&server, "one") && !is_loaded(&server, "two"));
    drop(busy);
    assert_eq!(waiting.finish().json()["choices"][0]["text"], expected());
    assert!(!is_loaded(&server, "one") && is_loaded(&server, "two"));
}

#[test]
fn a_model_that_nobody_uses_is_let_go_of_after_its_time() {
    let options = ServerOptions { keep_alive: Some(Duration::from_millis(150)), ..options() };
    let server = run(options, of(&[("tiny", 60, Kind::Endless)], None));
    let mut busy = send_post(server.address, PATH, &endless("tiny"));
    busy.wait_for("data: ");
    let start = Instant::now();
    while start.elapsed() < Duration::from_millis(600) {
        assert!(is_loaded(&server, "tiny"), "it was used");
        busy.wait_for("data: ");
    }
    drop(busy);
    wait_until("it was not let go of", || !is_loaded(&server, "tiny"));
    let metrics = get(server.address, "/metrics").body;
    wait_until("its memory did not come back", || {
        get(server.address, "/metrics").body.contains("\nllmos_memory_bytes 0\n")
    });
    assert!(metrics.contains("llmos_models_loaded 0"), "{metrics}");
    // And is loaded again when it is asked for.
    assert_eq!(post(server.address, PATH, &greedy("tiny")).status, 200);
}
