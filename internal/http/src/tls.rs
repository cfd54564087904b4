//! TLS for listeners on a network: certificate and key from files.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::TlsAcceptor;

/// The mode bits by which other users than the owner and the group of a key can use it. A group of its own for keys is usual.
const OTHERS: u32 = 0o007;

/// A loaded certificate and its key.
#[derive(Clone)]
pub struct Tls {
    pub(crate) acceptor: TlsAcceptor,
}

/// Why a certificate and key could not be loaded.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read or has no PEM of the expected kind.
    #[error("{path}: {why}")]
    File {
        /// Path of the file.
        path: String,
        /// What is wrong with it, for people.
        why: String,
    },
    /// Users other than the key's owner and group can read or change it.
    #[error("TLS key {path}: others can read it (mode {mode:03o}); run: chmod o= {path}")]
    Exposed {
        /// Path of the file.
        path: String,
        /// Its mode.
        mode: u32,
    },
    /// The key does not match the certificate, or TLS does not support them.
    #[error("cannot use certificate and key together: {0}")]
    Pair(rustls::Error),
}

impl Tls {
    /// Loads a certificate chain and a private key from PEM files.
    pub fn load(certificate: &Path, key: &Path) -> Result<Self, TlsError> {
        let failed =
            |path: &Path, why: String| TlsError::File { path: path.display().to_string(), why };
        let chain: Result<Vec<_>, _> = CertificateDer::pem_file_iter(certificate)
            .map_err(|error| failed(certificate, error.to_string()))?
            .collect();
        let chain = chain.map_err(|error| failed(certificate, error.to_string()))?;
        if chain.is_empty() {
            return Err(failed(
                certificate,
                "the file has no certificate; expected PEM".to_owned(),
            ));
        }
        let mode = std::fs::metadata(key)
            .map_err(|error| failed(key, error.to_string()))?
            .permissions()
            .mode();
        if mode & OTHERS != 0 {
            return Err(TlsError::Exposed { path: key.display().to_string(), mode: mode & 0o777 });
        }
        let secret =
            PrivateKeyDer::from_pem_file(key).map_err(|error| failed(key, error.to_string()))?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(TlsError::Pair)?
            .with_no_client_auth()
            .with_single_cert(chain, secret)
            .map_err(TlsError::Pair)?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self { acceptor: TlsAcceptor::from(Arc::new(config)) })
    }
}
