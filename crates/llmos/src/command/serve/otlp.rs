//! Traces for OpenTelemetry: a span a request, posted as OTLP's JSON over HTTP from a thread of its own.
//!
//! Names are those of OpenTelemetry's conventions for generative AI and for HTTP. No span has text of a
//! conversation. A collector that is slow or gone costs spans, never a request.

use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use llmos_serve::{Report, Reporter};
use serde_json::{Value, json};
use ureq::http::Uri;

/// Spans that wait; more are dropped.
const WAITING: usize = 2048;

/// Spans in one post.
const BATCH: usize = 256;

/// How long a span waits for others.
const PACE: Duration = Duration::from_secs(1);

/// Time for a post.
const PATIENCE: Duration = Duration::from_secs(5);

/// Where spans go.
pub(super) struct Exporter {
    sender: Arc<Mutex<Option<SyncSender<Report>>>>,
    thread: JoinHandle<()>,
}

/// The address that spans are posted to: a collector's, with OTLP's path where it has none.
pub(super) fn parse_url(text: &str) -> Result<String, String> {
    let hint = "an address is http://HOST:4318";
    let url: Uri = text.parse().map_err(|_| hint.to_string())?;
    let is_web = matches!(url.scheme_str(), Some("http" | "https"));
    if !is_web || url.host().is_none_or(str::is_empty) || url.query().is_some() {
        return Err(hint.to_string());
    }
    let base = text.trim_end_matches('/');
    Ok(if url.path().len() > 1 { base.to_string() } else { format!("{base}/v1/traces") })
}

impl Exporter {
    /// Begins to wait for spans.
    ///
    /// # Errors
    /// The system gives no thread, or `SSL_CERT_FILE` is not sound.
    pub(super) fn start(url: String) -> anyhow::Result<Exporter> {
        let agent = crate::download::agent()?;
        let (sender, receiver) = sync_channel(WAITING);
        let post = move |spans: &[Value]| post(&agent, &url, spans);
        let thread = std::thread::Builder::new()
            .name("traces".into())
            .spawn(move || work(&receiver, post))?;
        Ok(Exporter { sender: Arc::new(Mutex::new(Some(sender))), thread })
    }

    /// What a server tells of its requests.
    pub(super) fn reporter(&self) -> Reporter {
        let sender = self.sender.clone();
        Arc::new(move |report: &Report| {
            // Asked for every few seconds by programs: nobody's trace.
            if matches!(report.route.as_str(), "/healthz" | "/readyz" | "/metrics") {
                return;
            }
            let sender = sender.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(sender) = sender.as_ref() {
                let _ = sender.try_send(report.clone());
            }
        })
    }

    /// Posts what is left, if that is quickly done.
    pub(super) fn finish(self) {
        self.sender.lock().unwrap_or_else(PoisonError::into_inner).take();
        let deadline = Instant::now() + PATIENCE;
        while !self.thread.is_finished() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

fn work(reports: &Receiver<Report>, post: impl Fn(&[Value]) -> Result<(), String>) {
    let (mut spans, mut since) = (Vec::new(), Instant::now());
    loop {
        let next = reports.recv_timeout(PACE);
        if let Ok(report) = &next {
            if spans.is_empty() {
                since = Instant::now();
            }
            spans.push(span(report));
        }
        let is_over = matches!(next, Err(RecvTimeoutError::Disconnected));
        let is_due = spans.len() >= BATCH || since.elapsed() >= PACE || is_over;
        if is_due && !spans.is_empty() {
            // A collector that is not there is no reason to keep spans for ever.
            if let Err(reason) = post(&spans) {
                tracing::warn!(reason, spans = spans.len(), "spans were not taken");
            }
            spans.clear();
        }
        if is_over {
            return;
        }
    }
}

fn post(agent: &ureq::Agent, url: &str, spans: &[Value]) -> Result<(), String> {
    let body = json!({
        "resourceSpans": [{
            "resource": { "attributes": [
                text("service.name", "llmos"),
                text("service.version", env!("CARGO_PKG_VERSION")),
            ] },
            "scopeSpans": [{ "scope": { "name": "llmos-serve" }, "spans": spans }],
        }],
    });
    let request = agent.post(url).header("content-type", "application/json");
    let request = request.config().timeout_global(Some(PATIENCE)).build();
    let response = request.send(body.to_string()).map_err(|error| error.to_string())?;
    let status = response.status();
    if status.is_success() { Ok(()) } else { Err(format!("the collector answers {status}")) }
}

/// A request as OTLP's JSON has it: whole numbers of 64 bits are texts.
fn span(report: &Report) -> Value {
    let nanoseconds = |time: SystemTime| {
        let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
        since.as_nanos().to_string()
    };
    let mut attributes = vec![
        text("http.request.method", &report.method),
        text("http.route", &report.route),
        whole("http.response.status_code", u64::from(report.status)),
        text("llmos.request.id", &report.id),
    ];
    let mut name = format!("{} {}", report.method, report.route);
    if let Some(model) = &report.model {
        name = format!("{} {model}", report.operation);
        attributes.extend([
            text("gen_ai.operation.name", report.operation),
            text("gen_ai.provider.name", "llmos"),
            text("gen_ai.request.model", model),
            text("gen_ai.response.model", model),
            whole("gen_ai.usage.input_tokens", report.prompt_tokens as u64),
            whole("gen_ai.usage.cache_read.input_tokens", report.cached_tokens as u64),
            whole("gen_ai.usage.output_tokens", report.tokens as u64),
        ]);
        let finishes = report.finishes.iter().map(|finish| json!({ "stringValue": finish }));
        attributes.push(json!({
            "key": "gen_ai.response.finish_reasons",
            "value": { "arrayValue": { "values": finishes.collect::<Vec<Value>>() } },
        }));
    }
    if let Some(first) = report.first_token {
        attributes.push(json!({
            "key": "gen_ai.server.time_to_first_token",
            "value": { "doubleValue": first.as_secs_f64() },
        }));
    }
    if let Some(key) = &report.key {
        attributes.push(text("llmos.key.name", key));
    }
    let mut status = json!({});
    if let Some(error) = &report.error {
        attributes.push(text("error.type", error));
        // STATUS_CODE_ERROR; what a client did wrong is no error of the server's.
        if report.status >= 500 {
            status = json!({ "code": 2, "message": error });
        }
    }
    json!({
        "traceId": report.trace,
        "spanId": report.span,
        "parentSpanId": report.parent.as_deref().unwrap_or_default(),
        "name": name,
        // SPAN_KIND_SERVER
        "kind": 2,
        "startTimeUnixNano": nanoseconds(report.began),
        "endTimeUnixNano": nanoseconds(report.began + report.took),
        "attributes": attributes,
        "status": status,
    })
}

fn text(key: &str, value: &str) -> Value {
    json!({ "key": key, "value": { "stringValue": value } })
}

fn whole(key: &str, value: u64) -> Value {
    json!({ "key": key, "value": { "intValue": value.to_string() } })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_collectors() {
        for (text, expected) in [
            ("http://127.0.0.1:4318", Some("http://127.0.0.1:4318/v1/traces")),
            ("http://collector:4318/", Some("http://collector:4318/v1/traces")),
            ("https://c.example/otlp/v1/traces", Some("https://c.example/otlp/v1/traces")),
            ("collector:4318", None),
            ("file:///etc", None),
            ("http://", None),
            ("", None),
        ] {
            assert_eq!(parse_url(text).ok().as_deref(), expected, "{text}");
        }
    }
}
