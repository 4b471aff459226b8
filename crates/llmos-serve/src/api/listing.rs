//! `/v1/models`: what is here.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::response::Response;
use serde_json::{Value, json};

use super::json_response;
use crate::models::Standing;
use crate::refusal::Refusal;
use crate::server::Service;

/// All models.
pub(crate) async fn all(State(service): State<Arc<Service>>) -> Response {
    let data: Vec<Value> = service.models.standings().iter().map(entry).collect();
    json_response(&json!({ "object": "list", "data": data }))
}

/// One model.
pub(crate) async fn one(
    State(service): State<Arc<Service>>,
    Path(id): Path<String>,
) -> Result<Response, Refusal> {
    of(&service, &id).map(|entry| json_response(&entry))
}

/// A model's entry.
///
/// # Errors
/// No such model.
pub(crate) fn of(service: &Service, id: &str) -> Result<Value, Refusal> {
    let standings = service.models.standings();
    let found = standings.iter().find(|standing| standing.id == id);
    found.map(entry).ok_or_else(|| service.models.unknown(id))
}

fn entry(standing: &Standing) -> Value {
    let mut entry = json!({
        "id": standing.id,
        "object": "model",
        "created": standing.created,
        "owned_by": "llmos",
        "loaded": standing.loaded.is_some(),
        "adapters": [],
    });
    if let (Value::Object(entry), Value::Object(about)) = (&mut entry, standing.about.to_json()) {
        entry.extend(about);
    }
    if let Some(context) = standing.loaded {
        entry["max_model_len"] = context.into();
    }
    entry
}
