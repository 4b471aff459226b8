//! `--tls-cert` and `--tls-key`: what a server shows to who asks by HTTPS.

use std::path::{Path, PathBuf};

use llmos_serve::Certificate;

use crate::failure::{Explain, failure};

/// The files of a certificate.
#[derive(clap::Args, Debug)]
#[group(id = "tls")]
pub(super) struct Tls {
    /// Serve HTTPS with the certificate in this PEM file: the server's own first, then those that lead
    /// to its authority.
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// The private key of the certificate, a PEM file that is not encrypted.
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
}

impl Tls {
    /// The files' bytes, where they are given.
    ///
    /// # Errors
    /// A file that cannot be read, or one without the other (in `llmos.toml`).
    pub(super) fn read(&self) -> anyhow::Result<Option<Certificate>> {
        match (&self.tls_cert, &self.tls_key) {
            (None, None) => Ok(None),
            (Some(chain), Some(key)) => {
                Ok(Some(Certificate { chain: read(chain)?, key: read(key)? }))
            }
            _ => Err(failure(
                "a certificate and its key go together, and one of them is not given",
                "give both --tls-cert and --tls-key",
            )),
        }
    }

    /// What an address begins with.
    pub(super) fn scheme(&self) -> &'static str {
        if self.tls_cert.is_some() { "https" } else { "http" }
    }
}

fn read(path: &Path) -> anyhow::Result<Vec<u8>> {
    std::fs::read(path).explain(
        || format!("{}: cannot be read", path.display()),
        || "it is a PEM file, such as an ACME client writes".into(),
    )
}
