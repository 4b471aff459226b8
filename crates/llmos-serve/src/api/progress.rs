//! How far something is: as server-sent events, `data: {"done", "total", "what"}` and at the end
//! `data: {"model"}` or an error; or as Ollama's lines, `{"status", "completed", "total"}` and at the
//! end `{"status": "success"}` or an error.

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

use super::shape;
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

/// Something that is under way: what was told of it first, and what will be. Whoever tells finds that
/// nobody listens any more once this is dropped.
pub(crate) struct Chore {
    pub(crate) first: News,
    pub(crate) news: mpsc::Receiver<News>,
}

/// In whose words it is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Words {
    /// Events, in ours.
    Ours,
    /// Lines, in Ollama's.
    Ollama,
}

impl Chore {
    /// Waits for its end: the id of the model that came of it.
    ///
    /// # Errors
    /// Nothing came of it.
    pub(crate) async fn end(self) -> Result<String, Refusal> {
        let Chore { first, mut news } = self;
        let mut last = Some(first);
        loop {
            match last {
                Some(News::Progress(_)) => last = news.recv().await,
                Some(News::Done(id)) => return Ok(id),
                Some(News::Failed(refusal)) => return Err(refusal),
                None => return Err(lost()),
            }
        }
    }
}

/// The answer that tells it.
pub(crate) fn response(chore: Chore, words: Words) -> Response {
    let silence = Box::pin(sleep(SILENCE));
    let Chore { first, news } = chore;
    let stream = Events { first: Some(first), news, words, is_over: false, silence };
    let mut response = Response::new(Body::from_stream(stream));
    let headers = response.headers_mut();
    let kind = match words {
        Words::Ours => "text/event-stream",
        Words::Ollama => "application/x-ndjson",
    };
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    response
}

/// Whoever was to tell has gone.
pub(crate) fn lost() -> Refusal {
    Refusal::broken("the work ended early")
}

/// After so long a comment, or a blank before a line, is sent, by which a client that has gone is noticed.
const SILENCE: Duration = Duration::from_secs(15);

struct Events {
    first: Option<News>,
    news: mpsc::Receiver<News>,
    words: Words,
    is_over: bool,
    silence: Pin<Box<Sleep>>,
}

impl Stream for Events {
    type Item = Result<Bytes, Infallible>;

    fn poll_next(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, Infallible>>> {
        let Events { first, news, words, is_over, silence } = &mut *self;
        if *is_over {
            return Poll::Ready(None);
        }
        let next = match first.take() {
            Some(first) => Poll::Ready(Some(first)),
            None => news.poll_recv(context),
        };
        let text = match next {
            Poll::Pending if silence.as_mut().poll(context).is_pending() => return Poll::Pending,
            Poll::Pending => words.silence().to_string(),
            Poll::Ready(news) => {
                let news = news.unwrap_or_else(|| News::Failed(lost()));
                *is_over = !matches!(news, News::Progress(_));
                words.line(news)
            }
        };
        silence.as_mut().reset(Instant::now() + SILENCE);
        Poll::Ready(Some(Ok(Bytes::from(text))))
    }
}

impl Words {
    fn silence(self) -> &'static str {
        match self {
            Words::Ours => ":\n\n",
            Words::Ollama => " ",
        }
    }

    fn line(self, news: News) -> String {
        match self {
            Words::Ours => format!("data: {}\n\n", ours(news)),
            Words::Ollama => format!("{}\n", ollama(news)),
        }
    }
}

fn ours(news: News) -> Value {
    match news {
        News::Progress(Progress { done, total, what }) => {
            json!({ "done": done, "total": total, "what": what })
        }
        News::Done(id) => json!({ "model": id }),
        News::Failed(refusal) => refusal.to_json(),
    }
}

fn ollama(news: News) -> Value {
    match news {
        News::Progress(Progress { done, total, what }) => {
            let mut line = json!({ "status": what, "completed": done });
            if let Some(total) = total {
                line["total"] = total.into();
            }
            line
        }
        News::Done(_) => json!({ "status": "success" }),
        News::Failed(refusal) => shape::ollama(&refusal),
    }
}
