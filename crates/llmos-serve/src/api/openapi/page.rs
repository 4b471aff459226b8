//! `/docs`: the operations for people, without a script and without a request to anybody else.

use std::fmt::Write as _;

use axum::http::{HeaderValue, header};
use axum::response::Response;

use super::operations::{Field, OPERATIONS, Operation};

/// What the page may load: its own style.
const POLICY: &str = "default-src 'none'; style-src 'self'; form-action 'none'; base-uri 'none'; \
                      frame-ancestors 'none'";

/// The page.
pub(in crate::api) async fn page() -> Response {
    let mut response = super::text("text/html; charset=utf-8", html());
    let policy = HeaderValue::from_static(POLICY);
    response.headers_mut().insert(header::CONTENT_SECURITY_POLICY, policy);
    response
}

/// How it looks.
pub(in crate::api) async fn style() -> Response {
    super::text("text/css; charset=utf-8", include_str!("style.css"))
}

fn html() -> String {
    let mut html = String::from(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>llmos: the API</title>\n<link rel=\"stylesheet\" href=\"/docs/style.css\">\n\
         </head>\n<body>\n<main>\n<h1>llmos: the API</h1>\n\
         <p>Clients of OpenAI, Anthropic and Ollama work unchanged. Where the server has keys, each \
         request carries one: <code>Authorization: Bearer KEY</code> or <code>x-api-key: KEY</code>. \
         For programs: <a href=\"/openapi.json\">openapi.json</a>.</p>\n",
    );
    for group in OPERATIONS.chunk_by(|a, b| a.tag == b.tag) {
        let Some(first) = group.first() else { continue };
        let _ = writeln!(html, "<section>\n<h2>{}</h2>", escaped(first.tag));
        group.iter().for_each(|operation| describe(operation, &mut html));
        html.push_str("</section>\n");
    }
    html.push_str("</main>\n</body>\n</html>\n");
    html
}

fn describe(operation: &Operation, html: &mut String) {
    let Operation { method, path, summary, .. } = operation;
    let _ = writeln!(
        html,
        "<details>\n<summary><b>{}</b> <code>{}</code> <span>{}</span></summary>",
        method.to_uppercase(),
        escaped(path),
        escaped(summary),
    );
    table("In the address", operation.query.iter(), html);
    table("In the body", operation.fields.iter().copied().flatten(), html);
    if !operation.example.is_empty() {
        // With a body, curl posts it.
        let verb = match *method {
            "post" => String::new(),
            other => format!("-X {} ", other.to_uppercase()),
        };
        let command = format!(
            "curl {verb}http://127.0.0.1:8080{path} -H 'content-type: application/json' -d '{}'",
            operation.example
        );
        let _ = writeln!(html, "<pre><code>{}</code></pre>", escaped(&command));
    }
    html.push_str("</details>\n");
}

fn table<'a>(caption: &str, fields: impl Iterator<Item = &'a Field>, html: &mut String) {
    let mut fields = fields.peekable();
    if fields.peek().is_none() {
        return;
    }
    let _ = writeln!(
        html,
        "<table>\n<caption>{caption}</caption>\n<thead><tr><th scope=\"col\">Field</th>\
         <th scope=\"col\">Type</th><th scope=\"col\">What it is</th></tr></thead>\n<tbody>"
    );
    for field in fields {
        let _ = writeln!(
            html,
            "<tr><th scope=\"row\"><code>{}</code>{}</th><td>{}</td><td>{}</td></tr>",
            escaped(field.name),
            if field.is_required { " (needed)" } else { "" },
            escaped(&field.kind.replace('|', " or ")),
            escaped(field.about),
        );
    }
    html.push_str("</tbody>\n</table>\n");
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_runs_nothing_and_asks_nobody_else() {
        let html = html();
        for banned in ["<script", "style=", "javascript:", "https://", "onclick", "<img"] {
            assert!(!html.contains(banned), "{banned}");
        }
        for operation in OPERATIONS {
            assert!(html.contains(&escaped(operation.summary)), "{}", operation.path);
        }
        let opened = html.matches("<details>").count();
        assert_eq!((opened, html.matches("</details>").count()), (OPERATIONS.len(), opened));
    }
}
