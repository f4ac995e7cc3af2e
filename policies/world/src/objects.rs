//! The objects that a configuration is made from, whether a folder or a cluster holds them.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::PathBuf;

use bytes::Bytes;
use k8s_openapi::api::core::v1::{ConfigMap, Secret, ServiceAccount};
use kube::api::ObjectMeta;
use serde_json::Value;
use tidewaiter_core::backend::{CaBundle, Credentials, StorageBackend};
use tidewaiter_core::backends::UnusableBackend;
use tidewaiter_core::policy_resource::{Module, WasmPolicy};

/// Label on a ConfigMap: `extend` adds its catalogue to the built-in one, `replace` puts it in its place.
pub const CATALOGUE_LABEL: &str = "tidewaiter.dev/catalogue";
/// Key of such a ConfigMap.
pub const CATALOGUE_KEY: &str = "catalogue.yaml";
/// The ConfigMap that configures KServe, in KServe's namespace.
pub const KSERVE_CONFIG_MAP: &str = "inferenceservice-config";

const DOCKER_CONFIG: &str = ".dockerconfigjson";

/// Labels of an object.
pub type Labels = BTreeMap<String, String>;

/// Everything that a configuration is made from. Holds Secrets, so it can't be printed.
#[derive(Clone, Default)]
pub struct Objects {
    /// `StorageBackend`s.
    pub backends: Vec<StorageBackend>,
    /// `WasmPolicy`s.
    pub policies: Vec<WasmPolicy>,
    /// The Secrets that backends refer to, and those of namespaces labelled `tidewaiter.dev/storage`. In a folder also what users brought.
    pub secrets: Vec<Secret>,
    /// KServe's `inferenceservice-config`, catalogues, CA bundles and policy modules.
    pub config_maps: Vec<ConfigMap>,
    /// In a folder: what users brought. In a cluster they are read when they are needed.
    pub service_accounts: Vec<ServiceAccount>,
    /// `ServingRuntime`s and `ClusterServingRuntime`s, as Kubernetes gives them. A folder without any stands for a cluster with those that KServe
    /// installs.
    pub runtimes: Vec<Value>,
    /// Every namespace with its labels.
    pub namespaces: BTreeMap<String, Labels>,
    /// Of the nodes, as in `kubernetes.io/arch`.
    pub architectures: BTreeSet<String>,
    /// Where KServe runs. Default: `kserve`.
    pub kserve_namespace: Option<String>,
    /// Where it lists no runtimes, it has those that KServe installs: it stands for a cluster, as a folder does.
    pub installed_runtimes: bool,
    /// What `module.file` of a policy is relative to; none where files can't be used.
    pub base: Option<PathBuf>,
    /// Objects that are there but can't be read, and why: their last good version stays.
    pub unreadable: BTreeMap<ObjectRef, String>,
    /// Secrets and `ConfigMap`s that may be there, but that the API server doesn't show to us, in its words. For us they aren't there.
    pub withheld: BTreeMap<ObjectRef, String>,
    /// Of `StorageBackend`s among them, what they were to serve.
    pub unusable_backends: Vec<UnusableBackend>,
    /// Modules that come over the network, by the name of their `WasmPolicy`, as far as they are here. Whoever fetches them puts them in.
    pub modules: BTreeMap<String, Supplied>,
    /// Tidewaiter's own namespace, which Secrets that open registries are in; none in a folder, where they are found by name alone.
    pub own_namespace: Option<String>,
    /// Names of Secrets that open registries for all policies.
    pub pull_secrets: Vec<String>,
    /// Where in a folder an object stands, as `file:line`.
    pub places: BTreeMap<ObjectRef, String>,
}

/// A module that comes over the network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Supplied {
    /// The component; else why it can't be had. The field is put before it.
    pub component: Result<Bytes, String>,
    /// Why it isn't the version that there is now, and whether it is the one that the object asks for all the same.
    pub remark: Option<(String, bool)>,
}

/// Secrets and `ConfigMap`s, as (namespace, name), that backends and policies refer to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct References {
    /// Secrets.
    pub secrets: BTreeSet<(String, String)>,
    /// `ConfigMap`s.
    pub config_maps: BTreeSet<(String, String)>,
}

impl Objects {
    /// What a cluster has to be asked for beside the objects that are watched.
    pub fn references(&self) -> References {
        let mut found = References::default();
        for backend in &self.backends {
            if let Credentials::SecretRef(secret) = &backend.spec.credentials {
                found.secrets.insert((secret.namespace.clone(), secret.name.clone()));
            }
            let bundle = backend
                .spec
                .s3
                .as_ref()
                .and_then(|s3| s3.tls.as_ref())
                .and_then(|tls| tls.ca_bundle.as_ref());
            if let Some(CaBundle::ConfigMap(bundle)) = bundle {
                found
                    .config_maps
                    .insert((bundle.namespace.clone(), bundle.name.clone()));
            }
        }
        for policy in &self.policies {
            match &policy.spec.module {
                Module::ConfigMap(module) => {
                    let name = (module.namespace.clone(), module.name.clone());
                    found.config_maps.insert(name);
                }
                Module::Oci(module) => {
                    let names = module.pull_secret.iter().chain(&self.pull_secrets);
                    let own = self.own_namespace.iter();
                    found
                        .secrets
                        .extend(own.flat_map(|own| names.clone().map(|name| (own.clone(), name.clone()))));
                }
                Module::Builtin(_) | Module::File(_) | Module::Https(_) => {}
            }
        }
        found
    }

    /// The `ConfigMap`s that hold modules, as (namespace, name).
    pub fn module_maps(&self) -> BTreeSet<(String, String)> {
        let modules = self.policies.iter().map(|policy| &policy.spec.module);
        let maps = modules.filter_map(|module| match module {
            Module::ConfigMap(map) => Some((map.namespace.clone(), map.name.clone())),
            _ => None,
        });
        maps.collect()
    }

    pub(crate) fn secret(&self, namespace: &str, name: &str) -> Option<&Secret> {
        self.secrets.iter().find(|secret| is(&secret.metadata, namespace, name))
    }

    /// What a Secret that opens a registry has of Docker's configuration.
    ///
    /// # Errors
    /// Its name, and what is wrong with it.
    pub fn docker_config(&self, name: &str) -> Result<&[u8], String> {
        let secret = self
            .pull_secret(name)
            .map_err(|why| format!("{why}; create it, or correct the name"))?;
        let data = secret.data.as_ref().and_then(|data| data.get(DOCKER_CONFIG));
        // In a folder people write `stringData`, which an API server turns into `data`.
        let text = secret.string_data.as_ref().and_then(|data| data.get(DOCKER_CONFIG));
        let content = data
            .map(|data| data.0.as_slice())
            .or_else(|| text.map(String::as_bytes));
        content.ok_or_else(|| {
            format!("Secret {name} has no `{DOCKER_CONFIG}`; make it by kubectl create secret docker-registry")
        })
    }

    /// A Secret that opens a registry, and why it is missing where it is.
    ///
    /// # Errors
    /// Its name, and that it isn't there or can't be read.
    pub fn pull_secret(&self, name: &str) -> Result<&Secret, String> {
        let found = match &self.own_namespace {
            Some(own) => self.secret(own, name),
            None => self
                .secrets
                .iter()
                .find(|secret| secret.metadata.name.as_deref() == Some(name)),
        };
        found.ok_or_else(|| {
            let object = match &self.own_namespace {
                Some(own) => ObjectRef::namespaced("Secret", own, name),
                None => ObjectRef::cluster("Secret", name),
            };
            format!("{object} {}", self.why_missing(&object))
        })
    }

    /// Why an object is missing here, after its name.
    pub(crate) fn why_missing(&self, object: &ObjectRef) -> String {
        match self.unreadable.get(object).or_else(|| self.withheld.get(object)) {
            Some(reason) => format!("can't be read: {reason}"),
            None => "isn't there".to_owned(),
        }
    }

    pub(crate) fn config_map(&self, namespace: &str, name: &str) -> Option<&ConfigMap> {
        self.config_maps.iter().find(|map| is(&map.metadata, namespace, name))
    }

    pub(crate) fn service_account(&self, namespace: &str, name: &str) -> Option<&ServiceAccount> {
        self.service_accounts
            .iter()
            .find(|account| is(&account.metadata, namespace, name))
    }

    /// Whether an object of this name is among them.
    pub(crate) fn holds(&self, object: &ObjectRef) -> bool {
        let named = |kind: &str, metadata: &ObjectMeta| ObjectRef::of(kind, metadata) == *object;
        match object.kind.as_str() {
            "StorageBackend" => self
                .backends
                .iter()
                .any(|backend| named("StorageBackend", &backend.metadata)),
            "WasmPolicy" => self.policies.iter().any(|policy| named("WasmPolicy", &policy.metadata)),
            "Secret" => self.secrets.iter().any(|secret| named("Secret", &secret.metadata)),
            "ConfigMap" => self.config_maps.iter().any(|map| named("ConfigMap", &map.metadata)),
            "ServiceAccount" => self
                .service_accounts
                .iter()
                .any(|account| named("ServiceAccount", &account.metadata)),
            "Namespace" => self.namespaces.contains_key(&object.name),
            _ => self
                .runtimes
                .iter()
                .any(|runtime| ObjectRef::of_runtime(runtime) == *object),
        }
    }

    /// Something that is wrong with an object, and where it stands in a folder.
    pub fn problem(&self, object: ObjectRef, message: impl Into<String>) -> Problem {
        Problem {
            at: self.places.get(&object).cloned(),
            object: Some(object),
            message: message.into(),
            in_use: false,
        }
    }
}

fn is(metadata: &ObjectMeta, namespace: &str, name: &str) -> bool {
    metadata.namespace.as_deref() == Some(namespace) && metadata.name.as_deref() == Some(name)
}

/// The name of an object.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectRef {
    /// Such as `StorageBackend`.
    pub kind: String,
    /// None for what belongs to no namespace.
    pub namespace: Option<String>,
    /// Its name.
    pub name: String,
}

impl ObjectRef {
    /// An object of the cluster.
    pub fn cluster(kind: &str, name: &str) -> Self {
        Self {
            kind: kind.to_owned(),
            namespace: None,
            name: name.to_owned(),
        }
    }

    /// An object of this kind, by its metadata.
    pub(crate) fn of(kind: &str, metadata: &ObjectMeta) -> Self {
        Self {
            kind: kind.to_owned(),
            namespace: metadata.namespace.clone(),
            name: metadata.name.clone().unwrap_or_default(),
        }
    }

    /// A `ServingRuntime` or `ClusterServingRuntime`.
    pub(crate) fn of_runtime(runtime: &Value) -> Self {
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let kind = text(&runtime["kind"]).unwrap_or_default();
        let namespace = text(&runtime["metadata"]["namespace"]).filter(|_| kind == "ServingRuntime");
        Self {
            kind,
            namespace,
            name: text(&runtime["metadata"]["name"]).unwrap_or_default(),
        }
    }

    /// An object of a namespace.
    pub fn namespaced(kind: &str, namespace: &str, name: &str) -> Self {
        Self {
            kind: kind.to_owned(),
            namespace: Some(namespace.to_owned()),
            name: name.to_owned(),
        }
    }
}

impl fmt::Display for ObjectRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.namespace {
            Some(namespace) => write!(f, "{}/{namespace}/{}", self.kind, self.name),
            None => write!(f, "{}/{}", self.kind, self.name),
        }
    }
}

/// Something in the configuration that can't be used as it is. The rest is used all the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The object; none where a whole file is meant.
    pub object: Option<ObjectRef>,
    /// In a folder: `file:line`.
    pub at: Option<String>,
    /// What is wrong and what to do, without the object's name.
    pub message: String,
    /// The object is in use as it is, all the same.
    pub in_use: bool,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.object, &self.at) {
            (Some(object), Some(at)) => write!(f, "{at}: {object}: {}", self.message),
            (Some(object), None) => write!(f, "{object}: {}", self.message),
            (None, Some(at)) => write!(f, "{at}: {}", self.message),
            (None, None) => f.write_str(&self.message),
        }
    }
}
