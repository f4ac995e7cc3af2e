//! Which version of a backend and its Secret a copy was made from. Replicas learn of a rotated key one after another, and none may put the last one back.

use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use tidewaiter_core::backend::StorageBackend;

/// On a copy: `UID/GENERATION/VERSION` of the `StorageBackend`, and of its Secret.
pub(crate) const SOURCE: &str = "tidewaiter.dev/source";

/// Of what a copy is made from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Version {
    backend: String,
    generation: i64,
    /// Of one cluster's store they are numbers, and only grow (KEP-5504).
    secret: u64,
}

impl Version {
    /// None where they are in no cluster.
    pub(crate) fn new(backend: &StorageBackend, secret: &Secret) -> Option<Self> {
        Some(Self {
            backend: backend.metadata.uid.clone()?,
            generation: backend.metadata.generation?,
            secret: secret.metadata.resource_version.as_ref()?.parse().ok()?,
        })
    }

    /// As a copy says it.
    pub(super) fn of(copy: &ObjectMeta) -> Option<Self> {
        let mut parts = copy.annotations.as_ref()?.get(SOURCE)?.split('/');
        Some(Self {
            backend: parts.next()?.to_owned(),
            generation: parts.next()?.parse().ok()?,
            secret: parts.next()?.parse().ok()?,
        })
    }

    /// For the annotation.
    pub(super) fn text(&self) -> String {
        format!("{}/{}/{}", self.backend, self.generation, self.secret)
    }

    /// Of a backend that was made anew nothing is older or newer.
    pub(super) fn is_newer_than(&self, other: &Self) -> bool {
        self.backend == other.backend && (self.generation, self.secret) > (other.generation, other.secret)
    }
}
