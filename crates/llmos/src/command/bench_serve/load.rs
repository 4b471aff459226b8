//! So many clients at once, each of which asks again when it is answered.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context;

use super::client::{Answer, Client, Fault, Server, Way};
use super::prompts::Prompts;
use crate::terminal::Terminal;

/// How much is asked.
#[derive(Clone, Copy, Debug)]
pub(super) enum Amount {
    /// So many requests in all.
    Requests(usize),
    /// As many as are begun in this time.
    Time(Duration),
}

/// A load.
pub(super) struct Load<'a> {
    pub(super) server: &'a Server,
    pub(super) way: Way,
    pub(super) prompts: &'a Prompts,
    pub(super) clients: usize,
    /// Tokens of an answer.
    pub(super) answer: usize,
    pub(super) amount: Amount,
}

/// What came of it.
#[derive(Debug, Default)]
pub(super) struct Loaded {
    pub(super) answers: Vec<Answer>,
    pub(super) faults: Vec<Fault>,
    /// From the first request to the end of the last answer.
    pub(super) seconds: f64,
}

/// Stack of a client's thread: TLS is the deepest that it goes.
const STACK: usize = 1 << 20;

/// Between a refusal and the next try: a server that is down is not to be hammered.
const BREATH: Duration = Duration::from_millis(100);

impl Load<'_> {
    /// Asks, until all is answered.
    ///
    /// # Errors
    /// No threads.
    pub(super) fn run(&self, terminal: &Terminal) -> anyhow::Result<Loaded> {
        let what = format!("{} at once", self.clients);
        let bar = match self.amount {
            Amount::Requests(requests) => terminal.step_bar(Some(requests as u64), &what),
            Amount::Time(_) => terminal.spinner(&what),
        };
        let next = AtomicU64::new(0);
        let loaded = Mutex::new(Loaded::default());
        let clients: anyhow::Result<Vec<Client<'_>>> = (0..self.clients)
            .map(|_| Client::new(self.server).map(|client| client.by(self.way)))
            .collect();
        let clients = clients?;
        let start = Instant::now();
        std::thread::scope(|scope| {
            for mut client in clients {
                let (next, loaded, bar) = (&next, &loaded, &bar);
                std::thread::Builder::new()
                    .stack_size(STACK)
                    .spawn_scoped(scope, move || {
                        while let Some(number) = self.turn(next, start) {
                            let result = client.ask(&self.prompts.prompt(number), self.answer);
                            let is_fault = result.is_err();
                            let mut loaded = loaded.lock().unwrap_or_else(PoisonError::into_inner);
                            match result {
                                Ok(answer) => loaded.answers.push(answer),
                                Err(fault) => loaded.faults.push(fault),
                            }
                            drop(loaded);
                            bar.inc(1);
                            if is_fault {
                                std::thread::sleep(BREATH);
                            }
                        }
                    })
                    .context("a client's thread cannot be started")?;
            }
            anyhow::Ok(())
        })?;
        bar.finish_and_clear();
        let mut loaded = loaded.into_inner().unwrap_or_else(PoisonError::into_inner);
        loaded.seconds = start.elapsed().as_secs_f64();
        Ok(loaded)
    }

    /// The number of the next request, if there is to be one.
    fn turn(&self, next: &AtomicU64, start: Instant) -> Option<u64> {
        let number = next.fetch_add(1, Ordering::Relaxed);
        let goes_on = match self.amount {
            Amount::Requests(requests) => number < requests as u64,
            Amount::Time(time) => start.elapsed() < time,
        };
        goes_on.then_some(number)
    }
}
