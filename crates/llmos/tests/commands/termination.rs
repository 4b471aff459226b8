//! SIGTERM, which service managers send: an answer that is under way is finished, and the server ends
//! well.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Child;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::program::{Folder, collect, command, repository, stories};
use crate::serve::address;

fn signal(child: &Child, name: &str) {
    let kill = format!("kill -{name} {}", child.id());
    assert!(std::process::Command::new("sh").args(["-c", &kill]).status().unwrap().success());
}

/// Begins an answer, and waits for its first words.
fn begin(address: &str) -> (TcpStream, Vec<u8>) {
    let body = json!({
        "prompt": "Once upon a time", "max_tokens": 400, "temperature": 0, "stream": true, "ignore_eos": true,
    })
    .to_string();
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let head = format!(
        "POST /v1/completions HTTP/1.1\r\nHost: {address}\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(head.as_bytes()).unwrap();
    let mut seen = vec![0; 300];
    stream.read_exact(&mut seen).unwrap();
    (stream, seen)
}

#[cfg(unix)]
#[test]
fn a_termination_ends_in_good_order_as_an_interrupt_does() {
    for name in ["TERM", "INT", "HUP"] {
        let home = Folder::new();
        let given = ["serve", &stories(), "--port", "0", "--grace", "60"];
        let mut child = command(home.path(), &given).spawn().unwrap();
        let address = address(&mut child);
        let (mut stream, mut seen) = begin(&address);
        signal(&child, name);
        stream.read_to_end(&mut seen).unwrap();
        let text = String::from_utf8_lossy(&seen);
        assert!(text.contains("data: [DONE]\n\n") && text.ends_with("0\r\n\r\n"), "{name}: {text}");
        let output = collect(child);
        assert_eq!(output.code, Some(0), "{name}: {}", output.stderr);
        assert!(TcpStream::connect(&address).is_err());
    }
}

#[cfg(unix)]
#[test]
fn what_is_not_finished_within_the_grace_is_told_so() {
    let home = Folder::new();
    let given = ["serve", &stories(), "--port", "0", "--grace", "0"];
    let mut child = command(home.path(), &given).spawn().unwrap();
    let address = address(&mut child);
    let (mut stream, mut seen) = begin(&address);
    let start = Instant::now();
    signal(&child, "TERM");
    stream.read_to_end(&mut seen).unwrap();
    let text = String::from_utf8_lossy(&seen);
    // A fast machine may have finished it.
    assert!(text.contains("the server ended") || text.contains("[DONE]"), "{text}");
    assert!(text.ends_with("0\r\n\r\n"), "{text}");
    assert_eq!(collect(child).code, Some(0));
    assert!(start.elapsed() < Duration::from_secs(30));
}

#[cfg(unix)]
#[test]
fn by_tls_a_client_that_trusts_the_authority_is_answered_and_another_is_not() {
    let home = Folder::new();
    let file = |name: &str| repository("testdata/tls").join(name).display().to_string();
    let (chain, key) = (file("server.pem"), file("server-key.pem"));
    let given = ["serve", &stories(), "--port", "0", "--tls-cert", &chain, "--tls-key", &key];
    let mut child = command(home.path(), &given).spawn().unwrap();
    let mut line = String::new();
    let mut stdout = std::io::BufReader::new(child.stdout.take().unwrap());
    std::io::BufRead::read_line(&mut stdout, &mut line).unwrap();
    let port = line.trim().strip_prefix("https://127.0.0.1:").unwrap();
    let url = format!("https://localhost:{port}");
    let given = [
        "bench",
        "serve",
        "--url",
        &url,
        "--clients",
        "2",
        "--prompt",
        "8",
        "--answer",
        "4",
        "--json",
    ];
    let mut trusting = command(home.path(), &given);
    trusting.env("SSL_CERT_FILE", file("authority.pem"));
    let rows = crate::program::finish(trusting, b"").json();
    assert_eq!((&rows[0]["requests"], &rows[0]["errors"]), (&json!(8), &json!(0)));
    let mut strange = command(home.path(), &given);
    strange.env_remove("SSL_CERT_FILE");
    crate::program::finish(strange, b"").is_error("ertificate");
    signal(&child, "TERM");
    assert_eq!(collect(child).code, Some(0));
}

#[test]
fn a_certificate_that_cannot_be_used_is_said() {
    let file = |name: &str| repository("testdata/tls").join(name).display().to_string();
    let (chain, other) = (file("server.pem"), file("other-key.pem"));
    let check = |given: &[&str], words: &str| {
        let model = stories();
        let given = [&["serve", model.as_str(), "--port", "0"], given].concat();
        crate::program::llmos(&given).is_error(words);
    };
    check(&["--tls-cert", &chain, "--tls-key", &other], "the certificate and the key");
    check(&["--tls-cert", &chain, "--tls-key", "no-such-file"], "no-such-file");
    let lone = crate::program::llmos(&["serve", &stories(), "--tls-cert", &chain]);
    assert_eq!(lone.code, Some(2), "{}", lone.stderr);
}
