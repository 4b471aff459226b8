//! Requests of a server: the bytes of a connection, names that it is asked by, bodies of calls.
//!
//! A server of a tiny model is asked over its socket, so that what is tried is all that a stranger can
//! reach, in the order in which it is reached.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use llmos_model::{Device, Engine, EngineOptions, Isa, Model, ModelFiles};
use llmos_serve::{
    About, Keeper, Loaded, Models, Offer, Server, ServerOptions, Trouble, TroubleKind, Watch,
};
use llmos_tokenizer::Tokenizer;
use serde_json::{Value, json};

use super::scratch;

/// It runs for as long as the process does.
static SERVER: LazyLock<SocketAddr> = LazyLock::new(|| {
    let models = Models::new(None);
    models.offer(Offer {
        id: "test".into(),
        bytes: 0,
        created: 0,
        adapters: Vec::new(),
        about: About::default(),
        load: Box::new(|| Ok(load())),
    });
    let options = ServerOptions {
        address: SocketAddr::from(([127, 0, 0, 1], 0)),
        // Damaged heads and lengths leave both sides waiting.
        head_time: Duration::from_millis(50),
        body_time: Duration::from_millis(50),
        request_time: Duration::from_secs(2),
        body_bytes: 1 << 20,
        keeper: Some(Arc::new(Doorkeeper)),
        ..ServerOptions::default()
    };
    let server = Server::bind(options, models).expect("a port is free");
    let address = server.address();
    std::thread::spawn(move || server.run().expect("a server runs"));
    address
});

/// Keeps no models, and sees to it that only those names come to a keeper which may.
struct Doorkeeper;

fn refused() -> Trouble {
    let (message, hint) = ("nothing is kept here".to_string(), "ask another".to_string());
    Trouble { kind: TroubleKind::Asked, message, hint }
}

impl Keeper for Doorkeeper {
    fn pull(&self, name: &str, _: Watch<'_>) -> Result<Offer, Trouble> {
        assert!(!name.is_empty() && name.len() <= 300 && !name.contains("://"), "{name:?}");
        Err(refused())
    }

    fn convert(&self, model: &str, kind: &str, _: Watch<'_>) -> Result<Offer, Trouble> {
        assert_eq!((model, kind), ("test", "q8_0"));
        Err(refused())
    }

    fn copy(&self, model: &str, name: &str) -> Result<Offer, Trouble> {
        assert_eq!(model, "test");
        let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        assert!(name.chars().all(is_plain) && !name.starts_with('.'), "{name:?}");
        Err(refused())
    }

    fn delete(&self, model: &str) -> Result<(), Trouble> {
        assert_eq!(model, "test");
        Err(refused())
    }
}

/// A model that knows a dozen conversations by heart.
fn load() -> Loaded {
    let folder = "testdata/agent/base";
    let file = |name: &str| scratch::read(&format!("{folder}/{name}"));
    let device = Arc::new(Device::new(Isa::detect(), 1));
    let files = ModelFiles::open(&scratch::folder(folder)).expect("a model of ours");
    let model = Model::load(files, &device).expect("a model of ours");
    let options = EngineOptions { cache_bytes: Some(16 << 20), ..EngineOptions::default() };
    let engine = Engine::new(Arc::new(model), device, options).expect("16 MiB are enough");
    let tokenizer =
        Tokenizer::from_json(&file("tokenizer.json"), Some(&file("tokenizer_config.json")));
    let template = String::from_utf8(file("chat_template.jinja")).expect("a template of ours");
    Loaded {
        engine,
        tokenizer: Arc::new(tokenizer.expect("a tokenizer of ours")),
        template: Some(template),
        adapters: Vec::new(),
    }
}

/// All that comes back on a connection, and the status of its first answer; none without an answer.
fn answer(bytes: &[u8]) -> Option<(u16, Vec<u8>)> {
    let mut stream = TcpStream::connect(*SERVER).expect("the server listens");
    let patience = Some(Duration::from_secs(60));
    stream.set_read_timeout(patience).expect("a time limit can be set");
    // A server that refuses may close before all is sent, and what it said is lost then.
    let _ = stream.write_all(bytes);
    let mut reply = Vec::new();
    if let Err(error) = stream.read_to_end(&mut reply) {
        use std::io::ErrorKind::{TimedOut, WouldBlock};
        assert!(!matches!(error.kind(), TimedOut | WouldBlock), "no end of an answer");
    }
    let rest = reply.strip_prefix(b"HTTP/1.1 ").or(reply.strip_prefix(b"HTTP/1.0 "))?;
    let status = std::str::from_utf8(rest.get(..3)?).ok()?.parse().ok()?;
    assert_ne!(status, 500, "{}", String::from_utf8_lossy(&reply));
    Some((status, reply))
}

/// A whole connection, as it comes.
pub fn http_request(bytes: &[u8]) -> bool {
    answer(bytes).is_some_and(|(status, _)| status == 200)
}

pub(crate) fn http_request_seeds() -> Vec<Vec<u8>> {
    let texts = [
        "GET /v1/models HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
        "POST /v1/completions HTTP/1.1\r\nHost: 127.0.0.1:80\r\nContent-Type: application/json\r\nOrigin: http://127.0.0.1:80\r\nx-api-key: k\r\nContent-Length: 31\r\n\r\n{\"prompt\":\"Who\",\"max_tokens\":2}",
        "POST /tokenize HTTP/1.1\r\nHost: [::1]:80\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n10\r\n{\"prompt\": \"Who\"\r\n1\r\n}\r\n0\r\n\r\n",
        "GET http://localhost/v1/models/test?model=test HTTP/1.1\r\nHost: localhost\r\nSec-Fetch-Site: same-origin\r\nAuthorization: Bearer k\r\n\r\nGET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
        "OPTIONS * HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\nConnection: close\r\n\r\n",
    ];
    texts.iter().map(|text| text.as_bytes().to_vec()).collect()
}

/// The name that a server is asked by: none but this machine's, and addresses.
pub fn host_header(bytes: &[u8]) -> bool {
    if bytes.contains(&b'\r') || bytes.contains(&b'\n') {
        return false;
    }
    let request =
        [b"GET /v1/models HTTP/1.1\r\nConnection: close\r\nHost: ", bytes, b"\r\n\r\n"].concat();
    let is_answered = answer(&request).is_some_and(|(status, _)| status == 200);
    if is_answered {
        let host = std::str::from_utf8(bytes).expect("a name that is answered to is text").trim();
        let without_port = host.rfind(':').map_or(host, |at| match &host[at + 1..] {
            port if port.bytes().all(|byte| byte.is_ascii_digit()) => &host[..at],
            _ => host,
        });
        let bare = without_port.trim_start_matches('[').trim_end_matches(']');
        let is_known = bare.trim_end_matches('.').eq_ignore_ascii_case("localhost")
            || bare.parse::<IpAddr>().is_ok();
        assert!(is_known, "{host:?}");
    }
    is_answered
}

pub(crate) fn host_header_seeds() -> Vec<Vec<u8>> {
    let texts = [
        "localhost",
        "127.0.0.1:8080",
        "[::1]:8080",
        "LOCALHOST.:1",
        "localhost:1@evil.example",
        "127.0.0.1.evil.example",
        "evil.example#localhost",
        "[::ffff:127.0.0.1%25lo]:80",
    ];
    texts.iter().map(|text| text.as_bytes().to_vec()).collect()
}

/// A body of `/v1/chat/completions`.
pub fn chat_body(bytes: &[u8]) -> bool {
    posted("/v1/chat/completions", bytes)
}

pub(crate) fn chat_body_seeds() -> Vec<Vec<u8>> {
    let texts = [
        r#"{"model":"test","messages":[{"role":"system","content":"Be brief."},{"role":"user","content":[{"type":"text","text":"Who are you?"}]}],"max_completion_tokens":12,"temperature":0.5,"top_p":0.9,"seed":7,"logprobs":true,"top_logprobs":2,"n":2,"stop":["x"],"logit_bias":{"5":-100}}"#,
        r#"{"messages":[{"role":"user","content":"Who are you?"}],"stream":true,"stream_options":{"include_usage":true},"max_tokens":8,"presence_penalty":0.5,"frequency_penalty":-0.5,"reasoning_effort":"none","chat_template_kwargs":{"enable_thinking":false}}"#,
        r#"{"messages":[{"role":"user","content":"a"},{"role":"assistant","content":null,"tool_calls":[{"id":"c","type":"function","function":{"name":"clock","arguments":"{}"}}]},{"role":"tool","tool_call_id":"c","content":"10:39"}],"tools":[{"type":"function","function":{"name":"clock","description":"d","parameters":{"type":"object","properties":{"zone":{"type":"string"}}}}}],"tool_choice":"auto","parallel_tool_calls":false,"max_tokens":6}"#,
        r#"{"messages":[{"role":"user","content":"a"}],"max_tokens":9,"response_format":{"type":"json_schema","json_schema":{"name":"x","schema":{"type":"object","properties":{"a":{"type":"integer","maximum":9}},"required":["a"]}}}}"#,
    ];
    texts.iter().map(|text| text.as_bytes().to_vec()).collect()
}

/// A body of `/v1/completions`.
pub fn completions_body(bytes: &[u8]) -> bool {
    posted("/v1/completions", bytes)
}

pub(crate) fn completions_body_seeds() -> Vec<Vec<u8>> {
    let texts = [
        r#"{"model":"test","prompt":["Who are","What"],"max_tokens":4,"temperature":0,"logprobs":2,"echo":true,"n":1,"seed":1,"stop":"\n","add_special_tokens":true}"#,
        r#"{"prompt":[[1,2,3],[4]],"max_tokens":0,"echo":true,"logprobs":1}"#,
        r#"{"prompt":[5,6],"max_tokens":5,"stream":true,"stream_options":{"include_usage":true},"min_p":0.1,"top_k":-1,"typical_p":0.9,"repetition_penalty":1.1,"ignore_eos":true,"best_of":1,"suffix":null}"#,
        r#"{"prompt":"a","max_tokens":5,"response_format":{"type":"regex","regex":"[a-z]{1,3}"}}"#,
    ];
    texts.iter().map(|text| text.as_bytes().to_vec()).collect()
}

/// Asks for a model by a name, wherever one is taken: it is one of the server's own or none, and never
/// a place.
pub(crate) fn named(name: &str) {
    let body = |value: Value| value.to_string();
    let model = body(json!({ "model": name, "type": "q8_0", "top": 1, "tokens": [] }));
    let coded: String = name.bytes().map(|byte| format!("%{byte:02x}")).collect();
    for (method, path, body) in [
        ("POST", "/v1/next", &model),
        ("POST", "/detokenize", &model),
        ("POST", "/api/show", &model),
        ("POST", "/v1/models/convert", &model),
        ("DELETE", "/api/delete", &model),
        ("POST", "/v1/models/pull", &body(json!({ "name": name }))),
        ("POST", "/api/pull", &body(json!({ "model": name, "stream": false }))),
        ("POST", "/api/copy", &body(json!({ "source": "test", "destination": name }))),
        ("POST", "/api/copy", &body(json!({ "source": name, "destination": "copy" }))),
        ("GET", &format!("/v1/models/{coded}"), &String::new()),
        ("GET", &format!("/tokenizer_info?model={coded}"), &String::new()),
    ] {
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
             Connection: close\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        // A head over the limit has an answer without a body.
        let Some((status, reply)) = answer(&[head, body.clone()].concat().into_bytes()) else {
            continue;
        };
        let reply = String::from_utf8(reply).expect("answers are UTF-8");
        let (_, rest) = reply.split_once("\r\n\r\n").expect("an answer has a head");
        if status != 431 {
            let value: Value = serde_json::from_str(rest).expect("an answer is JSON");
            assert_eq!(value.get("error").is_some(), status >= 400, "{status} {value}");
        }
    }
}

/// Posts a body: an answer must be whole, and a refusal must have OpenAI's shape.
fn posted(path: &str, body: &[u8]) -> bool {
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nConnection: close\r\n\
         Content-Length: {}\r\n\r\n",
        body.len()
    );
    // A body over the limit may be refused before it is read, and the refusal be lost.
    let Some((status, reply)) = answer(&[head.as_bytes(), body].concat()) else { return false };
    let reply = String::from_utf8(reply).expect("answers are UTF-8");
    let (head, rest) = reply.split_once("\r\n\r\n").expect("an answer has a head");
    if !head.contains("text/event-stream") {
        let value: Value = serde_json::from_str(rest).expect("an answer is JSON");
        let part = if status == 200 { &value["choices"] } else { &value["error"]["hint"] };
        assert!(!part.is_null(), "{status} {value}");
        return status == 200;
    }
    assert!(rest.ends_with("\r\n0\r\n\r\n"), "a stream has its end: {rest}");
    let events: Vec<&str> = rest.lines().filter_map(|line| line.strip_prefix("data: ")).collect();
    let (last, others) = events.split_last().expect("a stream has events");
    let is_whole = *last == "[DONE]";
    let objects = if is_whole { others } else { &events[..] };
    for (number, event) in objects.iter().enumerate() {
        let value: Value = serde_json::from_str(event).expect("an event is JSON");
        let is_error = value.get("error").is_some();
        assert!(!is_error || (!is_whole && number + 1 == objects.len()), "{event}");
    }
    is_whole
}
