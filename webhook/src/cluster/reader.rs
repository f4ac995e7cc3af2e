//! Single objects by name, when a review needs them.

use async_trait::async_trait;
use k8s_openapi::api::core::v1::{Namespace, Secret, ServiceAccount};
use kube::api::{ApiResource, DynamicObject, GroupVersionKind, PartialObjectMeta};
use kube::discovery::{self, Scope};
use kube::{Api, Client, ResourceExt};
use tidewaiter_world::{AccountFacts, ClusterReader, Labels, SecretFacts};

use super::watched::Watched;

/// Asks the API server each time: what users bring may be there since a second ago.
pub struct InCluster {
    client: Client,
    namespaces: Watched<PartialObjectMeta<Namespace>>,
}

impl InCluster {
    pub(super) fn new(client: Client, namespaces: Watched<PartialObjectMeta<Namespace>>) -> Self {
        Self { client, namespaces }
    }
}

#[async_trait]
impl ClusterReader for InCluster {
    async fn service_account(&self, namespace: &str, name: &str) -> Result<Option<AccountFacts>, String> {
        let api: Api<ServiceAccount> = Api::namespaced(self.client.clone(), namespace);
        let account = api.get_opt(name).await.map_err(|error| said(&error))?;
        Ok(account.map(|account| AccountFacts {
            annotations: account.annotations().clone(),
            labels: account.labels().clone(),
            secrets: account
                .secrets
                .into_iter()
                .flatten()
                .filter_map(|secret| secret.name)
                .collect(),
        }))
    }

    async fn secret(&self, namespace: &str, name: &str) -> Result<Option<SecretFacts>, String> {
        let api: Api<Secret> = Api::namespaced(self.client.clone(), namespace);
        let secret = api.get_opt(name).await.map_err(|error| said(&error))?;
        Ok(secret.map(|secret| SecretFacts {
            annotations: secret.annotations().clone(),
            labels: secret.labels().clone(),
            keys: secret.data.into_iter().flatten().map(|(key, _)| key).collect(),
        }))
    }

    async fn namespace(&self, name: &str) -> Result<Option<Labels>, String> {
        let api: Api<Namespace> = Api::all(self.client.clone());
        let found = api.get_metadata_opt(name).await.map_err(|error| said(&error))?;
        Ok(found.map(|namespace| namespace.labels().clone()))
    }

    fn watched_namespace(&self, name: &str) -> Option<Labels> {
        let namespace = self.namespaces.current_of_cluster(name)?;
        Some(namespace.labels().clone())
    }

    async fn object(
        &self,
        namespace: &str,
        api_version: &str,
        kind: &str,
        name: &str,
    ) -> Result<Option<String>, String> {
        let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
        let kind = GroupVersionKind::gvk(group, version, kind);
        // Asked each time, since only the API server knows the kind's plural and scope: policies that get objects are few.
        let (resource, capabilities): (ApiResource, _) = discovery::pinned_kind(&self.client, &kind)
            .await
            .map_err(|error| said(&error))?;
        let api: Api<DynamicObject> = match capabilities.scope {
            Scope::Cluster => Api::all_with(self.client.clone(), &resource),
            Scope::Namespaced => Api::namespaced_with(self.client.clone(), namespace, &resource),
        };
        let object = api.get_opt(name).await.map_err(|error| said(&error))?;
        object
            .map(|object| serde_json::to_string(&object))
            .transpose()
            .map_err(|error| error.to_string())
    }
}

/// The API server's own words where it answered.
fn said(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) => status.message.clone(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::sync::Arc;
    use std::time::Duration;

    use futures::StreamExt;
    use kube::client::Body;
    use kube::runtime::watcher::Event;
    use serde_json::{Value, json};
    use tidewaiter_core::backend::{MANAGED_BY, MANAGED_BY_LABEL};
    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::cluster::watched::Changes;

    /// An API server that has an object of ours at these paths, and nothing else.
    fn reader() -> InCluster {
        let service = tower::service_fn(async |request: axum::http::Request<Body>| {
            let metadata = json!({"name": "x", "labels": {MANAGED_BY_LABEL: MANAGED_BY}});
            let (code, answer): (u16, Value) = match request.uri().path() {
                "/api/v1/namespaces/a/secrets/x" => (200, json!({"metadata": metadata, "data": {"key": "dmFsdWU="}})),
                "/api/v1/namespaces/a/serviceaccounts/x" => {
                    (200, json!({"metadata": metadata, "secrets": [{"name": "x"}]}))
                }
                "/api/v1/namespaces/x" => (200, json!({"metadata": metadata})),
                _ => (
                    404,
                    json!({"kind": "Status", "status": "Failure", "reason": "NotFound", "message": "gone", "code": 404}),
                ),
            };
            let mut response = axum::http::Response::new(Body::from(answer.to_string().into_bytes()));
            *response.status_mut() = axum::http::StatusCode::from_u16(code).unwrap();
            Ok::<_, Infallible>(response)
        });
        InCluster::new(Client::new(service, "default"), watching(Vec::new()))
    }

    /// A watch that shows these events, and then waits.
    fn watching(events: Vec<Event<PartialObjectMeta<Namespace>>>) -> Watched<PartialObjectMeta<Namespace>> {
        let events = futures::stream::iter(events.into_iter().map(Ok)).chain(futures::stream::pending());
        let mut events = Some(events);
        let watch = move || events.take().expect("it doesn't fail");
        Watched::follow(watch, (), "Namespace", Changes::default(), CancellationToken::new())
    }

    #[tokio::test]
    async fn a_relabelled_namespace_has_the_labels_that_the_watch_shows() {
        let labelled = |name: &str, tier: &str| -> PartialObjectMeta<Namespace> {
            serde_json::from_value(json!({"metadata": {"name": name, "labels": {"tier": tier}}})).unwrap()
        };
        let namespaces = watching(vec![
            Event::Init,
            Event::InitApply(labelled("a", "test")),
            Event::InitDone,
            Event::Apply(labelled("a", "prod")),
        ]);
        let seen = async {
            let is_prod = |namespace: Arc<PartialObjectMeta<Namespace>>| namespace.labels()["tier"] == "prod";
            while !namespaces.current_of_cluster("a").is_some_and(is_prod) {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), seen).await.unwrap();
        let reader = InCluster { namespaces, ..reader() };
        let prod = Labels::from([("tier".to_owned(), "prod".to_owned())]);
        assert_eq!(reader.watched_namespace("a"), Some(prod));
        assert_eq!(reader.watched_namespace("new"), None);
    }

    #[tokio::test]
    async fn who_manages_an_object_is_read_with_it() {
        let ours = Labels::from([(MANAGED_BY_LABEL.to_owned(), MANAGED_BY.to_owned())]);
        let reader = reader();
        let secret = reader.secret("a", "x").await.unwrap().unwrap();
        assert_eq!((secret.keys, &secret.labels), (vec!["key".to_owned()], &ours));
        let account = reader.service_account("a", "x").await.unwrap().unwrap();
        assert_eq!((account.secrets, &account.labels), (vec!["x".to_owned()], &ours));
        assert_eq!(reader.namespace("x").await, Ok(Some(ours)));
        assert_eq!(reader.namespace("none").await, Ok(None));
        assert_eq!(reader.secret("a", "none").await, Ok(None));
    }
}
