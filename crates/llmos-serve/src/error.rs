//! What can keep a server from running.

use std::net::SocketAddr;

/// The crate's one error.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The address cannot be listened on.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// The system's reason.
        source: std::io::Error,
    },
    /// Others could reach the server, and nobody would be asked for a key.
    #[error("{address} can be reached by others, and there is no key")]
    Open {
        /// The address.
        address: SocketAddr,
    },
    /// An option is outside of what it may be.
    #[error("{option}: expected {expected}, got {got}")]
    Option {
        /// Its name.
        option: &'static str,
        /// What it may be.
        expected: String,
        /// What it is.
        got: String,
    },
    /// The store cannot be opened or asked.
    #[error(transparent)]
    Store(llmos_store::Error),
    /// The certificate cannot be shown.
    #[error("TLS: {reason}")]
    Certificate {
        /// What is wrong with it.
        reason: String,
    },
    /// The system gives no thread or no timer.
    #[error("{operation}: {source}")]
    System {
        /// What was being done.
        operation: &'static str,
        /// The system's reason.
        source: std::io::Error,
    },
}
