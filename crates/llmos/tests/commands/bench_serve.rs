//! `bench serve`: what it prints of our own server, and what it makes of others.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};

use serde_json::{Value, json};

use crate::program::{Folder, collect, command, finish, llmos, stories};
use crate::serve::address;

#[cfg(unix)]
#[test]
fn figures_of_our_own_server() {
    let home = Folder::new();
    let mut child = command(home.path(), &["serve", &stories(), "--port", "0"]).spawn().unwrap();
    let url = format!("http://{}/v1", address(&mut child));
    let given = [
        "bench",
        "serve",
        "--url",
        &url,
        "--clients",
        "1,3",
        "--prompt",
        "32",
        "--answer",
        "8",
        "--requests",
        "7",
        "--json",
    ];
    let rows = llmos(&given).json();
    let rows = rows.as_array().unwrap();
    assert_eq!(rows.len(), 2);
    const FIGURES: [&str; 5] =
        ["tokens_per_s", "ttft_ms_p50", "ttft_ms_p99", "inter_token_ms_p50", "inter_token_ms_p99"];
    for (row, clients) in rows.iter().zip([1, 3]) {
        let names: Vec<&str> = row.as_object().unwrap().keys().map(String::as_str).collect();
        let expected = [&["clients"][..], &FIGURES, &["requests", "errors"]].concat();
        assert_eq!(names, expected);
        assert_eq!((&row["clients"], &row["requests"]), (&json!(clients), &json!(7)));
        assert_eq!(row["errors"], 0);
        assert!(FIGURES.iter().all(|name| row[name].as_f64().is_some_and(|x| x >= 0.0)), "{row}");
        assert!(
            row["tokens_per_s"].as_f64() > Some(0.0) && row["ttft_ms_p50"].as_f64() > Some(0.0)
        );
        assert!(row["ttft_ms_p99"].as_f64() >= row["ttft_ms_p50"].as_f64(), "{row}");
    }
    // A prefix that the server knows costs less than one that it has to read.
    let shared = [
        "bench",
        "serve",
        "--url",
        &url,
        "--clients",
        "2",
        "--prompt",
        "8",
        "--answer",
        "2",
        "--shared-prefix",
        "400",
        "--requests",
        "4",
        "--json",
        "--model",
        "stories260K",
    ];
    let row = llmos(&shared).json()[0].clone();
    let (cold, known) =
        (row["ttft_cold_ms"].as_f64().unwrap(), row["ttft_shared_ms"].as_f64().unwrap());
    assert!(known > 0.0 && known < cold, "{row}");
    // For people: a heading and a row a number of clients.
    let text = llmos(&given[..given.len() - 1]).text();
    assert_eq!(text.lines().count(), 3, "{text}");
    // What does not fit is the server's to say.
    let long =
        ["bench", "serve", "--url", &url, "--clients", "1", "--prompt", "600", "--requests", "2"];
    llmos(&long).is_error("the context holds 512");
    let unknown = ["bench", "serve", "--url", &url, "--clients", "1", "--model", "nothing"];
    llmos(&unknown).is_error("no model");
    crate::interrupt::interrupt(&child);
    assert_eq!(collect(child).code, Some(0));
}

/// A server that answers every request by its path with one text.
fn canned(answer: fn(&str, &Value) -> (u16, String)) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            std::thread::spawn(move || {
                // A client that goes is none of the test's.
                let _ = one(stream, answer);
            });
        }
    });
    url
}

fn one(mut stream: TcpStream, answer: fn(&str, &Value) -> (u16, String)) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let path = line.split(' ').nth(1).unwrap_or_default().to_string();
    let mut length = 0;
    loop {
        line.clear();
        reader.read_line(&mut line)?;
        if line.trim().is_empty() {
            break;
        }
        if let Some(value) = line.to_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap_or(0);
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    let (status, text) = answer(&path, &serde_json::from_slice(&body).unwrap_or_default());
    write!(
        stream,
        "HTTP/1.1 {status} x\r\nContent-Type: text/event-stream\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{text}",
        text.len()
    )
}

fn event(value: &Value) -> String {
    format!("data: {value}\n\n")
}

/// A model with a list, of which conversations alone can be had; answers have what was asked for.
fn talker(path: &str, body: &Value) -> (u16, String) {
    match path {
        "/v1/models" => (200, json!({ "data": [{ "id": "talker" }] }).to_string()),
        "/v1/chat/completions" => {
            assert!(body["messages"][0]["content"].is_string() && body["model"] == "talker");
            let tokens = body["max_tokens"].as_u64().unwrap_or(0);
            let mut text = event(&json!({ "choices": [{ "delta": { "role": "assistant" } }] }));
            for _ in 0..tokens {
                text += &event(&json!({ "choices": [{ "delta": { "content": " a" } }] }));
            }
            text += &event(
                &json!({ "choices": [], "usage": { "prompt_tokens": 99, "completion_tokens": tokens } }),
            );
            (200, text + "data: [DONE]\n\n")
        }
        _ => (404, json!({ "error": { "message": "no such path" } }).to_string()),
    }
}

/// A model that is done before it should be.
fn brief(path: &str, body: &Value) -> (u16, String) {
    match path {
        "/v1/completions" => {
            let tokens = body["max_tokens"].as_u64().unwrap_or(0).min(3);
            let text = event(&json!({ "choices": [{ "text": " a" }] })).repeat(tokens as usize);
            (200, text + "data: [DONE]\n\n")
        }
        _ => (404, "nothing".to_string()),
    }
}

fn bench(url: &str, more: &[&str]) -> crate::program::Output {
    let given =
        [&["bench", "serve", "--url", url, "--clients", "2", "--requests", "5"], more].concat();
    let home = Folder::new();
    finish(command(home.path(), &given), b"")
}

#[test]
fn a_server_that_only_talks_is_talked_with() {
    let url = canned(talker);
    let output = bench(&url, &["--json"]);
    let row = output.json()[0].clone();
    assert_eq!((&row["requests"], &row["errors"]), (&json!(5), &json!(0)));
    assert!(output.stderr.contains("conversations"), "{}", output.stderr);
    // Its count of the prompt is not what was meant.
    assert!(output.stderr.contains("99 tokens where 256"), "{}", output.stderr);
}

#[test]
fn answers_that_are_too_short_are_errors() {
    let url = canned(brief);
    bench(&url, &["--model", "brief"]).is_error("3 tokens came, 64 were asked for");
    let sound = bench(&url, &["--model", "brief", "--answer", "3", "--json"]).json();
    assert_eq!(sound[0]["errors"], 0);
    bench(&url, &[]).is_error("404");
}

#[test]
fn a_server_that_is_not_there_is_an_error() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", taken.local_addr().unwrap());
    drop(taken);
    bench(&url, &[]).is_error(&url);
    bench("ftp://x", &[]).is_error("no address");
    assert_eq!(bench(&url, &["--seconds", "1"]).code, Some(2));
}
