//! `POST /v1/completions`: a text goes on, or is measured (`echo`), as EleutherAI's lm_eval asks.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Extension;
use axum::extract::{Request as HttpRequest, State};
use axum::response::Response;
use llmos_tokenizer::{Special, Tokenizer};
use serde_json::{Value, json};

use super::ask::{self, Ask, Listener};
use super::stream::{self, Dialect};
use super::words::{Lists, Usage};
use super::{constraint, json_response, sampling};
use crate::body;
use crate::fields::{Fields, ids};
use crate::keys::Caller;
use crate::models::Resident;
use crate::refusal::Refusal;
use crate::scheduler::{Event, Finish, Part, Read, Request, Score};
use crate::server::Service;

/// Most prompts of a call.
const PROMPTS: usize = 256;

/// Most of the likeliest tokens: OpenAI's five are lifted to the twenty of chats.
const TOP: u64 = 20;

/// Tokens that are drawn where nobody says how many, as in OpenAI's API.
const TOKENS: u64 = 16;

/// Goes on with texts.
pub(crate) async fn complete(
    State(service): State<Arc<Service>>,
    Extension(caller): Extension<Caller>,
    request: HttpRequest,
) -> Result<Response, Refusal> {
    let ticket = service.ticket()?;
    let body = body::object(request, service.body_limits()).await?;
    let (mut listener, (streamed, form)) = ask::ask(service, caller, ticket, body, prepare).await?;
    if streamed {
        listener.begin().await?;
        return Ok(stream::response(listener, Chunks::new(form)));
    }
    whole(&mut listener, form).await
}

/// How an answer is written down.
struct Form {
    tokenizer: Arc<Tokenizer>,
    id: String,
    created: u64,
    model: String,
    /// The tokens of the prompts, with the texts to echo; empty without an echo.
    echoes: Vec<(Vec<u32>, String)>,
    /// Choices of each prompt.
    n: usize,
    with_scores: bool,
    with_usage: bool,
}

fn prepare(ask: &Ask, fields: Fields<'_>) -> Result<(Vec<Request>, (bool, Form)), Refusal> {
    let (resident, service) = (&ask.resident, &ask.service);
    let (streamed, with_usage) = sampling::streaming(fields)?;
    let n = sampling::choices(fields, service)?;
    if let Some(best) = fields.integer("best_of", 1..=128)?
        && best as usize != n
    {
        let hint = "leave it out, and choose among n answers";
        return Err(Refusal::field("best_of", "as many as n", &best.into(), hint));
    }
    if let Some(suffix) = fields.get("suffix").filter(|suffix| *suffix != "") {
        return Err(Refusal::field("suffix", "nothing", suffix, "texts go on at their end alone"));
    }
    let echo = fields.flag("echo")?;
    let most = fields.integer("max_tokens", 0..=1 << 30)?.unwrap_or(TOKENS) as usize;
    // Some clients write a flag.
    let top = match fields.get("logprobs") {
        Some(Value::Bool(wanted)) => wanted.then_some(0),
        _ => fields.integer("logprobs", 0..=TOP)?.map(|top| top as usize),
    };
    let grammar = constraint::of_format(fields, resident)?;
    let mut sampler = sampling::options(fields, resident.vocab_size)?;
    let seed = sampling::seed(fields, service)?;
    let stops = sampling::stops(fields)?;
    // The start of another document ends one: all that separates them in the training of some models.
    let ends: Vec<u32> =
        resident.tokenizer.end_ids().iter().copied().chain(resident.tokenizer.bos()).collect();
    sampler.logit_bias.extend(sampling::ignored_ends(fields, &ends)?);
    let mut requests = Vec::new();
    let mut echoes = Vec::new();
    for (number, (tokens, text)) in
        prompts(fields, "prompt", PROMPTS, resident)?.into_iter().enumerate()
    {
        let request = ask.request(tokens, Some(most))?;
        if echo {
            echoes.push((request.tokens.clone(), text));
        }
        requests.push(Request {
            first: number * n,
            choices: n,
            sampler: sampler.clone(),
            seed: seed.wrapping_add((number * n) as u64),
            stops: stops.clone(),
            ends: ends.clone(),
            scores: top,
            prompt_scores: top.filter(|_| echo),
            grammar: grammar.clone(),
            ..request
        });
    }
    let form = Form {
        tokenizer: resident.tokenizer.clone(),
        id: service.ids.name("cmpl-"),
        created: ask::now(),
        model: resident.id.clone(),
        echoes,
        n,
        with_scores: top.is_some(),
        with_usage,
    };
    Ok((requests, (streamed, form)))
}

/// The prompts in a field: a text, token ids, or a list of at most `most` of either; each with its
/// text.
pub(super) fn prompts(
    fields: Fields<'_>,
    name: &str,
    most: usize,
    resident: &Resident,
) -> Result<Vec<(Vec<u32>, String)>, Refusal> {
    let wrong = |value: &Value| {
        let expected = format!("a text, a list of token ids, or a list of at most {most} of these");
        Refusal::field(name, expected, value, "POST /tokenize gives the ids of a text")
    };
    let start = fields.flag_or("add_special_tokens", true)?;
    let of_text = |text: &str| {
        let tokens = match start {
            true => resident.tokenizer.encode_prompt(text),
            false => resident.tokenizer.encode(text, Special::Parse),
        };
        (tokens, text.to_string())
    };
    let of_ids = |ids: Vec<u32>| {
        let text = resident.tokenizer.decode_text(&ids, true);
        (ids, text)
    };
    let items = match fields.get(name) {
        None => return Ok(vec![of_text("")]),
        Some(Value::String(text)) => return Ok(vec![of_text(text)]),
        Some(Value::Array(items)) => items,
        Some(other) => return Err(wrong(other)),
    };
    if items.is_empty() {
        return Err(wrong(&Value::Array(Vec::new())));
    }
    if let Some(ids) = ids(name, items, resident.vocab_size)? {
        return Ok(vec![of_ids(ids)]);
    }
    if items.len() > most {
        return Err(wrong(&items.len().into()));
    }
    items
        .iter()
        .map(|item| match item {
            Value::String(text) => Ok(of_text(text)),
            Value::Array(list) => match ids(name, list, resident.vocab_size)? {
                Some(ids) => Ok(of_ids(ids)),
                None => Err(wrong(item)),
            },
            other => Err(wrong(other)),
        })
        .collect()
}

/// A choice as it is written.
#[derive(Default)]
struct Said {
    text: String,
    lists: Lists,
    finish: Option<Finish>,
}

impl Said {
    fn score(&mut self, form: &Form, scores: &[Score]) {
        scores.iter().for_each(|score| self.lists.push(&form.tokenizer, score));
    }

    /// The echo of a prompt.
    fn echo(&mut self, form: &Form, read: &Read) {
        let Some((tokens, text)) = form.echoes.get(read.first / form.n) else { return };
        self.text += text;
        for (&id, score) in tokens.iter().zip(&read.scores) {
            match score {
                Some(score) => self.lists.push(&form.tokenizer, score),
                None => self.lists.push_first(&form.tokenizer, id),
            }
        }
    }

    /// What was written since it was last taken, as a choice.
    fn take(&mut self, form: &Form, index: usize) -> Value {
        let logprobs = if form.with_scores { self.lists.take() } else { Value::Null };
        json!({
            "index": index,
            "text": std::mem::take(&mut self.text),
            "logprobs": logprobs,
            "finish_reason": self.finish.map(Finish::name),
        })
    }
}

/// Takes an event in; returns the choices that it changed.
fn note(
    form: &Form,
    choices: &mut BTreeMap<usize, Said>,
    usage: &mut Usage,
    event: Event,
) -> Vec<usize> {
    match event {
        Event::Read(read) => {
            usage.prompt += read.tokens;
            usage.cached += read.cached;
            let all = read.first..read.first + form.n;
            for index in all.clone() {
                choices.entry(index).or_default().echo(form, &read);
            }
            if form.echoes.is_empty() { Vec::new() } else { all.collect() }
        }
        Event::Part { index, part, scores } => {
            let said = choices.entry(index).or_default();
            said.score(form, &scores);
            // Nothing is read into a text.
            if let Part::Text(text) | Part::Reasoning(text) = part {
                said.text += &text;
            }
            vec![index]
        }
        Event::End { index, finish, tokens, scores, .. } => {
            usage.completion += tokens;
            let said = choices.entry(index).or_default();
            said.score(form, &scores);
            said.finish = Some(finish);
            vec![index]
        }
        Event::Failed(_) => Vec::new(),
    }
}

/// The answer in one piece.
async fn whole(listener: &mut Listener, form: Form) -> Result<Response, Refusal> {
    let mut choices = BTreeMap::new();
    let mut usage = Usage::default();
    while let Some(event) = listener.next().await? {
        note(&form, &mut choices, &mut usage, event);
    }
    let choices: Vec<Value> =
        choices.iter_mut().map(|(&index, said)| said.take(&form, index)).collect();
    Ok(json_response(&form.object(choices.into(), Some(usage))))
}

impl Form {
    fn object(&self, choices: Value, usage: Option<Usage>) -> Value {
        let mut object = json!({
            "id": self.id,
            "object": "text_completion",
            "created": self.created,
            "model": self.model,
            "choices": choices,
        });
        if let Some(usage) = usage {
            object["usage"] = usage.to_json();
        }
        object
    }
}

/// The answer piece by piece.
struct Chunks {
    form: Form,
    choices: BTreeMap<usize, Said>,
    usage: Usage,
}

impl Chunks {
    fn new(form: Form) -> Chunks {
        Chunks { form, choices: BTreeMap::new(), usage: Usage::default() }
    }
}

impl Dialect for Chunks {
    fn chunks(&mut self, event: Event) -> Vec<Value> {
        let Chunks { form, choices, usage } = self;
        let changed = note(form, choices, usage, event);
        let chunk = |index: usize| {
            let choice = choices.entry(index).or_default().take(form, index);
            let mut chunk = form.object(json!([choice]), None);
            if form.with_usage {
                // As OpenAI's: it comes with the last.
                chunk["usage"] = Value::Null;
            }
            chunk
        };
        changed.into_iter().map(chunk).collect()
    }

    fn last(&mut self) -> Vec<Value> {
        if !self.form.with_usage {
            return Vec::new();
        }
        vec![self.form.object(json!([]), Some(self.usage))]
    }
}
