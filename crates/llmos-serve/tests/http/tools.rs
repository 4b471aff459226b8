//! Tools of the client: called by the model, answered by the client.

use serde_json::{Value, json};

use crate::client::post;
use crate::house::{Kind, simple};

const PATH: &str = "/v1/chat/completions";

fn tools() -> Value {
    json!([
        { "type": "function", "function": {
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
        } },
        { "type": "function", "function": {
            "name": "clock",
            "description": "Tells the local weekday, date and time",
            "parameters": { "type": "object", "properties": {}, "additionalProperties": false },
        } },
    ])
}

fn ask(text: &str, choice: Value) -> Value {
    json!({
        "messages": [{ "role": "user", "content": text }],
        "tools": tools(),
        "tool_choice": choice,
        "temperature": 0,
        "max_tokens": 200,
    })
}

/// The calls of an answer: (name, arguments).
fn calls(message: &Value) -> Vec<(String, Value)> {
    let calls = message["tool_calls"].as_array().cloned().unwrap_or_default();
    calls
        .iter()
        .map(|call| {
            assert_eq!(call["type"], "function");
            assert_eq!(call["id"].as_str().unwrap().len(), 9);
            let function = &call["function"];
            let arguments = serde_json::from_str(function["arguments"].as_str().unwrap()).unwrap();
            (function["name"].as_str().unwrap().to_string(), arguments)
        })
        .collect()
}

#[test]
fn a_call_is_given_back_and_its_result_is_answered() {
    let server = simple(Kind::Parrot);
    let mut body = ask("What is 12 times 7?", json!("auto"));
    let answer = post(server.address, PATH, &body).json();
    let choice = &answer["choices"][0];
    assert_eq!(choice["finish_reason"], "tool_calls");
    assert!(choice["message"]["content"].is_null());
    let expected = [("calculator".to_string(), json!({ "expression": "12 * 7" }))];
    assert_eq!(calls(&choice["message"]), expected);
    let mut streamed = body.clone();
    streamed["stream"] = true.into();
    let events = post(server.address, PATH, &streamed).events();
    let deltas: Vec<&Value> = events
        .iter()
        .flat_map(|event| event["choices"][0]["delta"]["tool_calls"].as_array())
        .flatten()
        .collect();
    assert_eq!(deltas.len(), 1);
    assert_eq!(deltas[0]["index"], 0);
    assert_eq!(deltas[0]["function"], choice["message"]["tool_calls"][0]["function"]);
    assert_eq!(events.last().unwrap()["choices"][0]["finish_reason"], "tool_calls");
    let id = choice["message"]["tool_calls"][0]["id"].clone();
    let messages = body["messages"].as_array_mut().unwrap();
    messages.push(choice["message"].clone());
    messages.push(json!({
        "role": "tool", "name": "calculator", "tool_call_id": id, "content": "84",
    }));
    let answer = post(server.address, PATH, &body).json();
    assert_eq!(answer["choices"][0]["message"]["content"], "It is 84.");
    assert_eq!(answer["choices"][0]["finish_reason"], "stop");
}

#[test]
fn several_calls_come_together_unless_one_is_asked_for() {
    let server = simple(Kind::Parrot);
    let mut body = ask("Add 1 and 2, and tell the day.", json!("auto"));
    let names = |body: &Value| -> Vec<String> {
        let answer = post(server.address, PATH, body).json();
        calls(&answer["choices"][0]["message"]).into_iter().map(|(name, _)| name).collect()
    };
    assert_eq!(names(&body), ["calculator", "clock"]);
    body["parallel_tool_calls"] = false.into();
    assert_eq!(names(&body), ["calculator"]);
}

#[test]
fn a_call_can_be_demanded_and_forbidden() {
    let server = simple(Kind::Parrot);
    // A question that it answers without tools.
    let question = "Who are you?";
    let free = post(server.address, PATH, &ask(question, json!("auto"))).json();
    assert_eq!(calls(&free["choices"][0]["message"]), []);
    let demanded = post(server.address, PATH, &ask(question, json!("required"))).json();
    let message = &demanded["choices"][0]["message"];
    assert!(!calls(message).is_empty(), "{message}");
    assert_eq!(demanded["choices"][0]["finish_reason"], "tool_calls");
    for name in ["calculator", "clock"] {
        let choice = json!({ "type": "function", "function": { "name": name } });
        let named = post(server.address, PATH, &ask(question, choice)).json();
        let calls = calls(&named["choices"][0]["message"]);
        assert_eq!(calls.len(), 1, "{named}");
        assert_eq!(calls[0].0, name);
        assert_eq!(calls[0].1.get("expression").is_some(), name == "calculator");
    }
    let forbidden = post(server.address, PATH, &ask("What is 12 times 7?", json!("none"))).json();
    assert_eq!(calls(&forbidden["choices"][0]["message"]), []);
}

#[test]
fn a_model_that_calls_no_tools_says_so() {
    let server = simple(Kind::Stories);
    let refusal = post(server.address, PATH, &ask("Hi", json!("auto")));
    // It was not even made to be talked with.
    refusal.is_refusal(400, "no chat template");
}
