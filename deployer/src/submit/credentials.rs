//! Credentials in a cluster where nobody else sees to them: the Secret and the ServiceAccount of KServe's guides, made for one service.

use kube::api::DynamicObject;
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

static OBJECTS: [&Kind; 2] = [&kinds::SECRET, &kinds::SERVICE_ACCOUNT];

/// Makes the Secret and the ServiceAccount, or brings them up to date. With an owner, both go with it when it is deleted.
///
/// # Errors
/// Where one may not be written, or somebody else manages it.
pub async fn deliver(
    cluster: &Cluster,
    store: &Store,
    name: &str,
    namespace: &str,
    config: &KserveConfig,
    owner: Option<&DynamicObject>,
) -> Result<Delivered, SubmitError> {
    let objects = secret_objects(store, name, namespace, config)?;
    let objects = objects.map(|object| match owner {
        Some(owner) => owned(object, owner),
        None => object,
    });
    let before = cluster.get(&kinds::SERVICE_ACCOUNT, Some(namespace), name).await?;
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
