//! Single objects of a case, as a policy gets them.

use std::sync::Arc;

use async_trait::async_trait;
use serde_json::{Value, json};
use tidewaiter_world::{AccountFacts, ClusterReader, Labels, Objects, SecretFacts, object_as_text, objects_as_texts};

use super::Given;

/// Answers from what a case says.
pub(super) struct GivenReader {
    objects: Arc<Objects>,
    given: Vec<Value>,
}

impl GivenReader {
    pub(super) fn new(given: &Given, objects: Arc<Objects>) -> Self {
        Self {
            given: given.objects.iter().chain(&given.runtimes).cloned().collect(),
            objects,
        }
    }

    fn of_kind<'s>(
        &'s self,
        namespace: &'s str,
        api_version: &'s str,
        kind: &'s str,
    ) -> impl Iterator<Item = &'s Value> {
        self.given.iter().filter(move |object| {
            let place = object["metadata"]["namespace"].as_str();
            object["apiVersion"] == api_version
                && object["kind"] == kind
                && place.is_none_or(|place| place == namespace)
        })
    }
}

#[async_trait]
impl ClusterReader for GivenReader {
    async fn service_account(&self, namespace: &str, name: &str) -> Result<Option<AccountFacts>, String> {
        let account = self
            .of_kind(namespace, "v1", "ServiceAccount")
            .find(|account| account["metadata"]["name"] == name);
        Ok(account.map(|account| AccountFacts {
            secrets: account["secrets"]
                .as_array()
                .into_iter()
                .flatten()
                .filter_map(|secret| Some(secret["name"].as_str()?.to_owned()))
                .collect(),
            annotations: texts(&account["metadata"]["annotations"]),
            labels: texts(&account["metadata"]["labels"]),
        }))
    }

    async fn secret(&self, namespace: &str, name: &str) -> Result<Option<SecretFacts>, String> {
        let secret = self
            .of_kind(namespace, "v1", "Secret")
            .find(|secret| secret["metadata"]["name"] == name);
        Ok(secret.map(|secret| SecretFacts {
            keys: ["data", "stringData"]
                .iter()
                .flat_map(|part| texts(&secret[part]).into_keys())
                .collect(),
            annotations: texts(&secret["metadata"]["annotations"]),
            labels: texts(&secret["metadata"]["labels"]),
        }))
    }

    async fn namespace(&self, name: &str) -> Result<Option<Labels>, String> {
        Ok(Some(self.objects.namespaces.get(name).cloned().unwrap_or_default()))
    }

    async fn object(
        &self,
        namespace: &str,
        api_version: &str,
        kind: &str,
        name: &str,
    ) -> Result<Option<String>, String> {
        if let Some(object) = self
            .of_kind(namespace, api_version, kind)
            .find(|object| object["metadata"]["name"] == name)
        {
            return Ok(Some(object_as_text(object.clone())));
        }
        let labels = self
            .objects
            .namespaces
            .get(name)
            .filter(|_| (api_version, kind) == ("v1", "Namespace"));
        Ok(labels.map(|labels| {
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}).to_string()
        }))
    }

    async fn objects(&self, namespace: &str, api_version: &str, kind: &str) -> Result<Vec<String>, String> {
        let mut objects: Vec<Value> = self.of_kind(namespace, api_version, kind).cloned().collect();
        objects.sort_by(|a, b| a["metadata"]["name"].as_str().cmp(&b["metadata"]["name"].as_str()));
        objects_as_texts(objects)
    }
}

fn texts(value: &Value) -> Labels {
    let members = value.as_object().into_iter().flatten();
    members
        .map(|(name, value)| (name.clone(), value.as_str().unwrap_or_default().to_owned()))
        .collect()
}
