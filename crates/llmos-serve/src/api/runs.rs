//! `/v1/runs`: training runs, as they go. They are only read.

use std::sync::Arc;

use axum::Extension;
use axum::extract::State;
use axum::http::Uri;
use axum::response::Response;
use serde_json::{Value, json};

use super::in_path::InPath;
use super::json_response;
use super::manage::{must_be_admin, refusal};
use crate::keys::Caller;
use crate::outside::{Runs, Trouble};
use crate::query::Query;
use crate::refusal::Refusal;
use crate::server::Service;

/// All runs, the last changed first.
pub(crate) async fn all(
    State(service): State<Arc<Service>>,
    Extension(caller): Extension<Caller>,
) -> Result<Response, Refusal> {
    must_be_admin(&caller)?;
    let data = read(&service, |runs| runs.list()).await?.unwrap_or_default();
    Ok(json_response(&json!({ "data": data })))
}

/// A run, with what was measured beyond a step.
pub(crate) async fn one(
    State(service): State<Arc<Service>>,
    Extension(caller): Extension<Caller>,
    InPath(id): InPath,
    uri: Uri,
) -> Result<Response, Refusal> {
    must_be_admin(&caller)?;
    let after = after(&Query::of(&uri)?)?;
    let unknown = || {
        let id: String = id.chars().take(80).collect();
        let hint = "GET /v1/runs lists them; serve --runs DIR says where they are";
        Refusal::not_found("run_not_found", format!("there is no run {id:?}"), hint)
    };
    if !is_plain(&id) {
        return Err(unknown());
    }
    let name = id.clone();
    let found = read(&service, move |runs| runs.one(&name, after)).await?.flatten();
    found.map(|run| json_response(&run)).ok_or_else(unknown)
}

/// Asks where runs are known, away from the thread of sockets; none where nobody knows of any.
async fn read<T: Send + 'static>(
    service: &Service,
    ask: impl FnOnce(&dyn Runs) -> Result<T, Trouble> + Send + 'static,
) -> Result<Option<T>, Refusal> {
    let Some(runs) = service.options.runs.clone() else { return Ok(None) };
    let read = tokio::task::spawn_blocking(move || ask(&*runs)).await;
    let read = read.map_err(|_| Refusal::broken("reading a run ended early"))?;
    read.map(Some).map_err(refusal)
}

/// True for a name that leads nowhere else.
fn is_plain(id: &str) -> bool {
    !id.is_empty() && !id.starts_with('.') && !id.contains(['/', '\\', '\0', ':'])
}

/// The step that `?after=` names.
fn after(query: &Query) -> Result<Option<u64>, Refusal> {
    let Some(text) = query.text("after").filter(|text| !text.is_empty()) else { return Ok(None) };
    text.parse().map(Some).map_err(|_| {
        Refusal::field("after", "a step's number", &Value::from(text), "leave it out for all steps")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_lead_nowhere_else() {
        for (id, expected) in [
            ("run", true),
            ("run-2.b", true),
            ("世界", true),
            ("", false),
            (".", false),
            ("..", false),
            (".hidden", false),
            ("../run", false),
            ("a/b", false),
            ("a\\b", false),
            ("c:x", false),
            ("a\0", false),
        ] {
            assert_eq!(is_plain(id), expected, "{id:?}");
        }
    }

    #[test]
    fn steps_are_whole_numbers() {
        let after =
            |query: &str| after(&Query::of(&format!("/?{query}").parse().unwrap()).unwrap());
        assert_eq!(after("").unwrap(), None);
        assert_eq!(after("after=").unwrap(), None);
        assert_eq!(after("x=1&after=12").unwrap(), Some(12));
        for bad in ["after=-1", "after=1.5", "after=x", "after=99999999999999999999"] {
            assert!(after(bad).is_err(), "{bad}");
        }
    }
}
