//! What all calls of a model have in common: a place, a model, a listener.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Instant, SystemTime};

use llmos_model::sampler::SamplerOptions;
use serde_json::{Map, Value};
use tokio::sync::mpsc;

use crate::fields::Fields;
use crate::flights::Ticket;
use crate::keyring::Keyring;
use crate::keys::Caller;
use crate::models::Resident;
use crate::refusal::Refusal;
use crate::scheduler::{Event, Request};
use crate::server::Service;
use crate::watch::Record;

/// Events that a client may be behind. One that is further behind has gone, or reads too slowly.
const BEHIND: usize = 2048;

/// Fields that may hold a schema or a grammar, whichever API they are of.
const COMPILED: [&str; 5] = ["response_format", "tools", "format", "text", "output_config"];

/// A call that is being prepared.
pub(crate) struct Ask {
    pub(crate) service: Arc<Service>,
    pub(crate) resident: Arc<Resident>,
    caller: Caller,
    ticket: Arc<Ticket>,
    deadline: Instant,
    events: mpsc::Sender<Event>,
    cancel: Arc<AtomicBool>,
}

/// Hears what becomes of a call; when it is dropped, the call is given up.
pub(crate) struct Listener {
    events: mpsc::Receiver<Event>,
    /// Heard, but not passed on yet.
    first: VecDeque<Event>,
    cancel: Arc<AtomicBool>,
    /// Choices that are not complete.
    left: usize,
    /// Counts what is read and drawn; none where nobody's key asks.
    meter: Option<Meter>,
    /// The record of the request that is answered.
    record: Option<Arc<Record>>,
    /// The model stays while it is listened to.
    resident: Arc<Resident>,
}

/// Counts tokens for a key's quotas, as they are heard of.
struct Meter {
    keyring: Arc<Keyring>,
    name: Arc<str>,
    /// Tokens of answers that were counted and not told the number of.
    drawn: usize,
}

impl Meter {
    fn new(keyring: &Arc<Keyring>, caller: Caller) -> Result<Option<Meter>, Refusal> {
        if caller == Caller::ANYONE {
            return Ok(None);
        }
        let name = keyring.owner(caller)?;
        Ok(Some(Meter { keyring: keyring.clone(), name, drawn: 0 }))
    }

    fn hear(&mut self, event: &Event) {
        let tokens = match event {
            Event::Read(read) => read.tokens,
            // A part is a token or a few; how many there were is told at the end.
            Event::Part { .. } => {
                self.drawn += 1;
                1
            }
            Event::End { tokens, .. } => {
                let counted = self.drawn.min(*tokens);
                self.drawn -= counted;
                tokens - counted
            }
            Event::Failed(_) => 0,
        };
        self.keyring.meters.spend(&self.name, tokens);
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.cancel.store(true, Ordering::Relaxed);
    }
}

/// Prepares a call from its fields: finds the model, and lets `prepare` make requests of the fields, away
/// from the thread of sockets, since templates, vocabularies and grammars take their time. The requests
/// are on their way when this returns.
///
/// # Errors
/// A quota that is used up, no such model, and whatever `prepare` says.
pub(crate) async fn ask<T: Send + 'static>(
    service: Arc<Service>,
    caller: Caller,
    ticket: Arc<Ticket>,
    body: Map<String, Value>,
    prepare: impl FnOnce(&Ask, Fields<'_>) -> Result<(Vec<Request>, T), Refusal> + Send + 'static,
) -> Result<(Listener, T), Refusal> {
    service.admit(caller, &ticket)?;
    let meter = Meter::new(&service.keyring, caller)?;
    let deadline = Instant::now() + service.options.request_time;
    let model = Fields::new(&body).text("model")?;
    let resident = service.models.get(model, &service.scheduling()).await?;
    let record = Record::current();
    if let Some(record) = &record {
        record.model(&resident.id);
    }
    let (events, receiver) = mpsc::channel(BEHIND);
    let cancel = Arc::new(AtomicBool::new(false));
    let mut listener = Listener {
        events: receiver,
        first: VecDeque::new(),
        cancel: cancel.clone(),
        left: 0,
        meter,
        record,
        resident: resident.clone(),
    };
    // Few of those that may have a grammar are prepared at once: compiling one can take seconds and
    // hundreds of megabytes, and all others need the threads as well.
    let has_grammar = COMPILED
        .iter()
        .any(|name| body.get(*name).is_some_and(|value| value.is_object() || value.is_array()));
    let turn = match has_grammar {
        true => service.compiling.clone().acquire_owned().await.ok(),
        false => None,
    };
    let ask = Ask { service, resident, caller, ticket, deadline, events, cancel };
    let prepared = tokio::task::spawn_blocking(move || {
        let _turn = turn;
        let (requests, shape) = prepare(&ask, Fields::new(&body))?;
        let left = requests.iter().map(|request| request.choices).sum();
        requests.into_iter().try_for_each(|request| ask.resident.submit(request))?;
        Ok((left, shape))
    });
    let (left, shape) =
        prepared.await.unwrap_or_else(|_| Err(Refusal::broken("preparing ended early")))?;
    listener.left = left;
    Ok((listener, shape))
}

impl Ask {
    /// A request of one choice, drawn as the model says; the fields can be changed.
    ///
    /// # Errors
    /// A prompt that does not fit.
    pub(crate) fn request(
        &self,
        tokens: Vec<u32>,
        most: Option<usize>,
    ) -> Result<Request, Refusal> {
        let room = usize::from(most != Some(0));
        let longest = self.resident.longest_prompt() + 1 - room;
        if tokens.len() > longest {
            return Err(Refusal::too_long(tokens.len(), longest + room));
        }
        let tokens = if tokens.is_empty() { self.resident.start_tokens() } else { tokens };
        Ok(Request {
            tokens,
            owner: self.caller.owner,
            salt: self.caller.salt,
            is_private: false,
            first: 0,
            choices: 1,
            most,
            sampler: SamplerOptions::default(),
            seed: 0,
            ends: self.resident.tokenizer.end_ids().to_vec(),
            stops: Vec::new(),
            scores: None,
            prompt_scores: None,
            target: None,
            next: None,
            pooling: None,
            adapter: self.resident.adapter.clone(),
            grammar: None,
            dialogue: None,
            deadline: Some(self.deadline),
            events: self.events.clone(),
            cancel: self.cancel.clone(),
            _ticket: self.ticket.clone(),
        })
    }
}

impl Listener {
    /// The next event; none once all choices are complete.
    ///
    /// # Errors
    /// The call failed, or the model's thread has ended.
    pub(crate) async fn next(&mut self) -> Result<Option<Event>, Refusal> {
        if let Some(event) = self.first.pop_front() {
            return self.heard(event).map(Some);
        }
        if self.left == 0 {
            return Ok(None);
        }
        let event = self.events.recv().await;
        self.heard(event.unwrap_or_else(|| Event::Failed(lost()))).map(Some)
    }

    /// Notes what comes from now on in another record.
    pub(crate) fn note_in(&mut self, record: Arc<Record>) {
        record.model(&self.resident.id);
        self.record = Some(record);
    }

    /// Waits for the first event, so that what fails at once has a status of its own.
    ///
    /// # Errors
    /// As [`Listener::next`].
    pub(crate) async fn begin(&mut self) -> Result<(), Refusal> {
        match self.events.recv().await {
            Some(Event::Failed(refusal)) => self.heard(Event::Failed(refusal)).map(|_| ()),
            Some(event) => {
                self.first.push_back(event);
                Ok(())
            }
            None => Err(lost()),
        }
    }

    /// As [`Listener::next`], for a stream.
    pub(crate) fn poll_next(
        &mut self,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Result<Option<Event>, Refusal>> {
        use std::task::Poll;
        if let Some(event) = self.first.pop_front() {
            return Poll::Ready(self.heard(event).map(Some));
        }
        if self.left == 0 {
            return Poll::Ready(Ok(None));
        }
        self.events
            .poll_recv(context)
            .map(|event| self.heard(event.unwrap_or_else(|| Event::Failed(lost()))).map(Some))
    }

    fn heard(&mut self, event: Event) -> Result<Event, Refusal> {
        if let Some(meter) = &mut self.meter {
            meter.hear(&event);
        }
        if let Some(record) = &self.record {
            record.heard(&event);
        }
        match event {
            Event::Failed(refusal) => Err(refusal),
            Event::End { .. } => {
                self.left = self.left.saturating_sub(1);
                Ok(event)
            }
            event => Ok(event),
        }
    }
}

fn lost() -> Refusal {
    Refusal::broken("the answer broke off: its reader was too slow, or the model's thread ended")
}

/// Seconds since 1970.
pub(crate) fn now() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs())
}
