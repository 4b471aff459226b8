//! The models that a server has: loaded when they are first asked for, within a budget of memory, and
//! let go of when their memory is needed, or nobody has used them for some time.
//!
//! Whoever uses a model holds it. One that is replaced or let go of takes no new requests and ends with
//! its last answer; its memory counts until then, so one that does not fit beside it waits.

mod about;
mod memory;
mod stay;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, PoisonError, RwLock, Weak, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use axum::http::StatusCode;
use llmos_model::grammar::{Grammar, GrammarSource, GrammarVocabulary};
use llmos_model::{Adapter, Config, Engine};
use llmos_tokenizer::{Special, Tokenizer};
use strsim::levenshtein;
use tokio::sync::{Mutex, OwnedMutexGuard};

use crate::parameters::Parameters;
use crate::refusal::Refusal;
use crate::scheduler::{Gauges, Order, Request, Scheduler, SchedulerOptions, Task};
pub use about::About;
use memory::{Memory, Share};
pub(crate) use stay::Stay;

/// A model in memory.
pub struct Loaded {
    /// Its engine, without sequences.
    pub engine: Engine,
    /// Its vocabulary.
    pub tokenizer: Arc<Tokenizer>,
    /// Its chat template; none where it was not made to be talked with.
    pub template: Option<String>,
    /// What can be added to its weights, request by request.
    pub adapters: Vec<LoadedAdapter>,
}

/// An adapter beside a model in memory; clients call it `MODEL:NAME`.
#[derive(Clone)]
pub struct LoadedAdapter {
    /// Its name.
    pub name: String,
    /// What it adds.
    pub adapter: Arc<Adapter>,
    /// The chat template that it was taught with; none for the model's own.
    pub template: Option<String>,
}

/// Loads a model; the text says why it cannot.
pub type Load = Box<dyn Fn() -> Result<Loaded, String> + Send + Sync>;

/// A model that can be had.
pub struct Offer {
    /// What clients call it.
    pub id: String,
    /// Memory that it will take, weights and cache together.
    pub bytes: u64,
    /// Seconds since 1970 when its files came here, or were last written.
    pub created: u64,
    /// Names of the adapters that are loaded with it.
    pub adapters: Vec<String>,
    /// What else is known of it.
    pub about: About,
    /// Loads it.
    pub load: Load,
}

/// The models of a server.
pub struct Models {
    memory: Arc<Memory>,
    /// In the order that they were offered; the first is the one of who names none.
    shelf: RwLock<Vec<Arc<Slot>>>,
    /// One model is loaded at a time, in the order that they were asked for.
    loading: Arc<Mutex<()>>,
    clock: AtomicU64,
    start: Instant,
}

struct Slot {
    offer: Offer,
    place: Arc<Mutex<Option<Arc<Resident>>>>,
    /// The model in that place, for whoever must not wait until it is loaded.
    resident: RwLock<Weak<Resident>>,
    stay: RwLock<Stay>,
    /// When it was last asked for, by the clock of [`Models`].
    used: AtomicU64,
    /// When it was last seen in use, in milliseconds since [`Models`] began.
    seen: AtomicU64,
    gauges: Arc<Gauges>,
}

/// How a model stands.
pub(crate) struct Standing {
    pub(crate) id: String,
    pub(crate) created: u64,
    pub(crate) about: About,
    /// Ids of its adapters.
    pub(crate) adapters: Vec<String>,
    /// The context that it was loaded with; none where it is not loaded.
    pub(crate) loaded: Option<usize>,
    pub(crate) gauges: Arc<Gauges>,
}

/// A model that runs on a thread of its own.
pub(crate) struct Resident {
    pub(crate) id: String,
    pub(crate) tokenizer: Arc<Tokenizer>,
    pub(crate) template: Option<String>,
    pub(crate) about: About,
    pub(crate) vocab_size: usize,
    /// Numbers of a state.
    pub(crate) d_model: usize,
    /// The longest context.
    pub(crate) context: usize,
    /// Tokens that the cache holds, all sequences together.
    pub(crate) cache_tokens: usize,
    /// How its parameters are distributed, once somebody has asked.
    pub(crate) parameters: Parameters,
    sender: mpsc::Sender<Order>,
    thread: Arc<JoinHandle<()>>,
    grammars: Arc<OnceLock<Result<GrammarVocabulary, String>>>,
    /// What is added to the weights for whoever asks by this id.
    pub(crate) adapter: Option<Arc<Adapter>>,
    adapters: Vec<LoadedAdapter>,
    /// The model that this is an adapter of stays while this does.
    _base: Option<Arc<Resident>>,
}

/// How long a model that was let go of may take to give its memory back, before another is let go of.
const BREATH: Duration = Duration::from_millis(200);

impl Models {
    /// No models yet; all that are loaded take at most `budget` bytes, if there is one.
    pub fn new(budget: Option<u64>) -> Models {
        Models {
            memory: Memory::new(budget),
            shelf: RwLock::default(),
            loading: Arc::default(),
            clock: AtomicU64::new(0),
            start: Instant::now(),
        }
    }

    /// Offers a model. One of the same id is replaced: who uses it goes on with it, who asks from now
    /// on gets the new one, as soon as there is room for it.
    pub fn offer(&self, offer: Offer) {
        let slot = Arc::new(Slot {
            offer,
            place: Arc::default(),
            resident: RwLock::default(),
            stay: RwLock::default(),
            used: AtomicU64::new(0),
            seen: AtomicU64::new(0),
            gauges: Arc::default(),
        });
        let mut shelf = self.shelf.write().unwrap_or_else(PoisonError::into_inner);
        match shelf.iter_mut().find(|old| old.offer.id == slot.offer.id) {
            Some(old) => *old = slot,
            None => shelf.push(slot),
        }
    }

    fn slots(&self) -> Vec<Arc<Slot>> {
        self.shelf.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How each model stands, in the order that they were offered.
    pub(crate) fn standings(&self) -> Vec<Standing> {
        self.slots().iter().map(|slot| slot.standing()).collect()
    }

    /// A model's context, where it is loaded.
    pub(crate) fn loaded_context(&self, id: &str) -> Option<usize> {
        self.slots().iter().find(|slot| slot.offer.id == id)?.standing().loaded
    }

    /// Bytes that loaded models take, those that are ending included, and that they may take.
    pub(crate) fn memory(&self) -> (u64, Option<u64>) {
        (self.memory.taken(), self.memory.budget())
    }

    /// What is said of an id that is no model's, with the nearest ones.
    pub(crate) fn unknown(&self, id: &str) -> Refusal {
        unknown(id, &self.slots())
    }

    /// The model and the adapter that an id names, where it is no model's own.
    fn adapter_of(&self, id: &str) -> Option<(String, String)> {
        let slots = self.slots();
        if slots.iter().any(|slot| slot.offer.id.eq_ignore_ascii_case(id)) {
            return None;
        }
        slots.iter().find_map(|slot| {
            let (base, adapters) = (&slot.offer.id, &slot.offer.adapters);
            let rest = id.get(base.len()..).filter(|_| {
                id.get(..base.len()).is_some_and(|start| start.eq_ignore_ascii_case(base))
            })?;
            let name = rest.strip_prefix(':')?;
            let name = adapters.iter().find(|known| known.eq_ignore_ascii_case(name))?;
            Some((base.clone(), name.clone()))
        })
    }

    /// The model of that id, else the one whose id differs in case alone; the first where none is named.
    fn find(&self, id: Option<&str>) -> Result<Arc<Slot>, Refusal> {
        let slots = self.slots();
        let found = match id {
            None | Some("") => slots.first(),
            Some(id) => slots
                .iter()
                .find(|slot| slot.offer.id == id)
                .or_else(|| slots.iter().find(|slot| slot.offer.id.eq_ignore_ascii_case(id))),
        };
        found.cloned().ok_or_else(|| unknown(id.unwrap_or_default(), &slots))
    }

    /// The model of that id, or the one that it is an adapter of, loaded if it is not; the first one
    /// where none is named. Loading goes on even if nobody waits for it any more, so that an impatient
    /// client does not begin it for ever anew.
    pub(crate) async fn get(
        &self,
        id: Option<&str>,
        options: &SchedulerOptions,
    ) -> Result<Arc<Resident>, Refusal> {
        let beside = id.and_then(|id| self.adapter_of(id));
        let base = beside.as_ref().map(|(base, _)| base.as_str()).or(id);
        let waiting = tokio::time::timeout(options.patience, self.wait_for(base, options)).await;
        let resident = waiting.unwrap_or_else(|_| {
            Err(Refusal::unavailable(
                "the model could not be loaded in time: memory is taken by models that are in use",
                "try again after the seconds in Retry-After",
            ))
        })?;
        match beside {
            None => Ok(resident),
            Some((_, name)) => {
                let id = format!("{}:{name}", resident.id);
                resident.beside(&name).ok_or_else(|| self.unknown(&id))
            }
        }
    }

    async fn wait_for(
        &self,
        id: Option<&str>,
        options: &SchedulerOptions,
    ) -> Result<Arc<Resident>, Refusal> {
        loop {
            let slot = self.find(id)?;
            slot.used.store(self.clock.fetch_add(1, Ordering::Relaxed) + 1, Ordering::Relaxed);
            slot.seen.store(self.now(), Ordering::Relaxed);
            let mut place = slot.place.clone().lock_owned().await;
            // A thread that ended early is no reason to say no for ever.
            if let Some(resident) = place.as_ref().filter(|resident| !resident.is_over()) {
                return Ok(resident.clone());
            }
            *place = None;
            let one = self.loading.clone().lock_owned().await;
            let Some(share) = self.make_room(&slot).await? else { continue };
            let loading = load(slot, place, one, share, options.clone());
            let loaded = tokio::spawn(loading).await;
            return loaded.unwrap_or_else(|_| Err(Refusal::broken("loading a model ended early")));
        }
    }

    /// True if there is a model, or an adapter of one, by that id.
    pub(crate) fn has(&self, id: &str) -> bool {
        self.find(Some(id)).is_ok() || self.adapter_of(id).is_some()
    }

    /// The id of the model that an id means, with an adapter or without.
    pub(crate) fn id_of(&self, id: &str) -> Result<String, Refusal> {
        let base = self.adapter_of(id).map(|(base, _)| base);
        self.find(base.as_deref().or(Some(id))).map(|slot| slot.offer.id.clone())
    }

    /// Lets go of a model: who uses it goes on with it.
    pub(crate) async fn unload(&self, id: &str) -> Result<(), Refusal> {
        let slot = self.find(Some(&self.id_of(id)?))?;
        slot.let_go(&mut *slot.place.lock().await, "asked");
        Ok(())
    }

    /// Takes a model off the shelf, once `remove` has removed what is on disk of it. Nobody gets it in
    /// between, and who asks for it later hears that there is none.
    ///
    /// # Errors
    /// No such model, one that somebody uses, and what `remove` says: then the model is there as before.
    pub(crate) async fn withdraw(
        &self,
        id: &str,
        remove: impl Future<Output = Result<(), Refusal>>,
    ) -> Result<(), Refusal> {
        let slot = self.find(Some(id))?;
        let mut place = slot.place.lock().await;
        if place.as_ref().is_some_and(|resident| resident.is_used()) {
            return Err(Refusal::client(
                StatusCode::CONFLICT,
                format!("the model {id:?} is answering somebody"),
                "ask again once that has ended: nothing was deleted",
            ));
        }
        // Not every system deletes a file that is open.
        slot.let_go(&mut place, "to be deleted");
        remove.await?;
        let mut shelf = self.shelf.write().unwrap_or_else(PoisonError::into_inner);
        shelf.retain(|other| !Arc::ptr_eq(other, &slot));
        Ok(())
    }

    /// Has all models that are loaded forget what they have cached of texts of this salt, before they
    /// begin with anything that is asked for after this.
    pub(crate) fn forget(&self, salt: u64) {
        for slot in self.slots() {
            let resident = slot.resident.read().unwrap_or_else(PoisonError::into_inner).upgrade();
            // One whose thread has ended has nothing cached.
            let _ = resident.map(|resident| resident.sender.send(Order::Forget(salt)));
        }
    }

    /// Says how long the model of that id, or that it is an adapter of, is to stay.
    pub(crate) fn keep(&self, id: &str, stay: Stay) {
        let base = self.adapter_of(id).map(|(base, _)| base);
        if let Ok(slot) = self.find(Some(base.as_deref().unwrap_or(id))) {
            slot.keep(stay);
        }
    }

    /// The time after which a model is let go of if nobody uses it any more, where the server keeps them
    /// for `usual`; none is until its memory is needed.
    pub(crate) fn leaves_in(&self, id: &str, usual: Option<Duration>) -> Option<Duration> {
        let slot = self.find(Some(id)).ok()?;
        let time = slot.stay().after_use(usual)?;
        let unused = self.now().saturating_sub(slot.seen.load(Ordering::Relaxed));
        Some(time.saturating_sub(Duration::from_millis(unused)))
    }

    /// Lets go of the model of that id, or that it is an adapter of, unless somebody uses it.
    pub(crate) fn release(&self, id: &str) {
        let base = self.adapter_of(id).map(|(base, _)| base);
        let Ok(slot) = self.find(Some(base.as_deref().unwrap_or(id))) else { return };
        if let Ok(mut place) = slot.place.try_lock()
            && place.as_ref().is_some_and(|resident| !resident.is_used())
        {
            slot.let_go(&mut place, "asked");
        }
    }

    /// Lets go of models that nobody has used for as long as they are to stay; for `usual` where nothing
    /// was said of one.
    pub(crate) fn let_go_of_unused(&self, usual: Option<Duration>) {
        let now = self.now();
        for slot in self.slots() {
            let Ok(mut place) = slot.place.try_lock() else { continue };
            let Some(resident) = place.as_ref() else { continue };
            if resident.is_used() {
                slot.seen.store(now, Ordering::Relaxed);
                continue;
            }
            let unused =
                Duration::from_millis(now.saturating_sub(slot.seen.load(Ordering::Relaxed)));
            if slot.stay().after_use(usual).is_some_and(|time| unused >= time) {
                slot.let_go(&mut place, "unused");
            }
        }
    }

    fn now(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Memory for a model. Those that nobody uses are let go of, the longest unused first; where that is
    /// not enough, it waits for those that are used. None where another of its id was offered meanwhile.
    async fn make_room(&self, wanted: &Arc<Slot>) -> Result<Option<Share>, Refusal> {
        let (id, bytes) = (&wanted.offer.id, wanted.offer.bytes);
        if let Some(budget) = self.memory.budget().filter(|&budget| bytes > budget) {
            return Err(Refusal::unavailable(
                format!(
                    "the model {id:?} takes {bytes} bytes of memory, and the budget is {budget}"
                ),
                "start the server with more --memory",
            )
            .lasting());
        }
        let mut more = 0;
        loop {
            let slots = self.slots();
            if !slots.iter().any(|slot| Arc::ptr_eq(slot, wanted)) {
                return Ok(None);
            }
            if let Some(share) = self.memory.take(bytes) {
                return Ok(Some(share));
            }
            self.let_go(&slots, bytes, more);
            // Those that end give their memory back a moment later.
            let is_freed = tokio::time::timeout(BREATH, self.memory.freed()).await.is_ok();
            more = usize::from(!is_freed);
        }
    }

    /// Lets go of models that nobody uses until those that stay leave `bytes` free, and of `more`.
    fn let_go(&self, slots: &[Arc<Slot>], bytes: u64, more: usize) {
        let Some(budget) = self.memory.budget() else { return };
        let (mut held, mut idle) = (bytes, BTreeMap::new());
        for slot in slots {
            let Ok(place) = slot.place.try_lock() else { continue };
            let Some(resident) = place.as_ref() else { continue };
            held = held.saturating_add(slot.offer.bytes);
            if !resident.is_used() {
                idle.insert(slot.used.load(Ordering::Relaxed), slot);
            }
        }
        let mut more = more;
        while held > budget || more > 0 {
            let Some((_, slot)) = idle.pop_first() else { return };
            let Ok(mut place) = slot.place.try_lock() else { continue };
            if held <= budget {
                more -= 1;
            }
            slot.let_go(&mut place, "for another");
            held = held.saturating_sub(slot.offer.bytes);
        }
    }
}

impl Slot {
    /// Lets go of what is in its place.
    fn let_go(&self, place: &mut Option<Arc<Resident>>, why: &'static str) {
        if place.take().is_some() {
            tracing::info!(model = self.offer.id, why, "let go of");
        }
    }

    fn keep(&self, stay: Stay) {
        *self.stay.write().unwrap_or_else(PoisonError::into_inner) = stay;
    }

    fn stay(&self) -> Stay {
        *self.stay.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn standing(&self) -> Standing {
        // One that is being loaded is not there yet.
        let place = self.place.try_lock().ok();
        let resident = place.as_ref().and_then(|place| place.as_ref());
        Standing {
            id: self.offer.id.clone(),
            created: self.offer.created,
            about: self.offer.about.clone(),
            adapters: self
                .offer
                .adapters
                .iter()
                .map(|name| format!("{}:{name}", self.offer.id))
                .collect(),
            loaded: resident.map(|resident| resident.context),
            gauges: self.gauges.clone(),
        }
    }
}

/// Loads a model into its place.
async fn load(
    slot: Arc<Slot>,
    mut place: OwnedMutexGuard<Option<Arc<Resident>>>,
    _one: OwnedMutexGuard<()>,
    share: Share,
    options: SchedulerOptions,
) -> Result<Arc<Resident>, Refusal> {
    let loading = slot.clone();
    let loaded = tokio::task::spawn_blocking(move || {
        let loaded = (loading.offer.load)()?;
        Resident::start(&loading.offer, loaded, options, loading.gauges.clone(), share)
    });
    let id = &slot.offer.id;
    match loaded.await {
        Ok(Ok(resident)) => {
            tracing::info!(model = id, "loaded");
            let resident = Arc::new(resident);
            *slot.resident.write().unwrap_or_else(PoisonError::into_inner) =
                Arc::downgrade(&resident);
            // What was said of the last one went with it.
            slot.keep(Stay::Usual);
            *place = Some(resident.clone());
            Ok(resident)
        }
        Ok(Err(message)) => {
            tracing::error!(model = id, reason = message, "cannot be loaded");
            Err(Refusal::unavailable(
                format!("the model {id:?} cannot be loaded: {message}"),
                "GET /v1/models lists the others",
            ))
        }
        Err(_) => Err(Refusal::broken("loading a model ended early")),
    }
}

impl Resident {
    /// Starts the thread that owns the engine; it ends when this value and all requests are gone, and
    /// with it the engine's memory.
    fn start(
        offer: &Offer,
        loaded: Loaded,
        options: SchedulerOptions,
        gauges: Arc<Gauges>,
        share: Share,
    ) -> Result<Resident, String> {
        let id = &offer.id;
        let Loaded { mut engine, tokenizer, template, adapters } = loaded;
        for LoadedAdapter { adapter, .. } in &adapters {
            engine.introduce(adapter.clone()).map_err(|error| error.to_string())?;
        }
        let (sender, inbox) = mpsc::channel();
        let block = engine.cache_bytes(1).max(1);
        let tokens_of_block = (1..).find(|&n| engine.cache_bytes(n + 1) > block).unwrap_or(1);
        let (vocab_size, context) = (engine.config().vocab_size, engine.context());
        let d_model = engine.config().d_model;
        let cache_tokens = engine.blocks().1.saturating_mul(tokens_of_block);
        let parameters = Parameters::of(engine.model().clone());
        let words = tokenizer.clone();
        let thread = std::thread::Builder::new()
            .name(format!("model {id}"))
            .spawn(move || {
                Scheduler::new(engine, words, inbox, options, gauges).run();
                drop(share);
            })
            .map_err(|error| error.to_string())?;
        Ok(Resident {
            id: id.to_string(),
            tokenizer,
            template,
            about: offer.about.clone(),
            vocab_size,
            d_model,
            context,
            cache_tokens,
            parameters,
            sender,
            thread: Arc::new(thread),
            grammars: Arc::default(),
            adapter: None,
            adapters,
            _base: None,
        })
    }

    /// The same model with one of its adapters.
    fn beside(self: &Arc<Resident>, name: &str) -> Option<Arc<Resident>> {
        let found = self.adapters.iter().find(|known| known.name == name)?;
        Some(Arc::new(Resident {
            id: format!("{}:{name}", self.id),
            tokenizer: self.tokenizer.clone(),
            template: found.template.clone().or_else(|| self.template.clone()),
            about: self.about.clone(),
            vocab_size: self.vocab_size,
            d_model: self.d_model,
            context: self.context,
            cache_tokens: self.cache_tokens,
            parameters: self.parameters.clone(),
            sender: self.sender.clone(),
            thread: self.thread.clone(),
            grammars: self.grammars.clone(),
            adapter: Some(found.adapter.clone()),
            adapters: Vec::new(),
            _base: Some(self.clone()),
        }))
    }

    /// True while a request holds it, beside its place on the shelf.
    fn is_used(self: &Arc<Resident>) -> bool {
        Arc::strong_count(self) > 1
    }

    /// True once its thread has ended, which it should not while this value is there.
    fn is_over(&self) -> bool {
        self.thread.is_finished()
    }

    /// Asks the model's thread.
    pub(crate) fn submit(&self, request: Request) -> Result<(), Refusal> {
        self.send(Order::Request(Box::new(request)))
    }

    /// Has the model's thread do something between its steps.
    pub(crate) fn charge(&self, task: impl Task + 'static) -> Result<(), Refusal> {
        self.send(Order::Task(Box::new(task)))
    }

    fn send(&self, order: Order) -> Result<(), Refusal> {
        self.sender.send(order).map_err(|_| {
            tracing::error!(model = self.id, "the thread of a model has ended");
            Refusal::broken("the thread of the model has ended")
        })
    }

    /// What the model is.
    pub(crate) fn config(&self) -> &Config {
        self.parameters.model().config()
    }

    /// The longest prompt that leaves room for one more token.
    pub(crate) fn longest_prompt(&self) -> usize {
        self.context.min(self.cache_tokens).saturating_sub(1)
    }

    /// A grammar at the beginning of its text. The vocabulary is prepared when the first is asked for.
    pub(crate) fn grammar(&self, source: &GrammarSource<'_>) -> Result<Grammar, Refusal> {
        let vocabulary = self.grammars.get_or_init(|| {
            let end = self.tokenizer.end_ids().first().ok_or("the model has no end token")?;
            let mut pieces = pieces(&self.tokenizer);
            // A model may have more rows than its tokenizer has tokens.
            pieces.resize(self.vocab_size.max(pieces.len()), Vec::new());
            GrammarVocabulary::new(&pieces, *end).map_err(|error| error.to_string())
        });
        match vocabulary {
            Ok(vocabulary) => vocabulary.compile(source).map_err(|error| Refusal::of_model(&error)),
            Err(message) => {
                Err(Refusal::bad(message.as_str(), "ask without a schema, a grammar and tools"))
            }
        }
    }

    /// What a text begins with where nothing is given: the model's own start tokens, else the token
    /// that separates documents, else a line's end, as for a model of characters.
    pub(crate) fn start_tokens(&self) -> Vec<u32> {
        let tokenizer = &self.tokenizer;
        let own = tokenizer.start_ids();
        if !own.is_empty() {
            return own.to_vec();
        }
        let separator = tokenizer.token_id("<|endoftext|>");
        let one = tokenizer.bos().or(separator).or(tokenizer.eos());
        one.map_or_else(|| tokenizer.encode("\n", Special::None), |one| vec![one])
    }
}

/// The bytes of each token (V), empty for special ones.
fn pieces(tokenizer: &Tokenizer) -> Vec<Vec<u8>> {
    (0..tokenizer.vocab_size() as u32)
        .map(|id| match tokenizer.is_special(id) {
            true => Vec::new(),
            false => tokenizer.token_bytes(id).to_vec(),
        })
        .collect()
}

fn unknown(id: &str, slots: &[Arc<Slot>]) -> Refusal {
    let id: String = id.chars().take(80).collect();
    // As much of it as a name has: who sends a megabyte holds nobody up.
    let lower: String = id.chars().take(200).flat_map(char::to_lowercase).collect();
    let mut near: Vec<(usize, &str)> = slots
        .iter()
        .map(|slot| (levenshtein(&slot.offer.id.to_lowercase(), &lower), slot.offer.id.as_str()))
        .filter(|(distance, known)| {
            *distance <= id.len().div_ceil(3) || known.to_lowercase().contains(&lower)
        })
        .collect();
    near.sort();
    let near: Vec<&str> = near.into_iter().take(3).map(|(_, id)| id).collect();
    let hint = match near.is_empty() {
        true => "GET /v1/models lists the models that are here".to_string(),
        false => format!("did you mean {}?", near.join(" or ")),
    };
    Refusal::not_found("model_not_found", format!("there is no model {id:?}"), hint).about("model")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offer(id: &str, bytes: u64) -> Offer {
        let load = Box::new(|| Err("no file".to_string()));
        Offer {
            id: id.into(),
            bytes,
            created: 0,
            adapters: Vec::new(),
            about: About::default(),
            load,
        }
    }

    #[test]
    fn an_unknown_name_is_answered_with_the_nearest() {
        let models = Models::new(None);
        for id in ["assistant", "stories260K", "Qwen3-0.6B"] {
            models.offer(offer(id, 0));
        }
        let check = |id: &str, expected: &str| {
            let hint = unknown(id, &models.slots()).hint;
            assert!(hint.contains(expected), "{id}: {hint}");
        };
        check("asistant", "did you mean assistant?");
        check("stories", "did you mean stories260K?");
        check("qwen", "Qwen3-0.6B");
        check("something else entirely", "GET /v1/models");
        check(&"x".repeat(100_000), "GET /v1/models");
    }

    #[test]
    fn an_offer_of_the_same_id_replaces_the_other() {
        let models = Models::new(None);
        models.offer(offer("a", 1));
        models.offer(offer("b", 2));
        models.offer(Offer { created: 7, ..offer("a", 3) });
        let standings = models.standings();
        let list: Vec<_> = standings.iter().map(|one| (one.id.as_str(), one.created)).collect();
        assert_eq!(list, [("a", 7), ("b", 0)]);
    }
}
