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

use crate::keyring::Keyring;
use crate::keys::{Caller, Scope};
use crate::refusal::Refusal;
use crate::watch::Record;

/// What is asked of everyone.
pub(crate) struct Gate {
    pub(crate) keyring: Arc<Keyring>,
    /// The cookie of the page's sessions.
    pub(crate) cookie: String,
    /// It is asked by TLS.
    pub(crate) is_secure: bool,
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
    let asked = request.headers();
    let (page, is_named) = (gate.page(asked).cloned(), gate.is_named(asked));
    let is_ahead = gate.is_ahead(request.method(), asked);
    let wanted = asked.get(header::ACCESS_CONTROL_REQUEST_HEADERS).cloned();
    let mut response = match caller {
        Ok(_) if is_ahead => allowed(wanted),
        Ok(caller) => {
            if let (Some(record), Some(name)) = (Record::current(), gate.keyring.name(caller)) {
                record.key(&name);
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
    if let Some(page) = page {
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, page);
        headers.append(header::VARY, HeaderValue::from_static("origin"));
        headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static(EXPOSED));
    }
    // A name that was given to this server is asked by TLS from now on. Addresses and localhost are
    // others' as well, who may have none.
    if gate.is_secure && is_named {
        headers.insert(header::STRICT_TRANSPORT_SECURITY, HeaderValue::from_static(A_YEAR));
    }
    response
}

/// What a page of another site may read of an answer's head.
const EXPOSED: &str = "x-request-id, request-id, retry-after";

/// How long a browser remembers that a name is asked by TLS.
const A_YEAR: &str = "max-age=31536000";

/// What a browser is told that asks ahead for a page which may ask: all that the routes take. Cookies
/// are not among it, since a session is for the server's own page.
fn allowed(wanted: Option<HeaderValue>) -> Response {
    let mut response = StatusCode::NO_CONTENT.into_response();
    let headers = response.headers_mut();
    for (name, value) in [
        (header::ACCESS_CONTROL_ALLOW_METHODS, "GET, POST, PATCH, DELETE"),
        (header::ACCESS_CONTROL_MAX_AGE, "600"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    if let Some(wanted) = wanted {
        headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, wanted);
    }
    response
}

impl Gate {
    fn caller(&self, method: &Method, path: &str, headers: &HeaderMap) -> Result<Caller, Refusal> {
        self.check_host(headers)?;
        self.check_origin(method, headers)?;
        let is_free = is_for_all(method, path) || self.is_ahead(method, headers);
        if self.keyring.is_open() || is_free {
            return Ok(Caller::ANYONE);
        }
        let mut given = keys(headers).peekable();
        let caller = match (given.peek(), cookie(headers, &self.cookie)) {
            (Some(_), _) => {
                let known = given.find_map(|key| self.keyring.find(key));
                known.ok_or_else(Refusal::unknown_key)?
            }
            (None, Some(cookie)) => {
                check_own_page(method, headers)?;
                let over = || Refusal::no_key("the session is over", StatusCode::UNAUTHORIZED);
                self.keyring.session(cookie).ok_or_else(over)?
            }
            (None, None) => {
                return Err(Refusal::no_key("a key is asked for", StatusCode::UNAUTHORIZED));
            }
        };
        if caller.scope != Scope::Admin && is_admin_s(method, path) {
            return Err(Refusal::no_scope());
        }
        Ok(caller)
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
        let hint = "start the server with --allow-origin ORIGIN where that page may ask";
        if let Some(origin) = text("origin") {
            let is_own = is_own(origin, headers);
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

    /// The page of another site that asks, and may.
    fn page<'a>(&self, headers: &'a HeaderMap) -> Option<&'a HeaderValue> {
        let origin = headers.get(header::ORIGIN)?;
        self.origins.iter().any(|allowed| allowed.as_bytes() == origin.as_bytes()).then_some(origin)
    }

    /// A browser asks, before such a page does, whether it may: without a key, and for nothing yet.
    fn is_ahead(&self, method: &Method, headers: &HeaderMap) -> bool {
        method == Method::OPTIONS
            && headers.contains_key(header::ACCESS_CONTROL_REQUEST_METHOD)
            && self.page(headers).is_some()
    }

    /// It is asked by a name that it was given.
    fn is_named(&self, headers: &HeaderMap) -> bool {
        let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
        let name = host.map(|host| name_of(host).trim_end_matches('.')).unwrap_or_default();
        self.hosts.iter().any(|known| known.eq_ignore_ascii_case(name))
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

/// What needs no key: whether the server is well, the page's own files, which are the same on every
/// machine, and the exchange of a key for the page's session. Paths are compared as the router does,
/// byte by byte.
fn is_for_all(method: &Method, path: &str) -> bool {
    let is_read = method == Method::GET || method == Method::HEAD;
    path == "/healthz"
        || is_read && (path == "/" || path == "/favicon.ico" || path.starts_with("/web/"))
        || path == "/v1/session" && (method == Method::POST || method == Method::DELETE)
}

/// What asks for a key of the scope admin: changing which models there are, runs, figures.
fn is_admin_s(method: &Method, path: &str) -> bool {
    let is_read = method == Method::GET || method == Method::HEAD;
    path == "/metrics"
        || path == "/v1/runs"
        || path.starts_with("/v1/runs/")
        || !is_read && path.starts_with("/v1/models/")
        || ["/api/pull", "/api/push", "/api/create", "/api/copy", "/api/delete"].contains(&path)
}

/// A page of this server's own.
fn is_own(origin: &str, headers: &HeaderMap) -> bool {
    let own = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let hosts = ["http://", "https://"].iter().filter_map(|scheme| origin.strip_prefix(scheme));
    !own.is_empty() && hosts.into_iter().any(|host| host == own)
}

/// A browser sends a cookie by itself, so that something else must show that the page which asks is
/// ours: a browser says it whenever something is to be changed, and no page can make it say another.
fn check_own_page(method: &Method, headers: &HeaderMap) -> Result<(), Refusal> {
    let text = |name: &str| headers.get(name).map(|value| value.to_str().unwrap_or("?"));
    let site = text("sec-fetch-site");
    let is_read = method == Method::GET || method == Method::HEAD;
    let is_ours = match (text("origin"), is_read) {
        (Some(origin), _) => is_own(origin, headers),
        (None, is_read) => is_read,
    };
    // Pages of other ports of this machine are of the same site, and are not ours.
    if is_ours && site.is_none_or(|site| site == "same-origin" || is_read && site == "none") {
        return Ok(());
    }
    let message = "the session is for the server's own page alone";
    Err(Refusal::stranger(message, "send a key as `Authorization: Bearer KEY` instead"))
}

/// The value of a cookie.
pub(crate) fn cookie<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let lines = headers.get_all(header::COOKIE).iter().filter_map(|line| line.to_str().ok());
    lines.flat_map(|line| line.split(';')).find_map(|pair| {
        let (found, value) = pair.trim().split_once('=')?;
        (found == name).then_some(value)
    })
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

/// The keys that a request carries: `x-api-key: KEY` and `Authorization: Bearer KEY`. Some clients send
/// both, and have a real one for one of them alone.
fn keys(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let bearer = text("authorization").and_then(|value| value.split_once(' '));
    let bearer = bearer.filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
    text("x-api-key").into_iter().chain(bearer.map(|(_, key)| key.trim()))
}

fn clipped(text: &str) -> String {
    text.chars().take(80).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::{Key, Keys};

    fn gate_of(keys: Keys) -> Gate {
        Gate {
            keyring: Arc::new(Keyring::new(&keys)),
            cookie: "session".into(),
            is_secure: true,
            hosts: vec!["box.example".into()],
            origins: vec!["https://chat.example".into()],
        }
    }

    fn gate() -> Gate {
        gate_of(Keys::default())
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
    fn a_browser_asks_ahead_for_allowed_pages_alone() {
        let gate = gate_of(Keys::new(vec![Key::of("a", "secret", Scope::Chat)]));
        let check = |method: Method, origin: &str, more: &[(&str, &str)], expected: bool| {
            let mut all = vec![("host", "localhost"), ("origin", origin)];
            all.extend(more);
            let headers = headers(&all);
            assert_eq!(gate.is_ahead(&method, &headers), expected, "{method} {origin} {more:?}");
            let is_in = gate.caller(&method, "/v1/models", &headers).is_ok();
            assert_eq!(is_in, expected, "{method} {origin} {more:?}");
        };
        let ahead = [("access-control-request-method", "POST")];
        check(Method::OPTIONS, "https://chat.example", &ahead, true);
        check(Method::OPTIONS, "https://chat.example", &[], false);
        check(Method::POST, "https://chat.example", &ahead, false);
        check(Method::OPTIONS, "http://localhost", &ahead, false);
        check(Method::OPTIONS, "https://evil.example", &ahead, false);
        for (host, expected) in [
            ("box.example:80", true),
            ("BOX.example.", true),
            ("localhost", false),
            ("[::1]", false),
        ] {
            assert_eq!(gate.is_named(&headers(&[("host", host)])), expected, "{host}");
        }
    }

    #[test]
    fn a_key_comes_in_either_header_and_is_asked_for_everywhere_but_at_healthz() {
        let gate = gate_of(Keys::new(vec![Key::of("a", "secret", Scope::Chat)]));
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
        check("/v1/models", &[("x-api-key", "none"), ("authorization", "Bearer secret")], true);
        check("/v1/models", &[("x-api-key", "secret"), ("authorization", "Bearer none")], true);
        check("/v1/models", &[("x-api-key", "none"), ("authorization", "Bearer none")], false);
        check("/v1/models", &[("authorization", "Basic secret")], false);
        check("/v1/models", &[("authorization", "Bearer secret2")], false);
        check("/v1/models", &[("x-api-key", "")], false);
    }

    #[test]
    fn a_session_is_the_own_page_s_alone() {
        let gate = gate_of(Keys::new(vec![Key::of("a", "secret", Scope::Chat)]));
        gate.keyring.begin("secret", "value").unwrap();
        let own = ("origin", "http://localhost:8080");
        let check = |method: Method, pairs: &[(&str, &str)], expected: Result<(), u16>| {
            let mut all = vec![("host", "localhost:8080"), ("cookie", "a=b; session=value")];
            all.extend(pairs);
            let found = gate.caller(&method, "/v1/conversations", &headers(&all));
            let found = found.map(|_| ()).map_err(|refusal| refusal.status.as_u16());
            assert_eq!(found, expected, "{method} {pairs:?}");
        };
        check(Method::GET, &[], Ok(()));
        check(Method::GET, &[("sec-fetch-site", "same-origin")], Ok(()));
        check(Method::GET, &[("sec-fetch-site", "same-site")], Err(403));
        check(Method::GET, &[("sec-fetch-site", "cross-site")], Err(403));
        // A link to a page of ours: nothing that needs the session.
        let link = [("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "navigate")];
        check(Method::GET, &link, Err(403));
        for method in [Method::POST, Method::PATCH, Method::DELETE, Method::PUT] {
            check(method.clone(), &[own, ("sec-fetch-site", "same-origin")], Ok(()));
            check(method.clone(), &[own], Ok(()));
            check(method.clone(), &[], Err(403));
            check(method.clone(), &[("sec-fetch-site", "same-origin")], Err(403));
            check(method.clone(), &[own, ("sec-fetch-site", "same-site")], Err(403));
            check(method.clone(), &[own, ("sec-fetch-site", "none")], Err(403));
            for origin in ["http://localhost:3000", "http://evil.example", "null"] {
                check(method.clone(), &[("origin", origin)], Err(403));
            }
            // A page that was allowed to ask brings a key, and no cookie.
            check(method.clone(), &[("origin", "https://chat.example")], Err(403));
            let keyed = [("origin", "https://chat.example"), ("x-api-key", "secret")];
            check(method, &keyed, Ok(()));
        }
        let other = headers(&[("host", "localhost"), ("cookie", "session=other")]);
        let refusal = gate.caller(&Method::GET, "/v1/models", &other).unwrap_err();
        assert_eq!(refusal.status, StatusCode::UNAUTHORIZED);
    }

    #[test]
    fn what_changes_models_and_shows_runs_is_for_admins() {
        let keys = [("chat", Scope::Chat), ("admin", Scope::Admin)];
        let gate = gate_of(Keys::new(keys.map(|(name, scope)| Key::of(name, name, scope)).into()));
        for (method, path, is_admin_s) in [
            (Method::POST, "/v1/models/load", true),
            (Method::POST, "/v1/models/pull", true),
            (Method::DELETE, "/v1/models/x", true),
            (Method::GET, "/v1/models/load", false),
            (Method::GET, "/v1/models", false),
            (Method::GET, "/v1/runs", true),
            (Method::GET, "/v1/runs/a", true),
            (Method::GET, "/metrics", true),
            (Method::POST, "/api/pull", true),
            (Method::POST, "/v1/chat/completions", false),
            (Method::GET, "/v1/conversations", false),
        ] {
            let ask = |key: &str| {
                let headers = headers(&[("host", "localhost"), ("x-api-key", key)]);
                gate.caller(&method, path, &headers).map_err(|refusal| refusal.status.as_u16())
            };
            assert!(ask("admin").is_ok(), "{method} {path}");
            let found = ask("chat").map(|_| ());
            assert_eq!(found, if is_admin_s { Err(403) } else { Ok(()) }, "{method} {path}");
        }
    }
}
