//! The routes.

mod ask;
mod chat;
mod completions;
mod constraint;
mod lens;
mod listing;
mod measure;
mod parameters;
mod sampling;
mod stream;
mod tokens;
mod tools;
mod words;

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::from_fn_with_state;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use serde_json::{Value, json};

use crate::gate::{self, Gate};
use crate::refusal::Refusal;
use crate::server::Service;

/// All routes, behind the gate.
pub(crate) fn router(service: Arc<Service>, gate: Gate) -> Router {
    Router::new()
        .route("/healthz", get(healthy))
        .route("/readyz", get(ready))
        .route("/v1/chat/completions", post(chat::complete))
        .route("/v1/completions", post(completions::complete))
        .route("/v1/models", get(listing::all))
        .route("/v1/models/{*id}", get(listing::one))
        .route("/v1/next", post(measure::next))
        .route("/v1/score", post(measure::score))
        .route("/v1/lens", post(lens::lens))
        .route("/v1/parameters", get(parameters::parameters))
        .route("/tokenize", post(tokens::tokenize))
        .route("/detokenize", post(tokens::detokenize))
        .route("/tokenizer_info", get(tokens::info))
        .fallback(no_route)
        .method_not_allowed_fallback(no_method)
        .layer(from_fn_with_state(Arc::new(gate), gate::watch))
        .with_state(service)
}

async fn healthy() -> Response {
    json_response(&json!({ "status": "ok" }))
}

/// Whether requests are taken.
async fn ready(State(service): State<Arc<Service>>) -> Response {
    if service.is_stopping() {
        return Refusal::unavailable("the server is stopping", "ask again in a while")
            .into_response();
    }
    json_response(&json!({ "status": "ok", "in_flight": service.in_flight() }))
}

async fn no_route() -> Refusal {
    Refusal::not_found(
        "unknown_url",
        "there is nothing at this path",
        "the API begins with /v1; GET /v1/models lists the models",
    )
}

async fn no_method() -> Refusal {
    Refusal::client(
        StatusCode::METHOD_NOT_ALLOWED,
        "the path is there, and the method is not for it",
        "what is asked of a model is asked by POST",
    )
}

/// A JSON answer.
fn json_response(value: &Value) -> Response {
    json_text(value.to_string())
}

/// A JSON answer that is written already.
fn json_text(text: String) -> Response {
    let mut response = Response::new(Body::from(text));
    let kind = HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}
