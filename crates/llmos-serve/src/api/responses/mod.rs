//! `/v1/responses`: answers that are kept, so that the next can go on from them.

mod background;
mod items;
mod read;
mod store;
mod write;

use std::sync::Arc;

use axum::Extension;
use axum::extract::{Request as HttpRequest, State};
use axum::http::Uri;
use axum::response::Response;
use serde_json::{Map, Value, json};

use super::ask::{self, Ask};
use super::in_path::InPath;
use super::{json_response, stream};
use crate::body;
use crate::fields::Fields;
use crate::keys::Caller;
use crate::query::Query;
use crate::refusal::Refusal;
use crate::scheduler::Request;
use crate::server::Service;
pub(crate) use background::Background;
pub use store::{ResponseMemory, ResponseStore};
use write::Writer;

/// Our names of fields beside those of a response.
const NAMES: [(&str, &str); 4] = [
    ("max_completion_tokens", "max_output_tokens"),
    ("response_format", "text"),
    ("reasoning_effort", "reasoning"),
    ("messages", "input"),
];

/// Writes a response.
pub(super) async fn create(
    State(service): State<Arc<Service>>,
    Extension(caller): Extension<Caller>,
    request: HttpRequest,
) -> Result<Response, Refusal> {
    let ticket = service.ticket()?;
    let body = body::object(request, service.body_limits()).await?;
    let before = before(&service, caller, &body)?;
    let prepare = move |ask: &Ask, fields: Fields<'_>| {
        let streamed = fields.flag("stream")?;
        let step = read::step(fields, before, &ask.service.ids)?;
        let with_scores = step.asked.body.contains_key("logprobs");
        let request = step.asked.request(ask, &NAMES)?;
        let told = read::told(fields, step.previous);
        let kept = step.is_kept.then_some((step.input, step.messages));
        let is_background = step.is_background;
        let writer = Writer::new(ask, caller, told, kept, with_scores, is_background);
        Ok((vec![request], (streamed, is_background, writer)))
    };
    let asking = ask::ask(service.clone(), caller, ticket, body, prepare);
    let (listener, (streamed, is_background, writer)) = asking.await?;
    if is_background {
        return Ok(json_response(&Background::begin(&service, listener, writer)));
    }
    stream::answer(listener, writer, streamed, Writer::response).await
}

/// Counts the tokens of a response's input.
pub(super) async fn count(
    State(service): State<Arc<Service>>,
    Extension(caller): Extension<Caller>,
    request: HttpRequest,
) -> Result<Response, Refusal> {
    let ticket = service.ticket()?;
    let body = body::object(request, service.body_limits()).await?;
    let before = before(&service, caller, &body)?;
    let prepare = move |ask: &Ask, fields: Fields<'_>| {
        let step = read::step(fields, before, &ask.service.ids)?;
        let request = step.asked.request(ask, &NAMES)?;
        Ok((Vec::<Request>::new(), request.tokens.len()))
    };
    let (_, tokens) = ask::ask(service, caller, ticket, body, prepare).await?;
    Ok(json_response(&json!({ "object": "response.input_tokens", "input_tokens": tokens })))
}

/// A response that was kept, or is written in the background.
pub(super) async fn one(
    State(service): State<Arc<Service>>,
    Extension(caller): Extension<Caller>,
    InPath(id): InPath,
    uri: Uri,
) -> Result<Response, Refusal> {
    if Query::of(&uri)?.text("stream").is_some_and(|stream| stream != "false") {
        let hint = "leave it out: a response is told as far as it is, once";
        return Err(Refusal::field("stream", "false", &true.into(), hint));
    }
    let record = find(&service, caller, &id)?;
    Ok(json_response(&record["response"]))
}

/// Ends a response that is written in the background; one that has ended stays as it is.
pub(super) async fn cancel(
    State(service): State<Arc<Service>>,
    Extension(caller): Extension<Caller>,
    InPath(id): InPath,
) -> Result<Response, Refusal> {
    if let Some(response) = service.background.give_up(caller, &id, true) {
        return Ok(json_response(&response));
    }
    let record = find(&service, caller, &id)?;
    if record["response"]["background"] == true {
        return Ok(json_response(&record["response"]));
    }
    Err(Refusal::bad(
        "the response is complete: only one that is written in the background can be cancelled",
        "close the connection of one that is streamed, and it ends; DELETE forgets this one",
    ))
}

/// Forgets a response, and what of its text is cached.
pub(super) async fn delete(
    State(service): State<Arc<Service>>,
    Extension(caller): Extension<Caller>,
    InPath(id): InPath,
) -> Result<Response, Refusal> {
    let is_given_up = service.background.give_up(caller, &id, false).is_some();
    let deleted = service.options.responses.delete(caller.owner, &id);
    if !deleted.map_err(|reason| unreadable(&reason))? && !is_given_up {
        return Err(unknown(&id));
    }
    service.models.forget(caller.salt);
    Ok(json_response(&json!({ "id": id, "object": "response", "deleted": true })))
}

/// The items of a response's own input: `limit`, `order`, `after`.
pub(super) async fn input_items(
    State(service): State<Arc<Service>>,
    Extension(caller): Extension<Caller>,
    InPath(id): InPath,
    uri: Uri,
) -> Result<Response, Refusal> {
    /// Items of a page, and most of them, as in OpenAI's API.
    const PAGE: u32 = 20;
    const MOST: u32 = 100;
    let query = Query::of(&uri)?;
    let limit = query.integer("limit", 1..=MOST)?.unwrap_or(PAGE) as usize;
    let record = find(&service, caller, &id)?;
    let mut items = record["input"].as_array().cloned().unwrap_or_default();
    if query.text("order") != Some("asc") {
        items.reverse();
    }
    let from = match query.text("after") {
        None => 0,
        Some(after) => items.iter().position(|item| item["id"] == after).map_or(0, |at| at + 1),
    };
    let has_more = items.len() > from + limit;
    let page: Vec<Value> = items.into_iter().skip(from).take(limit).collect();
    let id = |item: Option<&Value>| item.map(|item| item["id"].clone());
    Ok(json_response(&json!({
        "object": "list",
        "first_id": id(page.first()),
        "last_id": id(page.last()),
        "has_more": has_more,
        "data": page,
    })))
}

/// What was said before: the messages of the response that a call goes on from.
fn before(
    service: &Service,
    caller: Caller,
    body: &Map<String, Value>,
) -> Result<Vec<Value>, Refusal> {
    let Some(id) = Fields::new(body).text("previous_response_id")? else { return Ok(Vec::new()) };
    let about = |refusal: Refusal| refusal.about("previous_response_id");
    let found = record(service, caller, id).map_err(about)?;
    let found = found.ok_or_else(|| about(unknown_as("previous_response_not_found", id)))?;
    match found["response"]["status"].as_str() {
        Some("completed" | "incomplete") => {}
        status => {
            let message = format!("the response is {}: it has no end", status.unwrap_or("broken"));
            let hint = "GET /v1/responses/ID tells when it is completed; what was cancelled or \
                        failed has the response before it";
            return Err(about(Refusal::bad(message, hint)));
        }
    }
    Ok(found["messages"].as_array().cloned().unwrap_or_default())
}

/// The record of a response of the caller's own.
fn find(service: &Service, caller: Caller, id: &str) -> Result<Value, Refusal> {
    record(service, caller, id)?.ok_or_else(|| unknown(id))
}

/// The same; none if there is no such response.
fn record(service: &Service, caller: Caller, id: &str) -> Result<Option<Value>, Refusal> {
    if let Some(written) = service.background.record(caller, id) {
        return Ok(Some(written));
    }
    let found = service.options.responses.find(caller.owner, id);
    let found = found.map_err(|reason| unreadable(&reason))?;
    let read = found.map(|found| serde_json::from_str(&found)).transpose();
    read.map_err(|error| unreadable(&error.to_string()))
}

fn unknown(id: &str) -> Refusal {
    unknown_as("response_not_found", id)
}

fn unknown_as(code: &'static str, id: &str) -> Refusal {
    let id: String = id.chars().take(80).collect();
    Refusal::not_found(
        code,
        format!("there is no response {id:?}"),
        "it was not stored, was deleted, or made room for newer ones",
    )
}

fn unreadable(reason: &str) -> Refusal {
    tracing::error!(reason, "responses cannot be read");
    Refusal::broken("the response cannot be read")
}
