//! `/v1/models`: what is here, in a shape that OpenAI's and Anthropic's clients read.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::response::Response;
use serde_json::{Value, json};

use super::{json_response, time};
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
    Path(id): Path<String>,
) -> Result<Response, Refusal> {
    match entries(&service).iter().find(|entry| entry["id"] == id.as_str()) {
        Some(entry) => Ok(json_response(entry)),
        None => Err(service.models.unknown(&id)),
    }
}

/// The entries of all models, each with those of its adapters behind it.
pub(super) fn entries(service: &Service) -> Vec<Value> {
    let mut entries = Vec::new();
    for (id, created) in service.models.list() {
        let own = entry(service, &id, created);
        let adapters = service.models.adapters(&id);
        let beside = adapters.into_iter().map(|adapter| {
            let mut entry = own.clone();
            entry["id"] = adapter.as_str().into();
            entry["display_name"] = adapter.into();
            entry["adapters"] = json!([]);
            entry["parent"] = id.as_str().into();
            entry
        });
        let beside: Vec<Value> = beside.collect();
        entries.push(own);
        entries.extend(beside);
    }
    entries
}

fn entry(service: &Service, id: &str, created: u64) -> Value {
    let mut entry = json!({
        "id": id,
        "object": "model",
        "created": created,
        "owned_by": "llmos",
        "type": "model",
        "display_name": id,
        "created_at": time::rfc3339(created),
        "adapters": service.models.adapters(id),
    });
    let context = service.models.loaded_context(id);
    entry["loaded"] = context.is_some().into();
    if let Some(context) = context {
        entry["max_model_len"] = context.into();
        entry["max_input_tokens"] = context.into();
    }
    entry
}
