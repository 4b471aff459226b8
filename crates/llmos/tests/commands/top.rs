//! `top`: how a running server stands, without a terminal.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;

use serde_json::json;

use crate::interrupt::interrupt;
use crate::program::{Folder, collect, command, finish, llmos, stories};
use crate::serve::{address, ask};

#[cfg(unix)]
#[test]
fn a_running_server_is_looked_at() {
    let home = Folder::new();
    let given = ["serve", &stories(), "--port", "0", "-q"];
    let mut child = command(home.path(), &given).spawn().unwrap();
    let address = address(&mut child);
    let body = json!({ "prompt": "Once upon", "max_tokens": 20, "temperature": 0 });
    assert_eq!(ask(&address, "POST", "/v1/completions", &body)["usage"]["completion_tokens"], 20);
    ask(&address, "POST", "/v1/completions", &json!({ "model": "nothing" }));
    let url = format!("http://{address}");
    let given = ["top", &url, "--once", "--every", "0.05"];
    let mut json = given.to_vec();
    json.push("--json");
    let standing = llmos(&json).json();
    assert_eq!(standing["models"][0]["id"], "stories260K");
    assert_eq!(standing["models"][0]["is_loaded"], true);
    assert_eq!((&standing["requests"], &standing["in_flight"]), (&2.0.into(), &0.0.into()));
    assert_eq!(standing["refusals"]["model_not_found"], 1.0);
    assert!(standing["first_token_ms"]["p50"].as_f64().unwrap() > 0.0, "{standing}");
    assert!(standing["memory_bytes"].as_f64().unwrap() > 0.0, "{standing}");
    let lines = llmos(&given).text();
    assert!(lines.starts_with(&url), "{lines}");
    for words in ["model stories260K: loaded", "tok/s", "model_not_found: 1", "slots 0 of 16"] {
        assert!(lines.contains(words), "{words} not in {lines}");
    }
    // Without --once a line a look, until its reader goes away.
    let given = ["top", &address, "--every", "0.05"];
    let mut watching = command(home.path(), &given).spawn().unwrap();
    let mut lines = BufReader::new(watching.stdout.take().unwrap()).lines();
    for _ in 0..3 {
        assert!(lines.next().unwrap().unwrap().starts_with("requests "));
    }
    drop(lines);
    assert_eq!(collect(watching).code, Some(0));
    interrupt(&child);
    assert_eq!(collect(child).code, Some(0));
}

#[test]
fn what_is_no_server_of_ours_is_said() {
    llmos(&["top", "http://127.0.0.1:9", "--once"]).is_error("no server answers");
    let stranger = |reply: &'static str| {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        std::thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                let mut line = String::new();
                let mut reader = BufReader::new(stream.try_clone().unwrap());
                while reader.read_line(&mut line).is_ok_and(|n| n > 2) {}
                let _ = write!(
                    stream,
                    "HTTP/1.1 {reply}\r\nConnection: close\r\n\r\n<html> hello </html>"
                );
            }
        });
        address
    };
    llmos(&["top", &stranger("200 OK"), "--once"]).is_error("expected a sample");
    llmos(&["top", &stranger("404 Not Found"), "--once"]).is_error("answers 404");
    llmos(&["top", &stranger("401 Unauthorized"), "--once"]).is_error("does not let us look");
    llmos(&["top", &stranger("403 Forbidden"), "--once"]).is_error("a key of the scope admin");
    let home = Folder::new();
    for bad in [["--every", "0"], ["--every", "x"]] {
        let output = finish(command(home.path(), &["top", bad[0], bad[1]]), b"");
        assert_eq!(output.code, Some(2));
    }
}
