//! What is watched and read, as the [`Objects`] that a configuration is made from.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Node, ObjectReference, Secret};
use kube::api::{ApiResource, DynamicObject, GroupVersionKind, PartialObjectMeta};
use kube::core::Status;
use kube::runtime::watcher::watcher;
use kube::{Api, Client, CustomResourceExt, Resource as _, ResourceExt};
use serde::de::DeserializeOwned;
use serde_json::Value;
use tidewaiter_core::backend::OWN_STORAGE_LABEL;
use tidewaiter_core::backends::UnusableBackend;
use tidewaiter_world::{CATALOGUE_LABEL, KSERVE_CONFIG_MAP, ObjectRef, Objects, Problem};
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use super::Place;
use super::named::Named;
use super::newer::drop_unknown;
use super::reader;
use super::refusal::{LASTING, is_meant};
use super::watched::{Changes, Watched, everything, follow, follow_by_role, follow_in, follow_labels, slim};
use crate::namespaces::cluster::InCluster;

/// Reads by name at once.
const READS: usize = 8;
/// What one of them may take. While it is awaited nothing else becomes current: no namespace, no policy, no key.
const PATIENCE: Duration = Duration::from_secs(3);
const ARCHITECTURE: &str = "kubernetes.io/arch";

/// All watches.
pub(super) struct Sources {
    /// Our own.
    namespace: String,
    kserve_namespace: String,
    backends: Watched<DynamicObject>,
    policies: Watched<DynamicObject>,
    runtimes: Watched<DynamicObject>,
    cluster_runtimes: Watched<DynamicObject>,
    namespaces: Watched<PartialObjectMeta<Namespace>>,
    nodes: Watched<PartialObjectMeta<Node>>,
    kserve_config: Watched<ConfigMap>,
    catalogues: Watched<ConfigMap>,
    own_secrets: Watched<Secret>,
    /// What we wrote into namespaces.
    ours: InCluster,
    our_changes: Changes,
    /// The `ConfigMap`s that policies' modules are in.
    modules: Named,
    /// What was read by name the last time.
    read: Mutex<Read>,
}

/// A namespace and a name.
type Name = (String, String);

#[derive(Default)]
struct Read {
    secrets: Last<Secret>,
    config_maps: Last<ConfigMap>,
}

/// What a look at the objects of a kind gave.
struct Last<K> {
    found: BTreeMap<Name, K>,
    /// Those that the API server refuses to show, and since when.
    refused: BTreeMap<Name, Instant>,
}

impl<K> Default for Last<K> {
    fn default() -> Self {
        Self {
            found: BTreeMap::new(),
            refused: BTreeMap::new(),
        }
    }
}

/// One look at the cluster.
pub(super) struct Gathered {
    pub(super) objects: Objects,
    /// Of objects that don't have the shape of their kind.
    pub(super) problems: Vec<Problem>,
    /// The custom resources as they are, for their status.
    pub(super) resources: Vec<Arc<DynamicObject>>,
    /// Equal for equal objects.
    pub(super) fingerprint: u64,
    /// Whether the API server failed to answer for some object: it is worth another look soon.
    pub(super) again: bool,
}

impl Sources {
    pub(super) fn watch(client: &Client, place: &Place, changed: &Changes, stop: &CancellationToken) -> Self {
        let custom = |group: &str, version: &str, kind: &'static str| {
            let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind));
            let api: Api<DynamicObject> = Api::all_with(client.clone(), &resource);
            Watched::follow(
                move || slim(watcher(api.clone(), everything())),
                resource,
                kind,
                changed.clone(),
                stop.clone(),
            )
        };
        // They configure nothing: to write them must not make us read everything again.
        let our_changes = Changes::default();
        let only = &place.only;
        // Catalogues are the admin's, and may be in our own namespace.
        let mut with_own = only.clone();
        if !only.is_empty() && !only.contains(&place.namespace) {
            with_own.push(place.namespace.clone());
        }
        Self {
            backends: custom("tidewaiter.dev", "v1alpha1", "StorageBackend"),
            policies: custom("tidewaiter.dev", "v1alpha1", "WasmPolicy"),
            runtimes: custom("serving.kserve.io", "v1alpha1", "ServingRuntime"),
            cluster_runtimes: custom("serving.kserve.io", "v1alpha1", "ClusterServingRuntime"),
            namespaces: follow_labels(Api::all(client.clone()), |_| true, "Namespace", changed, stop),
            nodes: follow_labels(
                Api::all(client.clone()),
                |label| label == ARCHITECTURE,
                "Node",
                changed,
                stop,
            ),
            kserve_config: kserve_config(client, place, changed, stop),
            catalogues: follow_in(
                client,
                &with_own,
                &everything().labels(CATALOGUE_LABEL),
                "ConfigMap (catalogues)",
                changed,
                stop,
            ),
            own_secrets: follow_in(
                client,
                only,
                &everything().labels(OWN_STORAGE_LABEL),
                "Secret (of namespaces)",
                changed,
                stop,
            ),
            ours: InCluster::watch(client.clone(), only, &our_changes, stop),
            our_changes,
            modules: Named::new(changed, stop),
            read: Mutex::default(),
            namespace: place.namespace.clone(),
            kserve_namespace: place.kserve_namespace.clone(),
        }
    }

    pub(super) fn namespaces(&self) -> (InCluster, Changes) {
        (self.ours.clone(), self.our_changes.clone())
    }

    pub(super) fn reader(&self, client: Client) -> reader::InCluster {
        reader::InCluster::new(client, self.namespaces.clone())
    }

    /// The Secrets with credentials that we wrote.
    pub(super) fn delivered(&self) -> Vec<Arc<Secret>> {
        self.ours.secrets.all()
    }

    /// An object that configures us, as an event names it.
    pub(super) fn reference(&self, object: &ObjectRef) -> Option<ObjectReference> {
        let custom = match object.kind.as_str() {
            "StorageBackend" => Some(&self.backends),
            "WasmPolicy" => Some(&self.policies),
            _ => None,
        };
        if let Some(custom) = custom {
            let resource = ApiResource::from_gvk(&GroupVersionKind::gvk("tidewaiter.dev", "v1alpha1", &object.kind));
            return Some(custom.current_of_cluster(&object.name)?.object_ref(&resource));
        }
        let namespace = object.namespace.as_deref()?;
        match object.kind.as_str() {
            "Secret" => Some(self.own_secrets.current(namespace, &object.name)?.object_ref(&())),
            "ConfigMap" => {
                let catalogue = self.catalogues.current(namespace, &object.name);
                let map = catalogue.or_else(|| self.kserve_config.current(namespace, &object.name));
                Some(map?.object_ref(&()))
            }
            _ => None,
        }
    }

    /// Waits until every kind is known, so that a configuration is never made from half of the objects.
    pub(super) async fn settled(&self) {
        tokio::join!(
            self.backends.settled(),
            self.policies.settled(),
            self.runtimes.settled(),
            self.cluster_runtimes.settled(),
            self.namespaces.settled(),
            self.nodes.settled(),
            self.kserve_config.settled(),
            self.catalogues.settled(),
            self.own_secrets.settled(),
            // What was delivered is known, too, so that no namespace misses the keys that were rotated while nobody looked.
            self.ours.settled(),
        );
    }

    pub(super) async fn gather(&self, client: &Client, pull_secrets: Vec<String>) -> Result<Gathered, kube::Error> {
        let mut objects = Objects {
            kserve_namespace: Some(self.kserve_namespace.clone()),
            own_namespace: Some(self.namespace.clone()),
            pull_secrets,
            ..Objects::default()
        };
        let mut problems = Vec::new();
        let backends = self.backends.all();
        let policies = self.policies.all();
        objects.backends = typed(&backends, "StorageBackend", &mut objects.unreadable, &mut problems);
        for backend in &backends {
            let name = ObjectRef::cluster("StorageBackend", &backend.name_any());
            if let Some(reason) = objects.unreadable.get(&name) {
                let unusable = UnusableBackend::read(&name.name, &backend.data["spec"], reason.clone());
                objects.unusable_backends.extend(unusable);
            }
        }
        objects.policies = typed(&policies, "WasmPolicy", &mut objects.unreadable, &mut problems);
        for runtime in self.runtimes.all().iter().chain(&self.cluster_runtimes.all()) {
            objects.runtimes.extend(serde_json::to_value(&**runtime).ok());
        }
        for namespace in self.namespaces.all() {
            objects
                .namespaces
                .insert(namespace.name_any(), namespace.labels().clone());
        }
        for node in self.nodes.all() {
            objects.architectures.extend(node.labels().get(ARCHITECTURE).cloned());
        }
        objects
            .secrets
            .extend(self.own_secrets.all().iter().map(|secret| Secret::clone(secret)));
        objects.config_maps.extend(
            self.kserve_config
                .all()
                .iter()
                .chain(&self.catalogues.all())
                .map(|map| ConfigMap::clone(map)),
        );

        let mut last = std::mem::take(&mut *self.read.lock().unwrap_or_else(PoisonError::into_inner));
        let again = self.read_by_name(client, &mut objects, &mut last).await;
        *self.read.lock().unwrap_or_else(PoisonError::into_inner) = last;
        let again = again?;

        let fingerprint = fingerprint(&objects, &problems);
        Ok(Gathered {
            objects,
            problems,
            resources: backends.into_iter().chain(policies).collect(),
            fingerprint,
            again,
        })
    }

    /// What the objects refer to, and no watch shows. Whether some of it is worth another look soon.
    async fn read_by_name(&self, client: &Client, objects: &mut Objects, last: &mut Read) -> Result<bool, kube::Error> {
        let references = objects.references();
        self.modules.watch(client, &objects.module_maps());
        let there: BTreeSet<_> = objects
            .secrets
            .iter()
            .map(|secret| (secret.namespace().unwrap_or_default(), secret.name_any()))
            .collect();
        let withheld = &mut objects.withheld;
        let (secrets, again) = read::<Secret>(
            client,
            references.secrets.difference(&there),
            withheld,
            &mut last.secrets,
        )
        .await?;
        objects.secrets.extend(secrets);
        let there: BTreeSet<_> = objects
            .config_maps
            .iter()
            .map(|map| (map.namespace().unwrap_or_default(), map.name_any()))
            .collect();
        let names = references.config_maps.difference(&there);
        let (maps, maps_again) = read::<ConfigMap>(client, names, withheld, &mut last.config_maps).await?;
        objects.config_maps.extend(maps);
        Ok(again || maps_again)
    }
}

/// The right to read it is of the `ClusterRole`, or where that ends at named namespaces, of a Role in KServe's own.
fn kserve_config(client: &Client, place: &Place, changed: &Changes, stop: &CancellationToken) -> Watched<ConfigMap> {
    let (namespace, what) = (&place.kserve_namespace, "KServe's ConfigMap");
    let named = everything().fields(&format!("metadata.name={KSERVE_CONFIG_MAP}"));
    if place.only.is_empty() {
        return follow(Api::namespaced(client.clone(), namespace), named, what, changed, stop);
    }
    // An API server that has just begun refuses it for a moment.
    follow_by_role(client, namespace, &named, what, LASTING, (changed, stop))
}

/// Watched as they come, so that one object of an unexpected shape doesn't hide all others of its kind.
fn typed<K: DeserializeOwned + CustomResourceExt>(
    objects: &[Arc<DynamicObject>],
    kind: &str,
    unreadable: &mut BTreeMap<ObjectRef, String>,
    problems: &mut Vec<Problem>,
) -> Vec<K> {
    let mut read = Vec::with_capacity(objects.len());
    for object in objects {
        let name = ObjectRef::cluster(kind, &object.name_any());
        match as_known(object) {
            Ok((object, dropped)) => {
                read.push(object);
                if !dropped.is_empty() {
                    problems.push(Problem {
                        object: Some(name),
                        at: None,
                        message: format!(
                            "this version of Tidewaiter doesn't know {}, and goes by the rest; update Tidewaiter, or take it out",
                            dropped.join(", ")
                        ),
                        in_use: true,
                    });
                }
            }
            Err(error) => {
                let message = format!("{error}; update Tidewaiter or its CustomResourceDefinitions");
                unreadable.insert(name.clone(), message.clone());
                problems.push(Problem {
                    object: Some(name),
                    at: None,
                    message,
                    in_use: false,
                });
            }
        }
    }
    read
}

/// An object of our own kinds, and what it says that is of a newer version.
fn as_known<K: DeserializeOwned + CustomResourceExt>(object: &DynamicObject) -> serde_json::Result<(K, Vec<String>)> {
    let mut value = serde_json::to_value(object)?;
    if let Ok(object) = K::deserialize(&value) {
        return Ok((object, Vec::new()));
    }
    let dropped = drop_unknown::<K>(&mut value);
    serde_json::from_value(value).map(|object| (object, dropped))
}

/// One by one by name, so that nothing that isn't ours is listed or watched. What isn't there is left out: the configuration says who misses it. An object that
/// the API server fails to answer for, or refuses since a moment, is as it was the `last` time, so that it holds up none of the others; that it is worth
/// another look is told beside.
async fn read<K>(
    client: &Client,
    names: impl Iterator<Item = &Name>,
    withheld: &mut BTreeMap<ObjectRef, String>,
    last: &mut Last<K>,
) -> Result<(Vec<K>, bool), kube::Error>
where
    K: kube::Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope> + Clone + Debug + DeserializeOwned,
{
    let reads: Vec<_> = names
        .filter(|(namespace, name)| !namespace.is_empty() && !name.is_empty())
        .map(|name| {
            let api: Api<K> = Api::namespaced(client.clone(), &name.0);
            async move {
                let Ok(answer) = timeout(PATIENCE, api.get_opt(&name.1)).await else {
                    return Ok(Err((name.clone(), unanswered())));
                };
                match answer {
                    Err(kube::Error::Api(status)) => match status.code {
                        // The role doesn't cover it, or there can be none of that name: for us it isn't there.
                        400 | 403 | 422 | 429 | 500.. => Ok(Err((name.clone(), *status))),
                        _ => Err(kube::Error::Api(status)),
                    },
                    Err(kube::Error::BuildRequest(error)) => {
                        tracing::warn!(name = name.1, %error, "no name of an object");
                        Ok(Ok(None))
                    }
                    read => read.map(Ok),
                }
            }
        })
        .collect();
    let read: Vec<Result<Option<K>, (Name, Status)>> =
        futures::stream::iter(reads).buffered(READS).try_collect().await?;
    let before = std::mem::take(last);
    let (mut found, mut look_again) = (Vec::new(), false);
    for read in read {
        match read {
            Ok(object) => found.extend(object),
            Err((name, status)) => {
                let since = before.refused.get(&name).copied().unwrap_or_else(Instant::now);
                if status.code == 403 {
                    last.refused.insert(name.clone(), since);
                }
                let again = !is_meant(&status, since.elapsed() < LASTING);
                let object = ObjectRef::namespaced(&K::kind(&()), &name.0, &name.1);
                let next = if again { "; trying again" } else { "" };
                tracing::warn!("can't read {object} now: {}{next}", status.message);
                look_again |= again;
                match before.found.get(&name).filter(|_| again) {
                    Some(object) => found.push(object.clone()),
                    None => drop(withheld.insert(object, status.message)),
                }
            }
        }
    }
    let by_name = |object: &K| {
        (
            (object.namespace().unwrap_or_default(), object.name_any()),
            object.clone(),
        )
    };
    last.found = found.iter().map(by_name).collect();
    Ok((found, look_again))
}

/// As an API server says it that waited too long itself.
fn unanswered() -> Status {
    let message = format!("the API server didn't answer in {} s", PATIENCE.as_secs());
    Status::failure(&message, "Timeout").with_code(504)
}

/// Changes with anything that a configuration is made from; not with status and resource versions.
fn fingerprint(objects: &Objects, problems: &[Problem]) -> u64 {
    let mut hasher = DefaultHasher::new();
    let mut add = |value: Result<Value, serde_json::Error>| {
        let mut value = value.unwrap_or_default();
        if let Some(object) = value.as_object_mut() {
            object.remove("status");
            if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
                metadata.retain(|key, _| {
                    matches!(
                        key.as_str(),
                        "name" | "namespace" | "labels" | "annotations" | "generation"
                    )
                });
            }
        }
        value.to_string().hash(&mut hasher);
    };
    let mut all: Vec<_> = Vec::new();
    all.extend(objects.backends.iter().map(serde_json::to_value));
    all.extend(objects.policies.iter().map(serde_json::to_value));
    all.extend(objects.secrets.iter().map(serde_json::to_value));
    all.extend(objects.config_maps.iter().map(serde_json::to_value));
    all.extend(objects.runtimes.iter().map(|runtime| Ok(runtime.clone())));
    all.sort_by_cached_key(|value| {
        value
            .as_ref()
            .map(|value| {
                (
                    value["kind"].to_string(),
                    value["metadata"]["namespace"].to_string(),
                    value["metadata"]["name"].to_string(),
                )
            })
            .unwrap_or_default()
    });
    all.into_iter().for_each(&mut add);
    (&objects.namespaces, &objects.architectures, &objects.withheld).hash(&mut hasher);
    problems
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
#[path = "gather_tests.rs"]
mod tests;
