//! Bodies of requests: within a size and a time, and JSON.

use std::time::Duration;

use axum::body::{Body, Bytes, to_bytes};
use axum::extract::Request;
use axum::http::{HeaderMap, StatusCode, header};
use serde_json::{Map, Value};

use crate::refusal::Refusal;

/// How large a body may be, and how long it may take to come.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BodyLimits {
    /// Bytes.
    pub(crate) bytes: usize,
    /// From the first byte to the last.
    pub(crate) time: Duration,
}

/// The object that a request's body is.
///
/// # Errors
/// Another kind of content, too many bytes, a client that takes too long, and what is no JSON object.
pub(crate) async fn object(
    request: Request,
    limits: BodyLimits,
) -> Result<Map<String, Value>, Refusal> {
    let bytes = bytes(request, limits, &["application/json"]).await?;
    let parsed = tokio::task::spawn_blocking(move || parse(&bytes)).await;
    parsed.unwrap_or_else(|_| Err(Refusal::broken("reading the body ended early")))
}

/// The bytes of a request's body, of one of these kinds of content.
///
/// # Errors
/// As [`object`], without a look at what the bytes are.
pub(crate) async fn bytes(
    request: Request,
    limits: BodyLimits,
    kinds: &[&str],
) -> Result<Bytes, Refusal> {
    let (head, body) = request.into_parts();
    check_kind(&head.headers, kinds)?;
    check_coding(&head.headers)?;
    let length = head.headers.get(header::CONTENT_LENGTH);
    let length = length.and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    if length.is_some_and(|length| length > limits.bytes as u64) {
        return Err(too_large(limits.bytes));
    }
    read(body, limits).await
}

async fn read(body: Body, limits: BodyLimits) -> Result<Bytes, Refusal> {
    let bytes = to_bytes(body, limits.bytes);
    match tokio::time::timeout(limits.time, bytes).await {
        Ok(Ok(bytes)) => Ok(bytes),
        Ok(Err(error)) if error.to_string().contains("length limit") => {
            Err(too_large(limits.bytes))
        }
        Ok(Err(_)) => Err(Refusal::bad("the body ended early", "send all of it")),
        Err(_) => Err(Refusal::client(
            StatusCode::REQUEST_TIMEOUT,
            format!("the body took longer than {} seconds", limits.time.as_secs_f64()),
            "send it at once",
        )),
    }
}

/// No other kinds: a form on a page of a stranger can send some without being asked.
fn check_kind(headers: &HeaderMap, kinds: &[&str]) -> Result<(), Refusal> {
    let Some(kind) = headers.get(header::CONTENT_TYPE) else { return Ok(()) };
    let kind = kind.to_str().unwrap_or_default().split(';').next().unwrap_or_default().trim();
    if kinds.iter().any(|known| kind.eq_ignore_ascii_case(known)) {
        return Ok(());
    }
    Err(Refusal::client(
        StatusCode::UNSUPPORTED_MEDIA_TYPE,
        format!("expected content-type {}, got {kind:?}", kinds.join(" or ")),
        format!("with curl: -H 'content-type: {}'", kinds.first().unwrap_or(&"")),
    ))
}

/// No packed bodies: what a few of their bytes unpack to has no bound.
fn check_coding(headers: &HeaderMap) -> Result<(), Refusal> {
    let Some(coding) = headers.get(header::CONTENT_ENCODING) else { return Ok(()) };
    let coding = coding.to_str().unwrap_or("?").trim();
    if coding.is_empty() || coding.eq_ignore_ascii_case("identity") {
        return Ok(());
    }
    let coding: String = coding.chars().take(40).collect();
    Err(Refusal::client(
        StatusCode::UNSUPPORTED_MEDIA_TYPE,
        format!("the body is packed, content-encoding {coding:?}, and none is read here"),
        "send it as it is, without content-encoding",
    ))
}

fn too_large(most: usize) -> Refusal {
    Refusal::client(
        StatusCode::PAYLOAD_TOO_LARGE,
        format!("the body has more than {most} bytes"),
        "send less: contexts are far shorter than that",
    )
}

/// JSON nested deeper than 128 levels is refused by its parser.
fn parse(bytes: &[u8]) -> Result<Map<String, Value>, Refusal> {
    let hint = "send one JSON object in UTF-8";
    // Some editors and shells put a mark before what they write.
    let bytes = bytes.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(bytes);
    match serde_json::from_slice(bytes) {
        Ok(Value::Object(object)) => Ok(object),
        Ok(other) => {
            let kind = match other {
                Value::Null => "null",
                Value::Bool(_) => "true or false",
                Value::Number(_) => "a number",
                Value::String(_) => "a text",
                Value::Array(_) | Value::Object(_) => "a list",
            };
            Err(Refusal::bad(format!("expected a JSON object, got {kind}"), hint))
        }
        Err(error) => Err(Refusal::bad(format!("the body is no JSON: {error}"), hint)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_object_is_refused_and_never_a_panic() {
        let deep = "[".repeat(100_000);
        let nested = format!("{}1{}", "{\"a\":".repeat(200), "}".repeat(200));
        for text in [
            &b""[..],
            b"{",
            b"null",
            b"3",
            b"[1]",
            b"\"x\"",
            b"{\"a\": NaN}",
            b"{\"a\": 1e999}",
            b"{\"a\": 01}",
            b"{\"a\": \"\xFF\"}",
            b"{} {}",
            deep.as_bytes(),
            nested.as_bytes(),
        ] {
            let refusal = parse(text).unwrap_err();
            assert_eq!(refusal.status, StatusCode::BAD_REQUEST, "{refusal:?}");
        }
        assert_eq!(parse(b" {\"a\": [1, null]} ").unwrap()["a"][0], 1);
        assert_eq!(parse(b"\xEF\xBB\xBF{\"a\": 1}").unwrap()["a"], 1);
    }
}
