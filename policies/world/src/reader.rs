//! What is read of a namespace one by one, when a review needs it.

use std::collections::BTreeMap;

use async_trait::async_trait;
use kube::api::ObjectMeta;
use serde_json::{Value, json};

use crate::configuration::Configuration;
use crate::objects::Labels;

/// Reads single objects. In a cluster by the API server, in a folder from its files.
///
/// Errors are one line for the log and the user, without secrets.
#[async_trait]
pub trait ClusterReader: Send + Sync {
    /// None where there is no such ServiceAccount.
    async fn service_account(&self, namespace: &str, name: &str) -> Result<Option<AccountFacts>, String>;
    /// None where there is no such Secret. Values are never asked for.
    async fn secret(&self, namespace: &str, name: &str) -> Result<Option<SecretFacts>, String>;
    /// A namespace's labels; none where there is no such namespace.
    async fn namespace(&self, name: &str) -> Result<Option<Labels>, String>;
    /// A namespace's labels as a watch shows them now; none where it doesn't show the namespace, or there is no watch.
    fn watched_namespace(&self, _name: &str) -> Option<Labels> {
        None
    }
    /// An object as JSON text: from the namespace, or of the cluster where its kind belongs to none. Never asked for a Secret.
    async fn object(
        &self,
        namespace: &str,
        api_version: &str,
        kind: &str,
        name: &str,
    ) -> Result<Option<String>, String>;
    /// All objects of a kind as JSON texts, by name: those of the namespace, or of the cluster where the kind belongs to none. Never asked for Secrets. The
    /// error says so where there are more than [`OBJECTS`] of them, or more than [`OBJECTS_BYTES`] in all. What was written a few milliseconds ago may be missing.
    async fn objects(&self, namespace: &str, api_version: &str, kind: &str) -> Result<Vec<String>, String>;
}

/// Objects that one listing of the cluster brings at most.
pub const OBJECTS: usize = 100;
/// Bytes that they have in all at most.
pub const OBJECTS_BYTES: usize = 1024 * 1024;

/// Objects as policies get them: as JSON texts without `managedFields`, and no more than a policy may be given at once.
///
/// # Errors
/// Which limit is passed.
pub fn objects_as_texts(objects: impl IntoIterator<Item = Value>) -> Result<Vec<String>, String> {
    let mut texts = Vec::new();
    let mut bytes = 0;
    for object in objects {
        let text = object_as_text(object);
        bytes += text.len();
        if texts.len() == OBJECTS {
            return Err(format!(
                "there are more than {OBJECTS}, which is all that a policy gets"
            ));
        }
        if bytes > OBJECTS_BYTES {
            return Err("they have more than 1 MiB together, which is all that a policy gets".to_owned());
        }
        texts.push(text);
    }
    Ok(texts)
}

/// One object as policies get it.
pub fn object_as_text(mut object: Value) -> String {
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.remove("managedFields");
    }
    object.to_string()
}

/// What is read of a ServiceAccount.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AccountFacts {
    /// Names of the Secrets it lists, in order.
    pub secrets: Vec<String>,
    /// Its annotations, where clouds put their identities.
    pub annotations: BTreeMap<String, String>,
    /// Its labels, which say who manages it.
    pub labels: Labels,
}

/// What is read of a Secret.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SecretFacts {
    /// Names of its data's keys.
    pub keys: Vec<String>,
    /// Its annotations.
    pub annotations: BTreeMap<String, String>,
    /// Its labels, which say who manages it.
    pub labels: Labels,
}

/// The folder's own objects.
#[async_trait]
impl ClusterReader for Configuration {
    async fn service_account(&self, namespace: &str, name: &str) -> Result<Option<AccountFacts>, String> {
        Ok(self
            .objects()
            .service_account(namespace, name)
            .map(|account| AccountFacts {
                secrets: account
                    .secrets
                    .iter()
                    .flatten()
                    .filter_map(|secret| secret.name.clone())
                    .collect(),
                annotations: account.metadata.annotations.clone().unwrap_or_default(),
                labels: account.metadata.labels.clone().unwrap_or_default(),
            }))
    }

    async fn secret(&self, namespace: &str, name: &str) -> Result<Option<SecretFacts>, String> {
        Ok(self.objects().secret(namespace, name).map(|secret| SecretFacts {
            keys: secret.data.iter().flatten().map(|(key, _)| key.clone()).collect(),
            annotations: secret.metadata.annotations.clone().unwrap_or_default(),
            labels: secret.metadata.labels.clone().unwrap_or_default(),
        }))
    }

    async fn namespace(&self, name: &str) -> Result<Option<Labels>, String> {
        // A folder needn't list namespaces: one that it doesn't has no labels.
        Ok(Some(self.objects().namespaces.get(name).cloned().unwrap_or_default()))
    }

    async fn object(
        &self,
        namespace: &str,
        api_version: &str,
        kind: &str,
        name: &str,
    ) -> Result<Option<String>, String> {
        let mut found = in_folder(self, namespace, api_version, kind)?.into_iter();
        let found = found.find(|object| object["metadata"]["name"] == name);
        Ok(found.map(object_as_text))
    }

    async fn objects(&self, namespace: &str, api_version: &str, kind: &str) -> Result<Vec<String>, String> {
        let mut found = in_folder(self, namespace, api_version, kind)?;
        found.sort_by(|a, b| {
            let name = |object: &Value| object["metadata"]["name"].as_str().map(str::to_owned);
            name(a).cmp(&name(b))
        });
        objects_as_texts(found)
    }
}

/// What a folder holds of a kind. Other kinds than those that configure Tidewaiter can't be in one.
fn in_folder(
    configuration: &Configuration,
    namespace: &str,
    api_version: &str,
    kind: &str,
) -> Result<Vec<Value>, String> {
    let objects = configuration.objects();
    let here = |metadata: &ObjectMeta| metadata.namespace.as_deref() == Some(namespace);
    let found: Result<Vec<Value>, serde_json::Error> = match (api_version, kind) {
        ("v1", "ConfigMap") => objects
            .config_maps
            .iter()
            .filter(|map| here(&map.metadata))
            .map(serde_json::to_value)
            .collect(),
        ("v1", "ServiceAccount") => objects
            .service_accounts
            .iter()
            .filter(|account| here(&account.metadata))
            .map(serde_json::to_value)
            .collect(),
        ("v1", "Namespace") => Ok(objects
            .namespaces
            .iter()
            .map(|(name, labels)| {
                json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}})
            })
            .collect()),
        ("serving.kserve.io/v1alpha1", "ServingRuntime" | "ClusterServingRuntime") => Ok(objects
            .runtimes
            .iter()
            .filter(|runtime| runtime["kind"] == kind)
            .filter(|runtime| kind == "ClusterServingRuntime" || runtime["metadata"]["namespace"] == namespace)
            .cloned()
            .collect()),
        _ => Ok(Vec::new()),
    };
    found.map_err(|error| error.to_string())
}
