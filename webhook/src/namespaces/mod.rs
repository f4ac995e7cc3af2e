//! Having credentials in a namespace before an object is admitted there.
//!
//! KServe reads a Secret when it makes the Pod and never again, so what a model needs must be there first. Everything written carries the label
//! `app.kubernetes.io/managed-by: tidewaiter`, and what lacks it is never written over.

pub mod cluster;
pub mod folder;

use std::collections::BTreeMap;
use std::time::Duration;

use async_trait::async_trait;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{ConfigMap, ObjectReference, Secret, ServiceAccount};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use tidewaiter_core::backend::{BACKEND_LABEL, CA_BUNDLE_KEY, MANAGED_BY, MANAGED_BY_LABEL, managed_name};
use tidewaiter_core::credentials::SecretContents;
use tokio::time::Instant;

/// Put on what a namespace no longer uses, before it is deleted. A review that needs the object takes the mark off by writing it.
pub const UNUSED_SINCE: &str = "tidewaiter.dev/unused-since";

/// All that is written for one object under review. With the review's own 2 s it stays below the webhook's `timeoutSeconds` of 5.
pub(crate) const PATIENCE: Duration = Duration::from_secs(2);

/// What one backend needs in one namespace. All its objects have the same name, [`managed_name`].
#[derive(Clone, Debug)]
pub struct Wanted {
    /// The `StorageBackend`.
    pub backend: String,
    /// The Secret's keys, and the annotations by which KServe knows endpoint, region and the like.
    pub contents: SecretContents,
    /// PEM certificates for a ConfigMap, where KServe needs one to trust the store.
    pub ca_bundle: Option<String>,
    /// Whether a ServiceAccount is to list the Secret.
    pub service_account: bool,
}

impl Wanted {
    fn metadata(&self, namespace: &str) -> ObjectMeta {
        ObjectMeta {
            name: Some(managed_name(&self.backend)),
            namespace: Some(namespace.into()),
            labels: Some(BTreeMap::from([
                (MANAGED_BY_LABEL.into(), MANAGED_BY.into()),
                (BACKEND_LABEL.into(), self.backend.clone()),
            ])),
            ..ObjectMeta::default()
        }
    }

    /// The Secret.
    pub fn secret(&self, namespace: &str) -> Secret {
        let mut metadata = self.metadata(namespace);
        metadata.annotations = Some(self.contents.annotations.clone());
        let data = self
            .contents
            .data
            .iter()
            .map(|(key, value)| (key.clone(), ByteString(value.expose().to_vec())));
        Secret {
            metadata,
            data: Some(data.collect()),
            type_: Some(self.contents.type_.into()),
            ..Secret::default()
        }
    }

    /// The ConfigMap with the store's authorities, where one is needed.
    pub fn config_map(&self, namespace: &str) -> Option<ConfigMap> {
        let ca_bundle = self.ca_bundle.as_ref()?;
        Some(ConfigMap {
            metadata: self.metadata(namespace),
            data: Some(BTreeMap::from([(CA_BUNDLE_KEY.into(), ca_bundle.clone())])),
            ..ConfigMap::default()
        })
    }

    /// The ServiceAccount that lists the Secret, where one is needed.
    pub fn service_account(&self, namespace: &str) -> Option<ServiceAccount> {
        self.service_account.then(|| ServiceAccount {
            metadata: self.metadata(namespace),
            secrets: Some(vec![ObjectReference {
                name: Some(managed_name(&self.backend)),
                ..ObjectReference::default()
            }]),
            ..ServiceAccount::default()
        })
    }
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
    /// The API server didn't answer.
    #[error(
        "can't write {kind} {namespace}/{name}, which holds the model store's credentials, since the API server doesn't answer ({message}): try again"
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
            Self::Foreign { .. } => false,
            Self::Refused { there, .. } | Self::Unreachable { there, .. } => *there,
        }
    }

    /// For metrics and for the denial's code.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Foreign { .. } => "credentials-name-taken",
            Self::Refused { .. } => "credentials-refused",
            Self::Unreachable { .. } => "credentials-unreachable",
        }
    }
}

/// Where credentials are put: the cluster, or a record of what would be.
#[async_trait]
pub trait Namespaces: Send + Sync {
    /// Has `wanted` in the namespace when it returns. Gives up at `until`.
    async fn provide(&self, namespace: &str, wanted: &Wanted, until: Instant) -> Result<Provided, ProvideError>;

    /// Whether a Secret of ours for this backend is in the namespace, as old as it may be. False where that can't be known by `until`.
    async fn has_secret(&self, namespace: &str, backend: &str, until: Instant) -> bool;
}
