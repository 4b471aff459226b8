//! A client without a library: what goes over the wire is what is written here.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::Value;

/// What came back.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Reply {
    /// The body of an answer that says yes.
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        assert_eq!(self.status, 200, "{}", self.body);
        serde_json::from_str(&self.body).unwrap()
    }

    /// An error in OpenAI's shape, of this status, with these words.
    #[track_caller]
    pub(crate) fn is_refusal(&self, status: u16, words: &str) -> Value {
        assert_eq!(self.status, status, "{self:?}");
        let error = serde_json::from_str::<Value>(&self.body).unwrap()["error"].clone();
        let message = error["message"].as_str().unwrap();
        assert!(message.contains(words), "{words:?} not in {message}");
        assert!(error["type"].is_string() && error["hint"].is_string(), "{error}");
        assert!(error.get("param").is_some() && error.get("code").is_some(), "{error}");
        error
    }

    /// A header's value.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then_some(value.trim())
        })
    }

    /// The events of a stream; the last must be `[DONE]`.
    #[track_caller]
    pub(crate) fn events(&self) -> Vec<Value> {
        assert_eq!(self.status, 200, "{}", self.body);
        assert_eq!(self.header("content-type"), Some("text/event-stream"));
        let mut events: Vec<&str> = self
            .body
            .split_terminator("\n\n")
            .map(|event| event.strip_prefix("data: ").unwrap())
            .collect();
        assert_eq!(events.pop(), Some("[DONE]"));
        events.into_iter().map(|event| serde_json::from_str(event).unwrap()).collect()
    }
}

impl Reply {
    /// The events of a stream with names, each of which is the event's type.
    #[track_caller]
    pub(crate) fn named_events(&self) -> Vec<Value> {
        assert_eq!(self.status, 200, "{}", self.body);
        assert_eq!(self.header("content-type"), Some("text/event-stream"));
        let events = self.body.split_terminator("\n\n").map(|event| {
            let (name, data) = event.split_once("\ndata: ").unwrap();
            let value: Value = serde_json::from_str(data).unwrap();
            assert_eq!(name.strip_prefix("event: "), value["type"].as_str());
            value
        });
        events.collect()
    }

    /// The lines of a stream of JSON.
    #[track_caller]
    pub(crate) fn lines(&self) -> Vec<Value> {
        assert_eq!(self.status, 200, "{}", self.body);
        assert_eq!(self.header("content-type"), Some("application/x-ndjson"));
        self.body.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

/// A connection on which a request was sent.
pub(crate) struct Connection {
    stream: TcpStream,
}

impl Connection {
    pub(crate) fn send(address: SocketAddr, bytes: &[u8]) -> Connection {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        // A server that refuses may close before all is sent.
        let _ = stream.write_all(bytes);
        Connection { stream }
    }

    /// Waits until the answer holds `text`.
    pub(crate) fn wait_for(&mut self, text: &str) {
        let mut seen = Vec::new();
        let mut buffer = [0; 4096];
        while !String::from_utf8_lossy(&seen).contains(text) {
            let n = self.stream.read(&mut buffer).unwrap();
            assert!(n > 0, "{text:?} not in {}", String::from_utf8_lossy(&seen));
            seen.extend_from_slice(&buffer[..n]);
        }
    }

    /// All that still comes, as it comes.
    pub(crate) fn rest(mut self) -> String {
        let mut bytes = Vec::new();
        let _ = self.stream.read_to_end(&mut bytes);
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Sends more; false once the other side does not take it.
    pub(crate) fn push(&mut self, bytes: &[u8]) -> bool {
        self.stream.write_all(bytes).is_ok()
    }

    /// All that comes.
    pub(crate) fn finish(mut self) -> Reply {
        let mut bytes = Vec::new();
        // A connection that is cut off has what it has.
        let _ = self.stream.read_to_end(&mut bytes);
        reply(&bytes)
    }
}

pub(crate) fn reply(bytes: &[u8]) -> Reply {
    let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else {
        return Reply { status: 0, head: String::new(), body: String::new() };
    };
    let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    let mut rest = &bytes[end + 4..];
    let is_chunked = head.to_lowercase().contains("transfer-encoding: chunked");
    let body = match is_chunked {
        false => rest.to_vec(),
        true => {
            let mut body = Vec::new();
            while let Some(at) = rest.windows(2).position(|two| two == b"\r\n") {
                let size = std::str::from_utf8(&rest[..at]).unwrap();
                let size = usize::from_str_radix(size.trim(), 16).unwrap();
                if size == 0 || rest.len() < at + 2 + size {
                    break;
                }
                body.extend_from_slice(&rest[at + 2..][..size]);
                rest = &rest[(at + 2 + size + 2).min(rest.len())..];
            }
            body
        }
    };
    Reply { status, head, body: String::from_utf8(body).unwrap() }
}

/// A request with these header lines.
pub(crate) fn request(method: &str, path: &str, headers: &[&str], body: &[u8]) -> Vec<u8> {
    let mut text = format!("{method} {path} HTTP/1.1\r\nConnection: close\r\n");
    for header in headers {
        text += &format!("{header}\r\n");
    }
    if !body.is_empty() || method == "POST" {
        text += &format!("Content-Length: {}\r\n", body.len());
    }
    let mut bytes = (text + "\r\n").into_bytes();
    bytes.extend_from_slice(body);
    bytes
}

/// The header lines of an ordinary client.
pub(crate) const PLAIN: [&str; 2] = ["Host: localhost", "Content-Type: application/json"];

pub(crate) fn post(address: SocketAddr, path: &str, body: &Value) -> Reply {
    send_post(address, path, body).finish()
}

pub(crate) fn send_post(address: SocketAddr, path: &str, body: &Value) -> Connection {
    Connection::send(address, &request("POST", path, &PLAIN, body.to_string().as_bytes()))
}

pub(crate) fn get(address: SocketAddr, path: &str) -> Reply {
    Connection::send(address, &request("GET", path, &["Host: localhost"], b"")).finish()
}

pub(crate) fn delete(address: SocketAddr, path: &str) -> Reply {
    Connection::send(address, &request("DELETE", path, &["Host: localhost"], b"")).finish()
}
