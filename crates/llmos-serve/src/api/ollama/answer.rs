//! `/api/chat` and `/api/generate`.

use std::sync::Arc;
use std::time::Instant;

use axum::Extension;
use axum::extract::{Request as HttpRequest, State};
use axum::response::Response;
use llmos_tokenizer::Special;
use serde_json::{Map, Value, json};

use super::manner::{self, NAMES};
use super::write::{Kind, Writer};
use super::{AT_ONCE, name_model, stay};
use crate::api::ask::{self, Ask};
use crate::api::asked::Asked;
use crate::api::{constraint, json_response, sampling, stream, time};
use crate::body;
use crate::fields::Fields;
use crate::flights::Ticket;
use crate::keys::Caller;
use crate::refusal::Refusal;
use crate::scheduler::Request;
use crate::server::Service;

/// Answers a conversation.
pub(in crate::api) async fn chat(
    State(service): State<Arc<Service>>,
    Extension(caller): Extension<Caller>,
    request: HttpRequest,
) -> Result<Response, Refusal> {
    let ticket = service.ticket()?;
    let mut body = body::object(request, service.body_limits()).await?;
    name_model(&service, &mut body)?;
    let is_empty = Fields::new(&body).list("messages")?.is_none_or(<[Value]>::is_empty);
    if is_empty {
        return load(service, &body, Kind::Chat).await;
    }
    answer(service, caller, ticket, body, Kind::Chat).await
}

/// Goes on with a text, or answers it.
pub(in crate::api) async fn generate(
    State(service): State<Arc<Service>>,
    Extension(caller): Extension<Caller>,
    request: HttpRequest,
) -> Result<Response, Refusal> {
    let ticket = service.ticket()?;
    let mut body = body::object(request, service.body_limits()).await?;
    name_model(&service, &mut body)?;
    let is_empty = Fields::new(&body).text("prompt")?.is_none_or(str::is_empty);
    if is_empty {
        return load(service, &body, Kind::Generate).await;
    }
    answer(service, caller, ticket, body, Kind::Generate).await
}

async fn answer(
    service: Arc<Service>,
    caller: Caller,
    ticket: Arc<Ticket>,
    body: Map<String, Value>,
    kind: Kind,
) -> Result<Response, Refusal> {
    let start = Instant::now();
    let prepare = move |ask: &Ask, fields: Fields<'_>| {
        let streamed = fields.flag_or("stream", true)?;
        let stay = stay(fields)?;
        let mut asked = Asked::default();
        manner::set(fields, &mut asked)?;
        let request = match kind {
            Kind::Chat => {
                manner::converse(fields, &mut asked)?;
                asked.request(ask, &NAMES)?
            }
            Kind::Generate => prompted(ask, fields, asked)?,
        };
        stay.iter().for_each(|stay| ask.service.models.keep(&ask.resident.id, *stay));
        let goes = stay == Some(AT_ONCE);
        Ok((vec![request], (streamed, Writer::new(ask, kind, start, goes))))
    };
    let (listener, (streamed, writer)) = ask::ask(service, caller, ticket, body, prepare).await?;
    stream::answer(listener, writer, streamed, Writer::whole).await
}

/// The request for a prompt: a user's message where the model can be talked with, else a text to go
/// on with.
fn prompted(ask: &Ask, fields: Fields<'_>, mut asked: Asked) -> Result<Request, Refusal> {
    for (name, hint) in [
        ("template", "the model's own is taken; raw goes on with a text"),
        ("context", "send the conversation to /api/chat"),
        ("suffix", "texts go on at their end alone"),
    ] {
        let is_something = |value: &&Value| {
            value.as_str() != Some("") && value.as_array().is_none_or(|list| !list.is_empty())
        };
        if let Some(value) = fields.get(name).filter(is_something) {
            return Err(Refusal::field(name, "nothing", value, hint));
        }
    }
    let prompt = fields.text("prompt")?.unwrap_or_default();
    let system = fields.text("system")?.filter(|system| !system.is_empty());
    let is_raw = fields.flag("raw")?;
    if let Some(images) = fields.get("images") {
        manner::no_images(&json!({ "images": images }), "images")?;
    }
    let resident = &ask.resident;
    if !is_raw && resident.template.is_some() {
        let user = json!({ "role": "user", "content": prompt });
        let system = system.map(|system| json!({ "role": "system", "content": system }));
        let messages: Vec<Value> = system.into_iter().chain([user]).collect();
        asked.set("messages", Some(messages));
        return asked.request(ask, &NAMES);
    }
    if let Some(system) = system {
        let hint = "without a template there is no place for it: put it before the prompt";
        return Err(Refusal::field("system", "nothing", &system.into(), hint));
    }
    let tokenizer = &resident.tokenizer;
    let tokens = match is_raw {
        false => tokenizer.encode_prompt(prompt),
        true => {
            let starts = tokenizer.start_ids().iter().copied();
            starts.chain(tokenizer.encode(prompt, Special::Parse)).collect()
        }
    };
    let fields = Fields::new(&asked.body);
    let request = || {
        let most = fields.integer("max_completion_tokens", 0..=1 << 30)?;
        let scores = fields.flag("logprobs")?;
        let top = fields.integer("top_logprobs", 0..=20)?.unwrap_or(0);
        let ends = tokenizer.end_ids().iter().copied().chain(tokenizer.bos());
        Ok(Request {
            sampler: sampling::options(fields, resident.vocab_size)?,
            seed: sampling::seed(fields, &ask.service)?,
            stops: sampling::stops(fields)?,
            grammar: constraint::of_format(fields, resident)?,
            scores: scores.then_some(top as usize),
            ends: ends.collect(),
            ..ask.request(tokens, most.map(|most| most as usize))?
        })
    };
    request().map_err(|refusal: Refusal| refusal.renamed(&NAMES))
}

/// Loads a model that is asked for nothing, or lets go of it.
async fn load(
    service: Arc<Service>,
    body: &Map<String, Value>,
    kind: Kind,
) -> Result<Response, Refusal> {
    let start = Instant::now();
    let fields = Fields::new(body);
    let model = fields.text("model")?.unwrap_or_default();
    let reason = match stay(fields)? {
        Some(stay) if stay == AT_ONCE && service.models.has(model) => {
            service.models.keep(model, AT_ONCE);
            service.models.release(model);
            "unload"
        }
        stay => {
            service.models.get(Some(model), &service.scheduling()).await?;
            stay.iter().for_each(|stay| service.models.keep(model, *stay));
            "load"
        }
    };
    let mut answer = json!({
        "model": model,
        "created_at": time::precise(time::since_epoch()),
        "done": true,
        "done_reason": reason,
        "total_duration": start.elapsed().as_nanos() as u64,
        "load_duration": start.elapsed().as_nanos() as u64,
    });
    kind.say(&mut answer, "", "");
    Ok(json_response(&answer))
}
