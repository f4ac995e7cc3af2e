//! The server's certificate: read from files, swapped while connections stay, its expiry known.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use rustls::ServerConfig;
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::cluster::watched::{Changes, everything, follow};
use crate::metrics::Metrics;

/// How often the files are looked at. A Secret volume swaps a symlink, which file watches miss on some filesystems.
const POLL: Duration = Duration::from_secs(1);

/// Certificate and key as they stand in their files.
type Pair = (Vec<u8>, Vec<u8>);

/// Where certificate and key come from.
#[derive(Clone)]
pub enum TlsSource {
    /// PEM files; looked at each second.
    Files {
        /// The chain, leaf first.
        certificate: PathBuf,
        /// The private key: PKCS#8, PKCS#1 or SEC1.
        key: PathBuf,
    },
    /// A Secret's `tls.crt` and `tls.key`, followed by a watch.
    Secret {
        /// May watch it.
        client: kube::Client,
        /// The Secret's namespace.
        namespace: String,
        /// The Secret's name.
        name: String,
    },
    /// PEM in memory.
    Pem {
        /// The chain, leaf first.
        certificate: Vec<u8>,
        /// The private key.
        key: Vec<u8>,
    },
}

impl std::fmt::Debug for TlsSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Files { certificate, key } => write!(f, "Files({}, {})", certificate.display(), key.display()),
            Self::Secret { namespace, name, .. } => write!(f, "Secret({namespace}/{name})"),
            Self::Pem { .. } => f.write_str("Pem(…)"),
        }
    }
}

/// Why a certificate and key can't be used.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// A file can't be read.
    #[error("can't read {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The certificate file holds no certificate.
    #[error("the certificate file holds no PEM certificate")]
    NoCertificate,
    /// A PEM section is damaged, or there is no key. The parser's own words are left out: they may quote the key.
    #[error("the {0} is not valid PEM")]
    Pem(&'static str),
    /// Not a usable pair.
    #[error("certificate and key can't be used together: {0}")]
    Pair(#[from] rustls::Error),
}

/// The certificate that new handshakes get.
#[derive(Debug, Default)]
pub struct Certificates {
    current: ArcSwapOption<CertifiedKey>,
    /// `notAfter` in seconds since 1970; 0 where there is none.
    expiry: AtomicI64,
}

impl Certificates {
    /// Whether there is a certificate to answer with.
    pub fn loaded(&self) -> bool {
        self.current.load().is_some()
    }

    /// The leaf's `notAfter` in seconds since 1970; 0 before a certificate is loaded.
    pub fn expiry(&self) -> i64 {
        self.expiry.load(Ordering::Relaxed)
    }

    /// Takes a new pair. What was there stays where the new one can't be used.
    pub fn set(&self, certificate: &[u8], key: &[u8]) -> Result<(), CertificateError> {
        let chain = CertificateDer::pem_slice_iter(certificate)
            .collect::<Result<Vec<_>, _>>()
            .map_err(|_| CertificateError::Pem("certificate"))?;
        let expiry = chain
            .first()
            .ok_or(CertificateError::NoCertificate)
            .map(|leaf| not_after(leaf))?;
        let key = PrivateKeyDer::from_pem_slice(key).map_err(|_| CertificateError::Pem("key"))?;
        let pair = CertifiedKey::from_der(chain, key, &provider())?;
        self.current.store(Some(Arc::new(pair)));
        self.expiry.store(expiry.unwrap_or(0), Ordering::Relaxed);
        Ok(())
    }
}

/// Seconds since 1970.
fn not_after(certificate: &[u8]) -> Option<i64> {
    let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
    Some(certificate.validity().not_after.timestamp())
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.current.load_full()
    }
}

/// The TLS side of the server. One config for the whole life of the process, so that a new certificate does not end sessions.
pub fn server_config(certificates: Arc<Certificates>) -> Result<ServerConfig, CertificateError> {
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_cert_resolver(certificates);
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

/// Loads `source` into `certificates`, and keeps following it until `stop`. A pair that can't be used is reported once and the old one stays; one that
/// isn't there yet is waited for.
pub async fn keep_current(
    source: TlsSource,
    certificates: Arc<Certificates>,
    metrics: Arc<Metrics>,
    stop: CancellationToken,
) {
    match source {
        TlsSource::Pem { certificate, key } => {
            report(certificates.set(&certificate, &key), &certificates, &metrics);
        }
        TlsSource::Files { certificate, key } => follow_files(&certificate, &key, &certificates, &metrics, &stop).await,
        TlsSource::Secret {
            client,
            namespace,
            name,
        } => follow_secret(client, &namespace, &name, &certificates, &metrics, &stop).await,
    }
}

async fn follow_files(
    certificate_path: &Path,
    key_path: &Path,
    certificates: &Certificates,
    metrics: &Metrics,
    stop: &CancellationToken,
) {
    let mut seen: Option<Result<Pair, String>> = None;
    loop {
        // Both files are read through the volume's one symlink; a swap between the two reads gives a pair that doesn't match, which is kept out, and
        // the next look finds the right one.
        let read = async {
            let certificate = read(certificate_path).await?;
            Ok((certificate, read(key_path).await?))
        }
        .await;
        let now = read
            .as_ref()
            .map(Clone::clone)
            .map_err(|error: &CertificateError| error.to_string());
        if seen.as_ref() != Some(&now) {
            seen = Some(now);
            let set = read.and_then(|(certificate, key)| certificates.set(&certificate, &key));
            report(set, certificates, metrics);
        }
        tokio::select! {
            () = tokio::time::sleep(POLL) => {}
            () = stop.cancelled() => return,
        }
    }
}

async fn follow_secret(
    client: kube::Client,
    namespace: &str,
    name: &str,
    certificates: &Certificates,
    metrics: &Metrics,
    stop: &CancellationToken,
) {
    let changes = Changes::default();
    let mut news = changes.subscribe();
    let secrets: Api<Secret> = Api::namespaced(client, namespace);
    let config = everything().fields(&format!("metadata.name={name}"));
    let secret = follow(secrets, config, "Secret (the webhook's certificate)", &changes, stop);
    let mut seen: Option<Pair> = None;
    loop {
        // One that was deleted is served on until there is another.
        let data = secret.current(namespace, name).and_then(|secret| secret.data.clone());
        let pair = data.and_then(|mut data| Some((data.remove("tls.crt")?.0, data.remove("tls.key")?.0)));
        if let Some((certificate, key)) = pair.as_ref().filter(|pair| seen.as_ref() != Some(pair)) {
            report(certificates.set(certificate, key), certificates, metrics);
            seen = pair;
        }
        tokio::select! {
            _ = news.changed() => {}
            () = stop.cancelled() => return,
        }
    }
}

async fn read(path: &Path) -> Result<Vec<u8>, CertificateError> {
    tokio::fs::read(path).await.map_err(|source| CertificateError::Read {
        path: path.to_owned(),
        source,
    })
}

fn report(set: Result<(), CertificateError>, certificates: &Certificates, metrics: &Metrics) {
    match set {
        Ok(()) => {
            metrics.certificate_loaded(true);
            metrics.certificate_expiry.set(certificates.expiry());
            let left = certificates.expiry() - now();
            if certificates.expiry() != 0 && left < 0 {
                warn!("the new TLS certificate has expired already; API servers will refuse it: renew it");
            } else {
                info!(expires_in_hours = left / 3600, "TLS certificate loaded");
            }
        }
        Err(error) => {
            metrics.certificate_loaded(false);
            if certificates.loaded() {
                error!(%error, "the new TLS certificate can't be used, the one before stays in use");
            } else {
                error!(%error, "no TLS certificate yet: every handshake fails until there is one");
            }
        }
    }
}

fn now() -> i64 {
    std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |since| i64::try_from(since.as_secs()).unwrap_or(i64::MAX))
}
