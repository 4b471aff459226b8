//! What is noted of one request while it goes on.

use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use crate::outside::Report;
use crate::scheduler::Event;
use crate::server::Ids;

/// The record of a request under way.
pub(crate) struct Record {
    id: String,
    trace: String,
    parent: Option<String>,
    span: String,
    start: Instant,
    began: SystemTime,
    noted: Mutex<Noted>,
}

#[derive(Default)]
struct Noted {
    model: Option<String>,
    key: Option<String>,
    first_token: Option<Duration>,
    prompt_tokens: usize,
    cached_tokens: usize,
    tokens: usize,
    finishes: Vec<&'static str>,
    broken: Option<&'static str>,
}

tokio::task_local! {
    /// The record of the request that a task handles: whatever is called in it can note something
    /// without being handed the record through every signature.
    static CURRENT: Arc<Record>;
}

impl Record {
    /// A request that has just come, perhaps as a part of the trace that its client names.
    pub(crate) fn new(ids: &Ids, traceparent: Option<&str>) -> Record {
        let (trace, parent) = match traceparent.and_then(parse) {
            Some((trace, parent)) => (trace, Some(parent)),
            None => (ids.name(""), None),
        };
        Record {
            id: ids.name("req_"),
            trace,
            parent,
            span: format!("{:016x}", ids.number()),
            start: Instant::now(),
            began: SystemTime::now(),
            noted: Mutex::default(),
        }
    }

    /// The record of what goes on when this request is answered: of the same trace and key.
    pub(crate) fn beside(&self, ids: &Ids) -> Record {
        let record = Record {
            trace: self.trace.clone(),
            parent: Some(self.span.clone()),
            ..Record::new(ids, None)
        };
        if let Some(key) = &self.noted().key {
            record.key(key);
        }
        record
    }

    /// Its number, as the answer names it.
    pub(crate) fn id(&self) -> &str {
        &self.id
    }

    /// The record of the request that is handled here.
    pub(crate) fn current() -> Option<Arc<Record>> {
        CURRENT.try_with(Arc::clone).ok()
    }

    /// Makes it the current one while `work` goes on.
    pub(crate) fn scope<T>(
        self: &Arc<Record>,
        work: impl Future<Output = T>,
    ) -> impl Future<Output = T> {
        CURRENT.scope(self.clone(), work)
    }

    /// Whose key was shown.
    pub(crate) fn key(&self, name: &str) {
        self.noted().key = Some(name.to_string());
    }

    /// Which model is asked.
    pub(crate) fn model(&self, id: &str) {
        self.noted().model = Some(id.to_string());
    }

    /// Something came from the model's thread.
    pub(crate) fn heard(&self, event: &Event) {
        let mut noted = self.noted();
        match event {
            Event::Read(read) => {
                noted.prompt_tokens += read.tokens;
                noted.cached_tokens += read.cached;
            }
            Event::Part { .. } => {
                noted.first_token.get_or_insert_with(|| self.start.elapsed());
            }
            Event::End { finish, tokens, .. } => {
                if *tokens > 0 {
                    noted.first_token.get_or_insert_with(|| self.start.elapsed());
                }
                noted.tokens += tokens;
                noted.finishes.push(finish.name());
            }
            Event::Failed(refusal) => noted.broken = Some(refusal.reason()),
        }
    }

    /// Why the model's thread gave it up.
    pub(crate) fn broken(&self) -> Option<&'static str> {
        self.noted().broken
    }

    /// What there is to say of it now that it is over.
    pub(crate) fn report(
        &self,
        method: String,
        route: String,
        status: u16,
        error: Option<String>,
    ) -> Report {
        let noted = std::mem::take(&mut *self.noted());
        Report {
            id: self.id.clone(),
            operation: operation(&route),
            method,
            route,
            status,
            began: self.began,
            took: self.start.elapsed(),
            trace: self.trace.clone(),
            parent: self.parent.clone(),
            span: self.span.clone(),
            model: noted.model,
            key: noted.key,
            first_token: noted.first_token,
            prompt_tokens: noted.prompt_tokens,
            cached_tokens: noted.cached_tokens,
            tokens: noted.tokens,
            finishes: noted.finishes,
            error,
        }
    }

    fn noted(&self) -> MutexGuard<'_, Noted> {
        self.noted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What stands for a route where a response is written after its request was answered.
pub(super) const BACKGROUND: &str = "/v1/responses in the background";

/// What a route is for, in the words of OpenTelemetry's conventions where they have one.
fn operation(route: &str) -> &'static str {
    match route {
        "/v1/chat/completions" | "/v1/responses" | BACKGROUND | "/v1/messages" | "/api/chat" => {
            "chat"
        }
        "/v1/completions" | "/api/generate" => "text_completion",
        "/v1/embeddings" | "/api/embed" | "/api/embeddings" => "embeddings",
        "/v1/rerank" | "/rerank" => "rerank",
        "/v1/next" => "next",
        "/v1/score" => "score",
        "/v1/lens" => "lens",
        _ => "other",
    }
}

/// The trace and the span of a `traceparent` (W3C Trace Context, version 00).
fn parse(text: &str) -> Option<(String, String)> {
    let mut parts = text.split('-');
    let (version, trace, parent) = (parts.next()?, parts.next()?, parts.next()?);
    let is_id = |text: &str, length: usize| {
        text.len() == length
            && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
            && text.bytes().any(|b| b != b'0')
    };
    let is_sound = version.len() == 2 && version != "ff" && is_id(trace, 32) && is_id(parent, 16);
    is_sound.then(|| (trace.to_string(), parent.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trace_goes_on_where_its_name_is_sound() {
        let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
        let check =
            |text: &str, expected: bool| assert_eq!(parse(text).is_some(), expected, "{text}");
        check(&format!("00-{trace}-00f067aa0ba902b7-01"), true);
        check(&format!("ff-{trace}-00f067aa0ba902b7-01"), false);
        check(&format!("00-{}-00f067aa0ba902b7-01", "0".repeat(32)), false);
        check(&format!("00-{trace}-{}-01", "0".repeat(16)), false);
        check(&format!("00-{}-00f067aa0ba902b7-01", trace.to_uppercase()), false);
        check("00-x-y-01", false);
        check("", false);
        let record = Record::new(&Ids::default(), Some(&format!("00-{trace}-00f067aa0ba902b7-01")));
        let report = record.report(String::new(), "/v1/chat/completions".into(), 200, None);
        assert_eq!((report.trace.as_str(), report.operation), (trace, "chat"));
        assert_eq!(report.parent.as_deref(), Some("00f067aa0ba902b7"));
        let own = Record::new(&Ids::default(), Some("<script>")).report(
            String::new(),
            "-".into(),
            200,
            None,
        );
        assert!(own.parent.is_none() && own.trace.len() == 32 && own.span.len() == 16);
    }
}
