//! The server: its options, its socket, its routes.

use std::collections::hash_map::RandomState;
use std::fmt;
use std::hash::BuildHasher;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::{Notify, Semaphore};
use tokio_rustls::TlsAcceptor;

use crate::Error;
use crate::api;
use crate::body::BodyLimits;
use crate::certificate::Certificate;
use crate::connection::{self, ConnectionLimits, Phase};
use crate::gate::Gate;
use crate::keys::Keys;
use crate::models::Models;
use crate::refusal::Refusal;
use crate::scheduler::{SchedulerOptions, Ticket};

/// The local time, as seconds since 1970-01-01 00:00.
pub type Clock = Arc<dyn Fn() -> i64 + Send + Sync>;

/// How a server is.
#[derive(Clone)]
pub struct ServerOptions {
    /// Where it listens; port 0 is any that is free.
    pub address: SocketAddr,
    /// Who may ask; without a key everyone who can reach it, which then is this machine alone.
    pub keys: Keys,
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
    /// Models to load before they are asked for.
    pub preload: Vec<String>,
}

impl Default for ServerOptions {
    fn default() -> ServerOptions {
        ServerOptions {
            address: SocketAddr::from(([127, 0, 0, 1], 8080)),
            keys: Keys::default(),
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
    in_flight: Arc<AtomicUsize>,
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
    /// address is taken or not this machine's.
    pub fn bind(options: ServerOptions, models: Models) -> Result<Server, Error> {
        let address = options.address;
        if !address.ip().is_loopback() && options.keys.is_empty() {
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
        let gate = Gate {
            keys: options.keys.clone(),
            hosts: options.hosts.clone(),
            origins: options.origins.clone(),
        };
        let service = Arc::new(Service {
            models,
            options,
            ids: Ids::default(),
            in_flight: Arc::default(),
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
        let served = runtime.block_on(async {
            let listener = tokio::net::TcpListener::from_std(listener)
                .map_err(|source| Error::System { operation: "listen", source })?;
            tokio::spawn(preload(service.clone()));
            let enter = |phase| match phase {
                Phase::Stopping => service.is_stopping.store(true, Ordering::Relaxed),
                Phase::Over => service.is_over.store(true, Ordering::Relaxed),
            };
            connection::serve(listener, acceptor, router, limits, &stop, enter).await;
            Ok(())
        });
        // A grammar that is being compiled is nobody's any more.
        runtime.shutdown_timeout(Duration::from_secs(1));
        served
    }
}

/// Loads what is to be there before anybody asks. Whoever asks for a model meanwhile waits for it.
async fn preload(service: Arc<Service>) {
    for id in &service.options.preload {
        if let Err(refusal) = service.models.get(Some(id.as_str()), &service.scheduling()).await {
            tracing::error!(model = id, reason = refusal.message, "not loaded ahead");
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
        Ticket::take(&self.in_flight, most).ok_or_else(|| Refusal::busy(most))
    }

    /// Requests in flight.
    pub(crate) fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::Relaxed)
    }

    pub(crate) fn is_stopping(&self) -> bool {
        self.is_stopping.load(Ordering::Relaxed)
    }

    pub(crate) fn scheduling(&self) -> SchedulerOptions {
        SchedulerOptions {
            slots: self.options.slots,
            spare: self.options.spare_bytes,
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
