//! What the thread of a model is asked for, and what it tells while it answers.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use llmos_agent::{Call, CallFormat};
use llmos_model::Adapter;
use llmos_model::grammar::Grammar;
use llmos_model::sampler::SamplerOptions;
use tokio::sync::mpsc;

use crate::flights::Ticket;
use crate::refusal::Refusal;

/// A prompt, and what is wanted after it.
pub(crate) struct Request {
    /// The prompt, at least one token.
    pub(crate) tokens: Vec<u32>,
    /// Whose it is: slots are shared fairly between owners.
    pub(crate) owner: u64,
    /// Cached prefixes are found only under the same salt.
    pub(crate) salt: u64,
    /// It neither finds a cached prefix nor leaves one: what is cached under its salt was to be
    /// forgotten while it waited.
    pub(crate) is_private: bool,
    /// The index of its first choice among those of the whole call.
    pub(crate) first: usize,
    /// Answers to write, at least one.
    pub(crate) choices: usize,
    /// Most tokens of each; none is as many as fit.
    pub(crate) most: Option<usize>,
    /// How they are drawn.
    pub(crate) sampler: SamplerOptions,
    /// Of the first choice; the others count on from it.
    pub(crate) seed: u64,
    /// Tokens that end an answer.
    pub(crate) ends: Vec<u32>,
    /// Texts that end an answer, and are no part of it.
    pub(crate) stops: Vec<String>,
    /// How likely each token was that is drawn, with so many of the likeliest.
    pub(crate) scores: Option<usize>,
    /// The same for the prompt.
    pub(crate) prompt_scores: Option<usize>,
    /// A token behind the prompt that is scored with it, and does not go through the model.
    pub(crate) target: Option<u32>,
    /// So many of the likeliest tokens after the prompt.
    pub(crate) next: Option<usize>,
    /// What of the prompt's final states is told.
    pub(crate) pooling: Option<Pooling>,
    /// What is added to the model's weights.
    pub(crate) adapter: Option<Arc<Adapter>>,
    /// What the answer must look like.
    pub(crate) grammar: Option<Grammar>,
    /// How it is read; none for plain text.
    pub(crate) dialogue: Option<Dialogue>,
    /// When it is given up.
    pub(crate) deadline: Option<Instant>,
    /// Who is told.
    pub(crate) events: mpsc::Sender<Event>,
    /// Raised when nobody listens any more.
    pub(crate) cancel: Arc<AtomicBool>,
    /// Its place among those that are in flight.
    pub(crate) _ticket: Arc<Ticket>,
}

/// Which state stands for a whole text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pooling {
    /// The mean of all tokens' states.
    Mean,
    /// The last token's.
    Last,
}

/// How an assistant's answer is read.
pub(crate) struct Dialogue {
    /// How calls are written; none without tools.
    pub(crate) format: Option<CallFormat>,
    /// The names of the tools.
    pub(crate) names: Vec<String>,
    /// The prompt has opened a thought.
    pub(crate) is_thinking: bool,
    /// What calls must look like, from after what opens one.
    pub(crate) grammar: Option<Grammar>,
    /// The control token that closes a call.
    pub(crate) closing: Option<u32>,
    /// A call must come: the prompt has opened it.
    pub(crate) is_required: bool,
    /// The answer ends with its first call.
    pub(crate) only_one: bool,
    /// What of the answer stands in the prompt already.
    pub(crate) begun: String,
}

/// Something that happened to a request.
#[derive(Debug)]
pub(crate) enum Event {
    /// Its prompt has gone through the model.
    Read(Read),
    /// A choice went on.
    Part {
        /// Which choice of the whole call.
        index: usize,
        /// What was written.
        part: Part,
        /// The tokens that became known with it.
        scores: Vec<Score>,
    },
    /// A choice is complete.
    End {
        /// Which.
        index: usize,
        /// Why.
        finish: Finish,
        /// Tokens that were drawn.
        tokens: usize,
        /// Of those, the ones that are thoughts.
        thoughts: usize,
        /// Tokens that were not told yet.
        scores: Vec<Score>,
    },
    /// Nothing more will come.
    Failed(Refusal),
}

/// A prompt that was read.
#[derive(Debug)]
pub(crate) struct Read {
    /// The index of its first choice.
    pub(crate) first: usize,
    /// Its tokens.
    pub(crate) tokens: usize,
    /// Of those, the ones that were found in the cache.
    pub(crate) cached: usize,
    /// One a token, none for the first; empty unless asked for.
    pub(crate) scores: Vec<Option<Score>>,
    /// The likeliest tokens that may follow, with their probabilities.
    pub(crate) next: Vec<(u32, f64)>,
    /// The state (C) that stands for it; empty unless asked for.
    pub(crate) state: Vec<f32>,
}

/// A part of an answer.
#[derive(Debug)]
pub(crate) enum Part {
    /// What is said.
    Text(String),
    /// What is thought.
    Reasoning(String),
    /// A whole call.
    Call(Call),
}

/// How likely a token was, by the model's own distribution.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Score {
    pub(crate) id: u32,
    /// Natural logarithm of its probability.
    pub(crate) logprob: f64,
    /// The likeliest tokens in its place.
    pub(crate) top: Vec<(u32, f64)>,
}

/// Why an answer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Finish {
    /// The model or the grammar ended it.
    Stop,
    /// The stop text of this number among the request's.
    StopText(usize),
    /// As many tokens as were asked for, or as fit.
    Length,
    /// It calls tools.
    ToolCalls,
}

impl Finish {
    /// As OpenAI's clients know it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Finish::Stop | Finish::StopText(_) => "stop",
            Finish::Length => "length",
            Finish::ToolCalls => "tool_calls",
        }
    }
}
