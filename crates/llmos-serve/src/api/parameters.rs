//! `GET /v1/parameters?model=ID`: how the numbers of each tensor are distributed; the answer is that of
//! `llmos inspect --histogram --json`.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::response::Response;
use serde_json::Value;

use super::json_text;
use crate::refusal::Refusal;
use crate::server::Service;

/// The distribution of every tensor, of the model in `?model=` or the first one.
pub(crate) async fn parameters(
    State(service): State<Arc<Service>>,
    request: Request,
) -> Result<Response, Refusal> {
    let _ticket = service.ticket()?;
    let model = asked(request.uri().query().unwrap_or_default());
    let found = async {
        let resident = service.models.get(model.as_deref(), &service.scheduling()).await?;
        let tensors = resident.parameters.get().await?;
        let id = Value::from(resident.id.as_str());
        Ok(format!("{{\"model\":{id},\"tensors\":{tensors}}}"))
    };
    let found = tokio::time::timeout(service.options.request_time, found).await;
    found.unwrap_or_else(|_| Err(Refusal::timed_out())).map(json_text)
}

/// The model that a query asks for.
fn asked(query: &str) -> Option<String> {
    let value = query.split('&').find_map(|pair| pair.strip_prefix("model="))?;
    let mut bytes = Vec::with_capacity(value.len());
    let mut rest = value.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let escaped = (first == b'%').then(|| after.split_at_checked(2)).flatten();
        let decoded = escaped.and_then(|(digits, after)| {
            let byte = u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
            Some((byte, after))
        });
        let byte;
        (byte, rest) = decoded.unwrap_or((if first == b'+' { b' ' } else { first }, after));
        bytes.push(byte);
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_they_were_meant() {
        let check = |query: &str, expected: Option<&str>| {
            assert_eq!(asked(query).as_deref(), expected, "{query}");
        };
        check("", None);
        check("other=1", None);
        check("model=stories260K", Some("stories260K"));
        check("a=b&model=owner%2Frepo%3Aq4&c=d", Some("owner/repo:q4"));
        check("model=a+b%20c", Some("a b c"));
        check("model=%E6%A8%A1", Some("模"));
        check("model=100%&x", Some("100%"));
        check("model=%zz%", Some("%zz%"));
        check("model=%FF", None);
    }
}
