//! `llmos serve`: the address comes first, the numbers are those of other commands, and it ends in
//! good order.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::Child;

use serde_json::{Value, json};

use crate::program::{Folder, collect, command, finish, llmos, llmos_with, stories};

/// The address that a server says first.
pub(crate) fn address(child: &mut Child) -> String {
    let mut line = String::new();
    BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    line.trim().strip_prefix("http://").unwrap_or_else(|| panic!("{line:?}")).to_string()
}

pub(crate) fn ask(address: &str, method: &str, path: &str, body: &Value) -> Value {
    let mut stream = TcpStream::connect(address).unwrap();
    let body = if body.is_null() { String::new() } else { body.to_string() };
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).unwrap();
    let mut reply = String::new();
    stream.read_to_string(&mut reply).unwrap();
    let (_, body) = reply.split_once("\r\n\r\n").unwrap();
    serde_json::from_str(body).unwrap_or_else(|_| panic!("{reply}"))
}

#[cfg(unix)]
#[test]
fn a_server_says_where_it_is_answers_as_other_commands_do_and_ends_when_asked() {
    let home = Folder::new();
    let model = stories();
    let mut child = command(home.path(), &["serve", &model, "--port", "0"]).spawn().unwrap();
    let address = address(&mut child);
    let models = ask(&address, "GET", "/v1/models", &Value::Null);
    assert_eq!(models["data"][0]["id"], "stories260K");
    let text = "Once upon a time there was a dog.";
    let scored = ask(&address, "POST", "/v1/score", &json!({ "text": text }));
    let expected = llmos_with(&["score", &model, "--each", "--json"], text.as_bytes()).json();
    assert_eq!(scored, expected);
    let next = ask(&address, "POST", "/v1/next", &json!({ "prompt": "The cat sat", "top": 5 }));
    let expected = llmos(&["next", &model, "-p", "The cat sat", "--top", "5", "--json"]).json();
    assert_eq!(next, expected);
    let body = json!({ "prompt": "Once upon", "max_tokens": 20, "temperature": 0 });
    let answer = ask(&address, "POST", "/v1/completions", &body);
    let given = ["run", &model, "-p", "Once upon", "--tokens", "20", "--temp", "0"];
    let expected = llmos(&given).text();
    let text = answer["choices"][0]["text"].as_str().unwrap();
    assert!(expected.trim_end().ends_with(text.trim_end()), "{expected:?} {text:?}");
    crate::interrupt::interrupt(&child);
    let output = collect(child);
    assert_eq!(output.code, Some(0), "{}", output.stderr);
    assert!(output.stderr.contains("serving 1 model (stories260K)"), "{}", output.stderr);
}

#[cfg(unix)]
#[test]
fn without_a_model_the_bundled_ones_are_served() {
    let home = Folder::new();
    let mut child = command(home.path(), &["serve", "--port", "0", "-q"]).spawn().unwrap();
    let address = address(&mut child);
    let models = ask(&address, "GET", "/v1/models", &Value::Null);
    let ids: Vec<&str> = models["data"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|model| model["id"].as_str())
        .collect();
    assert_eq!(ids, ["assistant", "stories260K"]);
    let body = json!({ "messages": [{ "role": "user", "content": "Who are you?" }],
                       "temperature": 0, "max_tokens": 40 });
    let answer = ask(&address, "POST", "/v1/chat/completions", &body);
    assert_eq!(answer["model"], "assistant");
    assert!(!answer["choices"][0]["message"]["content"].as_str().unwrap().is_empty());
    crate::interrupt::interrupt(&child);
    assert_eq!(collect(child).code, Some(0));
}

#[test]
fn what_cannot_be_served_is_said() {
    let model = stories();
    llmos(&["serve", &model, "--host", "0.0.0.0"]).is_error("can be reached by others");
    llmos(&["serve", &model, &model]).is_error("two models are called stories260K");
    llmos(&["serve", "no-such-model"]).is_error("there is no file and no model");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    llmos(&["serve", &model, "--port", &port]).is_error("cannot listen on 127.0.0.1");
    let home = Folder::new();
    for (flag, value) in [("--slots", "0"), ("--host", "everywhere"), ("--port", "70000")] {
        let output = finish(command(home.path(), &["serve", &model, flag, value]), b"");
        assert_eq!(output.code, Some(2), "{flag}");
    }
}
