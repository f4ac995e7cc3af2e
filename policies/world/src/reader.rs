//! What is read of a namespace one by one, when a review needs it.

use std::collections::BTreeMap;

use async_trait::async_trait;

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
        let objects = self.objects();
        let found = match (api_version, kind) {
            ("v1", "ConfigMap") => objects.config_map(namespace, name).map(serde_json::to_string),
            ("v1", "ServiceAccount") => objects.service_account(namespace, name).map(serde_json::to_string),
            ("v1", "Namespace") => objects.namespaces.get(name).map(|labels| {
                serde_json::to_string(&serde_json::json!({
                    "apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}
                }))
            }),
            ("serving.kserve.io/v1alpha1", "ServingRuntime" | "ClusterServingRuntime") => objects
                .runtimes
                .iter()
                .find(|runtime| {
                    runtime["kind"] == kind
                        && runtime["metadata"]["name"] == name
                        && (kind == "ClusterServingRuntime" || runtime["metadata"]["namespace"] == namespace)
                })
                .map(serde_json::to_string),
            _ => None,
        };
        found.transpose().map_err(|error| error.to_string())
    }
}
