//! What a server needs of the world beyond its sockets: whoever starts it hands it in.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use serde_json::Value;

use crate::models::Offer;

/// How far something is that takes long.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Bytes that are done.
    pub done: u64,
    /// Bytes in all, where that is known.
    pub total: Option<u64>,
    /// What is being done, in a few words.
    pub what: String,
}

/// Hears how far it is, and says whether to go on.
pub type Watch<'a> = &'a mut dyn FnMut(Progress) -> ControlFlow<()>;

/// Why something could not be done, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    /// Whose it is.
    pub kind: TroubleKind,
    /// What is wrong.
    pub message: String,
    /// What helps.
    pub hint: String,
}

/// Whose trouble it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TroubleKind {
    /// What was asked for cannot be.
    Asked,
    /// There is no such thing.
    Missing,
    /// Something else failed: a disk, a network, another computer.
    Outside,
    /// [`Watch`] said so.
    Stopped,
}

/// Brings models, makes them and deletes them. The server calls it from a thread of its own, one call at a time.
pub trait Keeper: Send + Sync {
    /// Brings a model from where models are kept, by its name there. A name is never an address: where
    /// it is asked for is the keeper's own knowledge.
    ///
    /// # Errors
    /// No such name, no way to there, or `watch` ended it; what has come so far may stay for the next
    /// try.
    fn pull(&self, name: &str, watch: Watch<'_>) -> Result<Offer, Trouble>;

    /// Makes another model of one that is here, of the type of that name, such as `q8_0`.
    ///
    /// # Errors
    /// No such model or type, no room for it, or `watch` ended it; nothing is left behind then.
    fn convert(&self, model: &str, kind: &str, watch: Watch<'_>) -> Result<Offer, Trouble>;

    /// Gives a model that is here a second name, without a second copy of what is in its files.
    ///
    /// # Errors
    /// No such model, files that are not the keeper's own, or a name that none can have.
    fn copy(&self, model: &str, name: &str) -> Result<Offer, Trouble>;

    /// Deletes a model that nobody uses, with its files where no other model has them.
    ///
    /// # Errors
    /// No such model, files that are not the keeper's own, or a disk that refuses.
    fn delete(&self, model: &str) -> Result<(), Trouble>;
}

/// Training runs that may be looked at, as JSON.
pub trait Runs: Send + Sync {
    /// Each run's head, the last changed first.
    ///
    /// # Errors
    /// The place where they are cannot be read.
    fn list(&self) -> Result<Vec<Value>, Trouble>;

    /// A run with its metrics beyond step `after`; none where there is no such run.
    ///
    /// # Errors
    /// It cannot be read.
    fn one(&self, id: &str, after: Option<u64>) -> Result<Option<Value>, Trouble>;
}

/// A request that was answered, or was not: no text of it, and nothing that tells whose it was but the
/// name of a key.
#[derive(Clone, Debug)]
pub struct Report {
    /// What the answer's `x-request-id` says.
    pub id: String,
    /// GET, POST and so on.
    pub method: String,
    /// The route as the router knows it, `/v1/models/{*id}`; `-` for none.
    pub route: String,
    /// What was answered; 499 where the client left before.
    pub status: u16,
    /// When it came.
    pub began: SystemTime,
    /// Until the last byte of the answer was handed out.
    pub took: Duration,
    /// 32 digits: the trace that the client named in `traceparent`, or one of its own.
    pub trace: String,
    /// 16 digits: the client's span, where it named one.
    pub parent: Option<String>,
    /// 16 digits: this request.
    pub span: String,
    /// What was asked for, in the words of OpenTelemetry: `chat`, `text_completion`, `embeddings`.
    pub operation: &'static str,
    /// The model that was asked.
    pub model: Option<String>,
    /// The name of the key that was shown.
    pub key: Option<String>,
    /// Until the first token was there.
    pub first_token: Option<Duration>,
    /// Tokens of the prompt.
    pub prompt_tokens: usize,
    /// Of those, the ones that were found in the cache.
    pub cached_tokens: usize,
    /// Tokens that were written.
    pub tokens: usize,
    /// Why each choice ended.
    pub finishes: Vec<&'static str>,
    /// What went wrong, as one word; none where all went well.
    pub error: Option<String>,
}

/// Is told of each request once it is over. It is called where all sockets wait, and must not.
pub type Reporter = Arc<dyn Fn(&Report) + Send + Sync>;
