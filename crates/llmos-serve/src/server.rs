//! The server: its options, its socket, its routes.

use std::collections::BTreeMap;
use std::collections::hash_map::RandomState;
use std::fmt;
use std::hash::BuildHasher;
use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::sync::{Notify, Semaphore};
use tokio_rustls::TlsAcceptor;

use crate::Error;
use crate::api::{self, Background, ResponseMemory, ResponseStore};
use crate::archive::Archive;
use crate::body::BodyLimits;
use crate::certificate::Certificate;
use crate::connection::{self, ConnectionLimits, Phase};
use crate::deletions::Deletions;
use crate::flights::{Flights, Ticket};
use crate::gate::Gate;
use crate::keyring::{self, Keyring};
use crate::keys::{Caller, Keys};
use crate::models::Models;
use crate::outside::{Keeper, Reporter, Runs};
use crate::refusal::Refusal;
use crate::scheduler::SchedulerOptions;
use crate::watch::Metrics;

/// The local time, as seconds since 1970-01-01 00:00.
pub type Clock = Arc<dyn Fn() -> i64 + Send + Sync>;

/// How a server is.
#[derive(Clone)]
pub struct ServerOptions {
    /// Where it listens; port 0 is any that is free.
    pub address: SocketAddr,
    /// Who may ask, beside those whose keys are in the store; without a key everyone who can reach
    /// it, which then is this machine alone.
    pub keys: Keys,
    /// Where conversations and keys are kept; without it nothing is remembered.
    pub archive: Option<Archive>,
    /// Names that it answers to, beside `localhost` and addresses.
    pub hosts: Vec<String>,
    /// Pages of others that may ask, `https://chat.example`.
    pub origins: Vec<String>,
    /// What it shows to who asks by TLS; none is plain HTTP.
    pub certificate: Option<Certificate>,
    /// Sequences that a model writes at once.
    pub slots: usize,
    /// Requests that may wait beside those that are answered.
    pub queue: usize,
    /// Most bytes of a request's body.
    pub body_bytes: usize,
    /// Time for a request's body.
    pub body_time: Duration,
    /// Time for a request's head.
    pub head_time: Duration,
    /// Time for an answer.
    pub request_time: Duration,
    /// Time in which a client must take something of what is sent to it.
    pub stall_time: Duration,
    /// Time for what is under way when the server stops.
    pub grace: Duration,
    /// Connections at once.
    pub connections: usize,
    /// Bytes for sequences of a model that had to give their cache memory to others.
    pub spare_bytes: usize,
    /// What chat templates that tell the time are told.
    pub clock: Option<Clock>,
    /// Models to load before they are asked for. The server is not ready before they are.
    pub preload: Vec<String>,
    /// Where responses are kept, so that the next can go on from them.
    pub responses: Arc<dyn ResponseStore>,
    /// Time after which a model that nobody uses is let go of; none keeps it until its memory is needed.
    pub keep_alive: Option<Duration>,
    /// Who brings models and makes them; without one neither can be asked for.
    pub keeper: Option<Arc<dyn Keeper>>,
    /// Training runs that may be looked at.
    pub runs: Option<Arc<dyn Runs>>,
    /// Is told of each request once it is over.
    pub report: Option<Reporter>,
    /// Measures the memory of the process, for `/metrics`.
    pub process_bytes: Option<fn() -> Option<u64>>,
}

impl Default for ServerOptions {
    fn default() -> ServerOptions {
        ServerOptions {
            address: SocketAddr::from(([127, 0, 0, 1], 8080)),
            keys: Keys::default(),
            archive: None,
            hosts: Vec::new(),
            origins: Vec::new(),
            certificate: None,
            slots: 16,
            queue: 64,
            body_bytes: 16 << 20,
            body_time: Duration::from_secs(30),
            head_time: Duration::from_secs(10),
            // What OpenAI's clients wait for an answer that is not streamed.
            request_time: Duration::from_secs(600),
            stall_time: Duration::from_secs(30),
            grace: Duration::from_secs(30),
            connections: 1024,
            spare_bytes: 256 << 20,
            clock: None,
            preload: Vec::new(),
            responses: Arc::new(ResponseMemory::default()),
            keep_alive: None,
            keeper: None,
            runs: None,
            report: None,
            process_bytes: None,
        }
    }
}

impl fmt::Debug for ServerOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerOptions").field("address", &self.address).finish_non_exhaustive()
    }
}

/// A server that listens, and serves once it is run.
pub struct Server {
    listener: TcpListener,
    address: SocketAddr,
    acceptor: Option<TlsAcceptor>,
    service: Arc<Service>,
    gate: Gate,
    stop: Arc<Notify>,
}

/// Stops a server, from any thread.
#[derive(Clone)]
pub struct Stopper {
    stop: Arc<Notify>,
}

impl Stopper {
    /// No new connections; what is under way has the time of [`ServerOptions::grace`].
    pub fn stop(&self) {
        self.stop.notify_one();
    }
}

/// What all requests share.
pub(crate) struct Service {
    pub(crate) models: Models,
    pub(crate) options: ServerOptions,
    pub(crate) ids: Ids,
    pub(crate) keyring: Arc<Keyring>,
    /// The cookie of the page's sessions.
    pub(crate) cookie: String,
    flights: Arc<Flights>,
    deletions: Deletions,
    /// Responses that are written although nobody listens.
    pub(crate) background: Background,
    pub(crate) metrics: Metrics,
    /// Held while a model is pulled or converted: one at a time.
    pub(crate) chore: Arc<tokio::sync::Mutex<()>>,
    pub(crate) began: SystemTime,
    /// Models that are to be loaded before the server is ready.
    awaited: Mutex<Vec<String>>,
    is_stopping: AtomicBool,
    /// Turns of calls that may have a grammar to compile.
    pub(crate) compiling: Arc<Semaphore>,
    /// Raised when what is still written is broken off.
    is_over: Arc<AtomicBool>,
}

impl Server {
    /// Listens.
    ///
    /// # Errors
    /// [`Error::Open`] for an address that others can reach without a key, [`Error::Option`] for no slots
    /// or no connections, [`Error::Certificate`] for one that cannot be shown, [`Error::Listen`] if the
    /// address is taken or not this machine's, [`Error::Store`] if the keys cannot be read.
    pub fn bind(options: ServerOptions, models: Models) -> Result<Server, Error> {
        let address = options.address;
        let keyring = Arc::new(Keyring::new(&options.keys));
        if let Some(archive) = &options.archive {
            keyring.replace(archive.ask_here(keyring::snapshot)?);
        }
        if !address.ip().is_loopback() && keyring.is_open() {
            return Err(Error::Open { address });
        }
        for (option, value) in [("slots", options.slots), ("connections", options.connections)] {
            if value == 0 {
                let (expected, got) = ("at least 1".to_string(), value.to_string());
                return Err(Error::Option { option, expected, got });
            }
        }
        let acceptor = options.certificate.as_ref().map(Certificate::acceptor).transpose()?;
        let listen = |source| Error::Listen { address, source };
        let listener = TcpListener::bind(address).map_err(listen)?;
        listener.set_nonblocking(true).map_err(listen)?;
        let address = listener.local_addr().map_err(listen)?;
        // Cookies are not kept apart by port, so that servers of one machine need names for theirs.
        let cookie = format!("llmos-{}", address.port());
        let gate = Gate {
            keyring: keyring.clone(),
            cookie: cookie.clone(),
            is_secure: options.certificate.is_some(),
            hosts: options.hosts.clone(),
            origins: options.origins.clone(),
        };
        let service = Arc::new(Service {
            models,
            awaited: Mutex::new(options.preload.clone()),
            options,
            ids: Ids::default(),
            keyring,
            cookie,
            flights: Arc::default(),
            deletions: Deletions::default(),
            background: Background::default(),
            metrics: Metrics::default(),
            chore: Arc::default(),
            began: SystemTime::now(),
            is_stopping: AtomicBool::new(false),
            compiling: Arc::new(Semaphore::new(COMPILING)),
            is_over: Arc::default(),
        });
        Ok(Server { listener, address, acceptor, service, gate, stop: Arc::new(Notify::new()) })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Whether nobody is asked for a key.
    pub fn is_open(&self) -> bool {
        self.service.keyring.is_open()
    }

    /// What stops it.
    pub fn stopper(&self) -> Stopper {
        Stopper { stop: self.stop.clone() }
    }

    /// Serves on this thread until it is stopped.
    ///
    /// # Errors
    /// [`Error::System`] where the system gives no timers or no threads.
    pub fn run(self) -> Result<(), Error> {
        // One thread carries all sockets: the models' own threads need the processors.
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .enable_time()
            .max_blocking_threads(BLOCKING)
            .build()
            .map_err(|source| Error::System { operation: "start the server", source })?;
        let Server { listener, acceptor, service, gate, stop, .. } = self;
        let options = &service.options;
        let limits = ConnectionLimits {
            count: options.connections,
            head: options.head_time,
            stall: options.stall_time,
            grace: options.grace,
        };
        let router = api::router(service.clone(), gate);
        let keeper = service.clone();
        let served = runtime.block_on(async {
            let listener = tokio::net::TcpListener::from_std(listener)
                .map_err(|source| Error::System { operation: "listen", source })?;
            tokio::spawn(preload(service.clone()));
            tokio::spawn(follow_store(service.clone()));
            tokio::spawn(tidy_up(service.clone()));
            let enter = |phase| match phase {
                Phase::Stopping => service.is_stopping.store(true, Ordering::Relaxed),
                Phase::Over => service.is_over.store(true, Ordering::Relaxed),
            };
            connection::serve(listener, acceptor, router, limits, &stop, enter).await;
            Ok(())
        });
        // A grammar that is being compiled is nobody's any more.
        runtime.shutdown_timeout(Duration::from_secs(1));
        // Answers that were broken off are on their way to the store.
        if let Some(archive) = &keeper.options.archive {
            keeper.keyring.tell(archive);
            archive.settle();
        }
        served
    }
}

/// Loads what is to be there before anybody asks. Whoever asks for a model meanwhile waits for it.
async fn preload(service: Arc<Service>) {
    // Nobody waits for an answer yet.
    let options = SchedulerOptions { patience: Duration::MAX, ..service.scheduling() };
    for id in &service.options.preload {
        if let Err(refusal) = service.models.get(Some(id.as_str()), &options).await {
            tracing::error!(model = id, reason = refusal.message, "not loaded ahead");
            // Whoever runs it sees at /readyz that it is not what it was to be.
            continue;
        }
        service.lock_awaited().retain(|awaited| awaited != id);
    }
}

/// Lets go of models that nobody has used for as long as they are to stay.
async fn tidy_up(service: Arc<Service>) {
    let usual = service.options.keep_alive;
    let shortest = usual.map_or(Duration::MAX, |usual| usual / 4);
    let pace = shortest.clamp(Duration::from_millis(50), Duration::from_secs(1));
    loop {
        tokio::time::sleep(pace).await;
        service.models.let_go_of_unused(usual);
    }
}

/// How often the store is asked for what other programs changed in it: a key that was revoked opens
/// nothing, and a conversation that was deleted is in no cache a second later.
const INTERVAL: Duration = Duration::from_secs(1);

/// Keeps the keys as the store has them, and heeds deletions, for as long as the server runs.
async fn follow_store(service: Arc<Service>) {
    let Some(archive) = &service.options.archive else { return };
    loop {
        tokio::time::sleep(INTERVAL).await;
        service.keyring.refresh(archive).await;
        // A store that cannot be read is asked again.
        if let Ok(Some(found)) = archive.ask(|store| Ok(store.deletions().ok())).await {
            service.heed(found);
        }
    }
}

/// Threads for what takes long without waiting: reading bodies, templates, grammars, loading.
const BLOCKING: usize = 8;

/// Grammars that are compiled at once, less than there are threads.
const COMPILING: usize = 2;

impl Service {
    /// A place among the requests in flight.
    ///
    /// # Errors
    /// As many as may are in flight, or the server is about to end.
    pub(crate) fn ticket(&self) -> Result<Arc<Ticket>, Refusal> {
        if self.is_stopping() {
            return Err(Refusal::unavailable("the server is stopping", "ask again in a while"));
        }
        let most = self.options.slots.saturating_add(self.options.queue);
        Ticket::take(&self.flights, most).ok_or_else(|| Refusal::busy(most, self.wait()))
    }

    /// A place for a request of a caller's, whose quotas have room for it.
    ///
    /// # Errors
    /// As [`Service::ticket`] and [`Service::admit`].
    pub(crate) fn place(&self, caller: Caller) -> Result<Arc<Ticket>, Refusal> {
        let ticket = self.ticket()?;
        self.admit(caller, &ticket)?;
        Ok(ticket)
    }

    /// Notes whose a place is. Where there are several keys, one cannot take all places: half of the
    /// queue is left for others. Then its quotas are looked at.
    ///
    /// # Errors
    /// The caller has as many places as one may, or has used a quota up.
    pub(crate) fn admit(&self, caller: Caller, ticket: &Ticket) -> Result<(), Refusal> {
        let most = match self.keyring.is_shared() {
            true => self.options.slots.saturating_add(self.options.queue.div_ceil(2)),
            false => usize::MAX,
        };
        if !ticket.claim(caller.owner, most) {
            return Err(Refusal::busy(most, self.wait()));
        }
        if caller == Caller::ANYONE {
            return Ok(());
        }
        let name = self.keyring.owner(caller)?;
        self.keyring.meters.admit(&name, self.keyring.quota(caller))
    }

    /// The time in which those that wait will have ended.
    fn wait(&self) -> Duration {
        self.flights.wait(self.in_flight().saturating_sub(self.options.slots).max(1))
    }

    /// Where conversations are kept.
    ///
    /// # Errors
    /// The server remembers nothing.
    pub(crate) fn archive(&self) -> Result<&Archive, Refusal> {
        self.options.archive.as_ref().ok_or_else(|| {
            let hint = "start the server without --no-store to keep conversations";
            Refusal::not_found("no_store", "this server keeps no conversations", hint)
        })
    }

    /// Forgets what is cached for owners of whom something was deleted since this was last heeded.
    pub(crate) fn heed(&self, deletions: BTreeMap<String, u64>) {
        for owner in self.deletions.news(deletions) {
            // A key that is gone finds nothing any more.
            if let Some(caller) = self.keyring.caller(&owner) {
                self.models.forget(caller.salt);
            }
        }
    }

    /// Counts tokens for a caller's quotas, where no listener does.
    pub(crate) fn spend(&self, caller: Caller, tokens: usize) {
        if let Some(name) = self.keyring.name(caller) {
            self.keyring.meters.spend(&name, tokens);
        }
    }

    /// Requests in flight.
    pub(crate) fn in_flight(&self) -> usize {
        self.flights.count()
    }

    /// A model that is to be loaded before the server is ready, and is not.
    pub(crate) fn awaited(&self) -> Option<String> {
        let awaited = self.lock_awaited().clone();
        awaited.into_iter().find(|id| self.models.loaded_context(id).is_none())
    }

    fn lock_awaited(&self) -> std::sync::MutexGuard<'_, Vec<String>> {
        self.awaited.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn is_stopping(&self) -> bool {
        self.is_stopping.load(Ordering::Relaxed)
    }

    pub(crate) fn scheduling(&self) -> SchedulerOptions {
        SchedulerOptions {
            slots: self.options.slots,
            spare: self.options.spare_bytes,
            patience: self.options.request_time,
            is_over: self.is_over.clone(),
        }
    }

    pub(crate) fn body_limits(&self) -> BodyLimits {
        BodyLimits { bytes: self.options.body_bytes, time: self.options.body_time }
    }
}

/// Names and numbers that nobody can guess, each given once.
#[derive(Default)]
pub(crate) struct Ids {
    state: RandomState,
    next: AtomicU64,
}

impl Ids {
    /// A number.
    pub(crate) fn number(&self) -> u64 {
        self.state.hash_one(self.next.fetch_add(1, Ordering::Relaxed))
    }

    /// A name with 32 digits behind `prefix`.
    pub(crate) fn name(&self, prefix: &str) -> String {
        format!("{prefix}{:016x}{:016x}", self.number(), self.number())
    }

    /// The name of a call: nine letters and digits, which Mistral's templates insist on.
    pub(crate) fn call(&self) -> String {
        const DIGITS: &[u8; 36] = b"0123456789abcdefghijklmnopqrstuvwxyz";
        let mut number = self.number();
        let digits = (0..9).map(|_| {
            let digit = DIGITS[(number % 36) as usize];
            number /= 36;
            char::from(digit)
        });
        digits.collect()
    }
}
