//! The loop of a model's thread: requests come in, the engine steps, a token is drawn wherever there
//! are logits.
//!
//! Who has a place in the engine is decided here: owners have equally many, and one that has more
//! gives one up where another waits. A request for several answers has as many places as can be had,
//! and writes the rest of its answers when there are more. How much of each step they get then is [`share`]'s to say.

mod gauges;
mod job;
mod lens;
mod place;
mod queue;
mod request;
mod share;
mod stops;
mod task;
mod writer;

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, TryRecvError};
use std::time::{Duration, Instant};

use llmos_model::engine::Event as EngineEvent;
use llmos_model::{Engine, Error};
use llmos_tokenizer::Tokenizer;

use crate::refusal::Refusal;
pub(crate) use gauges::Gauges;
use job::{Job, tell};
pub(crate) use lens::{Found, Glance, Lens, Progress, Raise};
use queue::{Queue, heaviest, held};
pub(crate) use request::{Dialogue, Event, Finish, Part, Pooling, Read, Request, Score};
use share::Share;
pub(crate) use task::{Order, Task};

/// How requests share one engine.
#[derive(Clone, Debug)]
pub(crate) struct SchedulerOptions {
    /// Sequences at once.
    pub(crate) slots: usize,
    /// Memory for sequences that had to give theirs in the engine to others, in bytes.
    pub(crate) spare: usize,
    /// How long a request waits for the memory of a model that is to be loaded.
    pub(crate) patience: Duration,
    /// Raised when all that is under way is broken off.
    pub(crate) is_over: Arc<AtomicBool>,
}

/// Owns an engine, and runs what it is asked for until nobody can ask any more.
pub(crate) struct Scheduler {
    engine: Engine,
    tokenizer: Arc<Tokenizer>,
    inbox: Receiver<Order>,
    slots: usize,
    spare: usize,
    is_over: Arc<AtomicBool>,
    queue: Queue,
    /// In order of admission.
    running: Vec<Job>,
    /// Paged out, the longest ago first.
    away: VecDeque<Job>,
    /// In order of arrival; the first is under way.
    tasks: VecDeque<Box<dyn Task>>,
    n_job: u64,
    share: Share,
    gauges: Arc<Gauges>,
}

impl Scheduler {
    pub(crate) fn new(
        engine: Engine,
        tokenizer: Arc<Tokenizer>,
        inbox: Receiver<Order>,
        options: SchedulerOptions,
        gauges: Arc<Gauges>,
    ) -> Scheduler {
        Scheduler {
            share: Share::of(engine.config()),
            engine,
            tokenizer,
            inbox,
            slots: options.slots,
            spare: options.spare,
            is_over: options.is_over,
            queue: Queue::default(),
            running: Vec::new(),
            away: VecDeque::new(),
            tasks: VecDeque::new(),
            n_job: 0,
            gauges,
        }
    }

    /// Runs until all senders are gone and all requests are answered.
    pub(crate) fn run(mut self) {
        while self.receive() {
            if self.is_over.load(Ordering::Relaxed) {
                self.break_off();
            }
            self.reap();
            self.admit();
            self.go_on_with_tasks();
            self.show();
            if self.running.is_empty() {
                continue;
            }
            let start = Instant::now();
            match self.engine.step_with(&mut self.share) {
                Ok(events) => self.note(&events),
                Err(Error::CacheFull { .. }) => {
                    self.make_room();
                    continue;
                }
                // Those that were cancelled are removed in the next round.
                Err(Error::Cancelled) => continue,
                Err(error) => {
                    tracing::error!(%error, "a step failed");
                    self.fail_all(&error);
                    continue;
                }
            }
            self.draw();
            self.share.note(start.elapsed());
        }
    }

    /// Says how it stands to whoever looks.
    fn show(&self) {
        let running = self.running.iter().map(Job::width).sum();
        self.gauges.set(self.queue.len(), running, self.away.len(), self.engine.blocks());
    }

    /// Takes what has come; waits where there is nothing to do. False once nothing can come any more
    /// and all is done.
    fn receive(&mut self) -> bool {
        let is_idle = self.running.is_empty() && self.away.is_empty() && self.tasks.is_empty();
        if is_idle && self.queue.is_empty() {
            self.show();
            match self.inbox.recv() {
                Ok(order) => self.take(order),
                Err(_) => return false,
            }
        }
        loop {
            match self.inbox.try_recv() {
                Ok(order) => self.take(order),
                Err(TryRecvError::Empty | TryRecvError::Disconnected) => return true,
            }
        }
    }

    fn take(&mut self, order: Order) {
        match order {
            Order::Request(request) => self.queue.push(*request),
            Order::Task(task) => self.tasks.push_back(task),
            Order::Forget(salt) => self.forget(salt),
        }
    }

    /// Forgets what is cached of texts of a salt, and lets those that are asked for already leave
    /// nothing behind.
    fn forget(&mut self, salt: u64) {
        self.engine.forget_salt(salt);
        let jobs = self.running.iter_mut().chain(&mut self.away).map(|job| &mut job.request);
        let all = jobs.chain(self.queue.iter_mut());
        all.filter(|request| request.salt == salt).for_each(|request| request.is_private = true);
    }

    /// Does a slice of the task that came first.
    fn go_on_with_tasks(&mut self) {
        if let Some(task) = self.tasks.front_mut()
            && task.go_on(&mut self.engine)
        {
            self.tasks.pop_front();
        }
    }

    /// Lets go of those whose client has gone or whose time is over.
    fn reap(&mut self) {
        let now = Instant::now();
        let is_late = |request: &Request| request.deadline.is_some_and(|deadline| now >= deadline);
        self.queue.retain(|request| {
            if is_late(request) {
                tell(request, Event::Failed(Refusal::timed_out()));
                return false;
            }
            !request.events.is_closed() && !request.cancel.load(Ordering::Relaxed)
        });
        let engine = &mut self.engine;
        let (kept, gone): (Vec<Job>, Vec<Job>) =
            std::mem::take(&mut self.running).into_iter().partition(|job| !job.is_deserted());
        gone.into_iter().for_each(|job| job.close(engine));
        let (kept, late): (Vec<Job>, Vec<Job>) =
            kept.into_iter().partition(|job| !is_late(&job.request));
        late.into_iter().for_each(|job| job.fail(engine, Refusal::timed_out()));
        self.running = kept;
        self.away.retain(|job| !job.is_deserted());
        while let Some(at) = self.away.iter().position(|job| is_late(&job.request)) {
            if let Some(job) = self.away.remove(at) {
                job.fail(engine, Refusal::timed_out());
            }
        }
    }

    /// Gives places to those that were away, then to those that wait, then to further answers of those
    /// that have a place.
    fn admit(&mut self) {
        self.fill();
        while let Some(job) = self.away.front() {
            let width = job.width().min(self.free()).max(1);
            let tokens = job.held(&self.engine).into_iter().take(width);
            let blocks: usize = tokens.map(|n| self.blocks(n + 1)).sum();
            let fits = self.free() >= width && self.has_room(blocks);
            if !self.running.is_empty() && (!fits || self.is_behind(job.request.owner)) {
                break;
            }
            let Some(job) = self.away.pop_front() else { return };
            if !self.bring_back(job, width) {
                return;
            }
        }
        while let Some(request) = self.queue.next(&self.running) {
            let owner = request.owner;
            let width = request.choices.min(self.free()).max(1);
            let blocks = self.blocks(request.tokens.len() + 1) + width - 1;
            let fits = self.free() >= width && self.has_room(blocks);
            if !fits && !self.running.is_empty() {
                if !self.give_way(owner, width) {
                    break;
                }
                continue;
            }
            // Who was away comes before who is new and has as much.
            let is_after =
                |job: &Job| held(owner, &self.running) >= held(job.request.owner, &self.running);
            if !self.running.is_empty() && self.away.front().is_some_and(is_after) {
                return;
            }
            let Some(request) = self.queue.pop(&self.running) else { return };
            self.n_job += 1;
            let begun = Job::begin(request, self.n_job, width, &mut self.engine, &self.tokenizer);
            match begun {
                Ok(job) => self.running.push(job),
                Err(refused) => {
                    let (error, request) = *refused;
                    tell(&request, Event::Failed(Refusal::of_model(&error)));
                }
            }
        }
        self.widen();
    }

    /// Where an answer has ended, the next of the same request takes its place.
    fn fill(&mut self) {
        let mut at = 0;
        while at < self.running.len() {
            let job = &mut self.running[at];
            match job.page_in(&mut self.engine, &mut self.spare) {
                Ok(true) => at += 1,
                // The others of it go on meanwhile.
                Ok(false) if job.present() > 0 => at += 1,
                Ok(false) => self.away.push_back(self.running.remove(at)),
                Err(error) => {
                    let job = self.running.remove(at);
                    job.fail(&mut self.engine, Refusal::of_model(&error));
                }
            }
        }
    }

    /// Lets requests write more of their answers at once: of the owner with the fewest sequences first,
    /// and those of owners with more give way.
    fn widen(&mut self) {
        loop {
            let jobs = self.running.iter().enumerate().filter(|(_, job)| job.parked() > 0);
            let poorest =
                jobs.min_by_key(|(_, job)| (held(job.request.owner, &self.running), job.number));
            let Some((at, job)) = poorest else { return };
            let owner = job.request.owner;
            let is_first = |other: &Job| {
                held(other.request.owner, &self.running) <= held(owner, &self.running)
            };
            if self.is_behind(owner) || self.away.front().is_some_and(is_first) {
                return;
            }
            let longest = job.held(&self.engine).into_iter().max().unwrap_or_default();
            if self.free() == 0 || !self.has_room(self.blocks(longest + 1)) {
                if !self.give_way(owner, 1) {
                    return;
                }
                continue;
            }
            let job = &mut self.running[at];
            let width = job.width();
            job.widen();
            match job.page_in(&mut self.engine, &mut self.spare) {
                Ok(true) => {}
                Ok(false) => {
                    // What is there stays there.
                    let _ = job.narrow(&mut self.engine, &mut self.spare, width);
                    return;
                }
                Err(error) => {
                    let job = self.running.remove(at);
                    job.fail(&mut self.engine, Refusal::of_model(&error));
                }
            }
        }
    }

    /// Takes one that was away up again, with at most `width` sequences at once; false if there is no
    /// memory for it now.
    fn bring_back(&mut self, mut job: Job, width: usize) -> bool {
        let narrowed = job.narrow(&mut self.engine, &mut self.spare, width);
        match narrowed.and_then(|()| job.page_in(&mut self.engine, &mut self.spare)) {
            Ok(true) => self.running.push(job),
            Ok(false) if self.running.is_empty() => {
                job.fail(&mut self.engine, Refusal::no_memory());
            }
            Ok(false) => {
                // What came back already goes again, so that the others can go on.
                match job.page_out(&mut self.engine, &mut self.spare) {
                    Ok(()) => self.away.push_front(job),
                    Err(error) => job.fail(&mut self.engine, Refusal::of_model(&error)),
                }
                return false;
            }
            Err(error) => job.fail(&mut self.engine, Refusal::of_model(&error)),
        }
        true
    }

    /// Whether somebody waits who has fewer sequences than this owner.
    fn is_behind(&self, owner: u64) -> bool {
        let next = self.queue.next(&self.running);
        next.is_some_and(|next| held(next.owner, &self.running) < held(owner, &self.running))
    }

    /// Lets the owner with the most sequences give some up for `width` of an owner that has fewer and
    /// would still have no more; false where nobody has so many. They are its youngest request's: of one
    /// with several answers as many as are wanted, else all of it.
    fn give_way(&mut self, owner: u64, width: usize) -> bool {
        let Some((heaviest, most)) = heaviest(&self.running) else { return false };
        let Some(at) = self.youngest(heaviest) else { return false };
        let enough = held(owner, &self.running) + width;
        let has_left = |given: usize| most.saturating_sub(given) >= enough;
        let own = self.running[at].width();
        // At least one, since it may be memory that is wanted.
        let wanted = width.saturating_sub(self.free()).max(1);
        if heaviest == owner {
            return false;
        }
        let number = self.running[at].number;
        if wanted < own && has_left(wanted) {
            tracing::debug!(job = number, wanted, "gives places up");
            let job = &mut self.running[at];
            if let Err(error) = job.narrow(&mut self.engine, &mut self.spare, own - wanted) {
                let job = self.running.remove(at);
                job.fail(&mut self.engine, Refusal::of_model(&error));
            }
            return true;
        }
        if !has_left(own) {
            return false;
        }
        tracing::debug!(job = number, "gives way");
        let mut job = self.running.remove(at);
        match job.page_out(&mut self.engine, &mut self.spare) {
            Ok(()) => self.away.push_back(job),
            Err(error) => job.fail(&mut self.engine, Refusal::of_model(&error)),
        }
        true
    }

    /// The place of an owner's youngest among those that run.
    fn youngest(&self, owner: u64) -> Option<usize> {
        let jobs = self.running.iter().enumerate();
        let own = jobs.filter(|(_, job)| job.request.owner == owner);
        own.max_by_key(|(_, job)| job.number).map(|(at, _)| at)
    }

    /// Sequences that may run beside those that do.
    fn free(&self) -> usize {
        self.slots.saturating_sub(self.running.iter().map(Job::width).sum())
    }

    /// Whether so many blocks can be had, beside those that prompts under way will need.
    fn has_room(&self, blocks: usize) -> bool {
        let promised: usize = self.running.iter().map(|job| self.blocks(job.unread())).sum();
        self.engine.blocks().0 >= promised + blocks
    }

    /// Cache blocks that so many tokens take.
    fn blocks(&self, tokens: usize) -> usize {
        self.engine.cache_bytes(tokens) / self.engine.cache_bytes(1).max(1)
    }

    fn note(&mut self, events: &[EngineEvent]) {
        for event in events {
            if let EngineEvent::Advanced { sequence, computed, .. } = *event {
                self.running.iter_mut().for_each(|job| job.note(sequence, computed));
            }
        }
    }

    /// Draws a token wherever logits are there.
    fn draw(&mut self) {
        let mut at = 0;
        while at < self.running.len() {
            let result = self.running[at].go_on(&mut self.engine);
            match result {
                Ok(()) if !self.running[at].is_over() => at += 1,
                Ok(()) => self.running.remove(at).close(&mut self.engine),
                Err(error) => {
                    let job = self.running.remove(at);
                    job.fail(&mut self.engine, Refusal::of_model(&error));
                }
            }
        }
    }

    /// No sequence could go on for want of memory: the youngest of the owner with the most gives its
    /// own to the others.
    fn make_room(&mut self) {
        let Some((owner, _)) = heaviest(&self.running) else { return };
        let Some(at) = self.youngest(owner) else { return };
        let mut job = self.running.remove(at);
        if self.running.is_empty() {
            job.fail(&mut self.engine, Refusal::no_memory());
            return;
        }
        tracing::debug!(job = job.number, "paged out");
        self.gauges.paged_out();
        match job.page_out(&mut self.engine, &mut self.spare) {
            Ok(()) => self.away.push_back(job),
            Err(error) => job.fail(&mut self.engine, Refusal::of_model(&error)),
        }
    }

    /// The server ends: whoever still waits or listens is told so.
    fn break_off(&mut self) {
        let ended = || {
            let hint = "ask again in a while; an answer begins anew";
            Refusal::unavailable("the server ended before the answer did", hint)
        };
        self.queue.retain(|request| {
            tell(request, Event::Failed(ended()));
            false
        });
        for job in std::mem::take(&mut self.running).into_iter().chain(self.away.drain(..)) {
            job.fail(&mut self.engine, ended());
        }
    }

    fn fail_all(&mut self, error: &Error) {
        for job in std::mem::take(&mut self.running) {
            job.fail(&mut self.engine, Refusal::of_model(error));
        }
    }
}
