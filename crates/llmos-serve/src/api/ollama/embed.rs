//! `/api/embed`, and `/api/embeddings` of older clients.

use std::sync::Arc;
use std::time::Instant;

use axum::Extension;
use axum::extract::{Request as HttpRequest, State};
use axum::response::Response;
use serde_json::json;

use super::{AT_ONCE, name_model, stay};
use crate::api::ask::Ask;
use crate::api::embeddings::{self, Wanted};
use crate::api::{completions, json_response};
use crate::body;
use crate::fields::Fields;
use crate::keys::Caller;
use crate::refusal::Refusal;
use crate::server::Service;

/// States of texts, each of length 1.
pub(in crate::api) async fn embed(
    State(service): State<Arc<Service>>,
    Extension(caller): Extension<Caller>,
    request: HttpRequest,
) -> Result<Response, Refusal> {
    let start = Instant::now();
    let ticket = service.ticket()?;
    let mut body = body::object(request, service.body_limits()).await?;
    name_model(&service, &mut body)?;
    let stay = stay(Fields::new(&body))?;
    let read = move |ask: &Ask, fields: Fields<'_>| {
        stay.iter().for_each(|stay| ask.service.models.keep(&ask.resident.id, *stay));
        let texts = fields.texts("input")?.unwrap_or_default();
        if texts.len() > embeddings::INPUTS {
            let expected = format!("at most {} texts", embeddings::INPUTS);
            return Err(Refusal::field("input", expected, &texts.len().into(), "send some later"));
        }
        let inputs = match texts.is_empty() {
            true => Vec::new(),
            false => completions::prompts(fields, "input", embeddings::INPUTS, &ask.resident)?,
        };
        let mut inputs: Vec<Vec<u32>> = inputs.into_iter().map(|(tokens, _)| tokens).collect();
        if fields.flag_or("truncate", true)? {
            inputs.iter_mut().for_each(|tokens| tokens.truncate(ask.resident.longest_prompt() + 1));
        }
        Wanted::read(fields, &ask.resident, inputs)
    };
    let embedded = embeddings::embed(service.clone(), caller, ticket, body, read).await?;
    if stay == Some(AT_ONCE) {
        service.models.release(&embedded.model);
    }
    Ok(json_response(&json!({
        "model": embedded.model,
        "embeddings": embedded.vectors,
        "total_duration": start.elapsed().as_nanos() as u64,
        "load_duration": 0,
        "prompt_eval_count": embedded.tokens,
    })))
}

/// The state of one text, as older clients ask for it.
pub(in crate::api) async fn embedding(
    State(service): State<Arc<Service>>,
    Extension(caller): Extension<Caller>,
    request: HttpRequest,
) -> Result<Response, Refusal> {
    let ticket = service.ticket()?;
    let mut body = body::object(request, service.body_limits()).await?;
    name_model(&service, &mut body)?;
    let read = |ask: &Ask, fields: Fields<'_>| {
        let prompt = fields.text("prompt")?.unwrap_or_default();
        let mut tokens = ask.resident.tokenizer.encode_prompt(prompt);
        tokens.truncate(ask.resident.longest_prompt() + 1);
        Wanted::read(fields, &ask.resident, vec![tokens])
    };
    let mut embedded = embeddings::embed(service, caller, ticket, body, read).await?;
    Ok(json_response(&json!({ "embedding": embedded.vectors.pop() })))
}
