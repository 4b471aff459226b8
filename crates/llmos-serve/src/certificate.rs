//! TLS: the certificate that a server shows, and the key that proves it.

use std::fmt;
use std::sync::Arc;

use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::Error;

/// A certificate with its key, both as the bytes of PEM files.
#[derive(Clone)]
pub struct Certificate {
    /// The server's own certificate first, then those that lead to its authority.
    pub chain: Vec<u8>,
    /// The private key: PKCS #8, PKCS #1 or SEC1, not encrypted.
    pub key: Vec<u8>,
}

/// A key is in no log.
impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Certificate").finish_non_exhaustive()
    }
}

impl Certificate {
    /// What shakes hands: TLS 1.2 and 1.3, over which HTTP/1.1 is spoken.
    ///
    /// # Errors
    /// [`Error::Certificate`] for PEM without a certificate or a key, and for a key that is another's.
    pub(crate) fn acceptor(&self) -> Result<TlsAcceptor, Error> {
        let refused = |what: &str, reason: &dyn fmt::Display| Error::Certificate {
            reason: format!("{what}: {reason}"),
        };
        let chain: Result<Vec<CertificateDer<'static>>, _> =
            CertificateDer::pem_slice_iter(&self.chain).collect();
        let chain = chain.map_err(|error| refused("the certificate is no PEM", &error))?;
        if chain.is_empty() {
            return Err(refused("the certificate", &"there is none in the file"));
        }
        let key = PrivateKeyDer::from_pem_slice(&self.key)
            .map_err(|error| refused("the key is no PEM key, or it is encrypted", &error))?;
        let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| refused("TLS", &error))?
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .map_err(|error| refused("the certificate and the key", &error))?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(TlsAcceptor::from(Arc::new(config)))
    }
}
