//! The same work on every item, on several threads, in the order of the items.

use std::num::NonZero;
use std::sync::{Mutex, PoisonError};

/// `work` of each item, in order.
pub(super) fn map<T: Send, U: Send>(
    threads: NonZero<usize>,
    items: Vec<T>,
    work: impl Fn(T) -> U + Sync,
) -> Vec<U> {
    let n_thread = threads.get().min(items.len());
    if n_thread <= 1 {
        return items.into_iter().map(work).collect();
    }
    let mut done: Vec<Option<U>> = items.iter().map(|_| None).collect();
    let queue = Mutex::new(items.into_iter().zip(done.iter_mut()));
    let next = || queue.lock().unwrap_or_else(PoisonError::into_inner).next();
    let run = || {
        while let Some((item, place)) = next() {
            *place = Some(work(item));
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..n_thread {
            scope.spawn(run);
        }
        run();
    });
    drop(queue);
    done.into_iter().flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_stays() {
        for threads in 1..5 {
            let items: Vec<u64> = (0..100).collect();
            let squares = map(NonZero::new(threads).unwrap(), items, |item| item * item);
            assert!(squares.iter().zip(0..).all(|(&square, item)| square == item * item));
            assert_eq!(squares.len(), 100);
        }
        assert!(map(NonZero::new(2).unwrap(), Vec::<u8>::new(), |item| item).is_empty());
    }
}
