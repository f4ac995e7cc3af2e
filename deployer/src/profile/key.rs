//! What a profile may hold.

use std::fmt;
use std::str::FromStr;

use tidewaiter_core::uri::{Scheme, StorageUri};
use url::Url;

use crate::cluster::is_object_name;

/// One thing that a profile knows. Named as ZenML's deployer names them, where it has them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Key {
    /// The kubeconfig's context.
    KubernetesContext,
    /// The namespace that services go to.
    KubernetesNamespace,
    /// Where services answer, in place of the ingress that is found.
    BaseUrl,
    /// A Secret in that namespace with the store's credentials.
    Secret,
    /// Where models are uploaded to.
    ArtifactStore,
    /// `MLflow`'s.
    TrackingServer,
}

impl Key {
    /// Each, in the order that users are shown.
    pub const ALL: [Self; 6] = [
        Self::KubernetesContext,
        Self::KubernetesNamespace,
        Self::BaseUrl,
        Self::Secret,
        Self::ArtifactStore,
        Self::TrackingServer,
    ];

    /// In a profile's file.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::KubernetesContext => "kubernetes_context",
            Self::KubernetesNamespace => "kubernetes_namespace",
            Self::BaseUrl => "base_url",
            Self::Secret => "secret",
            Self::ArtifactStore => "artifact_store",
            Self::TrackingServer => "tracking_server",
        }
    }

    /// The environment's variable for it, which is stronger than a profile.
    pub fn variable(self) -> &'static str {
        match self {
            Self::KubernetesContext => "TIDEWAITER_CONTEXT",
            Self::KubernetesNamespace => "TIDEWAITER_NAMESPACE",
            Self::BaseUrl => "TIDEWAITER_BASE_URL",
            Self::Secret => "TIDEWAITER_SECRET",
            Self::ArtifactStore => "TIDEWAITER_ARTIFACT_STORE",
            // MLflow's own, which is set where MLflow is used.
            Self::TrackingServer => "MLFLOW_TRACKING_URI",
        }
    }

    /// The command's flag for it, which is stronger than both.
    pub fn flag(self) -> &'static str {
        match self {
            Self::KubernetesContext => "--context",
            Self::KubernetesNamespace => "--namespace",
            Self::BaseUrl => "--base-url",
            Self::Secret => "--secret",
            Self::ArtifactStore => "--artifact-store",
            Self::TrackingServer => "--tracking-server",
        }
    }

    /// # Errors
    /// What is wrong with the value, and what it has to be. A password in a URL is never repeated.
    pub fn check(self, value: &str) -> Result<(), String> {
        match self {
            _ if value.is_empty() => Err("it is empty".to_owned()),
            Self::KubernetesContext => Ok(()),
            Self::KubernetesNamespace | Self::Secret => kubernetes_name(value),
            Self::BaseUrl | Self::TrackingServer => web_address(value),
            Self::ArtifactStore => store(value),
        }
    }
}

impl Key {
    /// What is right, and still doesn't belong into a file: a store's address that has a token in it, as Azure's shared access signatures are.
    pub(super) fn keeps(self, value: &str) -> Result<(), String> {
        if self == Self::ArtifactStore && value.contains('?') {
            return Err("what stands behind its `?` opens the store, and doesn't belong into a file: leave it out, and give the key by \
                        AZURE_STORAGE_ACCESS_KEY"
                .to_owned());
        }
        Ok(())
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A word that is no key of a profile.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a profile has no `{0}`; it may have {known}", known = Key::ALL.map(Key::as_str).join(", "))]
pub struct UnknownKey(String);

impl FromStr for Key {
    type Err = UnknownKey;

    fn from_str(word: &str) -> Result<Self, Self::Err> {
        let found = Self::ALL.into_iter().find(|key| key.as_str() == word);
        found.ok_or_else(|| UnknownKey(word.to_owned()))
    }
}

fn kubernetes_name(value: &str) -> Result<(), String> {
    if is_object_name(value) {
        return Ok(());
    }
    Err("it is a name in Kubernetes: lower-case letters, digits and `-`".to_owned())
}

fn web_address(value: &str) -> Result<(), String> {
    let url = Url::parse(value).map_err(|error| format!("{error}: it is written as in http://host:port"))?;
    if !matches!(url.scheme(), "http" | "https") || url.host().is_none() {
        return Err("it is written as in http://host:port".to_owned());
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("it carries a password, which doesn't belong into a file: \
                    MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD are for MLflow's"
            .to_owned());
    }
    Ok(())
}

fn store(value: &str) -> Result<(), String> {
    let uri = StorageUri::parse(value).map_err(|error| error.to_string())?;
    match uri.scheme() {
        Scheme::S3 | Scheme::Gs => Ok(()),
        Scheme::Https if uri.azure().is_some() => Ok(()),
        _ => Err("models are uploaded to s3://, gs:// or Azure's https://ACCOUNT.blob.core.windows.net/".to_owned()),
    }
}
