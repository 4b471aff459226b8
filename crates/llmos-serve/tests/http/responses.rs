//! `/v1/responses`: kept, gone on from, and told in events.

use llmos_model::EngineOptions;
use llmos_serve::{Key, Keys, Scope};
use serde_json::{Value, json};

use crate::client::{Connection, delete, get, post, request};
use crate::house::{Kind, options, serve, simple};

const PATH: &str = "/v1/responses";

fn ask(input: Value) -> Value {
    json!({ "model": "test", "input": input, "temperature": 0 })
}

fn text(response: &Value) -> &str {
    let items = response["output"].as_array().unwrap();
    let message = items.iter().find(|item| item["type"] == "message").unwrap();
    message["content"][0]["text"].as_str().unwrap()
}

fn tools() -> Value {
    json!([{
        "type": "function",
        "name": "calculator",
        "description": "Computes an arithmetic expression exactly",
        "parameters": {
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
        "type": "function",
        "name": "clock",
        "description": "Tells the local weekday, date and time",
        "parameters": { "type": "object", "properties": {}, "additionalProperties": false },
    }])
}

/// What a client's helper demands of a stream; returns the response that it ends with.
#[track_caller]
fn checked(events: &[Value]) -> Value {
    let mut output: Vec<Value> = Vec::new();
    let mut done = Vec::new();
    assert_eq!(events[0]["type"], "response.created");
    assert_eq!(events[1]["type"], "response.in_progress");
    let id = &events[0]["response"]["id"];
    for (number, event) in events.iter().enumerate() {
        assert_eq!(event["sequence_number"], number, "{event}");
        let index = event["output_index"].as_u64().unwrap_or(0) as usize;
        let kind = event["type"].as_str().unwrap();
        if event.get("item_id").is_some() {
            assert_eq!(event["item_id"], output[index]["id"], "{event}");
        }
        let at = event["content_index"].as_u64().unwrap_or(0) as usize;
        match kind {
            "response.output_item.added" => {
                assert_eq!(index, output.len());
                output.push(event["item"].clone());
            }
            "response.content_part.added" => {
                let content = output[index]["content"].as_array_mut().unwrap();
                assert_eq!(at, content.len());
                content.push(event["part"].clone());
            }
            "response.output_text.delta" | "response.reasoning_text.delta" => {
                let all = output[index]["content"][at]["text"].as_str().unwrap().to_string();
                output[index]["content"][at]["text"] =
                    (all + event["delta"].as_str().unwrap()).into();
                assert_eq!(event.get("logprobs").is_some(), kind.contains("output_text"));
            }
            "response.function_call_arguments.delta" => {
                let all = output[index]["arguments"].as_str().unwrap().to_string();
                output[index]["arguments"] = (all + event["delta"].as_str().unwrap()).into();
            }
            "response.output_text.done" | "response.reasoning_text.done" => {
                assert_eq!(event["text"], output[index]["content"][at]["text"]);
            }
            "response.function_call_arguments.done" => {
                assert_eq!(event["arguments"], output[index]["arguments"]);
            }
            "response.content_part.done" => {
                assert_eq!(event["part"]["text"], output[index]["content"][at]["text"]);
            }
            "response.output_item.done" => done.push(event["item"].clone()),
            _ => assert_eq!(&event["response"]["id"], id),
        }
    }
    let last = events.last().unwrap()["response"].clone();
    assert_eq!(last["output"], Value::Array(done));
    last
}

#[test]
fn a_response_is_written_kept_and_gone_on_from() {
    let server = simple(Kind::Parrot);
    let mut first = ask(json!("Say hello."));
    first["metadata"] = json!({ "topic": "demo" });
    let first = post(server.address, PATH, &first).json();
    assert_eq!((&first["object"], &first["status"]), (&json!("response"), &json!("completed")));
    assert!(first["id"].as_str().unwrap().starts_with("resp_"));
    assert_eq!(text(&first), "Hello!");
    assert_eq!(first["metadata"]["topic"], "demo");
    let usage = &first["usage"];
    let sum = usage["input_tokens"].as_u64().unwrap() + usage["output_tokens"].as_u64().unwrap();
    assert_eq!(usage["total_tokens"], sum);
    // It knows what was said before: the answer is the one that the parrot learnt for this place.
    let mut second = ask(json!([{ "role": "user", "content": "And goodbye." }]));
    second["previous_response_id"] = first["id"].clone();
    let second = post(server.address, PATH, &second).json();
    assert_eq!(text(&second), "Goodbye, then.");
    assert_eq!(second["previous_response_id"], first["id"]);
    let one = |response: &Value| format!("{PATH}/{}", response["id"].as_str().unwrap());
    assert_eq!(get(server.address, &one(&second)).json(), second);
    let items = get(server.address, &format!("{}/input_items", one(&second))).json();
    assert_eq!((items["data"].as_array().unwrap().len(), &items["has_more"]), (1, &json!(false)));
    assert_eq!(items["data"][0]["content"][0]["text"], "And goodbye.");
    assert_eq!(items["first_id"], items["data"][0]["id"]);
    // It was not written in the background, so there is nothing to cancel.
    let cancelled = post(server.address, &format!("{}/cancel", one(&second)), &json!({}));
    cancelled.is_refusal(400, "in the background");
    let nothing = post(server.address, "/v1/responses/resp_none/cancel", &json!({}));
    nothing.is_refusal(404, "no response");
    // What went on from it stays when it is forgotten.
    assert_eq!(delete(server.address, &one(&first)).json()["deleted"], true);
    get(server.address, &one(&first)).is_refusal(404, "no response");
    delete(server.address, &one(&first)).is_refusal(404, "no response");
    let mut third = ask(json!("Who are you?"));
    third["previous_response_id"] = second["id"].clone();
    assert_eq!(post(server.address, PATH, &third).status, 200);
    third["previous_response_id"] = first["id"].clone();
    let error = post(server.address, PATH, &third).is_refusal(404, "no response");
    assert_eq!(error["code"], "previous_response_not_found");
    assert_eq!(error["param"], "previous_response_id");
    let mut forgotten = ask(json!("Who are you?"));
    forgotten["store"] = false.into();
    let forgotten = post(server.address, PATH, &forgotten).json();
    get(server.address, &one(&forgotten)).is_refusal(404, "no response");
}

#[test]
fn events_tell_what_the_response_holds() {
    let server = simple(Kind::Parrot);
    for question in ["Who are you?", "Think, then answer yes.", "What is 12 times 7?"] {
        let mut body = ask(json!(question));
        body["tools"] = tools();
        let whole = post(server.address, PATH, &body).json();
        body["stream"] = true.into();
        let last = checked(&post(server.address, PATH, &body).named_events());
        let plain = |response: &Value| -> Vec<Value> {
            let mut items = response["output"].as_array().unwrap().clone();
            items.iter_mut().for_each(|item| {
                item["id"] = Value::Null;
                item["call_id"] = Value::Null;
            });
            items
        };
        assert_eq!(plain(&last), plain(&whole), "{question}");
        assert_eq!(last["usage"]["output_tokens"], whole["usage"]["output_tokens"]);
        let path = format!("{PATH}/{}", last["id"].as_str().unwrap());
        assert_eq!(get(server.address, &path).json()["output"], last["output"]);
    }
    let mut short = ask(json!("Count to twelve."));
    short["max_output_tokens"] = 3.into();
    short["stream"] = true.into();
    let events = post(server.address, PATH, &short).named_events();
    let last = checked(&events);
    assert_eq!(events.last().unwrap()["type"], "response.incomplete");
    assert_eq!(last["incomplete_details"]["reason"], "max_output_tokens");
    assert_eq!(last["output"][0]["status"], "incomplete");
}

#[test]
fn tools_are_called_and_their_outputs_read() {
    let server = simple(Kind::Parrot);
    let mut body = ask(json!("What is 12 times 7?"));
    body["tools"] = tools();
    let called = post(server.address, PATH, &body).json();
    let call = &called["output"][0];
    assert_eq!((&call["type"], &call["name"]), (&json!("function_call"), &json!("calculator")));
    let arguments: Value = serde_json::from_str(call["arguments"].as_str().unwrap()).unwrap();
    assert_eq!(arguments, json!({ "expression": "12 * 7" }));
    let output = json!({
        "type": "function_call_output", "call_id": call["call_id"], "output": "84",
    });
    // With the id of the response, and with all items sent again.
    let mut next = ask(json!([output]));
    next["previous_response_id"] = called["id"].clone();
    next["tools"] = tools();
    assert_eq!(text(&post(server.address, PATH, &next).json()), "It is 84.");
    let user = json!({ "role": "user", "content": "What is 12 times 7?" });
    let mut again = ask(json!([user, call, output]));
    again["tools"] = tools();
    assert_eq!(text(&post(server.address, PATH, &again).json()), "It is 84.");
    let mut demanded = ask(json!("Who are you?"));
    demanded["tools"] = tools();
    demanded["tool_choice"] = json!({ "type": "function", "name": "clock" });
    let demanded = post(server.address, PATH, &demanded).json();
    assert_eq!(demanded["output"][0]["name"], "clock");
}

#[test]
fn a_format_and_probabilities_are_given() {
    let server = simple(Kind::Assistant);
    let mut body = ask(json!("Tell me about a cat."));
    body["max_output_tokens"] = 100.into();
    body["text"] = json!({ "format": { "type": "json_schema", "name": "legs", "strict": true,
        "schema": {
            "type": "object", "additionalProperties": false, "required": ["legs"],
            "properties": { "legs": { "type": "integer", "minimum": 0, "maximum": 9 } },
        } } });
    body["include"] = json!(["message.output_text.logprobs"]);
    body["top_logprobs"] = 2.into();
    let response = post(server.address, PATH, &body).json();
    let object: Value = serde_json::from_str(text(&response)).unwrap();
    assert!(object["legs"].as_u64().unwrap() <= 9);
    let logprobs = response["output"][0]["content"][0]["logprobs"].as_array().unwrap();
    let tokens: String = logprobs.iter().map(|entry| entry["token"].as_str().unwrap()).collect();
    assert_eq!(tokens, text(&response));
    assert!(logprobs.iter().all(|entry| entry["top_logprobs"].as_array().unwrap().len() == 2));
}

#[test]
fn what_does_not_fit_is_refused_or_leaves_the_oldest_out() {
    let server = simple(Kind::Parrot);
    let old = json!({ "role": "user", "content": "word ".repeat(3000) });
    let said = json!({ "role": "assistant", "content": "Yes." });
    let new = json!({ "role": "user", "content": "Who are you?" });
    let mut body = ask(json!([old, said, new]));
    post(server.address, PATH, &body).is_refusal(400, "the context holds");
    body["truncation"] = "auto".into();
    assert_eq!(text(&post(server.address, PATH, &body).json()), "A very small model.");
    let counted = post(server.address, "/v1/responses/input_tokens", &body).json();
    assert!(counted["input_tokens"].as_u64().unwrap() < 30, "{counted}");
    let mut body = ask(json!([old]));
    body["truncation"] = "auto".into();
    post(server.address, PATH, &body).is_refusal(400, "the context holds");
}

#[test]
fn wrong_fields_are_named_as_the_client_named_them() {
    let server = simple(Kind::Parrot);
    for (field, value) in [
        ("input", json!(3)),
        ("instructions", json!(["x"])),
        ("max_output_tokens", json!(0)),
        ("max_output_tokens", json!("1")),
        ("temperature", json!(-1)),
        ("top_p", json!(2)),
        ("stream", json!("yes")),
        ("tools", json!([{ "type": "web_search" }])),
        ("tool_choice", json!("sometimes")),
        ("text", json!({ "format": { "type": "xml" } })),
        ("reasoning", json!({ "effort": 3 })),
        ("background", json!("yes")),
        ("metadata", json!({ "a": {} })),
        ("previous_response_id", json!(1)),
    ] {
        let mut body = ask(json!("Who are you?"));
        body[field] = value;
        let error = post(server.address, PATH, &body).is_refusal(400, field);
        assert_eq!(error["param"], field);
    }
    get(server.address, "/v1/responses/x/input_items?limit=0").is_refusal(400, "limit");
}

#[test]
fn a_response_is_its_owner_s_alone() {
    let mut options = options();
    options.keys = Keys::new(vec![
        Key::of("ann", "llmos-a", Scope::Chat),
        Key::of("bob", "llmos-b", Scope::Chat),
    ]);
    let server = serve(Kind::Parrot, options, EngineOptions::default());
    let send = |key: &str, method: &str, path: &str, body: &str| {
        let key = format!("x-api-key: {key}");
        let headers = ["Host: localhost", "Content-Type: application/json", &key];
        Connection::send(server.address, &request(method, path, &headers, body.as_bytes())).finish()
    };
    let body = ask(json!("Say hello.")).to_string();
    let own = send("llmos-a", "POST", PATH, &body).json();
    let path = format!("{PATH}/{}", own["id"].as_str().unwrap());
    assert_eq!(send("llmos-a", "GET", &path, "").status, 200);
    let mut next = ask(json!("And goodbye."));
    next["previous_response_id"] = own["id"].clone();
    let next = next.to_string();
    for (method, path, body) in [
        ("GET", path.as_str(), ""),
        ("DELETE", path.as_str(), ""),
        ("GET", &format!("{path}/input_items"), ""),
        ("POST", PATH, next.as_str()),
    ] {
        send("llmos-b", method, path, body).is_refusal(404, "no response");
    }
    assert_eq!(text(&send("llmos-a", "POST", PATH, &next).json()), "Goodbye, then.");
}
