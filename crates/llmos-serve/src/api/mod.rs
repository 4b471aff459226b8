//! The routes.

mod ask;
mod chat;
mod completions;
mod constraint;
mod conversation;
mod listing;
mod measure;
mod sampling;
mod session;
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
use crate::page;
use crate::refusal::Refusal;
use crate::server::Service;

/// All routes, behind the gate.
pub(crate) fn router(service: Arc<Service>, gate: Gate) -> Router {
    Router::new()
        .route("/", get(page::serve))
        .route("/web/{*path}", get(page::serve))
        .route("/healthz", get(healthy))
        .route("/readyz", get(ready))
        .route("/v1/chat/completions", post(chat::complete))
        .route("/v1/completions", post(completions::complete))
        .route("/v1/models", get(listing::all))
        .route("/v1/models/{*id}", get(listing::one))
        .route("/v1/session", get(session::tell).post(session::begin).delete(session::end))
        .merge(conversations())
        .route("/v1/next", post(measure::next))
        .route("/v1/score", post(measure::score))
        .route("/tokenize", post(tokens::tokenize))
        .route("/detokenize", post(tokens::detokenize))
        .route("/tokenizer_info", get(tokens::info))
        .fallback(no_route)
        .method_not_allowed_fallback(no_method)
        .layer(from_fn_with_state(Arc::new(gate), gate::watch))
        .with_state(service)
}

/// What is kept.
fn conversations() -> Router<Arc<Service>> {
    use conversation::{exchange, messages};
    const ONE: &str = "/v1/conversations/{id}";
    let rating = post(messages::rate).delete(messages::unrate);
    Router::new()
        .route("/v1/conversations", get(conversation::list).post(conversation::create))
        .route("/v1/conversations/search", get(conversation::search))
        .route("/v1/conversations/export", get(exchange::export_all))
        .route("/v1/conversations/import", post(exchange::import))
        .route(ONE, get(conversation::one).patch(conversation::change).delete(conversation::remove))
        .route("/v1/conversations/{id}/messages", post(messages::add))
        .route("/v1/conversations/{id}/messages/{number}/rating", rating)
        .route("/v1/conversations/{id}/export", get(exchange::export_one))
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
    let mut response = Response::new(Body::from(value.to_string()));
    let kind = HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}
