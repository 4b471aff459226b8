//! `POST /v1/embeddings`: a text as a point, which lies near those of texts like it.
//!
//! A point is made of the final states of the text's tokens, normed as the head reads them: their mean
//! (`"pooling": "mean"`, where nothing is said), or the last token's (`"last"`, for models that were
//! trained so, such as Qwen3-Embedding). It is then cut to `dimensions` and brought to length 1.

use std::sync::Arc;

use axum::Extension;
use axum::extract::{Request as HttpRequest, State};
use axum::response::Response;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Map, Value, json};

use super::ask::{self, Ask};
use super::{completions, json_response};
use crate::body;
use crate::fields::Fields;
use crate::flights::Ticket;
use crate::keys::Caller;
use crate::models::Resident;
use crate::refusal::Refusal;
use crate::scheduler::{Event, Pooling, Request};
use crate::server::Service;

/// Most texts of a call.
pub(super) const INPUTS: usize = 1000;

/// Makes points of texts.
pub(super) async fn create(
    State(service): State<Arc<Service>>,
    Extension(caller): Extension<Caller>,
    request: HttpRequest,
) -> Result<Response, Refusal> {
    let ticket = service.ticket()?;
    let body = body::object(request, service.body_limits()).await?;
    let is_packed = match Fields::new(&body).text("encoding_format")? {
        None | Some("float") => false,
        Some("base64") => true,
        Some(other) => {
            let hint = "base64 is of little-endian 32-bit floats";
            return Err(Refusal::field("encoding_format", "float or base64", &other.into(), hint));
        }
    };
    let read = |ask: &Ask, fields: Fields<'_>| {
        let is_empty = |value: &Value| {
            value.as_str().is_some_and(str::is_empty) || value.as_array().is_some_and(Vec::is_empty)
        };
        let given = fields.get("input").ok_or_else(|| {
            Refusal::bad("there is no input", "send {\"input\": TEXT}, or a list").about("input")
        })?;
        if is_empty(given) || given.as_array().is_some_and(|items| items.iter().any(is_empty)) {
            let hint = "a text has one character at least";
            return Err(Refusal::field("input", "texts that are not empty", given, hint));
        }
        let inputs = completions::prompts(fields, "input", INPUTS, &ask.resident)?;
        let inputs = inputs.into_iter().map(|(tokens, _)| tokens).collect();
        Wanted::read(fields, &ask.resident, inputs)
    };
    let embedded = embed(service, caller, ticket, body, read).await?;
    let data = embedded.vectors.iter().enumerate().map(|(index, vector)| {
        let embedding = match is_packed {
            false => json!(vector),
            true => {
                let bytes: Vec<u8> = vector.iter().flat_map(|x| x.to_le_bytes()).collect();
                BASE64_STANDARD.encode(bytes).into()
            }
        };
        json!({ "object": "embedding", "index": index, "embedding": embedding })
    });
    Ok(json_response(&json!({
        "object": "list",
        "model": embedded.model,
        "pooling": embedded.pooling.name(),
        "data": data.collect::<Vec<Value>>(),
        "usage": { "prompt_tokens": embedded.tokens, "total_tokens": embedded.tokens },
    })))
}

impl Pooling {
    /// As clients call it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Pooling::Mean => "mean",
            Pooling::Last => "last",
        }
    }
}

/// What is wanted of texts.
pub(super) struct Wanted {
    pub(super) inputs: Vec<Vec<u32>>,
    pooling: Pooling,
    /// Numbers of a point.
    dimensions: usize,
}

impl Wanted {
    /// As the fields say: `pooling`, `dimensions`.
    ///
    /// # Errors
    /// Fields that hold what they cannot.
    pub(super) fn read(
        fields: Fields<'_>,
        resident: &Resident,
        inputs: Vec<Vec<u32>>,
    ) -> Result<Wanted, Refusal> {
        let pooling = match fields.text("pooling")? {
            None | Some("mean") => Pooling::Mean,
            Some("last") => Pooling::Last,
            Some(other) => {
                let hint = "leave it out for the mean";
                return Err(Refusal::field("pooling", "mean or last", &other.into(), hint));
            }
        };
        let most = resident.d_model as u64;
        let dimensions = fields.integer("dimensions", 1..=most)?.unwrap_or(most) as usize;
        Ok(Wanted { inputs, pooling, dimensions })
    }

    /// The requests for it, numbered from `first`.
    ///
    /// # Errors
    /// A text that is longer than the context.
    pub(super) fn requests(&self, ask: &Ask, first: usize) -> Result<Vec<Request>, Refusal> {
        let request = |(number, tokens): (usize, &Vec<u32>)| {
            let request = ask.request(tokens.clone(), Some(0))?;
            Ok(Request { first: first + number, pooling: Some(self.pooling), ..request })
        };
        self.inputs.iter().enumerate().map(request).collect()
    }

    /// A state as a point of length 1.
    pub(super) fn point(&self, mut state: Vec<f32>) -> Vec<f32> {
        state.truncate(self.dimensions);
        let length = state.iter().map(|&x| f64::from(x) * f64::from(x)).sum::<f64>().sqrt();
        if length > 0.0 {
            state.iter_mut().for_each(|x| *x = (f64::from(*x) / length) as f32);
        }
        state
    }
}

/// Texts as points.
pub(super) struct Embedded {
    pub(super) model: String,
    pub(super) pooling: Pooling,
    /// A point for each text, in their order.
    pub(super) vectors: Vec<Vec<f32>>,
    /// Of all texts.
    pub(super) tokens: usize,
}

/// Makes points of what `read` finds in the fields.
///
/// # Errors
/// What `read` says, and what fails.
pub(super) async fn embed(
    service: Arc<Service>,
    caller: Caller,
    ticket: Arc<Ticket>,
    body: Map<String, Value>,
    read: impl FnOnce(&Ask, Fields<'_>) -> Result<Wanted, Refusal> + Send + 'static,
) -> Result<Embedded, Refusal> {
    let prepare = |ask: &Ask, fields: Fields<'_>| {
        let wanted = read(ask, fields)?;
        let requests = wanted.requests(ask, 0)?;
        Ok((requests, (wanted, ask.resident.id.clone())))
    };
    let (mut listener, (wanted, model)) = ask::ask(service, caller, ticket, body, prepare).await?;
    let mut vectors = vec![Vec::new(); wanted.inputs.len()];
    let mut tokens = 0;
    while let Some(event) = listener.next().await? {
        let Event::Read(read) = event else { continue };
        tokens += read.tokens;
        if let Some(vector) = vectors.get_mut(read.first) {
            *vector = wanted.point(read.state);
        }
    }
    Ok(Embedded { model, pooling: wanted.pooling, vectors, tokens })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_have_length_one_however_short_they_are_cut() {
        let wanted = |dimensions| Wanted { inputs: Vec::new(), pooling: Pooling::Mean, dimensions };
        assert_eq!(wanted(3).point(vec![3.0, 0.0, 4.0]), [0.6, 0.0, 0.8]);
        assert_eq!(wanted(1).point(vec![-3.0, 0.0, 4.0]), [-1.0]);
        assert_eq!(wanted(2).point(vec![0.0, 0.0]), [0.0, 0.0]);
    }
}
