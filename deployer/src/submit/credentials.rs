//! Credentials in a cluster where nobody else sees to them: the Secret and the ServiceAccount of KServe's guides, made for one service.

use kube::ResourceExt as _;
use kube::api::{DynamicObject, Preconditions};
use serde_json::json;
use tidewaiter_core::kserve_config::KserveConfig;

use super::apply::{apply, owned, propose};
use super::conflict::SubmitError;
use super::store::{MANAGED_BY, MANAGER, Store, secret_objects};
use crate::cluster::{Cluster, Kind, kinds};

/// What was made.
#[derive(Debug, Clone)]
pub struct Delivered {
    /// The Secret, and the ServiceAccount that names it, have this name.
    pub name: String,
    /// Whether neither was there before: they can be taken away again.
    pub is_new: bool,
    /// Whether either is another than before.
    pub is_changed: bool,
    /// The Secret and the ServiceAccount as they were written.
    pub made: [Preconditions; 2],
}

/// The service that they were made for.
const SERVICE: &str = "tidewaiter.dev/service";

static OBJECTS: [&Kind; 2] = [&kinds::SECRET, &kinds::SERVICE_ACCOUNT];

/// Makes the Secret and the ServiceAccount, or brings them up to date: for one service, or for whoever names them. With an owner, both go with it when it is deleted.
///
/// # Errors
/// Where one may not be written, or is there and was made by somebody else or for something else.
pub async fn deliver(
    cluster: &Cluster,
    store: &Store,
    name: &str,
    namespace: &str,
    config: &KserveConfig,
    service: Option<&str>,
    owner: Option<&DynamicObject>,
) -> Result<Delivered, SubmitError> {
    let objects = secret_objects(store, name, namespace, config)?;
    let objects = objects.map(|mut object| {
        if let Some(service) = service {
            object["metadata"]["labels"][SERVICE] = json!(service);
        }
        match owner {
            Some(owner) => owned(object, owner),
            None => object,
        }
    });
    let there = mine(cluster, name, namespace, service).await?;
    // Both are asked for first: a Secret without its account would stay behind.
    for ((kind, object), there) in OBJECTS.into_iter().zip(&objects).zip(&there) {
        propose(cluster, kind, object, there.as_ref(), false).await?;
    }
    let mut is_changed = false;
    let mut made = [Preconditions::default(), Preconditions::default()];
    for (((kind, object), there), made) in OBJECTS.into_iter().zip(&objects).zip(&there).zip(&mut made) {
        // Who deploys the same service at once may bring other keys.
        let now = apply(cluster, kind, object, there.as_ref(), false)
            .await?
            .object
            .metadata;
        let before = there
            .as_ref()
            .and_then(|there| there.metadata.resource_version.as_deref());
        is_changed |= before != now.resource_version.as_deref();
        *made = Preconditions {
            uid: now.uid,
            resource_version: now.resource_version,
        };
    }
    Ok(Delivered {
        name: name.to_owned(),
        is_new: there.iter().all(Option::is_none),
        is_changed,
        made,
    })
}

/// The objects as they are, in the order of [`OBJECTS`]. What is there has to be this command's own, and for the same service.
async fn mine(
    cluster: &Cluster,
    name: &str,
    namespace: &str,
    service: Option<&str>,
) -> Result<[Option<DynamicObject>; 2], SubmitError> {
    let mut found = [None, None];
    for (kind, found) in OBJECTS.into_iter().zip(&mut found) {
        let Some(there) = cluster.get(kind, Some(namespace), name).await? else {
            continue;
        };
        if !is_mine(&there, service) {
            return Err(SubmitError::Foreign {
                kind: kind.kind,
                name: name.to_owned(),
                namespace: namespace.to_owned(),
            });
        }
        *found = Some(there);
    }
    Ok(found)
}

/// Made by this command, for this service, or for nobody's in particular.
fn is_mine(there: &DynamicObject, service: Option<&str>) -> bool {
    let label = |name: &str| there.labels().get(name).map(String::as_str);
    label(MANAGED_BY) == Some(MANAGER) && label(SERVICE) == service
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
    mine(cluster, name, namespace, None).await?;
    for (kind, object) in OBJECTS
        .into_iter()
        .zip(&secret_objects(store, name, namespace, config)?)
    {
        propose(cluster, kind, object, None, false).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    fn object(labels: Value) -> DynamicObject {
        serde_json::from_value(json!({"metadata": {"name": "fraud-store", "labels": labels}})).unwrap()
    }

    #[test]
    fn what_somebody_else_made_or_another_service_has_is_not_changed() {
        let of_fraud = object(json!({MANAGED_BY: MANAGER, SERVICE: "fraud"}));
        let shared = object(json!({MANAGED_BY: MANAGER}));
        let of_helm = object(json!({MANAGED_BY: "Helm", SERVICE: "fraud"}));
        assert!(is_mine(&of_fraud, Some("fraud")) && is_mine(&shared, None));
        // Services use by name what `secret create` made: a deploy that brings other keys must not change it for all of them.
        assert!(!is_mine(&shared, Some("fraud")) && !is_mine(&of_fraud, None));
        assert!(!is_mine(&of_fraud, Some("churn")));
        assert!(!is_mine(&of_helm, Some("fraud")) && !is_mine(&object(json!({})), None));
    }
}
