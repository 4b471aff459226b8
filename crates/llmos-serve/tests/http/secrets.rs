//! What people write is in no log and in nobody else's answer. A process has one log, so there is one
//! test.

use std::fmt::{Debug, Write};
use std::sync::{Arc, Mutex};

use llmos_model::EngineOptions;
use llmos_serve::{Key, Keys, Scope};
use serde_json::{Value, json};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

use crate::client::{Connection, Reply, request};
use crate::house::{Kind, Running, options, serve};

/// Writes down everything, whoever says it and however fine.
#[derive(Clone, Default)]
struct Log {
    text: Arc<Mutex<String>>,
}

struct Line<'a>(&'a mut String);

impl Visit for Line<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        let _ = write!(self.0, " {}={value:?}", field.name());
    }
}

impl Subscriber for Log {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, span: &Attributes<'_>) -> Id {
        span.record(&mut Line(&mut self.text.lock().unwrap()));
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, values: &Record<'_>) {
        values.record(&mut Line(&mut self.text.lock().unwrap()));
    }

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut text = self.text.lock().unwrap();
        let _ = write!(text, "\n{}", event.metadata().target());
        event.record(&mut Line(&mut text));
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

/// A word that stands in no program.
const CANARY: &str = "zwitschermaschine";

fn ask(server: &Running, key: &str, method: &str, path: &str, body: &str) -> Reply {
    let key = format!("Authorization: Bearer {key}");
    let headers = ["Host: localhost", "Content-Type: application/json", &key];
    Connection::send(server.address, &request(method, path, &headers, body.as_bytes())).finish()
}

#[test]
fn what_one_wrote_is_in_no_log_and_in_nobody_else_s_answer() {
    let log = Log::default();
    tracing::subscriber::set_global_default(log.clone()).unwrap();
    let mut options = options();
    let (ann, bob) = (format!("llmos-{CANARY}-a"), format!("llmos-{CANARY}-b"));
    options.keys =
        Keys::new(vec![Key::of("ann", &ann, Scope::Chat), Key::of("bob", &bob, Scope::Chat)]);
    let engine = EngineOptions { cache_bytes: Some(64 << 20), ..EngineOptions::default() };
    let server = serve(Kind::Parrot, options, engine);
    let user = json!([{ "role": "user", "content": format!("Say {CANARY}.") }]);
    let tool = |parameters: Value| json!([{ "type": "function", "function": { "name": CANARY, "description": CANARY, "parameters": parameters } }]);
    let schema = |schema: Value| json!({ "type": "json_schema", "json_schema": { "name": CANARY, "schema": schema } });
    for body in [
        json!({ "messages": user, "max_tokens": 5, "user": CANARY, "metadata": { "x": CANARY } }),
        json!({ "messages": user, "max_tokens": 5, "stream": true, "stop": [CANARY] }),
        json!({ "messages": user, "max_tokens": 5, "tools": tool(json!({})) }),
        json!({ "messages": user, "tools": tool(json!({ "type": CANARY })) }),
        json!({ "messages": user, "max_tokens": 5, "response_format": schema(json!({ "const": CANARY })) }),
        json!({ "messages": user, "response_format": schema(json!({ "type": CANARY })) }),
        json!({ "messages": user, "response_format": { "type": "regex", "regex": format!("({CANARY}") } }),
        json!({ "messages": user, "response_format": { "type": "lark", "grammar": CANARY } }),
        json!({ "messages": user, "model": CANARY }),
        json!({ "messages": user, "temperature": CANARY }),
        json!({ "messages": [{ "role": CANARY, "content": CANARY }] }),
        json!({ "messages": [{ "role": "user", "content": CANARY.repeat(2000) }] }),
        json!({ "messages": user, "chat_template_kwargs": { CANARY: CANARY } }),
        json!({ CANARY: CANARY }),
    ] {
        ask(&server, &ann, "POST", "/v1/chat/completions", &body.to_string());
    }
    for path in ["/v1/completions", "/v1/next", "/v1/score", "/tokenize", "/detokenize"] {
        let body = json!({ "prompt": CANARY, "text": CANARY, "content": CANARY, "max_tokens": 5, "top": 2 });
        ask(&server, &ann, "POST", path, &body.to_string());
        ask(&server, &ann, "POST", path, &format!("{{{CANARY}"));
    }
    ask(&server, &ann, "GET", &format!("/v1/models/{CANARY}?q={CANARY}"), "");
    ask(&server, &ann, "GET", &format!("/{CANARY}"), "");
    ask(&server, &format!("{CANARY}-wrong"), "GET", "/v1/models", "");
    let strange = request("GET", "/v1/models", &[&format!("Host: {CANARY}.example")], b"");
    Connection::send(server.address, &strange).finish();
    Connection::send(server.address, format!("{CANARY}\r\n\r\n").as_bytes()).finish();
    // One that goes in the middle.
    let long = json!({ "messages": user, "stream": true, "ignore_eos": true });
    let headers =
        ["Host: localhost", "Content-Type: application/json", &format!("x-api-key: {ann}")];
    let bytes = request("POST", "/v1/chat/completions", &headers, long.to_string().as_bytes());
    let mut gone = Connection::send(server.address, &bytes);
    gone.wait_for("data: ");
    drop(gone);
    for (method, path, body) in [
        ("GET", "/v1/models", ""),
        ("GET", "/readyz", ""),
        ("GET", "/nothing", ""),
        ("POST", "/v1/chat/completions", "{"),
        (
            "POST",
            "/v1/chat/completions",
            "{\"messages\": [{\"role\": \"user\", \"content\": \"Who are you?\"}], \"max_tokens\": 9}",
        ),
    ] {
        let reply = ask(&server, &bob, method, path, body);
        assert!(!reply.body.contains(CANARY) && !reply.head.contains(CANARY), "{path}: {reply:?}");
    }
    let text = log.text.lock().unwrap();
    assert!(text.contains("llmos_serve"), "nothing was logged: {text}");
    let place = text.find(CANARY).map(|at| &text[at.saturating_sub(200)..at + 40]);
    assert_eq!(place, None);
}
