//! The configuration that a cluster has, read once through the user's own kubeconfig. Nothing is written.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Node, Secret};
use kube::api::{ApiResource, DynamicObject, GroupVersionKind, ListParams, ObjectList};
use kube::{Api, Client, ResourceExt as _};
use serde::de::DeserializeOwned;
use serde_json::Value;
use tidewaiter_core::backend::OWN_STORAGE_LABEL;
use tidewaiter_world::{
    ApiReader, CATALOGUE_LABEL, ClusterReader as _, KSERVE_CONFIG_MAP, Labels, ObjectRef, Objects, Problem,
};

const ARCHITECTURE: &str = "kubernetes.io/arch";
const KSERVE: &str = "serving.kserve.io";
/// What the chart has the server's `--modules` read: the ConfigMap in Tidewaiter's namespace, and its key.
const MODULES: (&str, &str) = ("tidewaiter-modules", "modules.yaml");

/// A cluster, as its user may see it.
#[derive(Clone)]
pub struct Live {
    client: Client,
    kserve_namespace: String,
    own_namespace: Option<String>,
    pull_secrets: Vec<String>,
}

/// Why a cluster doesn't say what it would say.
#[derive(Debug, thiserror::Error)]
pub enum LiveError {
    /// Tidewaiter isn't there.
    #[error(
        "the cluster knows no {0}: Tidewaiter isn't installed there; name a folder with its configuration (--config)"
    )]
    NotInstalled(&'static str),
    /// The API server says no, or nothing.
    #[error("the cluster's {what} can't be read: {reason}")]
    Read {
        /// Which objects.
        what: &'static str,
        /// In the API server's words.
        reason: String,
    },
}

impl Live {
    /// By a client; `kserve_namespace` is where KServe runs.
    pub fn new(client: Client, kserve_namespace: &str) -> Self {
        Self {
            client,
            kserve_namespace: kserve_namespace.to_owned(),
            own_namespace: None,
            pull_secrets: Vec::new(),
        }
    }

    /// With the Secrets of Tidewaiter's namespace that policies name, and those that open registries for all of them.
    #[must_use]
    pub fn with_pull_secrets(mut self, own_namespace: &str, for_all: Vec<String>) -> Self {
        self.own_namespace = Some(own_namespace.to_owned());
        self.pull_secrets = for_all;
        self
    }

    /// What the server in this namespace is told of modules that come over the network; none where no chart put it there.
    ///
    /// # Errors
    /// Where the ConfigMap can't be read, in the API server's words.
    pub async fn modules(&self, own_namespace: &str) -> Result<Option<String>, String> {
        let (name, key) = MODULES;
        let api: Api<ConfigMap> = Api::namespaced(self.client.clone(), own_namespace);
        let map = api.get_opt(name).await.map_err(|error| said(&error))?;
        Ok(map.and_then(|map| map.data?.remove(key)))
    }

    /// The name of the object that it is read from.
    pub fn modules_map(own_namespace: &str) -> ObjectRef {
        ObjectRef::namespaced("ConfigMap", own_namespace, MODULES.0)
    }

    /// The InferenceService by this name, or where there is none the `LLMInferenceService`, as it is in the cluster.
    ///
    /// # Errors
    /// Where the API server says no, or nothing.
    pub async fn service(&self, namespace: &str, name: &str) -> Result<Option<Value>, LiveError> {
        if let Some(found) = self
            .object("serving.kserve.io/v1beta1", "InferenceService", namespace, name)
            .await?
        {
            return Ok(Some(found));
        }
        // A KServe of before 0.16 has no such kind.
        let other = self
            .object("serving.kserve.io/v1alpha1", "LLMInferenceService", namespace, name)
            .await;
        Ok(other.unwrap_or_default())
    }

    async fn object(
        &self,
        api_version: &str,
        kind: &str,
        namespace: &str,
        name: &str,
    ) -> Result<Option<Value>, LiveError> {
        let failed = |reason: String| LiveError::Read {
            what: "objects",
            reason,
        };
        let reader = ApiReader::new(self.client.clone());
        let found = reader
            .object(namespace, api_version, kind, name)
            .await
            .map_err(failed)?;
        let found = found.map(|text| serde_json::from_str(&text)).transpose();
        found.map_err(|error| failed(error.to_string()))
    }

    /// What configures Tidewaiter. What the user may not see of it is a problem each, and the rest is used.
    pub(super) async fn gather(&self) -> Result<(Objects, Vec<Problem>), LiveError> {
        let mut objects = Objects {
            kserve_namespace: Some(self.kserve_namespace.clone()),
            own_namespace: self.own_namespace.clone(),
            pull_secrets: self.pull_secrets.clone(),
            ..Objects::default()
        };
        let mut problems = Vec::new();
        objects.backends = typed(
            "StorageBackend",
            self.custom("StorageBackend").await?,
            &mut objects.unreadable,
            &mut problems,
        );
        objects.policies = typed(
            "WasmPolicy",
            self.custom("WasmPolicy").await?,
            &mut objects.unreadable,
            &mut problems,
        );
        for kind in ["ServingRuntime", "ClusterServingRuntime"] {
            let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(KSERVE, "v1alpha1", kind));
            let api: Api<DynamicObject> = Api::all_with(self.client.clone(), &resource);
            let runtimes = seen(kind, api.list(&ListParams::default()).await, &mut problems);
            objects
                .runtimes
                .extend(runtimes.iter().filter_map(|runtime| serde_json::to_value(runtime).ok()));
        }
        let all = ListParams::default();
        let namespaces: Api<Namespace> = Api::all(self.client.clone());
        for namespace in seen("Namespace", namespaces.list_metadata(&all).await, &mut problems) {
            objects
                .namespaces
                .insert(namespace.name_any(), namespace.labels().clone());
        }
        let nodes: Api<Node> = Api::all(self.client.clone());
        for node in seen("Node", nodes.list_metadata(&all).await, &mut problems) {
            objects.architectures.extend(node.labels().get(ARCHITECTURE).cloned());
        }
        let catalogues: Api<ConfigMap> = Api::all(self.client.clone());
        let labelled = catalogues.list(&ListParams::default().labels(CATALOGUE_LABEL)).await;
        objects.config_maps = seen("ConfigMap", labelled, &mut problems);
        let secrets: Api<Secret> = Api::all(self.client.clone());
        let labelled = secrets.list(&ListParams::default().labels(OWN_STORAGE_LABEL)).await;
        objects.secrets = seen("Secret", labelled, &mut problems);
        self.by_name(&mut objects, &mut problems).await;
        Ok((objects, problems))
    }

    /// What other objects refer to.
    async fn by_name(&self, objects: &mut Objects, problems: &mut Vec<Problem>) {
        let references = objects.references();
        for (namespace, name) in &references.secrets {
            let api: Api<Secret> = Api::namespaced(self.client.clone(), namespace);
            match api.get_opt(name).await {
                Ok(found) => objects.secrets.extend(found),
                Err(error) => {
                    let object = ObjectRef::namespaced("Secret", namespace, name);
                    objects.withheld.insert(object, said(&error));
                }
            }
        }
        let kserve = (self.kserve_namespace.clone(), KSERVE_CONFIG_MAP.to_owned());
        for (namespace, name) in references.config_maps.iter().chain([&kserve]) {
            let api: Api<ConfigMap> = Api::namespaced(self.client.clone(), namespace);
            match api.get_opt(name).await {
                Ok(found) => objects.config_maps.extend(found),
                Err(error) => {
                    let object = ObjectRef::namespaced("ConfigMap", namespace, name);
                    if *name == kserve.1 {
                        problems.push(unseen(&object.to_string(), &said(&error)));
                    }
                    objects.withheld.insert(object, said(&error));
                }
            }
        }
    }

    async fn custom(&self, kind: &'static str) -> Result<Vec<DynamicObject>, LiveError> {
        let resource = ApiResource::from_gvk(&GroupVersionKind::gvk("tidewaiter.dev", "v1alpha1", kind));
        let api: Api<DynamicObject> = Api::all_with(self.client.clone(), &resource);
        match api.list(&ListParams::default()).await {
            Ok(list) => Ok(list.items),
            Err(kube::Error::Api(status)) if status.code == 404 => Err(LiveError::NotInstalled(kind)),
            Err(error) => Err(LiveError::Read {
                what: kind,
                reason: said(&error),
            }),
        }
    }

    /// What policies ask for one by one. `namespaces` are the labels of those that are known already.
    pub(super) fn reader(&self, namespaces: BTreeMap<String, Labels>) -> ApiReader {
        ApiReader::new(self.client.clone()).with_namespaces(namespaces)
    }
}

fn typed<K: DeserializeOwned>(
    kind: &str,
    found: Vec<DynamicObject>,
    unreadable: &mut BTreeMap<ObjectRef, String>,
    problems: &mut Vec<Problem>,
) -> Vec<K> {
    let mut read = Vec::new();
    for object in found {
        let name = ObjectRef::cluster(kind, &object.name_any());
        match serde_json::to_value(object).and_then(serde_json::from_value) {
            Ok(object) => read.push(object),
            Err(error) => {
                problems.push(Problem {
                    object: Some(name.clone()),
                    at: None,
                    message: error.to_string(),
                    in_use: false,
                });
                unreadable.insert(name, error.to_string());
            }
        }
    }
    read
}

/// What was listed; none where it may not be seen, which is a problem.
fn seen<K: Clone>(kind: &str, listed: Result<ObjectList<K>, kube::Error>, problems: &mut Vec<Problem>) -> Vec<K> {
    match listed {
        Ok(list) => list.items,
        Err(error) => {
            problems.push(unseen(&format!("objects of kind {kind}"), &said(&error)));
            Vec::new()
        }
    }
}

fn unseen(what: &str, reason: &str) -> Problem {
    Problem {
        object: None,
        at: None,
        message: format!("{what} can't be read ({reason}); the review goes on as if there were none"),
        in_use: false,
    }
}

/// The API server's own words where it answered.
fn said(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) => status.message.clone(),
        other => other.to_string(),
    }
}
