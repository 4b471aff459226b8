//! A hub with one model, which it sends piece by piece, each at a word of the test.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};

use serde_json::json;

use crate::house::repository;
use crate::pipe::PATIENCE;

/// Has the repository `o/r` with the file `tiny.gguf`.
pub(crate) struct Hub {
    /// `http://127.0.0.1:PORT`.
    pub(crate) url: String,
    go: Option<Sender<()>>,
}

/// Pieces of the file.
const PIECES: usize = 16;

impl Hub {
    pub(crate) fn start() -> Hub {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let bytes = std::fs::read(repository("models/assistant.gguf")).unwrap();
        let (go, wait) = channel();
        let wait = Arc::new(Mutex::new(wait));
        let bytes = Arc::new(bytes);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (bytes, wait) = (bytes.clone(), wait.clone());
                // Whoever hangs up has what it wants.
                std::thread::spawn(move || drop(serve(stream, &bytes, &wait)));
            }
        });
        Hub { url, go: Some(go) }
    }

    /// Lets a piece go.
    pub(crate) fn go_on(&self) {
        self.go.as_ref().unwrap().send(()).unwrap();
    }

    /// Lets the rest go.
    pub(crate) fn finish(&mut self) {
        self.go = None;
    }
}

/// Answers the one request of a connection.
fn serve(stream: TcpStream, bytes: &[u8], wait: &Mutex<Receiver<()>>) -> std::io::Result<()> {
    let mut lines = BufReader::new(stream.try_clone()?).lines();
    let request = lines.next().transpose()?.unwrap_or_default();
    while lines.next().transpose()?.is_some_and(|line| !line.is_empty()) {}
    let mut words = request.split(' ');
    let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let mut say = &stream;
    let length = bytes.len();
    let listing = json!({ "siblings": [{ "rfilename": "tiny.gguf", "size": length }] }).to_string();
    let (status, body) = if path.starts_with("/api/models/o/r/revision/main") {
        ("200 OK", listing.as_bytes())
    } else if path == "/o/r/resolve/main/tiny.gguf" {
        ("200 OK", bytes)
    } else {
        ("404 Not Found", &b""[..])
    };
    write!(
        say,
        "HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    )?;
    if method == "HEAD" {
        return Ok(());
    }
    if body.len() != length {
        return say.write_all(body);
    }
    for piece in body.chunks(length.div_ceil(PIECES)) {
        say.write_all(piece)?;
        // Whoever sends the words has gone: no more are waited for.
        let _ = wait.lock().unwrap().recv_timeout(PATIENCE);
    }
    Ok(())
}
