//! Single objects by name, and the objects of a kind, when a review needs them.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use k8s_openapi::api::core::v1::Namespace;
use kube::api::PartialObjectMeta;
use kube::{Client, ResourceExt};
use moka::future::Cache;
use tidewaiter_world::{AccountFacts, ApiReader, ClusterReader, Labels, SecretFacts};

use super::watched::Watched;

/// How long what a policy read answers the next one that asks: one admission asks up to three times (KServe's webhook has ours called again, then it is
/// validated), and a tool that applies a hundred services asks for all of them. No longer, since who is refused for a quota raises it and applies again.
const RECENT: Duration = Duration::from_millis(100);

/// Of all that is kept, in bytes.
const KEPT: u64 = 16 << 20;

/// Namespace, API version and kind; the name where it is one object.
type Asked = (Box<str>, Box<str>, Box<str>, Option<Box<str>>);

/// Asks the API server, but for the labels of namespaces, which are watched, and for what a policy asked for a moment ago.
pub struct InCluster {
    api: ApiReader,
    namespaces: Watched<PartialObjectMeta<Namespace>>,
    /// Who asks for the same while it is read waits for that. Failures aren't kept.
    recent: Cache<Asked, Arc<[String]>>,
}

impl InCluster {
    pub(super) fn new(client: Client, namespaces: Watched<PartialObjectMeta<Namespace>>) -> Self {
        Self {
            api: ApiReader::new(client),
            namespaces,
            recent: Cache::builder()
                .time_to_live(RECENT)
                .weigher(|asked: &Asked, objects: &Arc<[String]>| {
                    let names = asked.0.len() + asked.1.len() + asked.2.len();
                    let bytes = names + objects.iter().map(|object| object.len() + 64).sum::<usize>();
                    u32::try_from(bytes).unwrap_or(u32::MAX)
                })
                .max_capacity(KEPT)
                .build(),
        }
    }

    async fn recent(
        &self,
        asked: Asked,
        read: impl Future<Output = Result<Vec<String>, String>>,
    ) -> Result<Arc<[String]>, String> {
        let read = async { read.await.map(Arc::from) };
        let kept = self.recent.try_get_with(asked, read).await;
        kept.map_err(|error: Arc<String>| error.to_string())
    }
}

#[async_trait]
impl ClusterReader for InCluster {
    async fn service_account(&self, namespace: &str, name: &str) -> Result<Option<AccountFacts>, String> {
        self.api.service_account(namespace, name).await
    }

    async fn secret(&self, namespace: &str, name: &str) -> Result<Option<SecretFacts>, String> {
        self.api.secret(namespace, name).await
    }

    async fn namespace(&self, name: &str) -> Result<Option<Labels>, String> {
        self.api.namespace(name).await
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
        let asked = (namespace.into(), api_version.into(), kind.into(), Some(name.into()));
        let read = async {
            let object = self.api.object(namespace, api_version, kind, name).await?;
            Ok(object.into_iter().collect())
        };
        let objects = self.recent(asked, read).await?;
        Ok(objects.first().cloned())
    }

    async fn objects(&self, namespace: &str, api_version: &str, kind: &str) -> Result<Vec<String>, String> {
        let asked = (namespace.into(), api_version.into(), kind.into(), None);
        let objects = self
            .recent(asked, self.api.objects(namespace, api_version, kind))
            .await?;
        Ok(objects.to_vec())
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use futures::StreamExt;
    use kube::client::Body;
    use kube::runtime::watcher::Event;
    use serde_json::{Value, json};
    use tidewaiter_core::backend::{MANAGED_BY, MANAGED_BY_LABEL};
    use tidewaiter_world::OBJECTS;
    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::cluster::watched::Changes;

    /// How what the API server's cache has is asked for.
    const CACHED: &str = "&resourceVersion=0&resourceVersionMatch=NotOlderThan";

    fn item(number: usize) -> Value {
        json!({"metadata": {"name": format!("item{number}"), "managedFields": [{"manager": "kubectl"}]}, "spec": {"n": number}})
    }

    fn list(count: usize) -> Value {
        let items: Vec<Value> = (0..count).map(item).collect();
        // What was asked for with a limit goes on.
        let more = if count == OBJECTS + 1 { "more" } else { "" };
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
                        {"name": "seas", "singularName": "sea", "namespaced": false, "kind": "Sea", "verbs": ["list"]},
                        {"name": "wells", "singularName": "well", "namespaced": false, "kind": "Well", "verbs": ["list"]},
                    ]}),
                ),
                "/apis/x.example/v1/namespaces/a/rules" if request.uri().query() == Some(CACHED) => {
                    let mut rules = list(2);
                    rules["items"].as_array_mut().unwrap().reverse();
                    (200, rules)
                }
                "/apis/x.example/v1/namespaces/a/rules/item0" => (200, item(0)),
                "/apis/x.example/v1/floods" if request.uri().query() == Some(CACHED) => (200, list(150)),
                "/apis/x.example/v1/seas" if request.uri().query() == Some(CACHED) => (200, list(200_000)),
                "/apis/x.example/v1/floods" | "/apis/x.example/v1/seas"
                    if request.uri().query() == Some("&limit=101") =>
                {
                    (200, list(101))
                }
                "/apis/x.example/v1/wells" if request.uri().query() == Some("&limit=101") => (200, list(3)),
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
        for many in ["Flood", "Sea"] {
            let refused = reader.objects("a", "x.example/v1", many).await.unwrap_err();
            assert!(refused.contains("more than 100"), "{refused}");
        }
        let uncached = reader.objects("a", "x.example/v1", "Well").await.unwrap();
        assert_eq!(uncached.len(), 3);
        assert!(reader.objects("a", "x.example/v1", "Other").await.is_err());
    }

    #[tokio::test]
    async fn a_kind_is_asked_for_once_and_one_that_is_not_there_each_time() {
        let asked = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&asked);
        let service = tower::service_fn(move |request: axum::http::Request<Body>| {
            let discovery = request.uri().path() == "/apis/x.example/v1";
            counted.fetch_add(usize::from(discovery), Ordering::Relaxed);
            let answer = if discovery {
                json!({"kind": "APIResourceList", "groupVersion": "x.example/v1", "resources": [
                    {"name": "rules", "singularName": "rule", "namespaced": true, "kind": "Rule", "verbs": ["list"]},
                ]})
            } else {
                list(1)
            };
            let response = axum::http::Response::new(Body::from(answer.to_string().into_bytes()));
            std::future::ready(Ok::<_, Infallible>(response))
        });
        let reader = InCluster::new(Client::new(service, "default"), watching(Vec::new()));
        for namespace in ["a", "b", "c"] {
            assert_eq!(
                reader.objects(namespace, "x.example/v1", "Rule").await.unwrap().len(),
                1
            );
        }
        assert_eq!(asked.load(Ordering::Relaxed), 1);
        for _ in 0..2 {
            assert!(reader.objects("a", "x.example/v1", "Other").await.is_err());
        }
        assert_eq!(asked.load(Ordering::Relaxed), 3);
    }

    #[tokio::test]
    async fn what_many_ask_for_at_once_is_read_once_and_a_failure_is_not_kept() {
        let asked = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&asked);
        let service = tower::service_fn(move |request: axum::http::Request<Body>| {
            let path = request.uri().path().to_owned();
            let number = if path.ends_with("rules") {
                counted.fetch_add(1, Ordering::Relaxed)
            } else {
                0
            };
            let (code, answer) = match path.as_str() {
                "/apis/x.example/v1" => (
                    200,
                    json!({"kind": "APIResourceList", "groupVersion": "x.example/v1", "resources": [
                        {"name": "rules", "singularName": "rule", "namespaced": true, "kind": "Rule", "verbs": ["list"]},
                    ]}),
                ),
                // From the cache and without it.
                _ if number < 2 => (
                    403,
                    json!({"kind": "Status", "status": "Failure", "reason": "Forbidden", "message": "no", "code": 403}),
                ),
                _ => (200, list(1)),
            };
            let mut response = axum::http::Response::new(Body::from(answer.to_string().into_bytes()));
            *response.status_mut() = axum::http::StatusCode::from_u16(code).unwrap();
            std::future::ready(Ok::<_, Infallible>(response))
        });
        let reader = InCluster::new(Client::new(service, "default"), watching(Vec::new()));
        reader.objects("a", "x.example/v1", "Rule").await.unwrap_err();
        let all = futures::future::join_all((0..50).map(|_| reader.objects("a", "x.example/v1", "Rule"))).await;
        assert!(
            all.iter()
                .all(|rules| rules.as_ref().is_ok_and(|rules| rules.len() == 1))
        );
        assert_eq!(asked.load(Ordering::Relaxed), 3);
        // Another namespace's are its own.
        reader.objects("b", "x.example/v1", "Rule").await.unwrap();
        assert_eq!(asked.load(Ordering::Relaxed), 4);
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
