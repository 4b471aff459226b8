//! `/v1/conversations`: what was said, kept for whoever said it.

pub(crate) mod answer;
pub(crate) mod exchange;
pub(crate) mod messages;

use std::sync::Arc;

use axum::Extension;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};
use axum::http::Uri;
use axum::response::Response;
use llmos_store::{Chats, Conversation, Cursor, Error, Hit, Tree};
use serde_json::{Map, Value, json};

use super::json_response;
use crate::body;
use crate::fields::Fields;
use crate::keys::Caller;
use crate::query::Query;
use crate::refusal::Refusal;
use crate::server::Service;

/// Conversations of a list, and hits of a search, where nobody says how many; and most of them.
const PAGE: u32 = 50;
const MOST: u32 = 1000;
const MOST_HITS: u32 = 200;

/// The longest settings, in bytes of JSON: a system prompt, and some numbers.
const SETTINGS: usize = 256 << 10;

/// Asks the store for something of the caller's conversations.
pub(crate) async fn ask<T: Send + 'static>(
    service: &Service,
    caller: Caller,
    work: impl FnOnce(&mut Chats<'_>) -> Result<T, Error> + Send + 'static,
) -> Result<T, Refusal> {
    let owner = service.keyring.owner(caller)?;
    service.archive()?.ask(move |store| work(&mut store.chats(&owner))).await
}

/// Begins a conversation.
pub(crate) async fn create(
    State(service): State<Arc<Service>>,
    Extension(caller): Extension<Caller>,
    request: Request,
) -> Result<Response, Refusal> {
    let body = body::object(request, service.body_limits()).await?;
    let fields = Fields::new(&body);
    only(&body, &["title", "settings"])?;
    let title = fields.text("title")?.unwrap_or_default().to_string();
    let settings = settings(fields)?.unwrap_or(Value::Null);
    let head = ask(&service, caller, move |chats| chats.create(&title, settings)).await?;
    Ok(created(&json!(head)))
}

/// A page of the list, what changed last first.
pub(crate) async fn list(
    State(service): State<Arc<Service>>,
    Extension(caller): Extension<Caller>,
    uri: Uri,
) -> Result<Response, Refusal> {
    let query = Query::of(&uri)?;
    let limit = query.integer("limit", 1..=MOST)?.unwrap_or(PAGE);
    let after = query.text("after").filter(|after| !after.is_empty());
    let after: Option<Cursor> = after.map(str::parse).transpose().map_err(|_| {
        let got = Value::from(query.text("after"));
        Refusal::field("after", "the next of an earlier page", &got, "leave it out to begin")
    })?;
    let page = ask(&service, caller, move |chats| chats.list(after.as_ref(), limit)).await?;
    let next = page.next.map(|next| next.to_string());
    Ok(json_response(&json!({ "data": page.conversations, "next": next })))
}

/// Messages and titles that hold all words of a query.
pub(crate) async fn search(
    State(service): State<Arc<Service>>,
    Extension(caller): Extension<Caller>,
    uri: Uri,
) -> Result<Response, Refusal> {
    let query = Query::of(&uri)?;
    let limit = query.integer("limit", 1..=MOST_HITS)?.unwrap_or(PAGE);
    let skip = query.integer("skip", 0..=u32::MAX)?.unwrap_or(0);
    let words = query.text("q").ok_or_else(|| {
        Refusal::bad("there is no query", "ask for /v1/conversations/search?q=WORDS").about("q")
    })?;
    let words = words.to_string();
    let hits = ask(&service, caller, move |chats| chats.search(&words, skip, limit)).await?;
    let hits: Vec<Value> = hits.into_iter().map(hit).collect();
    Ok(json_response(&json!({ "data": hits })))
}

/// A hit: the snippet whole, and what stands before, in and after the place that was found.
fn hit(hit: Hit) -> Value {
    let part = |from: usize, to: usize| hit.snippet.get(from..to).unwrap_or_default();
    let (start, end) = (hit.place.start, hit.place.end);
    let parts = [part(0, start), part(start, end), part(end, hit.snippet.len())];
    json!({
        "conversation": hit.conversation,
        "title": hit.title,
        "message": hit.message,
        "role": hit.role,
        "created": hit.created,
        "snippet": hit.snippet,
        "parts": parts,
    })
}

/// A conversation with all its messages.
pub(crate) async fn one(
    State(service): State<Arc<Service>>,
    Extension(caller): Extension<Caller>,
    path: Result<Path<String>, PathRejection>,
) -> Result<Response, Refusal> {
    let id = known(path)?;
    let tree = ask(&service, caller, move |chats| chats.tree(&id)).await?;
    Ok(json_response(&whole(&tree)))
}

fn whole(tree: &Tree) -> Value {
    let mut value = json!(tree.conversation);
    value["messages"] = json!(tree.messages);
    value
}

/// Gives a conversation another title or other settings, or shows another branch of it.
pub(crate) async fn change(
    State(service): State<Arc<Service>>,
    Extension(caller): Extension<Caller>,
    path: Result<Path<String>, PathRejection>,
    request: Request,
) -> Result<Response, Refusal> {
    let id = known(path)?;
    let body = body::object(request, service.body_limits()).await?;
    let fields = Fields::new(&body);
    only(&body, &["title", "settings", "leaf"])?;
    let title = fields.text("title")?.map(str::to_string);
    let settings = match body.get("settings") {
        Some(Value::Null) => Some(Value::Null),
        _ => settings(fields)?,
    };
    let leaf = fields.integer("leaf", 1..=u64::from(u32::MAX))?;
    let leaf = leaf.and_then(|leaf| u32::try_from(leaf).ok());
    let changed = ask(&service, caller, move |chats| {
        // What may be missing comes first, so that nothing is changed then.
        if let Some(leaf) = leaf {
            chats.select(&id, leaf)?;
        }
        if let Some(settings) = settings {
            chats.set(&id, &settings)?;
        }
        if let Some(title) = title {
            chats.rename(&id, &title)?;
        }
        chats.conversation(&id)
    });
    let head: Conversation = changed.await?;
    Ok(json_response(&json!(head)))
}

/// Deletes a conversation, with all that belongs to it, and what its owner's key has cached.
pub(crate) async fn remove(
    State(service): State<Arc<Service>>,
    Extension(caller): Extension<Caller>,
    path: Result<Path<String>, PathRejection>,
) -> Result<Response, Refusal> {
    let id = known(path)?;
    let answer = json!({ "id": id, "deleted": true });
    let owner = service.keyring.owner(caller)?;
    let deleted = service.archive()?.ask(move |store| {
        store.chats(&owner).delete(&id)?;
        store.deletions()
    });
    service.heed(deleted.await?);
    Ok(json_response(&answer))
}

/// Settings: an object, in which `system` is a text.
fn settings(fields: Fields<'_>) -> Result<Option<Value>, Refusal> {
    let Some(inner) = fields.object("settings")? else { return Ok(None) };
    inner.text("system").map_err(|refusal| refusal.within("settings"))?;
    let given = fields.get("settings").cloned().unwrap_or_default();
    let length = given.to_string().len();
    if length > SETTINGS {
        let expected = format!("at most {SETTINGS} bytes of JSON");
        let got = Value::from(format!("{length} bytes"));
        return Err(Refusal::field("settings", expected, &got, "shorten what is in it"));
    }
    Ok(Some(given))
}

/// Refuses fields that are not known: one that is misspelt would be lost.
fn only(body: &Map<String, Value>, names: &[&str]) -> Result<(), Refusal> {
    let Some(name) = body.keys().find(|name| !names.contains(&name.as_str())) else {
        return Ok(());
    };
    let shown: String = name.chars().take(60).collect();
    let hint = format!("there are {}", names.join(", "));
    Err(Refusal::bad(format!("there is no field {shown:?} here"), hint).about(&shown))
}

/// What a path names; what cannot be read names nothing.
fn known<T>(path: Result<Path<T>, PathRejection>) -> Result<T, Refusal> {
    path.map(|Path(found)| found).map_err(|_| {
        let hint = "GET /v1/conversations lists those of this key";
        Refusal::not_found("conversation_not_found", "there is no such conversation", hint)
    })
}

/// The answer of something that is new.
fn created(value: &Value) -> Response {
    let mut response = json_response(value);
    *response.status_mut() = axum::http::StatusCode::CREATED;
    response
}
