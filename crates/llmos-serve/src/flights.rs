//! Requests in flight: how many, whose they are, and how fast they lately ended.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

/// All requests in flight.
#[derive(Default)]
pub(crate) struct Flights {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    all: usize,
    by_owner: HashMap<u64, usize>,
    /// When requests lately ended, the oldest first.
    ends: VecDeque<Instant>,
}

/// Ends that are remembered, and for how long.
const ENDS: usize = 64;
const LATELY: Duration = Duration::from_secs(60);

/// Where nothing has ended lately.
const UNKNOWN: Duration = Duration::from_secs(5);

/// OpenAI's clients wait at most two minutes.
const LONGEST: Duration = Duration::from_secs(60);

/// A request's place among those in flight; given back when its last part is dropped.
pub(crate) struct Ticket {
    flights: Arc<Flights>,
    owner: OnceLock<u64>,
}

impl Flights {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.state().all
    }

    /// The time in which so many will end, as fast as they lately did.
    pub(crate) fn wait(&self, count: usize) -> Duration {
        let mut state = self.state();
        let now = Instant::now();
        while state.ends.pop_front_if(|end| now.duration_since(*end) > LATELY).is_some() {}
        let Some(oldest) = state.ends.front() else { return UNKNOWN };
        let each = now.duration_since(*oldest).as_secs_f64() / state.ends.len() as f64;
        Duration::from_secs_f64((each * count as f64).min(LONGEST.as_secs_f64()))
    }
}

impl Ticket {
    /// A place, if fewer than `most` are taken.
    pub(crate) fn take(flights: &Arc<Flights>, most: usize) -> Option<Arc<Ticket>> {
        let mut state = flights.state();
        if state.all >= most {
            return None;
        }
        state.all += 1;
        Some(Arc::new(Ticket { flights: flights.clone(), owner: OnceLock::new() }))
    }

    /// Says whose it is; false if that one has `most` places already. It is one owner's for good.
    pub(crate) fn claim(&self, owner: u64, most: usize) -> bool {
        let mut state = self.flights.state();
        let count = state.by_owner.entry(owner).or_default();
        if *count >= most {
            return false;
        }
        if self.owner.set(owner).is_ok() {
            *count += 1;
        }
        true
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let mut state = self.flights.state();
        state.all = state.all.saturating_sub(1);
        let Some(owner) = self.owner.get() else { return };
        // What was refused at once tells nothing of how long requests take.
        state.ends.push_back(Instant::now());
        if state.ends.len() > ENDS {
            state.ends.pop_front();
        }
        if let Some(count) = state.by_owner.get_mut(owner) {
            *count -= 1;
            if *count == 0 {
                state.by_owner.remove(owner);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_counted_in_all_and_by_owner() {
        let flights = Arc::new(Flights::default());
        let one = Ticket::take(&flights, 3).unwrap();
        let two = Ticket::take(&flights, 3).unwrap();
        let three = Ticket::take(&flights, 3).unwrap();
        assert!(Ticket::take(&flights, 3).is_none());
        assert!(one.claim(7, 2) && two.claim(7, 2) && !three.claim(7, 2) && three.claim(8, 2));
        assert_eq!(flights.wait(1), UNKNOWN);
        drop(one);
        assert!(flights.wait(1) < Duration::from_secs(1));
        assert_eq!((flights.count(), flights.state().by_owner[&7]), (2, 1));
        drop((two, three));
        assert_eq!((flights.count(), flights.state().by_owner.len()), (0, 0));
    }
}
