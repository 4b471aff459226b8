//! Anthropic's API: `POST /v1/messages` and `/v1/messages/count_tokens`.

mod read;
mod write;

use std::sync::Arc;

use axum::Extension;
use axum::extract::{Request as HttpRequest, State};
use axum::response::Response;
use serde_json::json;

use super::ask::{self, Ask};
use super::{json_response, stream};
use crate::body;
use crate::fields::Fields;
use crate::keys::Caller;
use crate::refusal::Refusal;
use crate::server::Service;
use write::Writer;

/// Our names of fields beside Anthropic's.
const NAMES: [(&str, &str); 3] = [
    ("max_completion_tokens", "max_tokens"),
    ("stop", "stop_sequences"),
    ("response_format", "output_config"),
];

/// Answers a conversation.
pub(super) async fn message(
    State(service): State<Arc<Service>>,
    Extension(caller): Extension<Caller>,
    request: HttpRequest,
) -> Result<Response, Refusal> {
    let ticket = service.ticket()?;
    let body = body::object(request, service.body_limits()).await?;
    let prepare = |ask: &Ask, fields: Fields<'_>| {
        let streamed = fields.flag("stream")?;
        let most = fields.integer("max_tokens", 1..=1 << 30)?.ok_or_else(|| {
            let hint = "say how many tokens the answer may have";
            Refusal::bad("max_tokens: expected a number, got nothing", hint).about("max_tokens")
        })?;
        let mut asked = read::asked(fields)?;
        asked.set("max_completion_tokens", Some(most));
        let request = asked.request(ask, &NAMES)?;
        let writer = Writer::new(ask, &request);
        Ok((vec![request], (streamed, writer)))
    };
    let (listener, (streamed, writer)) = ask::ask(service, caller, ticket, body, prepare).await?;
    stream::answer(listener, writer, streamed, Writer::message).await
}

/// Counts the tokens of a conversation as the model reads it.
pub(super) async fn count(
    State(service): State<Arc<Service>>,
    Extension(caller): Extension<Caller>,
    request: HttpRequest,
) -> Result<Response, Refusal> {
    let ticket = service.ticket()?;
    let body = body::object(request, service.body_limits()).await?;
    let prepare = |ask: &Ask, fields: Fields<'_>| {
        let request = read::asked(fields)?.request(ask, &NAMES)?;
        Ok((Vec::new(), request.tokens.len()))
    };
    let (_, tokens) = ask::ask(service, caller, ticket, body, prepare).await?;
    Ok(json_response(&json!({ "input_tokens": tokens })))
}
