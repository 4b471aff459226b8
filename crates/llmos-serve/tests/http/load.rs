//! More than there is room for: queues, clients that go, time limits, the end.

use std::time::{Duration, Instant};

use llmos_model::EngineOptions;
use llmos_serve::{Models, ServerOptions};
use serde_json::{Value, json};

use crate::client::{get, post, send_post};
use crate::house::{Kind, Running, offer, options, run, serve};

const PATH: &str = "/v1/completions";

/// An answer that no test waits for: its end tokens never come.
fn endless() -> Value {
    json!({
        "prompt": "Once", "max_tokens": 1_000_000, "temperature": 1, "stream": true,
        "logit_bias": { "0": -100, "1": -100, "2": -100 },
    })
}

fn short() -> Value {
    json!({ "prompt": "Once", "max_tokens": 2, "temperature": 0 })
}

fn server(slots: usize, queue: usize) -> Running {
    serve(
        Kind::Endless,
        ServerOptions { slots, queue, ..options() },
        EngineOptions { cache_bytes: Some(64 << 20), ..EngineOptions::default() },
    )
}

/// Asks until so many are in flight.
#[track_caller]
fn wait_for_flights(server: &Running, expected: u64) {
    let start = Instant::now();
    loop {
        let found = get(server.address, "/readyz").json()["in_flight"].as_u64().unwrap();
        if found == expected {
            return;
        }
        assert!(start.elapsed() < Duration::from_secs(30), "{found} in flight");
    }
}

#[test]
fn who_finds_no_place_is_told_when_to_come_again_and_a_client_that_goes_leaves_its_own() {
    let server = server(1, 0);
    let mut first = send_post(server.address, PATH, &endless());
    first.wait_for("data: ");
    let refused = post(server.address, PATH, &short());
    let error = refused.is_refusal(429, "in flight");
    assert_eq!(error["code"], "rate_limit_exceeded");
    assert!(refused.header("retry-after").unwrap().parse::<u32>().unwrap() >= 1);
    drop(first);
    wait_for_flights(&server, 0);
    assert_eq!(post(server.address, PATH, &short()).status, 200);
    // The same for one that is not streamed, and for one that waits.
    let mut whole = endless();
    whole["stream"] = false.into();
    let second = send_post(server.address, PATH, &whole);
    wait_for_flights(&server, 1);
    drop(second);
    wait_for_flights(&server, 0);
}

#[test]
fn one_that_waits_comes_next_or_leaves_when_its_client_does() {
    let server = server(1, 2);
    let mut first = send_post(server.address, PATH, &endless());
    first.wait_for("data: ");
    let gone = send_post(server.address, PATH, &endless());
    wait_for_flights(&server, 2);
    drop(gone);
    wait_for_flights(&server, 1);
    let next = send_post(server.address, PATH, &short());
    wait_for_flights(&server, 2);
    drop(first);
    assert_eq!(next.finish().json()["usage"]["completion_tokens"], 2);
}

#[test]
fn an_answer_that_takes_too_long_is_given_up() {
    let options = ServerOptions { request_time: Duration::from_millis(300), ..options() };
    let server = serve(
        Kind::Endless,
        options,
        EngineOptions { cache_bytes: Some(64 << 20), ..EngineOptions::default() },
    );
    let mut whole = endless();
    whole["stream"] = false.into();
    let reply = post(server.address, PATH, &whole);
    reply.is_refusal(504, "longer than a request may");
    assert_eq!(reply.header("x-should-retry"), Some("false"));
    let streamed = post(server.address, PATH, &endless());
    assert_eq!(streamed.status, 200);
    let last = streamed.body.trim_end().rsplit("data: ").next().unwrap();
    let error: Value = serde_json::from_str(last).unwrap();
    assert_eq!(error["error"]["type"], "timeout_error");
    wait_for_flights(&server, 0);
}

#[test]
fn what_outgrows_the_memory_is_told_so_and_the_next_is_served() {
    let options = options();
    let server = serve(
        Kind::Endless,
        options,
        EngineOptions { cache_bytes: Some(256 << 10), ..EngineOptions::default() },
    );
    let mut whole = endless();
    whole["stream"] = false.into();
    post(server.address, PATH, &whole).is_refusal(400, "memory for keys and values");
    let long = json!({ "prompt": "word ".repeat(5000), "max_tokens": 2 });
    post(server.address, PATH, &long).is_refusal(400, "the context holds");
    assert_eq!(post(server.address, PATH, &short()).status, 200);
}

#[test]
fn a_server_that_stops_lets_what_is_short_end_and_breaks_off_the_rest() {
    let mut server = server(4, 4);
    let mut long = send_post(server.address, PATH, &endless());
    long.wait_for("data: ");
    let address = server.address;
    server.stop();
    assert!(!long.rest().contains("[DONE]"));
    assert!(std::net::TcpStream::connect(address).is_err());
}

#[test]
fn models_are_loaded_when_asked_for_and_let_go_of_when_memory_is_needed() {
    let models = Models::new(Some(100));
    for (id, bytes, kind) in [
        ("stories", 60, Kind::Stories),
        ("parrot", 60, Kind::Parrot),
        ("endless", 30, Kind::Endless),
        ("giant", 200, Kind::Stories),
    ] {
        let cache_bytes = Some(16 << 20);
        models.offer(offer(id, bytes, kind, EngineOptions { cache_bytes, ..Default::default() }));
    }
    let server = run(options(), models);
    let is_loaded = |id: &str| {
        get(server.address, &format!("/v1/models/{id}")).json()["loaded"].as_bool().unwrap()
    };
    let ask = |id: &str| {
        let mut body = short();
        body["model"] = id.into();
        post(server.address, PATH, &body)
    };
    assert!(!is_loaded("stories"));
    assert_eq!(ask("stories").status, 200);
    assert!(is_loaded("stories"));
    // Both together are too much, so the one that nobody uses goes.
    assert_eq!(ask("parrot").status, 200);
    assert!(is_loaded("parrot") && !is_loaded("stories"));
    ask("giant").is_refusal(503, "budget");
    // One that is in use stays.
    let mut body = endless();
    body["model"] = "endless".into();
    let mut busy = send_post(server.address, PATH, &body);
    busy.wait_for("data: ");
    assert!(is_loaded("parrot") && is_loaded("endless"));
    assert_eq!(ask("stories").status, 200);
    assert!(is_loaded("endless") && !is_loaded("parrot"));
    // Who names none gets the first.
    assert_eq!(post(server.address, PATH, &short()).json()["model"], "stories");
}
