//! One YAML document of a folder: strict where Kubernetes would be strict on `kubectl apply`, with errors for people.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{ConfigMap, ObjectReference, Secret, ServiceAccount};
use kube::api::ObjectMeta;
use serde::Deserialize;
use serde::de::{DeserializeOwned, IgnoredAny};
use serde_json::Value;
use tidewaiter_core::backend::{StorageBackend, StorageBackendSpec};
use tidewaiter_core::backends::UnusableBackend;
use tidewaiter_core::nearest::nearest;
use tidewaiter_core::policy_resource::{WasmPolicy, WasmPolicySpec};

use crate::objects::{Labels, ObjectRef};
use crate::words::{any_of, explain};

/// Kinds that a folder may hold.
const KINDS: [&str; 9] = [
    "StorageBackend",
    "WasmPolicy",
    "Secret",
    "ConfigMap",
    "ServiceAccount",
    "Namespace",
    "Node",
    "ServingRuntime",
    "ClusterServingRuntime",
];

/// What one document holds.
pub(super) enum Item {
    Backend(StorageBackend),
    Policy(WasmPolicy),
    Secret(Secret),
    ConfigMap(ConfigMap),
    ServiceAccount(ServiceAccount),
    Namespace(String, Labels),
    /// The node's architecture.
    Node(Option<String>),
    Runtime(Value),
}

/// Why a document can't be read.
pub(super) struct Unreadable {
    /// Counted from 1, in the document.
    pub(super) line: Option<u64>,
    pub(super) message: String,
}

/// What a document says of itself, before its kind is known.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Head {
    api_version: Option<String>,
    kind: Option<String>,
    metadata: Option<HeadMetadata>,
}

#[derive(Deserialize)]
struct HeadMetadata {
    name: Option<String>,
    namespace: Option<String>,
}

/// `metadata` with the fields that a person writes, and those that `kubectl get -o yaml` adds.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Metadata {
    name: String,
    namespace: Option<String>,
    #[serde(default)]
    labels: BTreeMap<String, String>,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
    #[serde(default, rename = "uid", alias = "selfLink")]
    _uid: Option<IgnoredAny>,
    #[serde(default, rename = "resourceVersion")]
    _resource_version: Option<IgnoredAny>,
    #[serde(default, rename = "creationTimestamp")]
    _creation_timestamp: Option<IgnoredAny>,
    #[serde(default, rename = "generation")]
    _generation: Option<IgnoredAny>,
    #[serde(default, rename = "managedFields")]
    _managed_fields: Option<IgnoredAny>,
    #[serde(default, rename = "ownerReferences")]
    _owner_references: Option<IgnoredAny>,
    #[serde(default, rename = "finalizers")]
    _finalizers: Option<IgnoredAny>,
}

impl From<Metadata> for ObjectMeta {
    fn from(metadata: Metadata) -> Self {
        Self {
            name: Some(metadata.name),
            namespace: metadata.namespace,
            labels: Some(metadata.labels),
            annotations: Some(metadata.annotations),
            ..Self::default()
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Resource<S> {
    #[serde(rename = "apiVersion")]
    _api_version: IgnoredAny,
    #[serde(rename = "kind")]
    _kind: IgnoredAny,
    metadata: Metadata,
    spec: S,
    #[serde(default, rename = "status")]
    _status: Option<IgnoredAny>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct SecretDocument {
    #[serde(rename = "apiVersion")]
    _api_version: IgnoredAny,
    #[serde(rename = "kind")]
    _kind: IgnoredAny,
    metadata: Metadata,
    #[serde(default)]
    data: BTreeMap<String, Option<String>>,
    #[serde(default)]
    string_data: BTreeMap<String, String>,
    #[serde(rename = "type")]
    type_: Option<String>,
    #[serde(default, rename = "immutable")]
    _immutable: Option<IgnoredAny>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct ConfigMapDocument {
    #[serde(rename = "apiVersion")]
    _api_version: IgnoredAny,
    #[serde(rename = "kind")]
    _kind: IgnoredAny,
    metadata: Metadata,
    #[serde(default)]
    data: BTreeMap<String, String>,
    #[serde(default)]
    binary_data: BTreeMap<String, String>,
    #[serde(default, rename = "immutable")]
    _immutable: Option<IgnoredAny>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct ServiceAccountDocument {
    #[serde(rename = "apiVersion")]
    _api_version: IgnoredAny,
    #[serde(rename = "kind")]
    _kind: IgnoredAny,
    metadata: Metadata,
    #[serde(default)]
    secrets: Vec<NameOnly>,
    #[serde(default, rename = "imagePullSecrets")]
    _image_pull_secrets: Option<IgnoredAny>,
    #[serde(default, rename = "automountServiceAccountToken")]
    _automount: Option<IgnoredAny>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NameOnly {
    name: String,
}

/// Namespaces and nodes: only what they are called and labelled is of use.
#[derive(Deserialize)]
struct Labelled {
    metadata: Metadata,
}

impl Head {
    /// None where the document is empty.
    pub(super) fn read(text: &str) -> Result<Option<Self>, Unreadable> {
        read::<Option<Self>>(text, false)
    }

    /// The document's object, where it says what it is.
    pub(super) fn object(&self) -> Option<ObjectRef> {
        let metadata = self.metadata.as_ref()?;
        let kind = self.kind.as_deref().filter(|kind| KINDS.contains(kind))?;
        let namespace = is_namespaced(kind).then(|| metadata.namespace.clone()).flatten();
        Some(ObjectRef {
            kind: kind.to_owned(),
            namespace,
            name: metadata.name.clone()?,
        })
    }

    /// What a `StorageBackend` was to serve, where the document can't be read as one.
    pub(super) fn unusable_backend(&self, text: &str, reason: &str) -> Option<UnusableBackend> {
        let object = self.object().filter(|object| object.kind == "StorageBackend")?;
        let document: Value = serde_saphyr::from_str(text).ok()?;
        UnusableBackend::read(&object.name, &document["spec"], reason.to_owned())
    }

    /// Reads the document, now that its kind is known.
    pub(super) fn item(&self, text: &str) -> Result<Item, Unreadable> {
        let refused = |message: String| Unreadable { line: None, message };
        let Some(kind) = self.kind.as_deref() else {
            return Err(refused(format!("has no `kind`; it may be {}", any_of(&KINDS))));
        };
        let Some(expected) = api_version(kind) else {
            let meant = nearest(kind, &KINDS).map_or_else(
                || format!("it may be {}", any_of(&KINDS)),
                |meant| format!("did you mean {meant}?"),
            );
            return Err(refused(format!("the kind {kind} is of no use here; {meant}")));
        };
        match self.api_version.as_deref() {
            Some(given) if given == expected => {}
            Some(given) => return Err(refused(format!("{kind} has apiVersion {given}; write {expected}"))),
            None => return Err(refused(format!("has no `apiVersion`; {kind} has {expected}"))),
        }
        let namespace = self
            .metadata
            .as_ref()
            .and_then(|metadata| metadata.namespace.as_deref());
        match (is_namespaced(kind), namespace) {
            (true, None) => {
                return Err(refused(
                    "metadata.namespace is missing: a folder has no namespace of its own".to_owned(),
                ));
            }
            (false, Some(_)) => {
                return Err(refused(format!(
                    "{kind} belongs to no namespace; take metadata.namespace out"
                )));
            }
            _ => {}
        }
        match kind {
            "StorageBackend" => {
                let Resource::<StorageBackendSpec> { metadata, spec, .. } = read(text, false)?;
                Ok(Item::Backend(StorageBackend {
                    metadata: metadata.into(),
                    spec,
                    status: None,
                }))
            }
            "WasmPolicy" => {
                let Resource::<WasmPolicySpec> { metadata, spec, .. } = read(text, false)?;
                Ok(Item::Policy(WasmPolicy {
                    metadata: metadata.into(),
                    spec,
                    status: None,
                }))
            }
            "Secret" => secret(read(text, true)?).map(Item::Secret),
            "ConfigMap" => config_map(read(text, false)?).map(Item::ConfigMap),
            "ServiceAccount" => {
                let document: ServiceAccountDocument = read(text, false)?;
                let secrets = document.secrets.into_iter().map(|secret| ObjectReference {
                    name: Some(secret.name),
                    ..Default::default()
                });
                Ok(Item::ServiceAccount(ServiceAccount {
                    metadata: document.metadata.into(),
                    secrets: Some(secrets.collect()),
                    ..Default::default()
                }))
            }
            "Namespace" => {
                let Labelled { metadata } = read(text, false)?;
                Ok(Item::Namespace(metadata.name, metadata.labels))
            }
            "Node" => {
                let Labelled { metadata } = read(text, false)?;
                Ok(Item::Node(metadata.labels.get("kubernetes.io/arch").cloned()))
            }
            _ => read(text, false).map(Item::Runtime),
        }
    }
}

fn api_version(kind: &str) -> Option<&'static str> {
    match kind {
        "StorageBackend" | "WasmPolicy" => Some("tidewaiter.dev/v1alpha1"),
        "Secret" | "ConfigMap" | "ServiceAccount" | "Namespace" | "Node" => Some("v1"),
        "ServingRuntime" | "ClusterServingRuntime" => Some("serving.kserve.io/v1alpha1"),
        _ => None,
    }
}

fn is_namespaced(kind: &str) -> bool {
    matches!(kind, "Secret" | "ConfigMap" | "ServiceAccount" | "ServingRuntime")
}

fn secret(document: SecretDocument) -> Result<Secret, Unreadable> {
    let mut data = BTreeMap::new();
    for (key, value) in document.data {
        data.insert(key.clone(), decoded(&key, value.as_deref().unwrap_or_default())?);
    }
    data.extend(
        document
            .string_data
            .into_iter()
            .map(|(key, value)| (key, ByteString(value.into_bytes()))),
    );
    Ok(Secret {
        metadata: document.metadata.into(),
        data: Some(data),
        type_: document.type_,
        ..Default::default()
    })
}

fn config_map(document: ConfigMapDocument) -> Result<ConfigMap, Unreadable> {
    let mut binary = BTreeMap::new();
    for (key, value) in document.binary_data {
        binary.insert(key.clone(), decoded(&key, &value)?);
    }
    Ok(ConfigMap {
        metadata: document.metadata.into(),
        data: Some(document.data),
        binary_data: Some(binary),
        ..Default::default()
    })
}

fn decoded(key: &str, value: &str) -> Result<ByteString, Unreadable> {
    // `base64` on the command line breaks lines, and block scalars end with one.
    let value: String = value.split_ascii_whitespace().collect();
    STANDARD.decode(value).map(ByteString).map_err(|_| Unreadable {
        line: None,
        message: format!("data.{key} is not base64; plain text belongs into stringData"),
    })
}

fn read<T: DeserializeOwned>(text: &str, secret: bool) -> Result<T, Unreadable> {
    serde_saphyr::from_str(text).map_err(|error| {
        let (line, message) = explain(&error, secret);
        Unreadable { line, message }
    })
}
