//! Who comes in: names that a page may have, pages that may ask, keys.
//!
//! A page of a stranger can let its own name point at this machine (DNS rebinding), and its script
//! then asks as if it were ours. The name that it asks by gives it away, so only names that are known
//! are answered, and addresses, which cannot be made to point elsewhere.

use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use crate::keys::{Caller, Keys};
use crate::refusal::Refusal;
use crate::watch::Record;

/// What is asked of everyone.
#[derive(Clone, Debug, Default)]
pub(crate) struct Gate {
    pub(crate) keys: Keys,
    /// Names that the server answers to, beside `localhost` and addresses.
    pub(crate) hosts: Vec<String>,
    /// Pages that may ask, `https://chat.example`, beside its own.
    pub(crate) origins: Vec<String>,
}

/// Lets a request through, with its [`Caller`], or refuses it.
pub(crate) async fn watch(
    State(gate): State<Arc<Gate>>,
    mut request: Request,
    next: Next,
) -> Response {
    let authority = request.uri().authority().map(|authority| authority.as_str());
    let caller = match authority.is_none_or(|authority| gate.answers_to(authority)) {
        true => gate.caller(request.method(), request.uri().path(), request.headers()),
        false => Err(Refusal::stranger("the server is no proxy", "ask for a path alone")),
    };
    let mut response = match caller {
        Ok(caller) => {
            if let (Some(record), Some(name)) = (Record::current(), gate.keys.name(caller.owner)) {
                record.key(name);
            }
            request.extensions_mut().insert(caller);
            next.run(request).await
        }
        Err(refusal) => refusal.into_response(),
    };
    let headers = response.headers_mut();
    for (name, value) in [
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CACHE_CONTROL, "no-store"),
        (header::CONTENT_SECURITY_POLICY, "default-src 'none'; frame-ancestors 'none'"),
    ] {
        headers.entry(name).or_insert(HeaderValue::from_static(value));
    }
    response
}

impl Gate {
    fn caller(&self, method: &Method, path: &str, headers: &HeaderMap) -> Result<Caller, Refusal> {
        self.check_host(headers)?;
        self.check_origin(method, headers)?;
        if self.keys.is_empty() || path == "/healthz" {
            return Ok(Caller::ANYONE);
        }
        let Some(key) = key(headers) else {
            return Err(Refusal::no_key("a key is asked for", StatusCode::UNAUTHORIZED));
        };
        let unknown = || Refusal::no_key("the key is not known", StatusCode::UNAUTHORIZED);
        self.keys.find(key).ok_or_else(unknown)
    }

    fn check_host(&self, headers: &HeaderMap) -> Result<(), Refusal> {
        let mut hosts = headers.get_all(header::HOST).iter();
        let host = match (hosts.next(), hosts.next()) {
            (Some(host), None) => host.to_str().unwrap_or_default(),
            _ => return Err(Refusal::bad("expected one Host", "send one header Host")),
        };
        if self.answers_to(host) {
            return Ok(());
        }
        let message = format!("the server does not answer to the name {:?}", clipped(host));
        Err(Refusal::stranger(message, "ask by its address, or start it with --allow-host NAME"))
    }

    /// A page that asks must be ours or one that was allowed; programs send no Origin.
    fn check_origin(&self, method: &Method, headers: &HeaderMap) -> Result<(), Refusal> {
        let text = |name: &str| headers.get(name).map(|value| value.to_str().unwrap_or("?"));
        let own = text("host").unwrap_or_default();
        let hint = "start the server with --allow-origin ORIGIN where that page may ask";
        if let Some(origin) = text("origin") {
            let is_own = ["http://", "https://"]
                .iter()
                .any(|scheme| origin.strip_prefix(scheme).is_some_and(|host| host == own));
            let is_allowed = self.origins.iter().any(|allowed| allowed == origin);
            if !is_own && !is_allowed {
                let message = format!("the page {:?} may not ask here", clipped(origin));
                return Err(Refusal::stranger(message, hint));
            }
            return Ok(());
        }
        // A link from elsewhere may lead to a page of ours; it may not load anything else.
        let is_cross = text("sec-fetch-site").is_some_and(|site| site == "cross-site");
        let is_visit =
            method == Method::GET && text("sec-fetch-mode").is_some_and(|mode| mode == "navigate");
        if is_cross && !is_visit {
            return Err(Refusal::stranger("another page may not ask here", hint));
        }
        Ok(())
    }

    fn answers_to(&self, host: &str) -> bool {
        let name = name_of(host);
        let bare = name.trim_start_matches('[').trim_end_matches(']');
        let is_address = match name.starts_with('[') {
            true => bare.parse::<Ipv6Addr>().is_ok(),
            false => matches!(bare.parse::<IpAddr>(), Ok(IpAddr::V4(_))),
        };
        let name = name.trim_end_matches('.');
        is_address
            || name.eq_ignore_ascii_case("localhost")
            || self.hosts.iter().any(|known| known.eq_ignore_ascii_case(name))
    }
}

/// A host without its port.
fn name_of(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if !port.contains(']') && port.bytes().all(|b| b.is_ascii_digit()) => {
            name
        }
        _ => host,
    }
}

/// The key that a request carries: `Authorization: Bearer KEY` or `x-api-key: KEY`.
fn key(headers: &HeaderMap) -> Option<&str> {
    if let Some(value) = headers.get("x-api-key") {
        return value.to_str().ok();
    }
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, key) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(key.trim())
}

fn clipped(text: &str) -> String {
    text.chars().take(80).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::{Key, Scope};

    fn gate() -> Gate {
        Gate {
            keys: Keys::default(),
            hosts: vec!["box.example".into()],
            origins: vec!["https://chat.example".into()],
        }
    }

    fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            let name = axum::http::HeaderName::from_bytes(name.as_bytes()).unwrap();
            headers.append(name, HeaderValue::from_str(value).unwrap());
        }
        headers
    }

    #[test]
    fn only_known_names_and_addresses_are_answered() {
        for (host, expected) in [
            ("localhost", true),
            ("localhost:8080", true),
            ("LOCALHOST:1", true),
            ("localhost.", true),
            ("127.0.0.1:8080", true),
            ("192.168.1.5", true),
            ("[::1]:8080", true),
            ("[::1]", true),
            ("box.example:80", true),
            ("evil.example:8080", false),
            ("localhost.evil.example", false),
            ("evil-localhost", false),
            ("127.0.0.1.evil.example", false),
            ("::1", false),
            ("", false),
            ("[evil.example]", false),
        ] {
            assert_eq!(gate().check_host(&headers(&[("host", host)])).is_ok(), expected, "{host}");
        }
        assert!(gate().check_host(&headers(&[])).is_err());
        let two = headers(&[("host", "localhost"), ("host", "evil.example")]);
        assert!(gate().check_host(&two).is_err());
    }

    #[test]
    fn only_our_pages_and_allowed_ones_may_ask() {
        for (origin, expected) in [
            ("http://localhost:8080", true),
            ("https://chat.example", true),
            ("https://chat.example.evil.example", false),
            ("http://localhost:9090", false),
            ("null", false),
            ("file://", false),
        ] {
            let headers = headers(&[("host", "localhost:8080"), ("origin", origin)]);
            let found = gate().check_origin(&Method::POST, &headers);
            assert_eq!(found.is_ok(), expected, "{origin}");
        }
        for (method, site, mode, expected) in [
            (Method::GET, "cross-site", "no-cors", false),
            (Method::GET, "cross-site", "navigate", true),
            (Method::POST, "cross-site", "navigate", false),
            (Method::GET, "same-origin", "cors", true),
            (Method::GET, "none", "navigate", true),
        ] {
            let headers = headers(&[
                ("host", "localhost"),
                ("sec-fetch-site", site),
                ("sec-fetch-mode", mode),
            ]);
            let found = gate().check_origin(&method, &headers);
            assert_eq!(found.is_ok(), expected, "{method} {site} {mode}");
        }
        assert!(gate().check_origin(&Method::POST, &headers(&[("host", "localhost")])).is_ok());
    }

    #[test]
    fn a_key_comes_in_either_header_and_is_asked_for_everywhere_but_at_healthz() {
        let keys = Keys::new(vec![Key::of("a", "secret", Scope::Chat)]);
        let gate = Gate { keys, ..gate() };
        let check = |path: &str, pairs: &[(&str, &str)], expected: bool| {
            let mut all = vec![("host", "localhost")];
            all.extend(pairs);
            let found = gate.caller(&Method::GET, path, &headers(&all));
            assert_eq!(found.is_ok(), expected, "{path} {pairs:?}");
        };
        check("/healthz", &[], true);
        check("/v1/models", &[], false);
        check("/readyz", &[], false);
        check("/v1/models", &[("authorization", "Bearer secret")], true);
        check("/v1/models", &[("authorization", "bearer  secret")], true);
        check("/v1/models", &[("x-api-key", "secret")], true);
        check("/v1/models", &[("authorization", "Basic secret")], false);
        check("/v1/models", &[("authorization", "Bearer secret2")], false);
        check("/v1/models", &[("x-api-key", "")], false);
    }
}
