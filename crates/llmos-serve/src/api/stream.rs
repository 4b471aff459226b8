//! Answers as they are written: server-sent events, or lines of JSON.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::{HeaderValue, header};
use axum::response::Response;
use futures_core::Stream;
use serde_json::Value;
use tokio::time::{Instant, Sleep, sleep};

use super::ask::Listener;
use super::json_response;
use crate::refusal::Refusal;
use crate::scheduler::Event;

/// How chunks are told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Framing {
    /// `data: JSON`, a blank line, and `[DONE]` at the end: OpenAI's.
    Data,
    /// `event: TYPE` and `data: JSON`, a blank line; the type is the chunk's `type`.
    Named,
    /// A line of JSON each.
    Lines,
}

/// Says events in the words of an API.
pub(crate) trait Dialect: Send + Unpin + 'static {
    /// How its chunks are told apart.
    const FRAMING: Framing = Framing::Data;
    /// The chunks that an event is.
    fn chunks(&mut self, event: Event) -> Vec<Value>;
    /// Whether all is done that must be done before the last chunks are sent.
    fn settle(&mut self, _context: &mut Context<'_>) -> Poll<Result<(), Refusal>> {
        Poll::Ready(Ok(()))
    }
    /// The chunks after the last event.
    fn last(&mut self) -> Vec<Value>;
    /// The chunks that say that nothing more will come.
    fn failed(&mut self, refusal: &Refusal) -> Vec<Value> {
        vec![refusal.to_json()]
    }
}

/// Answers with the events as they come, or with what `whole` makes of the dialect after the last.
///
/// # Errors
/// What failed before anything was sent.
pub(crate) async fn answer<D: Dialect>(
    mut listener: Listener,
    mut dialect: D,
    streamed: bool,
    whole: impl FnOnce(&D) -> Value,
) -> Result<Response, Refusal> {
    if streamed {
        listener.begin().await?;
        return Ok(response(listener, dialect));
    }
    while let Some(event) = listener.next().await? {
        dialect.chunks(event);
    }
    dialect.last();
    // The model is let go of before the dialect is, which may want it gone.
    drop(listener);
    Ok(json_response(&whole(&dialect)))
}

/// The answer of a call that has begun.
pub(crate) fn response<D: Dialect>(listener: Listener, dialect: D) -> Response {
    let stream = Events { listener, dialect, is_over: false, silence: Box::pin(sleep(SILENCE)) };
    let mut response = Response::new(Body::from_stream(stream));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(D::FRAMING.content_type()));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    // nginx would hold the events back.
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    response
}

/// After so long without an event a comment is sent: a client that has gone is noticed by it, and what
/// lies between does not take the connection for dead.
const SILENCE: Duration = Duration::from_secs(15);

impl Framing {
    fn content_type(self) -> &'static str {
        match self {
            Framing::Data | Framing::Named => "text/event-stream",
            Framing::Lines => "application/x-ndjson",
        }
    }

    /// JSON has no line ends outside of its own escapes, so one line holds it.
    fn write(self, text: &mut String, chunk: &Value) {
        match self {
            Framing::Data => text.push_str("data: "),
            Framing::Named => {
                let name = chunk.get("type").and_then(Value::as_str).unwrap_or("message");
                text.push_str(&format!("event: {name}\ndata: "));
            }
            Framing::Lines => {}
        }
        text.push_str(&chunk.to_string());
        text.push_str(if self == Framing::Lines { "\n" } else { "\n\n" });
    }

    /// What is sent where there is nothing to say: a comment, or a blank before the next line's JSON.
    fn silence(self) -> &'static str {
        if self == Framing::Lines { " " } else { ":\n\n" }
    }

    fn end(self) -> &'static str {
        if self == Framing::Data { "data: [DONE]\n\n" } else { "" }
    }
}

struct Events<D> {
    // Let go of before the dialect is.
    listener: Listener,
    dialect: D,
    is_over: bool,
    silence: Pin<Box<Sleep>>,
}

impl<D: Dialect> Stream for Events<D> {
    type Item = Result<Bytes, Infallible>;

    fn poll_next(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, Infallible>>> {
        let Events { listener, dialect, is_over, silence } = &mut *self;
        let mut text = String::new();
        // All that is there goes out at once.
        while !*is_over {
            let next = match listener.poll_next(context) {
                Poll::Ready(Ok(None)) => dialect.settle(context).map_ok(|()| None),
                other => other,
            };
            match next {
                Poll::Pending if text.is_empty() => {
                    if silence.as_mut().poll(context).is_pending() {
                        return Poll::Pending;
                    }
                    text.push_str(D::FRAMING.silence());
                    break;
                }
                Poll::Pending => break,
                Poll::Ready(Ok(Some(event))) => {
                    let chunks = dialect.chunks(event);
                    chunks.iter().for_each(|chunk| D::FRAMING.write(&mut text, chunk));
                }
                Poll::Ready(Ok(None)) => {
                    dialect.last().iter().for_each(|chunk| D::FRAMING.write(&mut text, chunk));
                    text.push_str(D::FRAMING.end());
                    *is_over = true;
                }
                Poll::Ready(Err(refusal)) => {
                    let chunks = dialect.failed(&refusal);
                    chunks.iter().for_each(|chunk| D::FRAMING.write(&mut text, chunk));
                    *is_over = true;
                }
            }
        }
        silence.as_mut().reset(Instant::now() + SILENCE);
        match text.is_empty() {
            true => Poll::Ready(None),
            false => Poll::Ready(Some(Ok(Bytes::from(text)))),
        }
    }
}
