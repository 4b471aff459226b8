//! The web page: static files that are part of the program, and nothing of anybody's.
//!
//! A browser asks for them before it can have a key, so the gate lets them through without one; the page
//! then asks its reader for a key where the server has any.

use std::collections::HashMap;
use std::sync::LazyLock;

use axum::body::{Body, Bytes};
use axum::extract::Request;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use sha2::{Digest, Sha256};

use crate::refusal::Refusal;

/// A file and its bytes.
macro_rules! web {
    ($path:literal) => {
        ($path, include_bytes!(concat!("../web/", $path)))
    };
}

/// Path under `web/` -> bytes.
const FILES: &[(&str, &[u8])] = &[
    web!("api.js"),
    web!("app.js"),
    web!("components.js"),
    web!("html.js"),
    web!("i18n.js"),
    web!("icon.svg"),
    web!("index.html"),
    web!("markdown.js"),
    web!("math.js"),
    web!("strings.js"),
    web!("style.css"),
    web!("theme.js"),
    web!("pages/chat.css"),
    web!("pages/chat.js"),
    web!("pages/chat.strings.js"),
    web!("pages/chat/answer.js"),
    web!("pages/chat/composer.js"),
    web!("pages/chat/list.js"),
    web!("pages/chat/message.js"),
    web!("pages/chat/settings.js"),
    web!("pages/chat/store.js"),
    web!("pages/chat/tools.js"),
    web!("pages/chat/tree.js"),
    web!("pages/dreams.css"),
    web!("pages/dreams.js"),
    web!("pages/dreams.strings.js"),
    web!("pages/inside.css"),
    web!("pages/inside.js"),
    web!("pages/inside.strings.js"),
    web!("pages/inside/attention.js"),
    web!("pages/inside/knockout.js"),
    web!("pages/inside/lens.js"),
    web!("pages/inside/parameters.js"),
    web!("pages/models.css"),
    web!("pages/models.js"),
    web!("pages/models.strings.js"),
    web!("pages/next.css"),
    web!("pages/next.js"),
    web!("pages/next.strings.js"),
    web!("pages/runs.css"),
    web!("pages/runs.js"),
    web!("pages/runs.strings.js"),
    web!("vendor/LICENSE-htm"),
    web!("vendor/LICENSE-marked"),
    web!("vendor/LICENSE-preact"),
    web!("vendor/NOTICE.md"),
    web!("vendor/hooks.js"),
    web!("vendor/htm.js"),
    web!("vendor/marked.js"),
    web!("vendor/preact.js"),
    web!("views/amounts.js"),
    web!("views/chart.js"),
    web!("views/distribution.js"),
    web!("views/grid.js"),
    web!("views/latest.js"),
    web!("views/pieces.js"),
    web!("views/tokens.js"),
    web!("views/views.css"),
];

/// What the page may do: load its own scripts, styles and pictures, and ask this server. Nothing written
/// in the page itself runs, and no other page may hold it in a frame.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; \
    connect-src 'self'; font-src 'self'; form-action 'none'; base-uri 'none'; frame-ancestors 'none'";

/// A file as it is sent.
struct File {
    kind: &'static str,
    /// A quoted part of the SHA-256.
    tag: HeaderValue,
    bytes: &'static [u8],
}

static TABLE: LazyLock<HashMap<&str, File>> = LazyLock::new(|| {
    let file = |bytes: &'static [u8], path: &str| {
        let hash = Sha256::digest(bytes);
        let digits: String = hash.iter().take(16).map(|byte| format!("{byte:02x}")).collect();
        let tag = HeaderValue::from_str(&format!("\"{digits}\""));
        File { kind: kind_of(path), tag: tag.unwrap_or(HeaderValue::from_static("\"\"")), bytes }
    };
    FILES.iter().map(|&(path, bytes)| (path, file(bytes, path))).collect()
});

/// By the ending. Browsers run a module only if it says that it is a script.
fn kind_of(path: &str) -> &'static str {
    match path.rsplit_once('.').map_or("", |(_, ending)| ending) {
        "html" => "text/html; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "js" => "text/javascript; charset=utf-8",
        "svg" => "image/svg+xml",
        _ => "text/plain; charset=utf-8",
    }
}

/// `GET /` and `GET /web/{path}`.
pub(crate) async fn serve(request: Request) -> Response {
    match find(request.uri()) {
        Some(file) => answer(file, request.headers()),
        None => Refusal::not_found(
            "unknown_url",
            "the page has no such file",
            "the page itself is at /",
        )
        .into_response(),
    }
}

fn find(uri: &Uri) -> Option<&'static File> {
    match uri.path() {
        "/" => TABLE.get("index.html"),
        path => TABLE.get(path.strip_prefix("/web/")?),
    }
}

/// The file, or that the browser has it already. `HEAD` is answered by the router, without the body.
fn answer(file: &'static File, headers: &HeaderMap) -> Response {
    let known = headers.get(header::IF_NONE_MATCH).and_then(|tags| tags.to_str().ok());
    let tag = file.tag.to_str().unwrap_or_default();
    let is_known = known
        .is_some_and(|tags| tags.split(',').any(|one| one.trim().trim_start_matches("W/") == tag));
    let mut response = match is_known {
        true => StatusCode::NOT_MODIFIED.into_response(),
        false => Response::new(Body::from(Bytes::from_static(file.bytes))),
    };
    let all = response.headers_mut();
    all.insert(header::ETAG, file.tag.clone());
    for (name, value) in [
        (header::CONTENT_TYPE, file.kind),
        // Kept, but asked about each time: a new program has a new page.
        (header::CACHE_CONTROL, "no-cache"),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    ] {
        all.insert(name, HeaderValue::from_static(value));
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_finds_files_of_the_page_and_nothing_else() {
        for (path, expected) in [
            ("/", true),
            ("/web/app.js", true),
            ("/web/pages/chat.js?x=1", true),
            ("/web", false),
            ("/web/", false),
            ("/web/pages", false),
            ("/web//app.js", false),
            ("/web/../v1/models", false),
            ("/web/%2e%2e/v1/models", false),
        ] {
            assert_eq!(find(&path.parse().unwrap()).is_some(), expected, "{path}");
        }
    }

    #[test]
    fn the_whole_page_is_small() {
        let bytes: usize = FILES
            .iter()
            .filter(|(path, _)| !path.contains("LICENSE") && !path.ends_with(".md"))
            .map(|(_, bytes)| bytes.len())
            .sum();
        assert!(bytes < 400_000, "{bytes} bytes");
    }
}
