//! Who comes in, and what is kept apart.

use llmos_model::EngineOptions;
use llmos_serve::{Error, Key, Keys, Models, Scope, Server};
use serde_json::json;

use crate::client::{Connection, Reply, request};
use crate::house::{Kind, Running, options, serve};

fn ask(server: &Running, method: &str, path: &str, headers: &[&str]) -> Reply {
    Connection::send(server.address, &request(method, path, headers, b"")).finish()
}

#[test]
fn names_of_strangers_and_their_pages_are_refused() {
    let mut options = options();
    options.hosts = vec!["box.example".to_string()];
    options.origins = vec!["https://chat.example".to_string()];
    let server = serve(Kind::Stories, options, EngineOptions::default());
    let check = |headers: &[&str], expected: u16| {
        let reply = ask(&server, "GET", "/v1/models", headers);
        assert_eq!(reply.status, expected, "{headers:?}");
        // No page of others may read anything, whatever it was answered, but one that is allowed.
        let page = "https://chat.example";
        let allowed = headers.iter().any(|line| line.ends_with(page)).then_some(page);
        assert_eq!(reply.header("access-control-allow-origin"), allowed, "{headers:?}");
        assert_eq!(reply.header("x-content-type-options"), Some("nosniff"));
        assert!(reply.header("content-security-policy").unwrap().contains("default-src 'none'"));
    };
    let local = format!("Host: {}", server.address);
    check(&[&local], 200);
    check(&["Host: localhost:80"], 200);
    check(&["Host: box.example"], 200);
    check(&["Host: evil.example"], 403);
    check(&["Host: 127.0.0.1.evil.example"], 403);
    check(&["Host: localhost:1@evil.example"], 403);
    check(&["Host: localhost", "Host: evil.example"], 400);
    check(&[], 400);
    check(&["Host: localhost", "Origin: http://localhost"], 200);
    check(&["Host: localhost", "Origin: https://chat.example"], 200);
    check(&["Host: localhost", "Origin: https://evil.example"], 403);
    check(&["Host: localhost", "Origin: null"], 403);
    check(&["Host: localhost", "Sec-Fetch-Site: cross-site"], 403);
    for path in ["/healthz", "/nothing", "/v1/../v1/models", "//v1/models"] {
        assert_eq!(ask(&server, "GET", path, &["Host: evil.example"]).status, 403, "{path}");
    }
    let foreign = ask(&server, "GET", "http://evil.example/v1/models", &["Host: localhost"]);
    assert_eq!(foreign.status, 403);
}

#[test]
fn a_page_that_is_allowed_asks_and_reads_with_a_key() {
    let mut options = options();
    options.origins = vec!["https://chat.example".to_string()];
    options.keys = Keys::new(vec![Key::of("ann", "llmos-secret", Scope::Chat)]);
    let server = serve(Kind::Stories, options, EngineOptions::default());
    const PATH: &str = "/v1/chat/completions";
    let (host, page) = ("Host: localhost", "Origin: https://chat.example");
    let method = "Access-Control-Request-Method: POST";
    let wanted = "Access-Control-Request-Headers: authorization,content-type,x-stainless-os";
    // Its browser asks first, and has no key for that.
    let ahead = ask(&server, "OPTIONS", PATH, &[host, page, method, wanted]);
    assert_eq!((ahead.status, ahead.body.as_str()), (204, ""), "{ahead:?}");
    assert_eq!(ahead.header("access-control-allow-origin"), Some("https://chat.example"));
    assert!(ahead.header("access-control-allow-methods").unwrap().contains("POST"));
    let headers = ahead.header("access-control-allow-headers").unwrap();
    assert_eq!(headers, "authorization,content-type,x-stainless-os");
    // No cookie comes along: a session is for the server's own page.
    assert_eq!(ahead.header("access-control-allow-credentials"), None);
    for page in ["Origin: https://evil.example", "Origin: null", "Origin: http://localhost:1"] {
        let reply = ask(&server, "OPTIONS", PATH, &[host, page, method, wanted]);
        assert_eq!(reply.status, 403, "{page}");
        assert_eq!(reply.header("access-control-allow-origin"), None, "{page}");
    }
    assert_eq!(ask(&server, "OPTIONS", PATH, &["Host: evil.example", page, method]).status, 403);
    for headers in [&[host, page][..], &[host, "Origin: http://localhost", method], &[host]] {
        assert_eq!(ask(&server, "OPTIONS", PATH, headers).status, 401, "{headers:?}");
    }
    let read = |key: &str, expected: u16| {
        let reply = ask(&server, "GET", "/v1/models", &[host, page, key]);
        assert_eq!(reply.status, expected);
        assert_eq!(reply.header("access-control-allow-origin"), Some("https://chat.example"));
        assert_eq!(reply.header("vary"), Some("origin"));
        assert!(reply.header("access-control-expose-headers").unwrap().contains("x-request-id"));
    };
    read("x-api-key: llmos-secret", 200);
    read("x-api-key: wrong", 401);
}

#[test]
fn a_key_is_asked_for_on_every_route_but_healthz() {
    let mut options = options();
    options.keys = Keys::new(vec![Key::of("ann", "llmos-secret", Scope::Chat)]);
    let server = serve(Kind::Stories, options, EngineOptions::default());
    for path in [
        "/readyz",
        "/v1/models",
        "/v1/models/test",
        "/v1/completions",
        "/v1/chat/completions",
        "/v1/next",
        "/v1/score",
        "/tokenize",
        "/detokenize",
        "/tokenizer_info",
        "/v1/conversations",
        "/v1/conversations/search",
        "/v1/conversations/export",
        "/v1/conversations/x",
        "/v1/conversations/x/messages",
        "/v1/conversations/x/messages/1/rating",
        "/v1/runs",
        "/metrics",
        "/openapi.json",
        "/web",
        "/nothing",
        "//healthz",
        "/healthz/",
        "/v1/../healthz",
    ] {
        for method in ["GET", "POST", "HEAD", "OPTIONS", "DELETE"] {
            let reply = ask(&server, method, path, &["Host: localhost"]);
            assert_eq!(reply.status, 401, "{method} {path}");
            assert_eq!(reply.header("www-authenticate"), Some("Bearer"));
        }
        let wrong = ["Host: localhost", "Authorization: Bearer llmos-secre"];
        ask(&server, "GET", path, &wrong).is_refusal(401, "not known");
    }
    assert_eq!(ask(&server, "GET", "/healthz", &["Host: localhost"]).status, 200);
    // The page's own files are the same everywhere; with them a key can be typed in.
    for path in ["/", "/web/page.js"] {
        assert_ne!(ask(&server, "GET", path, &["Host: localhost"]).status, 401, "{path}");
        assert_eq!(ask(&server, "POST", path, &["Host: localhost"]).status, 401, "{path}");
    }
    for key in ["Authorization: Bearer llmos-secret", "x-api-key: llmos-secret"] {
        assert_eq!(ask(&server, "GET", "/v1/models", &["Host: localhost", key]).status, 200);
    }
}

#[test]
fn what_one_key_s_owner_wrote_is_not_found_by_another_s() {
    let mut options = options();
    options.keys = Keys::new(vec![
        Key::of("ann", "llmos-a", Scope::Chat),
        Key::of("bob", "llmos-b", Scope::Chat),
    ]);
    let engine = EngineOptions { cache_bytes: Some(16 << 20), ..EngineOptions::default() };
    let server = serve(Kind::Stories, options, engine);
    let text = "Once upon a time there was a secret. ".repeat(8);
    let cached = |key: &str| -> u64 {
        let key = format!("x-api-key: {key}");
        let headers = ["Host: localhost", "Content-Type: application/json", &key];
        let body = json!({ "prompt": text, "max_tokens": 1, "temperature": 0 }).to_string();
        let bytes = request("POST", "/v1/completions", &headers, body.as_bytes());
        let answer = Connection::send(server.address, &bytes).finish().json();
        answer["usage"]["prompt_tokens_details"]["cached_tokens"].as_u64().unwrap()
    };
    assert_eq!(cached("llmos-a"), 0);
    assert!(cached("llmos-a") >= 32);
    assert_eq!(cached("llmos-b"), 0);
    assert!(cached("llmos-b") >= 32);
}

#[test]
fn others_are_not_served_without_a_key() {
    let open = llmos_serve::ServerOptions { address: ([0, 0, 0, 0], 0).into(), ..options() };
    let error = Server::bind(open.clone(), Models::new(None)).err().unwrap();
    assert!(matches!(error, Error::Open { .. }), "{error}");
    let keys = Keys::new(vec![Key::of("ann", "llmos-secret", Scope::Chat)]);
    let server = Server::bind(llmos_serve::ServerOptions { keys, ..open }, Models::new(None));
    assert!(server.unwrap().address().port() > 0);
    let none = llmos_serve::ServerOptions { slots: 0, ..options() };
    assert!(matches!(Server::bind(none, Models::new(None)), Err(Error::Option { .. })));
}
