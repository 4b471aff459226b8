//! Answers into a conversation: stored when they end and when nobody listens any more, with all that
//! is needed to hear them again.

use std::time::{Duration, Instant};

use llmos_model::EngineOptions;
use llmos_serve::{Models, Offer, ServerOptions};
use serde_json::{Value, json};

use crate::client::{get, post, send_post};
use crate::house::{Kind, NOW, Running, load, run};
use crate::kept::{Folder, add, begin, user};

const PATH: &str = "/v1/chat/completions";

/// The messages of a conversation.
fn messages(server: &Running, id: &str) -> Vec<Value> {
    let found = get(server.address, &format!("/v1/conversations/{id}")).json();
    found["messages"].as_array().unwrap().clone()
}

fn ask(id: &str) -> Value {
    json!({ "model": "test", "temperature": 0, "conversation": { "id": id } })
}

#[test]
fn an_answer_is_stored_before_its_end_is_told() {
    let folder = Folder::new();
    let server = folder.serve(Kind::Parrot);
    let id = begin(&server, &json!({}));
    add(&server, &id, &user("Who are you?"));
    let answer = post(server.address, PATH, &ask(&id)).json();
    assert_eq!(answer["choices"][0]["message"]["content"], "A very small model.");
    assert_eq!(answer["message"], json!({ "number": 2, "parent": 1 }));
    let stored = &messages(&server, &id)[1];
    assert_eq!(
        (&stored["role"], &stored["content"]),
        (&json!("assistant"), &json!("A very small model."))
    );
    let origin = &stored["origin"];
    assert_eq!((&origin["model"], &origin["digest"]), (&json!("test"), &json!("sha256:parrot")));
    assert_eq!(origin["prompt_tokens"], answer["usage"]["prompt_tokens"]);
    assert_eq!(origin["tokens"], answer["usage"]["completion_tokens"]);
    assert_eq!((&origin["finish"], &origin["sampling"]["clock"]), (&json!("stop"), &json!(NOW)));
    // A thought is stored as one, and the next message follows the answer.
    let asked = add(&server, &id, &user("Think, then answer yes."));
    assert_eq!(asked["parent"], 2);
    let mut body = ask(&id);
    body["stream"] = true.into();
    let events = post(server.address, PATH, &body).events();
    let last = events.last().unwrap();
    assert_eq!(
        (&last["choices"], &last["message"]),
        (&json!([]), &json!({ "number": 4, "parent": 3 }))
    );
    let joined = |key: &str| -> String {
        let deltas = events.iter().map(|event| &event["choices"][0]["delta"]);
        deltas.filter_map(|delta| delta[key].as_str()).collect()
    };
    let stored = &messages(&server, &id)[3];
    assert_eq!(stored["content"], joined("content").as_str());
    assert_eq!(stored["reasoning_content"], joined("reasoning_content").as_str());
    assert!(!joined("reasoning_content").is_empty());
    body["stream_options"] = json!({ "include_usage": true });
    body["conversation"]["parent"] = 1.into();
    let events = post(server.address, PATH, &body).events();
    let last = events.last().unwrap();
    assert_eq!(last["message"], json!({ "number": 5, "parent": 1 }));
    assert!(last["usage"]["total_tokens"].as_u64().unwrap() > 1);
}

#[test]
fn the_branch_is_what_the_model_reads() {
    let folder = Folder::new();
    let server = folder.serve(Kind::Parrot);
    let prompt = |messages: Value| {
        let body = json!({ "messages": messages, "max_tokens": 1 });
        post(server.address, PATH, &body).json()["usage"]["prompt_tokens"].clone()
    };
    let id = begin(&server, &json!({ "settings": { "system": "Be brief." } }));
    add(&server, &id, &user("Say hello."));
    add(&server, &id, &json!({ "role": "assistant", "content": "Hello!" }));
    let file = json!({ "name": "a.txt", "text": "Goodbye." });
    add(&server, &id, &json!({ "role": "user", "content": "Read.", "attachments": [file] }));
    let system = json!({ "role": "system", "content": "Be brief." });
    let first = json!([system, user("Say hello.")]);
    let all = json!([system, user("Say hello."), { "role": "assistant", "content": "Hello!" },
                     user("Read.\n\na.txt:\nGoodbye.")]);
    for (parent, expected) in [(1, first), (3, all)] {
        let body = json!({ "conversation": { "id": id, "parent": parent }, "max_tokens": 1 });
        let answer = post(server.address, PATH, &body).json();
        assert_eq!(answer["usage"]["prompt_tokens"], prompt(expected), "{parent}");
        assert_eq!(answer["message"]["parent"], parent);
    }
}

#[test]
fn a_stored_answer_can_be_asked_for_again() {
    let folder = Folder::new();
    let server = folder.serve(Kind::Assistant);
    let id = begin(&server, &json!({ "settings": { "system": "You are brief." } }));
    add(&server, &id, &user("Tell me a story about a cat."));
    // Drawn at will: nobody said a seed.
    let body = json!({ "conversation": { "id": id }, "max_tokens": 60, "temperature": 2.5,
                       "top_p": 0.97, "presence_penalty": 0.2, "stop": ["zebra"] });
    let texts: Vec<Value> = (0..2)
        .map(|_| {
            let mut body = body.clone();
            body["conversation"]["parent"] = 1.into();
            post(server.address, PATH, &body).json()["choices"][0]["message"]["content"].clone()
        })
        .collect();
    assert_ne!(texts[0], texts[1]);
    // The settings and the clock go on; the answer's origin does not.
    let change = json!({ "settings": { "system": "You are verbose." } });
    let path = format!("/v1/conversations/{id}");
    assert_eq!(crate::kept::ask(&server, "PATCH", &path, &[], &change).status, 200);
    let stored = messages(&server, &id);
    for (answer, text) in stored[1..3].iter().zip(&texts) {
        let origin = &answer["origin"];
        assert_eq!(&answer["content"], text);
        let mut again = origin["sampling"].clone();
        again["model"] = origin["model"].clone();
        again["seed"] = origin["seed"].clone();
        again["conversation"]["id"] = id.as_str().into();
        again["conversation"]["parent"] = answer["parent"].clone();
        let reply = post(server.address, PATH, &again).json();
        assert_eq!(&reply["choices"][0]["message"]["content"], text);
        let number = reply["message"]["number"].as_u64().unwrap() as usize;
        let repeated = &messages(&server, &id)[number - 1];
        assert_eq!(&repeated["origin"], origin);
    }
}

#[test]
fn calls_are_stored_and_their_results_are_answered() {
    let folder = Folder::new();
    let server = folder.serve(Kind::Parrot);
    let id = begin(&server, &json!({}));
    add(&server, &id, &user("What is 12 times 7?"));
    let parameters = json!({ "type": "object", "required": ["expression"],
        "additionalProperties": false, "properties": { "expression": { "type": "string",
            "description": "Arithmetic with + - * / ^ % and parentheses, such as (47 + 36) * 2",
            "maxLength": 200 } } });
    let tools = json!([
        { "type": "function", "function": { "name": "calculator",
            "description": "Computes an arithmetic expression exactly", "parameters": parameters } },
        { "type": "function", "function": { "name": "clock",
            "description": "Tells the local weekday, date and time",
            "parameters": { "type": "object", "properties": {}, "additionalProperties": false } } },
    ]);
    let mut body = ask(&id);
    body["tools"] = tools;
    let answer = post(server.address, PATH, &body).json();
    let calls = &answer["choices"][0]["message"]["tool_calls"];
    let stored = &messages(&server, &id)[1];
    assert!(calls[0]["id"].is_string());
    assert_eq!((&stored["tool_calls"], &stored["origin"]["finish"]), (calls, &json!("tool_calls")));
    add(
        &server,
        &id,
        &json!({ "role": "tool", "content": "84", "name": "calculator",
                               "tool_call_id": calls[0]["id"] }),
    );
    let answer = post(server.address, PATH, &body).json();
    assert_eq!(answer["choices"][0]["message"]["content"], "It is 84.");
    assert_eq!(messages(&server, &id).len(), 4);
}

/// A server whose model talks for ever, or for two seconds.
fn endless(folder: &Folder) -> Running {
    let models = Models::new(None);
    let load = Box::new(|| {
        let cache_bytes = Some(64 << 20);
        let mut loaded = load(Kind::Endless, EngineOptions { cache_bytes, ..Default::default() });
        loaded.template = Some("{% for m in messages %}{{ m.content }}\n{% endfor %}".into());
        Ok(loaded)
    });
    models.offer(Offer { id: "test".into(), bytes: 0, created: 0, load });
    let request_time = Duration::from_secs(2);
    run(ServerOptions { request_time, ..folder.options() }, models)
}

#[test]
fn what_was_said_is_stored_when_its_client_goes_its_time_is_over_or_the_server_ends() {
    let folder = Folder::new();
    let mut server = endless(&folder);
    let id = begin(&server, &json!({}));
    add(&server, &id, &user("Once"));
    let body = |stream: bool| {
        json!({ "conversation": { "id": id, "parent": 1 }, "stream": stream, "temperature": 1,
                "max_tokens": 1_000_000, "logit_bias": { "0": -100, "1": -100, "2": -100 } })
    };
    // Something that was said, not only who says it.
    let said = "\"delta\":{\"content\":\"";
    let mut connection = send_post(server.address, PATH, &body(true));
    connection.wait_for(said);
    drop(connection);
    let start = Instant::now();
    while messages(&server, &id).len() < 2 {
        assert!(start.elapsed() < Duration::from_secs(30));
    }
    post(server.address, PATH, &body(false)).is_refusal(504, "longer");
    assert_eq!(messages(&server, &id).len(), 3);
    let mut connection = send_post(server.address, PATH, &body(true));
    connection.wait_for(said);
    server.stop();
    drop(server);
    let tree = folder.visit().chats("").tree(&id).unwrap();
    assert_eq!(tree.messages.len(), 4);
    for message in &tree.messages[1..] {
        let origin = message.body.origin.as_ref().unwrap();
        assert_eq!(origin.finish.as_deref(), Some("cancelled"));
        assert!(!message.body.content.is_empty() && origin.tokens > 0);
        assert_eq!(message.parent, Some(1));
    }
}

#[test]
fn fields_that_do_not_go_together_are_refused() {
    let folder = Folder::new();
    let server = folder.serve(Kind::Parrot);
    let id = begin(&server, &json!({}));
    let check = |field: &str, value: Value, words: &str| {
        let mut body = ask(&id);
        body[field] = value;
        post(server.address, PATH, &body).is_refusal(400, words);
    };
    check("stream", false.into(), "no message");
    add(&server, &id, &user("Who are you?"));
    check("messages", json!([user("Hi")]), "messages and conversation");
    check("n", json!(2), "n and conversation");
    check("clock", json!("now"), "clock");
    for value in [json!("x"), json!([]), json!({}), json!({ "id": 3 })] {
        check("conversation", value, "conversation");
    }
    for parent in [json!(0), json!("1"), json!(1.5), json!(-1)] {
        check("conversation", json!({ "id": id, "parent": parent }), "parent");
    }
    check("conversation", json!({ "id": id, "branch": 1 }), "branch");
    let absent = json!({ "conversation": { "id": id, "parent": 9 } });
    post(server.address, PATH, &absent).is_refusal(404, "no message 9");
    let foreign = json!({ "conversation": { "id": "x" } });
    post(server.address, PATH, &foreign).is_refusal(404, "no conversation x");
    // An answer cannot be answered.
    assert_eq!(post(server.address, PATH, &ask(&id)).status, 200);
    check("stream", true.into(), "nothing to answer");
    assert_eq!(messages(&server, &id).len(), 2);
}
