//! The end of a server: what is short is finished, what is long is broken off and told so.

use std::net::TcpStream;
use std::time::{Duration, Instant};

use llmos_model::EngineOptions;
use llmos_serve::ServerOptions;
use serde_json::{Value, json};

use crate::client::{get, send_post};
use crate::house::{Kind, Running, options, serve};

const PATH: &str = "/v1/completions";

fn ask(tokens: u64, streamed: bool) -> Value {
    json!({
        "prompt": "Once", "max_tokens": tokens, "temperature": 1, "stream": streamed,
        "ignore_eos": true,
    })
}

fn server(slots: usize, grace: Duration) -> Running {
    let options = ServerOptions { slots, grace, ..options() };
    let engine = EngineOptions { cache_bytes: Some(64 << 20), ..EngineOptions::default() };
    serve(Kind::Endless, options, engine)
}

#[test]
fn what_is_short_is_finished_while_nobody_new_comes_in() {
    let mut server = server(4, Duration::from_secs(60));
    let mut short = send_post(server.address, PATH, &ask(300, true));
    short.wait_for("data: ");
    let address = server.address;
    let start = Instant::now();
    let rest = std::thread::scope(|scope| {
        scope.spawn(|| server.stop());
        short.rest()
    });
    assert!(rest.contains("data: [DONE]\n\n") && rest.ends_with("0\r\n\r\n"), "{rest:?}");
    assert!(start.elapsed() < Duration::from_secs(50), "it did not wait for its grace");
    assert!(TcpStream::connect(address).is_err());
}

#[test]
fn what_is_long_is_told_that_the_server_ended() {
    // One is written, streamed; one whole; one waits for a place.
    let mut server = server(2, Duration::from_millis(100));
    let mut streamed = send_post(server.address, PATH, &ask(1_000_000, true));
    streamed.wait_for("data: ");
    let whole = send_post(server.address, PATH, &ask(1_000_000, false));
    wait_for_flights(&server, 2);
    let waiting = send_post(server.address, PATH, &ask(1_000_000, false));
    wait_for_flights(&server, 3);
    server.stop();
    for reply in [whole.finish(), waiting.finish()] {
        reply.is_refusal(503, "the server ended");
        assert!(reply.header("retry-after").is_some());
    }
    let rest = streamed.rest();
    // The last event, and the end of a body that is whole.
    let last = rest.rsplit("data: ").next().unwrap();
    assert!(last.ends_with("\r\n0\r\n\r\n"), "{last:?}");
    let event = last.split("\n\n").next().unwrap();
    let error: Value = serde_json::from_str(event).unwrap_or_else(|_| panic!("{event:?}"));
    assert_eq!(error["error"]["type"], "server_error");
    assert!(!rest.contains("[DONE]"));
}

fn wait_for_flights(server: &Running, expected: u64) {
    let start = Instant::now();
    while get(server.address, "/readyz").json()["in_flight"] != expected {
        assert!(start.elapsed() < Duration::from_secs(30));
    }
}
