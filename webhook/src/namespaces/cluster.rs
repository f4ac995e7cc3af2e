//! In a cluster: by server-side apply, and only where something differs from what a watch shows.

use std::fmt::Debug;

use async_trait::async_trait;
use k8s_openapi::api::core::v1::{ConfigMap, Secret, ServiceAccount};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::{Metadata, NamespaceResourceScope};
use kube::api::{Patch, PatchParams};
use kube::{Api, Client, Resource};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::time::Duration;
use tidewaiter_core::backend::{MANAGED_BY, MANAGED_BY_LABEL};
use tokio::time::timeout;

use super::{Namespaces, ProvideError, Provided, UNUSED_SINCE, Wanted};
use crate::cluster::watched::Watched;

/// Owner of the fields that we write.
pub const FIELD_MANAGER: &str = "tidewaiter";
/// All writes for one object under review. With the review's own 2 s it stays below the webhook's `timeoutSeconds` of 5.
const PATIENCE: Duration = Duration::from_secs(2);
/// Two replicas may write the same object at once.
const ATTEMPTS: usize = 3;

/// Writes into a cluster's namespaces.
pub struct InCluster {
    /// Reads and writes by name.
    pub client: Client,
    /// Ours, by label.
    pub secrets: Watched<Secret>,
    /// Ours, by label.
    pub config_maps: Watched<ConfigMap>,
    /// Ours, by label.
    pub service_accounts: Watched<ServiceAccount>,
}

#[async_trait]
impl Namespaces for InCluster {
    async fn provide(&self, namespace: &str, wanted: &Wanted) -> Result<Provided, ProvideError> {
        // What the Secret names comes before it, and what names the Secret after it.
        let mut provided = Provided::Unchanged;
        if let Some(config_map) = wanted.config_map(namespace) {
            let same = |there: &ConfigMap, wanted: &ConfigMap| there.data == wanted.data;
            provided = provided.max(self.have(&self.config_maps, config_map, same).await?);
        }
        let same = |there: &Secret, wanted: &Secret| there.data == wanted.data && there.type_ == wanted.type_;
        provided = provided.max(self.have(&self.secrets, wanted.secret(namespace), same).await?);
        if let Some(service_account) = wanted.service_account(namespace) {
            let same = |there: &ServiceAccount, wanted: &ServiceAccount| {
                let listed = there.secrets.as_deref().unwrap_or_default();
                wanted
                    .secrets
                    .iter()
                    .flatten()
                    .all(|secret| listed.iter().any(|other| other.name == secret.name))
            };
            provided = provided.max(self.have(&self.service_accounts, service_account, same).await?);
        }
        Ok(provided)
    }
}

impl InCluster {
    async fn have<K>(
        &self,
        watched: &Watched<K>,
        wanted: K,
        same: impl Fn(&K, &K) -> bool,
    ) -> Result<Provided, ProvideError>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
            + k8s_openapi::Resource
            + Metadata<Ty = ObjectMeta>
            + Serialize
            + DeserializeOwned
            + Clone
            + Debug
            + Send
            + Sync
            + 'static,
    {
        let namespace = Metadata::metadata(&wanted).namespace.clone().unwrap_or_default();
        let name = Metadata::metadata(&wanted).name.clone().unwrap_or_default();
        let as_wanted =
            |there: &K| same(there, &wanted) && marked_as(Metadata::metadata(there), Metadata::metadata(&wanted));
        let known = watched.current(&namespace, &name);
        if known.as_deref().is_some_and(as_wanted) {
            return Ok(Provided::Unchanged);
        }
        let api: Api<K> = Api::namespaced(self.client.clone(), &namespace);
        let mut there = known.is_some();
        let error = match timeout(PATIENCE, write(&api, &name, &wanted, as_wanted, &mut there)).await {
            Ok(Ok(Write::Done(provided))) => return Ok(provided),
            Ok(Ok(Write::Foreign)) => {
                return Err(ProvideError::Foreign {
                    kind: K::KIND,
                    namespace,
                    name,
                });
            }
            Ok(Err(kube::Error::Api(status))) => {
                return Err(ProvideError::Refused {
                    kind: K::KIND,
                    namespace,
                    name,
                    message: status.message.clone(),
                    there,
                });
            }
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("within {} s", PATIENCE.as_secs()),
        };
        Err(ProvideError::Unreachable {
            kind: K::KIND,
            namespace,
            name,
            message: error,
            there,
        })
    }
}

enum Write {
    Done(Provided),
    Foreign,
}

/// Reads, and writes where needed. Server-side apply alone could not tell our object from one that somebody else made under the same name: it would merge into
/// it. So labels are read first. Over our own object the write is forced, bound to the version that was read; where none is there it isn't forced, so
/// that one made in between with the same keys is a conflict and is looked at again.
async fn write<K>(
    api: &Api<K>,
    name: &str,
    wanted: &K,
    as_wanted: impl Fn(&K) -> bool,
    there: &mut bool,
) -> Result<Write, kube::Error>
where
    K: Resource<DynamicType = ()> + Metadata<Ty = ObjectMeta> + Serialize + DeserializeOwned + Clone + Debug,
{
    let mut attempt = 1;
    loop {
        let found = api.get_opt(name).await?;
        let mut apply = wanted.clone();
        let mut params = PatchParams::apply(FIELD_MANAGER);
        if let Some(found) = &found {
            *there = ours(Metadata::metadata(found));
            if !*there {
                return Ok(Write::Foreign);
            }
            if as_wanted(found) {
                return Ok(Write::Done(Provided::Unchanged));
            }
            Metadata::metadata_mut(&mut apply)
                .resource_version
                .clone_from(&Metadata::metadata(found).resource_version);
            params = params.force();
        } else {
            *there = false;
        }
        match api.patch(name, &params, &Patch::Apply(&apply)).await {
            Ok(_) => return Ok(Write::Done(Provided::Written)),
            Err(kube::Error::Api(status)) if status.code == 409 && attempt < ATTEMPTS => attempt += 1,
            Err(error) => return Err(error),
        }
    }
}

fn ours(metadata: &ObjectMeta) -> bool {
    metadata
        .labels
        .as_ref()
        .and_then(|labels| labels.get(MANAGED_BY_LABEL))
        .is_some_and(|manager| manager == MANAGED_BY)
}

/// Our labels and annotations are there, and no mark that the object is about to be collected. Others may add their own.
fn marked_as(there: &ObjectMeta, wanted: &ObjectMeta) -> bool {
    let within = |wanted: &Option<std::collections::BTreeMap<String, String>>,
                  there: &Option<std::collections::BTreeMap<String, String>>| {
        wanted
            .iter()
            .flatten()
            .all(|(key, value)| there.as_ref().and_then(|there| there.get(key)) == Some(value))
    };
    // One that is being deleted counts as absent.
    there.deletion_timestamp.is_none()
        && within(&wanted.labels, &there.labels)
        && within(&wanted.annotations, &there.annotations)
        && !there
            .annotations
            .as_ref()
            .is_some_and(|annotations| annotations.contains_key(UNUSED_SINCE))
}

#[cfg(test)]
#[path = "cluster_tests.rs"]
mod tests;
