//! What a case says of the world, as it is written.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{ConfigMap, Secret, ServiceAccount};
use kube::api::ObjectMeta;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tidewaiter_core::backend::{Backend, StorageBackend, StorageBackendSpec};
use tidewaiter_core::uri::{Scheme, StorageUri};
use tidewaiter_world::{KSERVE_CONFIG_MAP, Labels, Objects};

use super::Stored;

const KSERVE_NAMESPACE: &str = "kserve";
const ARCHITECTURE: &str = "kubernetes.io/arch";

/// What the world answers in a case. Everything may be left out.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Given {
    /// Labels of the object's namespace.
    pub labels: Labels,
    /// Architectures of the nodes, as in `kubernetes.io/arch`.
    pub nodes: Vec<String>,
    /// What lies in stores, by URI.
    pub stores: BTreeMap<String, Stored>,
    /// `StorageBackend`s by name, each with its spec. A store of `stores` that none of them serves is served to everybody, without credentials.
    pub backends: BTreeMap<String, StorageBackendSpec>,
    /// `ServingRuntime`s and `ClusterServingRuntime`s. None: those that KServe installs.
    pub runtimes: Vec<Value>,
    /// Any other objects of the cluster, in full: what the policy gets by name, what users brought (Secrets, `ServiceAccount`s), other namespaces, catalogues.
    pub objects: Vec<Value>,
    /// Keys of KServe's `inferenceservice-config`, as YAML or as the JSON text that KServe has there.
    pub kserve_config: BTreeMap<String, Value>,
}

/// Why a world can't be.
#[derive(Debug, thiserror::Error)]
pub enum GivenError {
    /// An object of a kind that has to have a certain shape, and hasn't.
    #[error("world.objects: {kind} `{name}` is not one as Kubernetes has it: {reason}")]
    Object {
        /// Its kind.
        kind: String,
        /// Its name.
        name: String,
        /// What is wrong.
        reason: String,
    },
    /// An object without a kind, or without a name.
    #[error("world.objects: entry {0} needs apiVersion, kind and metadata.name")]
    Nameless(usize),
    /// A backend that no cluster would accept.
    #[error("world.backends.{name}: {reason}")]
    Backend {
        /// Its name.
        name: String,
        /// What is wrong.
        reason: String,
    },
    /// A URI in a store that is none.
    #[error("world.stores: `{uri}`: {reason}")]
    Uri {
        /// As it is written.
        uri: String,
        /// What is wrong.
        reason: String,
    },
    /// What the loader of configurations says.
    #[error("world: {0}")]
    Unusable(String),
}

impl Given {
    /// As the objects that a configuration is made from.
    pub(super) fn objects(&self, namespace: &str) -> Result<Objects, GivenError> {
        let mut objects = Objects {
            kserve_namespace: Some(KSERVE_NAMESPACE.to_owned()),
            runtimes: self.runtimes.clone(),
            installed_runtimes: true,
            architectures: self.nodes.iter().cloned().collect(),
            ..Objects::default()
        };
        objects.namespaces.insert(namespace.to_owned(), self.labels.clone());
        for (index, value) in self.objects.iter().enumerate() {
            add(&mut objects, index, value)?;
        }
        for (name, spec) in &self.backends {
            Backend::new(name, spec.clone()).map_err(|wrong| GivenError::Backend {
                name: name.clone(),
                reason: wrong.join("; "),
            })?;
            objects.backends.push(StorageBackend::new(name, spec.clone()));
        }
        for spec in self.unserved(&objects.backends)? {
            let name = format!("store-{}", objects.backends.len() + 1);
            objects.backends.push(StorageBackend::new(&name, spec));
        }
        if !self.kserve_config.is_empty() {
            let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            let data = self.kserve_config.iter().map(|(key, value)| (key.clone(), text(value)));
            objects.config_maps.push(ConfigMap {
                metadata: ObjectMeta {
                    namespace: Some(KSERVE_NAMESPACE.to_owned()),
                    name: Some(KSERVE_CONFIG_MAP.to_owned()),
                    ..ObjectMeta::default()
                },
                data: Some(data.collect()),
                ..ConfigMap::default()
            });
        }
        Ok(objects)
    }

    /// A backend for each store of which something is told and that no backend serves.
    fn unserved(&self, backends: &[StorageBackend]) -> Result<Vec<StorageBackendSpec>, GivenError> {
        let serves: Vec<&str> = backends
            .iter()
            .flat_map(|backend| &backend.spec.serves)
            .map(|serves| serves.trim_end_matches(['*', '/']))
            .collect();
        let mut roots: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
        for uri in self
            .stores
            .keys()
            .filter(|uri| !serves.iter().any(|serves| uri.starts_with(serves)))
        {
            let wrong = |reason: String| GivenError::Uri {
                uri: uri.clone(),
                reason,
            };
            let parsed = StorageUri::parse(uri).map_err(|error| wrong(error.to_string()))?;
            let kind = match parsed.scheme() {
                Scheme::S3 => "s3",
                Scheme::Gs => "gcs",
                Scheme::Hf => "huggingface",
                Scheme::Https | Scheme::Http => "https",
                Scheme::Hdfs | Scheme::WebHdfs => "hdfs",
                _ => return Err(wrong("nothing lies in a store under such a URI".to_owned())),
            };
            // Up to the bucket or the host.
            let (scheme, rest) = uri.split_once("://").unwrap_or((uri, ""));
            let root = rest.split('/').next().unwrap_or_default();
            roots.entry(kind).or_default().insert(format!("{scheme}://{root}/"));
        }
        let spec = |(kind, serves): (&str, BTreeSet<String>)| {
            let spec = json!({"type": kind, "serves": serves, "credentials": {"anonymous": {}}, "grants": [{"namespaces": ["*"]}]});
            serde_json::from_value(spec).map_err(|error| GivenError::Unusable(error.to_string()))
        };
        roots.into_iter().map(spec).collect()
    }
}

/// One object where configurations look for its kind. Of other kinds only a policy that asks by name hears.
fn add(objects: &mut Objects, index: usize, value: &Value) -> Result<(), GivenError> {
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let (Some(kind), Some(name), Some(_)) = (
        text(&value["kind"]),
        text(&value["metadata"]["name"]),
        value["apiVersion"].as_str(),
    ) else {
        return Err(GivenError::Nameless(index));
    };
    match kind.as_str() {
        "Secret" => {
            let mut secret: Secret = typed(&kind, &name, value)?;
            // As the API server does it.
            for (key, text) in secret.string_data.take().into_iter().flatten() {
                secret
                    .data
                    .get_or_insert_default()
                    .insert(key, ByteString(text.into_bytes()));
            }
            objects.secrets.push(secret);
        }
        "ServiceAccount" => objects
            .service_accounts
            .push(typed::<ServiceAccount>(&kind, &name, value)?),
        "ConfigMap" => objects.config_maps.push(typed::<ConfigMap>(&kind, &name, value)?),
        "StorageBackend" => objects.backends.push(typed(&kind, &name, value)?),
        "ServingRuntime" | "ClusterServingRuntime" => objects.runtimes.push(value.clone()),
        "Namespace" => {
            let labels = value["metadata"].get("labels").cloned().unwrap_or_else(|| json!({}));
            let labels: Labels = typed(&kind, &name, &labels)?;
            objects.namespaces.entry(name).or_default().extend(labels);
        }
        "Node" => objects
            .architectures
            .extend(text(&value["metadata"]["labels"][ARCHITECTURE])),
        _ => {}
    }
    Ok(())
}

fn typed<T: DeserializeOwned>(kind: &str, name: &str, value: &Value) -> Result<T, GivenError> {
    serde_json::from_value(value.clone()).map_err(|error| GivenError::Object {
        kind: kind.to_owned(),
        name: name.to_owned(),
        reason: error.to_string(),
    })
}
