//! `POST /v1/lens`: what a model would say after each of its layers, what its heads look at, and what
//! becomes of its answer where parts are switched off; the answer is that of `llmos inspect --lens
//! --json`.

use std::fmt::Write;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use axum::Extension;
use axum::extract::{Request, State};
use axum::response::Response;
use llmos_model::Config;
use llmos_model::decoder::Part;
use llmos_model::engine::Likely;
use llmos_tokenizer::Tokenizer;
use serde_json::{Map, Value, json};
use tokio::sync::oneshot;

use super::json_text;
use crate::body;
use crate::fields::{Fields, ids, whole};
use crate::keys::Caller;
use crate::models::Resident;
use crate::refusal::Refusal;
use crate::scheduler::{Found, Glance, Lens, Progress, Raise};
use crate::server::Service;

/// Tokens of a prediction where nobody says how many, and most of them.
const TOP: u64 = 5;
const MOST_TOP: u64 = 20;

/// Most tokens of a text: the states of 32 layers of width 4096 take 128 MiB.
const MOST_TOKENS: usize = 256;

/// Most predicted tokens in an answer; written they take some 70 bytes each.
const MOST_LIKELY: usize = 200_000;

/// Most weights of attention in an answer; written they take some 8 bytes each.
const MOST_WEIGHTS: usize = 2_000_000;

/// Most parts that are switched off.
const MOST_OFF: usize = 1024;

/// What a model says layer by layer.
pub(crate) async fn lens(
    State(service): State<Arc<Service>>,
    Extension(caller): Extension<Caller>,
    request: Request,
) -> Result<Response, Refusal> {
    let ticket = service.place(caller)?;
    let body = body::object(request, service.body_limits()).await?;
    let looking = async {
        let model = Fields::new(&body).text("model")?.map(str::to_string);
        let resident = service.models.get(model.as_deref(), &service.scheduling()).await?;
        let (asked, glance) = {
            let resident = resident.clone();
            away("preparing", move || Asked::read(&body, &resident)).await?
        };
        service.spend(caller, asked.tokens.len());
        let cancel = Arc::new(AtomicBool::new(false));
        let _raise = Raise(cancel.clone());
        let (reply, found) = oneshot::channel();
        resident.charge(Lens {
            glance,
            cancel,
            _ticket: ticket,
            reply: Some(reply),
            progress: Progress::default(),
        })?;
        let lost = || Refusal::broken("the model's thread ended");
        let found = found.await.map_err(|_| lost())??;
        away("writing", move || asked.answer(&resident, &found)).await
    };
    let text = tokio::time::timeout(service.options.request_time, looking).await;
    text.unwrap_or_else(|_| Err(Refusal::timed_out())).map(json_text)
}

/// Does what takes its time away from the thread of sockets.
async fn away<T: Send + 'static>(
    what: &'static str,
    work: impl FnOnce() -> Result<T, Refusal> + Send + 'static,
) -> Result<T, Refusal> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|_| Err(Refusal::broken(format!("{what} ended early"))))
}

/// What an answer is to hold.
struct Asked {
    tokens: Vec<u32>,
    /// The layers whose attention was asked for; none where none was.
    attention: Option<Vec<usize>>,
}

impl Asked {
    fn read(body: &Map<String, Value>, resident: &Resident) -> Result<(Asked, Glance), Refusal> {
        let (fields, config) = (Fields::new(body), resident.config());
        let tokens = tokens(fields, resident)?;
        let top = fields.integer("top", 1..=MOST_TOP)?.unwrap_or(TOP) as usize;
        let (n_layer, n_token) = (config.layers.len(), tokens.len());
        if n_layer * n_token * top.min(config.vocab_size) > MOST_LIKELY {
            let fits = MOST_LIKELY / (n_layer * n_token);
            let message = format!(
                "{n_layer} layers with {n_token} tokens and {top} predictions each are too many"
            );
            let hint = format!("ask for \"top\": {fits}, or shorten the text");
            return Err(Refusal::bad(message, hint).about("top"));
        }
        let attention = attention(fields, config)?;
        let n_head: usize = attention.iter().flatten().map(|&at| config.layers[at].n_head).sum();
        let weights = n_head * (n_token * (n_token + 1) / 2);
        if weights > MOST_WEIGHTS {
            let message = format!("{weights} weights of attention, at most {MOST_WEIGHTS}");
            let hint = "give the layers, \"attention\": [0, 1], or shorten the text";
            return Err(Refusal::bad(message, hint).about("attention"));
        }
        let off = off(fields, config)?;
        let glance = Glance {
            tokens: tokens.clone(),
            top,
            off,
            attention: attention.clone().unwrap_or_default(),
        };
        Ok((Asked { tokens, attention }, glance))
    }

    /// The answer as JSON, written piece by piece: as a tree it would take ten times the memory.
    fn answer(&self, resident: &Resident, found: &Found) -> Result<String, Refusal> {
        let is_sound = |row: &Vec<Likely>| row.iter().all(|(_, p)| p.is_finite());
        if !found.rows.iter().chain([&found.next, &found.next_unchanged]).all(is_sound) {
            return Err(Refusal::broken("a probability is not a number: the weights are damaged"));
        }
        let (config, tokenizer) = (resident.config(), &*resident.tokenizer);
        let (n_layer, n_token) = (config.layers.len(), self.tokens.len());
        let mut text = format!("{{\"model\":{},\"tokens\":", Value::from(resident.id.as_str()));
        list(&mut text, &self.tokens, |text, &id| {
            *text += &json!({ "token": id, "text": tokenizer.token_text(id) }).to_string();
        });
        text += ",\"layers\":";
        let layers: Vec<(usize, &[Vec<Likely>])> = found.rows.chunks(n_token).enumerate().collect();
        list(&mut text, &layers, |text, (layer, rows)| {
            *text += &format!("{{\"layer\":{layer},\"positions\":");
            list(text, rows, |text, row| likely(text, row, tokenizer));
            text.push('}');
        });
        if let Some(asked) = &self.attention {
            text += ",\"attention\":";
            let layers: Vec<usize> = (0..n_layer).collect();
            list(&mut text, &layers, |text, layer| {
                let n_head = config.layers[*layer].n_head;
                let heads = 0..if asked.contains(layer) { n_head } else { 0 };
                list(text, &heads.collect::<Vec<usize>>(), |text, head| {
                    let rows = found.sight.attention(*layer, *head, n_token).unwrap_or_default();
                    list(text, &rows, |text, row| list(text, row, weight));
                });
            });
        }
        text += ",\"next\":";
        likely(&mut text, &found.next, tokenizer);
        text += ",\"next_unchanged\":";
        likely(&mut text, &found.next_unchanged, tokenizer);
        text.push('}');
        Ok(text)
    }
}

/// A JSON list.
fn list<T>(text: &mut String, items: &[T], mut write: impl FnMut(&mut String, &T)) {
    text.push('[');
    for (index, item) in items.iter().enumerate() {
        if index > 0 {
            text.push(',');
        }
        write(text, item);
    }
    text.push(']');
}

/// Tokens with their texts and probabilities.
fn likely(text: &mut String, row: &[Likely], tokenizer: &Tokenizer) {
    list(text, row, |text, &(id, probability)| {
        let (word, probability) = (Value::from(tokenizer.token_text(id)), Value::from(probability));
        *text += &format!("{{\"token\":{id},\"text\":{word},\"probability\":{probability}}}");
    });
}

/// A weight with five decimals, which is as well as anybody computes it.
fn weight(text: &mut String, weight: &f32) {
    let rounded = f64::from((weight * 1e5).round()) / 1e5;
    // Writing to a text does not fail.
    let _ = match rounded.is_finite() {
        true => write!(text, "{rounded}"),
        false => write!(text, "null"),
    };
}

/// The text: `prompt` as a text or as ids, or `tokens`.
fn tokens(fields: Fields<'_>, resident: &Resident) -> Result<Vec<u32>, Refusal> {
    let hint = "send {\"prompt\": TEXT} or {\"tokens\": [IDS]}";
    let given = ["tokens", "prompt"].into_iter().find_map(|name| Some((name, fields.get(name)?)));
    let tokens = match given {
        Some((name, Value::Array(items))) => {
            let got = Value::from(items.len());
            ids(name, items, resident.vocab_size)?
                .ok_or_else(|| Refusal::field(name, "a list of token ids", &got, hint))?
        }
        Some(("tokens", other)) => {
            return Err(Refusal::field("tokens", "a list of token ids", other, hint));
        }
        _ => resident.tokenizer.encode_prompt(fields.text("prompt")?.unwrap_or_default()),
    };
    let tokens = if tokens.is_empty() { resident.start_tokens() } else { tokens };
    let most = MOST_TOKENS.min(resident.context);
    if tokens.is_empty() || tokens.len() > most {
        let message = format!("{} tokens, expected 1 to {most}", tokens.len());
        return Err(Refusal::bad(message, "look at a shorter text").about("prompt"));
    }
    Ok(tokens)
}

/// The layers whose attention is wanted: all, none, or those of a list.
fn attention(fields: Fields<'_>, config: &Config) -> Result<Option<Vec<usize>>, Refusal> {
    let n_layer = config.layers.len();
    match fields.get("attention") {
        None | Some(Value::Bool(false)) => Ok(None),
        Some(Value::Bool(true)) => Ok(Some((0..n_layer).collect())),
        Some(Value::Array(items)) => {
            let layers: Result<Vec<usize>, Refusal> =
                items.iter().map(|item| index("attention", "layer", item, n_layer)).collect();
            let mut layers = layers?;
            layers.sort_unstable();
            layers.dedup();
            Ok(Some(layers))
        }
        Some(other) => {
            let hint = "true is all layers, [0, 1] the first two";
            Err(Refusal::field("attention", "true, false or a list of layers", other, hint))
        }
    }
}

/// What is switched off.
fn off(fields: Fields<'_>, config: &Config) -> Result<Vec<Part>, Refusal> {
    let Some(items) = fields.list("off")? else { return Ok(Vec::new()) };
    if items.len() > MOST_OFF {
        let message = format!("{} parts, at most {MOST_OFF}", items.len());
        return Err(Refusal::bad(message, "a layer is all of its heads and its MLP").about("off"));
    }
    let part = |item: &Value| {
        let layer = index("off", "layer", &item["layer"], config.layers.len())?;
        match &item["head"] {
            Value::Null => Ok(Part::Layer(layer)),
            head => {
                let head = index("off", "head", head, config.layers[layer].n_head)?;
                Ok(Part::Head { layer, head })
            }
        }
    };
    items.iter().map(part).collect()
}

/// A layer or a head, as models count them.
fn index(field: &str, what: &str, value: &Value, count: usize) -> Result<usize, Refusal> {
    whole(value).filter(|&at| at < count as u64).map(|at| at as usize).ok_or_else(|| {
        let expected = format!("a {what} of 0 to {}", count - 1);
        Refusal::field(field, expected, value, "layers and heads are counted from 0")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_have_five_decimals() {
        for (given, expected) in [
            (0.0, "0"),
            (1e-6, "0"),
            (1.0, "1"),
            (0.5, "0.5"),
            (0.123456, "0.12346"),
            (1.3e-5, "0.00001"),
            (f32::NAN, "null"),
        ] {
            let mut text = String::new();
            weight(&mut text, &given);
            assert_eq!(text, expected);
        }
    }
}
