//! What a person is told when something cannot be done: an error, its causes, and a hint.

use std::fmt;

/// An error with advice on what to do about it.
#[derive(Debug)]
pub(crate) struct Hinted {
    message: String,
    hint: String,
    cause: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl fmt::Display for Hinted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Hinted {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.cause.as_deref().map(|cause| cause as &(dyn std::error::Error + 'static))
    }
}

/// An error made of a message and a hint.
pub(crate) fn failure(message: impl fmt::Display, hint: impl fmt::Display) -> anyhow::Error {
    Hinted { message: message.to_string(), hint: hint.to_string(), cause: None }.into()
}

/// Adds a sentence before an error and a hint after it.
pub(crate) trait Explain<T> {
    /// Wraps an error as the cause of `message`, with `hint`.
    fn explain(
        self,
        message: impl FnOnce() -> String,
        hint: impl FnOnce() -> String,
    ) -> anyhow::Result<T>;
}

impl<T, E: Into<Box<dyn std::error::Error + Send + Sync>>> Explain<T> for Result<T, E> {
    fn explain(
        self,
        message: impl FnOnce() -> String,
        hint: impl FnOnce() -> String,
    ) -> anyhow::Result<T> {
        self.map_err(|cause| {
            Hinted { message: message(), hint: hint(), cause: Some(cause.into()) }.into()
        })
    }
}

/// Standard output has no reader any more (`llmos … | head`): the command ends quietly.
#[derive(Debug)]
pub(crate) struct OutputClosed;

impl fmt::Display for OutputClosed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("standard output was closed")
    }
}

impl std::error::Error for OutputClosed {}

/// The text of an error on one line: the message, then each cause.
pub(crate) fn message_of(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain() {
        let cause = cause.to_string();
        // Some errors print their source themselves.
        if text.contains(&cause) {
            continue;
        }
        if !text.is_empty() {
            text.push_str(": ");
        }
        text.push_str(&cause);
    }
    text
}

/// Whether there was no room for what was written.
pub(crate) fn is_full(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
    matches!(error.kind(), FileTooLarge | QuotaExceeded | StorageFull)
}

/// Whether a decoder refused what was read, not the system.
pub(crate) fn is_damaged(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{InvalidData, InvalidInput, Other, UnexpectedEof};
    matches!(error.kind(), InvalidData | InvalidInput | Other | UnexpectedEof)
}

/// The hint that belongs to an error: its own, or one for its kind.
pub(crate) fn hint_of(error: &anyhow::Error) -> String {
    for cause in error.chain() {
        if let Some(hinted) = cause.downcast_ref::<Hinted>() {
            return hinted.hint.clone();
        }
    }
    for cause in error.chain() {
        if let Some(io) = cause.downcast_ref::<std::io::Error>() {
            let hint = match io.kind() {
                _ if is_full(io) => {
                    "the disk is full, or a limit on files is reached: make room (`llmos rm`) or \
                     write elsewhere"
                }
                std::io::ErrorKind::NotFound => "check the path",
                std::io::ErrorKind::PermissionDenied => "check who may read or write there",
                _ => "`llmos doctor` shows what llmos finds on this machine",
            };
            return hint.into();
        }
    }
    "`llmos help COMMAND` shows what a command takes".into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hint_nearest_to_the_person_wins_and_causes_are_listed() {
        let inner = std::io::Error::new(std::io::ErrorKind::NotFound, "no such file");
        let error = Err::<(), _>(inner)
            .explain(|| "cannot open x".into(), || "pull it first".into())
            .expect_err("an error stays one");
        assert_eq!(message_of(&error), "cannot open x: no such file");
        assert_eq!(hint_of(&error), "pull it first");
        let bare: anyhow::Error = std::io::Error::from(std::io::ErrorKind::StorageFull).into();
        assert!(hint_of(&bare).contains("disk is full"));
    }
}
