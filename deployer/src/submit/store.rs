//! Credentials of a store, in the words of the guides, and the Secret that KServe understands.

use std::collections::BTreeMap;
use std::fmt;

use serde_json::{Value, json};
use tidewaiter_core::backend::{
    Backend, BackendType, Credentials, S3Settings, SecretReference, StorageBackendSpec, TlsSettings,
};
use tidewaiter_core::credentials::{CredentialsError, SecretValue, kserve_secret, storage_key};
use tidewaiter_core::endpoint::Endpoint;
use tidewaiter_core::kserve_config::KserveConfig;

/// The names under which ZenML's guide, and the stores themselves, know credentials: what each is for.
const KEYS: [(&str, BackendType); 9] = [
    ("aws_access_key_id", BackendType::S3),
    ("aws_secret_access_key", BackendType::S3),
    ("google_application_credentials", BackendType::Gcs),
    ("azure_subscription_id", BackendType::Azure),
    ("azure_client_id", BackendType::Azure),
    ("azure_client_secret", BackendType::Azure),
    ("azure_tenant_id", BackendType::Azure),
    ("azure_storage_access_key", BackendType::Azure),
    ("hf_token", BackendType::HuggingFace),
];

/// How an S3 store is reached.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StoreSettings {
    /// `host:port`, with or without a scheme; none for AWS itself.
    pub endpoint: Option<String>,
    /// Its region.
    pub region: Option<String>,
    /// Whether it speaks TLS, where the endpoint has no scheme that says so.
    pub use_https: Option<bool>,
    /// Whether its certificate is checked.
    pub verify_ssl: Option<bool>,
}

impl StoreSettings {
    fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// A store's credentials. `Debug` shows no value.
#[derive(Clone, PartialEq, Eq)]
pub struct Store {
    backend: Backend,
    keys: BTreeMap<String, SecretValue>,
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store")
            .field("kind", &self.kind())
            .field("keys", &self.keys)
            .finish_non_exhaustive()
    }
}

/// Credentials that make no sense. Names keys, never values.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// Keys of several kinds of store, or unknown ones.
    #[error("{0}")]
    Keys(String),
    /// A key is missing.
    #[error("credentials for a store of type {kind} need {wanted}")]
    Missing {
        /// As in a `StorageBackend`'s `spec.type`.
        kind: &'static str,
        /// The keys.
        wanted: String,
    },
    /// A value isn't what it should be.
    #[error("the value of {key} is not {expected}")]
    Malformed {
        /// The key.
        key: String,
        /// What it should be.
        expected: &'static str,
    },
    /// The endpoint can't be used.
    #[error("the endpoint `{endpoint}` {reason}")]
    Endpoint {
        /// As it was given, without a password.
        endpoint: String,
        /// The rest of the sentence.
        reason: String,
    },
}

impl StoreError {
    /// What to do about it.
    pub fn next(&self) -> String {
        match self {
            Self::Keys(_) => format!(
                "give the keys of one store: {}",
                KEYS.map(|(key, _)| format!("--{}", key.replace('_', "-"))).join(", ")
            ),
            Self::Missing { .. } => "give them all, each as --KEY=VALUE or --KEY=@FILE".to_owned(),
            Self::Malformed { .. } => "look at the file: --KEY=@FILE takes its content".to_owned(),
            Self::Endpoint { .. } => "write it as in http://minio.minio:9000".to_owned(),
        }
    }
}

impl Store {
    /// Puts credentials together; none where no key is given at all. Keys are named as in [`KEYS`], values are never shown.
    ///
    /// # Errors
    /// Where the keys are none of one store, or one is missing.
    pub fn of(
        keys: BTreeMap<String, SecretValue>,
        settings: &StoreSettings,
        config: &KserveConfig,
    ) -> Result<Option<Self>, StoreError> {
        if keys.is_empty() {
            return if settings.is_empty() {
                Ok(None)
            } else {
                Err(StoreError::Missing {
                    kind: BackendType::S3.as_str(),
                    wanted: "aws_access_key_id and aws_secret_access_key beside the endpoint".to_owned(),
                })
            };
        }
        let mut kinds: Vec<BackendType> = Vec::new();
        for key in keys.keys() {
            let Some((_, kind)) = KEYS.iter().find(|(known, _)| known == key) else {
                return Err(StoreError::Keys(format!("`{key}` is no credential that is known")));
            };
            if !kinds.contains(kind) {
                kinds.push(*kind);
            }
        }
        let [kind] = kinds[..] else {
            let names: Vec<_> = kinds.iter().map(|kind| kind.as_str()).collect();
            return Err(StoreError::Keys(format!(
                "these are credentials of several stores: {}",
                names.join(" and ")
            )));
        };
        if kind != BackendType::S3 && !settings.is_empty() {
            return Err(StoreError::Keys(format!(
                "an endpoint or region is S3's to have, and the keys are of a store of type {}",
                kind.as_str()
            )));
        }
        let store = Self {
            backend: backend(kind, settings)?,
            keys,
        };
        // What is missing is said now, not when half of it is done.
        store.contents(config)?;
        Ok(Some(store))
    }

    /// Of which kind it is.
    pub fn kind(&self) -> BackendType {
        self.backend.spec().kind
    }

    fn contents(&self, config: &KserveConfig) -> Result<Written, StoreError> {
        let exposed = self
            .keys
            .iter()
            .map(|(key, value)| (key.clone(), value.expose().to_vec()))
            .collect();
        let made = kserve_secret(&self.backend, &exposed, config).map_err(|error| match error {
            CredentialsError::Missing { wanted, kind, .. } => StoreError::Missing { kind, wanted },
            CredentialsError::NamedKeyMissing { role, .. } => StoreError::Missing {
                kind: self.kind().as_str(),
                wanted: role,
            },
            CredentialsError::Malformed { key, expected, .. } => StoreError::Malformed { key, expected },
        })?;
        // The form for storage keys is Tidewaiter's own Secrets'.
        let json = storage_key(self.backend.name());
        let data = made.data.into_iter().filter(|(key, _)| key != json).collect();
        Ok((made.annotations, data))
    }
}

/// Annotations and data of a Secret.
type Written = (BTreeMap<String, String>, BTreeMap<String, SecretValue>);

const PROBE: &str = "store";

/// A backend with these credentials, as which the domain knows how to write a Secret.
fn backend(kind: BackendType, settings: &StoreSettings) -> Result<Backend, StoreError> {
    let serves = match kind {
        BackendType::S3 => "s3://",
        BackendType::Gcs => "gs://",
        BackendType::Azure | BackendType::Https => "https://",
        BackendType::HuggingFace => "hf://",
        BackendType::Hdfs => "hdfs://",
    };
    let endpoint = match &settings.endpoint {
        None => None,
        Some(text) => {
            let url = match (text.contains("://"), settings.use_https) {
                (false, Some(false)) => format!("http://{text}"),
                (false, _) => format!("https://{text}"),
                (true, _) => text.clone(),
            };
            let endpoint = Endpoint::parse(&url).map_err(|reason| StoreError::Endpoint {
                endpoint: without_user(text),
                reason,
            })?;
            Some(endpoint.url())
        }
    };
    let s3 = S3Settings {
        endpoint,
        region: settings.region.clone(),
        tls: (settings.verify_ssl == Some(false)).then_some(TlsSettings {
            insecure_skip_verify: true,
            ca_bundle: None,
        }),
        ..S3Settings::default()
    };
    let spec = StorageBackendSpec {
        kind,
        serves: vec![serves.to_owned()],
        credentials: Credentials::SecretRef(SecretReference {
            namespace: PROBE.to_owned(),
            name: PROBE.to_owned(),
            keys: BTreeMap::new(),
        }),
        grants: None,
        authorization: None,
        minting: None,
        delivery: tidewaiter_core::backend::Delivery::Annotation,
        contact: None,
        s3: (s3 != S3Settings::default()).then_some(s3),
        huggingface: None,
    };
    Backend::new(PROBE, spec).map_err(|problems| StoreError::Keys(problems.join("; ")))
}

/// An address without a user and a password.
fn without_user(endpoint: &str) -> String {
    let (scheme, rest) = match endpoint.split_once("://") {
        Some((scheme, rest)) => (format!("{scheme}://"), rest),
        None => (String::new(), endpoint),
    };
    let end = rest.find('/').unwrap_or(rest.len());
    let host = rest[..end].rsplit_once('@').map_or(&rest[..end], |(_, host)| host);
    format!("{scheme}{host}{}", &rest[end..])
}

/// The label by which this command knows its own Secrets and ServiceAccounts.
pub(super) const MANAGED_BY: &str = "app.kubernetes.io/managed-by";
/// See [`MANAGED_BY`].
pub(super) const MANAGER: &str = "tidewaiter-deploy";

/// The Secret that KServe opens the store with, and the ServiceAccount that names it, both of this name. Not labelled as Tidewaiter's webhook labels
/// its own: those it collects.
///
/// # Errors
/// Where a key is missing.
pub fn secret_objects(
    store: &Store,
    name: &str,
    namespace: &str,
    config: &KserveConfig,
) -> Result<[Value; 2], StoreError> {
    use base64::Engine as _;
    let (annotations, data) = store.contents(config)?;
    let data: BTreeMap<_, _> = data
        .iter()
        .map(|(key, value)| (key, base64::engine::general_purpose::STANDARD.encode(value.expose())))
        .collect();
    let labels = json!({MANAGED_BY: MANAGER});
    let mut secret = json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name, "namespace": namespace, "labels": labels},
        "type": "Opaque",
        "data": data,
    });
    if !annotations.is_empty() {
        secret["metadata"]["annotations"] = json!(annotations);
    }
    let account = json!({
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": {"name": name, "namespace": namespace, "labels": labels},
        "secrets": [{"name": name}],
    });
    Ok([secret, account])
}

#[cfg(test)]
#[path = "store_tests.rs"]
mod tests;
