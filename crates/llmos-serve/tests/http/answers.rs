//! Conversations: answered as by the assistant alone, with thoughts, schemas and probabilities.

use std::ops::ControlFlow;

use llmos_agent::{Assistant, Thread, TurnOptions};
use llmos_model::EngineOptions;
use llmos_model::sampler::{Sampler, SamplerOptions};
use serde_json::{Value, json};

use crate::client::{post, send_post};
use crate::house::{Kind, NOW, load, options, serve, simple};

const PATH: &str = "/v1/chat/completions";

fn ask(messages: Value) -> Value {
    json!({ "model": "test", "messages": messages, "temperature": 0 })
}

fn user(text: &str) -> Value {
    json!([{ "role": "user", "content": text }])
}

/// What the assistant answers alone, greedily.
fn alone(kind: Kind, messages: &Value, most: usize) -> llmos_agent::Answer {
    let mut loaded = load(kind, EngineOptions::default());
    let assistant =
        Assistant::new(loaded.tokenizer.clone(), loaded.template.unwrap()).with_clock(|| NOW);
    let sampler = Sampler::new(SamplerOptions::greedy(), 0).unwrap();
    let options = TurnOptions { tokens: Some(most), ..TurnOptions::default() };
    let messages = messages.as_array().unwrap();
    assistant
        .answer(&mut loaded.engine, &mut Thread::default(), messages, sampler, options, &mut |_| {
            ControlFlow::Continue(())
        })
        .unwrap()
}

#[test]
fn a_developer_is_the_system_to_a_template_that_knows_none() {
    let server = simple(Kind::Parrot);
    let answer = |role: &str| {
        let body = ask(json!([{ "role": role, "content": "Be brief." },
                              { "role": "user", "content": "What colour is grass?" }]));
        let answer = post(server.address, PATH, &body).json();
        (answer["choices"][0]["message"].clone(), answer["usage"]["prompt_tokens"].clone())
    };
    assert_eq!(answer("developer"), answer("system"));
    let input = json!([{ "role": "developer", "content": "Be brief." },
                       { "role": "user", "content": "What colour is grass?" }]);
    let counted = json!({ "model": "test", "input": input });
    let counted = post(server.address, "/v1/responses/input_tokens", &counted).json();
    assert_eq!(counted["input_tokens"], answer("system").1);
}

#[test]
fn what_is_no_text_is_named() {
    let server = simple(Kind::Parrot);
    for kind in ["image_url", "input_audio", "file"] {
        let part = json!({ "type": kind, kind: { "url": "data:image/png;base64,AAAA" } });
        let content = json!([{ "type": "text", "text": "What is this?" }, part]);
        let body = ask(json!([{ "role": "user", "content": content }]));
        let words = format!("message 1 has a part of the type {kind:?}, which is no text");
        let error = post(server.address, PATH, &body).is_refusal(400, &words);
        assert_eq!(error["param"], "messages");
    }
    let refused =
        json!({ "role": "assistant", "content": [{ "type": "refusal", "refusal": "No." }] });
    let body = ask(json!([{ "role": "user", "content": "Who?" }, refused,
                          { "role": "user", "content": "Who are you?" }]));
    assert_eq!(post(server.address, PATH, &body).status, 200);
}

#[test]
fn usage_comes_with_the_last_chunk_and_is_null_before() {
    let server = simple(Kind::Parrot);
    let check = |path: &str, mut body: Value| {
        body["stream"] = true.into();
        body["max_tokens"] = 3.into();
        let events = post(server.address, path, &body).events();
        assert!(events.iter().all(|event| event.get("usage").is_none()), "{events:?}");
        body["stream_options"] = json!({ "include_usage": true });
        let events = post(server.address, path, &body).events();
        let (last, others) = events.split_last().unwrap();
        assert!(others.iter().all(|event| event.get("usage") == Some(&Value::Null)), "{others:?}");
        assert_eq!(
            (&last["choices"], &last["usage"]["completion_tokens"]),
            (&json!([]), &json!(3))
        );
    };
    check(PATH, ask(user("Who are you?")));
    check("/v1/completions", json!({ "prompt": "Who are you?", "ignore_eos": true }));
}

#[test]
fn a_conversation_is_answered_as_by_the_assistant_alone() {
    let server = simple(Kind::Parrot);
    for messages in [
        user("Who are you?"),
        user("你是谁？"),
        json!([
            { "role": "user", "content": "Say hello." },
            { "role": "assistant", "content": "Hello!" },
            { "role": "user", "content": [{ "type": "text", "text": "And goodbye." }] },
        ]),
        json!([{ "role": "system", "content": "Be brief." },
               { "role": "user", "content": "What colour is grass?" }]),
        user("Think, then answer yes."),
    ] {
        let expected = alone(Kind::Parrot, &messages, 100);
        let mut body = ask(messages);
        body["max_completion_tokens"] = 100.into();
        let answer = post(server.address, PATH, &body).json();
        assert_eq!(answer["object"], "chat.completion");
        assert!(answer["id"].as_str().unwrap().starts_with("chatcmpl-"));
        let message = &answer["choices"][0]["message"];
        assert_eq!(message["content"], expected.answer.as_str());
        let reasoning = message.get("reasoning_content").and_then(Value::as_str);
        assert_eq!(reasoning.unwrap_or_default(), expected.reasoning);
        assert_eq!(answer["choices"][0]["finish_reason"], "stop");
        assert_eq!(answer["usage"]["completion_tokens"], expected.tokens);
        assert_eq!(answer["usage"]["prompt_tokens"], expected.prompt_tokens);
        let thoughts = &answer["usage"]["completion_tokens_details"]["reasoning_tokens"];
        assert_eq!(thoughts.as_u64().unwrap() > 0, !expected.reasoning.is_empty());
        assert!(thoughts.as_u64() < answer["usage"]["completion_tokens"].as_u64());
        body["stream"] = true.into();
        let events = post(server.address, PATH, &body).events();
        assert_eq!(events[0]["choices"][0]["delta"], json!({ "role": "assistant", "content": "" }));
        let joined = |key: &str| -> String {
            let deltas = events.iter().map(|event| &event["choices"][0]["delta"]);
            deltas.filter_map(|delta| delta[key].as_str()).collect()
        };
        assert_eq!(joined("content"), expected.answer);
        assert_eq!(joined("reasoning_content"), expected.reasoning);
        let last = &events.last().unwrap()["choices"][0];
        assert_eq!((&last["delta"], &last["finish_reason"]), (&json!({}), &json!("stop")));
    }
}

#[test]
fn the_bundled_assistant_answers_as_alone_and_many_at_once() {
    let questions = ["Who are you?", "What is a language model?", "Say hello in French.", "Why?"];
    let expected: Vec<String> = questions
        .iter()
        .map(|question| alone(Kind::Assistant, &user(question), 60).answer)
        .collect();
    let engine = EngineOptions { cache_bytes: Some(64 << 20), ..EngineOptions::default() };
    let server = serve(Kind::Assistant, options(), engine);
    let sent: Vec<_> = (0..8)
        .map(|i| {
            let mut body = ask(user(questions[i % 4]));
            body["max_tokens"] = 60.into();
            send_post(server.address, PATH, &body)
        })
        .collect();
    for (i, connection) in sent.into_iter().enumerate() {
        let answer = connection.finish().json();
        assert_eq!(answer["choices"][0]["message"]["content"], expected[i % 4].as_str());
    }
}

#[test]
fn probabilities_come_with_the_tokens_of_the_answer() {
    let server = simple(Kind::Parrot);
    let mut body = ask(user("Who are you?"));
    body["logprobs"] = true.into();
    body["top_logprobs"] = 2.into();
    let answer = post(server.address, PATH, &body).json();
    let content = answer["choices"][0]["logprobs"]["content"].as_array().unwrap().clone();
    let tokens: String = content.iter().map(|entry| entry["token"].as_str().unwrap()).collect();
    assert_eq!(tokens.trim(), answer["choices"][0]["message"]["content"].as_str().unwrap());
    for entry in &content {
        let top = entry["top_logprobs"].as_array().unwrap();
        // Greedy: the token is the likeliest.
        assert_eq!((top.len(), &top[0]["logprob"]), (2, &entry["logprob"]));
        assert!(entry["logprob"].as_f64().unwrap() <= 0.0);
        assert!(!entry["bytes"].as_array().unwrap().is_empty());
    }
    body["stream"] = true.into();
    let events = post(server.address, PATH, &body).events();
    let streamed: Vec<Value> = events
        .iter()
        .filter_map(|event| event["choices"][0]["logprobs"]["content"].as_array().cloned())
        .flatten()
        .collect();
    assert_eq!(streamed, content);
}

#[test]
fn an_answer_fits_its_schema() {
    let server = simple(Kind::Assistant);
    let mut body = ask(user("Tell me about a cat."));
    body["max_tokens"] = 200.into();
    body["response_format"] = json!({ "type": "json_schema", "json_schema": {
        "name": "animal", "strict": true, "schema": {
            "type": "object", "additionalProperties": false, "required": ["name", "legs", "is_wild"],
            "properties": {
                "name": { "type": "string", "maxLength": 20 },
                "legs": { "type": "integer", "minimum": 0, "maximum": 9 },
                "is_wild": { "type": "boolean" },
            },
        },
    } });
    let answer = post(server.address, PATH, &body).json();
    let text = answer["choices"][0]["message"]["content"].as_str().unwrap();
    let object: Value = serde_json::from_str(text).unwrap_or_else(|_| panic!("{text}"));
    assert!(object["name"].is_string() && object["is_wild"].is_boolean(), "{text}");
    assert!(object["legs"].as_u64().unwrap() <= 9, "{text}");
    assert_eq!(answer["choices"][0]["finish_reason"], "stop");
}

#[test]
fn a_conversation_can_be_counted() {
    let server = simple(Kind::Parrot);
    let messages = user("Who are you?");
    let counted = post(server.address, "/tokenize", &json!({ "messages": messages })).json();
    let answer = post(server.address, PATH, &ask(messages)).json();
    assert_eq!(counted["count"], answer["usage"]["prompt_tokens"]);
}
