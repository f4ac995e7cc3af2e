//! Single objects by name, when a review needs them.

use async_trait::async_trait;
use k8s_openapi::api::core::v1::{Namespace, Secret, ServiceAccount};
use kube::api::{ApiResource, DynamicObject, GroupVersionKind, ListParams, PartialObjectMeta, TypeMeta};
use kube::discovery::{self, Scope};
use kube::{Api, Client, ResourceExt};
use tidewaiter_world::{AccountFacts, ClusterReader, Labels, OBJECTS, SecretFacts, object_as_text, objects_as_texts};

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

impl InCluster {
    /// The API of a kind: the namespace's, or the cluster's where the kind belongs to none.
    async fn kind(
        &self,
        namespace: &str,
        api_version: &str,
        kind: &str,
    ) -> Result<(Api<DynamicObject>, ApiResource), String> {
        let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
        let kind = GroupVersionKind::gvk(group, version, kind);
        // Asked each time, since only the API server knows the kind's plural and scope: policies that get objects are few.
        let (resource, capabilities): (ApiResource, _) = discovery::pinned_kind(&self.client, &kind)
            .await
            .map_err(|error| said(&error))?;
        let api = match capabilities.scope {
            Scope::Cluster => Api::all_with(self.client.clone(), &resource),
            Scope::Namespaced => Api::namespaced_with(self.client.clone(), namespace, &resource),
        };
        Ok((api, resource))
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
        let (api, _) = self.kind(namespace, api_version, kind).await?;
        let object = api.get_opt(name).await.map_err(|error| said(&error))?;
        let object = object.map(serde_json::to_value).transpose();
        Ok(object.map_err(|error| error.to_string())?.map(object_as_text))
    }

    async fn objects(&self, namespace: &str, api_version: &str, kind: &str) -> Result<Vec<String>, String> {
        let (api, resource) = self.kind(namespace, api_version, kind).await?;
        // One more than a policy gets, to see that there are more.
        let few = u32::try_from(OBJECTS).unwrap_or(u32::MAX).saturating_add(1);
        let list = api.list(&ListParams::default().limit(few)).await;
        let list = list.map_err(|error| said(&error))?;
        if list.metadata.continue_.is_some_and(|more| !more.is_empty()) && list.items.len() <= OBJECTS {
            return Err("the API server gave a part of them only".to_owned());
        }
        let objects: Result<Vec<_>, _> = list
            .items
            .into_iter()
            .map(|mut object| {
                // The items of a list don't say what they are.
                object.types.get_or_insert_with(|| TypeMeta {
                    api_version: resource.api_version.clone(),
                    kind: resource.kind.clone(),
                });
                serde_json::to_value(object)
            })
            .collect();
        objects_as_texts(objects.map_err(|error| error.to_string())?)
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

    fn item(number: usize) -> Value {
        json!({"metadata": {"name": format!("item{number}"), "managedFields": [{"manager": "kubectl"}]}, "spec": {"n": number}})
    }

    fn list(count: usize) -> Value {
        let items: Vec<Value> = (0..count).map(item).collect();
        let more = if count > OBJECTS { "more" } else { "" };
        json!({"kind": "List", "apiVersion": "x.example/v1", "metadata": {"continue": more}, "items": items})
    }

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
                "/apis/x.example/v1" => (
                    200,
                    json!({"kind": "APIResourceList", "groupVersion": "x.example/v1", "resources": [
                        {"name": "rules", "singularName": "rule", "namespaced": true, "kind": "Rule", "verbs": ["list"]},
                        {"name": "floods", "singularName": "flood", "namespaced": false, "kind": "Flood", "verbs": ["list"]},
                    ]}),
                ),
                "/apis/x.example/v1/namespaces/a/rules" => (200, list(2)),
                "/apis/x.example/v1/namespaces/a/rules/item0" => (200, item(0)),
                "/apis/x.example/v1/floods" if request.uri().query() == Some("&limit=101") => (200, list(101)),
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
    async fn objects_of_a_kind_are_listed_with_their_kind_and_no_more_than_a_policy_gets() {
        let reader = reader();
        let rules = reader.objects("a", "x.example/v1", "Rule").await.unwrap();
        assert_eq!(rules.len(), 2);
        let first: Value = serde_json::from_str(&rules[0]).unwrap();
        assert_eq!(
            first,
            json!({"apiVersion": "x.example/v1", "kind": "Rule", "metadata": {"name": "item0"}, "spec": {"n": 0}})
        );
        let one = reader
            .object("a", "x.example/v1", "Rule", "item0")
            .await
            .unwrap()
            .unwrap();
        assert!(!one.contains("managedFields"), "{one}");
        let flood = reader.objects("a", "x.example/v1", "Flood").await.unwrap_err();
        assert!(flood.contains("more than 100"), "{flood}");
        assert!(reader.objects("a", "x.example/v1", "Other").await.is_err());
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
