//! One request for many answers: it gives way to another's, and is answered as if it had not.

use std::time::{Duration, Instant};

use llmos_model::EngineOptions;
use llmos_serve::{Key, Keys, Scope, ServerOptions};
use serde_json::{Value, json};

use crate::client::{Connection, request};
use crate::house::{Kind, Running, options, serve};

fn server(slots: usize) -> Running {
    let keys = ["ann", "bob"].map(|name| Key::of(name, name, Scope::Admin));
    let options = ServerOptions { keys: Keys::new(keys.into()), slots, ..options() };
    let cache_bytes = Some(64 << 20);
    serve(Kind::Endless, options, EngineOptions { cache_bytes, ..EngineOptions::default() })
}

fn send(server: &Running, key: &str, n: usize, tokens: usize) -> Connection {
    let body = json!({
        "prompt": "Once upon a time there was", "max_tokens": tokens, "temperature": 1, "n": n,
        "seed": 7, "logit_bias": { "0": -100, "1": -100, "2": -100 },
    });
    let key = format!("x-api-key: {key}");
    let headers = ["Host: localhost", "Content-Type: application/json", &key];
    let bytes = request("POST", "/v1/completions", &headers, body.to_string().as_bytes());
    Connection::send(server.address, &bytes)
}

/// The texts of an answer, in order.
fn texts(answer: &Value) -> Vec<String> {
    let mut choices = answer["choices"].as_array().unwrap().clone();
    choices.sort_by_key(|choice| choice["index"].as_u64());
    choices.iter().map(|choice| choice["text"].as_str().unwrap().to_string()).collect()
}

/// A number that the server tells at `/metrics`, summed over its labels.
fn told(server: &Running, name: &str) -> f64 {
    let headers = ["Host: localhost", "x-api-key: bob"];
    let bytes = request("GET", "/metrics", &headers, b"");
    let page = Connection::send(server.address, &bytes).finish().body;
    let lines = page.lines().filter(|line| line.starts_with(name));
    lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
}

#[track_caller]
fn wait_for_running(server: &Running, expected: f64) {
    let start = Instant::now();
    while told(server, "llmos_sequences_running") < expected {
        assert!(start.elapsed() < Duration::from_secs(30), "{expected} write");
    }
}

#[test]
fn a_request_for_sixteen_answers_gives_way_to_another_s_and_is_answered_as_without() {
    const N: usize = 16;
    let server = server(N);
    let alone = texts(&send(&server, "ann", N, 1000).finish().json());
    assert_eq!(alone.len(), N);
    let before = told(&server, "llmos_generated_tokens_total");
    let crowd = send(&server, "ann", N, 1000);
    wait_for_running(&server, N as f64);
    // One after another, and side by side.
    for _ in 0..3 {
        let small = send(&server, "bob", 1, 5).finish().json();
        assert_eq!(small["usage"]["completion_tokens"], 5);
    }
    let four = send(&server, "bob", 4, 20).finish().json();
    assert_eq!(texts(&four).len(), 4);
    let drawn = told(&server, "llmos_generated_tokens_total") - before;
    assert!(drawn < 1000.0, "{drawn} tokens in answers that are done: one of the crowd's is");
    assert_eq!(texts(&crowd.finish().json()), alone);
}

#[test]
fn two_that_want_all_places_share_them() {
    const N: usize = 8;
    let server = server(N);
    let alone = texts(&send(&server, "ann", N, 200).finish().json());
    let ann = send(&server, "ann", N, 200);
    wait_for_running(&server, N as f64);
    let bob = send(&server, "bob", N, 200);
    // All of them get all of their answers, the same ones, each in its own place.
    assert_eq!(texts(&bob.finish().json()), alone);
    assert_eq!(texts(&ann.finish().json()), alone);
    // With fewer places than answers nobody waits for the others to end.
    let long = send(&server, "ann", 7, 1_000_000);
    wait_for_running(&server, 7.0);
    assert_eq!(texts(&send(&server, "ann", N, 200).finish().json()), alone);
    drop(long);
}
