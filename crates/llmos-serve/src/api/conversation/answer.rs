//! Answers into a conversation: a branch becomes the messages of a chat, and what the model says
//! is stored, with all that is needed to hear it again.
//!
//! What is stored of how it came about are fields of a request: `origin.sampling` with the model, the
//! seed, and `conversation` with the id and the answer's parent asks for the same answer.

use std::sync::Arc;
use std::task::{Context, Poll};

use llmos_model::sampler::SamplerOptions;
use llmos_store::{Body, Error, Message, Origin, Parent, Role};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};
use tokio::sync::oneshot;

use super::messages::number;
use super::only;
use crate::archive::Promise;
use crate::fields::Fields;
use crate::keys::Caller;
use crate::models::Resident;
use crate::refusal::Refusal;
use crate::scheduler::{Event, Finish, Part, Request};
use crate::server::Service;

/// Fields of a request that say how it is answered; the sampler's are stored as they turned out.
const ASKED: [&str; 11] = [
    "max_tokens",
    "max_completion_tokens",
    "stop",
    "logit_bias",
    "tools",
    "tool_choice",
    "parallel_tool_calls",
    "response_format",
    "reasoning_effort",
    "chat_template_kwargs",
    "clock",
];

/// An answer that is to be stored, before it is known how it is drawn.
pub(crate) struct Draft {
    owner: Arc<str>,
    id: String,
    parent: u32,
    system: Option<String>,
    promise: Promise,
}

/// Reads `conversation` out of a request, if it is there: the messages are those of its branch from
/// then on.
///
/// # Errors
/// Fields that do not go together, no such conversation, and what the store refuses.
pub(crate) async fn draft(
    service: &Service,
    caller: Caller,
    body: &mut Map<String, Value>,
) -> Result<Option<Draft>, Refusal> {
    let Some(given) = body.remove("conversation").filter(|given| !given.is_null()) else {
        return Ok(None);
    };
    let (id, leaf, system) = read(&given).map_err(|refusal| refusal.within("conversation"))?;
    let together = |name: &str, hint: &str| {
        let message = format!("{name} and conversation do not go together");
        Err(Refusal::bad(message, hint).about(name))
    };
    if body.get("messages").is_some_and(|given| !given.is_null()) {
        return together("messages", "POST /v1/conversations/ID/messages adds them to it");
    }
    if body.get("n").is_some_and(|n| !n.is_null() && *n != 1) {
        return together("n", "ask again for another answer to the same message");
    }
    let owner = service.keyring.owner(caller)?;
    let archive = service.archive()?;
    // Once the answer has begun nothing may keep it from being stored.
    let promise = archive.promise().await?;
    let (name, of) = (owner.clone(), id.clone());
    let branch = archive.ask(move |store| {
        let mut chats = store.chats(&name);
        Ok((chats.conversation(&of)?.settings, chats.branch(&of, leaf)?))
    });
    let (settings, branch) = branch.await?;
    let Some(last) = branch.last() else {
        let hint = "POST /v1/conversations/ID/messages adds the first";
        return Err(Refusal::bad("the conversation has no message", hint).about("conversation"));
    };
    let parent = last.number;
    let has_own = branch.first().is_some_and(|message| message.body.role == Role::System);
    let set = settings.get("system").and_then(Value::as_str).filter(|set| !set.is_empty());
    let system = system.or_else(|| set.filter(|_| !has_own).map(str::to_string));
    let first = system.as_ref().map(|text| json!({ "role": "system", "content": text }));
    let messages = first.into_iter().chain(branch.iter().map(message));
    body.insert("messages".into(), messages.collect());
    if let (None, Some(clock)) = (body.get("clock"), &service.options.clock) {
        body.insert("clock".into(), clock().into());
    }
    if body.get("seed").is_none_or(Value::is_null) {
        // A script's numbers are whole up to here.
        body.insert("seed".into(), (service.ids.number() >> 11).into());
    }
    Ok(Some(Draft { owner, id, parent, system, promise }))
}

/// The id, the message that is answered, and the system prompt in place of the conversation's own.
fn read(given: &Value) -> Result<(String, Option<u32>, Option<String>), Refusal> {
    let hint = "send {\"id\": ID}, and \"parent\": NUMBER for another message than the last";
    let Some(object) = given.as_object() else {
        return Err(Refusal::bad("expected an object", hint));
    };
    only(object, &["id", "parent", "system"])?;
    let fields = Fields::new(object);
    let id = fields.text("id")?.ok_or_else(|| Refusal::bad("there is no id", hint))?;
    let wrong = |got: &Value| Refusal::field("parent", "the number of a message", got, hint);
    let parent = fields.get("parent").map(|value| number(value).ok_or_else(|| wrong(value)));
    let system = fields.text("system")?.map(str::to_string);
    Ok((id.to_string(), parent.transpose()?, system))
}

/// A stored message as a chat has it: files stand behind what was said, each under its name.
fn message(message: &Message) -> Value {
    let body = &message.body;
    let mut content = body.content.clone();
    for file in &body.attachments {
        content.push_str(&format!("\n\n{}:\n{}", file.name, file.text));
    }
    let mut value = json!({ "role": body.role.name(), "content": content });
    for (name, text) in [
        ("reasoning_content", &body.reasoning_content),
        ("tool_call_id", &body.tool_call_id),
        ("name", &body.name),
    ] {
        if let Some(text) = text {
            value[name] = text.as_str().into();
        }
    }
    if !body.tool_calls.is_empty() {
        value["tool_calls"] = body.tool_calls.clone().into();
    }
    value
}

impl Draft {
    /// The recorder of the answer to a request.
    pub(crate) fn recorder(
        self,
        fields: Fields<'_>,
        request: &Request,
        resident: &Resident,
    ) -> Recorder {
        let mut hasher = Sha256::new();
        request.tokens.iter().for_each(|token| hasher.update(token.to_le_bytes()));
        let mut sampling = drawn(&request.sampler);
        for name in ASKED {
            if let Some(value) = fields.get(name) {
                sampling.insert(name.into(), value.clone());
            }
        }
        if let Some(system) = self.system {
            sampling.insert("conversation".into(), json!({ "system": system }));
        }
        let origin = Origin {
            model: resident.id.clone(),
            digest: resident.digest.clone().unwrap_or_default(),
            prompt_hash: format!("sha256:{}", hexadecimal(&hasher.finalize())),
            prompt_tokens: request.tokens.len() as u64,
            prompt: None,
            tokens: 0,
            finish: None,
            seed: request.seed,
            sampling: Value::Object(sampling),
        };
        Recorder {
            owner: self.owner,
            id: self.id,
            parent: self.parent,
            promise: Some(self.promise),
            body: Body::text(Role::Assistant, ""),
            origin,
            stored: None,
            number: None,
        }
    }
}

/// The sampler's options as fields of a request.
fn drawn(options: &SamplerOptions) -> Map<String, Value> {
    let mut fields = Map::new();
    for (name, value) in [
        ("temperature", options.temperature),
        ("top_p", options.top_p),
        ("min_p", options.min_p),
        ("typical_p", options.typical_p),
        ("frequency_penalty", options.frequency_penalty),
        ("presence_penalty", options.presence_penalty),
        ("repetition_penalty", options.repetition_penalty),
    ] {
        fields.insert(name.into(), f64::from(value).into());
    }
    fields.insert("top_k".into(), options.top_k.into());
    // What is longer than any history is as good as no bound.
    fields.insert("repeat_last_n".into(), options.penalty_window.min(1 << 30).into());
    fields
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Takes down what a model says, and stores it: when it ends, and when nobody listens any more.
pub(crate) struct Recorder {
    owner: Arc<str>,
    id: String,
    parent: u32,
    /// The place in the store's queue; none once it is on its way.
    promise: Option<Promise>,
    body: Body,
    origin: Origin,
    stored: Option<oneshot::Receiver<Result<Message, Refusal>>>,
    number: Option<u32>,
}

impl Recorder {
    /// Takes down an event; calls come by [`Recorder::call`].
    pub(crate) fn hear(&mut self, event: &Event) {
        match event {
            Event::Part { part, .. } => {
                self.origin.tokens += 1;
                match part {
                    Part::Text(text) => self.body.content += text,
                    Part::Reasoning(text) => {
                        *self.body.reasoning_content.get_or_insert_default() += text;
                    }
                    Part::Call(_) => {}
                }
            }
            Event::End { finish, tokens, .. } => {
                self.origin.tokens = *tokens as u64;
                self.origin.finish = Some(Finish::name(*finish).to_string());
            }
            Event::Read(_) | Event::Failed(_) => {}
        }
    }

    /// Takes down a call, as the client has it.
    pub(crate) fn call(&mut self, call: &Value) {
        self.body.tool_calls.push(call.clone());
    }

    /// Sends it on its way, once.
    fn store(&mut self) {
        let Some(promise) = self.promise.take() else { return };
        let body = Body { origin: Some(self.origin.clone()), ..self.body.clone() };
        let (owner, id, parent) = (self.owner.clone(), self.id.clone(), self.parent);
        let store = move |store: &mut llmos_store::Store| -> Result<Message, Error> {
            store.chats(&owner).append(&id, Parent::Message(parent), body)
        };
        self.stored = Some(promise.keep(store));
    }

    /// Stores it, and waits until it is durable.
    pub(crate) fn poll_stored(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Refusal>> {
        self.store();
        let Some(stored) = &mut self.stored else { return Poll::Ready(Ok(())) };
        let Poll::Ready(done) = std::pin::Pin::new(stored).poll(context) else {
            return Poll::Pending;
        };
        self.stored = None;
        let lost = || Refusal::broken("the thread of the store has ended");
        let message = done.unwrap_or_else(|_| Err(lost()));
        Poll::Ready(message.map(|message| self.number = Some(message.number)))
    }

    /// As [`Recorder::poll_stored`].
    pub(crate) async fn stored(&mut self) -> Result<(), Refusal> {
        std::future::poll_fn(|context| self.poll_stored(context)).await
    }

    /// Which message it has become, as an answer tells it.
    pub(crate) fn message(&self) -> Value {
        json!({ "number": self.number, "parent": self.parent })
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        let body = &self.body;
        let is_said = !body.content.is_empty()
            || body.reasoning_content.is_some()
            || !body.tool_calls.is_empty();
        // Nothing that was said is lost; an answer that never began is none.
        if self.promise.is_some() && (is_said || self.origin.finish.is_some()) {
            self.origin.finish.get_or_insert_with(|| "cancelled".to_string());
            self.store();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::sampling;

    #[test]
    fn stored_options_are_read_as_they_were() {
        let mut odd = SamplerOptions::default();
        (odd.temperature, odd.min_p, odd.repetition_penalty) = (0.7, 0.1, 1.1);
        odd.presence_penalty = -0.3;
        for mut options in [SamplerOptions::default(), SamplerOptions::greedy(), odd] {
            let fields = drawn(&options);
            let read = sampling::options(Fields::new(&fields), 100).unwrap();
            options.penalty_window = options.penalty_window.min(1 << 30);
            assert_eq!(read, options);
        }
    }
}
