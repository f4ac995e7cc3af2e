//! From a backend's settings and Secret to a connection.

use std::collections::BTreeMap;

use tidewaiter_core::backend::{Backend, BackendType, Credentials};
use tidewaiter_core::credentials::{SecretContents, SecretValue};
use tidewaiter_core::kserve_config::KserveConfig;
use url::Url;

use crate::stores::{AzureKeys, Connection, Identity, Keys, Trust};

const HUB: &str = "https://huggingface.co";

/// How a backend is reached. `contents` is what KServe would be given, so that Tidewaiter reads with the same keys; none where nothing is delivered.
pub(crate) fn connection(
    backend: &Backend,
    contents: Option<&SecretContents>,
    bundle: Option<String>,
    kserve: &KserveConfig,
) -> Result<Connection, String> {
    let spec = backend.spec();
    let data = contents.map(|contents| &contents.data);
    match spec.kind {
        BackendType::S3 => {
            let settings = spec.s3.clone().unwrap_or_default();
            let endpoint = settings.parsed_endpoint();
            let tls = settings.tls.clone().unwrap_or_default();
            let trust = match (&endpoint, tls.insecure_skip_verify, bundle) {
                (Some(endpoint), _, _) if !endpoint.tls => Trust::Nobody,
                (_, true, _) => Trust::Anybody,
                (_, false, Some(pem)) => Trust::Bundle(pem),
                (_, false, None) => Trust::System,
            };
            let endpoint = endpoint
                .map(|endpoint| Url::parse(&endpoint.url()))
                .transpose()
                .map_err(|error| format!("spec.s3.endpoint: {error}"))?;
            let identity = identity(spec, || {
                Ok(Keys {
                    id: text(data, &kserve.s3_access_key_id)?,
                    secret: text(data, &kserve.s3_secret_access_key)?,
                })
            })?;
            Ok(Connection::S3 {
                endpoint,
                region: settings.region.clone(),
                path_style: settings.uses_path_style(),
                trust,
                identity,
            })
        }
        BackendType::Gcs => {
            let identity = identity(spec, || text(data, &kserve.gcs_credentials_file))?;
            Ok(Connection::Gcs {
                endpoint: None,
                trust: Trust::System,
                identity,
            })
        }
        BackendType::Azure => {
            let identity = identity(spec, || {
                let one =
                    |name: &str| text(data, &format!("AZ_{name}")).or_else(|_| text(data, &format!("AZURE_{name}")));
                if let Ok(key) = text(data, "AZURE_STORAGE_ACCESS_KEY") {
                    return Ok(AzureKeys::Access(key));
                }
                if let Ok(token) = text(data, "AZURE_ACCESS_TOKEN") {
                    return Ok(AzureKeys::Bearer(token));
                }
                Ok(AzureKeys::Client {
                    tenant: one("TENANT_ID")?,
                    id: one("CLIENT_ID")?,
                    secret: one("CLIENT_SECRET")?,
                })
            })?;
            Ok(Connection::Azure {
                endpoint: None,
                trust: Trust::System,
                identity,
            })
        }
        BackendType::HuggingFace => {
            let endpoint = spec
                .huggingface
                .as_ref()
                .and_then(|hub| hub.endpoint.as_deref())
                .unwrap_or(HUB);
            let endpoint = Url::parse(endpoint)
                .map_err(|error| format!("spec.huggingface.endpoint: `{endpoint}` is no web address: {error}"))?;
            let token = match identity(spec, || text(data, "HF_TOKEN"))? {
                Identity::Keys(token) => Some(token),
                Identity::Anonymous | Identity::Ambient => None,
            };
            Ok(Connection::HuggingFace {
                trust: trust_of(&endpoint),
                endpoint,
                token,
            })
        }
        BackendType::Https => {
            let headers = match identity(spec, || headers(data))? {
                Identity::Keys(headers) => headers,
                Identity::Anonymous | Identity::Ambient => Vec::new(),
            };
            Ok(Connection::Https {
                trust: Trust::System,
                headers,
            })
        }
        BackendType::Hdfs => Ok(Connection::Opaque("HDFS")),
    }
}

fn identity<K>(
    spec: &tidewaiter_core::backend::StorageBackendSpec,
    keys: impl FnOnce() -> Result<K, String>,
) -> Result<Identity<K>, String> {
    match &spec.credentials {
        Credentials::Anonymous(_) => Ok(Identity::Anonymous),
        Credentials::WorkloadIdentity(_) => Ok(Identity::Ambient),
        Credentials::SecretRef(_) => keys().map(Identity::Keys),
    }
}

fn trust_of(endpoint: &Url) -> Trust {
    if endpoint.scheme() == "http" {
        Trust::Nobody
    } else {
        Trust::System
    }
}

fn text(data: Option<&BTreeMap<String, SecretValue>>, key: &str) -> Result<String, String> {
    let value = data
        .and_then(|data| data.get(key))
        .ok_or_else(|| format!("spec.credentials.secretRef: the Secret holds nothing for {key}"))?;
    String::from_utf8(value.expose().to_vec())
        .map_err(|_| format!("spec.credentials.secretRef: what the Secret holds for {key} is not text"))
}

/// KServe's form: `headers` is a JSON object, of which every member is sent.
fn headers(data: Option<&BTreeMap<String, SecretValue>>) -> Result<Vec<(String, String)>, String> {
    let Some(text) = data.and_then(|data| data.get("headers")) else {
        return Ok(Vec::new());
    };
    let headers: BTreeMap<String, String> = serde_json::from_slice(text.expose()).map_err(|_| {
        "spec.credentials.secretRef: what the Secret holds for headers is not a JSON object of texts".to_owned()
    })?;
    Ok(headers.into_iter().collect())
}
