//! The routes.

mod anthropic;
mod ask;
mod asked;
mod chat;
mod completions;
mod constraint;
mod conversation;
mod embeddings;
mod in_path;
mod lens;
mod listing;
mod manage;
mod measure;
mod ollama;
mod openapi;
mod parameters;
mod progress;
mod rerank;
mod responses;
mod runs;
mod sampling;
mod session;
mod shape;
mod stream;
mod time;
mod tokens;
mod tools;
mod watching;
mod words;

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::from_fn_with_state;
use axum::response::Response;
use axum::routing::{delete, get, post};
use serde_json::Value;

use crate::gate::{self, Gate};
use crate::page;
use crate::refusal::Refusal;
use crate::server::Service;
use crate::watch;
pub(crate) use responses::Background;
pub use responses::{ResponseMemory, ResponseStore};

/// All routes, behind the gate.
pub(crate) fn router(service: Arc<Service>, gate: Gate) -> Router {
    Router::new()
        .route("/", get(page::serve))
        .route("/web/{*path}", get(page::serve))
        .route("/healthz", get(watching::healthy))
        .route("/readyz", get(watching::ready))
        .route("/metrics", get(watching::metrics))
        .route("/v1/chat/completions", post(chat::complete))
        .route("/v1/completions", post(completions::complete))
        .route("/v1/responses", post(responses::create))
        .route("/v1/responses/input_tokens", post(responses::count))
        .route("/v1/responses/{id}", get(responses::one).delete(responses::delete))
        .route("/v1/responses/{id}/cancel", post(responses::cancel))
        .route("/v1/responses/{id}/input_items", get(responses::input_items))
        .route("/v1/embeddings", post(embeddings::create))
        .route("/v1/rerank", post(rerank::rank))
        .route("/rerank", post(rerank::rank))
        .route("/v1/messages", post(anthropic::message))
        .route("/v1/messages/count_tokens", post(anthropic::count))
        .route("/api/chat", post(ollama::chat))
        .route("/api/generate", post(ollama::generate))
        .route("/api/embed", post(ollama::embed))
        .route("/api/embeddings", post(ollama::embedding))
        .route("/api/tags", get(ollama::tags))
        .route("/api/ps", get(ollama::running))
        .route("/api/show", post(ollama::show))
        .route("/api/version", get(ollama::version))
        .route("/api/pull", post(ollama::pull))
        .route("/api/copy", post(ollama::copy))
        .route("/api/delete", delete(ollama::delete))
        .route("/api/create", post(ollama::create))
        .route("/v1/models", get(listing::all))
        .route("/v1/models/{*id}", get(listing::one).delete(manage::delete))
        .route("/v1/session", get(session::tell).post(session::begin).delete(session::end))
        .merge(conversations())
        .route("/v1/models/load", post(manage::load))
        .route("/v1/models/unload", post(manage::unload))
        .route("/v1/models/pull", post(manage::pull))
        .route("/v1/models/convert", post(manage::convert))
        .route("/v1/runs", get(runs::all))
        .route("/v1/runs/{id}", get(runs::one))
        .route("/v1/next", post(measure::next))
        .route("/v1/score", post(measure::score))
        .route("/v1/lens", post(lens::lens))
        .route("/v1/parameters", get(parameters::parameters))
        .route("/tokenize", post(tokens::tokenize))
        .route("/detokenize", post(tokens::detokenize))
        .route("/tokenizer_info", get(tokens::info))
        .route("/openapi.json", get(openapi::document))
        .route("/docs", get(openapi::page))
        .route("/docs/style.css", get(openapi::style))
        .fallback(no_route)
        .method_not_allowed_fallback(no_method)
        .layer(from_fn_with_state(Arc::new(gate), gate::watch))
        .layer(from_fn_with_state(service.clone(), shape::watch))
        .layer(from_fn_with_state(service.clone(), watch::follow))
        .with_state(service)
}

/// What is kept.
fn conversations() -> Router<Arc<Service>> {
    use conversation::{exchange, messages};
    Router::new()
        .route("/v1/conversations", get(conversation::list).post(conversation::create))
        .route("/v1/conversations/search", get(conversation::search))
        .route("/v1/conversations/export", get(exchange::export_all))
        .route("/v1/conversations/import", post(exchange::import))
        .route(
            "/v1/conversations/{id}",
            get(conversation::one).patch(conversation::change).delete(conversation::remove),
        )
        .route("/v1/conversations/{id}/messages", post(messages::add))
        .route(
            "/v1/conversations/{id}/messages/{number}/rating",
            post(messages::rate).delete(messages::unrate),
        )
        .route("/v1/conversations/{id}/export", get(exchange::export_one))
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
        "the answer's Allow names those that are; what is asked of a model is asked by POST",
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
