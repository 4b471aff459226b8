//! `/healthz`, `/readyz`, `/metrics`: how the server stands, for programs that look after it.

use std::sync::Arc;
use std::time::SystemTime;

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderValue, header};
use axum::response::Response;
use serde_json::json;

use super::json_response;
use crate::refusal::Refusal;
use crate::server::Service;
use crate::watch::Moment;

/// The process is alive. The one route that asks for no key, so it says nothing more.
pub(crate) async fn healthy() -> Response {
    json_response(&json!({ "status": "ok" }))
}

/// Whether requests are taken: not before the models are there that were to be loaded first, and not
/// while the server stops.
pub(crate) async fn ready(State(service): State<Arc<Service>>) -> Result<Response, Refusal> {
    if service.is_stopping() {
        return Err(Refusal::unavailable("the server is stopping", "ask again in a while"));
    }
    if let Some(id) = service.awaited() {
        let message = format!("the model {id:?} is not loaded yet");
        return Err(Refusal::unavailable(
            message,
            "ask again in a while; the server's log says more",
        ));
    }
    Ok(json_response(&json!({ "status": "ok", "in_flight": service.in_flight() })))
}

/// All that is counted, in Prometheus' text format.
pub(crate) async fn metrics(State(service): State<Arc<Service>>) -> Response {
    let began = service.began.duration_since(SystemTime::UNIX_EPOCH);
    let moment = Moment {
        in_flight: service.in_flight(),
        slots: service.options.slots,
        queue: service.options.queue,
        models: &service.models.standings(),
        memory: service.models.memory(),
        process_bytes: service.options.process_bytes.and_then(|measure| measure()),
        began: began.map_or(0.0, |began| began.as_secs_f64()),
    };
    let mut response = Response::new(Body::from(service.metrics.text(&moment)));
    let kind = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}
