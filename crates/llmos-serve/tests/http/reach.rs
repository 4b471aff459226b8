//! A server fetches nothing that a client names: CVE-2025-6242, and those like it.

use std::io::ErrorKind;
use std::net::TcpListener;

use serde_json::{Value, json};

use crate::client::post;
use crate::house::{Kind, simple};

#[test]
fn nothing_that_a_client_names_is_fetched() {
    let server = simple(Kind::Parrot);
    let bait = TcpListener::bind("127.0.0.1:0").unwrap();
    bait.set_nonblocking(true).unwrap();
    let url = format!("http://{}/x", bait.local_addr().unwrap());
    let part = |part: Value| json!({ "messages": [{ "role": "user", "content": [part] }] });
    let with = |name: &str, value: Value| {
        let mut body =
            json!({ "messages": [{ "role": "user", "content": "Who are you?" }], "max_tokens": 2 });
        body[name] = value;
        body
    };
    let format = |schema: Value| {
        with(
            "response_format",
            json!({ "type": "json_schema", "json_schema": { "name": "x", "schema": schema } }),
        )
    };
    let tool = |parameters: Value| {
        with(
            "tools",
            json!([{ "type": "function", "function": { "name": "f", "parameters": parameters } }]),
        )
    };
    for (body, status) in [
        (part(json!({ "type": "image_url", "image_url": { "url": url } })), 400),
        (part(json!({ "type": "image_url", "image_url": url })), 400),
        (part(json!({ "type": "input_image", "image_url": url })), 400),
        (
            part(json!({ "type": "input_audio", "input_audio": { "data": url, "format": "wav" } })),
            400,
        ),
        (part(json!({ "type": "file", "file": { "file_data": url } })), 400),
        (part(json!({ "type": "document", "source": { "type": "url", "url": url } })), 400),
        (part(json!({ "type": "video_url", "video_url": { "url": url } })), 400),
        (format(json!({ "$ref": url })), 400),
        (format(json!({ "$schema": url, "$id": url, "$ref": "x.json" })), 400),
        (
            format(
                json!({ "type": "object", "properties": { "a": { "$ref": format!("{url}#/a") } } }),
            ),
            400,
        ),
        (tool(json!({ "$ref": url })), 400),
        (with("chat_template", json!(format!("{{% include '{url}' %}}"))), 400),
        (with("tools", json!([{ "type": "mcp", "server_url": url }])), 400),
        (with("model", json!(url)), 404),
    ] {
        let reply = post(server.address, "/v1/chat/completions", &body);
        assert_eq!(reply.status, status, "{body}: {}", reply.body);
    }
    // An address in a text is a text.
    let text = part(json!({ "type": "text", "text": format!("![]({url}) see {url}") }));
    let mut text = text;
    text["max_tokens"] = 2.into();
    assert_eq!(post(server.address, "/v1/chat/completions", &text).status, 200);
    let prompt = json!({ "prompt": url, "max_tokens": 2 });
    assert_eq!(post(server.address, "/v1/completions", &prompt).status, 200);
    let found = bait.accept();
    assert!(matches!(&found, Err(error) if error.kind() == ErrorKind::WouldBlock), "{found:?}");
}
