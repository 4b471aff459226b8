//! The models that a server has: loaded when they are first asked for, within a budget of memory, and
//! let go of when their memory is needed and nobody uses them.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, PoisonError, RwLock, mpsc};
use std::thread::JoinHandle;

use llmos_model::Engine;
use llmos_model::grammar::{Grammar, GrammarSource, GrammarVocabulary};
use llmos_tokenizer::{Special, Tokenizer};
use tokio::sync::Mutex;

use crate::refusal::Refusal;
use crate::scheduler::{Request, Scheduler, SchedulerOptions};

/// A model in memory.
pub struct Loaded {
    /// Its engine, without sequences.
    pub engine: Engine,
    /// Its vocabulary.
    pub tokenizer: Arc<Tokenizer>,
    /// Its chat template; none where it was not made to be talked with.
    pub template: Option<String>,
    /// What its file is known by, `sha256:…`; answers that are stored name it.
    pub digest: Option<String>,
}

/// Loads a model; the text says why it cannot.
pub type Load = Box<dyn Fn() -> Result<Loaded, String> + Send + Sync>;

/// A model that can be had.
pub struct Offer {
    /// What clients call it.
    pub id: String,
    /// Memory that it will take, weights and cache together.
    pub bytes: u64,
    /// Seconds since 1970 when its file was made.
    pub created: u64,
    /// Loads it.
    pub load: Load,
}

/// The models of a server.
pub struct Models {
    budget: Option<u64>,
    /// In the order that they were offered; the first is the one of who names none.
    shelf: RwLock<Vec<Arc<Slot>>>,
    /// One model is loaded at a time, so that the budget holds.
    loading: Mutex<()>,
    clock: AtomicU64,
}

struct Slot {
    offer: Offer,
    resident: Mutex<Option<Arc<Resident>>>,
    /// When it was last asked for, by the clock of [`Models`].
    used: AtomicU64,
}

/// A model that runs on a thread of its own.
pub(crate) struct Resident {
    pub(crate) id: String,
    pub(crate) tokenizer: Arc<Tokenizer>,
    pub(crate) template: Option<String>,
    pub(crate) digest: Option<String>,
    pub(crate) vocab_size: usize,
    /// The longest context.
    pub(crate) context: usize,
    /// Tokens that the cache holds, all sequences together.
    pub(crate) cache_tokens: usize,
    sender: mpsc::Sender<Request>,
    thread: JoinHandle<()>,
    grammars: OnceLock<Result<GrammarVocabulary, String>>,
}

impl Models {
    /// No models yet; all that are loaded take at most `budget` bytes, if there is one.
    pub fn new(budget: Option<u64>) -> Models {
        Models {
            budget,
            shelf: RwLock::default(),
            loading: Mutex::new(()),
            clock: AtomicU64::new(0),
        }
    }

    /// Offers a model. One of the same id is replaced: who uses it goes on with it, who asks from now
    /// on gets the new one.
    pub fn offer(&self, offer: Offer) {
        let slot = Arc::new(Slot { offer, resident: Mutex::new(None), used: AtomicU64::new(0) });
        let mut shelf = self.shelf.write().unwrap_or_else(PoisonError::into_inner);
        match shelf.iter_mut().find(|old| old.offer.id == slot.offer.id) {
            Some(old) => *old = slot,
            None => shelf.push(slot),
        }
    }

    fn slots(&self) -> Vec<Arc<Slot>> {
        self.shelf.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Ids with the times that their files were made, in the order that they were offered.
    pub(crate) fn list(&self) -> Vec<(String, u64)> {
        let slots = self.slots();
        slots.iter().map(|slot| (slot.offer.id.clone(), slot.offer.created)).collect()
    }

    /// What is said of an id that is no model's, with the nearest ones.
    pub(crate) fn unknown(&self, id: &str) -> Refusal {
        unknown(id, &self.slots())
    }

    /// A model's context, where it is loaded.
    pub(crate) fn loaded_context(&self, id: &str) -> Option<usize> {
        let slot = self.slots().into_iter().find(|slot| slot.offer.id == id)?;
        let resident = slot.resident.try_lock().ok()?;
        resident.as_ref().map(|resident| resident.context)
    }

    /// The model of that id, loaded if it is not; the first one where none is named.
    pub(crate) async fn get(
        &self,
        id: Option<&str>,
        options: &SchedulerOptions,
    ) -> Result<Arc<Resident>, Refusal> {
        let slots = self.slots();
        let found = match id {
            None | Some("") => slots.first(),
            Some(id) => slots
                .iter()
                .find(|slot| slot.offer.id == id)
                .or_else(|| slots.iter().find(|slot| slot.offer.id.eq_ignore_ascii_case(id))),
        };
        let Some(slot) = found else { return Err(unknown(id.unwrap_or_default(), &slots)) };
        slot.used.store(self.clock.fetch_add(1, Ordering::Relaxed) + 1, Ordering::Relaxed);
        let mut place = slot.resident.lock().await;
        // A thread that ended early is no reason to say no for ever.
        if let Some(resident) = place.as_ref().filter(|resident| !resident.thread.is_finished()) {
            return Ok(resident.clone());
        }
        *place = None;
        let _one = self.loading.lock().await;
        self.make_room(slot, &slots)?;
        let (loading, options) = (slot.clone(), options.clone());
        let loaded = tokio::task::spawn_blocking(move || {
            let loaded = (loading.offer.load)()?;
            Resident::start(&loading.offer.id, loaded, options)
        });
        let resident = match loaded.await {
            Ok(Ok(resident)) => Arc::new(resident),
            Ok(Err(message)) => {
                tracing::error!(model = slot.offer.id, reason = message, "cannot be loaded");
                return Err(Refusal::unavailable(
                    format!("the model {:?} cannot be loaded: {message}", slot.offer.id),
                    "GET /v1/models lists the others",
                ));
            }
            Err(_) => return Err(Refusal::broken("loading a model ended early")),
        };
        tracing::info!(model = slot.offer.id, "loaded");
        *place = Some(resident.clone());
        Ok(resident)
    }

    /// Lets go of models that nobody uses, the longest unused first, until there is room.
    fn make_room(&self, wanted: &Arc<Slot>, slots: &[Arc<Slot>]) -> Result<(), Refusal> {
        let Some(budget) = self.budget else { return Ok(()) };
        let mut taken = wanted.offer.bytes;
        if taken > budget {
            return Err(Refusal::unavailable(
                format!(
                    "the model {:?} takes {taken} bytes of memory, and the budget is {budget}",
                    wanted.offer.id
                ),
                "start the server with more --memory",
            ));
        }
        let mut idle = BTreeMap::new();
        for slot in slots.iter().filter(|slot| !Arc::ptr_eq(slot, wanted)) {
            let Ok(place) = slot.resident.try_lock() else { continue };
            if let Some(resident) = place.as_ref() {
                taken = taken.saturating_add(slot.offer.bytes);
                // Whoever uses it holds it.
                if Arc::strong_count(resident) == 1 {
                    idle.insert(slot.used.load(Ordering::Relaxed), slot);
                }
            }
        }
        while taken > budget {
            let Some((_, slot)) = idle.pop_first() else {
                return Err(Refusal::unavailable(
                    "all memory is taken by models that are in use",
                    "try again after the seconds in Retry-After",
                ));
            };
            if let Ok(mut place) = slot.resident.try_lock() {
                *place = None;
                taken -= slot.offer.bytes;
                tracing::info!(model = slot.offer.id, "let go of");
            }
        }
        Ok(())
    }
}

impl Resident {
    /// Starts the thread that owns the engine; it ends when this value and all requests are gone.
    fn start(id: &str, loaded: Loaded, options: SchedulerOptions) -> Result<Resident, String> {
        let Loaded { engine, tokenizer, template, digest } = loaded;
        let (sender, inbox) = mpsc::channel();
        let block = engine.cache_bytes(1).max(1);
        let tokens_of_block = (1..).find(|&n| engine.cache_bytes(n + 1) > block).unwrap_or(1);
        let (vocab_size, context) = (engine.config().vocab_size, engine.context());
        let cache_tokens = engine.blocks().1.saturating_mul(tokens_of_block);
        let words = tokenizer.clone();
        let thread = std::thread::Builder::new()
            .name(format!("model {id}"))
            .spawn(move || Scheduler::new(engine, words, inbox, options).run())
            .map_err(|error| error.to_string())?;
        Ok(Resident {
            id: id.to_string(),
            tokenizer,
            template,
            digest,
            vocab_size,
            context,
            cache_tokens,
            sender,
            thread,
            grammars: OnceLock::new(),
        })
    }

    /// Asks the model's thread.
    pub(crate) fn submit(&self, request: Request) -> Result<(), Refusal> {
        self.sender.send(request).map_err(|_| {
            tracing::error!(model = self.id, "the thread of a model has ended");
            Refusal::broken("the thread of the model has ended")
        })
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
    let lower = id.to_lowercase();
    let mut near: Vec<(usize, &str)> = slots
        .iter()
        .map(|slot| (distance(&slot.offer.id.to_lowercase(), &lower), slot.offer.id.as_str()))
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

/// Edits that lead from one text to the other (Levenshtein), of texts that are not absurdly long.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().take(200).collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().take(200).enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, &y) in b.iter().enumerate() {
            let change = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = change.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offer(id: &str, bytes: u64) -> Offer {
        let load = Box::new(|| Err("no file".to_string()));
        Offer { id: id.into(), bytes, created: 0, load }
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
        assert_eq!(models.list(), [("a".to_string(), 7), ("b".to_string(), 0)]);
    }
}
