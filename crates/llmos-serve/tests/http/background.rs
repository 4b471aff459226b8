//! `/v1/responses` in the background: answered at once, asked for by its id, cancelled, forgotten.

use llmos_model::EngineOptions;
use llmos_serve::{About, Key, Keys, Loaded, Models, Offer, Scope};
use serde_json::{Value, json};

use crate::client::{Reply, delete, get, post};
use crate::house::{Kind, Running, load, options, run, simple};
use crate::kept::ask;
use crate::models::wait_until;

const PATH: &str = "/v1/responses";

fn in_background(input: &str) -> Value {
    json!({ "input": input, "temperature": 0, "background": true })
}

fn path_of(response: &Value) -> String {
    format!("{PATH}/{}", response["id"].as_str().unwrap())
}

/// A server whose model can be talked with, and does not end by itself.
fn endless() -> Running {
    let models = Models::new(None);
    let cache_bytes = Some(64 << 20);
    let engine = EngineOptions { cache_bytes, ..EngineOptions::default() };
    let template = "{% for message in messages %}{{ message.content }}\n{% endfor %}";
    let load = Box::new(move || {
        let loaded = load(Kind::Endless, engine.clone());
        Ok(Loaded { template: Some(template.to_string()), ..loaded })
    });
    let (adapters, about) = (Vec::new(), About::default());
    models.offer(Offer { id: "test".into(), bytes: 0, created: 0, adapters, about, load });
    let keys = ["ann", "bob"].map(|name| Key::of(name, name, Scope::Admin));
    run(llmos_serve::ServerOptions { keys: Keys::new(keys.into()), ..options() }, models)
}

fn with_key(server: &Running, key: &str, method: &str, path: &str, body: &Value) -> Reply {
    ask(server, method, path, &[&format!("x-api-key: {key}")], body)
}

#[test]
fn a_response_is_answered_at_once_and_asked_for_until_it_is_there() {
    let server = simple(Kind::Parrot);
    let begun = post(server.address, PATH, &in_background("Say hello.")).json();
    assert_eq!((&begun["status"], &begun["background"]), (&json!("queued"), &json!(true)));
    assert_eq!((&begun["output"], &begun["usage"]), (&json!([]), &Value::Null));
    let path = path_of(&begun);
    let mut found = Value::Null;
    wait_until("it is complete", || {
        found = get(server.address, &path).json();
        let status = found["status"].as_str().unwrap();
        assert!(["queued", "in_progress", "completed"].contains(&status), "{status}");
        status == "completed"
    });
    assert_eq!(found["output"][0]["content"][0]["text"], "Hello!");
    assert_eq!((&found["id"], &found["created_at"]), (&begun["id"], &begun["created_at"]));
    assert!(found["usage"]["output_tokens"].as_u64().unwrap() > 0);
    let items = get(server.address, &format!("{path}/input_items")).json();
    assert_eq!(items["data"][0]["content"][0]["text"], "Say hello.");
    // The next goes on from it, and there is nothing to cancel.
    let mut next = in_background("And goodbye.");
    next["background"] = false.into();
    next["previous_response_id"] = begun["id"].clone();
    let next = post(server.address, PATH, &next).json();
    assert_eq!(next["output"][0]["content"][0]["text"], "Goodbye, then.");
    assert_eq!(post(server.address, &format!("{path}/cancel"), &json!({})).json(), found);
    // What it took is counted as of any other.
    let metrics = get(server.address, "/metrics").body;
    let drawn = |line: &&str| line.starts_with("llmos_generated_tokens_total{model=\"test\"}");
    let drawn = metrics.lines().find(drawn).and_then(|line| line.rsplit_once(' ')).unwrap().1;
    let count = |response: &Value| response["usage"]["output_tokens"].as_f64().unwrap();
    assert_eq!(drawn.parse::<f64>().unwrap(), count(&found) + count(&next));
    assert_eq!(delete(server.address, &path).json()["deleted"], true);
    get(server.address, &path).is_refusal(404, "no response");
    for query in ["stream=true", "stream=1"] {
        get(server.address, &format!("{}?{query}", path_of(&next))).is_refusal(400, "stream");
    }
    assert_eq!(get(server.address, &format!("{}?stream=false", path_of(&next))).status, 200);
}

#[test]
fn one_that_is_written_can_be_looked_at_cancelled_and_forgotten() {
    let server = endless();
    let mut long = in_background("Once");
    long["ignore_eos"] = true.into();
    let begin = || {
        let begun = with_key(&server, "ann", "POST", PATH, &long).json();
        let path = path_of(&begun);
        let text = |response: &Value| {
            let part = response.pointer("/output/0/content/0/text");
            part.and_then(Value::as_str).map_or(0, str::len)
        };
        wait_until("something is written", || {
            let found = with_key(&server, "ann", "GET", &path, &Value::Null).json();
            text(&found) > 20 && found["status"] == "in_progress"
        });
        (begun["id"].clone(), path)
    };
    let in_flight = || {
        let ready = with_key(&server, "bob", "GET", "/readyz", &Value::Null).json();
        ready["in_flight"].as_u64().unwrap()
    };
    let (id, path) = begin();
    assert_eq!(in_flight(), 1);
    // It is nobody else's to see or to end, and has no end to go on from.
    for (method, path) in [("GET", &path), ("DELETE", &path), ("POST", &format!("{path}/cancel"))] {
        with_key(&server, "bob", method, path, &json!({})).is_refusal(404, "no response");
    }
    let next = json!({ "input": "And?", "previous_response_id": id });
    let early = with_key(&server, "ann", "POST", PATH, &next).is_refusal(400, "in_progress");
    assert_eq!(early["param"], "previous_response_id");
    let cancelled =
        with_key(&server, "ann", "POST", &format!("{path}/cancel"), &Value::Null).json();
    assert_eq!((&cancelled["id"], &cancelled["status"]), (&id, &json!("cancelled")));
    assert_eq!(cancelled["output"][0]["status"], "incomplete");
    wait_until("its place is free", || in_flight() == 0);
    let found = with_key(&server, "ann", "GET", &path, &Value::Null).json();
    assert_eq!(found, cancelled);
    let again = with_key(&server, "ann", "POST", &format!("{path}/cancel"), &Value::Null).json();
    assert_eq!(again, cancelled);
    with_key(&server, "ann", "POST", PATH, &next).is_refusal(400, "cancelled");
    let (_, path) = begin();
    let deleted = with_key(&server, "ann", "DELETE", &path, &Value::Null).json();
    assert_eq!(deleted["deleted"], true);
    wait_until("its place is free", || in_flight() == 0);
    with_key(&server, "ann", "GET", &path, &Value::Null).is_refusal(404, "no response");
}

#[test]
fn what_does_not_go_together_is_refused_and_what_fails_is_told() {
    let server = simple(Kind::Parrot);
    for (field, value) in [("stream", json!(true)), ("store", json!(false))] {
        let mut body = in_background("Say hello.");
        body[field] = value;
        let error = post(server.address, PATH, &body).is_refusal(400, "with background");
        assert_eq!(error["param"], field);
    }
    // What is wrong with a call is said at once, and no response comes of it.
    let mut wrong = in_background("word ".repeat(3000).as_str());
    post(server.address, PATH, &wrong).is_refusal(400, "the context holds");
    wrong["input"] = json!([]);
    post(server.address, PATH, &wrong).is_refusal(400, "input");
    // A time limit ends it as any answer.
    let models = Models::new(None);
    models.offer(crate::house::offer("test", 0, Kind::Assistant, EngineOptions::default()));
    let request_time = std::time::Duration::from_millis(20);
    let server = run(llmos_serve::ServerOptions { request_time, ..options() }, models);
    wait_until("the model is there", || {
        post(server.address, "/v1/completions", &json!({ "prompt": "a", "max_tokens": 1 })).status
            == 200
    });
    let mut long = in_background("Tell me a story.");
    long["ignore_eos"] = true.into();
    let begun = post(server.address, PATH, &long).json();
    let mut found = Value::Null;
    wait_until("it has ended", || {
        found = get(server.address, &path_of(&begun)).json();
        !["queued", "in_progress"].contains(&found["status"].as_str().unwrap())
    });
    assert_eq!(found["status"], "failed");
    assert!(found["error"]["message"].as_str().unwrap().contains("longer than a request may"));
}
