//! The document of the routes: it names all that there are, no others, and its examples work.

use std::collections::BTreeSet;
use std::sync::Arc;

use llmos_serve::{Models, ServerOptions};
use serde_json::{Value, json};

use crate::client::{delete, get, post};
use crate::house::{Kind, offer, options, repository, run, simple};
use crate::models::Stub;
use crate::runs::One;

/// The routes that the sources name: (method, path).
fn routes() -> BTreeSet<(String, String)> {
    let source = std::fs::read_to_string(repository("crates/llmos-serve/src/api/mod.rs")).unwrap();
    let mut routes = BTreeSet::new();
    for call in source.split(".route(").skip(1) {
        let (path, handlers) = call.trim_start().trim_start_matches('"').split_once('"').unwrap();
        let end = handlers.find("\n        .").unwrap_or(handlers.len());
        for method in ["get", "post", "put", "patch", "delete"] {
            if handlers[..end].contains(&format!("{method}(")) {
                routes.insert((method.to_string(), path.replace("{*", "{")));
            }
        }
    }
    routes
}

#[test]
fn every_route_is_described_and_every_description_has_its_route() {
    let server = simple(Kind::Stories);
    let document = get(server.address, "/openapi.json").json();
    let mut described = BTreeSet::new();
    for (path, operations) in document["paths"].as_object().unwrap() {
        for (method, operation) in operations.as_object().unwrap() {
            described.insert((method.clone(), path.clone()));
            for part in path.split('/').filter_map(|part| part.strip_prefix('{')) {
                let name = part.trim_end_matches('}');
                let parameters = operation["parameters"].as_array().unwrap();
                assert!(parameters.iter().any(|given| given["name"] == name), "{method} {path}");
            }
        }
    }
    let routes = routes();
    assert!(routes.len() > 30);
    assert_eq!(described, routes);
}

#[test]
fn examples_are_answered() {
    let models = Models::new(None);
    models.offer(offer("assistant", 0, Kind::Assistant, Default::default()));
    models.offer(offer("stories260K", 0, Kind::Stories, Default::default()));
    let server = run(full(), models);
    let document = get(server.address, "/openapi.json").json();
    let stored =
        post(server.address, "/v1/responses", &json!({ "input": "Hi", "max_output_tokens": 2 }));
    let stored = stored.json()["id"].as_str().unwrap().to_string();
    let mut last = Vec::new();
    for (path, operations) in document["paths"].as_object().unwrap() {
        let id = match path.as_str() {
            path if path.starts_with("/v1/responses/") => stored.as_str(),
            "/v1/runs/{id}" => "one",
            _ => "assistant",
        };
        let address = path.replace("{id}", id);
        for (method, operation) in operations.as_object().unwrap() {
            // What needs a store, keys or a keeper of models has tests of its own.
            if operation.get("x-needs").is_some() {
                continue;
            }
            let body = operation.pointer("/requestBody/content/application~1json/example");
            let reply = match (method.as_str(), body) {
                ("get", None) => get(server.address, &address),
                ("post", Some(body)) => post(server.address, &address, body),
                // What is deleted is deleted last.
                ("delete", None) => {
                    last.push(address.clone());
                    continue;
                }
                (method, body) => panic!("{method} {path}: {body:?}"),
            };
            assert_eq!(reply.status, 200, "{method} {path}: {}", reply.body);
            let kind = reply.header("content-type").unwrap().split(';').next().unwrap();
            let kinds = operation["responses"]["200"]["content"].as_object().unwrap();
            assert!(kinds.contains_key(kind), "{method} {path}: {kind}");
        }
    }
    for address in last {
        assert_eq!(delete(server.address, &address).status, 200, "{address}");
    }
}

/// Options of a server that has something behind each route.
fn full() -> ServerOptions {
    ServerOptions {
        keeper: Some(Arc::new(Stub::default())),
        runs: Some(Arc::new(One::default())),
        ..options()
    }
}

#[test]
fn absurd_values_in_any_field_of_any_operation_are_refused_or_answered() {
    let models = Models::new(None);
    models.offer(offer("assistant", 0, Kind::Parrot, Default::default()));
    models.offer(offer("stories260K", 0, Kind::Stories, Default::default()));
    let server = run(full(), models);
    let document = get(server.address, "/openapi.json").json();
    let absurd = [
        json!(-1),
        json!(1e308),
        json!("x"),
        json!(""),
        json!([]),
        json!([[]]),
        json!([{}]),
        json!({}),
        json!({ "type": "x" }),
        json!(true),
    ];
    let (mut refused, mut answered) = (0, 0);
    for (path, operations) in document["paths"].as_object().unwrap() {
        let content = operations.pointer("/post/requestBody/content/application~1json");
        let Some(content) = content else { continue };
        if operations.pointer("/post/x-needs").is_some() {
            continue;
        }
        let check = |body: &Value| {
            let reply = post(server.address, path, body);
            assert!((200..500).contains(&reply.status), "{path} {body}: {reply:?}");
            reply.status
        };
        for field in content["schema"]["properties"].as_object().unwrap().keys() {
            for value in &absurd {
                let mut body = content["example"].clone();
                body[field] = value.clone();
                match check(&body) {
                    200 => answered += 1,
                    _ => refused += 1,
                }
            }
        }
        for body in [json!({}), json!([]), json!(null), json!("x"), json!({ "model": [] })] {
            check(&body);
        }
    }
    // Some mean something: an empty list of tools, no stop text. Most do not.
    assert!(refused > 4 * answered && answered > 0, "{refused} refused, {answered} answered");
    let sound =
        json!({ "messages": [{ "role": "user", "content": "Who are you?" }], "temperature": 0 });
    let sound = post(server.address, "/v1/chat/completions", &sound).json();
    assert_eq!(sound["choices"][0]["message"]["content"], "A very small model.");
}

#[test]
fn the_page_asks_nobody_else_and_runs_nothing() {
    let server = simple(Kind::Stories);
    let page = get(server.address, "/docs");
    assert_eq!(page.status, 200);
    let policy = page.header("content-security-policy").unwrap();
    assert!(policy.starts_with("default-src 'none'; style-src 'self'"), "{policy}");
    assert!(!page.body.contains("<script") && page.body.contains("/v1/chat/completions"));
    let style = page.body.split("href=\"").find(|rest| rest.starts_with("/docs/")).unwrap();
    let style = get(server.address, style.split('"').next().unwrap());
    assert_eq!(
        (style.status, style.header("content-type")),
        (200, Some("text/css; charset=utf-8"))
    );
}

#[test]
fn the_document_is_what_other_programs_read() {
    let server = simple(Kind::Stories);
    let document: Value = get(server.address, "/openapi.json").json();
    assert_eq!(document["openapi"], "3.1.0");
    let mut names = BTreeSet::new();
    for operations in document["paths"].as_object().unwrap().values() {
        for operation in operations.as_object().unwrap().values() {
            assert!(names.insert(operation["operationId"].as_str().unwrap()), "{operation}");
            assert!(operation["responses"]["default"].is_object());
        }
    }
}
