//! What a client is told when it cannot have what it asks for: OpenAI's shape, and what to do.

use axum::body::Body;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

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
    retry_after: Option<u32>,
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

    /// The page or the name that asks is not one that may.
    pub(crate) fn stranger(message: impl Into<String>, hint: impl Into<String>) -> Refusal {
        Refusal::new(StatusCode::FORBIDDEN, "permission_error", message, hint)
    }

    /// As many requests are in flight as may be.
    pub(crate) fn busy(most: usize) -> Refusal {
        let refusal = Refusal::new(
            StatusCode::TOO_MANY_REQUESTS,
            "rate_limit_error",
            format!("{most} requests are in flight or wait, as many as may"),
            "try again after the seconds in Retry-After",
        );
        Refusal { code: Some("rate_limit_exceeded"), retry_after: Some(1), ..refusal }
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

    /// As JSON.
    pub(crate) fn to_json(&self) -> Value {
        json!({
            "error": {
                "message": format!("{}; {}", self.message, self.hint),
                "type": self.kind,
                "param": self.param,
                "code": self.code,
                "hint": self.hint,
            },
        })
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
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if let Some(seconds) = self.retry_after {
            headers.insert(header::RETRY_AFTER, seconds.into());
        }
        if self.status == StatusCode::GATEWAY_TIMEOUT {
            // OpenAI's clients would ask for the same again.
            headers.insert("x-should-retry", HeaderValue::from_static("false"));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
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
}
