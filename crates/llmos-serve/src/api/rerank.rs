//! `POST /v1/rerank`: documents in the order in which they fit a query, in the shapes of Jina and
//! Cohere.
//!
//! Two methods, and the answer says which in `method`. A model whose name holds `rerank` is asked
//! whether a document fits, in the words that Qwen3-Reranker (arXiv:2506.05176) was trained on, and the
//! score is the probability of "yes" beside "no" (`yes`). Of any other model the score is the cosine
//! between the points of query and document (`cosine`), as `/v1/embeddings` makes them.

use std::sync::Arc;

use axum::Extension;
use axum::extract::{Request as HttpRequest, State};
use axum::response::Response;
use llmos_tokenizer::Special;
use serde_json::{Map, Value, json};

use super::ask::{self, Ask};
use super::embeddings::Wanted;
use super::{chat, json_response};
use crate::body;
use crate::fields::Fields;
use crate::keys::Caller;
use crate::models::Resident;
use crate::refusal::Refusal;
use crate::scheduler::{Event, Read, Request};
use crate::server::Service;

/// Most documents of a call.
const DOCUMENTS: usize = 999;

/// So many of the likeliest tokens are looked through for the two answers; one that is not among them
/// counts as impossible.
const LIKELIEST: usize = 1000;

/// What Qwen3-Reranker was trained on.
const SYSTEM: &str = "Judge whether the Document meets the requirements based on the Query and the \
                      Instruct provided. Note that the answer can only be \"yes\" or \"no\".";
const INSTRUCT: &str = "Given a web search query, retrieve relevant passages that answer the query";

/// How documents are compared with a query.
enum Method {
    /// By the probability of these two tokens.
    Yes { yes: u32, no: u32 },
    /// By points.
    Cosine(Wanted),
}

impl Method {
    fn name(&self) -> &'static str {
        match self {
            Method::Yes { .. } => "yes",
            Method::Cosine(_) => "cosine",
        }
    }
}

/// What is to be put in order.
struct Form {
    id: String,
    model: String,
    method: Method,
    documents: Vec<String>,
    top: usize,
    with_documents: bool,
}

/// Puts documents in order.
pub(super) async fn rank(
    State(service): State<Arc<Service>>,
    Extension(caller): Extension<Caller>,
    request: HttpRequest,
) -> Result<Response, Refusal> {
    let ticket = service.ticket()?;
    let body = body::object(request, service.body_limits()).await?;
    let (mut listener, form) = ask::ask(service, caller, ticket, body, prepare).await?;
    let mut tokens = 0;
    let mut query = Vec::new();
    let mut reads: Vec<Option<Read>> = form.documents.iter().map(|_| None).collect();
    while let Some(event) = listener.next().await? {
        let Event::Read(mut read) = event else { continue };
        tokens += read.tokens;
        match read.first.checked_sub(1) {
            None => query = std::mem::take(&mut read.state),
            Some(number) => {
                if let Some(place) = reads.get_mut(number) {
                    *place = Some(read);
                }
            }
        }
    }
    let mut scores: Vec<(usize, f64)> = reads
        .into_iter()
        .enumerate()
        .map(|(index, read)| (index, read.map_or(0.0, |read| form.score(&query, read))))
        .collect();
    scores.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
    let results = scores.iter().take(form.top).map(|&(index, score)| {
        let mut result = json!({ "index": index, "relevance_score": score });
        if form.with_documents {
            result["document"] = json!({ "text": form.documents[index] });
        }
        result
    });
    Ok(json_response(&json!({
        "id": form.id,
        "object": "list",
        "model": form.model,
        "method": form.method.name(),
        "results": results.collect::<Vec<Value>>(),
        "usage": { "prompt_tokens": tokens, "total_tokens": tokens },
        "meta": { "api_version": { "version": "2" }, "billed_units": { "search_units": 1 } },
    })))
}

impl Form {
    fn score(&self, query: &[f32], read: Read) -> f64 {
        match &self.method {
            Method::Yes { yes, no } => {
                let of = |id: u32| {
                    let found = read.next.iter().find(|(known, _)| *known == id);
                    found.map_or(0.0, |(_, probability)| *probability)
                };
                let (yes, no) = (of(*yes), of(*no));
                if yes + no > 0.0 { yes / (yes + no) } else { 0.5 }
            }
            Method::Cosine(wanted) => {
                let (a, b) = (wanted.point(query.to_vec()), wanted.point(read.state));
                a.iter().zip(&b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum()
            }
        }
    }
}

fn prepare(ask: &Ask, fields: Fields<'_>) -> Result<(Vec<Request>, Form), Refusal> {
    let resident = &ask.resident;
    let hint = "send {\"query\": TEXT, \"documents\": [TEXTS]}";
    let query = fields.text("query")?.filter(|query| !query.is_empty());
    let query = query.ok_or_else(|| Refusal::bad("there is no query", hint).about("query"))?;
    let documents = documents(fields)?;
    let top = fields.integer("top_n", 0..=1 << 20)?.filter(|&top| top > 0);
    let most = fields.integer("max_tokens_per_doc", 1..=1 << 30)?;
    let with_documents = fields.flag_or("return_documents", true)?;
    let cut =
        |tokens: &mut Vec<u32>| tokens.truncate(most.map_or(usize::MAX, |most| most as usize));
    let (requests, method) = match resident.id.to_lowercase().contains("rerank") {
        true => {
            let requests = documents.iter().enumerate().map(|(number, document)| {
                let mut words = resident.tokenizer.encode(document, Special::None);
                cut(&mut words);
                let document = match most {
                    Some(_) => resident.tokenizer.decode_text(&words, true),
                    None => document.clone(),
                };
                let tokens = question(ask, query, &document)?;
                let request = ask.request(tokens, Some(0))?;
                Ok(Request { first: number + 1, next: Some(LIKELIEST), ..request })
            });
            let requests: Result<Vec<Request>, Refusal> = requests.collect();
            let (yes, no) = (word(resident, ["yes", "Yes"])?, word(resident, ["no", "No"])?);
            (requests?, Method::Yes { yes, no })
        }
        false => {
            let texts = [query].into_iter().chain(documents.iter().map(String::as_str));
            let mut inputs: Vec<Vec<u32>> =
                texts.map(|text| resident.tokenizer.encode_prompt(text)).collect();
            inputs.iter_mut().skip(1).for_each(cut);
            let wanted = Wanted::read(fields, resident, inputs)?;
            (wanted.requests(ask, 0)?, Method::Cosine(wanted))
        }
    };
    let form = Form {
        id: ask.service.ids.name("rerank-"),
        model: resident.id.clone(),
        method,
        top: top.map_or(documents.len(), |top| top as usize),
        documents,
        with_documents,
    };
    Ok((requests, form))
}

/// The documents: texts, or objects with a `text`.
fn documents(fields: Fields<'_>) -> Result<Vec<String>, Refusal> {
    let hint = "a document is a text, or {\"text\": TEXT}";
    let given = fields
        .list("documents")?
        .filter(|given| !given.is_empty())
        .ok_or_else(|| Refusal::bad("there are no documents", hint).about("documents"))?;
    if given.len() > DOCUMENTS {
        let expected = format!("at most {DOCUMENTS} documents");
        return Err(Refusal::field("documents", expected, &given.len().into(), "ask in parts"));
    }
    let text = |document: &Value| {
        let text = document.as_str().or_else(|| document["text"].as_str());
        let text = text.map(str::to_string);
        text.ok_or_else(|| Refusal::field("documents", "texts", document, hint))
    };
    given.iter().map(text).collect()
}

/// Asks a reranker whether a document fits.
fn question(ask: &Ask, query: &str, document: &str) -> Result<Vec<u32>, Refusal> {
    let text = format!("<Instruct>: {INSTRUCT}\n<Query>: {query}\n<Document>: {document}");
    let mut fields = Map::new();
    let messages = json!([
        { "role": "system", "content": SYSTEM },
        { "role": "user", "content": text },
    ]);
    fields.insert("messages".to_string(), messages);
    fields.insert("reasoning_effort".to_string(), "none".into());
    let clock = ask.service.options.clock.clone();
    let prompt = chat::prompt(Fields::new(&fields), &ask.resident, clock, Vec::new())?;
    Ok(prompt.tokens)
}

/// The first of these ways to write a word that is one token.
fn word(resident: &Resident, ways: [&str; 2]) -> Result<u32, Refusal> {
    let one = |way: &&str| match resident.tokenizer.encode(way, Special::None)[..] {
        [id] => Some(id),
        _ => None,
    };
    ways.iter().find_map(one).ok_or_else(|| {
        Refusal::bad(
            format!("the model {:?} has no token {:?}", resident.id, ways[0]),
            "ask a model that was made to rerank, or one whose name does not say so",
        )
    })
}
