//! `/tokenize`, `/detokenize`, `/tokenizer_info`: a model's vocabulary, in vLLM's shapes.

use std::sync::Arc;

use axum::Extension;
use axum::extract::{Request, State};
use axum::http::Uri;
use axum::response::Response;
use llmos_tokenizer::{Special, Tokenizer};
use serde_json::{Value, json};

use super::{chat, json_response, tools};
use crate::body;
use crate::fields::{Fields, ids};
use crate::keys::Caller;
use crate::query::Query;
use crate::refusal::Refusal;
use crate::server::Service;

/// Ids of a text or of a conversation: `prompt` (llama-server: `content`), or `messages`.
pub(crate) async fn tokenize(
    State(service): State<Arc<Service>>,
    Extension(caller): Extension<Caller>,
    request: Request,
) -> Result<Response, Refusal> {
    let _ticket = service.place(caller)?;
    let body = body::object(request, service.body_limits()).await?;
    let model = Fields::new(&body).text("model")?;
    let resident = service.models.get(model, &service.scheduling()).await?;
    let clock = service.options.clock.clone();
    let found = tokio::task::spawn_blocking(move || {
        let fields = Fields::new(&body);
        let tokenizer = &resident.tokenizer;
        let tokens = if fields.get("messages").is_some() {
            let prompt = chat::prompt(fields, &resident, clock, tools::tools(fields)?)?;
            prompt.tokens
        } else {
            let text = match fields.text("prompt")? {
                Some(text) => text,
                None => fields.text("content")?.ok_or_else(|| {
                    Refusal::bad("there is no prompt", "send {\"prompt\": TEXT} or messages")
                })?,
            };
            match fields.flag_or("add_special_tokens", true)? {
                true => tokenizer.encode_prompt(text),
                false => tokenizer.encode(text, Special::Parse),
            }
        };
        let mut answer = json!({
            "count": tokens.len(),
            "max_model_len": resident.context,
            "tokens": tokens,
        });
        if fields.flag("return_token_strs")? {
            let names = tokens.iter().map(|&id| tokenizer.token_name(id));
            answer["token_strs"] = names.collect::<Vec<String>>().into();
        }
        Ok(answer)
    });
    let found = found.await.unwrap_or_else(|_| Err(Refusal::broken("tokenizing ended early")))?;
    Ok(json_response(&found))
}

/// The text of ids.
pub(crate) async fn detokenize(
    State(service): State<Arc<Service>>,
    Extension(caller): Extension<Caller>,
    request: Request,
) -> Result<Response, Refusal> {
    let _ticket = service.place(caller)?;
    let body = body::object(request, service.body_limits()).await?;
    let fields = Fields::new(&body);
    let resident = service.models.get(fields.text("model")?, &service.scheduling()).await?;
    let hint = "send {\"tokens\": [IDS]}";
    let list = fields.list("tokens")?.ok_or_else(|| Refusal::bad("there are no tokens", hint))?;
    let ids = ids("tokens", list, resident.vocab_size)?;
    let ids = ids.ok_or_else(|| {
        Refusal::field("tokens", "a list of token ids", &Value::from(list.len()), hint)
    })?;
    let text = resident.tokenizer.decode_text(&ids, false);
    Ok(json_response(&json!({ "prompt": text, "content": text })))
}

/// What a client needs to know of the vocabulary, of the model in `?model=` or the first one.
pub(crate) async fn info(
    State(service): State<Arc<Service>>,
    uri: Uri,
) -> Result<Response, Refusal> {
    let query = Query::of(&uri)?;
    let resident = service.models.get(query.text("model"), &service.scheduling()).await?;
    let tokenizer: &Tokenizer = &resident.tokenizer;
    let name = |id: Option<u32>| id.map(|id| tokenizer.token_name(id));
    let own_start = !tokenizer.start_ids().is_empty();
    Ok(json_response(&json!({
        "tokenizer_class": "llmos",
        "vocab_size": tokenizer.vocab_size(),
        "model_max_length": resident.context,
        "add_bos_token": own_start,
        "add_eos_token": false,
        "bos_token": name(tokenizer.bos()),
        "eos_token": name(tokenizer.eos().or_else(|| tokenizer.end_ids().first().copied())),
        "pad_token": name(tokenizer.pad()),
        "unk_token": name(tokenizer.unk()),
        "chat_template": resident.template,
    })))
}
