//! Anthropic's API: the same answers in its own words.

use llmos_model::EngineOptions;
use llmos_serve::{Key, Keys, Scope};
use serde_json::{Value, json};

use crate::client::{Connection, get, post, request};
use crate::house::{Kind, options, serve, simple};

const PATH: &str = "/v1/messages";

fn ask(text: &str) -> Value {
    json!({
        "model": "test", "max_tokens": 100, "temperature": 0,
        "messages": [{ "role": "user", "content": text }],
    })
}

fn tools() -> Value {
    json!([{
        "name": "calculator",
        "description": "Computes an arithmetic expression exactly",
        "input_schema": {
            "type": "object",
            "properties": { "expression": {
                "type": "string",
                "description": "Arithmetic with + - * / ^ % and parentheses, such as (47 + 36) * 2",
                "maxLength": 200,
            } },
            "required": ["expression"],
            "additionalProperties": false,
        },
    }, {
        "name": "clock",
        "description": "Tells the local weekday, date and time",
        "input_schema": { "type": "object", "properties": {}, "additionalProperties": false },
    }])
}

/// The content that a stream's events make, put together as a client does.
fn content(events: &[Value]) -> Vec<Value> {
    let mut content: Vec<Value> = Vec::new();
    let mut json = String::new();
    for event in events {
        let index = event["index"].as_u64().unwrap_or(0) as usize;
        match event["type"].as_str().unwrap() {
            "content_block_start" => {
                assert_eq!(index, content.len());
                content.push(event["content_block"].clone());
            }
            "content_block_delta" => {
                let (block, delta) = (&mut content[index], &event["delta"]);
                let kind = delta["type"].as_str().unwrap();
                if kind == "input_json_delta" {
                    json += delta["partial_json"].as_str().unwrap();
                    continue;
                }
                let key = kind.strip_suffix("_delta").unwrap();
                let all = block[key].as_str().unwrap().to_string();
                block[key] = (all + delta[key].as_str().unwrap()).into();
            }
            "content_block_stop" if !json.is_empty() => {
                content[index]["input"] = serde_json::from_str(&json).unwrap();
                json.clear();
            }
            _ => {}
        }
    }
    content
}

#[test]
fn a_message_is_answered_whole_and_in_events() {
    let server = simple(Kind::Parrot);
    for question in ["Who are you?", "Think, then answer yes.", "你是谁？"] {
        let mut body = ask(question);
        let answer = post(server.address, PATH, &body).json();
        assert_eq!((&answer["type"], &answer["role"]), (&json!("message"), &json!("assistant")));
        assert_eq!(answer["stop_reason"], "end_turn");
        assert!(answer["stop_sequence"].is_null());
        let blocks = answer["content"].as_array().unwrap();
        if question.starts_with("Think") {
            assert_eq!(blocks[0]["thinking"], "It is asked for.");
            assert_eq!(blocks[1]["text"], "Yes.");
        } else {
            assert_eq!((blocks.len(), &blocks[0]["type"]), (1, &json!("text")));
        }
        let counted = post(server.address, &format!("{PATH}/count_tokens"), &body).json();
        let usage = &answer["usage"];
        let read = ["input_tokens", "cache_read_input_tokens"].map(|key| usage[key].as_u64());
        assert_eq!(counted["input_tokens"].as_u64(), Some(read.iter().flatten().sum()));
        body["stream"] = true.into();
        let reply = post(server.address, PATH, &body);
        let events = reply.named_events();
        assert_eq!(events[0]["type"], "message_start");
        assert_eq!(events[0]["message"]["content"], json!([]));
        assert_eq!(events.last().unwrap()["type"], "message_stop");
        let told = &events[events.len() - 2];
        assert_eq!(told["delta"]["stop_reason"], "end_turn");
        assert_eq!(told["usage"]["output_tokens"], usage["output_tokens"]);
        assert_eq!(content(&events), *blocks);
        assert!(reply.header("request-id").unwrap().starts_with("req_"));
    }
}

#[test]
fn tools_are_called_and_their_results_read() {
    let server = simple(Kind::Parrot);
    let mut body = ask("What is 12 times 7?");
    body["tools"] = tools();
    let answer = post(server.address, PATH, &body).json();
    assert_eq!(answer["stop_reason"], "tool_use");
    let call = &answer["content"][0];
    assert_eq!((&call["type"], &call["name"]), (&json!("tool_use"), &json!("calculator")));
    assert_eq!(call["input"], json!({ "expression": "12 * 7" }));
    let mut streamed = body.clone();
    streamed["stream"] = true.into();
    let events = post(server.address, PATH, &streamed).named_events();
    assert_eq!(content(&events)[0]["input"], call["input"]);
    let messages = body["messages"].as_array_mut().unwrap();
    messages.push(json!({ "role": "assistant", "content": answer["content"] }));
    messages.push(json!({ "role": "user", "content": [
        { "type": "tool_result", "tool_use_id": call["id"], "content": "84" },
    ] }));
    let answer = post(server.address, PATH, &body).json();
    assert_eq!(answer["content"][0]["text"], "It is 84.");
    // Several at once, unless that is forbidden; one of them by its name.
    let calls = |choice: Value| -> Vec<String> {
        let mut body = ask("Add 1 and 2, and tell the day.");
        body["tools"] = tools();
        body["tool_choice"] = choice;
        let answer = post(server.address, PATH, &body).json();
        let blocks = answer["content"].as_array().unwrap().clone();
        blocks.iter().filter_map(|block| Some(block["name"].as_str()?.to_string())).collect()
    };
    assert_eq!(calls(json!({ "type": "auto" })), ["calculator", "clock"]);
    let one = json!({ "type": "auto", "disable_parallel_tool_use": true });
    assert_eq!(calls(one), ["calculator"]);
    assert_eq!(calls(json!({ "type": "tool", "name": "clock" })), ["clock"]);
    assert!(calls(json!({ "type": "none" })).is_empty());
}

#[test]
fn an_answer_ends_where_it_is_told_to_and_begins_as_it_is_told() {
    let server = simple(Kind::Parrot);
    let mut body = ask("Count to twelve.");
    let whole = post(server.address, PATH, &body).json()["content"][0]["text"].clone();
    assert_eq!(whole, "1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12.");
    body["stop_sequences"] = json!(["never", ", 4"]);
    let answer = post(server.address, PATH, &body).json();
    assert_eq!(answer["content"][0]["text"], "1, 2, 3");
    assert_eq!(
        (&answer["stop_reason"], &answer["stop_sequence"]),
        (&json!("stop_sequence"), &json!(", 4"))
    );
    body["max_tokens"] = 3.into();
    let answer = post(server.address, PATH, &body).json();
    assert_eq!(
        (&answer["stop_reason"], &answer["usage"]["output_tokens"]),
        (&json!("max_tokens"), &json!(3))
    );
    let mut body = ask("Count to twelve.");
    let begun = json!({ "role": "assistant", "content": "1, 2, 3, 4," });
    body["messages"].as_array_mut().unwrap().push(begun);
    let answer = post(server.address, PATH, &body).json();
    assert_eq!(answer["content"][0]["text"], " 5, 6, 7, 8, 9, 10, 11, 12.");
}

#[test]
fn an_answer_fits_its_schema() {
    let server = simple(Kind::Assistant);
    let mut body = ask("Tell me about a cat.");
    body["output_config"] = json!({ "format": { "type": "json_schema", "schema": {
        "type": "object", "additionalProperties": false, "required": ["legs"],
        "properties": { "legs": { "type": "integer", "minimum": 0, "maximum": 9 } },
    } } });
    let answer = post(server.address, PATH, &body).json();
    let text = answer["content"][0]["text"].as_str().unwrap();
    let object: Value = serde_json::from_str(text).unwrap_or_else(|_| panic!("{text}"));
    assert!(object["legs"].as_u64().unwrap() <= 9);
}

#[test]
fn what_is_wrong_is_said_in_anthropic_s_shape() {
    let server = simple(Kind::Parrot);
    let check = |path: &str, body: &Value, status: u16, kind: &str, words: &str| {
        let reply = post(server.address, path, body);
        assert_eq!(reply.status, status, "{reply:?}");
        let value: Value = serde_json::from_str(&reply.body).unwrap();
        assert_eq!((&value["type"], &value["error"]["type"]), (&json!("error"), &json!(kind)));
        let message = value["error"]["message"].as_str().unwrap();
        assert!(message.contains(words), "{words:?} not in {message}");
        assert_eq!(reply.header("request-id"), value["request_id"].as_str());
    };
    let invalid = "invalid_request_error";
    for (field, value, words) in [
        ("max_tokens", json!(0), "max_tokens"),
        ("max_tokens", json!("1"), "max_tokens"),
        ("max_tokens", Value::Null, "max_tokens"),
        ("messages", json!([]), "no messages"),
        (
            "messages",
            json!([{ "role": "user", "content": [{ "type": "image" }] }]),
            "messages.0.content.0",
        ),
        ("temperature", json!(-1), "temperature"),
        ("stop_sequences", json!([1]), "stop_sequences"),
        ("stop_sequences", json!(vec!["x"; 1000]), "stop_sequences"),
        ("stream", json!("yes"), "stream"),
        ("tools", json!([{ "name": "a b" }]), "tools"),
        ("tools", json!([{ "type": "web_search_20250305", "name": "web_search" }]), "tools"),
        ("system", json!([{ "type": "image" }]), "system.0"),
    ] {
        let mut body = ask("Who are you?");
        body[field] = value;
        check(PATH, &body, 400, invalid, words);
    }
    let long = ask(&"word ".repeat(3000));
    check(PATH, &long, 400, invalid, "the context holds");
    let mut unknown = ask("Hi");
    unknown["model"] = "tset".into();
    check(PATH, &unknown, 404, "not_found_error", "did you mean test?");
    check("/v1/messages/batches", &json!({}), 404, "not_found_error", "nothing at this path");
    let sound = post(server.address, PATH, &ask("Who are you?")).json();
    assert_eq!(sound["content"][0]["text"], "A very small model.");
}

#[test]
fn keys_come_in_either_header_and_models_are_listed() {
    let mut options = options();
    options.keys = Keys::new(vec![Key::of("ann", "llmos-secret", Scope::Chat)]);
    let server = serve(Kind::Parrot, options, EngineOptions::default());
    let send = |key: &str| {
        let headers = ["Host: localhost", "Content-Type: application/json", key];
        let body = ask("Who are you?").to_string();
        Connection::send(server.address, &request("POST", PATH, &headers, body.as_bytes())).finish()
    };
    assert_eq!(send("x-api-key: llmos-secret").status, 200);
    assert_eq!(send("Authorization: Bearer llmos-secret").status, 200);
    let refused = send("x-api-key: other");
    assert_eq!(refused.status, 401);
    let value: Value = serde_json::from_str(&refused.body).unwrap();
    assert_eq!(value["error"]["type"], "authentication_error");
    let open = simple(Kind::Parrot);
    let models = get(open.address, "/v1/models").json();
    assert_eq!((&models["has_more"], &models["first_id"]), (&json!(false), &json!("test")));
    assert_eq!(models["data"][0]["created_at"], "2023-11-14T22:13:20Z");
}
