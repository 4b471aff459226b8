//! Every route of the router, whatever it does: the paths are read from its source, so that a new one
//! is held to the same.

use std::collections::BTreeSet;
use std::path::PathBuf;

use llmos_model::EngineOptions;
use llmos_serve::{Key, Keys, Scope};
use serde_json::{Value, json};

use crate::client::{Connection, PLAIN, Reply, get, post, request};
use crate::house::{Kind, Running, options, repository, serve, simple};

/// What answers without a key: whether the server is well, the files of its page, which are the same on
/// every machine, and the exchange of a key for the page's session.
fn is_open(method: &str, path: &str) -> bool {
    let is_file = path == "/" || path == "/favicon.ico" || path.starts_with("/web/");
    path == "/healthz"
        || is_file && ["GET", "HEAD"].contains(&method)
        || path == "/v1/session" && ["POST", "DELETE"].contains(&method)
}

/// What stands behind `.route(` in the crate's source, with a word in the place of parameters.
fn paths() -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut folders: Vec<PathBuf> = vec![repository("crates/llmos-serve/src")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            if path.extension().is_none_or(|ending| ending != "rs") {
                continue;
            }
            let text = std::fs::read_to_string(path).unwrap();
            for rest in text.split(".route(").skip(1) {
                let literal =
                    rest.trim_start().strip_prefix('"').and_then(|rest| rest.split_once('"'));
                let Some((path, _)) = literal else { continue };
                let parts =
                    path.split('/').map(|part| if part.starts_with('{') { "x" } else { part });
                found.insert(parts.collect::<Vec<&str>>().join("/"));
            }
        }
    }
    assert!(found.len() >= 11 && found.contains("/v1/chat/completions"), "{found:?}");
    found
}

fn ask(server: &Running, method: &str, path: &str, headers: &[&str]) -> Reply {
    Connection::send(server.address, &request(method, path, headers, b"")).finish()
}

const METHODS: [&str; 6] = ["GET", "POST", "HEAD", "OPTIONS", "DELETE", "PATCH"];

/// CVE-2025-59425, and doors that were open by a trick of the path.
#[test]
fn every_route_asks_for_a_key() {
    let mut options = options();
    options.keys = Keys::new(vec![Key::of("ann", "llmos-secret", Scope::Chat)]);
    let server = serve(Kind::Stories, options, EngineOptions::default());
    let odd = [
        "/",
        "/nothing",
        "//healthz",
        "/healthz/",
        "/HEALTHZ",
        "/v1/../healthz",
        "/healthz/../v1/models",
        "/%68ealthz",
        "/healthz%2f",
        "/healthz?/v1/models",
        "/;/healthz",
    ];
    for path in paths().into_iter().chain(odd.map(str::to_string)) {
        // A key in the address would stand in logs.
        let joint = if path.contains('?') { '&' } else { '?' };
        let with_query = format!("{path}{joint}api_key=llmos-secret");
        // The query is no part of the path.
        let bare = path.split('?').next().unwrap_or_default();
        for method in METHODS.into_iter().filter(|method| !is_open(method, bare)) {
            let reply = ask(&server, method, &path, &["Host: localhost"]);
            assert_eq!(reply.status, 401, "{method} {path}");
            assert_eq!(reply.header("www-authenticate"), Some("Bearer"), "{method} {path}");
            let reply = ask(&server, method, &with_query, &["Host: localhost"]);
            assert_eq!(reply.status, 401, "{method} {with_query}");
        }
        for wrong in ["Authorization: Bearer llmos-secre", "x-api-key: llmos-secret2", "x-api-key:"]
        {
            if !is_open("GET", bare) {
                let reply = ask(&server, "GET", &path, &["Host: localhost", wrong]);
                assert_eq!(reply.status, 401, "{path} {wrong}");
            }
        }
    }
    assert_eq!(ask(&server, "GET", "/healthz", &["Host: localhost"]).status, 200);
    let known = ["Host: localhost", "x-api-key: llmos-secret"];
    assert_eq!(ask(&server, "GET", "/v1/models", &known).status, 200);
}

/// CVE-2024-28224, CVE-2025-66414, and forms on pages of strangers.
#[test]
fn every_route_refuses_names_and_pages_of_strangers() {
    let server = simple(Kind::Stories);
    for path in paths() {
        for method in METHODS {
            for headers in [
                &["Host: evil.example"][..],
                &["Host: localhost.evil.example"],
                &["Host: localhost", "Origin: https://evil.example"],
                &["Host: localhost", "Origin: null"],
                &["Host: localhost:1", "Origin: http://localhost:2"],
                &["Host: localhost", "Sec-Fetch-Site: cross-site", "Sec-Fetch-Mode: no-cors"],
            ] {
                let reply = ask(&server, method, &path, headers);
                assert_eq!(reply.status, 403, "{method} {path} {headers:?}");
                assert_eq!(reply.header("access-control-allow-origin"), None);
            }
        }
        let reply = ask(&server, "GET", &path, &["Host: localhost"]);
        assert_eq!(reply.header("x-content-type-options"), Some("nosniff"), "{path}");
        assert!(reply.header("content-security-policy").unwrap().contains("default-src 'none'"));
        assert_eq!(reply.header("referrer-policy"), Some("no-referrer"));
    }
}

#[test]
fn every_route_survives_bodies_that_are_none() {
    let server = simple(Kind::Parrot);
    let deep = format!("{{\"messages\": {}1{}}}", "[".repeat(120), "]".repeat(120));
    let bodies = [
        "",
        "{",
        "[]",
        "null",
        "3",
        "\"x\"",
        "{}",
        "{\"model\": 3}",
        "{\"model\": \"../../x\"}",
        "{\"messages\": [null]}",
        "{\"prompt\": {}}",
        "{\"a\": 1e999}",
        "\u{feff}{}",
        "{\"prompt\": \"\\ud800\"}",
        "{\"prompt\": \"\\u0000\"}",
        deep.as_str(),
        "{\"prompt\": \"a\", \"prompt\": 3}",
        "{\"stream\": true, \"stream\": []}",
    ];
    for path in paths() {
        for body in bodies {
            let bytes = request("POST", &path, &PLAIN, body.as_bytes());
            answered(&Connection::send(server.address, &bytes).finish(), &format!("{path} {body}"));
        }
        let bytes = request("POST", &path, &PLAIN, b"{\"prompt\": \"\xff\xfe\xc0\x80\"}");
        let reply = Connection::send(server.address, &bytes).finish();
        assert!((400..500).contains(&reply.status), "{path}: {}", reply.status);
    }
    assert_eq!(get(server.address, "/healthz").status, 200);
}

/// CVE-2026-21869: a number that nobody meant.
#[test]
fn every_number_is_one_that_can_be_meant() {
    let server = simple(Kind::Parrot);
    let numbers = [
        json!(-1),
        json!(0),
        json!(1.5),
        json!(1e308),
        json!(-1e308),
        json!(9_007_199_254_740_993_u64),
        json!(u64::MAX),
        json!(i64::MIN),
        json!("NaN"),
        json!("1"),
        json!(true),
        json!([]),
        json!({}),
    ];
    const FIELDS: [&str; 31] = [
        "max_tokens",
        "max_completion_tokens",
        "max_output_tokens",
        "n",
        "best_of",
        "logprobs",
        "top_logprobs",
        "temperature",
        "top_p",
        "top_k",
        "min_p",
        "typical_p",
        "seed",
        "stop",
        "presence_penalty",
        "frequency_penalty",
        "repetition_penalty",
        "repeat_penalty",
        "repeat_last_n",
        "logit_bias",
        "top",
        "ids",
        "tokens",
        "n_discard",
        "n_keep",
        "num_ctx",
        "num_predict",
        "dimensions",
        "top_n",
        "ignore_eos",
        "keep_alive",
    ];
    for path in [
        "/v1/chat/completions",
        "/v1/completions",
        "/v1/next",
        "/v1/score",
        "/tokenize",
        "/detokenize",
    ] {
        for field in FIELDS {
            for number in &numbers {
                let mut body = json!({
                    "messages": [{ "role": "user", "content": "Who are you?" }], "prompt": "Who", "text": "Who",
                    "max_tokens": 2, "top": 2, "tokens": [1],
                });
                body[field] = number.clone();
                answered(&post(server.address, path, &body), &format!("{path} {field} {number}"));
            }
        }
    }
    // JSON has no such numbers.
    for number in ["NaN", "Infinity", "1e999", "0x10", "01", "+1", ".5"] {
        let body = format!("{{\"prompt\": \"a\", \"temperature\": {number}}}");
        let bytes = request("POST", "/v1/completions", &PLAIN, body.as_bytes());
        Connection::send(server.address, &bytes).finish().is_refusal(400, "no JSON");
    }
}

/// An answer, or a refusal in OpenAI's shape or in that of another API; never a failure of the server's.
/// What this server has not been given (501, 503) is no failure.
#[track_caller]
fn answered(reply: &Reply, what: &str) {
    let is_said = (200..500).contains(&reply.status) || [501, 503].contains(&reply.status);
    assert!(is_said, "{what}: {} {}", reply.status, reply.body);
    if reply.status >= 400 {
        let body: Value =
            serde_json::from_str(&reply.body).unwrap_or_else(|_| panic!("{what}: {}", reply.body));
        assert!(body.get("error").is_some(), "{what}: {body}");
    }
}

/// CVE-2024-37032: a name that was a path.
#[test]
fn names_of_models_are_no_paths() {
    let server = simple(Kind::Stories);
    let file = repository("models/stories260K.gguf").display().to_string();
    let long = "x".repeat(100_000);
    for name in [
        "../../../etc/passwd",
        "/etc/passwd",
        "./test",
        "test/../test",
        "test\0",
        "C:\\x",
        "\\\\host\\share",
        "sha256:../../x",
        "sha256-aa/../x",
        "hf:owner/repository",
        "http://127.0.0.1:1/x.gguf",
        "test%00",
        "%2e%2e",
        file.as_str(),
        long.as_str(),
        " test",
        "test ",
        "\u{202e}tset",
    ] {
        for path in ["/v1/completions", "/v1/next", "/v1/score", "/tokenize", "/detokenize"] {
            let body =
                json!({ "model": name, "prompt": "a", "text": "ab", "tokens": [1], "top": 1 });
            let reply = post(server.address, path, &body);
            let error = reply.is_refusal(404, "there is no model");
            assert_eq!(error["code"], "model_not_found", "{path} {name:.50}");
            assert!(reply.body.len() < 1000, "{}", reply.body.len());
        }
    }
    for name in [
        "..%2f..%2fetc%2fpasswd",
        "../../etc/passwd",
        "%00",
        "%ff",
        "test/",
        "/test",
        "a%0d%0ab: c",
    ] {
        let reply = get(server.address, &format!("/v1/models/{name}"));
        assert!(reply.status == 404 || reply.status == 400, "{name}: {}", reply.status);
        assert_eq!(reply.header("b"), None);
    }
}

/// A path whose percent signs stand for no UTF-8.
#[test]
fn what_a_path_names_can_be_read_or_is_refused() {
    let server = simple(Kind::Stories);
    for (method, path) in [
        ("GET", "/v1/models/%ff"),
        ("DELETE", "/v1/models/%ff"),
        ("GET", "/v1/responses/%ff"),
        ("DELETE", "/v1/responses/%ff"),
        ("POST", "/v1/responses/%ff/cancel"),
        ("GET", "/v1/responses/%ff/input_items"),
        ("GET", "/v1/runs/%C3"),
        ("GET", "/tokenizer_info?model=%ff"),
        ("GET", "/v1/parameters?model=%ff"),
        ("GET", "/v1/runs/x?after=%ff"),
    ] {
        ask(&server, method, path, &["Host: localhost"]).is_refusal(400, "is no UTF-8");
    }
}

/// What is wrong is said with a little of it.
#[test]
fn errors_are_short_whatever_was_sent() {
    let server = simple(Kind::Parrot);
    let long = "<script>alert(1)</script>".repeat(4000);
    let user = json!([{ "role": "user", "content": "Who are you?" }]);
    for body in [
        json!({ "messages": long }),
        json!({ "messages": [{ "role": long, "content": "a" }] }),
        json!({ "messages": user, "temperature": long }),
        json!({ "messages": user, "model": long }),
        json!({ "messages": user, "reasoning_effort": 3, "tool_choice": long }),
        json!({ "messages": user, "response_format": { "type": long } }),
        json!({ "messages": user, "response_format": { "type": "regex", "regex": format!("({long}") } }),
        json!({ "messages": user, "response_format": { "type": "json_schema", "json_schema": { "schema": { "type": long } } } }),
        json!({ "messages": user, "tools": [{ "type": "function", "function": { "name": long } }] }),
        json!({ "messages": user, "logit_bias": { long.clone(): 1 } }),
        json!({ "messages": user, "chat_template": long }),
    ] {
        let reply = post(server.address, "/v1/chat/completions", &body);
        assert!(reply.status == 400 || reply.status == 404, "{} {:.300}", reply.status, reply.body);
        assert!(reply.body.len() < 2000, "{} bytes: {:.300}", reply.body.len(), reply.body);
        assert_eq!(reply.header("content-type"), Some("application/json"));
    }
}
