//! Refusals in the shape of the API that was spoken, and a name for each request.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::middleware::Next;
use axum::response::Response;
use serde_json::{Value, json};

use crate::refusal::Refusal;
use crate::server::Service;
use crate::watch::Record;

/// Whose words a client understands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shape {
    OpenAi,
    Anthropic,
    Ollama,
}

impl Shape {
    /// By the path; what several APIs share belongs to who says that it is Anthropic's client.
    fn of(path: &str, headers: &HeaderMap) -> Shape {
        let is = |root: &str| {
            path.strip_prefix(root).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        let is_shared = is("/v1/models") && headers.contains_key("anthropic-version");
        if is("/api") {
            Shape::Ollama
        } else if is("/v1/messages") || is_shared {
            Shape::Anthropic
        } else {
            Shape::OpenAi
        }
    }
}

/// Gives each answer its name, and what was refused the shape of its API.
pub(super) async fn watch(
    State(service): State<Arc<Service>>,
    request: Request,
    next: Next,
) -> Response {
    let shape = Shape::of(request.uri().path(), request.headers());
    let record = Record::current();
    let id = record.map_or_else(|| service.ids.name("req_"), |record| record.id().to_string());
    let mut response = next.run(request).await;
    let refusal = response.extensions_mut().remove::<Refusal>();
    if let Some(refusal) = refusal.filter(|_| shape != Shape::OpenAi) {
        let value = match shape {
            Shape::Anthropic => anthropic(&refusal, Some(&id)),
            Shape::Ollama | Shape::OpenAi => ollama(&refusal),
        };
        *response.body_mut() = Body::from(value.to_string());
    }
    if let Ok(id) = HeaderValue::from_str(&id) {
        let name = if shape == Shape::Anthropic { "request-id" } else { "x-request-id" };
        response.headers_mut().entry(name).or_insert(id);
    }
    response
}

/// A refusal as Anthropic's API writes it.
pub(super) fn anthropic(refusal: &Refusal, request: Option<&str>) -> Value {
    let kind = match refusal.status {
        StatusCode::UNAUTHORIZED => "authentication_error",
        StatusCode::FORBIDDEN => "permission_error",
        StatusCode::NOT_FOUND => "not_found_error",
        StatusCode::PAYLOAD_TOO_LARGE => "request_too_large",
        StatusCode::TOO_MANY_REQUESTS => "rate_limit_error",
        StatusCode::SERVICE_UNAVAILABLE => "overloaded_error",
        StatusCode::GATEWAY_TIMEOUT => "timeout_error",
        status if status.is_client_error() => "invalid_request_error",
        _ => "api_error",
    };
    let mut value =
        json!({ "type": "error", "error": { "type": kind, "message": refusal.sentence() } });
    if let Some(id) = request {
        value["request_id"] = id.into();
    }
    value
}

/// A refusal as Ollama's API writes it.
pub(super) fn ollama(refusal: &Refusal) -> Value {
    json!({ "error": refusal.sentence() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_says_whose_api_is_spoken() {
        let none = HeaderMap::new();
        for (path, expected) in [
            ("/api/chat", Shape::Ollama),
            ("/api", Shape::Ollama),
            ("/apis", Shape::OpenAi),
            ("/v1/messages", Shape::Anthropic),
            ("/v1/messages/count_tokens", Shape::Anthropic),
            ("/v1/models", Shape::OpenAi),
            ("/v1/chat/completions", Shape::OpenAi),
            ("/", Shape::OpenAi),
        ] {
            assert_eq!(Shape::of(path, &none), expected, "{path}");
        }
        let mut headers = HeaderMap::new();
        headers.insert("anthropic-version", HeaderValue::from_static("2023-06-01"));
        assert_eq!(Shape::of("/v1/models/x", &headers), Shape::Anthropic);
        assert_eq!(Shape::of("/v1/completions", &headers), Shape::OpenAi);
    }
}
