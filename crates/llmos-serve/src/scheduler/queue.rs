//! Who waits, and whose turn it is: each owner has as much of the engine as the next.

use std::collections::VecDeque;

use super::job::Job;
use super::request::Request;

/// Requests that wait, in order of arrival.
#[derive(Default)]
pub(super) struct Queue {
    waiting: VecDeque<Request>,
}

impl Queue {
    pub(super) fn push(&mut self, request: Request) {
        self.waiting.push_back(request);
    }

    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Request> {
        self.waiting.iter_mut()
    }

    pub(super) fn retain(&mut self, keep: impl FnMut(&Request) -> bool) {
        self.waiting.retain(keep);
    }

    /// The one whose turn it is.
    pub(super) fn next(&self, running: &[Job]) -> Option<&Request> {
        self.waiting.get(self.turn(running)?)
    }

    /// Takes it.
    pub(super) fn pop(&mut self, running: &[Job]) -> Option<Request> {
        self.waiting.remove(self.turn(running)?)
    }

    fn turn(&self, running: &[Job]) -> Option<usize> {
        let jobs = running.iter().map(|job| (job.request.owner, job.width()));
        let jobs: Vec<(u64, usize)> = jobs.collect();
        turn(self.waiting.iter().map(|request| request.owner), &jobs)
    }
}

/// Sequences that an owner has in the engine.
pub(super) fn held(owner: u64, running: &[Job]) -> usize {
    running.iter().filter(|job| job.request.owner == owner).map(Job::width).sum()
}

/// The owner that has the most sequences, and how many.
pub(super) fn heaviest(running: &[Job]) -> Option<(u64, usize)> {
    let owners = running.iter().map(|job| job.request.owner);
    owners.map(|owner| (owner, held(owner, running))).max_by_key(|&(owner, held)| (held, owner))
}

/// The first of those whose owner has the fewest sequences; `running` is (owner, sequences).
fn turn(waiting: impl Iterator<Item = u64>, running: &[(u64, usize)]) -> Option<usize> {
    let held = |owner: u64| -> usize {
        running.iter().filter(|(other, _)| *other == owner).map(|(_, n)| n).sum()
    };
    waiting.enumerate().min_by_key(|&(at, owner)| (held(owner), at)).map(|(at, _)| at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_has_least_is_next_and_equals_come_in_order() {
        let check = |waiting: &[u64], running: &[(u64, usize)], expected: Option<usize>| {
            assert_eq!(turn(waiting.iter().copied(), running), expected, "{waiting:?} {running:?}");
        };
        check(&[], &[(1, 1)], None);
        check(&[1, 2], &[], Some(0));
        check(&[1, 1, 1, 2], &[(1, 3)], Some(3));
        check(&[1, 2, 3], &[(1, 2), (2, 1), (3, 1)], Some(1));
        check(&[1, 2], &[(1, 1), (2, 1), (2, 1)], Some(0));
    }
}
