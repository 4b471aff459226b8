//! `/v1/models`: what is here.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::response::Response;
use serde_json::{Value, json};

use super::json_response;
use crate::refusal::Refusal;
use crate::server::Service;

/// All models.
pub(crate) async fn all(State(service): State<Arc<Service>>) -> Response {
    let models = service.models.list();
    let data: Vec<Value> =
        models.iter().map(|(id, created)| entry(&service, id, *created)).collect();
    json_response(&json!({ "object": "list", "data": data }))
}

/// One model.
pub(crate) async fn one(
    State(service): State<Arc<Service>>,
    Path(id): Path<String>,
) -> Result<Response, Refusal> {
    let models = service.models.list();
    match models.iter().find(|(known, _)| *known == id) {
        Some((id, created)) => Ok(json_response(&entry(&service, id, *created))),
        None => Err(service.models.unknown(&id)),
    }
}

fn entry(service: &Service, id: &str, created: u64) -> Value {
    let mut entry = json!({ "id": id, "object": "model", "created": created, "owned_by": "llmos" });
    let context = service.models.loaded_context(id);
    entry["loaded"] = context.is_some().into();
    if let Some(context) = context {
        entry["max_model_len"] = context.into();
    }
    entry
}
