//! The certificate of the listener, read anew when its files change.
//!
//! The files are compared by their content once a second: that sees an edit, a rename and the
//! symbolic link that Kubernetes swaps alike, on every file system. A pair is tried once it has
//! stayed the same from one look to the next, so that a certificate whose key is still to be
//! written is not taken for a fault. A broken pair leaves the last good one in use.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use arc_swap::ArcSwap;
use rustls::{
    ServerConfig,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, pem, pem::PemObject},
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
    version::{TLS12, TLS13},
};
use sha2::{Digest, Sha256};

use crate::metrics::{Metrics, OutcomeLabels};

/// How often the files are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Why a certificate and its key cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("{0} cannot be read: {1}")]
    Unreadable(PathBuf, io::Error),
    /// A file is not PEM, or holds nothing of what it should.
    #[error("{0} holds no {1} in PEM: {2}")]
    Pem(PathBuf, &'static str, pem::Error),
    /// The certificate file holds no certificate.
    #[error("{0} holds no certificate")]
    Empty(PathBuf),
    /// The two do not belong together, or are of a kind that is not supported.
    #[error("{0} and {1} cannot be used together: {2}")]
    Pair(PathBuf, PathBuf, rustls::Error),
    /// The TLS library refuses.
    #[error("{0}")]
    Setup(rustls::Error),
}

/// A certificate with its key, from two files.
#[derive(Debug)]
pub struct Certificate {
    certificate: PathBuf,
    key: PathBuf,
    current: ArcSwap<CertifiedKey>,
    metrics: Arc<Metrics>,
    loaded: Looked,
}

/// What both files held, by hash: private keys are not kept about. `None` where one is unreadable.
type Looked = Option<[u8; 32]>;

impl Certificate {
    /// Reads both files.
    ///
    /// # Errors
    /// They cannot be used.
    pub fn load(
        certificate: &Path,
        key: &Path,
        metrics: Arc<Metrics>,
    ) -> Result<Arc<Self>, TlsError> {
        for outcome in ["ok", "error"] {
            drop(
                metrics
                    .tls_reloads
                    .get_or_create(&OutcomeLabels { outcome }),
            );
        }
        let loaded = look(certificate, key);
        let current = ArcSwap::new(read(certificate, key)?);
        Ok(Arc::new(Self {
            certificate: certificate.into(),
            key: key.into(),
            current,
            metrics,
            loaded,
        }))
    }

    /// The configuration of a listener that shows this certificate: TLS 1.2 and 1.3, HTTP/1.1.
    ///
    /// # Errors
    /// The TLS library refuses it.
    pub fn server_config(self: &Arc<Self>) -> Result<ServerConfig, TlsError> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&TLS13, &TLS12])
            .map_err(TlsError::Setup)?
            .with_no_client_auth()
            .with_cert_resolver(self.clone());
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(config)
    }

    /// Looks at the files until dropped, and takes what they hold when that has changed.
    pub async fn watch(self: Arc<Self>) {
        let mut tried = self.loaded;
        let mut last = tried;
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            let this = self.clone();
            // A panic in there would be a fault of the TLS library; the files are tried again.
            let looked = tokio::task::spawn_blocking(move || this.look_again(tried, last)).await;
            if let Ok((seen, now_tried)) = looked {
                (last, tried) = (seen, now_tried);
            }
        }
    }

    /// What the files hold now, and what was tried last.
    fn look_again(&self, tried: Looked, last: Looked) -> (Looked, Looked) {
        let seen = look(&self.certificate, &self.key);
        if seen == tried || seen != last {
            return (seen, tried);
        }
        let outcome = match read(&self.certificate, &self.key) {
            Ok(pair) => {
                self.current.store(pair);
                tracing::info!(certificate = %self.certificate.display(), "a new certificate is in use");
                "ok"
            }
            Err(error) => {
                tracing::error!(%error, "the new certificate is not used; the last one stays");
                "error"
            }
        };
        let reloads = &self.metrics.tls_reloads;
        reloads.get_or_create(&OutcomeLabels { outcome }).inc();
        (seen, seen)
    }
}

impl ResolvesServerCert for Certificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.current.load_full())
    }
}

fn look(certificate: &Path, key: &Path) -> Looked {
    let mut hash = Sha256::new();
    for path in [certificate, key] {
        let content = std::fs::read(path).ok()?;
        hash.update(content.len().to_le_bytes());
        hash.update(&content);
    }
    Some(hash.finalize().into())
}

fn read(certificate: &Path, key: &Path) -> Result<Arc<CertifiedKey>, TlsError> {
    let content =
        |path: &Path| std::fs::read(path).map_err(|error| TlsError::Unreadable(path.into(), error));
    let chain = CertificateDer::pem_slice_iter(&content(certificate)?)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| TlsError::Pem(certificate.into(), "certificate", error))?;
    if chain.is_empty() {
        return Err(TlsError::Empty(certificate.into()));
    }
    let private = PrivateKeyDer::from_pem_slice(&content(key)?)
        .map_err(|error| TlsError::Pem(key.into(), "private key", error))?;
    CertifiedKey::from_der(chain, private, &aws_lc_rs::default_provider())
        .map(Arc::new)
        .map_err(|error| TlsError::Pair(certificate.into(), key.into(), error))
}
