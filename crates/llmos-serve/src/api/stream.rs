//! Answers as server-sent events: `data: JSON`, a blank line, and `[DONE]` at the end.

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
use crate::refusal::Refusal;
use crate::scheduler::Event;

/// Says events in the words of an API.
pub(crate) trait Dialect: Send + Unpin + 'static {
    /// The chunks that an event is.
    fn chunks(&mut self, event: Event) -> Vec<Value>;
    /// Whether all is done that must be done before the last chunks are sent.
    fn settle(&mut self, _context: &mut Context<'_>) -> Poll<Result<(), Refusal>> {
        Poll::Ready(Ok(()))
    }
    /// The chunks after the last event.
    fn last(&mut self) -> Vec<Value>;
}

/// The answer of a call that has begun.
pub(crate) fn response(listener: Listener, dialect: impl Dialect) -> Response {
    let stream = Events { listener, dialect, is_over: false, silence: Box::pin(sleep(SILENCE)) };
    let mut response = Response::new(Body::from_stream(stream));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    // nginx would hold the events back.
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    response
}

/// After so long without an event a comment is sent: a client that has gone is noticed by it, and what
/// lies between does not take the connection for dead.
const SILENCE: Duration = Duration::from_secs(15);

struct Events<D> {
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
                    text.push_str(":\n\n");
                    break;
                }
                Poll::Pending => break,
                Poll::Ready(Ok(Some(event))) => {
                    dialect.chunks(event).iter().for_each(|chunk| write(&mut text, chunk));
                }
                Poll::Ready(Ok(None)) => {
                    dialect.last().iter().for_each(|chunk| write(&mut text, chunk));
                    text.push_str("data: [DONE]\n\n");
                    *is_over = true;
                }
                Poll::Ready(Err(refusal)) => {
                    write(&mut text, &refusal.to_json());
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

/// JSON has no line ends outside of its own escapes, so one line holds it.
fn write(text: &mut String, chunk: &Value) {
    text.push_str("data: ");
    text.push_str(&chunk.to_string());
    text.push_str("\n\n");
}
