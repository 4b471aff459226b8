//! Export and import: conversations as lines of JSON.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::Extension;
use axum::body::{Body, Bytes};
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};
use axum::http::{HeaderValue, header};
use axum::response::Response;
use futures_core::Stream;
use llmos_store::{Error, Form};
use serde_json::json;
use tokio::sync::mpsc;

use super::{ask, known};
use crate::api::json_response;
use crate::body;
use crate::keys::Caller;
use crate::refusal::Refusal;
use crate::server::Service;

/// Kinds of content that lines of JSON are sent as.
const KINDS: [&str; 4] =
    ["application/x-ndjson", "application/jsonl", "application/x-jsonlines", "application/json"];

/// All conversations of whoever asks, a line each, as they come from the store.
pub(crate) async fn export_all(
    State(service): State<Arc<Service>>,
    Extension(caller): Extension<Caller>,
) -> Result<Response, Refusal> {
    // The first lines are asked for before it is said that all is well.
    let (first, mut last) = some(&service, caller, String::new()).await?;
    let (sender, receiver) = mpsc::channel(1);
    tokio::spawn(async move {
        let mut lines = first;
        while let Some(id) = last {
            if sender.send(Ok(lines)).await.is_err() {
                return;
            }
            (lines, last) = match some(&service, caller, id).await {
                Ok(more) => more,
                Err(refusal) => {
                    // The body breaks off, so that nobody takes it for whole.
                    let _ = sender.send(Err(io::Error::other(refusal.message))).await;
                    return;
                }
            };
        }
    });
    Ok(lines(Body::from_stream(Lines { receiver })))
}

/// Some conversations whose ids come after one, and the last of their ids.
async fn some(
    service: &Service,
    caller: Caller,
    after: String,
) -> Result<(Bytes, Option<String>), Refusal> {
    ask(service, caller, move |chats| {
        let mut text = Vec::new();
        let last = chats.export_after(&after, Form::Trees, &mut text)?;
        Ok((Bytes::from(text), last.map(|(last, _)| last)))
    })
    .await
}

/// What a task sends, as a body.
struct Lines {
    receiver: mpsc::Receiver<Result<Bytes, io::Error>>,
}

impl Stream for Lines {
    type Item = Result<Bytes, io::Error>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.receiver.poll_recv(context)
    }
}

/// One conversation as a line.
pub(crate) async fn export_one(
    State(service): State<Arc<Service>>,
    Extension(caller): Extension<Caller>,
    path: Result<Path<String>, PathRejection>,
) -> Result<Response, Refusal> {
    let id = known(path)?;
    let line = ask(&service, caller, move |chats| {
        let mut line = Vec::new();
        match chats.export_one(&id, Form::Trees, &mut line)? {
            true => Ok(line),
            false => Err(Error::Missing { what: "conversation", name: id }),
        }
    });
    Ok(lines(Body::from(line.await?)))
}

/// An answer that a browser keeps as a file.
fn lines(body: Body) -> Response {
    let mut response = Response::new(body);
    for (name, value) in [
        (header::CONTENT_TYPE, "application/x-ndjson"),
        (header::CONTENT_DISPOSITION, "attachment; filename=\"conversations.jsonl\""),
    ] {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

/// Takes conversations from lines.
pub(crate) async fn import(
    State(service): State<Arc<Service>>,
    Extension(caller): Extension<Caller>,
    request: Request,
) -> Result<Response, Refusal> {
    let lines = body::bytes(request, service.body_limits(), &KINDS).await?;
    let imported = ask(&service, caller, move |chats| chats.import(&mut lines.as_ref())).await?;
    Ok(json_response(&json!({
        "conversations": imported.conversations,
        "messages": imported.messages,
        "unchanged": imported.unchanged,
        "renamed": imported.renamed,
    })))
}
