//! `/openapi.json`, the document of all routes, and `/docs`, the same for people.
//!
//! The document is made from the table of [`operations`]; a test holds it to the routes that there are,
//! and sends its examples to a server.

mod operations;
mod page;

use axum::body::Body;
use axum::http::{HeaderValue, header};
use axum::response::Response;
use serde_json::{Map, Value, json};

use super::json_response;
use operations::{Field, OPERATIONS, Operation};
pub(super) use page::{page, style};

/// The document, OpenAPI 3.1.
pub(super) async fn document() -> Response {
    json_response(&describe())
}

fn describe() -> Value {
    let mut paths = Map::new();
    for operation in OPERATIONS {
        let path = paths.entry(operation.path).or_insert_with(|| json!({}));
        path[operation.method] = operation.describe();
    }
    let mut tags: Vec<&str> = Vec::new();
    for operation in OPERATIONS {
        if !tags.contains(&operation.tag) {
            tags.push(operation.tag);
        }
    }
    let error = json!({
        "type": "object",
        "properties": { "error": {
            "type": "object",
            "properties": {
                "message": { "type": "string" },
                "type": { "type": "string" },
                "param": { "type": ["string", "null"] },
                "code": { "type": ["string", "null"] },
                "hint": { "type": "string", "description": "What to do." },
            },
            "required": ["message", "type", "param", "code"],
        } },
        "required": ["error"],
    });
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "llmos",
            "version": env!("CARGO_PKG_VERSION"),
            "summary": "Models on this machine, for the clients of OpenAI, Anthropic and Ollama.",
            "license": { "name": "MIT OR Apache-2.0", "identifier": "MIT OR Apache-2.0" },
        },
        "servers": [{ "url": "/" }],
        "tags": tags.iter().map(|tag| json!({ "name": tag })).collect::<Vec<Value>>(),
        "security": [{}, { "bearer": [] }, { "key": [] }],
        "paths": paths,
        "components": {
            "schemas": { "Error": error },
            "securitySchemes": {
                "bearer": { "type": "http", "scheme": "bearer" },
                "key": { "type": "apiKey", "in": "header", "name": "x-api-key" },
            },
        },
    })
}

impl Operation {
    fn describe(&self) -> Value {
        let id = self.path.trim_matches('/').replace(['/', '{', '}', '.'], "_");
        let kinds = self.kinds.iter().map(|kind| (kind.to_string(), json!({ "schema": {} })));
        let failed =
            json!({ "application/json": { "schema": { "$ref": "#/components/schemas/Error" } } });
        let mut operation = json!({
            "operationId": format!("{}_{id}", self.method),
            "tags": [self.tag],
            "summary": self.summary,
            "responses": {
                "200": { "description": "What was asked for", "content": kinds.collect::<Map<_, _>>() },
                "default": { "description": "What is wrong, and what to do", "content": failed },
            },
        });
        let in_path = self.path.split('/').filter_map(|part| part.strip_prefix('{'));
        let in_path = in_path.map(|name| {
            let schema = json!({ "type": "string" });
            json!({ "name": name.trim_end_matches('}'), "in": "path", "required": true, "schema": schema })
        });
        let in_query = self.query.iter().map(|field| {
            json!({
                "name": field.name,
                "in": "query",
                "required": field.is_required,
                "description": field.about,
                "schema": { "type": field.kind },
            })
        });
        if !self.needs.is_empty() {
            operation["x-needs"] = self.needs.into();
        }
        let parameters: Vec<Value> = in_path.chain(in_query).collect();
        if !parameters.is_empty() {
            operation["parameters"] = parameters.into();
        }
        if let Some(example) = self.example() {
            let fields = || self.fields.iter().copied().flatten();
            let properties = fields().map(|field| (field.name.to_string(), field.describe()));
            let required = fields().filter(|field| field.is_required).map(|field| field.name);
            operation["requestBody"] = json!({ "required": true, "content": { "application/json": {
                "schema": {
                    "type": "object",
                    "properties": properties.collect::<Map<_, _>>(),
                    "required": required.collect::<Vec<&str>>(),
                },
                "example": example,
            } } });
        }
        operation
    }

    /// The body of an example; none where nothing is sent.
    fn example(&self) -> Option<Value> {
        serde_json::from_str(self.example).ok()
    }
}

impl Field {
    fn describe(&self) -> Value {
        let kinds: Vec<&str> = self.kind.split('|').collect();
        let mut schema = match kinds[..] {
            [one] => json!({ "type": one }),
            _ => json!({ "type": kinds }),
        };
        if kinds.contains(&"array") {
            schema["items"] = json!({});
        }
        schema["description"] = self.about.into();
        schema
    }
}

/// A text of another kind than JSON.
fn text(kind: &'static str, text: impl Into<Body>) -> Response {
    let mut response = Response::new(text.into());
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operations_are_named_once_and_their_examples_use_their_fields() {
        let mut seen = std::collections::BTreeSet::new();
        for operation in OPERATIONS {
            let Operation { method, path, .. } = operation;
            assert!(seen.insert((path, method)), "{method} {path}");
            let (is_sent, must) =
                (operation.example().is_some(), ["post", "patch"].contains(method));
            // What is deleted may be named in a body, and what is cancelled in the address alone.
            let may = *method == "delete" || path.ends_with("/cancel");
            assert!(is_sent == must || may, "{method} {path}");
            assert_eq!(operation.example.is_empty(), operation.example().is_none(), "{path}");
            let known: Vec<&str> =
                operation.fields.iter().copied().flatten().map(|field| field.name).collect();
            let example = operation.example().unwrap_or_default();
            for name in example.as_object().into_iter().flat_map(Map::keys) {
                assert!(known.contains(&name.as_str()), "{path}: {name}");
            }
        }
        let described = describe();
        assert_eq!(described["openapi"], "3.1.0");
        assert!(described["paths"]["/v1/chat/completions"]["post"]["requestBody"].is_object());
    }
}
