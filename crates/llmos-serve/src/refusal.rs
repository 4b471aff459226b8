//! What a client is told when it cannot have what it asks for: OpenAI's shape, and what to do.

use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

/// Why an answer says no, as one word, for whoever counts.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reason(pub(crate) &'static str);

/// An answer that says no.
#[derive(Clone, Debug)]
pub(crate) struct Refusal {
    pub(crate) status: StatusCode,
    /// OpenAI's `type`.
    kind: &'static str,
    /// OpenAI's `code`.
    code: Option<&'static str>,
    /// The field that is wrong.
    pub(crate) param: Option<String>,
    pub(crate) message: String,
    pub(crate) hint: String,
    /// Seconds after which it may be tried again.
    pub(crate) retry_after: Option<u32>,
}

impl Refusal {
    fn new(
        status: StatusCode,
        kind: &'static str,
        message: impl Into<String>,
        hint: impl Into<String>,
    ) -> Refusal {
        let (mut message, hint): (String, String) = (message.into(), hint.into());
        if let Some((at, _)) = message.char_indices().nth(LONGEST) {
            message.truncate(at);
            message.push('…');
        }
        Refusal { status, kind, code: None, param: None, message, hint, retry_after: None }
    }

    /// What was sent cannot be understood or done.
    pub(crate) fn bad(message: impl Into<String>, hint: impl Into<String>) -> Refusal {
        Refusal::new(StatusCode::BAD_REQUEST, "invalid_request_error", message, hint)
    }

    /// A field holds what it cannot.
    pub(crate) fn field(
        name: &str,
        expected: impl Into<String>,
        got: &Value,
        hint: impl Into<String>,
    ) -> Refusal {
        let (expected, got) = (expected.into(), clipped(got));
        Refusal::bad(format!("{name}: expected {expected}, got {got}"), hint).about(name)
    }

    /// Names the field that is wrong.
    pub(crate) fn about(self, name: &str) -> Refusal {
        Refusal { param: Some(name.to_string()), ..self }
    }

    /// Names the field that is wrong, in its message too.
    pub(crate) fn within(self, name: &str) -> Refusal {
        Refusal { message: format!("{name}: {}", self.message), ..self }.about(name)
    }

    /// Calls fields by the names that they have in another API: pairs of ours and theirs.
    pub(crate) fn renamed(mut self, names: &[(&str, &str)]) -> Refusal {
        let Some(param) = &self.param else { return self };
        if let Some((ours, theirs)) = names.iter().find(|(ours, _)| ours == param) {
            if let Some(rest) = self.message.strip_prefix(ours) {
                self.message = format!("{theirs}{rest}");
            }
            self.param = Some(theirs.to_string());
        }
        self
    }

    /// The prompt is longer than the context.
    pub(crate) fn is_too_long(&self) -> bool {
        self.code == Some("context_length_exceeded")
    }

    /// All in one sentence.
    pub(crate) fn sentence(&self) -> String {
        format!("{}; {}", self.message, self.hint)
    }

    /// There is no such thing.
    pub(crate) fn not_found(
        code: &'static str,
        message: impl Into<String>,
        hint: impl Into<String>,
    ) -> Refusal {
        let refusal = Refusal::new(StatusCode::NOT_FOUND, "invalid_request_error", message, hint);
        Refusal { code: Some(code), ..refusal }
    }

    /// The prompt does not fit.
    pub(crate) fn too_long(tokens: usize, context: usize) -> Refusal {
        let refusal = Refusal::bad(
            format!("the prompt has {tokens} tokens, and the context holds {context}"),
            "shorten it; one token at least must be left for an answer",
        );
        Refusal { code: Some("context_length_exceeded"), ..refusal }
    }

    /// Another status, of the client's making.
    pub(crate) fn client(
        status: StatusCode,
        message: impl Into<String>,
        hint: impl Into<String>,
    ) -> Refusal {
        Refusal::new(status, "invalid_request_error", message, hint)
    }

    /// No key, or one that is not known or may not do this.
    pub(crate) fn no_key(message: impl Into<String>, status: StatusCode) -> Refusal {
        let hint = "send a key as `Authorization: Bearer KEY` or `x-api-key: KEY`";
        let refusal = Refusal::new(status, "authentication_error", message, hint);
        Refusal { code: Some("invalid_api_key"), ..refusal }
    }

    /// A key that nobody has, or has no more.
    pub(crate) fn unknown_key() -> Refusal {
        Refusal::no_key("the key is not known", StatusCode::UNAUTHORIZED)
    }

    /// A key that may not do this.
    pub(crate) fn no_scope() -> Refusal {
        let refusal = Refusal::new(
            StatusCode::FORBIDDEN,
            "permission_error",
            "the key may ask models and keep conversations, and this is neither",
            "ask with a key of the scope admin: llmos keys add NAME --scope admin",
        );
        Refusal { code: Some(NO_SCOPE), ..refusal }
    }

    /// More was asked for in a minute than the key may.
    pub(crate) fn too_fast(quota: impl Into<String>, wait: Duration) -> Refusal {
        let refusal = Refusal::new(
            StatusCode::TOO_MANY_REQUESTS,
            "rate_limit_error",
            format!("the key may have {}, and has had them", quota.into()),
            "try again after the seconds in Retry-After",
        );
        let code = Some("rate_limit_exceeded");
        Refusal { code, retry_after: Some(seconds(wait)), ..refusal }
    }

    /// All that the key may have for some time is used up.
    pub(crate) fn used_up(quota: impl Into<String>, wait: Duration) -> Refusal {
        let refusal = Refusal::new(
            StatusCode::TOO_MANY_REQUESTS,
            "rate_limit_error",
            format!("the key has used {}", quota.into()),
            "try again after the seconds in Retry-After, or ask for a key with a larger quota",
        );
        let code = Some("insufficient_quota");
        Refusal { code, retry_after: Some(seconds(wait)), ..refusal }
    }

    /// An error of the store. What it says of places is for the log; the client is told what kind
    /// it is of, and what can be done.
    pub(crate) fn of_store(error: &llmos_store::Error) -> Refusal {
        use llmos_store::Error;
        let away = |code: &'static str, message: &str, hint: &str| {
            tracing::error!(%error, "the store refused");
            Refusal { code: Some(code), ..Refusal::unavailable(message, hint) }
        };
        let lasting = |status: StatusCode, code: &'static str, message: &str, hint: &str| {
            tracing::error!(%error, "the store refused");
            let refusal = Refusal::new(status, "server_error", message, hint);
            Refusal { code: Some(code), ..refusal }
        };
        match error {
            Error::Missing { what: "conversation", .. } => Refusal::not_found(
                "conversation_not_found",
                short(error),
                "GET /v1/conversations lists those of this key",
            ),
            Error::Missing { what, .. } => Refusal::not_found(
                if *what == "message" { "message_not_found" } else { "not_found" },
                short(error),
                "GET /v1/conversations/ID has the numbers of its messages",
            ),
            Error::Exists { .. } => {
                let hint = "choose another name";
                Refusal::client(StatusCode::CONFLICT, short(error), hint)
            }
            Error::Invalid { .. } => Refusal::bad(short(error), "change what is sent"),
            Error::Row { .. } => {
                let hint = "a line is a conversation of an export, or {\"messages\": […]}";
                Refusal::bad(short(error), hint)
            }
            Error::Busy { .. } | Error::Locked { .. } => away(
                "store_busy",
                "another program has been writing to the store for too long",
                "try again after the seconds in Retry-After; nothing was changed",
            ),
            Error::Unreachable { .. } => away(
                "store_unreachable",
                "the database does not answer",
                "try again after the seconds in Retry-After, and look whether it was stored",
            ),
            Error::Full { .. } => lasting(
                StatusCode::INSUFFICIENT_STORAGE,
                "store_full",
                "there is no room to store this: nothing of it was",
                "make room on the server's disk, or delete conversations",
            ),
            Error::ReadOnly { .. } => lasting(
                StatusCode::INSUFFICIENT_STORAGE,
                "store_read_only",
                "the store can be read and not written: nothing was stored",
                "whoever runs the server must let it write to its data folder",
            ),
            Error::Corrupt { .. } | Error::Foreign { .. } | Error::Newer { .. } => lasting(
                StatusCode::INTERNAL_SERVER_ERROR,
                "store_damaged",
                "the store is damaged, or not one of this program",
                "the server's log says more; stop it, and keep a copy of its data folder",
            ),
            _ => Refusal::broken_by(error),
        }
    }

    fn broken_by(error: &llmos_store::Error) -> Refusal {
        tracing::error!(%error, "the store failed");
        Refusal::broken("the store failed")
    }

    /// The page or the name that asks is not one that may.
    pub(crate) fn stranger(message: impl Into<String>, hint: impl Into<String>) -> Refusal {
        Refusal::new(StatusCode::FORBIDDEN, "permission_error", message, hint)
    }

    /// As many requests are in flight as may be, of all or of one key.
    pub(crate) fn busy(most: usize, wait: Duration) -> Refusal {
        let refusal = Refusal::new(
            StatusCode::TOO_MANY_REQUESTS,
            "rate_limit_error",
            format!("{most} requests are in flight or wait, as many as may"),
            "try again after the seconds in Retry-After",
        );
        let code = Some("rate_limit_exceeded");
        Refusal { code, retry_after: Some(seconds(wait)), ..refusal }
    }

    /// Its time is over.
    pub(crate) fn timed_out() -> Refusal {
        let refusal = Refusal::new(
            StatusCode::GATEWAY_TIMEOUT,
            "timeout_error",
            "the answer took longer than a request may",
            "ask for fewer tokens (max_tokens), or stream them",
        );
        Refusal { code: Some("timeout"), ..refusal }
    }

    /// The cache cannot hold the sequence, even alone.
    pub(crate) fn no_memory() -> Refusal {
        let refusal = Refusal::bad(
            "the memory for keys and values cannot hold so long a text",
            "shorten the prompt or max_tokens, or give the server more --memory",
        );
        Refusal { code: Some("context_length_exceeded"), ..refusal }
    }

    /// Something that another try may find in order.
    pub(crate) fn unavailable(message: impl Into<String>, hint: impl Into<String>) -> Refusal {
        let status = StatusCode::SERVICE_UNAVAILABLE;
        let refusal = Refusal::new(status, "server_error", message, hint);
        Refusal { retry_after: Some(2), ..refusal }
    }

    /// Another try finds it no better.
    pub(crate) fn lasting(self) -> Refusal {
        Refusal { retry_after: None, ..self }
    }

    /// Something here is broken.
    pub(crate) fn broken(message: impl Into<String>) -> Refusal {
        Refusal::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "server_error",
            message,
            "the server's log says more",
        )
    }

    /// An error of the engine, the sampler or a grammar.
    pub(crate) fn of_model(error: &llmos_model::Error) -> Refusal {
        use llmos_model::Error;
        match error {
            Error::CacheFull { .. } => Refusal::no_memory(),
            Error::Grammar(_) => {
                Refusal::bad(error.to_string(), "simplify the schema or the grammar")
            }
            Error::Request { operation: "weights", .. } => {
                Refusal::broken(format!("{error}: the weights are damaged"))
            }
            Error::Request { operation: "sample", .. } => Refusal::bad(
                error.to_string(),
                "logit_bias and the grammar together leave no token that may follow",
            ),
            Error::Request { .. } => {
                Refusal::bad(error.to_string(), "GET /v1/models says how long a model's context is")
            }
            _ => Refusal::broken(error.to_string()),
        }
    }

    /// An error of a conversation.
    pub(crate) fn of_conversation(error: &llmos_agent::Error) -> Refusal {
        use llmos_agent::Error;
        let refusal = match error {
            Error::Model(error) => return Refusal::of_model(error),
            Error::TooLong { tokens, context } => return Refusal::too_long(*tokens, *context),
            Error::Template(_) => Refusal::bad(
                format!("messages: {error}"),
                "the model's own chat template refuses this conversation: change its roles",
            ),
            _ => Refusal::bad(
                format!("messages: {error}"),
                "a message is {\"role\": \"user\", \"content\": TEXT}; what is answered is the last \
                 one, a user's or a tool's",
            ),
        };
        refusal.about("messages")
    }

    /// What it is, as one word.
    pub(crate) fn reason(&self) -> &'static str {
        self.code.unwrap_or(self.kind)
    }

    /// As JSON.
    pub(crate) fn to_json(&self) -> Value {
        json!({
            "error": {
                "message": self.sentence(),
                "type": self.kind,
                "param": self.param,
                "code": self.code,
                "hint": self.hint,
            },
        })
    }
}

/// The code of a key that may not do what is asked.
const NO_SCOPE: &str = "insufficient_scope";

/// Whole seconds after which something may be tried again, at least one.
fn seconds(wait: Duration) -> u32 {
    u32::try_from(wait.as_millis().div_ceil(1000)).unwrap_or(u32::MAX).max(1)
}

/// An error of the store without all of a long name in it.
fn short(error: &llmos_store::Error) -> String {
    let text = error.to_string();
    match text.char_indices().nth(200) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text,
    }
}

/// Most characters of a message: what was sent may stand in it, and an error is not to be as long.
const LONGEST: usize = 500;

/// A value as it stands in a message: not all of a long one.
fn clipped(value: &Value) -> String {
    /// Enough to know it again.
    const MOST: usize = 60;
    let text = value.to_string();
    match text.char_indices().nth(MOST) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text,
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let mut response = Response::new(Body::from(self.to_json().to_string()));
        *response.status_mut() = self.status;
        response.extensions_mut().insert(Reason(self.reason()));
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if let Some(seconds) = self.retry_after {
            headers.insert(header::RETRY_AFTER, seconds.into());
        }
        let is_lasting = match self.status {
            StatusCode::GATEWAY_TIMEOUT | StatusCode::INSUFFICIENT_STORAGE => true,
            StatusCode::SERVICE_UNAVAILABLE => self.retry_after.is_none(),
            _ => false,
        };
        if is_lasting {
            // OpenAI's clients would ask for the same again.
            headers.insert("x-should-retry", HeaderValue::from_static("false"));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if self.code == Some(NO_SCOPE) {
            let challenge = "Bearer error=\"insufficient_scope\", scope=\"admin\"";
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
        }
        // Other APIs have it in a shape of their own.
        response.extensions_mut().insert(self);
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_says_what_is_wrong_and_what_to_do_but_not_all_of_a_long_value() {
        let long = Value::from("世".repeat(500));
        let refusal = Refusal::field("seed", "a whole number", &long, "leave it out");
        let error = &refusal.to_json()["error"];
        assert_eq!(error["param"], "seed");
        assert_eq!(error["type"], "invalid_request_error");
        let message = error["message"].as_str().unwrap();
        assert!(message.starts_with("seed: expected a whole number, got \"世"), "{message}");
        assert!(message.ends_with("…; leave it out") && message.chars().count() < 150, "{message}");
    }

    #[test]
    fn what_ails_a_store_is_told_without_its_place() {
        use llmos_store::Error;
        let (operation, place, problem) = ("add a message", "/ann/store", "no /ann left");
        let (place, problem) = (place.to_string(), problem.to_string());
        let busy = Error::Busy { operation, place: place.clone(), waited: Duration::from_secs(5) };
        let locked = Error::Locked { operation, place: place.clone(), process: Some(7) };
        let newer = Error::Newer { place: place.clone(), found: 9, known: 3 };
        macro_rules! of {
            ($kind:ident) => {
                Error::$kind { operation, place: place.clone(), problem: problem.clone() }
            };
        }
        for (error, status, code, is_lasting) in [
            (busy, 503, Some("store_busy"), false),
            (locked, 503, Some("store_busy"), false),
            (of!(Unreachable), 503, Some("store_unreachable"), false),
            (of!(Full), 507, Some("store_full"), true),
            (of!(ReadOnly), 507, Some("store_read_only"), true),
            (of!(Corrupt), 500, Some("store_damaged"), true),
            (of!(Foreign), 500, Some("store_damaged"), true),
            (newer, 500, Some("store_damaged"), true),
            (of!(Database), 500, None, true),
        ] {
            let refusal = Refusal::of_store(&error);
            assert_eq!((refusal.status.as_u16(), refusal.code), (status, code), "{error}");
            assert_eq!(refusal.retry_after.is_none(), is_lasting, "{error}");
            assert!(!refusal.to_json().to_string().contains("ann"), "{refusal:?}");
        }
        let name = "x".repeat(10_000);
        let missing = Refusal::of_store(&Error::Missing { what: "conversation", name });
        assert!(missing.status == StatusCode::NOT_FOUND && missing.message.len() < 300);
    }
}
