//! How far something is, as server-sent events: `data: {"done", "total", "what"}`, and at the end
//! `data: {"model"}` or an error.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::{HeaderValue, header};
use axum::response::Response;
use futures_core::Stream;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::time::{Instant, Sleep, sleep};

use crate::outside::Progress;
use crate::refusal::Refusal;

/// What is told.
pub(crate) enum News {
    /// It is so far.
    Progress(Progress),
    /// It is done: the id of the model that came of it.
    Done(String),
    /// Nothing came of it.
    Failed(Refusal),
}

/// The answer that tells it. Whoever sends finds its channel closed once the client has gone.
pub(crate) fn response(first: News, news: mpsc::Receiver<News>) -> Response {
    let silence = Box::pin(sleep(SILENCE));
    let stream = Events { first: Some(first), news, is_over: false, silence };
    let mut response = Response::new(Body::from_stream(stream));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    response
}

/// Whoever was to tell has gone.
pub(crate) fn lost() -> Refusal {
    Refusal::broken("the work ended early")
}

/// After so long a comment is sent, by which a client that has gone is noticed.
const SILENCE: Duration = Duration::from_secs(15);

struct Events {
    first: Option<News>,
    news: mpsc::Receiver<News>,
    is_over: bool,
    silence: Pin<Box<Sleep>>,
}

impl Stream for Events {
    type Item = Result<Bytes, Infallible>;

    fn poll_next(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, Infallible>>> {
        let Events { first, news, is_over, silence } = &mut *self;
        if *is_over {
            return Poll::Ready(None);
        }
        let next = match first.take() {
            Some(first) => Poll::Ready(Some(first)),
            None => news.poll_recv(context),
        };
        let text = match next {
            Poll::Pending if silence.as_mut().poll(context).is_pending() => return Poll::Pending,
            Poll::Pending => ":\n\n".to_string(),
            Poll::Ready(news) => {
                let news = news.unwrap_or_else(|| News::Failed(lost()));
                *is_over = !matches!(news, News::Progress(_));
                format!("data: {}\n\n", said(news))
            }
        };
        silence.as_mut().reset(Instant::now() + SILENCE);
        Poll::Ready(Some(Ok(Bytes::from(text))))
    }
}

fn said(news: News) -> Value {
    match news {
        News::Progress(Progress { done, total, what }) => {
            json!({ "done": done, "total": total, "what": what })
        }
        News::Done(id) => json!({ "model": id }),
        News::Failed(refusal) => refusal.to_json(),
    }
}
