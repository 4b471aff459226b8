//! `serve` as those who run it see it: its log, its traces, models that are pulled and converted while it
//! runs, and training runs.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Child;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::interrupt::interrupt;
use crate::program::{Folder, Output, collect, command, finish, repository, stories};
use crate::pull::{Hub, Mood, honest, model};
use crate::serve::{address, ask};

/// A word that nothing but a conversation has.
const CANARY: &str = "xylophonically";

/// Ends a server in good order.
fn end(child: Child) -> Output {
    interrupt(&child);
    let output = collect(child);
    assert_eq!(output.code, Some(0), "{}", output.stderr);
    output
}

/// A reply with its head.
fn raw(address: &str, method: &str, path: &str, body: &Value) -> String {
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
    reply
}

/// The events of a stream.
fn events(reply: &str) -> Vec<Value> {
    let lines = reply.lines().filter_map(|line| line.strip_prefix("data: "));
    lines.map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[track_caller]
fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(start.elapsed() < Duration::from_secs(30), "{what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn completion() -> Value {
    json!({ "prompt": format!("Once {CANARY}"), "max_tokens": 7, "temperature": 0 })
}

#[test]
fn the_log_has_a_line_a_request_and_no_text_of_it() {
    let home = Folder::new();
    let given = ["serve", &stories(), "--port", "0", "--log", "json"];
    let mut child = command(home.path(), &given).spawn().unwrap();
    let address = address(&mut child);
    let reply = raw(&address, "POST", "/v1/completions", &completion());
    let id = reply.lines().find_map(|line| line.strip_prefix("x-request-id: ")).unwrap();
    let wrong = json!({ "prompt": CANARY, "temperature": 9 });
    assert!(raw(&address, "POST", "/v1/completions", &wrong).starts_with("HTTP/1.1 400"));
    raw(&address, "GET", "/healthz", &Value::Null);
    let stderr = end(child).stderr;
    assert!(!stderr.contains(CANARY), "{stderr}");
    let lines = stderr.lines().filter(|line| line.starts_with('{'));
    let lines: Vec<Value> = lines.map(|line| serde_json::from_str(line).unwrap()).collect();
    let requests: Vec<&Value> = lines.iter().filter(|line| line["message"] == "request").collect();
    // What is asked for every few seconds is no news.
    assert_eq!(requests.len(), 2, "{stderr}");
    let first = requests[0];
    assert_eq!(first["id"], id);
    for (key, expected) in [
        ("level", json!("INFO")),
        ("method", json!("POST")),
        ("route", json!("/v1/completions")),
        ("status", json!(200)),
        ("model", json!("stories260K")),
        ("tokens", json!(7)),
    ] {
        assert_eq!(first[key], expected, "{key} of {first}");
    }
    assert!(first["ms"].as_f64().unwrap() >= first["first_token_ms"].as_f64().unwrap());
    assert!(first["prompt_tokens"].as_u64().unwrap() > 1 && first["timestamp"].is_string());
    assert_eq!(requests[1]["error"], "invalid_request_error");
    let loaded = lines.iter().find(|line| line["message"] == "loaded").unwrap();
    assert_eq!(loaded["model"], "stories260K");
    // As text it is the same, and -q leaves errors alone.
    for (more, expected) in [("-v", true), ("-q", false)] {
        let given = ["serve", &stories(), "--port", "0", more];
        let mut child = command(home.path(), &given).spawn().unwrap();
        let address = self::address(&mut child);
        raw(&address, "POST", "/v1/completions", &completion());
        let stderr = end(child).stderr;
        assert_eq!(stderr.contains("tokens=7"), expected, "{stderr}");
        assert!(!stderr.contains(CANARY) && !stderr.contains('\u{1b}'), "{stderr}");
    }
    let mut command = command(home.path(), &["serve", &stories(), "--port", "0"]);
    command.env("LLMOS_LOG", "xml");
    assert_eq!(finish(command, b"").code, Some(2));
}

/// A collector that hears the bodies of what is posted to it.
fn collector() -> (String, mpsc::Receiver<(String, Value)>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut bytes = Vec::new();
            let mut piece = [0; 4096];
            let whole = loop {
                let Ok(n) = stream.read(&mut piece) else { break None };
                bytes.extend_from_slice(&piece[..n]);
                let text = String::from_utf8_lossy(&bytes);
                if let Some((head, body)) = text.split_once("\r\n\r\n") {
                    let length = head.lines().find_map(|line| {
                        let (name, value) = line.split_once(':')?;
                        name.eq_ignore_ascii_case("content-length")
                            .then(|| value.trim().parse())?
                            .ok()
                    });
                    if length.is_none_or(|length: usize| body.len() >= length) {
                        break Some((head.to_string(), serde_json::from_str(body).unwrap()));
                    }
                }
                if n == 0 {
                    break None;
                }
            };
            let _ = stream
                .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}");
            if let Some(whole) = whole {
                let _ = sender.send(whole);
            }
        }
    });
    (address, receiver)
}

#[test]
fn a_span_of_each_request_is_sent_where_it_was_asked_for() {
    let (collector, heard) = collector();
    let home = Folder::new();
    let given = ["serve", &stories(), "--port", "0", "--otlp", &collector];
    let mut child = command(home.path(), &given).spawn().unwrap();
    let address = address(&mut child);
    raw(&address, "POST", "/v1/completions", &completion());
    raw(&address, "GET", "/metrics", &Value::Null);
    let (head, body) = heard.recv_timeout(Duration::from_secs(30)).unwrap();
    assert!(head.starts_with("POST /v1/traces HTTP/1.1"), "{head}");
    assert!(head.to_lowercase().contains("content-type: application/json"), "{head}");
    assert!(!body.to_string().contains(CANARY), "{body}");
    let resource = &body["resourceSpans"][0];
    let attribute = |attributes: &Value, key: &str| {
        let found = attributes.as_array().unwrap().iter().find(|one| one["key"] == key);
        found.unwrap_or_else(|| panic!("{key} in {attributes}"))["value"].clone()
    };
    let service = attribute(&resource["resource"]["attributes"], "service.name");
    assert_eq!(service, json!({ "stringValue": "llmos" }));
    let spans = resource["scopeSpans"][0]["spans"].as_array().unwrap();
    assert_eq!(spans.len(), 1);
    let span = &spans[0];
    assert_eq!((&span["name"], &span["kind"]), (&json!("text_completion stories260K"), &json!(2)));
    let digits = |key: &str| {
        let text = span[key].as_str().unwrap();
        assert!(text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b)), "{text}");
        text.len()
    };
    assert_eq!((digits("traceId"), digits("spanId")), (32, 16));
    let time = |key: &str| span[key].as_str().unwrap().parse::<u64>().unwrap();
    assert!(time("endTimeUnixNano") > time("startTimeUnixNano"));
    for (key, expected) in [
        ("gen_ai.operation.name", json!({ "stringValue": "text_completion" })),
        ("gen_ai.request.model", json!({ "stringValue": "stories260K" })),
        ("gen_ai.usage.output_tokens", json!({ "intValue": "7" })),
        ("http.response.status_code", json!({ "intValue": "200" })),
    ] {
        assert_eq!(attribute(&span["attributes"], key), expected, "{key}");
    }
    // What is left when it ends is sent before it does.
    raw(&address, "GET", "/v1/models", &Value::Null);
    end(child);
    let (_, body) = heard.recv_timeout(Duration::from_secs(30)).unwrap();
    assert_eq!(body["resourceSpans"][0]["scopeSpans"][0]["spans"][0]["name"], "GET /v1/models");
    let bad = ["serve", &stories(), "--port", "0", "--otlp", "collector:4318"];
    assert_eq!(finish(command(home.path(), &bad), b"").code, Some(2));
}

#[test]
fn a_collector_that_is_not_there_costs_nobody_an_answer() {
    let home = Folder::new();
    let given = ["serve", &stories(), "--port", "0", "--otlp", "http://127.0.0.1:9"];
    let mut child = command(home.path(), &given).spawn().unwrap();
    let address = address(&mut child);
    let answer = ask(&address, "POST", "/v1/completions", &completion());
    assert_eq!(answer["usage"]["completion_tokens"], 7);
    assert!(end(child).stderr.contains("spans were not taken"));
}

#[test]
fn a_model_is_pulled_and_one_converted_while_the_server_runs() {
    let card = "---\nlicense: mit\n---\n# Tiny\n";
    let files = [("tiny-Q8_0.gguf", model()), ("README.md", card.into())];
    let hub = Hub::new(&files, Mood::Fine, honest);
    let home = Folder::new();
    let mut child = hub.command(&home, &["serve", "--port", "0", "-q"]).spawn().unwrap();
    let address = address(&mut child);
    let body = json!({ "name": "hf:o/r" });
    let pulled = events(&raw(&address, "POST", "/v1/models/pull", &body));
    assert_eq!(pulled.last().unwrap(), &json!({ "model": "tiny-Q8_0" }));
    assert_eq!(pulled[0]["total"], model().len() + card.len());
    let entry = ask(&address, "GET", "/v1/models/tiny-Q8_0", &Value::Null);
    for (key, expected) in [
        ("digest", json!(format!("sha256:{}", honest(&model())))),
        ("license", json!("mit")),
        ("card", json!(card)),
        ("architecture", json!("llama")),
        ("context", json!(512)),
        ("size", json!(model().len())),
        ("loaded", json!(false)),
    ] {
        assert_eq!(entry[key], expected, "{key}");
    }
    let mut prompt = completion();
    prompt["model"] = "tiny-Q8_0".into();
    let answer = ask(&address, "POST", "/v1/completions", &prompt);
    assert_eq!(answer["usage"]["completion_tokens"], 7);
    // A name that is none, a repository that is not there, an address.
    for (name, status) in [("nonsense", 400), ("hf:o/other", 502), ("https://evil.example", 400)] {
        let reply = raw(&address, "POST", "/v1/models/pull", &json!({ "name": name }));
        assert!(reply.starts_with(&format!("HTTP/1.1 {status}")), "{name}: {reply}");
    }
    let body = json!({ "model": "stories260K", "type": "q8_0" });
    let converted = events(&raw(&address, "POST", "/v1/models/convert", &body));
    assert_eq!(converted.last().unwrap(), &json!({ "model": "stories260K-Q8_0" }));
    let bad = json!({ "model": "stories260K", "type": "q17" });
    assert!(raw(&address, "POST", "/v1/models/convert", &bad).starts_with("HTTP/1.1 400"));
    let entry = ask(&address, "GET", "/v1/models/stories260K-Q8_0", &Value::Null);
    let listed = finish(command(home.path(), &["models", "--json"]), b"").json();
    let own = listed
        .as_array()
        .unwrap()
        .iter()
        .find(|one| one["name"] == "converted/stories260K:stories260K-Q8_0");
    let path = own.unwrap()["path"].as_str().unwrap();
    assert_eq!(entry["digest"], format!("sha256:{}", honest(&std::fs::read(path).unwrap())));
    // The same again takes the place of the first, and what is bundled has a digest in the end.
    let again = events(&raw(&address, "POST", "/v1/models/convert", &body));
    assert_eq!(again.last().unwrap(), &json!({ "model": "stories260K-Q8_0" }));
    let bytes = std::fs::read(repository("models/assistant.gguf")).unwrap();
    let digest = wait_for("no digest of the assistant", || {
        let entry = ask(&address, "GET", "/v1/models/assistant", &Value::Null);
        entry["digest"].as_str().map(str::to_string)
    });
    let sum: String = Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(digest, format!("sha256:{sum}"));
    end(child);
    // What was brought is there the next time.
    let mut child = hub.command(&home, &["serve", "--port", "0", "-q"]).spawn().unwrap();
    let address = self::address(&mut child);
    let list = ask(&address, "GET", "/v1/models", &Value::Null);
    let ids: Vec<&str> =
        list["data"].as_array().unwrap().iter().filter_map(|one| one["id"].as_str()).collect();
    assert_eq!(ids, ["assistant", "stories260K", "stories260K-Q8_0", "tiny-Q8_0"]);
    end(child);
}

#[test]
fn a_pull_whose_client_leaves_is_ended_and_goes_on_the_next_time() {
    let hub = Hub::new(&[("m.gguf", model())], Mood::StallOnce(200_000), honest);
    let home = Folder::new();
    let mut child = hub.command(&home, &["serve", "--port", "0", "-q"]).spawn().unwrap();
    let address = address(&mut child);
    let mut stream = TcpStream::connect(&address).unwrap();
    let body = json!({ "name": "hf:o/r" }).to_string();
    let request = format!(
        "POST /v1/models/pull HTTP/1.1\r\nHost: {address}\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).unwrap();
    let partial = home.path().join("models/partial");
    wait_for("the first part never came", || {
        let entries = std::fs::read_dir(&partial).into_iter().flatten().flatten();
        let bytes: u64 = entries.filter_map(|entry| Some(entry.metadata().ok()?.len())).sum();
        (bytes >= 200_000).then_some(())
    });
    drop(stream);
    let list = ask(&address, "GET", "/v1/models", &Value::Null);
    assert_eq!(list["data"].as_array().unwrap().len(), 2);
    // The server does not wait for a hub that says nothing.
    end(child);
    let mut child = hub.command(&home, &["serve", "--port", "0", "-q"]).spawn().unwrap();
    let address = self::address(&mut child);
    let pulled = events(&raw(&address, "POST", "/v1/models/pull", &json!({ "name": "hf:o/r" })));
    assert_eq!(pulled.last().unwrap(), &json!({ "model": "m" }));
    assert_eq!(hub.asked(), [None, Some(200_000)]);
    end(child);
}

#[test]
fn training_runs_are_read_from_their_folder_and_nowhere_else() {
    let home = Folder::new();
    let runs = home.path().join("runs");
    let run = runs.join("first");
    std::fs::create_dir_all(&run).unwrap();
    std::fs::write(run.join("recipe.toml"), "[train]\nsteps = 3\n[model]\nn_layer = 2\n").unwrap();
    let rows = (1..=2).map(|step| format!("{{\"step\":{step},\"loss\":{step}.5}}\n"));
    std::fs::write(run.join("metrics.jsonl"), rows.collect::<String>()).unwrap();
    std::fs::write(home.path().join("secret"), CANARY).unwrap();
    let folder = runs.display().to_string();
    let given = ["serve", &stories(), "--port", "0", "--runs", &folder];
    let mut child = command(home.path(), &given).spawn().unwrap();
    let address = address(&mut child);
    let list = ask(&address, "GET", "/v1/runs", &Value::Null);
    let head = &list["data"][0];
    assert_eq!((&head["id"], &head["kind"]), (&json!("first"), &json!("pretrain")));
    assert_eq!((&head["state"], &head["step"]), (&json!("stopped"), &json!(2)));
    // A row that is written while it is looked at.
    let mut file = std::fs::File::options().append(true).open(run.join("metrics.jsonl")).unwrap();
    file.write_all(b"{\"step\":3,\"loss\":1.25}\n").unwrap();
    let one = ask(&address, "GET", "/v1/runs/first?after=2", &Value::Null);
    assert_eq!(one["metrics"], json!([{ "step": 3, "loss": 1.25 }]));
    assert_eq!((&one["run"]["state"], &one["forecast"]), (&json!("done"), &Value::Null));
    assert_eq!(one["recipe"]["model"]["n_layer"], 2);
    for id in ["..%2f", "%2e%2e", "..%2fsecret", "second", "first%2f..%2f..%2fsecret"] {
        let reply = raw(&address, "GET", &format!("/v1/runs/{id}"), &Value::Null);
        assert!(reply.starts_with("HTTP/1.1 404") && !reply.contains(CANARY), "{id}: {reply}");
    }
    end(child);
}
