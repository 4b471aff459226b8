//! The store on a thread of its own: async code asks it, and is answered once what it asked for is
//! durable.

use std::sync::mpsc as channel;

use llmos_store::{Place, Store};
use tokio::sync::{mpsc, oneshot};

use crate::Error;
use crate::refusal::Refusal;

/// Something that the thread does.
type Task = Box<dyn FnOnce(&mut Store) + Send>;

/// Asks the store; copies ask the same one. When the last is gone the thread does what was asked for
/// until then, and ends.
#[derive(Clone)]
pub struct Archive {
    tasks: mpsc::Sender<Task>,
}

/// A place in the queue that is kept for something which is certain to come, so that it cannot be
/// turned away then.
pub(crate) struct Promise {
    place: mpsc::OwnedPermit<Task>,
}

/// What may wait for the store at once, answers that are being written included. Whoever comes
/// then waits for a place.
const QUEUE: usize = 1024;

impl Archive {
    /// Starts the thread of a store.
    ///
    /// # Errors
    /// [`Error::System`] where the system gives no thread.
    pub fn start(mut store: Store) -> Result<Archive, Error> {
        let (tasks, mut inbox) = mpsc::channel::<Task>(QUEUE);
        std::thread::Builder::new()
            .name("store".to_string())
            .spawn(move || {
                while let Some(task) = inbox.blocking_recv() {
                    task(&mut store);
                }
            })
            .map_err(|source| Error::System { operation: "start the store's thread", source })?;
        Ok(Archive { tasks })
    }

    /// Opens a store to serve from it, and starts its thread.
    ///
    /// # Errors
    /// [`Error::Store`] with the store's reason, and as [`Archive::start`].
    pub fn open(place: &Place) -> Result<Archive, Error> {
        let options = llmos_store::Options::new(llmos_store::Purpose::Serve);
        Archive::start(Store::open(place, options).map_err(Error::Store)?)
    }

    /// Lets the store do something, and gives what came of it.
    ///
    /// # Errors
    /// The store's, as a client is told.
    pub(crate) async fn ask<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Store) -> Result<T, llmos_store::Error> + Send + 'static,
    ) -> Result<T, Refusal> {
        let (task, answer) = task(work);
        self.tasks.send(task).await.map_err(|_| gone())?;
        answer.await.unwrap_or_else(|_| Err(gone()))
    }

    /// Keeps a place for something.
    ///
    /// # Errors
    /// The thread has ended.
    pub(crate) async fn promise(&self) -> Result<Promise, Refusal> {
        let place = self.tasks.clone().reserve_owned().await.map_err(|_| gone())?;
        Ok(Promise { place })
    }

    /// Lets the store do something, from a thread that is not async.
    ///
    /// # Errors
    /// [`Error::Store`] with the store's reason.
    pub(crate) fn ask_here<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Store) -> Result<T, llmos_store::Error> + Send + 'static,
    ) -> Result<T, Error> {
        let ended = || Error::System {
            operation: "ask the store",
            source: std::io::Error::other("its thread has ended"),
        };
        let (sender, answer) = channel::channel();
        let task: Task = Box::new(move |store| drop(sender.send(work(store))));
        self.tasks.blocking_send(task).map_err(|_| ended())?;
        answer.recv().map_err(|_| ended())?.map_err(Error::Store)
    }

    /// Waits until all is done that was asked for so far.
    pub(crate) fn settle(&self) {
        if let Err(error) = self.ask_here(|_| Ok(())) {
            tracing::error!(%error, "the store could not be waited for");
        }
    }
}

impl Promise {
    /// Lets the store do what the place was kept for; what came of it can be waited for.
    pub(crate) fn keep<T: Send + 'static>(
        self,
        work: impl FnOnce(&mut Store) -> Result<T, llmos_store::Error> + Send + 'static,
    ) -> oneshot::Receiver<Result<T, Refusal>> {
        let (task, answer) = task(work);
        self.place.send(task);
        answer
    }
}

fn task<T: Send + 'static>(
    work: impl FnOnce(&mut Store) -> Result<T, llmos_store::Error> + Send + 'static,
) -> (Task, oneshot::Receiver<Result<T, Refusal>>) {
    let (sender, answer) = oneshot::channel();
    let task = move |store: &mut Store| {
        let done = work(store).map_err(|error| Refusal::of_store(&error));
        // Whoever asked may have gone; it is done nevertheless.
        let _ = sender.send(done);
    };
    (Box::new(task), answer)
}

fn gone() -> Refusal {
    Refusal::broken("the thread of the store has ended")
}
