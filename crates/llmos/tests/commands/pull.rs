//! `pull` from a server that behaves as the hub does, or worse.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use sha2::{Digest, Sha256};

use crate::program::{Folder, Output, collect, command, finish, stories};

/// What the server does with the bytes of a file.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Mood {
    /// Sends them.
    Fine,
    /// Sends this many, and closes the connection; fine the next time.
    CutOnce(usize),
    /// Sends this many, and then nothing, with the connection open; fine the next time.
    StallOnce(usize),
    /// Knows nothing of ranges, after having cut once.
    NoRange(usize),
    /// Has files and nothing else: no listing, no answer to HEAD.
    FilesAlone,
}

pub(crate) struct Hub {
    address: String,
    /// Where each request for the bytes of a file asked to begin.
    asked: Arc<Mutex<Vec<Option<usize>>>>,
}

impl Hub {
    /// Serves repository `o/r` with these files; `promise` is what it says of a file's SHA-256.
    pub(crate) fn new(files: &[(&str, Vec<u8>)], mood: Mood, promise: fn(&[u8]) -> String) -> Hub {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let files: HashMap<String, Vec<u8>> =
            files.iter().map(|(name, bytes)| ((*name).to_string(), bytes.clone())).collect();
        let (files, log, mood) = (Arc::new(files), asked.clone(), Arc::new(Mutex::new(mood)));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (files, log, mood) = (files.clone(), log.clone(), mood.clone());
                std::thread::spawn(move || {
                    // A client that hangs up is part of the game.
                    let _ = serve(stream, &files, &log, &mood, promise);
                });
            }
        });
        Hub { address, asked }
    }

    pub(crate) fn command(&self, home: &Folder, arguments: &[&str]) -> Command {
        let mut command = command(home.path(), arguments);
        command.env("HF_ENDPOINT", format!("http://{}", self.address));
        command
    }

    pub(crate) fn run(&self, home: &Folder, arguments: &[&str]) -> Output {
        finish(self.command(home, arguments), b"")
    }

    pub(crate) fn asked(&self) -> Vec<Option<usize>> {
        self.asked.lock().unwrap().clone()
    }
}

pub(crate) fn honest(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn lying(_bytes: &[u8]) -> String {
    "0".repeat(64)
}

const COMMIT: &str = "0123456789012345678901234567890123456789";

fn serve(
    mut stream: TcpStream,
    files: &HashMap<String, Vec<u8>>,
    asked: &Mutex<Vec<Option<usize>>>,
    mood: &Mutex<Mood>,
    promise: fn(&[u8]) -> String,
) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Ok(());
        }
        let mut range = None;
        loop {
            let mut header = String::new();
            reader.read_line(&mut header)?;
            let header = header.trim().to_lowercase();
            if header.is_empty() {
                break;
            }
            if let Some(bytes) = header.strip_prefix("range: bytes=") {
                range = bytes.trim_end_matches('-').parse::<usize>().ok();
            }
        }
        let mut words = line.split_whitespace();
        let (method, path) = (words.next().unwrap_or(""), words.next().unwrap_or(""));
        let files_alone = *mood.lock().unwrap() == Mood::FilesAlone;
        if files_alone && (method == "HEAD" || path.starts_with("/api/")) {
            let status = if method == "HEAD" { "405 Method Not Allowed" } else { "404 Not Found" };
            write!(stream, "HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n")?;
        } else if path.starts_with("/api/models/o/r/revision/") {
            let siblings: Vec<serde_json::Value> = files
                .iter()
                .map(|(name, bytes)| {
                    serde_json::json!({
                        "rfilename": name,
                        "size": bytes.len(),
                        "lfs": { "sha256": promise(bytes), "size": bytes.len() },
                    })
                })
                .collect();
            let body = serde_json::json!({ "sha": COMMIT, "siblings": siblings }).to_string();
            write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len())?;
        } else if let Some(name) = [COMMIT, "main"]
            .iter()
            .find_map(|revision| path.strip_prefix(&format!("/o/r/resolve/{revision}/")))
        {
            let Some(bytes) = files.get(name) else {
                write!(stream, "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")?;
                continue;
            };
            write!(
                stream,
                "HTTP/1.1 302 Found\r\nLocation: /store/{name}\r\nX-Linked-Etag: \"{}\"\r\n\
                 X-Linked-Size: {}\r\nContent-Length: 0\r\n\r\n",
                promise(bytes),
                bytes.len()
            )?;
        } else if let Some(bytes) = path.strip_prefix("/store/").and_then(|name| files.get(name)) {
            assert_eq!(method, "GET");
            asked.lock().unwrap().push(range);
            let now = *mood.lock().unwrap();
            let from = if matches!(now, Mood::NoRange(_)) { 0 } else { range.unwrap_or(0) };
            let status = if from > 0 {
                format!(
                    "206 Partial Content\r\nContent-Range: bytes {from}-{}/{}",
                    bytes.len() - 1,
                    bytes.len()
                )
            } else {
                "200 OK".to_string()
            };
            write!(stream, "HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n", bytes.len() - from)?;
            let first = asked.lock().unwrap().len() == 1;
            match now {
                Mood::CutOnce(count) | Mood::NoRange(count) if first => {
                    stream.write_all(&bytes[..count])?;
                    stream.shutdown(std::net::Shutdown::Both)?;
                    return Ok(());
                }
                Mood::StallOnce(count) if first => {
                    stream.write_all(&bytes[..count])?;
                    std::thread::sleep(Duration::from_secs(30));
                    return Ok(());
                }
                _ => stream.write_all(&bytes[from..])?,
            }
        } else {
            write!(stream, "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")?;
        }
    }
}

pub(crate) fn model() -> Vec<u8> {
    std::fs::read(stories()).unwrap()
}

fn files_below(folder: &std::path::Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.path().is_dir() {
            found.extend(files_below(&entry.path()));
        } else {
            found.push(entry.path().display().to_string());
        }
    }
    found.sort();
    found
}

#[test]
fn a_model_is_pulled_listed_run_and_removed() {
    let hub =
        Hub::new(&[("tiny-Q8_0.gguf", model()), ("README.md", b"hi".to_vec())], Mood::Fine, honest);
    let home = Folder::new();
    let pulled = hub.run(&home, &["pull", "hf:o/r", "--json"]).json();
    assert_eq!(pulled["name"], "o/r:tiny-Q8_0");
    assert_eq!(pulled["revision"], COMMIT);
    assert_eq!(pulled["files"][0]["sha256"], honest(&model()));
    let listed = hub.run(&home, &["models", "--json"]).json();
    assert_eq!(listed[0]["name"], "o/r:tiny-Q8_0");
    // Its card came with it.
    assert_eq!(listed[0]["bytes"], model().len() + 2);
    for name in ["tiny-Q8_0", "o/r", "hf:o/r:tiny-q8_0"] {
        let text = hub.run(&home, &["run", name, "-p", "Once upon a", "-n", "1", "--temp", "0"]);
        assert_eq!(text.text(), " time", "{name}");
    }
    // A second time, nothing is fetched.
    let before = hub.asked().len();
    assert_eq!(hub.run(&home, &["pull", "hf:o/r"]).code, Some(0));
    assert_eq!(hub.asked().len(), before);
    assert_eq!(hub.run(&home, &["rm", "tiny-Q8_0"]).code, Some(0));
    assert_eq!(hub.run(&home, &["models", "--json"]).json(), serde_json::json!([]));
    let left = files_below(home.path());
    assert!(left.iter().all(|path| path.ends_with("lock")), "{left:?}");
}

#[test]
fn a_cut_connection_goes_on_where_it_was_cut() {
    let hub = Hub::new(&[("m.gguf", model())], Mood::CutOnce(300_000), honest);
    let home = Folder::new();
    let pulled = hub.run(&home, &["pull", "hf:o/r:m.gguf"]);
    assert_eq!(pulled.code, Some(0), "{}", pulled.stderr);
    assert_eq!(hub.asked(), [None, Some(300_000)]);
}

#[test]
fn a_server_without_ranges_is_asked_for_everything_again() {
    let hub = Hub::new(&[("m.gguf", model())], Mood::NoRange(300_000), honest);
    let home = Folder::new();
    assert_eq!(hub.run(&home, &["pull", "hf:o/r"]).code, Some(0));
    assert_eq!(hub.asked().len(), 2);
}

#[cfg(unix)]
#[test]
fn an_interrupted_pull_goes_on_when_it_is_run_again() {
    let hub = Hub::new(&[("m.gguf", model())], Mood::StallOnce(200_000), honest);
    let home = Folder::new();
    let child = hub.command(&home, &["pull", "hf:o/r"]).spawn().unwrap();
    let partial = home.path().join("models/partial");
    let start = Instant::now();
    let length = || -> u64 {
        let entries = std::fs::read_dir(&partial).into_iter().flatten().flatten();
        entries.filter_map(|entry| Some(entry.metadata().ok()?.len())).sum()
    };
    while length() < 200_000 {
        assert!(start.elapsed() < Duration::from_secs(20), "the first part never came");
        std::thread::sleep(Duration::from_millis(10));
    }
    let busy = hub.run(&home, &["rm", "anything"]);
    busy.is_error("in use by another llmos");
    crate::interrupt::interrupt(&child);
    assert_eq!(collect(child).code, Some(130));
    assert_eq!(hub.run(&home, &["models", "--json"]).json(), serde_json::json!([]));
    assert_eq!(hub.run(&home, &["pull", "hf:o/r"]).code, Some(0));
    assert_eq!(hub.asked(), [None, Some(200_000)]);
}

#[test]
fn a_wrong_checksum_leaves_nothing() {
    let hub = Hub::new(&[("m.gguf", model())], Mood::Fine, lying);
    let home = Folder::new();
    hub.run(&home, &["pull", "hf:o/r"]).is_error("SHA-256");
    let left = files_below(home.path());
    assert!(left.iter().all(|path| path.ends_with("lock")), "{left:?}");
    assert_eq!(hub.run(&home, &["models", "--json"]).json(), serde_json::json!([]));
}

#[test]
fn a_folder_of_safetensors_is_pulled_where_there_is_no_gguf() {
    let folder = crate::program::repository("testdata/architectures/qwen3");
    let names = ["config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"];
    let files: Vec<(&str, Vec<u8>)> =
        names.iter().map(|name| (*name, std::fs::read(folder.join(name)).unwrap())).collect();
    let hub = Hub::new(&files, Mood::Fine, honest);
    let home = Folder::new();
    let pulled = hub.run(&home, &["pull", "hf:o/r", "--json"]).json();
    assert_eq!(pulled["files"].as_array().unwrap().len(), 4);
    assert_eq!(hub.run(&home, &["run", "r", "-p", "Hello", "-n", "4"]).code, Some(0));
}

#[test]
fn a_server_that_has_files_alone_gives_a_file_by_its_name() {
    let hub = Hub::new(&[("m.gguf", model())], Mood::FilesAlone, honest);
    let home = Folder::new();
    let pulled = hub.run(&home, &["pull", "hf:o/r:m.gguf"]);
    assert_eq!(pulled.code, Some(0), "{}", pulled.stderr);
    assert!(pulled.stderr.starts_with("pulling m.gguf of o/r\n"), "{}", pulled.stderr);
    hub.run(&home, &["pull", "hf:o/r:other.gguf"]).is_error("404");
    hub.run(&home, &["pull", "hf:o/r"]).is_error("404");
}

#[test]
fn what_is_not_there() {
    let hub = Hub::new(&[("m-Q4_0.gguf", model())], Mood::Fine, honest);
    let home = Folder::new();
    hub.run(&home, &["pull", "hf:o/r:Q8_0"]).is_error("it has m-Q4_0.gguf");
    hub.run(&home, &["pull", "hf:o/other"]).is_error("404");
    hub.run(&home, &["pull", "somewhere"]).is_error("hf:OWNER/REPO");
    hub.run(&home, &["pull", "hf:o/r:../../etc/passwd"]).is_error("inside the repository");
    let mut nowhere = command(home.path(), &["pull", "hf:o/r"]);
    nowhere.env("HF_ENDPOINT", "http://127.0.0.1:9");
    finish(nowhere, b"").is_error("cannot reach");
}
