//! `POST /v1/chat/completions`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::Extension;
use axum::extract::{Request as HttpRequest, State};
use axum::response::Response;
use llmos_agent::{Assistant, Call, Tool, messages};
use llmos_tokenizer::{Special, Tokenizer};
use serde_json::{Map, Value, json};

use super::ask::{self, Ask, Listener};
use super::conversation::answer::{self, Recorder};
use super::stream::{self, Dialect};
use super::tools::{self, Choice};
use super::words::{self, Usage};
use super::{constraint, json_response, sampling};
use crate::body;
use crate::fields::Fields;
use crate::keys::Caller;
use crate::models::Resident;
use crate::refusal::Refusal;
use crate::scheduler::{Dialogue, Event, Finish, Part, Request, Score};
use crate::server::{Clock, Service};

/// Most of the likeliest tokens, as in OpenAI's API.
const TOP: u64 = 20;

/// Answers a conversation.
pub(crate) async fn complete(
    State(service): State<Arc<Service>>,
    Extension(caller): Extension<Caller>,
    request: HttpRequest,
) -> Result<Response, Refusal> {
    // The place comes first, so that who has none costs nothing more.
    let ticket = service.ticket()?;
    let mut body = body::object(request, service.body_limits()).await?;
    let draft = answer::draft(&service, caller, &mut body).await?;
    let prepare = move |ask: &Ask, fields: Fields<'_>| {
        let (requests, (streamed, mut form)) = prepare(ask, fields)?;
        if let (Some(draft), Some(request)) = (draft, requests.first()) {
            form.recorder = Some(draft.recorder(fields, request, &ask.resident));
        }
        Ok((requests, (streamed, form)))
    };
    let (mut listener, (streamed, form)) = ask::ask(service, caller, ticket, body, prepare).await?;
    if streamed {
        listener.begin().await?;
        return Ok(stream::response(listener, Chunks::new(form)));
    }
    whole(&mut listener, form).await
}

/// How an answer is written down.
pub(super) struct Form {
    service: Arc<Service>,
    tokenizer: Arc<Tokenizer>,
    id: String,
    created: u64,
    model: String,
    with_scores: bool,
    with_usage: bool,
    /// Stores the answer of a conversation that is kept.
    recorder: Option<Recorder>,
}

/// The request that the fields ask for.
///
/// # Errors
/// Fields that hold what they cannot, and a prompt that does not fit.
pub(super) fn prepare(
    ask: &Ask,
    fields: Fields<'_>,
) -> Result<(Vec<Request>, (bool, Form)), Refusal> {
    let (resident, service) = (&ask.resident, &ask.service);
    for (name, allowed) in [("modalities", json!(["text"])), ("audio", Value::Null)] {
        if let Some(value) = fields.get(name).filter(|value| **value != allowed) {
            return Err(Refusal::field(name, "text alone", value, "leave it out"));
        }
    }
    let (streamed, with_usage) = sampling::streaming(fields)?;
    let with_scores = fields.flag("logprobs")?;
    let top = fields.integer("top_logprobs", 0..=TOP)?;
    if let (Some(top), false) = (top.filter(|&top| top > 0), with_scores) {
        let got = Value::from(top);
        let hint = "set logprobs to true as well";
        return Err(Refusal::field("top_logprobs", "none without logprobs", &got, hint));
    }
    let most = match fields.integer("max_completion_tokens", 1..=1 << 30)? {
        None => fields.integer("max_tokens", 1..=1 << 30)?,
        given => given,
    };
    let mut tools = tools::tools(fields)?;
    let choice = tools::choice(fields, &mut tools)?;
    let grammar = constraint::of_format(fields, resident)?;
    if grammar.is_some() && choice != Choice::None {
        let refusal = Refusal::bad(
            "response_format and tools constrain the same answer",
            "set tool_choice to none, or leave response_format out",
        );
        return Err(refusal.about("response_format"));
    }
    let offered = if choice == Choice::None { Vec::new() } else { tools };
    let has_tools = !offered.is_empty();
    let clock = match fields.get("clock") {
        Some(_) => fields.integer("clock", 0..=1 << 40)?.map(fixed),
        None => service.options.clock.clone(),
    };
    let prompt = prompt(fields, resident, clock, offered)?;
    let mut tokens = prompt.tokens;
    let dialogue = match has_tools {
        false => plain(prompt.is_thinking),
        true => {
            let one = fields.get("parallel_tool_calls") == Some(&Value::Bool(false));
            let (dialogue, opening) =
                tools::dialogue(&prompt.assistant, prompt.is_thinking, &choice, one, resident)?;
            tokens.extend(resident.tokenizer.encode(opening, Special::Parse));
            dialogue
        }
    };
    let mut sampler = sampling::options(fields, resident.vocab_size)?;
    sampler.logit_bias.extend(sampling::ignored_ends(fields, resident.tokenizer.end_ids())?);
    let request = Request {
        choices: sampling::choices(fields, service)?,
        sampler,
        seed: sampling::seed(fields, service)?,
        stops: sampling::stops(fields)?,
        scores: with_scores.then_some(top.unwrap_or(0) as usize),
        grammar,
        dialogue: Some(dialogue),
        ..ask.request(tokens, most.map(|most| most as usize))?
    };
    let form = Form {
        service: service.clone(),
        tokenizer: resident.tokenizer.clone(),
        id: service.ids.name("chatcmpl-"),
        created: ask::now(),
        model: resident.id.clone(),
        with_scores,
        with_usage,
        recorder: None,
    };
    Ok((vec![request], (streamed, form)))
}

/// A clock that stands still: an answer can be asked for again at the time of the first.
fn fixed(seconds: u64) -> Clock {
    Arc::new(move || i64::try_from(seconds).unwrap_or(i64::MAX))
}

fn plain(is_thinking: bool) -> Dialogue {
    Dialogue {
        format: None,
        names: Vec::new(),
        is_thinking,
        grammar: None,
        closing: None,
        is_required: false,
        only_one: false,
        begun: String::new(),
    }
}

/// A conversation as the model reads it.
pub(crate) struct Prompt {
    pub(crate) tokens: Vec<u32>,
    /// The answer begins inside a thought.
    pub(crate) is_thinking: bool,
    pub(crate) assistant: Assistant,
}

/// The prompt of `messages`, with tools that may be called.
///
/// # Errors
/// A model without a chat template, or without a way to call tools; messages that cannot be answered.
pub(crate) fn prompt(
    fields: Fields<'_>,
    resident: &Resident,
    clock: Option<Clock>,
    tools: Vec<Tool>,
) -> Result<Prompt, Refusal> {
    // A template is a program, and comes with the model alone.
    if let Some(given) = fields.get("chat_template") {
        let hint = "leave it out: the model's own is used";
        return Err(Refusal::field("chat_template", "nothing", given, hint));
    }
    let Some(template) = &resident.template else {
        return Err(Refusal::bad(
            format!("the model {:?} has no chat template", resident.id),
            "it was not made to be talked with: POST /v1/completions goes on with a text",
        ));
    };
    let given = fields.list("messages")?.ok_or_else(|| {
        let hint = "send [{\"role\": \"user\", \"content\": TEXT}]";
        Refusal::bad("there are no messages", hint).about("messages")
    })?;
    let has_tools = !tools.is_empty();
    let mut assistant =
        Assistant::new(resident.tokenizer.clone(), template.as_str()).with_tools(tools);
    if has_tools && assistant.call_format().is_none() {
        let refusal = Refusal::bad(
            format!("the model {:?} calls no tools: its chat template has none", resident.id),
            "leave tools out, or ask a model that was trained to call them",
        );
        return Err(refusal.about("tools"));
    }
    if let Some(clock) = clock {
        assistant = assistant.with_clock(move || clock());
    }
    for (name, value) in variables(fields)? {
        assistant.set_variable(&name, Some(value));
    }
    let messages = messages::normalized(&known_roles(given, template));
    let messages = messages.map_err(|error| Refusal::of_conversation(&error))?;
    let (tokens, is_thinking) =
        assistant.prompt(&messages).map_err(|error| Refusal::of_conversation(&error))?;
    Ok(Prompt { tokens, is_thinking, assistant })
}

/// Messages in roles that the template knows: what OpenAI's clients say as the developer is the system's
/// to one that has never heard of one.
fn known_roles(messages: &[Value], template: &str) -> Vec<Value> {
    let mut messages = messages.to_vec();
    if !template.contains("developer") {
        let developers = messages.iter_mut().filter(|message| message["role"] == "developer");
        developers.for_each(|message| message["role"] = "system".into());
    }
    messages
}

/// What the template is told beside the messages: `chat_template_kwargs`, and whether to think.
fn variables(fields: Fields<'_>) -> Result<Map<String, Value>, Refusal> {
    /// Most of them.
    const MOST: usize = 16;
    /// What is not a client's to say.
    const OURS: [&str; 6] =
        ["messages", "tools", "add_generation_prompt", "bos_token", "eos_token", "pad_token"];
    let mut variables = Map::new();
    if let Some(effort) = fields.text("reasoning_effort")? {
        variables
            .insert("enable_thinking".into(), (effort != "none" && effort != "minimal").into());
    }
    let Some(given) = fields.get("chat_template_kwargs") else { return Ok(variables) };
    let plain = |(name, value): (&String, &Value)| {
        !OURS.contains(&name.as_str()) && !value.is_array() && !value.is_object()
    };
    let object = given.as_object().filter(|object| object.len() <= MOST);
    let Some(object) = object.filter(|object| object.iter().all(plain)) else {
        return Err(Refusal::field(
            "chat_template_kwargs",
            format!("an object of at most {MOST} texts, numbers, true and false"),
            given,
            "such as {\"enable_thinking\": false}",
        ));
    };
    variables.extend(object.clone());
    Ok(variables)
}

/// A choice as it is written.
#[derive(Default)]
struct Said {
    text: String,
    reasoning: String,
    calls: Vec<Value>,
    scores: Vec<Score>,
    finish: Option<Finish>,
}

/// The answer in one piece.
async fn whole(listener: &mut Listener, mut form: Form) -> Result<Response, Refusal> {
    let mut choices: BTreeMap<usize, Said> = BTreeMap::new();
    let mut usage = Usage::default();
    while let Some(event) = listener.next().await? {
        form.hear(&event);
        match event {
            Event::Read(read) => {
                usage.prompt += read.tokens;
                usage.cached += read.cached;
            }
            Event::Part { index, part, scores } => {
                let said = choices.entry(index).or_default();
                said.scores.extend(scores);
                match part {
                    Part::Text(text) => said.text += &text,
                    Part::Reasoning(text) => said.reasoning += &text,
                    Part::Call(call) => said.calls.push(form.call(&call)),
                }
            }
            Event::End { index, finish, tokens, thoughts, scores } => {
                usage.completion += tokens;
                usage.thoughts += thoughts;
                let said = choices.entry(index).or_default();
                said.scores.extend(scores);
                said.finish = Some(finish);
            }
            Event::Failed(refusal) => return Err(refusal),
        }
    }
    let choices: Vec<Value> =
        choices.into_iter().map(|(index, said)| form.choice(index, said)).collect();
    let mut answer = json!({
        "id": form.id,
        "object": "chat.completion",
        "created": form.created,
        "model": form.model,
        "choices": choices,
        "usage": usage.to_json(),
    });
    if let Some(recorder) = &mut form.recorder {
        recorder.stored().await?;
        answer["message"] = recorder.message();
    }
    Ok(json_response(&answer))
}

impl Form {
    fn hear(&mut self, event: &Event) {
        if let Some(recorder) = &mut self.recorder {
            recorder.hear(event);
        }
    }

    fn call(&mut self, call: &Call) -> Value {
        let call = json!({
            "id": self.service.ids.call(),
            "type": "function",
            "function": { "name": call.name, "arguments": call.arguments.to_string() },
        });
        if let Some(recorder) = &mut self.recorder {
            recorder.call(&call);
        }
        call
    }

    fn choice(&self, index: usize, said: Said) -> Value {
        let content = match said.text.is_empty() && !said.calls.is_empty() {
            true => Value::Null,
            false => said.text.into(),
        };
        let mut message = json!({ "role": "assistant", "content": content, "refusal": null });
        if !said.reasoning.is_empty() {
            message["reasoning_content"] = said.reasoning.into();
        }
        if !said.calls.is_empty() {
            message["tool_calls"] = said.calls.into();
        }
        json!({
            "index": index,
            "message": message,
            "logprobs": self.scores(&said.scores),
            "finish_reason": said.finish.map(Finish::name),
        })
    }

    fn scores(&self, scores: &[Score]) -> Value {
        match self.with_scores {
            true => words::of_chat(&self.tokenizer, scores),
            false => Value::Null,
        }
    }
}

/// The answer piece by piece.
struct Chunks {
    form: Form,
    /// Calls so far, by choice.
    calls: BTreeMap<usize, usize>,
    usage: Usage,
    /// Choices that have begun: their roles were told.
    begun: Vec<usize>,
}

impl Chunks {
    fn new(form: Form) -> Chunks {
        Chunks { form, calls: BTreeMap::new(), usage: Usage::default(), begun: Vec::new() }
    }

    fn chunk(&self, choices: Value) -> Value {
        let mut chunk = json!({
            "id": self.form.id,
            "object": "chat.completion.chunk",
            "created": self.form.created,
            "model": self.form.model,
            "choices": choices,
        });
        if self.form.with_usage {
            // As OpenAI's: it comes with the last.
            chunk["usage"] = Value::Null;
        }
        chunk
    }

    fn delta(&self, index: usize, delta: Value, scores: &[Score], finish: Option<Finish>) -> Value {
        let logprobs = match scores.is_empty() {
            true => Value::Null,
            false => self.form.scores(scores),
        };
        self.chunk(json!([{
            "index": index,
            "delta": delta,
            "logprobs": logprobs,
            "finish_reason": finish.map(Finish::name),
        }]))
    }

    /// The chunk that says who speaks, before a choice's first.
    fn begin(&mut self, index: usize) -> Option<Value> {
        if self.begun.contains(&index) {
            return None;
        }
        self.begun.push(index);
        Some(self.delta(index, json!({ "role": "assistant", "content": "" }), &[], None))
    }
}

impl Dialect for Chunks {
    fn chunks(&mut self, event: Event) -> Vec<Value> {
        self.form.hear(&event);
        match event {
            Event::Read(read) => {
                self.usage.prompt += read.tokens;
                self.usage.cached += read.cached;
                self.begin(read.first).into_iter().collect()
            }
            Event::Part { index, part, scores } => {
                let mut chunks: Vec<Value> = self.begin(index).into_iter().collect();
                let delta = match part {
                    Part::Text(text) => json!({ "content": text }),
                    Part::Reasoning(text) => json!({ "reasoning_content": text }),
                    Part::Call(call) => {
                        let number = self.calls.entry(index).or_default();
                        let mut one = self.form.call(&call);
                        one["index"] = (*number).into();
                        *number += 1;
                        json!({ "tool_calls": [one] })
                    }
                };
                chunks.push(self.delta(index, delta, &scores, None));
                chunks
            }
            Event::End { index, finish, tokens, thoughts, scores } => {
                self.usage.completion += tokens;
                self.usage.thoughts += thoughts;
                let mut chunks: Vec<Value> = self.begin(index).into_iter().collect();
                chunks.push(self.delta(index, json!({}), &scores, Some(finish)));
                chunks
            }
            // The listener says what failed.
            Event::Failed(_) => Vec::new(),
        }
    }

    fn settle(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Refusal>> {
        match &mut self.form.recorder {
            Some(recorder) => recorder.poll_stored(context),
            None => Poll::Ready(Ok(())),
        }
    }

    fn last(&mut self) -> Vec<Value> {
        let message = self.form.recorder.as_ref().map(Recorder::message);
        if !self.form.with_usage && message.is_none() {
            return Vec::new();
        }
        let mut chunk = self.chunk(json!([]));
        if self.form.with_usage {
            chunk["usage"] = self.usage.to_json();
        }
        if let Some(message) = message {
            chunk["message"] = message;
        }
        vec![chunk]
    }
}
