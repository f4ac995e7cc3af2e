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
use tidewaiter_core::policy_resource::{WasmPolicy, WasmPolicySpec};

use crate::nearest::nearest;
use crate::objects::{Labels, ObjectRef};

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
        let error = error.without_snippet();
        // What is missing stands nowhere: the parser would name the line of the field before.
        let location = error
            .location()
            .filter(|_| !matches!(error, serde_saphyr::Error::SerdeMissingField { .. }));
        Unreadable {
            line: location.map(|location| location.line()).filter(|line| *line > 0),
            message: words(error, secret),
        }
    })
}

/// The parser's error for a person. Of a Secret's document nothing is quoted but field names.
fn words(error: &serde_saphyr::Error, secret: bool) -> String {
    use serde_saphyr::Error::{
        DuplicateMappingKey, SerdeInvalidType, SerdeInvalidValue, SerdeMissingField, SerdeUnknownField,
        SerdeUnknownVariant, Unexpected,
    };
    match error {
        SerdeUnknownField { field, expected, .. } => {
            let expected: Vec<&str> = expected
                .iter()
                .copied()
                .filter(|name| !KUBERNETES_OWN.contains(name))
                .collect();
            match nearest(field, &expected) {
                Some(meant) => format!("there is no field `{field}` here; did you mean `{meant}`?"),
                None => format!("there is no field `{field}` here; there may be {}", any_of(&expected)),
            }
        }
        SerdeUnknownVariant { variant, expected, .. } if !secret => match nearest(variant, expected) {
            Some(meant) => format!("`{variant}` is not known here; did you mean `{meant}`?"),
            None => format!("`{variant}` is not known here; it may be {}", any_of(expected)),
        },
        SerdeMissingField { field, .. } => format!("the field `{field}` is missing"),
        SerdeInvalidType {
            unexpected, expected, ..
        }
        | SerdeInvalidValue {
            unexpected, expected, ..
        } if !secret => {
            format!("there is {unexpected} where {expected} should be")
        }
        SerdeInvalidType { expected, .. } | SerdeInvalidValue { expected, .. } => {
            format!("something else stands where {expected} should be")
        }
        Unexpected {
            expected: "sequence start",
            ..
        } => "a list should be here".to_owned(),
        Unexpected {
            expected: "mapping start",
            ..
        } => "fields and values should be here, as in `name: value`".to_owned(),
        Unexpected {
            expected: "string scalar",
            ..
        } => "a text should be here".to_owned(),
        DuplicateMappingKey { key: Some(key), .. } => format!("`{key}` stands here twice"),
        _ if secret => "this is no Secret in YAML".to_owned(),
        other => {
            let words = other.to_string();
            // The first line; where it stands is said by us.
            let first = words.lines().next().unwrap_or_default().trim_start_matches("error: ");
            format!("this is not YAML that can be read: {first}")
        }
    }
}

/// Fields of `metadata` that nobody writes by hand.
const KUBERNETES_OWN: [&str; 8] = [
    "uid",
    "resourceVersion",
    "selfLink",
    "creationTimestamp",
    "generation",
    "managedFields",
    "ownerReferences",
    "finalizers",
];

fn any_of(names: &[&str]) -> String {
    match names {
        [] => "nothing".to_owned(),
        [only] => format!("`{only}`"),
        [first @ .., last] => format!(
            "{} or `{last}`",
            first
                .iter()
                .map(|name| format!("`{name}`"))
                .collect::<Vec<_>>()
                .join(", ")
        ),
    }
}
