//! One backend's client: its connections, kept for as long as its settings and keys stay the same.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use object_store::aws::AmazonS3Builder;
use object_store::azure::MicrosoftAzureBuilder;
use object_store::gcp::{GcpCredential, GoogleCloudStorageBuilder};
use object_store::list::{PaginatedListOptions, PaginatedListStore};
use object_store::path::Path;
use object_store::{GetOptions, GetRange, ObjectStore, ObjectStoreExt, RetryConfig, StaticCredentialProvider};
use tidewaiter_engine::world::{Listing, ObjectInfo};
use url::Url;

use super::connection::{AzureKeys, Connection, Identity, Issuer, Trust};
use super::failure::{Failure, answered, classify, wordless_not_found};
use super::gate::{Gate, Patience};
use super::http::{Connector, Transport, client};
use super::place::Place;
use super::web::Web;

/// Buckets whose store is kept ready. Past it they are made anew, which only costs cloud identities a token.
const BUCKETS: usize = 64;

/// Between the names of folders, in every store.
const DELIMITER: &str = "/";

/// How far down a listing goes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Depth {
    /// Objects wherever they lie below.
    All,
    /// What stands directly there; a folder once.
    One,
}

/// A backend's client and its gate.
pub(crate) struct Client {
    /// Never the same for two clients of this process: an answer that one of them got is not another's.
    pub(crate) id: u64,
    connection: Connection,
    pub(crate) gate: Gate,
    /// Made at the first call: reading the machine's CAs takes milliseconds that a start should not wait for.
    transport: Mutex<Option<Transport>>,
    buckets: Mutex<HashMap<String, Arc<dyn Store>>>,
}

trait Store: ObjectStore + PaginatedListStore {}
impl<T: ObjectStore + PaginatedListStore> Store for T {}

impl Client {
    pub(crate) fn new(connection: Connection, patience: Patience) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Self {
            id: NEXT.fetch_add(1, Ordering::Relaxed),
            connection,
            gate: Gate::new(patience),
            transport: Mutex::default(),
            buckets: Mutex::default(),
        }
    }

    pub(crate) fn connects(&self, connection: &Connection) -> bool {
        self.connection == *connection
    }

    /// The store and its key, where it is S3 with an endpoint of its own and a key.
    pub(crate) fn issuer(&self) -> Option<Issuer<'_>> {
        match &self.connection {
            Connection::S3 {
                endpoint: Some(endpoint),
                region,
                trust,
                identity: Identity::Keys(key),
                ..
            } => Some(Issuer {
                endpoint,
                region: region.as_deref(),
                trust,
                id: &key.id,
                secret: &key.secret,
            }),
            _ => None,
        }
    }

    /// The host that errors name.
    pub(crate) fn host(&self, place: &Place) -> String {
        match (&self.connection, place) {
            (
                Connection::HuggingFace { endpoint, .. }
                | Connection::S3 {
                    endpoint: Some(endpoint),
                    ..
                }
                | Connection::Gcs {
                    endpoint: Some(endpoint),
                    ..
                }
                | Connection::Azure {
                    endpoint: Some(endpoint),
                    ..
                },
                _,
            ) => authority(endpoint),
            (Connection::S3 { .. }, _) => "s3.amazonaws.com".to_owned(),
            (Connection::Gcs { .. }, _) => "storage.googleapis.com".to_owned(),
            (_, Place::Azure { account, .. }) => format!("{account}.blob.core.windows.net"),
            (_, Place::Url(url)) => authority(url),
            _ => "the store".to_owned(),
        }
    }

    /// The object at exactly this place.
    pub(crate) async fn stat(&self, place: &Place) -> Result<u64, Failure> {
        match self.web(place)? {
            Some(web) => web.stat(place).await,
            None => Ok(self
                .bucket(place)?
                .head(&path(place)?)
                .await
                .map_err(|error| self.failure(&error, place))?
                .size),
        }
    }

    /// Objects below this place, at most `limit`, in the order of their names.
    pub(crate) async fn list(&self, place: &Place, limit: usize) -> Result<Listing, Failure> {
        self.listed(place, limit, Depth::All).await
    }

    /// Objects and folders directly in this place, at most `limit`, in the order of their names.
    pub(crate) async fn list_folder(&self, place: &Place, limit: usize) -> Result<Listing, Failure> {
        self.listed(place, limit, Depth::One).await
    }

    async fn listed(&self, place: &Place, limit: usize, depth: Depth) -> Result<Listing, Failure> {
        let mut listing = match self.web(place)? {
            Some(web) => web.list(place, limit, depth).await?,
            None => self.list_bucket(place, limit, depth).await?,
        };
        listing.objects.sort_unstable_by(|a, b| a.path.cmp(&b.path));
        Ok(listing)
    }

    async fn list_bucket(&self, place: &Place, limit: usize, depth: Depth) -> Result<Listing, Failure> {
        let store = self.bucket(place)?;
        let key = place.key();
        let prefix = if key.is_empty() {
            String::new()
        } else {
            format!("{key}/")
        };
        let mut objects = Vec::new();
        let mut page_token = None;
        // Stores give up to 1,000 a page, some fewer than they were asked for.
        loop {
            let options = PaginatedListOptions {
                max_keys: Some(limit - objects.len()),
                delimiter: (depth == Depth::One).then_some(DELIMITER.into()),
                page_token,
                ..Default::default()
            };
            let page = store
                .list_paginated((!prefix.is_empty()).then_some(&*prefix), options)
                .await
                .map_err(|error| match wordless_not_found(&error) {
                    Some(failure) => failure,
                    None => self.failure(&error, place),
                })?;
            // An object named like the folder itself is what some tools leave to make an empty folder visible.
            objects.extend(page.result.objects.into_iter().filter_map(|object| {
                let path = object.location.as_ref().strip_prefix(&prefix)?.to_owned();
                (!path.is_empty()).then_some(ObjectInfo {
                    path,
                    size: object.size,
                })
            }));
            objects.extend(page.result.common_prefixes.into_iter().filter_map(|folder| {
                let name = folder.as_ref().strip_prefix(&prefix)?;
                (!name.is_empty()).then(|| ObjectInfo {
                    path: format!("{name}{DELIMITER}"),
                    size: 0,
                })
            }));
            page_token = page.page_token;
            if page_token.is_none() || objects.len() >= limit {
                let truncated = page_token.is_some() || objects.len() > limit;
                objects.truncate(limit);
                return Ok(Listing { objects, truncated });
            }
        }
    }

    /// Up to `length` bytes from `offset`; fewer at the end, none past it.
    pub(crate) async fn read(&self, place: &Place, offset: u64, length: usize) -> Result<Bytes, Failure> {
        let end = offset.saturating_add(length as u64);
        if let Some(web) = self.web(place)? {
            return web.read(place, offset, end).await;
        }
        let options = GetOptions {
            range: Some(GetRange::Bounded(offset..end)),
            ..Default::default()
        };
        let mut chunks = match self.bucket(place)?.get_opts(&path(place)?, options).await {
            Ok(object) => object.into_stream(),
            Err(error) => {
                return if past_the_end(&error) {
                    Ok(Bytes::new())
                } else {
                    Err(self.failure(&error, place))
                };
            }
        };
        let mut read = BytesMut::new();
        while let Some(chunk) = chunks.next().await {
            read.extend_from_slice(&chunk.map_err(|error| self.failure(&error, place))?);
            if read.len() >= length {
                read.truncate(length);
                break;
            }
        }
        Ok(read.freeze())
    }

    fn failure(&self, error: &object_store::Error, place: &Place) -> Failure {
        match error {
            object_store::Error::NotFound { .. } => Failure::NotFound,
            object_store::Error::InvalidPath { .. } => {
                Failure::Unserved(format!("an object's name there can't be read: {}", place.key()))
            }
            error => classify(error, &self.host(place)),
        }
    }

    /// The client for stores that are plain web servers.
    fn web(&self, place: &Place) -> Result<Option<Web>, Failure> {
        match (&self.connection, place) {
            (Connection::Https { headers, .. }, Place::Url(_)) => {
                Ok(Some(Web::new(self.transport()?, None, headers.clone())))
            }
            (Connection::HuggingFace { endpoint, token, .. }, Place::Hub { .. }) => {
                let headers = token
                    .iter()
                    .map(|token| ("authorization".to_owned(), format!("Bearer {token}")))
                    .collect();
                Ok(Some(Web::new(self.transport()?, Some(endpoint.clone()), headers)))
            }
            (Connection::Opaque(kind), _) => Err(Failure::Unserved(format!(
                "models in {kind} can't be looked at from here"
            ))),
            _ => Ok(None),
        }
    }

    fn transport(&self) -> Result<Transport, Failure> {
        let mut transport = self.transport.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(transport) = &*transport {
            return Ok(transport.clone());
        }
        let made = Transport(client(self.connection.trust()).map_err(Failure::Unserved)?);
        *transport = Some(made.clone());
        Ok(made)
    }

    fn bucket(&self, place: &Place) -> Result<Arc<dyn Store>, Failure> {
        let name = place.container();
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(store) = buckets.get(&name) {
            return Ok(Arc::clone(store));
        }
        let connector = Connector(self.transport()?);
        let store = store(&self.connection, place, connector)?;
        if buckets.len() >= BUCKETS {
            buckets.clear();
        }
        buckets.insert(name, Arc::clone(&store));
        Ok(store)
    }
}

fn store(connection: &Connection, place: &Place, connector: Connector) -> Result<Arc<dyn Store>, Failure> {
    // The review's deadline and the breaker decide on tries, not the client.
    let once = RetryConfig {
        max_retries: 0,
        ..RetryConfig::default()
    };
    // Its own words are left out: the error of a key that can't be parsed may quote the key.
    let unusable = |_| Failure::Unserved("the backend's settings or credentials can't be used for a client".to_owned());
    match (connection, place) {
        (
            Connection::S3 {
                endpoint,
                region,
                path_style,
                identity,
                ..
            },
            Place::Bucket { bucket, .. },
        ) => {
            let builder = match identity {
                Identity::Ambient => AmazonS3Builder::from_env(),
                Identity::Anonymous => AmazonS3Builder::new().with_skip_signature(true),
                Identity::Keys(keys) => AmazonS3Builder::new()
                    .with_access_key_id(&keys.id)
                    .with_secret_access_key(&keys.secret),
            };
            let mut builder = builder
                .with_bucket_name(bucket)
                .with_virtual_hosted_style_request(!path_style)
                .with_retry(once)
                .with_http_connector(connector);
            if let Some(region) = region {
                builder = builder.with_region(region);
            }
            if let Some(endpoint) = endpoint {
                builder = builder
                    .with_endpoint(bucket_endpoint(endpoint, bucket, *path_style))
                    .with_allow_http(true);
            }
            Ok(Arc::new(builder.build().map_err(unusable)?))
        }
        (Connection::Gcs { endpoint, identity, .. }, Place::Bucket { bucket, .. }) => {
            let builder = match identity {
                Identity::Ambient => GoogleCloudStorageBuilder::from_env(),
                // With none at all it would look for what gcloud keeps at home, and fail where that is of a kind that it doesn't know.
                Identity::Anonymous => GoogleCloudStorageBuilder::new()
                    .with_credentials(Arc::new(StaticCredentialProvider::new(GcpCredential {
                        bearer: String::new(),
                    })))
                    .with_skip_signature(true),
                Identity::Keys(key) => GoogleCloudStorageBuilder::new().with_service_account_key(key),
            };
            let mut builder = builder
                .with_bucket_name(bucket)
                .with_retry(once)
                .with_http_connector(connector);
            if let Some(endpoint) = endpoint {
                builder = builder.with_base_url(endpoint.as_str().trim_end_matches('/'));
            }
            Ok(Arc::new(builder.build().map_err(unusable)?))
        }
        (Connection::Azure { endpoint, identity, .. }, Place::Azure { account, container, .. }) => {
            let builder = match identity {
                Identity::Ambient => MicrosoftAzureBuilder::from_env(),
                Identity::Anonymous => MicrosoftAzureBuilder::new().with_skip_signature(true),
                Identity::Keys(AzureKeys::Access(key)) => MicrosoftAzureBuilder::new().with_access_key(key),
                Identity::Keys(AzureKeys::Bearer(token)) => {
                    MicrosoftAzureBuilder::new().with_bearer_token_authorization(token)
                }
                Identity::Keys(AzureKeys::Client { tenant, id, secret }) => {
                    MicrosoftAzureBuilder::new().with_client_secret_authorization(id, secret, tenant)
                }
            };
            let mut builder = builder
                .with_account(account)
                .with_container_name(container)
                .with_retry(once)
                .with_http_connector(connector);
            if let Some(endpoint) = endpoint {
                builder = builder
                    .with_endpoint(endpoint.as_str().trim_end_matches('/').to_owned())
                    .with_allow_http(true);
            }
            Ok(Arc::new(builder.build().map_err(unusable)?))
        }
        _ => Err(Failure::Unserved("the backend's type doesn't fit this URI".to_owned())),
    }
}

/// With virtual hosts the bucket is the first label of the endpoint's name.
fn bucket_endpoint(endpoint: &Url, bucket: &str, path_style: bool) -> String {
    let mut endpoint = endpoint.clone();
    if !path_style && let Some(host) = endpoint.host_str() {
        let host = format!("{bucket}.{host}");
        // A bucket's name that is no host's name stays where it is, and the store will say so.
        let _ = endpoint.set_host(Some(&host));
    }
    endpoint.as_str().trim_end_matches('/').to_owned()
}

impl Connection {
    fn trust(&self) -> &Trust {
        match self {
            Self::S3 { trust, .. }
            | Self::Gcs { trust, .. }
            | Self::Azure { trust, .. }
            | Self::HuggingFace { trust, .. }
            | Self::Https { trust, .. } => trust,
            Self::Opaque(_) => &Trust::Nobody,
        }
    }
}

fn path(place: &Place) -> Result<Path, Failure> {
    Path::parse(place.key()).map_err(|_| Failure::Unserved(format!("{} can't be an object's name", place.key())))
}

fn authority(url: &Url) -> String {
    match (url.host_str(), url.port()) {
        (Some(host), Some(port)) => format!("{host}:{port}"),
        (Some(host), None) => host.to_owned(),
        (None, _) => "the store".to_owned(),
    }
}

fn past_the_end(error: &object_store::Error) -> bool {
    answered(error).is_some_and(|refused| refused.status == 416)
}
