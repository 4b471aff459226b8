//! What is here, as Ollama tells it: `/api/tags`, `/api/ps`, `/api/show`, `/api/version`.

use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::extract::{Request as HttpRequest, State};
use axum::response::Response;
use llmos_agent::CallFormat;
use serde_json::{Map, Value, json};

use super::name_model;
use crate::api::{json_response, listing, time};
use crate::body;
use crate::fields::Fields;
use crate::keys::Caller;
use crate::refusal::Refusal;
use crate::server::Service;

/// When a model goes that stays until its memory is needed, which nobody knows ahead.
const NEVER: &str = "2318-03-01T00:00:00Z";

/// Years have four digits.
const LATEST: Duration = Duration::from_secs(253_402_300_800);

/// Which program answers.
pub(in crate::api) async fn version() -> Response {
    json_response(&json!({ "version": env!("CARGO_PKG_VERSION") }))
}

/// All models.
pub(in crate::api) async fn tags(State(service): State<Arc<Service>>) -> Response {
    let models: Vec<Value> = listing::entries(&service).iter().map(model).collect();
    json_response(&json!({ "models": models }))
}

/// The models in memory.
pub(in crate::api) async fn running(State(service): State<Arc<Service>>) -> Response {
    let entries = listing::entries(&service);
    let loaded = entries.iter().filter(|entry| entry["loaded"] == true);
    let models = loaded.map(|entry| {
        let mut model = model(entry);
        let left = service.models.leaves_in(id(entry), service.options.keep_alive);
        let expires = left.and_then(|left| time::since_epoch().checked_add(left));
        model["expires_at"] = match expires.filter(|expires| *expires < LATEST) {
            Some(expires) => time::precise(expires).into(),
            None => NEVER.into(),
        };
        model["size_vram"] = 0.into();
        model["context_length"] = context(entry).into();
        model
    });
    json_response(&json!({ "models": models.collect::<Vec<Value>>() }))
}

/// All about one model, which is loaded for it.
pub(in crate::api) async fn show(
    State(service): State<Arc<Service>>,
    Extension(caller): Extension<Caller>,
    request: HttpRequest,
) -> Result<Response, Refusal> {
    let _ticket = service.place(caller)?;
    let mut body = body::object(request, service.body_limits()).await?;
    name_model(&service, &mut body)?;
    let id = Fields::new(&body).text("model")?;
    let resident = service.models.get(id, &service.scheduling()).await?;
    let entries = listing::entries(&service);
    let entry = entries.iter().find(|entry| entry["id"] == resident.id.as_str());
    let entry = entry.cloned().unwrap_or_default();
    let template = resident.template.as_deref().unwrap_or_default();
    let mut capabilities = vec!["completion", "embedding"];
    if CallFormat::of_template(template).is_some() {
        capabilities.push("tools");
    }
    if template.contains("enable_thinking") || template.contains("<think>") {
        capabilities.push("thinking");
    }
    let architecture = entry["architecture"].as_str().unwrap_or("llama");
    let mut about = Map::new();
    about.insert("general.architecture".to_string(), architecture.into());
    about.insert("general.parameter_count".to_string(), entry["parameters"].clone());
    about.insert(format!("{architecture}.context_length"), resident.context.into());
    about.insert(format!("{architecture}.embedding_length"), resident.d_model.into());
    about.insert(format!("{architecture}.vocab_size"), resident.vocab_size.into());
    let mut answer = json!({
        "modelfile": format!("FROM {}\n", resident.id),
        "parameters": "",
        "template": template,
        "details": details(&entry),
        "model_info": about,
        "capabilities": capabilities,
        "modified_at": modified(&entry),
    });
    if let Some(licence) = entry["license"].as_str() {
        answer["license"] = licence.into();
    }
    Ok(json_response(&answer))
}

/// A model as Ollama's list has it, from the entry of ours.
fn model(entry: &Value) -> Value {
    let digest = entry["digest"].as_str().unwrap_or_default();
    json!({
        "name": entry["id"],
        "model": entry["id"],
        "modified_at": modified(entry),
        "size": entry["size"].as_u64().unwrap_or(0),
        "digest": digest.trim_start_matches("sha256:"),
        "details": details(entry),
    })
}

/// The id of a model; of an adapter's entry that of the model that it belongs to.
fn id(entry: &Value) -> &str {
    entry["parent"].as_str().or(entry["id"].as_str()).unwrap_or_default()
}

fn modified(entry: &Value) -> String {
    time::rfc3339(entry["created"].as_u64().unwrap_or(0))
}

fn context(entry: &Value) -> u64 {
    let context = entry.get("context").or_else(|| entry.get("max_model_len"));
    context.and_then(Value::as_u64).unwrap_or(0)
}

fn details(entry: &Value) -> Value {
    let family = entry["architecture"].as_str().unwrap_or("llama");
    let quantization = entry["quantization"].as_str().unwrap_or_default();
    json!({
        "parent_model": entry["parent"].as_str().unwrap_or_default(),
        "format": "gguf",
        "family": family,
        "families": [family],
        "parameter_size": size(entry["parameters"].as_u64().unwrap_or(0)),
        "quantization_level": quantization.to_uppercase(),
    })
}

/// A number of parameters as Ollama writes it: `7.2B`, `135M`, `260K`.
fn size(parameters: u64) -> String {
    let number = parameters as f64;
    match parameters {
        1_000_000_000.. => format!("{:.1}B", number / 1e9),
        1_000_000.. => format!("{:.2}M", number / 1e6),
        1_000.. => format!("{:.2}K", number / 1e3),
        _ => parameters.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_counted_as_ollama_does() {
        for (parameters, expected) in [
            (0, "0"),
            (999, "999"),
            (260_032, "260.03K"),
            (134_515_008, "134.52M"),
            (7_615_616_512, "7.6B"),
        ] {
            assert_eq!(size(parameters), expected);
        }
    }
}
