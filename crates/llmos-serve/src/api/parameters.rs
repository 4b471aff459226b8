//! `GET /v1/parameters?model=ID`: how the numbers of each tensor are distributed; the answer is that of
//! `llmos inspect --histogram --json`.

use std::sync::Arc;

use axum::Extension;
use axum::extract::State;
use axum::http::Uri;
use axum::response::Response;
use serde_json::Value;

use super::json_text;
use crate::keys::Caller;
use crate::query::Query;
use crate::refusal::Refusal;
use crate::server::Service;

/// The distribution of every tensor, of the model in `?model=` or the first one.
pub(crate) async fn parameters(
    State(service): State<Arc<Service>>,
    Extension(caller): Extension<Caller>,
    uri: Uri,
) -> Result<Response, Refusal> {
    let _ticket = service.place(caller)?;
    let query = Query::of(&uri)?;
    let found = async {
        let resident = service.models.get(query.text("model"), &service.scheduling()).await?;
        let tensors = resident.parameters.get().await?;
        let id = Value::from(resident.id.as_str());
        Ok(format!("{{\"model\":{id},\"tensors\":{tensors}}}"))
    };
    let found = tokio::time::timeout(service.options.request_time, found).await;
    found.unwrap_or_else(|_| Err(Refusal::timed_out())).map(json_text)
}
