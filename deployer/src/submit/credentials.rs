//! Credentials in a cluster where nobody else sees to them: the Secret and the ServiceAccount of KServe's guides, made for one service.

use kube::api::DynamicObject;
use serde_json::Value;
use tidewaiter_core::kserve_config::KserveConfig;

use super::apply::{apply, owned, propose};
use super::conflict::SubmitError;
use super::store::{Store, secret_objects};
use crate::cluster::{Cluster, Kind, kinds};

/// What was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivered {
    /// The Secret, and the ServiceAccount that names it, have this name.
    pub name: String,
    /// Whether neither was there before: they can be taken away again.
    pub is_new: bool,
}

const OBJECTS: [&'static Kind; 2] = [&kinds::SECRET, &kinds::SERVICE_ACCOUNT];

/// Makes the Secret and the ServiceAccount, or brings them up to date.
///
/// # Errors
/// Where one may not be written, or somebody else manages it.
pub async fn deliver(
    cluster: &Cluster,
    store: &Store,
    name: &str,
    namespace: &str,
    config: &KserveConfig,
) -> Result<Delivered, SubmitError> {
    let objects = secret_objects(store, name, namespace, config)?;
    let before = cluster.find(&kinds::SERVICE_ACCOUNT, Some(namespace), name).await?;
    for (kind, object) in OBJECTS.into_iter().zip(&objects) {
        apply(cluster, kind, object, false).await?;
    }
    Ok(Delivered {
        name: name.to_owned(),
        is_new: before.is_none(),
    })
}

/// Has the API server check both, and stores nothing.
///
/// # Errors
/// As for [`deliver`].
pub async fn would_deliver(
    cluster: &Cluster,
    store: &Store,
    name: &str,
    namespace: &str,
    config: &KserveConfig,
) -> Result<(), SubmitError> {
    for (kind, object) in OBJECTS
        .into_iter()
        .zip(&secret_objects(store, name, namespace, config)?)
    {
        propose(cluster, kind, object, None, false).await?;
    }
    Ok(())
}

/// Has both go with a service when it is deleted.
///
/// # Errors
/// As for [`deliver`].
pub async fn keep_with(
    cluster: &Cluster,
    store: &Store,
    name: &str,
    service: &DynamicObject,
    config: &KserveConfig,
) -> Result<(), SubmitError> {
    let namespace = service.metadata.namespace.as_deref().unwrap_or_default();
    let objects: [Value; 2] = secret_objects(store, name, namespace, config)?;
    for (kind, object) in OBJECTS.into_iter().zip(objects) {
        apply(cluster, kind, &owned(object, service), false).await?;
    }
    Ok(())
}
