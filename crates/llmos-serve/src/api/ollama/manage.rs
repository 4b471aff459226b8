//! What changes the models that are here, in Ollama's words: `/api/pull`, `/api/copy`, `/api/delete`,
//! `/api/create`. For admins alone; the work is that of the routes below `/v1/models`.

use std::sync::Arc;

use axum::Extension;
use axum::extract::{Request as HttpRequest, State};
use axum::http::StatusCode;
use axum::response::Response;
use serde_json::{Map, Value, json};

use super::{id_of, named};
use crate::api::json_response;
use crate::api::manage::{self, must_be_admin};
use crate::api::progress::{self, Words};
use crate::body;
use crate::fields::Fields;
use crate::keys::Caller;
use crate::refusal::Refusal;
use crate::server::Service;

/// Where Ollama's clients look for models on the hub, which here is `hf:`.
const HUB: [&str; 2] = ["hf.co/", "huggingface.co/"];

/// The longest name that a copy may have.
const LONGEST: usize = 100;

/// Brings a model from where the server's models come from.
pub(in crate::api) async fn pull(
    State(service): State<Arc<Service>>,
    Extension(caller): Extension<Caller>,
    request: HttpRequest,
) -> Result<Response, Refusal> {
    let body = admin_body(&service, &caller, request).await?;
    let fields = Fields::new(&body);
    if fields.flag("insecure")? {
        let hint = "models come from the places that the server knows, and are checked";
        return Err(Refusal::field("insecure", "nothing", &true.into(), hint));
    }
    let streamed = fields.flag_or("stream", true)?;
    let chore = manage::begin_pull(service, "model", &address(named(&body)?)).await?;
    if streamed {
        return Ok(progress::response(chore, Words::Ollama));
    }
    chore.end().await?;
    Ok(success())
}

/// What the server calls it that Ollama's clients call `hf.co/OWNER/REPO`, with or without a tag.
fn address(name: &str) -> String {
    let name = name.strip_suffix(":latest").unwrap_or(name);
    match HUB.iter().find_map(|hub| name.strip_prefix(hub)) {
        Some(rest) => format!("hf:{rest}"),
        None => name.to_string(),
    }
}

/// Gives a model a second name.
pub(in crate::api) async fn copy(
    State(service): State<Arc<Service>>,
    Extension(caller): Extension<Caller>,
    request: HttpRequest,
) -> Result<Response, Refusal> {
    let body = admin_body(&service, &caller, request).await?;
    let text = |name: &str| {
        let hint = "send {\"source\": NAME, \"destination\": NAME}";
        let found = Fields::new(&body).text(name)?.filter(|text| !text.is_empty());
        found.ok_or_else(|| Refusal::bad(format!("{name} is required"), hint).about(name))
    };
    let (source, destination) = (text("source")?, text("destination")?);
    let name = destination.strip_suffix(":latest").unwrap_or(destination);
    if !is_name(name) {
        let expected = format!("a name of at most {LONGEST} letters, digits, -, _ and dots");
        let hint = "a copy has a name of its own, without an owner and without a tag";
        return Err(Refusal::field("destination", expected, &destination.into(), hint));
    }
    manage::copy(service.clone(), id_of(&service, source), name).await?;
    Ok(success())
}

/// A name that can stand in a path, and leads nowhere there.
fn is_name(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    !name.is_empty() && name.len() <= LONGEST && !name.starts_with('.') && name.chars().all(plain)
}

/// Deletes a model and its files.
pub(in crate::api) async fn delete(
    State(service): State<Arc<Service>>,
    Extension(caller): Extension<Caller>,
    request: HttpRequest,
) -> Result<Response, Refusal> {
    let body = admin_body(&service, &caller, request).await?;
    manage::remove(service.clone(), id_of(&service, named(&body)?)).await?;
    Ok(success())
}

/// Says where to go instead: a Modelfile sets a template, a system prompt and sampling, of which a
/// model's own files have the first, and each request the others.
pub(in crate::api) async fn create(
    State(service): State<Arc<Service>>,
    Extension(caller): Extension<Caller>,
    request: HttpRequest,
) -> Result<Response, Refusal> {
    admin_body(&service, &caller, request).await?;
    Err(Refusal::client(
        StatusCode::NOT_IMPLEMENTED,
        "no model is made of a Modelfile here",
        "send system and options with each request; /api/copy gives a model another name, POST \
         /v1/models/convert another type, and `llmos finetune` other weights",
    ))
}

async fn admin_body(
    service: &Service,
    caller: &Caller,
    request: HttpRequest,
) -> Result<Map<String, Value>, Refusal> {
    must_be_admin(caller)?;
    body::object(request, service.body_limits()).await
}

fn success() -> Response {
    json_response(&json!({ "status": "success" }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_ollama_s_clients_are_told_in_ours() {
        for (name, expected) in [
            ("hf.co/o/r", "hf:o/r"),
            ("hf.co/o/r:Q4_K_M", "hf:o/r:Q4_K_M"),
            ("huggingface.co/o/r:latest", "hf:o/r"),
            ("hf:o/r", "hf:o/r"),
            ("llama3.2:latest", "llama3.2"),
        ] {
            assert_eq!(address(name), expected);
        }
    }

    #[test]
    fn names_of_copies_lead_nowhere() {
        for (name, expected) in [
            ("mine", true),
            ("qwen2.5-mine_3", true),
            ("", false),
            (".hidden", false),
            ("..", false),
            ("a/b", false),
            ("a:b", false),
            ("a\\b", false),
            ("世界", false),
        ] {
            assert_eq!(is_name(name), expected, "{name}");
        }
        assert!(is_name(&"x".repeat(LONGEST)) && !is_name(&"x".repeat(LONGEST + 1)));
    }
}
