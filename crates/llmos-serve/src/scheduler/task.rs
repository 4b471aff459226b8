//! What else a model's thread does: work on the model that writes no text, a slice between two steps.

use llmos_model::Engine;

use super::request::Request;

/// What the thread of a model is sent.
pub(crate) enum Order {
    /// A text to read and to go on with.
    Request(Box<Request>),
    /// Something else.
    Task(Box<dyn Task>),
    /// What is cached of texts of this salt is to go, before anything that is asked for later begins.
    Forget(u64),
}

/// Work in slices, each about as long as a step, so that those who are written for do not wait.
pub(crate) trait Task: Send {
    /// Does a slice; true once nothing is left to do. One that nobody waits for any more, or whose time
    /// is over, has nothing left.
    fn go_on(&mut self, engine: &mut Engine) -> bool;
}
