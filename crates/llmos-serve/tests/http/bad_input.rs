//! What clients should not send: said to be wrong in OpenAI's shape, the others undisturbed.

use std::time::Duration;

use llmos_model::EngineOptions;
use serde_json::{Value, json};

use crate::client::{Connection, PLAIN, get, post, request};
use crate::house::{Kind, options, serve, simple};

#[test]
fn every_field_is_checked_and_named() {
    let server = simple(Kind::Parrot);
    let chat = |field: &str, value: Value| {
        let mut body = json!({ "messages": [{ "role": "user", "content": "Who are you?" }] });
        body[field] = value;
        let reply = post(server.address, "/v1/chat/completions", &body);
        let error = reply.is_refusal(400, field);
        assert_eq!(error["type"], "invalid_request_error");
    };
    let absurd =
        [json!(-1), json!(1e308), json!("1"), json!([1]), json!({}), json!(true), json!(1.5e40)];
    for field in [
        "temperature",
        "top_p",
        "min_p",
        "typical_p",
        "top_k",
        "n",
        "max_tokens",
        "max_completion_tokens",
        "frequency_penalty",
        "presence_penalty",
        "repetition_penalty",
        "top_logprobs",
    ] {
        for value in &absurd {
            // Negative penalties, and no tokens of the likeliest, have a meaning.
            let fine = match field {
                "frequency_penalty" | "presence_penalty" | "top_k" => *value == json!(-1),
                _ => false,
            };
            if !fine {
                chat(field, value.clone());
            }
        }
    }
    chat("n", json!(1_000_000));
    chat("max_tokens", json!(0));
    chat("max_tokens", json!(u64::MAX));
    chat("seed", json!("x"));
    chat("seed", json!(1.5));
    chat("stop", json!(7));
    chat("stop", json!(vec!["x"; 1000]));
    chat("logit_bias", json!({ "999999": 1 }));
    chat("logit_bias", json!({ "1": 1e9 }));
    chat("stream", json!("yes"));
    chat("stream_options", json!({ "include_usage": true }));
    chat("tools", json!([{ "type": "function" }]));
    chat("tool_choice", json!("required"));
    chat("messages", json!([]));
    chat("messages", json!("Hi"));
    chat("messages", json!([{ "role": "alien", "content": "Hi" }]));
    chat("messages", json!([{ "role": "user", "content": 3 }]));
    chat(
        "messages",
        json!([{ "role": "user", "content": [
            { "type": "image_url", "image_url": { "url": "http://127.0.0.1:1/x.png" } },
        ] }]),
    );
    chat("response_format", json!({ "type": "xml" }));
    chat("response_format", json!({ "type": "json_schema" }));
    let schema =
        |schema: Value| json!({ "type": "json_schema", "json_schema": { "schema": schema } });
    chat("response_format", schema(json!({ "type": "nothing" })));
    chat("response_format", schema(json!({ "type": "string", "pattern": "(" })));
    chat("response_format", schema(json!({ "$ref": "http://127.0.0.1:1/schema.json" })));
    chat("response_format", json!({ "type": "regex", "regex": "(" }));
    chat("chat_template_kwargs", json!({ "messages": "mine" }));
    let broken = json!([{ "type": "function", "function": {
        "name": "f", "parameters": { "type": "object", "properties": { "x": { "type": "nothing" } } },
    } }]);
    chat("tools", broken);
    let sound = post(
        server.address,
        "/v1/chat/completions",
        &json!({ "messages": [{ "role": "user", "content": "Who are you?" }], "temperature": 0 }),
    );
    assert_eq!(sound.json()["choices"][0]["message"]["content"], "A very small model.");
}

#[test]
fn prompts_are_what_they_can_be() {
    let server = simple(Kind::Stories);
    let check = |prompt: Value, words: &str| {
        let body = json!({ "prompt": prompt, "max_tokens": 5 });
        post(server.address, "/v1/completions", &body).is_refusal(400, words);
    };
    check(json!(3), "prompt");
    check(json!([]), "prompt");
    check(json!([1, "a"]), "prompt");
    check(json!([[1, "a"]]), "prompt");
    check(json!([512]), "below 512");
    check(json!([-1]), "prompt");
    check(json!(vec!["a"; 257]), "prompt");
    let long = post(
        server.address,
        "/v1/completions",
        &json!({ "prompt": "word ".repeat(2000), "max_tokens": 5 }),
    );
    let error = long.is_refusal(400, "the context holds 512");
    assert_eq!(error["code"], "context_length_exceeded");
    for (path, body, words) in [
        ("/v1/completions", json!({ "suffix": "x" }), "suffix"),
        ("/v1/completions", json!({ "best_of": 3 }), "best_of"),
        ("/v1/completions", json!({ "logprobs": 21 }), "logprobs"),
        ("/v1/next", json!({ "prompt": "a", "top": 0 }), "top"),
        ("/v1/next", json!({ "prompt": ["a"] }), "prompt"),
        ("/v1/score", json!({}), "no text"),
        ("/v1/score", json!({ "ids": [1] }), "2 to"),
        ("/detokenize", json!({}), "no tokens"),
        ("/detokenize", json!({ "tokens": ["a"] }), "tokens"),
        ("/tokenize", json!({}), "no prompt"),
    ] {
        post(server.address, path, &body).is_refusal(400, words);
    }
}

#[test]
fn names_and_paths_that_are_not_there_are_told_with_the_nearest() {
    let server = simple(Kind::Stories);
    let body = json!({ "model": "tset", "prompt": "a" });
    let error =
        post(server.address, "/v1/completions", &body).is_refusal(404, "did you mean test?");
    assert_eq!(error["code"], "model_not_found");
    get(server.address, "/v1/models/nothing").is_refusal(404, "no model");
    get(server.address, "/v1/nothing").is_refusal(404, "nothing at this path");
    get(server.address, "/v1/completions").is_refusal(405, "method");
    let one = get(server.address, "/v1/models/test").json();
    assert_eq!((one["id"].as_str(), one["object"].as_str()), (Some("test"), Some("model")));
    let all = get(server.address, "/v1/models").json();
    assert_eq!(all["data"][0]["id"], "test");
    assert_eq!(get(server.address, "/healthz").json()["status"], "ok");
}

#[test]
fn bodies_are_small_json_and_whole() {
    let mut options = options();
    options.body_bytes = 10_000;
    options.body_time = Duration::from_millis(100);
    options.head_time = Duration::from_millis(100);
    let server = serve(Kind::Stories, options, EngineOptions::default());
    let send = |headers: &[&str], body: &[u8]| {
        Connection::send(server.address, &request("POST", "/v1/completions", headers, body))
            .finish()
    };
    send(&PLAIN, b"{").is_refusal(400, "no JSON");
    send(&PLAIN, b"{\"prompt\": \"\xFF\"}").is_refusal(400, "no JSON");
    send(&PLAIN, b"[]").is_refusal(400, "a JSON object");
    send(&PLAIN, "[".repeat(5000).as_bytes()).is_refusal(400, "no JSON");
    send(&PLAIN, &vec![b' '; 20_000]).is_refusal(413, "10000 bytes");
    for kind in ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data"] {
        let kind = format!("Content-Type: {kind}");
        send(&["Host: localhost", &kind], b"{\"prompt\": \"a\"}")
            .is_refusal(415, "application/json");
    }
    // Nothing is unpacked, and a mark of UTF-8 before a body is none of it.
    for coding in ["gzip", "br", "deflate, gzip"] {
        let coding = format!("Content-Encoding: {coding}");
        send(&["Host: localhost", &coding], b"{\"prompt\": \"a\"}").is_refusal(415, "packed");
    }
    let identity = ["Host: localhost", "Content-Encoding: identity"];
    let marked = b"\xEF\xBB\xBF{\"prompt\": \"a\", \"max_tokens\": 1}";
    assert_eq!(send(&identity, marked).status, 200);
    // A gigabyte is refused by its announcement, and by its size where none was made.
    let announced = "POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\
                     Content-Length: 1073741824\r\n\r\n{";
    Connection::send(server.address, announced.as_bytes()).finish().is_refusal(413, "bytes");
    let mut chunked = b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\
                        Transfer-Encoding: chunked\r\n\r\n"
        .to_vec();
    for _ in 0..20 {
        chunked.extend_from_slice(b"400\r\n");
        chunked.extend_from_slice(&[b' '; 1024]);
        chunked.extend_from_slice(b"\r\n");
    }
    Connection::send(server.address, &chunked).finish().is_refusal(413, "bytes");
    // A body that never comes, and a head that never ends.
    let slow = "POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\
                Content-Length: 100\r\n\r\n{\"pro";
    Connection::send(server.address, slow.as_bytes()).finish().is_refusal(408, "longer than 0.1");
    let head = "GET /healthz HTTP/1.1\r\nHost: loc";
    let cut = Connection::send(server.address, head.as_bytes()).finish();
    assert!(cut.status == 0 || cut.status == 408, "{cut:?}");
    let large =
        format!("GET /healthz HTTP/1.1\r\nHost: localhost\r\nX: {}\r\n\r\n", "x".repeat(100_000));
    let large = Connection::send(server.address, large.as_bytes()).finish();
    assert!(large.status == 0 || large.status == 431, "{large:?}");
    let sound = post(server.address, "/v1/completions", &json!({ "prompt": "a", "max_tokens": 1 }));
    assert_eq!(sound.status, 200);
}
