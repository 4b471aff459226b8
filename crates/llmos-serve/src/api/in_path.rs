//! What an address names, `{id}`.

use axum::extract::{FromRequestParts, Path};
use axum::http::request::Parts;

use crate::refusal::Refusal;

/// The only part of a path that names something.
pub(super) struct InPath(pub(super) String);

impl<S: Send + Sync> FromRequestParts<S> for InPath {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<InPath, Refusal> {
        let path = Path::<String>::from_request_parts(parts, state).await;
        path.map(|Path(id)| InPath(id)).map_err(|_| {
            let hint = "write characters of UTF-8 as %XX";
            Refusal::bad("what the path names is no UTF-8", hint)
        })
    }
}
