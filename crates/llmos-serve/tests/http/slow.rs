//! Clients that take their time, and heads of requests that are none.

use std::io::Read;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use llmos_model::EngineOptions;
use llmos_serve::ServerOptions;
use serde_json::json;

use crate::client::{Connection, get, post, send_post};
use crate::house::{Kind, Running, options, serve};

const SHORT: Duration = Duration::from_millis(300);
const LONG: Duration = Duration::from_secs(30);

fn server(options: ServerOptions) -> Running {
    let engine = EngineOptions { cache_bytes: Some(64 << 20), ..EngineOptions::default() };
    serve(Kind::Endless, options, engine)
}

/// Sends a byte after another for as long as somebody takes them.
fn drip(server: &Running, begin: &str) -> (Connection, Duration) {
    let mut connection = Connection::send(server.address, begin.as_bytes());
    let start = Instant::now();
    while start.elapsed() < LONG && connection.push(b"x") {
        std::thread::sleep(Duration::from_millis(20));
    }
    (connection, start.elapsed())
}

#[test]
fn a_byte_now_and_then_is_not_waited_for() {
    let server = server(ServerOptions { head_time: SHORT, body_time: SHORT, ..options() });
    let head = "POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nX-Long: ";
    let (_, time) = drip(&server, head);
    assert!(time < LONG, "the head of a request came for {time:?}");
    let body = format!("{head}x\r\nContent-Length: 1000000\r\nConnection: close\r\n\r\n{{");
    let (connection, time) = drip(&server, &body);
    assert!(time < LONG, "the body of a request came for {time:?}");
    let refused = connection.finish();
    assert!(refused.status == 408 || refused.status == 0, "{refused:?}");
    assert_eq!(get(server.address, "/readyz").json()["in_flight"], 0);
}

#[test]
fn connections_that_say_nothing_make_room() {
    let server = server(ServerOptions { head_time: SHORT, connections: 4, ..options() });
    let mut silent: Vec<TcpStream> =
        (0..4).map(|_| TcpStream::connect(server.address).unwrap()).collect();
    for stream in &mut silent {
        stream.set_read_timeout(Some(LONG)).unwrap();
        // The server ends it; what it may say first does not matter.
        let mut rest = Vec::new();
        assert!(stream.read_to_end(&mut rest).is_ok());
    }
    assert_eq!(get(server.address, "/healthz").status, 200);
    // One that was answered may ask again, but not be silent for ever.
    let idle = "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let reply = Connection::send(server.address, idle.as_bytes()).rest();
    assert!(reply.starts_with("HTTP/1.1 200"), "{reply}");
}

#[test]
fn who_does_not_read_loses_its_place() {
    let server = server(ServerOptions { slots: 1, queue: 0, stall_time: SHORT, ..options() });
    let body = json!({
        "prompt": "Once", "max_tokens": 1_000_000, "temperature": 1, "stream": true, "ignore_eos": true,
        "logprobs": 20,
    });
    let unread = send_post(server.address, "/v1/completions", &body);
    let start = Instant::now();
    let short = json!({ "prompt": "Once", "max_tokens": 2 });
    while post(server.address, "/v1/completions", &short).status != 200 {
        assert!(start.elapsed() < Duration::from_secs(120), "its place is still taken");
        std::thread::sleep(Duration::from_millis(50));
    }
    drop(unread);
}

/// CVE-2025-48956, and requests that a proxy and a server would read in two ways.
#[test]
fn heads_have_limits_and_one_meaning() {
    let server = server(ServerOptions { head_time: Duration::from_secs(5), ..options() });
    let many: String = (0..200).map(|i| format!("X-{i}: 1\r\n")).collect();
    let body = "{\"prompt\":\"Once\",\"max_tokens\":1}";
    let length = body.len();
    for (what, lines) in [
        ("many lines", many),
        ("a long line", format!("X: {}\r\n", "x".repeat(10 << 20))),
        ("two lengths", format!("Content-Length: {length}\r\nContent-Length: 5\r\n")),
        ("a length that is none", "Content-Length: -1\r\n".to_string()),
        ("a signed length", format!("Content-Length: +{length}\r\n")),
        ("an endless length", "Content-Length: 99999999999999999999999\r\n".to_string()),
        ("an unknown encoding", "Transfer-Encoding: x, y\r\n".to_string()),
        ("a blank in a name", format!("Content-Length : {length}\r\n")),
        ("a folded line", format!("X: a\r\n b\r\nContent-Length: {length}\r\n")),
        ("a control sign", format!("X: a\0b\r\nContent-Length: {length}\r\n")),
        ("two hosts", format!("Host: localhost\r\nContent-Length: {length}\r\n")),
    ] {
        let text = format!(
            "POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
             Connection: close\r\n{lines}\r\n{body}"
        );
        let reply = Connection::send(server.address, text.as_bytes()).finish();
        assert!(reply.status == 0 || (400..500).contains(&reply.status), "{what}: {reply:?}");
    }
    // With both kinds of length the chunks count, and what follows them is not another request.
    let chunked = format!(
        "POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
         Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n{length:x}\r\n{body}\r\n0\r\n\r\n\
         GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    );
    let replies = Connection::send(server.address, chunked.as_bytes()).rest();
    let answers = replies.matches("HTTP/1.1 ").count();
    assert!(answers == 1, "{answers} answers: {replies}");
    for line in [
        "GET /healthz\r\n\r\n",
        "GET  /healthz HTTP/1.1\r\n\r\n",
        "\0\r\n\r\n",
        "GET /healthz HTTP/9.9\r\n\r\n",
    ] {
        let reply = Connection::send(server.address, line.as_bytes()).rest();
        assert!(reply.is_empty() || reply.starts_with("HTTP/1.1 4"), "{line:?}: {reply}");
    }
    assert_eq!(get(server.address, "/healthz").status, 200);
}
