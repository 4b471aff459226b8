//! The web page: static files that are part of the program, and nothing of anybody's.
//!
//! A browser asks for them before it can have a key, so the gate lets them through without one; the page
//! then asks its reader for a key where the server has any.

use std::collections::HashMap;
use std::io::Read;
use std::sync::{LazyLock, OnceLock};

use axum::body::{Body, Bytes};
use axum::extract::Request;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use flate2::Compression;
use flate2::read::GzEncoder;
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
    web!("pages/chat/export.js"),
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
    web!("views/histogram.js"),
    web!("views/latest.js"),
    web!("views/pieces.js"),
    web!("views/tokens.js"),
    web!("views/views.css"),
];

/// What the page may do: load its own scripts, styles and pictures, and ask this server. Nothing written
/// in the page itself runs, and no other page may hold it in a frame.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; \
    connect-src 'self'; font-src 'self'; form-action 'none'; base-uri 'none'; frame-ancestors 'none'";

/// A file in the forms that it is sent in.
struct File {
    kind: &'static str,
    plain: Form,
    /// The same by gzip, made when somebody first asks for it.
    packed: OnceLock<Form>,
}

/// Bytes, and the quoted name by which a browser asks whether they are still the same.
struct Form {
    tag: HeaderValue,
    bytes: Bytes,
}

impl Form {
    fn new(tag: &str, bytes: Bytes) -> Form {
        let tag = HeaderValue::from_str(&format!("\"{tag}\""));
        Form { tag: tag.unwrap_or(HeaderValue::from_static("\"\"")), bytes }
    }
}

impl File {
    fn new(path: &str, bytes: &'static [u8]) -> File {
        let plain = Form::new(&digits(bytes), Bytes::from_static(bytes));
        File { kind: kind_of(path), plain, packed: OnceLock::new() }
    }

    fn packed(&self) -> &Form {
        self.packed.get_or_init(|| {
            let mut packed = Vec::new();
            // Neither reading nor writing memory fails.
            let _ =
                GzEncoder::new(&*self.plain.bytes, Compression::best()).read_to_end(&mut packed);
            Form::new(&digits(&packed), packed.into())
        })
    }
}

/// The first half of the SHA-256.
fn digits(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().take(16).map(|byte| format!("{byte:02x}")).collect()
}

static TABLE: LazyLock<HashMap<&str, File>> =
    LazyLock::new(|| FILES.iter().map(|&(path, bytes)| (path, File::new(path, bytes))).collect());

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
    let is_packed = takes_gzip(headers);
    let form = if is_packed { file.packed() } else { &file.plain };
    let known = headers.get(header::IF_NONE_MATCH).and_then(|tags| tags.to_str().ok());
    let tag = form.tag.to_str().unwrap_or_default();
    let is_known = known
        .is_some_and(|tags| tags.split(',').any(|one| one.trim().trim_start_matches("W/") == tag));
    let mut response = match is_known {
        true => StatusCode::NOT_MODIFIED.into_response(),
        false => Response::new(Body::from(form.bytes.clone())),
    };
    let all = response.headers_mut();
    all.insert(header::ETAG, form.tag.clone());
    if is_packed && !is_known {
        all.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    for (name, value) in [
        (header::CONTENT_TYPE, file.kind),
        (header::VARY, "accept-encoding"),
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

/// Whether a client takes gzip: by its name, and not with a weight of nothing (RFC 9110, 12.5.3).
fn takes_gzip(headers: &HeaderMap) -> bool {
    let lists =
        headers.get_all(header::ACCEPT_ENCODING).iter().filter_map(|list| list.to_str().ok());
    lists.flat_map(|list| list.split(',')).any(|coding| {
        let (name, weight) = coding.split_once(';').unwrap_or((coding, "q=1"));
        let weight = weight.trim().strip_prefix("q=").and_then(|weight| weight.parse::<f32>().ok());
        name.trim().eq_ignore_ascii_case("gzip") && weight.is_some_and(|weight| weight > 0.0)
    })
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
    fn what_is_packed_is_the_file_and_shorter() {
        for file in TABLE.values().filter(|file| file.plain.bytes.len() > 1000) {
            let packed = file.packed();
            let mut unpacked = Vec::new();
            flate2::read::GzDecoder::new(&*packed.bytes).read_to_end(&mut unpacked).unwrap();
            assert_eq!(unpacked, file.plain.bytes);
            assert!(packed.bytes.len() < file.plain.bytes.len() && packed.tag != file.plain.tag);
        }
    }

    #[test]
    fn gzip_is_sent_to_who_takes_it() {
        for (accepts, expected) in [
            ("gzip", true),
            ("gzip, deflate, br, zstd", true),
            ("br;q=1.0, GZIP;q=0.5", true),
            ("deflate,gzip ; q=1", true),
            ("", false),
            ("identity", false),
            ("*", false),
            ("gzip;q=0", false),
            ("gzip; q=0.000", false),
            ("gzip;level=9", false),
            ("x-gzip", false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static(accepts));
            assert_eq!(takes_gzip(&headers), expected, "{accepts:?}");
        }
        assert!(!takes_gzip(&HeaderMap::new()));
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
