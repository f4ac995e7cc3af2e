//! Having credentials in a namespace before an object is admitted there.
//!
//! KServe reads a Secret when it makes the Pod and never again, so what a model needs must be there first. Everything written carries the label
//! `app.kubernetes.io/managed-by: tidewaiter`, and what lacks it is never written over.

pub mod cluster;
pub mod folder;
mod minted;
mod version;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ConfigMap, ObjectReference, Secret, ServiceAccount};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::{ByteString, Metadata};
use tidewaiter_core::backend::{BACKEND_LABEL, CA_BUNDLE_KEY, MANAGED_BY, MANAGED_BY_LABEL, managed_name};
use tidewaiter_core::credentials::SecretContents;
use tidewaiter_world::Labels;
use tokio::time::Instant;

pub(crate) use self::minted::Trouble;
pub(crate) use self::version::Version;
use crate::minting::{Mint, Untold};

/// Put on what a namespace no longer uses, before it is deleted. A review that needs the object takes the mark off by writing it.
pub const UNUSED_SINCE: &str = "tidewaiter.dev/unused-since";

/// All that is written for one object under review. With the review's own 2 s it stays below the webhook's `timeoutSeconds` of 5.
pub(crate) const PATIENCE: Duration = Duration::from_secs(2);

/// What one backend needs in a namespace: objects of the same name ([`managed_name`]), ready but for the namespace. Cheap to clone; holds Secrets, so
/// it can't be printed.
#[derive(Clone)]
pub struct Wanted {
    backend: Arc<str>,
    pub(crate) secret: Arc<Secret>,
    config_map: Option<Arc<ConfigMap>>,
    service_account: Option<Arc<ServiceAccount>>,
}

impl Wanted {
    /// A Secret with these contents, and with PEM certificates a ConfigMap, where KServe needs one to trust the store.
    pub fn new(backend: &str, contents: SecretContents, ca_bundle: Option<String>) -> Self {
        let data = contents
            .data
            .iter()
            .map(|(key, value)| (key.clone(), ByteString(value.expose().to_vec())));
        let secret = Secret {
            data: Some(data.collect()),
            type_: Some(contents.type_.into()),
            metadata: ObjectMeta {
                annotations: Some(contents.annotations),
                ..metadata(backend)
            },
            ..Secret::default()
        };
        Self {
            backend: backend.into(),
            secret: Arc::new(secret),
            config_map: config_map(backend, ca_bundle).map(Arc::new),
            service_account: None,
        }
    }

    /// With a ServiceAccount that lists the Secret.
    #[must_use]
    pub fn with_service_account(self) -> Self {
        Self {
            service_account: Some(Arc::new(account(&self.backend))),
            ..self
        }
    }

    /// Made from this version.
    pub(crate) fn of_version(self, version: &Version) -> Self {
        self.with_annotation(version::SOURCE, version.text())
    }

    /// With a further annotation on the Secret.
    pub(crate) fn with_annotation(self, key: &str, value: String) -> Self {
        let mut secret = (*self.secret).clone();
        let annotations = secret.metadata.annotations.get_or_insert_default();
        annotations.insert(key.to_owned(), value);
        Self {
            secret: Arc::new(secret),
            ..self
        }
    }

    /// The `StorageBackend`.
    pub fn backend(&self) -> &str {
        &self.backend
    }
}

/// By which KServe trusts a store's certificate.
fn config_map(backend: &str, ca_bundle: Option<String>) -> Option<ConfigMap> {
    Some(ConfigMap {
        metadata: metadata(backend),
        data: Some(BTreeMap::from([(CA_BUNDLE_KEY.into(), ca_bundle?)])),
        ..ConfigMap::default()
    })
}

/// One that lists the Secret.
fn account(backend: &str) -> ServiceAccount {
    ServiceAccount {
        metadata: metadata(backend),
        secrets: Some(vec![ObjectReference {
            name: Some(managed_name(backend)),
            ..ObjectReference::default()
        }]),
        ..ServiceAccount::default()
    }
}

fn metadata(backend: &str) -> ObjectMeta {
    ObjectMeta {
        name: Some(managed_name(backend)),
        labels: Some(BTreeMap::from([
            (MANAGED_BY_LABEL.into(), MANAGED_BY.into()),
            (BACKEND_LABEL.into(), backend.to_owned()),
        ])),
        ..ObjectMeta::default()
    }
}

/// The object, in a namespace.
fn within<K: Metadata<Ty = ObjectMeta> + Clone>(namespace: &str, object: &K) -> K {
    let mut object = object.clone();
    object.metadata_mut().namespace = Some(namespace.into());
    object
}

/// What came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Provided {
    /// All was there as wanted; nothing was asked of the API server.
    Unchanged,
    /// Something was written.
    Written,
}

/// Why credentials are not in the namespace as wanted. The words are for the user whose object waits for them.
#[derive(Debug, thiserror::Error)]
pub enum ProvideError {
    /// An object that we didn't write has the name.
    #[error(
        "{kind} {namespace}/{name} is needed for the model store's credentials, but one that Tidewaiter didn't write is there already: rename or delete it, or \
         if it is to be replaced label it {MANAGED_BY_LABEL}={MANAGED_BY}"
    )]
    Foreign {
        /// Secret, ConfigMap or ServiceAccount.
        kind: &'static str,
        /// Where.
        namespace: String,
        /// Its name.
        name: String,
    },
    /// The API server said no: a quota, RBAC, another webhook, a namespace that is being deleted.
    #[error("can't write {kind} {namespace}/{name}, which holds the model store's credentials: {message}")]
    Refused {
        /// Secret, ConfigMap or ServiceAccount.
        kind: &'static str,
        /// Where.
        namespace: String,
        /// Its name.
        name: String,
        /// The API server's own words.
        message: String,
        /// An earlier version of ours is there and can be used.
        there: bool,
    },
    /// A key can't be had for what the namespace uses.
    #[error("no access key of the StorageBackend {backend} can be made for the namespace {namespace}: {message}")]
    Unmintable {
        /// The `StorageBackend`.
        backend: String,
        /// Where.
        namespace: String,
        /// What stands in the way.
        message: String,
        /// An earlier one is there and can be used.
        there: bool,
    },
    /// Not one of the namespaces that Tidewaiter has rights in: what is there isn't known.
    #[error(
        "can't write {kind} {namespace}/{name}, which holds the model store's credentials: Tidewaiter may write in the namespaces {only} alone; an admin can \
         add this one to the chart's deliveryNamespaces"
    )]
    Elsewhere {
        /// Secret, ConfigMap or ServiceAccount.
        kind: &'static str,
        /// Where.
        namespace: String,
        /// Its name.
        name: String,
        /// Those that it has rights in.
        only: String,
    },
    /// The API server didn't answer, or can't answer now: too much to do, its store away, just begun.
    #[error(
        "can't write {kind} {namespace}/{name}, which holds the model store's credentials, now ({message}): try again"
    )]
    Unreachable {
        /// Secret, ConfigMap or ServiceAccount.
        kind: &'static str,
        /// Where.
        namespace: String,
        /// Its name.
        name: String,
        /// What went wrong.
        message: String,
        /// An earlier version of ours is known to be there.
        there: bool,
    },
}

impl ProvideError {
    /// Whether what an object that is running already needs is there, if not as new as wanted.
    pub fn there(&self) -> bool {
        match self {
            Self::Foreign { .. } | Self::Elsewhere { .. } => false,
            Self::Refused { there, .. } | Self::Unmintable { there, .. } | Self::Unreachable { there, .. } => *there,
        }
    }

    /// For metrics and for the denial's code.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Foreign { .. } => "credentials-name-taken",
            Self::Refused { .. } | Self::Elsewhere { .. } => "credentials-refused",
            Self::Unmintable { .. } => "credentials-unmintable",
            Self::Unreachable { .. } => "credentials-unreachable",
        }
    }
}

/// What came of a minted key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Minting {
    /// Of the objects in the namespace.
    pub provided: Provided,
    /// Why MinIO doesn't let the key read all that it should yet; the leader tells it until it does.
    pub untold: Option<Untold>,
}

/// Who is asked about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subject {
    /// As the API server authenticates them.
    pub user: String,
    /// Their groups.
    pub groups: Vec<String>,
    /// Their uid; none where it isn't known.
    pub uid: Option<String>,
    /// What else is known of them.
    pub extra: BTreeMap<String, Vec<String>>,
}

impl Subject {
    /// A ServiceAccount, with the groups that every one has.
    pub fn service_account(namespace: &str, name: &str) -> Self {
        Self {
            user: format!("system:serviceaccount:{namespace}:{name}"),
            groups: vec![
                "system:serviceaccounts".to_owned(),
                format!("system:serviceaccounts:{namespace}"),
                "system:authenticated".to_owned(),
            ],
            uid: None,
            extra: BTreeMap::new(),
        }
    }
}

/// Where credentials are put: the cluster, or a record of what would be.
#[async_trait]
pub trait Namespaces: Send + Sync {
    /// Has `wanted` in the namespace when it returns. Gives up at `until`.
    async fn provide(&self, namespace: &str, wanted: &Wanted, until: Instant) -> Result<Provided, ProvideError>;

    /// Has an access key in the namespace, with labels as far as they are known, that may read these URIs: one of its own, minted by `mint`. Gives up at `until`.
    async fn mint(
        &self,
        namespace: &str,
        labels: Option<&Labels>,
        mint: &Mint,
        uses: &BTreeSet<String>,
        service_account: bool,
        until: Instant,
    ) -> Result<Minting, ProvideError>;

    /// Whether somebody may use a backend in a namespace. The error is for the user: nobody answered by `until`.
    async fn may_use(&self, who: &Subject, backend: &str, namespace: &str, until: Instant) -> Result<bool, String>;

    /// The namespaces that have a backend's credentials, sorted.
    fn copies(&self, backend: &str) -> Vec<String>;

    /// When the first of the access keys ends that were minted for this backend. None where its own are copied.
    fn ends(&self, _backend: &str) -> Option<Timestamp> {
        None
    }

    /// Whether a Secret of ours for this backend is in the namespace, as old as it may be. False where that can't be known by `until`.
    async fn has_secret(&self, namespace: &str, backend: &str, until: Instant) -> bool;
}
