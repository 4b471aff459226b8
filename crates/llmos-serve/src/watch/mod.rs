//! Watching: each request has a number, a record of how it went, one line in the log, and a place in
//! the metrics.

mod metrics;
mod record;
mod text;

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::body::{Body, Bytes, HttpBody};
use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderValue, Method, StatusCode};
use axum::middleware::Next;
use axum::response::Response;
use hyper::body::{Frame, SizeHint};
use tracing::Instrument;

pub(crate) use metrics::{Metrics, Moment};
pub(crate) use record::Record;

use crate::outside::Report;
use crate::refusal::Reason;
use crate::server::Service;

/// The header that names a request.
const REQUEST_ID: &str = "x-request-id";

/// What a client that left before its answer is counted as: nginx's number for it.
const LEFT: u16 = 499;

/// Follows a request from its head to the last byte of its answer.
pub(crate) async fn follow(
    State(service): State<Arc<Service>>,
    request: Request,
    next: Next,
) -> Response {
    let route = request.extensions().get::<MatchedPath>();
    let route = route.map_or_else(|| "-".to_string(), |path| path.as_str().to_string());
    let parent = request.headers().get("traceparent").and_then(|text| text.to_str().ok());
    let record = Arc::new(Record::new(&service.ids, parent));
    let id = record.id().to_string();
    let mut flight = Flight {
        is_head: request.method() == Method::HEAD,
        method: request.method().to_string(),
        service,
        record: record.clone(),
        route,
        status: None,
        reason: None,
        is_whole: false,
    };
    let span = tracing::info_span!("request", id);
    let mut response = record.scope(next.run(request)).instrument(span).await;
    flight.status = Some(response.status().as_u16());
    flight.reason = response.extensions().get::<Reason>().map(|reason| reason.0);
    if let Ok(id) = HeaderValue::from_str(&id) {
        response.headers_mut().insert(REQUEST_ID, id);
    }
    response.map(|body| Body::new(Followed { body, flight }))
}

/// A request under way; it is over when this is dropped.
pub(crate) struct Flight {
    service: Arc<Service>,
    record: Arc<Record>,
    method: String,
    is_head: bool,
    route: String,
    /// None until there is an answer.
    status: Option<u16>,
    /// Why it was refused.
    reason: Option<&'static str>,
    /// All of the answer was handed out.
    is_whole: bool,
}

impl Drop for Flight {
    fn drop(&mut self) {
        let report = self.record.report(
            std::mem::take(&mut self.method),
            std::mem::take(&mut self.route),
            self.status.unwrap_or(LEFT),
            self.error(),
        );
        note(&report);
        self.service.metrics.note(&report);
        if let Some(reporter) = &self.service.options.report {
            reporter(&report);
        }
    }
}

impl Flight {
    /// Of a response that is written after its request, the current one, was answered.
    pub(crate) fn beside(service: Arc<Service>) -> Flight {
        let record = match Record::current() {
            Some(current) => current.beside(&service.ids),
            None => Record::new(&service.ids, None),
        };
        Flight {
            service,
            record: Arc::new(record),
            method: Method::POST.to_string(),
            is_head: false,
            route: record::BACKGROUND.to_string(),
            status: None,
            reason: None,
            is_whole: false,
        }
    }

    /// Where it is noted how it goes.
    pub(crate) fn record(&self) -> &Arc<Record> {
        &self.record
    }

    /// It has come to its end, for this reason if it is not the usual one.
    pub(crate) fn end(mut self, reason: Option<&'static str>) {
        self.status = Some(StatusCode::OK.as_u16());
        self.reason = reason;
        self.is_whole = true;
    }

    /// What went wrong, as one word.
    fn error(&self) -> Option<String> {
        if let Some(broken) = self.record.broken() {
            return Some(broken.to_string());
        }
        match (self.status, self.reason) {
            (_, Some(reason)) => Some(reason.to_string()),
            (None, None) => Some("client_left".to_string()),
            (Some(status), None) if status >= 400 => Some(format!("status_{status}")),
            _ if !self.is_whole && !self.is_head => Some("client_left".to_string()),
            _ => None,
        }
    }
}

/// The request's line in the log. What was written and read is not in it.
fn note(report: &Report) {
    let milliseconds = |time: std::time::Duration| (time.as_secs_f64() * 1e4).round() / 10.0;
    let first = report.first_token.map(milliseconds);
    macro_rules! line {
        ($level:ident) => {
            tracing::$level!(
                id = report.id,
                method = report.method,
                route = report.route,
                status = report.status,
                ms = milliseconds(report.took),
                first_token_ms = first,
                model = report.model,
                prompt_tokens = report.prompt_tokens,
                cached_tokens = report.cached_tokens,
                tokens = report.tokens,
                key = report.key,
                error = report.error,
                "request"
            )
        };
    }
    match (report.status, report.route.as_str()) {
        (500.., _) => line!(warn),
        // Asked for every few seconds by programs.
        (_, "/healthz" | "/readyz" | "/metrics") => line!(debug),
        _ => line!(info),
    }
}

/// A body that notices its own end.
struct Followed {
    body: Body,
    flight: Flight,
}

impl HttpBody for Followed {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let frame = Pin::new(&mut self.body).poll_frame(context);
        if matches!(frame, Poll::Ready(None)) {
            self.flight.is_whole = true;
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Followed {
    fn drop(&mut self) {
        self.flight.is_whole |= self.body.is_end_stream();
    }
}
