//! Object stores: S3 and what speaks its protocol, Google Cloud Storage, Azure's blob storage.

mod access;
mod error;
mod line;
mod payload;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::{FutureExt as _, TryStreamExt as _};
use object_store::aws::AmazonS3Builder;
use object_store::azure::MicrosoftAzureBuilder;
use object_store::gcp::{GcpCredential, GoogleCloudStorageBuilder};
use object_store::multipart::{MultipartStore, PartId};
use object_store::path::Path;
use object_store::{
    BackoffConfig, Certificate, ClientOptions, GetOptions, GetRange, MultipartId, ObjectStore, ObjectStoreExt as _,
    RetryConfig, StaticCredentialProvider,
};
use tidewaiter_core::credentials::SecretValue;
use tidewaiter_core::uri::{Scheme, StorageUri};
use tokio::time::Instant;

pub use access::{Access, Azure, AzureIdentity, Gcs, S3, S3Identity};
pub use error::{Doing, Error};
pub(crate) use payload::{Sha256, finished, sha256, with_digest};

use error::About;
use line::{Line, Traffic, pieces};

/// How long a connection may take, and then an answer.
const CONNECT: Duration = Duration::from_secs(10);
const ANSWER: Duration = Duration::from_mins(1);
/// For how many times as long nothing may move of what carries files: what the network took last is on its way in buffers, and a store may have to write down all of it
/// before it answers.
const PATIENCE: u32 = 10;
/// A store that is busy, or a line that breaks, is tried again this often and no longer than this.
const RETRIES: usize = 5;
const RETRY: Duration = Duration::from_mins(1);
/// What carries a file is tried again so often where the line broke on the way, as long as it was whole within [`RETRY`]; and so long after.
const RESUMES: usize = 10;
const RESUME: Duration = Duration::from_secs(1);

trait Store: ObjectStore + MultipartStore {}
impl<T: ObjectStore + MultipartStore> Store for T {}

/// One bucket of a store (with Azure: one container), opened.
#[derive(Clone)]
pub struct Bucket {
    store: Arc<dyn Store>,
    /// The same for what carries files, by a [`Line`].
    sends: Arc<dyn Store>,
    traffic: Traffic,
    host: String,
    name: String,
    /// What stands before a key in a URI: `s3://bucket/`.
    root: String,
}

/// An object, as a listing has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Object {
    /// The whole key.
    pub key: String,
    /// Its size in bytes.
    pub bytes: u64,
    /// The store's mark for its content.
    pub e_tag: Option<String>,
}

impl Bucket {
    /// Makes a client for the bucket that a URI names, and says the key in it. The store is not asked yet.
    ///
    /// # Errors
    /// [`Error::Elsewhere`] for what is no bucket's, [`Error::Unusable`] for settings that make no client.
    pub fn open(uri: &StorageUri, access: &Access) -> Result<(Self, String), Error> {
        let (bucket, key) = Self::of(uri, access, None)?;
        let line = Line {
            client: sender(access, &bucket.host)?,
            traffic: bucket.traffic.clone(),
            silence: access.timeout.unwrap_or(ANSWER) * PATIENCE,
        };
        let sends = Self::of(uri, access, Some(line))?.0.store;
        Ok((Self { sends, ..bucket }, key))
    }

    fn of(uri: &StorageUri, access: &Access, line: Option<Line>) -> Result<(Self, String), Error> {
        // Programs that are built together share the features of rustls, and then it asks for the process's provider.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let (store, host, name, root, key): (Arc<dyn Store>, _, _, _, _) = match (uri.scheme(), uri.azure()) {
            (Scheme::S3, _) => {
                let name = uri.authority().to_owned();
                let host = access.s3.host();
                let root = format!("s3://{name}/");
                (s3(access, &name, &host, line)?, host, name, root, uri.key())
            }
            (Scheme::Gs, _) => {
                let name = uri.authority().to_owned();
                let host = access.gcs.endpoint.as_deref().map(access::host);
                let host = host.unwrap_or_else(|| "storage.googleapis.com".to_owned());
                let root = format!("gs://{name}/");
                (gcs(access, &name, &host, line)?, host, name, root, uri.key())
            }
            (_, Some(place)) => {
                let host = access.azure.endpoint.as_deref().map(access::host);
                let host = host.unwrap_or_else(|| uri.authority().to_owned());
                let store = azure(access, place.account, place.container, &host, line)?;
                let root = format!("https://{}/{}/", uri.authority(), place.container);
                (store, host, place.container.to_owned(), root, place.path)
            }
            _ => {
                return Err(Error::Elsewhere {
                    uri: crate::source::without_token(uri.as_str()),
                });
            }
        };
        let bucket = Self {
            sends: Arc::clone(&store),
            store,
            traffic: Traffic::new(),
            host,
            name,
            root,
        };
        Ok((bucket, key.to_owned()))
    }

    /// A bucket in memory, for tests.
    #[cfg(test)]
    pub(crate) fn in_memory() -> Self {
        let store = Arc::new(object_store::memory::InMemory::new());
        Self {
            sends: Arc::<object_store::memory::InMemory>::clone(&store),
            store,
            traffic: Traffic::new(),
            host: "memory".to_owned(),
            name: "models".to_owned(),
            root: "s3://models/".to_owned(),
        }
    }

    /// The URI of a key.
    pub fn uri(&self, key: &str) -> String {
        format!("{}{key}", self.root)
    }

    /// Everything below a folder, in the order of its keys. Without what only has a folder within be seen.
    ///
    /// # Errors
    /// Whatever the store says no with.
    pub async fn list(&self, folder: &str) -> Result<Vec<Object>, Error> {
        let prefix = self.path(folder, Doing::List)?;
        let listed: Vec<_> = self
            .store
            .list(Some(&prefix))
            .try_collect()
            .await
            .map_err(|error| self.error(Doing::List, folder, &error))?;
        let mut objects: Vec<_> = listed.into_iter().map(object).collect();
        objects.sort_unstable_by(|a, b| a.key.cmp(&b.key));
        Ok(without_markers(objects))
    }

    /// One object's size and mark; none where there is none.
    ///
    /// # Errors
    /// Whatever the store says no with.
    pub async fn head(&self, key: &str) -> Result<Option<Object>, Error> {
        if key.is_empty() {
            return Ok(None);
        }
        match self.store.head(&self.path(key, Doing::Read)?).await {
            Ok(meta) => Ok(Some(object(meta))),
            Err(error) => match self.error(Doing::Read, key, &error) {
                Error::NotFound { .. } => Ok(None),
                error => Err(error),
            },
        }
    }

    /// A part of an object: fewer bytes at its end, none past it.
    ///
    /// # Errors
    /// Whatever the store says no with.
    pub async fn read(&self, key: &str, offset: u64, length: u64) -> Result<Bytes, Error> {
        let options = GetOptions {
            range: Some(GetRange::Bounded(offset..offset.saturating_add(length))),
            ..GetOptions::default()
        };
        let path = self.path(key, Doing::Read)?;
        let failed = |error| self.error(Doing::Read, key, &error);
        let object = self.store.get_opts(&path, options).await.map_err(failed)?;
        object.bytes().await.map_err(failed)
    }

    /// Writes an object in one request, and says the store's mark for it.
    ///
    /// # Errors
    /// Whatever the store says no with.
    pub async fn write(&self, key: &str, content: Bytes) -> Result<Option<String>, Error> {
        let path = self.path(key, Doing::Write)?;
        let written = self.sent(key, || self.sends.put(&path, pieces(&content)).boxed());
        Ok(written.await?.e_tag)
    }

    /// Deletes an object. One that isn't there is no error.
    ///
    /// # Errors
    /// Whatever the store says no with.
    pub async fn delete(&self, key: &str) -> Result<(), Error> {
        match self.store.delete(&self.path(key, Doing::Write)?).await {
            Ok(()) => Ok(()),
            Err(error) => match self.error(Doing::Write, key, &error) {
                Error::NotFound { .. } => Ok(()),
                error => Err(error),
            },
        }
    }

    /// Begins an object that is written in parts.
    pub(crate) async fn begin(&self, key: &str) -> Result<MultipartId, Error> {
        let path = self.path(key, Doing::Write)?;
        let begun = self.store.create_multipart(&path).await;
        begun.map_err(|error| self.error(Doing::Write, key, &error))
    }

    /// Writes a part, counted from 0, and says the store's mark for it.
    pub(crate) async fn part(&self, key: &str, id: &MultipartId, part: usize, content: Bytes) -> Result<String, Error> {
        let path = self.path(key, Doing::Write)?;
        let written = self.sent(key, || self.sends.put_part(&path, id, part, pieces(&content)).boxed());
        Ok(written.await?.content_id)
    }

    /// Sends what carries a file, and again where the line broke after so long that the client has given up: signed anew, as no signature lasts so long.
    async fn sent<'a, T>(
        &self,
        key: &str,
        send: impl Fn() -> BoxFuture<'a, object_store::Result<T>>,
    ) -> Result<T, Error> {
        let mut broken = 0;
        loop {
            let began = Instant::now();
            let answer = send().await.map_err(|error| self.error(Doing::Write, key, &error));
            let was_whole = began.max(self.traffic.moved()).elapsed() < RETRY;
            if !matches!(answer, Err(Error::Unreachable { .. })) || broken == RESUMES || !was_whole {
                return answer;
            }
            broken += 1;
            tokio::time::sleep(RESUME).await;
        }
    }

    /// Bytes of files that the network took, and the store hasn't answered yet.
    pub(crate) fn on_the_way(&self) -> u64 {
        self.traffic.on_the_way()
    }

    /// Makes an object of its parts.
    pub(crate) async fn complete(&self, key: &str, id: &MultipartId, parts: Vec<String>) -> Result<(), Error> {
        let path = self.path(key, Doing::Write)?;
        let parts = parts.into_iter().map(|content_id| PartId { content_id }).collect();
        let completed = self.store.complete_multipart(&path, id, parts).await;
        completed
            .map(drop)
            .map_err(|error| self.error(Doing::Write, key, &error))
    }

    /// Has the store forget an object that was begun, and its parts. One that it doesn't know is no error.
    pub(crate) async fn abort(&self, key: &str, id: &MultipartId) -> Result<(), Error> {
        let path = self.path(key, Doing::Write)?;
        match self.store.abort_multipart(&path, id).await {
            Ok(()) => Ok(()),
            Err(error) => match self.error(Doing::Write, key, &error) {
                Error::NotFound { .. } | Error::Forgotten { .. } => Ok(()),
                error => Err(error),
            },
        }
    }

    fn path(&self, key: &str, doing: Doing) -> Result<Path, Error> {
        Path::parse(key).map_err(|_| Error::Failed {
            doing,
            uri: self.uri(key),
            reason: "it can't be an object's name".to_owned(),
        })
    }

    fn error(&self, doing: Doing, key: &str, error: &object_store::Error) -> Error {
        error::of(
            error,
            About {
                doing,
                host: &self.host,
                bucket: &self.name,
                uri: self.uri(key),
            },
        )
    }
}

fn object(meta: object_store::ObjectMeta) -> Object {
    Object {
        key: meta.location.into(),
        bytes: meta.size,
        e_tag: meta.e_tag,
    }
}

fn s3(access: &Access, bucket: &str, host: &str, line: Option<Line>) -> Result<Arc<dyn Store>, Error> {
    let s3 = &access.s3;
    let mut builder = AmazonS3Builder::new()
        .with_bucket_name(bucket)
        .with_region(s3.region.as_deref().unwrap_or("us-east-1"))
        .with_virtual_hosted_style_request(s3.virtual_host.unwrap_or(s3.endpoint.is_none()))
        .with_client_options(client(access, host)?)
        .with_retry(retry())
        .with_crypto_provider(Arc::new(payload::Crypto));
    if let Some(endpoint) = &s3.endpoint {
        builder = builder.with_endpoint(bucket_endpoint(endpoint, bucket, s3.virtual_host.unwrap_or(false)));
    }
    builder = match &s3.identity {
        S3Identity::Machine => builder,
        S3Identity::Anonymous => builder.with_skip_signature(true),
        S3Identity::Key { id, secret, token } => {
            let builder = builder
                .with_access_key_id(id)
                .with_secret_access_key(text(secret, host)?);
            match token {
                Some(token) => builder.with_token(text(token, host)?),
                None => builder,
            }
        }
    };
    if let Some(line) = line {
        builder = builder.with_http_connector(line);
    }
    Ok(Arc::new(builder.build().map_err(|_| unusable(host))?))
}

fn gcs(access: &Access, bucket: &str, host: &str, line: Option<Line>) -> Result<Arc<dyn Store>, Error> {
    let mut builder = GoogleCloudStorageBuilder::new()
        .with_bucket_name(bucket)
        .with_client_options(client(access, host)?)
        .with_retry(retry());
    if let Some(endpoint) = &access.gcs.endpoint {
        builder = builder.with_base_url(endpoint.trim_end_matches('/'));
    }
    if access.gcs.anonymous {
        // With none at all it would look for what gcloud keeps at home, and fail where that is of a kind that it doesn't know.
        let nobody = StaticCredentialProvider::new(GcpCredential { bearer: String::new() });
        builder = builder.with_credentials(Arc::new(nobody)).with_skip_signature(true);
    } else if let Some(credentials) = &access.gcs.credentials {
        builder = builder.with_service_account_key(text(credentials, host)?);
    } else if let Some(file) = &access.gcs.file {
        check_kind(file, host)?;
        builder = builder.with_application_credentials(file.to_string_lossy());
    }
    if let Some(line) = line {
        builder = builder.with_http_connector(line);
    }
    Ok(Arc::new(builder.build().map_err(|_| unusable(host))?))
}

/// Refuses the kinds of Google's keys that the client doesn't know, by their own name: it stands in the file, and is no secret.
fn check_kind(file: &std::path::Path, host: &str) -> Result<(), Error> {
    let key = std::fs::read(file).ok();
    let key: Option<serde_json::Value> = key.and_then(|key| serde_json::from_slice(&key).ok());
    match key.as_ref().and_then(|key| key.get("type")?.as_str()) {
        None | Some("service_account" | "authorized_user") => Ok(()),
        Some(kind) => Err(Error::Unusable {
            host: host.to_owned(),
            reason: format!(
                "a Google key of the kind `{kind}` can't be used here, only a service account's or what `gcloud auth application-default login` writes"
            ),
        }),
    }
}

fn azure(
    access: &Access,
    account: &str,
    container: &str,
    host: &str,
    line: Option<Line>,
) -> Result<Arc<dyn Store>, Error> {
    let mut builder = MicrosoftAzureBuilder::new()
        .with_account(account)
        .with_container_name(container)
        .with_client_options(client(access, host)?)
        .with_retry(retry());
    if let Some(endpoint) = &access.azure.endpoint {
        builder = builder.with_endpoint(endpoint.trim_end_matches('/').to_owned());
    }
    builder = match &access.azure.identity {
        AzureIdentity::Machine => builder,
        AzureIdentity::Anonymous => builder.with_skip_signature(true),
        AzureIdentity::AccountKey(key) => builder.with_access_key(text(key, host)?),
        AzureIdentity::Client { tenant, id, secret } => {
            builder.with_client_secret_authorization(id, text(secret, host)?, tenant)
        }
    };
    if let Some(line) = line {
        builder = builder.with_http_connector(line);
    }
    Ok(Arc::new(builder.build().map_err(|_| unusable(host))?))
}

/// With virtual hosts the bucket is the first label of the endpoint's name.
fn bucket_endpoint(endpoint: &str, bucket: &str, virtual_host: bool) -> String {
    let endpoint = endpoint.trim_end_matches('/');
    let (scheme, rest) = endpoint.split_once("://").unwrap_or(("https", endpoint));
    if virtual_host {
        format!("{scheme}://{bucket}.{rest}")
    } else {
        format!("{scheme}://{rest}")
    }
}

/// Its own words are left out: the error of a key that can't be parsed may quote the key.
fn unusable(host: &str) -> Error {
    Error::Unusable {
        host: host.to_owned(),
        reason: "an address or a key is not in the form that it has to be".to_owned(),
    }
}

fn text(secret: &SecretValue, host: &str) -> Result<String, Error> {
    String::from_utf8(secret.expose().to_vec()).map_err(|_| unusable(host))
}

fn client(access: &Access, host: &str) -> Result<ClientOptions, Error> {
    let mut options = ClientOptions::new()
        .with_allow_http(true)
        .with_connect_timeout(CONNECT)
        // Of each read, not of all: a large model on a slow line takes what it takes.
        .with_timeout_disabled()
        .with_read_timeout(access.timeout.unwrap_or(ANSWER))
        .with_allow_invalid_certificates(access.insecure);
    if let Some(bundle) = &access.ca_bundle {
        let certificates = Certificate::from_pem_bundle(bundle).map_err(|_| no_certificate(host))?;
        for certificate in certificates {
            options = options.with_root_certificate(certificate);
        }
    }
    Ok(options)
}

/// The same for a [`Line`], which has limits of its own.
fn sender(access: &Access, host: &str) -> Result<reqwest::Client, Error> {
    let mut client = reqwest::Client::builder()
        .user_agent(concat!("tidewaiter/", env!("CARGO_PKG_VERSION")))
        .http1_only()
        .connect_timeout(CONNECT)
        .tls_danger_accept_invalid_certs(access.insecure);
    if let Some(bundle) = &access.ca_bundle {
        let certificates = reqwest::Certificate::from_pem_bundle(bundle).map_err(|_| no_certificate(host))?;
        for certificate in certificates {
            client = client.add_root_certificate(certificate);
        }
    }
    client.build().map_err(|_| unusable(host))
}

fn no_certificate(host: &str) -> Error {
    Error::Unusable {
        host: host.to_owned(),
        reason: "the CA bundle holds no certificate in PEM form".to_owned(),
    }
}

fn retry() -> RetryConfig {
    RetryConfig {
        backoff: BackoffConfig {
            init_backoff: Duration::from_millis(100),
            max_backoff: Duration::from_secs(5),
            base: 2.,
        },
        max_retries: RETRIES,
        retry_timeout: RETRY,
    }
}

/// Consoles make an object without content for a folder, called by its name with a slash, which is lost on the way here: as a file it would stand where the
/// folder has to.
fn without_markers(mut objects: Vec<Object>) -> Vec<Object> {
    let above = |object: &Object| -> Vec<String> {
        let slashes = object.key.match_indices('/');
        slashes.map(|(end, _)| object.key[..end].to_owned()).collect()
    };
    let folders: BTreeSet<String> = objects.iter().flat_map(above).collect();
    objects.retain(|object| object.bytes > 0 || !folders.contains(&object.key));
    objects
}
