//! `StorageBackend`: a model store, what it serves, and which namespaces may use it.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::duration;
use crate::endpoint::Endpoint;
use crate::selector::LabelSelector;
use crate::uri::{Scheme, StorageUri, UriPattern};
use crate::wildcard;

/// Every object that Tidewaiter writes has this label with the value [`MANAGED_BY`].
pub const MANAGED_BY_LABEL: &str = "app.kubernetes.io/managed-by";
/// Value of [`MANAGED_BY_LABEL`].
pub const MANAGED_BY: &str = "tidewaiter";
/// On what is written for a backend: the `StorageBackend`'s name.
pub const BACKEND_LABEL: &str = "tidewaiter.dev/backend";
/// On a namespace's own Secret: it opens the store that [`PREFIX_ANNOTATION`] names. The value doesn't matter.
pub const OWN_STORAGE_LABEL: &str = "tidewaiter.dev/storage";
/// On a namespace's own Secret: the prefix that it opens, such as `s3://bucket/path/`.
pub const PREFIX_ANNOTATION: &str = "tidewaiter.dev/prefix";

/// What every [`managed_name`] begins with.
pub const MANAGED_NAME: &str = "tidewaiter-";

/// The name of the Secret, the ServiceAccount and the CA's ConfigMap that Tidewaiter writes in a namespace for a backend.
pub fn managed_name(backend: &str) -> String {
    format!("{MANAGED_NAME}{backend}")
}

/// A model store: what it serves, how it is opened, and which namespaces may use it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(feature = "crd", derive(kube::CustomResource, schemars::JsonSchema))]
#[cfg_attr(
    feature = "crd",
    kube(
        doc = "A store of models: what it serves, how it is opened, who may use which part of it.",
        group = "tidewaiter.dev",
        version = "v1alpha1",
        kind = "StorageBackend",
        status = "StorageBackendStatus",
        category = "tidewaiter",
        shortname = "sbe",
        printcolumn = r#"{"name": "Type", "type": "string", "jsonPath": ".spec.type"}"#,
        printcolumn = r#"{"name": "Accepted", "type": "string", "jsonPath": ".status.conditions[?(@.type=='Accepted')].status"}"#,
        printcolumn = r#"{"name": "Reachable", "type": "string", "jsonPath": ".status.conditions[?(@.type=='Reachable')].status"}"#,
        printcolumn = r#"{"name": "Credentials", "type": "string", "jsonPath": ".status.conditions[?(@.type=='CredentialsValid')].status"}"#,
        printcolumn = r#"{"name": "Namespaces", "type": "integer", "jsonPath": ".status.namespaces"}"#,
        printcolumn = r#"{"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"}"#
    )
)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct StorageBackendSpec {
    /// What kind of store this is.
    #[serde(rename = "type")]
    pub kind: BackendType,
    /// The URIs that this store serves, as prefixes in whole path segments; `*` stands for any run of characters within a segment. Among
    /// the backends that serve a URI, the one with the longest text before its first `*` is taken.
    pub serves: Vec<String>,
    /// How the store is opened.
    pub credentials: Credentials,
    /// Which namespaces may use which part of the store. Absent: every namespace may use all that the backend serves. An empty list: none may.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grants: Option<Vec<GrantSpec>>,
    /// Whose right to `use` this backend, by RBAC, is asked for when a service begins to use it. Absent: nobody's, the grants decide alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authorization: Option<Authorization>,
    /// For MinIO: each namespace gets an access key of its own, that reads what its services need and nothing else, in place of a copy of the backend's.
    /// The backend's own, which must be a user's or root's, then stays where it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub minting: Option<Minting>,
    /// How credentials reach KServe.
    #[serde(default)]
    pub delivery: Delivery,
    /// Whom to ask for a grant: shown to a user whose namespace has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub contact: Option<String>,
    /// For `type: s3`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub s3: Option<S3Settings>,
    /// For `type: huggingface`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub huggingface: Option<HuggingFaceSettings>,
}

/// Kinds of stores.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[cfg_attr(feature = "crd", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum BackendType {
    /// Amazon S3, or what speaks its protocol: MinIO, Ceph, …
    S3,
    /// Google Cloud Storage.
    Gcs,
    /// Azure Blob Storage.
    Azure,
    /// The Hugging Face Hub.
    HuggingFace,
    /// Plain files over HTTP(S).
    Https,
    /// HDFS by WebHDFS.
    Hdfs,
}

impl BackendType {
    /// As it is written in YAML and in the contract's `served.kind`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::S3 => "s3",
            Self::Gcs => "gcs",
            Self::Azure => "azure",
            Self::HuggingFace => "huggingface",
            Self::Https => "https",
            Self::Hdfs => "hdfs",
        }
    }

    fn schemes(self) -> &'static [Scheme] {
        match self {
            Self::S3 => &[Scheme::S3],
            Self::Gcs => &[Scheme::Gs],
            Self::Azure => &[Scheme::Https],
            Self::HuggingFace => &[Scheme::Hf],
            Self::Https => &[Scheme::Https, Scheme::Http],
            Self::Hdfs => &[Scheme::Hdfs, Scheme::WebHdfs],
        }
    }
}

/// How a store is opened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "crd", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub enum Credentials {
    /// With the content of a Secret, which is copied into the namespaces that use the store.
    SecretRef(SecretReference),
    /// The Pods' own cloud identity opens it: nothing is delivered.
    WorkloadIdentity(Empty),
    /// Anyone may read it: no keys are delivered.
    Anonymous(Empty),
}

// The derived one would tell of none and of two in words about enums.
impl<'de> Deserialize<'de> for Credentials {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase", deny_unknown_fields)]
        struct Given {
            secret_ref: Option<SecretReference>,
            workload_identity: Option<Empty>,
            anonymous: Option<Empty>,
        }
        let Given {
            secret_ref,
            workload_identity,
            anonymous,
        } = Given::deserialize(deserializer)?;
        let given = [
            secret_ref.map(Self::SecretRef),
            workload_identity.map(Self::WorkloadIdentity),
            anonymous.map(Self::Anonymous),
        ];
        let mut given = given.into_iter().flatten();
        match (given.next(), given.next()) {
            (Some(only), None) => Ok(only),
            (first, _) => Err(serde::de::Error::custom(format_args!(
                "spec.credentials needs exactly one of secretRef, workloadIdentity and anonymous, and has {}",
                if first.is_some() { "several" } else { "none" }
            ))),
        }
    }
}

/// Written as `{}`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Empty {}

// The derived one says `additionalProperties: false`, which Kubernetes doesn't allow in a CRD.
#[cfg(feature = "crd")]
impl schemars::JsonSchema for Empty {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Empty".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "object" })
    }
}

/// A Secret, and where it doesn't use a usual spelling, the names of its keys.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(feature = "crd", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SecretReference {
    /// The Secret's namespace.
    pub namespace: String,
    /// The Secret's name.
    pub name: String,
    /// The key that holds what the left side names, for Secrets with keys of their own: KServe's key name (`AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`,
    /// `gcloud-application-credentials.json`, `AZURE_CLIENT_ID`, …, `HF_TOKEN`, `HDFS_NAMENODE`, …, `https-host`, `headers`) to the Secret's.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub keys: BTreeMap<String, String>,
}

/// An S3 store that is not Amazon's, or not in its default region.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(feature = "crd", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct S3Settings {
    /// Such as `http://minio.minio.svc:9000`; without a scheme `https`. Absent: Amazon's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    /// Such as `eu-central-1`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// Buckets are a part of the path, not of the host. Default: true where an endpoint is set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path_style: Option<bool>,
    /// Amazon's transfer acceleration. Default: false.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub accelerate: bool,
    /// How the endpoint's certificate is checked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<TlsSettings>,
}

/// How an endpoint's certificate is checked.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(feature = "crd", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TlsSettings {
    /// Take any certificate. Default: false.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub insecure_skip_verify: bool,
    /// The authorities that may have signed the certificate, instead of the usual ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_bundle: Option<CaBundle>,
}

/// Where PEM certificates of authorities are.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(feature = "crd", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub enum CaBundle {
    /// In a ConfigMap, which is copied into the namespaces that use the store.
    ConfigMap(ConfigMapKey),
    /// Here.
    Inline(String),
}

/// A key of a ConfigMap.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(feature = "crd", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ConfigMapKey {
    /// The ConfigMap's namespace.
    pub namespace: String,
    /// The ConfigMap's name.
    pub name: String,
    /// Default: `cabundle.crt`.
    #[serde(default = "ca_bundle_key")]
    pub key: String,
}

/// The key under which KServe mounts a CA bundle.
pub const CA_BUNDLE_KEY: &str = "cabundle.crt";

fn ca_bundle_key() -> String {
    CA_BUNDLE_KEY.to_owned()
}

/// A Hub of one's own.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(feature = "crd", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HuggingFaceSettings {
    /// Where Tidewaiter reads models. Default: `https://huggingface.co`. KServe's initializer reads there too unless its container sets `HF_ENDPOINT`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
}

/// Which namespaces may use which prefixes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(feature = "crd", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct GrantSpec {
    /// Names, with `*` for any run of characters. Absent: every name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespaces: Option<Vec<String>>,
    /// Labels that the namespace has. Both this and `namespaces` must hold.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace_selector: Option<LabelSelector>,
    /// Prefixes, in which `{namespace}` stands for the namespace's name: `s3://mlflow/{namespace}/`. Absent: all that the backend serves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prefixes: Option<Vec<String>>,
}

/// How access keys are minted, by MinIO's admin API.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(feature = "crd", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Minting {
    /// How long a key lives, such as `12h` or `30d`, from `1h` to `365d`. Another takes its place when a third of that is left, and what Pods still hold of it
    /// works for a day longer. Default: `30d`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_lifetime: Option<String>,
}

/// MinIO takes a quarter of an hour at least, and a third of it would leave no time to try again.
const KEY_LIFETIMES: RangeInclusive<Duration> = Duration::from_hours(1)..=Duration::from_hours(365 * 24);
const KEY_LIFETIME: Duration = Duration::from_hours(30 * 24);

impl Minting {
    fn parsed(&self) -> Result<Duration, String> {
        let lifetime = self.key_lifetime.as_deref().map_or(Ok(KEY_LIFETIME), duration::parse)?;
        let fits = KEY_LIFETIMES.contains(&lifetime);
        fits.then_some(lifetime)
            .ok_or_else(|| "must be between 1h and 365d".to_owned())
    }
}

/// Who must have the verb `use` on `storagebackends.tidewaiter.dev`, in the service's namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[cfg_attr(feature = "crd", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub enum Authorization {
    /// Whoever creates the service, or changes it to use this store.
    Requester,
    /// The ServiceAccount that the service's Pods run as: for clusters where one controller applies what everybody wrote.
    ServiceAccount,
}

/// How credentials reach KServe's storage initializer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[cfg_attr(feature = "crd", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub enum Delivery {
    /// A Secret named by the annotation that KServe's configuration names (`serving.kserve.io/storageSecretName`).
    #[default]
    Annotation,
    /// A ServiceAccount that lists the Secret.
    ServiceAccount,
    /// A key in a Secret of KServe's storage-config form; for `type: s3`, and for predictors only: a transformer gets the annotation.
    StorageKey,
}

/// What became of a `StorageBackend`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(feature = "crd", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct StorageBackendStatus {
    /// `Accepted`: whether this version of the backend is in use. `Reachable` and `CredentialsValid`: whether the store answered the last look at it, once a
    /// minute, and took the credentials. `Minting`: whether it takes the access keys that are minted.
    #[serde(default)]
    pub conditions: Vec<Condition>,
    /// The generation that the conditions speak of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// How many namespaces have the backend's credentials; brought up to date every half minute at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespaces: Option<i32>,
}

/// A condition in the form that Kubernetes' tools know.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(feature = "crd", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct Condition {
    /// Such as `Accepted`.
    #[serde(rename = "type")]
    pub type_: String,
    /// `True`, `False` or `Unknown`.
    pub status: String,
    /// One word in camel case.
    pub reason: String,
    /// For a person.
    pub message: String,
    /// When `status` last changed, as RFC 3339.
    pub last_transition_time: String,
    /// The generation that this was found at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
}

/// A `StorageBackend` whose settings were found to make sense.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backend {
    name: String,
    spec: StorageBackendSpec,
    serves: Vec<UriPattern>,
    grants: Option<Vec<Grant>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Grant {
    namespaces: Option<Vec<String>>,
    selector: Option<LabelSelector>,
    prefixes: Option<Vec<UriPattern>>,
}

impl Backend {
    /// Checks a `StorageBackend`.
    ///
    /// # Errors
    /// All that is wrong with it, a sentence each, beginning with the field.
    pub fn new(name: &str, spec: StorageBackendSpec) -> Result<Self, Vec<String>> {
        let mut problems = Vec::new();
        check_name(name, &mut problems);
        check_settings(&spec, &mut problems);
        let serves = parse_serves(&spec, &mut problems);
        let grants = spec.grants.as_ref().map(|grants| {
            grants
                .iter()
                .enumerate()
                .map(|(index, grant)| parse_grant(index, grant, &serves, &mut problems))
                .collect()
        });
        if problems.is_empty() {
            Ok(Self {
                name: name.to_owned(),
                spec,
                serves,
                grants,
            })
        } else {
            Err(problems)
        }
    }

    /// The `StorageBackend`'s name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The settings.
    pub fn spec(&self) -> &StorageBackendSpec {
        &self.spec
    }

    /// What it serves.
    pub fn serves(&self) -> &[UriPattern] {
        &self.serves
    }

    /// Whether a Secret has to be in a namespace before a model is loaded from here. An anonymous S3 store has one too: KServe would sign its requests
    /// unless a Secret's annotation says otherwise.
    pub fn delivers_credentials(&self) -> bool {
        match self.spec.credentials {
            Credentials::SecretRef(_) => true,
            Credentials::WorkloadIdentity(_) => false,
            Credentials::Anonymous(_) => self.spec.kind == BackendType::S3,
        }
    }

    /// How long the access keys live that are minted for each namespace; none where the backend's own are copied.
    pub fn key_lifetime(&self) -> Option<Duration> {
        self.spec.minting.as_ref()?.parsed().ok()
    }

    /// The part of its bucket that a URI lies in and a namespace may use, as the beginning of keys: of several the widest. None where the namespace may not
    /// use the URI, or the backend doesn't serve it.
    pub fn granted_root<'u>(
        &self,
        uri: &'u StorageUri,
        namespace: &str,
        labels: Option<&BTreeMap<String, String>>,
    ) -> Option<&'u str> {
        if !self.serves.iter().any(|serves| serves.holds(uri)) {
            return None;
        }
        let allowed = self.granted(namespace, labels).into_iter();
        let holding = allowed.filter(|pattern| pattern.holds_for(uri, namespace));
        holding
            .map(|pattern| pattern.root_of(uri))
            .min_by_key(|root| root.len())
    }

    /// Whether it depends on a namespace's labels what the namespace may use.
    pub fn asks_for_labels(&self) -> bool {
        self.grants.iter().flatten().any(|grant| grant.selector.is_some())
    }

    /// Whether a namespace may use any part of this store. Labels that aren't known fulfil no selector, not even one that asks for their absence.
    pub fn granted_anything(&self, namespace: &str, labels: Option<&BTreeMap<String, String>>) -> bool {
        !self.granted(namespace, labels).is_empty()
    }

    /// The prefixes that a namespace may use.
    pub fn granted(&self, namespace: &str, labels: Option<&BTreeMap<String, String>>) -> Vec<&UriPattern> {
        let Some(grants) = &self.grants else {
            return self.serves.iter().collect();
        };
        grants
            .iter()
            .filter(|grant| {
                grant
                    .namespaces
                    .as_ref()
                    .is_none_or(|names| names.iter().any(|pattern| wildcard::matches(pattern, namespace)))
            })
            .filter(|grant| {
                grant
                    .selector
                    .as_ref()
                    .is_none_or(|selector| labels.is_some_and(|labels| selector.matches(labels)))
            })
            .flat_map(|grant| grant.prefixes.as_ref().unwrap_or(&self.serves))
            .collect()
    }
}

fn check_name(name: &str, problems: &mut Vec<String>) {
    // It becomes the value of a label, and with `tidewaiter-` before it the name of a Secret and a ServiceAccount.
    let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '.';
    if name.is_empty()
        || name.len() > 63
        || !name.chars().all(fits)
        || !name.ends_with(|c: char| c.is_ascii_alphanumeric())
    {
        problems.push(
            "metadata.name: give it at most 63 small letters, digits, `-` and `.`, since it becomes a label's value"
                .to_owned(),
        );
    }
}

fn check_settings(spec: &StorageBackendSpec, problems: &mut Vec<String>) {
    let kind = spec.kind.as_str();
    if spec.s3.is_some() && spec.kind != BackendType::S3 {
        problems.push(format!("spec.s3: the type is {kind}; leave it out, or say `type: s3`"));
    }
    if spec.huggingface.is_some() && spec.kind != BackendType::HuggingFace {
        problems.push(format!(
            "spec.huggingface: the type is {kind}; leave it out, or say `type: huggingface`"
        ));
    }
    if let Some(endpoint) = spec.s3.as_ref().and_then(|s3| s3.endpoint.as_deref())
        && let Err(reason) = Endpoint::parse(endpoint)
    {
        problems.push(format!(
            "spec.s3.endpoint: `{endpoint}` {reason}; write it as in http://minio.minio.svc:9000"
        ));
    }
    if spec.delivery == Delivery::StorageKey && spec.kind != BackendType::S3 {
        problems.push(format!(
            "spec.delivery: storage keys are for s3 only, not for {kind}; use `annotation` or `serviceAccount`"
        ));
    }
    if let Some(minting) = &spec.minting {
        let by_secret = matches!(spec.credentials, Credentials::SecretRef(_));
        if spec.s3.as_ref().is_none_or(|s3| s3.endpoint.is_none()) || !by_secret {
            problems.push(
                "spec.minting: is for MinIO, so it takes `type: s3` with s3.endpoint, and credentials.secretRef with the key of a user of that MinIO"
                    .to_owned(),
            );
        }
        if let Err(reason) = minting.parsed() {
            problems.push(format!("spec.minting.keyLifetime: {reason}"));
        }
    }
    if let Credentials::SecretRef(secret) = &spec.credentials
        && (secret.name.is_empty() || secret.namespace.is_empty())
    {
        problems.push("spec.credentials.secretRef: name the Secret and its namespace".to_owned());
    }
}

fn parse_serves(spec: &StorageBackendSpec, problems: &mut Vec<String>) -> Vec<UriPattern> {
    if spec.serves.is_empty() {
        problems.push("spec.serves: is empty; name what the store serves, such as s3://bucket/".to_owned());
    }
    let mut serves = Vec::new();
    for (index, text) in spec.serves.iter().enumerate() {
        match UriPattern::parse(text) {
            Err(reason) => problems.push(format!("spec.serves[{index}]: `{text}` {reason}")),
            Ok(_) if text.contains(crate::uri::NAMESPACE) => {
                problems.push(format!(
                    "spec.serves[{index}]: `{text}` has {{namespace}}, which belongs into grants"
                ));
            }
            Ok(pattern) if !spec.kind.schemes().contains(&pattern.scheme()) => problems.push(format!(
                "spec.serves[{index}]: `{text}` is not for a store of type {}; it serves {}://",
                spec.kind.as_str(),
                spec.kind.schemes()[0].as_str()
            )),
            Ok(pattern) => serves.push(pattern),
        }
    }
    serves
}

fn parse_grant(index: usize, grant: &GrantSpec, serves: &[UriPattern], problems: &mut Vec<String>) -> Grant {
    for pattern in grant.namespaces.iter().flatten() {
        if let Some(problem) = wildcard::problem(pattern) {
            problems.push(format!("spec.grants[{index}].namespaces: `{pattern}` {problem}"));
        }
    }
    let prefixes = grant.prefixes.as_ref().map(|prefixes| {
        let mut parsed = Vec::new();
        for text in prefixes {
            match UriPattern::parse(text) {
                Err(reason) => problems.push(format!("spec.grants[{index}].prefixes: `{text}` {reason}")),
                Ok(prefix) if !serves.is_empty() && !serves.iter().any(|served| may_overlap(served, &prefix)) => {
                    problems.push(format!(
                        "spec.grants[{index}].prefixes: `{text}` is outside of what the backend serves"
                    ));
                }
                Ok(prefix) => parsed.push(prefix),
            }
        }
        parsed
    });
    Grant {
        namespaces: grant.namespaces.clone(),
        selector: grant.namespace_selector.clone(),
        prefixes,
    }
}

/// Whether a URI could lie below both: by the text before their first wildcards.
fn may_overlap(served: &UriPattern, granted: &UriPattern) -> bool {
    let granted = granted.literal().split('{').next().unwrap_or_default();
    served.literal().starts_with(granted) || granted.starts_with(served.literal())
}

impl S3Settings {
    /// The endpoint; none for Amazon's, and for one that doesn't parse (which [`Backend::new`] refuses).
    pub fn parsed_endpoint(&self) -> Option<Endpoint> {
        self.endpoint
            .as_deref()
            .and_then(|endpoint| Endpoint::parse(endpoint).ok())
    }

    /// Whether buckets are a part of the path.
    pub fn uses_path_style(&self) -> bool {
        self.path_style.unwrap_or(self.endpoint.is_some())
    }
}

#[cfg(test)]
#[path = "backend_tests.rs"]
mod tests;
