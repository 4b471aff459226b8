//! TLS: who trusts the authority is answered, and nobody is without shaking hands.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use llmos_model::EngineOptions;
use llmos_serve::{Certificate, Error, Key, Keys, Models, Scope, Server, ServerOptions};
use serde_json::json;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use crate::client::{Connection, Reply, reply, request};
use crate::house::{Kind, Running, options, repository, serve};

fn file(name: &str) -> Vec<u8> {
    std::fs::read(repository("testdata/tls").join(name)).unwrap()
}

fn certificate(key: &str) -> Certificate {
    Certificate { chain: file("server.pem"), key: file(key) }
}

fn server(head_time: Duration) -> Running {
    let certificate = Some(certificate("server-key.pem"));
    let options = ServerOptions { certificate, head_time, ..options() };
    serve(Kind::Stories, options, EngineOptions::default())
}

/// Asks as a client that trusts the authority of that file.
fn ask(server: &Running, authority: &str, name: &str, bytes: &[u8]) -> Result<Reply, String> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(&file(authority)).unwrap()).unwrap();
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::try_from(name.to_string()).unwrap();
    let connection = ClientConnection::new(Arc::new(config), name).unwrap();
    let mut stream = StreamOwned::new(connection, TcpStream::connect(server.address).unwrap());
    stream.write_all(bytes).map_err(|error| error.to_string())?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).map_err(|error| error.to_string())?;
    Ok(reply(&answer))
}

#[test]
fn who_trusts_the_authority_is_answered_and_streamed_to() {
    let server = server(Duration::from_secs(10));
    let get = request("GET", "/v1/models", &["Host: localhost"], b"");
    for name in ["localhost", "127.0.0.1"] {
        let models = ask(&server, "authority.pem", name, &get).unwrap().json();
        assert_eq!(models["data"][0]["id"], "test");
    }
    let body = json!({ "prompt": "Once upon", "max_tokens": 8, "temperature": 0, "stream": true });
    let headers = ["Host: localhost", "Content-Type: application/json"];
    let post = request("POST", "/v1/completions", &headers, body.to_string().as_bytes());
    let events = ask(&server, "authority.pem", "localhost", &post).unwrap().events();
    assert_eq!(events.last().unwrap()["choices"][0]["finish_reason"], "length");
    // Doors are the same behind it.
    let evil = request("GET", "/v1/models", &["Host: evil.example"], b"");
    ask(&server, "authority.pem", "localhost", &evil).unwrap().is_refusal(403, "name");
}

#[test]
fn a_name_of_its_own_is_asked_by_tls_from_then_on_and_cookies_go_by_nothing_else() {
    let options = ServerOptions {
        certificate: Some(certificate("server-key.pem")),
        hosts: vec!["box.example".to_string()],
        keys: Keys::new(vec![Key::of("ann", "llmos-secret", Scope::Chat)]),
        ..options()
    };
    let server = serve(Kind::Stories, options, EngineOptions::default());
    let send = |bytes: &[u8]| ask(&server, "authority.pem", "localhost", bytes).unwrap();
    // Addresses and localhost are others' as well, who may speak plain HTTP.
    for (host, expected) in [
        ("Host: box.example:8443", Some("max-age=31536000")),
        ("Host: localhost", None),
        ("Host: 127.0.0.1", None),
    ] {
        let reply = send(&request("GET", "/healthz", &[host], b""));
        assert_eq!((reply.status, reply.header("strict-transport-security")), (200, expected));
    }
    let headers = ["Host: box.example", "Content-Type: application/json"];
    let key = json!({ "key": "llmos-secret" }).to_string();
    let begun = send(&request("POST", "/v1/session", &headers, key.as_bytes()));
    let cookie = begun.header("set-cookie").unwrap();
    assert!(cookie.ends_with("; Secure") && cookie.contains("HttpOnly"), "{cookie}");
}

#[test]
fn another_authority_another_name_and_no_tls_at_all_lead_nowhere() {
    let server = server(Duration::from_millis(200));
    let get = request("GET", "/v1/models", &["Host: localhost"], b"");
    assert!(ask(&server, "server.pem", "localhost", &get).is_err());
    assert!(ask(&server, "authority.pem", "box.example", &get).is_err());
    assert_eq!(Connection::send(server.address, &get).finish().status, 0);
    // Who says nothing is cut off as one is whose head does not come.
    let start = Instant::now();
    assert_eq!(Connection::send(server.address, b"\x16\x03\x01").finish().status, 0);
    assert!(start.elapsed() < Duration::from_secs(30));
    assert!(ask(&server, "authority.pem", "localhost", &get).is_ok());
}

#[test]
fn a_certificate_that_cannot_be_shown_is_said_before_anybody_asks() {
    let check = |certificate: Certificate, words: &str| {
        let options = ServerOptions { certificate: Some(certificate), ..options() };
        let error = Server::bind(options, Models::new(None)).err().unwrap();
        assert!(matches!(error, Error::Certificate { .. }), "{error}");
        assert!(error.to_string().contains(words), "{error}");
    };
    check(certificate("other-key.pem"), "the certificate and the key");
    check(certificate("server.pem"), "no PEM key");
    let key = file("server-key.pem");
    check(Certificate { chain: Vec::new(), key: key.clone() }, "there is none");
    check(Certificate { chain: file("server-key.pem"), key: key.clone() }, "there is none");
    let cut = file("server.pem")[..100].to_vec();
    check(Certificate { chain: cut, key }, "certificate");
    assert!(!format!("{:?}", certificate("server-key.pem")).contains("PRIVATE"));
}
