//! Messages of a conversation, and what is thought of them.

use std::sync::Arc;

use axum::Extension;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};
use axum::response::Response;
use llmos_store::{Attachment, Body, Parent, Role, Thumb};
use serde_json::{Map, Value, json};

use super::{ask, created, known, only};
use crate::api::json_response;
use crate::body;
use crate::fields::{Fields, whole};
use crate::keys::Caller;
use crate::refusal::Refusal;
use crate::server::Service;

/// Most attachments, and calls, of a message.
const ATTACHMENTS: usize = 64;
const CALLS: usize = 128;

/// Adds a message. It is durable before this is answered.
pub(crate) async fn add(
    State(service): State<Arc<Service>>,
    Extension(caller): Extension<Caller>,
    path: Result<Path<String>, PathRejection>,
    request: Request,
) -> Result<Response, Refusal> {
    let id = known(path)?;
    let body = body::object(request, service.body_limits()).await?;
    let (parent, message) = read(&body)?;
    let added = ask(&service, caller, move |chats| chats.append(&id, parent, message)).await?;
    Ok(created(&json!(added)))
}

/// A message of a request, and where it goes.
fn read(body: &Map<String, Value>) -> Result<(Parent, Body), Refusal> {
    only(
        body,
        &[
            "role",
            "content",
            "parent",
            "attachments",
            "tool_calls",
            "tool_call_id",
            "name",
            "reasoning_content",
        ],
    )?;
    let fields = Fields::new(body);
    let parent = match body.get("parent") {
        None => Parent::Leaf,
        Some(Value::Null) => Parent::Root,
        Some(value) => Parent::Message(number(value).ok_or_else(|| {
            let hint = "leave it out to go on, or say null to begin anew";
            Refusal::field("parent", "the number of a message", value, hint)
        })?),
    };
    let role = fields.get("role").unwrap_or(&Value::Null);
    let role = role.as_str().and_then(Role::of).ok_or_else(|| {
        let names: Vec<&str> = Role::ALL.iter().map(|role| role.name()).collect();
        let expected = format!("one of {}", names.join(", "));
        Refusal::field("role", expected, role, "a person's is user")
    })?;
    let content = fields.text("content")?;
    let owned = |text: Option<&str>| text.map(str::to_string);
    let message = Body {
        role,
        content: content.unwrap_or_default().to_string(),
        reasoning_content: owned(fields.text("reasoning_content")?),
        tool_calls: calls(fields)?,
        tool_call_id: owned(fields.text("tool_call_id")?),
        name: owned(fields.text("name")?),
        attachments: attachments(fields)?,
        origin: None,
    };
    if content.is_none() && message.tool_calls.is_empty() && message.attachments.is_empty() {
        let hint = "send {\"role\": \"user\", \"content\": TEXT}";
        return Err(Refusal::bad("there is no content", hint).about("content"));
    }
    Ok((parent, message))
}

/// The number of a message.
pub(super) fn number(value: &Value) -> Option<u32> {
    whole(value).and_then(|number| u32::try_from(number).ok()).filter(|&number| number > 0)
}

fn calls(fields: Fields<'_>) -> Result<Vec<Value>, Refusal> {
    let calls = fields.list("tool_calls")?.unwrap_or_default();
    let is_call = |call: &Value| {
        let function = call.get("function");
        let text = |name: &str| function.and_then(|function| function.get(name)?.as_str());
        text("name").is_some() && text("arguments").is_some()
    };
    if calls.len() > CALLS || !calls.iter().all(is_call) {
        let expected = format!("at most {CALLS} calls as an answer has them");
        let hint = "a call is {\"id\", \"type\", \"function\": {\"name\", \"arguments\": TEXT}}";
        let got = Value::from(calls.iter().take(1).cloned().collect::<Vec<Value>>());
        return Err(Refusal::field("tool_calls", expected, &got, hint));
    }
    Ok(calls.to_vec())
}

fn attachments(fields: Fields<'_>) -> Result<Vec<Attachment>, Refusal> {
    let given = fields.list("attachments")?.unwrap_or_default();
    let wrong = |got: &Value| {
        let expected = format!("at most {ATTACHMENTS} files as texts");
        let hint = "a file is {\"name\": TEXT, \"media\": \"text/plain\", \"text\": TEXT}";
        Refusal::field("attachments", expected, got, hint)
    };
    if given.len() > ATTACHMENTS {
        return Err(wrong(&given.len().into()));
    }
    let attachment = |file: &Value| {
        let object = file.as_object()?;
        let text = |name: &str| object.get(name).and_then(Value::as_str).map(str::to_string);
        let is_known = |name: &String| ["name", "media", "text"].contains(&name.as_str());
        if !object.keys().all(is_known) {
            return None;
        }
        let media = match object.get("media") {
            None | Some(Value::Null) => "text/plain".to_string(),
            Some(media) => media.as_str()?.to_string(),
        };
        Some(Attachment { name: text("name")?, media, text: text("text")? })
    };
    given.iter().map(|file| attachment(file).ok_or_else(|| wrong(file))).collect()
}

/// Rates a message; an earlier rating of it goes.
pub(crate) async fn rate(
    State(service): State<Arc<Service>>,
    Extension(caller): Extension<Caller>,
    path: Result<Path<(String, String)>, PathRejection>,
    request: Request,
) -> Result<Response, Refusal> {
    let (id, number) = place(path)?;
    let body = body::object(request, service.body_limits()).await?;
    only(&body, &["thumb", "reason", "ideal"])?;
    let fields = Fields::new(&body);
    let thumb = match fields.text("thumb")? {
        Some("up") => Thumb::Up,
        Some("down") => Thumb::Down,
        _ => {
            let got = fields.get("thumb").unwrap_or(&Value::Null);
            return Err(Refusal::field("thumb", "up or down", got, "DELETE takes a rating back"));
        }
    };
    let reason = fields.text("reason")?.map(str::to_string);
    let ideal = fields.text("ideal")?.map(str::to_string);
    let rated = ask(&service, caller, move |chats| chats.rate(&id, number, thumb, reason, ideal));
    Ok(json_response(&json!(rated.await?)))
}

/// Takes a rating back, if there is one.
pub(crate) async fn unrate(
    State(service): State<Arc<Service>>,
    Extension(caller): Extension<Caller>,
    path: Result<Path<(String, String)>, PathRejection>,
) -> Result<Response, Refusal> {
    let (id, number) = place(path)?;
    ask(&service, caller, move |chats| chats.unrate(&id, number)).await?;
    Ok(json_response(&json!({ "message": number, "deleted": true })))
}

/// A conversation and the number of a message in it.
fn place(path: Result<Path<(String, String)>, PathRejection>) -> Result<(String, u32), Refusal> {
    let (id, number) = known(path)?;
    let parsed = number.parse().ok().filter(|&number: &u32| number > 0);
    let number = parsed.ok_or_else(|| {
        let hint = "GET /v1/conversations/ID has the numbers of its messages";
        Refusal::not_found("message_not_found", "a message's number counts from 1", hint)
    })?;
    Ok((id, number))
}
