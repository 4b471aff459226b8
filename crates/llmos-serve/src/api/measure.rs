//! `/v1/next` and `/v1/score`: what may come next, and how likely a text is; the answers are those of
//! `llmos next --json` and `llmos score --each --json`.

use std::sync::Arc;

use axum::Extension;
use axum::extract::{Request as HttpRequest, State};
use axum::response::Response;
use llmos_eval::bits::{self, Piece};
use llmos_tokenizer::Special;
use serde_json::{Value, json};

use super::ask::{self, Ask};
use super::json_response;
use crate::body;
use crate::fields::{Fields, ids};
use crate::keys::Caller;
use crate::models::Resident;
use crate::refusal::Refusal;
use crate::scheduler::{Event, Request};
use crate::server::Service;

/// Tokens of a table where nobody says how many, and most of them.
const TOP: u64 = 20;
const MOST_TOP: u64 = 1000;

/// Most tokens of a text that is measured.
const MOST_TOKENS: usize = 1 << 20;

/// The table of what may come next.
pub(crate) async fn next(
    State(service): State<Arc<Service>>,
    Extension(caller): Extension<Caller>,
    request: HttpRequest,
) -> Result<Response, Refusal> {
    let ticket = service.ticket()?;
    let body = body::object(request, service.body_limits()).await?;
    let prepare = |ask: &Ask, fields: Fields<'_>| {
        let top = fields.integer("top", 1..=MOST_TOP)?.unwrap_or(TOP) as usize;
        let given = given_ids(fields, "prompt", &ask.resident)?;
        let tokens = match given {
            Some(ids) => ids,
            None => {
                ask.resident.tokenizer.encode_prompt(fields.text("prompt")?.unwrap_or_default())
            }
        };
        let request = Request { next: Some(top), ..ask.request(tokens, Some(0))? };
        Ok((vec![request], ask.resident.clone()))
    };
    let (mut listener, resident) = ask::ask(service, caller, ticket, body, prepare).await?;
    let mut answer = Value::Null;
    while let Some(event) = listener.next().await? {
        if let Event::Read(read) = event {
            let next = read.next.iter().map(|&(id, probability)| {
                let text = resident.tokenizer.token_text(id);
                json!({ "id": id, "text": text, "probability": probability })
            });
            answer = json!({ "prompt_tokens": read.tokens, "next": next.collect::<Vec<Value>>() });
        }
    }
    Ok(json_response(&answer))
}

/// A text that is measured.
struct Measured {
    resident: Arc<Resident>,
    tokens: Vec<u32>,
    /// Of the text; none for ids of a control token's alone.
    bytes: usize,
    pieces: Vec<Piece>,
}

/// How likely each token of a text is.
pub(crate) async fn score(
    State(service): State<Arc<Service>>,
    Extension(caller): Extension<Caller>,
    request: HttpRequest,
) -> Result<Response, Refusal> {
    let ticket = service.ticket()?;
    let body = body::object(request, service.body_limits()).await?;
    let (mut listener, measured) = ask::ask(service, caller, ticket, body, prepare_score).await?;
    let Measured { resident, tokens, bytes, pieces } = measured;
    let mut logprobs: Vec<Option<f64>> = vec![None; tokens.len()];
    while let Some(event) = listener.next().await? {
        let Event::Read(read) = event else { continue };
        let Some(piece) = pieces.get(read.first) else { continue };
        for (i, score) in read.scores.iter().enumerate().skip(piece.first - piece.start) {
            logprobs[piece.start + i] = score.as_ref().map(|score| score.logprob);
        }
    }
    let nats: f64 = -logprobs.iter().flatten().sum::<f64>();
    if !nats.is_finite() {
        return Err(Refusal::broken("a probability is not a number: the weights are damaged"));
    }
    let bits_per_byte = (bytes > 0).then(|| nats / std::f64::consts::LN_2 / bytes as f64);
    let each = tokens.iter().zip(&logprobs).map(|(&id, logprob)| {
        json!({ "id": id, "text": resident.tokenizer.token_text(id), "logprob": logprob })
    });
    Ok(json_response(&json!({
        "tokens": tokens.len(),
        "bytes": bytes,
        "nats_per_token": nats / (tokens.len() - 1) as f64,
        "bits_per_byte": bits_per_byte,
        "each": each.collect::<Vec<Value>>(),
    })))
}

fn prepare_score(ask: &Ask, fields: Fields<'_>) -> Result<(Vec<Request>, Measured), Refusal> {
    let resident = &ask.resident;
    let tokenizer = &resident.tokenizer;
    let given = match given_ids(fields, "ids", resident)? {
        Some(ids) => Some(ids),
        None => given_ids(fields, "prompt", resident)?,
    };
    let (tokens, bytes) = match given {
        Some(ids) => {
            // A control token stands for no text.
            let words: Vec<u32> =
                ids.iter().copied().filter(|&id| !tokenizer.is_special(id)).collect();
            let bytes = tokenizer.decode(&words).len();
            (ids, bytes)
        }
        None => {
            let text = match fields.text("text")? {
                Some(text) => text,
                None => fields.text("prompt")?.ok_or_else(|| {
                    Refusal::bad("there is no text", "send {\"text\": TEXT} or {\"ids\": [IDS]}")
                })?,
            };
            let mut tokens = tokenizer.start_ids().to_vec();
            tokens.extend(tokenizer.encode(text, Special::None));
            (tokens, text.len())
        }
    };
    if tokens.len() < 2 || tokens.len() > MOST_TOKENS {
        let message = format!("{} tokens, expected 2 to {MOST_TOKENS}", tokens.len());
        return Err(Refusal::bad(message, "a text's first token has no past to be predicted from"));
    }
    // As the command does, in overlapping pieces where the text is longer than the context.
    let context = resident.longest_prompt() + 1;
    let pieces = bits::pieces(tokens.len(), context, None)
        .map_err(|error| Refusal::bad(error.to_string(), "send a shorter text"))?;
    let requests: Result<Vec<Request>, Refusal> = pieces
        .iter()
        .enumerate()
        .map(|(number, piece)| {
            // The last token of a piece is only predicted.
            let last = piece.end - 1;
            let request = ask.request(tokens[piece.start..last].to_vec(), Some(0))?;
            let target = Some(tokens[last]);
            Ok(Request { first: number, prompt_scores: Some(0), target, ..request })
        })
        .collect();
    Ok((requests?, Measured { resident: resident.clone(), tokens, bytes, pieces }))
}

/// The ids that a field holds, where it is a list.
fn given_ids(
    fields: Fields<'_>,
    name: &str,
    resident: &Resident,
) -> Result<Option<Vec<u32>>, Refusal> {
    let Some(items) = fields.get(name).and_then(Value::as_array) else { return Ok(None) };
    ids(name, items, resident.vocab_size)?.map(Some).ok_or_else(|| {
        let got = Value::Array(items.iter().take(3).cloned().collect());
        Refusal::field(name, "a list of token ids", &got, "POST /tokenize gives those of a text")
    })
}
