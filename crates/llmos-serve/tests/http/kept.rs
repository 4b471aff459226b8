//! Conversations that are kept: trees, ratings, search, export and import, and every field checked.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use llmos_model::EngineOptions;
use llmos_serve::{Archive, Key, Keys, ServerOptions};
use llmos_store::{Options, Place, Purpose, Scope, Store};
use serde_json::{Value, json};

use crate::client::{Connection, Reply, get, post, request};
use crate::house::{Kind, Running, options, serve, simple};

/// A folder of its own, which goes when the test ends.
pub(crate) struct Folder(PathBuf);

impl Folder {
    pub(crate) fn new() -> Folder {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let n = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("llmos-serve-{}-{n}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir(&path).unwrap();
        Folder(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    pub(crate) fn place(&self) -> Place {
        Place::Folder(self.0.clone())
    }

    /// Options of a server that keeps its data here.
    pub(crate) fn options(&self) -> ServerOptions {
        ServerOptions { archive: Some(Archive::open(&self.place()).unwrap()), ..options() }
    }

    /// A server of one model that keeps its data here.
    pub(crate) fn serve(&self, kind: Kind) -> Running {
        serve(kind, self.options(), EngineOptions::default())
    }

    /// The store, beside a server that has it.
    pub(crate) fn visit(&self) -> Store {
        Store::open(&self.place(), Options::new(Purpose::Visit)).unwrap()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Asks with more header lines than the ordinary ones.
pub(crate) fn ask(
    server: &Running,
    method: &str,
    path: &str,
    headers: &[&str],
    body: &Value,
) -> Reply {
    let mut all = vec!["Host: localhost", "Content-Type: application/json"];
    all.extend(headers);
    let body = if body.is_null() { String::new() } else { body.to_string() };
    Connection::send(server.address, &request(method, path, &all, body.as_bytes())).finish()
}

/// Begins a conversation; gives its id.
pub(crate) fn begin(server: &Running, body: &Value) -> String {
    let reply = post(server.address, "/v1/conversations", body);
    assert_eq!(reply.status, 201, "{}", reply.body);
    let head: Value = serde_json::from_str(&reply.body).unwrap();
    head["id"].as_str().unwrap().to_string()
}

/// Adds a message; gives it.
#[track_caller]
pub(crate) fn add(server: &Running, id: &str, body: &Value) -> Value {
    let reply = post(server.address, &format!("/v1/conversations/{id}/messages"), body);
    assert_eq!(reply.status, 201, "{}", reply.body);
    serde_json::from_str(&reply.body).unwrap()
}

pub(crate) fn user(text: &str) -> Value {
    json!({ "role": "user", "content": text })
}

#[test]
fn what_was_said_is_there_after_the_server_has_gone() {
    let folder = Folder::new();
    let server = folder.serve(Kind::Stories);
    let settings = json!({ "system": "Be brief.", "temperature": 0.25 });
    let id = begin(&server, &json!({ "title": "Cats", "settings": settings }));
    let first = add(&server, &id, &user("The cat sat."));
    assert_eq!((&first["number"], &first["parent"]), (&json!(1), &Value::Null));
    let call = json!({ "id": "c", "type": "function",
                       "function": { "name": "f", "arguments": "{\"b\":1,\"a\":2}" } });
    let said = json!({ "role": "assistant", "content": "", "reasoning_content": "Hm.",
                       "tool_calls": [call] });
    add(&server, &id, &said);
    let told = json!({ "role": "tool", "content": "84", "tool_call_id": "c", "name": "f" });
    assert_eq!(add(&server, &id, &told)["parent"], 2);
    let file = json!({ "name": "a.txt", "media": "text/x-rust", "text": "fn main() {}" });
    let edited = json!({ "role": "user", "content": "The dog sat.", "parent": null,
                         "attachments": [file] });
    assert_eq!(add(&server, &id, &edited)["number"], 4);
    drop(server);
    let server = folder.serve(Kind::Stories);
    let path = format!("/v1/conversations/{id}");
    let found = get(server.address, &path).json();
    assert_eq!((&found["title"], &found["settings"]), (&json!("Cats"), &settings));
    assert_eq!(found["leaf"], 4);
    let messages = found["messages"].as_array().unwrap();
    let parents: Vec<&Value> = messages.iter().map(|message| &message["parent"]).collect();
    assert_eq!(parents, [&Value::Null, &json!(1), &json!(2), &Value::Null]);
    assert_eq!(messages[1]["tool_calls"][0], call);
    assert_eq!(messages[1]["reasoning_content"], "Hm.");
    assert_eq!(messages[3]["attachments"][0], file);
    // Another branch, another title, and nothing else is touched.
    let change = json!({ "leaf": 1, "title": "Cats and dogs" });
    let head = ask(&server, "PATCH", &path, &[], &change).json();
    assert_eq!((&head["leaf"], &head["title"]), (&json!(3), &json!("Cats and dogs")));
    assert_eq!((&head["settings"], &head["messages"]), (&settings, &json!(4)));
    let head = ask(&server, "PATCH", &path, &[], &json!({ "settings": null })).json();
    assert_eq!(head.get("settings"), None);
}

#[test]
fn lists_have_pages_and_words_are_found_chinese_too() {
    let folder = Folder::new();
    let server = folder.serve(Kind::Stories);
    let ids: Vec<String> = (0..5)
        .map(|i| {
            let id = begin(&server, &json!({ "title": format!("number {i}") }));
            add(&server, &id, &user(&format!("今天天气很好 and the cat number {i} <b>sat</b>")));
            id
        })
        .collect();
    let mut seen = Vec::new();
    let mut path = "/v1/conversations?limit=2".to_string();
    loop {
        let page = get(server.address, &path).json();
        let data = page["data"].as_array().unwrap();
        assert!(data.len() <= 2);
        seen.extend(data.iter().map(|head| head["id"].as_str().unwrap().to_string()));
        let Some(next) = page["next"].as_str() else { break };
        path = format!("/v1/conversations?limit=2&after={next}");
    }
    seen.reverse();
    // Those of one millisecond come in any order.
    assert_eq!(seen.len(), 5);
    assert!(ids.iter().all(|id| seen.contains(id)));
    let search = |query: &str| {
        let path = format!("/v1/conversations/search?q={query}");
        get(server.address, &path).json()["data"].as_array().unwrap().clone()
    };
    for (query, count) in [
        ("%E5%A4%A9%E6%B0%94", 5),
        ("%22%E6%B0%94%E5%BE%88%22", 5),
        ("%E6%98%8E%E5%A4%A9", 0),
        ("CAT+3", 1),
        ("%22cat+number%22&limit=2", 2),
        ("cat&skip=4", 1),
        ("", 0),
        ("%22+OR+1%3D1+--", 0),
    ] {
        assert_eq!(search(query).len(), count, "{query}");
    }
    let hit = &search("%E5%A4%A9%E6%B0%94")[0];
    assert_eq!((&hit["message"], &hit["role"]), (&json!(1), &json!("user")));
    assert_eq!(hit["parts"][1], "天气");
    let joined: String =
        hit["parts"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    assert_eq!(hit["snippet"], joined.as_str());
    // A title as well as a message.
    let both = search("%22number+2%22");
    assert_eq!((both.len(), both.iter().filter(|hit| hit["message"].is_null()).count()), (2, 1));
}

#[test]
fn ratings_are_kept_and_taken_back() {
    let folder = Folder::new();
    let server = folder.serve(Kind::Stories);
    let id = begin(&server, &json!({}));
    add(&server, &id, &user("Hi"));
    let path = format!("/v1/conversations/{id}/messages/1/rating");
    let rated = json!({ "thumb": "down", "reason": "dull", "ideal": "Hello!" });
    let reply = post(server.address, &path, &rated).json();
    assert_eq!((&reply["thumb"], &reply["ideal"]), (&json!("down"), &json!("Hello!")));
    post(server.address, &path, &json!({ "thumb": "up" })).json();
    let rating = || {
        let found = get(server.address, &format!("/v1/conversations/{id}")).json();
        found["messages"][0]["rating"].clone()
    };
    assert_eq!((&rating()["thumb"], rating().get("reason")), (&json!("up"), None));
    assert_eq!(ask(&server, "DELETE", &path, &[], &Value::Null).status, 200);
    assert!(rating().is_null());
    for wrong in [json!({}), json!({ "thumb": 1 }), json!({ "thumb": "sideways" })] {
        post(server.address, &path, &wrong).is_refusal(400, "thumb");
    }
    post(server.address, &path, &json!({ "thumb": "up", "reason": 3 })).is_refusal(400, "reason");
    post(server.address, &path, &json!({ "thumb": "up", "resaon": "" })).is_refusal(400, "resaon");
    for number in ["0", "2", "x", "99999999999"] {
        let path = format!("/v1/conversations/{id}/messages/{number}/rating");
        let error =
            post(server.address, &path, &json!({ "thumb": "up" })).is_refusal(404, "message");
        assert_eq!(error["code"], "message_not_found");
    }
}

#[test]
fn every_field_is_checked_and_named() {
    let folder = Folder::new();
    let server = folder.serve(Kind::Stories);
    let id = begin(&server, &json!({}));
    let deep = (0..80).fold(json!(1), |value, _| json!([value]));
    let check = |method: &str, path: &str, body: Value, words: &str| {
        ask(&server, method, path, &[], &body).is_refusal(400, words);
    };
    let conversation = format!("/v1/conversations/{id}");
    for (method, path) in [("POST", "/v1/conversations"), ("PATCH", conversation.as_str())] {
        check(method, path, json!({ "title": 3 }), "title");
        check(method, path, json!({ "settings": "x" }), "settings");
        check(method, path, json!({ "settings": { "system": 3 } }), "settings");
        check(method, path, json!({ "settings": { "system": "x".repeat(300_000) } }), "settings");
        check(method, path, json!({ "settings": { "a": deep } }), "nested");
        check(method, path, json!({ "titel": "x" }), "titel");
        check(method, path, json!([]), "object");
    }
    for leaf in [json!(0), json!(-1), json!("1"), json!(1.5), json!(u64::MAX)] {
        check("PATCH", &conversation, json!({ "leaf": leaf }), "leaf");
    }
    let missing = ask(&server, "PATCH", &conversation, &[], &json!({ "leaf": 7, "title": "x" }));
    missing.is_refusal(404, "no message 7");
    assert_eq!(get(server.address, &conversation).json()["title"], "");
    let messages = format!("{conversation}/messages");
    let message = |field: &str, value: Value| {
        let mut body = user("Hi");
        body[field] = value;
        check("POST", &messages, body, field);
    };
    for role in [json!(null), json!("alien"), json!(3)] {
        message("role", role);
    }
    for parent in [json!(0), json!(-1), json!(1.5), json!("1"), json!(u64::MAX), json!([])] {
        message("parent", parent);
    }
    message("content", json!(3));
    message("content", json!([{ "type": "text", "text": "x" }]));
    message("content", Value::Null);
    message("attachments", json!("x"));
    message("attachments", json!([3]));
    message("attachments", json!([{ "name": "a" }]));
    message("attachments", json!([{ "name": "a", "text": "b", "url": "http://127.0.0.1:1" }]));
    message("attachments", json!(vec![json!({ "name": "a", "text": "b" }); 65]));
    message("tool_calls", json!([{ "name": "f" }]));
    message("tool_calls", json!([{ "function": { "name": "f", "arguments": {} } }]));
    message("tool_call_id", json!(3));
    message("name", json!(3));
    message("reasoning_content", json!(3));
    message("origin", json!({}));
    let absent = json!({ "role": "user", "content": "Hi", "parent": 7 });
    post(server.address, &messages, &absent).is_refusal(404, "no message 7");
    for query in ["limit=0", "limit=1001", "limit=x", "after=x", "limit=%FF"] {
        let path = format!("/v1/conversations?{query}");
        get(server.address, &path)
            .is_refusal(400, if query.contains('F') { "UTF-8" } else { &query[..5] });
    }
    get(server.address, "/v1/conversations/search").is_refusal(400, "no query");
    get(server.address, "/v1/conversations/search?q=a&limit=201").is_refusal(400, "limit");
    for id in ["0", "none", "..%2F..%2Fetc", "%00", "%FF", &"a".repeat(10_000)] {
        for (method, rest) in [("GET", ""), ("DELETE", ""), ("GET", "/export")] {
            let path = format!("/v1/conversations/{id}{rest}");
            let reply = ask(&server, method, &path, &[], &Value::Null);
            let error = reply.is_refusal(404, "conversation");
            assert_eq!(error["code"], "conversation_not_found");
        }
    }
    // Nothing of all this was stored.
    assert_eq!(get(server.address, &conversation).json()["messages"], json!([]));
    assert_eq!(
        get(server.address, "/v1/conversations").json()["data"].as_array().unwrap().len(),
        1
    );
}

#[test]
fn exports_come_back_and_what_is_deleted_is_gone() {
    let folder = Folder::new();
    let mut server = folder.serve(Kind::Stories);
    let ids: Vec<String> = (0..50)
        .map(|i| {
            let id = begin(&server, &json!({ "title": format!("title {i}") }));
            add(&server, &id, &user(&format!("unforgettable {i} 难忘")));
            id
        })
        .collect();
    let rating = format!("/v1/conversations/{}/messages/1/rating", ids[7]);
    post(server.address, &rating, &json!({ "thumb": "down", "ideal": "other" })).json();
    let exported = get(server.address, "/v1/conversations/export");
    assert_eq!(exported.status, 200);
    assert_eq!(exported.header("content-type"), Some("application/x-ndjson"));
    assert_eq!(exported.body.lines().count(), 50);
    let one = get(server.address, &format!("/v1/conversations/{}/export", ids[7])).body;
    assert!(exported.body.contains(&one) && one.contains("\"ideal\":\"other\""), "{one}");
    for id in &ids {
        let gone = ask(&server, "DELETE", &format!("/v1/conversations/{id}"), &[], &Value::Null);
        assert_eq!(gone.json()["deleted"], true);
        get(server.address, &format!("/v1/conversations/{id}")).is_refusal(404, "conversation");
    }
    for file in std::fs::read_dir(folder.path()).unwrap() {
        let bytes = std::fs::read(file.unwrap().path()).unwrap();
        assert!(!bytes.windows(13).any(|window| window == b"unforgettable"));
    }
    let import = |text: &str, kind: &str| {
        let kind = format!("Content-Type: {kind}");
        let bytes = request(
            "POST",
            "/v1/conversations/import",
            &["Host: localhost", &kind],
            text.as_bytes(),
        );
        Connection::send(server.address, &bytes).finish()
    };
    let counts = import(&exported.body, "application/x-ndjson").json();
    assert_eq!((&counts["conversations"], &counts["messages"]), (&json!(50), &json!(50)));
    assert_eq!(import(&exported.body, "application/jsonl").json()["unchanged"], 50);
    assert_eq!(get(server.address, "/v1/conversations/export").body, exported.body);
    let rows = "{\"messages\":[{\"role\":\"user\",\"content\":\"Hi\"}]}\n\n{\"tree\":3}\n";
    import(rows, "application/x-ndjson").is_refusal(400, "line 3");
    import("x", "text/plain").is_refusal(415, "application/x-ndjson");
    assert_eq!(get(server.address, "/v1/conversations/export").body.lines().count(), 50);
    server.stop();
}

#[test]
fn owners_are_apart() {
    let folder = Folder::new();
    let keys = [("ann", Scope::Chat), ("bob", Scope::Admin)];
    let keys = Keys::new(keys.map(|(name, scope)| Key::of(name, name, scope)).into());
    let options = ServerOptions { keys, ..folder.options() };
    let server = serve(Kind::Parrot, options, EngineOptions::default());
    let of = |name: &str, method: &str, path: &str, body: Value| {
        ask(&server, method, path, &[&format!("x-api-key: {name}")], &body)
    };
    let head = of("ann", "POST", "/v1/conversations", json!({ "title": "private" }));
    let head: Value = serde_json::from_str(&head.body).unwrap();
    let path = format!("/v1/conversations/{}", head["id"].as_str().unwrap());
    let messages = format!("{path}/messages");
    assert_eq!(of("ann", "POST", &messages, user("secret")).status, 201);
    // What is another's is not there, in the same words as what nobody has: admins are no exception.
    let rating = format!("{messages}/1/rating");
    for (method, path, body) in [
        ("GET", &path, Value::Null),
        ("DELETE", &path, Value::Null),
        ("PATCH", &path, json!({ "title": "mine" })),
        ("POST", &messages, user("me too")),
        ("POST", &rating, json!({ "thumb": "up" })),
        ("DELETE", &rating, Value::Null),
        ("GET", &format!("{path}/export"), Value::Null),
    ] {
        let foreign = of("bob", method, path, body.clone());
        foreign.is_refusal(404, "conversation");
        let id = head["id"].as_str().unwrap();
        let nobody_s = of("bob", method, &path.replace(id, &"0".repeat(id.len())), body);
        assert_eq!(foreign.body.replace(id, ""), nobody_s.body.replace(&"0".repeat(id.len()), ""));
    }
    let body = json!({ "conversation": { "id": head["id"] } });
    of("bob", "POST", "/v1/chat/completions", body).is_refusal(404, "conversation");
    for path in ["/v1/conversations", "/v1/conversations/search?q=secret"] {
        assert_eq!(of("bob", "GET", path, Value::Null).json()["data"], json!([]), "{path}");
        assert_eq!(of("ann", "GET", path, Value::Null).json()["data"].as_array().unwrap().len(), 1);
    }
    assert_eq!(of("bob", "GET", "/v1/conversations/export", Value::Null).body, "");
    assert_eq!(of("ann", "GET", &path, Value::Null).json()["title"], "private");
}

#[test]
fn a_full_store_says_so_and_loses_nothing() {
    let folder = Folder::new();
    let mut full = Options::new(Purpose::Serve);
    full.pages = Some(80);
    let archive = Archive::start(Store::open(&folder.place(), full).unwrap()).unwrap();
    let options = ServerOptions { archive: Some(archive), ..options() };
    let server = serve(Kind::Parrot, options, EngineOptions::default());
    let id = begin(&server, &json!({}));
    let path = format!("/v1/conversations/{id}/messages");
    let mut n = 0;
    let refused = loop {
        let reply = post(server.address, &path, &user(&"words that take room ".repeat(500)));
        if reply.status != 201 {
            break reply;
        }
        n += 1;
        assert!(n < 100);
    };
    let error = refused.is_refusal(507, "no room");
    assert_eq!(error["code"], "store_full");
    assert_eq!(refused.header("x-should-retry"), Some("false"));
    assert!(!refused.body.contains(folder.path().to_str().unwrap()), "{}", refused.body);
    let found = get(server.address, &format!("/v1/conversations/{id}")).json();
    assert_eq!(found["messages"].as_array().unwrap().len(), n);
    // Models answer as before.
    let body = json!({ "messages": [user("Who are you?")], "temperature": 0 });
    assert_eq!(post(server.address, "/v1/chat/completions", &body).status, 200);
}

#[test]
fn a_server_without_a_store_says_so() {
    let server = simple(Kind::Stories);
    for (method, path) in [
        ("GET", "/v1/conversations"),
        ("POST", "/v1/conversations"),
        ("GET", "/v1/conversations/x"),
        ("POST", "/v1/conversations/x/messages"),
    ] {
        let body = match (method, path.ends_with("messages")) {
            ("GET", _) => Value::Null,
            (_, true) => user("Hi"),
            (_, false) => json!({}),
        };
        let error = ask(&server, method, path, &[], &body).is_refusal(404, "keeps no");
        assert_eq!(error["code"], "no_store");
    }
}
