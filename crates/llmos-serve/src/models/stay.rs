//! How long a model stays that nobody uses.

use std::time::Duration;

/// What was said of a model's stay. It holds until something else is said, or the model is let go of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Stay {
    /// As long as the server keeps all of them.
    #[default]
    Usual,
    /// So long after its last use.
    For(Duration),
    /// Until its memory is needed.
    Ever,
}

impl Stay {
    /// The time after its last use, where the server keeps models for `usual`; none is until its memory
    /// is needed.
    pub(crate) fn after_use(self, usual: Option<Duration>) -> Option<Duration> {
        match self {
            Stay::Usual => usual,
            Stay::For(time) => Some(time),
            Stay::Ever => None,
        }
    }
}
