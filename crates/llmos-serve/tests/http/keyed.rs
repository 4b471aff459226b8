//! Keys that come and go while the server runs, their scopes and quotas, sessions of the page, and
//! shares of a model.

use std::time::{Duration, Instant};

use llmos_model::EngineOptions;
use llmos_serve::{Error, Key, Keys, Models, Quota, Scope, Server, ServerOptions};
use serde_json::{Value, json};

use crate::client::{Connection, Reply, request};
use crate::house::{Kind, Running, options, serve};
use crate::kept::{Folder, ask, user};

fn with_key(server: &Running, key: &str, method: &str, path: &str, body: &Value) -> Reply {
    ask(server, method, path, &[&format!("Authorization: Bearer {key}")], body)
}

/// Asks until the answer has a status.
#[track_caller]
fn wait_for(expected: u16, ask: impl Fn() -> Reply) {
    let start = Instant::now();
    loop {
        let reply = ask();
        if reply.status == expected {
            return;
        }
        assert!(start.elapsed() < Duration::from_secs(10), "{reply:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_running_server_notices_new_and_revoked_keys() {
    let folder = Folder::new();
    let server = folder.serve(Kind::Stories);
    let models = |key: &str| with_key(&server, key, "GET", "/v1/models", &Value::Null);
    assert_eq!(models("none").status, 200);
    let mut store = folder.visit();
    let ann = store.keys().add("ann", Scope::Chat, Quota::default()).unwrap();
    let start = Instant::now();
    wait_for(401, || models("none"));
    assert!(start.elapsed() < Duration::from_secs(3));
    assert_eq!(models(ann.expose()).status, 200);
    let bob = store.keys().add("bob", Scope::Admin, Quota::default()).unwrap();
    wait_for(200, || models(bob.expose()));
    store.keys().revoke("ann").unwrap();
    wait_for(401, || models(ann.expose()));
    assert_eq!(models(bob.expose()).status, 200);
    // All are revoked: nobody comes in, and nobody is let in without a key.
    store.keys().revoke("bob").unwrap();
    wait_for(401, || models(bob.expose()));
    assert_eq!(models("none").status, 401);
    assert_eq!(ask(&server, "GET", "/v1/models", &[], &Value::Null).status, 401);
    assert_eq!(ask(&server, "GET", "/healthz", &[], &Value::Null).status, 200);
}

#[test]
fn a_key_in_the_store_lets_others_be_served() {
    let folder = Folder::new();
    let open = |folder: &Folder| {
        let address = ([0, 0, 0, 0], 0).into();
        Server::bind(ServerOptions { address, ..folder.options() }, Models::new(None))
    };
    assert!(matches!(open(&folder).err(), Some(Error::Open { .. })));
    folder.visit().keys().add("ann", Scope::Chat, Quota::default()).unwrap();
    let server = open(&folder).unwrap();
    assert!(!server.is_open());
}

#[test]
fn scopes_are_told_from_keys() {
    let keys = [("chat", Scope::Chat), ("admin", Scope::Admin)];
    let keys = Keys::new(keys.map(|(name, scope)| Key::of(name, name, scope)).into());
    let server =
        serve(Kind::Stories, ServerOptions { keys, ..options() }, EngineOptions::default());
    for (method, path) in [
        ("POST", "/v1/models/load"),
        ("POST", "/v1/models/unload"),
        ("POST", "/v1/models/pull"),
        ("POST", "/v1/models/convert"),
        ("GET", "/v1/runs"),
        ("GET", "/v1/runs/x"),
        ("GET", "/metrics"),
    ] {
        let body = if method == "GET" { Value::Null } else { json!({ "model": "test" }) };
        let reply = with_key(&server, "chat", method, path, &body);
        let error = reply.is_refusal(403, "neither");
        assert_eq!(error["code"], "insufficient_scope");
        assert!(reply.header("www-authenticate").unwrap().contains("insufficient_scope"));
        let reply = with_key(&server, "admin", method, path, &body);
        assert!(reply.status != 401 && reply.status != 403, "{path}: {reply:?}");
    }
    assert_eq!(with_key(&server, "chat", "GET", "/v1/models", &Value::Null).status, 200);
}

#[test]
fn quotas_are_held_to_and_usage_is_counted() {
    let folder = Folder::new();
    let mut store = folder.visit();
    let mut key = |name: &str, quota: Quota| {
        store.keys().add(name, Scope::Chat, quota).unwrap().expose().to_string()
    };
    let few = key("few", Quota { requests_per_minute: Some(2), ..Quota::default() });
    let slow = key("slow", Quota { tokens_per_minute: Some(20), ..Quota::default() });
    let small = key("small", Quota { tokens_per_day: Some(12), ..Quota::default() });
    let server = folder.serve(Kind::Stories);
    let complete = |key: &str| {
        let body = json!({ "prompt": "Once upon a time", "max_tokens": 8, "temperature": 0 });
        with_key(&server, key, "POST", "/v1/completions", &body)
    };
    let refused = |key: &str, code: &str| {
        let reply = complete(key);
        assert_eq!(reply.is_refusal(429, "the key")["code"], code);
        reply.header("retry-after").unwrap().parse::<u64>().unwrap()
    };
    assert_eq!((complete(&few).status, complete(&few).status), (200, 200));
    assert!((1..=30).contains(&refused(&few, "rate_limit_exceeded")));
    // What asks no model is not counted.
    assert_eq!(with_key(&server, &few, "GET", "/v1/models", &Value::Null).status, 200);
    let mut tokens = 0;
    while tokens < 20 {
        tokens += complete(&slow).json()["usage"]["total_tokens"].as_u64().unwrap();
    }
    assert!(refused(&slow, "rate_limit_exceeded") <= 60);
    let used = complete(&small).json()["usage"]["total_tokens"].as_u64().unwrap();
    assert!(used >= 12);
    assert!(refused(&small, "insufficient_quota") <= 86_400);
    // The store knows within a second or two, and so does the next server.
    let start = Instant::now();
    while store.keys().usage("small").unwrap().tokens < used {
        assert!(start.elapsed() < Duration::from_secs(10));
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(store.keys().usage("small").unwrap().requests, 1);
    assert!(store.keys().list().unwrap().iter().all(|key| key.used.is_some()));
    drop(server);
    assert_eq!(store.keys().usage("few").unwrap().requests, 2);
    let server = folder.serve(Kind::Stories);
    let body = json!({ "prompt": "Once", "max_tokens": 1 });
    let reply = with_key(&server, &small, "POST", "/v1/completions", &body);
    reply.is_refusal(429, "this day");
}

#[test]
fn whatever_works_for_a_key_counts_for_its_quotas() {
    let folder = Folder::new();
    let mut store = folder.visit();
    let mut key = |name: &str, quota: Quota| {
        store.keys().add(name, Scope::Chat, quota).unwrap().expose().to_string()
    };
    let one = Quota { requests_per_minute: Some(1), ..Quota::default() };
    let asked = [
        ("POST", "/tokenize", json!({ "prompt": "Once" })),
        ("POST", "/detokenize", json!({ "tokens": [403] })),
        ("POST", "/v1/lens", json!({ "prompt": "Once", "top": 1 })),
        ("POST", "/api/show", json!({ "model": "test" })),
        ("GET", "/v1/parameters", Value::Null),
    ];
    let keys: Vec<String> = (0..asked.len()).map(|n| key(&format!("one{n}"), one)).collect();
    let few = key("few", Quota { tokens_per_day: Some(3), ..Quota::default() });
    let server = folder.serve(Kind::Stories);
    for (key, (method, path, body)) in keys.iter().zip(&asked) {
        assert_eq!(with_key(&server, key, method, path, body).status, 200, "{path}");
        assert_eq!(with_key(&server, key, method, path, body).status, 429, "{path}");
    }
    let lens = json!({ "prompt": "Once upon a time", "top": 1 });
    assert_eq!(with_key(&server, &few, "POST", "/v1/lens", &lens).status, 200);
    let reply = with_key(&server, &few, "POST", "/v1/lens", &lens);
    assert_eq!(reply.is_refusal(429, "this day")["code"], "insufficient_quota");
}

#[test]
fn a_page_has_a_session_that_no_other_page_can_use() {
    let folder = Folder::new();
    folder.visit().keys().add("ann", Scope::Chat, Quota::default()).unwrap();
    let secret = folder.visit().keys().renew("ann").unwrap();
    let server = folder.serve(Kind::Stories);
    let host = format!("Host: {}", server.address);
    let origin = format!("Origin: http://{}", server.address);
    let send = |method: &str, path: &str, headers: &[&str], body: &Value| {
        let mut all = vec![host.as_str(), "Content-Type: application/json"];
        all.extend(headers);
        let body = if body.is_null() { String::new() } else { body.to_string() };
        Connection::send(server.address, &request(method, path, &all, body.as_bytes())).finish()
    };
    let key = json!({ "key": secret.expose() });
    send("POST", "/v1/session", &[&origin], &json!({ "key": "wrong" })).is_refusal(401, "known");
    send("POST", "/v1/session", &[&origin], &json!({})).is_refusal(400, "no key");
    let long = json!({ "key": "x".repeat(5000) });
    send("POST", "/v1/session", &[&origin], &long).is_refusal(413, "4096 bytes");
    // A page of others cannot even begin one.
    for origin in ["Origin: http://evil.example", "Origin: null", "Origin: http://localhost:1"] {
        assert_eq!(send("POST", "/v1/session", &[origin], &key).status, 403, "{origin}");
    }
    let plain = request(
        "POST",
        "/v1/session",
        &[&host, "Content-Type: text/plain"],
        key.to_string().as_bytes(),
    );
    assert_eq!(Connection::send(server.address, &plain).finish().status, 415);
    let begun = send("POST", "/v1/session", &[&origin, "Sec-Fetch-Site: same-origin"], &key);
    assert_eq!(begun.json(), json!({ "name": "ann", "scope": "chat", "needs_key": true }));
    let set = begun.header("set-cookie").unwrap();
    for part in ["HttpOnly", "SameSite=Strict", "Path=/"] {
        assert!(set.contains(part), "{set}");
    }
    assert!(!set.contains("Domain") && !set.contains(secret.expose()), "{set}");
    let cookie = format!("Cookie: {}", set.split(';').next().unwrap());
    let own = [&origin, &cookie, "Sec-Fetch-Site: same-origin"];
    assert_eq!(send("GET", "/v1/session", &[&cookie], &Value::Null).json()["name"], "ann");
    let begun = send("POST", "/v1/conversations", &own, &json!({ "title": "own" }));
    assert_eq!(begun.status, 201, "{begun:?}");
    let head: Value = serde_json::from_str(&begun.body).unwrap();
    let path = format!("/v1/conversations/{}", head["id"].as_str().unwrap());
    // Everything that changes something needs the own page's word, whatever the browser sends along.
    let foreign: [&[&str]; 9] = [
        &[],
        &["Sec-Fetch-Site: same-origin"],
        &["Sec-Fetch-Site: none"],
        &["Sec-Fetch-Site: cross-site", "Sec-Fetch-Mode: navigate"],
        &["Origin: null"],
        &["Origin: http://evil.example"],
        &["Origin: http://localhost:1", "Sec-Fetch-Site: same-site"],
        &[&origin, "Sec-Fetch-Site: same-site"],
        &[&origin, "Sec-Fetch-Site: cross-site"],
    ];
    for headers in foreign {
        let headers = [headers, &[cookie.as_str()]].concat();
        for (method, path, body) in [
            ("POST", "/v1/conversations".to_string(), json!({})),
            ("POST", format!("{path}/messages"), user("Hi")),
            ("PATCH", path.clone(), json!({ "title": "stolen" })),
            ("DELETE", path.clone(), Value::Null),
            ("POST", "/v1/completions".to_string(), json!({ "prompt": "a", "max_tokens": 1 })),
            ("POST", "/v1/conversations/import".to_string(), Value::Null),
        ] {
            let reply = send(method, &path, &headers, &body);
            assert_eq!(reply.status, 403, "{method} {path} {headers:?}: {}", reply.body);
        }
    }
    assert_eq!(send("GET", &path, &[&cookie], &Value::Null).json()["title"], "own");
    for site in ["cross-site", "same-site"] {
        let site = format!("Sec-Fetch-Site: {site}");
        assert_eq!(send("GET", &path, &[&cookie, &site], &Value::Null).status, 403);
    }
    // A key that is sent beats the cookie, and a session ends with its key.
    let wrong = [&origin, &cookie, "Authorization: Bearer wrong"];
    assert_eq!(send("GET", &path, &wrong, &Value::Null).status, 401);
    let other = send("POST", "/v1/session", &[&origin], &key);
    let other =
        format!("Cookie: {}", other.header("set-cookie").unwrap().split(';').next().unwrap());
    assert_ne!(other, cookie);
    let ended = send("DELETE", "/v1/session", &own, &Value::Null);
    assert!(ended.header("set-cookie").unwrap().contains("Max-Age=0"));
    assert_eq!(send("GET", &path, &[&cookie], &Value::Null).status, 401);
    assert_eq!(send("GET", &path, &[&other], &Value::Null).status, 200);
    folder.visit().keys().revoke("ann").unwrap();
    wait_for(401, || send("GET", &path, &[&other], &Value::Null));
}

/// Keys of two owners.
fn two() -> Keys {
    Keys::new(vec![Key::of("ann", "ann", Scope::Chat), Key::of("bob", "bob", Scope::Admin)])
}

fn long(tokens: usize) -> Vec<u8> {
    let body = json!({
        "prompt": "Once upon a time there was", "max_tokens": tokens, "temperature": 1,
        "logit_bias": { "0": -100, "1": -100, "2": -100 },
    });
    body.to_string().into_bytes()
}

fn send(server: &Running, key: &str, body: &[u8]) -> Connection {
    let key = format!("x-api-key: {key}");
    let headers = ["Host: localhost", "Content-Type: application/json", &key];
    Connection::send(server.address, &request("POST", "/v1/completions", &headers, body))
}

/// A number that the server tells at `/metrics`, summed over its labels.
fn told(server: &Running, name: &str) -> f64 {
    let page = with_key(server, "bob", "GET", "/metrics", &Value::Null).body;
    let lines = page.lines().filter(|line| line.starts_with(name));
    lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
}

#[test]
fn one_request_beside_sixteen_of_another_s_is_done_long_before_them() {
    let options = ServerOptions { keys: two(), ..options() };
    let cache_bytes = Some(64 << 20);
    let engine = EngineOptions { cache_bytes, ..EngineOptions::default() };
    let server = serve(Kind::Endless, options, engine);
    // All slots are taken by answers of the same length as the one that comes later. In equal parts
    // for each sequence it would be the last of seventeen.
    let crowd: Vec<Connection> = (0..16).map(|_| send(&server, "ann", &long(400))).collect();
    let start = Instant::now();
    while told(&server, "llmos_sequences_running") < 16.0 {
        assert!(start.elapsed() < Duration::from_secs(30), "sixteen write");
    }
    let usage = send(&server, "bob", &long(400)).finish().json()["usage"].clone();
    assert_eq!(usage["completion_tokens"], 400);
    let drawn = told(&server, "llmos_generated_tokens_total");
    assert!(drawn <= 4.0 * 400.0, "{drawn} tokens were drawn in answers that are done");
    drop(crowd);
}

#[test]
fn one_key_cannot_take_all_places() {
    let options = ServerOptions { keys: two(), slots: 2, queue: 4, ..options() };
    let cache_bytes = Some(64 << 20);
    let engine = EngineOptions { cache_bytes, ..EngineOptions::default() };
    let server = serve(Kind::Endless, options, engine);
    let crowd: Vec<Connection> = (0..4).map(|_| send(&server, "ann", &long(1_000_000))).collect();
    // A place is a key's once its request is read, and not while it only is in flight.
    let at_work =
        || told(&server, "llmos_sequences_running") + told(&server, "llmos_requests_waiting");
    let start = Instant::now();
    while at_work() < 4.0 {
        assert!(start.elapsed() < Duration::from_secs(30));
    }
    let refused = send(&server, "ann", &long(1)).finish();
    assert_eq!(refused.is_refusal(429, "4 requests")["code"], "rate_limit_exceeded");
    let wait: u64 = refused.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=60).contains(&wait));
    // Another's comes in, and is answered although all slots were taken.
    assert_eq!(send(&server, "bob", &long(5)).finish().json()["usage"]["completion_tokens"], 5);
    drop(crowd);
}
