//! The routes.

mod ask;
mod chat;
mod completions;
mod constraint;
mod listing;
mod manage;
mod measure;
mod progress;
mod runs;
mod sampling;
mod stream;
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
use axum::routing::{get, post};
use serde_json::Value;

use crate::gate::{self, Gate};
use crate::refusal::Refusal;
use crate::server::Service;
use crate::watch;

/// All routes, behind the gate.
pub(crate) fn router(service: Arc<Service>, gate: Gate) -> Router {
    Router::new()
        .route("/healthz", get(watching::healthy))
        .route("/readyz", get(watching::ready))
        .route("/metrics", get(watching::metrics))
        .route("/v1/chat/completions", post(chat::complete))
        .route("/v1/completions", post(completions::complete))
        .route("/v1/models", get(listing::all))
        .route("/v1/models/{*id}", get(listing::one))
        .route("/v1/models/load", post(manage::load))
        .route("/v1/models/unload", post(manage::unload))
        .route("/v1/models/pull", post(manage::pull))
        .route("/v1/models/convert", post(manage::convert))
        .route("/v1/runs", get(runs::all))
        .route("/v1/runs/{id}", get(runs::one))
        .route("/v1/next", post(measure::next))
        .route("/v1/score", post(measure::score))
        .route("/tokenize", post(tokens::tokenize))
        .route("/detokenize", post(tokens::detokenize))
        .route("/tokenizer_info", get(tokens::info))
        .fallback(no_route)
        .method_not_allowed_fallback(no_method)
        .layer(from_fn_with_state(Arc::new(gate), gate::watch))
        .layer(from_fn_with_state(service.clone(), watch::follow))
        .with_state(service)
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
