//! `/v1/models`: what is here, in a shape that OpenAI's and Anthropic's clients read.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use serde_json::{Value, json};

use super::in_path::InPath;
use super::{json_response, time};
use crate::models::Standing;
use crate::refusal::Refusal;
use crate::server::Service;

/// All models.
pub(crate) async fn all(State(service): State<Arc<Service>>) -> Response {
    let data = entries(&service);
    let id = |entry: Option<&Value>| entry.map(|entry| entry["id"].clone());
    json_response(&json!({
        "object": "list",
        "first_id": id(data.first()),
        "last_id": id(data.last()),
        "has_more": false,
        "data": data,
    }))
}

/// One model.
pub(crate) async fn one(
    State(service): State<Arc<Service>>,
    InPath(id): InPath,
) -> Result<Response, Refusal> {
    of(&service, &id).map(|entry| json_response(&entry))
}

/// A model's entry.
///
/// # Errors
/// No such model.
pub(crate) fn of(service: &Service, id: &str) -> Result<Value, Refusal> {
    let found = entries(service).into_iter().find(|entry| entry["id"] == id);
    found.ok_or_else(|| service.models.unknown(id))
}

/// The entries of all models, each with those of its adapters behind it.
pub(super) fn entries(service: &Service) -> Vec<Value> {
    let mut entries = Vec::new();
    for standing in service.models.standings() {
        let own = entry(&standing);
        let beside = standing.adapters.iter().map(|adapter| {
            let mut entry = own.clone();
            entry["id"] = adapter.as_str().into();
            entry["display_name"] = adapter.as_str().into();
            entry["adapters"] = json!([]);
            entry["parent"] = standing.id.as_str().into();
            entry
        });
        let beside: Vec<Value> = beside.collect();
        entries.push(own);
        entries.extend(beside);
    }
    entries
}

fn entry(standing: &Standing) -> Value {
    let mut entry = json!({
        "id": standing.id,
        "object": "model",
        "created": standing.created,
        "owned_by": "llmos",
        "type": "model",
        "display_name": standing.id,
        "created_at": time::rfc3339(standing.created),
        "loaded": standing.loaded.is_some(),
        "adapters": standing.adapters,
    });
    if let (Value::Object(entry), Value::Object(about)) = (&mut entry, standing.about.to_json()) {
        entry.extend(about);
    }
    if let Some(context) = standing.loaded {
        entry["max_model_len"] = context.into();
        entry["max_input_tokens"] = context.into();
    }
    entry
}
