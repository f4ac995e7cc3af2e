//! In a cluster: created or changed, and only where something differs from what a watch shows.

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::sync::Arc;

use async_trait::async_trait;
use jiff::Timestamp;
use k8s_openapi::api::authorization::v1::{ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec};
use k8s_openapi::api::core::v1::{ConfigMap, Secret, ServiceAccount};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::{Metadata, NamespaceResourceScope};
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client, Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tidewaiter_core::backend::{MANAGED_BY, MANAGED_BY_LABEL, managed_name};
use tidewaiter_world::Labels;
use tokio::sync::OnceCell;
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;

use super::minted::Wish;
use super::{
    Minting, Namespaces, ProvideError, Provided, Subject, UNUSED_SINCE, Version, Wanted, account, config_map, within,
};
use crate::cluster::refusal::is_meant;
use crate::cluster::watched::{Changes, Watched, everything, follow_in};
use crate::minting::{self, Mint};

/// How an object is changed: as ours.
pub(crate) fn writes() -> PatchParams {
    PatchParams {
        field_manager: Some(FIELD_MANAGER.into()),
        ..PatchParams::default()
    }
}

/// How an object is made: as ours.
pub(crate) fn creates() -> PostParams {
    PostParams {
        field_manager: Some(FIELD_MANAGER.into()),
        ..PostParams::default()
    }
}

/// Owner of the fields that we write.
pub const FIELD_MANAGER: &str = "tidewaiter";
/// Two replicas may write the same object at once.
const ATTEMPTS: usize = 3;

/// Writes into a cluster's namespaces.
#[derive(Clone)]
pub struct InCluster {
    /// Reads and writes by name.
    pub client: Client,
    /// Ours, by label.
    pub secrets: Watched<Secret>,
    /// Ours, by label.
    pub config_maps: Watched<ConfigMap>,
    /// Ours, by label.
    pub service_accounts: Watched<ServiceAccount>,
    /// The namespaces that may be written to; none for all.
    pub only: Vec<String>,
    /// The UID of `kube-system`, once it was read.
    pub(super) cluster_id: Arc<OnceCell<String>>,
}

impl InCluster {
    /// Begins to watch what is ours, in these namespaces, or in all where there are none.
    pub(crate) fn watch(client: Client, namespaces: &[String], changes: &Changes, stop: &CancellationToken) -> Self {
        let config = &everything().labels(&format!("{MANAGED_BY_LABEL}={MANAGED_BY}"));
        Self {
            secrets: follow_in(&client, namespaces, config, "Secret (ours)", changes, stop),
            config_maps: follow_in(&client, namespaces, config, "ConfigMap (ours)", changes, stop),
            service_accounts: follow_in(&client, namespaces, config, "ServiceAccount (ours)", changes, stop),
            only: namespaces.to_vec(),
            cluster_id: Arc::default(),
            client,
        }
    }

    /// Waits until what is ours is known.
    pub(crate) async fn settled(&self) {
        tokio::join!(
            self.secrets.settled(),
            self.config_maps.settled(),
            self.service_accounts.settled()
        );
    }
}

#[async_trait]
impl Namespaces for InCluster {
    async fn provide(&self, namespace: &str, wanted: &Wanted, until: Instant) -> Result<Provided, ProvideError> {
        // What the Secret names comes before it, and what names the Secret after it.
        let config_map = self
            .have_config_map(namespace, wanted.config_map.as_deref(), until)
            .await?;
        let same = |there: &Secret, wanted: &Secret| there.data == wanted.data && there.type_ == wanted.type_;
        let secret = self.have(&self.secrets, namespace, &wanted.secret, same, until).await?;
        let account = self
            .have_account(namespace, wanted.service_account.as_deref(), until)
            .await?;
        Ok(config_map.max(secret).max(account))
    }

    async fn mint(
        &self,
        namespace: &str,
        labels: Option<&Labels>,
        mint: &Mint,
        uses: &BTreeSet<String>,
        service_account: bool,
        until: Instant,
    ) -> Result<Minting, ProvideError> {
        let config_map = config_map(mint.backend(), mint.ca_bundle());
        let config_map = self.have_config_map(namespace, config_map.as_ref(), until).await?;
        let wish = Wish {
            namespace,
            labels,
            mint,
            uses,
            until,
        };
        let mut minting = self.key(&wish).await?;
        let account = service_account.then(|| account(mint.backend()));
        let account = self.have_account(namespace, account.as_ref(), until).await?;
        minting.provided = minting.provided.max(config_map).max(account);
        Ok(minting)
    }

    async fn may_use(&self, who: &Subject, backend: &str, namespace: &str, until: Instant) -> Result<bool, String> {
        let review = SubjectAccessReview {
            spec: SubjectAccessReviewSpec {
                user: Some(who.user.clone()),
                groups: Some(who.groups.clone()),
                uid: who.uid.clone(),
                extra: (!who.extra.is_empty()).then(|| who.extra.clone()),
                resource_attributes: Some(ResourceAttributes {
                    group: Some("tidewaiter.dev".to_owned()),
                    resource: Some("storagebackends".to_owned()),
                    verb: Some("use".to_owned()),
                    name: Some(backend.to_owned()),
                    // Of no namespace itself: so that a RoleBinding in the service's namespace can give the right for there alone.
                    namespace: Some(namespace.to_owned()),
                    ..ResourceAttributes::default()
                }),
                ..SubjectAccessReviewSpec::default()
            },
            ..SubjectAccessReview::default()
        };
        let api: Api<SubjectAccessReview> = Api::all(self.client.clone());
        match timeout_at(until, api.create(&PostParams::default(), &review)).await {
            Ok(Ok(answer)) => Ok(answer.status.is_some_and(|status| status.allowed)),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err("the API server didn't answer in time".to_owned()),
        }
    }

    fn copies(&self, backend: &str) -> Vec<String> {
        let name = managed_name(backend);
        let copies = self.secrets.all();
        let copies = copies.iter().filter(|secret| {
            secret.name_any() == name && ours(&secret.metadata) && secret.metadata.deletion_timestamp.is_none()
        });
        let mut namespaces: Vec<String> = copies.filter_map(|secret| secret.namespace()).collect();
        namespaces.sort_unstable();
        namespaces
    }

    fn ends(&self, backend: &str) -> Option<Timestamp> {
        let name = managed_name(backend);
        let copies = self.secrets.all();
        let copies = copies
            .iter()
            .filter(|secret| secret.name_any() == name && ours(&secret.metadata));
        copies.filter_map(|secret| minting::end(secret)).min()
    }

    async fn has_secret(&self, namespace: &str, backend: &str, until: Instant) -> bool {
        let name = managed_name(backend);
        let usable = |secret: &Secret| ours(&secret.metadata) && secret.metadata.deletion_timestamp.is_none();
        if let Some(known) = self.secrets.current(namespace, &name) {
            return usable(&known);
        }
        let api: Api<Secret> = Api::namespaced(self.client.clone(), namespace);
        matches!(timeout_at(until, api.get_opt(&name)).await, Ok(Ok(Some(secret))) if usable(&secret))
    }
}

impl InCluster {
    async fn have_config_map(
        &self,
        namespace: &str,
        wanted: Option<&ConfigMap>,
        until: Instant,
    ) -> Result<Provided, ProvideError> {
        let same = |there: &ConfigMap, wanted: &ConfigMap| there.data == wanted.data;
        match wanted {
            Some(wanted) => self.have(&self.config_maps, namespace, wanted, same, until).await,
            None => Ok(Provided::Unchanged),
        }
    }

    async fn have_account(
        &self,
        namespace: &str,
        wanted: Option<&ServiceAccount>,
        until: Instant,
    ) -> Result<Provided, ProvideError> {
        let same = |there: &ServiceAccount, wanted: &ServiceAccount| {
            let listed = there.secrets.as_deref().unwrap_or_default();
            wanted
                .secrets
                .iter()
                .flatten()
                .all(|secret| listed.iter().any(|other| other.name == secret.name))
        };
        match wanted {
            Some(wanted) => self.have(&self.service_accounts, namespace, wanted, same, until).await,
            None => Ok(Provided::Unchanged),
        }
    }

    /// Whether the admin lets us write there.
    pub(super) fn writable(&self, namespace: &str, kind: &'static str, name: &str) -> Result<(), ProvideError> {
        if self.only.is_empty() || self.only.iter().any(|only| only == namespace) {
            return Ok(());
        }
        Err(ProvideError::Elsewhere {
            kind,
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            only: self.only.join(", "),
        })
    }

    async fn have<K>(
        &self,
        watched: &Watched<K>,
        namespace: &str,
        wanted: &K,
        same: impl Fn(&K, &K) -> bool,
        until: Instant,
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
        let name = Metadata::metadata(wanted).name.as_deref().unwrap_or_default();
        let as_wanted =
            |there: &K| same(there, wanted) && marked_as(Metadata::metadata(there), Metadata::metadata(wanted));
        let known = watched.current(namespace, name);
        if known.as_deref().is_some_and(as_wanted) {
            return Ok(Provided::Unchanged);
        }
        self.writable(namespace, K::KIND, name)?;
        let wanted = &within(namespace, wanted);
        let (namespace, name) = (namespace.to_owned(), name.to_owned());
        let api: Api<K> = Api::namespaced(self.client.clone(), &namespace);
        let mut there = known.is_some();
        let said = match timeout_at(
            until,
            write(&api, &name, known.as_deref(), wanted, as_wanted, &mut there),
        )
        .await
        {
            Ok(Ok(Write::Done(provided))) => return Ok(provided),
            Ok(Ok(Write::Foreign)) => {
                return Err(ProvideError::Foreign {
                    kind: K::KIND,
                    namespace,
                    name,
                });
            }
            Ok(Err(error)) => Some(error),
            Err(_) => None,
        };
        let may_have_begun = watched.broke_off(&namespace);
        Err(unwritten(K::KIND, namespace, name, said, may_have_begun, there))
    }
}

/// Why an object isn't written, by what the API server `said`; none where it said nothing in time.
pub(super) fn unwritten(
    kind: &'static str,
    namespace: String,
    name: String,
    said: Option<kube::Error>,
    may_have_begun: bool,
    there: bool,
) -> ProvideError {
    let message = match said {
        Some(kube::Error::Api(status)) if is_meant(&status, may_have_begun) => {
            return ProvideError::Refused {
                kind,
                namespace,
                name,
                message: status.message,
                there,
            };
        }
        Some(kube::Error::Api(status)) => status.message,
        Some(error) => error.to_string(),
        None => "the API server didn't answer in time".to_owned(),
    };
    ProvideError::Unreachable {
        kind,
        namespace,
        name,
        message,
        there,
    }
}

enum Write {
    Done(Provided),
    Foreign,
}

/// Reads where nothing is `known`, and writes where needed. What isn't there is created, and never applied, so that one that somebody else makes in between is a conflict, which is
/// looked at again, and not merged into. What is there and ours is changed, bound to the version that was read.
async fn write<K>(
    api: &Api<K>,
    name: &str,
    known: Option<&K>,
    wanted: &K,
    as_wanted: impl Fn(&K) -> bool,
    there: &mut bool,
) -> Result<Write, kube::Error>
where
    K: Resource<DynamicType = ()> + Metadata<Ty = ObjectMeta> + Serialize + DeserializeOwned + Clone + Debug,
{
    let mut attempt = 1;
    let mut known = known.cloned();
    loop {
        // What a watch shows may be old: then the write is a conflict, and the next attempt reads.
        let found = match known.take() {
            Some(known) => Some(known),
            None => api.get_opt(name).await?,
        };
        let written = if let Some(found) = found {
            *there = ours(Metadata::metadata(&found));
            if !*there {
                return Ok(Write::Foreign);
            }
            if as_wanted(&found) || is_newer(Metadata::metadata(&found), Metadata::metadata(wanted)) {
                return Ok(Write::Done(Provided::Unchanged));
            }
            let params = writes();
            let change = change(&found, wanted).map_err(kube::Error::SerdeError)?;
            api.patch(name, &params, &Patch::Merge(&change)).await
        } else {
            *there = false;
            let params = creates();
            api.create(&params, wanted).await
        };
        match written {
            Ok(_) => return Ok(Write::Done(Provided::Written)),
            Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) && attempt < ATTEMPTS => attempt += 1,
            Err(error) => return Err(error),
        }
    }
}

/// Whether a replica that knows more has written it. The mark that it is unused is taken off in any case.
fn is_newer(found: &ObjectMeta, wanted: &ObjectMeta) -> bool {
    let versions = Version::of(found).zip(Version::of(wanted));
    let marked = found
        .annotations
        .as_ref()
        .is_some_and(|all| all.contains_key(UNUSED_SINCE));
    !marked
        && found.deletion_timestamp.is_none()
        && versions.is_some_and(|(found, wanted)| found.is_newer_than(&wanted))
}

/// The merge patch that makes `found` as wanted. It takes out what we no longer want among what is ours, and leaves what others added.
///
/// Not a server-side apply: an apply takes out only what an earlier apply put there, and what was created wasn't applied.
pub(super) fn change<K: Serialize>(found: &K, wanted: &K) -> Result<Value, serde_json::Error> {
    let found = serde_json::to_value(found)?;
    let mut change = serde_json::to_value(wanted)?;
    let members = |object: &Value, pointer: &str| -> Vec<String> {
        let members = object.pointer(pointer).and_then(Value::as_object);
        members
            .into_iter()
            .flat_map(|members| members.keys().cloned())
            .collect()
    };
    let annotations = members(&found, "/metadata/annotations");
    for key in annotations.iter().filter(|key| is_ours(key)) {
        if change["metadata"]["annotations"].get(key).is_none() {
            change["metadata"]["annotations"][key] = Value::Null;
            // With its record goes who knows of the key.
            if key == minting::ANNOTATION {
                let ids = Vec::from_iter(minting::ids(&serde_json::from_value(found.clone())?)).join(",");
                change["metadata"]["annotations"][minting::OVERWRITTEN] = ids.into();
            }
        }
    }
    for key in &members(&found, "/data") {
        if change["data"].get(key).is_none() {
            change["data"][key] = Value::Null;
        }
    }
    // A merge replaces lists, and others may have added to this one.
    if let (Some(listed), Some(secrets)) = (found["secrets"].as_array(), change["secrets"].as_array_mut()) {
        for other in listed {
            if secrets.iter().all(|secret| secret["name"] != other["name"]) {
                secrets.push(other.clone());
            }
        }
    }
    change["metadata"]["resourceVersion"] = found["metadata"]["resourceVersion"].clone();
    Ok(change)
}

/// Whether an annotation on one of our objects is for us to set and to take away.
fn is_ours(annotation: &str) -> bool {
    annotation == UNUSED_SINCE || annotation == minting::ANNOTATION || annotation.starts_with("serving.kserve.io/")
}

pub(super) fn ours(metadata: &ObjectMeta) -> bool {
    metadata
        .labels
        .as_ref()
        .and_then(|labels| labels.get(MANAGED_BY_LABEL))
        .is_some_and(|manager| manager == MANAGED_BY)
}

fn our_annotations(metadata: &ObjectMeta) -> impl Iterator<Item = (&String, &String)> {
    metadata.annotations.iter().flatten().filter(|(key, _)| is_ours(key))
}

/// Our labels are there, and of the annotations that are ours those wanted and no others: no mark that the object is about to be collected either.
pub(super) fn marked_as(there: &ObjectMeta, wanted: &ObjectMeta) -> bool {
    let labelled = wanted
        .labels
        .iter()
        .flatten()
        .all(|(key, value)| there.labels.as_ref().and_then(|labels| labels.get(key)) == Some(value));
    // One that is being deleted counts as absent.
    there.deletion_timestamp.is_none() && labelled && our_annotations(there).eq(our_annotations(wanted))
}

#[cfg(test)]
#[path = "cluster_tests.rs"]
pub(super) mod tests;
