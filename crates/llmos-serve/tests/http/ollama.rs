//! Ollama's API: lines of JSON, its options, its errors.

use serde_json::{Value, json};

use crate::client::{get, post};
use crate::house::{Kind, simple};

const CHAT: &str = "/api/chat";

fn ask(text: &str) -> Value {
    json!({
        "model": "test:latest",
        "messages": [{ "role": "user", "content": text }],
        "options": { "temperature": 0, "num_predict": 100 },
        "tools": [],
    })
}

/// One line for all that the lines of a stream say.
#[track_caller]
fn joined(lines: &[Value]) -> Value {
    let mut whole = lines.last().unwrap().clone();
    assert_eq!(whole["done"], true);
    for line in &lines[..lines.len() - 1] {
        assert_eq!(line["done"], false);
    }
    for key in ["content", "thinking"] {
        let said = lines.iter().filter_map(|line| line["message"][key].as_str());
        let said: String = said.collect();
        if key == "content" || !said.is_empty() {
            whole["message"][key] = said.into();
        }
    }
    whole
}

#[test]
fn a_chat_is_answered_in_lines_or_in_one() {
    let server = simple(Kind::Parrot);
    for question in ["Who are you?", "Think, then answer yes."] {
        let mut body = ask(question);
        // Lines are what it does where nobody says otherwise.
        let lines = post(server.address, CHAT, &body).lines();
        assert!(lines.len() > 2, "{lines:?}");
        body["stream"] = false.into();
        let whole = post(server.address, CHAT, &body).json();
        assert_eq!(joined(&lines)["message"], whole["message"]);
        assert_eq!((&whole["done"], &whole["done_reason"]), (&json!(true), &json!("stop")));
        assert_eq!(whole["model"], "test");
        for figure in ["total_duration", "eval_duration", "eval_count", "prompt_eval_count"] {
            assert!(whole[figure].as_u64().unwrap() > 0, "{figure}: {whole}");
        }
        assert!(whole["created_at"].as_str().unwrap().ends_with('Z'));
    }
    let mut short = ask("Count to twelve.");
    short["options"]["num_predict"] = 3.into();
    short["stream"] = false.into();
    let short = post(server.address, CHAT, &short).json();
    assert_eq!((&short["done_reason"], &short["eval_count"]), (&json!("length"), &json!(3)));
}

#[test]
fn tools_are_called_and_their_results_read() {
    let server = simple(Kind::Parrot);
    let tool = json!({ "type": "function", "function": {
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
    } });
    let clock = json!({ "type": "function", "function": {
        "name": "clock",
        "description": "Tells the local weekday, date and time",
        "parameters": { "type": "object", "properties": {}, "additionalProperties": false },
    } });
    let mut body = ask("What is 12 times 7?");
    body["tools"] = json!([tool, clock]);
    let lines = post(server.address, CHAT, &body).lines();
    let call = lines.iter().find_map(|line| line["message"]["tool_calls"].get(0)).unwrap().clone();
    assert_eq!(call["function"]["arguments"], json!({ "expression": "12 * 7" }));
    body["stream"] = false.into();
    let whole = post(server.address, CHAT, &body).json();
    assert_eq!(whole["message"]["tool_calls"][0]["function"], call["function"]);
    let messages = body["messages"].as_array_mut().unwrap();
    messages.push(whole["message"].clone());
    messages.push(json!({ "role": "tool", "tool_name": "calculator", "content": "84" }));
    assert_eq!(post(server.address, CHAT, &body).json()["message"]["content"], "It is 84.");
}

#[test]
fn a_prompt_is_answered_by_the_template_or_gone_on_with() {
    let parrot = simple(Kind::Parrot);
    let mut body = json!({
        "model": "test", "prompt": "Who are you?", "stream": false, "options": { "temperature": 0 },
    });
    let answer = post(parrot.address, "/api/generate", &body).json();
    assert_eq!(answer["response"], "A very small model.");
    body["prompt"] = "What colour is grass?".into();
    body["system"] = "Be brief.".into();
    assert_eq!(post(parrot.address, "/api/generate", &body).json()["response"], "Green.");
    let stories = simple(Kind::Stories);
    let prompt = json!({
        "model": "test", "prompt": "Once upon a time", "stream": false,
        "options": { "temperature": 0, "num_predict": 12, "stop": ["never"] },
    });
    let answer = post(stories.address, "/api/generate", &prompt).json();
    let same = json!({ "prompt": "Once upon a time", "temperature": 0, "max_tokens": 12 });
    let same = post(stories.address, "/v1/completions", &same).json();
    assert_eq!(answer["response"], same["choices"][0]["text"]);
    let mut raw = prompt.clone();
    raw["raw"] = true.into();
    raw["stream"] = true.into();
    let lines = post(stories.address, "/api/generate", &raw).lines();
    let said: String = lines.iter().filter_map(|line| line["response"].as_str()).collect();
    assert_eq!(said, answer["response"].as_str().unwrap());
}

#[test]
fn an_answer_fits_its_format_and_has_probabilities() {
    let server = simple(Kind::Assistant);
    let mut body = ask("Tell me about a cat.");
    body["stream"] = false.into();
    body["logprobs"] = true.into();
    body["format"] = json!({
        "type": "object", "additionalProperties": false, "required": ["legs"],
        "properties": { "legs": { "type": "integer", "minimum": 0, "maximum": 9 } },
    });
    let answer = post(server.address, CHAT, &body).json();
    let text = answer["message"]["content"].as_str().unwrap();
    let object: Value = serde_json::from_str(text).unwrap_or_else(|_| panic!("{text}"));
    assert!(object["legs"].as_u64().unwrap() <= 9);
    let tokens = answer["logprobs"].as_array().unwrap();
    let tokens: String = tokens.iter().map(|entry| entry["token"].as_str().unwrap()).collect();
    assert_eq!(tokens, text);
}

#[test]
fn models_are_loaded_shown_listed_and_let_go_of() {
    let server = simple(Kind::Parrot);
    let running = || get(server.address, "/api/ps").json()["models"].as_array().unwrap().len();
    let tags = get(server.address, "/api/tags").json();
    assert_eq!(
        (&tags["models"][0]["name"], &tags["models"][0]["model"]),
        (&json!("test"), &json!("test"))
    );
    assert!(
        tags["models"][0]["modified_at"].is_string() && tags["models"][0]["details"].is_object()
    );
    assert_eq!(running(), 0);
    let load = post(server.address, "/api/generate", &json!({ "model": "test" })).json();
    assert_eq!((&load["done_reason"], running()), (&json!("load"), 1));
    let shown = post(server.address, "/api/show", &json!({ "name": "test" })).json();
    let capabilities = shown["capabilities"].as_array().unwrap();
    assert!(capabilities.contains(&json!("tools")) && capabilities.contains(&json!("completion")));
    assert!(
        shown["model_info"].is_object() && shown["template"].as_str().unwrap().contains("im_start")
    );
    let away = json!({ "model": "test", "messages": [], "keep_alive": 0 });
    let away = post(server.address, CHAT, &away).json();
    assert_eq!((&away["done_reason"], running()), (&json!("unload"), 0));
    // The same once an answer is there, and once a stream is over.
    for stream in [false, true] {
        let mut body = ask("Who are you?");
        body["keep_alive"] = "0s".into();
        body["stream"] = stream.into();
        assert_eq!(post(server.address, CHAT, &body).status, 200);
        let start = std::time::Instant::now();
        while running() > 0 {
            assert!(start.elapsed() < std::time::Duration::from_secs(20), "it stays: {stream}");
        }
    }
    assert!(get(server.address, "/api/version").json()["version"].is_string());
}

#[test]
fn what_is_wrong_is_said_in_ollama_s_shape() {
    let server = simple(Kind::Parrot);
    let check = |path: &str, body: &Value, status: u16, words: &str| {
        let reply = post(server.address, path, body);
        assert_eq!(reply.status, status, "{reply:?}");
        let value: Value = serde_json::from_str(&reply.body).unwrap();
        let message = value["error"].as_str().unwrap();
        assert!(message.contains(words), "{words:?} not in {message}");
    };
    for (field, value, words) in [
        ("messages", json!("Hi"), "messages"),
        ("messages", json!([{ "role": "user", "content": "Hi", "images": ["eA=="] }]), "images"),
        ("messages", json!([{ "role": "alien", "content": "Hi" }]), "messages"),
        ("options", json!([]), "options"),
        ("options", json!({ "temperature": "hot" }), "temperature"),
        ("options", json!({ "num_predict": 1.5 }), "num_predict"),
        ("options", json!({ "stop": 3 }), "stop"),
        ("format", json!("xml"), "format"),
        ("format", json!({ "type": "nothing" }), "format"),
        ("think", json!("much"), "think"),
        ("keep_alive", json!("long"), "keep_alive"),
        ("stream", json!("no"), "stream"),
        ("tools", json!([{ "type": "function" }]), "tools"),
    ] {
        let mut body = ask("Who are you?");
        body[field] = value;
        check(CHAT, &body, 400, words);
    }
    check(CHAT, &json!({ "messages": [] }), 400, "model is required");
    let unknown = json!({ "model": "tset", "messages": [{ "role": "user", "content": "Hi" }] });
    check(CHAT, &unknown, 404, "did you mean test?");
    check("/api/show", &json!({ "model": "nothing" }), 404, "no model");
    check("/api/push", &json!({ "model": "x" }), 404, "nothing at this path");
    for (field, value) in [("template", "x"), ("suffix", "x")] {
        let mut body = json!({ "model": "test", "prompt": "Hi" });
        body[field] = value.into();
        check("/api/generate", &body, 400, field);
    }
    // What does not fit leaves the oldest out, unless that is forbidden.
    let mut long = ask("Who are you?");
    let old = json!({ "role": "user", "content": "word ".repeat(3000) });
    long["messages"].as_array_mut().unwrap().insert(0, old);
    long["stream"] = false.into();
    let answer = post(server.address, CHAT, &long).json();
    assert_eq!(answer["message"]["content"], "A very small model.");
    long["truncate"] = false.into();
    check(CHAT, &long, 400, "the context holds");
}
