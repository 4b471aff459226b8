//! `/v1/session`: the page exchanges a key for a cookie, which its scripts cannot read.
//!
//! A session is in the server's memory alone and ends with it, with its key, or when it is ended.

use std::sync::Arc;

use axum::Extension;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::Response;
use serde_json::json;

use super::json_response;
use crate::body::{self, BodyLimits};
use crate::fields::Fields;
use crate::gate;
use crate::keyring::SESSION;
use crate::keys::Caller;
use crate::refusal::Refusal;
use crate::server::Service;

/// Most bytes of what begins a session.
const BODY: usize = 4 << 10;

/// Begins a session.
pub(crate) async fn begin(
    State(service): State<Arc<Service>>,
    request: Request,
) -> Result<Response, Refusal> {
    let headers = request.headers().clone();
    // Nobody has shown a key yet, and none is long.
    let limits = BodyLimits { bytes: BODY, ..service.body_limits() };
    let body = body::object(request, limits).await?;
    let fields = Fields::new(&body);
    let key = fields
        .text("key")?
        .ok_or_else(|| Refusal::bad("there is no key", "send {\"key\": KEY}").about("key"))?;
    if service.keyring.is_open() {
        return Err(Refusal::bad("no key is asked for here", "ask without a session"));
    }
    let secret = secret()?;
    let caller = service.keyring.begin(key, &secret)?;
    let mut response = who(&service, caller)?;
    set_cookie(&mut response, &headers, &service, &secret, SESSION.as_secs())?;
    Ok(response)
}

/// Says whose session it is, or whose key.
pub(crate) async fn tell(
    State(service): State<Arc<Service>>,
    Extension(caller): Extension<Caller>,
) -> Result<Response, Refusal> {
    who(&service, caller)
}

/// Ends a session; one that is over already stays so.
pub(crate) async fn end(
    State(service): State<Arc<Service>>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    if let Some(secret) = gate::cookie(&headers, &service.cookie) {
        service.keyring.end(secret);
    }
    let mut response = json_response(&json!({ "ended": true }));
    set_cookie(&mut response, &headers, &service, "", 0)?;
    Ok(response)
}

fn who(service: &Service, caller: Caller) -> Result<Response, Refusal> {
    let name = service.keyring.owner(caller)?;
    Ok(json_response(&json!({
        "name": &*name,
        "scope": caller.scope.name(),
        "needs_key": !service.keyring.is_open(),
    })))
}

/// Scripts cannot read the cookie, and no page of others makes a browser send it.
fn set_cookie(
    response: &mut Response,
    headers: &HeaderMap,
    service: &Service,
    value: &str,
    seconds: u64,
) -> Result<(), Refusal> {
    // By TLS of its own, or of a proxy.
    let origin = headers.get(header::ORIGIN).and_then(|origin| origin.to_str().ok());
    let is_secure = service.options.certificate.is_some()
        || origin.is_some_and(|origin| origin.starts_with("https://"));
    let secure = if is_secure { "; Secure" } else { "" };
    let name = &service.cookie;
    let text =
        format!("{name}={value}; HttpOnly; SameSite=Strict; Path=/; Max-Age={seconds}{secure}");
    let value = HeaderValue::from_str(&text);
    let value = value.map_err(|_| Refusal::broken("the session's cookie cannot be written"))?;
    response.headers_mut().insert(header::SET_COOKIE, value);
    Ok(())
}

/// 256 bits that nobody can guess.
fn secret() -> Result<String, Refusal> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).map_err(|_| Refusal::broken("the system gives no random bytes"))?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}
