//! A pool of threads for short parallel regions.
//!
//! A decoded token takes hundreds of regions of some microseconds each, so a worker spins for a
//! while after its last region and only then sleeps: waking a sleeper costs more than the region.
//!
//! Other programs take processors away at any moment. Tasks are claimed, and a region is closed when
//! none is left: a worker that has not come by then is not waited for. Without that a training step
//! of 110 ms took 1,100 ms beside a single other busy process on two processors.

use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;

/// Turns of the spin loop before a worker sleeps, about 100 microseconds: longer than the serial
/// pieces between two regions of a decoded token, short enough to leave an idle machine idle.
const SPIN_TURNS: usize = 20_000;

/// A fixed number of threads, the calling one included.
pub struct Threads {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
    /// Held while a region runs: a second caller waits.
    region: Mutex<()>,
}

/// A region's body, its lifetime erased.
#[derive(Clone, Copy)]
struct Task(*const (dyn Fn(usize) + Sync));

// SAFETY: the pointee is Sync, and `run` keeps it alive until every worker has left the region.
unsafe impl Send for Task {}

struct Shared {
    /// The number of regions so far, whether the last one may be entered, and how many workers have:
    /// `number * REGION + OPEN + entered`. On its own cache line by padding.
    gate: Padded<AtomicU64>,
    /// Workers that have left the last region.
    left: Padded<AtomicU64>,
    /// Workers that sleep, guarded by `sleep`.
    sleepers: AtomicUsize,
    task: Mutex<Option<Task>>,
    sleep: Mutex<()>,
    wake: Condvar,
    stop: AtomicBool,
    panic: Mutex<Option<Box<dyn std::any::Any + Send>>>,
}

/// One region in [`Shared::gate`].
const REGION: u64 = 1 << 32;

/// The last region may be entered.
const OPEN: u64 = 1 << 31;

#[repr(align(128))]
struct Padded<T>(T);

impl Threads {
    /// A pool of `count` threads (at least one), the caller being one of them.
    pub fn new(count: usize) -> Threads {
        let shared = Arc::new(Shared {
            gate: Padded(AtomicU64::new(0)),
            left: Padded(AtomicU64::new(0)),
            sleepers: AtomicUsize::new(0),
            task: Mutex::new(None),
            sleep: Mutex::new(()),
            wake: Condvar::new(),
            stop: AtomicBool::new(false),
            panic: Mutex::new(None),
        });
        let workers = (1..count.max(1))
            .map_while(|index| {
                let shared = shared.clone();
                std::thread::Builder::new()
                    .name(format!("llmos-{index}"))
                    .spawn(move || work(&shared, index))
                    .ok()
            })
            .collect();
        Threads { shared, workers, region: Mutex::new(()) }
    }

    /// Threads in the pool, the caller included.
    pub fn count(&self) -> usize {
        self.workers.len() + 1
    }

    /// Calls `body(i)` once on each thread, `i` from 0 to `count() - 1`, and returns when all have.
    ///
    /// # Panics
    /// A panic of any thread is raised again on the caller's, after all have left the region.
    pub fn run(&self, body: &(dyn Fn(usize) + Sync)) {
        self.region(body, self.workers.len());
    }

    /// Calls `body(i)` on the caller's thread, `i` being 0, and on those workers that come before it
    /// has returned, but at least `least` of them.
    fn region(&self, body: &(dyn Fn(usize) + Sync), least: usize) {
        if self.workers.is_empty() {
            body(0);
            return;
        }
        let _region = lock(&self.region);
        // SAFETY: only the lifetime is erased; this function does not return, nor unwind, before all
        // workers that entered the region have left it, and no other one touches the task.
        let task = unsafe {
            std::mem::transmute::<*const (dyn Fn(usize) + Sync), *const (dyn Fn(usize) + Sync)>(
                body,
            )
        };
        let Shared { gate: Padded(gate), left: Padded(left), .. } = &*self.shared;
        *lock(&self.shared.task) = Some(Task(task));
        left.store(0, Ordering::Relaxed);
        let number = gate.load(Ordering::Relaxed) / REGION + 1;
        gate.store(number * REGION + OPEN, Ordering::SeqCst);
        if self.shared.sleepers.load(Ordering::SeqCst) > 0 {
            let _guard = lock(&self.shared.sleep);
            self.shared.wake.notify_all();
        }
        let mine = catch_unwind(AssertUnwindSafe(|| body(0)));
        let entered = |gate: u64| gate % OPEN;
        spin_until(|| entered(gate.load(Ordering::Relaxed)) >= least as u64);
        let entered = entered(gate.fetch_and(!OPEN, Ordering::AcqRel));
        spin_until(|| left.load(Ordering::Acquire) == entered);
        if let Err(cause) = mine {
            resume_unwind(cause);
        }
        let theirs = lock(&self.shared.panic).take();
        if let Some(cause) = theirs {
            resume_unwind(cause);
        }
    }

    /// Calls `body(task)` for each task below `tasks`, threads claiming them in order.
    pub fn for_each(&self, tasks: usize, body: &(dyn Fn(usize) + Sync)) {
        if tasks <= 1 || self.workers.is_empty() {
            (0..tasks).for_each(body);
            return;
        }
        let next = AtomicUsize::new(0);
        let claim = |_| {
            loop {
                let task = next.fetch_add(1, Ordering::Relaxed);
                if task >= tasks {
                    break;
                }
                body(task);
            }
        };
        self.region(&claim, 0);
    }

    /// Calls `body` for ranges that together are `0..len` and begin at multiples of `grain`: large ones
    /// first, and small ones towards the end, so that no thread waits long for the last.
    pub fn for_ranges(&self, len: usize, grain: usize, body: &(dyn Fn(Range<usize>) + Sync)) {
        let (grains, shares) = (len.div_ceil(grain), 2 * self.count());
        if grains <= 1 || self.workers.is_empty() {
            body(0..len);
            return;
        }
        let next = AtomicUsize::new(0);
        let after = |first: usize| first + ((grains - first) / shares).max(1);
        let claim = |_| {
            let taken = |first: usize| if first < grains { Some(after(first)) } else { None };
            while let Ok(first) = next.fetch_update(Ordering::Relaxed, Ordering::Relaxed, taken) {
                body(first * grain..len.min(after(first) * grain));
            }
        };
        self.region(&claim, 0);
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        self.shared.gate.0.fetch_add(REGION, Ordering::SeqCst);
        {
            let _guard = lock(&self.shared.sleep);
            self.shared.wake.notify_all();
        }
        for worker in self.workers.drain(..) {
            // A worker's panic was already raised on the caller's thread.
            let _ = worker.join();
        }
    }
}

/// A mutex whose data no panic can leave half-changed.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// Spins for a while, then lets others have the processor in between.
fn spin_until(is_so: impl Fn() -> bool) {
    let mut turns = 0;
    while !is_so() {
        turns += 1;
        if turns < SPIN_TURNS {
            std::hint::spin_loop();
        } else {
            std::thread::yield_now();
        }
    }
}

fn work(shared: &Shared, index: usize) {
    let mut seen = 0;
    loop {
        wait(shared, seen);
        if shared.stop.load(Ordering::SeqCst) {
            return;
        }
        let gate = shared.gate.0.load(Ordering::Acquire);
        seen = gate / REGION;
        if !enter(&shared.gate.0, gate) {
            continue;
        }
        let task = *lock(&shared.task);
        if let Some(Task(body)) = task {
            // SAFETY: `region` set the task before it opened the gate and keeps it alive until this
            // worker, which has entered, has been counted as having left.
            let body = unsafe { &*body };
            if let Err(cause) = catch_unwind(AssertUnwindSafe(|| body(index))) {
                *lock(&shared.panic) = Some(cause);
            }
        }
        shared.left.0.fetch_add(1, Ordering::Release);
    }
}

/// Enters the region that `gate` shows, unless it is closed.
fn enter(shared: &AtomicU64, mut gate: u64) -> bool {
    let number = gate / REGION;
    while gate / REGION == number && gate & OPEN != 0 {
        match shared.compare_exchange_weak(gate, gate + 1, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => return true,
            Err(now) => gate = now,
        }
    }
    false
}

/// Returns once there is a region after number `seen`.
fn wait(shared: &Shared, seen: u64) {
    for _ in 0..SPIN_TURNS {
        if shared.gate.0.load(Ordering::Acquire) / REGION != seen {
            return;
        }
        std::hint::spin_loop();
    }
    let mut guard = lock(&shared.sleep);
    shared.sleepers.fetch_add(1, Ordering::SeqCst);
    while shared.gate.0.load(Ordering::SeqCst) / REGION == seen {
        guard = shared.wake.wait(guard).unwrap_or_else(std::sync::PoisonError::into_inner);
    }
    shared.sleepers.fetch_sub(1, Ordering::SeqCst);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_thread_runs_once_a_region() {
        for count in [1, 2, 3, 5] {
            let threads = Threads::new(count);
            let calls: Vec<AtomicUsize> = (0..count).map(|_| AtomicUsize::new(0)).collect();
            for _ in 0..500 {
                threads.run(&|i| {
                    calls[i].fetch_add(1, Ordering::Relaxed);
                });
            }
            assert!(calls.iter().all(|c| c.load(Ordering::Relaxed) == 500));
        }
    }

    #[test]
    fn every_task_is_done_once_even_after_sleep() {
        let threads = Threads::new(3);
        for pause in [0, 3] {
            std::thread::sleep(std::time::Duration::from_millis(pause));
            let done: Vec<AtomicUsize> = (0..101).map(|_| AtomicUsize::new(0)).collect();
            threads.for_each(101, &|t| {
                done[t].fetch_add(1, Ordering::Relaxed);
            });
            assert!(done.iter().all(|d| d.load(Ordering::Relaxed) == 1));
        }
    }

    #[test]
    fn a_worker_that_does_not_come_is_not_waited_for() {
        // More threads than any machine has processors: some come late to short regions.
        let threads = Threads::new(64);
        let done = AtomicUsize::new(0);
        for _ in 0..200 {
            threads.for_each(5, &|_| {
                done.fetch_add(1, Ordering::Relaxed);
            });
        }
        assert_eq!(done.load(Ordering::Relaxed), 1000);
    }

    #[test]
    fn a_panic_reaches_the_caller_and_the_pool_lives_on() {
        let threads = Threads::new(2);
        let result = catch_unwind(AssertUnwindSafe(|| {
            threads.run(&|i| assert!(i != 1, "worker's own panic"));
        }));
        assert!(result.is_err());
        let sum = AtomicUsize::new(0);
        threads.run(&|i| {
            sum.fetch_add(i + 1, Ordering::Relaxed);
        });
        assert_eq!(sum.load(Ordering::Relaxed), 3);
    }
}
